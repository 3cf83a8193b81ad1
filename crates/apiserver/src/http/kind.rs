//! What depends on the kind: reading bodies, defaults, validation, subresources, the storage version.
//!
//! The rules themselves are elsewhere (`decode`, `builtin`, `crd`); here a request is taken through them in order.

use http::HeaderMap;
use http::header::CONTENT_TYPE;
use serde_json::Value;

use super::events;
use super::meta;
use super::options::FieldValidation;
use super::target::Target;
use crate::builtin::{self, Admitted};
use crate::crd;
use crate::decode::{self, BodyFormat, Decoded, Expected};
use crate::registry::{Builtin, ResourceInfo};
use crate::status::ApiError;

/// A body that passed reading, with what the client should be warned of.
pub(super) struct Checked {
    pub(super) value: Value,
    pub(super) warnings: Vec<String>,
}

fn content_type(headers: &HeaderMap) -> &str {
    headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn expected(target: &Target) -> Expected<'_> {
    Expected {
        group: target.group(),
        version: &target.version.name,
        kind: target.kind(),
        is_custom: target.resource.is_custom(),
    }
}

/// Reads the body of a create or update: syntax, kind and version, unknown and duplicate fields.
///
/// # Errors
/// 400, 415, 422.
pub(super) fn decode(
    target: &Target,
    headers: &HeaderMap,
    body: &[u8],
    validation: FieldValidation,
) -> Result<Checked, ApiError> {
    let expected = expected(target);
    let format = BodyFormat::from_content_type(content_type(headers), expected.is_custom)?;
    let Decoded { mut value, duplicates } = decode::read(format, body, &expected)?;
    let problems = conform(target, &expected, &mut value, &duplicates)?;
    let warnings = judge(problems, validation, |problems| decode::strict_error(&expected, problems))?;
    Ok(Checked { value, warnings })
}

/// Checks a patched object like a body.
///
/// # Errors
/// 400 for wrong types, 422 for what `fieldValidation=Strict` refuses.
pub(super) fn check_patched(
    target: &Target,
    mut value: Value,
    duplicates: &[String],
    validation: FieldValidation,
) -> Result<Checked, ApiError> {
    let problems = conform(target, &expected(target), &mut value, duplicates)?;
    let warnings = judge(problems, validation, decode::strict_patch_error)?;
    Ok(Checked { value, warnings })
}

/// Drops what the kind does not declare and names it.
fn conform(
    target: &Target,
    expected: &Expected<'_>,
    value: &mut Value,
    duplicates: &[String],
) -> Result<Vec<String>, ApiError> {
    let unknown = if expected.is_custom {
        // `metadata` has the same type for all kinds; the rest is the definition's.
        let mut unknown = decode::check_custom_metadata(value, expected)?;
        unknown.extend(target.version.structural.iter().flat_map(|schema| schema.prune(value)));
        unknown
    } else {
        decode::check_builtin(value, expected)?
    };
    Ok(decode::field_problems(&unknown, duplicates))
}

fn judge(
    problems: Vec<String>,
    validation: FieldValidation,
    refuse: impl FnOnce(&[String]) -> ApiError,
) -> Result<Vec<String>, ApiError> {
    match validation {
        FieldValidation::Ignore => Ok(Vec::new()),
        FieldValidation::Warn => Ok(problems),
        FieldValidation::Strict if problems.is_empty() => Ok(Vec::new()),
        FieldValidation::Strict => Err(refuse(&problems)),
    }
}

/// Reads `DeleteOptions`, which clients send under the version of any group.
///
/// # Errors
/// 400, 415.
pub(super) fn decode_delete_options(headers: &HeaderMap, body: &[u8]) -> Result<Value, ApiError> {
    let format = BodyFormat::from_content_type(content_type(headers), false)?;
    let expected = Expected { group: "", version: "v1", kind: "DeleteOptions", is_custom: false };
    decode::parse(format, body, &expected).map(|decoded| decoded.value)
}

/// Reads the `Scale` of a custom resource.
///
/// # Errors
/// 400, 415.
pub(super) fn decode_scale(headers: &HeaderMap, body: &[u8]) -> Result<Value, ApiError> {
    let format = BodyFormat::from_content_type(content_type(headers), true)?;
    let expected = Expected { group: "autoscaling", version: "v1", kind: "Scale", is_custom: false };
    decode::read(format, body, &expected).map(|decoded| decoded.value)
}

