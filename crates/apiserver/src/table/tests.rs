use jiff::Timestamp;
use serde_json::{Value, json};

use super::{IncludeObject, ListMeta, PartialList, Printer, TableOptions, human_duration};
use crate::registry::{Registry, ResourceInfo};

fn now() -> Timestamp {
    "2026-01-02T03:04:05Z".parse().unwrap()
}

#[track_caller]
fn cells(group: &str, plural: &str, object: &Value, expected: &Value) {
    let registry = Registry::builtin();
    let resource = registry.resource(group, plural).unwrap();
    let printer = Printer::new(resource, &resource.versions[0]);
    let found = printer.cells(object, now());
    assert_eq!(found.len(), printer.columns().len());
    assert_eq!(json!(found), *expected);
}

#[test]
fn ages_read_as_kubectl_users_know_them() {
    const DAY: i64 = 86_400;
    for (seconds, text) in [
        (-2, "<invalid>"),
        (-1, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (123, "2m3s"),
        (599, "9m59s"),
        (720, "12m"),
        (10_799, "179m"),
        (11_040, "3h4m"),
        (10_800, "3h"),
        (20 * 3600, "20h"),
        (2 * DAY - 1, "47h"),
        (2 * DAY + 3 * 3600, "2d3h"),
        (8 * DAY, "8d"),
        (30 * DAY, "30d"),
        (2 * 365 * DAY, "2y"),
        ((2 * 365 + 15) * DAY, "2y15d"),
        (9 * 365 * DAY + 5 * DAY, "9y"),
    ] {
        assert_eq!(human_duration(seconds), text, "{seconds}");
    }
}

#[test]
fn built_in_kinds_have_their_columns() {
    let meta = json!({"name": "a", "creationTimestamp": "2026-01-02T03:02:02Z"});
    cells("", "namespaces", &json!({"metadata": meta, "status": {"phase": "Active"}}), &json!(["a", "Active", "2m3s"]));
    cells(
        "",
        "configmaps",
        &json!({"metadata": meta, "data": {"x": "1", "y": "2"}, "binaryData": {"z": ""}}),
        &json!(["a", 3, "2m3s"]),
    );
    cells(
        "",
        "secrets",
        &json!({"metadata": {"name": "a"}, "type": "Opaque"}),
        &json!(["a", "Opaque", 0, "<unknown>"]),
    );
    cells("", "serviceaccounts", &json!({"metadata": meta}), &json!(["a", "2m3s"]));
    cells(
        "",
        "services",
        &json!({"metadata": meta, "spec": {"type": "NodePort", "clusterIP": "None", "selector": {"b": "2", "a": "1"},
            "ports": [{"port": 80, "protocol": "TCP"}, {"port": 53, "protocol": "UDP", "nodePort": 30053}]}}),
        &json!(["a", "NodePort", "None", "<none>", "80/TCP,53:30053/UDP", "2m3s", "a=1,b=2"]),
    );
    cells(
        "",
        "services",
        &json!({"metadata": meta, "spec": {"type": "ExternalName", "externalName": "localhost"}}),
        &json!(["a", "ExternalName", "<none>", "localhost", "<none>", "2m3s", "<none>"]),
    );
    cells(
        "",
        "services",
        &json!({"metadata": meta, "spec": {"type": "LoadBalancer", "clusterIPs": ["10.0.0.1"]}}),
        &json!(["a", "LoadBalancer", "10.0.0.1", "<pending>", "<none>", "2m3s", "<none>"]),
    );
    cells(
        "",
        "endpoints",
        &json!({"metadata": meta, "subsets": [{"addresses": [{"ip": "::1"}, {"ip": "127.0.0.1"}],
            "ports": [{"port": 80}, {"port": 443}]}]}),
        &json!(["a", "[::1]:80,127.0.0.1:80,[::1]:443 + 1 more...", "2m3s"]),
    );
    cells("", "endpoints", &json!({"metadata": meta}), &json!(["a", "<none>", "2m3s"]));
    cells(
        "discovery.k8s.io",
        "endpointslices",
        &json!({"metadata": meta, "addressType": "IPv4", "ports": [{"port": 3000}, {"name": "all"}],
            "endpoints": [{"addresses": ["127.0.0.1"]}]}),
        &json!(["a", "IPv4", "3000,*", "127.0.0.1", "2m3s"]),
    );
    cells(
        "coordination.k8s.io",
        "leases",
        &json!({"metadata": meta, "spec": {"holderIdentity": "me"}}),
        &json!(["a", "me", "2m3s"]),
    );
    cells(
        "apiextensions.k8s.io",
        "customresourcedefinitions",
        &json!({"metadata": meta}),
        &json!(["a", "2026-01-02T03:02:02Z"]),
    );
}

#[test]
fn both_faces_of_an_event_print_alike() {
    let core = json!({"metadata": {"name": "e"}, "type": "Normal", "reason": "Done", "message": " it is done\n",
        "involvedObject": {"kind": "Api", "name": "x"}, "firstTimestamp": "2026-01-02T03:00:05Z",
        "lastTimestamp": "2026-01-02T03:04:00Z", "count": 4, "source": {"component": "c"}});
    let expected = json!(["5s", "Normal", "Done", "api/x", "", "c", "it is done", "4m", 4, "e"]);
    cells("", "events", &core, &expected);
    let newer = json!({"metadata": {"name": "e"}, "type": "Normal", "reason": "Done", "note": "it is done",
        "regarding": {"kind": "Api", "name": "x"}, "eventTime": "2026-01-02T03:00:05.000000Z",
        "series": {"count": 4, "lastObservedTime": "2026-01-02T03:04:00.000000Z"}, "reportingController": "c"});
    cells("events.k8s.io", "events", &newer, &expected);
    cells(
        "",
        "events",
        &json!({"metadata": {"name": "e"}, "eventTime": "2026-01-02T03:04:00.000000Z", "reportingComponent": "c",
            "reportingInstance": "i", "firstTimestamp": null, "lastTimestamp": null}),
        &json!(["5s", "", "", "", "", "c, i", "", "5s", 1, "e"]),
    );
}

fn widget(columns: &Value) -> ResourceInfo {
    ResourceInfo::from_definition(&json!({
        "metadata": {"name": "widgets.example.com", "uid": "u"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{"name": "v1", "served": true, "storage": true, "additionalPrinterColumns": columns,
                "schema": {"openAPIV3Schema": {"type": "object"}}}]},
    }))
    .unwrap()
}

