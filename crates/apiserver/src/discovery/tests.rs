use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use super::{AggregatedVersion, Discovery};
use crate::registry::{Registry, ResourceInfo};

fn registry() -> Registry {
    let version = |name: &str, served: bool, storage: bool| {
        json!({"name": name, "served": served, "storage": storage,
            "schema": {"openAPIV3Schema": {"type": "object"}}, "subresources": {"status": {}, "scale": {
                "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}}})
    };
    let definition = json!({
        "metadata": {"name": "widgets.example.com", "uid": "u"},
        "spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget", "shortNames": ["wg"], "categories": ["all"]},
            "versions": [version("v1beta1", true, false), version("v1", true, true), version("v1alpha1", false, false)]},
    });
    Registry::builtin().with_custom([Arc::new(ResourceInfo::from_definition(&definition).unwrap())])
}

fn value(body: &Bytes) -> Value {
    serde_json::from_slice(body).unwrap()
}

#[test]
fn groups_list_served_versions_preferred_first() {
    let discovery = Discovery::new(&registry());
    let groups = value(discovery.groups());
    assert_eq!(groups["kind"], "APIGroupList");
    assert_eq!(groups["apiVersion"], "v1");
    let last = groups["groups"].as_array().unwrap().last().unwrap();
    assert_eq!(
        *last,
        json!({"name": "example.com",
            "versions": [{"groupVersion": "example.com/v1", "version": "v1"},
                {"groupVersion": "example.com/v1beta1", "version": "v1beta1"}],
            "preferredVersion": {"groupVersion": "example.com/v1", "version": "v1"}})
    );
    let one = value(discovery.group("example.com").unwrap());
    assert_eq!(one["kind"], "APIGroup");
    assert_eq!(one["name"], "example.com");
    assert!(discovery.group("").is_none());
    assert!(discovery.group("none").is_none());
}

#[test]
fn resources_list_their_subresources() {
    let discovery = Discovery::new(&registry());
    let list = value(discovery.resources("example.com", "v1").unwrap());
    assert_eq!(list["kind"], "APIResourceList");
    assert_eq!(list["groupVersion"], "example.com/v1");
    let mut main = list["resources"][0].clone();
    let hash = main.as_object_mut().unwrap().remove("storageVersionHash").unwrap();
    assert_eq!(hash.as_str().map(str::len), Some(12));
    assert_eq!(
        main,
        json!({"name": "widgets", "singularName": "widget", "namespaced": true, "kind": "Widget",
            "verbs": ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"],
            "shortNames": ["wg"], "categories": ["all"]})
    );
    assert_eq!(
        list["resources"][1],
        json!({"name": "widgets/status", "singularName": "", "namespaced": true, "kind": "Widget",
            "verbs": ["get", "patch", "update"]})
    );
    assert_eq!(
        list["resources"][2],
        json!({"name": "widgets/scale", "singularName": "", "namespaced": true, "group": "autoscaling",
            "version": "v1", "kind": "Scale", "verbs": ["get", "patch", "update"]})
    );
    assert!(discovery.resources("example.com", "v1alpha1").is_none());
    let core = value(discovery.resources("", "v1").unwrap());
    assert_eq!(core["groupVersion"], "v1");
    assert_eq!(core["resources"][0]["name"], "configmaps");
}

#[test]
fn the_core_group_names_the_server_address() {
    assert_eq!(
        value(&Discovery::core_versions("127.0.0.1:6443")),
        json!({"kind": "APIVersions", "versions": ["v1"],
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": "127.0.0.1:6443"}]})
    );
}

#[test]
fn aggregated_documents_are_the_same_under_both_names() {
    let discovery = Discovery::new(&registry());
    let document = discovery.aggregated_groups(AggregatedVersion::V2);
    assert_eq!(document.etag.len(), 130);
    let body = value(&document.body);
    let last = body["items"].as_array().unwrap().last().unwrap();
    assert_eq!(last["metadata"], json!({"name": "example.com"}));
    assert_eq!(
        last["versions"][0],
        json!({"version": "v1", "freshness": "Current", "resources": [{
            "resource": "widgets", "responseKind": {"group": "example.com", "version": "v1", "kind": "Widget"},
            "scope": "Namespaced", "singularResource": "widget",
            "verbs": ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"],
            "shortNames": ["wg"], "categories": ["all"],
            "subresources": [
                {"subresource": "status", "responseKind": {"group": "example.com", "version": "v1", "kind": "Widget"},
                    "verbs": ["get", "patch", "update"]},
                {"subresource": "scale", "responseKind": {"group": "autoscaling", "version": "v1", "kind": "Scale"},
                    "verbs": ["get", "patch", "update"]}]}]})
    );
    let mut older = value(&discovery.aggregated_groups(AggregatedVersion::V2Beta1).body);
    assert_eq!(older["apiVersion"], "apidiscovery.k8s.io/v2beta1");
    older["apiVersion"] = json!("apidiscovery.k8s.io/v2");
    assert_eq!(older, body);
    let core = value(&discovery.aggregated_core(AggregatedVersion::V2).body);
    assert_eq!(core["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(core["items"][0]["metadata"], json!({}));
}

#[test]
fn the_validator_changes_with_the_document_only() {
    let [one, two] = [Discovery::new(&registry()), Discovery::new(&registry())];
    let etag = |discovery: &Discovery| discovery.aggregated_groups(AggregatedVersion::V2).etag.clone();
    assert_eq!(etag(&one), etag(&two));
    assert_ne!(etag(&one), etag(&Discovery::new(&Registry::builtin())));
}

#[test]
fn the_root_lists_paths() {
    let paths = value(Discovery::new(&registry()).root());
    let paths: Vec<&str> = paths["paths"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    for path in ["/api", "/api/v1", "/apis/example.com", "/apis/example.com/v1beta1", "/openapi/v3", "/readyz"] {
        assert!(paths.contains(&path), "{path}");
    }
    assert!(paths.is_sorted());
}
