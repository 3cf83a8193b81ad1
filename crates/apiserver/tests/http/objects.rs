//! Objects through the whole pipeline: create, read, update, delete and their refusals (SPEC 60 §6, §7, §12).

use crate::common::{CONFIG_MAPS, World, config_map};
use serde_json::{Value, json};

#[tokio::test]
async fn an_object_is_created_read_replaced_and_deleted() {
    let world = World::open().await;
    let created = world.post(CONFIG_MAPS, &config_map("a", &json!({"k": "v"}))).await.expect(201);
    let metadata = &created["metadata"];
    assert_eq!((metadata["name"].as_str(), metadata["namespace"].as_str()), (Some("a"), Some("default")));
    assert!(
        metadata["uid"].is_string()
            && metadata["creationTimestamp"].is_string()
            && metadata["resourceVersion"].is_string()
    );
    assert!(metadata.get("generation").is_none());

    let path = format!("{CONFIG_MAPS}/a");
    assert_eq!(world.get(&path).await.expect(200), created);
    let mut changed = created.clone();
    changed["data"]["k"] = "w".into();
    let replaced = world.put(&path, &changed).await.expect(200);
    assert_ne!(replaced["metadata"]["resourceVersion"], created["metadata"]["resourceVersion"]);

    // The version of the first read is stale now.
    let stale = world.put(&path, &changed).await;
    assert_eq!(stale.status, 409);
    assert_eq!(
        stale.message(),
        "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to the latest version and try again"
    );
    // Without a version, a write of the same content changes nothing.
    let same = world.put(&path, &config_map("a", &json!({"k": "w"}))).await.expect(200);
    assert_eq!(same["metadata"]["resourceVersion"], replaced["metadata"]["resourceVersion"]);

    let deleted = world.delete(&path).await.expect(200);
    assert_eq!(deleted["status"], "Success");
    assert_eq!(deleted["details"], json!({"name": "a", "kind": "configmaps", "uid": created["metadata"]["uid"]}));
    let missing = world.get(&path).await;
    assert_eq!((missing.status, missing.message()), (404, "configmaps \"a\" not found"));
}

#[tokio::test]
async fn bad_writes_have_their_texts() {
    let world = World::open().await;
    world.post(CONFIG_MAPS, &config_map("a", &json!({}))).await.expect(201);
    for (method, path, body, status, text) in [
        ("POST", CONFIG_MAPS.to_owned(), config_map("a", &json!({})), 409, "configmaps \"a\" already exists"),
        (
            "POST",
            "/api/v1/namespaces/none/configmaps".to_owned(),
            config_map("a", &json!({})),
            404,
            "namespaces \"none\" not found",
        ),
        (
            "POST",
            CONFIG_MAPS.to_owned(),
            json!({"metadata": {"name": "b", "namespace": "other"}}),
            400,
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
        (
            "POST",
            CONFIG_MAPS.to_owned(),
            json!({"metadata": {"name": "b", "resourceVersion": "1"}}),
            400,
            "resourceVersion should not be set on objects to be created",
        ),
        (
            "PUT",
            format!("{CONFIG_MAPS}/a"),
            config_map("b", &json!({})),
            400,
            "the name of the object (b) does not match the name on the URL (a)",
        ),
        ("PUT", format!("{CONFIG_MAPS}/c"), config_map("c", &json!({})), 404, "configmaps \"c\" not found"),
        (
            "POST",
            CONFIG_MAPS.to_owned(),
            json!({"metadata": {}}),
            422,
            "metadata.name: Required value: name or generateName is required",
        ),
        (
            "POST",
            CONFIG_MAPS.to_owned(),
            json!({"metadata": {"name": "A"}}),
            422,
            "a lowercase RFC 1123 subdomain must consist of",
        ),
        (
            "POST",
            CONFIG_MAPS.to_owned(),
            json!({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "a"}}),
            400,
            "cannot be handled as a ConfigMap",
        ),
        (
            "DELETE",
            "/api/v1/namespaces/default".to_owned(),
            json!({}),
            403,
            "namespaces \"default\" is forbidden: this namespace may not be deleted",
        ),
        (
            "DELETE",
            format!("{CONFIG_MAPS}/a"),
            json!({"preconditions": {"resourceVersion": "1"}}),
            409,
            "the ResourceVersion in the precondition (1) does not match the ResourceVersion in record",
        ),
    ] {
        let got = world.ask(method, &path, &[], body.to_string().as_bytes()).await;
        assert_eq!(got.status, status, "{method} {path}: {}", got.text);
        assert!(got.message().contains(text), "{method} {path}: {}", got.text);
        assert_eq!(got.body["kind"], "Status");
    }
}