#[test]
fn custom_resources_print_what_their_definition_declares() {
    let resource = widget(&json!([
        {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
        {"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status", "priority": 1},
        {"name": "Hosts", "type": "string", "jsonPath": ".spec.hosts", "description": "All hosts"},
        {"name": "Since", "type": "date", "jsonPath": ".spec.since"},
        {"name": "On", "type": "boolean", "jsonPath": ".spec.on"},
        {"name": "Wrong", "type": "integer", "jsonPath": ".spec.on"},
    ]));
    let printer = Printer::new(&resource, &resource.versions[0]);
    let definitions = serde_json::to_value(printer.columns()).unwrap();
    assert_eq!(definitions[0]["format"], "name");
    assert_eq!(
        definitions[1],
        json!({"name": "Size", "type": "integer", "format": "", "priority": 0,
            "description": "Custom resource definition column (in JSONPath format): .spec.size"})
    );
    assert_eq!(definitions[3]["description"], "All hosts");
    let object = json!({"metadata": {"name": "w"},
        "spec": {"size": 3, "hosts": ["a", "b"], "since": "2026-01-02T03:04:00Z", "on": true},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    assert_eq!(json!(printer.cells(&object, now())), json!(["w", 3, "True", "[\"a\",\"b\"]", "5s", true, null]));
    assert_eq!(
        json!(printer.cells(&json!({"metadata": {"name": "w"}}), now())),
        json!(["w", null, null, null, null, null, null])
    );
}

#[test]
fn custom_resources_without_columns_print_name_and_age() {
    let resource = widget(&json!([]));
    let printer = Printer::new(&resource, &resource.versions[0]);
    let names: Vec<&str> = printer.columns().iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names, ["Name", "Age"]);
    let object = json!({"metadata": {"name": "w", "creationTimestamp": "2026-01-02T03:04:00Z"}});
    assert_eq!(json!(printer.cells(&object, now())), json!(["w", "5s"]));
}

#[test]
fn rows_carry_as_much_of_the_object_as_was_asked_for() {
    let resource = widget(&json!([]));
    let printer = Printer::new(&resource, &resource.versions[0]);
    let object = json!({"kind": "Widget", "metadata": {"name": "w"}, "spec": {}});
    let table = |include, with_columns| {
        let metadata = ListMeta { resource_version: "7".to_owned(), ..ListMeta::default() };
        let options = TableOptions { api_version: "meta.k8s.io/v1", include, with_columns, now: now() };
        serde_json::to_value(printer.table([&object], metadata, options)).unwrap()
    };
    let full = table(IncludeObject::Object, true);
    assert_eq!(full["kind"], "Table");
    assert_eq!(full["apiVersion"], "meta.k8s.io/v1");
    assert_eq!(full["metadata"], json!({"resourceVersion": "7"}));
    assert_eq!(full["columnDefinitions"].as_array().map(Vec::len), Some(2));
    assert_eq!(full["rows"], json!([{"cells": ["w", null], "object": object}]));
    let cut = table(IncludeObject::Metadata, false);
    assert_eq!(cut["columnDefinitions"], Value::Null);
    assert_eq!(
        cut["rows"][0]["object"],
        json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": {"name": "w"}})
    );
    assert_eq!(table(IncludeObject::None, true)["rows"][0]["object"], Value::Null);
}

#[test]
fn include_object_takes_three_words() {
    assert_eq!(IncludeObject::parse(None).unwrap(), IncludeObject::Metadata);
    assert_eq!(IncludeObject::parse(Some("None")).unwrap(), IncludeObject::None);
    let error = IncludeObject::parse(Some("x")).unwrap_err();
    assert_eq!(
        error.message,
        "Unable to convert to Table as requested: includeObject: Invalid value: \"x\": \
         must be 'Metadata', 'Object', 'None', or empty"
    );
    assert_eq!(error.code, 400);
}

#[test]
fn partial_lists_hold_metadata_only() {
    let object = json!({"kind": "Widget", "metadata": {"name": "w"}, "spec": {}});
    let metadata = ListMeta {
        resource_version: "7".to_owned(),
        continue_token: Some("t".to_owned()),
        remaining_item_count: Some(2),
    };
    let list = PartialList::new([&object], metadata, "meta.k8s.io/v1");
    assert_eq!(
        serde_json::to_value(list).unwrap(),
        json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
            "metadata": {"resourceVersion": "7", "continue": "t", "remainingItemCount": 2},
            "items": [{"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": {"name": "w"}}]})
    );
}
