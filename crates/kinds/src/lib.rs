//! Kubernetes kinds the product reads or writes: types, defaults, validation, CRD manifests.
//!
//! | module | holds |
//! |---|---|
//! | [`api`] | `Api` of `gateway.kyma-project.io/v1alpha2`, specification and status |
//! | [`istio`] | the Istio kinds: what we render (projections) and what we read (`Gateway`, hosts of `VirtualService`) |
//! | [`crd`] | the CustomResourceDefinitions of all of them, generated from the types |
//!
//! This crate never does I/O, never reads a clock and never decides: conflicts, security and routes
//! are the business of crate `policy`.
#![warn(missing_docs)]

pub mod api;
pub mod crd;
pub mod istio;

pub use api::{Api, ApiSpec, ApiStatus};
pub use crd::crds;

/// Label on objects that the product makes for itself. It counts only on the product's own objects (SPEC 00, system hosts).
pub const SYSTEM_LABEL: &str = "tidegate.io/system";

/// Namespace of the product's own objects and of the shared `Gateway`.
pub const SYSTEM_NAMESPACE: &str = "kyma-system";
