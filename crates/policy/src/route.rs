//! What one object means for requests. Both back ends are made from it: the gateway's table and the Istio projections.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use tidegate_kinds::ApiSpec;

use crate::{CorsPolicy, Guard, ObjectRef};

/// Time until the upstream's response headers for an `Api`. SPEC 30 §6.8.
pub const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_mins(3);

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceRef {
    /// Namespace of the Service.
    pub namespace: String,
    /// Name of the Service.
    pub name: String,
    /// Port of the Service, not the target port.
    pub port: u16,
}

/// The compiled form of one object's specification: one host, all paths and methods, one Service.
#[derive(Clone, Debug)]
pub struct RouteModel {
    /// The object that the route comes from.
    pub object: ObjectRef,
    /// Identity of the object: a deleted and re-created one is another.
    pub uid: String,
    /// `metadata.generation` of the specification; 0 for an earlier one whose generation nobody remembers.
    pub generation: i64,
    /// Full host name in lower case.
    pub host: String,
    /// Where requests go.
    pub service: ServiceRef,
    /// Who may pass.
    pub guard: Guard,
    /// What browsers are told; `None` leaves CORS to the upstream.
    pub cors: Option<Arc<CorsPolicy>>,
    /// Time until the upstream's response headers.
    pub timeout: Duration,
    /// What becomes of the token on the way to the upstream.
    pub token: TokenForwarding,
    /// The specification as the user wrote it, for rendering and for `status.enforcedSpec`.
    pub written: Arc<ApiSpec>,
}

impl PartialEq for RouteModel {
    /// Compiled parts follow from the others and from the options, which do not change within a process.
    fn eq(&self, other: &Self) -> bool {
        self.object == other.object
            && self.uid == other.uid
            && self.generation == other.generation
            && self.host == other.host
            && self.cors.is_some() == other.cors.is_some()
            && self.token == other.token
            && self.written == other.written
    }
}

impl Eq for RouteModel {}

/// What the upstream sees of the token. SPEC 30 §5.5.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenForwarding {
    /// Remove the token from the request (`tidegate.io/strip-token`).
    pub strip: bool,
    /// Headers set from claims (`tidegate.io/claim-headers`); a client's own copies are removed first, on every
    /// request.
    pub claim_headers: Box<[(HeaderName, String)]>,
}

/// A route as it hangs in the table: the model and what the gateway built for it once, at publication.
#[derive(Debug)]
pub struct Route<X> {
    /// What the route means.
    pub model: Arc<RouteModel>,
    /// Pool, metric and key handles of the gateway.
    pub handle: X,
}
