//! What a request and a change cost here.
//!
//! Budgets (`SPEC 70 §2.3`, R7 to R9, section 3): looking a request up costs 0.02 to 0.4 us at any table size; publishing
//! one change at most three times as much at 100,000 hosts as at 10, and never 1 ms; an unrelated object O(1).

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use http::Method;
use serde_json::json;
use tidegate_kinds::Api;
use tidegate_policy::{
    Change, Domains, Host, Index, Input, NormalizedPath, ObjectKind, ObjectRef, Options, RequestFacts, Route, Scheme,
    Table,
};

const SIZES: [usize; 4] = [10, 1_000, 10_000, 100_000];

fn api(number: usize, generation: i64) -> Api {
    let api = json!({
        "metadata": {"name": format!("api-{number}"), "namespace": "default", "uid": format!("uid-{number}"),
            "generation": generation, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"service": {"name": format!("service-{number}"), "port": 80}, "hostname": format!("host-{number}"),
            "authentication": [{"type": "JWT", "jwt": {"issuer": "https://issuer.example",
                "jwksUri": "https://issuer.example/keys", "triggerRule": {"excludedPaths": [{"exact": "/status"}]}}}]},
    });
    serde_json::from_value(api).expect("a valid Api")
}

fn set(number: usize, generation: i64) -> Change {
    Change::Set(Input::Api(Box::new(api(number, generation))))
}

fn object(number: usize) -> ObjectRef {
    ObjectRef::new(ObjectKind::Api, "default", format!("api-{number}"))
}

fn filled(size: usize) -> Index {
    let mut index = Index::new(Options::new(Domains::new(["localhost"])));
    for number in 0..size {
        index.apply(set(number, 1));
    }
    index
}

fn route(index: &Index, number: usize) -> (ObjectRef, Option<Route<()>>) {
    let model = index.verdict(&object(number)).and_then(|verdict| verdict.enforced.clone());
    (object(number), model.map(|model| Route { model, handle: () }))
}

fn requests(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("select");
    for size in SIZES {
        let index = filled(size);
        let (table, mut writer) = Table::new();
        writer.publish((0..size).map(|number| route(&index, number)));
        let (authority, path) = (format!("host-{}.localhost:8080", size / 2), "/orders/42");
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| {
                let host = Host::parse_authority(black_box(&authority)).expect("a host");
                let path = NormalizedPath::parse(black_box(path)).expect("a path");
                let facts = RequestFacts { scheme: Scheme::Http, host: &host, method: &Method::GET, path: &path };
                table.select(&facts).map(|selected| selected.decide(None)).ok()
            });
        });
    }
    group.finish();
    criterion.bench_function("normalize/already_normal", |bencher| {
        bencher.iter(|| NormalizedPath::parse(black_box("/api/v1/orders/42/items")).is_ok());
    });
    criterion.bench_function("normalize/rewritten", |bencher| {
        bencher.iter(|| NormalizedPath::parse(black_box("/api//v1/./orders/%7e42/../items")).is_ok());
    });
}

fn changes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("publish_one");
    for size in SIZES {
        let mut index = filled(size);
        let (_, mut writer) = Table::new();
        writer.publish((0..size).map(|number| route(&index, number)));
        let mut generation = 1;
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| {
                generation += 1;
                index.apply(set(size / 2, generation));
                writer.publish([route(&index, size / 2)]);
            });
        });
    }
    group.finish();
    let mut group = criterion.benchmark_group("apply_one");
    for size in SIZES {
        let mut index = filled(size);
        let mut generation = 1;
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| {
                generation += 1;
                index.apply(set(size / 2, generation)).len()
            });
        });
    }
    group.finish();
}

criterion_group!(all, requests, changes);
criterion_main!(all);
