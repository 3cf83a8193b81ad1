//! What the operator decides about all exposures. SPEC 30 §11.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::{CorsPolicy, Domains};

/// An issuer of tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// Compared byte by byte with the claim `iss`.
    pub issuer: String,
    /// Where its keys are; `http` or `https`.
    pub jwks_uri: String,
}

/// What happens to an `Api` for a protected Service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProtectedMode {
    /// It may be exposed, but only with authentication.
    #[default]
    RequireAuth,
    /// It may not be exposed.
    Deny,
}

/// Options of compilation. They are fixed for the life of an [`crate::Index`].
#[derive(Clone, Debug)]
pub struct Options {
    /// The system's domains.
    pub domains: Domains,
    /// Whose tokens are needed when authentication is on without rules. `None`: such an `Api` is not served.
    pub default_issuer: Option<Issuer>,
    /// Protected Services as `service.namespace`.
    pub protected: BTreeSet<String>,
    /// What happens to an `Api` for a protected Service.
    pub protected_mode: ProtectedMode,
    /// CORS of every `Api`; `None` leaves it to the upstreams.
    pub cors: Option<Arc<CorsPolicy>>,
    /// System Services in `kyma-system` that this process answers itself, by name.
    pub in_process: BTreeSet<String>,
}

/// Services that are protected when the operator says nothing. SPEC 30 §2.4.
pub const DEFAULT_PROTECTED: [&str; 11] = [
    "kubernetes.default",
    "istiod.istio-system",
    "istio-ingressgateway.istio-system",
    "apiserver-proxy.kyma-system",
    "apiserver-proxy-ssl.kyma-system",
    "istio-citadel.istio-system",
    "istio-galley.istio-system",
    "istio-pilot.istio-system",
    "istio-policy.istio-system",
    "istio-sidecar-injector.istio-system",
    "istio-telemetry.istio-system",
];

impl Options {
    /// Defaults of SPEC 30 §11 for some domains, without CORS.
    pub fn new(domains: Domains) -> Self {
        Self {
            domains,
            default_issuer: None,
            protected: DEFAULT_PROTECTED.iter().map(|name| (*name).to_owned()).collect(),
            protected_mode: ProtectedMode::default(),
            cors: None,
            in_process: BTreeSet::new(),
        }
    }

    /// Whether a Service is protected.
    pub fn is_protected(&self, service: &str, namespace: &str) -> bool {
        self.protected.contains(&format!("{service}.{namespace}"))
    }
}
