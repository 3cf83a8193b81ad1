//! Namespace.
// SPEC 60 §12.3

use serde_json::{Value, json};

use super::{default_text, fields, list, object_at, push_all, text};
use crate::names;
use crate::status::FieldError;

/// What keeps a namespace until its content is gone.
const FINALIZER: &str = "kubernetes";

pub(super) fn admit(object: &mut Value, old: Option<&Value>, problems: &mut Vec<FieldError>) {
    let name = object.get("metadata").map(fields).map(|m| text(m, "name").to_owned()).unwrap_or_default();
    let Some(map) = object.as_object_mut() else { return };
    if !name.is_empty()
        && let Some(labels) = object_at(map, "metadata").and_then(|metadata| object_at(metadata, "labels"))
    {
        labels.insert("kubernetes.io/metadata.name".to_owned(), Value::String(name));
    }
    if let Some(spec) = object_at(map, "spec")
        && old.is_none()
        && !list(spec, "finalizers").iter().any(|f| f == FINALIZER)
    {
        let mut finalizers = list(spec, "finalizers").to_vec();
        finalizers.push(FINALIZER.into());
        spec.insert("finalizers".to_owned(), Value::Array(finalizers));
    }
    if old.is_none() {
        map.insert("status".to_owned(), json!({"phase": "Active"}));
    } else if let Some(status) = object_at(map, "status") {
        default_text(status, "phase", "Active");
    }
    let spec = super::fields_at(map, "spec");
    for finalizer in list(spec, "finalizers").iter().filter_map(Value::as_str) {
        push_all(problems, "spec.finalizers", finalizer, names::builtin_finalizer(finalizer));
    }
}
