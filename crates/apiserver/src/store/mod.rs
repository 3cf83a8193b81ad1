//! The object store: current state and a bounded event log in one SQLite file, one writer (SPEC 60 §20).
//!
//! ```text
//! write(op) ──bounded queue──▶ writer thread: take all waiting ─▶ BEGIN ─▶ op, op, op (savepoints) ─▶ COMMIT
//!                                                                                                     │
//! answer ◀── announce revision ◀── append to watch logs ◀── swap the cluster's view ◀─────────────────┘
//! ```
//!
//! - `txn`: what an operation may do; purely in memory.
//! - `writer`, `maintenance`: the one thread that writes; group commit, checkpoints, compaction, recovery.
//! - `rows`, `schema`, `readers`: SQL.
//! - Reads are served by [`crate::cache`] and never touch the database, but for old events.
//!
//! Invariants: an answer is given only after COMMIT returned; a revision is given out once; every revision has one
//! event in the same transaction as its state; nobody else ever writes to the file.

mod error;
mod key;
mod maintenance;
mod metrics;
mod object;
pub(crate) mod readers;
mod rows;
mod schema;
mod txn;
mod writer;

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tidegate_runtime::{Clock, Metrics, Readiness, Tasks};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

pub use self::error::{ListError, OpenError, PutError, StoreError, WatchError, WriteError};
pub use self::key::{ClusterId, Key, Name, Resource};
pub use self::object::{Event, EventKind, Object, watch_line};
use self::readers::Readers;
pub use self::txn::{MAX_OBJECT_BYTES, Txn};
use self::writer::{Call, Command};
use crate::cache::{ClusterCache, Clusters, Snapshot, View, WatchStream};

/// Operations that wait for the writer; more wait for a place.
const QUEUE: usize = 1_024;
/// Objects that one transaction of [`Store::delete_resource`] removes.
const DELETE_CHUNK: usize = 1_000;

/// When an acknowledged write is safe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Against power loss (`synchronous=FULL`).
    #[default]
    Full,
    /// Against the end of the process only; after an unclean stop revisions jump and watchers list again.
    Normal,
}

/// What the event log keeps: an event goes when it is older than `age` **and** not among the `newest` of its cluster.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    pub age: Duration,
    pub newest: u64,
    /// Time between two compactions.
    pub every: Duration,
}

/// SPEC 60 §20.2: 15 minutes, 10,000 events, every minute.
impl Default for Retention {
    fn default() -> Self {
        Self { age: Duration::from_mins(15), newest: 10_000, every: Duration::from_mins(1) }
    }
}

/// How to open a store.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// The database file; its directory exists and is locked by this process.
    pub path: PathBuf,
    pub durability: Durability,
    pub retention: Retention,
    /// Largest size of the database file in bytes; a write beyond it fails like one on a full disk.
    pub max_bytes: Option<u64>,
    pub clock: Clock,
    pub tasks: Tasks,
    pub readiness: Readiness,
    pub metrics: Metrics,
}

impl StoreOptions {
    /// Everything as specified; `path` is the database file.
    pub fn new(path: impl Into<PathBuf>, clock: Clock, tasks: Tasks, readiness: Readiness, metrics: Metrics) -> Self {
        Self {
            path: path.into(),
            durability: Durability::default(),
            retention: Retention::default(),
            max_bytes: None,
            clock,
            tasks,
            readiness,
            metrics,
        }
    }
}

/// A handle on the open store. Cheap to clone.
///
/// The writer ends, in order, on [`Store::close`] or when the last handle is dropped.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

struct Shared {
    commands: mpsc::Sender<Command>,
    clusters: Arc<Clusters>,
    names: BTreeMap<String, ClusterId>,
    readers: Readers,
    closed: Arc<AtomicBool>,
}

