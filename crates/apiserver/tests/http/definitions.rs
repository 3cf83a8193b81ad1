//! CustomResourceDefinitions and their instances (SPEC 60 §13).

use serde_json::json;

use crate::common::{CONFIG_MAPS, WIDGETS, World, config_map, eventually, widget, widgets};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

async fn world() -> World {
    World::open_in(tempfile::tempdir().unwrap(), vec![widgets()]).await
}

#[tokio::test]
async fn a_definition_is_served_at_once_and_in_every_version() {
    let world = World::open().await;
    let created = world.post(DEFINITIONS, &widgets()).await.expect(201);
    assert_eq!(created["metadata"]["generation"], 1);
    eventually("served", async || world.get(WIDGETS).await.status == 200).await;
    let definition = world.get(&format!("{DEFINITIONS}/widgets.example.com")).await.expect(200);
    let conditions = definition["status"]["conditions"].as_array().unwrap();
    assert_eq!((&conditions[0]["type"], &conditions[1]["type"]), (&json!("NamesAccepted"), &json!("Established")));
    assert_eq!(definition["status"]["storedVersions"], json!(["v1"]));
    let resources = world.get("/apis/example.com/v1").await.expect(200);
    assert_eq!(resources["resources"][0]["name"], "widgets");

    let made = world.post(WIDGETS, &widget("a", &json!({"size": 1}))).await.expect(201);
    assert_eq!((&made["spec"]["color"], &made["metadata"]["generation"]), (&json!("blue"), &json!(1)));
    let other = world.get("/apis/example.com/v1beta1/namespaces/default/widgets/a").await.expect(200);
    assert_eq!((&other["apiVersion"], &other["spec"]), (&json!("example.com/v1beta1"), &made["spec"]));
    let list = world.get("/apis/example.com/v1beta1/widgets").await.expect(200);
    assert_eq!((&list["kind"], &list["items"][0]["apiVersion"]), (&json!("WidgetList"), &json!("example.com/v1beta1")));
}

#[tokio::test]
async fn instances_are_held_against_their_schema() {
    let world = world().await;
    let refused = world.post(WIDGETS, &widget("a", &json!({"size": 11}))).await;
    assert_eq!(refused.status, 422);
    assert_eq!(
        refused.message(),
        "Widget.example.com \"a\" is invalid: spec.size: Invalid value: 11: spec.size in body should be less than or equal to 10"
    );
    let strict = world.post(&format!("{WIDGETS}?fieldValidation=Strict"), &widget("a", &json!({"sise": 1}))).await;
    assert_eq!(strict.status, 400);
    assert!(strict.message().contains("strict decoding error: unknown field \"spec.sise\""), "{}", strict.text);
    world.post(WIDGETS, &widget("a", &json!({"size": 1}))).await.expect(201);
    let unversioned = world.put(&format!("{WIDGETS}/a"), &widget("a", &json!({"size": 2}))).await;
    assert_eq!(
        (unversioned.status, unversioned.message()),
        (
            422,
            "widgets.example.com \"a\" is invalid: metadata.resourceVersion: Invalid value: 0: must be specified for an update"
        )
    );
    let strategic = [("content-type", "application/strategic-merge-patch+json")];
    assert_eq!(world.ask("PATCH", &format!("{WIDGETS}/a"), &strategic, b"{}").await.status, 415);
    let foreign = json!({"apiVersion": "x/v1", "kind": "Widget", "metadata": {"name": "b"}});
    assert!(
        world
            .post(WIDGETS, &foreign)
            .await
            .message()
            .contains("does not match the expected API version (example.com/v1)")
    );
}

#[tokio::test]
async fn status_and_scale_change_only_their_part() {
    let world = world().await;
    let mut object = widget("a", &json!({"size": 1, "replicas": 2}));
    object["status"] = json!({"ready": true});
    let made = world.post(WIDGETS, &object).await.expect(201);
    assert!(made.get("status").is_none());
    let path = format!("{WIDGETS}/a");
    let patch = json!({"spec": {"size": 9}, "status": {"ready": true, "replicas": 1}});
    let status = world.patch(&format!("{path}/status"), &patch).await.expect(200);
    assert_eq!((&status["spec"]["size"], &status["status"]["ready"]), (&json!(1), &json!(true)));
    assert_eq!(status["metadata"]["generation"], 1);
    let main = world.patch(&path, &patch).await.expect(200);
    assert_eq!((&main["spec"]["size"], &main["metadata"]["generation"]), (&json!(9), &json!(2)));

    let scale = world.get(&format!("{path}/scale")).await.expect(200);
    assert_eq!(
        (&scale["kind"], &scale["spec"], &scale["status"]),
        (&json!("Scale"), &json!({"replicas": 2}), &json!({"replicas": 1}))
    );
    let scaled = world.patch(&format!("{path}/scale"), &json!({"spec": {"replicas": 5}})).await.expect(200);
    assert_eq!(scaled["spec"]["replicas"], 5);
    let mut put = scaled.clone();
    put["spec"]["replicas"] = 6.into();
    world.put(&format!("{path}/scale"), &put).await.expect(200);
    assert_eq!(world.put(&format!("{path}/scale"), &put).await.status, 409);
    assert_eq!(world.get(&path).await.expect(200)["spec"]["replicas"], 6);
    assert_eq!(world.get(&format!("{path}/other")).await.status, 404);
}

