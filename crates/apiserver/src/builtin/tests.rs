use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::decode::{self, Expected};
use crate::registry::Registry;
use crate::status::ApiError;

/// Takes an object through decoding and admission as a request does; the answer is the object or the 422 message.
fn admit_as(group: &str, plural: &str, mut object: Value, old: Option<&Value>) -> Result<Value, String> {
    let registry = Registry::builtin();
    let resource = registry.served(group, "v1", plural).expect(plural);
    let expected = Expected { group, version: "v1", kind: &resource.kind, is_custom: false };
    decode::check_builtin(&mut object, &expected).map_err(|error| error.message)?;
    let admitted = admit(resource, &mut object, old);
    if admitted.problems.is_empty() {
        return Ok(object);
    }
    Err(ApiError::invalid(group, &resource.kind, "a", admitted.problems).message)
}

fn create(plural: &str, mut object: Value) -> Result<Value, String> {
    if object.get("metadata").is_none() {
        object["metadata"] = json!({"name": "a", "namespace": "n"});
    }
    let group = match plural {
        "endpointslices" => "discovery.k8s.io",
        "leases" => "coordination.k8s.io",
        _ => "",
    };
    admit_as(group, plural, object, None)
}

fn update(plural: &str, old: &Value, mut object: Value) -> Result<Value, String> {
    object["metadata"] = json!({"name": "a", "namespace": "n"});
    let group = if plural == "endpointslices" { "discovery.k8s.io" } else { "" };
    admit_as(group, plural, object, Some(old))
}

fn refused(answer: Result<Value, String>, expected: &str) {
    let message = answer.expect_err("refused");
    assert!(message.contains(expected), "{message}\ndoes not contain\n{expected}");
}

#[test]
fn metadata_rules_hold_for_every_kind() {
    let rows = [
        (json!({}), "metadata.name: Required value: name or generateName is required"),
        (json!({"name": "A"}), "metadata.name: Invalid value: \"A\": a lowercase RFC 1123 subdomain must consist of"),
        (
            json!({"name": "a", "labels": {"/x": "y"}}),
            "metadata.labels: Invalid value: \"/x\": prefix part must be non-empty",
        ),
        (json!({"name": "a", "labels": {"x": "-"}}), "metadata.labels: Invalid value: \"-\": a valid label must be"),
        (
            json!({"name": "a", "annotations": {"x": "y".repeat(262_144)}}),
            "metadata.annotations: Too long: may not be more than 262144 bytes",
        ),
        (
            json!({"name": "a", "finalizers": ["hold"]}),
            "metadata.finalizers: Invalid value: \"hold\": name is neither a standard finalizer name nor is it fully qualified",
        ),
        (
            json!({"name": "a", "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": ""}]}),
            "metadata.ownerReferences.uid: Invalid value: \"\": must not be empty",
        ),
        (
            json!({"name": "a", "ownerReferences": [
                {"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": "1", "controller": true},
                {"apiVersion": "v1", "kind": "ConfigMap", "name": "p", "uid": "2", "controller": true}]}),
            "Only one reference can have Controller set to true. Found \"true\" in references for o and p",
        ),
        (json!({"generateName": "A-", "name": "A-x"}), "metadata.generateName: Invalid value: \"A-\""),
    ];
    for (metadata, expected) in rows {
        refused(create("configmaps", json!({"metadata": metadata})), expected);
    }
    let labels: Map<String, Value> = (0..1001).map(|i| (format!("l{i}"), json!("x"))).collect();
    refused(
        create("configmaps", json!({"metadata": {"name": "a", "labels": labels}})),
        "metadata.labels: Too many: 1001: must have at most 1000 items",
    );
    refused(create("namespaces", json!({"metadata": {"name": "a.b"}})), "must not contain dots");
    assert!(create("configmaps", json!({"metadata": {"name": "a", "annotations": {"Example.COM/x": ""}}})).is_ok());
}

