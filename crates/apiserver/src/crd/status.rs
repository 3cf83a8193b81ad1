//! The status of a definition: whose names it got and whether it is served (SPEC 60 §13.1).

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::condition;
use super::validate::{approval_annotation, is_protected};
use crate::registry::Registry;

/// How far the removal of a deleted definition's objects has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cleanup {
    InProgress,
    Completed,
}

/// The status that a definition must have beside what `registry` serves; equal to the present one when nothing
/// changed, so that a controller can compare before it writes.
///
/// Names already in `status.acceptedNames` are kept as long as the new ones clash with another resource of the group.
/// An established definition stays established.
pub fn compute(definition: &Value, registry: &Registry, now: Timestamp) -> Value {
    let mut status = match definition.get("status") {
        Some(Value::Object(status)) => status.clone(),
        _ => Map::new(),
    };
    let group = definition.pointer("/spec/group").and_then(Value::as_str).unwrap_or_default();
    let taken = Taken::of_others(registry, group, definition);
    let (names, conflict) = accept(definition, &taken);
    let accepted = match &conflict {
        None => ("True", "NoConflicts", "no conflicts found".to_owned()),
        Some((reason, message)) => ("False", *reason, message.clone()),
    };
    let is_established = condition(definition, "Established").is_some_and(|condition| condition["status"] == "True");
    let established = if is_established || conflict.is_none() {
        ("True", "InitialNamesAccepted", "the initial names have been accepted".to_owned())
    } else {
        ("False", "NotAccepted", "not all names are accepted".to_owned())
    };
    status.insert("acceptedNames".to_owned(), names);
    let mut conditions = conditions(&status);
    set(&mut conditions, "NamesAccepted", accepted, now);
    set(&mut conditions, "Established", established, now);
    if is_protected(group) {
        set(&mut conditions, "KubernetesAPIApprovalPolicyConformant", approved(approval_annotation(definition)), now);
    }
    status.insert("conditions".to_owned(), Value::Array(conditions));
    status.entry("storedVersions").or_insert_with(|| json!([]));
    Value::Object(status)
}

/// The status of a deleted definition while its objects are removed.
pub fn terminating(definition: &Value, cleanup: Cleanup, now: Timestamp) -> Value {
    let mut status = match definition.get("status") {
        Some(Value::Object(status)) => status.clone(),
        _ => Map::new(),
    };
    let mut conditions = conditions(&status);
    let said = match cleanup {
        Cleanup::InProgress => {
            ("True", "InstanceDeletionInProgress", "CustomResource deletion is in progress".to_owned())
        }
        Cleanup::Completed => ("False", "InstanceDeletionCompleted", "removed all instances".to_owned()),
    };
    set(&mut conditions, "Terminating", said, now);
    status.insert("conditions".to_owned(), Value::Array(conditions));
    Value::Object(status)
}

fn conditions(status: &Map<String, Value>) -> Vec<Value> {
    status.get("conditions").and_then(Value::as_array).cloned().unwrap_or_default()
}

/// Sets a condition in place or appends it; the transition time moves only with the status word.
fn set(conditions: &mut Vec<Value>, kind: &str, (state, reason, message): (&str, &str, String), now: Timestamp) {
    let position = conditions.iter().position(|condition| condition["type"] == kind);
    let before = position.and_then(|position| conditions.get(position));
    let since = before
        .filter(|before| before["status"] == state && before["lastTransitionTime"].is_string())
        .map_or_else(|| json!(rfc3339(now)), |before| before["lastTransitionTime"].clone());
    let condition = json!({
        "type": kind, "status": state, "lastTransitionTime": since, "reason": reason, "message": message,
    });
    match position.and_then(|position| conditions.get_mut(position)) {
        Some(present) => *present = condition,
        None => conditions.push(condition),
    }
}

fn rfc3339(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn approved(annotation: &str) -> (&'static str, &'static str, String) {
    if annotation.starts_with("unapproved") {
        return ("False", "UnapprovedAnnotation", format!("not approved: \"{annotation}\""));
    }
    if annotation.starts_with("https://") || annotation.starts_with("http://") {
        return ("True", "ApprovedAnnotation", format!("approved in {annotation}"));
    }
    ("False", "InvalidAnnotation", "protected groups must have approval annotation with a URL".to_owned())
}

/// Names that other resources of a group hold.
struct Taken<'a> {
    /// Plural, singular and short names share one space.
    resources: Vec<&'a str>,
    /// As do kinds and list kinds.
    kinds: Vec<&'a str>,
}

impl<'a> Taken<'a> {
    fn of_others(registry: &'a Registry, group: &str, definition: &Value) -> Self {
        let own = definition.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        let mut taken = Self { resources: Vec::new(), kinds: Vec::new() };
        let others = registry.resources().iter().filter(|resource| {
            &*resource.group == group && resource.custom().is_none_or(|custom| &*custom.definition != own)
        });
        for resource in others {
            taken.resources.extend([&*resource.plural, &*resource.singular]);
            taken.resources.extend(resource.short_names.iter().map(String::as_str));
            taken.kinds.extend([&*resource.kind, &*resource.list_kind]);
        }
        taken
    }
}

type Conflict = (&'static str, String);

/// The names to accept, and the last conflict found (as kube-apiserver reports only that one).
fn accept(definition: &Value, taken: &Taken<'_>) -> (Value, Option<Conflict>) {
    let none = json!({});
    let wanted = definition.pointer("/spec/names").unwrap_or(&none);
    let present = definition.pointer("/status/acceptedNames").unwrap_or(&none);
    let mut names = present.as_object().cloned().unwrap_or_default();
    let mut conflict = None;
    let in_use = |name: &str| format!("\"{name}\" is already in use");
    for (key, reason, used) in [
        ("plural", "PluralConflict", &taken.resources),
        ("singular", "SingularConflict", &taken.resources),
        ("shortNames", "ShortNamesConflict", &taken.resources),
        ("kind", "KindConflict", &taken.kinds),
        ("listKind", "ListKindConflict", &taken.kinds),
    ] {
        let is_own = |name: &str| match &present[key] {
            Value::Array(list) => list.iter().any(|own| own == name),
            own => own == name,
        };
        let requested: Vec<&str> = match &wanted[key] {
            Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
            other => other.as_str().into_iter().collect(),
        };
        let clashes: Vec<String> =
            requested.iter().filter(|name| !is_own(name) && used.contains(*name)).map(|name| in_use(name)).collect();
        if clashes.is_empty() {
            copy(wanted, key, &mut names);
        } else {
            let message =
                if let [only] = clashes.as_slice() { only.clone() } else { format!("[{}]", clashes.join(", ")) };
            conflict = Some((reason, message));
        }
    }
    copy(wanted, "categories", &mut names);
    for key in ["plural", "kind"] {
        names.entry(key).or_insert_with(|| json!(""));
    }
    (Value::Object(names), conflict)
}

fn copy(from: &Value, key: &str, to: &mut Map<String, Value>) {
    match from.get(key) {
        None | Some(Value::Null) => {
            to.remove(key);
        }
        Some(value) => {
            to.insert(key.to_owned(), value.clone());
        }
    }
}
