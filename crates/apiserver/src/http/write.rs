//! Create, update and patch, and their subresources (SPEC 60 §6, §7, §10, §13.6).
//!
//! A body is decoded and checked outside the store's transaction; everything that depends on the stored object (names,
//! versions, merging a patch, rules of updates) happens inside it, so that no update can be lost. The closures run on
//! the writer's thread and therefore do nothing but compute.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde_json::Value;

use super::Call;
use super::kind::{self, Checked};
use super::meta;
use super::options::{OptionsKind, WriteOptions};
use super::respond::{self, Answer};
use super::scale;
use super::target::Target;
use super::view::View;
use crate::patch::{Patch, PatchKind};
use crate::registry::Builtin;
use crate::status::{ApiError, FieldError};
use crate::store::{Key, Object, Txn};

/// How often a generated name is tried (SPEC 60 §6).
const NAME_ATTEMPTS: u32 = 8;

/// What a write leaves for the answer.
pub(super) struct Written {
    status: StatusCode,
    object: Shown,
    warnings: Vec<String>,
}

/// The object to answer with.
pub(super) enum Shown {
    Stored(Arc<Object>),
    /// One that is gone now, in the requested version.
    Gone(Value),
}

/// POST to a collection.
///
/// # Errors
/// Those of SPEC 60 §7.
pub(super) async fn create(call: &Call, body: Bytes) -> Result<Answer, ApiError> {
    let options = WriteOptions::parse(&call.query, OptionsKind::Create)?;
    let target = &call.target;
    let Checked { mut value, mut warnings } = kind::decode(target, &call.headers, &body, options.field_validation)?;
    meta::check_namespace(target, &value)?;
    if !meta::text(&value, "resourceVersion").is_empty() {
        return Err(ApiError::bad_request("resourceVersion should not be set on objects to be created"));
    }
    let shared = &call.shared;
    meta::on_create(target, &mut value, &shared.ids.uuid_v4().to_string(), shared.clock.now());
    let base = meta::text(&value, "generateName").to_owned();
    let generates = meta::text(&value, "name").is_empty() && !base.is_empty();
    if generates {
        let name = meta::generated_name(&base, shared.random.u64());
        meta::of(&mut value).insert("name".to_owned(), name.into());
    }
    warnings.extend(kind::prepare_create(target, &mut value)?);
    let (target, view, seed) = (target.clone(), call.view(), shared.random.u64());
    warnings.extend(view.warnings(&value));
    let written = call
        .transact(options.dry_run, move |txn| {
            check_may_create(txn, &target, meta::text(&value, "name"))?;
            if generates {
                choose_name(txn, &target, &mut value, &base, seed)?;
            }
            insert(txn, &target, &view, value)
        })
        .await?;
    finish(call, &Written { status: StatusCode::CREATED, object: Shown::Stored(written), warnings })
}

/// PUT to an object or a subresource.
///
/// # Errors
/// Those of SPEC 60 §7.
pub(super) async fn update(call: &Call, body: Bytes) -> Result<Answer, ApiError> {
    let options = WriteOptions::parse(&call.query, OptionsKind::Update)?;
    if call.target.subresource_name() == "scale" {
        return scale::update(call, &options, body).await;
    }
    let target = &call.target;
    let Checked { mut value, mut warnings } = kind::decode(target, &call.headers, &body, options.field_validation)?;
    meta::check_namespace(target, &value)?;
    meta::check_name(target, &mut value)?;
    let view = call.view();
    let (now, uid) = (call.shared.clock.now(), call.shared.ids.uuid_v4().to_string());
    let target = target.clone();
    let written = call
        .transact(options.dry_run, move |txn| {
            let key = target.key(target.name());
            let Some(old) = txn.get(&key) else {
                return create_by_update(txn, &target, &view, value, &uid, now);
            };
            let version = meta::text(&value, "resourceVersion").to_owned();
            if target.resource.is_custom() && matches!(version.as_str(), "" | "0") {
                let problem =
                    FieldError::invalid("metadata.resourceVersion", &0.into(), "must be specified for an update");
                // Upstream names the plural here, and only here.
                return Err(ApiError::invalid(target.group(), target.plural(), target.name(), vec![problem]));
            }
            replace(txn, &target, &view, &old, value)
        })
        .await?;
    warnings.extend(written.warnings);
    finish(call, &Written { warnings, ..written })
}

/// PATCH of an object or a subresource.
///
/// # Errors
/// Those of SPEC 60 §10.
pub(super) async fn patch(call: &Call, body: Bytes) -> Result<Answer, ApiError> {
    let content_type = call.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let patch_kind = PatchKind::from_content_type(content_type, call.target.resource.is_custom())?;
    let options = WriteOptions::parse(&call.query, OptionsKind::Patch)?;
    let patch = Patch::parse(patch_kind, &body)?;
    if call.target.subresource_name() == "scale" {
        return scale::patch(call, &options, patch).await;
    }
    let view = call.view();
    let target = call.target.clone();
    let written = call
        .transact(options.dry_run, move |txn| {
            let old = txn.get(&target.key(target.name())).ok_or_else(|| target.not_found(target.name()))?;
            let current = view.value(&old)?;
            let patched = patch.apply(target.group(), target.kind(), &current)?;
            if meta::text(&patched, "name") != target.name() {
                let (body, url) = (meta::text(&patched, "name"), target.name());
                let text = format!("the name of the object ({body}) does not match the name on the URL ({url})");
                return Err(ApiError::bad_request(text));
            }
            meta::check_namespace(&target, &patched)?;
            let Checked { value, mut warnings } =
                kind::check_patched(&target, patched, &patch.duplicates, options.field_validation)?;
            let written = replace(txn, &target, &view, &old, value)?;
            warnings.extend(written.warnings);
            Ok(Written { warnings, ..written })
        })
        .await?;
    finish(call, &written)
}

