//! Fetches of foreign documents (JWKS and the like): bounded, timed and only to addresses the policy allows.
//!
//! The client for rare paths. Each hop is resolved and checked here and then connected by address, so that no second
//! look-up can lead elsewhere (`30` section 7.2); proxies of the environment are not asked.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http::header::{ACCEPT, HeaderMap, HeaderValue, LOCATION};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::sync::OnceCell;
use url::{Host, Url};

use crate::{AddressPolicy, Column, ResolveError};

/// Bounds of a [`HttpClient`].
#[derive(Clone, Debug)]
pub struct HttpClientOptions {
    /// Column of the address policy.
    pub column: Column,
    /// Limit for the whole fetch: look-ups, redirects and body included.
    pub timeout: Duration,
    /// How many redirects are followed; each must keep the scheme or go to `https`.
    pub max_redirects: usize,
    /// Longest body in bytes.
    pub max_body_bytes: usize,
    /// PEM file of authorities that are trusted besides the system's.
    pub ca_file: Option<PathBuf>,
}

impl Default for HttpClientOptions {
    /// The bounds of a JWKS fetch (`30` section 5.4): 5 s, 3 redirects, 1 MiB.
    fn default() -> Self {
        Self {
            column: Column::Fetch,
            timeout: Duration::from_secs(5),
            max_redirects: 3,
            max_body_bytes: 1 << 20,
            ca_file: None,
        }
    }
}

/// Fetches documents. Cheap to clone.
#[derive(Clone)]
pub struct HttpClient {
    inner: Arc<Inner>,
}

struct Inner {
    policy: AddressPolicy,
    options: HttpClientOptions,
    /// Made at the first `https` fetch: reading the system's roots takes tens of milliseconds.
    tls: OnceCell<rustls::ClientConfig>,
}

/// What a fetch brought; any status is an answer.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// Status of the last hop.
    pub status: StatusCode,
    /// Headers of the last hop.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