/// Splits, defaults and validates a new object of the requested version; returns warnings.
///
/// # Errors
/// 422 with every problem.
pub(super) fn prepare_create(target: &Target, value: &mut Value) -> Result<Vec<String>, ApiError> {
    if target.version.has_status() {
        put_or_remove(value, "status", None);
    }
    let is_definition = target.resource.builtin() == Some(Builtin::CustomResourceDefinition);
    if is_definition {
        crd::apply_defaults(value);
        put_or_remove(value, "status", Some(crd::initial_status()));
        hold_for_cleanup(value);
    }
    let mut admitted = builtin::admit(&target.resource, value, None);
    if is_definition {
        admitted.problems.extend(crd::validate_create(value));
        crd::stamp_stored_version(value);
    } else if target.resource.is_custom() {
        admitted.problems.extend(crd::instance::admit(&target.version, value, None).errors);
    }
    finish(target, meta::text(value, "name"), admitted)
}

/// Defaults and validates what replaces `old`, both of the requested version, subresources already split; returns
/// warnings.
///
/// # Errors
/// 422 with every problem.
pub(super) fn prepare_update(target: &Target, old: &Value, value: &mut Value) -> Result<Vec<String>, ApiError> {
    let is_definition = target.resource.builtin() == Some(Builtin::CustomResourceDefinition);
    if is_definition {
        crd::apply_defaults(value);
    }
    let mut admitted = builtin::admit(&target.resource, value, Some(old));
    if is_definition && target.subresource_name() == "status" {
        admitted.problems.extend(crd::validate_status_update(value, old));
    } else if is_definition {
        admitted.problems.extend(crd::validate_update(value, old));
        crd::stamp_stored_version(value);
    } else if target.resource.is_custom() {
        admitted.problems.extend(crd::instance::admit(&target.version, value, Some(old)).errors);
    }
    finish(target, target.name(), admitted)
}

fn finish(target: &Target, name: &str, admitted: Admitted) -> Result<Vec<String>, ApiError> {
    if admitted.problems.is_empty() {
        return Ok(admitted.warnings);
    }
    Err(ApiError::invalid(target.group(), target.kind(), name, admitted.problems))
}

/// SPEC 60 §13.1: a definition outlives its instances.
fn hold_for_cleanup(definition: &mut Value) {
    let metadata = meta::of(definition);
    let finalizers = metadata.entry("finalizers").or_insert_with(|| Value::Array(Vec::new()));
    if let Some(list) = finalizers.as_array_mut()
        && !list.iter().any(|finalizer| finalizer == crd::CLEANUP_FINALIZER)
    {
        list.push(crd::CLEANUP_FINALIZER.into());
    }
}

/// Takes from a body only what its endpoint may change (SPEC 60 §13.6): `/status` the status, `/finalize` the
/// finalizers of a namespace, the resource itself everything else.
pub(super) fn split_subresource(target: &Target, old: &Value, new: &mut Value) {
    match target.subresource_name() {
        "status" => {
            let status = new.get("status").cloned();
            *new = with_version(old, new);
            put_or_remove(new, "status", status);
        }
        "finalize" => {
            let finalizers = new.pointer("/spec/finalizers").cloned();
            *new = with_version(old, new);
            if let Some(spec) = new.get_mut("spec").and_then(Value::as_object_mut) {
                match finalizers {
                    Some(finalizers) => spec.insert("finalizers".to_owned(), finalizers),
                    None => spec.remove("finalizers"),
                };
            }
        }
        _ => {
            let status_apart = target.version.has_status();
            if status_apart {
                put_or_remove(new, "status", old.get("status").cloned());
            }
            // Only `/finalize` changes these.
            if target.resource.builtin() == Some(Builtin::Namespace) {
                put_or_remove(new, "spec", old.get("spec").cloned());
            }
        }
    }
}

/// The stored object, at the version that the body asked for.
fn with_version(old: &Value, new: &Value) -> Value {
    let mut kept = old.clone();
    let version = meta::text(new, "resourceVersion");
    if !version.is_empty() {
        meta::of(&mut kept).insert("resourceVersion".to_owned(), version.into());
    }
    kept
}

fn put_or_remove(object: &mut Value, field: &str, value: Option<Value>) {
    let Some(object) = object.as_object_mut() else { return };
    match value {
        Some(value) => object.insert(field.to_owned(), value),
        None => object.remove(field),
    };
}

/// Turns an object of a served version into the form it is stored in.
///
/// # Errors
/// 500 when a converter refuses it.
pub(super) fn to_storage(
    converters: &crd::conversion::Converters,
    resource: &ResourceInfo,
    value: &mut Value,
) -> Result<(), ApiError> {
    if resource.builtin() == Some(Builtin::EventsEvent) {
        *value = events::to_core_face(value);
        return Ok(());
    }
    if resource.is_custom() {
        converters.convert(resource, value, &resource.storage_version).map_err(ApiError::internal)?;
    }
    Ok(())
}
