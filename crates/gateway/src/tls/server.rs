//! The `rustls` configuration of a server.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tidegate_policy::ObjectRef;
use tidegate_policy::tls::{TlsMode, TlsServer, TlsVersion};

use super::default::{DefaultCertificates, is_default_secret};
use super::secret::SecretFacts;

/// The configuration for names that no Gateway speaks of.
pub(super) fn fallback(default: &Arc<DefaultCertificates>) -> Result<Arc<ServerConfig>, rustls::Error> {
    let builder = ServerConfig::builder_with_provider(provider(&[]))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth();
    finish(builder.with_cert_resolver(Arc::clone(default) as Arc<dyn ResolvesServerCert>))
}

/// The configuration of one server, and what of its settings is not usable. `None`: no client could be let in, so
/// none is.
pub(super) fn build(
    server: &TlsServer,
    secrets: &HashMap<ObjectRef, SecretFacts>,
    default: &Arc<DefaultCertificates>,
) -> (Option<Arc<ServerConfig>>, Vec<String>) {
    let mut problems = Vec::new();
    let place = format!("spec.servers[{}].tls", server.position);
    let resolver = certificate(server, secrets, default).unwrap_or_else(|problem| {
        problems.push(format!("{place}.credentialName: {problem}; the default certificate is used"));
        Arc::clone(default) as Arc<dyn ResolvesServerCert>
    });
    let suites = suites(&server.cipher_suites);
    for unknown in &suites.unknown {
        problems.push(format!("{place}.cipherSuites: `{unknown}` is not supported"));
    }
    let versions = versions(server.min_version, server.max_version);
    if versions.is_empty() {
        problems.push(format!("{place}: minProtocolVersion is above maxProtocolVersion"));
        return (None, problems);
    }
    let provider = provider(&suites.known);
    let config = (|| {
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&versions)
            .map_err(|error| format!("{place}: {error}"))?;
        let builder = match server.mode {
            TlsMode::Simple | TlsMode::Unsupported => builder.with_no_client_auth(),
            TlsMode::Mutual | TlsMode::OptionalMutual => {
                let roots = authorities(server, secrets).map_err(|problem| format!("{place}: {problem}"))?;
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                let is_optional = server.mode == TlsMode::OptionalMutual;
                let verifier = if is_optional { verifier.allow_unauthenticated() } else { verifier };
                builder.with_client_cert_verifier(verifier.build().map_err(|error| format!("{place}: {error}"))?)
            }
        };
        finish(builder.with_cert_resolver(resolver)).map_err(|error| format!("{place}: {error}"))
    })();
    match config {
        Ok(config) => (Some(config), problems),
        Err(problem) => {
            problems.push(problem);
            (None, problems)
        }
    }
}

fn finish(mut config: ServerConfig) -> Result<Arc<ServerConfig>, rustls::Error> {
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // Sessions resume only where the same demands hold: each configuration has its own ticket keys.
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    Ok(Arc::new(config))
}

fn provider(suites: &[rustls::SupportedCipherSuite]) -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    if !suites.is_empty() {
        let is_13 = |suite: &rustls::SupportedCipherSuite| suite.tls13().is_some();
        provider.cipher_suites.retain(|suite| is_13(suite) || suites.contains(suite));
    }
    Arc::new(provider)
}

fn versions(min: TlsVersion, max: TlsVersion) -> Vec<&'static SupportedProtocolVersion> {
    let all = [(TlsVersion::V1_3, &rustls::version::TLS13), (TlsVersion::V1_2, &rustls::version::TLS12)];
    all.into_iter().filter(|(version, _)| min <= *version && *version <= max).map(|(_, version)| version).collect()
}

#[derive(Default)]
struct Suites {
    known: Vec<rustls::SupportedCipherSuite>,
    unknown: Vec<String>,
}

/// TLS 1.2 suites by the names that Istio uses.
fn suites(names: &[String]) -> Suites {
    use aws_lc_rs::cipher_suite as suite;
    let mut found = Suites::default();
    for name in names {
        match name.as_str() {
            "ECDHE-ECDSA-AES128-GCM-SHA256" => found.known.push(suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
            "ECDHE-ECDSA-AES256-GCM-SHA384" => found.known.push(suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
            "ECDHE-ECDSA-CHACHA20-POLY1305" => found.known.push(suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
            "ECDHE-RSA-AES128-GCM-SHA256" => found.known.push(suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
            "ECDHE-RSA-AES256-GCM-SHA384" => found.known.push(suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
            "ECDHE-RSA-CHACHA20-POLY1305" => found.known.push(suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
            _ => found.unknown.push(name.clone()),
        }
    }
    found
}

fn certificate(
    server: &TlsServer,
    secrets: &HashMap<ObjectRef, SecretFacts>,
    default: &Arc<DefaultCertificates>,
) -> Result<Arc<dyn ResolvesServerCert>, String> {
    if server.credentials.is_empty() {
        return Ok(Arc::clone(default) as Arc<dyn ResolvesServerCert>);
    }
    let mut problem = String::from("no such Secret");
    for name in &server.credentials {
        let Some(secret) = secrets.get(name) else { continue };
        // The product's own certificate comes with leaves for live hosts.
        if is_default_secret(name) && secret.is_issued_by_us {
            return Ok(Arc::clone(default) as Arc<dyn ResolvesServerCert>);
        }
        match &secret.certificate {
            Ok(key) => return Ok(Arc::new(Fixed(Arc::clone(key)))),
            Err(text) => problem = format!("Secret `{}/{}`: {text}", name.namespace, name.name),
        }
    }
    Err(problem)
}

fn authorities(server: &TlsServer, secrets: &HashMap<ObjectRef, SecretFacts>) -> Result<RootCertStore, String> {
    let pem = server
        .credentials
        .iter()
        .chain(&server.client_ca)
        .find_map(|name| secrets.get(name)?.client_ca.as_deref())
        .ok_or("no Secret has a CA for client certificates, so no client is let in")?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|_| "the CA for client certificates is not PEM")?;
        roots.add(certificate).map_err(|error| format!("the CA for client certificates is not usable: {error}"))?;
    }
    if roots.is_empty() { Err("the CA for client certificates is empty".to_owned()) } else { Ok(roots) }
}

/// One certificate for every name.
#[derive(Debug)]
struct Fixed(Arc<CertifiedKey>);

impl ResolvesServerCert for Fixed {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}