#[test]
fn an_update_does_not_look_again_at_metadata_that_stays() {
    let old = json!({"metadata": {"name": "a", "labels": {"x": "-"}}});
    assert!(admit_as("", "configmaps", old.clone(), Some(&old)).is_ok());
}

#[test]
fn custom_resources_may_have_undotted_finalizers_with_a_warning() {
    let resource = ResourceInfo::from_definition(&json!({
        "metadata": {"name": "widgets.g.io", "uid": "u"},
        "spec": {"group": "g.io", "scope": "Namespaced", "names": {"kind": "Widget", "plural": "widgets"},
                 "versions": [{"name": "v1", "served": true, "storage": true,
                               "schema": {"openAPIV3Schema": {"type": "object"}}}]},
    }))
    .expect("a usable definition");
    let mut object = json!({"metadata": {"name": "a", "finalizers": ["finalizer.ory.hydra.sh"]}});
    let admitted = admit(&resource, &mut object, None);
    assert_eq!(admitted.problems, vec![]);
    assert!(admitted.warnings[0].contains("prefer a domain-qualified finalizer name"), "{:?}", admitted.warnings);
}

#[test]
fn definitions_carry_their_clean_up_finalizer() {
    let registry = Registry::builtin();
    let resource = registry.served("apiextensions.k8s.io", "v1", "customresourcedefinitions").expect("served");
    let finalizers = [crate::crd::CLEANUP_FINALIZER];
    let mut object = json!({"metadata": {"name": "widgets.g.io", "finalizers": finalizers}});
    assert_eq!(admit(resource, &mut object, None), Admitted::default());
}

#[test]
fn config_maps_check_keys_and_sizes() {
    let rows = [
        (
            json!({"data": {"bad key": "x"}}),
            "data[bad key]: Invalid value: \"bad key\": a valid config key must consist of",
        ),
        (
            json!({"data": {"k": "x"}, "binaryData": {"k": "eA=="}}),
            "data[k]: Invalid value: \"k\": duplicate of key present in binaryData",
        ),
        (json!({"data": {"k": "x".repeat(1_048_577)}}), "Too long: may not be more than 1048576 bytes"),
    ];
    for (object, expected) in rows {
        refused(create("configmaps", object), expected);
    }
    assert!(create("configmaps", json!({"data": {"k": "x".repeat(1_048_576)}})).is_ok());
}

#[test]
fn immutable_content_stays() {
    let old = json!({"data": {"k": "v"}, "immutable": true});
    refused(
        update("configmaps", &old, json!({"data": {"k": "w"}})),
        "[immutable: Forbidden: field is immutable when `immutable` is set, data: Forbidden: field is immutable when \
         `immutable` is set]",
    );
    assert!(update("configmaps", &old, old.clone()).is_ok());
    let old = json!({"data": {"k": "eA=="}, "type": "Opaque", "immutable": true});
    refused(update("secrets", &old, json!({"stringData": {"k": "y"}, "immutable": true})), "data: Forbidden");
    assert!(update("secrets", &old, json!({"stringData": {"k": "x"}, "immutable": true})).is_ok());
}

#[test]
fn secrets_merge_string_data_and_default_their_type() {
    let stored =
        create("secrets", json!({"data": {"a": "eA==", "b": "eA=="}, "stringData": {"b": "y"}})).expect("stored");
    assert_eq!(stored["data"], json!({"a": "eA==", "b": "eQ=="}));
    assert_eq!((stored["type"].clone(), stored.get("stringData")), (json!("Opaque"), None));
    let stored =
        update("secrets", &json!({"type": "kubernetes.io/ssh-auth"}), json!({"stringData": {"ssh-privatekey": "x"}}));
    assert_eq!(stored.expect("stored")["type"], json!("kubernetes.io/ssh-auth"));
}

