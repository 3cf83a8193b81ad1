//! Which header lines of a client are kept, and which the gateway sets. SPEC 30 §6.3.

use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, HeaderName, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderValue, Method};

/// `X-Forwarded-For`.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// `X-Forwarded-Proto`.
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// `X-Forwarded-Host`.
pub const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// `X-Forwarded-Port`.
pub const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
/// `X-Forwarded-Client-Cert`.
pub const X_FORWARDED_CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
/// `X-Request-Id`.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const PROXY_AUTHORIZATION: HeaderName = HeaderName::from_static("proxy-authorization");
const PROXY_AUTHENTICATE: HeaderName = HeaderName::from_static("proxy-authenticate");

/// Headers between two neighbours; nobody else gets them.
const HOP_BY_HOP: [HeaderName; 6] =
    [KEEP_ALIVE, PROXY_CONNECTION, PROXY_AUTHORIZATION, PROXY_AUTHENTICATE, TRAILER, TRANSFER_ENCODING];

/// What becomes of header names with `_`, which many upstreams fold with `-`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Underscores {
    /// The line is dropped.
    #[default]
    Drop,
    /// The line is passed on.
    Allow,
    /// The request is refused (400).
    Reject,
}

/// How a request's headers are cleaned.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hygiene {
    /// The peer is one of `exposure.trustedProxies`: its forwarding headers are believed.
    pub peer_is_trusted: bool,
    /// What becomes of names with `_`.
    pub underscores: Underscores,
}

/// What cleaning found out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// The request asks for a WebSocket in the HTTP/1.1 way; `Connection` and `Upgrade` were removed and have to be set
    /// again towards the upstream.
    pub websocket: bool,
}

/// Why headers are refused. All are answered with 400.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// `Connection` names a header that must not be dropped on the way.
    #[error("the header `connection` names `{0}`")]
    ConnectionNames(String),
    /// A name has `_` and the configuration refuses that.
    #[error("the header name `{0}` has an underscore")]
    Underscore(String),
    /// A value is not text.
    #[error("the header `connection` is not text")]
    NotText,
}

