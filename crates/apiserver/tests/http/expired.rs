//! What is too old to be told (SPEC 60 §8, §9): pages and watches whose history is gone.

use std::time::Duration;

use futures::{StreamExt as _, stream};
use serde_json::{Value, json};
use tidegate_runtime::Clock;

use crate::common::{CONFIG_MAPS, World, eventually};

/// The store keeps this many events whatever their age.
const KEPT: usize = 10_000;

async fn create(world: &World, prefix: &str, count: usize) {
    let object = json!({"metadata": {"generateName": prefix}});
    let creates = stream::iter(0..count).map(|_| world.post(CONFIG_MAPS, &object));
    creates.buffer_unordered(256).for_each(async |got| drop(got.expect(201))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_compacted_is_410_and_lists_can_go_on() {
    let (clock, hand) = Clock::manual("2026-11-22T00:00:00Z".parse().unwrap());
    let world = World::open_at(clock).await;
    let first = world.get(&format!("{CONFIG_MAPS}?limit=1")).await.expect(200);
    create(&world, "a-", 3).await;
    let page = world.get(&format!("{CONFIG_MAPS}?limit=2")).await.expect(200);
    let token = page["metadata"]["continue"].as_str().unwrap();
    let old = first["metadata"]["resourceVersion"].as_str().unwrap();
    // Every object is made and deleted: two events.
    create(&world, "m-", KEPT / 2 + 10).await;
    world.delete(CONFIG_MAPS).await.expect(200);
    create(&world, "z-", 5).await;
    hand.advance(Duration::from_mins(20));
    eventually("compacted", async || world.get(&format!("{CONFIG_MAPS}?limit=2&continue={token}")).await.status == 410)
        .await;

    let gone = world.get(&format!("{CONFIG_MAPS}?limit=2&continue={token}")).await;
    assert_eq!(gone.body["reason"], "Expired");
    assert!(
        gone.message().starts_with("The provided continue parameter is too old to display a consistent list result.")
    );
    let mut token = gone.body["metadata"]["continue"].as_str().map(str::to_owned);
    let mut listed = 0;
    while let Some(next) = token {
        let page = world.get(&format!("{CONFIG_MAPS}?limit=2&continue={next}")).await.expect(200);
        listed += page["items"].as_array().unwrap().len();
        token = page["metadata"]["continue"].as_str().map(str::to_owned);
    }
    // The CA comes back by itself, somewhere before.
    assert!((5..=6).contains(&listed), "{listed}");

    let exact = world.get(&format!("{CONFIG_MAPS}?resourceVersion={old}&resourceVersionMatch=Exact")).await;
    assert_eq!(
        (exact.status, &exact.body["reason"], exact.message()),
        (410, &json!("Expired"), "The resourceVersion for the provided list is too old.")
    );
    let mut watch = world.watch(&format!("{CONFIG_MAPS}?watch=1&resourceVersion={old}")).await;
    let line: Value = watch.next().await.unwrap();
    assert_eq!(
        (&line["type"], &line["object"]["kind"], &line["object"]["code"]),
        (&json!("ERROR"), &json!("Status"), &json!(410))
    );
    let message = line["object"]["message"].as_str().unwrap();
    assert!(message.starts_with(&format!("too old resource version: {old} (")), "{message}");
    assert_eq!(watch.step().await, "END");
}