#[test]
fn secret_types_have_required_keys() {
    let rows = [
        (json!({"type": "kubernetes.io/tls"}), "[data[tls.crt]: Required value, data[tls.key]: Required value]"),
        (
            json!({"type": "kubernetes.io/basic-auth"}),
            "[data[username]: Required value, data[password]: Required value]",
        ),
        (json!({"type": "kubernetes.io/ssh-auth"}), "data[ssh-privatekey]: Required value"),
        (
            json!({"type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": "s3cr3t"}}),
            "data[.dockerconfigjson]: Invalid value: \"<secret contents redacted>\": must be valid JSON",
        ),
        (
            json!({"type": "kubernetes.io/service-account-token"}),
            "metadata.annotations[kubernetes.io/service-account.name]: Required value",
        ),
        (json!({"data": {"k": "%"}}), "illegal base64 data at input byte 0"),
    ];
    for (object, expected) in rows {
        refused(create("secrets", object), expected);
    }
    assert!(create("secrets", json!({"type": "kubernetes.io/basic-auth", "stringData": {"username": "u"}})).is_ok());
    refused(
        update("secrets", &json!({"type": "Opaque"}), json!({"type": "x"})),
        "type: Invalid value: \"x\": field is immutable",
    );
}

#[test]
fn namespaces_carry_their_name_as_a_label_and_their_finalizer() {
    let stored = create("namespaces", json!({"metadata": {"name": "shop"}})).expect("stored");
    assert_eq!(stored["metadata"]["labels"], json!({"kubernetes.io/metadata.name": "shop"}));
    assert_eq!(
        (stored["spec"].clone(), stored["status"].clone()),
        (json!({"finalizers": ["kubernetes"]}), json!({"phase": "Active"}))
    );
    let old = json!({"metadata": {"name": "a"}, "status": {"phase": "Terminating"}});
    let kept = update("namespaces", &old, json!({"spec": {}, "status": {"phase": "Terminating"}})).expect("stored");
    assert_eq!((kept["spec"].clone(), kept["status"]["phase"].clone()), (json!({}), json!("Terminating")));
}

#[test]
fn a_service_without_address_is_checked_as_ordinary_and_stored_headless() {
    let stored =
        create("services", json!({"spec": {"ports": [{"port": 80}], "selector": {"app": "x"}}})).expect("stored");
    assert_eq!(
        stored["spec"],
        json!({
            "type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
            "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack", "clusterIP": "None", "clusterIPs": ["None"],
            "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}], "selector": {"app": "x"},
        })
    );
    assert_eq!(stored["status"], json!({"loadBalancer": {}}));
    refused(create("services", json!({"spec": {}})), "spec.ports: Required value");
    assert!(create("services", json!({"spec": {"clusterIP": "None"}})).is_ok());
    let zero = json!({"spec": {"ports": [{"port": 80, "targetPort": 0}]}});
    assert_eq!(create("services", zero).expect("stored")["spec"]["ports"][0]["targetPort"], json!(80));
}

#[test]
fn services_are_validated_with_upstream_words() {
    let ports = |ports: Value| json!({"spec": {"ports": ports}});
    let rows = [
        (ports(json!([{"port": 0}])), "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive"),
        (ports(json!([{"port": 1}, {"port": 2, "name": "b"}])), "spec.ports[0].name: Required value"),
        (
            ports(json!([{"port": 1, "name": "b"}, {"port": 2, "name": "b"}])),
            "spec.ports[1].name: Duplicate value: \"b\"",
        ),
        (
            ports(json!([{"port": 1, "name": "a"}, {"port": 1, "name": "b"}])),
            "spec.ports[1]: Duplicate value: {\"port\":1,\"protocol\":\"TCP\"}",
        ),
        (
            ports(json!([{"port": 1, "protocol": "X"}])),
            "spec.ports[0].protocol: Unsupported value: \"X\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
        ),
        (
            ports(json!([{"port": 1, "targetPort": "a--b"}])),
            "spec.ports[0].targetPort: Invalid value: \"a--b\": must not contain consecutive hyphens",
        ),
        (
            ports(json!([{"port": 1, "nodePort": 30000}])),
            "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
        ),
        (json!({"spec": {"type": "ExternalName"}}), "spec.externalName: Required value"),
        (json!({"spec": {"type": "ExternalName", "externalName": "A B"}}), "spec.externalName: Invalid value: \"A B\""),
        (
            json!({"spec": {"type": "Other", "ports": [{"port": 1}]}}),
            "spec.type: Unsupported value: \"Other\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \
             \"NodePort\"",
        ),
        (
            json!({"spec": {"clusterIP": "x", "ports": [{"port": 1}]}}),
            "spec.clusterIPs[0]: Invalid value: \"x\": must be a valid IP",
        ),
        (
            json!({"spec": {"type": "NodePort", "clusterIP": "None", "ports": [{"port": 1}]}}),
            "may not be set to 'None' for NodePort services",
        ),
    ];
    for (object, expected) in rows {
        refused(create("services", object), expected);
    }
    for name in ["localhost", "127.0.0.1", "example.com."] {
        let service = json!({"spec": {"type": "ExternalName", "externalName": name}});
        let stored = create("services", service).expect("stored");
        assert_eq!(stored["spec"].get("clusterIP"), None);
    }
}

