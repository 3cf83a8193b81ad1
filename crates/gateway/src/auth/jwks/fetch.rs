//! One fetch of one key set.

use std::time::Duration;

use http::StatusCode;
use http::header::{CACHE_CONTROL, HeaderMap};
use tidegate_runtime::{FetchError, HttpClient};
use tidegate_tokens::{KeySet, KeySetError};

/// Why a fetch brought no keys.
#[derive(Debug, thiserror::Error)]
pub enum JwksError {
    /// No complete answer from an address that may be asked.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The answer was not 200.
    #[error("the issuer answered {0}")]
    Status(StatusCode),
    /// The answer holds no keys.
    #[error(transparent)]
    KeySet(#[from] KeySetError),
}

pub(super) struct FetchedKeys {
    pub(super) keys: KeySet,
    pub(super) max_age: Option<Duration>,
}

// SPEC 30 §5.4: GET, `Accept: application/json`, status 200 only; time, size and redirects are the client's limits.
pub(super) async fn fetch(client: &HttpClient, uri: &str) -> Result<FetchedKeys, JwksError> {
    let answer = client.get(uri, "application/json").await?;
    if answer.status != StatusCode::OK {
        return Err(JwksError::Status(answer.status));
    }
    let keys = KeySet::parse(&answer.body)?;
    if keys.skipped() > 0 {
        let uri = super::shown(uri);
        tracing::debug!(jwks.uri = uri, skipped = keys.skipped(), "some keys of `{uri}` cannot be used");
    }
    Ok(FetchedKeys { keys, max_age: max_age(&answer.headers) })
}

/// The first `max-age` of `Cache-Control` (RFC 9111 §5.2.2.1), quoted or not; other directives are of no interest.
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    headers
        .get_all(CACHE_CONTROL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|directive| directive.split_once('='))
        .filter(|(name, _)| name.trim().eq_ignore_ascii_case("max-age"))
        .find_map(|(_, seconds)| seconds.trim().trim_matches('"').parse().ok())
        .map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn max_age_is_found_among_other_directives() {
        let check = |values: &[&'static str], expected: Option<u64>| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CACHE_CONTROL, HeaderValue::from_static(value));
            }
            assert_eq!(max_age(&headers), expected.map(Duration::from_secs), "{values:?}");
        };
        check(&[], None);
        check(&["no-store"], None);
        check(&["max-age=60"], Some(60));
        check(&["public, Max-Age = \"7\" , must-revalidate"], Some(7));
        check(&["public", "max-age=1"], Some(1));
        check(&["s-maxage=9"], None);
        check(&["max-age=-1"], None);
        check(&["max-age=x, max-age=3"], Some(3));
        check(&["max-age=99999999999999999999999"], None);
    }
}