impl Store {
    /// Opens or creates the store, loads the current state and starts the writer's thread. Blocks meanwhile.
    ///
    /// Registers the readiness check `store` and the metrics of SPEC 60 §25.
    pub fn open(options: StoreOptions) -> Result<Self, OpenError> {
        let connection = schema::open_writer(&options)?;
        let loaded = rows::load(&connection)
            .map_err(|error| OpenError::Damaged { path: options.path.clone(), report: error.to_string() })?;
        let names = loaded.iter().map(|cluster| (cluster.name.clone(), cluster.id)).collect();
        let working: BTreeMap<_, _> = loaded.iter().map(|cluster| (cluster.id, cluster.view.clone())).collect();
        let clusters: Clusters = loaded
            .into_iter()
            .map(|cluster| (cluster.id, Arc::new(ClusterCache::new(cluster.view, cluster.compacted))))
            .collect();
        let clusters = Arc::new(clusters);
        let readers = Readers::new(&options.path, options.tasks.clone());
        let closed = Arc::new(AtomicBool::new(false));
        let (commands, receiver) = mpsc::channel(QUEUE);
        let parts = writer::Parts {
            connection,
            working,
            clusters: Arc::clone(&clusters),
            readers: readers.clone(),
            closed: Arc::clone(&closed),
        };
        writer::start(options, parts, receiver).map_err(OpenError::Thread)?;
        Ok(Self { shared: Arc::new(Shared { commands, clusters, names, readers, closed }) })
    }

    /// The cluster of that name. Only `root` exists so far.
    pub fn cluster(&self, name: &str) -> Option<ClusterId> {
        self.shared.names.get(name).copied()
    }

    /// Runs a read-modify-write operation in a transaction of the writer and returns its result once the
    /// transaction is durable and visible to readers and watchers. An `Err` of the operation undoes what it did.
    ///
    /// Dropping the future does not stop an operation that is already queued.
    pub async fn write<T, E, F>(&self, operation: F) -> Result<T, WriteError<E>>
    where
        F: FnOnce(&mut Txn<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        self.call(operation, false).await
    }

    /// Runs an operation like [`Store::write`] and throws its changes away (`dryRun=All`).
    pub async fn dry_run<T, E, F>(&self, operation: F) -> Result<T, WriteError<E>>
    where
        F: FnOnce(&mut Txn<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        self.call(operation, true).await
    }

    async fn call<T, E, F>(&self, operation: F, dry_run: bool) -> Result<T, WriteError<E>>
    where
        F: FnOnce(&mut Txn<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        let (call, answer) = Call::new(operation, dry_run);
        let closed = || WriteError::Store(StoreError::Closed);
        self.shared.commands.send(Command::Operation(Box::new(call))).await.map_err(|_| closed())?;
        answer.await.unwrap_or_else(|_| Err(closed()))
    }

    /// The whole state of a cluster, O(1). Every snapshot taken from it is of the same revision.
    pub fn view(&self, cluster: ClusterId) -> Arc<View> {
        self.cache(cluster).map_or_else(|| Arc::new(View::new(cluster, 0)), ClusterCache::view)
    }

    /// The objects of one resource, O(1).
    pub fn snapshot(&self, cluster: ClusterId, resource: &Resource) -> Snapshot {
        self.view(cluster).snapshot(resource)
    }

    pub fn get(&self, key: &Key) -> Option<Arc<Object>> {
        self.view(key.cluster).get(&key.resource, &key.name).cloned()
    }

    /// How many objects a resource has.
    pub fn count(&self, cluster: ClusterId, resource: &Resource) -> usize {
        self.snapshot(cluster, resource).len()
    }

    /// The newest revision of a cluster that is visible to readers.
    pub fn revision(&self, cluster: ClusterId) -> u64 {
        self.view(cluster).revision()
    }

    /// The highest revision whose event was compacted: a watch or an exact list from below it is `Expired`.
    pub fn compacted(&self, cluster: ClusterId) -> u64 {
        self.cache(cluster).map_or(0, ClusterCache::compacted)
    }

    /// Waits until the cluster has reached `revision` (SPEC 60 §8: the caller waits up to 3 s).
    pub async fn reached(&self, cluster: ClusterId, revision: u64) {
        let Some(cache) = self.cache(cluster) else { return std::future::pending().await };
        let mut announced = cache.announced();
        // The sender lives as long as the cache, so this ends only by reaching the revision.
        let _reached = announced.wait_for(|announced| *announced >= revision).await;
    }

