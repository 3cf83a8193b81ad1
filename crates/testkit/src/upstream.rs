//! A sample upstream that shows what reached it, and misbehaves on request.
//!
//! | path | answer |
//! |---|---|
//! | `/status/{code}` | that status, body `status {code}` |
//! | `/slow/{milliseconds}` | the echo, later |
//! | `/bytes/{count}` | that many bytes `x`, with `Content-Length` |
//! | `/chunks/{count}` | that many chunks, without a length |
//! | `/events` | three server-sent events |
//! | `/trailers` | a body and the trailer `x-checksum: abc` (seen over HTTP/2) |
//! | `/reset` | the connection is closed without an answer |
//! | `/reset-once/{key}` | as `/reset` for the first request with that key, then the echo |
//! | `/truncate` | `Content-Length: 100`, 10 bytes, then the connection is closed |
//! | `/cut` | a chunk, then the connection is closed without the last one |
//! | `/ws` | WebSocket echo (text and binary frames) |
//! | anything else | the echo: JSON of [`Seen`] |

use std::collections::HashSet;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tidegate_runtime::Tasks;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// How an [`Upstream`] is started.
#[derive(Clone, Default)]
pub struct UpstreamOptions {
    /// Word in every answer (`name` of [`Seen`]), to tell several upstreams apart.
    pub name: String,
    /// Speak HTTP/2 with prior knowledge instead of HTTP/1.1.
    pub http2: bool,
    /// Speak TLS with this configuration.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Listen here instead of on a free port of 127.0.0.1.
    pub address: Option<SocketAddr>,
}

/// One request as it arrived; also the body of the echo.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Name of the upstream.
    pub name: String,
    /// Method as received.
    pub method: String,
    /// Path and query as received.
    pub path: String,
    /// Header lines in order; names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, invalid UTF-8 replaced; not kept when longer than 64 KiB.
    pub body: String,
    /// Length of the body in bytes.
    pub body_bytes: usize,
    /// Number of the connection, from 1.
    pub connection: usize,
}

impl Seen {
    /// The first value of a header, by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// All values of a header, by its lower-case name.
    pub fn headers(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(own, _)| own == name).map(|(_, value)| value.as_str()).collect()
    }
}

#[derive(Default)]
struct State {
    connections: AtomicUsize,
    open: AtomicUsize,
    requests: AtomicUsize,
    last: Mutex<Option<Seen>>,
    once: Mutex<HashSet<String>>,
}

/// A running sample upstream; it ends when dropped.
pub struct Upstream {
    address: SocketAddr,
    state: Arc<State>,
    stop: CancellationToken,
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Upstream {
    /// Starts an HTTP/1.1 upstream on a free port of 127.0.0.1.
    pub async fn start() -> io::Result<Self> {
        Self::start_with(UpstreamOptions::default()).await
    }

    /// Starts an upstream.
    pub async fn start_with(options: UpstreamOptions) -> io::Result<Self> {
        let address = options.address.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)));
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let state = Arc::<State>::default();
        let tasks = Tasks::new();
        let stop = tasks.shutdown().clone();
        let accept = accept(listener, options, Arc::clone(&state), tasks.clone());
        drop(tasks.spawn("sample-upstream", accept));
        Ok(Self { address, state, stop })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// Connections open now.
    pub fn open_connections(&self) -> usize {
        self.state.open.load(Ordering::SeqCst)
    }

    /// Requests of which the head arrived so far.
    pub fn requests(&self) -> usize {
        self.state.requests.load(Ordering::SeqCst)
    }

    /// The last request that arrived completely.
    pub fn last(&self) -> Option<Seen> {
        self.state.last.lock().clone()
    }

    /// Stops listening and cuts all connections.
    pub fn stop(&self) {
        self.stop.cancel();
    }
}

