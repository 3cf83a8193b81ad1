//! Which certificate, client-certificate rule and redirect a host has, from all `Gateway` objects. SPEC 30 §6.10.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use tidegate_kinds::SYSTEM_NAMESPACE;
use tidegate_kinds::istio::{GatewayServer, GatewaySpec, GatewayTls};

use crate::{Domains, ObjectKind, ObjectRef};

/// Where an Istio ingress gateway looks for Secrets; Gateways of `kyma-system` may use them there as well.
const INGRESS_NAMESPACE: &str = "istio-system";

/// A `Gateway` as it is compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayFacts {
    /// Age decides who has a host that two Gateways name.
    pub created: Timestamp,
    /// The servers, or why they cannot be read.
    pub spec: Result<GatewaySpec, String>,
}

/// TLS settings and redirects of all hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsPlan {
    servers: Vec<Arc<TlsServer>>,
    tls: HostMap,
    redirects: HostMap,
    problems: Vec<GatewayProblem>,
}

/// One server that ends TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsServer {
    /// The Gateway that the server stands in.
    pub gateway: ObjectRef,
    /// Position in `spec.servers`.
    pub position: usize,
    /// What is asked of the client.
    pub mode: TlsMode,
    /// Secrets that may hold certificate and key (`tls.crt`, `tls.key`, or `cert`, `key`), the first usable one
    /// counts. Empty: the default certificate.
    pub credentials: Vec<ObjectRef>,
    /// Secrets that may hold the CA of client certificates (`ca.crt` or `cacert`), besides those of `credentials`.
    pub client_ca: Vec<ObjectRef>,
    /// Lowest version; never below TLS 1.2.
    pub min_version: TlsVersion,
    /// Highest version.
    pub max_version: TlsVersion,
    /// Names of allowed TLS 1.2 suites; empty means all that the product knows.
    pub cipher_suites: Vec<String>,
}

/// What is asked of a client at the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TlsMode {
    /// No certificate.
    Simple,
    /// A certificate that verifies; else the handshake fails.
    Mutual,
    /// A certificate that verifies, or none.
    OptionalMutual,
    /// The mode is not served here: requests for the host get 404.
    Unsupported,
}

/// Versions that the product speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TlsVersion {
    /// TLS 1.2.
    V1_2,
    /// TLS 1.3.
    V1_3,
}

/// A setting of a Gateway without effect: Event `CertificateNotUsable`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayProblem {
    /// The Gateway.
    pub gateway: ObjectRef,
    /// What has no effect and why.
    pub message: String,
}

impl TlsPlan {
    /// Compiles all Gateways. The result does not depend on their order.
    pub fn compile<'g>(
        gateways: impl IntoIterator<Item = ((&'g str, &'g str), &'g GatewayFacts)>,
        domains: &Domains,
    ) -> Self {
        let mut sorted: Vec<_> = gateways.into_iter().collect();
        sorted.sort_by_key(|((namespace, name), facts)| (facts.created, *namespace, *name));
        let mut plan = Self::default();
        for ((namespace, name), facts) in sorted {
            let gateway = ObjectRef::new(ObjectKind::Gateway, namespace, name);
            match &facts.spec {
                Ok(spec) => {
                    for (position, server) in spec.servers.iter().enumerate() {
                        plan.add(&gateway, position, server, domains);
                    }
                }
                Err(problem) => plan.problems.push(GatewayProblem { gateway, message: problem.clone() }),
            }
        }
        plan
    }

    /// The server for a host (lower case): exact, then the longest wildcard, then `*`. `None`: the default certificate,
    /// and nothing is asked of the client.
    pub fn server(&self, host: &str) -> Option<&Arc<TlsServer>> {
        self.tls.get(host).and_then(|position| self.servers.get(position))
    }

    /// Whether plain requests for a host are redirected to `https`.
    pub fn redirects_to_https(&self, host: &str) -> bool {
        self.redirects.get(host).is_some()
    }

    /// All servers that end TLS.
    pub fn servers(&self) -> &[Arc<TlsServer>] {
        &self.servers
    }

    /// Settings without effect.
    pub fn problems(&self) -> &[GatewayProblem] {
        &self.problems
    }

    fn add(&mut self, gateway: &ObjectRef, position: usize, server: &GatewayServer, domains: &Domains) {
        let protocol = server.port.protocol.to_ascii_uppercase();
        let ends_tls = matches!(protocol.as_str(), "HTTPS" | "TLS");
        let redirects = !ends_tls && server.tls.as_ref().is_some_and(|tls| tls.https_redirect);
        if !ends_tls && !redirects {
            return;
        }
        let number = self.servers.len();
        let mut is_used = false;
        for host in &server.hosts {
            let Some(pattern) = self.usable_host(gateway, position, host, domains) else { continue };
            let (map, value) = if ends_tls { (&mut self.tls, number) } else { (&mut self.redirects, position) };
            match map.claim(&pattern, value, gateway) {
                Ok(()) => is_used = true,
                Err(holder) => self.problems.push(GatewayProblem {
                    gateway: gateway.clone(),
                    message: format!("spec.servers[{position}].hosts: `{pattern}` is already configured by {holder}"),
                }),
            }
        }
        if ends_tls && is_used {
            let tls = server.tls.clone().unwrap_or_default();
            self.servers.push(Arc::new(tls_server(gateway, position, &tls)));
        }
    }

