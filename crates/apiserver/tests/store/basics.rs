//! One promise of the store per test.

use std::convert::Infallible;
use std::sync::Arc;

use rusqlite::Connection;
use serde_json::json;
use tidegate_apiserver::store::{
    EventKind, Key, ListError, MAX_OBJECT_BYTES, OpenError, PutError, Resource, StoreError, WatchError, WriteError,
};
use uuid::Uuid;

use crate::support::*;

#[tokio::test]
async fn first_revision_of_a_new_cluster_is_1000_and_each_write_takes_the_next() {
    let world = World::new();
    let store = world.open();
    assert_eq!(store.revision(ROOT), 999);
    assert_eq!(put(&store, "a", "1").await.revision, 1000);
    assert_eq!(put(&store, "b", "1").await.revision, 1001);
    let object = put(&store, "a", "2").await;
    assert_eq!(object.revision, 1002);
    assert_eq!(object.body()["metadata"]["resourceVersion"], "1002");
    assert_eq!(store.get(&key("a")).unwrap().encoded, object.encoded);
    assert_eq!(store.revision(ROOT), 1002);
    assert_eq!(store.cluster("root"), Some(ROOT));
    assert_eq!(store.cluster("a/b"), None);
}

#[tokio::test]
async fn state_revision_and_events_are_there_after_a_restart() {
    let world = World::new();
    let store = world.open();
    put(&store, "a", "1").await;
    put(&store, "b", &"long ".repeat(1_000)).await;
    put(&store, "a", "2").await;
    delete(&store, "b").await;
    put(&store, "c", &"long ".repeat(1_000)).await;
    store.close().await;

    let store = world.open();
    assert_eq!(store.revision(ROOT), 1004);
    let snapshot = store.snapshot(ROOT, &config_maps());
    let names: Vec<_> = snapshot.iter().map(|object| (object.name(), object.revision)).collect();
    assert_eq!(names, [("a", 1002), ("c", 1004)]);
    assert_eq!(value(snapshot.get("default", "c").unwrap()), "long ".repeat(1_000));
    let mut stream = store.watch(ROOT, &config_maps(), 1001).unwrap();
    let long = "long ".repeat(1_000);
    let expected =
        ["MODIFIED a=2 @1002".to_owned(), format!("DELETED b={long} @1003"), format!("ADDED c={long} @1004")];
    assert_eq!(take(&mut stream, 3).await, expected);
    assert_eq!(put(&store, "d", "1").await.revision, 1005);
}

#[tokio::test]
async fn writing_the_same_again_changes_nothing_and_emits_nothing() {
    let world = World::new();
    let store = world.open();
    let first = put(&store, "a", "1").await;
    let mut stream = store.watch(ROOT, &config_maps(), first.revision).unwrap();
    let again = put(&store, "a", "1").await;
    assert_eq!(again.revision, first.revision);
    assert_eq!(store.revision(ROOT), first.revision);
    put(&store, "a", "2").await;
    assert_eq!(take(&mut stream, 1).await, ["MODIFIED a=2 @1001"]);
}

#[tokio::test]
async fn a_refused_operation_leaves_nothing_and_the_others_of_its_batch_stand() {
    let world = World::new();
    let store = world.open();
    let refused = store.write(|txn| {
        txn.put(&key("x"), config_map("x", "1")).unwrap();
        txn.put(&key("y"), config_map("y", "1")).unwrap();
        Err::<(), _>("no")
    });
    let (before, refused, after) = tokio::join!(put(&store, "a", "1"), refused, put(&store, "b", "1"));
    assert!(matches!(refused, Err(WriteError::Refused("no"))));
    assert_eq!((before.revision, after.revision), (1000, 1001));
    assert!(store.get(&key("x")).is_none());
    assert_eq!(store.count(ROOT, &config_maps()), 2);
}

