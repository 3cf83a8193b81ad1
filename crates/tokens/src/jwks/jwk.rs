//! One JSON Web Key (RFC 7517, RFC 7518 §6, RFC 8037 §2).

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519, EcdsaVerificationAlgorithm,
    ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters,
    RsaPublicKeyComponents,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::VerificationKey;
use crate::Algorithm;

/// Only the members that we use; private parts are not even read.
#[derive(serde::Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    n: Option<String>,
    e: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// Reads one key; `None` when it is of no use to us.
// SPEC 30 §5.3
pub(super) fn key(json: &str) -> Option<VerificationKey> {
    if !json.starts_with('{') {
        return None;
    }
    let jwk: Jwk = serde_json::from_str(json).ok()?;
    if jwk.purpose.as_deref().is_some_and(|purpose| purpose != "sig") {
        return None;
    }
    if jwk.key_ops.as_ref().is_some_and(|operations| !operations.iter().any(|operation| operation == "verify")) {
        return None;
    }
    let only = match jwk.alg.as_deref() {
        Some(name) => Some(name.parse::<Algorithm>().ok()?),
        None => None,
    };
    let mut parsed = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) => rsa(&decode(jwk.n.as_ref()?)?, &decode(jwk.e.as_ref()?)?)?,
        ("EC", Some("P-256")) => ec(&jwk, Algorithm::Es256, 32)?,
        ("EC", Some("P-384")) => ec(&jwk, Algorithm::Es384, 48)?,
        ("EC", Some("P-521")) => ec(&jwk, Algorithm::Es512, 66)?,
        ("OKP", Some("Ed25519")) => {
            let point = decode(jwk.x.as_ref()?)?;
            // Longer input would be taken for a DER structure.
            if point.len() != 32 {
                return None;
            }
            vec![(Algorithm::EdDsa, ParsedPublicKey::new(&ED25519, point).ok()?)]
        }
        _ => return None,
    };
    if let Some(only) = only {
        parsed.retain(|(algorithm, _)| *algorithm == only);
    }
    VerificationKey::new(jwk.kid.as_deref(), parsed)
}

/// An RSA public key for its six algorithms. Modulus 2048 to 8192 bit; the exponent is odd, above
/// 1 and has at most 32 bit (a huge one would make verification slow).
pub(super) fn rsa(modulus: &[u8], exponent: &[u8]) -> Option<Vec<(Algorithm, ParsedPublicKey)>> {
    let (n, e) = (without_zeros(modulus), without_zeros(exponent));
    let bits = n.len() * 8 - n.first()?.leading_zeros() as usize;
    let is_exponent_sound = e.last()? % 2 == 1 && e != [1] && e.len() <= 4;
    if !(2048..=8192).contains(&bits) || n.last()? % 2 == 0 || !is_exponent_sound {
        return None;
    }
    let components = RsaPublicKeyComponents { n, e };
    Algorithm::RSA
        .into_iter()
        .map(|algorithm| {
            let parameters = rsa_parameters(algorithm)?;
            Some((algorithm, components.to_parsed_public_key(parameters).ok()?))
        })
        .collect()
}

fn rsa_parameters(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    match algorithm {
        Algorithm::Rs256 => Some(&RSA_PKCS1_2048_8192_SHA256),
        Algorithm::Rs384 => Some(&RSA_PKCS1_2048_8192_SHA384),
        Algorithm::Rs512 => Some(&RSA_PKCS1_2048_8192_SHA512),
        Algorithm::Ps256 => Some(&RSA_PSS_2048_8192_SHA256),
        Algorithm::Ps384 => Some(&RSA_PSS_2048_8192_SHA384),
        Algorithm::Ps512 => Some(&RSA_PSS_2048_8192_SHA512),
        Algorithm::Es256 | Algorithm::Es384 | Algorithm::Es512 | Algorithm::EdDsa => None,
    }
}

pub(super) fn ec_parameters(algorithm: Algorithm) -> Option<&'static EcdsaVerificationAlgorithm> {
    match algorithm {
        Algorithm::Es256 => Some(&ECDSA_P256_SHA256_FIXED),
        Algorithm::Es384 => Some(&ECDSA_P384_SHA384_FIXED),
        Algorithm::Es512 => Some(&ECDSA_P521_SHA512_FIXED),
        _ => None,
    }
}

/// An EC key from its coordinates; that the point is on the curve is checked by the crypto library.
fn ec(jwk: &Jwk, algorithm: Algorithm, coordinate_bytes: usize) -> Option<Vec<(Algorithm, ParsedPublicKey)>> {
    let mut point = vec![4];
    for coordinate in [jwk.x.as_ref()?, jwk.y.as_ref()?] {
        let coordinate = decode(coordinate)?;
        // Some issuers drop leading zeros, against RFC 7518 §6.2.1.2.
        let missing = coordinate_bytes.checked_sub(coordinate.len())?;
        point.resize(point.len() + missing, 0);
        point.extend(coordinate);
    }
    let key = ParsedPublicKey::new(ec_parameters(algorithm)?, point).ok()?;
    Some(vec![(algorithm, key)])
}

/// Base64url; padding is tolerated because some issuers write it.
fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok()
}

fn without_zeros(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.get(zeros..).unwrap_or_default()
}
