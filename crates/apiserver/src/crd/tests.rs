use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::conversion::{Converter, Converters};
use super::status::{Cleanup, compute, terminating};
use super::{
    apply_defaults, initial_status, instance, is_true, stamp_stored_version, validate_create, validate_status_update,
    validate_update,
};
use crate::registry::{Registry, ResourceInfo};

fn now() -> Timestamp {
    "2026-01-02T03:04:05Z".parse().unwrap()
}

fn widgets() -> Value {
    let mut definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com", "uid": "u1"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget", "shortNames": ["wg"], "categories": ["all"]},
            "versions": [
                {"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                    "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                        "spec": {"type": "object", "properties": {
                            "size": {"type": "integer", "default": 3}, "color": {"type": "string"}}},
                        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}}},
                {"name": "v1beta1", "served": true, "storage": false,
                    "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                        "spec": {"type": "object", "properties": {"color": {"type": "string"}}}}}}},
            ],
        },
    });
    apply_defaults(&mut definition);
    definition
}

fn established() -> Value {
    let mut definition = widgets();
    stamp_stored_version(&mut definition);
    definition["status"] = compute(&definition, &Registry::builtin(), now());
    definition
}

#[track_caller]
fn refused(change: impl FnOnce(&mut Value), expected: &[&str]) {
    let mut definition = widgets();
    change(&mut definition);
    let found: Vec<String> = validate_create(&definition).iter().map(ToString::to_string).collect();
    assert_eq!(found, expected);
}

#[test]
fn defaults_name_the_singular_the_list_and_no_conversion() {
    let definition = widgets();
    assert_eq!(definition["spec"]["names"]["singular"], "widget");
    assert_eq!(definition["spec"]["names"]["listKind"], "WidgetList");
    assert_eq!(definition["spec"]["conversion"], json!({"strategy": "None"}));
    assert_eq!(validate_create(&definition), []);
    let mut broken = json!({"spec": {"names": [], "conversion": 1}});
    apply_defaults(&mut broken);
    assert_eq!(broken, json!({"spec": {"names": [], "conversion": 1}}));
}

#[test]
fn broken_definitions_are_refused_with_every_reason() {
    refused(
        |d| d["metadata"]["name"] = json!("x"),
        &["metadata.name: Invalid value: \"x\": must be spec.names.plural+\".\"+spec.group"],
    );
    refused(
        |d| d["spec"]["scope"] = json!("Galaxy"),
        &["spec.scope: Unsupported value: \"Galaxy\": supported values: \"Cluster\", \"Namespaced\""],
    );
    refused(
        |d| {
            d["spec"]["versions"][0]["schema"] = Value::Null;
        },
        &["spec.versions[0].schema.openAPIV3Schema: Required value: schemas are required"],
    );
    refused(
        |d| d["spec"]["conversion"] = json!({"strategy": "Webhook", "webhook": {}}),
        &["spec.conversion.strategy: Forbidden: webhook conversion is not supported by this version"],
    );
    refused(
        |d| {
            d["spec"]["versions"][0]["additionalPrinterColumns"] =
                json!([{"name": "", "type": "text", "format": "x", "jsonPath": "spec.size"}]);
        },
        &[
            "spec.versions[0].additionalPrinterColumns[0].name: Required value",
            concat!(
                "spec.versions[0].additionalPrinterColumns[0].type: Invalid value: \"text\": ",
                "must be one of boolean,date,integer,number,string"
            ),
            concat!(
                "spec.versions[0].additionalPrinterColumns[0].format: Invalid value: \"x\": ",
                "must be one of byte,date,date-time,double,float,int32,int64,password"
            ),
            concat!(
                "spec.versions[0].additionalPrinterColumns[0].jsonPath: Invalid value: \"spec.size\": ",
                "must be a simple json path starting with ."
            ),
        ],
    );
    refused(
        |d| {
            d["spec"]["versions"][0]["subresources"]["scale"] =
                json!({"specReplicasPath": ".status.x", "statusReplicasPath": ".status.list[0]"});
        },
        &[
            "spec.versions[0].subresources.scale.specReplicasPath: Invalid value: \".status.x\": should be a json path under .spec",
            concat!(
                "spec.versions[0].subresources.scale.statusReplicasPath: Invalid value: \".status.list[0]\": ",
                "must be a json path in the dot notation"
            ),
        ],
    );
    refused(
        |d| {
            d["spec"]["versions"][0]["selectableFields"] =
                json!([{"jsonPath": ".spec.color"}, {"jsonPath": ".spec.none"}, {"jsonPath": ".status"}]);
        },
        &[
            concat!(
                "spec.versions[0].selectableFields[1].jsonPath: Invalid value: \".spec.none\": ",
                "does not refer to a valid field"
            ),
            concat!(
                "spec.versions[0].selectableFields[2].jsonPath: Invalid value: \".status\": ",
                "must point to a field of type string, boolean, or integer"
            ),
        ],
    );
}

