//! Lists, pages, tables and watches (SPEC 60 §8, §9, §15).

use crate::common::{CONFIG_MAPS, WIDGETS, Watch, World, config_map, eventually, widget, widgets};
use serde_json::{Value, json};

const TABLE: (&str, &str) = ("accept", "application/json;as=Table;g=meta.k8s.io;v=v1");

/// Leaves `kube-root-ca.crt` out of what a selector sees.
fn marked(name: &str) -> Value {
    let mut object = config_map(name, &json!({}));
    object["metadata"]["labels"] = json!({"mine": "yes"});
    object
}

fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn pages_come_from_one_snapshot() {
    let world = World::open().await;
    world.post("/api/v1/namespaces", &json!({"metadata": {"name": "n"}})).await.expect(201);
    let path = "/api/v1/namespaces/n/secrets";
    for name in ["a", "b", "c", "d", "e"] {
        world.post(path, &json!({"metadata": {"name": name}})).await.expect(201);
    }
    let first = world.get(&format!("{path}?&limit=2")).await.expect(200);
    assert_eq!((first["kind"].as_str(), names(&first)), (Some("SecretList"), vec!["a", "b"]));
    assert_eq!(first["metadata"]["remainingItemCount"], 3);
    let token = first["metadata"]["continue"].as_str().unwrap();
    world.delete(&format!("{path}/c")).await.expect(200);
    let second = world.get(&format!("{path}?limit=2&continue={token}")).await.expect(200);
    assert_eq!(names(&second), ["c", "d"]);
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    let token = second["metadata"]["continue"].as_str().unwrap();
    let last = world.get(&format!("{path}?limit=2&continue={token}")).await.expect(200);
    assert_eq!(names(&last), ["e"]);
    assert!(last["metadata"].get("continue").is_none());
    // With a selector nothing is counted, and a token is good for its collection only.
    let selected = world.get(&format!("{path}?limit=2&fieldSelector=type%3DOpaque")).await.expect(200);
    assert!(selected["metadata"].get("remainingItemCount").is_none());
    let other = world.get(&format!("{CONFIG_MAPS}?limit=2&continue={token}")).await;
    assert_eq!(other.status, 400);
}

