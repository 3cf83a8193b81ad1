//! Kubernetes-compatible API server over an embedded object store, with an in-process client.

pub mod admission;
pub mod authn;
pub mod builtin;
pub mod cache;
pub mod client;
pub mod control_plane;
pub mod controllers;
pub mod crd;
pub mod decode;
pub mod discovery;
pub mod http;
pub mod jsonpath;
pub mod metrics;
pub mod names;
pub mod openapi;
pub mod patch;
pub mod protobuf;
pub mod registry;
pub mod request_info;
pub mod schema;
pub mod selector;
pub mod serve;
pub mod status;
pub mod store;
pub mod table;
pub mod trust;

pub use admission::{Advice, Subject};
pub use control_plane::{Config, ControlPlane, ControlPlaneError, Options};
