//! Public keys in PEM, as some issuers publish them: `PUBLIC KEY` or `CERTIFICATE` blocks, alone or
//! in a JSON map from key id to PEM text. RSA and EC only.

use std::collections::HashMap;

use aws_lc_rs::signature::ParsedPublicKey;
use rustls_pki_types::pem::{PemObject, SectionKind};
use serde_json::Value;
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo, X509Certificate};
use x509_parser::public_key::PublicKey;

use super::jwk::{ec_parameters, rsa};
use super::{KeySetError, MAX_KEYS, VerificationKey};
use crate::Algorithm;

const BEGIN: &str = "-----BEGIN ";

/// The keys of a PEM text; `None` for each block that is of no use to us.
pub(super) fn keys(kid: Option<&str>, text: &str) -> Result<Vec<Option<VerificationKey>>, KeySetError> {
    if !text.contains(BEGIN) {
        return Err(KeySetError::NotAKeySet);
    }
    let mut found = Vec::new();
    for block in <(SectionKind, Vec<u8>)>::pem_slice_iter(text.as_bytes()) {
        let (kind, der) = block.map_err(|_| KeySetError::NotAKeySet)?;
        found.push(key(kid, kind, &der));
        if found.len() > MAX_KEYS {
            return Err(KeySetError::TooManyKeys);
        }
    }
    Ok(found)
}

/// The keys of a JSON map from key id to PEM text. One value at least must look like PEM; other
/// objects (an error message, say) are no key set.
pub(super) fn key_map(json: &str) -> Result<Vec<Option<VerificationKey>>, KeySetError> {
    let map: HashMap<String, Value> = serde_json::from_str(json).map_err(|_| KeySetError::NotAKeySet)?;
    let texts: Vec<_> = map
        .iter()
        .filter_map(|(kid, value)| Some((kid, value.as_str()?)))
        .filter(|(_, text)| text.contains(BEGIN))
        .collect();
    if texts.is_empty() {
        return Err(KeySetError::NotAKeySet);
    }
    if texts.len() > MAX_KEYS {
        return Err(KeySetError::TooManyKeys);
    }
    let mut found = Vec::new();
    for (kid, text) in texts {
        match keys(Some(kid), text) {
            Ok(keys) => found.extend(keys),
            // One broken text does not spoil the others.
            Err(KeySetError::NotAKeySet) => found.push(None),
            Err(error @ KeySetError::TooManyKeys) => return Err(error),
        }
    }
    Ok(found)
}

fn key(kid: Option<&str>, kind: SectionKind, der: &[u8]) -> Option<VerificationKey> {
    let parsed = match kind {
        SectionKind::PublicKey => {
            let (_, info) = SubjectPublicKeyInfo::from_der(der).ok()?;
            parse(&info)?
        }
        SectionKind::Certificate => {
            let (_, certificate) = X509Certificate::from_der(der).ok()?;
            parse(certificate.public_key())?
        }
        _ => return None,
    };
    VerificationKey::new(kid, parsed)
}

fn parse(info: &SubjectPublicKeyInfo<'_>) -> Option<Vec<(Algorithm, ParsedPublicKey)>> {
    match info.parsed().ok()? {
        PublicKey::RSA(key) => rsa(key.modulus, key.exponent),
        // The curve is named inside; only the algorithm of that curve takes the key.
        PublicKey::EC(_) => [Algorithm::Es256, Algorithm::Es384, Algorithm::Es512].into_iter().find_map(|algorithm| {
            let key = ParsedPublicKey::new(ec_parameters(algorithm)?, info.raw).ok()?;
            Some(vec![(algorithm, key)])
        }),
        _ => None,
    }
}
