//! Where the requests of a Service go. SPEC 30 §7.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Endpoints, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tidegate_kinds::{SYSTEM_LABEL, SYSTEM_NAMESPACE};
use url::Url;

use crate::Options;

/// Addresses that win over everything that the Service says: `http(s)://host:port[,…]`.
const UPSTREAM_ANNOTATION: &str = "tidegate.io/upstream";
/// Name for TLS towards the upstream.
const SNI_ANNOTATION: &str = "tidegate.io/upstream-sni";
/// `false`: the upstream's certificate is not verified.
const VERIFY_ANNOTATION: &str = "tidegate.io/upstream-tls-verify";
/// Label by which slices name their Service.
const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
/// Most addresses kept of one Service; a Service of this size is served by part of its endpoints.
const MAX_ENDPOINTS: usize = 1_000;

/// Where requests go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// To addresses.
    Pool(PoolSpec),
    /// To a service of this process, by its registered name `namespace/name`.
    InProcess(String),
    /// Nowhere: 503.
    None(UpstreamProblem),
}

/// Addresses and how to speak to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolSpec {
    /// At least one; sorted, without duplicates.
    pub endpoints: Vec<Endpoint>,
    /// What is spoken.
    pub protocol: Protocol,
    /// Name for TLS; `None`: the endpoint's own name.
    pub sni: Option<String>,
    /// Whether the certificate is verified.
    pub verify_tls: bool,
}

/// One address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// Address or name.
    pub host: EndpointHost,
    /// Port.
    pub port: u16,
}

/// Host of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EndpointHost {
    /// An address.
    Ip(IpAddr),
    /// A name to resolve.
    Name(String),
}

/// What is spoken to the endpoints. SPEC 30 §6.8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 without TLS.
    H2c,
    /// HTTP over TLS.
    Tls,
}

/// Why there is nowhere to go.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamProblem {
    /// No such Service.
    #[error("service `{0}` does not exist")]
    ServiceMissing(String),
    /// The Service lists its ports, and this is none of them.
    #[error("service `{service}` has no port {port}")]
    PortNotFound {
        /// `namespace/name`.
        service: String,
        /// The requested port.
        port: u16,
    },
    /// The Service has no ready address.
    #[error("service `{0}` has no ready endpoint")]
    NoEndpoints(String),
    /// The annotation cannot be used.
    #[error("service `{service}`, annotation tidegate.io/upstream: {problem}")]
    BadAnnotation {
        /// `namespace/name`.
        service: String,
        /// What is wrong.
        problem: String,
    },
}

/// What matters of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceFacts {
    external_name: Option<String>,
    ports: Vec<PortFacts>,
    upstream: Option<String>,
    sni: Option<String>,
    verify_tls: bool,
    is_system: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct PortFacts {
    name: String,
    port: u16,
    target: Option<u16>,
    app_protocol: Option<String>,
}

impl ServiceFacts {
    /// Reads a Service.
    pub fn read(service: &Service) -> Self {
        let spec = service.spec.clone().unwrap_or_default();
        let annotations = service.metadata.annotations.as_ref();
        let annotation = |name: &str| annotations.and_then(|all| all.get(name)).cloned();
        let is_external = spec.type_.as_deref() == Some("ExternalName");
        Self {
            external_name: spec.external_name.filter(|_| is_external),
            ports: spec
                .ports
                .unwrap_or_default()
                .into_iter()
                .filter_map(|port| {
                    let target = match port.target_port {
                        Some(IntOrString::Int(number)) => u16::try_from(number).ok(),
                        Some(IntOrString::String(_)) | None => None,
                    };
                    Some(PortFacts {
                        name: port.name.unwrap_or_default(),
                        port: u16::try_from(port.port).ok()?,
                        target,
                        app_protocol: port.app_protocol,
                    })
                })
                .collect(),
            upstream: annotation(UPSTREAM_ANNOTATION),
            sni: annotation(SNI_ANNOTATION),
            verify_tls: annotation(VERIFY_ANNOTATION).as_deref() != Some("false"),
            is_system: service
                .metadata
                .labels
                .as_ref()
                .is_some_and(|labels| labels.get(SYSTEM_LABEL).is_some_and(|value| value == "true")),
        }
    }
}