#[test]
fn exactly_one_version_is_stored_and_names_are_unique() {
    let errors = |change: fn(&mut Value)| {
        let mut definition = widgets();
        change(&mut definition);
        validate_create(&definition).iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    for change in [
        (|d: &mut Value| d["spec"]["versions"][1]["storage"] = json!(true)) as fn(&mut Value),
        |d| d["spec"]["versions"][0]["storage"] = json!(false),
        |d| d["spec"]["versions"] = json!([]),
    ] {
        let found = errors(change);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].ends_with("must have exactly one version marked as storage version"));
    }
    let found = errors(|d| d["spec"]["versions"][1]["name"] = json!("v1"));
    assert_eq!(found.len(), 1);
    assert!(found[0].ends_with("must contain unique version names"));
}

#[test]
fn community_groups_need_an_approval() {
    let mut definition = widgets();
    definition["spec"]["group"] = json!("apps.k8s.io");
    definition["metadata"]["name"] = json!("widgets.apps.k8s.io");
    let found = validate_create(&definition);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].path(), "metadata.annotations[api-approved.kubernetes.io]");
    definition["metadata"]["annotations"] = json!({"api-approved.kubernetes.io": "https://example.com/1"});
    assert_eq!(validate_create(&definition), []);
    definition["status"] = compute(&definition, &Registry::builtin(), now());
    assert!(is_true(&definition, "KubernetesAPIApprovalPolicyConformant"));
}

#[test]
fn established_definitions_keep_kind_scope_and_stored_versions() {
    let old = established();
    assert_eq!(validate_update(&old, &old), []);
    let update = |change: fn(&mut Value)| {
        let mut new = old.clone();
        change(&mut new);
        validate_update(&new, &old).iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(
        update(|d| d["spec"]["scope"] = json!("Cluster")),
        ["spec.scope: Invalid value: \"Cluster\": field is immutable"]
    );
    assert_eq!(
        update(|d| d["spec"]["names"]["kind"] = json!("Gadget")),
        ["spec.names.kind: Invalid value: \"Gadget\": field is immutable"]
    );
    assert_eq!(
        update(|d| {
            d["spec"]["versions"] = json!([d["spec"]["versions"][1].clone()]);
            d["spec"]["versions"][0]["storage"] = json!(true);
        }),
        [concat!(
            "status.storedVersions[0]: Invalid value: \"v1\": missing from spec.versions; v1 was previously a storage ",
            "version, and must remain in spec.versions until a storage migration ensures no data remains persisted in ",
            "v1 and removes v1 from status.storedVersions"
        )]
    );
    let mut fresh = widgets();
    fresh["status"] = initial_status();
    let mut renamed = fresh.clone();
    renamed["spec"]["scope"] = json!("Cluster");
    assert_eq!(validate_update(&renamed, &fresh), []);
}

#[test]
fn status_writes_keep_the_storage_version_noted() {
    let old = established();
    let mut new = old.clone();
    new["status"]["storedVersions"] = json!(["v1beta1"]);
    assert_eq!(validate_status_update(&new, &old).len(), 1);
    new["status"]["storedVersions"] = json!(["v1", "v1beta1"]);
    assert_eq!(validate_status_update(&new, &old), []);
    new["status"]["storedVersions"] = json!([]);
    assert_eq!(validate_status_update(&new, &old).len(), 1);
}

#[test]
fn storing_versions_are_noted_once() {
    let mut definition = widgets();
    stamp_stored_version(&mut definition);
    stamp_stored_version(&mut definition);
    assert_eq!(definition["status"]["storedVersions"], json!(["v1"]));
    assert_eq!(definition["status"]["conditions"], Value::Null);
    definition["spec"]["versions"][0]["storage"] = json!(false);
    definition["spec"]["versions"][1]["storage"] = json!(true);
    stamp_stored_version(&mut definition);
    assert_eq!(definition["status"]["storedVersions"], json!(["v1", "v1beta1"]));
}

#[test]
fn free_names_are_accepted_and_establish_the_definition() {
    let definition = established();
    assert_eq!(
        definition["status"],
        json!({
            "acceptedNames": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList",
                "shortNames": ["wg"], "categories": ["all"]},
            "conditions": [
                {"type": "NamesAccepted", "status": "True", "lastTransitionTime": "2026-01-02T03:04:05Z",
                    "reason": "NoConflicts", "message": "no conflicts found"},
                {"type": "Established", "status": "True", "lastTransitionTime": "2026-01-02T03:04:05Z",
                    "reason": "InitialNamesAccepted", "message": "the initial names have been accepted"},
            ],
            "storedVersions": ["v1"],
        })
    );
    let later = "2026-02-02T03:04:05Z".parse().unwrap();
    assert_eq!(compute(&definition, &Registry::builtin(), later), definition["status"]);
}

