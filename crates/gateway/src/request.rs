//! One request through the edge, in the order of SPEC 30 §6.1:
//! parse, host, TLS/host agreement, path, header hygiene, route, CORS preflight, authentication, decision,
//! mutation, upstream, answer. A step that fails answers, and nothing later runs.
//!
//! Absences: nothing here awaits a database or the Kubernetes API, a refused request never opens an upstream
//! connection, and what a stranger is told never says more than the documented text.

use std::convert::Infallible;
use std::sync::Arc;

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, ORIGIN, UPGRADE};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use tidegate_policy::cors::preflight_origin;
use tidegate_policy::headers::{Hygiene, X_REQUEST_ID, clean_request, is_request_id};
use tidegate_policy::{
    CorsPolicy, Decision, Denied, Host, NormalizedPath, Reason, RequestFacts, Route, Scheme, Selected,
};

use crate::answer::Answer;
use crate::auth::{AuthFailure, Challenge, VerifiedToken, extract};
use crate::body::ResponseBody;
use crate::connection::Connection;
use crate::exchange::{Auth, Exchange};
use crate::forward::{Outgoing, forward};
use crate::handle::Handle;
use crate::head;
use crate::metrics::RejectLabels;
use crate::websocket;

/// Header lines of an HTTP/2 request; HTTP/1 is counted by the scanner.
const MAX_HEADERS: usize = crate::framing::MAX_HEADER_LINES;

/// A request that may pass, and what its route wants with it.
pub(crate) struct Admitted {
    pub(crate) route: Arc<Route<Handle>>,
    pub(crate) target: PathAndQuery,
    /// `Host` towards the upstream: the client's.
    pub(crate) host_header: HeaderValue,
    /// The host in its comparable form.
    pub(crate) forwarded_host: HeaderValue,
    pub(crate) is_websocket: bool,
    pub(crate) token: Option<Arc<VerifiedToken>>,
}

/// What the steps before the upstream came to.
enum Admission {
    Forward(Admitted),
    /// Answered here with 200, before authentication. SPEC 30 §6.6
    Preflight(Arc<CorsPolicy>),
}

/// Serves one request of a connection. A panic is an answer 500 and does not end the connection.
pub(crate) async fn serve(
    connection: Arc<Connection>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    let number = connection.next_number();
    let request_id = request_id(&connection, request.headers());
    // The scanner waits for the outcome of every request that asked for an upgrade.
    let wire = connection.wire.as_ref().filter(|_| request.headers().contains_key(UPGRADE)).map(Arc::clone);
    let shared = Arc::clone(&connection.shared);
    // Pinned here: handed on by value, some kilobytes would be copied for every request.
    let handling = std::pin::pin!(handle(connection, request, request_id.clone(), number));
    let response = match shared.tasks.catch("request", handling).await {
        Some(response) => response,
        None => Answer::internal(&request_id),
    };
    if let Some(wire) = wire {
        wire.decide_upgrade(number, response.status() == StatusCode::SWITCHING_PROTOCOLS);
    }
    Ok(response)
}

/// The client's id when it is harmless, else a new one. SPEC 30 §6.3
fn request_id(connection: &Connection, headers: &HeaderMap) -> HeaderValue {
    match headers.get(X_REQUEST_ID) {
        Some(id) if is_request_id(id) => id.clone(),
        _ => {
            let mut text = uuid::Uuid::encode_buffer();
            let id = connection.shared.ids.uuid_v4().hyphenated().encode_lower(&mut text);
            // A UUID has no character that a header value must not have.
            HeaderValue::from_str(id).unwrap_or(HeaderValue::from_static("unknown"))
        }
    }
}

async fn handle(
    connection: Arc<Connection>,
    request: Request<Incoming>,
    request_id: HeaderValue,
    number: u64,
) -> Response<ResponseBody> {
    let is_http1 = request.version() != Version::HTTP_2;
    let mut exchange = Box::new(Exchange::begin(Arc::clone(&connection), request_id));
    if let Some(violation) = connection.wire.as_ref().and_then(|wire| wire.refusal(number)) {
        connection.shared.metrics.rejects.get_or_create(&RejectLabels { reason: violation.reason() }).inc();
        exchange.note_refused();
        return Answer::violation(violation).render(exchange, false, is_http1);
    }
    let (mut parts, body) = request.into_parts();
    exchange.note_request(&parts);
    let is_grpc = is_grpc(&parts.headers);
    let origin = parts.headers.get(ORIGIN).cloned();
    let result = match admit(&connection, &mut exchange, &mut parts).await {
        Ok(Admission::Forward(admitted)) => {
            let outgoing = Outgoing { parts, body, origin: origin.as_ref() };
            forward(exchange, admitted, outgoing).await
        }
        Ok(Admission::Preflight(cors)) => return preflight(&cors, origin.as_ref(), exchange),
        Err(answer) => Err((exchange, answer)),
    };
    match result {
        Ok(response) => response,
        Err((exchange, answer)) => {
            let cors = exchange.route.as_ref().and_then(|route| route.model.cors.clone());
            if exchange.route.is_none()
                && let Some(reason) = answer.reason.filter(|_| answer.status != StatusCode::NOT_FOUND)
            {
                let labels = RejectLabels { reason: reason.as_str() };
                connection.shared.metrics.rejects.get_or_create(&labels).inc();
            }
            let mut response = answer.render(exchange, is_grpc, is_http1);
            // SPEC 30 §6.6: browsers must be able to read refusals, too.
            if let Some(cors) = cors {
                cors.mark_answer(origin.as_ref(), response.headers_mut());
            }
            response
        }
    }
}