#[tokio::test]
async fn a_list_is_as_new_as_asked() {
    let world = World::open().await;
    let before = world.get(CONFIG_MAPS).await.expect(200)["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    world.post(CONFIG_MAPS, &config_map("zz", &json!({}))).await.expect(201);
    let exact =
        world.get(&format!("{CONFIG_MAPS}?resourceVersion={before}&resourceVersionMatch=Exact")).await.expect(200);
    assert!(!names(&exact).contains(&"zz"));
    assert_eq!(exact["metadata"]["resourceVersion"], before);
    let newer = world
        .get(&format!("{CONFIG_MAPS}?resourceVersion={before}&resourceVersionMatch=NotOlderThan"))
        .await
        .expect(200);
    assert!(names(&newer).contains(&"zz"));
    let future = world.get(&format!("{CONFIG_MAPS}?resourceVersion=999999")).await;
    assert_eq!((future.status, future.header("retry-after")), (504, "1"));
    assert!(future.message().starts_with("Timeout: Too large resource version: 999999, current: "), "{}", future.text);
    assert_eq!(world.get(&format!("{CONFIG_MAPS}?labelSelector=a%20b")).await.status, 400);
    assert_eq!(world.get(&format!("{CONFIG_MAPS}?fieldSelector=spec.x%3D1")).await.status, 400);
}

#[tokio::test]
async fn objects_come_as_tables_metadata_or_yaml() {
    let world = World::open().await;
    world.post(CONFIG_MAPS, &config_map("zz", &json!({"a": "b"}))).await.expect(201);
    let path = format!("{CONFIG_MAPS}?fieldSelector=metadata.name%3Dzz");
    let table = world.ask("GET", &path, &[TABLE], b"").await.expect(200);
    assert_eq!((&table["kind"], &table["columnDefinitions"][1]["name"]), (&json!("Table"), &json!("Data")));
    assert_eq!(table["rows"][0]["cells"][0], "zz");
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let one = world.ask("GET", &format!("{CONFIG_MAPS}/zz"), &[TABLE], b"").await.expect(200);
    assert_eq!(one["rows"][0]["cells"][0], "zz");
    let accept = ("accept", "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1");
    let partial = world.ask("GET", &path, &[accept], b"").await.expect(200);
    assert_eq!((&partial["kind"], partial["items"][0].get("data")), (&json!("PartialObjectMetadataList"), None));
    let yaml = world.ask("GET", &format!("{CONFIG_MAPS}/zz"), &[("accept", "application/yaml")], b"").await;
    assert_eq!((yaml.status, yaml.header("content-type")), (200, "application/yaml"));
    assert!(yaml.text.contains("kind: ConfigMap"), "{}", yaml.text);
    assert_eq!(world.ask("GET", &path, &[("accept", "application/cbor")], b"").await.status, 406);
    let pretty = world.get(&format!("{CONFIG_MAPS}/zz?pretty=true")).await;
    assert!(pretty.text.contains("\n  \""), "{}", pretty.text);
}

#[tokio::test]
async fn a_watch_tells_every_change_in_order() {
    let world = World::open().await;
    let revision = world.get(CONFIG_MAPS).await.expect(200)["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let selector = "labelSelector=mine%3Dyes";
    let mut watch = world.watch(&format!("{CONFIG_MAPS}?watch=1&{selector}&resourceVersion={revision}")).await;
    world.post(CONFIG_MAPS, &marked("a")).await.expect(201);
    let path = format!("{CONFIG_MAPS}/a");
    world.patch(&path, &json!({"data": {"k": "v"}})).await.expect(200);
    // Leaving and entering the selection look like deletion and creation.
    world.patch(&path, &json!({"metadata": {"labels": null}})).await.expect(200);
    world.patch(&path, &json!({"data": {"k": "w"}})).await.expect(200);
    world.patch(&path, &json!({"metadata": {"labels": {"mine": "yes"}}})).await.expect(200);
    world.delete(&path).await.expect(200);
    let mut seen = Vec::new();
    let mut last = 0;
    for _ in 0..5 {
        let line = watch.next().await.unwrap();
        let revision: u64 = line["object"]["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
        assert!(revision > last);
        last = revision;
        seen.push(format!(
            "{} {}",
            line["type"].as_str().unwrap(),
            line["object"]["data"]["k"].as_str().unwrap_or("-")
        ));
        assert_eq!(line["object"]["kind"], "ConfigMap");
    }
    assert_eq!(seen, ["ADDED -", "MODIFIED v", "DELETED v", "ADDED w", "DELETED w"]);
    assert!(world.metrics.encode().contains("tidegate_kube_watches 1"));
    drop(watch);
    assert!(world.metrics.encode().contains("tidegate_kube_watches 0"));
}

#[tokio::test]
async fn a_watch_begins_with_the_state_where_asked() {
    let world = World::open().await;
    world.post(CONFIG_MAPS, &marked("a")).await.expect(201);
    let mut plain = world.watch(&format!("{CONFIG_MAPS}?watch=true&labelSelector=mine")).await;
    assert_eq!(plain.step().await, "ADDED a");
    let mut listed = world
        .watch(&format!("{CONFIG_MAPS}?watch=true&labelSelector=mine&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"))
        .await;
    assert_eq!(listed.step().await, "ADDED a");
    let bookmark = listed.next().await.unwrap();
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(bookmark["object"]["metadata"]["annotations"], json!({"k8s.io/initial-events-end": "true"}));
    assert_eq!(bookmark["object"]["kind"], "ConfigMap");
    world.post(CONFIG_MAPS, &marked("b")).await.expect(201);
    assert_eq!((plain.step().await, listed.step().await), ("ADDED b".to_owned(), "ADDED b".to_owned()));
}

#[tokio::test]
async fn a_watch_ends_at_its_timeout_with_a_last_bookmark() {
    let world = World::open().await;
    let revision = world.get(CONFIG_MAPS).await.expect(200)["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let query =
        format!("watch=1&resourceVersion={revision}&timeoutSeconds=3&allowWatchBookmarks=true&labelSelector=mine");
    let mut watch = world.watch(&format!("{CONFIG_MAPS}?{query}")).await;
    world.post(CONFIG_MAPS, &config_map("other", &json!({}))).await.expect(201);
    assert_eq!(watch.next().await.unwrap()["type"], "BOOKMARK");
    assert_eq!(watch.step().await, "END");
}

#[tokio::test]
async fn a_table_watch_names_its_columns_once() {
    let world = World::open().await;
    world.post(CONFIG_MAPS, &marked("a")).await.expect(201);
    world.post(CONFIG_MAPS, &marked("b")).await.expect(201);
    let answer = world.send("GET", &format!("{CONFIG_MAPS}?watch=1&labelSelector=mine"), &[TABLE], b"").await;
    let mut watch = Watch::new(answer);
    let (first, second) = (watch.next().await.unwrap(), watch.next().await.unwrap());
    assert_eq!(first["object"]["columnDefinitions"][0]["name"], "Name");
    assert_eq!(
        (&second["object"]["columnDefinitions"], &second["object"]["rows"][0]["cells"][0]),
        (&Value::Null, &json!("b"))
    );
}

#[tokio::test]
async fn streams_end_cleanly_on_shutdown_and_when_the_definition_changes() {
    let world = World::open_in(tempfile::tempdir().unwrap(), vec![widgets()]).await;
    let mut instances = world.watch(&format!("{WIDGETS}?watch=1")).await;
    let mut config_maps = world.watch(&format!("{CONFIG_MAPS}?watch=1&labelSelector=mine")).await;
    world.post(WIDGETS, &widget("a", &json!({"size": 1}))).await.expect(201);
    assert_eq!(instances.step().await, "ADDED a");
    // A status write of the definition is no change of its schema.
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/widgets.example.com";
    world.patch(path, &json!({"metadata": {"labels": {"x": "y"}}})).await.expect(200);
    world.patch(&format!("{WIDGETS}/a"), &json!({"spec": {"size": 2}})).await.expect(200);
    assert_eq!(instances.step().await, "MODIFIED a");
    let mut definition = world.get(path).await.expect(200);
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["extra"] =
        json!({"type": "string"});
    world.put(path, &definition).await.expect(200);
    assert_eq!(instances.step().await, "END");
    world.tasks.shutdown().cancel();
    assert_eq!(config_maps.step().await, "END");
}

#[tokio::test]
async fn every_namespace_is_furnished_again() {
    let world = World::open().await;
    for namespace in ["default", "kube-system", "kube-public", "kube-node-lease", "kyma-system"] {
        let path = format!("/api/v1/namespaces/{namespace}");
        world.get(&path).await.expect(200);
        eventually("furnished", async || {
            world.get(&format!("{path}/serviceaccounts/default")).await.status == 200
                && world.get(&format!("{path}/configmaps/kube-root-ca.crt")).await.status == 200
        })
        .await;
    }
    let path = format!("{CONFIG_MAPS}/kube-root-ca.crt");
    let before = world.get(&path).await.expect(200);
    assert_eq!(before["data"]["ca.crt"].as_str(), Some(world.plane.ca_pem()));
    world.delete(&path).await.expect(200);
    eventually("recreated", async || world.get(&path).await.status == 200).await;
    eventually("service", async || world.get("/api/v1/namespaces/default/services/kubernetes").await.status == 200)
        .await;
}
