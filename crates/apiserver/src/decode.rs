//! From request bytes to a checked JSON value: JSON, YAML or protobuf in, `serde_json::Value` out.

pub mod json;

use serde_json::Value;

/// The word that Go's JSON errors use for a value's type.
pub(crate) fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