/// The parts of a create that depend on other objects: the namespace, the definition.
fn check_may_create(txn: &Txn<'_>, target: &Target, name: &str) -> Result<(), ApiError> {
    if target.resource.custom().is_some_and(|custom| custom.terminating) {
        let why = "create not allowed while custom resource definition is terminating";
        return Err(ApiError::forbidden(target.group(), target.plural(), name, why));
    }
    if !target.resource.namespaced {
        return Ok(());
    }
    let key = Key::new(target.cluster, &crate::store::Resource::new("", "namespaces"), "", &target.namespace);
    let namespace = txn.get(&key).ok_or_else(|| ApiError::not_found("", "namespaces", &target.namespace))?;
    if namespace.deletion_timestamp().is_some() {
        return Err(ApiError::namespace_terminating(target.group(), target.plural(), name, &target.namespace));
    }
    Ok(())
}

fn choose_name(txn: &Txn<'_>, target: &Target, value: &mut Value, base: &str, seed: u64) -> Result<(), ApiError> {
    for attempt in 0..NAME_ATTEMPTS {
        let name = meta::text(value, "name");
        if txn.get(&target.key(name)).is_none() {
            return Ok(());
        }
        let name = meta::generated_name(base, seed.rotate_left(attempt * 8));
        meta::of(value).insert("name".to_owned(), name.into());
    }
    Err(ApiError::name_generation_exhausted(target.group(), target.plural(), meta::text(value, "name")))
}

fn insert(txn: &mut Txn<'_>, target: &Target, view: &View, value: Value) -> Result<Arc<Object>, ApiError> {
    let name = meta::text(&value, "name");
    let key = target.key(name);
    if txn.get(&key).is_some() {
        return Err(ApiError::already_exists(target.group(), target.plural(), name));
    }
    put(txn, view, &key, value)
}

/// Stores an object of the requested version at the storage version.
fn put(txn: &mut Txn<'_>, view: &View, key: &Key, mut value: Value) -> Result<Arc<Object>, ApiError> {
    kind::to_storage(view.converters(), &view.resource, &mut value)?;
    txn.put(key, value).map_err(|error| super::put_error(&error))
}

/// SPEC 60 §7: a PUT without resourceVersion creates some kinds.
fn create_by_update(
    txn: &mut Txn<'_>,
    target: &Target,
    view: &View,
    mut value: Value,
    uid: &str,
    now: jiff::Timestamp,
) -> Result<Written, ApiError> {
    let creates = matches!(
        target.resource.builtin(),
        Some(Builtin::Lease | Builtin::Event | Builtin::EventsEvent | Builtin::Endpoints)
    );
    let version = meta::text(&value, "resourceVersion");
    if !creates || target.subresource.is_some() || !matches!(version, "" | "0") {
        return Err(target.not_found(target.name()));
    }
    meta::on_create(target, &mut value, uid, now);
    let warnings = kind::prepare_create(target, &mut value)?;
    check_may_create(txn, target, target.name())?;
    let object = insert(txn, target, view, value)?;
    Ok(Written { status: StatusCode::CREATED, object: Shown::Stored(object), warnings })
}

/// Replaces `old` by `new`, which is in the requested version: every rule of an update.
///
/// # Errors
/// 409 for a stale version or another uid, 422 for an invalid object.
pub(super) fn replace(
    txn: &mut Txn<'_>,
    target: &Target,
    view: &View,
    old: &Object,
    mut new: Value,
) -> Result<Written, ApiError> {
    let version = meta::text(&new, "resourceVersion");
    if !matches!(version, "" | "0") && version != old.revision.to_string() {
        return Err(ApiError::stale_version(target.group(), target.plural(), target.name()));
    }
    let current = view.value(old)?;
    meta::on_update(target, &current, &mut new)?;
    kind::split_subresource(target, &current, &mut new);
    let mut warnings = kind::prepare_update(target, &current, &mut new)?;
    warnings.extend(view.warnings(&new));
    meta::bump_generation(target, &current, &mut new);
    // SPEC 60 §12.1: whoever removes the last finalizer removes the object.
    if meta::is_deleting(&new) && meta::may_go(&target.resource, &new) {
        let gone = txn.delete(&old.key);
        let revision = gone.map_or(old.revision, |gone| gone.revision);
        meta::of(&mut new).insert("resourceVersion".to_owned(), revision.to_string().into());
        return Ok(Written { status: StatusCode::OK, object: Shown::Gone(new), warnings });
    }
    let object = put(txn, view, &old.key, new)?;
    Ok(Written { status: StatusCode::OK, object: Shown::Stored(object), warnings })
}

/// Answers with the object in the form the client asked for.
fn finish(call: &Call, written: &Written) -> Result<Answer, ApiError> {
    let mut answer = match &written.object {
        Shown::Stored(object) => call.object(written.status, object)?,
        Shown::Gone(value) => respond::value(written.status, call.representation, value),
    };
    respond::warn(&mut answer, &written.warnings);
    Ok(answer)
}

impl Written {
    /// The object as a value of the requested version.
    ///
    /// # Errors
    /// 500 when a converter refuses it.
    pub(super) fn value(&self, view: &View) -> Result<Value, ApiError> {
        match &self.object {
            Shown::Stored(object) => view.value(object),
            Shown::Gone(value) => Ok(value.clone()),
        }
    }
}
