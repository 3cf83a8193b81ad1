//! Compiles exposure objects into a route table and decides about one request; pure.
//!
//! | module | answers |
//! |---|---|
//! | [`host`], [`path`] | which host and path a request names, in the one form that everything else compares |
//! | [`headers`] | which header lines of a client are kept, and which we set |
//! | [`cors`] | what a browser is told |
//! | [`compile`], [`route`], [`guard`] | what one object means: its [`RouteModel`] |
//! | [`index`] | what all objects together mean: who holds a host or a Service, incrementally |
//! | [`upstream`] | where the requests of a Service go |
//! | [`tls`] | which certificate and client-certificate rule a host has |
//! | [`table`] | the sharded table that requests are looked up in |
//! | [`decision`] | `decide`: allowed, or refused with a reason |
//!
//! Invariants: no I/O, no async, no clock, no randomness but the hash seed of the table. Nothing here formats, parses or
//! looks up by name per request beyond the request's own host and path. A decision never allows what no rule allows.
#![warn(missing_docs)]

pub mod compile;
pub mod cors;
pub mod decision;
pub mod guard;
pub mod headers;
pub mod host;
pub mod index;
pub mod object;
pub mod options;
pub mod path;
pub mod path_set;
pub mod reason;
pub mod route;
pub mod table;
pub mod tls;
pub mod upstream;

pub use cors::CorsPolicy;
pub use decision::{Allowed, Decision, Denied, RequestFacts, Scheme, Verified, decide};
pub use guard::{Guard, JwtRule, RuleSet};
pub use host::{Domains, Host, HostError};
pub use index::{Change, Index, Input, Verdict};
pub use object::{ObjectKind, ObjectRef};
pub use options::{Issuer, Options, ProtectedMode};
pub use path::{NormalizedPath, PathError};
pub use reason::Reason;
pub use route::{Route, RouteModel, ServiceRef, TokenForwarding};
pub use table::{NoRoute, Selected, Table, TableWriter};
pub use tls::TlsPlan;
pub use upstream::{Endpoint, EndpointHost, PoolSpec, Protocol, Upstream, UpstreamProblem};
