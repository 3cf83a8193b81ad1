//! The way of an admitted request to its upstream and of the answer back. SPEC 30 §6.3, §6.8

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use http::header::{AUTHORIZATION, EXPECT, HOST};
use http::request::Parts;
use http::uri::{Authority, Scheme as UriScheme};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use tidegate_policy::Reason;
use tidegate_policy::headers::{
    X_FORWARDED_CLIENT_CERT, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PORT, X_FORWARDED_PROTO, X_REQUEST_ID,
    clean_response,
};
use tidegate_runtime::{BoxBody, InProcessService, boxed};
use tower::ServiceExt as _;

use crate::answer::Answer;
use crate::body::{RequestBody, ResponseBody};
use crate::connection::Connection;
use crate::exchange::Exchange;
use crate::handle::Destination;
use crate::pool::{Answered, ConnectError, Failed, Pool, SendError, WireProtocol};
use crate::request::Admitted;
use crate::upgrade::tunnel;
use crate::websocket;

/// The client's side of a request that is passed on.
pub(crate) struct Outgoing<'o> {
    pub(crate) parts: Parts,
    pub(crate) body: Incoming,
    pub(crate) origin: Option<&'o HeaderValue>,
}

/// A refusal with the record that goes with it.
pub(crate) type Refused = (Box<Exchange>, Answer);

/// Sends the request on and makes the client's answer from the upstream's.
pub(crate) async fn forward(
    mut exchange: Box<Exchange>,
    admitted: Admitted,
    outgoing: Outgoing<'_>,
) -> Result<Response<ResponseBody>, Refused> {
    let Outgoing { mut parts, body, origin } = outgoing;
    let connection = Arc::clone(&exchange.connection);
    let body = RequestBody::new(body, connection.shared.options.max_request_body);
    exchange.request_body = Some(body.clone());
    set_headers(&connection, &exchange, &admitted, &mut parts.headers);
    let (pool, protocol, is_tls) = match &admitted.route.handle.upstream {
        Destination::Pool { pool, protocol, is_tls } => (pool, *protocol, *is_tls),
        Destination::InProcess { service, .. } => {
            let service = service.clone();
            return call(exchange, &admitted, service, parts, body, origin).await;
        }
        Destination::None(_) => return Err((exchange, Answer::no_upstream())),
    };
    // An HTTP/2 upstream cannot be asked for an HTTP/1.1 upgrade.
    let upgrade = match protocol {
        WireProtocol::Http1 if admitted.is_websocket => parts.extensions.remove::<OnUpgrade>(),
        _ => None,
    };
    if upgrade.is_some() {
        websocket::ask_again(&mut parts.headers);
    }
    let request = match upstream_request(&admitted, parts.method, parts.headers, body.clone(), protocol, is_tls) {
        Ok(request) => request,
        Err(answer) => return Err((exchange, answer)),
    };
    exchange.upstream_started = Some(connection.shared.clock.instant());
    let answered = match exchange_with(&mut exchange, pool, request, &admitted, &body).await {
        Ok(answered) => answered,
        Err(answer) => return Err((exchange, answer)),
    };
    let Answered { mut response, lease, .. } = answered;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let Some(client) = upgrade else { return Err((exchange, Answer::upstream_protocol())) };
        let upstream = hyper::upgrade::on(&mut response);
        return Ok(switch_protocols(exchange, &response, client, upstream));
    }
    let (mut head, incoming) = response.into_parts();
    mark(&mut head.headers, &exchange, &admitted, origin);
    head.version = Version::HTTP_11;
    exchange.set_status(head.status);
    Ok(Response::from_parts(head, ResponseBody::upstream(incoming, lease, body, exchange)))
}

