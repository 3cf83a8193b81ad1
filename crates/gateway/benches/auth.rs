//! Checking a request's token: known, new, refused.
//!
//! Budget (`SPEC 70 §2.1` rows 2 to 4, R17): a known token costs its digest (0.4 us) and a probe (0.2 us); a new one its
//! signature (ES256 52.8 us, EdDSA 39.8 us, RS256 16.7 us) and at most 4 us.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use futures::FutureExt as _;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, Method};
use tidegate_gateway::auth::{AuthOptions, Authenticator, JwksOptions, KeySources};
use tidegate_policy::Guard;
use tidegate_policy::guard::JwtRule;
use tidegate_policy::path_set::PathSet;
use tidegate_runtime::{
    AddressPolicy, AddressPolicyOptions, Clock, HttpClientOptions, Metrics, Random, Tasks, http_client,
};
use tidegate_testkit::issuer::Issuer;
use tidegate_tokens::Algorithm;

fn benches(criterion: &mut Criterion) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let tasks = Tasks::new().on(runtime.handle().clone());
    let clock = Clock::system();
    clock.spawn_ticker(&tasks);
    let metrics = Metrics::new();
    let random = Random::system();
    let client = http_client(&AddressPolicy::new(AddressPolicyOptions::default()), HttpClientOptions::default());
    let sources = runtime.block_on(async {
        KeySources::start(JwksOptions::default(), clock.clone(), random, tasks, client, &metrics, None)
    });
    let authenticator = Authenticator::new(AuthOptions::default(), clock.clone(), &random, sources, &metrics);
    let expires_at = clock.unix_seconds() + 3_600;

    for algorithm in [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa] {
        let issuer = runtime.block_on(Issuer::start_with(algorithm, ([127, 0, 0, 1], 0).into())).expect("an issuer");
        let guard = Guard::Jwt(Box::new([JwtRule {
            issuer: issuer.issuer().into(),
            jwks_uri: issuer.jwks_uri().into(),
            excluded: PathSet::compile(&[]).expect("no paths"),
            included: None,
            methods: Box::default(),
        }]));
        let handle = authenticator.guard(&guard, &[]);
        let applicable = guard.applicable(&Method::GET, "/");
        let mut headers = HeaderMap::new();
        let token = issuer.mint().token("jane", expires_at).expect("a token");
        headers.insert(AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {token}")).expect("a header"));
        runtime.block_on(authenticator.verify(&handle, applicable, &headers, None)).expect("a good token");

        if algorithm == Algorithm::Rs256 {
            criterion.bench_function("auth/known", |bencher| {
                bencher.iter(|| {
                    authenticator
                        .verify(&handle, applicable, black_box(&headers), None)
                        .now_or_never()
                        .expect("no wait")
                });
            });
            criterion.bench_function("auth/digest", |bencher| {
                bencher.iter(|| authenticator.cache().key(7, black_box(&token)));
            });
            criterion.bench_function("auth/refused", |bencher| {
                let garbage = "e30.e30.e30";
                bencher.iter(|| authenticator.verify_token(&handle, applicable, black_box(garbage)).now_or_never());
            });
        }
        let mut number = 0_u64;
        criterion.bench_function(&format!("auth/new/{algorithm}"), |bencher| {
            bencher.iter_batched(
                || {
                    number += 1;
                    issuer.mint().token(&number.to_string(), expires_at).expect("a token")
                },
                |token| {
                    let outcome = authenticator.verify_token(&handle, applicable, &token).now_or_never();
                    outcome.expect("no wait").expect("a good token")
                },
                BatchSize::SmallInput,
            );
        });
    }
}

criterion_group!(auth, benches);
criterion_main!(auth);