/// Removes from a client's request everything that is between neighbours, that only we may set, or that upstreams would
/// read as another header.
// SPEC 30 §6.3
pub fn clean_request(method: &Method, headers: &mut HeaderMap, hygiene: Hygiene) -> Result<Cleaned, HeaderError> {
    let websocket = asks_for_websocket(method, headers);
    if headers.contains_key(CONNECTION) {
        for name in connection_names(headers)? {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
    headers.remove(UPGRADE);
    keep_only_trailers(headers);
    join_cookies(headers);
    keep_one_length(headers);
    let spoofed = |name: &str| !hygiene.peer_is_trusted && only_we_set(name);
    let unwanted: Vec<HeaderName> = headers
        .keys()
        .filter(|name| {
            spoofed(name.as_str()) || hygiene.underscores != Underscores::Allow && name.as_str().contains('_')
        })
        .cloned()
        .collect();
    for name in unwanted {
        if hygiene.underscores == Underscores::Reject && name.as_str().contains('_') {
            return Err(HeaderError::Underscore(name.to_string()));
        }
        headers.remove(name);
    }
    // Whoever the peer is: the certificate of this connection is told by us alone.
    headers.remove(X_FORWARDED_CLIENT_CERT);
    Ok(Cleaned { websocket })
}

/// Removes what an upstream says to us alone. `Connection` naming odd headers is no danger here: they are dropped.
pub fn clean_response(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    headers.remove(CONNECTION);
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
    headers.remove(UPGRADE);
}

/// Whether only the gateway may set a header (name in lower case).
pub fn only_we_set(name: &str) -> bool {
    name == "forwarded"
        || name.strip_prefix("x-").is_some_and(|rest| {
            rest == "real-ip"
                || ["forwarded-", "client-cert", "ssl-", "envoy-", "tidegate-"]
                    .iter()
                    .any(|prefix| rest.starts_with(prefix))
        })
}

/// Whether a client's request id is kept: `[A-Za-z0-9._-]{1,64}`.
pub fn is_request_id(value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    (1..=64).contains(&bytes.len())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

fn connection_names(headers: &HeaderMap) -> Result<Vec<HeaderName>, HeaderError> {
    let mut names = Vec::new();
    for value in headers.get_all(CONNECTION) {
        for name in value.to_str().map_err(|_| HeaderError::NotText)?.split(',') {
            let name = name.trim().to_ascii_lowercase();
            if matches!(name.as_str(), "host" | "content-length" | "authorization" | "cookie")
                || name.starts_with("x-forwarded-")
            {
                return Err(HeaderError::ConnectionNames(name));
            }
            // `close` and `keep-alive` are options that happen to look like names; what is no name cannot be a header.
            if let Ok(name) = HeaderName::from_bytes(name.as_bytes())
                && name != TE
            {
                names.push(name);
            }
        }
    }
    Ok(names)
}

fn keep_only_trailers(headers: &mut HeaderMap) {
    let wants_trailers = headers
        .get_all(TE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|coding| coding.trim().eq_ignore_ascii_case("trailers"));
    headers.remove(TE);
    if wants_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// HTTP/2 clients send cookies in crumbs; to an HTTP/1.1 upstream they are one line (RFC 9113 §8.2.3), because many
/// servers read the first line only.
fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(COOKIE).iter();
    let (Some(first), Some(second)) = (crumbs.next(), crumbs.next()) else { return };
    let mut joined = first.as_bytes().to_vec();
    for crumb in std::iter::once(second).chain(crumbs) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(crumb.as_bytes());
    }
    // Parts that could stand in a header line can stand there together.
    if let Ok(value) = HeaderValue::from_bytes(&joined) {
        headers.insert(COOKIE, value);
    }
}

/// HTTP/2 may repeat an equal length, and HTTP/1.1 must not (SPEC 30 §6.5). Different ones never get here.
fn keep_one_length(headers: &mut HeaderMap) {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    if let (Some(first), Some(_)) = (lengths.next(), lengths.next()) {
        let first = first.clone();
        headers.insert(CONTENT_LENGTH, first);
    }
}

fn asks_for_websocket(method: &Method, headers: &HeaderMap) -> bool {
    let lists = |name: HeaderName, wanted: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|item| item.trim().eq_ignore_ascii_case(wanted))
    };
    method == Method::GET
        && headers.contains_key(http::header::SEC_WEBSOCKET_KEY)
        && lists(UPGRADE, "websocket")
        && lists(CONNECTION, "upgrade")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn kept(lines: &[(&str, &str)], hygiene: Hygiene) -> Vec<String> {
        let mut headers = map(lines);
        clean_request(&Method::GET, &mut headers, hygiene).unwrap();
        let mut names: Vec<String> = headers.keys().map(ToString::to_string).collect();
        names.sort();
        names
    }

    #[test]
    fn what_is_between_neighbours_is_removed() {
        let lines = [
            ("connection", "close, X-Secret"),
            ("x-secret", "1"),
            ("keep-alive", "1"),
            ("proxy-connection", "1"),
            ("proxy-authorization", "1"),
            ("proxy-authenticate", "1"),
            ("te", "gzip"),
            ("trailer", "x"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("accept", "*/*"),
        ];
        assert_eq!(kept(&lines, Hygiene::default()), ["accept"]);
        assert_eq!(kept(&[("te", "gzip, Trailers"), ("connection", "te")], Hygiene::default()), ["te"]);
    }

    #[test]
    fn forwarding_headers_of_strangers_are_removed() {
        let lines = [
            ("x-forwarded-for", "1"),
            ("x-forwarded-client-cert", "1"),
            ("forwarded", "1"),
            ("x-real-ip", "1"),
            ("x-client-cert-dn", "1"),
            ("x-ssl-cert", "1"),
            ("x-envoy-original-path", "1"),
            ("x-tidegate-user", "1"),
            ("x-realm", "kept"),
            ("x-user_id", "1"),
        ];
        assert_eq!(kept(&lines, Hygiene::default()), ["x-realm"]);
        let trusted = Hygiene { peer_is_trusted: true, underscores: Underscores::Allow };
        assert_eq!(kept(&lines, trusted).len(), lines.len() - 1);
        assert!(!kept(&lines, trusted).contains(&"x-forwarded-client-cert".to_owned()));
    }

    #[test]
    fn connection_must_not_name_what_decisions_depend_on() {
        for name in ["Host", "content-length", "Authorization", "cookie", "X-Forwarded-For"] {
            let mut headers = map(&[("connection", &format!("close, {name}"))]);
            let error = clean_request(&Method::GET, &mut headers, Hygiene::default()).unwrap_err();
            assert_eq!(error, HeaderError::ConnectionNames(name.to_ascii_lowercase()));
        }
        let mut headers = map(&[("a_b", "1")]);
        let refusing = Hygiene { underscores: Underscores::Reject, ..Hygiene::default() };
        assert!(clean_request(&Method::GET, &mut headers, refusing).is_err());
    }

    #[test]
    fn a_websocket_handshake_is_recognized() {
        let lines = [("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket"), ("sec-websocket-key", "x")];
        let check = |method: Method, lines: &[(&str, &str)]| {
            clean_request(&method, &mut map(lines), Hygiene::default()).unwrap().websocket
        };
        assert!(check(Method::GET, &lines));
        assert!(!check(Method::POST, &lines));
        assert!(!check(Method::GET, &lines[..2]));
        assert!(!check(Method::GET, &lines[1..]));
    }

    #[test]
    fn answers_lose_hop_by_hop_headers() {
        let mut headers =
            map(&[("connection", "x-internal"), ("x-internal", "1"), ("keep-alive", "1"), ("server", "s")]);
        clean_response(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["server"]);
    }

    #[test]
    fn request_ids_are_short_and_harmless() {
        assert!(is_request_id(&HeaderValue::from_static("a.B_9-")));
        assert!(!is_request_id(&HeaderValue::from_static("")));
        assert!(!is_request_id(&HeaderValue::from_static("a b")));
        assert!(!is_request_id(&HeaderValue::from_str(&"a".repeat(65)).unwrap()));
    }
}
