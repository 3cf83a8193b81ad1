use proptest::prelude::*;
use serde_json::{Value, json};

use super::Schema;
use crate::status::FieldPath;

fn schema(spec: &Value) -> Schema {
    let raw = json!({"type": "object", "properties": {"spec": spec, "status": {"type": "object", "properties": {}}}});
    Schema::parse(&raw, &FieldPath::root("schema")).unwrap_or_else(|errors| panic!("{errors:#?}"))
}

fn problems(raw: &Value) -> Vec<String> {
    match Schema::parse(raw, &FieldPath::root("schema")) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    }
}

#[track_caller]
fn refused(spec: &Value, expected: &[&str]) {
    let raw = json!({"type": "object", "properties": {"spec": spec}});
    let found: Vec<String> =
        problems(&raw).iter().map(|text| text.replacen("schema.properties[spec]", "~", 1)).collect();
    assert_eq!(found, expected);
}

#[track_caller]
fn invalid(spec_schema: &Value, spec: &Value, expected: &[(&str, &str)]) {
    let object = json!({"spec": spec});
    let found = schema(spec_schema).validate(&object, None);
    let found: Vec<(String, String)> =
        found.iter().map(|error| (error.kind().cause().to_owned(), error.to_string())).collect();
    let expected: Vec<(String, String)> =
        expected.iter().map(|(cause, text)| (format!("FieldValue{cause}"), (*text).to_owned())).collect();
    assert_eq!(found, expected);
}

#[test]
fn definitions_must_be_structural() {
    refused(&json!({}), &["~.type: Required value: must not be empty for specified object fields"]);
    refused(
        &json!({"type": "array", "items": {}}),
        &["~.items.type: Required value: must not be empty for specified array items"],
    );
    refused(
        &json!({"type": "object", "additionalProperties": {"type": "string"}, "properties": {"a": {"type": "string"}}}),
        &["~.additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive"],
    );
    refused(
        &json!({"type": "object", "$ref": "#/x", "xml": {}}),
        &["~.$ref: Forbidden: $ref is not supported", "~.xml: Forbidden: xml is not supported"],
    );
    refused(
        &json!({"type": "string", "anyOf": [{"type": "string"}, {"description": "x", "minLength": 1}]}),
        &[
            "~.anyOf[0].type: Forbidden: must be empty to be structural",
            "~.anyOf[1].description: Forbidden: must be empty to be structural",
        ],
    );
    refused(
        &json!({"type": "object", "oneOf": [{"properties": {"a": {"minLength": 1}}}]}),
        &["~.properties[a]: Required value: because it is defined in a nested schema (allOf, anyOf, oneOf or not)"],
    );
    refused(
        &json!({"type": "Text"}),
        &[concat!(
            "~.type: Unsupported value: \"Text\": supported values: ",
            "\"array\", \"boolean\", \"integer\", \"number\", \"object\", \"string\""
        )],
    );
    assert_eq!(
        problems(&json!({"type": "string"})),
        ["schema.type: Invalid value: \"string\": must be object at the root"]
    );
    assert_eq!(problems(&json!({})), ["schema.type: Required value: must not be empty at the root"]);
    assert_eq!(
        problems(&json!({"type": "object", "properties": {"metadata": {
            "type": "object", "properties": {"labels": {"type": "object"}}}}})),
        [concat!(
            "schema.properties[metadata]: Forbidden: must not specify anything other than name and generateName, ",
            "but metadata is implicitly specified"
        )]
    );
}

#[test]
fn rules_are_refused_and_never_silently_ignored() {
    let rules = json!([{"rule": "self > 1"}]);
    let text = "x-kubernetes-validations: Forbidden: validation rules are not supported by this version";
    refused(&json!({"type": "integer", "x-kubernetes-validations": rules}), &[&format!("~.{text}")]);
    assert_eq!(problems(&json!({"type": "object", "x-kubernetes-validations": rules})), [format!("schema.{text}")]);
}

#[test]
fn patterns_must_be_re2() {
    refused(
        &json!({"type": "string", "pattern": "a(b"}),
        &["~.pattern: Invalid value: \"a(b\": must be a valid regular expression, but isn't: unclosed group"],
    );
    assert_eq!(
        problems(&json!({"type": "object", "properties": {"a": {"type": "string", "pattern": "(?=x)"}}})).len(),
        1
    );
}