/// Waits for the response headers, and says what their absence means.
async fn exchange_with(
    exchange: &mut Exchange,
    pool: &Pool,
    request: Request<RequestBody>,
    admitted: &Admitted,
    body: &RequestBody,
) -> Result<Answered, Answer> {
    let outcome = tokio::time::timeout(longest_wait(exchange, admitted), pool.send(request)).await;
    exchange.note_upstream_answer();
    let failed = match outcome {
        Ok(Ok(answered)) => {
            exchange.tries = answered.tries;
            exchange.upstream = Some(answered.lease.endpoint());
            return Ok(answered);
        }
        Ok(Err(failed)) => failed,
        Err(_) => {
            exchange.tries = exchange.tries.max(1);
            return Err(Answer::upstream_timeout());
        }
    };
    let Failed { error, tries, endpoint } = *failed;
    exchange.tries = tries;
    exchange.upstream = endpoint;
    // A request body that breaks off is the client's doing, whatever the upstream's connection says about it.
    let progress = body.progress();
    if progress.is_too_large {
        return Err(Answer::too_large());
    }
    if let Some(violation) = exchange.connection.wire.as_ref().and_then(|wire| wire.body_fault()) {
        return Err(Answer::violation(violation));
    }
    if progress.is_failed {
        return Err(Answer::client_gone());
    }
    tracing::debug!(%error, route = %admitted.route.handle.name, "no response from the upstream");
    Err(match error {
        SendError::NoEndpoint => Answer::no_upstream(),
        SendError::Connect(ConnectError::Tls(_)) => Answer::upstream_reset(Reason::UpstreamTls, false),
        SendError::Connect(_) => Answer::upstream_reset(Reason::UpstreamRefused, false),
        SendError::Reset(_) => Answer::upstream_reset(Reason::UpstreamRefused, true),
        SendError::Protocol(_) => Answer::upstream_protocol(),
        SendError::RequestBody(_) => Answer::client_gone(),
    })
}

/// Until the response headers.
fn longest_wait(exchange: &Exchange, admitted: &Admitted) -> Duration {
    admitted.route.model.timeout.min(exchange.connection.shared.options.longest_upstream_wait)
}

/// A service of this process instead of a socket. SPEC 80 §3.1
async fn call(
    mut exchange: Box<Exchange>,
    admitted: &Admitted,
    service: InProcessService,
    parts: Parts,
    body: RequestBody,
    origin: Option<&HeaderValue>,
) -> Result<Response<ResponseBody>, Refused> {
    let is_head = parts.method == Method::HEAD;
    let mut request = Request::new(boxed(body));
    *request.method_mut() = parts.method;
    *request.uri_mut() = Uri::from(admitted.target.clone());
    *request.headers_mut() = parts.headers;
    exchange.upstream_started = Some(exchange.connection.shared.clock.instant());
    let outcome = tokio::time::timeout(longest_wait(&exchange, admitted), ask(service, request)).await;
    exchange.note_upstream_answer();
    exchange.tries = 1;
    let response = match outcome {
        Ok(Ok(response)) => response,
        Ok(Err(never)) => match never {},
        Err(_) => return Err((exchange, Answer::upstream_timeout())),
    };
    let (mut head, body) = response.into_parts();
    mark(&mut head.headers, &exchange, admitted, origin);
    exchange.set_status(head.status);
    Ok(Response::from_parts(head, ResponseBody::in_process(body, exchange, is_head)))
}

/// Boxed: the compiler cannot see through the erased service that the future may change threads.
fn ask(
    service: InProcessService,
    request: Request<BoxBody>,
) -> BoxFuture<'static, Result<Response<BoxBody>, Infallible>> {
    Box::pin(service.oneshot(request))
}

/// What every answer of an upstream goes through. SPEC 30 §6.3
fn mark(headers: &mut HeaderMap, exchange: &Exchange, admitted: &Admitted, origin: Option<&HeaderValue>) {
    clean_response(headers);
    if !headers.contains_key(X_REQUEST_ID) {
        headers.insert(X_REQUEST_ID, exchange.request_id.clone());
    }
    if let Some(cors) = &admitted.route.model.cors {
        cors.mark_answer(origin, headers);
    }
}