#[test]
fn names_in_use_keep_a_definition_from_being_served() {
    let served = Arc::new(ResourceInfo::from_definition(&established()).unwrap());
    let registry = Registry::builtin().with_custom([served]);
    let mut other = widgets();
    other["metadata"] = json!({"name": "things.example.com", "uid": "u2"});
    other["spec"]["names"] = json!({"plural": "things", "kind": "Thing", "shortNames": ["wg"]});
    apply_defaults(&mut other);
    other["status"] = compute(&other, &registry, now());
    let conditions = &other["status"]["conditions"];
    assert_eq!(conditions[0]["reason"], "ShortNamesConflict");
    assert_eq!(conditions[0]["message"], "\"wg\" is already in use");
    assert_eq!(conditions[1]["status"], "False");
    assert_eq!(conditions[1]["reason"], "NotAccepted");
    assert_eq!(conditions[1]["message"], "not all names are accepted");
    assert_eq!(other["status"]["acceptedNames"]["plural"], "things");
    assert_eq!(other["status"]["acceptedNames"].get("shortNames"), None);

    other["spec"]["names"] =
        json!({"plural": "widget", "singular": "widgets", "kind": "Widget", "listKind": "WidgetList"});
    other["status"] = compute(&other, &registry, now());
    assert_eq!(other["status"]["conditions"][0]["reason"], "ListKindConflict");

    // Its own names never clash with themselves, and another group is another world.
    let own = compute(&established(), &registry, now());
    assert_eq!(own["conditions"][0]["status"], "True");
    other["spec"]["group"] = json!("example.org");
    assert_eq!(compute(&other, &registry, now())["conditions"][0]["status"], "True");
}

#[test]
fn an_established_definition_stays_so_when_new_names_clash() {
    let mut other = established();
    other["metadata"]["name"] = json!("things.example.com");
    other["spec"]["names"] = json!({"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"});
    other["status"] = compute(&other, &Registry::builtin(), now());
    let registry = Registry::builtin().with_custom([Arc::new(ResourceInfo::from_definition(&established()).unwrap())]);
    other["spec"]["names"]["shortNames"] = json!(["wg"]);
    other["status"] = compute(&other, &registry, now());
    assert!(is_true(&other, "Established"));
    assert!(!is_true(&other, "NamesAccepted"));
}

#[test]
fn deletion_is_told_as_a_condition() {
    let mut definition = established();
    definition["status"] = terminating(&definition, Cleanup::InProgress, now());
    assert_eq!(
        definition["status"]["conditions"][2],
        json!({"type": "Terminating", "status": "True", "lastTransitionTime": "2026-01-02T03:04:05Z",
            "reason": "InstanceDeletionInProgress", "message": "CustomResource deletion is in progress"})
    );
    definition["status"] = terminating(&definition, Cleanup::Completed, now());
    assert_eq!(definition["status"]["conditions"][2]["reason"], "InstanceDeletionCompleted");
}

#[test]
fn objects_are_read_in_any_version() {
    let resource = ResourceInfo::from_definition(&established()).unwrap();
    let converters = Converters::default();
    let stored = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "a"},
        "spec": {"color": "red"}});
    let in_version = |name: &str| {
        instance::present(&converters, &resource, resource.version(name).unwrap(), &stored).unwrap().into_owned()
    };
    assert_eq!(in_version("v1")["spec"], json!({"color": "red", "size": 3}));
    let mut expected = stored.clone();
    expected["apiVersion"] = json!("example.com/v1beta1");
    assert_eq!(in_version("v1beta1"), expected);
}

