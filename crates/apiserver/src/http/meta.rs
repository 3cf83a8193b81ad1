//! Metadata that the server sets, keeps and checks (SPEC 60 §6 and §12.1). Pure.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::target::Target;
use crate::registry::{Builtin, Origin, ResourceInfo};
use crate::status::{ApiError, FieldError};

/// `metadata` of an object, made if it is missing or no object.
pub(crate) fn of(object: &mut Value) -> &mut Map<String, Value> {
    if !object.is_object() {
        *object = json!({});
    }
    let metadata = &mut object["metadata"];
    if !metadata.is_object() {
        *metadata = json!({});
    }
    match metadata {
        Value::Object(metadata) => metadata,
        _ => unreachable!("it was just made an object"),
    }
}

/// Sets the field at a path of names such as `status.phase`, making the objects on the way.
pub(crate) fn set(object: &mut Value, path: &str, value: impl Into<Value>) {
    let mut place = object;
    for step in path.split('.').filter(|step| !step.is_empty()) {
        if !place.is_object() {
            *place = json!({});
        }
        let Value::Object(fields) = place else { return };
        place = fields.entry(step).or_insert(Value::Null);
    }
    *place = value.into();
}

/// A text field of `metadata`; empty when absent.
pub(crate) fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object.get("metadata").and_then(|metadata| metadata.get(field)?.as_str()).unwrap_or_default()
}

