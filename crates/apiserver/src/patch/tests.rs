use proptest::prelude::*;
use serde_json::{Map, json};

use super::*;

fn apply(kind: PatchKind, of: &str, original: &Value, patch: &Value) -> Result<Value, ApiError> {
    Patch::parse(kind, patch.to_string().as_bytes())?.apply("", of, original)
}

fn strategic(of: &str, original: &Value, patch: &Value) -> Value {
    apply(PatchKind::Strategic, of, original, patch).expect("patch applies")
}

#[test]
fn content_types_choose_the_rules_and_custom_resources_have_no_strategic_merge() {
    let kind = PatchKind::from_content_type("application/strategic-merge-patch+json; charset=utf-8", false);
    assert_eq!(kind, Ok(PatchKind::Strategic));
    let error = PatchKind::from_content_type("application/strategic-merge-patch+json", true).expect_err("415");
    assert_eq!(error.code, 415);
    assert_eq!(
        error.message,
        "the body of the request was in an unknown format - accepted media types include: \
         application/json-patch+json, application/merge-patch+json"
    );
}

#[test]
fn json_patch_applies_every_operation_in_order() {
    let patch = json!([
        {"op": "test", "path": "/data/a", "value": "1"},
        {"op": "add", "path": "/data/b", "value": "2"},
        {"op": "copy", "from": "/data/b", "path": "/data/c"},
        {"op": "move", "from": "/data/a", "path": "/data/d"},
        {"op": "replace", "path": "/data/b", "value": "3"},
        {"op": "remove", "path": "/data/c"},
    ]);
    let patched = apply(PatchKind::Json, "ConfigMap", &json!({"data": {"a": "1"}}), &patch);
    assert_eq!(patched, Ok(json!({"data": {"b": "3", "d": "1"}})));
}

#[test]
fn a_failing_json_patch_names_the_operation_but_no_value() {
    let original = json!({"data": {"x": "secret"}});
    let rows = [
        (json!([{"op": "test", "path": "/data/x", "value": "1"}]), "patch[0]", "test failed at /data/x"),
        (
            json!([{"op": "add", "path": "/data/y", "value": "1"}, {"op": "remove", "path": "/nope"}]),
            "patch[1]",
            "path does not exist: /nope",
        ),
        (json!([{"op": "copy", "from": "/no", "path": "/data/z"}]), "patch[0]", "from does not exist: /no"),
        (
            json!([{"op": "frob", "path": "/data"}]),
            "patch[0]",
            "op must be one of add, remove, replace, move, copy, test",
        ),
        (
            json!([{"op": "move", "from": "/data", "path": "/data/y"}]),
            "patch[0]",
            "cannot move a value into itself: /data/y",
        ),
    ];
    for (patch, field, message) in rows {
        let error = apply(PatchKind::Json, "ConfigMap", &original, &patch).expect_err("fails");
        assert_eq!(error.code, 422);
        assert_eq!(error.message, "the server rejected our request due to an error in our request");
        let cause = error.details.expect("has details").causes.remove(0);
        assert_eq!((cause.reason, cause.field.as_str(), cause.message.as_str()), ("FieldValueInvalid", field, message));
    }
}

#[test]
fn malformed_patch_bodies_are_400_and_long_ones_413() {
    let rows: [(PatchKind, &[u8], u16, &str); 4] = [
        (
            PatchKind::Json,
            b"{}",
            400,
            "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp",
        ),
        (PatchKind::Merge, b"", 400, "error decoding patch: unexpected end of JSON input"),
        (
            PatchKind::Merge,
            b"[]",
            400,
            "error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}",
        ),
        (PatchKind::Strategic, b"{", 400, "error decoding patch: unexpected end of JSON input"),
    ];
    for (kind, body, code, message) in rows {
        let error = Patch::parse(kind, body).expect_err("refused");
        assert_eq!((error.code, error.message.as_str()), (code, message));
    }
    let many: Vec<Value> = (0..10_001).map(|_| json!({"op": "test", "path": "", "value": 1})).collect();
    let error = Patch::parse(PatchKind::Json, Value::from(many).to_string().as_bytes()).expect_err("too many");
    assert_eq!(error.code, 413);
    assert_eq!(error.message, "The allowed maximum operations in a JSON patch is 10000, got 10001");
}