#[tokio::test]
async fn an_operation_sees_its_own_writes_and_is_visible_as_one() {
    let world = World::new();
    let store = world.open();
    let mut stream = store.watch(ROOT, &config_maps(), 0).unwrap();
    let counts = store.write(|txn| {
        let before = txn.snapshot(ROOT, &config_maps());
        txn.put(&key("a"), config_map("a", "1"))?;
        txn.put(&key("b"), config_map("b", "1"))?;
        let deleted = txn.delete(&key("a")).map(|object| object.revision);
        assert!(txn.get(&key("a")).is_none());
        assert_eq!(txn.delete(&key("a")).map(|object| object.revision), None);
        let after = txn.snapshot(ROOT, &config_maps());
        Ok::<_, PutError>((before.len(), after.len(), deleted))
    });
    assert_eq!(counts.await.unwrap(), (0, 1, Some(1002)));
    assert_eq!(take(&mut stream, 3).await, ["ADDED a=1 @1000", "ADDED b=1 @1001", "DELETED a=1 @1002"]);
}

#[tokio::test]
async fn a_dry_run_shows_the_result_and_writes_nothing() {
    let world = World::new();
    let store = world.open();
    put(&store, "a", "1").await;
    let dry = store.dry_run(|txn| {
        let created = txn.put(&key("b"), config_map("b", "1"))?;
        let updated = txn.put(&key("a"), config_map("a", "2"))?;
        let deleted = txn.delete(&key("b"));
        Ok::<_, PutError>((created, updated, deleted))
    });
    let (created, updated, deleted) = dry.await.unwrap();
    assert!(created.body()["metadata"].get("resourceVersion").is_none());
    assert_eq!((updated.revision, value(&updated)), (1000, "2"));
    assert_eq!(deleted.unwrap().encoded, created.encoded);
    assert_eq!(store.revision(ROOT), 1000);
    assert_eq!(value(&store.get(&key("a")).unwrap()), "1");
    assert_eq!(put(&store, "c", "1").await.revision, 1001);
}

#[tokio::test]
async fn bodies_that_cannot_be_stored_are_refused() {
    let world = World::new();
    let store = world.open();
    let put = |body| store.write(move |txn| txn.put(&key("a"), body));
    let refusal = |result| match result {
        Err(WriteError::Refused(error)) => error,
        Err(WriteError::Store(error)) => panic!("{error}"),
        Ok::<Arc<_>, _>(object) => panic!("{object:?}"),
    };
    assert_eq!(refusal(put(json!({"metadata": {"name": "a"}})).await), PutError::NoUid);
    assert_eq!(refusal(put(json!({"metadata": {"name": "a", "uid": "x"}})).await), PutError::NoUid);
    assert_eq!(refusal(put(json!("text")).await), PutError::NoUid);
    let large = config_map("a", &"x".repeat(MAX_OBJECT_BYTES));
    assert!(matches!(refusal(put(large).await), PutError::TooLarge { limit: MAX_OBJECT_BYTES, .. }));
    assert_eq!(store.revision(ROOT), 999);
}

#[tokio::test]
async fn a_uid_belongs_to_one_object() {
    let world = World::new();
    let store = world.open();
    put(&store, "a", "1").await;
    let other = Key::new(ROOT, &Resource::new("", "secrets"), "default", "thief");
    let taken = store.write(move |txn| txn.put(&other, config_map("a", "1"))).await;
    assert!(matches!(taken, Err(WriteError::Store(StoreError::DuplicateUid))), "{taken:?}");
    assert!(world.readiness.is_ready());
    assert_eq!(put(&store, "b", "1").await.revision, 1001);
}

#[tokio::test]
async fn a_panic_in_an_operation_is_its_own_affair() {
    let world = World::new();
    let store = world.open();
    let broken = store.write(|txn| {
        txn.put(&key("a"), config_map("a", "1")).unwrap();
        assert!(txn.is_dry_run(), "on purpose");
        Ok::<_, Infallible>(())
    });
    assert!(matches!(broken.await, Err(WriteError::Store(StoreError::Panicked))));
    assert!(store.get(&key("a")).is_none());
    assert_eq!(put(&store, "b", "1").await.revision, 1000);
}

