use proptest::prelude::*;
use serde_json::json;

use super::*;

const CONFIG_MAP: Expected<'_> = Expected { group: "", version: "v1", kind: "ConfigMap", is_custom: false };
const SERVICE: Expected<'_> = Expected { group: "", version: "v1", kind: "Service", is_custom: false };
const SECRET: Expected<'_> = Expected { group: "", version: "v1", kind: "Secret", is_custom: false };
const WIDGET: Expected<'_> = Expected { group: "g.io", version: "v1", kind: "Widget", is_custom: true };
const CRD: Expected<'_> =
    Expected { group: "apiextensions.k8s.io", version: "v1", kind: "CustomResourceDefinition", is_custom: false };

fn refused(body: &str, expected: &Expected<'_>) -> (u16, String) {
    let error = read(BodyFormat::Json, body.as_bytes(), expected).expect_err(body);
    (error.code, error.message)
}

#[test]
fn content_types_choose_the_format() {
    for (text, format) in [
        ("", BodyFormat::Json),
        ("application/json; charset=utf-8", BodyFormat::Json),
        ("Application/YAML", BodyFormat::Yaml),
        ("application/vnd.kubernetes.protobuf", BodyFormat::Protobuf),
    ] {
        assert_eq!(BodyFormat::from_content_type(text, false), Ok(format));
    }
    let error = BodyFormat::from_content_type("text/plain", false).expect_err("415");
    assert_eq!(
        (error.code, error.message.as_str()),
        (
            415,
            "the body of the request was in an unknown format - accepted media types include: application/json, \
             application/yaml, application/vnd.kubernetes.protobuf"
        )
    );
    let error = BodyFormat::from_content_type("application/vnd.kubernetes.protobuf", true).expect_err("415");
    assert!(error.message.ends_with("include: application/json, application/yaml"));
}

#[test]
fn built_ins_may_leave_kind_and_version_out() {
    let decoded = read(BodyFormat::Json, br#"{"data":{"a":"1","a":"2"}}"#, &CONFIG_MAP).expect("reads");
    assert_eq!(decoded.value, json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "2"}}));
    assert_eq!(decoded.duplicates, ["data.a"]);
}

