//! Many writers at once: nothing is lost, and everybody sees the same history (SPEC 60 §9, §10.1).

use serde_json::json;

use crate::common::{CONFIG_MAPS, World, config_map};

const WRITERS: usize = 8;
const ROUNDS: usize = 20;

/// Adds one to a counter the way a careful client does: read, write at that version, again on a conflict.
async fn count_up(world: &World, path: &str) {
    loop {
        let mut object = world.get(path).await.expect(200);
        let count: usize = object["data"]["count"].as_str().unwrap().parse().unwrap();
        object["data"]["count"] = (count + 1).to_string().into();
        match world.put(path, &object).await.status {
            200 => return,
            status => assert_eq!(status, 409),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn optimistic_writers_lose_no_update() {
    let world = World::open().await;
    world.post(CONFIG_MAPS, &config_map("counter", &json!({"count": "0"}))).await.expect(201);
    let path = format!("{CONFIG_MAPS}/counter");
    let writers = (0..WRITERS).map(|_| async {
        for _ in 0..ROUNDS {
            count_up(&world, &path).await;
        }
    });
    futures::future::join_all(writers).await;
    let counter = world.get(&path).await.expect(200);
    assert_eq!(counter["data"]["count"], (WRITERS * ROUNDS).to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn patches_never_conflict_and_all_watchers_see_one_history() {
    let world = World::open().await;
    let made = world.post(CONFIG_MAPS, &config_map("shared", &json!({}))).await.expect(201);
    let from = made["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let query = format!("{CONFIG_MAPS}?watch=1&resourceVersion={from}&fieldSelector=metadata.name%3Dshared");
    let mut watches = Vec::new();
    for _ in 0..4 {
        watches.push(world.watch(&query).await);
    }
    let path = format!("{CONFIG_MAPS}/shared");
    let writers = (0..WRITERS).map(|writer| {
        let (world, path) = (&world, &path);
        async move {
            for round in 0..ROUNDS {
                let patch = json!({"data": {(format!("w{writer}")): round.to_string()}});
                world.patch(path, &patch).await.expect(200);
            }
        }
    });
    futures::future::join_all(writers).await;
    let mut histories = Vec::new();
    for watch in &mut watches {
        let mut history = Vec::new();
        for _ in 0..WRITERS * ROUNDS {
            let line = watch.next().await.unwrap();
            history
                .push((line["object"]["metadata"]["resourceVersion"].to_string(), line["object"]["data"].to_string()));
        }
        histories.push(history);
    }
    assert!(histories.windows(2).all(|pair| pair[0] == pair[1]));
    let last = world.get(&path).await.expect(200);
    assert_eq!(last["data"].as_object().unwrap().len(), WRITERS);
    let last_round = json!((ROUNDS - 1).to_string());
    assert!(last["data"].as_object().unwrap().values().all(|round| *round == last_round));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_creates_of_one_name_one_wins() {
    let world = World::open().await;
    let object = config_map("one", &json!({}));
    let creates = (0..WRITERS).map(|_| world.post(CONFIG_MAPS, &object));
    let mut statuses: Vec<u16> = futures::future::join_all(creates).await.iter().map(|got| got.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409, 409, 409, 409, 409, 409, 409]);
}
