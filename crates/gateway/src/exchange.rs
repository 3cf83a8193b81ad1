//! What is remembered of one request until it is over: then one record feeds metric and access log.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderValue, Method, StatusCode, Version};
use serde::Serialize;
use tidegate_policy::{Reason, Route};

use crate::body::RequestBody;
use crate::connection::Connection;
use crate::handle::Handle;
use crate::pool::Endpoint;

/// `flags` of the access log. SPEC 30 §6.12
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flag {
    NoRoute,
    NoEndpoint,
    ConnectFailure,
    Timeout,
    Reset,
    ClientGone,
    BadRequest,
}

impl Flag {
    fn as_str(self) -> &'static str {
        match self {
            Self::NoRoute => "NR",
            Self::NoEndpoint => "UH",
            Self::ConnectFailure => "UF",
            Self::Timeout => "UT",
            Self::Reset => "UC",
            Self::ClientGone => "DC",
            Self::BadRequest => "BR",
        }
    }
}

/// How the request was authenticated, and with what result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Auth {
    /// Not asked: refused before, or the route is open there.
    None,
    /// By JWT.
    Jwt,
}

/// One request. Dropping it is its end, however it came.
pub(crate) struct Exchange {
    pub(crate) connection: Arc<Connection>,
    started: Instant,
    pub(crate) request_id: HeaderValue,
    pub(crate) route: Option<Arc<Route<Handle>>>,
    pub(crate) auth: Auth,
    pub(crate) subject: Option<Arc<str>>,
    /// `None`: not decided.
    pub(crate) is_allowed: Option<bool>,
    pub(crate) reason: Option<Reason>,
    pub(crate) flag: Option<Flag>,
    /// Set when the answer's head is made.
    status: Option<StatusCode>,
    /// The answer's body was handed over completely.
    pub(crate) is_complete: bool,
    pub(crate) bytes_out: u64,
    pub(crate) request_body: Option<RequestBody>,
    pub(crate) upstream: Option<Arc<Endpoint>>,
    pub(crate) upstream_started: Option<Instant>,
    pub(crate) upstream_time: Option<Duration>,
    pub(crate) tries: u32,
    log: Option<Box<LogFields>>,
}

/// What only the access log wants to know; not gathered when it is off.
#[derive(Default)]
struct LogFields {
    method: Option<Method>,
    version: Version,
    host: String,
    path: String,
    forwarded_for: Option<HeaderValue>,
}

impl Exchange {
    pub(crate) fn begin(connection: Arc<Connection>, request_id: HeaderValue) -> Self {
        connection.begin();
        Self {
            started: connection.shared.clock.instant(),
            connection,
            request_id,
            route: None,
            auth: Auth::None,
            subject: None,
            is_allowed: None,
            reason: None,
            flag: None,
            status: None,
            is_complete: false,
            bytes_out: 0,
            request_body: None,
            upstream: None,
            upstream_started: None,
            upstream_time: None,
            tries: 0,
            log: None,
        }
    }

    /// Keeps what the access log shows of the request line.
    pub(crate) fn note_request(&mut self, request: &http::request::Parts) {
        if !self.connection.shared.access_log.is_on() {
            return;
        }
        self.log = Some(Box::new(LogFields {
            method: Some(request.method.clone()),
            version: request.version,
            host: String::new(),
            path: masked(request.uri.path(), request.uri.query()),
            forwarded_for: request.headers.get("x-forwarded-for").cloned(),
        }));
    }

    /// Keeps a line for a request of which nothing is known: it was refused before it was parsed.
    pub(crate) fn note_refused(&mut self) {
        if self.connection.shared.access_log.is_on() {
            self.log = Some(Box::default());
        }
    }

    /// Keeps host and path in their normalized form, once they are known.
    pub(crate) fn note_target(&mut self, host: &str, path: &str, query: Option<&str>) {
        if let Some(log) = &mut self.log {
            host.clone_into(&mut log.host);
            log.path = masked(path, query);
        }
    }

    /// The upstream's response headers are there, or it is known that none will come.
    pub(crate) fn note_upstream_answer(&mut self) {
        if self.upstream_time.is_none() {
            self.upstream_time = self.upstream_started.map(|started| self.since(started));
        }
    }

    pub(crate) fn set_status(&mut self, status: StatusCode) {
        self.status = Some(status);
    }

