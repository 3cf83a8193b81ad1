//! Answers that the gateway makes itself: refusals and failures. The one place that chooses their form.
//!
//! Bodies that clients of the originals match on are theirs, byte by byte; anything else is small JSON with
//! `error`, `status` and `requestId` (SPEC 90 §5).

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, LOCATION, SERVER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use tidegate_policy::Reason;
use tidegate_policy::headers::X_REQUEST_ID;

use crate::body::ResponseBody;
use crate::exchange::{Exchange, Flag};
use crate::framing::Violation;

/// A locally made answer before it is rendered.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) reason: Option<Reason>,
    flag: Option<Flag>,
    body: AnswerBody,
    closes: bool,
    /// `WWW-Authenticate` or `Location`.
    header: Option<(HeaderName, HeaderValue)>,
}

#[derive(Debug, Clone)]
enum AnswerBody {
    Empty,
    /// `text/plain`, verbatim.
    Text(&'static str),
    /// The `error` of the JSON form.
    Json(&'static str),
}

impl Answer {
    fn new(status: StatusCode, reason: Reason, body: AnswerBody) -> Self {
        Self { status, reason: Some(reason), flag: None, body, closes: false, header: None }
    }

    /// 404 without a body: nobody exposes the host, or nothing there matches.
    pub(crate) fn not_found(reason: Reason) -> Self {
        Self { flag: Some(Flag::NoRoute), ..Self::new(StatusCode::NOT_FOUND, reason, AnswerBody::Empty) }
    }

    /// 400 with what to change.
    pub(crate) fn bad_request(reason: Reason, error: &'static str) -> Self {
        Self { flag: Some(Flag::BadRequest), ..Self::new(StatusCode::BAD_REQUEST, reason, AnswerBody::Json(error)) }
    }

    /// The answer to a message that is not well framed; the connection ends with it. SPEC 30 §6.5
    pub(crate) fn violation(violation: Violation) -> Self {
        let reason = match violation.status() {
            StatusCode::REQUEST_TIMEOUT | StatusCode::URI_TOO_LONG | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
                Reason::LimitExceeded
            }
            _ => Reason::FramingMalformed,
        };
        Self {
            flag: Some(Flag::BadRequest),
            closes: true,
            ..Self::new(violation.status(), reason, AnswerBody::Json(violation.text()))
        }
    }

    /// 405 for methods that no rule lists.
    pub(crate) fn method_not_allowed() -> Self {
        let text = "TRACE and CONNECT are not served here";
        let answer = Self::new(StatusCode::METHOD_NOT_ALLOWED, Reason::NoRoute, AnswerBody::Json(text));
        Self { flag: Some(Flag::NoRoute), ..answer }
    }

    /// 413: the body is longer than `exposure.maxRequestBody`.
    pub(crate) fn too_large() -> Self {
        let text = "the request body is longer than allowed";
        Self { closes: true, ..Self::new(StatusCode::PAYLOAD_TOO_LARGE, Reason::LimitExceeded, AnswerBody::Json(text)) }
    }

    /// 431 on HTTP/2, where no scanner counts header lines.
    pub(crate) fn too_many_headers() -> Self {
        Self { closes: false, ..Self::violation(Violation::TooManyHeaders) }
    }

    /// 414 on HTTP/2, where no scanner measures the target.
    pub(crate) fn target_too_long() -> Self {
        Self { closes: false, ..Self::violation(Violation::TargetTooLong) }
    }

    /// 421: the connection was made for another host's TLS settings.
    pub(crate) fn misdirected() -> Self {
        let text = "this host has other TLS settings than the connection";
        Self::new(StatusCode::MISDIRECTED_REQUEST, Reason::TlsMismatch, AnswerBody::Json(text))
    }

    /// 200 of a CORS preflight; the policy adds its headers. It is no refusal, so it has no reason.
    pub(crate) fn preflight() -> Self {
        Self { reason: None, ..Self::new(StatusCode::OK, Reason::NoRoute, AnswerBody::Empty) }
    }

    /// 301 or 308 to the TLS listener. It is no refusal, so it has no reason.
    pub(crate) fn redirect(status: StatusCode, location: HeaderValue) -> Self {
        Self {
            header: Some((LOCATION, location)),
            reason: None,
            ..Self::new(status, Reason::NoRoute, AnswerBody::Empty)
        }
    }

    /// 401 or 403 of authentication, with the challenge of SPEC 30 §5.2.
    pub(crate) fn denied(
        status: StatusCode,
        reason: Reason,
        body: &'static str,
        challenge: Option<HeaderValue>,
    ) -> Self {
        let header = challenge.map(|challenge| (WWW_AUTHENTICATE, challenge));
        Self { header, ..Self::new(status, reason, AnswerBody::Text(body)) }
    }

    /// 503 without a try: there is nowhere to go.
    pub(crate) fn no_upstream() -> Self {
        let answer =
            Self::new(StatusCode::SERVICE_UNAVAILABLE, Reason::NoEndpoints, AnswerBody::Text("no healthy upstream"));
        Self { flag: Some(Flag::NoEndpoint), ..answer }
    }

    /// 503: no connection, or it ended before the response.
    pub(crate) fn upstream_reset(reason: Reason, is_connected: bool) -> Self {
        let text = "upstream connect error or disconnect/reset before headers";
        let flag = if is_connected { Flag::Reset } else { Flag::ConnectFailure };
        Self { flag: Some(flag), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, reason, AnswerBody::Text(text)) }
    }

