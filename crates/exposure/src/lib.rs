//! Reconcilers of crate `exposure`: what an `Api` object says becomes a status and Istio projections.
//!
//! ```text
//! watch (inputs, projections) -> policy::Index -> queue of Apis -> desired objects (render) -> runtime::write_owned
//!                                                               -> runtime::Enforcement -> status, Events
//! ```
//! | module | job |
//! |---|---|
//! | [`Exposure`] | wiring: watches, workers, resync |
//! | `reconcile` | one Api: writes, waits, status, finalizer |
//! | `render` | pure: a route model as VirtualService and Policy |
//! | `status` | pure: a verdict and what became of the writes as `ApiStatus` |
//! | `memory` | what is remembered of each Api between two looks at it |
//! | `owner` | the mark on generated objects |
//! | `projections` | the generated objects that exist |
//! | `bootstrap` | what exists after the first start: the shared Gateway and the mesh configuration |
//! | `unenforced` | tells users that an Istio object they wrote has no effect |
//!
//! Invariants: nothing generated is ever read as intent. A locked route is never written before its lock. Success is
//! never said before the gateway enforces it. Nothing is written when nothing changed.
//!
//! SPEC 30 §1, §2.

#![warn(missing_docs)]

mod bootstrap;
mod controller;
mod memory;
mod metrics;
mod owner;
mod projections;
mod reconcile;
mod render;
mod status;
mod unenforced;

pub use bootstrap::{BootstrapError, bootstrap};
pub use controller::{Dependencies, Exposure};
pub use unenforced::warning;

/// What the operator decides about the generated objects. SPEC 30 §11.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The gateway that generated VirtualServices name.
    pub gateway_fqdn: String,
    /// Whether generated Policies ask for mutual TLS between sidecars.
    pub policy_mtls: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { gateway_fqdn: "kyma-gateway.kyma-system.svc.cluster.local".to_owned(), policy_mtls: true }
    }
}

/// Field manager of every write.
const FIELD_MANAGER: &str = "tidegate-exposure";
