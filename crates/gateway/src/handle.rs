//! What the gateway builds for a route once, at publication, so that a request finds everything ready (R7).

use std::net::SocketAddr;
use std::sync::Arc;

use tidegate_policy::{EndpointHost, PoolSpec, Protocol, Upstream};
use tidegate_runtime::InProcessService;

use crate::auth::GuardHandle;
use crate::metrics::RouteMetrics;
use crate::pool::{EndpointKey, Pool, Target, TlsIdentity, WireProtocol};

/// The gateway's part of a route.
pub(crate) struct Handle {
    /// `Api/namespace/name`, as in metric and log.
    pub(crate) name: Box<str>,
    pub(crate) upstream: Destination,
    pub(crate) metrics: Arc<RouteMetrics>,
    pub(crate) guard: GuardHandle,
}

/// Where requests go.
pub(crate) enum Destination {
    Pool {
        pool: Arc<Pool>,
        protocol: WireProtocol,
        is_tls: bool,
    },
    InProcess {
        name: String,
        service: InProcessService,
    },
    /// 503.
    None(String),
}

impl Destination {
    /// From what the policy resolved; `in_process` finds a service of this process, `pool` makes a pool.
    pub(crate) fn build(
        upstream: &Upstream,
        in_process: impl FnOnce(&str) -> Option<InProcessService>,
        pool: impl FnOnce(Vec<EndpointKey>) -> Arc<Pool>,
    ) -> Self {
        match upstream {
            Upstream::Pool(spec) => {
                let keys = endpoint_keys(spec);
                let protocol = wire_protocol(spec.protocol);
                Self::Pool { pool: pool(keys), protocol, is_tls: spec.protocol == Protocol::Tls }
            }
            Upstream::InProcess(name) => match in_process(name) {
                Some(service) => Self::InProcess { name: name.clone(), service },
                None => Self::None(format!("service `{name}` is answered in process, but nobody is registered for it")),
            },
            Upstream::None(problem) => Self::None(problem.to_string()),
        }
    }
}

fn wire_protocol(protocol: Protocol) -> WireProtocol {
    match protocol {
        Protocol::Http1 | Protocol::Tls => WireProtocol::Http1,
        Protocol::H2c => WireProtocol::Http2,
    }
}

fn endpoint_keys(spec: &PoolSpec) -> Vec<EndpointKey> {
    let protocol = wire_protocol(spec.protocol);
    let keys = spec.endpoints.iter().map(|endpoint| {
        let own_name = match &endpoint.host {
            EndpointHost::Ip(ip) => ip.to_string(),
            EndpointHost::Name(name) => name.clone(),
        };
        let target = match &endpoint.host {
            EndpointHost::Ip(ip) => Target::Address(SocketAddr::new(*ip, endpoint.port)),
            EndpointHost::Name(host) => Target::Name { host: host.clone(), port: endpoint.port },
        };
        let tls = (spec.protocol == Protocol::Tls)
            .then(|| TlsIdentity { server_name: spec.sni.clone().unwrap_or(own_name), is_verified: spec.verify_tls });
        EndpointKey { target, protocol, tls }
    });
    keys.collect()
}
