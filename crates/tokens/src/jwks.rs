//! The keys of an issuer: JWKS (RFC 7517), a PEM text, or a map from key id to PEM text.
//!
//! A key that cannot be used (another purpose, too short, a curve we do not know, broken) is left
//! out and counted; it does not spoil its neighbors. Keys are parsed once, here, into the form
//! that verifies.

use std::fmt;

use aws_lc_rs::digest;
use aws_lc_rs::signature::ParsedPublicKey;
use serde_json::value::RawValue;

use crate::Algorithm;

mod jwk;
mod pem;
#[cfg(test)]
mod tests;

/// A set of more keys than this is refused as a whole.
// SPEC 30 §5.4
pub const MAX_KEYS: usize = 256;

/// Why an issuer's answer is no set of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// Neither JWKS nor PEM nor a map of PEM texts.
    #[error("the answer is neither a JWKS nor PEM")]
    NotAKeySet,
    /// More than [`MAX_KEYS`] keys.
    #[error("the answer has more than {MAX_KEYS} keys")]
    TooManyKeys,
}

/// Which key it was: equal for two keys when key id, key material and allowed algorithms are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId([u8; 16]);

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyId(")?;
        for byte in self.0 {
            write!(f, "{byte:02x}")?;
        }
        f.write_str(")")
    }
}

/// A public key, parsed once for each algorithm it may be used with.
#[derive(Debug)]
pub struct VerificationKey {
    id: KeyId,
    kid: Option<Box<str>>,
    /// One entry for EC and OKP keys and for RSA keys that name their `alg`, six for others.
    parsed: Vec<(Algorithm, ParsedPublicKey)>,
}

impl VerificationKey {
    fn new(kid: Option<&str>, parsed: Vec<(Algorithm, ParsedPublicKey)>) -> Option<Self> {
        let (_, first) = parsed.first()?;
        let mut context = digest::Context::new(&digest::SHA256);
        for (algorithm, _) in &parsed {
            context.update(algorithm.as_str().as_bytes());
            context.update(b" ");
        }
        // The length keeps key id and key material apart.
        match kid {
            Some(kid) => {
                context.update(&kid.len().to_be_bytes());
                context.update(kid.as_bytes());
            }
            None => context.update(b"-"),
        }
        context.update(first.as_ref());
        let mut id = [0; 16];
        for (to, from) in id.iter_mut().zip(context.finish().as_ref()) {
            *to = *from;
        }
        Some(Self { id: KeyId(id), kid: kid.map(Into::into), parsed })
    }

    /// Which key this is, across fetches of its set.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The key id that tokens name; `None` fits every token.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The algorithms that this key may be used with; never empty.
    pub fn algorithms(&self) -> impl Iterator<Item = Algorithm> {
        self.parsed.iter().map(|(algorithm, _)| *algorithm)
    }

    /// Whether this key, used with that algorithm, made the signature.
    pub(crate) fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        self.parsed
            .iter()
            .find(|(own, _)| *own == algorithm)
            .is_some_and(|(_, key)| key.verify_sig(message, signature).is_ok())
    }
}

/// The usable keys of an issuer.
#[derive(Debug, Default)]
pub struct KeySet {
    /// Sorted by key id; keys without one come first.
    keys: Vec<VerificationKey>,
    skipped: usize,
}

impl KeySet {
    /// Reads an issuer's answer.
    ///
    /// An answer in which no key is usable is an empty set and no error: the keys that were there
    /// before are gone, and tokens signed with them must stop working.
    ///
    /// Errors: [`KeySetError`].
    // SPEC 30 §5.3, §5.4
    pub fn parse(body: &[u8]) -> Result<Self, KeySetError> {
        let text = std::str::from_utf8(body).map_err(|_| KeySetError::NotAKeySet)?.trim();
        if !text.starts_with('{') {
            return pem::keys(None, text).and_then(Self::from_keys);
        }
        let document: Document<'_> = serde_json::from_str(text).map_err(|_| KeySetError::NotAKeySet)?;
        let Some(keys) = document.keys else {
            return pem::key_map(text).and_then(Self::from_keys);
        };
        let keys: Vec<&RawValue> = serde_json::from_str(keys.get()).map_err(|_| KeySetError::NotAKeySet)?;
        if keys.len() > MAX_KEYS {
            return Err(KeySetError::TooManyKeys);
        }
        Self::from_keys(keys.into_iter().map(|key| jwk::key(key.get())).collect())
    }

    fn from_keys(found: Vec<Option<VerificationKey>>) -> Result<Self, KeySetError> {
        if found.len() > MAX_KEYS {
            return Err(KeySetError::TooManyKeys);
        }
        let total = found.len();
        let mut keys: Vec<_> = found.into_iter().flatten().collect();
        // Stable: keys of one id keep the order in which the issuer lists them.
        keys.sort_by(|one, two| one.kid.cmp(&two.kid));
        Ok(Self { skipped: total - keys.len(), keys })
    }

    /// How many usable keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether no key is usable.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// How many keys of the answer were left out as unusable.
    pub fn skipped(&self) -> usize {
        self.skipped
    }

    /// All usable keys.
    pub fn iter(&self) -> impl Iterator<Item = &VerificationKey> {
        self.keys.iter()
    }

    /// Whether the very same key is in the set.
    pub fn contains(&self, id: KeyId) -> bool {
        self.keys.iter().any(|key| key.id == id)
    }

    /// Whether a key with this key id is in the set.
    pub fn has_kid(&self, kid: &str) -> bool {
        !self.with_kid(kid).is_empty()
    }

    /// The keys that may have signed a token: with a `kid`, the keys of that id and then those
    /// without any; without, all keys. Only keys that may be used with the algorithm.
    // SPEC 30 §5.3
    pub fn candidates(&self, kid: Option<&str>, algorithm: Algorithm) -> impl Iterator<Item = &VerificationKey> {
        let (first, second) = match kid {
            Some(kid) => (self.with_kid(kid), self.without_kid()),
            None => (self.keys.as_slice(), [].as_slice()),
        };
        first.iter().chain(second).filter(move |key| key.algorithms().any(|own| own == algorithm))
    }

    fn without_kid(&self) -> &[VerificationKey] {
        let end = self.keys.partition_point(|key| key.kid.is_none());
        self.keys.get(..end).unwrap_or_default()
    }

    fn with_kid(&self, kid: &str) -> &[VerificationKey] {
        let start = self.keys.partition_point(|key| key.kid.as_deref() < Some(kid));
        let end = self.keys.partition_point(|key| key.kid.as_deref() <= Some(kid));
        self.keys.get(start..end).unwrap_or_default()
    }
}

#[derive(serde::Deserialize)]
struct Document<'a> {
    #[serde(borrow, default)]
    keys: Option<&'a RawValue>,
}
