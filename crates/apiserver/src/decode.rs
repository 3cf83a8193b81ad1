//! From request bytes to a checked JSON value: JSON, YAML or protobuf in, `serde_json::Value` out.
//!
//! [`read`] parses and checks kind and version; [`conform`] then holds a built-in object against its schema (custom
//! resources have the structural schema of their definition instead). Unknown and duplicate fields are collected as
//! texts; what happens to them is the caller's `fieldValidation`.
// SPEC 60 §4.2, §7, §22.2

mod conform;
pub mod json;
mod schema;
mod yaml;

use serde_json::Value;

use crate::protobuf;
use crate::status::{ApiError, FieldError};

pub use conform::{conform, conform_metadata};
pub use schema::{FieldSchema, ObjectSchema, builtin_schema, definition_name, definitions};

const JSON_TYPE: &str = "application/json";
const YAML_TYPE: &str = "application/yaml";
const PROTOBUF_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// Deepest nesting of a custom resource (SPEC 60 §23).
const MAX_CUSTOM_DEPTH: usize = 64;
/// Deepest nesting of a built-in object once unknown fields are gone: what every JSON reader takes (ours).
const MAX_BUILTIN_DEPTH: usize = 120;

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyFormat {
    Json,
    Yaml,
    Protobuf,
}

impl BodyFormat {
    /// The format of a `Content-Type`; an empty one means JSON. 415 for others, and for protobuf on custom resources.
    pub fn from_content_type(content_type: &str, is_custom: bool) -> Result<Self, ApiError> {
        let media = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match media.as_str() {
            "" | JSON_TYPE => Ok(Self::Json),
            YAML_TYPE => Ok(Self::Yaml),
            PROTOBUF_TYPE if !is_custom => Ok(Self::Protobuf),
            _ if is_custom => Err(ApiError::unsupported_media_type(&[JSON_TYPE, YAML_TYPE])),
            _ => Err(ApiError::unsupported_media_type(&[JSON_TYPE, YAML_TYPE, PROTOBUF_TYPE])),
        }
    }
}

/// What the URL says the body holds.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// Empty for core.
    pub group: &'a str,
    pub version: &'a str,
    pub kind: &'a str,
    /// Custom resources must name their kind and version; built-ins may leave them out.
    pub is_custom: bool,
}

impl Expected<'_> {
    /// `v1` or `group/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }
}

/// A body of the expected kind and version.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// An object with `apiVersion` and `kind`.
    pub value: Value,
    /// Paths of keys that the body holds twice.
    pub duplicates: Vec<String>,
}

/// Parses a body without looking at what it holds, for bodies that are no object of the resource: 400.
pub fn parse(format: BodyFormat, body: &[u8], expected: &Expected<'_>) -> Result<Decoded, ApiError> {
    match format {
        BodyFormat::Json => parse_text(body, expected, "json"),
        BodyFormat::Yaml => parse_text(body, expected, "yaml"),
        BodyFormat::Protobuf => Ok(Decoded { value: protobuf::decode(body, expected.kind)?, duplicates: Vec::new() }),
    }
}

/// Parses a body and checks that it is what the URL expects: 400, or 422 for another kind of custom resource.
pub fn read(format: BodyFormat, body: &[u8], expected: &Expected<'_>) -> Result<Decoded, ApiError> {
    let mut decoded = parse(format, body, expected)?;
    identify(&mut decoded.value, expected)?;
    if expected.is_custom && json::depth(&decoded.value) > MAX_CUSTOM_DEPTH {
        return Err(ApiError::bad_request(format!("the object is nested more than {MAX_CUSTOM_DEPTH} levels deep")));
    }
    Ok(decoded)
}

fn parse_text(body: &[u8], expected: &Expected<'_>, language: &str) -> Result<Decoded, ApiError> {
    let parsed =
        if language == "json" { json::parse(body).map_err(|error| error.to_string()) } else { yaml::parse(body) };
    let json::Parsed { value, duplicates } = parsed.map_err(|problem| {
        ApiError::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): couldn't get version/kind; {language} parse \
             error: {problem} ({})",
            expected.kind,
            summary(body)
        ))
    })?;
    Ok(Decoded { value, duplicates })
}

/// The first characters of a body, up to its first value: enough to recognize it, too little to hold a secret.
fn summary(body: &[u8]) -> String {
    if body.is_empty() {
        return "<empty>".to_owned();
    }
    let head: String = String::from_utf8_lossy(body.get(..30).unwrap_or(body))
        .chars()
        .take_while(|c| !matches!(c, ':' | '\n' | '\u{fffd}'))
        .collect();
    if head.len() == body.len() { head } else { format!("{head} ...") }
}

