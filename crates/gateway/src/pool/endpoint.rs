//! One endpoint of an upstream: its idle connections, how to open another one, and whether it is worth trying.

use std::cell::Cell;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicUsize, Ordering};

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use tidegate_runtime::{AddressPolicy, AddressRefusal, Clock, Column, Random, ResolveError, Tasks};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::io::{Received, UpstreamIo};
use super::{PoolLimits, PoolMetrics, tls};
use crate::body::RequestBody;

/// What an endpoint speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WireProtocol {
    /// HTTP/1.1, one request at a time.
    Http1,
    /// HTTP/2: with prior knowledge, or by ALPN over TLS.
    Http2,
}

/// Whom to expect behind TLS.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TlsIdentity {
    /// Name for SNI and for the certificate check; an IP address is checked as such and sends no SNI.
    pub server_name: String,
    /// Whether the certificate is verified at all.
    pub is_verified: bool,
}

/// Where an endpoint is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// A fixed address.
    Address(SocketAddr),
    /// A name (or an address in its usual spelling) that the system's resolver looks up.
    Name {
        /// Host name.
        host: String,
        /// Port.
        port: u16,
    },
}

impl std::fmt::Display for Target {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(address) => write!(formatter, "{address}"),
            Self::Name { host, port } => write!(formatter, "{host}:{port}"),
        }
    }
}

/// What makes connections interchangeable: a pooled one belongs to exactly one of these.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointKey {
    /// Where.
    pub target: Target,
    /// What is spoken there.
    pub protocol: WireProtocol,
    /// `None`: cleartext.
    pub tls: Option<TlsIdentity>,
}

/// What all endpoints share.
pub(super) struct Network {
    pub(super) clock: Clock,
    pub(super) random: Random,
    pub(super) tasks: Tasks,
    pub(super) addresses: AddressPolicy,
    pub(super) limits: PoolLimits,
    pub(super) metrics: PoolMetrics,
}

