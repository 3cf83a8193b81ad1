//! The product's own certificate: one in a Secret for the domain and the system hosts, and leaves in memory for hosts
//! that are live. SPEC 30 §6.10
//!
//! OpenSSL refuses a wildcard right under a one-label domain, such as `*.localhost`. A live host therefore gets a leaf
//! with its full name, made when it is first asked for. Unknown names get none: strangers cannot make us sign.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};
use parking_lot::Mutex;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tidegate_kinds::SYSTEM_NAMESPACE;
use tidegate_pki::{Authority, Credential, PkiError, fingerprint_sha256};
use tidegate_policy::host::SYSTEM_LABELS;
use tidegate_policy::{Domains, ObjectRef, Table};
use tidegate_runtime::{Clock, Tasks};
use tokio::sync::Notify;

use super::secret::ISSUED_ANNOTATION;
use crate::handle::Handle;

/// The Secret of the default certificate, in the system namespace.
pub(crate) const DEFAULT_SECRET: &str = "kyma-gateway-certs";

/// Leaves kept at most; beyond that the oldest ones are made again when asked for.
const MAX_LEAVES: usize = 100_000;

/// How often renewal is looked at.
const CHECK_EVERY: Duration = Duration::from_hours(1);

/// How often a failed write of the Secret is repeated.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Whether a Secret is the one of the default certificate.
pub(super) fn is_default_secret(secret: &ObjectRef) -> bool {
    secret.namespace == SYSTEM_NAMESPACE && secret.name == DEFAULT_SECRET
}

/// The default certificate and the leaves of live hosts.
pub(crate) struct DefaultCertificates {
    authority: Arc<Authority>,
    clock: Clock,
    domains: Domains,
    table: Arc<Table<Handle>>,
    base: ArcSwap<CertifiedKey>,
    leaves: Mutex<HashMap<Box<str>, Leaf>>,
    /// Told when the Secret was changed by somebody.
    changed: Notify,
}

#[derive(Clone)]
struct Leaf {
    key: Arc<CertifiedKey>,
    renew_at: Timestamp,
}

impl std::fmt::Debug for DefaultCertificates {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("DefaultCertificates").field("leaves", &self.leaves.lock().len()).finish_non_exhaustive()
    }
}

impl DefaultCertificates {
    /// With a certificate that is not in the Secret yet.
    pub(crate) fn new(
        authority: Arc<Authority>,
        clock: Clock,
        domains: Domains,
        table: Arc<Table<Handle>>,
    ) -> Result<Self, PkiError> {
        let credential = issue(&authority, &names(&domains, None), clock.now())?;
        let base = ArcSwap::new(credential.certified_key()?);
        Ok(Self { authority, clock, domains, table, base, leaves: Mutex::default(), changed: Notify::new() })
    }