/// Checks `kind` and `apiVersion`, and fills them in where they may be left out.
fn identify(value: &mut Value, expected: &Expected<'_>) -> Result<(), ApiError> {
    let Expected { kind: wanted, version, is_custom, group } = *expected;
    let wrong_type = |what: &str, found: &Value| {
        ApiError::bad_request(format!(
            "the object provided is unrecognized (must be of type {wanted}): couldn't get version/kind; json parse \
             error: json: cannot unmarshal {} into Go {what}",
            go_type(found)
        ))
    };
    let Value::Object(object) = value else {
        let what = "value of type struct { APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \
                    \"json:\\\"kind,omitempty\\\"\" }";
        return Err(wrong_type(what, value));
    };
    for (field, go_name) in [("apiVersion", "apiVersion"), ("kind", "kind")] {
        match object.get(field) {
            None | Some(Value::String(_) | Value::Null) => {}
            Some(other) => return Err(wrong_type(&format!("struct field .{go_name} of type string"), other)),
        }
    }
    let text = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (found_version, found_kind) = (text("apiVersion"), text("kind"));
    if is_custom {
        if found_kind.is_empty() {
            return Err(ApiError::bad_request("Object 'Kind' is missing in '{...}'"));
        }
        if found_version.is_empty() {
            return Err(ApiError::bad_request("Object 'apiVersion' is missing in '{...}'"));
        }
        if found_version != expected.api_version() {
            return Err(ApiError::bad_request(format!(
                "the API version in the data ({found_version}) does not match the expected API version ({})",
                expected.api_version()
            )));
        }
        if found_kind != wanted {
            let name = object.get("metadata").and_then(|m| m.get("name")).and_then(Value::as_str);
            let problem = FieldError::invalid_str("kind", &found_kind, format!("must be {wanted}"));
            return Err(ApiError::invalid(group, wanted, name.unwrap_or_default(), vec![problem]));
        }
        return Ok(());
    }
    let kind = if found_kind.is_empty() { wanted } else { found_kind.as_str() };
    let short = found_version.rsplit('/').next().filter(|v| !v.is_empty()).unwrap_or(version);
    if !found_version.is_empty() && found_version != expected.api_version() {
        return Err(ApiError::bad_request(format!(
            "{kind} in version \"{short}\" cannot be handled as a {wanted}: no kind \"{kind}\" is registered for \
             version \"{found_version}\" here, expected \"{}\"",
            expected.api_version()
        )));
    }
    if kind != wanted {
        return Err(ApiError::bad_request(format!(
            "{kind} in version \"{short}\" cannot be handled as a {wanted}: converting ({short}.{kind}) to \
             ({version}.{wanted}): unknown conversion"
        )));
    }
    object.insert("apiVersion".to_owned(), Value::String(expected.api_version()));
    object.insert("kind".to_owned(), Value::String(wanted.to_owned()));
    Ok(())
}

/// Holds a built-in object against its schema: unknown fields go (their paths are returned), nulls and empty
/// optional lists and maps become absent, times get their canonical form. 400 in Go's words for a wrong type.
///
/// Objects of kinds without a schema here pass unchanged.
pub fn check_builtin(value: &mut Value, expected: &Expected<'_>) -> Result<Vec<String>, ApiError> {
    let Some(schema) = builtin_schema(expected.group, expected.version, expected.kind) else {
        return Ok(Vec::new());
    };
    let unknown = conform(schema, value).map_err(|problem| {
        ApiError::bad_request(format!(
            "{0} in version \"{1}\" cannot be handled as a {0}: {problem}",
            expected.kind, expected.version
        ))
    })?;
    if json::depth(value) > MAX_BUILTIN_DEPTH {
        return Err(ApiError::bad_request(format!("the object is nested more than {MAX_BUILTIN_DEPTH} levels deep")));
    }
    Ok(unknown)
}

/// [`check_builtin`] for `metadata` of a custom resource alone.
pub fn check_custom_metadata(value: &mut Value, expected: &Expected<'_>) -> Result<Vec<String>, ApiError> {
    conform_metadata(value).map_err(|problem| {
        ApiError::bad_request(format!(
            "{0} in version \"{1}\" cannot be handled as a {0}: {problem}",
            expected.kind, expected.version
        ))
    })
}

/// `unknown field "spec.foo"` and `duplicate field "data.a"`, as warnings and strict errors list them.
pub fn field_problems(unknown: &[String], duplicates: &[String]) -> Vec<String> {
    let unknown = unknown.iter().map(|path| format!("unknown field {}", Value::String(path.clone())));
    let duplicates = duplicates.iter().map(|path| format!("duplicate field {}", Value::String(path.clone())));
    unknown.chain(duplicates).collect()
}

/// The 400 of `fieldValidation=Strict` on create and update.
pub fn strict_error(expected: &Expected<'_>, problems: &[String]) -> ApiError {
    ApiError::bad_request(format!(
        "{0} in version \"{1}\" cannot be handled as a {0}: strict decoding error: {2}",
        expected.kind,
        expected.version,
        problems.join(", ")
    ))
}

/// The 422 of `fieldValidation=Strict` on a patch; the object is not shown, since it may hold secrets.
pub fn strict_patch_error(problems: &[String]) -> ApiError {
    let problem = FieldError::invalid_str("patch", "", format!("strict decoding error: {}", problems.join(", ")));
    ApiError::invalid("", "", "", vec![problem])
}

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

#[cfg(test)]
mod tests;
