//! Key sets as issuers publish them, and as attackers would.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::KeyPair;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::signing::jwks;
use crate::{Algorithm, JwtError, KeySet, KeySetError, Options, SigningKey, verify};

fn parse(document: &Value) -> KeySet {
    KeySet::parse(document.to_string().as_bytes()).unwrap()
}

fn es256(kid: &str) -> SigningKey {
    SigningKey::generate(Algorithm::Es256, kid).unwrap()
}

fn changed(key: &SigningKey, change: impl FnOnce(&mut Value)) -> Value {
    let mut jwk = key.public_jwk();
    change(&mut jwk);
    jwk
}

/// A PEM block of type `PUBLIC KEY` around DER bytes.
fn pem(der: &[u8]) -> String {
    let lines: Vec<_> =
        STANDARD.encode(der).as_bytes().chunks(64).map(|line| String::from_utf8(line.to_vec()).unwrap()).collect();
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
}

fn rsa_pem(pair: &RsaKeyPair) -> String {
    pem(pair.public_key().as_der().unwrap().as_ref())
}

// The examples of the standards: they prove that we agree with others and not only with ourselves.

const RFC7515_PAYLOAD: &str =
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";

fn rfc_options() -> Options {
    Options { now: 1_300_819_000, ..Options::default() }
}

#[test]
fn the_rs256_example_of_rfc_7515_verifies() {
    let keys = parse(
        &json!({ "keys": [{ "kty": "RSA", "e": "AQAB", "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ" }] }),
    );
    let token = format!(
        "eyJhbGciOiJSUzI1NiJ9.{RFC7515_PAYLOAD}.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"
    );
    assert_eq!(verify(&token, &keys, rfc_options()).unwrap().issuer.as_deref(), Some("joe"));
}

#[test]
fn the_es256_example_of_rfc_7515_verifies() {
    let keys = parse(&json!({ "keys": [{
        "kty": "EC", "crv": "P-256",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    }] }));
    let token = format!(
        "eyJhbGciOiJFUzI1NiJ9.{RFC7515_PAYLOAD}.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
    );
    assert_eq!(verify(&token, &keys, rfc_options()).unwrap().issuer.as_deref(), Some("joe"));
}

#[test]
fn the_eddsa_example_of_rfc_8037_verifies() {
    let keys = parse(&json!({ "keys": [{
        "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
    }] }));
    let signature = URL_SAFE_NO_PAD
        .decode("hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg")
        .unwrap();
    let message = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
    let key = keys.iter().next().unwrap();
    assert!(key.verifies(Algorithm::EdDsa, message, &signature));
    assert!(!key.verifies(Algorithm::EdDsa, b"other", &signature));
    assert!(!key.verifies(Algorithm::Es256, message, &signature));
}

#[test]
fn unusable_keys_are_left_out_and_spoil_nothing() {
    let good = es256("good");
    let rsa = SigningKey::generate(Algorithm::Rs256, "rsa").unwrap();
    let ed = SigningKey::generate(Algorithm::EdDsa, "ed").unwrap();
    let small = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let modulus = small.public_key().modulus().big_endian_without_leading_zero();
    let unusable = vec![
        json!(7),
        json!(null),
        json!(["EC"]),
        json!({}),
        json!({ "kty": "oct", "k": "c2VjcmV0" }),
        json!({ "kty": "RSA" }),
        json!({ "kty": "RSA", "n": "", "e": "AQAB" }),
        json!({ "kty": "EC", "crv": "P-256" }),
        changed(&good, |jwk| jwk["use"] = "enc".into()),
        changed(&good, |jwk| jwk["use"] = json!(["sig"])),
        changed(&good, |jwk| jwk["key_ops"] = json!(["sign"])),
        changed(&good, |jwk| jwk["alg"] = "RS256".into()),
        changed(&good, |jwk| jwk["alg"] = "ECDH-ES".into()),
        changed(&good, |jwk| jwk["crv"] = "P-384".into()),
        changed(&good, |jwk| jwk["crv"] = "secp256k1".into()),
        changed(&good, |jwk| jwk["kid"] = 7.into()),
        changed(&good, |jwk| jwk["x"] = jwk["y"].clone()),
        changed(&good, |jwk| jwk["x"] = "!!".into()),
        changed(&good, |jwk| jwk["x"] = "A".repeat(88).into()),
        changed(&ed, |jwk| jwk["crv"] = "X25519".into()),
        changed(&ed, |jwk| jwk["x"] = "AAAA".into()),
        // 2040 bit: one byte short.
        changed(&rsa, |jwk| jwk["n"] = URL_SAFE_NO_PAD.encode(&modulus[..255]).into()),
        changed(&rsa, |jwk| jwk["e"] = "AQ".into()),
        changed(&rsa, |jwk| jwk["e"] = "Ag".into()),
        changed(&rsa, |jwk| jwk["e"] = "AQABAQABAQ".into()),
    ];
    let count = unusable.len();
    let mut keys = unusable;
    keys.insert(count / 2, good.public_jwk());
    let set = parse(&json!({ "keys": keys }));
    assert_eq!((set.len(), set.skipped()), (1, count));
    assert!(set.has_kid("good"));
}

