//! What keeps the cluster in shape by itself: definitions, namespaces, events.
//!
//! | controller | does |
//! |---|---|
//! | [`bootstrap`] | creates at start what always exists |
//! | [`definitions`] | establishes CustomResourceDefinitions, publishes what is served, cleans up after deleted ones |
//! | [`namespaces`] | keeps what every namespace has, empties the ones that are going away |
//! | [`events`] | removes events an hour after they were last seen |
//!
//! They follow the store's watch streams, so that a change is acted on at once; nothing here polls but what waits for
//! somebody else's finalizers.

pub mod bootstrap;
pub mod definitions;
pub mod events;
pub mod namespaces;

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::cache::WatchStream;
use crate::http::Shared;
use crate::http::meta;
use crate::status::ApiError;
use crate::store::{ClusterId, Event, Key, PutError, Resource, Txn, WatchError, WriteError};

/// How often leftovers that wait for somebody's finalizers are looked at, and failed writes repeated.
const AGAIN: Duration = Duration::from_millis(100);

/// Follows one resource of the root cluster without an end: a stream that fell behind or was ended begins anew, which
/// the follower sees as [`Step::Restarted`].
struct Follower {
    shared: Arc<Shared>,
    resource: Resource,
    stream: Option<WatchStream>,
}

enum Step {
    Changed(Arc<Event>),
    /// Everything may have changed; look at the whole state.
    Restarted,
}

impl Follower {
    fn new(shared: &Arc<Shared>, group: &str, plural: &str) -> Self {
        Self { shared: Arc::clone(shared), resource: Resource::new(group, plural), stream: None }
    }

    /// The next change; the first step is always [`Step::Restarted`]. `None` once the store is closed. Safe to drop.
    async fn next(&mut self) -> Option<Step> {
        loop {
            let Some(stream) = &mut self.stream else {
                let store = &self.shared.store;
                match store.watch(ClusterId::ROOT, &self.resource, store.revision(ClusterId::ROOT)) {
                    Ok(stream) => self.stream = Some(stream),
                    Err(WatchError::Store(_)) => return None,
                    Err(WatchError::Expired { .. } | WatchError::Lagged { .. }) => continue,
                }
                return Some(Step::Restarted);
            };
            match stream.next().await {
                Some(Ok(event)) => return Some(Step::Changed(event)),
                Some(Err(_)) | None => self.stream = None,
            }
        }
    }

    /// Takes what is there already, so that a burst is acted on once.
    fn drain(&mut self) {
        if let Some(stream) = &mut self.stream {
            while let Some(Ok(_)) = stream.try_next() {}
        }
    }
}

/// Deletes an object the way a client would: finalizers are honored. Nothing happens to one that is gone already.
fn remove(txn: &mut Txn<'_>, key: &Key) -> Result<(), PutError> {
    let Some(object) = txn.get(key) else { return Ok(()) };
    let mut value = Value::clone(object.body());
    if meta::finalizers(&value).is_empty() {
        txn.delete(key);
    } else if !meta::is_deleting(&value) {
        let metadata = meta::of(&mut value);
        metadata.insert("deletionTimestamp".to_owned(), meta::time(txn.now()).into());
        metadata.insert("deletionGracePeriodSeconds".to_owned(), 0.into());
        txn.put(key, value)?;
    }
    Ok(())
}

/// Runs an operation; a store that cannot write now is tried again until shutdown. `None` at shutdown or when the
/// operation itself was refused, which is logged.
async fn write<T, F>(shared: &Shared, what: &'static str, operation: F) -> Option<T>
where
    F: Fn(&mut Txn<'_>) -> Result<T, ApiError> + Clone + Send + 'static,
    T: Send + 'static,
{
    loop {
        match shared.store.write(operation.clone()).await {
            Ok(done) => return Some(done),
            Err(WriteError::Refused(error)) => {
                tracing::error!("{what}: {error}");
                return None;
            }
            Err(WriteError::Store(error)) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "{what}: {error}; trying again");
            }
        }
        tokio::select! {
            () = shared.tasks.shutdown().cancelled() => return None,
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
    }
}