#[test]
fn copies_cannot_make_an_object_explode() {
    let double = json!({"op": "copy", "from": "/data", "path": "/data/x"});
    let patch = Value::from(vec![double; 400]);
    let original = json!({"data": {"k": "v".repeat(1000)}});
    let error = apply(PatchKind::Json, "ConfigMap", &original, &patch).expect_err("bounded");
    assert_eq!(error.code, 422);
    let deeper = json!([{"op": "add", "path": "/a", "value": {}}, {"op": "copy", "from": "", "path": "/a/b"}]);
    let ops: Vec<Value> = (0..2000).flat_map(|_| deeper.as_array().expect("list").clone()).collect();
    let error = apply(PatchKind::Json, "ConfigMap", &json!({}), &Value::from(ops));
    assert!(error.is_ok_and(|v| decode::json::depth(&v) <= 512));
}

#[test]
fn kind_and_api_version_cannot_be_patched() {
    let original = json!({"apiVersion": "v1", "kind": "ConfigMap"});
    let error = apply(PatchKind::Merge, "ConfigMap", &original, &json!({"kind": "Secret"})).expect_err("400");
    assert_eq!((error.code, error.message.as_str()), (400, "the kind of the object (`ConfigMap`) cannot be patched"));
    let error = apply(PatchKind::Json, "ConfigMap", &original, &json!([{"op": "replace", "path": "", "value": 1}]));
    assert_eq!(error.expect_err("422").code, 422);
}

#[test]
fn strategic_merge_joins_ports_by_number() {
    let service = json!({"spec": {"ports": [{"port": 80, "name": "a"}, {"port": 443, "name": "b"}]}});
    let patch = json!({"spec": {"ports": [{"port": 443, "name": "c"}, {"port": 22}]}});
    assert_eq!(
        strategic("Service", &service, &patch),
        json!({"spec": {"ports": [{"port": 80, "name": "a"}, {"port": 443, "name": "c"}, {"port": 22}]}})
    );
}

#[test]
fn strategic_merge_directives_do_what_the_table_says() {
    let service = json!({"spec": {"ports": [{"port": 80}, {"port": 443}], "selector": {"a": "1", "b": "2"}}});
    let rows = [
        (
            json!({"spec": {"ports": [{"$patch": "delete", "port": 80}]}}),
            json!({"ports": [{"port": 443}], "selector": {"a": "1", "b": "2"}}),
        ),
        (
            json!({"spec": {"ports": [{"$patch": "replace"}, {"port": 1}]}}),
            json!({"ports": [{"port": 1}], "selector": {"a": "1", "b": "2"}}),
        ),
        (
            json!({"spec": {"selector": {"$patch": "replace", "c": "3"}}}),
            json!({"ports": [{"port": 80}, {"port": 443}], "selector": {"c": "3"}}),
        ),
        (json!({"spec": {"selector": {"$patch": "delete"}}}), json!({"ports": [{"port": 80}, {"port": 443}]})),
        (
            json!({"spec": {"selector": {"$retainKeys": ["b"], "b": "4"}}}),
            json!({"ports": [{"port": 80}, {"port": 443}], "selector": {"b": "4"}}),
        ),
        (json!({"spec": {"selector": null}}), json!({"ports": [{"port": 80}, {"port": 443}]})),
        (
            json!({"spec": {"$setElementOrder/ports": [{"port": 443}, {"port": 22}, {"port": 80}], "ports": [{"port": 22}]}}),
            json!({"ports": [{"port": 443}, {"port": 22}, {"port": 80}], "selector": {"a": "1", "b": "2"}}),
        ),
    ];
    for (patch, expected) in rows {
        assert_eq!(strategic("Service", &service, &patch), json!({"spec": expected}), "{patch}");
    }
}

#[test]
fn finalizers_are_a_set_with_deletion_and_order() {
    let object = json!({"metadata": {"finalizers": ["a/1", "b/2"]}});
    let patch = json!({"metadata": {"finalizers": ["b/2", "c/3"]}});
    assert_eq!(strategic("ConfigMap", &object, &patch), json!({"metadata": {"finalizers": ["a/1", "b/2", "c/3"]}}));
    let patch = json!({"metadata": {
        "$deleteFromPrimitiveList/finalizers": ["a/1"],
        "$setElementOrder/finalizers": ["c/3", "b/2"],
        "finalizers": ["c/3"],
    }});
    assert_eq!(strategic("ConfigMap", &object, &patch), json!({"metadata": {"finalizers": ["c/3", "b/2"]}}));
}