#[test]
fn an_update_keeps_the_address_and_may_change_the_type() {
    let old = create("services", json!({"spec": {"ports": [{"port": 80}]}})).expect("stored");
    let same =
        update("services", &old, json!({"spec": {"ports": [{"port": 80}]}, "status": old["status"]})).expect("stored");
    assert_eq!(same["spec"], old["spec"]);
    let node_port =
        update("services", &old, json!({"spec": {"type": "NodePort", "clusterIP": "None", "ports": [{"port": 80}]}}));
    assert_eq!(node_port.expect("stored")["spec"].get("clusterIP"), None);
    refused(
        update("services", &old, json!({"spec": {"clusterIP": "10.0.0.1", "ports": [{"port": 80}]}})),
        "spec.clusterIPs[0]: Invalid value: [\"10.0.0.1\"]: may not change once set",
    );
    let external = json!({"spec": {"type": "ExternalName", "externalName": "x.io", "clusterIP": "None"}});
    assert_eq!(update("services", &old, external).expect("stored")["spec"].get("clusterIPs"), None);
}

#[test]
fn endpoints_take_loopback_but_neither_link_local_nor_multicast() {
    let subset = |ip: &str| json!({"subsets": [{"addresses": [{"ip": ip}], "ports": [{"port": 3000}]}]});
    for ip in ["127.0.0.1", "::1", "10.0.0.1"] {
        let stored = create("endpoints", subset(ip)).expect(ip);
        assert_eq!(stored["subsets"][0]["ports"][0], json!({"port": 3000, "protocol": "TCP"}));
    }
    let rows = [
        ("169.254.1.1", "may not be in the link-local range"),
        ("fe80::1", "may not be in the link-local range"),
        ("::ffff:169.254.1.1", "may not be in the link-local range"),
        ("224.0.0.1", "may not be in the multicast range"),
        ("0.0.0.0", "may not be unspecified"),
        ("x", "subsets[0].addresses[0].ip: Invalid value: \"x\": must be a valid IP address"),
    ];
    for (ip, expected) in rows {
        refused(create("endpoints", subset(ip)), expected);
    }
    refused(create("endpoints", json!({"subsets": [{}]})), "subsets[0]: Required value: must specify `addresses`");
}

#[test]
fn endpoint_slices_check_addresses_by_their_type() {
    let slice = |kind: &str, address: &str| json!({"addressType": kind, "endpoints": [{"addresses": [address]}], "ports": [{"port": 3000}]});
    let stored = create("endpointslices", slice("IPv4", "127.0.0.1")).expect("stored");
    assert_eq!(stored["ports"], json!([{"name": "", "port": 3000, "protocol": "TCP"}]));
    let rows = [
        (slice("IPv4", "::1"), "endpoints[0].addresses[0]: Invalid value: \"::1\": must be an IPv4 address"),
        (slice("IPv6", "127.0.0.1"), "must be an IPv6 address"),
        (slice("FQDN", "localhost"), "should be a domain with at least two segments"),
        (slice("", "x"), "addressType: Required value"),
        (
            json!({"addressType": "IPv4", "endpoints": [{"addresses": []}]}),
            "endpoints[0].addresses: Required value: must contain at least 1 address",
        ),
        (
            json!({"addressType": "IPv4", "endpoints": [], "ports": [{"port": 1}, {"port": 2}]}),
            "ports[1].name: Duplicate value: \"\"",
        ),
    ];
    for (object, expected) in rows {
        refused(create("endpointslices", object), expected);
    }
    refused(
        update("endpointslices", &slice("IPv4", "127.0.0.1"), slice("IPv6", "::1")),
        "addressType: Invalid value: \"IPv6\": field is immutable",
    );
}