#[test]
fn list_types_need_what_they_stand_on() {
    let item = |properties: Value| json!({"type": "object", "properties": properties});
    refused(
        &json!({"type": "array", "x-kubernetes-list-type": "map", "items": item(json!({"name": {"type": "string"}}))}),
        &["~.x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type is map"],
    );
    refused(
        &json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["a", "b", "c"],
            "items": item(json!({"a": {"type": "string"}, "b": {"type": "object", "default": {}}}))}),
        &[
            concat!(
                "~.items.properties[a].default: Required value: this property is in x-kubernetes-list-map-keys, ",
                "so it must have a default or be a required property"
            ),
            concat!(
                "~.items.properties[b].type: Invalid value: \"object\": ",
                "must be a scalar type if parent array's x-kubernetes-list-type is map"
            ),
            concat!(
                "~.x-kubernetes-list-map-keys[2]: Invalid value: \"c\": ",
                "entries must all be names of item properties"
            ),
        ],
    );
    refused(
        &json!({"type": "array", "x-kubernetes-list-type": "bag", "items": {"type": "string"}}),
        &["~.x-kubernetes-list-type: Unsupported value: \"bag\": supported values: \"atomic\", \"map\", \"set\""],
    );
}

#[test]
fn int_or_string_and_embedded_resources_exclude_what_contradicts_them() {
    refused(
        &json!({"type": "string", "x-kubernetes-int-or-string": true}),
        &["~.type: Invalid value: \"string\": must be empty if x-kubernetes-int-or-string is true"],
    );
    refused(
        &json!({"x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}),
        &["~.type: Required value: must be object if x-kubernetes-embedded-resource is true"],
    );
    refused(&json!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]}), &[]);
    refused(
        &json!({"x-kubernetes-int-or-string": true,
            "allOf": [{"anyOf": [{"type": "integer"}, {"type": "string"}]}, {"pattern": "x"}]}),
        &[],
    );
}

#[test]
fn defaults_must_fit_their_own_schema() {
    refused(
        &json!({"type": "integer", "default": "a"}),
        &[concat!(
            "~.default: Invalid value: \"string\": ",
            "schema.properties[spec].default in body must be of type integer: \"string\""
        )],
    );
    refused(
        &json!({"type": "object", "default": {"b": 1}, "properties": {"a": {"type": "string"}}}),
        &["~.default: Invalid value: {\"b\":1}: must not have fields that the schema does not declare: b"],
    );
    refused(
        &json!({"type": "object", "default": {}, "required": ["a"], "properties": {"a": {"type": "string", "default": "x"}}}),
        &[],
    );
    assert_eq!(
        problems(&json!({"type": "object", "properties": {"metadata": {
            "type": "object", "properties": {"name": {"type": "string", "default": "x"}}}}})),
        ["schema.properties[metadata].properties[name].default: Forbidden: must not be set inside metadata"]
    );
}

#[test]
fn schemas_deeper_than_the_limit_are_refused() {
    let mut raw = json!({"type": "string"});
    for _ in 0..70 {
        raw = json!({"type": "object", "properties": {"a": raw}});
    }
    let found = problems(&raw);
    assert_eq!(found.len(), 1);
    assert!(found[0].ends_with("Forbidden: schemas may be nested at most 64 levels deep"), "{found:?}");
}

#[test]
fn unknown_fields_are_dropped_and_named() {
    let schema = schema(&json!({"type": "object", "properties": {
        "known": {"type": "string"},
        "list": {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string"}}}},
        "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"a": {"type": "string"}}}},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
            "properties": {"strict": {"type": "object", "properties": {}}}},
        "any": {"type": "object", "additionalProperties": true},
        "object": {"type": "object", "x-kubernetes-embedded-resource": true, "properties": {"spec": {"type": "object"}}},
    }}));
    let mut object = json!({
        "apiVersion": "g/v1", "kind": "Widget", "metadata": {"name": "a", "anything": 1}, "extra": 1,
        "spec": {
            "known": "x", "unknown": {"deep": 1},
            "list": [{"a": "x"}, {"b": "y"}],
            "map": {"k": {"a": "x", "b": "y"}},
            "free": {"x": {"y": [1]}, "strict": {"z": 1}},
            "any": {"x": 1},
            "object": {"apiVersion": "v1", "kind": "K", "metadata": {"name": "n"}, "spec": {"a": 1}, "data": 1},
        },
    });
    let unknown = schema.prune(&mut object);
    assert_eq!(
        unknown,
        [
            "extra",
            "spec.free.strict.z",
            "spec.list[1].b",
            "spec.map.k.b",
            "spec.object.data",
            "spec.object.spec.a",
            "spec.unknown"
        ]
    );
    assert_eq!(
        object,
        json!({
            "apiVersion": "g/v1", "kind": "Widget", "metadata": {"name": "a", "anything": 1},
            "spec": {
                "known": "x", "list": [{"a": "x"}, {}], "map": {"k": {"a": "x"}},
                "free": {"x": {"y": [1]}, "strict": {}}, "any": {"x": 1},
                "object": {"apiVersion": "v1", "kind": "K", "metadata": {"name": "n"}, "spec": {}},
            },
        })
    );
}