#[test]
fn keys_with_harmless_oddities_are_usable() {
    let good = es256("good");
    let rsa = SigningKey::generate(Algorithm::Rs256, "rsa").unwrap();
    let set = parse(&json!({ "unknown": 1, "keys": [
        changed(&good, |jwk| jwk["key_ops"] = json!(["verify", "sign"])),
        changed(&good, |jwk| jwk["x"] = format!("{}=", jwk["x"].as_str().unwrap()).into()),
        changed(&good, |jwk| { jwk.as_object_mut().unwrap().remove("use"); }),
        changed(&good, |jwk| jwk["x5c"] = json!(["anything"])),
        changed(&rsa, |jwk| {
            let n = URL_SAFE_NO_PAD.decode(jwk["n"].as_str().unwrap()).unwrap();
            jwk["n"] = URL_SAFE_NO_PAD.encode([vec![0], n].concat()).into();
        }),
    ] }));
    assert_eq!((set.len(), set.skipped()), (5, 0));
}

#[test]
fn a_coordinate_without_its_leading_zero_is_the_same_key() {
    // One key in 256 has a coordinate that begins with a zero byte.
    let (key, x) = std::iter::repeat_with(|| es256("zero"))
        .map(|key| {
            let x = URL_SAFE_NO_PAD.decode(key.public_jwk()["x"].as_str().unwrap());
            (key, x.unwrap())
        })
        .find(|(_, x)| x[0] == 0)
        .unwrap();
    let full = parse(&jwks([&key]));
    let short = changed(&key, |jwk| jwk["x"] = URL_SAFE_NO_PAD.encode(&x[1..]).into());
    let short = parse(&json!({ "keys": [short] }));
    let id = |set: &KeySet| set.iter().next().unwrap().id();
    assert_eq!(id(&full), id(&short));
}