#[tokio::test]
async fn snapshots_are_ordered_paged_and_do_not_change() {
    let world = World::new();
    let store = world.open();
    for (namespace, name) in [("b", "1"), ("a-b", "1"), ("a", "2"), ("a", "1"), ("a", "10")] {
        let key = Key::new(ROOT, &config_maps(), namespace, name);
        let body = config_map(&format!("{namespace}/{name}"), "1");
        store.write(move |txn| txn.put(&key, body)).await.unwrap();
    }
    let snapshot = store.snapshot(ROOT, &config_maps());
    delete(&store, "nothing").await;
    let everything = Key::new(ROOT, &config_maps(), "a", "1");
    settled(store.write(move |txn| Ok::<_, Infallible>(txn.delete(&everything))).await);
    let names = |objects: &mut dyn Iterator<Item = &Arc<_>>| -> Vec<String> {
        objects
            .map(|object: &Arc<tidegate_apiserver::store::Object>| format!("{}/{}", object.namespace(), object.name()))
            .collect()
    };
    assert_eq!(names(&mut snapshot.iter()), ["a/1", "a/10", "a/2", "a-b/1", "b/1"]);
    assert_eq!(names(&mut snapshot.namespace("a")), ["a/1", "a/10", "a/2"]);
    assert_eq!(names(&mut snapshot.namespace_from("a", "1\0")), ["a/10", "a/2"]);
    assert_eq!(names(&mut snapshot.from("a", "2")), ["a/2", "a-b/1", "b/1"]);
    assert_eq!((snapshot.len(), store.count(ROOT, &config_maps())), (5, 4));
    let view = store.view(ROOT);
    assert_eq!(names(&mut view.in_namespace("a")), ["a/10", "a/2"]);
    assert_eq!(
        view.counts().map(|(resource, count)| (resource.to_string(), count)).collect::<Vec<_>>(),
        [("configmaps".to_owned(), 4)]
    );
}

#[tokio::test]
async fn a_snapshot_carries_the_revision_of_the_whole_cluster() {
    let world = World::new();
    let store = world.open();
    put(&store, "a", "1").await;
    let secrets = Resource::new("", "secrets");
    assert_eq!(store.snapshot(ROOT, &secrets).revision, 1000);
    let mut stream = store.watch(ROOT, &secrets, 1000).unwrap();
    put(&store, "a", "2").await;
    assert!(stream.try_next().is_none());
    assert_eq!(stream.progress(), Some(1001));
}

#[tokio::test]
async fn lists_at_an_old_revision_show_what_was_then() {
    let world = World::new();
    let store = world.open();
    put(&store, "a", "1").await;
    put(&store, "b", "1").await;
    put(&store, "a", "2").await;
    delete(&store, "b").await;
    put(&store, "b", "2").await;
    for restarted in [false, true] {
        let store = if restarted {
            store.close().await;
            world.open()
        } else {
            store.clone()
        };
        let expected =
            [(999, ""), (1000, "a=1"), (1001, "a=1 b=1"), (1002, "a=2 b=1"), (1003, "a=2"), (1004, "a=2 b=2")];
        for (revision, expected) in expected {
            let snapshot = store.list_at(ROOT, &config_maps(), revision).await.unwrap();
            let shown: Vec<_> = snapshot.iter().map(|object| format!("{}={}", object.name(), value(object))).collect();
            assert_eq!((snapshot.revision, shown.join(" ").as_str()), (revision, expected));
        }
        let future = store.list_at(ROOT, &config_maps(), 1005).await;
        assert!(matches!(future, Err(ListError::Future { requested: 1005, current: 1004 })));
    }
}

