//! The upstream side: endpoints, their pooled connections, and exactly the retries of SPEC 30 §6.8.
//!
//! [`Endpoints`] is the process-wide registry: routes that lead to the same endpoint share its connections, and
//! a route change keeps them. [`Pool`] is the upstream of one route: some endpoints in turn.
//!
//! Absences: no lock that another worker usually holds, no name looked up for a fixed address, no retry after a
//! byte of a response, on a status code or for another method.

pub(crate) mod endpoint;
mod io;
#[cfg(test)]
mod tests;
mod tls;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Method, Request, Response};
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use tidegate_runtime::{AddressPolicy, Clock, Random, Tasks};

pub(crate) use self::endpoint::{ConnectError, Endpoint, Spawner};
use self::endpoint::{Connection, Multiplexed, Network, Single};
pub use self::endpoint::{EndpointKey, Target, TlsIdentity, WireProtocol};
use crate::body::RequestBody;

/// Sizes and ages of upstream pools. SPEC 70 R12, 30 §6.8
#[derive(Debug, Clone)]
pub struct PoolLimits {
    /// Lists of idle connections per endpoint: one per worker.
    pub shards: usize,
    /// Idle connections per endpoint and worker.
    pub max_idle: usize,
    /// Longest idle time, in seconds.
    pub idle_seconds: i64,
    /// Age at which a connection is no longer reused, in seconds; up to a fifth less by chance.
    pub max_age_seconds: i64,
    /// Longest time to connect, TLS handshake included.
    pub connect: Duration,
    /// Consecutive connect errors after which an endpoint is skipped.
    pub errors_before_skip: u32,
    /// For how long it is skipped, in seconds.
    pub skip_seconds: i64,
}

impl Default for PoolLimits {
    fn default() -> Self {
        Self {
            shards: std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get),
            max_idle: 64,
            idle_seconds: 60,
            max_age_seconds: 600,
            connect: Duration::from_secs(2),
            errors_before_skip: 5,
            skip_seconds: 10,
        }
    }
}

/// Counters of all pools.
#[derive(Debug, Clone, Default)]
pub struct PoolMetrics {
    /// Connections opened.
    pub opened: Counter,
    /// Connections that could not be opened.
    pub failed: Counter,
}

impl PoolMetrics {
    fn connects(&self, is_success: bool) {
        if is_success {
            self.opened.inc();
        } else {
            self.failed.inc();
        }
    }
}

/// All endpoints in use. Cheap to clone.
#[derive(Clone)]
pub struct Endpoints {
    network: Arc<Network>,
    known: Arc<Mutex<HashMap<EndpointKey, Weak<Endpoint>>>>,
}

impl Endpoints {
    /// An empty registry.
    pub fn new(
        clock: Clock,
        random: Random,
        tasks: Tasks,
        addresses: AddressPolicy,
        limits: PoolLimits,
        metrics: PoolMetrics,
    ) -> Self {
        let network = Network { clock, random, tasks, addresses, limits, metrics };
        Self { network: Arc::new(network), known: Arc::default() }
    }

    /// A pool over `keys`; endpoints that are known already keep their connections.
    ///
    /// An endpoint that cannot exist (a server name that is none) is left out and logged.
    pub fn pool(&self, keys: impl IntoIterator<Item = EndpointKey>) -> Arc<Pool> {
        let endpoints = keys.into_iter().filter_map(|key| self.endpoint(key)).collect();
        Arc::new(Pool { endpoints, next: AtomicUsize::new(0) })
    }

    fn endpoint(&self, key: EndpointKey) -> Option<Arc<Endpoint>> {
        let mut known = self.known.lock();
        if let Some(endpoint) = known.get(&key).and_then(Weak::upgrade) {
            return Some(endpoint);
        }
        match Endpoint::new(key.clone(), Arc::clone(&self.network)) {
            Ok(endpoint) => {
                let endpoint = Arc::new(endpoint);
                known.insert(key, Arc::downgrade(&endpoint));
                Some(endpoint)
            }
            Err(error) => {
                tracing::warn!(endpoint = %key.target, %error, "upstream endpoint `{}` is not usable", key.target);
                None
            }
        }
    }

    /// Closes idle connections in the background until shutdown.
    pub fn spawn_sweeper(&self) {
        let endpoints = self.clone();
        drop(self.network.tasks.spawn("upstream-sweeper", async move {
            let shutdown = endpoints.network.tasks.shutdown().clone();
            let mut ticks = tokio::time::interval(SWEEP_EVERY);
            loop {
                tokio::select! {
                    _ = ticks.tick() => drop(endpoints.sweep()),
                    () = shutdown.cancelled() => return,
                }
            }
        }));
    }