#[test]
fn unnamed_elements_stay_in_front_of_the_next_named_one() {
    let object = json!({"metadata": {"finalizers": ["x/0", "a/1", "y/0", "b/2", "z/0"]}});
    let patch = json!({"metadata": {"$setElementOrder/finalizers": ["a/1", "n/9", "b/2"], "finalizers": ["n/9"]}});
    assert_eq!(
        strategic("ConfigMap", &object, &patch),
        json!({"metadata": {"finalizers": ["x/0", "a/1", "n/9", "y/0", "b/2", "z/0"]}})
    );
}

#[test]
fn lists_without_a_rule_are_replaced() {
    let object = json!({"subsets": [{"ports": [{"port": 1}]}]});
    let patch = json!({"subsets": [{"ports": [{"port": 2, "name": null}]}]});
    assert_eq!(strategic("Endpoints", &object, &patch), json!({"subsets": [{"ports": [{"port": 2}]}]}));
}

#[test]
fn malformed_strategic_patches_are_400_without_values() {
    let service = json!({"spec": {"ports": [{"port": 80}]}});
    let rows = [
        (json!({"spec": {"ports": [{"name": "zz"}]}}), "map: map[name] does not contain declared merge key: port"),
        (json!({"spec": {"$patch": "merge", "a": "s3cr3t"}}), "unknown patch type: merge in map: map[$patch a]"),
        (
            json!({"spec": {"$setElementOrder/ports": [{"port": 80}], "ports": [{"port": 22}]}}),
            "The order in patch list:\n[22]\n doesn't match $setElementOrder list:\n[80]\n",
        ),
        (json!({"spec": {"$setElementOrder/ports": 1}}), "the value of `$setElementOrder/ports` must be a list"),
        (json!({"spec": {"ports": [1]}}), "expected a list of maps with merge key port in spec.ports"),
    ];
    for (patch, message) in rows {
        let error = apply(PatchKind::Strategic, "Service", &service, &patch).expect_err("refused");
        assert_eq!((error.code, error.message.as_str()), (400, message));
    }
}

/// Objects of small maps, so that patches hit existing keys often.
fn tree() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![Just(Value::Null), (0..3i64).prop_map(Value::from), "[xy]".prop_map(Value::from)];
    let inner = leaf.prop_recursive(3, 24, 3, |inner| {
        prop_oneof![
            3 => proptest::collection::btree_map("[abc]", inner.clone(), 0..4)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
            1 => proptest::collection::vec(inner, 0..3).prop_map(Value::from),
        ]
    });
    proptest::collection::btree_map("[abc]", inner, 0..4).prop_map(|m| Value::Object(m.into_iter().collect()))
}

fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.clone(), without_nulls(v))).collect(),
        ),
        other => other.clone(),
    }
}

/// The merge patch that turns `old` into `new`.
fn difference(old: &Map<String, Value>, new: &Map<String, Value>) -> Value {
    let mut patch = Map::new();
    for key in old.keys().filter(|k| !new.contains_key(*k)) {
        patch.insert(key.clone(), Value::Null);
    }
    for (key, value) in new {
        match (old.get(key), value) {
            (Some(same), value) if same == value => {}
            (Some(Value::Object(old)), Value::Object(new)) => {
                patch.insert(key.clone(), difference(old, new));
            }
            _ => {
                patch.insert(key.clone(), value.clone());
            }
        }
    }
    Value::Object(patch)
}

