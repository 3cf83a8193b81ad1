//! Continue tokens: where the next page of a list begins (SPEC 60 §8). Pure.
//!
//! A token is base64url JSON with a MAC over it and over what is listed, so that a client can neither invent one nor use
//! it for another resource.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::status::ApiError;

/// The key that tokens are signed with.
pub struct PageKey(hmac::Key);

/// Where a list goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The snapshot all pages come from; 0 means the newest state.
    pub revision: u64,
    /// Namespace and name of the last object already sent.
    pub namespace: String,
    pub name: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    v: String,
    rv: u64,
    start: String,
}

const CONTENT_VERSION: &str = "meta.k8s.io/v1";
/// Names have at most 253 bytes each; the longest honest token is far shorter.
const MAX_TOKEN_BYTES: usize = 2048;

impl PageKey {
    /// A key from secret bytes.
    pub fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// The token that continues after `position` of the collection called `scope`.
    pub fn token(&self, scope: &str, position: &Position) -> String {
        let content = Content {
            v: CONTENT_VERSION.to_owned(),
            rv: position.revision,
            start: format!("{}/{}\0", position.namespace, position.name),
        };
        // Serializing two strings and a number cannot fail.
        let json = serde_json::to_vec(&content).unwrap_or_default();
        let mut token = URL_SAFE_NO_PAD.encode(&json);
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(self.mac(scope, &json)));
        token
    }

    /// Reads a token back.
    ///
    /// # Errors
    /// 400 for anything that [`PageKey::token`] did not make for this scope.
    pub fn position(&self, scope: &str, token: &str) -> Result<Position, ApiError> {
        let refuse =
            |why: &str| ApiError::bad_request(format!("invalid continue token: continue key is not valid: {why}"));
        if token.len() > MAX_TOKEN_BYTES {
            return Err(refuse("too long"));
        }
        let (content, mac) = token.split_once('.').ok_or_else(|| refuse("no signature"))?;
        let json = URL_SAFE_NO_PAD.decode(content).map_err(|_| refuse("illegal base64 data"))?;
        let mac = URL_SAFE_NO_PAD.decode(mac).map_err(|_| refuse("illegal base64 data"))?;
        hmac::verify(&self.0, &message(scope, &json), &mac).map_err(|_| refuse("signature mismatch"))?;
        let content: Content = serde_json::from_slice(&json).map_err(|_| refuse("malformed content"))?;
        if content.v != CONTENT_VERSION {
            return Err(refuse("unknown version"));
        }
        let start = content.start.strip_suffix('\0').and_then(|start| start.split_once('/'));
        let (namespace, name) = start.ok_or_else(|| refuse("malformed start"))?;
        Ok(Position { revision: content.rv, namespace: namespace.to_owned(), name: name.to_owned() })
    }

    fn mac(&self, scope: &str, json: &[u8]) -> hmac::Tag {
        hmac::sign(&self.0, &message(scope, json))
    }
}

/// A scope holds no NUL, so the border is unambiguous.
fn message(scope: &str, json: &[u8]) -> Vec<u8> {
    [scope.as_bytes(), b"\0", json].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_only_where_it_was_made() {
        let key = PageKey::new(b"secret");
        let position = Position { revision: 7, namespace: "n".into(), name: "a".into() };
        let token = key.token("/api/v1/configmaps", &position);
        assert_eq!(key.position("/api/v1/configmaps", &token).unwrap(), position);
        for (key, scope, token) in [
            (&key, "/api/v1/secrets", token.clone()),
            (&PageKey::new(b"other"), "/api/v1/configmaps", token.clone()),
            (&key, "/api/v1/configmaps", token.replace('.', "")),
            (&key, "/api/v1/configmaps", format!("{token}x")),
            (&key, "/api/v1/configmaps", "abc".to_owned()),
            (&key, "/api/v1/configmaps", "a".repeat(3000)),
        ] {
            let error = key.position(scope, &token).unwrap_err();
            assert_eq!(error.code, 400);
            assert!(
                error.message.starts_with("invalid continue token: continue key is not valid: "),
                "{}",
                error.message
            );
        }
    }
}
