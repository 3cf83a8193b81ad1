//! DELETE of an object and of a collection (SPEC 60 §12.1).

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use serde_json::json;

use super::Call;
use super::kind;
use super::meta;
use super::options::{DeleteOptions, ListOptions};
use super::respond::{self, Answer};
use super::select::Selection;
use super::target::Target;
use crate::registry::Builtin;
use crate::status::{self, ApiError};
use crate::store::{Object, Txn};

/// Objects that one transaction of a deletecollection takes.
const CHUNK: usize = 500;

/// Namespaces that cannot go (SPEC 60 §12.3).
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

enum Outcome {
    /// Gone; the object as the event shows it.
    Removed(Arc<Object>),
    /// Waiting for its finalizers.
    Marked(Arc<Object>),
}

impl Outcome {
    fn object(&self) -> &Arc<Object> {
        match self {
            Self::Removed(object) | Self::Marked(object) => object,
        }
    }
}

/// DELETE of one object.
///
/// # Errors
/// 404, 403 for namespaces that stay, 409 for preconditions, 422 for options.
pub(super) async fn delete(call: &Call, body: Bytes) -> Result<Answer, ApiError> {
    let options = options(call, &body)?;
    let target = call.target.clone();
    if target.resource.builtin() == Some(Builtin::Namespace) && IMMORTAL.contains(&target.name()) {
        return Err(ApiError::forbidden("", "namespaces", target.name(), "this namespace may not be deleted"));
    }
    let preconditions = options.clone();
    let outcome =
        call.transact(options.dry_run, move |txn| remove(txn, &target, target.name(), &preconditions)).await?;
    match outcome {
        Outcome::Marked(object) => call.object(StatusCode::OK, &object),
        Outcome::Removed(object) => {
            let (target, uid) = (&call.target, object.uid.to_string());
            let done = status::deleted(target.group(), target.plural(), target.name(), &uid);
            Ok(respond::value(StatusCode::OK, call.representation, &done))
        }
    }
}

/// DELETE of a collection: every selected object by itself, in transactions of 500.
///
/// # Errors
/// Those of the options and of the store.
pub(super) async fn delete_collection(call: &Call, body: Bytes) -> Result<Answer, ApiError> {
    let options = options(call, &body)?;
    let list = ListOptions::parse(&call.query, false)?;
    let selection = Selection::parse(&call.target, &list)?;
    let snapshot = call.shared.store.snapshot(call.target.cluster, &call.target.storage());
    let objects = snapshot.namespace(&call.target.namespace);
    let all;
    let selected: Vec<Arc<Object>> = if call.target.namespace.is_empty() {
        all = snapshot.iter();
        all.filter(|object| selection.matches(object)).cloned().collect()
    } else {
        objects.filter(|object| selection.matches(object)).cloned().collect()
    };
    let view = call.view();
    let mut items = Vec::with_capacity(selected.len());
    for chunk in selected.chunks(CHUNK) {
        let (names, target, preconditions) = (chunk.to_vec(), call.target.clone(), options.clone());
        let outcomes = call
            .transact(options.dry_run, move |txn| {
                // One that went away meanwhile, or does not meet the preconditions, is passed over.
                Ok(names
                    .iter()
                    .filter_map(|object| remove(txn, &target, object.name(), &preconditions).ok())
                    .collect::<Vec<_>>())
            })
            .await?;
        for outcome in &outcomes {
            items.push(view.value(outcome.object())?);
        }
    }
    let list = json!({
        "kind": *call.target.resource.list_kind,
        "apiVersion": view.api_version,
        "metadata": {"resourceVersion": call.shared.store.revision(call.target.cluster).to_string()},
        "items": items,
    });
    Ok(respond::value(StatusCode::OK, call.representation, &list))
}

fn options(call: &Call, body: &Bytes) -> Result<DeleteOptions, ApiError> {
    if body.is_empty() {
        return DeleteOptions::parse(&call.query, None);
    }
    let value = kind::decode_delete_options(&call.headers, body)?;
    DeleteOptions::parse(&call.query, Some(&value))
}

fn remove(txn: &mut Txn<'_>, target: &Target, name: &str, options: &DeleteOptions) -> Result<Outcome, ApiError> {
    let key = target.key(name);
    let old = txn.get(&key).ok_or_else(|| target.not_found(name))?;
    check_preconditions(target, name, &old, options)?;
    let mut value = serde_json::Value::clone(old.body());
    if meta::may_go(&target.resource, &value) {
        return txn.delete(&key).map(Outcome::Removed).ok_or_else(|| target.not_found(name));
    }
    if meta::is_deleting(&value) {
        return Ok(Outcome::Marked(old));
    }
    meta::mark_deleting(&target.resource, &mut value, txn.now());
    txn.put(&key, value).map(Outcome::Marked).map_err(|error| super::put_error(&error))
}

fn check_preconditions(target: &Target, name: &str, old: &Object, options: &DeleteOptions) -> Result<(), ApiError> {
    let refuse = |why: String| Err(ApiError::conflict(target.group(), target.kind(), name, &why));
    let uid = old.uid.to_string();
    if let Some(wanted) = options.uid.as_ref().filter(|wanted| **wanted != uid) {
        return refuse(format!(
            "the UID in the precondition ({wanted}) does not match the UID in record ({uid}). The object might have been deleted and then recreated"
        ));
    }
    let revision = old.revision.to_string();
    if let Some(wanted) = options.resource_version.as_ref().filter(|wanted| **wanted != revision) {
        return refuse(format!(
            "the ResourceVersion in the precondition ({wanted}) does not match the ResourceVersion in record ({revision}). The object might have been modified"
        ));
    }
    Ok(())
}
