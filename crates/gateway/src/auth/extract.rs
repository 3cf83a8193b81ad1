//! Where tokens are in a request. SPEC 30 §5.1.

use std::borrow::Cow;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use percent_encoding::percent_decode_str;
use tidegate_tokens::JwtError;

use super::AuthFailure;

const SCHEME: &[u8] = b"bearer";

/// The query parameter that carries a token.
pub const QUERY_PARAMETER: &str = "access_token";

/// The token of `Authorization: Bearer`, without the spaces around it; the scheme's case does not matter. `None` for
/// another scheme, no header, or nothing behind the scheme.
///
/// Errors: 400 for more than one `Authorization` header; 401 for a token with bytes that are no text.
pub fn bearer(headers: &HeaderMap) -> Result<Option<&str>, AuthFailure> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(AuthFailure::DUPLICATE_AUTHORIZATION);
    }
    let Some((scheme, rest)) = value.as_bytes().split_at_checked(SCHEME.len()) else { return Ok(None) };
    if !scheme.eq_ignore_ascii_case(SCHEME) || rest.first() != Some(&b' ') {
        return Ok(None);
    }
    let token = rest.trim_ascii();
    if token.is_empty() {
        return Ok(None);
    }
    // What is not ASCII is not base64url either.
    std::str::from_utf8(token).map(Some).map_err(|_| AuthFailure::from(JwtError::BadFormat))
}

/// Whether a query parameter's name, as it was sent, is that of a token. An encoded name is the same name to whoever
/// reads the query behind us.
pub fn is_token_parameter(name: &str) -> bool {
    name == QUERY_PARAMETER || name.contains('%') && percent_decode_str(name).eq(QUERY_PARAMETER.bytes())
}

/// The tokens of a query string: every `access_token`, percent-decoded. An empty one is a (bad) token.
pub fn query_tokens(query: &str) -> impl Iterator<Item = Cow<'_, str>> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .filter(|(name, _)| is_token_parameter(name))
        .map(|(_, value)| percent_decode_str(value).decode_utf8_lossy())
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, StatusCode};

    use super::*;

    fn header(value: &[u8]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.append(AUTHORIZATION, HeaderValue::from_bytes(value).unwrap());
        headers
    }

    #[test]
    fn the_bearer_token_is_found_whatever_the_case_of_its_scheme() {
        let check = |value: &str, expected: Option<&str>| {
            assert_eq!(bearer(&header(value.as_bytes())).unwrap(), expected, "{value}");
        };
        for value in ["Bearer a.b.c", "bearer a.b.c", "BEARER a.b.c", "Bearer    a.b.c ", "bEaReR a.b.c"] {
            check(value, Some("a.b.c"));
        }
        for value in ["", "Bearer", "Bearer ", "Bearer   ", "Basic a.b.c", "Bearera.b.c", "Bear", "a.b.c", "Bearer\ta"]
        {
            check(value, None);
        }
        check("Bearer a b", Some("a b"));
        assert_eq!(bearer(&HeaderMap::new()).unwrap(), None);
    }

    #[test]
    fn two_authorization_headers_are_a_bad_request() {
        let mut headers = header(b"Bearer a.b.c");
        headers.append(AUTHORIZATION, HeaderValue::from_static("Bearer a.b.c"));
        assert_eq!(bearer(&headers).unwrap_err().denied.status, StatusCode::BAD_REQUEST);
        let mut headers = header(b"Basic eDp5");
        headers.append(AUTHORIZATION, HeaderValue::from_static("Bearer a.b.c"));
        assert_eq!(bearer(&headers).unwrap_err().denied.status, StatusCode::BAD_REQUEST);
    }

    #[test]
    fn bytes_that_are_no_text_are_no_token() {
        assert_eq!(bearer(&header(b"Bearer \xff\xfe")).unwrap_err().denied.status, StatusCode::UNAUTHORIZED);
    }

    #[test]
    fn every_access_token_of_the_query_is_found() {
        let check = |query: &str, expected: &[&str]| {
            assert_eq!(query_tokens(query).collect::<Vec<_>>(), expected, "{query}");
        };
        check("", &[]);
        check("access_token=a.b.c", &["a.b.c"]);
        check("x=1&access_token=a.b.c&y", &["a.b.c"]);
        check("access_token=a&access_token=b", &["a", "b"]);
        check("access_token=", &[""]);
        check("access_token=a%2Eb", &["a.b"]);
        check("access_token=%ff", &["\u{fffd}"]);
        check("access%5Ftoken=a&%61ccess_token=b&access%255Ftoken=c", &["a", "b"]);
        check("access_token&ACCESS_TOKEN=a&my_access_token=b", &[]);
    }
}