#[test]
fn what_is_no_key_set_is_an_error_and_not_an_empty_set() {
    for body in [
        "",
        "[]",
        "null",
        "<html>sorry</html>",
        "{",
        "{}",
        r#"{"keys":7}"#,
        r#"{"keys":{"a":1}}"#,
        r#"{"keys":[],"keys":[]}"#,
        r#"{"error":"maintenance"}"#,
        r#"{"keys":null}"#,
        "-----BEGIN PUBLIC KEY-----\nnot base64!\n-----END PUBLIC KEY-----",
        "-----BEGIN PUBLIC KEY-----",
    ] {
        assert_eq!(KeySet::parse(body.as_bytes()).map(|set| set.len()), Err(KeySetError::NotAKeySet), "{body}");
    }
    assert!(KeySet::parse(&[0xff, 0xfe]).is_err());
    assert!(KeySet::parse(br#"{"keys":[]}"#).unwrap().is_empty());
}

#[test]
fn more_than_256_keys_are_refused() {
    let key = es256("k").public_jwk();
    let of =
        |count: usize| KeySet::parse(json!({ "keys": vec![&key; count] }).to_string().as_bytes()).map(|set| set.len());
    assert_eq!(of(256), Ok(256));
    assert_eq!(of(257), Err(KeySetError::TooManyKeys));
}

#[test]
fn pem_texts_and_maps_of_them_are_key_sets() {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let bare = KeySet::parse(rsa_pem(&pair).as_bytes()).unwrap();
    let key = bare.iter().next().unwrap();
    assert_eq!(key.kid(), None);
    assert_eq!(key.algorithms().collect::<Vec<_>>(), Algorithm::RSA);

    let ec =
        aws_lc_rs::signature::EcdsaKeyPair::generate(&aws_lc_rs::signature::ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
    let ec_der = AsDer::<aws_lc_rs::encoding::PublicKeyX509Der<'_>>::as_der(ec.public_key()).unwrap();
    let map = parse(&json!({
        "one": rsa_pem(&pair),
        "two": pem(ec_der.as_ref()),
        "broken": "-----BEGIN PUBLIC KEY-----",
        "note": "not a key",
        "number": 7,
    }));
    assert_eq!((map.len(), map.skipped()), (2, 1));
    assert!(map.has_kid("one") && map.has_kid("two"));
    let found: Vec<_> = map.candidates(Some("two"), Algorithm::Es384).map(crate::VerificationKey::kid).collect();
    assert_eq!(found, [Some("two")]);

    let several = format!("{}\n{}", rsa_pem(&pair), pem(ec_der.as_ref()));
    assert_eq!(KeySet::parse(several.as_bytes()).unwrap().len(), 2);
}

#[test]
fn candidates_are_those_of_the_kid_then_those_without() {
    let keys = ["b", "a", "b", "c"].map(es256);
    let mut document = jwks(&keys);
    let anonymous = changed(&es256("x"), |jwk| {
        jwk.as_object_mut().unwrap().remove("kid");
    });
    document["keys"].as_array_mut().unwrap().push(anonymous);
    let set = parse(&document);
    let kids = |kid: Option<&str>| -> Vec<Option<String>> {
        set.candidates(kid, Algorithm::Es256).map(|key| key.kid().map(str::to_owned)).collect()
    };
    let some = |kid: &str| Some(kid.to_owned());
    assert_eq!(kids(Some("b")), [some("b"), some("b"), None]);
    assert_eq!(kids(Some("zz")), [None]);
    assert_eq!(kids(None).len(), 5);
    assert_eq!(set.candidates(Some("b"), Algorithm::Rs256).count(), 0);
}

#[test]
fn at_most_sixteen_keys_are_tried() {
    let right = es256("same");
    let mut keys: Vec<_> = (0..16).map(|_| es256("same")).collect();
    let token = right.sign(&json!({ "exp": 1_300_819_999 })).unwrap();
    keys.insert(15, right);
    assert!(verify(&token, &parse(&jwks(&keys)), rfc_options()).is_ok());
    keys.swap(15, 16);
    assert_eq!(verify(&token, &parse(&jwks(&keys)), rfc_options()), Err(JwtError::SignatureInvalid));
}

#[test]
fn a_key_keeps_its_identity_across_fetches_and_another_has_another() {
    let one = es256("a");
    let again = parse(&jwks([&one]));
    let id = again.iter().next().unwrap().id();
    assert!(parse(&jwks([&es256("b"), &one])).contains(id));
    assert!(!parse(&jwks([&es256("a")])).contains(id));
    let renamed = changed(&one, |jwk| jwk["kid"] = "c".into());
    assert!(!parse(&json!({ "keys": [renamed] })).contains(id));
}

proptest! {
    #[test]
    fn no_answer_panics(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = KeySet::parse(&body);
    }

    #[test]
    fn no_key_object_panics(
        kty in "RSA|EC|OKP|oct", crv in "P-256|P-384|P-521|Ed25519|x",
        n in "[A-Za-z0-9_-]{0,400}", e in "[A-Za-z0-9_-]{0,8}",
        x in "[A-Za-z0-9_-]{0,100}", y in "[A-Za-z0-9_-]{0,100}",
    ) {
        let jwk = json!({ "kty": kty, "crv": crv, "n": n, "e": e, "x": x, "y": y });
        let set = parse(&json!({ "keys": [jwk] }));
        prop_assert_eq!(set.len() + set.skipped(), 1);
    }
}
