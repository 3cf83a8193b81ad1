//! Events, in both faces.

use serde_json::{Map, Value, json};

use super::{fields, text};
use crate::names;
use crate::status::FieldError;

const MAX_NOTE: usize = 1024;
const MAX_WORD: usize = 128;

/// An Event lives in the namespace of what it is about, or in `default` if that has none.
fn check_namespace(event: &Map<String, Value>, about: &str, problems: &mut Vec<FieldError>) {
    let own = event.get("metadata").map(fields).map_or("", |m| text(m, "namespace"));
    let theirs = event.get(about).map(fields).map_or("", |r| text(r, "namespace"));
    let agrees = if theirs.is_empty() { matches!(own, "" | "default") } else { own == theirs };
    if !agrees {
        problems.push(FieldError::invalid_str(format!("{about}.namespace"), theirs, "does not match event.namespace"));
    }
}

/// What an event is about is a required field that may be empty: typed clients cannot read a list with an event
/// that lacks it.
fn default_about(object: &mut Value, about: &str) {
    if let Some(event) = object.as_object_mut() {
        event.entry(about).or_insert_with(|| json!({}));
    }
}

pub(super) fn core(object: &mut Value, problems: &mut Vec<FieldError>) {
    default_about(object, "involvedObject");
    let event = fields(object);
    check_namespace(event, "involvedObject", problems);
    // Only writers of the newer API set eventTime; they get its rules.
    if event.contains_key("eventTime") {
        check_series(event, "reportingComponent", "message", problems);
    }
}

pub(super) fn newer(object: &mut Value, old: Option<&Value>, problems: &mut Vec<FieldError>) {
    default_about(object, "regarding");
    let event = fields(object);
    check_namespace(event, "regarding", problems);
    if old.is_none() {
        if !event.contains_key("eventTime") {
            problems.push(FieldError::required("eventTime", ""));
        }
        check_series(event, "reportingController", "note", problems);
    }
}

fn check_series(event: &Map<String, Value>, controller: &str, note: &str, problems: &mut Vec<FieldError>) {
    match text(event, controller) {
        "" => problems.push(FieldError::required("reportingController", "")),
        name => super::push_all(problems, "reportingController", name, names::qualified_name(name)),
    }
    for field in ["reportingInstance", "action", "reason"] {
        match text(event, field) {
            "" => problems.push(FieldError::required(field, "")),
            word if word.len() > MAX_WORD => {
                let detail = format!("can have at most {MAX_WORD} characters");
                problems.push(FieldError::invalid_str(field, "", detail));
            }
            _ => {}
        }
    }
    if text(event, note).len() > MAX_NOTE {
        problems.push(FieldError::invalid_str(note, "", format!("can have at most {MAX_NOTE} characters")));
    }
    let kind = text(event, "type");
    if !matches!(kind, "Normal" | "Warning") {
        problems.push(FieldError::invalid_str("type", "", format!("has invalid value: {kind}")));
    }
}