/// Ready addresses by port name, of one slice or of an `Endpoints` object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointFacts {
    subsets: Vec<Subset>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Subset {
    hosts: Vec<EndpointHost>,
    ports: BTreeMap<String, u16>,
}

impl EndpointFacts {
    /// The Service that a slice belongs to.
    pub fn service_of_slice(slice: &EndpointSlice) -> Option<&str> {
        slice.metadata.labels.as_ref()?.get(SERVICE_NAME_LABEL).map(String::as_str)
    }

    /// Reads a slice. Addresses that are not of the slice's type are left out.
    pub fn read_slice(slice: &EndpointSlice) -> Self {
        let is_name = slice.address_type == "FQDN";
        let hosts = slice
            .endpoints
            .iter()
            .flatten()
            .filter(|endpoint| endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) != Some(false))
            .flat_map(|endpoint| &endpoint.addresses)
            .filter_map(|address| if is_name { named(address) } else { address.parse().ok().map(EndpointHost::Ip) })
            .collect();
        let ports = slice
            .ports
            .iter()
            .flatten()
            .filter_map(|port| Some((port.name.clone().unwrap_or_default(), u16::try_from(port.port?).ok()?)))
            .collect();
        Self { subsets: vec![Subset { hosts, ports }] }
    }

    /// Reads an `Endpoints` object.
    pub fn read_endpoints(endpoints: &Endpoints) -> Self {
        let subsets = endpoints.subsets.iter().flatten().map(|subset| Subset {
            hosts: subset.addresses.iter().flatten().filter_map(|a| a.ip.parse().ok().map(EndpointHost::Ip)).collect(),
            ports: subset
                .ports
                .iter()
                .flatten()
                .filter_map(|port| Some((port.name.clone().unwrap_or_default(), u16::try_from(port.port).ok()?)))
                .collect(),
        });
        Self { subsets: subsets.collect() }
    }

    fn at_port<'f>(&'f self, name: &'f str) -> impl Iterator<Item = Endpoint> + 'f {
        self.subsets.iter().flat_map(move |subset| {
            let port = subset.ports.get(name).copied();
            port.into_iter().flat_map(|port| subset.hosts.iter().map(move |host| Endpoint { host: host.clone(), port }))
        })
    }
}

fn named(name: &str) -> Option<EndpointHost> {
    (!name.is_empty()).then(|| name.parse().map_or_else(|_| EndpointHost::Name(name.to_owned()), EndpointHost::Ip))
}

/// Resolves a port of a Service.
///
/// `slices`: what the Service's slices say; `endpoints`: the `Endpoints` object of the Service's name, which counts only
/// when there are no slices.
// SPEC 30 §7
pub fn resolve<'f>(
    (namespace, name, port): (&str, &str, u16),
    service: Option<&ServiceFacts>,
    slices: impl Iterator<Item = &'f EndpointFacts>,
    endpoints: Option<&EndpointFacts>,
    options: &Options,
) -> Upstream {
    let full_name = || format!("{namespace}/{name}");
    let is_system = namespace == SYSTEM_NAMESPACE
        && options.in_process.contains(name)
        && service.is_some_and(|service| service.is_system);
    // The API of this process stays reachable although its Service was deleted or edited.
    if (namespace, name) == ("default", "kubernetes") || is_system {
        let lists_port =
            |service: &ServiceFacts| service.ports.is_empty() || service.ports.iter().any(|p| p.port == port);
        return if service.is_none_or(lists_port) {
            Upstream::InProcess(full_name())
        } else {
            Upstream::None(UpstreamProblem::PortNotFound { service: full_name(), port })
        };
    }
    let Some(service) = service else { return Upstream::None(UpstreamProblem::ServiceMissing(full_name())) };
    let entry = service.ports.iter().find(|entry| entry.port == port);
    if let Some(annotation) = &service.upstream {
        return match parse_annotation(annotation) {
            Ok((endpoints, is_tls)) => {
                let spoken = entry.map_or(Protocol::Http1, protocol);
                let protocol = match (is_tls, spoken) {
                    (true, _) => Protocol::Tls,
                    (false, Protocol::H2c) => Protocol::H2c,
                    (false, Protocol::Http1 | Protocol::Tls) => Protocol::Http1,
                };
                pool(service, endpoints, protocol)
            }
            Err(problem) => Upstream::None(UpstreamProblem::BadAnnotation { service: full_name(), problem }),
        };
    }
    if entry.is_none() && !(service.ports.is_empty() && service.external_name.is_some()) {
        return Upstream::None(UpstreamProblem::PortNotFound { service: full_name(), port });
    }
    let spoken = entry.map_or(Protocol::Http1, protocol);
    let found: Vec<Endpoint> = if let Some(external) = &service.external_name {
        let port = entry.map_or(port, |entry| entry.target.unwrap_or(entry.port));
        named(external.trim_end_matches('.')).into_iter().map(|host| Endpoint { host, port }).collect()
    } else {
        let port_name = entry.map_or("", |entry| entry.name.as_str());
        let mut slices = slices.peekable();
        if slices.peek().is_some() {
            slices.flat_map(|slice| slice.at_port(port_name)).take(MAX_ENDPOINTS).collect()
        } else {
            endpoints.iter().flat_map(|all| all.at_port(port_name)).take(MAX_ENDPOINTS).collect()
        }
    };
    if found.is_empty() {
        return Upstream::None(UpstreamProblem::NoEndpoints(full_name()));
    }
    pool(service, found, spoken)
}

