//! Rules of `metadata`, for every kind.

use serde_json::{Map, Value};

use super::{Admitted, fields, list, push_all, text};
use crate::names::{self, NameRule};
use crate::registry::{Builtin, ResourceInfo};
use crate::status::FieldError;

/// Keys and values of all annotations together, in bytes (SPEC 60 §22.3).
const MAX_ANNOTATION_BYTES: usize = 262_144;
/// Most labels, and most annotations, of one object (SPEC 60 §23, ours).
const MAX_ENTRIES: usize = 1000;

/// The rule for names of a resource.
pub fn name_rule(resource: &ResourceInfo) -> NameRule {
    match resource.builtin() {
        Some(Builtin::Namespace | Builtin::Service) => NameRule::Label,
        Some(
            Builtin::ConfigMap
            | Builtin::Endpoints
            | Builtin::Event
            | Builtin::Secret
            | Builtin::ServiceAccount
            | Builtin::CustomResourceDefinition
            | Builtin::Lease
            | Builtin::EndpointSlice
            | Builtin::EventsEvent,
        )
        | None => NameRule::Subdomain,
    }
}

/// Checks names, labels, annotations, finalizers and owner references.
///
/// On an update the name and an unchanged part are not looked at again, so that a rule that became stricter never
/// blocks an unrelated change.
pub(super) fn check(resource: &ResourceInfo, object: &Value, old: Option<&Value>) -> Admitted {
    let mut admitted = Admitted::default();
    let problems = &mut admitted.problems;
    let metadata = super::fields_at(fields(object), "metadata");
    let before = old.and_then(|old| old.get("metadata")).map(fields);
    let changed = |field: &str| before.is_none_or(|before| before.get(field) != metadata.get(field));
    if old.is_none() {
        check_names(name_rule(resource), metadata, problems);
    }
    if changed("labels") {
        labels(metadata, "labels", "metadata.labels", problems);
    }
    if changed("annotations") {
        annotations(metadata, problems);
    }
    if changed("finalizers") {
        finalizers(resource, metadata, &mut admitted);
    }
    if changed("ownerReferences") {
        owners(metadata, &mut admitted.problems);
    }
    admitted
}

fn check_names(rule: NameRule, metadata: &Map<String, Value>, problems: &mut Vec<FieldError>) {
    let prefix = text(metadata, "generateName");
    if !prefix.is_empty() {
        push_all(problems, "metadata.generateName", prefix, rule.check_prefix(prefix));
    }
    match text(metadata, "name") {
        "" => problems.push(FieldError::required("metadata.name", "name or generateName is required")),
        name => push_all(problems, "metadata.name", name, rule.check(name)),
    }
}

/// Checks a map of labels at `path`.
pub(super) fn labels(map: &Map<String, Value>, field: &str, path: &str, problems: &mut Vec<FieldError>) {
    let Some(labels) = map.get(field).and_then(Value::as_object) else { return };
    if labels.len() > MAX_ENTRIES {
        problems.push(FieldError::too_many(path, labels.len(), MAX_ENTRIES));
        return;
    }
    for (key, value) in labels {
        push_all(problems, path, key, names::qualified_name(key));
        let value = value.as_str().unwrap_or_default();
        push_all(problems, path, value, names::label_value(value));
    }
}

fn annotations(metadata: &Map<String, Value>, problems: &mut Vec<FieldError>) {
    const PATH: &str = "metadata.annotations";
    let Some(annotations) = metadata.get("annotations").and_then(Value::as_object) else { return };
    if annotations.len() > MAX_ENTRIES {
        problems.push(FieldError::too_many(PATH, annotations.len(), MAX_ENTRIES));
        return;
    }
    let mut bytes = 0;
    for (key, value) in annotations {
        bytes += key.len() + value.as_str().map_or(0, str::len);
        // Upper case is allowed in the domain of an annotation, not of a label.
        push_all(problems, PATH, key, names::qualified_name(&key.to_lowercase()));
    }
    if bytes > MAX_ANNOTATION_BYTES {
        problems.push(FieldError::too_long(PATH, MAX_ANNOTATION_BYTES));
    }
}

fn finalizers(resource: &ResourceInfo, metadata: &Map<String, Value>, admitted: &mut Admitted) {
    const PATH: &str = "metadata.finalizers";
    let finalizers: Vec<&str> = list(metadata, "finalizers").iter().filter_map(Value::as_str).collect();
    // A definition's own clean-up finalizer has no slash, so definitions follow the rule of custom resources.
    let is_definition = resource.builtin() == Some(Builtin::CustomResourceDefinition);
    for finalizer in &finalizers {
        if !resource.is_custom() && !is_definition {
            push_all(&mut admitted.problems, PATH, finalizer, names::builtin_finalizer(finalizer));
            continue;
        }
        push_all(&mut admitted.problems, PATH, finalizer, names::qualified_name(finalizer));
        if !is_definition && !finalizer.contains('/') && !matches!(*finalizer, "orphan" | "foregroundDeletion") {
            admitted.warnings.push(format!(
                "{PATH}: {}: prefer a domain-qualified finalizer name including a path (/) to avoid accidental \
                 conflicts with other finalizer writers",
                Value::from(*finalizer)
            ));
        }
    }
    if finalizers.contains(&"orphan") && finalizers.contains(&"foregroundDeletion") {
        let detail = "finalizer orphan and foregroundDeletion cannot be both set";
        admitted.problems.push(FieldError::invalid(PATH, &Value::from(finalizers), detail));
    }
}

/// SPEC 60 §12.2
fn owners(metadata: &Map<String, Value>, problems: &mut Vec<FieldError>) {
    const PATH: &str = "metadata.ownerReferences";
    let mut controller: Option<&str> = None;
    for owner in list(metadata, "ownerReferences").iter().map(fields) {
        if text(owner, "apiVersion").rsplit('/').next().unwrap_or_default().is_empty() {
            problems.push(FieldError::invalid_str(
                format!("{PATH}.apiVersion"),
                text(owner, "apiVersion"),
                "version must not be empty",
            ));
        }
        for field in ["kind", "name", "uid"] {
            if text(owner, field).is_empty() {
                problems.push(FieldError::invalid_str(format!("{PATH}.{field}"), "", "must not be empty"));
            }
        }
        if (text(owner, "apiVersion"), text(owner, "kind")) == ("v1", "Event") {
            problems.push(FieldError::invalid_str(PATH, "Event", "/v1, Kind=Event is disallowed from being an owner"));
        }
        if owner.get("controller") != Some(&Value::Bool(true)) {
            continue;
        }
        let name = text(owner, "name");
        if let Some(first) = controller {
            let detail = format!(
                "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {name}"
            );
            let shown = metadata.get("ownerReferences").cloned().unwrap_or_default();
            problems.push(FieldError::invalid(PATH, &shown, detail));
        } else {
            controller = Some(name);
        }
    }
}