/// Why a fetch brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Not an absolute `http` or `https` URL with a host and without credentials.
    #[error("`{0}` is not an absolute http or https URL")]
    InvalidUrl(String),
    /// The host cannot be resolved or may not be connected to.
    #[error(transparent)]
    Address(#[from] ResolveError),
    /// More redirects than allowed.
    #[error("more than {0} redirects")]
    TooManyRedirects(usize),
    /// A redirect without a usable target, or from `https` to `http`.
    #[error("refused redirect to `{0}`")]
    Redirect(String),
    /// No complete answer in time.
    #[error("no complete answer within {} s", .0.as_secs_f32())]
    Timeout(Duration),
    /// The body is longer than allowed.
    #[error("the answer is longer than {0} bytes")]
    TooLarge(usize),
    /// The trust roots could not be read.
    #[error("trust roots cannot be loaded")]
    TrustRoots(#[source] io::Error),
    /// Connecting, TLS or HTTP failed.
    #[error("the request failed: {}", innermost(.0))]
    Transport(#[source] reqwest::Error),
}

/// A client that connects where `policy` allows.
pub fn http_client(policy: &AddressPolicy, options: HttpClientOptions) -> HttpClient {
    HttpClient { inner: Arc::new(Inner { policy: policy.clone(), options, tls: OnceCell::new() }) }
}

impl HttpClient {
    /// GETs `url`, following redirects. `accept`: value of the `Accept` header.
    pub async fn get(&self, url: &str, accept: &'static str) -> Result<Fetched, FetchError> {
        let limit = self.inner.options.timeout;
        tokio::time::timeout(limit, self.get_untimed(url, accept)).await.map_err(|_| FetchError::Timeout(limit))?
    }

    async fn get_untimed(&self, url: &str, accept: &'static str) -> Result<Fetched, FetchError> {
        let options = &self.inner.options;
        let mut url = parse_url(url)?;
        for _ in 0..=options.max_redirects {
            let response = self.hop(&url, accept).await?;
            if !is_redirect(response.status()) {
                return self.read(response).await;
            }
            let target = response.headers().get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
            url = redirected(&url, target)?;
        }
        Err(FetchError::TooManyRedirects(options.max_redirects))
    }

    /// One request to checked addresses.
    async fn hop(&self, url: &Url, accept: &'static str) -> Result<reqwest::Response, FetchError> {
        let host = url.host_str().unwrap_or_default();
        let port = url.port_or_known_default().unwrap_or_default();
        let addresses = self.inner.policy.resolve(self.inner.options.column, host, port).await?;
        let client = self.client_for(url, &addresses).await?;
        client
            .get(url.clone())
            .header(ACCEPT, HeaderValue::from_static(accept))
            .send()
            .await
            .map_err(FetchError::Transport)
    }

    #[expect(clippy::disallowed_methods, reason = "the one maker of HTTP clients for foreign documents")]
    async fn client_for(&self, url: &Url, addresses: &[SocketAddr]) -> Result<reqwest::Client, FetchError> {
        let mut builder = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("tidegate/", env!("CARGO_PKG_VERSION")));
        if let Some(Host::Domain(name)) = url.host() {
            builder = builder.resolve_to_addrs(name, addresses);
        }
        if url.scheme() == "https" {
            builder = builder.tls_backend_preconfigured(self.tls().await?.clone());
        } else {
            builder = builder.tls_backend_preconfigured(without_trust());
        }
        builder.build().map_err(FetchError::Transport)
    }

    async fn tls(&self) -> Result<&rustls::ClientConfig, FetchError> {
        let ca_file = self.inner.options.ca_file.clone();
        self.inner
            .tls
            .get_or_try_init(|| async move {
                tokio::task::spawn_blocking(move || trust_roots(ca_file))
                    .await
                    .map_err(io::Error::other)
                    .flatten()
                    .map_err(FetchError::TrustRoots)
            })
            .await
    }

    async fn read(&self, mut response: reqwest::Response) -> Result<Fetched, FetchError> {
        let max = self.inner.options.max_body_bytes;
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(FetchError::Transport)? {
            if body.len() + chunk.len() > max {
                return Err(FetchError::TooLarge(max));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Fetched { status: response.status(), headers: response.headers().clone(), body: body.freeze() })
    }
}

impl std::fmt::Debug for HttpClient {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("HttpClient").field("options", &self.inner.options).finish_non_exhaustive()
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

fn parse_url(text: &str) -> Result<Url, FetchError> {
    let invalid = || FetchError::InvalidUrl(text.to_owned());
    let url = Url::parse(text).map_err(|_| invalid())?;
    let is_plain = matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none();
    if is_plain && spells_its_address(&url, text) { Ok(url) } else { Err(invalid()) }
}

fn redirected(from: &Url, target: &str) -> Result<Url, FetchError> {
    let refused = || FetchError::Redirect(target.to_owned());
    if target.is_empty() {
        return Err(refused());
    }
    let url = from.join(target).map_err(|_| refused())?;
    let same_host = url.host() == from.host();
    let is_safe = (url.scheme() == from.scheme() || url.scheme() == "https")
        && url.username().is_empty()
        && url.password().is_none()
        && (same_host || spells_its_address(&url, target));
    if is_safe { Ok(url) } else { Err(refused()) }
}

/// The URL parser turns `0x7f.1` and `2130706433` into `127.0.0.1`; such spellings are invalid (`30` section 7.2).
fn spells_its_address(url: &Url, text: &str) -> bool {
    let Some(Host::Ipv4(ip)) = url.host() else { return url.host().is_some() };
    let Some((_, rest)) = text.split_once("//") else { return false };
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    host.parse::<IpAddr>() == Ok(ip.into())
}

/// Roots of the system and of `ca_file`. A system without any root leaves those of the file; nothing else is trusted.
fn trust_roots(ca_file: Option<PathBuf>) -> io::Result<rustls::ClientConfig> {
    let mut extra: Vec<CertificateDer<'static>> = Vec::new();
    if let Some(path) = ca_file {
        let pem = std::fs::read(&path)?;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            extra.push(certificate.map_err(io::Error::other)?);
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    match rustls_platform_verifier::Verifier::new_with_extra_roots(extra.iter().cloned(), provider) {
        Ok(verifier) => {
            Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth())
        }
        Err(error) => {
            tracing::warn!(%error, "the system's trust roots cannot be used");
            let mut roots = rustls::RootCertStore::empty();
            roots.add_parsable_certificates(extra);
            Ok(builder.with_root_certificates(roots).with_no_client_auth())
        }
    }
}

/// For plain `http` hops: no TLS happens, and nothing would be trusted if it did.
fn without_trust() -> rustls::ClientConfig {
    rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(rustls::DEFAULT_VERSIONS)
        .expect("the provider supports the default versions")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth()
}

/// The last cause: what the system, TLS or HTTP said, without the URL that reqwest repeats.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests;
