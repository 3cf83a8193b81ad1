//! Rules of the compiled-in kinds: defaults, validation, what an update may not change.
//!
//! [`admit`] is the one entry. It expects an object that passed `decode::check_builtin` (so types are right and unknown
//! fields gone) and whose server-set metadata is in place, and it reports everything wrong at once. The rules of
//! `metadata` hold for custom resources too. No clock, no randomness, no I/O.
// SPEC 60 §6, §12.3, §14, §22.3

mod config;
mod endpoints;
mod event;
mod lease;
pub mod metadata;
mod namespace;
mod service;

use std::net::IpAddr;

use serde_json::{Map, Value};

use crate::registry::{Builtin, ResourceInfo};
use crate::status::FieldError;

/// What became of a written object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Admitted {
    /// Everything wrong with it; empty if it may be stored.
    pub problems: Vec<FieldError>,
    /// What the client should be told although the object is fine.
    pub warnings: Vec<String>,
}

/// Defaults and validates an object of `resource`; `old` is the stored object of an update, in the same version.
///
/// For custom resources only `metadata` is looked at: their schema is the definition's.
pub fn admit(resource: &ResourceInfo, object: &mut Value, old: Option<&Value>) -> Admitted {
    let mut admitted = metadata::check(resource, object, old);
    let problems = &mut admitted.problems;
    match resource.builtin() {
        None | Some(Builtin::CustomResourceDefinition | Builtin::ServiceAccount) => {}
        Some(Builtin::ConfigMap) => config::config_map(object, old, problems),
        Some(Builtin::Secret) => config::secret(object, old, problems),
        Some(Builtin::Namespace) => namespace::admit(object, old, problems),
        Some(Builtin::Service) => service::admit(object, old, problems),
        Some(Builtin::Endpoints) => endpoints::endpoints(object, problems),
        Some(Builtin::EndpointSlice) => endpoints::slice(object, old, problems),
        Some(Builtin::Event) => event::core(object, problems),
        Some(Builtin::EventsEvent) => event::newer(object, old, problems),
        Some(Builtin::Lease) => lease::admit(object, problems),
    }
    admitted
}

/// A text field of a map, empty when absent.
fn text<'a>(map: &'a Map<String, Value>, field: &str) -> &'a str {
    map.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// Sets a text field that is absent or empty.
fn default_text(map: &mut Map<String, Value>, field: &str, value: &str) {
    if text(map, field).is_empty() {
        map.insert(field.to_owned(), Value::String(value.to_owned()));
    }
}

/// The object under a field, made if it is missing.
fn object_at<'a>(map: &'a mut Map<String, Value>, field: &str) -> Option<&'a mut Map<String, Value>> {
    map.entry(field).or_insert_with(|| Value::Object(Map::new())).as_object_mut()
}

/// The elements of a list field; none when absent.
fn list<'a>(map: &'a Map<String, Value>, field: &str) -> &'a [Value] {
    map.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn no_fields() -> &'static Map<String, Value> {
    static EMPTY: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
    &EMPTY
}

/// An object's fields; none if it is no object.
fn fields(value: &Value) -> &Map<String, Value> {
    value.as_object().unwrap_or_else(|| no_fields())
}

/// The fields of the object under a field; none if there is no such object.
fn fields_at<'a>(map: &'a Map<String, Value>, field: &str) -> &'a Map<String, Value> {
    map.get(field).and_then(Value::as_object).unwrap_or_else(|| no_fields())
}

/// `field` must be one of `supported` (sorted as messages list them); absent is fine when `optional`.
fn check_choice(
    problems: &mut Vec<FieldError>,
    path: String,
    value: Option<&Value>,
    supported: &[&str],
    optional: bool,
) {
    match value.and_then(Value::as_str) {
        Some(found) if supported.contains(&found) => {}
        None | Some("") if optional => {}
        None | Some("") => problems.push(FieldError::required(path, "")),
        Some(found) => problems.push(FieldError::not_supported(path, &Value::from(found), supported)),
    }
}

const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
const PORT_RANGE: &str = "must be between 1 and 65535, inclusive";

fn check_port(problems: &mut Vec<FieldError>, path: String, value: &Value) {
    if !value.as_i64().is_some_and(|port| (1..=65535).contains(&port)) {
        problems.push(FieldError::invalid(path, value, PORT_RANGE));
    }
}

fn push_all(problems: &mut Vec<FieldError>, path: &str, value: &str, messages: Vec<String>) {
    problems.extend(messages.into_iter().map(|message| FieldError::invalid_str(path, value, message)));
}

fn parse_ip(text: &str) -> Option<IpAddr> {
    text.parse().ok()
}

const NOT_AN_IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";

/// Immutable after creation.
fn check_unchanged(problems: &mut Vec<FieldError>, path: &str, new: Option<&Value>, old: Option<&Value>) {
    if new != old {
        let shown = new.cloned().unwrap_or(Value::Null);
        problems.push(FieldError::invalid(path, &shown, "field is immutable"));
    }
}

#[cfg(test)]
mod tests;
