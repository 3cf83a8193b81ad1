//! A process to live in.
//!
//! | module | gives |
//! |---|---|
//! | [`clock`] | the time; the only reader of the system's clocks |
//! | [`random`] | randomness and identifiers |
//! | [`tasks`] | named, tracked tasks that end on shutdown; caught panics |
//! | [`readiness`], [`metrics`] | what `/readyz` and `/metrics` answer from |
//! | [`config`] | flags, environment, file, defaults: one typed value with origins |
//! | [`data_dir`] | one process per data directory; files replaced atomically |
//! | [`address`] | where the product may connect (`30` section 7.2) |
//! | [`enforcement`] | the question that statuses wait for |
//! | [`mod@http_client`] | fetches of foreign documents under that policy |
//! | [`in_process`] | upstreams answered by this process |
//! | [`access_log`], [`logging`] | one line per request; the log of the process |
//! | [`reconcile`] | owned objects, statuses, events, back-off for reconcilers |
//!
//! Nothing here reads the environment: the binary does, once, and passes values.
#![warn(missing_docs)]

pub mod access_log;
pub mod address;
pub mod clock;
pub mod config;
pub mod data_dir;
pub mod enforcement;
pub mod http_client;
pub mod in_process;
pub mod logging;
pub mod metrics;
pub mod random;
pub mod readiness;
pub mod reconcile;
pub mod tasks;

pub use access_log::AccessLog;
pub use address::{AddressPolicy, AddressPolicyOptions, AddressRefusal, Cidr, Column, ColumnRules, ResolveError};
pub use clock::{Clock, ManualClock};
pub use data_dir::{DataDirLock, LockError, write_atomically};
pub use enforcement::Enforcement;
pub use http_client::{FetchError, Fetched, HttpClient, HttpClientOptions, http_client};
pub use in_process::{BoxBody, BoxError, InProcess, InProcessService, boxed};
pub use metrics::Metrics;
pub use random::{Ids, Random};
pub use readiness::{Readiness, ReadyCheck};
pub use reconcile::{
    Backoff, EventKind, EventNote, EventRecorder, StatusUpdate, StatusWriter, WriteError, Written, delete_owned,
    write_owned,
};
pub use tasks::Tasks;
