//! One verification per algorithm, and reading a key set.
//!
//! Budget (`SPEC 70 §2.1`, §3): RS256 16.7 us, ES256 52.8 us, EdDSA 39.8 us for the signature
//! alone; parsing a token stays below 4 us.

use criterion::{Criterion, criterion_group, criterion_main};
use serde_json::json;
use std::hint::black_box;
use tidegate_tokens::signing::jwks;
use tidegate_tokens::{Algorithm, AlgorithmSet, KeySet, Options, SigningKey, UnverifiedJwt, verify};

fn benches(criterion: &mut Criterion) {
    let claims = json!({
        "iss": "https://issuer.example",
        "sub": "1e5cbb2d-8ae0-4b4d-8dd4-f7d8b2f53c2a",
        "aud": ["https://api.example", "https://other.example"],
        "exp": 2_000, "nbf": 900, "iat": 900,
        "scope": "read write admin",
        "email": "jane@example.com",
    });
    let options = Options { now: 1_000, ..Options::default() };
    for algorithm in [Algorithm::Rs256, Algorithm::Ps256, Algorithm::Es256, Algorithm::Es384, Algorithm::EdDsa] {
        let key = SigningKey::generate(algorithm, "key-1").expect("a key");
        let token = key.sign(&claims).expect("a token");
        let body = jwks([&key]).to_string();
        let keys = KeySet::parse(body.as_bytes()).expect("a key set");
        criterion.bench_function(&format!("verify/{algorithm}"), |bencher| {
            bencher.iter(|| verify(black_box(&token), &keys, options).expect("a good token"));
        });
        if algorithm == Algorithm::Rs256 {
            criterion.bench_function("parse/token", |bencher| {
                bencher.iter(|| UnverifiedJwt::parse(black_box(&token), AlgorithmSet::ALL));
            });
            criterion.bench_function("parse/jwks", |bencher| {
                bencher.iter(|| KeySet::parse(black_box(body.as_bytes())));
            });
        }
    }
}

criterion_group!(verification, benches);
criterion_main!(verification);
