//! Events have one storage, in the form of core/v1, and a second face in `events.k8s.io/v1` (SPEC 60 §14). Pure.

use serde_json::Value;

/// Fields by their core name and their name in `events.k8s.io`; all others are called the same.
const RENAMED: [(&str, &str); 7] = [
    ("message", "note"),
    ("involvedObject", "regarding"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

/// A core Event as `events.k8s.io/v1` shows it.
pub(super) fn to_events_face(core: &Value) -> Value {
    renamed(core, "events.k8s.io/v1", |name| RENAMED.iter().find(|(core, _)| *core == name).map(|(_, events)| *events))
}

/// An `events.k8s.io/v1` Event as it is stored.
pub(super) fn to_core_face(event: &Value) -> Value {
    renamed(event, "v1", |name| RENAMED.iter().find(|(_, events)| *events == name).map(|(core, _)| *core))
}

fn renamed(object: &Value, api_version: &str, name: impl Fn(&str) -> Option<&'static str>) -> Value {
    let fields = object.as_object().into_iter().flatten();
    let mut out: serde_json::Map<String, Value> = fields
        .map(|(field, value)| (name(field).map_or_else(|| field.clone(), str::to_owned), value.clone()))
        .collect();
    out.insert("apiVersion".to_owned(), api_version.into());
    Value::Object(out)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_reads_back_through_its_other_face() {
        let core = json!({
            "apiVersion": "v1", "kind": "Event", "metadata": {"name": "a"}, "message": "m", "reason": "r",
            "involvedObject": {"kind": "Pod"}, "source": {"component": "c"}, "count": 2, "type": "Normal",
            "reportingComponent": "c", "firstTimestamp": "t"
        });
        let face = to_events_face(&core);
        assert_eq!(
            (&face["note"], &face["regarding"]["kind"], &face["deprecatedCount"], &face["reportingController"]),
            (&json!("m"), &json!("Pod"), &json!(2), &json!("c"))
        );
        assert_eq!(face["apiVersion"], "events.k8s.io/v1");
        assert_eq!(to_core_face(&face), core);
    }
}