#[tokio::test]
async fn a_deleted_definition_takes_its_instances_along_and_honors_their_finalizers() {
    let world = world().await;
    let mut held = widget("held", &json!({}));
    held["metadata"]["finalizers"] = json!(["e.com/h"]);
    world.post(WIDGETS, &held).await.expect(201);
    world.post(WIDGETS, &widget("free", &json!({}))).await.expect(201);
    let mut watch = world.watch(&format!("{WIDGETS}?watch=1&fieldSelector=metadata.name%3Dfree")).await;
    assert_eq!(watch.step().await, "ADDED free");
    let path = format!("{DEFINITIONS}/widgets.example.com");
    let marked = world.delete(&path).await.expect(200);
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(watch.step().await, "DELETED free");
    eventually("refusing creates", async || world.post(WIDGETS, &widget("z", &json!({}))).await.status == 403).await;
    let refused = world.post(WIDGETS, &widget("z", &json!({}))).await;
    assert_eq!(
        refused.message(),
        "widgets.example.com \"z\" is forbidden: create not allowed while custom resource definition is terminating"
    );
    eventually("condition", async || {
        let definition = world.get(&path).await.body;
        definition["status"]["conditions"].as_array().is_some_and(|conditions| {
            conditions.iter().any(|condition| condition["type"] == "Terminating" && condition["status"] == "True")
        })
    })
    .await;
    world.patch(&format!("{WIDGETS}/held"), &json!({"metadata": {"finalizers": null}})).await.expect(200);
    eventually("gone", async || world.get(&path).await.status == 404).await;
    eventually("not served", async || world.get(WIDGETS).await.status == 404).await;
    assert_eq!(world.get("/apis/example.com").await.status, 404);
    // The names are free again, and nothing of the old instances is left.
    world.post(DEFINITIONS, &widgets()).await.expect(201);
    eventually("served again", async || world.get(WIDGETS).await.status == 200).await;
    assert_eq!(world.get(WIDGETS).await.body["items"], json!([]));
}

#[tokio::test]
async fn names_that_are_taken_leave_a_definition_unserved() {
    let world = world().await;
    let mut second = widgets();
    second["metadata"]["name"] = "gadgets.example.com".into();
    second["spec"]["names"] = json!({"plural": "gadgets", "kind": "Gadget", "shortNames": ["wg"]});
    world.post(DEFINITIONS, &second).await.expect(201);
    let path = format!("{DEFINITIONS}/gadgets.example.com");
    eventually("conflict", async || {
        world.get(&path).await.body["status"]["conditions"][0]["reason"] == "ShortNamesConflict"
    })
    .await;
    assert_eq!(world.get("/apis/example.com/v1/gadgets").await.status, 404);
    // It is served once the other one is gone.
    world.delete(&format!("{DEFINITIONS}/widgets.example.com")).await.expect(200);
    eventually("served", async || world.get("/apis/example.com/v1/gadgets").await.status == 200).await;
}

#[tokio::test]
async fn definitions_and_instances_survive_a_restart() {
    let world = world().await;
    world.post(WIDGETS, &widget("a", &json!({"size": 3}))).await.expect(201);
    world.post(CONFIG_MAPS, &config_map("a", &json!({"k": "v"}))).await.expect(201);
    let before = world.get(&format!("{WIDGETS}/a")).await.expect(200);
    let world = World::open_in(world.stop().await, vec![widgets()]).await;
    assert_eq!(world.get(&format!("{WIDGETS}/a")).await.expect(200), before);
    assert_eq!(world.get(&format!("{CONFIG_MAPS}/a")).await.expect(200)["data"]["k"], "v");
    // Installing an equal definition again changes nothing.
    let definition = world.get(&format!("{DEFINITIONS}/widgets.example.com")).await.expect(200);
    assert_eq!(definition["metadata"]["generation"], 1);
    assert!(world.readiness.is_ready(), "{:?}", world.readiness.report());
}

#[tokio::test]
async fn metadata_of_instances_has_the_types_of_all_metadata() {
    let world = world().await;
    let mut object = widget("a", &json!({"size": 1}));
    object["metadata"]["labels"] = json!({"a": 1});
    let refused = world.post(WIDGETS, &object).await;
    assert_eq!(
        (refused.status, refused.message()),
        (
            400,
            "Widget in version \"v1\" cannot be handled as a Widget: json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string"
        )
    );
    object["metadata"]["labels"] = json!({"a": "1"});
    object["metadata"]["lables"] = json!({});
    let strict = world.post(&format!("{WIDGETS}?fieldValidation=Strict"), &object).await;
    assert!(strict.message().contains("strict decoding error: unknown field \"metadata.lables\""), "{}", strict.text);
    assert_eq!(world.post(WIDGETS, &object).await.expect(201)["metadata"].get("lables"), None);
}
