//! What the edge is configured with, and what it gets from the process around it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tidegate_pki::Authority;
use tidegate_policy::headers::Underscores;
use tidegate_runtime::{
    AccessLog, AddressPolicy, Cidr, Clock, HttpClient, Ids, InProcess, Metrics, Random, Readiness, Tasks,
};

use crate::auth::{AuthOptions, JwksOptions};
use crate::pool::PoolLimits;

/// Configuration of the edge gateway.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// Plain listener; `None`: not opened.
    pub http: Option<SocketAddr>,
    /// TLS listener; `None`: not opened.
    pub https: Option<SocketAddr>,
    /// How objects are compiled; the same options as the exposure reconciler's.
    pub policy: tidegate_policy::Options,
    /// How requests are treated.
    pub requests: RequestOptions,
    /// How tokens are judged.
    pub auth: AuthOptions,
    /// How issuers' keys are kept.
    pub jwks: JwksOptions,
    /// Sizes and ages of upstream pools.
    pub pool: PoolLimits,
    /// Client connections at the same time; more wait in the kernel's queue.
    pub max_connections: usize,
}

impl GatewayConfig {
    /// Defaults of SPEC 30 §11 without a listener.
    pub fn new(policy: tidegate_policy::Options) -> Self {
        Self {
            http: None,
            https: None,
            policy,
            requests: RequestOptions::default(),
            auth: AuthOptions::default(),
            jwks: JwksOptions::default(),
            pool: PoolLimits::default(),
            max_connections: 65_536,
        }
    }
}

/// How requests are treated. SPEC 30 §6.3, §6.8, §11
#[derive(Clone, Debug)]
pub struct RequestOptions {
    /// Peers whose forwarding headers are believed.
    pub trusted_proxies: Vec<Cidr>,
    /// What becomes of header names with `_`.
    pub underscores: Underscores,
    /// Longest request body in bytes; `None`: unlimited.
    pub max_request_body: Option<u64>,
    /// Whether the query parameter `access_token` is kept from upstreams.
    pub strip_token_query: bool,
    /// Longest wait for an upstream's response headers, whatever a route says.
    pub longest_upstream_wait: Duration,
    /// A client connection without a request for this long is closed; also the longest wait for its first bytes.
    /// Whole seconds, at least one.
    pub keep_alive_idle: Duration,
}

impl Default for RequestOptions {
    /// Nobody is trusted, names with `_` are dropped, bodies are unlimited, tokens are passed on, 1 h, 75 s.
    fn default() -> Self {
        Self {
            trusted_proxies: Vec::new(),
            underscores: Underscores::default(),
            max_request_body: None,
            strip_token_query: false,
            longest_upstream_wait: Duration::from_hours(1),
            keep_alive_idle: Duration::from_secs(75),
        }
    }
}

/// What the process gives to the edge.
#[derive(Clone)]
pub struct GatewayDeps {
    /// Bound to the runtime that carries traffic.
    pub data: Tasks,
    /// Bound to the runtime of reconcilers: watches, key fetches, renewal.
    pub control: Tasks,
    /// The process's clock; its ticker should run.
    pub clock: Clock,
    /// The system's random source.
    pub random: Random,
    /// Request ids.
    pub ids: Ids,
    /// The process's metrics.
    pub metrics: Metrics,
    /// Gets the check `gateway`.
    pub readiness: Readiness,
    /// Where requests are logged.
    pub access_log: AccessLog,
    /// Where upstreams may be; its edge ports are set here.
    pub addresses: AddressPolicy,
    /// Fetches issuers' keys.
    pub fetches: HttpClient,
    /// Services of this process.
    pub in_process: InProcess,
    /// Signs the default certificate and the leaves of live hosts.
    pub authority: Arc<Authority>,
}
