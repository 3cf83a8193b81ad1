//! The edge data plane: from a client's socket to an upstream's, and back. SPEC 30 §6
//!
//! | module | does |
//! |---|---|
//! | [`framing`] | refuses ambiguous HTTP/1 in the byte stream, before anything parses it |
//! | `listener`, `tls` | sockets, protocols, limits, drain; certificates and client-certificate rules by SNI |
//! | `connection`, `exchange` | what is known of a connection, and of one request until it is over |
//! | `request` | one request, in order: the hot path begins here |
//! | `head`, `forward`, `websocket`, `upgrade`, `body`, `answer` | its steps |
//! | [`auth`] | tokens and the keys that verify them |
//! | [`pool`] | upstream connections and retries |
//! | `watch`, `publish`, `handle` | from changed objects to the table that requests see |
//! | `explain` | why a request is allowed or refused |
//! | `metrics` | what is counted |
//!
//! Absences: no request waits for a database, the Kubernetes API or another request's lock; nothing unauthenticated
//! reaches an upstream, also not while routes change; no body is collected; no token, cookie or body is logged.

mod answer;
pub mod auth;
mod body;
pub mod config;
mod connection;
mod exchange;
mod explain;
mod forward;
pub mod framing;
mod handle;
mod head;
mod listener;
mod metrics;
pub mod pool;
mod publish;
mod request;
#[cfg(test)]
mod tests;
mod tls;
mod upgrade;
mod watch;
mod websocket;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use futures::future::BoxFuture;
use parking_lot::RwLock;
use tidegate_pki::PkiError;
use tidegate_policy::{Index, ObjectRef, Scheme, Table};
use tidegate_runtime::{AccessLog, Clock, Enforcement, EventRecorder, Ids, Tasks};
use tokio::sync::{Semaphore, mpsc, oneshot};

pub use crate::config::{GatewayConfig, GatewayDeps, RequestOptions};
pub use crate::explain::{Explanation, Question, RouteInfo, Step};
pub use crate::publish::Input;

use crate::auth::{Authenticator, JwksObserver, KeySources};
use crate::handle::Handle;
use crate::metrics::{GatewayMetrics, RouteMetrics};
use crate::pool::Endpoints;
use crate::publish::{Published, Publisher};
use crate::tls::TlsStore;
use crate::tls::default::DefaultCertificates;

/// Changes of key sources that may wait to be told.
const KEY_EVENTS: usize = 256;

/// What every request sees.
pub(crate) struct Shared {
    pub(crate) table: Arc<Table<Handle>>,
    pub(crate) options: RequestOptions,
    pub(crate) clock: Clock,
    pub(crate) ids: Ids,
    pub(crate) tasks: Tasks,
    pub(crate) access_log: AccessLog,
    pub(crate) metrics: GatewayMetrics,
    /// For requests without a route.
    pub(crate) unrouted: Arc<RouteMetrics>,
    pub(crate) authenticator: Authenticator,
    pub(crate) tls: TlsStore,
    pub(crate) published: Published,
    /// Free places for client connections.
    pub(crate) places: Arc<Semaphore>,
    pub(crate) https_port: AtomicU16,
}

/// A running edge. Cheap to clone. It ends with the tasks that it was given.
#[derive(Clone)]
pub struct Gateway {
    shared: Arc<Shared>,
    index: Arc<RwLock<Index>>,
    http: Option<SocketAddr>,
    https: Option<SocketAddr>,
}

