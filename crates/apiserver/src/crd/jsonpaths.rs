//! The JSON paths that a definition may hold: printer columns, scale, selectable fields.

use serde_json::Value;

use crate::jsonpath::JsonPath;
use crate::schema::Schema;
use crate::status::{FieldError, FieldPath};

const MAX_SELECTABLE_FIELDS: usize = 8;

/// Checks the additional printer columns of one version; `path` is the list's.
pub(super) fn columns(list: &[Value], path: &FieldPath<'_>, errors: &mut Vec<FieldError>) {
    const TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
    const FORMATS: [&str; 8] = ["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
    for (index, column) in list.iter().enumerate() {
        let at = path.index(index);
        let text = |key: &str| column[key].as_str().unwrap_or_default();
        if text("name").is_empty() {
            errors.push(FieldError::required(at.field("name"), ""));
        }
        let types = format!("must be one of {}", TYPES.join(","));
        match text("type") {
            "" => errors.push(FieldError::required(at.field("type"), types)),
            kind if !TYPES.contains(&kind) => errors.push(FieldError::invalid_str(at.field("type"), kind, types)),
            _ => {}
        }
        let format = text("format");
        if !format.is_empty() && !FORMATS.contains(&format) {
            let detail = format!("must be one of {}", FORMATS.join(","));
            errors.push(FieldError::invalid_str(at.field("format"), format, detail));
        }
        simple(text("jsonPath"), &at.field("jsonPath"), errors);
    }
}

/// Checks `subresources.scale` of one version.
pub(super) fn scale(scale: &Value, path: &FieldPath<'_>, errors: &mut Vec<FieldError>) {
    for (key, roots, detail) in [
        ("specReplicasPath", &[".spec."][..], "should be a json path under .spec"),
        ("statusReplicasPath", &[".status."][..], "should be a json path under .status"),
        ("labelSelectorPath", &[".spec.", ".status."][..], "should be a json path under either .spec or .status"),
    ] {
        let text = scale[key].as_str().unwrap_or_default();
        if key == "labelSelectorPath" && text.is_empty() {
            continue;
        }
        let at = path.field(key);
        let Some(parsed) = simple(text, &at, errors) else { continue };
        if !roots.iter().any(|root| text.starts_with(root)) {
            errors.push(FieldError::invalid_str(at, text, detail));
        } else if parsed.fields().is_none() {
            errors.push(FieldError::invalid_str(at, text, "must be a json path in the dot notation"));
        }
    }
}

/// Checks `selectableFields` of one version; without a valid schema, only their form.
pub(super) fn selectable(list: &[Value], schema: Option<&Schema>, path: &FieldPath<'_>, errors: &mut Vec<FieldError>) {
    if list.len() > MAX_SELECTABLE_FIELDS {
        errors.push(FieldError::too_many(path, list.len(), MAX_SELECTABLE_FIELDS));
    }
    for (index, field) in list.iter().enumerate() {
        let at = path.index(index);
        let at = at.field("jsonPath");
        let text = field["jsonPath"].as_str().unwrap_or_default();
        let Some(parsed) = simple(text, &at, errors) else { continue };
        if list.iter().take(index).any(|earlier| earlier["jsonPath"] == field["jsonPath"]) {
            errors.push(FieldError::duplicate(at, &field["jsonPath"]));
            continue;
        }
        let Some(names) = parsed.fields() else {
            errors.push(FieldError::invalid_str(at, text, "must be a json path in the dot notation"));
            continue;
        };
        if names.first() == Some(&"metadata") {
            errors.push(FieldError::invalid_str(at, text, "must not point to fields in metadata"));
            continue;
        }
        let Some(schema) = schema else { continue };
        match schema.type_of(&names) {
            None => errors.push(FieldError::invalid_str(at, text, "does not refer to a valid field")),
            Some("string" | "boolean" | "integer") => {}
            Some(_) => {
                let detail = "must point to a field of type string, boolean, or integer";
                errors.push(FieldError::invalid_str(at, text, detail));
            }
        }
    }
}

/// A path that starts with a dot and can be parsed.
fn simple(text: &str, path: &FieldPath<'_>, errors: &mut Vec<FieldError>) -> Option<JsonPath> {
    if text.is_empty() {
        errors.push(FieldError::required(path, ""));
        return None;
    }
    if !text.starts_with('.') {
        errors.push(FieldError::invalid_str(path, text, "must be a simple json path starting with ."));
        return None;
    }
    match JsonPath::parse(text) {
        Ok(parsed) => Some(parsed),
        Err(error) => {
            errors.push(FieldError::invalid_str(path, text, error.to_string()));
            None
        }
    }
}