proptest! {
    #[test]
    fn a_merge_patch_applied_twice_changes_nothing_more(object in tree(), patch in tree()) {
        let once = apply(PatchKind::Merge, "X", &object, &patch).expect("applies");
        let twice = apply(PatchKind::Merge, "X", &once, &patch).expect("applies");
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn the_difference_of_two_objects_turns_one_into_the_other(old in tree(), new in tree()) {
        let (old, new) = (without_nulls(&old), without_nulls(&new));
        let patch = difference(old.as_object().expect("object"), new.as_object().expect("object"));
        for kind in [PatchKind::Merge, PatchKind::Strategic] {
            let patched = apply(kind, "X", &old, &patch).expect("applies");
            // A list element may hold null values, which strategic merge drops.
            prop_assert_eq!(strip(&patched), strip(&new));
        }
    }

    #[test]
    fn json_patch_and_serde_agree_on_a_whole_replacement(old in tree(), new in tree()) {
        let operations: Vec<Value> = old.as_object().expect("object").keys()
            .map(|k| json!({"op": "remove", "path": format!("/{k}")}))
            .chain(new.as_object().expect("object").iter()
                .map(|(k, v)| json!({"op": "add", "path": format!("/{k}"), "value": v})))
            .collect();
        prop_assert_eq!(apply(PatchKind::Json, "X", &old, &Value::from(operations)), Ok(new));
    }

    #[test]
    fn keyed_lists_merge_like_a_map_from_key_to_element(
        old in proptest::collection::btree_map(0..6u8, 0..3u8, 0..5),
        changes in proptest::collection::btree_map(0..6u8, proptest::option::of(0..3u8), 0..5),
    ) {
        let element = |port: &u8, node: &u8| json!({"port": port, "nodePort": node});
        let service = json!({"spec": {"ports": old.iter().map(|(p, n)| element(p, n)).collect::<Vec<_>>()}});
        let patch: Vec<Value> = changes.iter().map(|(port, node)| match node {
            Some(node) => element(port, node),
            None => json!({"port": port, "$patch": "delete"}),
        }).collect();
        let mut model = old.clone();
        for (port, node) in &changes {
            match node {
                Some(node) => { model.insert(*port, *node); }
                None => { model.remove(port); }
            }
        }
        let patched = strategic("Service", &service, &json!({"spec": {"ports": patch}}));
        let mut ports = patched["spec"]["ports"].as_array().expect("list").clone();
        ports.sort_by_key(|p| p["port"].as_u64());
        let expected: Vec<Value> = model.iter().map(|(p, n)| element(p, n)).collect();
        prop_assert_eq!(ports, expected);
    }

    #[test]
    fn set_element_order_puts_all_named_elements_in_that_order(
        old in proptest::collection::hash_set("[a-f]/x", 0..6),
        order in Just(["a/x", "b/x", "c/x", "d/x", "e/x", "f/x"]).prop_shuffle(),
        take in 0..6usize,
    ) {
        let object = json!({"metadata": {"finalizers": old}});
        let order = &order[..take];
        let patch = json!({"metadata": {"$setElementOrder/finalizers": order}});
        let patched = strategic("ConfigMap", &object, &patch);
        let after: Vec<&str> = patched["metadata"]["finalizers"].as_array().expect("list").iter()
            .filter_map(Value::as_str).collect();
        let named: Vec<&str> = after.iter().copied().filter(|f| order.contains(f)).collect();
        let expected: Vec<&str> = order.iter().copied().filter(|f| old.contains(*f)).collect();
        prop_assert_eq!(named, expected);
        prop_assert_eq!(after.len(), old.len());
    }

    #[test]
    fn arbitrary_patches_never_panic(object in tree(), body in "[\\[\\]{}:,\"$apth/0 ]{0,40}") {
        for kind in [PatchKind::Json, PatchKind::Merge, PatchKind::Strategic] {
            if let Ok(patch) = Patch::parse(kind, body.as_bytes()) {
                let _ = patch.apply("", "Service", &object);
            }
        }
    }
}

fn strip(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            Value::Object(map.iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.clone(), strip(v))).collect())
        }
        Value::Array(list) => list.iter().map(strip).collect(),
        other => other.clone(),
    }
}

#[test]
fn a_json_patch_may_test_that_a_member_is_absent() {
    let patch = br#"[{"op":"test","path":"/metadata/finalizers","value":null},{"op":"add","path":"/metadata/finalizers","value":["e.com/x"]}]"#;
    let patch = Patch::parse(PatchKind::Json, patch).unwrap();
    let patched = patch.apply("", "ConfigMap", &json!({"metadata": {"name": "a"}})).unwrap();
    assert_eq!(patched["metadata"]["finalizers"], json!(["e.com/x"]));
    assert!(patch.apply("", "ConfigMap", &json!({"metadata": {"finalizers": []}})).is_err());
    assert!(patch.apply("", "ConfigMap", &json!({})).is_err());
}
