//! `x-kubernetes-embedded-resource`: a value that is a whole Kubernetes object.

use serde_json::{Map, Value};

use super::validate::json_type;
use crate::names;
use crate::status::{FieldError, FieldPath};

/// Checks `apiVersion`, `kind` and `metadata` of an embedded object; the rest is the schema's.
pub(super) fn check(map: &Map<String, Value>, path: &FieldPath<'_>, errors: &mut Vec<FieldError>) {
    match map.get("apiVersion") {
        None => errors.push(FieldError::required(path.field("apiVersion"), "must not be empty")),
        Some(Value::String(text)) if text.is_empty() => {
            errors.push(FieldError::required(path.field("apiVersion"), "must not be empty"));
        }
        Some(Value::String(text)) if text.matches('/').count() > 1 => {
            let detail = format!("unexpected GroupVersion string: {text}");
            errors.push(FieldError::invalid_str(path.field("apiVersion"), text, detail));
        }
        Some(Value::String(_)) => {}
        Some(other) => errors.push(wrong_type(&path.field("apiVersion"), other, "string")),
    }
    match map.get("kind") {
        None => errors.push(FieldError::required(path.field("kind"), "must not be empty")),
        Some(Value::String(text)) if text.is_empty() => {
            errors.push(FieldError::required(path.field("kind"), "must not be empty"));
        }
        Some(Value::String(text)) => {
            for problem in names::dns1035_label(&text.to_lowercase()) {
                let detail = format!("may have mixed case, but should otherwise match: {problem}");
                errors.push(FieldError::invalid_str(path.field("kind"), text, detail));
            }
        }
        Some(other) => errors.push(wrong_type(&path.field("kind"), other, "string")),
    }
    match map.get("metadata") {
        None | Some(Value::Null) => {}
        Some(Value::Object(metadata)) => check_metadata(metadata, &path.field("metadata"), errors),
        Some(other) => errors.push(wrong_type(&path.field("metadata"), other, "object")),
    }
}

fn check_metadata(metadata: &Map<String, Value>, path: &FieldPath<'_>, errors: &mut Vec<FieldError>) {
    for key in ["name", "generateName", "namespace", "uid", "resourceVersion"] {
        if let Some(value) = metadata.get(key)
            && !value.is_string()
            && !value.is_null()
        {
            errors.push(wrong_type(&path.field(key), value, "string"));
        }
    }
    for key in ["labels", "annotations"] {
        let path = path.field(key);
        let entries = match metadata.get(key) {
            None | Some(Value::Null) => continue,
            Some(Value::Object(entries)) => entries,
            Some(other) => {
                errors.push(wrong_type(&path, other, "object"));
                continue;
            }
        };
        for (name, value) in entries {
            for problem in names::qualified_name(name) {
                errors.push(FieldError::invalid_str(path, name, problem));
            }
            let Value::String(text) = value else {
                errors.push(wrong_type(&path.field(name), value, "string"));
                continue;
            };
            if key == "labels" {
                for problem in names::label_value(text) {
                    errors.push(FieldError::invalid_str(path, text, problem));
                }
            }
        }
    }
}

fn wrong_type(path: &FieldPath<'_>, value: &Value, expected: &str) -> FieldError {
    let found = json_type(value);
    let detail = format!("{path} in body must be of type {expected}: \"{found}\"");
    FieldError::type_invalid(path, &Value::String(found.to_owned()), detail)
}