    /// The objects of one resource as they were at `revision`: the further pages of a list, and exact lists.
    /// Costs the number of events of the resource since then.
    pub async fn list_at(&self, cluster: ClusterId, resource: &Resource, revision: u64) -> Result<Snapshot, ListError> {
        let unknown = || ListError::Future { requested: revision, current: 0 };
        let cache = self.cache(cluster).ok_or_else(unknown)?;
        let mut snapshot = cache.view().snapshot(resource);
        if revision > snapshot.revision {
            return Err(ListError::Future { requested: revision, current: snapshot.revision });
        }
        let expired = |oldest| ListError::Expired { requested: revision, oldest };
        if revision < cache.compacted() {
            return Err(expired(cache.compacted()));
        }
        // Until then the log may lack events that the snapshot contains.
        self.reached(cluster, snapshot.revision).await;
        let until = snapshot.revision;
        let mut undone = HashSet::new();
        if let Some(events) = cache.log(resource).between(revision, until) {
            snapshot.undo_all(&events, &mut undone);
        } else {
            let mut after = revision;
            while after < until {
                let chunk =
                    self.shared.readers.events(cluster, resource, after, until).await.map_err(ListError::Store)?;
                if chunk.compacted > after {
                    return Err(expired(chunk.compacted));
                }
                snapshot.undo_all(&chunk.events, &mut undone);
                after = chunk.reached;
            }
        }
        snapshot.revision = revision;
        Ok(snapshot)
    }

    /// Every event of a resource after revision `from`. A `from` in the future delivers nothing up to it.
    pub fn watch(&self, cluster: ClusterId, resource: &Resource, from: u64) -> Result<WatchStream, WatchError> {
        let closed = || WatchError::Store(StoreError::Closed);
        let cache = self.shared.clusters.get(&cluster).ok_or_else(closed)?;
        let oldest = cache.compacted();
        if from < oldest {
            return Err(WatchError::Expired { requested: from, oldest });
        }
        let stream = WatchStream::new(cluster, resource, from, Arc::clone(cache), self.shared.readers.clone());
        // Looked at after the stream was made: from then on closing ends it.
        if self.shared.closed.load(Ordering::Acquire) { Err(closed()) } else { Ok(stream) }
    }

    /// Lets the streams of a resource that exist now deliver what happened so far and end: its definition was
    /// removed or its schema changed, clients list again.
    pub fn end_watches(&self, cluster: ClusterId, resource: &Resource) {
        if let Some(cache) = self.cache(cluster) {
            cache.end_watches(Some(resource));
        }
    }

    /// Removes every object of a resource, each with its event, in transactions of 1,000; returns how many.
    pub async fn delete_resource(&self, cluster: ClusterId, resource: &Resource) -> Result<usize, StoreError> {
        let mut total = 0;
        loop {
            let resource = resource.clone();
            let chunk = self
                .write(move |txn| Ok::<_, std::convert::Infallible>(txn.delete_some(cluster, &resource, DELETE_CHUNK)));
            let deleted = match chunk.await {
                Ok(deleted) => deleted,
                Err(WriteError::Store(error)) => return Err(error),
                Err(WriteError::Refused(never)) => match never {},
            };
            total += deleted;
            if deleted < DELETE_CHUNK {
                return Ok(total);
            }
        }
    }

    /// The objects of a cluster that name `owner` in their `metadata.ownerReferences`, from the persistent index.
    pub async fn dependents(&self, cluster: ClusterId, owner: Uuid) -> Result<Vec<Key>, StoreError> {
        self.shared.readers.dependents(cluster, owner).await
    }

    /// Compacts the event log now instead of at the next turn.
    pub async fn compact(&self) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.shared.commands.send(Command::Compact(reply)).await.map_err(|_| StoreError::Closed)?;
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Finishes what is queued, ends all watches, makes a last checkpoint and closes the file. Later writes and
    /// watches are refused, reads from memory go on.
    pub async fn close(&self) {
        let (reply, answer) = oneshot::channel();
        if self.shared.commands.send(Command::Close(reply)).await.is_ok() {
            // An error means that the writer is gone, which is what was asked for.
            let _gone = answer.await;
        }
    }

    fn cache(&self, cluster: ClusterId) -> Option<&ClusterCache> {
        self.shared.clusters.get(&cluster).map(|cache| &**cache)
    }
}