/// `YYYY-MM-DDTHH:MM:SSZ`.
pub(crate) fn time(now: Timestamp) -> String {
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Whether the object is waiting for its finalizers.
pub(crate) fn is_deleting(object: &Value) -> bool {
    !text(object, "deletionTimestamp").is_empty()
}

/// The names in `metadata.finalizers`.
pub(crate) fn finalizers(object: &Value) -> Vec<&str> {
    let list = object.pointer("/metadata/finalizers").and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Whether nothing holds a deleting object any more. Namespaces are also held by `spec.finalizers`.
pub(crate) fn may_go(resource: &ResourceInfo, object: &Value) -> bool {
    let held = resource.builtin() == Some(Builtin::Namespace)
        && object.pointer("/spec/finalizers").and_then(Value::as_array).is_some_and(|list| !list.is_empty());
    !held && finalizers(object).is_empty()
}

/// Whether `metadata.generation` is kept for the kind.
fn has_generation(resource: &ResourceInfo) -> bool {
    match &resource.origin {
        Origin::Custom(_) => true,
        Origin::Builtin(builtin) => match builtin {
            Builtin::Service | Builtin::EndpointSlice | Builtin::CustomResourceDefinition => true,
            Builtin::ConfigMap
            | Builtin::Endpoints
            | Builtin::Event
            | Builtin::EventsEvent
            | Builtin::Namespace
            | Builtin::Secret
            | Builtin::ServiceAccount
            | Builtin::Lease => false,
        },
    }
}

/// What only the server writes and nobody reads from a body.
const IGNORED: [&str; 3] = ["selfLink", "managedFields", "deletionGracePeriodSeconds"];

/// Sets what a new object gets from the server.
pub(super) fn on_create(target: &Target, object: &mut Value, uid: &str, now: Timestamp) {
    let generation = has_generation(&target.resource);
    let metadata = of(object);
    for field in IGNORED.into_iter().chain(["deletionTimestamp", "generation", "resourceVersion"]) {
        metadata.remove(field);
    }
    metadata.insert("uid".to_owned(), uid.into());
    metadata.insert("creationTimestamp".to_owned(), time(now).into());
    if generation {
        metadata.insert("generation".to_owned(), 1.into());
    }
    if target.resource.namespaced {
        metadata.insert("namespace".to_owned(), target.namespace.as_str().into());
    } else {
        metadata.remove("namespace");
    }
}

/// `namespace` of a body must be empty or the URL's.
///
/// # Errors
/// 400
pub(super) fn check_namespace(target: &Target, object: &Value) -> Result<(), ApiError> {
    let namespace = text(object, "namespace");
    if namespace.is_empty() || namespace == target.namespace {
        return Ok(());
    }
    Err(ApiError::bad_request("the namespace of the provided object does not match the namespace sent on the request"))
}

/// The name in a body must be the URL's; an absent one is filled in.
///
/// # Errors
/// 400
pub(super) fn check_name(target: &Target, object: &mut Value) -> Result<(), ApiError> {
    let name = text(object, "name");
    if name.is_empty() {
        of(object).insert("name".to_owned(), target.name().into());
        return Ok(());
    }
    if name == target.name() {
        return Ok(());
    }
    let text = format!("the name of the object ({name}) does not match the name on the URL ({})", target.name());
    Err(ApiError::bad_request(text))
}

/// Restores what an update may not change and checks what it may not say. `old` and `new` are in the same version.
///
/// # Errors
/// 409 for another uid, 422 for new finalizers on a deleting object.
pub(super) fn on_update(target: &Target, old: &Value, new: &mut Value) -> Result<(), ApiError> {
    let (asked, found) = (text(new, "uid"), text(old, "uid"));
    if !asked.is_empty() && asked != found {
        return Err(ApiError::uid_mismatch(target.group(), target.plural(), target.name(), asked, found));
    }
    if is_deleting(old) {
        let before = finalizers(old);
        let added: Vec<String> = finalizers(new)
            .iter()
            .filter(|finalizer| !before.contains(finalizer))
            .map(|finalizer| Value::from(*finalizer).to_string())
            .collect();
        if !added.is_empty() {
            let detail = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                added.join(", ")
            );
            let problem = FieldError::forbidden("metadata.finalizers", detail);
            return Err(ApiError::invalid(target.group(), target.kind(), target.name(), vec![problem]));
        }
    }
    let kept = [
        "uid",
        "creationTimestamp",
        "generation",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "namespace",
        "generateName",
    ];
    let old = old.get("metadata").and_then(Value::as_object);
    let metadata = of(new);
    for field in IGNORED {
        metadata.remove(field);
    }
    for field in kept {
        match old.and_then(|old| old.get(field)) {
            Some(value) => metadata.insert(field.to_owned(), value.clone()),
            None => metadata.remove(field),
        };
    }
    // An empty list or map is stored as absent, so that adding and removing a label ends in the same bytes.
    metadata.retain(|_, value| {
        !value.is_null()
            && value.as_object().is_none_or(|map| !map.is_empty())
            && value.as_array().is_none_or(|list| !list.is_empty())
    });
    Ok(())
}

/// Moves `metadata.generation` when something other than metadata, and status where it is apart, changed.
pub(super) fn bump_generation(target: &Target, old: &Value, new: &mut Value) {
    if !has_generation(&target.resource) {
        return;
    }
    let status_apart = !target.resource.is_custom() || target.version.has_status();
    let ignored = |key: &str| matches!(key, "metadata" | "apiVersion" | "kind") || (status_apart && key == "status");
    let fields = |object: &Value| -> Vec<(String, Value)> {
        let fields = object.as_object().into_iter().flatten();
        fields.filter(|(key, _)| !ignored(key)).map(|(key, value)| (key.clone(), value.clone())).collect()
    };
    if fields(old) == fields(new) {
        return;
    }
    let generation = old.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0);
    of(new).insert("generation".to_owned(), (generation + 1).into());
}

/// Marks an object as being deleted.
pub(crate) fn mark_deleting(resource: &ResourceInfo, object: &mut Value, now: Timestamp) {
    let metadata = of(object);
    metadata.insert("deletionTimestamp".to_owned(), time(now).into());
    metadata.insert("deletionGracePeriodSeconds".to_owned(), 0.into());
    if let Some(generation) = metadata.get("generation").and_then(Value::as_i64) {
        metadata.insert("generation".to_owned(), (generation + 1).into());
    }
    if resource.builtin() == Some(Builtin::Namespace) {
        set(object, "status.phase", "Terminating");
    }
}

