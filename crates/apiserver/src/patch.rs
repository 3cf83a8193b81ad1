//! The patch types of the API: JSON patch, merge patch and strategic merge patch.
//!
//! A [`Patch`] is parsed once per request, outside the store's transaction, and applied inside it to whatever
//! version is current. Applying is pure and bounded; the result still has to pass the checks of an update.
// SPEC 60 §10

mod json;
mod strategic;

use serde_json::Value;

use crate::decode;
use crate::status::ApiError;

pub use strategic::{ListMerge, merge_of};

/// Which rules a patch follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchKind {
    /// `application/json-patch+json`, RFC 6902.
    Json,
    /// `application/merge-patch+json`, RFC 7386.
    Merge,
    /// `application/strategic-merge-patch+json`, built-in kinds only.
    Strategic,
}

const JSON_TYPE: &str = "application/json-patch+json";
const MERGE_TYPE: &str = "application/merge-patch+json";
const STRATEGIC_TYPE: &str = "application/strategic-merge-patch+json";

impl PatchKind {
    /// The kind that a `Content-Type` (parameters are ignored) asks for; 415 for others.
    pub fn from_content_type(content_type: &str, is_custom: bool) -> Result<Self, ApiError> {
        let media = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match media.as_str() {
            JSON_TYPE => Ok(Self::Json),
            MERGE_TYPE => Ok(Self::Merge),
            STRATEGIC_TYPE if !is_custom => Ok(Self::Strategic),
            _ if is_custom => Err(ApiError::unsupported_media_type(&[JSON_TYPE, MERGE_TYPE])),
            _ => Err(ApiError::unsupported_media_type(&[JSON_TYPE, MERGE_TYPE, STRATEGIC_TYPE])),
        }
    }
}

/// A parsed patch.
#[derive(Debug, Clone, PartialEq)]
pub struct Patch {
    content: Content,
    /// Paths of keys that the body holds twice, as `fieldValidation` reports them.
    pub duplicates: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
enum Content {
    Json(Vec<json::Operation>),
    Merge(Value),
    Strategic(Value),
}

impl Patch {
    /// Reads a body; 400 when it is no JSON of the right shape, 413 when it holds too many operations.
    pub fn parse(kind: PatchKind, body: &[u8]) -> Result<Self, ApiError> {
        let bad = |problem: &dyn std::fmt::Display| ApiError::bad_request(format!("error decoding patch: {problem}"));
        let decode::json::Parsed { value, duplicates } = decode::json::parse(body).map_err(|e| bad(&e))?;
        let content = match kind {
            PatchKind::Json => Content::Json(json::operations(value)?),
            PatchKind::Merge | PatchKind::Strategic if !value.is_object() => {
                let found = decode::go_type(&value);
                let problem = format!("json: cannot unmarshal {found} into Go value of type map[string]interface {{}}");
                return Err(bad(&problem));
            }
            PatchKind::Merge => Content::Merge(value),
            PatchKind::Strategic => Content::Strategic(value),
        };
        Ok(Self { content, duplicates })
    }

    /// The patched object. `group` and `kind` choose the list rules of strategic merge.
    ///
    /// The result may break any rule of the kind; `apiVersion` and `kind` are checked here (400 when changed).
    pub fn apply(&self, group: &str, kind: &str, original: &Value) -> Result<Value, ApiError> {
        let patched = match &self.content {
            Content::Json(operations) => json::apply(operations, original)?,
            Content::Merge(patch) => {
                let mut patched = original.clone();
                json_patch::merge(&mut patched, patch);
                patched
            }
            Content::Strategic(patch) => strategic::apply(group, kind, original, patch)?,
        };
        if !patched.is_object() {
            return Err(ApiError::unprocessable());
        }
        for field in ["apiVersion", "kind"] {
            if patched.get(field) != original.get(field) {
                let was = original.get(field).and_then(Value::as_str).unwrap_or_default();
                return Err(ApiError::bad_request(format!("the {field} of the object (`{was}`) cannot be patched")));
            }
        }
        if decode::json::depth(&patched) > decode::json::MAX_DEPTH {
            return Err(ApiError::bad_request("the patched object is nested too deeply"));
        }
        Ok(patched)
    }
}

#[cfg(test)]
mod tests;
