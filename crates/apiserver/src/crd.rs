//! CustomResourceDefinition objects (SPEC 60 §13.1, §13.2, §13.5): what is filled in, what is refused, what their
//! status says, and how objects move between versions.
//!
//! ```text
//! write of a definition:  apply_defaults -> validate_create | validate_update -> stamp_stored_version -> store
//! its controller:         status::compute(definition, registry, now) -> /status, registry entry
//! read of an instance:    instance::present(stored) = convert to the asked version, prune, default
//! ```
//!
//! All of it is pure; the clock and the registry come in as arguments.

pub mod conversion;
pub mod instance;
mod jsonpaths;
pub mod status;
#[cfg(test)]
mod tests;
mod validate;

use serde_json::{Map, Value, json};

pub use validate::{validate_create, validate_status_update, validate_update};

/// Finalizer that keeps a definition until all its objects are gone.
pub const CLEANUP_FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

/// Fills in what a definition may leave out: `conversion`, `names.singular`, `names.listKind`, `served` and `storage`
/// stay as given. Leaves values of the wrong type to validation.
pub fn apply_defaults(definition: &mut Value) {
    let Some(spec) = definition.get_mut("spec").and_then(Value::as_object_mut) else { return };
    let strategy = spec.entry("conversion").or_insert_with(|| json!({}));
    if strategy.is_null() {
        *strategy = json!({});
    }
    if let Some(conversion) = strategy.as_object_mut() {
        set_if_empty(conversion, "strategy", || "None".to_owned());
    }
    if let Some(names) = spec.get_mut("names").and_then(Value::as_object_mut) {
        let kind = names.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
        if !kind.is_empty() {
            set_if_empty(names, "singular", || kind.to_lowercase());
            set_if_empty(names, "listKind", || format!("{kind}List"));
        }
    }
}

fn set_if_empty(map: &mut Map<String, Value>, key: &str, value: impl FnOnce() -> String) {
    if matches!(map.get(key), None | Some(Value::Null)) || map.get(key).and_then(Value::as_str) == Some("") {
        map.insert(key.to_owned(), Value::String(value()));
    }
}

/// The status of a definition that no controller has seen yet.
pub fn initial_status() -> Value {
    json!({"acceptedNames": {"kind": "", "plural": ""}, "conditions": null, "storedVersions": []})
}

/// Notes the storage version in `status.storedVersions`; objects may exist at it from now on.
pub fn stamp_stored_version(definition: &mut Value) {
    let Some(version) = storage_version(definition).map(str::to_owned) else { return };
    let Some(object) = definition.as_object_mut() else { return };
    let status = object.entry("status").or_insert_with(initial_status);
    if !status.is_object() {
        *status = initial_status();
    }
    let stored = &mut status["storedVersions"];
    if !stored.is_array() {
        *stored = json!([]);
    }
    if let Some(stored) = stored.as_array_mut()
        && !stored.iter().any(|name| name.as_str() == Some(&version))
    {
        stored.push(Value::String(version));
    }
}

fn versions(definition: &Value) -> &[Value] {
    definition.pointer("/spec/versions").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn storage_version(definition: &Value) -> Option<&str> {
    versions(definition).iter().find(|version| version["storage"] == true).and_then(|version| version["name"].as_str())
}

fn condition<'a>(definition: &'a Value, kind: &str) -> Option<&'a Value> {
    let conditions = definition.pointer("/status/conditions")?.as_array()?;
    conditions.iter().find(|condition| condition["type"] == kind)
}

/// Whether the definition's condition of that type is `True`.
pub fn is_true(definition: &Value, kind: &str) -> bool {
    condition(definition, kind).is_some_and(|condition| condition["status"] == "True")
}