/// What names are generated from: vowels and look-alikes left out (SPEC 60 §6).
const SUFFIX_LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const MAX_GENERATED_BASE: usize = 58;

/// A name from `generateName`: the base cut to 58 characters and 5 random letters.
pub(super) fn generated_name(base: &str, mut random: u64) -> String {
    let mut name: String = base.chars().take(MAX_GENERATED_BASE).collect();
    let count = SUFFIX_LETTERS.len() as u64;
    for _ in 0..5 {
        let index = usize::try_from(random % count).unwrap_or(0);
        random /= count;
        name.push(char::from(SUFFIX_LETTERS.get(index).copied().unwrap_or(b'x')));
    }
    name
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::registry::Registry;
    use crate::request_info::{RequestInfo, Target as Line};
    use crate::store::ClusterId;

    fn target(path: &str) -> Target {
        let Line::Resource(request) = RequestInfo::parse(&Method::PUT, path, None).unwrap().target else { panic!() };
        Target::resolve(&Registry::builtin(), ClusterId::ROOT, &request).ok().unwrap()
    }

    #[test]
    fn the_server_sets_what_a_client_may_not() {
        let target = target("/api/v1/namespaces/n/services/a");
        let mut object = json!({"metadata": {"name": "a", "uid": "mine", "selfLink": "/x", "managedFields": [], "deletionTimestamp": "t", "resourceVersion": "1"}});
        let now = "2026-11-21T01:02:03.456Z".parse().unwrap();
        on_create(&target, &mut object, "u", now);
        assert_eq!(
            object["metadata"],
            json!({"name": "a", "uid": "u", "namespace": "n", "creationTimestamp": "2026-11-21T01:02:03Z", "generation": 1})
        );
    }

    #[test]
    fn an_update_restores_what_it_drops_and_moves_the_generation_only_for_the_intent() {
        let target = target("/api/v1/namespaces/n/services/a");
        let old = json!({"metadata": {"name": "a", "uid": "u", "generation": 3, "creationTimestamp": "t"}, "spec": {"a": 1}, "status": {}});
        let mut new = json!({"metadata": {"name": "a", "labels": {}}, "spec": {"a": 1}, "status": {"x": 1}});
        on_update(&target, &old, &mut new).unwrap();
        bump_generation(&target, &old, &mut new);
        assert_eq!(new["metadata"], json!({"name": "a", "uid": "u", "generation": 3, "creationTimestamp": "t"}));
        new["spec"]["a"] = 2.into();
        bump_generation(&target, &old, &mut new);
        assert_eq!(new["metadata"]["generation"], 4);
    }

    #[test]
    fn another_uid_and_late_finalizers_are_refused() {
        let target = target("/api/v1/namespaces/n/configmaps/a");
        let old = json!({"metadata": {"name": "a", "uid": "u", "deletionTimestamp": "t", "finalizers": ["e.com/h"]}});
        let mut new = json!({"metadata": {"uid": "other"}});
        let error = on_update(&target, &old, &mut new).unwrap_err();
        assert_eq!(
            error.message,
            "Operation cannot be fulfilled on configmaps \"a\": Precondition failed: UID in precondition: other, UID in object meta: u"
        );
        let mut new = json!({"metadata": {"finalizers": ["e.com/h", "e.com/x"]}});
        let error = on_update(&target, &old, &mut new).unwrap_err();
        assert_eq!(error.code, 422);
        assert!(error.message.contains("found new finalizers []string{\"e.com/x\"}"), "{}", error.message);
    }

    #[test]
    fn generated_names_have_five_letters_after_at_most_58() {
        let name = generated_name(&"a".repeat(70), 12345);
        assert_eq!(name.len(), 63);
        assert!(name.bytes().skip(58).all(|byte| SUFFIX_LETTERS.contains(&byte)));
    }
}