/// gRPC, but not gRPC-Web, which is plain HTTP. SPEC 30 §6.9
fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| {
        value.as_bytes().strip_prefix(b"application/grpc").is_some_and(|rest| matches!(rest, [] | [b'+' | b';', ..]))
    })
}

fn preflight(cors: &CorsPolicy, origin: Option<&HeaderValue>, exchange: Box<Exchange>) -> Response<ResponseBody> {
    let mut response = Answer::preflight().render(exchange, false, true);
    if let Some(origin) = origin {
        cors.answer_preflight(origin, response.headers_mut());
    }
    response
}

/// Every step before the upstream.
async fn admit(connection: &Connection, exchange: &mut Exchange, parts: &mut Parts) -> Result<Admission, Answer> {
    let shared = &connection.shared;
    if parts.headers.len() > MAX_HEADERS {
        return Err(Answer::too_many_headers());
    }
    let named = head::authority(parts)?;
    let host = named.host()?;
    exchange.note_target(host.as_str(), parts.uri.path(), parts.uri.query());
    // SPEC 30 §6.2, §6.5: no rule of an Api lists them.
    if matches!(parts.method, Method::CONNECT | Method::TRACE) {
        return Err(Answer::method_not_allowed());
    }
    check_tls(connection, &host)?;
    let target = parts.uri.path_and_query().cloned();
    let path = head::path(&parts.method, target.as_ref())?;
    let query = target.as_ref().and_then(PathAndQuery::query);
    exchange.note_target(host.as_str(), path.as_str(), query);
    let hygiene = Hygiene { peer_is_trusted: connection.is_peer_trusted, underscores: shared.options.underscores };
    let cleaned = clean_request(&parts.method, &mut parts.headers, hygiene)
        .map_err(|_| Answer::bad_request(Reason::HeaderMalformed, "connection or header names are not acceptable"))?;
    let is_websocket = cleaned.websocket && connection.wire.is_some();

    let facts = RequestFacts { scheme: connection.scheme, host: &host, method: &parts.method, path: &path };
    let selected = match shared.table.select(&facts) {
        Ok(selected) => selected,
        Err(problem) if problem.status() == StatusCode::NOT_FOUND => return Err(Answer::not_found(problem.reason())),
        Err(problem) => {
            let text = "the path means different things encoded and decoded";
            return Err(Answer::bad_request(problem.reason(), text));
        }
    };
    exchange.route = Some(Arc::clone(&selected.route));
    if let Some(location) = redirect(connection, &host, &path, query) {
        let is_safe = matches!(parts.method, Method::GET | Method::HEAD);
        let status = if is_safe { StatusCode::MOVED_PERMANENTLY } else { StatusCode::PERMANENT_REDIRECT };
        return Err(Answer::redirect(status, location));
    }
    if let Some(cors) = &selected.route.model.cors
        && preflight_origin(&parts.method, &parts.headers).is_some()
    {
        return Ok(Admission::Preflight(Arc::clone(cors)));
    }

    let token = authenticate(connection, exchange, &selected, parts, query, is_websocket).await.map_err(|failure| {
        exchange.is_allowed = Some(false);
        let denied = failure.denied;
        if denied.status == StatusCode::BAD_REQUEST {
            return Answer::bad_request(denied.reason, denied.body);
        }
        let challenge =
            failure.www_authenticate(connection.scheme.as_str(), named.as_str().unwrap_or_default(), path.as_str());
        Answer::denied(denied.status, denied.reason, denied.body, challenge)
    })?;
    exchange.is_allowed = Some(true);
    check_body_length(&parts.headers, shared.options.max_request_body)?;

    let strip = selected.route.model.token.strip || shared.options.strip_token_query;
    let query = query.map(|query| if strip { without_token(query) } else { query.into() });
    let target = head::upstream_target(target.as_ref(), &path, query.as_deref())?;
    let host_header = named.to_header().ok_or_else(|| Answer::bad_request(Reason::HostMalformed, "bad host"))?;
    let forwarded_host = normalized_host(&host, &host_header);
    Ok(Admission::Forward(Admitted { route: selected.route, target, host_header, forwarded_host, is_websocket, token }))
}

/// The comparable form as a header value: shared with the client's when that has it already.
fn normalized_host(host: &Host<'_>, header: &HeaderValue) -> HeaderValue {
    if header.as_bytes() == host.as_str().as_bytes() {
        return header.clone();
    }
    // A host in its comparable form has no character that a header value must not have.
    HeaderValue::from_str(host.as_str()).unwrap_or_else(|_| header.clone())
}

