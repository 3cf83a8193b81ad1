//! The `scale` subresource of custom resources (SPEC 60 §13.6).

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::Call;
use super::kind;
use super::meta;
use super::options::WriteOptions;
use super::respond::{self, Answer};
use super::target::Target;
use super::write;
use crate::patch::Patch;
use crate::registry::ScalePaths;
use crate::status::{ApiError, FieldError};

/// GET of `/scale`.
///
/// # Errors
/// 404
pub(super) fn get(call: &Call) -> Result<Answer, ApiError> {
    let target = &call.target;
    let object = call.shared.store.get(&target.key(target.name())).ok_or_else(|| target.not_found(target.name()))?;
    let scale = present(paths(target)?, &call.view().value(&object)?);
    Ok(respond::value(StatusCode::OK, call.representation, &scale))
}

/// PUT of `/scale`.
///
/// # Errors
/// Those of an update.
pub(super) async fn update(call: &Call, options: &WriteOptions, body: Bytes) -> Result<Answer, ApiError> {
    let mut scale = kind::decode_scale(&call.headers, &body)?;
    meta::check_namespace(&call.target, &scale)?;
    meta::check_name(&call.target, &mut scale)?;
    write(call, options, move |_| Ok(scale)).await
}

/// PATCH of `/scale`.
///
/// # Errors
/// Those of a patch.
pub(super) async fn patch(call: &Call, options: &WriteOptions, patch: Patch) -> Result<Answer, ApiError> {
    write(call, options, move |current| patch.apply("autoscaling", "Scale", current)).await
}

async fn write(
    call: &Call,
    options: &WriteOptions,
    change: impl FnOnce(&Value) -> Result<Value, ApiError> + Send + 'static,
) -> Result<Answer, ApiError> {
    let target = call.target.clone();
    let view = call.view();
    let paths = paths(&target)?.clone();
    let shown = (view.clone(), paths.clone());
    let written = call
        .transact(options.dry_run, move |txn| {
            let old = txn.get(&target.key(target.name())).ok_or_else(|| target.not_found(target.name()))?;
            let mut new = view.value(&old)?;
            let scale = change(&present(&paths, &new))?;
            let version = meta::text(&scale, "resourceVersion").to_owned();
            meta::of(&mut new).insert("resourceVersion".to_owned(), version.into());
            let replicas = scale.pointer("/spec/replicas").cloned().unwrap_or_else(|| json!(0));
            if replicas.as_i64().is_none_or(|replicas| replicas < 0) {
                let problem = FieldError::invalid("spec.replicas", &replicas, "should be a non-negative integer");
                return Err(ApiError::invalid("autoscaling", "Scale", target.name(), vec![problem]));
            }
            meta::set(&mut new, &paths.spec_replicas, replicas);
            write::replace(txn, &target, &view, &old, new)
        })
        .await?;
    let (view, paths) = shown;
    Ok(respond::value(StatusCode::OK, call.representation, &present(&paths, &written.value(&view)?)))
}

fn paths(target: &Target) -> Result<&ScalePaths, ApiError> {
    target.version.scale.as_ref().ok_or_else(ApiError::no_such_path)
}

/// The `Scale` of an object.
fn present(paths: &ScalePaths, object: &Value) -> Value {
    let mut metadata = Map::new();
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object.get("metadata").and_then(|metadata| metadata.get(field)) {
            metadata.insert(field.to_owned(), value.clone());
        }
    }
    let number = |path: &str| get_path(object, path).and_then(Value::as_i64).unwrap_or(0);
    let mut status = json!({"replicas": number(&paths.status_replicas)});
    let selector = paths.label_selector.as_deref().and_then(|path| get_path(object, path)).and_then(Value::as_str);
    if let Some(selector) = selector {
        meta::set(&mut status, "selector", selector);
    }
    json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": metadata,
        "spec": {"replicas": number(&paths.spec_replicas)},
        "status": status,
    })
}

/// Paths of `scale` are dots and names only: `.spec.replicas`.
fn get_path<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').filter(|step| !step.is_empty()).try_fold(object, |value, step| value.get(step))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_shows_and_sets_the_declared_paths() {
        let paths = ScalePaths {
            spec_replicas: ".spec.size".into(),
            status_replicas: ".status.size".into(),
            label_selector: Some(".status.selector".into()),
        };
        let mut object =
            json!({"metadata": {"name": "a", "uid": "u", "labels": {"x": "y"}}, "status": {"selector": "a=b"}});
        meta::set(&mut object, ".spec.size", 3);
        assert_eq!(object["spec"], json!({"size": 3}));
        assert_eq!(
            present(&paths, &object),
            json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": {"name": "a", "uid": "u"},
                   "spec": {"replicas": 3}, "status": {"replicas": 0, "selector": "a=b"}})
        );
    }
}