#[tokio::test]
async fn a_watch_from_the_future_delivers_nothing_up_to_it() {
    let world = World::new();
    let store = world.open();
    let mut stream = store.watch(ROOT, &config_maps(), 1001).unwrap();
    put(&store, "a", "1").await;
    assert_eq!(stream.progress(), None);
    put(&store, "a", "2").await;
    assert!(stream.try_next().is_none());
    put(&store, "a", "3").await;
    assert_eq!(take(&mut stream, 1).await, ["MODIFIED a=3 @1002"]);
    tokio::time::timeout(LONG, store.reached(ROOT, 1002)).await.unwrap();
}

#[tokio::test]
async fn events_are_shared_and_encoded_once() {
    let world = World::new();
    let store = world.open();
    let mut streams: Vec<_> = (0..2).map(|_| store.watch(ROOT, &config_maps(), 0).unwrap()).collect();
    let object = put(&store, "a", "1").await;
    let first = next(&mut streams[0]).await.unwrap().unwrap();
    let second = next(&mut streams[1]).await.unwrap().unwrap();
    assert!(Arc::ptr_eq(&first, &second));
    assert_eq!(first.line().as_ptr(), second.line().as_ptr());
    let line = format!("{{\"type\":\"ADDED\",\"object\":{}}}\n", std::str::from_utf8(&object.encoded).unwrap());
    assert_eq!(first.line(), line.as_bytes());
    assert_eq!(first.kind, EventKind::Added);
}

#[tokio::test]
async fn a_reader_more_than_1000_events_behind_is_cut_off_and_others_are_not() {
    let world = World::new();
    let store = world.open();
    put(&store, "a", "start").await;
    let mut slow = store.watch(ROOT, &config_maps(), 1000).unwrap();
    let mut current = store.watch(ROOT, &config_maps(), 1000).unwrap();
    let update = |value: usize| {
        let store = store.clone();
        async move { put(&store, "a", &value.to_string()).await }
    };
    futures::future::join_all((0..1_000).map(update)).await;
    take(&mut current, 1_000).await;
    assert_eq!(current.progress(), Some(2000));
    assert_eq!(slow.progress(), None);
    // What came with the last commit does not count, whoever has not been asked since is not slow.
    update(1_000).await;
    update(1_001).await;
    assert!(matches!(next(&mut slow).await, Some(Err(WatchError::Lagged { reached: 1000, .. }))));
    assert!(next(&mut slow).await.is_none());
    assert_eq!(take(&mut current, 2).await, ["MODIFIED a=1000 @2001", "MODIFIED a=1001 @2002"]);
    // Who asks for a backlog gets it: it is no fault of the reader.
    let mut late = store.watch(ROOT, &config_maps(), 1000).unwrap();
    assert_eq!(take(&mut late, 1_002).await.len(), 1_002);
}

#[tokio::test]
async fn a_transaction_of_any_size_reaches_every_reader() {
    let world = World::new();
    let store = world.open();
    let mut stream = store.watch(ROOT, &config_maps(), 999).unwrap();
    let names: Vec<_> = (0..5_000).map(|number| format!("{number}")).collect();
    let operation = move |txn: &mut tidegate_apiserver::store::Txn<'_>| {
        names.iter().try_for_each(|name| txn.put(&key(name), config_map(name, "1")).map(drop))
    };
    store.write(operation).await.unwrap();
    let texts = take(&mut stream, 5_000).await;
    assert_eq!(texts.last().unwrap(), "ADDED 4999=1 @5999");
}

#[tokio::test]
async fn a_reader_more_than_4_mib_behind_is_cut_off() {
    let world = World::new();
    let store = world.open();
    let mut slow = store.watch(ROOT, &config_maps(), 999).unwrap();
    for round in 0..6 {
        put(&store, "a", &format!("{round}{}", "x".repeat(1 << 20))).await;
    }
    assert!(matches!(next(&mut slow).await, Some(Err(WatchError::Lagged { .. }))));
}

