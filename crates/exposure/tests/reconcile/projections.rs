//! Projections are wholly ours: edited and deleted ones come back, strays go, and nothing is written twice.

use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::common::{World, open, secured, version};

async fn patch(world: &World, kind: &str, name: &str, change: serde_json::Value) {
    world.objects(kind).patch(name, &PatchParams::default(), &Patch::Merge(change)).await.unwrap();
}

#[tokio::test]
async fn edited_and_deleted_projections_are_restored() {
    let world = World::start().await;
    world.create("a", &secured("s", "sample")).await;
    world.becomes("a", (2, 2, 2)).await;
    for kind in ["VirtualService", "Policy"] {
        let written = world.get(kind, "a").await.unwrap();
        let added = json!({"spec": {"added": "by hand", "hosts": ["evil.example"], "targets": [{"name": "other"}]}});
        patch(&world, kind, "a", added).await;
        world.sees(kind, "a", "as it was", |object| object.data["spec"] == written.data["spec"]).await;
        patch(&world, kind, "a", json!({"metadata": {"labels": {"createdBy": null, "theirs": "kept"}}})).await;
        let restored = world.sees(kind, "a", "marked again", |object| {
            object.metadata.labels.as_ref().is_some_and(|labels| labels.get("createdBy").is_some())
        });
        assert_eq!(restored.await.metadata.labels.unwrap()["theirs"], "kept");
        let uid = written.metadata.uid.clone();
        world.remove(kind, "a").await;
        world.sees(kind, "a", "made anew", |object| object.metadata.uid != uid).await;
    }
    let status = world.becomes("a", (2, 2, 2)).await;
    let route = world.get("VirtualService", "a").await.unwrap();
    world.is_quiet().await;
    let after = world.becomes("a", (2, 2, 2)).await;
    assert_eq!(after["virtualService"]["resource"]["uid"].as_str(), route.metadata.uid.as_deref(), "{status:#}");
    world.stop().await;
}

#[tokio::test]
async fn nothing_is_written_when_nothing_changed() {
    let mut world = World::start().await;
    world.create("a", &secured("s", "sample")).await;
    world.create("b", &open("s", "second")).await;
    world.becomes("a", (2, 2, 2)).await;
    world.becomes("b", (5, 0, -1)).await;
    world.event("Api", "b", "ServiceOccupied").await;
    let quiet = world.is_quiet().await;
    assert_eq!(world.events("Api", "a").await.get("Programmed"), Some(&1), "one transition, one Event");
    // Somebody's label on a projection is theirs; the status keeps the version that we wrote.
    let before = world.status("a").await;
    patch(&world, "VirtualService", "a", json!({"metadata": {"labels": {"theirs": "1"}}})).await;
    world.is_quiet().await;
    assert_eq!(world.status("a").await, before);
    // A restart looks at everything and finds all as it should be.
    world.stop_reconcilers().await;
    let quiet_again = world.is_quiet().await;
    assert_ne!(quiet, quiet_again, "the label was one write");
    world.start_reconcilers();
    assert_eq!(world.is_quiet().await, quiet_again);
    world.stop().await;
}

#[tokio::test]
async fn labels_of_the_api_move_the_version_label_and_its_status_does_not() {
    let world = World::start().await;
    world.create("a", &open("s", "sample")).await;
    world.becomes("a", (2, 2, -1)).await;
    world.is_quiet().await;
    let route = world.get("VirtualService", "a").await.unwrap();
    let label = Patch::Merge(json!({"metadata": {"labels": {"team": "x"}}}));
    let labelled = world.apis().patch("a", &PatchParams::default(), &label).await.unwrap();
    let expected = labelled.metadata.resource_version.unwrap();
    let moved = world
        .sees("VirtualService", "a", "with the new version", |object| {
            object.metadata.labels.as_ref().is_some_and(|labels| labels["apiVersion"] == expected)
        })
        .await;
    assert_eq!((moved.metadata.uid.clone(), &moved.data), (route.metadata.uid, &route.data));
    let quiet = world.is_quiet().await;
    assert_eq!(version(&world.get("VirtualService", "a").await.unwrap()), version(&moved), "at {quiet}");
    world.stop().await;
}

