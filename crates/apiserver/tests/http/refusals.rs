//! What is refused, as a foreign client reads it: status, reason and text (SPEC 60 §3, §4, §7, §8, §9, §10, §12, §22).

use serde_json::{Value, json};

use crate::common::{CONFIG_MAPS, WIDGETS, World, config_map, widget, widgets};

const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
const JSON_PATCH: &str = "application/json-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
const NOT_ALLOWED: &str = "the server does not allow this method on the requested resource";
const NO_RESOURCE: &str = "the server could not find the requested resource";
const INVALID_PATCH: &str = "the server rejected our request due to an error in our request";

struct Row(&'static str, String, &'static str, &'static str, u16, &'static str, &'static str);

async fn check(world: &World, rows: Vec<Row>) {
    for Row(method, path, content_type, body, status, reason, message) in rows {
        let got = world.ask(method, &path, &[("content-type", content_type)], body.as_bytes()).await;
        assert_eq!(
            (got.status, got.body["reason"].as_str().unwrap_or_default(), got.message()),
            (status, reason, message),
            "{method} {path} {body}"
        );
        assert_eq!((&got.body["status"], &got.body["code"]), (&json!("Failure"), &json!(status)), "{method} {path}");
    }
}

#[tokio::test]
async fn paths_and_methods_that_do_not_exist_are_told_apart() {
    let world = World::open_in(tempfile::tempdir().unwrap(), vec![widgets()]).await;
    let row =
        |method, path: &str, status, reason, message| Row(method, path.to_owned(), JSON, "{}", status, reason, message);
    let not_allowed = |method, path: &str| row(method, path, 405, "MethodNotAllowed", NOT_ALLOWED);
    let not_found = |method, path: &str| row(method, path, 404, "NotFound", NO_RESOURCE);
    let rows = vec![
        not_allowed("OPTIONS", CONFIG_MAPS),
        not_allowed("POST", "/version"),
        not_allowed("POST", &format!("{CONFIG_MAPS}/a")),
        not_allowed("PUT", CONFIG_MAPS),
        not_allowed("PATCH", CONFIG_MAPS),
        not_allowed("PUT", LEASES),
        not_allowed("PUT", "/api/v1/namespaces"),
        not_allowed("PATCH", WIDGETS),
        not_allowed("DELETE", "/api/v1/namespaces"),
        not_allowed("DELETE", "/api/v1/configmaps"),
        not_allowed("DELETE", &format!("{WIDGETS}/a/status")),
        not_found("GET", "/api/v1/namespaces/default/pods"),
        not_found("GET", &format!("{CONFIG_MAPS}/a/status")),
        not_found("GET", &format!("{WIDGETS}/a/other")),
        not_found("GET", "/apis/coordination.k8s.io/v1/others"),
        row("GET", &format!("{LEASES}/zz"), 404, "NotFound", "leases.coordination.k8s.io \"zz\" not found"),
        row("GET", &format!("{WIDGETS}/zz/scale"), 404, "NotFound", "widgets.example.com \"zz\" not found"),
    ];
    check(&world, rows).await;
    for path in ["/apis/apps", "/apis/apps/v1/deployments", "/api/v2", "/other", "/api/v1/watch/configmaps"] {
        let got = world.get(path).await;
        assert_eq!((got.status, got.text.as_str()), (404, "404 page not found\n"), "{path}");
        assert_eq!(got.header("x-content-type-options"), "nosniff");
    }
}

#[tokio::test]
async fn bodies_and_patches_that_cannot_be_taken_have_their_texts() {
    let world = World::open_in(tempfile::tempdir().unwrap(), vec![widgets()]).await;
    world.post(CONFIG_MAPS, &config_map("a", &json!({"k": "v"}))).await.expect(201);
    world.post(WIDGETS, &widget("a", &json!({"replicas": 1}))).await.expect(201);
    let of_a = |method, content_type, body, status, reason, message| {
        Row(method, format!("{CONFIG_MAPS}/a"), content_type, body, status, reason, message)
    };
    let scale =
        |body, status, reason, message| Row("PUT", format!("{WIDGETS}/a/scale"), JSON, body, status, reason, message);
    let rows = vec![
        Row(
            "POST",
            CONFIG_MAPS.to_owned(),
            "text/plain",
            "{}",
            415,
            "UnsupportedMediaType",
            "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf",
        ),
        Row(
            "POST",
            WIDGETS.to_owned(),
            "application/vnd.kubernetes.protobuf",
            "{}",
            415,
            "UnsupportedMediaType",
            "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml",
        ),
        Row(
            "POST",
            CONFIG_MAPS.to_owned(),
            JSON,
            "{",
            400,
            "BadRequest",
            "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: unexpected end of JSON input ({)",
        ),
        of_a(
            "PUT",
            JSON,
            r#"{"metadata":{"name":"b"}}"#,
            400,
            "BadRequest",
            "the name of the object (b) does not match the name on the URL (a)",
        ),
        of_a(
            "PUT",
            JSON,
            r#"{"metadata":{"resourceVersion":"1"}}"#,
            409,
            "Conflict",
            "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to the latest version and try again",
        ),
        of_a(
            "PATCH",
            JSON_PATCH,
            "{}",
            400,
            "BadRequest",
            "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp",
        ),
        of_a("PATCH", JSON_PATCH, r#"[{"op":"test","path":"/data/k","value":"w"}]"#, 422, "Invalid", INVALID_PATCH),
        of_a("PATCH", JSON_PATCH, r#"[{"op":"remove","path":"/data/zz"}]"#, 422, "Invalid", INVALID_PATCH),
        of_a("PATCH", MERGE, "{", 400, "BadRequest", "error decoding patch: unexpected end of JSON input"),
        of_a(
            "PATCH",
            MERGE,
            r#"{"metadata":{"name":"b"}}"#,
            400,
            "BadRequest",
            "the name of the object (b) does not match the name on the URL (a)",
        ),
        of_a(
            "PATCH",
            STRATEGIC,
            r#"{"metadata":{"$patch":"foo"}}"#,
            400,
            "BadRequest",
            "unknown patch type: foo in map: map[$patch]",
        ),
        scale(
            r#"{"metadata":{"name":"b"},"spec":{"replicas":2}}"#,
            400,
            "BadRequest",
            "the name of the object (b) does not match the name on the URL (a)",
        ),
        scale(
            r#"{"metadata":{"namespace":"b"},"spec":{"replicas":2}}"#,
            400,
            "BadRequest",
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
        scale(
            r#"{"kind":"Widget","spec":{"replicas":2}}"#,
            400,
            "BadRequest",
            "Widget in version \"v1\" cannot be handled as a Scale: converting (v1.Widget) to (v1.Scale): unknown conversion",
        ),
        scale(
            r#"{"spec":{"replicas":-1}}"#,
            422,
            "Invalid",
            "Scale.autoscaling \"a\" is invalid: spec.replicas: Invalid value: -1: should be a non-negative integer",
        ),
    ];
    check(&world, rows).await;
    let kept = world.get(&format!("{WIDGETS}/a/scale")).await.expect(200);
    assert_eq!(kept["spec"]["replicas"], 1);
}

#[tokio::test]
async fn a_watch_over_a_web_socket_is_refused() {
    let world = World::open().await;
    let headers = [("connection", "Upgrade"), ("upgrade", "websocket"), ("sec-websocket-version", "13")];
    let got = world.ask("GET", &format!("{CONFIG_MAPS}?watch=1"), &headers, b"").await;
    assert_eq!((got.status, &got.body["reason"]), (400, &json!("BadRequest")), "{}", got.text);
}

#[tokio::test]
async fn required_fields_are_there_even_when_nobody_gave_them() {
    let world = World::open().await;
    let events = "/api/v1/namespaces/default/events";
    world.post(events, &json!({"metadata": {"name": "bare"}})).await.expect(201);
    let list = world.get(events).await.expect(200);
    assert_eq!(list["items"][0]["involvedObject"], json!({}));
    let newer = json!({
        "metadata": {"name": "newer"}, "eventTime": "2026-01-02T03:04:05.000000Z", "reportingController": "c",
        "reportingInstance": "i", "action": "a", "reason": "r", "type": "Normal"
    });
    world.post("/apis/events.k8s.io/v1/namespaces/default/events", &newer).await.expect(201);
    assert_eq!(world.get(&format!("{events}/newer")).await.expect(200)["involvedObject"], json!({}));
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    let slice: Value = world.post(slices, &json!({"metadata": {"name": "s"}, "addressType": "IPv4"})).await.expect(201);
    assert_eq!(slice["endpoints"], json!([]));
}