async fn accept(listener: TcpListener, options: UpstreamOptions, state: Arc<State>, tasks: Tasks) {
    let stop = tasks.shutdown().clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        let Ok((socket, _)) = accepted else { continue };
        // A sample upstream works without it, only slower.
        let _ = socket.set_nodelay(true);
        let (options, state, stop) = (options.clone(), Arc::clone(&state), stop.clone());
        let upgrades = tasks.clone();
        drop(tasks.spawn("sample-upstream-connection", async move {
            let number = state.connections.fetch_add(1, Ordering::SeqCst) + 1;
            state.open.fetch_add(1, Ordering::SeqCst);
            let serve = async {
                if let Some(tls) = &options.tls {
                    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::clone(tls));
                    if let Ok(stream) = acceptor.accept(socket).await {
                        serve(stream, number, &options, &state, &upgrades).await;
                    }
                } else {
                    serve(socket, number, &options, &state, &upgrades).await;
                }
            };
            tokio::select! {
                () = serve => {}
                () = stop.cancelled() => {}
            }
            state.open.fetch_sub(1, Ordering::SeqCst);
        }));
    }
}

async fn serve<T>(io: T, number: usize, options: &UpstreamOptions, state: &Arc<State>, tasks: &Tasks)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request| {
        let (name, state, tasks) = (options.name.clone(), Arc::clone(state), tasks.clone());
        async move { answer(request, name, number, &state, &tasks).await }
    });
    // How a connection ends is up to the test.
    let _ = if options.http2 {
        hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(io), service).await
    } else {
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(io), service).with_upgrades().await
    };
}

async fn answer(
    request: Request<Incoming>,
    name: String,
    connection: usize,
    state: &State,
    tasks: &Tasks,
) -> io::Result<Response<Body>> {
    state.requests.fetch_add(1, Ordering::SeqCst);
    let path = request.uri().path().to_owned();
    let mut segments = path.split('/').skip(1);
    let action = segments.next().unwrap_or_default();
    let argument = segments.next().unwrap_or_default();
    match action {
        "ws" => return Ok(web_socket(request, tasks)),
        "reset" => return Err(io::Error::other("reset on request")),
        "reset-once" if state.once.lock().insert(argument.to_owned()) => {
            return Err(io::Error::other("reset on request"));
        }
        _ => {}
    }
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let seen = Seen {
        name,
        method: parts.method.to_string(),
        path: parts.uri.path_and_query().map_or_else(|| parts.uri.to_string(), ToString::to_string),
        headers: parts
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect(),
        body: if body.len() > 64 * 1024 { String::new() } else { String::from_utf8_lossy(&body).into_owned() },
        body_bytes: body.len(),
        connection,
    };
    let echo = serde_json::to_vec(&seen).unwrap_or_default();
    *state.last.lock() = Some(seen);
    let number = argument.parse::<u64>().unwrap_or_default();
    Ok(match action {
        "status" => {
            let status = argument.parse().unwrap_or(StatusCode::IM_A_TEAPOT);
            let has_body = status != StatusCode::NO_CONTENT && status != StatusCode::NOT_MODIFIED;
            let text = if has_body { format!("status {argument}") } else { String::new() };
            let mut response = Response::new(full(text));
            *response.status_mut() = status;
            response
        }
        "slow" => {
            tokio::time::sleep(Duration::from_millis(number)).await;
            json(echo)
        }
        "bytes" => {
            let size = 16 * 1024;
            let parts = (0..number.div_ceil(size)).map(move |part| size.min(number - part * size));
            let data = stream::iter(parts.map(|count| {
                let count = usize::try_from(count).unwrap_or_default();
                Ok(Bytes::from(vec![b'x'; count]))
            }));
            with_length(number, streamed(data))
        }
        "chunks" => {
            Response::new(streamed(stream::iter((0..number).map(|index| Ok(format!("chunk {index}\n").into())))))
        }
        "events" => {
            let events = stream::iter(1..=3).map(|index| Ok(format!("data: {index}\n\n").into()));
            let mut response = Response::new(streamed(events));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
            response
        }
        "trailers" => {
            let trailers =
                HeaderMap::from_iter([(HeaderName::from_static("x-checksum"), HeaderValue::from_static("abc"))]);
            let frames = [Frame::data(Bytes::from_static(b"body")), Frame::trailers(trailers)];
            Response::new(StreamBody::new(stream::iter(frames.map(Ok))).boxed_unsync())
        }
        "truncate" => with_length(100, cut_after("0123456789")),
        "cut" => Response::new(cut_after("first chunk")),
        _ => json(echo),
    })
}

fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

