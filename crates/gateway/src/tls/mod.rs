//! TLS of the edge: which configuration a client gets, and what a host demands. SPEC 30 §6.10
//!
//! | module | holds |
//! |---|---|
//! | [`default`] | the product's own certificate, kept in a Secret and renewed, and leaves for live hosts |
//! | [`secret`] | what is read from the Secrets that Gateways name |
//! | [`server`] | the `rustls` configuration of one server |
//!
//! Everything is chosen by SNI from one immutable snapshot; a changed Secret or Gateway swaps it, open connections
//! keep what they have.

pub(crate) mod default;
pub(crate) mod secret;
pub(crate) mod server;

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::HeaderValue;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use rustls::ServerConfig;
use tidegate_pki::ClientIdentity;
use tidegate_policy::tls::{TlsMode, TlsServer};
use tidegate_policy::{ObjectRef, TlsPlan};

use self::default::DefaultCertificates;
use self::secret::SecretFacts;

/// What the requests of a TLS connection want to know about it.
#[derive(Debug, Clone)]
pub(crate) struct TlsFacts {
    /// `TLSv1.2` or `TLSv1.3`.
    pub(crate) version: &'static str,
    /// Server name that the client asked for, in lower case.
    pub(crate) sni: Option<String>,
    /// What was demanded of the client at the handshake.
    pub(crate) demand: Demand,
    /// `X-Forwarded-Client-Cert`, when the client showed a certificate.
    pub(crate) client_certificate: Option<HeaderValue>,
}

/// What a host demands of a client's certificate. Two hosts with equal demands may share a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Demand {
    /// Nothing.
    Nothing,
    /// A certificate of these authorities, or (optionally) none.
    Certificate { is_optional: bool, credentials: Vec<ObjectRef>, authorities: Vec<ObjectRef> },
    /// The Gateway's mode is not served: 404.
    Unsupported,
}

impl Demand {
    fn of(server: Option<&Arc<TlsServer>>) -> Self {
        let Some(server) = server else { return Self::Nothing };
        match server.mode {
            TlsMode::Simple => Self::Nothing,
            TlsMode::Unsupported => Self::Unsupported,
            TlsMode::Mutual | TlsMode::OptionalMutual => Self::Certificate {
                is_optional: server.mode == TlsMode::OptionalMutual,
                credentials: server.credentials.clone(),
                authorities: server.client_ca.clone(),
            },
        }
    }

    /// Whether nobody gets in without a certificate.
    pub(crate) fn needs_certificate(&self) -> bool {
        matches!(self, Self::Certificate { is_optional: false, .. })
    }

    pub(crate) fn is_unsupported(&self) -> bool {
        *self == Self::Unsupported
    }
}

/// The TLS settings in effect.
pub(crate) struct TlsStore {
    snapshot: ArcSwap<Snapshot>,
    default: Arc<DefaultCertificates>,
}

struct Snapshot {
    plan: Arc<TlsPlan>,
    /// By Gateway and position; absent: the handshake is refused.
    servers: HashMap<(ObjectRef, usize), Built>,
    fallback: Arc<ServerConfig>,
}

/// The configuration of a server and what it was built from.
#[derive(Clone)]
struct Built {
    server: Arc<TlsServer>,
    /// Versions of the Secrets in use.
    secrets: Vec<(ObjectRef, String)>,
    config: Arc<ServerConfig>,
}

/// A setting of a Gateway that cannot be used, for an Event `CertificateNotUsable`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TlsProblem {
    pub(crate) gateway: ObjectRef,
    pub(crate) message: String,
}

impl TlsStore {
    /// With the default certificate for everybody, until [`Self::rebuild`].
    pub(crate) fn new(default: Arc<DefaultCertificates>) -> Result<Self, rustls::Error> {
        let fallback = server::fallback(&default)?;
        let snapshot = Snapshot { plan: Arc::default(), servers: HashMap::new(), fallback };
        Ok(Self { snapshot: ArcSwap::from_pointee(snapshot), default })
    }

    /// What a host demands.
    pub(crate) fn demand(&self, host: &str) -> Demand {
        Demand::of(self.snapshot.load().plan.server(host))
    }

    /// Whether plain requests for a host are redirected.
    pub(crate) fn redirects_to_https(&self, host: &str) -> bool {
        self.snapshot.load().plan.redirects_to_https(host)
    }