/// Why the edge cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener's address is taken or not ours.
    #[error("cannot listen on `{address}`")]
    Listen {
        /// The configured address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The local authority cannot issue the default certificate.
    #[error("no certificate for the TLS listener")]
    Certificate(#[from] PkiError),
    /// The TLS library refuses the configuration.
    #[error("no configuration for the TLS listener")]
    Tls(#[from] rustls::Error),
    /// The input ended before all objects were listed.
    #[error("the exposures could not be read from the API server")]
    Inputs,
}

impl Gateway {
    /// Starts on what the API server behind `client` has: Apis, Services and their endpoints, VirtualServices,
    /// Gateways and Secrets. Returns once everything is published and the listeners are open.
    pub async fn start(config: GatewayConfig, client: kube::Client, deps: GatewayDeps) -> Result<Self, StartError> {
        let inputs = watch::inputs(&client, &deps.control);
        Self::start_from(config, Some(client), deps, inputs).await
    }

    /// Starts with changes from `inputs`: waits for their [`Input::Synced`], publishes everything, then opens the
    /// listeners, so that no request meets a table that is not complete yet.
    ///
    /// `client`: where Events and the default certificate go; `None` keeps the certificate in memory only.
    pub async fn start_from(
        config: GatewayConfig,
        client: Option<kube::Client>,
        deps: GatewayDeps,
        inputs: mpsc::Receiver<Input>,
    ) -> Result<Self, StartError> {
        let ready = deps.readiness.register("gateway");
        let (table, writer) = Table::new();
        let domains = config.policy.domains.clone();
        let certificates =
            DefaultCertificates::new(Arc::clone(&deps.authority), deps.clock.clone(), domains, Arc::clone(&table))?;
        let certificates = Arc::new(certificates);
        if let Some(client) = &client {
            if let Err(error) = certificates.keep(client).await {
                tracing::warn!(%error, "the default certificate is not in its Secret yet");
            }
            certificates.spawn_keeper(client.clone(), &deps.control);
        }
        let events =
            client.map(|client| EventRecorder::start(client, "tidegate-gateway", deps.clock.clone(), &deps.control));
        let (key_events, key_events_told) = mpsc::channel(KEY_EVENTS);
        // A full queue loses an Event, not more: the next change of the source is told again.
        let observer: JwksObserver = Arc::new(move |event| drop(key_events.try_send(event)));
        let shared = Arc::new(Shared::new(&config, &deps, table, Arc::clone(&certificates), observer)?);
        let endpoints = Endpoints::new(
            deps.clock.clone(),
            deps.random,
            // Upstream connections end with the last request that needs them, not before.
            deps.data.child(),
            deps.addresses.clone(),
            config.pool.clone(),
            shared.metrics.pool.clone(),
        );
        endpoints.spawn_sweeper();
        let index = Arc::new(RwLock::new(Index::new(config.policy.clone())));
        let publisher = Publisher {
            shared: Arc::clone(&shared),
            writer,
            index: Arc::clone(&index),
            endpoints,
            in_process: deps.in_process.clone(),
            addresses: deps.addresses.clone(),
            certificates,
            events,
            state: publish::State::default(),
        };
        let (told, synced) = oneshot::channel();
        drop(deps.control.spawn("publisher", publisher.run(inputs, key_events_told, told)));
        synced.await.map_err(|_| StartError::Inputs)?;

        let http = shared.open(config.http, Scheme::Http).await?;
        let https = shared.open(config.https, Scheme::Https).await?;
        deps.addresses.set_edge_ports([http, https].into_iter().flatten().map(|address| address.port()));
        if let Some(address) = https {
            shared.https_port.store(address.port(), Ordering::Relaxed);
        }
        ready.ready();
        Ok(Self { shared, index, http, https })
    }

    /// Where the plain listener is.
    pub fn http(&self) -> Option<SocketAddr> {
        self.http
    }

    /// Where the TLS listener is.
    pub fn https(&self) -> Option<SocketAddr> {
        self.https
    }

    /// Why a request would be allowed or refused, without sending it.
    pub async fn explain(&self, question: &Question) -> Explanation {
        explain::explain(&self.shared, &self.index, question).await
    }

    /// All published routes, by host.
    pub fn routes(&self) -> Vec<RouteInfo> {
        explain::routes(&self.shared)
    }

    /// Publications of the route table since start.
    pub fn revision(&self) -> u64 {
        self.shared.table.revision()
    }
}

impl Enforcement for Gateway {
    fn enforced(&self, object: &ObjectRef, generation: i64) -> BoxFuture<'static, ()> {
        let (shared, object) = (Arc::clone(&self.shared), object.clone());
        Box::pin(async move {
            shared.published.until(&object, |published| published.is_some_and(|own| own >= generation)).await;
        })
    }

    fn withdrawn(&self, object: &ObjectRef) -> BoxFuture<'static, ()> {
        let (shared, object) = (Arc::clone(&self.shared), object.clone());
        Box::pin(async move { shared.published.until(&object, |published| published.is_none()).await })
    }
}

impl Shared {
    fn new(
        config: &GatewayConfig,
        deps: &GatewayDeps,
        table: Arc<Table<Handle>>,
        certificates: Arc<DefaultCertificates>,
        observer: JwksObserver,
    ) -> Result<Self, rustls::Error> {
        let metrics = GatewayMetrics::register(&deps.metrics);
        let sources = KeySources::start(
            config.jwks,
            deps.clock.clone(),
            deps.random,
            deps.control.clone(),
            deps.fetches.clone(),
            &deps.metrics,
            Some(observer),
        );
        let authenticator = Authenticator::new(config.auth, deps.clock.clone(), &deps.random, sources, &deps.metrics);
        Ok(Self {
            unrouted: metrics.route(""),
            table,
            options: config.requests.clone(),
            clock: deps.clock.clone(),
            ids: deps.ids,
            tasks: deps.data.clone(),
            access_log: deps.access_log.clone(),
            metrics,
            authenticator,
            tls: TlsStore::new(certificates)?,
            published: Published::new(),
            places: Arc::new(Semaphore::new(config.max_connections)),
            https_port: AtomicU16::new(0),
        })
    }

    async fn open(
        self: &Arc<Self>,
        address: Option<SocketAddr>,
        scheme: Scheme,
    ) -> Result<Option<SocketAddr>, StartError> {
        let Some(address) = address else { return Ok(None) };
        // The socket belongs to the runtime that serves it.
        let bound = self.tasks.spawn("listen", listener::bind(address)).await;
        let bound = bound.unwrap_or_else(|error| Err(io::Error::other(error)));
        let (listener, own) = bound.map_err(|source| StartError::Listen { address, source })?;
        drop(self.tasks.spawn("listener", listener::accept(Arc::clone(self), listener, own, scheme)));
        Ok(Some(own))
    }
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Gateway").field("http", &self.http).field("https", &self.https).finish_non_exhaustive()
    }
}