#[test]
fn defaults_fill_gaps_at_every_level_and_nulls_count_as_gaps() {
    let schema = schema(&json!({"type": "object", "default": {}, "properties": {
        "size": {"type": "integer", "default": 3},
        "nothing": {"type": "string", "nullable": true, "default": "x"},
        "gone": {"type": "string"},
        "list": {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string", "default": "d"}}}},
        "map": {"type": "object", "additionalProperties": {"type": "string", "default": "v"}},
    }}));
    assert!(schema.has_defaults());
    let check = |object: Value, expected: Value| {
        let mut found = object;
        schema.apply_defaults(&mut found);
        assert_eq!(found, expected);
    };
    check(json!({}), json!({"spec": {"size": 3, "nothing": "x"}}));
    check(
        json!({"spec": {"size": null, "nothing": null, "gone": null, "list": [{}, {"a": null}, {"a": "x"}],
            "map": {"k": null}}}),
        json!({"spec": {"size": 3, "nothing": null, "list": [{"a": "d"}, {"a": "d"}, {"a": "x"}], "map": {"k": "v"}}}),
    );
}

#[test]
fn each_check_has_its_words_and_reason() {
    let integer = |more: Value| {
        let mut schema = json!({"type": "integer"});
        schema.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"type": "object", "properties": {"n": schema}})
    };
    let string = |more: Value| {
        let mut schema = json!({"type": "string"});
        schema.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"type": "object", "properties": {"s": schema}})
    };
    invalid(
        &integer(json!({})),
        &json!({"n": "x"}),
        &[("TypeInvalid", "spec.n: Invalid value: \"string\": spec.n in body must be of type integer: \"string\"")],
    );
    invalid(&integer(json!({})), &json!({"n": 1.0}), &[]);
    invalid(
        &json!({"type": "object", "properties": {"p": {"x-kubernetes-int-or-string": true}}}),
        &json!({"p": {}}),
        &[(
            "TypeInvalid",
            "spec.p: Invalid value: \"object\": spec.p in body must be of type integer,string: \"object\"",
        )],
    );
    invalid(
        &string(json!({"enum": ["small", "large"]})),
        &json!({"s": "m"}),
        &[("NotSupported", "spec.s: Unsupported value: \"m\": supported values: \"small\", \"large\"")],
    );
    invalid(
        &integer(json!({"maximum": 10})),
        &json!({"n": 11}),
        &[("Invalid", "spec.n: Invalid value: 11: spec.n in body should be less than or equal to 10")],
    );
    invalid(
        &integer(json!({"maximum": 10.0, "exclusiveMaximum": true})),
        &json!({"n": 10}),
        &[("Invalid", "spec.n: Invalid value: 10: spec.n in body should be less than 10")],
    );
    invalid(
        &integer(json!({"minimum": 1})),
        &json!({"n": 0}),
        &[("Invalid", "spec.n: Invalid value: 0: spec.n in body should be greater than or equal to 1")],
    );
    invalid(
        &integer(json!({"minimum": 1, "exclusiveMinimum": true})),
        &json!({"n": 1}),
        &[("Invalid", "spec.n: Invalid value: 1: spec.n in body should be greater than 1")],
    );
    invalid(
        &integer(json!({"multipleOf": 5})),
        &json!({"n": 7}),
        &[("Invalid", "spec.n: Invalid value: 7: spec.n in body should be a multiple of 5")],
    );
    invalid(
        &integer(json!({"format": "int32"})),
        &json!({"n": 2_147_483_648_u64}),
        &[("Invalid", "<nil>: Invalid value: \"\": Checked value must be of type integer with format int32 in spec.n")],
    );
    invalid(
        &string(json!({"pattern": "^[a-z.]+$"})),
        &json!({"s": "U"}),
        &[("Invalid", "spec.s: Invalid value: \"U\": spec.s in body should match '^[a-z.]+$'")],
    );
    invalid(
        &string(json!({"maxLength": 2})),
        &json!({"s": "ééé"}),
        &[("TooLong", "spec.s: Too long: may not be more than 2 bytes")],
    );
    invalid(&string(json!({"maxLength": 3})), &json!({"s": "ééé"}), &[]);
    invalid(
        &string(json!({"minLength": 3})),
        &json!({"s": "ab"}),
        &[("Invalid", "spec.s: Invalid value: \"ab\": spec.s in body should be at least 3 chars long")],
    );
    invalid(
        &string(json!({"format": "date-time"})),
        &json!({"s": "x"}),
        &[("TypeInvalid", "spec.s: Invalid value: \"x\": spec.s in body must be of type date-time: \"x\"")],
    );
    invalid(&string(json!({"format": "no-such-format"})), &json!({"s": "x"}), &[]);
}