    /// The host pattern of `host` or `namespace/host` in lower case, unless it must have no effect.
    fn usable_host(&mut self, gateway: &ObjectRef, position: usize, host: &str, domains: &Domains) -> Option<String> {
        // The namespace in front limits which VirtualServices bind; routes of Apis are bound by name, not by Gateway.
        let pattern = host.rsplit_once('/').map_or(host, |(_, host)| host).to_ascii_lowercase();
        let mut refuse = |message: String| {
            self.problems.push(GatewayProblem { gateway: gateway.clone(), message });
            None
        };
        let name = pattern.strip_prefix("*.").unwrap_or(&pattern);
        if pattern != "*" && (name.is_empty() || name.contains('*')) {
            return refuse(format!("spec.servers[{position}].hosts: `{pattern}` is not a host, `*.suffix` or `*`"));
        }
        if gateway.namespace != SYSTEM_NAMESPACE && domains.is_system_name(&pattern) {
            return refuse(format!(
                "spec.servers[{position}].hosts: `{pattern}` is a host of the system, which only Gateways in `{SYSTEM_NAMESPACE}` configure"
            ));
        }
        Some(pattern)
    }
}

fn tls_server(gateway: &ObjectRef, position: usize, tls: &GatewayTls) -> TlsServer {
    let mode = match tls.mode.as_deref() {
        None | Some("SIMPLE") => TlsMode::Simple,
        Some("MUTUAL") => TlsMode::Mutual,
        Some("OPTIONAL_MUTUAL") => TlsMode::OptionalMutual,
        Some(_) => TlsMode::Unsupported,
    };
    let in_namespaces = |name: String| {
        let mut namespaces = vec![gateway.namespace.as_str()];
        if gateway.namespace == SYSTEM_NAMESPACE {
            namespaces.push(INGRESS_NAMESPACE);
        }
        namespaces.into_iter().map(|ns| ObjectRef::new(ObjectKind::Secret, ns, name.clone())).collect::<Vec<_>>()
    };
    let credential = tls.credential_name.as_ref().filter(|name| !name.is_empty());
    let version = |name: Option<&str>, default: TlsVersion| match name {
        Some("TLSV1_3") => TlsVersion::V1_3,
        // Versions below 1.2 are not spoken whatever is asked for.
        Some("TLSV1_0" | "TLSV1_1" | "TLSV1_2") => TlsVersion::V1_2,
        Some(_) | None => default,
    };
    TlsServer {
        gateway: gateway.clone(),
        position,
        mode,
        credentials: credential.map(|name| in_namespaces(name.clone())).unwrap_or_default(),
        client_ca: credential.map(|name| in_namespaces(format!("{name}-cacert"))).unwrap_or_default(),
        min_version: version(tls.min_protocol_version.as_deref(), TlsVersion::V1_2),
        max_version: version(tls.max_protocol_version.as_deref(), TlsVersion::V1_3),
        cipher_suites: tls.cipher_suites.clone(),
    }
}

/// Host patterns to numbers, each with the Gateway that holds it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct HostMap {
    /// Exact names, `.suffix` for wildcards, `*`.
    entries: HashMap<String, (usize, ObjectRef)>,
}

impl HostMap {
    fn claim(&mut self, pattern: &str, value: usize, gateway: &ObjectRef) -> Result<(), ObjectRef> {
        let key = if pattern == "*" { pattern } else { pattern.strip_prefix('*').unwrap_or(pattern) };
        if let Some((_, holder)) = self.entries.get(key) {
            return Err(holder.clone());
        }
        self.entries.insert(key.to_owned(), (value, gateway.clone()));
        Ok(())
    }

    fn get(&self, host: &str) -> Option<usize> {
        let lookup = |key: &str| self.entries.get(key).map(|(value, _)| *value);
        let suffixes = host.match_indices('.').filter(|(at, _)| *at > 0).filter_map(|(at, _)| host.get(at..));
        lookup(host).or_else(|| suffixes.map(lookup).find_map(|found| found)).or_else(|| lookup("*"))
    }
}

/// Gateways by namespace and name, with the plan that follows from them.
#[derive(Debug, Default)]
pub(crate) struct Gateways {
    all: BTreeMap<(String, String), GatewayFacts>,
    plan: Arc<TlsPlan>,
}

impl Gateways {
    pub(crate) fn plan(&self) -> &Arc<TlsPlan> {
        &self.plan
    }