#[tokio::test]
async fn marked_objects_that_nobody_renders_are_deleted_at_the_start() {
    let mut world = World::without_reconcilers().await;
    let api = world.create("a", &secured("s", "sample")).await;
    let owner = |name: &str, uid: &str| json!([{"apiVersion": "gateway.kyma-project.io/v1alpha2", "kind": "Api", "name": name, "uid": uid, "controller": true}]);
    let uid = api.metadata.uid.unwrap();
    for (kind, name, owners) in [
        ("VirtualService", "copy", owner("a", &uid)),
        ("VirtualService", "orphan", owner("orphan", "0000")),
        ("Policy", "copy", owner("a", &uid)),
        ("Policy", "orphan", owner("orphan", "0000")),
    ] {
        let more = json!({"metadata": {"ownerReferences": owners}, "spec": {"hosts": ["free.localhost"]}});
        world.write(kind, name, &more).await;
    }
    world.write("VirtualService", "users-own", &json!({"spec": {"hosts": ["users.localhost"]}})).await;
    // A route of an earlier Api of the same name is not adopted either; it goes, and ours comes.
    let more = json!({"metadata": {"ownerReferences": owner("a", "earlier")}, "spec": {"hosts": ["old.localhost"]}});
    world.write("VirtualService", "a", &more).await;
    world.start_reconcilers();
    for kind in ["VirtualService", "Policy"] {
        world.is_gone(kind, "copy").await;
        world.is_gone(kind, "orphan").await;
    }
    world.becomes("a", (2, 2, 2)).await;
    assert_eq!(world.get("VirtualService", "a").await.unwrap().data["spec"]["hosts"], json!(["sample.localhost"]));
    assert!(world.get("VirtualService", "users-own").await.is_some());
    world.stop().await;
}

#[tokio::test]
async fn projections_are_read_in_every_version() {
    let world = World::start().await;
    world.create("a", &open("s", "sample")).await;
    world.becomes("a", (2, 2, -1)).await;
    for served in ["v1alpha3", "v1beta1", "v1"] {
        let path = format!("/apis/networking.istio.io/{served}/namespaces/default/virtualservices/a");
        let request = http::Request::get(path).body(Vec::new()).unwrap();
        let object: serde_json::Value = world.client.request(request).await.unwrap();
        assert_eq!(object["apiVersion"], format!("networking.istio.io/{served}"));
        assert_eq!(object["spec"]["hosts"], json!(["sample.localhost"]));
    }
    world.stop().await;
}

#[tokio::test]
async fn authors_of_objects_without_effect_are_told_once() {
    let mut world = World::start().await;
    for kind in ["RequestAuthentication", "AuthorizationPolicy", "Policy"] {
        world.write(kind, "mine", &json!({"spec": {"selector": {}}})).await;
        world.event(kind, "mine", "NotProgrammed").await;
    }
    patch(&world, "Policy", "mine", json!({"metadata": {"labels": {"a": "b"}}})).await;
    world.is_quiet().await;
    world.stop_reconcilers().await;
    world.start_reconcilers();
    world.is_quiet().await;
    for kind in ["RequestAuthentication", "AuthorizationPolicy", "Policy"] {
        assert_eq!(world.events(kind, "mine").await.get("NotProgrammed"), Some(&1), "{kind}");
    }
    world.stop().await;
}

#[tokio::test]
async fn the_first_objects_are_made_and_the_shared_gateway_comes_back() {
    let world = World::start().await;
    tidegate_exposure::bootstrap(&world.client, "localhost").await.unwrap();
    tidegate_exposure::bootstrap(&world.client, "localhost").await.unwrap();
    let gateways: kube::Api<kube::api::DynamicObject> =
        kube::Api::namespaced_with(world.client.clone(), "kyma-system", &crate::common::resource("Gateway"));
    let made = gateways.get("kyma-gateway").await.unwrap();
    let servers = made.data["spec"]["servers"].as_array().unwrap();
    let ports: Vec<_> = servers
        .iter()
        .map(|s| (s["port"]["number"].clone(), s["port"]["protocol"].clone(), s["hosts"].clone()))
        .collect();
    assert_eq!(
        ports,
        [(json!(80), json!("HTTP"), json!(["*.localhost"])), (json!(443), json!("HTTPS"), json!(["*.localhost"]))]
    );
    gateways.delete("kyma-gateway", &kube::api::DeleteParams::default()).await.unwrap();
    tidegate_testkit::eventually_async(std::time::Duration::from_secs(5), "kyma-gateway is back", async || {
        gateways.get_opt("kyma-gateway").await.unwrap().filter(|again| again.metadata.uid != made.metadata.uid)
    })
    .await;
    world.stop().await;
}