#[tokio::test]
async fn unknown_fields_warn_or_are_refused_as_asked() {
    let world = World::open().await;
    let body = json!({"metadata": {"name": "a"}, "dta": {"k": "v"}});
    let refused = world.post(&format!("{CONFIG_MAPS}?fieldValidation=Strict"), &body).await;
    assert_eq!(refused.status, 400);
    assert_eq!(
        refused.message(),
        "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: unknown field \"dta\""
    );
    let warned = world.post(CONFIG_MAPS, &body).await;
    assert_eq!((warned.status, warned.header("warning")), (201, "299 - \"unknown field \\\"dta\\\"\""));
    assert!(warned.body.get("dta").is_none());
    let ignored = world.put(&format!("{CONFIG_MAPS}/a?fieldValidation=Ignore"), &body).await;
    assert_eq!((ignored.status, ignored.header("warning")), (200, ""));
}

#[tokio::test]
async fn a_dry_run_answers_like_the_real_call_and_writes_nothing() {
    let world = World::open().await;
    let path = format!("{CONFIG_MAPS}?dryRun=All");
    let dry = world.post(&path, &config_map("a", &json!({"k": "v"}))).await.expect(201);
    assert!(dry["metadata"]["uid"].is_string() && dry["metadata"].get("resourceVersion").is_none());
    world.get(&format!("{CONFIG_MAPS}/a")).await.expect(404);
    let real = world.post(CONFIG_MAPS, &config_map("a", &json!({"k": "v"}))).await.expect(201);
    world.delete(&format!("{CONFIG_MAPS}/a?dryRun=All")).await.expect(200);
    let changed =
        world.put(&format!("{CONFIG_MAPS}/a?dryRun=All"), &config_map("a", &json!({"k": "w"}))).await.expect(200);
    assert_eq!(changed["data"]["k"], "w");
    assert_eq!(world.get(&format!("{CONFIG_MAPS}/a")).await.expect(200), real);
    assert_eq!(world.post(&path, &config_map("a", &json!({}))).await.status, 409);
}

#[tokio::test]
async fn names_are_generated() {
    let world = World::open().await;
    let body = json!({"metadata": {"generateName": "job-"}});
    let first = world.post(CONFIG_MAPS, &body).await.expect(201);
    let second = world.post(CONFIG_MAPS, &body).await.expect(201);
    let name = first["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("job-") && name.len() == 9, "{name}");
    assert_ne!(first["metadata"]["name"], second["metadata"]["name"]);
}

#[tokio::test]
async fn finalizers_hold_an_object_until_the_last_one_goes() {
    let world = World::open().await;
    let mut object = config_map("a", &json!({}));
    object["metadata"]["finalizers"] = json!(["e.com/one", "e.com/two"]);
    world.post(CONFIG_MAPS, &object).await.expect(201);
    let path = format!("{CONFIG_MAPS}/a");
    let marked = world.delete(&path).await.expect(200);
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 0);
    assert_eq!(world.delete(&path).await.expect(200), marked);
    assert_eq!(world.post(CONFIG_MAPS, &object).await.status, 409);
    let added = world.patch(&path, &json!({"metadata": {"finalizers": ["e.com/one", "e.com/late"]}})).await;
    assert_eq!(added.status, 422);
    assert!(added.message().contains("no new finalizers can be added"), "{}", added.text);
    world.patch(&path, &json!({"metadata": {"finalizers": ["e.com/two"]}})).await.expect(200);
    let last = world.patch(&path, &json!({"metadata": {"finalizers": null}})).await.expect(200);
    assert!(last["metadata"].get("finalizers").is_none());
    world.get(&path).await.expect(404);
}

