//! The front door: one open control plane.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use serde::Deserialize;
use serde_json::Value;
use tidegate_pki::Authority;
use tidegate_runtime::{Clock, Ids, Random, Readiness, ReadyCheck, Tasks};
use tokio::net::TcpListener;

use crate::admission::Advice;
use crate::client;
use crate::controllers::definitions::Definitions;
use crate::controllers::{self, bootstrap};
use crate::crd::conversion::Converters;
use crate::http::page::PageKey;
use crate::http::{ApiService, Published, Shared};
use crate::metrics::Metrics;
use crate::serve;
use crate::store::{OpenError, Store, StoreOptions};
use crate::trust::{RENEWAL_CHECK, Trust, TrustError};

/// Configuration section `controlPlane`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Config {
    /// How long an Event lives after it was last seen, in seconds.
    pub event_ttl_seconds: u64,
    /// Further host names and addresses in the server certificate.
    pub hosts: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self { event_ttl_seconds: 3600, hosts: Vec::new() }
    }
}

/// What a control plane is opened with.
#[derive(Debug, Clone)]
pub struct Options {
    /// Exists and is locked by this process; gets `kube.db` and `pki/`.
    pub data_dir: PathBuf,
    pub config: Config,
    /// Namespaces that exist besides the four of every cluster.
    pub namespaces: Vec<String>,
    /// CustomResourceDefinitions that exist and are kept as given.
    pub definitions: Vec<Value>,
    pub clock: Clock,
    pub tasks: Tasks,
    pub readiness: Readiness,
    pub metrics: tidegate_runtime::Metrics,
}