#[tokio::test]
async fn watches_of_a_resource_end_after_its_last_event() {
    let world = World::new();
    let store = world.open();
    let mut stream = store.watch(ROOT, &config_maps(), 0).unwrap();
    let mut other = store.watch(ROOT, &Resource::new("", "secrets"), 999).unwrap();
    for name in 0..1_500 {
        put(&store, &name.to_string(), "1").await;
        take(&mut stream, 1).await;
    }
    let deleting = async {
        assert_eq!(store.delete_resource(ROOT, &config_maps()).await.unwrap(), 1_500);
        store.end_watches(ROOT, &config_maps());
    };
    let reading = async {
        let mut deleted = 0;
        while let Some(event) = next(&mut stream).await {
            assert_eq!(event.unwrap().kind, EventKind::Deleted);
            deleted += 1;
        }
        deleted
    };
    let ((), deleted) = tokio::join!(deleting, reading);
    assert_eq!(deleted, 1_500);
    assert!(store.watch(ROOT, &config_maps(), store.revision(ROOT)).unwrap().try_next().is_none());
    assert_eq!(other.progress(), Some(3_999));

    store.close().await;
    assert!(next(&mut other).await.is_none());
    assert!(matches!(store.watch(ROOT, &config_maps(), 0), Err(WatchError::Store(StoreError::Closed))));
    let late = store.write(|txn| Ok::<_, Infallible>(txn.revision(ROOT))).await;
    assert!(matches!(late, Err(WriteError::Store(StoreError::Closed))));
}

#[tokio::test]
async fn the_owner_index_follows_the_objects() {
    let world = World::new();
    let store = world.open();
    let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let owned_by = |owners: &[Uuid]| {
        let mut body = config_map("a", "1");
        let reference = |uid: &Uuid| json!({"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": uid.to_string()});
        body["metadata"]["ownerReferences"] = owners.iter().map(reference).collect();
        store.write(move |txn| txn.put(&key("a"), body))
    };
    let dependents = async |owner| store.dependents(ROOT, owner).await.unwrap();
    owned_by(&[one, two, two]).await.unwrap();
    assert_eq!(dependents(one).await, [key("a")]);
    assert_eq!(dependents(two).await, [key("a")]);
    owned_by(&[two]).await.unwrap();
    assert!(dependents(one).await.is_empty());
    assert_eq!(dependents(two).await, [key("a")]);
    delete(&store, "a").await;
    assert!(dependents(two).await.is_empty());
}

#[tokio::test]
async fn files_of_others_and_of_newer_programs_are_refused() {
    let world = World::new();
    world.open().close().await;
    let path = world.folder.path().join("store.db");
    let set = |pragma: &str, value: i32| Connection::open(&path).unwrap().pragma_update(None, pragma, value).unwrap();

    set("user_version", 7);
    let error = world.try_open().err().unwrap();
    assert!(matches!(error, OpenError::Newer { found: 7, known: 1, .. }), "{error}");
    assert!(error.to_string().contains("written by a newer tidegate"), "{error}");

    set("user_version", 1);
    set("application_id", 42);
    assert!(matches!(world.try_open(), Err(OpenError::Foreign { application_id: 42, .. })));

    std::fs::write(&path, "not a database, but long enough to be taken for one at first sight".repeat(20)).unwrap();
    assert!(matches!(world.try_open(), Err(OpenError::Open { .. })));
}

#[tokio::test]
async fn the_store_shows_its_metrics() {
    let world = World::new();
    let store = world.open();
    put(&store, "a", "1").await;
    let text = world.metrics.encode();
    for line in [
        "tidegate_store_objects{resource=\"configmaps\"} 1",
        "tidegate_store_commit_duration_seconds_count 1",
        "tidegate_store_batch_commands_sum 1.0",
        "tidegate_store_wal_bytes ",
        "tidegate_store_compaction_age_seconds ",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}