/// Passes an answer 101 on and joins the two connections behind it.
fn switch_protocols(
    mut exchange: Box<Exchange>,
    response: &Response<Incoming>,
    client: OnUpgrade,
    upstream: OnUpgrade,
) -> Response<ResponseBody> {
    exchange.set_status(StatusCode::SWITCHING_PROTOCOLS);
    let mut answer = Response::new(ResponseBody::local(bytes::Bytes::new(), None));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *answer.headers_mut() = response.headers().clone();
    let headers = answer.headers_mut();
    clean_response(headers);
    websocket::set_upgrade(headers);
    headers.entry(X_REQUEST_ID).or_insert_with(|| exchange.request_id.clone());
    let shared = Arc::clone(&exchange.connection.shared);
    drop(shared.tasks.spawn("websocket", tunnel(client, upstream, exchange)));
    answer
}

/// What the upstream is told besides what the client said. SPEC 30 §5.5, §6.3
fn set_headers(connection: &Connection, exchange: &Exchange, admitted: &Admitted, headers: &mut HeaderMap) {
    let model = &admitted.route.model;
    headers.insert(HOST, admitted.host_header.clone());
    match headers.get(X_FORWARDED_FOR).filter(|_| connection.is_peer_trusted) {
        Some(_) => appended(headers, &connection.forwarded_for),
        None => drop(headers.insert(X_FORWARDED_FOR, connection.forwarded_for.clone())),
    }
    let proto = HeaderValue::from_static(connection.scheme.as_str());
    for (name, value) in [
        (X_FORWARDED_PROTO, proto),
        (X_FORWARDED_HOST, admitted.forwarded_host.clone()),
        (X_FORWARDED_PORT, connection.forwarded_port.clone()),
    ] {
        // A trusted proxy saw the client, we did not. What others sent is gone by now.
        headers.entry(name).or_insert(value);
    }
    headers.insert(X_REQUEST_ID, exchange.request_id.clone());
    if let Some(certificate) = connection.tls.as_ref().and_then(|tls| tls.client_certificate.as_ref()) {
        headers.insert(X_FORWARDED_CLIENT_CERT, certificate.clone());
    }
    // The 100 comes from us, once the body is wanted; the upstream gets head and body in one go.
    headers.remove(EXPECT);
    if model.token.strip {
        headers.remove(AUTHORIZATION);
    }
    for (name, _) in &model.token.claim_headers {
        headers.remove(name);
    }
    if let Some(token) = &admitted.token {
        for (name, value) in token.claim_headers() {
            headers.insert(name, value.clone());
        }
    }
}

/// Appends the peer to the received list, as one line.
fn appended(headers: &mut HeaderMap, peer: &HeaderValue) {
    let mut list = Vec::new();
    for value in headers.get_all(X_FORWARDED_FOR).iter().chain([peer]) {
        if !list.is_empty() {
            list.extend_from_slice(b", ");
        }
        list.extend_from_slice(value.as_bytes());
    }
    if let Ok(value) = HeaderValue::from_maybe_shared(bytes::Bytes::from(list)) {
        headers.insert(X_FORWARDED_FOR, value);
    }
}

fn upstream_request(
    admitted: &Admitted,
    method: Method,
    mut headers: HeaderMap,
    body: RequestBody,
    protocol: WireProtocol,
    is_tls: bool,
) -> Result<Request<RequestBody>, Answer> {
    let mut request = Request::new(body);
    *request.method_mut() = method;
    match protocol {
        WireProtocol::Http1 => *request.uri_mut() = Uri::from(admitted.target.clone()),
        WireProtocol::Http2 => {
            headers.remove(HOST);
            let mut uri = http::uri::Parts::default();
            uri.scheme = Some(if is_tls { UriScheme::HTTPS } else { UriScheme::HTTP });
            uri.authority = Authority::from_maybe_shared(admitted.host_header.clone()).ok();
            uri.path_and_query = Some(admitted.target.clone());
            *request.uri_mut() = Uri::from_parts(uri)
                .map_err(|_| Answer::bad_request(Reason::HostMalformed, "the host is not a host name"))?;
            *request.version_mut() = Version::HTTP_2;
        }
    }
    *request.headers_mut() = headers;
    Ok(request)
}
