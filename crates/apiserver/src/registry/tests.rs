use serde_json::json;

use super::*;

fn widgets() -> ResourceInfo {
    let schema = json!({"type": "object"});
    ResourceInfo::from_definition(&json!({
        "metadata": {"name": "widgets.example.com", "uid": "u"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget", "shortNames": ["wg"], "categories": ["all"]},
            "versions": [
                {"name": "v1beta1", "served": true, "storage": false, "deprecated": true, "schema": {"openAPIV3Schema": schema}},
                {"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema},
                 "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}},
                 "additionalPrinterColumns": [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}]},
                {"name": "v1alpha1", "served": false, "storage": false, "schema": {"openAPIV3Schema": schema}}
            ]
        }
    }))
    .unwrap()
}

#[test]
fn versions_are_ordered_by_stability_then_number() {
    let mut versions =
        ["foo10", "v1", "v10beta3", "v11alpha2", "foo1", "v12alpha1", "v2", "v10", "v11beta2", "v3beta1"];
    versions.sort_by(|a, b| compare_versions(a, b));
    assert_eq!(
        versions,
        ["v10", "v2", "v1", "v11beta2", "v10beta3", "v3beta1", "v12alpha1", "v11alpha2", "foo1", "foo10"]
    );
}

#[test]
fn built_in_kinds_are_found_by_group_version_and_plural() {
    let registry = Registry::builtin();
    let config_maps = registry.served("", "v1", "configmaps").unwrap();
    assert_eq!(&*config_maps.kind, "ConfigMap");
    assert_eq!(config_maps.qualified(), "configmaps");
    assert!(registry.served("", "v2", "configmaps").is_none());
    assert!(registry.served("apps", "v1", "configmaps").is_none());
    assert!(registry.serves("coordination.k8s.io", "v1"));
    assert!(!registry.resource("", "namespaces").unwrap().allows(Verb::DeleteCollection));
    assert_eq!(&*registry.resource("events.k8s.io", "events").unwrap().storage_group, "");
}

#[test]
fn a_definition_becomes_a_resource_with_its_preferred_version_first() {
    let widgets = widgets();
    assert_eq!(
        widgets.versions.iter().map(|version| &*version.name).collect::<Vec<_>>(),
        ["v1", "v1beta1", "v1alpha1"]
    );
    assert_eq!(&*widgets.storage_version, "v1");
    assert_eq!((&*widgets.singular, &*widgets.list_kind), ("widget", "WidgetList"));
    let v1 = widgets.version("v1").unwrap();
    assert!(v1.has_status());
    assert_eq!(&*v1.subresource("scale").unwrap().kind, "Scale");
    assert_eq!(v1.columns[0].json_path, ".spec.size");
    assert_eq!(
        widgets.version("v1beta1").unwrap().deprecation_warning.as_deref(),
        Some("example.com/v1beta1 Widget is deprecated")
    );
}

#[test]
fn a_definition_without_storage_version_is_refused() {
    let error = ResourceInfo::from_definition(&json!({
        "metadata": {"name": "a.b", "uid": "u"},
        "spec": {"group": "b", "names": {"plural": "a", "kind": "A"}, "versions": []}
    }))
    .unwrap_err();
    assert_eq!(error.to_string(), "definition has no usable `storage version`");
}

#[test]
fn custom_resources_follow_the_built_in_ones_and_replace_earlier_ones() {
    let first = Registry::builtin().with_custom([Arc::new(widgets())]);
    assert_eq!(first.generation(), 1);
    assert_eq!(&*first.groups().last().unwrap().name, "example.com");
    assert!(first.served("example.com", "v1beta1", "widgets").is_some());
    assert!(first.served("example.com", "v1alpha1", "widgets").is_none());
    assert_eq!(first.in_group_version("example.com", "v1").count(), 1);
    let second = first.with_custom([]);
    assert_eq!(second.generation(), 2);
    assert!(second.resource("example.com", "widgets").is_none());
    assert!(second.group("example.com").is_none());
}
