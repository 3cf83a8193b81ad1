//! Good tokens pass, every other token fails with the text of its row.

use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::jwt::claims;
use crate::signing::jwks;
use crate::{Algorithm, AlgorithmSet, Claims, JwtError, KeySet, Options, SigningKey, TimeRules, UnverifiedJwt, verify};

const NOW: i64 = 1_800_000_000;

const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// One key per algorithm for the whole process: RSA keys are slow to make.
fn key(algorithm: Algorithm) -> &'static SigningKey {
    static KEYS: [OnceLock<SigningKey>; 10] = [const { OnceLock::new() }; 10];
    KEYS[algorithm as usize].get_or_init(|| SigningKey::generate(algorithm, algorithm.as_str()).unwrap())
}

fn set<'a>(keys: impl IntoIterator<Item = &'a SigningKey>) -> KeySet {
    KeySet::parse(jwks(keys).to_string().as_bytes()).unwrap()
}

fn claims() -> Value {
    json!({ "iss": "https://issuer.example", "sub": "jane", "exp": NOW + 600 })
}

fn options() -> Options {
    Options { now: NOW, ..Options::default() }
}

fn encode(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

/// An ES256 token with exactly these header and payload bytes, rightly signed.
fn signed(header: &str, payload: &str) -> String {
    key(Algorithm::Es256).sign_raw(header.as_bytes(), payload.as_bytes()).unwrap()
}

fn check(token: &str, expected: Result<(), JwtError>) {
    let keys = set([key(Algorithm::Es256)]);
    let found = verify(token, &keys, options()).map(|_| ());
    assert_eq!(found, expected, "{token}");
}

#[test]
fn a_token_of_each_algorithm_verifies_with_its_own_key_only() {
    for signer in Algorithm::ALL {
        let token = key(signer).sign(&claims()).unwrap();
        for other in Algorithm::ALL {
            // The same id, so that the key itself decides.
            let mut jwk = key(other).public_jwk();
            jwk["kid"] = signer.as_str().into();
            let keys = KeySet::parse(json!({ "keys": [jwk] }).to_string().as_bytes()).unwrap();
            let found = verify(&token, &keys, options()).map(|claims| claims.subject);
            if signer == other {
                assert_eq!(found, Ok(Some("jane".to_owned())), "{signer}");
            } else {
                assert_eq!(found, Err(JwtError::KeyUnknown), "{signer} with {other}");
            }
        }
    }
}

#[test]
fn a_key_of_the_same_kind_from_another_issuer_does_not_verify() {
    for algorithm in [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa] {
        let stranger = SigningKey::generate(algorithm, algorithm.as_str()).unwrap();
        let token = stranger.sign(&claims()).unwrap();
        assert_eq!(verify(&token, &set([key(algorithm)]), options()), Err(JwtError::SignatureInvalid));
    }
}

#[test]
fn an_rsa_key_without_alg_verifies_all_rsa_algorithms_and_one_with_alg_only_that() {
    let signer = key(Algorithm::Ps384);
    let token = signer.sign(&claims()).unwrap();
    let mut jwk = signer.public_jwk();
    let with = |jwk: &Value| {
        let keys = KeySet::parse(json!({ "keys": [jwk] }).to_string().as_bytes()).unwrap();
        verify(&token, &keys, options()).map(|_| ())
    };
    jwk.as_object_mut().unwrap().remove("alg");
    assert_eq!(with(&jwk), Ok(()));
    jwk["alg"] = "RS384".into();
    assert_eq!(with(&jwk), Err(JwtError::KeyUnknown));
}

#[test]
fn a_public_key_is_never_hmac_material() {
    let public = key(Algorithm::Rs256).public_jwk();
    let keys = set([key(Algorithm::Rs256)]);
    for (alg, secret) in [("HS256", public["n"].as_str().unwrap().as_bytes()), ("HS512", public.to_string().as_bytes())]
    {
        let input =
            format!("{}.{}", encode(&json!({ "alg": alg, "kid": "RS256" }).to_string()), encode(&claims().to_string()));
        let hash = if alg == "HS256" { aws_lc_rs::hmac::HMAC_SHA256 } else { aws_lc_rs::hmac::HMAC_SHA512 };
        let tag = aws_lc_rs::hmac::sign(&aws_lc_rs::hmac::Key::new(hash, secret), input.as_bytes());
        let token = format!("{input}.{}", URL_SAFE_NO_PAD.encode(tag.as_ref()));
        assert_eq!(verify(&token, &keys, options()), Err(JwtError::AlgRefused));
    }
}

#[test]
fn every_row_of_the_table_fails_with_its_own_error() {
    let header = r#"{"alg":"ES256","kid":"ES256"}"#;
    let payload = claims().to_string();
    let good = signed(header, &payload);
    check(&good, Ok(()));
    let parts: Vec<&str> = good.split('.').collect();

    // Row 2.
    for token in [
        "",
        ".",
        "..",
        "a",
        "a.b",
        &format!("{}.{}.", parts[0], parts[1]),
        &format!(".{}.{}", parts[1], parts[2]),
        &format!("{}..{}", parts[0], parts[2]),
        &format!("{good}.{}", parts[2]),
        &format!("{good}="),
        &format!(" {good}"),
        &format!("{good}\n"),
        &good.replace('-', "+").replace('_', "/").replacen('.', "..", 1),
        "ä.ö.ü",
    ] {
        check(token, Err(JwtError::BadFormat));
    }
    // Row 3.
    let with_header = |header: &str| signed(header, &payload);
    for header in [
        "x",
        "[]",
        r#"["ES256"]"#,
        r#""ES256""#,
        "{",
        r#"{"alg":"ES256"} x"#,
        r#"{"alg":"ES256","alg":"ES256"}"#,
        r#"{"alg":"none","kid":"a","kid":"b"}"#,
        "{\"alg\":\"ES256\u{1}\"}",
    ] {
        check(&with_header(header), Err(JwtError::HeaderNotJson));
    }
    for header in ["{}", r#"{"alg":null}"#, r#"{"alg":7}"#, r#"{"alg":["ES256"]}"#, r#"{"Alg":"ES256"}"#] {
        check(&with_header(header), Err(JwtError::HeaderAlg));
    }
    for kid in ["7", "null", "true", "[\"ES256\"]", "{\"a\":1}", "1.5"] {
        let header = format!(r#"{{"alg":"ES256","kid":{kid}}}"#);
        check(&with_header(&header), Err(JwtError::HeaderKid));
    }
    for crit in ["[]", "[\"exp\"]", "null", "{}"] {
        let header = format!(r#"{{"alg":"ES256","kid":"ES256","crit":{crit}}}"#);
        check(&with_header(&header), Err(JwtError::HeaderCrit));
    }
    // Row 3a.
    for alg in ["none", "None", "nOnE", "HS256", "es256", "ES256 ", "", "A128GCM"] {
        let header = format!(r#"{{"alg":"{alg}","kid":"ES256"}}"#);
        check(&with_header(&header), Err(JwtError::AlgRefused));
    }
    // Row 4.
    let with_payload = |payload: &str| signed(header, payload);
    for payload in [
        "x",
        "[]",
        "7",
        "null",
        "{\"exp\":",
        r#"{"exp":1,"exp":2}"#,
        r#"{"iss":"a","iss":"b"}"#,
        r#"{"exp":1e999}"#,
        "{\"a\":\"\\ud800\"}x",
    ] {
        check(&with_payload(payload), Err(JwtError::PayloadNotJson));
    }
    for (name, error) in [("exp", JwtError::PayloadExp), ("nbf", JwtError::PayloadNbf), ("iat", JwtError::PayloadIat)] {
        for value in
            ["\"1800000600\"", "1800000600.5", "1.8e9", "null", "true", "[1]", "{}", "99999999999999999999999999"]
        {
            check(&with_payload(&format!(r#"{{"{name}":{value}}}"#)), Err(error));
        }
    }
    // Row 9.
    let unknown = with_header(r#"{"alg":"ES256","kid":"other"}"#);
    check(&unknown, Err(JwtError::KeyUnknown));
    let other_type = with_header(r#"{"alg":"RS256","kid":"ES256"}"#);
    check(&other_type, Err(JwtError::KeyUnknown));
}

#[test]
fn the_first_failing_row_answers() {
    // Each token breaks its row and all later ones.
    check("x", Err(JwtError::BadFormat));
    check(&signed("x", "x"), Err(JwtError::HeaderNotJson));
    check(&signed(r#"{"alg":1,"kid":1,"crit":1}"#, "x"), Err(JwtError::HeaderAlg));
    check(&signed(r#"{"alg":"none","kid":1,"crit":1}"#, "x"), Err(JwtError::HeaderKid));
    check(&signed(r#"{"alg":"none","crit":1}"#, "x"), Err(JwtError::HeaderCrit));
    check(&signed(r#"{"alg":"none"}"#, "x"), Err(JwtError::AlgRefused));
    let header = r#"{"alg":"ES256","kid":"other"}"#;
    check(&signed(header, "x"), Err(JwtError::PayloadNotJson));
    check(&signed(header, r#"{"exp":"x","nbf":"x","iat":"x"}"#), Err(JwtError::PayloadExp));
    check(&signed(header, r#"{"nbf":9999999999,"exp":1}"#), Err(JwtError::NotYetValid));
    check(&signed(header, r#"{"exp":1}"#), Err(JwtError::Expired));
    check(&signed(header, "{}"), Err(JwtError::ExpMissing));
    check(&signed(header, &claims().to_string()), Err(JwtError::KeyUnknown));
}

#[test]
fn times_are_judged_to_the_second_with_a_skew_of_sixty() {
    let header = r#"{"alg":"ES256","kid":"ES256"}"#;
    let cases = [
        (json!({ "exp": NOW - 59 }), Ok(())),
        (json!({ "exp": NOW - 60 }), Err(JwtError::Expired)),
        (json!({ "exp": NOW - 61 }), Err(JwtError::Expired)),
        (json!({ "exp": NOW + 1, "nbf": NOW + 60 }), Ok(())),
        (json!({ "exp": NOW + 1, "nbf": NOW + 61 }), Err(JwtError::NotYetValid)),
        (json!({ "exp": 0 }), Err(JwtError::Expired)),
        (json!({ "exp": -1 }), Err(JwtError::Expired)),
        (json!({ "exp": i64::MIN }), Err(JwtError::Expired)),
        (json!({ "exp": i64::MAX }), Ok(())),
        (json!({ "exp": u64::MAX }), Ok(())),
        (json!({ "exp": NOW + 1, "nbf": u64::MAX }), Err(JwtError::NotYetValid)),
        (json!({ "exp": NOW + 1, "nbf": i64::MIN }), Ok(())),
        // A future `iat` is not refused.
        (json!({ "exp": NOW + 1, "iat": NOW + 5_000 }), Ok(())),
        (json!({ "nbf": NOW }), Err(JwtError::ExpMissing)),
    ];
    for (payload, expected) in cases {
        check(&signed(header, &payload.to_string()), expected);
    }
}

#[test]
fn exp_may_be_absent_when_the_configuration_says_so() {
    let token = signed(r#"{"alg":"ES256","kid":"ES256"}"#, "{}");
    let times = TimeRules { require_exp: false, ..TimeRules::default() };
    let options = Options { times, ..options() };
    assert!(verify(&token, &set([key(Algorithm::Es256)]), options).is_ok());
}

#[test]
fn the_allow_list_is_obeyed() {
    let token = key(Algorithm::Es256).sign(&claims()).unwrap();
    let keys = set([key(Algorithm::Es256)]);
    let with = |algorithms| {
        let options = Options { algorithms, ..options() };
        verify(&token, &keys, options).map(|_| ())
    };
    assert_eq!(with([Algorithm::Es256].into_iter().collect()), Ok(()));
    assert_eq!(with([Algorithm::Es384].into_iter().collect()), Err(JwtError::AlgRefused));
    assert_eq!(with(AlgorithmSet::NONE), Err(JwtError::AlgRefused));
}

#[test]
fn a_token_above_the_limit_is_refused_before_it_is_read() {
    let signer = key(Algorithm::Es256);
    let filler = |length: usize| {
        let mut payload = claims();
        payload["filler"] = "x".repeat(length).into();
        signer.sign(&payload).unwrap()
    };
    let fits = filler(12_000);
    assert!(fits.len() <= 16 * 1024);
    check(&fits, Ok(()));
    check(&filler(12_300), Err(JwtError::TooLarge));
    check(&"x".repeat(16 * 1024 + 1), Err(JwtError::TooLarge));
    check(&"x".repeat(16 * 1024), Err(JwtError::BadFormat));
}

#[test]
fn a_kid_is_compared_byte_by_byte_and_a_key_without_kid_fits_every_token() {
    let signer = key(Algorithm::Es256);
    for kid in ["es256", "ES256 ", "ES25", "ES256\u{0}", "../ES256", ""] {
        let header = json!({ "alg": "ES256", "kid": kid }).to_string();
        check(&signed(&header, &claims().to_string()), Err(JwtError::KeyUnknown));
    }
    check(&signed(r#"{"alg":"ES256"}"#, &claims().to_string()), Ok(()));
    // An escaped name is the same name.
    check(&signed(r#"{"alg":"ES\u0032\u0035\u0036","kid":"ES256"}"#, &claims().to_string()), Ok(()));
    let mut jwk = signer.public_jwk();
    jwk.as_object_mut().unwrap().remove("kid");
    let keys = KeySet::parse(json!({ "keys": [jwk] }).to_string().as_bytes()).unwrap();
    let token = signed(r#"{"alg":"ES256","kid":"anything"}"#, &claims().to_string());
    assert!(verify(&token, &keys, options()).is_ok());
}

#[test]
fn keys_that_a_token_brings_along_are_ignored() {
    let mallory = SigningKey::generate(Algorithm::Es256, "ES256").unwrap();
    let header = json!({
        "alg": "ES256",
        "kid": "ES256",
        "jwk": mallory.public_jwk(),
        "jku": "https://mallory.example/keys",
        "x5u": "https://mallory.example/cert",
        "x5c": ["MIIB"],
    });
    let token = mallory.sign_raw(header.to_string().as_bytes(), claims().to_string().as_bytes()).unwrap();
    check(&token, Err(JwtError::SignatureInvalid));
}

#[test]
fn parts_of_two_good_tokens_do_not_make_a_third() {
    let signer = key(Algorithm::Es256);
    let one = signer.sign(&claims()).unwrap();
    let mut other = claims();
    other["sub"] = "root".into();
    let two = signer.sign(&other).unwrap();
    let (one, two): (Vec<_>, Vec<_>) = (one.split('.').collect(), two.split('.').collect());
    check(&[one[0], two[1], one[2]].join("."), Err(JwtError::SignatureInvalid));
}

#[test]
fn base64_with_unused_bits_set_is_refused() {
    // 64 signature bytes end in a character that carries four unused bits.
    let token = key(Algorithm::Es256).sign(&claims()).unwrap();
    let (rest, last) = token.split_at(token.len() - 1);
    let position = ALPHABET.find(last).unwrap();
    assert_eq!(position % 16, 0, "canonical");
    let changed = &ALPHABET[position + 1..position + 2];
    check(&format!("{rest}{changed}"), Err(JwtError::BadFormat));
}

#[test]
fn deep_json_is_no_danger() {
    let deep = |open: &str, close: &str| {
        format!(r#"{{"exp":{},"a":{}1{}}}"#, NOW + 9, open.repeat(2_000), close.repeat(2_000))
    };
    let header = r#"{"alg":"ES256","kid":"ES256"}"#;
    // Whether such a token passes is of no interest; that it cannot exhaust the stack is.
    for payload in [deep("[", "]"), deep(r#"{"a":"#, "}")] {
        let _ = verify(&signed(header, &payload), &set([key(Algorithm::Es256)]), options());
        let in_aud = payload.replace(r#""a":["#, r#""aud":["#);
        let _ = verify(&signed(header, &in_aud), &set([key(Algorithm::Es256)]), options());
    }
    check(&signed(&format!(r#"{{"alg":{}1{}}}"#, "[".repeat(500), "]".repeat(500)), "{}"), Err(JwtError::HeaderAlg));
}

#[test]
fn claims_are_read_in_all_their_forms() {
    let read = |payload: Value| Claims::parse(payload.to_string().as_bytes()).unwrap();
    assert_eq!(read(json!({ "aud": "a" })).audience, ["a"]);
    assert_eq!(read(json!({ "aud": ["a", "b"] })).audience, ["a", "b"]);
    for none in [json!(7), json!([1, "a"]), json!(["a", ["b"]]), json!(null), json!({})] {
        assert!(read(json!({ "aud": none })).audience.is_empty());
    }
    assert_eq!(read(json!({ "scope": "a  b", "scp": ["c"], "scopes": ["d e"] })).scopes, ["a", "b", "c", "d e"]);
    assert_eq!(read(json!({ "iss": 7, "sub": null })), Claims::default());
}

#[test]
fn a_claim_becomes_header_text() {
    let payload = json!({
        "text": "jane", "number": 7, "flag": true, "list": ["a", 1, false],
        "null": null, "object": {}, "nested": [["a"]],
    })
    .to_string();
    let text = |name| claims::claim_text(payload.as_bytes(), name);
    assert_eq!(text("text").as_deref(), Some("jane"));
    assert_eq!(text("number").as_deref(), Some("7"));
    assert_eq!(text("flag").as_deref(), Some("true"));
    assert_eq!(text("list").as_deref(), Some("a,1,false"));
    for none in ["null", "object", "nested", "absent"] {
        assert_eq!(text(none), None, "{none}");
    }
}

#[test]
fn texts_and_reason_words_are_those_of_the_specification() {
    let rows = [
        (JwtError::Missing, "token_missing", "Jwt is missing"),
        (JwtError::TooLarge, "token_malformed", "Jwt is too large"),
        (
            JwtError::BadFormat,
            "token_malformed",
            "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections",
        ),
        (JwtError::HeaderNotJson, "token_malformed", "Jwt header is an invalid JSON"),
        (JwtError::HeaderAlg, "token_malformed", "Jwt header [alg] field is missing or not a string"),
        (JwtError::HeaderKid, "token_malformed", "Jwt header [kid] field is not a string"),
        (JwtError::HeaderCrit, "token_malformed", "Jwt header [crit] is not supported"),
        (JwtError::AlgRefused, "alg_refused", "Jwt header [alg] is not supported"),
        (JwtError::PayloadNotJson, "token_malformed", "Jwt payload is an invalid JSON"),
        (JwtError::PayloadExp, "token_malformed", "Jwt payload [exp] field is not an integer"),
        (JwtError::PayloadNbf, "token_malformed", "Jwt payload [nbf] field is not an integer"),
        (JwtError::PayloadIat, "token_malformed", "Jwt payload [iat] field is not an integer"),
        (JwtError::IssuerNotConfigured, "issuer_unknown", "Jwt issuer is not configured"),
        (JwtError::NotYetValid, "token_not_yet_valid", "Jwt not yet valid"),
        (JwtError::Expired, "token_expired", "Jwt is expired"),
        (JwtError::ExpMissing, "token_malformed", "Jwt payload [exp] field is missing"),
        (JwtError::JwksUnavailable, "jwks_unavailable", "Jwks remote fetch is failed"),
        (JwtError::KeyUnknown, "key_unknown", "Jwks doesn't have key to match kid or alg from Jwt"),
        (JwtError::SignatureInvalid, "signature_invalid", "Jwt verification fails"),
    ];
    for (error, reason, text) in rows {
        assert_eq!((error.reason(), error.text()), (reason, text));
        assert_eq!(error.to_string(), text);
        assert_eq!(error.is_invalid_token(), error != JwtError::Missing);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_input_panics_and_none_without_signature_verifies(token in r"[A-Za-z0-9_\-.=+/ ]{0,200}") {
        let keys = set([key(Algorithm::Es256)]);
        prop_assert!(verify(&token, &keys, options()).is_err());
    }

    #[test]
    fn any_header_and_payload_bytes_are_answered_without_panic(
        header in proptest::collection::vec(any::<u8>(), 1..60),
        payload in proptest::collection::vec(any::<u8>(), 1..60),
    ) {
        let token = key(Algorithm::EdDsa).sign_raw(&header, &payload).unwrap();
        prop_assert!(UnverifiedJwt::parse(&token, AlgorithmSet::ALL).is_err());
    }

    #[test]
    fn a_token_with_one_changed_character_never_verifies(position in any::<prop::sample::Index>(), to in r"[A-Za-z0-9_\-.]") {
        let token = key(Algorithm::EdDsa).sign(&claims()).unwrap();
        let at = position.index(token.len());
        let mut changed = token.clone();
        changed.replace_range(at..=at, &to);
        prop_assume!(changed != token);
        prop_assert!(verify(&changed, &set([key(Algorithm::EdDsa)]), options()).is_err());
    }

    #[test]
    fn a_cut_token_never_verifies(length in any::<prop::sample::Index>()) {
        let token = key(Algorithm::EdDsa).sign(&claims()).unwrap();
        let cut = &token[..length.index(token.len())];
        prop_assert!(verify(cut, &set([key(Algorithm::EdDsa)]), options()).is_err());
    }

    #[test]
    fn times_are_accepted_exactly_in_their_window(
        exp in -200i64..200, nbf in proptest::option::of(-200i64..200),
    ) {
        let mut payload = json!({ "exp": NOW + exp });
        if let Some(nbf) = nbf {
            payload["nbf"] = (NOW + nbf).into();
        }
        let token = key(Algorithm::EdDsa).sign(&payload).unwrap();
        let is_good = exp > -60 && nbf.is_none_or(|nbf| nbf <= 60);
        let keys = set([key(Algorithm::EdDsa)]);
        prop_assert_eq!(verify(&token, &keys, options()).is_ok(), is_good);
    }
}