#[test]
fn events_live_where_their_object_lives() {
    let event = |ns: &str| json!({"metadata": {"name": "a", "namespace": "n"}, "involvedObject": {"namespace": ns}});
    assert!(create("events", event("n")).is_ok());
    refused(
        create("events", event("m")),
        "involvedObject.namespace: Invalid value: \"m\": does not match event.namespace",
    );
    refused(create("events", event("")), "does not match event.namespace");
    let newer = json!({"metadata": {"name": "a", "namespace": "n"}, "regarding": {"namespace": "n"}, "type": "Odd"});
    refused(
        admit_as("events.k8s.io", "events", newer, None),
        "[eventTime: Required value, reportingController: Required value, reportingInstance: Required value, action: \
         Required value, reason: Required value, type: Invalid value: \"\": has invalid value: Odd]",
    );
}

#[test]
fn leases_count_from_one_but_transitions_from_zero() {
    refused(
        create("leases", json!({"spec": {"leaseDurationSeconds": 0, "leaseTransitions": -1}})),
        "[spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0, spec.leaseTransitions: Invalid value: -1: \
         must be greater than or equal to 0]",
    );
    assert!(create("leases", json!({"spec": {"leaseDurationSeconds": 15, "leaseTransitions": 0}})).is_ok());
}

const KINDS: [(&str, &str); 8] = [
    ("", "configmaps"),
    ("", "secrets"),
    ("", "services"),
    ("", "endpoints"),
    ("", "namespaces"),
    ("discovery.k8s.io", "endpointslices"),
    ("coordination.k8s.io", "leases"),
    ("events.k8s.io", "events"),
];

/// Values that fit the fields of several kinds, right and wrong.
fn body() -> impl Strategy<Value = Value> {
    let field = prop_oneof![
        Just(json!({"ports": [{"port": 80}, {"port": 80, "name": "x"}], "clusterIP": ""})),
        Just(json!({"type": "ExternalName", "externalName": "localhost"})),
        Just(json!({"ports": [{"port": 80, "targetPort": "http"}]})),
        Just(json!({"leaseDurationSeconds": 3})),
        Just(json!({"k": "eA=="})),
        Just(json!([{"addresses": [{"ip": "127.0.0.1"}]}])),
        Just(json!([{"addresses": ["127.0.0.1"]}])),
        Just(json!("IPv4")),
        Just(json!(null)),
    ];
    proptest::collection::btree_map(
        prop_oneof![
            Just("spec"),
            Just("data"),
            Just("stringData"),
            Just("subsets"),
            Just("endpoints"),
            Just("ports"),
            Just("addressType"),
            Just("type"),
            Just("status"),
        ],
        field,
        0..5,
    )
    .prop_map(|map| {
        let mut object: Map<String, Value> = map.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        object.insert("metadata".to_owned(), json!({"name": "a", "namespace": "n"}));
        Value::Object(object)
    })
}

proptest! {
    /// What was stored can be read and written back: a PUT of a GET changes nothing.
    #[test]
    fn admitting_a_stored_object_again_changes_nothing(kind in 0..KINDS.len(), object in body()) {
        let (group, plural) = KINDS[kind];
        if let Ok(stored) = admit_as(group, plural, object, None) {
            let again = admit_as(group, plural, stored.clone(), Some(&stored));
            prop_assert_eq!(again, Ok(stored));
        }
    }
}
