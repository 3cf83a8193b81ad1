//! What reconcilers share: writing what they own, statuses, events and back-off (`80` section 3.2).
//!
//! A reconciler knows only a `kube::Client`; nothing here depends on whether it is in process or over the network.

mod backoff;
mod events;
mod observe;
mod owned;
mod queue;
mod status;
#[cfg(test)]
mod testing;
mod watches;

pub use backoff::Backoff;
pub use events::{EventKind, EventNote, EventRecorder};
pub use observe::{InputEvent, Observed, observe, watch_inputs};
pub use owned::{WriteError, Written, delete_owned, write_owned};
pub use queue::WorkQueue;
pub use status::{StatusUpdate, StatusWriter};
pub use watches::{WatchReport, watches};

/// How often a write is repeated at once when somebody else changed the object in between (`30` section 2.7).
const CONFLICT_TRIES: usize = 5;

fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409 && status.reason == "Conflict")
}

fn is_already_exists(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409 && status.reason == "AlreadyExists")
}

fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}
