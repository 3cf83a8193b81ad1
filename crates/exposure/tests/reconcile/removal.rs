//! Deletion: route, VirtualService, guard, finalizer, in this order. SPEC 30 §2.8.

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;
use tidegate_testkit::eventually_async;

use crate::common::{World, open, secured};

const FINALIZER: &str = "tidegate.io/exposure";

#[tokio::test]
async fn an_api_is_held_until_its_route_is_gone() {
    let world = World::start().await;
    world.create("a", &secured("s", "sample")).await;
    world.becomes("a", (2, 2, 2)).await;
    let api = world.apis().get("a").await.unwrap();
    assert_eq!(api.metadata.finalizers, Some(vec![FINALIZER.to_owned()]));
    world.gate.close();
    world.delete("a").await;
    world.is_quiet().await;
    assert!(world.apis().get_opt("a").await.unwrap().is_some(), "the route still answers");
    assert!(world.get("VirtualService", "a").await.is_some() && world.get("Policy", "a").await.is_some());
    world.gate.open();
    eventually_async(std::time::Duration::from_secs(10), "the Api is gone", async || {
        world.apis().get_opt("a").await.unwrap().is_none().then_some(())
    })
    .await;
    assert!(world.get("VirtualService", "a").await.is_none() && world.get("Policy", "a").await.is_none());
    world.event("Api", "a", "Removed").await;
    world.stop().await;
}

#[tokio::test]
async fn an_api_that_was_never_served_goes_too() {
    let world = World::start().await;
    world.create("a", &open("kubernetes", "sample")).await;
    world.becomes("a", (3, 0, -1)).await;
    world.delete("a").await;
    eventually_async(std::time::Duration::from_secs(10), "the Api is gone", async || {
        world.apis().get_opt("a").await.unwrap().is_none().then_some(())
    })
    .await;
    world.stop().await;
}

#[tokio::test]
async fn finalizers_of_others_are_left_alone_and_the_route_is_gone_all_the_same() {
    let world = World::start().await;
    world.create("a", &open("s", "sample")).await;
    world.becomes("a", (2, 2, -1)).await;
    let both = json!({"metadata": {"finalizers": [FINALIZER, "example.com/theirs"]}});
    world.apis().patch("a", &PatchParams::default(), &Patch::Merge(both)).await.unwrap();
    world.delete("a").await;
    world.is_gone("VirtualService", "a").await;
    eventually_async(std::time::Duration::from_secs(10), "our finalizer is gone", async || {
        let api = world.apis().get("a").await.unwrap();
        (api.metadata.finalizers == Some(vec!["example.com/theirs".to_owned()])).then_some(())
    })
    .await;
    world.is_quiet().await;
    assert!(world.get("VirtualService", "a").await.is_none(), "an owner that is being deleted gets nothing back");
    world.stop().await;
}

#[tokio::test]
async fn a_namespace_takes_its_apis_with_it() {
    let world = World::start().await;
    let namespaces: kube::Api<Namespace> = kube::Api::all(world.client.clone());
    let object = serde_json::from_value(json!({"metadata": {"name": "shop"}})).unwrap();
    namespaces.create(&PostParams::default(), &object).await.unwrap();
    let apis: kube::Api<tidegate_kinds::Api> = kube::Api::namespaced(world.client.clone(), "shop");
    let api = json!({"apiVersion": "gateway.kyma-project.io/v1alpha2", "kind": "Api", "metadata": {"name": "a"}, "spec": secured("s", "sample")});
    apis.create(&PostParams::default(), &serde_json::from_value(api).unwrap()).await.unwrap();
    eventually_async(std::time::Duration::from_secs(10), "served", async || {
        let status = apis.get("a").await.unwrap().status?;
        (status.validation_status == Some(2)).then_some(())
    })
    .await;
    namespaces.delete("shop", &DeleteParams::default()).await.unwrap();
    eventually_async(std::time::Duration::from_secs(20), "the namespace is gone", async || {
        namespaces.get_opt("shop").await.unwrap().is_none().then_some(())
    })
    .await;
    // The host is free again.
    world.create("b", &open("s", "sample")).await;
    world.becomes("b", (2, 2, -1)).await;
    world.stop().await;
}

#[tokio::test]
async fn a_recreated_api_starts_anew() {
    let world = World::start().await;
    world.create("a", &secured("s", "sample")).await;
    let first = world.becomes("a", (2, 2, 2)).await;
    world.delete("a").await;
    eventually_async(std::time::Duration::from_secs(10), "the Api is gone", async || {
        world.apis().get_opt("a").await.unwrap().is_none().then_some(())
    })
    .await;
    world.create("a", &open("s", "sample")).await;
    let second = world.becomes("a", (2, 2, -1)).await;
    assert_ne!(first["virtualService"]["resource"]["uid"], second["virtualService"]["resource"]["uid"]);
    assert!(world.get("Policy", "a").await.is_none());
    world.stop().await;
}