#[test]
fn collections_report_counts_gaps_and_duplicates() {
    let list = |more: Value| {
        let mut schema = json!({"type": "array", "items": {"type": "integer"}});
        schema.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"type": "object", "properties": {"l": schema}})
    };
    invalid(
        &list(json!({"maxItems": 5})),
        &json!({"l": [1, 2, 3, 4, 5, 6]}),
        &[("TooMany", "spec.l: Too many: 6: must have at most 5 items")],
    );
    invalid(
        &list(json!({"minItems": 1})),
        &json!({"l": []}),
        &[("Invalid", "spec.l: Invalid value: 0: spec.l in body should have at least 1 items")],
    );
    invalid(
        &list(json!({})),
        &json!({"l": [1, "a", null]}),
        &[
            (
                "TypeInvalid",
                "spec.l[1]: Invalid value: \"string\": spec.l[1] in body must be of type integer: \"string\"",
            ),
            ("TypeInvalid", "spec.l[2]: Invalid value: \"null\": spec.l[2] in body must be of type integer: \"null\""),
        ],
    );
    invalid(
        &list(json!({"x-kubernetes-list-type": "set"})),
        &json!({"l": [1, 2, 1]}),
        &[("Duplicate", "spec.l[2]: Duplicate value: 1")],
    );
    invalid(
        &json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
            "items": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}}),
        &json!([{"name": "a"}, {"name": "a"}, {}]),
        &[("Required", "spec[2].name: Required value"), ("Duplicate", "spec[1]: Duplicate value: {\"name\":\"a\"}")],
    );
    let map = json!({"type": "object", "properties": {"m": {"type": "object", "additionalProperties": {"type": "string"},
        "minProperties": 1, "maxProperties": 1}}});
    invalid(
        &map,
        &json!({"m": {}}),
        &[("Invalid", "spec.m: Invalid value: 0: spec.m in body should have at least 1 properties")],
    );
    invalid(&map, &json!({"m": {"a": "x", "b": "y"}}), &[("TooMany", "spec.m: Too many: 2: must have at most 1 item")]);
}

#[test]
fn alternatives_say_which_rule_failed_and_why() {
    let one_of = json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
        "oneOf": [{"required": ["a"]}, {"required": ["b"]}]});
    invalid(
        &one_of,
        &json!({}),
        &[
            (
                "Invalid",
                "<nil>: Invalid value: \"\": \"spec\" must validate one and only one schema (oneOf). Found none valid",
            ),
            ("Required", "spec.a: Required value"),
        ],
    );
    invalid(
        &one_of,
        &json!({"a": "x", "b": "y"}),
        &[(
            "Invalid",
            "<nil>: Invalid value: \"\": \"spec\" must validate one and only one schema (oneOf). Found 2 valid alternatives",
        )],
    );
    invalid(&one_of, &json!({"a": "x"}), &[]);
    invalid(
        &json!({"type": "string", "anyOf": [{"minLength": 2}, {"pattern": "^x"}]}),
        &json!("a"),
        &[
            ("Invalid", "<nil>: Invalid value: \"\": \"spec\" must validate at least one schema (anyOf)"),
            ("Invalid", "spec: Invalid value: \"a\": spec in body should be at least 2 chars long"),
        ],
    );
    invalid(
        &json!({"type": "string", "allOf": [{"minLength": 2}, {"pattern": "^a"}]}),
        &json!("a"),
        &[
            ("Invalid", "spec: Invalid value: \"a\": spec in body should be at least 2 chars long"),
            ("Invalid", "<nil>: Invalid value: \"\": \"spec\" must validate all the schemas (allOf)"),
        ],
    );
    invalid(
        &json!({"type": "string", "not": {"pattern": "^a"}}),
        &json!("a"),
        &[("Invalid", "<nil>: Invalid value: \"\": \"spec\" must not validate the schema (not)")],
    );
}

