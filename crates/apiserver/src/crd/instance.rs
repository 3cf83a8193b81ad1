//! Custom resources on their way in and out (SPEC 60 §13.3, §13.5, §13.6).

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::conversion::{ConversionError, Converters};
use crate::registry::{ResourceInfo, VersionInfo};
use crate::status::FieldError;

/// What a written object went through.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Admitted {
    /// Paths of dropped fields, for `fieldValidation` Warn and Strict.
    pub unknown_fields: Vec<String>,
    /// Everything wrong with it by its schema.
    pub errors: Vec<FieldError>,
}

/// Prunes, defaults and validates an object of `version`. `old` is the stored object in the same version; what did not
/// change since is not validated again. `metadata` is left to the rules of all objects.
pub fn admit(version: &VersionInfo, object: &mut Value, old: Option<&Value>) -> Admitted {
    let Some(schema) = &version.structural else { return Admitted::default() };
    let unknown_fields = schema.prune(object);
    schema.apply_defaults(object);
    Admitted { unknown_fields, errors: schema.validate(object, old) }
}

/// A stored object as clients of `version` see it: converted, pruned and defaulted. Borrowed when nothing changes.
///
/// # Errors
/// When a registered converter refuses the object.
pub fn present<'a>(
    converters: &Converters,
    resource: &ResourceInfo,
    version: &VersionInfo,
    stored: &'a Value,
) -> Result<Cow<'a, Value>, ConversionError> {
    let is_same_version =
        stored.get("apiVersion").and_then(Value::as_str) == Some(&resource.api_version(&version.name));
    let schema = version.structural.as_deref();
    if is_same_version && schema.is_none_or(|schema| !schema.has_defaults()) {
        return Ok(Cow::Borrowed(stored));
    }
    let mut object = stored.clone();
    if !is_same_version {
        converters.convert(resource, &mut object, &version.name)?;
        if let Some(schema) = schema {
            schema.prune(&mut object);
        }
    }
    if let Some(schema) = schema {
        schema.apply_defaults(&mut object);
    }
    Ok(Cow::Owned(object))
}

/// Whether an update of the main resource raises `metadata.generation`: anything but `metadata` changed, and with a
/// status subresource anything but `status` (which such a write cannot change).
pub fn raises_generation(version: &VersionInfo, new: &Value, old: &Value) -> bool {
    let has_status = version.has_status();
    let rest = |object: &Value| -> Option<Map<String, Value>> {
        let mut map = object.as_object()?.clone();
        map.remove("metadata");
        map.remove("apiVersion");
        if has_status {
            map.remove("status");
        }
        Some(map)
    };
    rest(new) != rest(old)
}
