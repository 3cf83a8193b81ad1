//! JWTs and key sets: hostile text never panics, never verifies.

use std::panic::AssertUnwindSafe;

use tidegate_fuzz::{SHORT, texts};
use tidegate_tokens::{Algorithm, AlgorithmSet, KeySet, Options, SigningKey, UnverifiedJwt, signing, verify};

/// The engine wants its cases to be unwind-safe; the crypto library's keys do not say that they are.
fn key_pair() -> (SigningKey, AssertUnwindSafe<KeySet>) {
    let key = SigningKey::generate(Algorithm::Es256, "key").unwrap();
    let keys = KeySet::parse(signing::jwks([&key]).to_string().as_bytes()).unwrap();
    (key, AssertUnwindSafe(keys))
}

#[test]
fn no_text_is_a_token_that_verifies() {
    let (_, keys) = key_pair();
    bolero::check!().with_test_time(SHORT).for_each(|input: &[u8]| {
        for text in texts(input, 2) {
            let _ = UnverifiedJwt::parse(&text, AlgorithmSet::ALL);
            assert!(verify(&text, &keys, Options::default()).is_err());
        }
    });
}

#[test]
fn a_changed_token_does_not_verify() {
    let (key, keys) = key_pair();
    let token = key.sign(&serde_json::json!({"iss": "i", "exp": 4_000_000_000_i64, "sub": "s"})).unwrap();
    assert!(verify(&token, &keys, Options::default()).is_ok());
    bolero::check!().with_type::<(u16, u8)>().with_test_time(SHORT).for_each(|(position, byte)| {
        let mut bytes = token.clone().into_bytes();
        let position = usize::from(*position) % bytes.len();
        if bytes[position] == *byte {
            return;
        }
        bytes[position] = *byte;
        let changed = String::from_utf8_lossy(&bytes);
        assert!(verify(&changed, &keys, Options::default()).is_err(), "{changed}");
    });
}

#[test]
fn key_sets_of_any_bytes_are_refused_or_read() {
    bolero::check!().with_test_time(SHORT).for_each(|input: &[u8]| {
        if let Ok(keys) = KeySet::parse(input) {
            assert!(keys.len() <= 256);
        }
    });
}