#[test]
fn embedded_resources_are_checked_as_objects() {
    let schema = json!({"type": "object", "x-kubernetes-embedded-resource": true,
        "x-kubernetes-preserve-unknown-fields": true});
    invalid(
        &schema,
        &json!({"metadata": {"labels": {"a": 1}}}),
        &[
            ("Required", "spec.apiVersion: Required value: must not be empty"),
            ("Required", "spec.kind: Required value: must not be empty"),
            (
                "TypeInvalid",
                concat!(
                    "spec.metadata.labels.a: Invalid value: \"integer\": ",
                    "spec.metadata.labels.a in body must be of type string: \"integer\""
                ),
            ),
        ],
    );
    invalid(&schema, &json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"x": 1}}), &[]);
}

#[test]
fn at_most_a_hundred_problems_are_reported() {
    let schema = schema(&json!({"type": "array", "items": {"type": "integer"}}));
    let object = json!({"spec": vec!["x"; 5000]});
    assert_eq!(schema.validate(&object, None).len(), 100);
}

#[test]
fn unchanged_parts_do_not_block_an_update_after_the_schema_was_tightened() {
    let schema = schema(&json!({"type": "object", "properties": {
        "host": {"type": "string", "pattern": "^[a-z]+$"},
        "size": {"type": "integer", "maximum": 10},
        "rules": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
            "items": {"type": "object", "required": ["name"], "properties": {
                "name": {"type": "string"}, "n": {"type": "integer", "maximum": 10}, "m": {"type": "integer"}}}},
        "plain": {"type": "array", "items": {"type": "integer", "maximum": 10}},
    }}));
    let old = json!({"spec": {"host": "OLD", "size": 1, "rules": [{"name": "a", "n": 99}], "plain": [99]}});
    let check = |new: Value, count: usize| {
        let errors = schema.validate(&new, Some(&old));
        assert_eq!(errors.len(), count, "{errors:?}");
    };
    check(json!({"spec": {"host": "OLD", "size": 2, "rules": [{"name": "a", "n": 99}], "plain": [99]}}), 0);
    check(json!({"spec": {"host": "OLD", "rules": [{"name": "b", "n": 1}, {"name": "a", "n": 99, "m": 1}]}}), 0);
    check(json!({"spec": {"host": "NEW", "size": 11, "rules": [{"name": "a", "n": 98}], "plain": [99, 1]}}), 4);
}

/// A schema with every shaping keyword, for the properties below.
fn rich() -> Schema {
    let leaf = json!({"type": "object", "properties": {
        "a": {"type": "string", "default": "d"}, "b": {"type": "integer", "nullable": true}, "c": {"type": "string"}}});
    schema(&json!({"type": "object", "default": {"a": {}}, "properties": {
        "a": leaf,
        "b": {"type": "array", "items": leaf},
        "c": {"type": "object", "additionalProperties": leaf},
        "d": {"x-kubernetes-int-or-string": true},
        "e": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"a": leaf}},
        "f": {"type": "object", "additionalProperties": true},
        "metadata": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string", "default": "z"}},
    }}))
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3_i64..3).prop_map(Value::from),
        "[a-c]{0,2}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 48, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-f]|metadata|spec", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn pruning_twice_is_pruning_once(spec in any_value()) {
        let schema = rich();
        let mut once = json!({"spec": spec});
        schema.prune(&mut once);
        let mut twice = once.clone();
        prop_assert!(schema.prune(&mut twice).is_empty());
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn defaulting_twice_is_defaulting_once_and_adds_nothing_unknown(spec in any_value()) {
        let schema = rich();
        let mut once = json!({"spec": spec});
        schema.prune(&mut once);
        schema.apply_defaults(&mut once);
        let mut twice = once.clone();
        schema.apply_defaults(&mut twice);
        prop_assert!(schema.prune(&mut twice).is_empty());
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn what_is_valid_stays_valid_when_it_is_read_again(spec in any_value()) {
        let schema = rich();
        let mut object = json!({"spec": spec});
        schema.prune(&mut object);
        schema.apply_defaults(&mut object);
        let errors = schema.validate(&object, None);
        let mut again = object.clone();
        schema.prune(&mut again);
        schema.apply_defaults(&mut again);
        prop_assert_eq!(schema.validate(&again, None), errors);
        prop_assert!(schema.validate(&again, Some(&object)).is_empty());
    }
}
