//! Sockets: accepting, the protocol of a connection, its limits and its end. SPEC 30 §6.1, §6.5, §6.11

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tidegate_pki::ClientIdentity;
use tidegate_policy::Scheme;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use crate::Shared;
use crate::connection::Connection;
use crate::framing::io::{Protocol, StrictIo, Timeouts};
use crate::metrics::ConnectionLabels;
use crate::pool::Spawner;
use crate::request::serve;
use crate::tls::{TlsFacts, forwarded_certificate};

/// How long an idle connection has to end in good order. An HTTP/2 client that never acknowledges would keep its place
/// for ever.
const FAREWELL: Duration = Duration::from_secs(10);

/// A connection on which no byte moves although a request is in progress: a client that does not read its answer.
/// SPEC 30 §6.8
const STALLED: Duration = Duration::from_mins(5);

/// A TLS handshake takes at most this long.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// A failed accept (out of file descriptors, usually) is repeated after this time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// HTTP/2 limits of SPEC 30 §6.5.
const MAX_STREAMS: u32 = 256;
const MAX_PENDING_RESETS: usize = 20;

/// Opens a listener. Errors: the address cannot be listened on.
pub(crate) async fn bind(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Accepts until shutdown. Connections are tasks of their own, which end by themselves after shutdown.
pub(crate) async fn accept(shared: Arc<Shared>, listener: TcpListener, own: SocketAddr, scheme: Scheme) {
    let shutdown = shared.tasks.shutdown().clone();
    loop {
        // Waiting for a free place here leaves clients in the kernel's queue instead of refusing them.
        let place = tokio::select! {
            place = Arc::clone(&shared.places).acquire_owned() => place,
            () = shutdown.cancelled() => return,
        };
        let Ok(place) = place else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => return,
        };
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Small answers must not wait for more bytes. A socket that refuses the option works all the same.
        let _ = socket.set_nodelay(true);
        let connection = Arc::clone(&shared);
        drop(shared.tasks.spawn("connection", async move {
            let _place = place;
            match scheme {
                Scheme::Http => plain(connection, socket, peer, own.port()).await,
                Scheme::Https => encrypted(connection, socket, peer, own.port()).await,
            }
        }));
    }
}

async fn plain(shared: Arc<Shared>, socket: TcpStream, peer: SocketAddr, own_port: u16) {
    let mut io = StrictIo::new(socket, Timeouts::default());
    let shutdown = shared.tasks.shutdown().clone();
    let protocol = tokio::select! {
        protocol = tokio::time::timeout(shared.options.keep_alive_idle, io.sniff()) => protocol,
        () = shutdown.cancelled() => return,
    };
    // A connection that says nothing, or breaks before it says something, has nobody to be told.
    let Ok(Ok(protocol)) = protocol else { return };
    run(shared, io, protocol, Scheme::Http, peer, own_port, None).await;
}

async fn encrypted(shared: Arc<Shared>, socket: TcpStream, peer: SocketAddr, own_port: u16) {
    let handshake = tokio::time::timeout(HANDSHAKE, handshake(&shared, socket)).await;
    let Ok(Some((stream, facts))) = handshake else { return };
    let protocol = match stream.get_ref().1.alpn_protocol() {
        Some(b"h2") => Protocol::Http2,
        _ => Protocol::Http1,
    };
    let mut io = StrictIo::new(stream, Timeouts::default());
    if protocol == Protocol::Http2 {
        io.pass_through();
    }
    run(shared, io, protocol, Scheme::Https, peer, own_port, Some(facts)).await;
}

async fn handshake(shared: &Shared, socket: TcpStream) -> Option<(TlsStream<TcpStream>, TlsFacts)> {
    let acceptor = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), socket);
    let start = acceptor.await.ok()?;
    let sni = start.client_hello().server_name().map(str::to_ascii_lowercase);
    let (config, demand) = shared.tls.config(sni.as_deref())?;
    // A client that does not like our certificate, or shows none where one is demanded, is told by an alert.
    let stream = start.into_stream(config).await.ok()?;
    let session = stream.get_ref().1;
    let client_certificate = session
        .peer_certificates()
        .and_then(|chain| ClientIdentity::from_der(chain).ok())
        .and_then(|identity| forwarded_certificate(&identity));
    let version = match session.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "TLSv1.3",
    };
    Some((stream, TlsFacts { version, sni, demand, client_certificate }))
}