    /// Closes what was idle for too long and forgets endpoints that no route leads to; pooled connections left.
    pub fn sweep(&self) -> usize {
        let mut alive = Vec::new();
        self.known.lock().retain(|_, endpoint| match endpoint.upgrade() {
            Some(endpoint) => {
                alive.push(endpoint);
                true
            }
            None => false,
        });
        alive.iter().map(|endpoint| endpoint.sweep()).sum()
    }
}

/// The endpoints of one upstream, in turn.
pub struct Pool {
    endpoints: Box<[Arc<Endpoint>]>,
    next: AtomicUsize,
}

/// A response and the connection it comes on.
pub(crate) struct Answered {
    pub(crate) response: Response<Incoming>,
    pub(crate) lease: Lease,
    pub(crate) tries: u32,
}

/// Keeps the connection of a response until its body has been read.
pub(crate) struct Lease {
    endpoint: Arc<Endpoint>,
    connection: Option<Single>,
    _stream: Option<StreamCount>,
}

/// Counts a stream of a multiplexed connection.
struct StreamCount(Arc<AtomicUsize>);

impl Drop for StreamCount {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Lease {
    /// Gives the connection back: the response was read to its end and the request was sent completely.
    pub(crate) fn give_back(mut self) {
        if let Some(connection) = self.connection.take() {
            self.endpoint.put_back(connection);
        }
    }