#[tokio::test]
async fn patches_of_all_three_kinds_change_an_object() {
    let world = World::open().await;
    world.post(CONFIG_MAPS, &config_map("a", &json!({"k": "v", "l": "m"}))).await.expect(201);
    let path = format!("{CONFIG_MAPS}/a");
    let patch = async |kind: &str, body: Value| {
        let kind = format!("application/{kind}");
        world.ask("PATCH", &path, &[("content-type", &kind)], body.to_string().as_bytes()).await
    };
    let merged = patch("merge-patch+json", json!({"data": {"l": null, "n": "o"}})).await.expect(200);
    assert_eq!(merged["data"], json!({"k": "v", "n": "o"}));
    let patched =
        patch("json-patch+json", json!([{"op": "replace", "path": "/data/k", "value": "w"}])).await.expect(200);
    assert_eq!(patched["data"]["k"], "w");
    let strategic = patch("strategic-merge-patch+json", json!({"metadata": {"labels": {"x": "y"}}})).await.expect(200);
    assert_eq!(strategic["metadata"]["labels"], json!({"x": "y"}));

    let stale = patch("merge-patch+json", json!({"metadata": {"resourceVersion": "1"}, "data": {"z": "z"}})).await;
    assert_eq!(stale.status, 409);
    assert_eq!(patch("merge-patch+json", json!({"metadata": {"name": "b"}})).await.status, 400);
    let apply = patch("apply-patch+yaml", json!({})).await;
    assert_eq!(apply.status, 415);
    assert_eq!(
        apply.message(),
        "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json"
    );
    let failed = patch("json-patch+json", json!([{"op": "test", "path": "/data/k", "value": "no"}])).await;
    assert_eq!(
        (failed.status, failed.message()),
        (422, "the server rejected our request due to an error in our request")
    );
}

#[tokio::test]
async fn a_put_creates_a_lease_that_is_not_there() {
    let world = World::open().await;
    let path = "/apis/coordination.k8s.io/v1/namespaces/default/leases/a";
    let lease = json!({"metadata": {"name": "a"}, "spec": {"holderIdentity": "me"}});
    world.put(path, &lease).await.expect(201);
    world.put(path, &lease).await.expect(200);
}

#[tokio::test]
async fn deletecollection_takes_what_is_selected() {
    let world = World::open().await;
    for (name, color) in [("a", "red"), ("b", "blue"), ("c", "red")] {
        let mut object = config_map(name, &json!({}));
        object["metadata"]["labels"] = json!({"color": color});
        world.post(CONFIG_MAPS, &object).await.expect(201);
    }
    let gone = world.delete(&format!("{CONFIG_MAPS}?labelSelector=color%3Dred")).await.expect(200);
    assert_eq!(gone["items"].as_array().unwrap().len(), 2);
    world.get(&format!("{CONFIG_MAPS}/b")).await.expect(200);
    world.get(&format!("{CONFIG_MAPS}/a")).await.expect(404);
    assert_eq!(world.delete("/api/v1/namespaces").await.status, 405);
}

#[tokio::test]
async fn events_have_one_storage_and_two_faces() {
    let world = World::open().await;
    let core = json!({
        "metadata": {"name": "e"}, "message": "hello", "reason": "Said", "type": "Normal",
        "involvedObject": {"kind": "ConfigMap", "name": "a", "namespace": "default"}
    });
    world.post("/api/v1/namespaces/default/events", &core).await.expect(201);
    let face = world.get("/apis/events.k8s.io/v1/namespaces/default/events/e").await.expect(200);
    assert_eq!(
        (&face["note"], &face["regarding"]["name"], &face["apiVersion"]),
        (&json!("hello"), &json!("a"), &json!("events.k8s.io/v1"))
    );
    let selected = world
        .get("/api/v1/namespaces/default/events?fieldSelector=involvedObject.name%3Da,reason%3DSaid")
        .await
        .expect(200);
    assert_eq!(selected["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn advice_becomes_warning_headers_of_writes() {
    let world = World::open().await;
    world.plane.take_advice(tidegate_apiserver::Advice::new(|subject| {
        let is_meant = subject.kind == "ConfigMap" && subject.object["data"]["odd"] == "yes";
        if is_meant { vec!["that is odd".to_owned()] } else { Vec::new() }
    }));
    let path = "/api/v1/namespaces/default/configmaps";
    let odd = json!({"metadata": {"name": "a"}, "data": {"odd": "yes"}});
    assert_eq!(world.post(path, &odd).await.header("warning"), "299 - \"that is odd\"");
    let even = json!({"metadata": {"name": "a"}, "data": {"odd": "no"}});
    assert_eq!(world.put(&format!("{path}/a"), &even).await.header("warning"), "");
    assert_eq!(world.put(&format!("{path}/a"), &odd).await.header("warning"), "299 - \"that is odd\"");
}
