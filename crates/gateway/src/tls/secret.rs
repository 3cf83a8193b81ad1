//! What is read from a Secret that a Gateway may name: a certificate with its key, and a CA for client certificates.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use rustls::sign::CertifiedKey;
use tidegate_pki::{Credential, fingerprint_sha256};

/// Fingerprint of the certificate that the product put into a Secret: one that differs is the operator's own.
pub(crate) const ISSUED_ANNOTATION: &str = "tidegate.io/issued-certificate";

/// The TLS side of a Secret. The Secret itself is not kept.
#[derive(Clone)]
pub(crate) struct SecretFacts {
    /// `metadata.resourceVersion`.
    pub(crate) version: String,
    /// Certificate and key, or why there is none.
    pub(crate) certificate: Result<Arc<CertifiedKey>, String>,
    /// The certificate was issued by the product itself.
    pub(crate) is_issued_by_us: bool,
    /// PEM of the authorities for client certificates.
    pub(crate) client_ca: Option<String>,
}

impl SecretFacts {
    /// Reads a Secret; `None` when nothing in it belongs to TLS.
    pub(crate) fn read(secret: &Secret) -> Option<Self> {
        // SPEC 30 §6.10: `kubernetes.io/tls` names first, then the generic ones.
        let certificate = text(secret, &["tls.crt", "cert"]);
        let key = text(secret, &["tls.key", "key"]);
        let client_ca = text(secret, &["ca.crt", "cacert"]);
        if certificate.is_none() && client_ca.is_none() {
            return None;
        }
        let mut is_issued_by_us = false;
        let usable = match (certificate, key) {
            (Some(certificate), Some(key)) => Credential::from_pem(&certificate, &key)
                .and_then(|credential| {
                    let issued = secret.metadata.annotations.as_ref().and_then(|all| all.get(ISSUED_ANNOTATION));
                    let own = credential.chain().first().map(|leaf| fingerprint_sha256(leaf));
                    is_issued_by_us = own.is_some() && own.as_ref() == issued;
                    credential.certified_key()
                })
                .map_err(|error| error.to_string()),
            _ => Err("it lacks certificate or key".to_owned()),
        };
        Some(Self {
            version: secret.metadata.resource_version.clone().unwrap_or_default(),
            certificate: usable,
            is_issued_by_us,
            client_ca,
        })
    }
}

/// The first of the keys that is there, as text.
fn text(secret: &Secret, keys: &[&str]) -> Option<String> {
    let data = secret.data.as_ref()?;
    let bytes = keys.iter().find_map(|key| data.get(*key))?;
    String::from_utf8(bytes.0.clone()).ok()
}