    fn auth_word(&self) -> &'static str {
        match self.auth {
            Auth::None => "none",
            Auth::Jwt => "jwt",
        }
    }

    fn since(&self, then: Instant) -> Duration {
        self.connection.shared.clock.instant().saturating_duration_since(then)
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let shared = Arc::clone(&self.connection.shared);
        let duration = self.since(self.started);
        if !self.is_complete && self.flag.is_none() {
            self.flag = Some(Flag::ClientGone);
        }
        if self.status.is_none() && self.connection.wire.is_none() {
            self.connection.note_reset();
        }
        let code = self.status.map_or(0, |status| status.as_u16());
        let reason = self.reason.map_or("", Reason::as_str);
        let metrics = self.route.as_ref().map_or(&shared.unrouted, |route| &route.handle.metrics);
        metrics.record(code, reason, duration, self.upstream_time);
        if let Some(log) = &self.log {
            shared.access_log.record(&self.record(log, code, reason, duration));
        }
        self.connection.end();
    }
}

/// A line of the access log. SPEC 30 §6.12
#[derive(Serialize)]
struct Record<'a> {
    ts: jiff::Timestamp,
    request_id: Cow<'a, str>,
    peer: std::net::SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    xff: Option<Cow<'a, str>>,
    proto: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_version: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sni: Option<&'a str>,
    method: &'a str,
    host: &'a str,
    path: &'a str,
    route: &'a str,
    auth: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<&'a str>,
    decision: &'static str,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<String>,
    tries: u32,
    status: u16,
    flags: &'static str,
    bytes_in: u64,
    bytes_out: u64,
    ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_ms: Option<f64>,
}

impl Exchange {
    fn record<'a>(&'a self, log: &'a LogFields, status: u16, reason: &'static str, duration: Duration) -> Record<'a> {
        let tls = self.connection.tls.as_ref();
        Record {
            ts: self.connection.shared.clock.now(),
            request_id: String::from_utf8_lossy(self.request_id.as_bytes()),
            peer: self.connection.peer,
            xff: log.forwarded_for.as_ref().map(|value| String::from_utf8_lossy(value.as_bytes())),
            proto: match log.version {
                Version::HTTP_10 => "HTTP/1.0",
                Version::HTTP_2 => "HTTP/2",
                _ => "HTTP/1.1",
            },
            tls_version: tls.map(|tls| tls.version),
            sni: tls.and_then(|tls| tls.sni.as_deref()),
            method: log.method.as_ref().map_or("", Method::as_str),
            host: &log.host,
            path: &log.path,
            route: self.route.as_ref().map_or("", |route| &route.handle.name),
            auth: self.auth_word(),
            sub: self.subject.as_deref(),
            decision: match self.is_allowed {
                Some(true) => "allow",
                Some(false) => "deny",
                None => "n/a",
            },
            reason,
            upstream: self.upstream.as_ref().map(|endpoint| endpoint.key().target.to_string()),
            tries: self.tries,
            status,
            flags: self.flag.map_or("", Flag::as_str),
            bytes_in: self.request_body.as_ref().map_or(0, |body| body.progress().bytes),
            bytes_out: self.bytes_out,
            ms: milliseconds(duration),
            upstream_ms: self.upstream_time.map(milliseconds),
        }
    }
}

/// With three decimals: microseconds.
#[expect(clippy::cast_precision_loss, reason = "durations of requests are far below 2^53 microseconds")]
fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}

/// Query parameters whose values no log shows.
const SECRET_PARAMETERS: [&str; 4] = ["access_token", "token", "code", "client_secret"];

/// Path and query with secrets masked.
fn masked(path: &str, query: Option<&str>) -> String {
    let mut text = path.to_owned();
    let Some(query) = query else { return text };
    for (index, pair) in query.split('&').enumerate() {
        text.push(if index == 0 { '?' } else { '&' });
        match pair.split_once('=') {
            Some((name, _)) if is_secret(name) => {
                text.push_str(name);
                text.push_str("=***");
            }
            _ => text.push_str(pair),
        }
    }
    text
}

fn is_secret(name: &str) -> bool {
    let decoded = percent_encoding::percent_decode_str(name).decode_utf8_lossy();
    SECRET_PARAMETERS.iter().any(|secret| decoded.eq_ignore_ascii_case(secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_a_query_are_masked() {
        assert_eq!(masked("/a", None), "/a");
        assert_eq!(masked("/a", Some("b=c&access_token=eyJ&d")), "/a?b=c&access_token=***&d");
        assert_eq!(masked("/", Some("token=1&code=2&client_secret=3")), "/?token=***&code=***&client_secret=***");
        assert_eq!(masked("/", Some("access%5Ftoken=eyJ")), "/?access%5Ftoken=***");
        assert_eq!(masked("/", Some("xtoken=1")), "/?xtoken=1");
    }
}
