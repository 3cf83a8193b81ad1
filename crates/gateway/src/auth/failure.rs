//! The answer to a request whose token is refused. SPEC 30 §5.2.

use http::{HeaderValue, StatusCode};
use tidegate_policy::{Denied, Reason};
use tidegate_tokens::JwtError;

/// What `WWW-Authenticate` says besides the realm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// No such header.
    None,
    /// Only the realm: there was no token.
    Realm,
    /// `error="invalid_token"`: rows 2 to 10.
    InvalidToken,
    /// `error="insufficient_scope"`: row 11.
    InsufficientScope,
}

/// A request that is answered here, before any upstream hears of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .denied.body)]
pub struct AuthFailure {
    /// Status, reason word and body (`text/plain`, no final newline).
    pub denied: Denied,
    /// What the challenge header says.
    pub challenge: Challenge,
}

impl AuthFailure {
    /// More than one `Authorization` header. SPEC 30 §5.1.
    pub const DUPLICATE_AUTHORIZATION: Self = Self {
        denied: Denied {
            status: StatusCode::BAD_REQUEST,
            reason: Reason::HeaderMalformed,
            body: "more than one authorization header",
        },
        challenge: Challenge::None,
    };

    /// Istio's answer to a missing token, where `exposure.jwt.missingTokenStatus` is 403.
    pub const MISSING_AS_FORBIDDEN: Self = Self {
        denied: Denied { status: StatusCode::FORBIDDEN, reason: Reason::TokenMissing, body: "RBAC: access denied" },
        challenge: Challenge::None,
    };

    /// The value of `WWW-Authenticate`; `path` has no query. `None` where the answer has no such header.
    pub fn www_authenticate(&self, scheme: &str, host: &str, path: &str) -> Option<HeaderValue> {
        let suffix = match self.challenge {
            Challenge::None => return None,
            Challenge::Realm => "",
            Challenge::InvalidToken => r#", error="invalid_token""#,
            Challenge::InsufficientScope => r#", error="insufficient_scope""#,
        };
        let mut text = String::with_capacity(48 + host.len() + path.len());
        text.push_str(r#"Bearer realm=""#);
        text.push_str(scheme);
        text.push_str("://");
        for character in host.chars().chain(path.chars()) {
            match character {
                // A quoted string must not end early.
                '"' => text.push_str("%22"),
                '\\' => text.push_str("%5C"),
                other => text.push(other),
            }
        }
        text.push('"');
        text.push_str(suffix);
        // Host and path were checked before; should they hold a control character, the challenge names no realm.
        HeaderValue::from_str(&text).ok().or_else(|| Some(HeaderValue::from_static("Bearer")))
    }
}

impl From<JwtError> for AuthFailure {
    fn from(error: JwtError) -> Self {
        let reason = Reason::from_word(error.reason()).unwrap_or(Reason::TokenMalformed);
        let challenge = if error.is_invalid_token() { Challenge::InvalidToken } else { Challenge::Realm };
        Self { denied: Denied { status: StatusCode::UNAUTHORIZED, reason, body: error.text() }, challenge }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_error_has_its_reason_word_and_text() {
        for error in [
            JwtError::Missing,
            JwtError::TooLarge,
            JwtError::AlgRefused,
            JwtError::IssuerNotConfigured,
            JwtError::NotYetValid,
            JwtError::Expired,
            JwtError::JwksUnavailable,
            JwtError::KeyUnknown,
            JwtError::SignatureInvalid,
        ] {
            let failure = AuthFailure::from(error);
            assert_eq!(failure.denied.reason.as_str(), error.reason());
            assert_eq!(failure.denied.body, error.text());
            assert_eq!(failure.denied.status, StatusCode::UNAUTHORIZED);
        }
    }

    #[test]
    fn the_challenge_names_the_realm_and_the_kind_of_error() {
        let check = |failure: AuthFailure, path: &str, expected: Option<&str>| {
            let value = failure.www_authenticate("https", "httpbin.localhost", path);
            assert_eq!(value.as_ref().map(|value| value.to_str().unwrap()), expected);
        };
        check(JwtError::Missing.into(), "/ip", Some(r#"Bearer realm="https://httpbin.localhost/ip""#));
        check(
            JwtError::Expired.into(),
            "/",
            Some(r#"Bearer realm="https://httpbin.localhost/", error="invalid_token""#),
        );
        check(JwtError::Missing.into(), r#"/a"b\c"#, Some(r#"Bearer realm="https://httpbin.localhost/a%22b%5Cc""#));
        check(AuthFailure::DUPLICATE_AUTHORIZATION, "/", None);
        check(AuthFailure::MISSING_AS_FORBIDDEN, "/", None);
        let scopes = AuthFailure { challenge: Challenge::InsufficientScope, ..JwtError::Missing.into() };
        check(scopes, "/", Some(r#"Bearer realm="https://httpbin.localhost/", error="insufficient_scope""#));
        check(JwtError::Missing.into(), "/\u{1}", Some("Bearer"));
    }
}