    pub(crate) fn endpoint(&self) -> Arc<Endpoint> {
        Arc::clone(&self.endpoint)
    }
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    /// The upstream has no endpoint, or the address policy refuses all of them.
    #[error("no endpoint")]
    NoEndpoint,
    /// No connection after all tries.
    #[error("no connection")]
    Connect(#[source] ConnectError),
    /// The connection ended, or the stream was reset, before a response.
    #[error("reset before the response")]
    Reset(#[source] hyper::Error),
    /// What came back is no HTTP, or its head is too large.
    #[error("malformed response")]
    Protocol(#[source] hyper::Error),
    /// The request body could not be read.
    #[error("the request body ended early")]
    RequestBody(#[source] hyper::Error),
}

/// A failed [`Pool::send`].
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) error: SendError,
    pub(crate) tries: u32,
    pub(crate) endpoint: Option<Arc<Endpoint>>,
}

/// How often idle connections are looked at.
const SWEEP_EVERY: Duration = Duration::from_secs(10);

/// Connect tries of one request: the first and two more.
const CONNECT_TRIES: u32 = 3;

impl Pool {
    /// How many endpoints it has.
    pub fn len(&self) -> usize {
        self.endpoints.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.endpoints.is_empty()
    }

    /// Its endpoints, for debug output.
    pub fn keys(&self) -> impl Iterator<Item = &EndpointKey> {
        self.endpoints.iter().map(|endpoint| endpoint.key())
    }

    /// Round robin; endpoints that failed lately are passed over unless there is no other.
    fn choose(&self, avoid: Option<&Arc<Endpoint>>) -> Option<&Arc<Endpoint>> {
        let count = self.endpoints.len();
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let in_turn = || (0..count).filter_map(|step| self.endpoints.get(first.wrapping_add(step) % count));
        in_turn()
            .find(|endpoint| endpoint.is_worth_trying() && avoid.is_none_or(|avoided| !Arc::ptr_eq(avoided, endpoint)))
            .or_else(|| in_turn().find(|endpoint| endpoint.is_worth_trying()))
            .or_else(|| in_turn().next())
    }

    /// Sends a request on a pooled or a new connection. SPEC 30 §6.8
    pub(crate) async fn send(&self, request: Request<RequestBody>) -> Result<Answered, Box<Failed>> {
        let mut tries = 1;
        let mut failed: Option<Arc<Endpoint>> = None;
        let (endpoint, connection, is_reused) = loop {
            let Some(endpoint) = self.choose(failed.as_ref()) else {
                return Err(Box::new(Failed { error: SendError::NoEndpoint, tries: 0, endpoint: None }));
            };
            if let Some(connection) = endpoint.take_pooled().await {
                break (endpoint, connection, true);
            }
            // Boxed, as below: what happens seldom must not widen the future that every request moves.
            match Box::pin(endpoint.connect()).await {
                Ok(connection) => break (endpoint, connection, false),
                Err(ConnectError::Refused(refusal)) if self.endpoints.len() == 1 => {
                    tracing::warn!(%refusal, "upstream not connected: {refusal}");
                    return Err(Box::new(Failed {
                        error: SendError::NoEndpoint,
                        tries,
                        endpoint: Some(Arc::clone(endpoint)),
                    }));
                }
                Err(error) if tries >= CONNECT_TRIES => {
                    let error = match error {
                        ConnectError::Refused(_) => SendError::NoEndpoint,
                        error => SendError::Connect(error),
                    };
                    return Err(Box::new(Failed { error, tries, endpoint: Some(Arc::clone(endpoint)) }));
                }
                Err(_) => {
                    tries += 1;
                    failed = Some(Arc::clone(endpoint));
                }
            }
        };
        self.exchange(Arc::clone(endpoint), connection, is_reused, request, tries).await
    }

    /// One request on one connection, and once more on a new one when a reused connection turns out dead.
    async fn exchange(
        &self,
        endpoint: Arc<Endpoint>,
        connection: Connection,
        is_reused: bool,
        request: Request<RequestBody>,
        mut tries: u32,
    ) -> Result<Answered, Box<Failed>> {
        let spare = (is_reused && may_be_repeated(request.method())).then(|| request.clone());
        let problem = match exchange_once(&endpoint, connection, request).await {
            Ok((response, lease)) => return Ok(Answered { response, lease, tries }),
            Err(problem) => problem,
        };
        // A message handed back was never written, so this is a connect failure found late.
        let again = match (problem.unsent, spare) {
            (Some(unsent), _) if is_reused => Some(unsent),
            (_, Some(spare)) if problem.is_before_response && !spare.body().progress().is_started => Some(spare),
            _ => None,
        };
        let error = match again {
            Some(again) => {
                tries += 1;
                match Box::pin(endpoint.connect()).await {
                    Ok(connection) => match Box::pin(exchange_once(&endpoint, connection, again)).await {
                        Ok((response, lease)) => return Ok(Answered { response, lease, tries }),
                        Err(problem) => classify(problem.error),
                    },
                    Err(error) => SendError::Connect(error),
                }
            }
            None => classify(problem.error),
        };
        Err(Box::new(Failed { error, tries, endpoint: Some(endpoint) }))
    }
}

struct Problem {
    error: hyper::Error,
    /// The request, when nothing of it was written.
    unsent: Option<Request<RequestBody>>,
    /// No byte of a response arrived.
    is_before_response: bool,
}

async fn exchange_once(
    endpoint: &Arc<Endpoint>,
    connection: Connection,
    request: Request<RequestBody>,
) -> Result<(Response<Incoming>, Lease), Problem> {
    match connection {
        Connection::Single(mut single) => {
            let before = single.received.load(Ordering::Relaxed);
            match single.sender.try_send_request(request).await {
                Ok(response) => {
                    let lease = Lease { endpoint: Arc::clone(endpoint), connection: Some(single), _stream: None };
                    Ok((response, lease))
                }
                Err(mut error) => Err(Problem {
                    unsent: error.take_message(),
                    is_before_response: single.received.load(Ordering::Relaxed) == before,
                    error: error.into_error(),
                }),
            }
        }
        Connection::Multiplexed(Multiplexed { mut sender, received, streams, .. }) => {
            streams.fetch_add(1, Ordering::Relaxed);
            let count = StreamCount(streams);
            let before = received.load(Ordering::Relaxed);
            match sender.try_send_request(request).await {
                Ok(response) => {
                    let lease = Lease { endpoint: Arc::clone(endpoint), connection: None, _stream: Some(count) };
                    Ok((response, lease))
                }
                Err(mut error) => Err(Problem {
                    unsent: error.take_message(),
                    is_before_response: received.load(Ordering::Relaxed) == before,
                    error: error.into_error(),
                }),
            }
        }
    }
}

/// Methods that may be sent again when a reused connection died. SPEC 30 §6.8
fn may_be_repeated(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE)
}

fn classify(error: hyper::Error) -> SendError {
    if error.is_parse() || error.is_parse_too_large() {
        SendError::Protocol(error)
    } else if is_request_body(&error) {
        SendError::RequestBody(error)
    } else {
        SendError::Reset(error)
    }
}

fn is_request_body(error: &hyper::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if cause.is::<crate::body::RequestBodyError>() {
            return true;
        }
        source = cause.source();
    }
    error.is_user()
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Endpoint").field(self.key()).finish()
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_list().entries(self.keys()).finish()
    }
}
