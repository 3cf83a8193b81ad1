use serde_json::json;

use super::*;

#[test]
fn not_found_names_the_resource_with_its_group() {
    let error = ApiError::not_found("rbac.authorization.k8s.io", "clusterroles", "zz");
    assert_eq!(
        error.to_value(),
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": "clusterroles.rbac.authorization.k8s.io \"zz\" not found",
            "reason": "NotFound", "code": 404,
            "details": {"name": "zz", "group": "rbac.authorization.k8s.io", "kind": "clusterroles"},
        })
    );
    assert_eq!(ApiError::not_found("", "configmaps", "zz").message, "configmaps \"zz\" not found");
}

#[test]
fn method_not_allowed_has_empty_details() {
    let value = ApiError::method_not_allowed().to_value();
    assert_eq!(value["details"], json!({}));
    assert_eq!(value["code"], json!(405));
}

#[test]
fn stale_version_has_the_text_that_clients_match_on() {
    assert_eq!(
        ApiError::stale_version("", "configmaps", "a").message,
        "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your \
         changes to the latest version and try again"
    );
}

#[test]
fn one_problem_is_not_bracketed_and_several_are_with_equal_ones_once() {
    let one = vec![FieldError::required("spec.ports", "")];
    assert_eq!(
        ApiError::invalid("", "Service", "a", one).message,
        "Service \"a\" is invalid: spec.ports: Required value"
    );
    let two = vec![
        FieldError::required("data[username]", ""),
        FieldError::required("data[password]", ""),
        FieldError::required("data[username]", ""),
    ];
    let error = ApiError::invalid("", "Secret", "a", two);
    assert_eq!(
        error.message,
        "Secret \"a\" is invalid: [data[username]: Required value, data[password]: Required value]"
    );
    assert_eq!(error.details.map(|d| d.causes.len()), Some(2));
}

#[test]
fn every_body_has_the_upstream_words() {
    let rows = [
        (FieldError::duplicate("f", &json!({"name": "a"})), "f: Duplicate value: {\"name\":\"a\"}"),
        (FieldError::invalid("f", &json!(11), "too big"), "f: Invalid value: 11: too big"),
        (
            FieldError::not_supported("f", &json!("m"), &["small", "large"]),
            "f: Unsupported value: \"m\": supported values: \"small\", \"large\"",
        ),
        (FieldError::forbidden("f", "not now"), "f: Forbidden: not now"),
        (FieldError::too_long("f", 20), "f: Too long: may not be more than 20 bytes"),
        (FieldError::too_many("f", 6, 5), "f: Too many: 6: must have at most 5 items"),
        (FieldError::too_many("f", 2, 1), "f: Too many: 2: must have at most 1 item"),
        (FieldError::required("f", "why"), "f: Required value: why"),
        (FieldError::not_found("f", &json!("x")), "f: Not found: \"x\""),
        (FieldError::invalid("", &json!(""), "no field"), "<nil>: Invalid value: \"\": no field"),
        (
            FieldError::invalid_secret("data[k]", "must be JSON"),
            "data[k]: Invalid value: \"<secret contents redacted>\": must be JSON",
        ),
    ];
    for (error, expected) in rows {
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn long_values_are_cut_to_one_kibibyte_at_a_character() {
    let text = "ä".repeat(2000);
    let error = FieldError::invalid_str("f", &text, "bad").to_string();
    assert!(error.len() < 1100, "{} bytes", error.len());
    assert!(error.contains("...\": bad"));
    let list = FieldError::invalid("f", &json!(vec!["ä"; 2000]), "bad").to_string();
    assert!(list.len() < 1100);
}

#[test]
fn unprocessable_answers_422_with_empty_details() {
    let value = ApiError::unprocessable().to_value();
    assert_eq!((value["code"].clone(), value["details"].clone()), (json!(422), json!({})));
}

#[test]
fn exhausted_names_and_future_versions_ask_for_a_retry() {
    let error = ApiError::name_generation_exhausted("", "configmaps", "a-xyz12");
    assert!(error.message.ends_with("the server was not able to generate a unique name for the object"));
    assert_eq!(error.retry_after_seconds(), Some(1));
    let value = ApiError::resource_version_too_large(9, 4).to_value();
    assert_eq!(value["message"], json!("Timeout: Too large resource version: 9, current: 4"));
    assert_eq!(
        value["details"],
        json!({
            "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
            "retryAfterSeconds": 1,
        })
    );
}

#[test]
fn paths_print_fields_indexes_and_keys() {
    let spec = FieldPath::root("spec");
    let ports = spec.field("ports");
    let first = ports.index(0);
    assert_eq!(first.field("name").to_string(), "spec.ports[0].name");
    assert_eq!(FieldPath::root("data").key("my.key").to_string(), "data[my.key]");
    let root = FieldPath::root("");
    assert_eq!(root.field("kind").to_string(), "kind");
}

#[test]
fn delete_answers_success_with_uid() {
    assert_eq!(
        deleted("", "configmaps", "a", "u-1"),
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
               "details": {"name": "a", "kind": "configmaps", "uid": "u-1"}})
    );
}