#[test]
fn decode_errors_have_the_texts_of_upstream() {
    let rows = [
        (
            "{",
            CONFIG_MAP,
            "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse \
             error: unexpected end of JSON input ({)",
        ),
        (
            "",
            CONFIG_MAP,
            "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse \
             error: unexpected end of JSON input (<empty>)",
        ),
        (
            r#"{"apiVersion":"v1","kind":"Secret"}"#,
            CONFIG_MAP,
            "Secret in version \"v1\" cannot be handled as a ConfigMap: converting (v1.Secret) to (v1.ConfigMap): \
             unknown conversion",
        ),
        (
            r#"{"apiVersion":"v2","kind":"ConfigMap"}"#,
            CONFIG_MAP,
            "ConfigMap in version \"v2\" cannot be handled as a ConfigMap: no kind \"ConfigMap\" is registered for \
             version \"v2\" here, expected \"v1\"",
        ),
        (r#"{"apiVersion":"g.io/v1"}"#, WIDGET, "Object 'Kind' is missing in '{...}'"),
        (
            r#"{"apiVersion":"x/v1","kind":"Widget"}"#,
            WIDGET,
            "the API version in the data (x/v1) does not match the expected API version (g.io/v1)",
        ),
    ];
    for (body, expected, message) in rows {
        assert_eq!(refused(body, &expected), (400, message.to_owned()));
    }
    let (code, message) = refused(r#"{"apiVersion":"g.io/v1","kind":"Foo","metadata":{"name":"a"}}"#, &WIDGET);
    assert_eq!(
        (code, message.as_str()),
        (422, "Widget.g.io \"a\" is invalid: kind: Invalid value: \"Foo\": must be Widget")
    );
    assert_eq!(refused("[]", &CONFIG_MAP).0, 400);
    assert_eq!(refused(r#"{"kind":1}"#, &CONFIG_MAP).0, 400);
}

#[test]
fn a_broken_body_is_not_echoed_beyond_its_first_key() {
    let (_, message) = refused(r#"{"stringData":{"p":"s3cr3t"#, &SECRET);
    assert!(message.ends_with("({\"stringData\" ...)"), "{message}");
}

#[test]
fn custom_resources_nest_at_most_64_levels() {
    let body = |levels: usize| {
        let inner = format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        format!(r#"{{"apiVersion":"g.io/v1","kind":"Widget","spec":{inner}}}"#)
    };
    assert!(read(BodyFormat::Json, body(63).as_bytes(), &WIDGET).is_ok());
    assert_eq!(refused(&body(64), &WIDGET).0, 400);
}

fn check(mut value: Value, expected: &Expected<'_>) -> Result<(Value, Vec<String>), String> {
    let unknown = check_builtin(&mut value, expected).map_err(|error| error.message)?;
    Ok((value, unknown))
}

#[test]
fn unknown_fields_go_and_are_named_with_their_path() {
    let service = json!({"spec": {"ports": [{"port": 80, "foo": 1}], "foo": {}}, "dta": 1, "metadata": {"x": 1}});
    let (value, unknown) = check(service, &SERVICE).expect("conforms");
    assert_eq!(value, json!({"spec": {"ports": [{"port": 80}]}, "metadata": {}}));
    assert_eq!(unknown, ["metadata.x", "spec.ports[0].foo", "spec.foo", "dta"]);
    assert_eq!(
        field_problems(&unknown[3..], &["data.a".to_owned()]),
        ["unknown field \"dta\"", "duplicate field \"data.a\""]
    );
    assert_eq!(
        strict_error(&CONFIG_MAP, &["unknown field \"dta\"".to_owned(), "duplicate field \"data.a\"".to_owned()])
            .message,
        "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: unknown field \"dta\", \
         duplicate field \"data.a\""
    );
}

#[test]
fn wrong_types_are_told_in_the_words_of_go() {
    let rows = [
        (
            json!({"data": {"a": 1}}),
            CONFIG_MAP,
            "json: cannot unmarshal number into Go struct field ConfigMap.data of type string",
        ),
        (
            json!({"data": []}),
            CONFIG_MAP,
            "json: cannot unmarshal array into Go struct field ConfigMap.data of type map[string]string",
        ),
        (
            json!({"metadata": {"labels": {"a": true}}}),
            CONFIG_MAP,
            "json: cannot unmarshal bool into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (
            json!({"spec": {"ports": [{"port": "80"}]}}),
            SERVICE,
            "json: cannot unmarshal string into Go struct field ServicePort.spec.ports.port of type int32",
        ),
        (
            json!({"spec": {"ports": [{"port": 1.5}]}}),
            SERVICE,
            "json: cannot unmarshal number 1.5 into Go struct field ServicePort.spec.ports.port of type int32",
        ),
        (
            json!({"spec": {"ports": {}}}),
            SERVICE,
            "json: cannot unmarshal object into Go struct field ServiceSpec.spec.ports of type []v1.ServicePort",
        ),
        (json!({"data": {"a": "%%"}}), SECRET, "illegal base64 data at input byte 0"),
        (
            json!({"metadata": {"creationTimestamp": "yesterday"}}),
            CONFIG_MAP,
            "parsing time \"yesterday\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"yesterday\" as \"2006\"",
        ),
    ];
    for (value, expected, problem) in rows {
        let kind = expected.kind;
        let text = format!("{kind} in version \"v1\" cannot be handled as a {kind}: {problem}");
        assert_eq!(check(value, &expected), Err(text));
    }
}

#[test]
fn nulls_and_empty_collections_become_absent_and_forms_canonical() {
    let (value, _) = check(
        json!({"metadata": {"creationTimestamp": null, "labels": {}, "deletionTimestamp": "2026-01-02T03:04:05.9+01:00"},
               "data": {"a": "YQ==\n", "b": null}}),
        &SECRET,
    )
    .expect("conforms");
    assert_eq!(
        value,
        json!({"metadata": {"deletionTimestamp": "2026-01-02T02:04:05Z"}, "data": {"a": "YQ==", "b": ""}})
    );
    let lease = Expected { group: "coordination.k8s.io", version: "v1", kind: "Lease", is_custom: false };
    let (value, _) = check(json!({"spec": {"renewTime": "2026-01-02T03:04:05.1234567Z"}}), &lease).expect("conforms");
    assert_eq!(value, json!({"spec": {"renewTime": "2026-01-02T03:04:05.123456Z"}}));
}

#[test]
fn definitions_keep_any_json_in_defaults_and_accept_both_forms_of_items() {
    let schema = json!({"type": "object", "properties": {
        "a": {"type": "array", "items": {"type": "string"}, "default": {"any": [1, null]}},
        "b": {"additionalProperties": true},
        "c": {"items": [{"type": "string"}], "additionalProperties": {"type": "string", "tpye": "x"}},
    }});
    let definition = |schema: &Value| {
        json!({"spec": {"group": "g", "names": {"kind": "K", "plural": "ks"}, "scope": "Cluster",
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]}})
    };
    let (value, unknown) = check(definition(&schema), &CRD).expect("conforms");
    assert_eq!(unknown, ["spec.versions[0].schema.openAPIV3Schema.properties.c.additionalProperties.tpye"]);
    let mut expected = schema;
    expected["properties"]["c"]["additionalProperties"] = json!({"type": "string"});
    assert_eq!(value, definition(&expected));
    let mut deep = json!({"type": "string"});
    for _ in 0..70 {
        deep = json!({"type": "object", "properties": {"x": deep}});
    }
    assert!(check(definition(&deep), &CRD).expect_err("too deep").ends_with("nested more than 120 levels deep"));
}

#[test]
fn metadata_of_custom_resources_has_the_rules_of_all_metadata() {
    let mut widget =
        json!({"metadata": {"name": "a", "labels": {}, "foo": 1, "creationTimestamp": null}, "spec": {"x": null}});
    assert_eq!(check_custom_metadata(&mut widget, &WIDGET), Ok(vec!["metadata.foo".to_owned()]));
    assert_eq!(widget, json!({"metadata": {"name": "a"}, "spec": {"x": null}}));
    let error = check_custom_metadata(&mut json!({"metadata": {"labels": {"a": 1}}}), &WIDGET).expect_err("wrong type");
    assert_eq!(
        error.message,
        "Widget in version \"v1\" cannot be handled as a Widget: json: cannot unmarshal number into Go struct field \
         ObjectMeta.metadata.labels of type string"
    );
}

#[test]
fn options_have_a_schema_too() {
    let options = Expected { group: "", version: "v1", kind: "DeleteOptions", is_custom: false };
    let (_, unknown) = check(json!({"propagationPolicy": "Background", "x": 1}), &options).expect("conforms");
    assert_eq!(unknown, ["x"]);
}

proptest! {
    #[test]
    fn conforming_twice_changes_nothing_more(
        text in "[a-z]{0,3}", number in any::<i32>(), which in 0..6usize,
    ) {
        let value = [json!(text), json!(number), json!(null), json!([text]), json!({"k": text}), json!(true)][which].clone();
        for field in ["data", "immutable", "metadata", "binaryData", "unknown"] {
            let mut once = json!({});
            once[field] = value.clone();
            if check_builtin(&mut once, &CONFIG_MAP).is_ok() {
                let mut twice = once.clone();
                prop_assert_eq!(check_builtin(&mut twice, &CONFIG_MAP), Ok(vec![]));
                prop_assert_eq!(once, twice);
            }
        }
    }

    #[test]
    fn arbitrary_bodies_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        for format in [BodyFormat::Json, BodyFormat::Yaml, BodyFormat::Protobuf] {
            let _ = read(format, &bytes, &CONFIG_MAP);
        }
    }
}
