//! The life of a namespace (SPEC 60 §12.3).

use serde_json::json;

use crate::common::{World, config_map, eventually};

async fn with_namespace() -> World {
    let world = World::open().await;
    let made = world.post("/api/v1/namespaces", &json!({"metadata": {"name": "n"}})).await.expect(201);
    assert_eq!(made["metadata"]["labels"], json!({"kubernetes.io/metadata.name": "n"}));
    assert_eq!((&made["spec"]["finalizers"], &made["status"]["phase"]), (&json!(["kubernetes"]), &json!("Active")));
    world
}

#[tokio::test]
async fn a_deleted_namespace_is_gone_within_a_second_with_everything_in_it() {
    let world = with_namespace().await;
    world.post("/api/v1/namespaces/n/configmaps", &config_map("a", &json!({}))).await.expect(201);
    let started = tokio::time::Instant::now();
    let marked = world.delete("/api/v1/namespaces/n").await.expect(200);
    assert_eq!(marked["status"]["phase"], "Terminating");
    eventually("gone", async || world.get("/api/v1/namespaces/n").await.status == 404).await;
    assert!(started.elapsed() < std::time::Duration::from_secs(1), "{:?}", started.elapsed());
    assert_eq!(world.get("/api/v1/namespaces/n/configmaps").await.body["items"], json!([]));
}

#[tokio::test]
async fn a_terminating_namespace_says_what_holds_it_and_takes_nothing_new() {
    let world = with_namespace().await;
    let mut held = config_map("held", &json!({}));
    held["metadata"]["finalizers"] = json!(["e.com/h"]);
    world.post("/api/v1/namespaces/n/configmaps", &held).await.expect(201);
    world.delete("/api/v1/namespaces/n").await.expect(200);
    let late = world.post("/api/v1/namespaces/n/configmaps", &config_map("late", &json!({}))).await;
    assert_eq!(late.status, 403);
    assert_eq!(
        late.message(),
        "configmaps \"late\" is forbidden: unable to create new content in namespace n because it is being terminated"
    );
    assert_eq!(late.body["details"]["causes"][0]["reason"], "NamespaceTerminating");
    eventually("conditions", async || {
        let namespace = world.get("/api/v1/namespaces/n").await.body;
        namespace["status"]["conditions"][4]["message"]
            == "Some content in the namespace has finalizers remaining: e.com/h in 1 resource instances"
    })
    .await;
    world.patch("/api/v1/namespaces/n/configmaps/held", &json!({"metadata": {"finalizers": null}})).await.expect(200);
    eventually("gone", async || world.get("/api/v1/namespaces/n").await.status == 404).await;
    // A namesake is a new namespace.
    world.post("/api/v1/namespaces", &json!({"metadata": {"name": "n"}})).await.expect(201);
    eventually("furnished", async || world.get("/api/v1/namespaces/n/serviceaccounts/default").await.status == 200)
        .await;
}

#[tokio::test]
async fn finalizers_of_a_namespace_change_only_through_finalize() {
    let world = with_namespace().await;
    let patched = world.patch("/api/v1/namespaces/n", &json!({"spec": {"finalizers": ["e.com/x"]}})).await.expect(200);
    assert_eq!(patched["spec"]["finalizers"], json!(["kubernetes"]));
    let mut body = patched.clone();
    body["spec"]["finalizers"] = json!([]);
    let finalized = world.put("/api/v1/namespaces/n/finalize", &body).await.expect(200);
    assert!(finalized["spec"].get("finalizers").is_none_or(|list| list == &json!([])), "{finalized}");
    // Nothing holds it now: deleting removes it at once.
    let gone = world.delete("/api/v1/namespaces/n").await.expect(200);
    assert_eq!(gone["status"], "Success");
    world.get("/api/v1/namespaces/n").await.expect(404);
}