/// Why no connection could be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// The address policy refuses it.
    #[error(transparent)]
    Refused(#[from] AddressRefusal),
    /// The name has no address.
    #[error("the upstream's name cannot be resolved")]
    Resolve(#[source] ResolveError),
    /// Nobody answers there.
    #[error("the upstream cannot be connected to")]
    Connect(#[source] std::io::Error),
    /// TLS failed.
    #[error("the TLS handshake with the upstream failed")]
    Tls(#[source] std::io::Error),
    /// It took longer than the limit.
    #[error("connecting to the upstream took too long")]
    Timeout,
    /// HTTP could not be started.
    #[error("the upstream connection cannot speak HTTP")]
    Http(#[source] hyper::Error),
}

/// One endpoint. Shared by all routes that lead to it.
pub(crate) struct Endpoint {
    key: EndpointKey,
    network: Arc<Network>,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    /// One list per worker (R12): own list first, another one only when it is not being used.
    idle: Box<[Mutex<Vec<Idle>>]>,
    multiplexed: Mutex<Vec<Multiplexed>>,
    consecutive_errors: AtomicU32,
    /// Unix seconds until which it is skipped.
    skipped_until: AtomicI64,
    resolved: tokio::sync::Mutex<Option<Resolved>>,
}

struct Resolved {
    addresses: Vec<SocketAddr>,
    at: i64,
}

struct Idle {
    connection: Single,
    since: i64,
}

/// A connection for one request at a time.
pub(super) struct Single {
    pub(super) sender: http1::SendRequest<RequestBody>,
    pub(super) received: Received,
    expires: i64,
}

/// A connection for many requests at a time.
#[derive(Clone)]
pub(super) struct Multiplexed {
    pub(super) sender: http2::SendRequest<RequestBody>,
    pub(super) received: Received,
    pub(super) streams: Arc<AtomicUsize>,
    /// How many streams the peer allows at once, as its settings said last.
    limit: Arc<AtomicUsize>,
    expires: i64,
}

pub(super) enum Connection {
    Single(Single),
    Multiplexed(Multiplexed),
}

impl Endpoint {
    pub(super) fn new(key: EndpointKey, network: Arc<Network>) -> Result<Self, rustls::Error> {
        let tls = key.tls.as_ref().map(|identity| {
            let config = tls::client_config(identity.is_verified, key.protocol == WireProtocol::Http2)?;
            let name = ServerName::try_from(identity.server_name.clone())
                .map_err(|_| rustls::Error::General(format!("`{}` is no server name", identity.server_name)))?;
            Ok::<_, rustls::Error>((TlsConnector::from(Arc::new(config)), name))
        });
        Ok(Self {
            tls: tls.transpose()?,
            idle: (0..network.limits.shards.max(1)).map(|_| Mutex::default()).collect(),
            key,
            network,
            multiplexed: Mutex::default(),
            consecutive_errors: AtomicU32::new(0),
            skipped_until: AtomicI64::new(i64::MIN),
            resolved: tokio::sync::Mutex::new(None),
        })
    }

    pub(crate) fn key(&self) -> &EndpointKey {
        &self.key
    }

    /// False while it is skipped after repeated connect errors. SPEC 30 §6.8
    pub(super) fn is_worth_trying(&self) -> bool {
        self.skipped_until.load(Ordering::Relaxed) <= self.network.clock.unix_seconds()
    }

    /// A pooled connection that looks alive, newest first.
    pub(super) async fn take_pooled(&self) -> Option<Connection> {
        match self.key.protocol {
            WireProtocol::Http1 => {
                while let Some(mut idle) = self.pop_idle() {
                    if idle.connection.sender.is_ready() {
                        return Some(Connection::Single(idle.connection));
                    }
                    // Its task may still be finishing the last response; it is ready in an instant or dead.
                    let ready = tokio::time::timeout(self.network.limits.connect, idle.connection.sender.ready());
                    if matches!(ready.await, Ok(Ok(()))) {
                        return Some(Connection::Single(idle.connection));
                    }
                }
                None
            }
            WireProtocol::Http2 => self.shared_connection().map(Connection::Multiplexed),
        }
    }

    fn pop_idle(&self) -> Option<Idle> {
        let now = self.network.clock.unix_seconds();
        let own = own_shard() % self.idle.len();
        let usable = |list: &mut Vec<Idle>| {
            while let Some(idle) = list.pop() {
                if idle.is_fresh(now, &self.network.limits) && !idle.connection.sender.is_closed() {
                    return Some(idle);
                }
            }
            None
        };
        if let Some(idle) = self.idle.get(own).and_then(|list| usable(&mut list.lock())) {
            return Some(idle);
        }
        // A connection of another worker is still cheaper than a new one.
        let others = self.idle.iter().enumerate().filter(|(index, _)| *index != own);
        others.filter_map(|(_, list)| list.try_lock()).find_map(|mut list| usable(&mut list))
    }

    /// Puts a connection back whose response was read to its end.
    pub(super) fn put_back(&self, connection: Single) {
        if connection.sender.is_closed() {
            return;
        }
        let now = self.network.clock.unix_seconds();
        let idle = Idle { connection, since: now };
        if !idle.is_fresh(now, &self.network.limits) {
            return;
        }
        if let Some(list) = self.idle.get(own_shard() % self.idle.len()) {
            let mut list = list.lock();
            if list.len() < self.network.limits.max_idle {
                list.push(idle);
            }
        }
    }

    /// An HTTP/2 connection with room for another stream (R14).
    fn shared_connection(&self) -> Option<Multiplexed> {
        let now = self.network.clock.unix_seconds();
        let mut connections = self.multiplexed.lock();
        connections.retain(|connection| !connection.sender.is_closed() && connection.expires > now);
        connections
            .iter()
            .find(|connection| {
                let limit = connection.limit.load(Ordering::Relaxed);
                connection.sender.is_ready() && connection.streams.load(Ordering::Relaxed) < (limit - limit / 5).max(1)
            })
            .cloned()
    }

    /// Opens a new connection and keeps book about success.
    pub(super) async fn connect(&self) -> Result<Connection, ConnectError> {
        let connected = match tokio::time::timeout(self.network.limits.connect, self.open()).await {
            Ok(result) => result,
            Err(_) => Err(ConnectError::Timeout),
        };
        self.network.metrics.connects(connected.is_ok());
        if connected.is_ok() {
            self.consecutive_errors.store(0, Ordering::Relaxed);
        } else {
            let errors = self.consecutive_errors.fetch_add(1, Ordering::Relaxed) + 1;
            if errors >= self.network.limits.errors_before_skip {
                let until = self.network.clock.unix_seconds() + self.network.limits.skip_seconds;
                self.skipped_until.store(until, Ordering::Relaxed);
                self.consecutive_errors.store(0, Ordering::Relaxed);
            }
        }
        connected
    }

    async fn open(&self) -> Result<Connection, ConnectError> {
        let stream = self.open_socket().await?;
        // Small answers must not wait for more bytes. A socket that refuses the option works all the same.
        let _ = stream.set_nodelay(true);
        let io = match &self.tls {
            None => UpstreamIo::plain(stream),
            Some((connector, name)) => {
                UpstreamIo::tls(connector.connect(name.clone(), stream).await.map_err(ConnectError::Tls)?)
            }
        };
        let received = io.received();
        let limits = &self.network.limits;
        // The age is capped with jitter, so that connections opened together do not end together.
        let jitter =
            i64::try_from(self.network.random.u64() % 1024).unwrap_or_default() * limits.max_age_seconds / 5 / 1024;
        let expires = self.network.clock.unix_seconds() + limits.max_age_seconds - jitter;
        let is_h2 = match self.tls {
            None => self.key.protocol == WireProtocol::Http2,
            Some(_) => io.has_negotiated_h2(),
        };
        if is_h2 != (self.key.protocol == WireProtocol::Http2) {
            let text = "the upstream does not offer the protocol of its Service port";
            return Err(ConnectError::Tls(std::io::Error::other(text)));
        }
        if is_h2 {
            let (sender, mut driver) = http2::Builder::new(Spawner(self.network.tasks.clone()))
                .timer(TokioTimer::new())
                .adaptive_window(true)
                .max_header_list_size(64 * 1024)
                .handshake(TokioIo::new(io))
                .await
                .map_err(ConnectError::Http)?;
            let limit = Arc::new(AtomicUsize::new(driver.current_max_send_streams()));
            let known_limit = Arc::clone(&limit);
            drop(self.network.tasks.spawn(
                "upstream-http2",
                std::future::poll_fn(move |cx| {
                    // How a connection ended is told to the requests on it.
                    let end = Pin::new(&mut driver).poll(cx).map(drop);
                    known_limit.store(driver.current_max_send_streams(), Ordering::Relaxed);
                    end
                }),
            ));
            let connection = Multiplexed { sender, received, streams: Arc::default(), limit, expires };
            self.multiplexed.lock().push(connection.clone());
            return Ok(Connection::Multiplexed(connection));
        }
        let (sender, driver) = http1::Builder::new()
            .max_headers(100)
            .max_header_size(64 * 1024)
            .handshake(TokioIo::new(io))
            .await
            .map_err(ConnectError::Http)?;
        drop(self.network.tasks.spawn("upstream-http1", async move {
            let _ = driver.with_upgrades().await;
        }));
        Ok(Connection::Single(Single { sender, received, expires }))
    }

    async fn open_socket(&self) -> Result<TcpStream, ConnectError> {
        match &self.key.target {
            Target::Address(address) => {
                self.network.addresses.check(Column::Upstream, *address)?;
                TcpStream::connect(address).await.map_err(ConnectError::Connect)
            }
            Target::Name { host, port } => {
                let addresses = self.resolve(host, *port).await?;
                TcpStream::connect(&*addresses).await.map_err(ConnectError::Connect)
            }
        }
    }

    /// The addresses of a name, from memory while they are fresh; old ones serve while the resolver fails.
    /// The system's resolver tells no TTL, so one in the middle of the range of SPEC 30 §7 is used.
    async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, ConnectError> {
        const FRESH_SECONDS: i64 = 30;
        const STALE_SECONDS: i64 = 300;
        let now = self.network.clock.unix_seconds();
        // Held over the look-up on purpose: one at a time per name, everybody shares its result.
        let mut resolved = self.resolved.lock().await;
        if let Some(known) = resolved.as_ref().filter(|known| now - known.at < FRESH_SECONDS) {
            return Ok(known.addresses.clone());
        }
        match self.network.addresses.resolve(Column::Upstream, host, port).await {
            Ok(addresses) => {
                *resolved = Some(Resolved { addresses: addresses.clone(), at: now });
                Ok(addresses)
            }
            Err(ResolveError::Refused(refusal)) => Err(refusal.into()),
            Err(error) => match resolved.as_ref().filter(|known| now - known.at < STALE_SECONDS) {
                Some(known) => Ok(known.addresses.clone()),
                None => Err(ConnectError::Resolve(error)),
            },
        }
    }

    /// Closes what was idle for too long; how many connections remain.
    pub(super) fn sweep(&self) -> usize {
        let now = self.network.clock.unix_seconds();
        let mut left = 0;
        for list in &self.idle {
            let mut list = list.lock();
            list.retain(|idle| idle.is_fresh(now, &self.network.limits) && !idle.connection.sender.is_closed());
            left += list.len();
        }
        let mut shared = self.multiplexed.lock();
        shared.retain(|connection| !connection.sender.is_closed() && connection.expires > now);
        left + shared.len()
    }
}

impl Idle {
    fn is_fresh(&self, now: i64, limits: &PoolLimits) -> bool {
        now - self.since < limits.idle_seconds && now < self.connection.expires
    }
}

/// Runs the streams of HTTP/2 connections as named tasks.
#[derive(Clone)]
pub(crate) struct Spawner(pub(crate) Tasks);

impl<F> hyper::rt::Executor<F> for Spawner
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        drop(self.0.spawn("http2-stream", future));
    }
}

/// The list of this worker thread: threads are numbered as they come.
fn own_shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static OWN: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    OWN.with(|own| {
        if own.get() == usize::MAX {
            own.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        own.get()
    })
}