/// Why a control plane cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ControlPlaneError {
    #[error(transparent)]
    Store(#[from] OpenError),
    #[error(transparent)]
    Trust(#[from] TrustError),
    #[error("cannot create `{object}`")]
    Bootstrap { object: String, source: Box<kube::Error> },
    #[error("definition `{0}` was not established in time")]
    NotEstablished(String),
}

/// An open control plane. Cheap to clone.
#[derive(Clone)]
pub struct ControlPlane {
    shared: Arc<Shared>,
    trust: Arc<Trust>,
}

impl ControlPlane {
    /// Opens the store, makes sure that what always exists does, and starts the controllers. When it returns, every
    /// definition given is established and served.
    ///
    /// # Errors
    /// See [`ControlPlaneError`].
    pub async fn open(options: Options) -> Result<Self, ControlPlaneError> {
        let Options { data_dir, config, namespaces, definitions, clock, tasks, readiness, metrics } = options;
        let checks = Checks {
            cache: readiness.register("watch-cache"),
            definitions: readiness.register("crds-loaded"),
            certificates: readiness.register("certificates"),
        };
        let trust = Arc::new(Trust::open(&data_dir, &config.hosts, &clock)?);
        let store = StoreOptions::new(
            data_dir.join("kube.db"),
            clock.clone(),
            tasks.clone(),
            readiness.clone(),
            metrics.clone(),
        );
        let shared = Arc::new(Shared {
            store: Store::open(store)?,
            published: ArcSwap::from_pointee(Published::builtin()),
            random: Random::system(),
            ids: Ids::random(),
            readiness,
            metrics: Metrics::new(&metrics),
            all_metrics: metrics,
            page_key: PageKey::new(trust.page_secret()),
            verifier: trust.client_verifier().clone(),
            converters: Arc::new(Converters::default()),
            advice: OnceLock::new(),
            address: ArcSwap::from_pointee("127.0.0.1:6443".to_owned()),
            clock,
            tasks,
        });
        checks.cache.ready();
        check_certificates(&trust, &shared.clock, &checks.certificates);
        let plane = Self { shared, trust };
        plane.start(&config, &checks, namespaces, definitions).await?;
        checks.definitions.ready();
        Ok(plane)
    }

    /// Lets `advice` add warnings to the answers of writes from now on; the first call counts.
    pub fn take_advice(&self, advice: Advice) {
        // A second wiring of the same process would be a bug; keeping the first is harmless.
        let _ = self.shared.advice.set(advice);
    }

    async fn start(
        &self,
        config: &Config,
        checks: &Checks,
        namespaces: Vec<String>,
        definitions: Vec<Value>,
    ) -> Result<(), ControlPlaneError> {
        let Self { shared, trust } = self;
        let mut known = Definitions::default();
        known.reconcile(shared).await;
        let tasks = &shared.tasks;
        drop(tasks.spawn("definitions", controllers::definitions::run(Arc::clone(shared), known)));
        let client = self.client("system:controller:bootstrap");
        bootstrap::namespaces(&client, &namespaces).await?;
        let keeper = self.client("system:controller:namespace");
        let ca_pem = trust.ca_pem().to_owned();
        drop(tasks.spawn("namespaces", controllers::namespaces::run(Arc::clone(shared), keeper, ca_pem)));
        let ttl = Duration::from_secs(config.event_ttl_seconds);
        drop(tasks.spawn("event-ttl", controllers::events::run(Arc::clone(shared), ttl)));
        let renewal = (Arc::clone(trust), shared.clock.clone(), checks.certificates.clone(), tasks.shutdown().clone());
        drop(tasks.spawn("certificate-renewal", async move {
            let (trust, clock, check, shutdown) = renewal;
            loop {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = tokio::time::sleep(RENEWAL_CHECK) => check_certificates(&trust, &clock, &check),
                }
            }
        }));
        bootstrap::definitions(&client, &definitions).await
    }

    /// A client that acts as `identity`, such as `controller:exposure`, without a socket. Must be called inside a tokio
    /// runtime.
    pub fn client(&self, identity: &str) -> kube::Client {
        client::in_process(self.service(), identity)
    }

    /// The API as a tower service, for listeners and in-process callers. Requests are anonymous unless their
    /// connection carries a client certificate.
    pub fn service(&self) -> ApiService {
        ApiService::new(Arc::clone(&self.shared))
    }

    /// The store, for maintenance.
    pub fn store(&self) -> &Store {
        &self.shared.store
    }

    /// Serves TLS on `listener` until shutdown, as a task.
    ///
    /// # Errors
    /// When TLS cannot be set up or the listener has no address.
    pub fn serve(&self, listener: TcpListener) -> Result<SocketAddr, ControlPlaneError> {
        let address = listener
            .local_addr()
            .map_err(|source| TrustError::File { path: PathBuf::from("kube listener"), source })?;
        self.shared.address.store(Arc::new(address.to_string()));
        let tls = self.trust.server_config()?;
        let tasks = self.shared.tasks.clone();
        drop(self.shared.tasks.spawn("kube-listener", serve::serve(listener, tls, self.service(), tasks)));
        Ok(address)
    }

    /// A kubeconfig of the administrator for the server at `url`, with a new client certificate.
    ///
    /// # Errors
    /// When the certificate cannot be issued.
    pub fn kubeconfig(&self, url: &str) -> Result<String, ControlPlaneError> {
        Ok(self.trust.kubeconfig(url)?)
    }

    /// PEM of the local authority: the content of `ca.crt`.
    pub fn ca_pem(&self) -> &str {
        self.trust.ca_pem()
    }

    /// The authority that signs the server certificates of all listeners.
    pub fn local_authority(&self) -> Arc<Authority> {
        Arc::clone(self.trust.local_authority())
    }

    /// Closes the store after what is queued; to be called when the tasks have ended.
    pub async fn close(&self) {
        self.shared.store.close().await;
    }
}

struct Checks {
    cache: ReadyCheck,
    definitions: ReadyCheck,
    certificates: ReadyCheck,
}

/// SPEC 60 §25: a certificate with less than a week left makes the process unready.
const LEAST_LEFT: Duration = Duration::from_hours(7 * 24);

fn check_certificates(trust: &Trust, clock: &Clock, check: &ReadyCheck) {
    match trust.renew_server() {
        Ok(true) => tracing::info!("the API server's certificate was renewed"),
        Ok(false) => {}
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "the server certificate cannot be renewed");
        }
    }
    let in_a_week = clock.now().checked_add(LEAST_LEFT).unwrap_or(jiff::Timestamp::MAX);
    if trust.server_validity().is_expired(in_a_week) {
        check.failed("the server certificate expires within a week");
    } else {
        check.ready();
    }
}
