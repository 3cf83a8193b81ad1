//! What a request pays before its upstream, piece by piece. Budgets: SPEC 70 §2.1 row 1 (all of it together fits into
//! half of a do-nothing proxy's cost), §2.3 (independent of the number of hosts), R8 (one change rebuilds one shard).

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::json;
use tidegate_gateway::framing::scanner::Scanner;
use tidegate_kinds::Api;
use tidegate_policy::headers::{Hygiene, clean_request};
use tidegate_policy::index::Input;
use tidegate_policy::{
    Change, Domains, Host, Index, NormalizedPath, ObjectKind, ObjectRef, Options, RequestFacts, Route, RouteModel,
    Scheme, Table, TableWriter,
};

const HEAD: &str = "GET /api/v1/orders?limit=10 HTTP/1.1\r\nHost: host-7.localhost\r\nUser-Agent: bench/1.0\r\n\
    Accept: application/json\r\nAccept-Encoding: gzip, br\r\nX-Trace: 0123456789abcdef\r\n\r\n";

fn model(number: usize) -> Arc<RouteModel> {
    let api: Api = serde_json::from_value(json!({
        "apiVersion": "gateway.kyma-project.io/v1alpha2", "kind": "Api",
        "metadata": {"name": format!("api-{number}"), "namespace": "default", "uid": number.to_string(), "generation": 1,
                     "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"hostname": format!("host-{number}"), "service": {"name": format!("service-{number}"), "port": 80}},
    }))
    .expect("the sample is an Api");
    let mut index = Index::new(Options::new(Domains::new(["localhost"])));
    index.apply(Change::Set(Input::Api(Box::new(api))));
    let object = ObjectRef::new(ObjectKind::Api, "default", format!("api-{number}"));
    let verdict = index.verdict(&object).expect("it was set");
    Arc::clone(verdict.enforced.as_ref().expect("nothing stands in its way"))
}

fn change(number: usize) -> (ObjectRef, Option<Route<()>>) {
    let model = model(number);
    (model.object.clone(), Some(Route { model, handle: () }))
}

fn table(hosts: usize) -> (Arc<Table<()>>, TableWriter<()>) {
    let (table, mut writer) = Table::new();
    writer.publish((0..hosts).map(change));
    (table, writer)
}

fn headers() -> HeaderMap {
    let lines = [("host", "host-7.localhost"), ("user-agent", "bench/1.0"), ("accept", "*/*"), ("x-trace", "0123")];
    lines.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
}

fn benches(criterion: &mut Criterion) {
    // Inside row 1: a fraction of a microsecond for a usual head.
    criterion.bench_function("edge/scan_head", |bencher| {
        let mut scanner = Scanner::new();
        bencher.iter(|| scanner.scan(black_box(HEAD.as_bytes())));
    });
    criterion.bench_function("edge/normalize_path", |bencher| {
        bencher.iter(|| NormalizedPath::parse(black_box("/api/v1/orders")).map(|path| path.as_str().len()));
    });
    criterion.bench_function("edge/rewrite_path", |bencher| {
        bencher.iter(|| NormalizedPath::parse(black_box("/api//v1/./orders/../%7Eme")).map(|path| path.as_str().len()));
    });
    // R34's neighbour: about 0.5 us.
    criterion.bench_function("edge/clean_headers", |bencher| {
        bencher.iter_batched(
            headers,
            |mut headers| clean_request(&Method::GET, &mut headers, Hygiene::default()).map(|_| headers),
            BatchSize::SmallInput,
        );
    });
    // +3 %, +6 %, +10 % of a whole request from 10 to 1,000, 10,000 and 100,000 hosts.
    for hosts in [10, 1_000, 10_000, 100_000] {
        let (table, mut writer) = table(hosts);
        let names: Vec<String> = (0..64).map(|number| format!("host-{}.localhost", number * 7919 % hosts)).collect();
        let mut turn = 0;
        criterion.bench_function(&format!("edge/select/{hosts}"), |bencher| {
            bencher.iter(|| {
                turn = (turn + 1) % names.len();
                let host = Host::parse_authority(names.get(turn).map_or("", String::as_str)).ok()?;
                let path = NormalizedPath::parse("/api/v1/orders").ok()?;
                let facts = RequestFacts { scheme: Scheme::Http, host: &host, method: &Method::GET, path: &path };
                table.select(&facts).ok()
            });
        });
        // At most 1 ms of cpu, and at most 3 times as much at 100,000 hosts as at 10.
        criterion.bench_function(&format!("edge/publish/{hosts}"), |bencher| {
            bencher.iter_batched(|| change(3), |change| writer.publish([change]), BatchSize::SmallInput);
        });
    }
}

criterion_group!(group, benches);
criterion_main!(group);