    /// Sets or removes one Gateway; says whether the plan changed.
    pub(crate) fn set(&mut self, key: (String, String), facts: Option<GatewayFacts>, domains: &Domains) -> bool {
        match facts {
            Some(facts) => self.all.insert(key, facts),
            None => self.all.remove(&key),
        };
        let gateways = self.all.iter().map(|((namespace, name), facts)| ((namespace.as_str(), name.as_str()), facts));
        let plan = TlsPlan::compile(gateways, domains);
        let changed = plan != *self.plan;
        if changed {
            self.plan = Arc::new(plan);
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::needless_pass_by_value, reason = "`json!` literals are handed over as they are")]

    use serde_json::{Value, json};

    use super::*;

    fn facts(created_s: i64, servers: Value) -> GatewayFacts {
        GatewayFacts {
            created: Timestamp::from_second(created_s).unwrap(),
            spec: GatewaySpec::parse(&json!({"spec": {"servers": servers}})),
        }
    }

    fn https(hosts: &[&str], tls: Value) -> Value {
        json!({"port": {"number": 443, "name": "https", "protocol": "HTTPS"}, "hosts": hosts, "tls": tls})
    }

    fn plan(gateways: &[(&str, &str, GatewayFacts)]) -> TlsPlan {
        let domains = Domains::new(["localhost"]);
        let plan = TlsPlan::compile(gateways.iter().map(|(ns, name, facts)| ((*ns, *name), facts)), &domains);
        let reversed = TlsPlan::compile(gateways.iter().rev().map(|(ns, name, facts)| ((*ns, *name), facts)), &domains);
        assert_eq!(plan, reversed, "the order of the Gateways matters");
        plan
    }

    fn secrets(list: &[ObjectRef]) -> Vec<String> {
        list.iter().map(|secret| format!("{}/{}", secret.namespace, secret.name)).collect()
    }

    #[test]
    fn the_most_specific_server_is_chosen() {
        let plan = plan(&[
            (
                "kyma-system",
                "kyma-gateway",
                facts(1, json!([https(&["*.localhost"], json!({"mode": "SIMPLE", "credentialName": "certs"}))])),
            ),
            (
                "shop",
                "own",
                facts(
                    2,
                    json!([https(
                        &["./shop.localhost"],
                        json!({"mode": "MUTUAL", "credentialName": "shop", "minProtocolVersion": "TLSV1_3"})
                    )]),
                ),
            ),
        ]);
        let shop = plan.server("shop.localhost").unwrap();
        assert_eq!(
            (shop.mode, shop.min_version, shop.gateway.name.as_str()),
            (TlsMode::Mutual, TlsVersion::V1_3, "own")
        );
        assert_eq!(secrets(&shop.credentials), ["shop/shop"]);
        assert_eq!(secrets(&shop.client_ca), ["shop/shop-cacert"]);
        let other = plan.server("a.b.localhost").unwrap();
        assert_eq!(secrets(&other.credentials), ["kyma-system/certs", "istio-system/certs"]);
        assert!(plan.server("localhost").is_none());
        assert!(plan.server("other.example").is_none());
    }

    #[test]
    fn the_older_gateway_keeps_a_host() {
        let plan = plan(&[
            ("b", "young", facts(9, json!([https(&["x.localhost"], json!({"mode": "MUTUAL"}))]))),
            ("a", "old", facts(1, json!([https(&["x.localhost"], json!({}))]))),
        ]);
        assert_eq!(plan.server("x.localhost").unwrap().gateway.name, "old");
        assert_eq!(plan.problems().len(), 1);
        assert_eq!(plan.problems()[0].gateway.name, "young");
        assert!(plan.problems()[0].message.contains("`x.localhost` is already configured by Gateway/a/old"));
    }

    #[test]
    fn strangers_do_not_change_system_hosts() {
        let servers = json!([https(&["gateway.localhost", "localhost"], json!({"mode": "OPTIONAL_MUTUAL"}))]);
        let foreign = plan(&[("shop", "g", facts(1, servers.clone()))]);
        assert!(foreign.server("gateway.localhost").is_none() && foreign.servers().is_empty());
        assert_eq!(foreign.problems().len(), 2);
        let ours = plan(&[("kyma-system", "g", facts(1, servers))]);
        assert_eq!(ours.server("gateway.localhost").unwrap().mode, TlsMode::OptionalMutual);
    }

    #[test]
    fn redirects_and_foreign_modes_are_told() {
        let plan = plan(&[(
            "kyma-system",
            "g",
            facts(
                1,
                json!([
                    {"port": {"number": 80, "protocol": "HTTP"}, "hosts": ["a.localhost"], "tls": {"httpsRedirect": true}},
                    {"port": {"number": 80, "protocol": "HTTP"}, "hosts": ["*.localhost"]},
                    https(&["p.localhost"], json!({"mode": "PASSTHROUGH"})),
                    https(&["*x*.localhost"], json!({})),
                ]),
            ),
        )]);
        assert!(plan.redirects_to_https("a.localhost"));
        assert!(!plan.redirects_to_https("b.localhost"));
        assert_eq!(plan.server("p.localhost").unwrap().mode, TlsMode::Unsupported);
        assert_eq!(plan.problems().len(), 1);
    }
}
