//! The store against a plain map and a plain list, under random operations, restarts and watchers.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use tidegate_apiserver::cache::WatchStream;
use tidegate_apiserver::store::{Key, ListError, Resource, Retention, Store, Txn, WatchError};
use tidegate_runtime::Tasks;

use crate::support::*;

const RESOURCES: [&str; 2] = ["configmaps", "secrets"];
/// Few enough that random operations meet.
const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const KEPT: u64 = 12;

/// One change that an operation asks for.
#[derive(Clone, Debug)]
enum Change {
    Put { resource: usize, name: usize, value: u8 },
    Delete { resource: usize, name: usize },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Kept,
    Refused,
    DryRun,
}

#[derive(Clone, Debug)]
enum Step {
    Write {
        changes: Vec<Change>,
        fate: Fate,
    },
    /// From this many revisions before the current one; negative: in the future.
    Watch {
        resource: usize,
        back: i8,
    },
    /// Takes some of what a watcher has not read yet.
    Read {
        watcher: usize,
        count: usize,
    },
    ListAt {
        resource: usize,
        back: i8,
    },
    EndWatches {
        resource: usize,
    },
    Compact,
    Restart,
}

fn change() -> impl Strategy<Value = Change> {
    let target = || (0..RESOURCES.len(), 0..NAMES.len());
    prop_oneof![
        3 => (target(), 0..3_u8).prop_map(|((resource, name), value)| Change::Put { resource, name, value }),
        1 => target().prop_map(|(resource, name)| Change::Delete { resource, name }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let fate = prop_oneof![6 => Just(Fate::Kept), 1 => Just(Fate::Refused), 1 => Just(Fate::DryRun)];
    let resource = || 0..RESOURCES.len();
    prop_oneof![
        20 => (prop::collection::vec(change(), 1..4), fate).prop_map(|(changes, fate)| Step::Write { changes, fate }),
        4 => (resource(), -3..30_i8).prop_map(|(resource, back)| Step::Watch { resource, back }),
        6 => (0..8_usize, 1..12_usize).prop_map(|(watcher, count)| Step::Read { watcher, count }),
        4 => (resource(), -2..30_i8).prop_map(|(resource, back)| Step::ListAt { resource, back }),
        1 => resource().prop_map(|resource| Step::EndWatches { resource }),
        1 => Just(Step::Compact),
        1 => Just(Step::Restart),
    ]
}

/// What the store must be: the present state and everything that ever happened.
#[derive(Clone, Default)]
struct Model {
    objects: BTreeMap<(usize, usize), (u64, u8)>,
    /// Resource, revision, text of the event.
    log: Vec<(usize, u64, String)>,
    revision: u64,
    compacted: u64,
}

impl Model {
    fn apply(&mut self, change: &Change) {
        match *change {
            Change::Put { resource, name, value } => {
                let existing = self.objects.get(&(resource, name)).copied();
                if existing.is_some_and(|(_, existing)| existing == value) {
                    return;
                }
                self.revision += 1;
                self.objects.insert((resource, name), (self.revision, value));
                let word = if existing.is_some() { "MODIFIED" } else { "ADDED" };
                self.note(resource, &format!("{word} {}={value}", NAMES[name]));
            }
            Change::Delete { resource, name } => {
                let Some((_, value)) = self.objects.remove(&(resource, name)) else { return };
                self.revision += 1;
                self.note(resource, &format!("DELETED {}={value}", NAMES[name]));
            }
        }
    }

    fn note(&mut self, resource: usize, event: &str) {
        self.log.push((resource, self.revision, format!("{event} @{}", self.revision)));
    }

    /// The objects of a resource at a revision, from nothing but the log.
    fn at(&self, resource: usize, revision: u64) -> Vec<String> {
        let mut objects = BTreeMap::new();
        for (_, at, event) in self.log.iter().filter(|(of, at, _)| *of == resource && *at <= revision) {
            let mut words = event.split(' ');
            let (word, object) = (words.next().unwrap(), words.next().unwrap());
            let name = object.split('=').next().unwrap().to_owned();
            if word == "DELETED" {
                objects.remove(&name)
            } else {
                objects.insert(name, format!("{object} @{at}"))
            };
        }
        objects.into_values().collect()
    }

    fn after(&self, resource: usize, revision: u64) -> impl Iterator<Item = &(usize, u64, String)> {
        self.log.iter().filter(move |(of, at, _)| *of == resource && *at > revision)
    }
}

struct Watcher {
    stream: WatchStream,
    resource: usize,
    /// The last revision it has delivered, or the one it began from.
    position: u64,
    /// The last revision it may deliver, once its resource's watches were ended.
    last: Option<u64>,
}

fn resource(index: usize) -> Resource {
    Resource::new("", RESOURCES[index])
}

fn run_changes(txn: &mut Txn<'_>, changes: &[Change]) {
    for change in changes {
        let (Change::Put { resource: of, name, .. } | Change::Delete { resource: of, name }) = *change;
        let key = Key::new(ROOT, &resource(of), "default", NAMES[name]);
        match change {
            Change::Put { value, .. } => {
                let mut body = config_map(&format!("{of}/{name}"), &value.to_string());
                body["metadata"]["name"] = NAMES[name].into();
                txn.put(&key, body).unwrap();
            }
            Change::Delete { .. } => drop(txn.delete(&key)),
        }
    }
}

async fn write(store: &Store, changes: Vec<Change>, fate: Fate) {
    let operation = move |txn: &mut Txn<'_>| {
        run_changes(txn, &changes);
        if fate == Fate::Refused { Err(()) } else { Ok(()) }
    };
    let result = match fate {
        Fate::DryRun => store.dry_run(operation).await,
        Fate::Kept | Fate::Refused => store.write(operation).await,
    };
    assert_eq!(result.is_err(), fate == Fate::Refused);
}

/// Reads up to `count` events and compares each with the log.
async fn read(watcher: &mut Watcher, model: &Model, count: usize) {
    for _ in 0..count {
        let expected = model.after(watcher.resource, watcher.position).next();
        let expected = expected.filter(|(_, at, _)| watcher.last.is_none_or(|last| *at <= last));
        let Some((_, revision, event)) = expected else {
            match watcher.last {
                None => assert!(watcher.stream.try_next().is_none()),
                Some(_) => match next(&mut watcher.stream).await {
                    None => {}
                    // It was ended long ago and not read since: below the mark, being told to list again is as true.
                    Some(Err(WatchError::Expired { oldest, .. })) => {
                        assert!(watcher.position < oldest && oldest <= model.compacted);
                    }
                    other => panic!("{other:?} instead of the end"),
                },
            }
            return;
        };
        match next(&mut watcher.stream).await {
            Some(Ok(given)) => assert_eq!(text(&given), *event),
            // Only who stood below the mark may be told to list again.
            Some(Err(WatchError::Expired { oldest, .. })) => {
                assert!(watcher.position < oldest && oldest <= model.compacted);
                watcher.last = Some(0);
                return;
            }
            other => panic!("{other:?} instead of {event}"),
        }
        watcher.position = *revision;
    }
}

fn shown(snapshot: &tidegate_apiserver::cache::Snapshot) -> Vec<String> {
    snapshot.iter().map(|object| format!("{}={} @{}", object.name(), value(object), object.revision)).collect()
}

async fn run(steps: Vec<Step>) {
    let world = World::new();
    let open = || {
        let mut options = world.options();
        options.retention = Retention { age: Duration::ZERO, newest: KEPT, ..Retention::default() };
        Store::open(options).unwrap()
    };
    let mut store = open();
    let mut model = Model { revision: 999, ..Model::default() };
    let mut watchers: Vec<Watcher> = Vec::new();
    for step in steps {
        match step {
            Step::Write { changes, fate } => {
                if fate == Fate::Kept {
                    for change in &changes {
                        model.apply(change);
                    }
                }
                write(&store, changes, fate).await;
            }
            Step::Watch { resource: of, back } => {
                let from = model.revision.checked_add_signed(-i64::from(back)).unwrap();
                match store.watch(ROOT, &resource(of), from) {
                    Ok(stream) => {
                        assert!(from >= model.compacted);
                        watchers.push(Watcher { stream, resource: of, position: from, last: None });
                    }
                    Err(WatchError::Expired { requested, oldest }) => {
                        assert_eq!((requested, oldest), (from, model.compacted));
                        assert!(from < model.compacted);
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            Step::Read { watcher, count } => {
                if let Some(watcher) = watchers.get_mut(watcher) {
                    read(watcher, &model, count).await;
                }
            }
            Step::ListAt { resource: of, back } => {
                let revision = model.revision.checked_add_signed(-i64::from(back)).unwrap();
                match store.list_at(ROOT, &resource(of), revision).await {
                    Ok(snapshot) => {
                        assert_eq!((snapshot.revision, shown(&snapshot)), (revision, model.at(of, revision)));
                    }
                    Err(ListError::Expired { .. }) => assert!(revision < model.compacted),
                    Err(ListError::Future { .. }) => assert!(revision > model.revision),
                    Err(error) => panic!("{error}"),
                }
            }
            Step::EndWatches { resource: of } => {
                store.end_watches(ROOT, &resource(of));
                for watcher in watchers.iter_mut().filter(|watcher| watcher.resource == of) {
                    watcher.last = watcher.last.or(Some(model.revision));
                }
            }
            Step::Compact => {
                store.compact().await.unwrap();
                model.compacted = model.compacted.max(model.revision.saturating_sub(KEPT));
                model.compacted = if model.compacted < 1_000 { 0 } else { model.compacted };
                assert_eq!(store.compacted(ROOT), model.compacted);
            }
            Step::Restart => {
                store.close().await;
                watchers.clear();
                store = open();
            }
        }
        assert_eq!(store.revision(ROOT), model.revision);
        for of in 0..RESOURCES.len() {
            assert_eq!(shown(&store.snapshot(ROOT, &resource(of))), model.at(of, model.revision));
        }
    }
    for watcher in &mut watchers {
        read(watcher, &model, usize::MAX).await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_store_behaves_like_a_map_and_a_list(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(steps));
    }
}

#[tokio::test]
async fn a_stream_ended_earlier_does_not_go_on_to_a_later_end() {
    let put = |value| Step::Write { changes: vec![Change::Put { resource: 0, name: 0, value }], fate: Fate::Kept };
    let end = || Step::EndWatches { resource: 0 };
    run(vec![put(0), Step::Watch { resource: 0, back: 0 }, end(), put(1), end()]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn all_watchers_see_the_same_order_while_many_write() {
    const WRITERS: u64 = 8;
    const WRITES: u64 = 120;
    let world = World::new();
    let store = world.open();
    let tasks = Tasks::new();
    let write = |writer: u64| {
        let store = store.clone();
        tasks.spawn("writer", async move {
            for round in 0..WRITES {
                let name = ((writer * 7 + round) % 11).to_string();
                if round % 5 == 4 {
                    delete(&store, &name).await;
                } else {
                    put(&store, &name, &format!("{writer}-{round}")).await;
                }
            }
        })
    };
    // Each begins at another moment, from another revision of the past, and reads until the store closes.
    let watch = |number: u64| {
        let store = store.clone();
        tasks.spawn("watcher", async move {
            let began = 1_000 + number * 80;
            store.reached(ROOT, began).await;
            let from = began - number * 13;
            let mut stream = store.watch(ROOT, &config_maps(), from).unwrap();
            let mut seen = Vec::new();
            while let Some(event) = stream.next().await {
                let event = event.unwrap();
                assert!(store.revision(ROOT) >= event.revision, "an event came before the state it belongs to");
                seen.push((event.revision, text(&event)));
            }
            (from, seen)
        })
    };
    let watchers: Vec<_> = (0..6).map(watch).collect();
    let writers: Vec<_> = (0..WRITERS).map(write).collect();
    for writer in writers {
        writer.await.unwrap();
    }
    store.close().await;
    let mut all = None;
    for watcher in watchers {
        let (from, seen) = watcher.await.unwrap();
        let all: &mut Vec<_> = all.get_or_insert_with(|| seen.clone());
        let revisions: Vec<_> = seen.iter().map(|(revision, _)| *revision).collect();
        assert_eq!(revisions, (from + 1..=store.revision(ROOT)).collect::<Vec<_>>());
        assert!(all.ends_with(&seen));
    }
}
