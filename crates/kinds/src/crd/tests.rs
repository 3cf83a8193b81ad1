//! The definitions against expectations written by hand from SPEC 30 §2.1, §2.2 and 60 §1.1.

use serde_json::{Value, json};

use super::*;

fn definition(name: &str) -> Value {
    crds(&["localhost".to_owned()]).into_iter().find(|crd| crd["metadata"]["name"] == name).expect(name)
}

fn spec_schema() -> Value {
    definition("apis.gateway.kyma-project.io")["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
        .clone()
}

/// Everything of a schema that decides about an object; sentences left out.
fn without_descriptions(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            // A property may itself be called `description`; then its value is an object.
            let kept = map.iter().filter(|(key, value)| *key != "description" || value.is_object());
            Value::Object(kept.map(|(key, value)| (key.clone(), without_descriptions(value))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(without_descriptions).collect()),
        other => other.clone(),
    }
}

#[test]
fn every_kind_has_its_definition() {
    let names: Vec<String> = crds(&["localhost".to_owned()])
        .iter()
        .map(|crd| {
            assert_eq!(crd["apiVersion"], "apiextensions.k8s.io/v1");
            assert_eq!(crd["kind"], "CustomResourceDefinition");
            assert_eq!(crd["spec"]["scope"], "Namespaced");
            crd["metadata"]["name"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(
        names,
        [
            "apis.gateway.kyma-project.io",
            "virtualservices.networking.istio.io",
            "gateways.networking.istio.io",
            "requestauthentications.security.istio.io",
            "authorizationpolicies.security.istio.io",
            "policies.authentication.istio.io",
        ]
    );
}

#[test]
fn the_newest_version_is_stored_and_all_show_the_same_body() {
    for (name, versions) in [
        ("apis.gateway.kyma-project.io", vec!["v1alpha2"]),
        ("virtualservices.networking.istio.io", vec!["v1alpha3", "v1beta1", "v1"]),
        ("gateways.networking.istio.io", vec!["v1alpha3", "v1beta1", "v1"]),
        ("requestauthentications.security.istio.io", vec!["v1beta1", "v1"]),
        ("authorizationpolicies.security.istio.io", vec!["v1beta1", "v1"]),
        ("policies.authentication.istio.io", vec!["v1alpha1"]),
    ] {
        let crd = definition(name);
        let served: Vec<&Value> = crd["spec"]["versions"].as_array().unwrap().iter().collect();
        let names: Vec<&str> = served.iter().map(|version| version["name"].as_str().unwrap()).collect();
        assert_eq!(names, versions, "{name}");
        for version in &served {
            assert_eq!(version["storage"], json!(version["name"] == *versions.last().unwrap()), "{name}");
            assert_eq!(version["served"], true, "{name}");
            assert_eq!(version["subresources"]["status"], json!({}), "{name}");
            assert_eq!(version["schema"], served[0]["schema"], "{name}");
        }
    }
}

#[test]
fn api_names_and_columns_are_those_that_users_know() {
    let crd = definition("apis.gateway.kyma-project.io");
    let names = &crd["spec"]["names"];
    assert_eq!((&names["kind"], &names["plural"], &names["singular"]), (&json!("Api"), &json!("apis"), &json!("api")));
    let columns: Vec<(&str, &str, &str)> = crd["spec"]["versions"][0]["additionalPrinterColumns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| (c["name"].as_str().unwrap(), c["type"].as_str().unwrap(), c["jsonPath"].as_str().unwrap()))
        .collect();
    assert_eq!(
        columns,
        [
            ("Hostname", "string", ".spec.hostname"),
            ("Service", "string", ".spec.service.name"),
            ("Validation", "integer", ".status.validationStatus"),
            ("VirtualService", "integer", ".status.virtualServiceStatus.code"),
            ("Authentication", "integer", ".status.authenticationStatus.code"),
            ("Age", "date", ".metadata.creationTimestamp"),
        ]
    );
}

#[test]
fn api_spec_has_the_documented_rules() {
    let url = r"^(?:https?:\/\/)?(?:[^@\/\n]+@)?(?:www\.)?([^:\/\n]+)";
    let text = json!({"type": "string", "minLength": 1, "maxLength": 2048});
    let paths = json!({
        "type": "array", "nullable": true, "maxItems": 256,
        "items": {
            "type": "object", "minProperties": 1, "maxProperties": 1,
            "properties": {"exact": text, "prefix": text, "suffix": text, "regex": text},
            "oneOf": [{"required": ["exact"]}, {"required": ["prefix"]}, {"required": ["suffix"]}, {"required": ["regex"]}],
        },
    });
    let expected = json!({
        "type": "object",
        "required": ["hostname", "service"],
        "properties": {
            "service": {
                "type": "object",
                "required": ["name", "port"],
                "properties": {
                    "name": {"type": "string", "minLength": 1, "maxLength": 63},
                    "port": {"type": "integer", "format": "int32", "minimum": 1, "maximum": 65535},
                },
            },
            "hostname": {
                "type": "string", "minLength": 3, "maxLength": 256,
                "pattern": r"^([A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9\-]{0,61}[A-Za-z0-9])(\.(localhost))?$",
            },
            "authenticationEnabled": {"type": "boolean", "nullable": true},
            "disableIstioAuthPolicyMTLS": {"type": "boolean", "nullable": true},
            "authentication": {
                "type": "array", "nullable": true, "maxItems": 64,
                "items": {
                    "type": "object",
                    "required": ["jwt", "type"],
                    "properties": {
                        "type": {"type": "string", "enum": ["JWT"]},
                        "jwt": {
                            "type": "object",
                            "required": ["issuer", "jwksUri"],
                            "properties": {
                                "issuer": {"type": "string", "minLength": 1, "maxLength": 2048, "pattern": url},
                                "jwksUri": {"type": "string", "minLength": 1, "maxLength": 2048, "pattern": url},
                                "triggerRule": {
                                    "type": "object", "nullable": true,
                                    "properties": {
                                        "excludedPaths": paths,
                                        "includedPaths": paths,
                                        "methods": {
                                            "type": "array", "nullable": true, "maxItems": 16,
                                            "items": {"type": "string", "minLength": 1, "maxLength": 32, "pattern": "^[A-Z][A-Z-]*$"},
                                        },
                                    },
                                },
                            },
                        },
                    },
                },
            },
        },
    });
    assert_eq!(without_descriptions(&spec_schema()), expected);
}

#[test]
fn both_names_of_the_virtual_service_block_are_declared_alike() {
    let crd = definition("apis.gateway.kyma-project.io");
    let status = without_descriptions(
        &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"],
    );
    let block = json!({
        "type": "object",
        "required": ["code"],
        "properties": {
            "code": {"type": "integer", "format": "int32", "minimum": 0, "maximum": 5},
            "lastError": {"type": "string"},
            "resource": {"type": "object", "properties": {
                "name": {"type": "string"}, "uid": {"type": "string"}, "version": {"type": "string"},
            }},
        },
    });
    for name in ["virtualServiceStatus", "virtualService", "authenticationStatus"] {
        assert_eq!(status[name], block, "{name}");
    }
    assert_eq!(status["validationStatus"], json!({"type": "integer", "format": "int32", "minimum": 0, "maximum": 5}));
    assert_eq!(status["conditions"]["x-kubernetes-list-map-keys"], json!(["type"]));
    assert!(status["enforcedSpec"]["properties"]["service"].is_object());
}

/// SPEC 60 §13.2: what a structural schema must not hold.
#[test]
fn schemas_are_structural_and_explain_every_field() {
    fn walk(path: &str, schema: &Value, missing: &mut Vec<String>) {
        let map = schema.as_object().unwrap_or_else(|| panic!("{path}: not an object"));
        assert!(map.get("type").is_some_and(Value::is_string), "{path}: no type");
        for banned in ["$ref", "definitions", "title", "default", "anyOf", "allOf", "not", "additionalProperties"] {
            assert!(!map.contains_key(banned), "{path}: {banned}");
        }
        for branch in map.get("oneOf").and_then(Value::as_array).into_iter().flatten() {
            assert_eq!(branch.as_object().unwrap().keys().collect::<Vec<_>>(), ["required"], "{path}");
        }
        for (name, child) in map.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let path = format!("{path}.{name}");
            if !child["description"].as_str().is_some_and(|text| text.len() > 10 && !text.contains('\n')) {
                missing.push(path.clone());
            }
            walk(&path, child, missing);
        }
        if let Some(items) = map.get("items") {
            walk(&format!("{path}[]"), items, missing);
        }
    }
    let mut missing = Vec::new();
    for crd in crds(&["localhost".to_owned(), "kyma.local".to_owned()]) {
        for version in crd["spec"]["versions"].as_array().unwrap() {
            let schema = &version["schema"]["openAPIV3Schema"];
            assert!(
                schema["description"].as_str().is_some_and(|text| text.ends_with('.')),
                "{}",
                crd["metadata"]["name"]
            );
            walk(crd["metadata"]["name"].as_str().unwrap(), schema, &mut missing);
        }
    }
    assert!(missing.is_empty(), "fields without a sentence: {missing:#?}");
}

#[test]
fn hostname_pattern_follows_the_domains() {
    let pattern = regex::Regex::new(&hostname_pattern(&["localhost".to_owned(), "kyma.local".to_owned()])).unwrap();
    for good in ["svc", "s", "svc.localhost", "a-b.kyma.local", "SVC.kyma.local", &"a".repeat(63)] {
        assert!(pattern.is_match(good), "{good}");
    }
    for bad in [
        "svc.other.example",
        "a.b.localhost",
        "-a",
        "a-",
        "a_b",
        "svc.kymaxlocal",
        "",
        &"a".repeat(64),
        "svc.localhost.",
        "*.localhost",
    ] {
        assert!(!pattern.is_match(bad), "{bad}");
    }
}

#[test]
fn free_form_specs_preserve_what_they_do_not_know() {
    for crd in crds(&["localhost".to_owned()]).iter().skip(1) {
        let spec = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        assert_eq!(spec["x-kubernetes-preserve-unknown-fields"], true, "{}", crd["metadata"]["name"]);
        assert_eq!(crd["spec"]["conversion"]["strategy"], "None");
    }
}
