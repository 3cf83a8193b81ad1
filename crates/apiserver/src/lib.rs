//! Kubernetes-compatible API server over an embedded object store, with an in-process client.

pub mod names;
pub mod status;