    /// 502: what came back is no HTTP.
    pub(crate) fn upstream_protocol() -> Self {
        let answer =
            Self::new(StatusCode::BAD_GATEWAY, Reason::UpstreamProtocol, AnswerBody::Text("upstream protocol error"));
        Self { flag: Some(Flag::Reset), ..answer }
    }

    /// 504: no response headers in time.
    pub(crate) fn upstream_timeout() -> Self {
        let answer = Self::new(
            StatusCode::GATEWAY_TIMEOUT,
            Reason::UpstreamTimeout,
            AnswerBody::Text("upstream request timeout"),
        );
        Self { flag: Some(Flag::Timeout), ..answer }
    }

    /// The client stopped sending its body; it will hardly read this.
    pub(crate) fn client_gone() -> Self {
        let text = "the request body ended early";
        let answer = Self::new(StatusCode::BAD_REQUEST, Reason::FramingMalformed, AnswerBody::Json(text));
        Self { flag: Some(Flag::ClientGone), closes: true, ..answer }
    }

    /// 500: a bug; the log has the rest under the request id.
    pub(crate) fn internal(request_id: &HeaderValue) -> Response<ResponseBody> {
        let body = json("internal error", StatusCode::INTERNAL_SERVER_ERROR, request_id);
        let mut response = Response::new(ResponseBody::local(body, None));
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        let headers = response.headers_mut();
        headers.insert(SERVER, HeaderValue::from_static("tidegate"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(X_REQUEST_ID, request_id.clone());
        response
    }

    /// Makes the response and takes its outcome into the record. `is_grpc`: in the form of a gRPC status.
    pub(crate) fn render(self, mut exchange: Box<Exchange>, is_grpc: bool, is_http1: bool) -> Response<ResponseBody> {
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(SERVER, HeaderValue::from_static("tidegate"));
        headers.insert(X_REQUEST_ID, exchange.request_id.clone());
        if matches!(self.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
        }
        if let Some((name, value)) = self.header {
            headers.insert(name, value);
        }
        if self.closes && is_http1 {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let text = match &self.body {
            AnswerBody::Empty => "",
            AnswerBody::Text(text) | AnswerBody::Json(text) => text,
        };
        let (status, body) = if is_grpc {
            as_grpc(self.status, text, &mut headers);
            (StatusCode::OK, Bytes::new())
        } else {
            let body = match self.body {
                AnswerBody::Empty => Bytes::new(),
                AnswerBody::Text(text) => {
                    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
                    Bytes::from_static(text.as_bytes())
                }
                AnswerBody::Json(error) => {
                    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                    json(error, self.status, &exchange.request_id)
                }
            };
            (self.status, body)
        };
        exchange.reason = self.reason;
        exchange.flag = exchange.flag.or(self.flag);
        // The record shows what happened, also where gRPC's form says 200.
        exchange.set_status(self.status);
        let mut response = Response::new(ResponseBody::local(body, Some(exchange)));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }
}

fn json(error: &str, status: StatusCode, request_id: &HeaderValue) -> Bytes {
    let request_id = String::from_utf8_lossy(request_id.as_bytes());
    let body = serde_json::json!({ "error": error, "status": status.as_u16(), "requestId": request_id });
    Bytes::from(body.to_string())
}

/// A trailers-only response: the status of gRPC stands in the headers. SPEC 30 §6.9
fn as_grpc(status: StatusCode, text: &str, headers: &mut HeaderMap) {
    const MESSAGE: &AsciiSet = &CONTROLS.add(b'%');
    const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
    const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
    let code = match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        _ => 2,
    };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(GRPC_STATUS, HeaderValue::from(code));
    if let Ok(message) = HeaderValue::from_str(&utf8_percent_encode(text, MESSAGE).to_string())
        && !message.is_empty()
    {
        headers.insert(GRPC_MESSAGE, message);
    }
}
