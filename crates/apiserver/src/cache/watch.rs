//! One watcher's ordered, gapless stream of events.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::watch as signal;

use super::log::{Last, Taken};
use super::{ClusterCache, ResourceLog};
use crate::store::readers::Readers;
use crate::store::{ClusterId, Event, Resource, StoreError, WatchError};

/// Every event of one resource after a revision, in revision order, none missing, none twice (SPEC 60 §9).
///
/// Owns a position, not a queue. Dropping it frees everything at once.
pub struct WatchStream {
    cluster: ClusterId,
    resource: Resource,
    cache: Arc<ClusterCache>,
    log: Arc<ResourceLog>,
    readers: Readers,
    changed: signal::Receiver<()>,
    /// The revision after which the stream ends.
    last: Last,
    /// Everything up to here is delivered or in `taken`.
    position: u64,
    /// The cluster's revision when the stream was made: what is older is backlog that the reader asked for.
    began: u64,
    taken: VecDeque<Arc<Event>>,
    finished: bool,
}

impl WatchStream {
    pub(crate) fn new(
        cluster: ClusterId,
        resource: &Resource,
        from: u64,
        cache: Arc<ClusterCache>,
        readers: Readers,
    ) -> Self {
        let log = cache.log(resource);
        let (changed, last) = log.subscribe();
        let began = cache.announced_revision();
        let taken = VecDeque::new();
        let resource = resource.clone();
        Self { cluster, resource, cache, log, readers, changed, last, position: from, began, taken, finished: false }
    }

    /// The next event, waiting for it. `None` after the streams of the resource were ended, the store was closed or
    /// an error was given. Safe to drop while it waits.
    pub async fn next(&mut self) -> Option<Result<Arc<Event>, WatchError>> {
        loop {
            // Marked as seen before looking, so that an event after the look wakes the wait below.
            self.changed.borrow_and_update();
            match self.step() {
                Step::Give(answer) => return answer,
                Step::ReadOlder { floor } => {
                    if let Err(error) = self.read_older(floor).await {
                        self.finished = true;
                        // The end of the store is no error of the stream.
                        let closed = matches!(error, WatchError::Store(StoreError::Closed));
                        return if closed { None } else { Some(Err(error)) };
                    }
                }
                Step::Wait => {
                    if self.changed.changed().await.is_err() {
                        self.finished = true;
                    }
                }
            }
        }
    }

    /// The next event if it is here; `None` when [`WatchStream::next`] would have to wait, read the disk, or end.
    pub fn try_next(&mut self) -> Option<Result<Arc<Event>, WatchError>> {
        match self.step() {
            Step::Give(answer) => answer,
            Step::ReadOlder { .. } | Step::Wait => None,
        }
    }

    /// A revision from which another watch would miss nothing that this one has not delivered yet: what a bookmark
    /// carries. `None` while there is something to deliver, or when the stream waits for a future revision.
    pub fn progress(&self) -> Option<u64> {
        // Read first: everything up to here is in the log, so an empty log means that it was delivered.
        let announced = self.cache.announced_revision();
        let drained = self.taken.is_empty() && !self.finished && self.log.is_drained(self.position);
        (drained && announced >= self.position).then_some(announced)
    }

    fn step(&mut self) -> Step {
        if let Some(event) = self.taken.pop_front() {
            return Step::Give(Some(Ok(event)));
        }
        if self.finished {
            return Step::Give(None);
        }
        match self.log.take(self.position, self.began, &self.last) {
            Taken::Nothing => {
                // The log has had every event up to `began` since the stream was made, and holds none of ours.
                self.position = self.position.max(self.began);
                Step::Wait
            }
            Taken::Older { floor } => Step::ReadOlder { floor },
            Taken::Events(events) => {
                self.hold(events);
                Step::Give(self.taken.pop_front().map(Ok))
            }
            Taken::Lagged { oldest } => {
                self.finished = true;
                Step::Give(Some(Err(WatchError::Lagged { reached: self.position, oldest })))
            }
            Taken::Ended => {
                self.finished = true;
                Step::Give(None)
            }
        }
    }

    async fn read_older(&mut self, floor: u64) -> Result<(), WatchError> {
        let (cluster, after) = (self.cluster, self.position);
        let chunk = self.readers.events(cluster, &self.resource, after, floor).await.map_err(WatchError::Store)?;
        if chunk.compacted > after {
            return Err(WatchError::Expired { requested: after, oldest: chunk.compacted });
        }
        self.hold(chunk.events);
        self.position = chunk.reached;
        Ok(())
    }

    fn hold(&mut self, events: Vec<Arc<Event>>) {
        self.position = events.last().map_or(self.position, |event| event.revision);
        self.taken = events.into();
    }
}

enum Step {
    Give(Option<Result<Arc<Event>, WatchError>>),
    ReadOlder { floor: u64 },
    Wait,
}