fn json(body: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(full(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn with_length(length: u64, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    response
}

fn streamed(data: impl futures::Stream<Item = io::Result<Bytes>> + Send + 'static) -> Body {
    StreamBody::new(data.map(|part| part.map(Frame::data))).boxed_unsync()
}

/// A body that fails behind its first part, a moment later so that the part is on its way.
fn cut_after(text: &'static str) -> Body {
    let end = stream::once(async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        Err(io::Error::other("cut on request"))
    });
    streamed(stream::iter([Ok(Bytes::from_static(text.as_bytes()))]).chain(end))
}

/// `Sec-WebSocket-Accept` for a key (RFC 6455 4.2.2).
fn accept_key(key: &[u8]) -> String {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(key);
    context.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    base64::engine::general_purpose::STANDARD.encode(context.finish())
}

fn web_socket(mut request: Request<Incoming>, tasks: &Tasks) -> Response<Body> {
    let Some(key) = request.headers().get(SEC_WEBSOCKET_KEY).cloned() else {
        let mut response = Response::new(full("not a web socket request"));
        *response.status_mut() = StatusCode::BAD_REQUEST;
        return response;
    };
    let upgrade = hyper::upgrade::on(&mut request);
    drop(tasks.spawn("sample-upstream-web-socket", async move {
        if let Ok(upgraded) = upgrade.await {
            // The end of the connection is the end of the echo.
            let _ = echo_frames(TokioIo::new(upgraded)).await;
        }
    }));
    let mut response = Response::new(full(Bytes::new()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(http::header::CONNECTION, HeaderValue::from_static("upgrade"));
    if let Ok(accept) = HeaderValue::from_str(&accept_key(key.as_bytes())) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    if let Some(protocol) = request.headers().get(http::header::SEC_WEBSOCKET_PROTOCOL) {
        headers.insert(http::header::SEC_WEBSOCKET_PROTOCOL, protocol.clone());
    }
    response
}

/// Sends every frame back, unmasked; ends after a close frame. Frames above 64 KiB end the connection.
async fn echo_frames<T: AsyncRead + AsyncWrite + Unpin>(mut io: T) -> io::Result<()> {
    loop {
        let mut head = [0; 2];
        io.read_exact(&mut head).await?;
        let [first, second] = head;
        let length = match second & 0x7f {
            126 => usize::from(io.read_u16().await?),
            127 => return Err(io::Error::other("frame too long")),
            length => usize::from(length),
        };
        let mut mask = [0; 4];
        if second & 0x80 != 0 {
            io.read_exact(&mut mask).await?;
        }
        let mut payload = vec![0; length];
        io.read_exact(&mut payload).await?;
        for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
            *byte ^= mask;
        }
        io.write_u8(first).await?;
        match u8::try_from(length) {
            Ok(short) if short < 126 => io.write_u8(short).await?,
            _ => {
                io.write_u8(126).await?;
                io.write_u16(u16::try_from(length).unwrap_or(u16::MAX)).await?;
            }
        }
        io.write_all(&payload).await?;
        io.flush().await?;
        if first & 0x0f == 8 {
            return io.shutdown().await;
        }
    }
}

/// Answers every request with the same bytes, whatever they are, and closes the connection.
pub struct RawUpstream {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    stop: CancellationToken,
}

impl Drop for RawUpstream {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl RawUpstream {
    /// Starts it on a free port of 127.0.0.1.
    pub async fn start(answer: impl Into<Bytes>) -> io::Result<Self> {
        let answer = answer.into();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let connections = Arc::<AtomicUsize>::default();
        let tasks = Tasks::new();
        let stop = tasks.shutdown().clone();
        let counter = Arc::clone(&connections);
        let stopped = stop.clone();
        drop(tasks.clone().spawn("raw-upstream", async move {
            loop {
                let mut socket = tokio::select! {
                    Ok((socket, _)) = listener.accept() => socket,
                    () = stopped.cancelled() => return,
                };
                counter.fetch_add(1, Ordering::SeqCst);
                let answer = answer.clone();
                drop(tasks.spawn("raw-upstream-connection", async move {
                    let mut head = Vec::new();
                    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
                        if !matches!(socket.read_buf(&mut head).await, Ok(1..)) {
                            return;
                        }
                    }
                    // The peer may be gone; that is up to the test.
                    let _ = socket.write_all(&answer).await;
                    let _ = socket.shutdown().await;
                    // Closing with unread bytes would reset the connection, and the answer with it.
                    let _ = tokio::io::copy(&mut socket, &mut tokio::io::sink()).await;
                }));
            }
        }));
        Ok(Self { address, connections, stop })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}
