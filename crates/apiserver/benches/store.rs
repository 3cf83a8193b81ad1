//! The object store: writes, watch latency, lists, start. Every write waits for the disk (`synchronous=FULL`).
//!
//! Budgets (SPEC 60 §20.4): three times kube-apiserver with etcd, that is creates at 765/s on one connection and
//! 1,254/s on eight, the API's own cost included; watch latency p50 below 2 ms; start with 100,000 objects below 3 s.

use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate_apiserver::store::{ClusterId, Key, PutError, Resource, Store, StoreOptions};
use tidegate_runtime::{Clock, Ids, Metrics, Random, Readiness, Tasks};
use tokio::runtime::Runtime;

const ROOT: ClusterId = ClusterId::ROOT;
const WRITES_PER_ROUND: u64 = 200;
const MANY: usize = 100_000;

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads can be started")
}

fn open(folder: &TempDir) -> Store {
    let path = folder.path().join("store.db");
    let options = StoreOptions::new(path, Clock::system(), Tasks::new(), Readiness::new(), Metrics::new());
    Store::open(options).expect("the store opens")
}

fn config_maps() -> Resource {
    Resource::new("", "configmaps")
}

/// 512 bytes of data, as in SPEC 60 §20.4.
fn config_map(name: &str, value: &str, ids: Ids) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "default", "uid": ids.uuid_v4().to_string(),
                     "creationTimestamp": "2026-11-21T00:00:00Z"},
        "data": {"value": format!("{value:x<512}")},
    })
}

async fn create(store: &Store, name: String, ids: Ids) -> u64 {
    let key = Key::new(ROOT, &config_maps(), "default", &name);
    let body = config_map(&name, "", ids);
    store.write(move |txn| txn.put(&key, body)).await.expect("the object is written").revision
}

fn writes(criterion: &mut Criterion) {
    let runtime = runtime();
    let random = Random::system();
    let mut group = criterion.benchmark_group("store/create");
    group.throughput(Throughput::Elements(WRITES_PER_ROUND)).sample_size(15);
    for connections in [1, 8] {
        let folder = TempDir::new().expect("a temporary folder");
        let store = open(&folder);
        group.bench_function(format!("{connections}_connections"), |bencher| {
            bencher.iter(|| {
                let round = random.u64();
                let writer = |writer: u64| {
                    let store = store.clone();
                    async move {
                        let ids = Ids::random();
                        for number in 0..WRITES_PER_ROUND / connections {
                            create(&store, format!("{round:x}-{writer}-{number}"), ids).await;
                        }
                    }
                };
                runtime.block_on(futures::future::join_all((0..connections).map(writer)));
            });
        });
        runtime.block_on(store.close());
    }
    group.finish();
}

fn watch_latency(criterion: &mut Criterion) {
    let runtime = runtime();
    let folder = TempDir::new().expect("a temporary folder");
    let store = open(&folder);
    let ids = Ids::random();
    let clock = Clock::system();
    let mut number = 0;
    // From the start of a write to the event in the hands of a watcher, the commit included.
    criterion.bench_function("store/write_to_event", |bencher| {
        bencher.iter_custom(|rounds| {
            let mut stream = store.watch(ROOT, &config_maps(), store.revision(ROOT)).expect("the watch starts");
            let mut total = Duration::ZERO;
            for _ in 0..rounds {
                number += 1;
                let started = clock.instant();
                let write = create(&store, format!("{number}"), ids);
                let (_, event) = runtime.block_on(async { tokio::join!(write, stream.next()) });
                event.expect("the stream lives").expect("an event");
                total += clock.instant() - started;
            }
            total
        });
    });
    runtime.block_on(store.close());
}

fn many_objects(criterion: &mut Criterion) {
    let runtime = runtime();
    let folder = TempDir::new().expect("a temporary folder");
    let store = open(&folder);
    let ids = Ids::random();
    for chunk in 0..MANY / 5_000 {
        let bodies: Vec<_> = (0..5_000).map(|number| config_map(&format!("{chunk}-{number}"), "", ids)).collect();
        let fill = store.write(move |txn| {
            for body in bodies {
                let name = body.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
                let key = Key::new(ROOT, &config_maps(), "default", name);
                txn.put(&key, body)?;
            }
            Ok::<_, PutError>(())
        });
        runtime.block_on(fill).expect("the objects are written");
    }
    criterion.bench_function("store/list_100000_snapshot", |bencher| {
        bencher.iter(|| store.snapshot(ROOT, &config_maps()).len());
    });
    criterion.bench_function("store/list_100000_concatenate", |bencher| {
        let snapshot = store.snapshot(ROOT, &config_maps());
        bencher.iter(|| {
            let mut list = Vec::new();
            snapshot.iter().for_each(|object| list.extend_from_slice(&object.encoded));
            list.len()
        });
    });
    runtime.block_on(store.close());
    let mut group = criterion.benchmark_group("store/start");
    group.sample_size(10);
    group.bench_function("100000_objects", |bencher| {
        bencher.iter_batched(
            || (),
            |()| {
                let store = open(&folder);
                assert_eq!(store.count(ROOT, &config_maps()), MANY);
                runtime.block_on(store.close());
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, writes, watch_latency, many_objects);
criterion_main!(benches);