    /// Takes the certificate from the Secret, or writes one there; then keeps it renewed until shutdown.
    pub(crate) fn spawn_keeper(self: &Arc<Self>, client: kube::Client, tasks: &Tasks) {
        let own = Arc::clone(self);
        let shutdown = tasks.shutdown().clone();
        drop(tasks.spawn("default-certificate", async move {
            loop {
                let wait = match own.keep(&client).await {
                    Ok(()) => CHECK_EVERY,
                    Err(error) => {
                        tracing::warn!(%error, "the default certificate could not be kept in its Secret");
                        RETRY_AFTER
                    }
                };
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = own.changed.notified() => {}
                    () = shutdown.cancelled() => return,
                }
            }
        }));
    }

    /// Makes the keeper look again when the Secret is its own: a deleted one is written again, another certificate
    /// in it is served.
    pub(crate) fn secret_changed(&self, secret: &ObjectRef) {
        if is_default_secret(secret) {
            self.changed.notify_one();
        }
    }

    /// One look at the Secret. Errors: the API server's, or the authority's.
    pub(crate) async fn keep(&self, client: &kube::Client) -> Result<(), KeepError> {
        let secrets: kube::Api<Secret> = kube::Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
        let found = secrets.get_opt(DEFAULT_SECRET).await?;
        let now = self.clock.now();
        if let Some(secret) = &found
            && let Some((credential, is_ours)) = read(secret)
        {
            let is_good = !is_ours || (!credential.validity().is_renewal_due(now) && self.is_of_this_authority(secret));
            if is_good {
                // An operator's own certificate is served, and renewed by whoever put it there.
                self.set_base(&credential)?;
                return Ok(());
            }
        }
        let credential = issue(&self.authority, &names(&self.domains, None), now)?;
        let secret = self.render(&credential, found.as_ref());
        if found.is_some() {
            secrets.replace(DEFAULT_SECRET, &PostParams::default(), &secret).await?;
        } else {
            secrets.create(&PostParams::default(), &secret).await?;
        }
        self.set_base(&credential)?;
        tracing::info!("issued a certificate for the edge, valid until {}", credential.validity().not_after);
        Ok(())
    }

    fn set_base(&self, credential: &Credential) -> Result<(), PkiError> {
        self.base.store(credential.certified_key()?);
        Ok(())
    }

    fn is_of_this_authority(&self, secret: &Secret) -> bool {
        let ca = secret.data.as_ref().and_then(|data| data.get("ca.crt"));
        ca.is_some_and(|ca| ca.0 == self.authority.certificate_pem().as_bytes())
    }

    fn render(&self, credential: &Credential, found: Option<&Secret>) -> Secret {
        let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
        let fresh = || ObjectMeta {
            name: Some(DEFAULT_SECRET.to_owned()),
            namespace: Some(SYSTEM_NAMESPACE.to_owned()),
            ..ObjectMeta::default()
        };
        let mut metadata = found.map_or_else(fresh, |secret| secret.metadata.clone());
        let fingerprint = credential.chain().first().map(|leaf| fingerprint_sha256(leaf)).unwrap_or_default();
        metadata.annotations.get_or_insert_default().insert(ISSUED_ANNOTATION.to_owned(), fingerprint);
        let managed = ("app.kubernetes.io/managed-by".to_owned(), "tidegate".to_owned());
        metadata.labels.get_or_insert_default().extend([managed]);
        metadata.managed_fields = None;
        Secret {
            metadata,
            type_: found.map_or_else(|| Some("kubernetes.io/tls".to_owned()), |secret| secret.type_.clone()),
            data: Some(BTreeMap::from([
                ("tls.crt".to_owned(), bytes(credential.chain_pem())),
                ("tls.key".to_owned(), bytes(credential.private_key_pem().expose())),
                ("ca.crt".to_owned(), bytes(self.authority.certificate_pem())),
            ])),
            ..Secret::default()
        }
    }

    /// The certificate for a server name (lower case).
    pub(crate) fn certificate(&self, name: Option<&str>) -> Arc<CertifiedKey> {
        let base = || self.base.load_full();
        let Some(name) = name.filter(|name| !self.is_named_by_base(name) && self.table.host(name).is_some()) else {
            return base();
        };
        let now = self.clock.now();
        if let Some(leaf) = self.leaves.lock().get(name).filter(|leaf| now < leaf.renew_at) {
            return Arc::clone(&leaf.key);
        }
        // Made outside the lock: two at once make two, and the later one stays.
        match self.make_leaf(name, now) {
            Ok(leaf) => {
                let key = Arc::clone(&leaf.key);
                let mut leaves = self.leaves.lock();
                if leaves.len() >= MAX_LEAVES {
                    leaves.clear();
                }
                leaves.insert(name.into(), leaf);
                key
            }
            Err(error) => {
                tracing::error!(%error, host = name, "no certificate could be made for `{name}`");
                base()
            }
        }
    }

    /// Forgets the leaf of a host that is not live any more.
    pub(crate) fn forget(&self, host: &str) {
        self.leaves.lock().remove(host);
    }

    fn make_leaf(&self, name: &str, now: Timestamp) -> Result<Leaf, PkiError> {
        let credential = issue(&self.authority, &names(&self.domains, Some(name)), now)?;
        Ok(Leaf { key: credential.certified_key()?, renew_at: credential.validity().renew_at() })
    }

    fn is_named_by_base(&self, name: &str) -> bool {
        self.domains.is_system_name(name) || self.domains.names().iter().any(|domain| domain == name)
    }
}

impl ResolvesServerCert for DefaultCertificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase);
        Some(self.certificate(name.as_deref()))
    }
}

/// Why the Secret could not be kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeepError {
    /// The API server refused or was not there.
    #[error("the API server did not take or give the Secret")]
    Api(#[from] kube::Error),
    /// The authority could not issue.
    #[error("the local authority could not issue a certificate")]
    Pki(#[from] PkiError),
}

/// All names of the default certificate, with a live host in front.
fn names(domains: &Domains, host: Option<&str>) -> Vec<String> {
    let mut names: Vec<String> = host.map(str::to_owned).into_iter().collect();
    for domain in domains.names() {
        names.push(domain.clone());
        names.push(format!("*.{domain}"));
        if host.is_none() {
            names.extend(SYSTEM_LABELS.iter().map(|label| format!("{label}.{domain}")));
        }
    }
    names
}

fn issue(authority: &Authority, names: &[String], now: Timestamp) -> Result<Credential, PkiError> {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    authority.issue_server(&names, &[], now, tidegate_pki::SERVER_LIFETIME)
}

/// Certificate and key of the Secret, and whether the product put them there.
fn read(secret: &Secret) -> Option<(Credential, bool)> {
    let data = secret.data.as_ref()?;
    let text = |key: &str| data.get(key).and_then(|bytes| std::str::from_utf8(&bytes.0).ok());
    let credential = Credential::from_pem(text("tls.crt")?, text("tls.key")?).ok()?;
    let own = credential.chain().first().map(|leaf| fingerprint_sha256(leaf));
    let issued = secret.metadata.annotations.as_ref().and_then(|all| all.get(ISSUED_ANNOTATION));
    let is_ours = own.is_some() && own.as_ref() == issued;
    Some((credential, is_ours))
}
