use std::sync::Arc;

use serde_json::{Value, json};

use super::{Lookup, OpenApi, V2_STUB};
use crate::registry::{Registry, ResourceInfo};

fn widget(description: &str) -> Arc<ResourceInfo> {
    let definition = json!({
        "metadata": {"name": "widgets.example.com", "uid": "u"},
        "spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}, "scale": {
                "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}},
                "schema": {"openAPIV3Schema": {"type": "object", "description": description, "properties": {
                    "spec": {"type": "object", "required": ["size"], "properties": {
                        "size": {"type": "integer", "description": "How large."},
                        "object": {"type": "object", "x-kubernetes-embedded-resource": true,
                            "x-kubernetes-preserve-unknown-fields": true}}}}}}}]},
    });
    Arc::new(ResourceInfo::from_definition(&definition).unwrap())
}

fn body(openapi: &OpenApi, path: &str) -> Value {
    let Some(Lookup::Current(document)) = openapi.lookup(path, None) else { panic!("{path} is there") };
    serde_json::from_slice(&document.body).unwrap()
}

/// Every `$ref` must lead to a schema of the same document.
fn check_references(document: &Value, at: &Value) {
    match at {
        Value::Object(map) => map.iter().for_each(|(key, value)| {
            // A schema of schemas also has a property of that name, which is an object.
            if let (Value::String(text), "$ref") = (value, key.as_str()) {
                let name = text.trim_start_matches("#/components/schemas/");
                assert!(document["components"]["schemas"].get(name).is_some(), "{name}");
            }
            check_references(document, value);
        }),
        Value::Array(items) => items.iter().for_each(|item| check_references(document, item)),
        _ => {}
    }
}

#[test]
fn every_kind_has_a_schema_and_a_patch_operation_that_takes_field_validation() {
    let registry = Registry::builtin().with_custom([widget("A widget.")]);
    let openapi = OpenApi::new(&registry, None);
    for resource in registry.resources() {
        let version = &resource.versions[0];
        let identity = json!({"group": &*resource.group, "version": &*version.name, "kind": &*resource.kind});
        let base = if resource.group.is_empty() { "api" } else { "apis" };
        let document = body(&openapi, &format!("{base}/{}", resource.api_version(&version.name)));
        check_references(&document, &document);
        let schemas = document["components"]["schemas"].as_object().unwrap();
        let kinds = |schema: &Value, wanted: &Value| {
            schema["x-kubernetes-group-version-kind"].as_array().is_some_and(|kinds| kinds.contains(wanted))
        };
        assert!(schemas.values().any(|schema| kinds(schema, &identity)), "{identity}");
        let patch =
            document["paths"].as_object().unwrap().values().filter_map(|path| path.get("patch")).find(|operation| {
                operation["x-kubernetes-group-version-kind"] == identity
                    && operation["parameters"]
                        .as_array()
                        .unwrap()
                        .iter()
                        .any(|parameter| parameter["name"] == "fieldValidation" && parameter["in"] == "query")
            });
        assert!(patch.is_some(), "{identity}");
    }
}

#[test]
fn built_in_schemas_have_their_known_names_and_merge_keys() {
    let openapi = OpenApi::new(&Registry::builtin(), None);
    let schemas = body(&openapi, "api/v1")["components"]["schemas"].clone();
    assert_eq!(
        schemas["io.k8s.api.core.v1.ConfigMap"]["x-kubernetes-group-version-kind"],
        json!([{"group": "", "version": "v1", "kind": "ConfigMap"}])
    );
    assert_eq!(schemas["io.k8s.api.core.v1.ConfigMap"].get("required"), None);
    let ports = &schemas["io.k8s.api.core.v1.ServiceSpec"]["properties"]["ports"];
    assert_eq!(ports["x-kubernetes-patch-merge-key"], "port");
    assert_eq!(ports["x-kubernetes-patch-strategy"], "merge");
}

#[test]
fn custom_schemas_gain_what_every_object_has() {
    let openapi = OpenApi::new(&Registry::builtin().with_custom([widget("A widget.")]), None);
    let document = body(&openapi, "apis/example.com/v1");
    let schema = &document["components"]["schemas"]["com.example.v1.Widget"];
    assert_eq!(schema["description"], "A widget.");
    assert_eq!(schema["properties"]["kind"]["type"], "string");
    let metadata = json!([{"$ref": "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}]);
    assert_eq!(schema["properties"]["metadata"]["allOf"], metadata);
    let spec = &schema["properties"]["spec"];
    assert_eq!(spec["required"], json!(["size"]));
    assert_eq!(spec["properties"]["object"]["properties"]["metadata"]["allOf"], metadata);
    let paths = document["paths"].as_object().unwrap();
    let names: Vec<&String> = paths.keys().collect();
    assert_eq!(
        names,
        [
            "/apis/example.com/v1/namespaces/{namespace}/widgets",
            "/apis/example.com/v1/namespaces/{namespace}/widgets/{name}",
            "/apis/example.com/v1/namespaces/{namespace}/widgets/{name}/scale",
            "/apis/example.com/v1/namespaces/{namespace}/widgets/{name}/status",
            "/apis/example.com/v1/widgets",
        ]
    );
}

#[test]
fn the_index_leads_to_every_document() {
    let registry = Registry::builtin().with_custom([widget("A widget.")]);
    let openapi = OpenApi::new(&registry, None);
    let index: Value = serde_json::from_slice(&openapi.index().body).unwrap();
    let paths = index["paths"].as_object().unwrap();
    assert!(paths.contains_key("api/v1"));
    assert!(paths.contains_key("apis/example.com"));
    for (path, entry) in paths {
        let url = entry["serverRelativeURL"].as_str().unwrap();
        let (before, hash) = url.split_once("?hash=").unwrap();
        assert_eq!(before, format!("/openapi/v3/{path}"));
        assert_eq!(hash.len(), 128);
        assert!(matches!(openapi.lookup(path, Some(hash)), Some(Lookup::Immutable(_))));
        let Some(Lookup::Moved(location)) = openapi.lookup(path, Some("OLD")) else { panic!("moved") };
        assert_eq!(location, url);
    }
    assert!(openapi.lookup("apis/none/v1", None).is_none());
}

#[test]
fn documents_are_kept_until_their_resources_change() {
    let first = OpenApi::new(&Registry::builtin().with_custom([widget("One.")]), None);
    let etag = |openapi: &OpenApi, path: &str| match openapi.lookup(path, None) {
        Some(Lookup::Current(document)) => (document.etag.clone(), document.body.as_ptr()),
        _ => panic!("{path} is there"),
    };
    let (core, custom) = (etag(&first, "apis/coordination.k8s.io/v1"), etag(&first, "apis/example.com/v1"));
    let builtin = Registry::builtin();
    let second = OpenApi::new(&builtin, Some(&first));
    assert_eq!(etag(&second, "apis/coordination.k8s.io/v1").0, core.0);
    let third = OpenApi::new(&builtin.with_custom([widget("Two.")]), Some(&second));
    assert_eq!(etag(&third, "apis/coordination.k8s.io/v1"), etag(&second, "apis/coordination.k8s.io/v1"));
    assert_ne!(etag(&third, "apis/example.com/v1").0, custom.0);
}

#[test]
fn the_v2_stub_is_a_document_with_version_and_title() {
    assert_eq!(V2_STUB.len(), 21);
    assert_eq!(V2_STUB[..2], [0x0a, 0x03]);
    assert_eq!(V2_STUB[5..7], [0x12, 0x0e]);
}