/// SPEC 30 §6.2, last row: what was asked of the client at the handshake is what its host wants. A host that lets
/// nobody in without a certificate is not served without TLS either.
fn check_tls(connection: &Connection, host: &Host<'_>) -> Result<(), Answer> {
    let wanted = connection.shared.tls.demand(host.as_str());
    let Some(tls) = &connection.tls else {
        let is_redirected = || connection.shared.tls.redirects_to_https(host.as_str());
        return if wanted.needs_certificate() && !is_redirected() { Err(Answer::misdirected()) } else { Ok(()) };
    };
    if wanted.is_unsupported() {
        return Err(Answer::not_found(Reason::RouteDisabled));
    }
    if wanted != tls.demand {
        return Err(Answer::misdirected());
    }
    Ok(())
}

/// Where a plain request is sent when its Gateway wants `https`. SPEC 30 §6.10
fn redirect(
    connection: &Connection,
    host: &Host<'_>,
    path: &NormalizedPath<'_>,
    query: Option<&str>,
) -> Option<HeaderValue> {
    if connection.scheme != Scheme::Http || !connection.shared.tls.redirects_to_https(host.as_str()) {
        return None;
    }
    let mut location = format!("https://{}", host.as_str());
    match connection.shared.https_port() {
        443 => {}
        port => {
            location.push(':');
            location.push_str(&port.to_string());
        }
    }
    location.push_str(path.as_str());
    if let Some(query) = query {
        location.push('?');
        location.push_str(query);
    }
    HeaderValue::try_from(location).ok()
}

/// The token that lets the request pass; `None` where no rule applies.
async fn authenticate(
    connection: &Connection,
    exchange: &mut Exchange,
    selected: &Selected<Handle>,
    parts: &Parts,
    query: Option<&str>,
    is_websocket: bool,
) -> Result<Option<Arc<VerifiedToken>>, AuthFailure> {
    let token = if selected.rules.is_empty() {
        None
    } else {
        exchange.auth = Auth::Jwt;
        let authenticator = &connection.shared.authenticator;
        let guard = &selected.route.handle.guard;
        let subprotocol = if is_websocket { websocket::bearer(&parts.headers) } else { None };
        match subprotocol {
            None => authenticator.verify(guard, selected.rules, &parts.headers, query).await?,
            Some(token) => {
                let verified = authenticator.verify_token(guard, selected.rules, token).await?;
                // SPEC 30 §5.1: every token that is found must be valid.
                let has_another = extract::bearer(&parts.headers)?.is_some()
                    || query.is_some_and(|query| extract::query_tokens(query).next().is_some());
                if has_another {
                    authenticator.verify(guard, selected.rules, &parts.headers, query).await?;
                }
                Some(verified)
            }
        }
    };
    exchange.subject = token.as_ref().and_then(|token| token.verified().subject.clone());
    match selected.decide(token.as_ref().map(|token| token.verified())) {
        Decision::Allow(_) => Ok(token),
        Decision::Deny(denied) => Err(AuthFailure { denied, challenge: challenge_of(&denied) }),
    }
}

fn challenge_of(denied: &Denied) -> Challenge {
    match (denied.status, denied.reason) {
        (StatusCode::UNAUTHORIZED, Reason::TokenMissing) => Challenge::Realm,
        (StatusCode::UNAUTHORIZED, _) => Challenge::InvalidToken,
        (StatusCode::FORBIDDEN, _) => Challenge::InsufficientScope,
        _ => Challenge::None,
    }
}

fn check_body_length(headers: &HeaderMap, limit: Option<u64>) -> Result<(), Answer> {
    let Some(limit) = limit else { return Ok(()) };
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > limit) { Err(Answer::too_large()) } else { Ok(()) }
}

/// A query without its `access_token`s.
fn without_token(query: &str) -> std::borrow::Cow<'_, str> {
    if extract::query_tokens(query).next().is_none() {
        return query.into();
    }
    let is_token = |pair: &&str| pair.split_once('=').is_some_and(|(name, _)| extract::is_token_parameter(name));
    query.split('&').filter(|pair| !is_token(pair)).collect::<Vec<_>>().join("&").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_grpc_itself_is_grpc() {
        let check = |value: &'static str, expected: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(value));
            assert_eq!(is_grpc(&headers), expected, "{value}");
        };
        check("application/grpc", true);
        check("application/grpc+proto", true);
        check("application/grpc;charset=utf-8", true);
        check("application/grpc-web", false);
        check("application/json", false);
    }

    #[test]
    fn tokens_are_taken_out_of_a_query() {
        assert_eq!(without_token("a=b"), "a=b");
        assert_eq!(without_token("a=b&access_token=x&c"), "a=b&c");
        assert_eq!(without_token("access_token=x"), "");
        assert_eq!(without_token("a&access%5ftoken=x&b"), "a&b");
    }
}