    /// The configuration for a server name (lower case) and what it demands. `None`: no handshake can succeed.
    pub(crate) fn config(&self, sni: Option<&str>) -> Option<(Arc<ServerConfig>, Demand)> {
        let snapshot = self.snapshot.load();
        let Some(server) = sni.and_then(|name| snapshot.plan.server(name)) else {
            return Some((Arc::clone(&snapshot.fallback), Demand::Nothing));
        };
        if server.mode == TlsMode::Unsupported {
            // The host answers 404, which has to be said over TLS.
            return Some((Arc::clone(&snapshot.fallback), Demand::Unsupported));
        }
        let built = snapshot.servers.get(&(server.gateway.clone(), server.position))?;
        Some((Arc::clone(&built.config), Demand::of(Some(server))))
    }

    /// Takes over a plan and the Secrets that it names. Servers that did not change keep their configuration and so
    /// their sessions. Returns what is not usable.
    pub(crate) fn rebuild(&self, plan: &Arc<TlsPlan>, secrets: &HashMap<ObjectRef, SecretFacts>) -> Vec<TlsProblem> {
        let old = self.snapshot.load_full();
        let mut problems: Vec<TlsProblem> = plan
            .problems()
            .iter()
            .map(|problem| TlsProblem { gateway: problem.gateway.clone(), message: problem.message.clone() })
            .collect();
        let mut servers = HashMap::new();
        for server in plan.servers() {
            if server.mode == TlsMode::Unsupported {
                continue;
            }
            let key = (server.gateway.clone(), server.position);
            let used: Vec<_> = server
                .credentials
                .iter()
                .chain(&server.client_ca)
                .filter_map(|name| Some((name.clone(), secrets.get(name)?.version.clone())))
                .collect();
            let known = old.servers.get(&key).filter(|built| built.server == *server && built.secrets == used);
            if let Some(known) = known {
                servers.insert(key, known.clone());
                continue;
            }
            let (built, found) = server::build(server, secrets, &self.default);
            let found = found.into_iter().map(|message| TlsProblem { gateway: server.gateway.clone(), message });
            problems.extend(found);
            if let Some(config) = built {
                servers.insert(key, Built { server: Arc::clone(server), secrets: used, config });
            }
        }
        let fallback = Arc::clone(&old.fallback);
        self.snapshot.store(Arc::new(Snapshot { plan: Arc::clone(plan), servers, fallback }));
        problems
    }
}

/// `X-Forwarded-Client-Cert` for a certificate that the handshake verified.
///
/// Whoever asks for a certificate chooses its names, so nothing in them may look like another part of the header.
pub(crate) fn forwarded_certificate(identity: &ClientIdentity) -> Option<HeaderValue> {
    let subject = identity.subject.replace('\\', "\\\\").replace('"', "\\\"");
    let mut text = format!("Hash={};Subject=\"{subject}\"", identity.fingerprint_sha256);
    for (key, values) in [("URI", &identity.uris), ("DNS", &identity.dns_names)] {
        for value in values {
            for part in [";", key, "="].into_iter().chain(utf8_percent_encode(value, SEPARATORS)) {
                text.push_str(part);
            }
        }
    }
    HeaderValue::from_str(&text).ok()
}

/// What separates parts of `X-Forwarded-Client-Cert`, and what quotes them.
const SEPARATORS: &AsciiSet = &CONTROLS.add(b';').add(b',').add(b'"').add(b'\\').add(b' ');

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tidegate_pki::Authority;
    use tidegate_runtime::Clock;

    use super::*;

    #[test]
    fn names_in_a_certificate_cannot_add_parts_to_the_header() {
        let now = Clock::system().now();
        let authority = Authority::generate("authority", now).unwrap();
        let own = authority.issue_client("jane", &["devs"], now, Duration::from_hours(1)).unwrap();
        let mut identity = ClientIdentity::from_der(own.chain()).unwrap();
        identity.fingerprint_sha256 = "ab".to_owned();
        identity.subject = r#"O=a\, CN="x"#.to_owned();
        identity.uris = vec!["spiffe://td/a".to_owned(), "x;Subject=\"CN=admin\",Hash=cd".to_owned()];
        identity.dns_names = vec!["a.example".to_owned()];
        let expected = r#"Hash=ab;Subject="O=a\\, CN=\"x";URI=spiffe://td/a;URI=x%3BSubject=%22CN=admin%22%2CHash=cd;DNS=a.example"#;
        assert_eq!(forwarded_certificate(&identity).unwrap(), expected);
    }
}