fn pool(service: &ServiceFacts, mut endpoints: Vec<Endpoint>, protocol: Protocol) -> Upstream {
    endpoints.sort();
    endpoints.dedup();
    let external = service.external_name.as_ref().map(|name| name.trim_end_matches('.').to_owned());
    let sni = service.sni.clone().or_else(|| external.filter(|_| service.upstream.is_none()));
    Upstream::Pool(PoolSpec { endpoints, protocol, sni, verify_tls: service.verify_tls })
}

/// `http(s)://host:port[,…]`; all of one scheme, nothing behind the port.
fn parse_annotation(value: &str) -> Result<(Vec<Endpoint>, bool), String> {
    let mut endpoints = Vec::new();
    let mut schemes = Vec::new();
    for entry in value.split(',').map(str::trim) {
        let url = Url::parse(entry).map_err(|_| format!("`{entry}` is not an absolute URL"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!("`{entry}` is neither http nor https"));
        }
        let has_more = !matches!(url.path(), "" | "/")
            || entry.ends_with('/')
            || url.query().is_some()
            || url.fragment().is_some();
        if has_more || !url.username().is_empty() || url.password().is_some() {
            return Err(format!("`{entry}` may have nothing but scheme, host and port"));
        }
        let host = match url.host() {
            Some(url::Host::Ipv4(address)) => EndpointHost::Ip(IpAddr::V4(address)),
            Some(url::Host::Ipv6(address)) => EndpointHost::Ip(IpAddr::V6(address)),
            Some(url::Host::Domain(name)) => EndpointHost::Name(name.to_owned()),
            None => return Err(format!("`{entry}` has no host")),
        };
        let port = url.port_or_known_default().ok_or_else(|| format!("`{entry}` has no port"))?;
        schemes.push(url.scheme() == "https");
        endpoints.push(Endpoint { host, port });
    }
    let is_tls = schemes.first().copied().unwrap_or_default();
    if schemes.iter().any(|scheme| *scheme != is_tls) {
        return Err("all addresses must have the same scheme".to_owned());
    }
    if endpoints.len() > MAX_ENDPOINTS {
        return Err(format!("more than {MAX_ENDPOINTS} addresses"));
    }
    Ok((endpoints, is_tls))
}

// SPEC 30 §6.8
fn protocol(port: &PortFacts) -> Protocol {
    match port.app_protocol.as_deref() {
        Some("kubernetes.io/h2c" | "h2c" | "http2" | "grpc") => return Protocol::H2c,
        Some("https") => return Protocol::Tls,
        // What the Service says wins over what its port happens to be called.
        Some("http") => return Protocol::Http1,
        Some(_) | None => {}
    }
    if ["grpc", "http2", "h2c"].iter().any(|prefix| port.name.starts_with(prefix)) {
        Protocol::H2c
    } else if port.name.starts_with("https") {
        Protocol::Tls
    } else {
        Protocol::Http1
    }
}

#[cfg(test)]
mod tests;
