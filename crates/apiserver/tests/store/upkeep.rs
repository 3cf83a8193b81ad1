//! What the store does by itself: compaction, checkpoints, checks after an unclean stop.

use std::fs;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::Connection;
use tidegate_apiserver::store::{
    Durability, ListError, OpenError, PutError, Retention, Store, StoreOptions, Txn, WatchError,
};
use tidegate_runtime::Clock;

use crate::support::*;

#[tokio::test]
async fn events_are_compacted_when_they_are_old_and_not_among_the_newest() {
    let (clock, hand) = Clock::manual(Timestamp::from_second(1_800_000_000).unwrap());
    let world = World { clock, ..World::new() };
    let retention = Retention { newest: 100, ..Retention::default() };
    let store = Store::open(StoreOptions { retention, ..world.options() }).unwrap();
    let mut early = store.watch(ROOT, &config_maps(), 999).unwrap();
    // More than one slice of compaction, and more than the memory holds.
    let fill = |txn: &mut Txn<'_>| {
        (0..5_000).try_for_each(|value| txn.put(&key("a"), config_map("a", &format!("{value}"))).map(drop))
    };
    store.write::<_, PutError, _>(fill).await.unwrap();

    hand.advance(Duration::from_mins(14));
    store.compact().await.unwrap();
    assert_eq!(store.compacted(ROOT), 0, "nothing is old enough");

    // By itself: after the next commit, since a minute has passed.
    hand.advance(Duration::from_mins(2));
    put(&store, "b", "1").await;
    eventually("compaction", || store.compacted(ROOT) == 5_900).await;
    for (from, readable) in [(999, false), (5_899, false), (5_900, true), (6_000, true)] {
        match store.watch(ROOT, &config_maps(), from) {
            Ok(mut stream) => {
                assert!(readable);
                let events = take(&mut stream, usize::try_from(6_000 - from).unwrap()).await;
                assert!(events.last().is_none_or(|event| event == "ADDED b=1 @6000"));
            }
            Err(WatchError::Expired { requested, oldest }) => {
                assert_eq!((requested, oldest, readable), (from, 5_900, false));
            }
            Err(error) => panic!("{error}"),
        }
        let list = store.list_at(ROOT, &config_maps(), from).await;
        assert_eq!(list.is_ok(), readable);
        assert!(readable || matches!(list, Err(ListError::Expired { oldest: 5_900, .. })));
    }
    // It had not begun to read: what it wants is neither in memory nor in the table any more.
    assert!(matches!(next(&mut early).await, Some(Err(WatchError::Expired { .. } | WatchError::Lagged { .. }))));
    assert!(world.metrics.encode().contains("tidegate_store_compaction_age_seconds 0.0"));

    store.close().await;
    let store = world.open();
    assert_eq!(store.compacted(ROOT), 5_900);
    assert!(matches!(store.watch(ROOT, &config_maps(), 5_899), Err(WatchError::Expired { oldest: 5_900, .. })));
}

#[tokio::test]
async fn an_idle_writer_makes_checkpoints_and_the_log_file_does_not_grow_without_end() {
    let world = World::new();
    let store = world.open();
    let size = |name: &str| fs::metadata(world.folder.path().join(name)).map_or(0, |file| file.len());
    // Some 20 MiB: beyond 4,000 pages.
    for round in 0..12 {
        put(&store, "a", &noise(round, 1_000_000)).await;
    }
    eventually("a checkpoint when idle", || size("store.db") > 4_000_000).await;
    for round in 12..60 {
        put(&store, "a", &noise(round, 1_000_000)).await;
        assert!(size("store.db-wal") < 80 << 20);
    }
    assert_eq!(value(&store.get(&key("a")).unwrap()), noise(59, 1_000_000));
    store.close().await;
    assert_eq!(size("store.db-wal"), 0);
}

/// Leaves the file as a killed process would, as far as the next start can tell.
fn pretend_unclean(world: &World) {
    let connection = Connection::open(world.folder.path().join("store.db")).unwrap();
    assert_eq!(connection.execute("UPDATE meta SET value = 'unclean' WHERE key = 'stop'", []).unwrap(), 1);
}

#[tokio::test]
async fn an_unclean_stop_is_followed_by_a_check_that_finds_damage() {
    let world = World::new();
    let store = world.open();
    for round in 0..20 {
        put(&store, &format!("{round}"), &noise(round, 5_000)).await;
    }
    store.close().await;
    pretend_unclean(&world);
    world.open().close().await;

    pretend_unclean(&world);
    let file = fs::OpenOptions::new().write(true).open(world.folder.path().join("store.db")).unwrap();
    let pages = file.metadata().unwrap().len() / 4_096;
    for page in pages / 2..pages {
        file.write_all_at(&[0x5a; 2_048], page * 4_096).unwrap();
    }
    let error = world.try_open().err().unwrap();
    assert!(matches!(error, OpenError::Damaged { .. } | OpenError::Open { .. }), "{error}");
    assert!(error.to_string().contains("store.db"), "{error}");
}

#[tokio::test]
async fn without_full_durability_an_unclean_stop_makes_revisions_jump_and_watchers_list_again() {
    let world = World::new();
    let open = || Store::open(StoreOptions { durability: Durability::Normal, ..world.options() }).unwrap();
    let store = open();
    put(&store, "a", "1").await;
    store.close().await;
    let store = open();
    assert_eq!(store.revision(ROOT), 1_000);
    store.close().await;

    pretend_unclean(&world);
    let store = open();
    assert_eq!(store.revision(ROOT), 1_001_000);
    assert!(matches!(store.watch(ROOT, &config_maps(), 1_000), Err(WatchError::Expired { oldest: 1_001_000, .. })));
    assert_eq!(put(&store, "a", "2").await.revision, 1_001_001);
}

#[tokio::test]
async fn nobody_else_may_read_the_file() {
    let world = World::new();
    let store = world.open();
    put(&store, "a", "1").await;
    for name in ["store.db", "store.db-wal"] {
        let mode = fs::metadata(world.folder.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}