/// Serves a connection to its end.
async fn run<T>(
    shared: Arc<Shared>,
    io: StrictIo<T>,
    protocol: Protocol,
    scheme: Scheme,
    peer: SocketAddr,
    own_port: u16,
    tls: Option<TlsFacts>,
) where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let wire = (protocol == Protocol::Http1).then(|| io.wire());
    let moved = io.moved();
    let labels = ConnectionLabels {
        listener: if scheme == Scheme::Https { "https" } else { "http" },
        protocol: if wire.is_some() { "http1" } else { "http2" },
    };
    let gauge = shared.metrics.connections.get_or_create_owned(&labels);
    gauge.inc();
    let spawner = Spawner(shared.tasks.clone());
    let connection = Arc::new(Connection::new(shared, scheme, peer, own_port, tls, wire));
    let own = Arc::clone(&connection);
    let service = service_fn(move |request| serve(Arc::clone(&own), request));
    match protocol {
        Protocol::Http1 => {
            let server = http1::Builder::new()
                .auto_date_header(true)
                .serve_connection(TokioIo::new(io), service)
                .with_upgrades();
            drive(&connection, &moved, server, http1::UpgradeableConnection::graceful_shutdown).await;
        }
        Protocol::Http2 => {
            let server = http2::Builder::new(spawner)
                .timer(TokioTimer::new())
                .auto_date_header(true)
                .max_concurrent_streams(MAX_STREAMS)
                .max_header_list_size(64 * 1024)
                .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
                .serve_connection(TokioIo::new(io), service);
            drive(&connection, &moved, server, http2::Connection::graceful_shutdown).await;
        }
    }
    gauge.dec();
}

/// What may end a connection from outside.
enum Signal {
    Shutdown,
    IdleCheck,
    /// It was asked to end because it was idle, and had time to do so.
    IdleCut,
}

/// Polls a connection until it ends; asks it to end on shutdown, when it is idle for too long, or when its client
/// resets streams too often.
///
/// The signals stand in a [`FuturesUnordered`], which polls them only when they were woken: a request wakes this task
/// several times and must not pay for them each time.
async fn drive<S>(connection: &Connection, moved: &AtomicU64, server: S, end: impl Fn(std::pin::Pin<&mut S>))
where
    S: Future,
{
    let mut server = pin!(server);
    let shutdown = connection.shared.tasks.shutdown().clone();
    let mut signals = FuturesUnordered::new();
    let later = |after: Duration, signal: Signal| -> futures::future::BoxFuture<'static, Signal> {
        Box::pin(async move {
            tokio::time::sleep(after).await;
            signal
        })
    };
    let limit = connection.shared.options.keep_alive_idle.as_secs().max(1);
    signals.push(later(Duration::from_secs(limit), Signal::IdleCheck));
    signals.push(Box::pin(async move {
        shutdown.cancelled().await;
        Signal::Shutdown
    }));
    let mut still = (moved.load(Ordering::Relaxed), connection.shared.clock.unix_seconds());
    std::future::poll_fn(|cx| {
        loop {
            if server.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            if connection.resets_too_often() {
                end(server.as_mut());
                // What is in progress on it is not worth waiting for.
                return Poll::Ready(());
            }
            match signals.poll_next_unpin(cx) {
                Poll::Ready(Some(Signal::Shutdown)) => end(server.as_mut()),
                Poll::Ready(Some(signal)) => {
                    let idle = u64::try_from(connection.idle_seconds()).unwrap_or_default();
                    let now = connection.shared.clock.unix_seconds();
                    let seen = moved.load(Ordering::Relaxed);
                    if seen != still.0 || idle > 0 {
                        still = (seen, now);
                    } else if now - still.1 >= STALLED.as_secs().cast_signed() {
                        return Poll::Ready(());
                    }
                    match signal {
                        _ if idle < limit => {
                            signals.push(later(Duration::from_secs(limit - idle), Signal::IdleCheck));
                        }
                        Signal::IdleCut => return Poll::Ready(()),
                        Signal::IdleCheck | Signal::Shutdown => {
                            end(server.as_mut());
                            signals.push(later(FAREWELL, Signal::IdleCut));
                        }
                    }
                }
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await;
}

impl Shared {
    /// Port of the TLS listener as clients see it; 443 when there is none.
    pub(crate) fn https_port(&self) -> u16 {
        match self.https_port.load(Ordering::Relaxed) {
            0 => 443,
            port => port,
        }
    }
}
