//! The watch cache: what readers and watchers see (SPEC 60 §20.3).
//!
//! Every read comes from here, never from the database. The state of a cluster is one immutable [`View`] behind an
//! atomic pointer: taking a snapshot is O(1), and a snapshot of one resource belongs to the same revision as every
//! other. After a COMMIT the writer (1) swaps the view, (2) appends the events to the logs, (3) announces the
//! revision, in this order: whoever sees an event also reads a state that contains it, and whoever waits for a
//! revision finds its events in the logs.

mod log;
mod view;
mod watch;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use parking_lot::RwLock;
use tokio::sync::watch as signal;

pub(crate) use self::log::ResourceLog;
pub use self::view::{Snapshot, View};
pub use self::watch::WatchStream;
use crate::store::{ClusterId, Event, Resource};

/// The published state of one logical cluster.
pub(crate) struct ClusterCache {
    view: ArcSwap<View>,
    logs: RwLock<HashMap<Resource, Arc<ResourceLog>>>,
    /// Revision at start: a log holds every later event of its resource, however late it was made.
    floor: u64,
    compacted: AtomicU64,
    /// All events up to this revision are in the logs.
    announced: signal::Sender<u64>,
}

impl ClusterCache {
    pub(crate) fn new(view: View, compacted: u64) -> Self {
        let floor = view.revision();
        Self {
            view: ArcSwap::from_pointee(view),
            logs: RwLock::default(),
            floor,
            compacted: AtomicU64::new(compacted),
            announced: signal::Sender::new(floor),
        }
    }

    pub(crate) fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    pub(crate) fn compacted(&self) -> u64 {
        self.compacted.load(Ordering::Acquire)
    }

    pub(crate) fn set_compacted(&self, revision: u64) {
        self.compacted.store(revision, Ordering::Release);
    }

    pub(crate) fn announced(&self) -> signal::Receiver<u64> {
        self.announced.subscribe()
    }

    pub(crate) fn announced_revision(&self) -> u64 {
        *self.announced.borrow()
    }

    /// The log of a resource, made on first use.
    pub(crate) fn log(&self, resource: &Resource) -> Arc<ResourceLog> {
        if let Some(log) = self.logs.read().get(resource) {
            return Arc::clone(log);
        }
        let mut logs = self.logs.write();
        Arc::clone(logs.entry(resource.clone()).or_insert_with(|| Arc::new(ResourceLog::new(self.floor))))
    }

    /// Makes a committed batch visible. Called by the writer only; `events` in revision order.
    pub(crate) fn publish(&self, view: View, events: &[Arc<Event>]) {
        let revision = view.revision();
        self.view.store(Arc::new(view));
        let mut by_resource: BTreeMap<&Resource, Vec<Arc<Event>>> = BTreeMap::new();
        for event in events {
            by_resource.entry(&event.object.key.resource).or_default().push(Arc::clone(event));
        }
        for (resource, events) in by_resource {
            self.log(resource).append(events);
        }
        self.announced.send_replace(revision);
    }

    /// Ends every stream of one resource, or of all, after the events known now.
    pub(crate) fn end_watches(&self, resource: Option<&Resource>) {
        match resource {
            Some(resource) => self.log(resource).end_streams(),
            None => self.logs.read().values().for_each(|log| log.end_streams()),
        }
    }
}

/// All logical clusters by id.
pub(crate) type Clusters = BTreeMap<ClusterId, Arc<ClusterCache>>;