struct Upper;

impl Converter for Upper {
    fn convert(&self, object: &mut Value, from: &str, to: &str) -> Result<(), String> {
        let color = object["spec"]["color"].as_str().unwrap_or_default();
        if color.is_empty() {
            return Err("no color".to_owned());
        }
        object["spec"]["color"] = json!(format!("{color} {from} {to}"));
        Ok(())
    }
}

#[test]
fn registered_converters_change_the_shape() {
    let resource = ResourceInfo::from_definition(&established()).unwrap();
    let converters = Converters::default().with("widgets.example.com", Arc::new(Upper));
    let mut object = json!({"apiVersion": "example.com/v1", "spec": {"color": "red"}});
    converters.convert(&resource, &mut object, "v1beta1").unwrap();
    assert_eq!(object, json!({"apiVersion": "example.com/v1beta1", "spec": {"color": "red v1 v1beta1"}}));
    let mut broken = json!({"apiVersion": "example.com/v1", "spec": {}});
    let error = converters.convert(&resource, &mut broken, "v1beta1").unwrap_err();
    assert_eq!(error.to_string(), "conversion of widgets.example.com from v1 to v1beta1 failed: no color");
}

#[test]
fn only_the_wanted_part_of_an_object_counts_as_a_new_generation() {
    let resource = ResourceInfo::from_definition(&established()).unwrap();
    let (with_status, without) = (resource.version("v1").unwrap(), resource.version("v1beta1").unwrap());
    let old = json!({"metadata": {"name": "a"}, "spec": {"size": 1}, "status": {"x": 1}});
    let check = |change: fn(&mut Value), expected: (bool, bool)| {
        let mut new = old.clone();
        change(&mut new);
        let found =
            (instance::raises_generation(with_status, &new, &old), instance::raises_generation(without, &new, &old));
        assert_eq!(found, expected);
    };
    check(|o| o["metadata"]["labels"] = json!({"a": "b"}), (false, false));
    check(|o| o["spec"]["size"] = json!(2), (true, true));
    check(|o| o["status"]["x"] = json!(2), (false, true));
}

#[test]
fn admission_prunes_defaults_and_validates() {
    let resource = ResourceInfo::from_definition(&established()).unwrap();
    let mut object = json!({"spec": {"color": 1, "typo": 1}});
    let admitted = instance::admit(resource.version("v1").unwrap(), &mut object, None);
    assert_eq!(admitted.unknown_fields, ["spec.typo"]);
    assert_eq!(admitted.errors.len(), 1);
    assert_eq!(object, json!({"spec": {"color": 1, "size": 3}}));
}

#[test]
fn the_definitions_of_the_product_are_valid_and_do_not_clash() {
    let mut registry = Registry::builtin();
    let mut served = Vec::new();
    let domains = ["kyma.local".to_owned(), "example.com".to_owned()];
    for mut definition in tidegate_kinds::crds(&domains) {
        let name = definition["metadata"]["name"].to_string();
        definition["metadata"]["uid"] = json!(format!("uid of {name}"));
        apply_defaults(&mut definition);
        assert_eq!(validate_create(&definition), [], "{name}");
        stamp_stored_version(&mut definition);
        definition["status"] = compute(&definition, &registry, now());
        assert!(is_true(&definition, "Established"), "{name}: {}", definition["status"]);
        assert_eq!(validate_update(&definition, &definition), [], "{name}");
        served.push(Arc::new(ResourceInfo::from_definition(&definition).unwrap()));
        registry = Registry::builtin().with_custom(served.clone());
    }
    let api = registry.kind("gateway.kyma-project.io", "Api").expect("Api is one of them");
    let mut object = json!({
        "apiVersion": "gateway.kyma-project.io/v1alpha2", "kind": "Api", "metadata": {"name": "sample"},
        "spec": {"service": {"name": "sample", "port": 80}, "hostname": "sample.example.com", "typo": 1,
            "authentication": [{"type": "JWT", "jwt": {"issuer": "https://dex", "jwksUri": "http://dex/keys"}}]},
    });
    let admitted = instance::admit(&api.versions[0], &mut object, None);
    assert_eq!(admitted, instance::Admitted { unknown_fields: vec!["spec.typo".to_owned()], errors: Vec::new() });
    object["spec"]["service"]["port"] = json!("http");
    let admitted = instance::admit(&api.versions[0], &mut object, None);
    assert_eq!(admitted.errors[0].path(), "spec.service.port");
}
