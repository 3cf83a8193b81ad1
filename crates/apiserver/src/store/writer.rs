//! The one thread that writes: group commit (SPEC 60 §20.2, 70 R30).
//!
//! | step | what |
//! |---|---|
//! | take | everything waiting, at most 1,024 operations; no artificial delay |
//! | run | each operation in memory, then its rows inside a savepoint; one that fails is undone alone |
//! | commit | `COMMIT`; when it fails the whole batch is undone and every operation of it answered with the error |
//! | publish | view, watch logs, revision |
//! | answer | the callers |
//! | maintain | a slice of compaction, a checkpoint, a probe after an outage |
//!
//! The thread ends only when the store is closed. Errors of the disk are answered, shown by `/readyz`, and retried.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{io, thread};

use rusqlite::Connection;
use tidegate_runtime::Clock;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};

use super::maintenance::Maintenance;
use super::metrics::StoreMetrics;
use super::readers::Readers;
use super::{ClusterId, Event, StoreError, StoreOptions, Txn, WriteError, rows, schema};
use crate::cache::{Clusters, View};

/// Operations of one transaction.
const BATCH: usize = 1_024;
/// Longest sleep while nothing happens; due work wakes the thread earlier.
const IDLE: Duration = Duration::from_mins(1);

/// What is sent to the writer.
pub(crate) enum Command {
    Operation(Box<dyn Operation>),
    Compact(oneshot::Sender<Result<(), StoreError>>),
    Close(oneshot::Sender<()>),
}

/// A queued operation with the place its answer goes to.
pub(crate) trait Operation: Send {
    fn is_dry_run(&self) -> bool;
    /// Runs once; whether its changes are to be kept.
    fn run(&mut self, txn: &mut Txn<'_>) -> bool;
    /// Gives the operation's own result, or the store's failure, to the caller.
    fn answer(self: Box<Self>, failure: Option<StoreError>);
}

/// The one implementation of [`Operation`].
pub(crate) struct Call<T, E, F> {
    operation: Option<F>,
    dry_run: bool,
    result: Option<Result<T, E>>,
    reply: oneshot::Sender<Result<T, WriteError<E>>>,
}

impl<T, E, F> Call<T, E, F> {
    pub(crate) fn new(operation: F, dry_run: bool) -> (Self, oneshot::Receiver<Result<T, WriteError<E>>>) {
        let (reply, answer) = oneshot::channel();
        (Self { operation: Some(operation), dry_run, result: None, reply }, answer)
    }
}

impl<T, E, F> Operation for Call<T, E, F>
where
    F: FnOnce(&mut Txn<'_>) -> Result<T, E> + Send,
    T: Send,
    E: Send,
{
    fn is_dry_run(&self) -> bool {
        self.dry_run
    }

    fn run(&mut self, txn: &mut Txn<'_>) -> bool {
        self.result = self.operation.take().map(|operation| operation(txn));
        matches!(self.result, Some(Ok(_))) && !self.dry_run
    }

    fn answer(self: Box<Self>, failure: Option<StoreError>) {
        let answer = match (failure, self.result) {
            (Some(failure), _) => Err(WriteError::Store(failure)),
            (None, Some(result)) => result.map_err(WriteError::Refused),
            // It never ran: the store was closed before.
            (None, None) => Err(WriteError::Store(StoreError::Closed)),
        };
        // The caller may have gone away; the write stands.
        let _gone = self.reply.send(answer);
    }
}

/// What the thread takes over from `Store::open`.
pub(crate) struct Parts {
    pub(crate) connection: Connection,
    pub(crate) working: BTreeMap<ClusterId, View>,
    pub(crate) clusters: Arc<Clusters>,
    pub(crate) readers: Readers,
    pub(crate) closed: Arc<AtomicBool>,
}

/// Starts the writer's thread.
pub(crate) fn start(options: StoreOptions, parts: Parts, commands: mpsc::Receiver<Command>) -> io::Result<()> {
    let metrics = StoreMetrics::register(&options, &parts.clusters);
    let check = options.readiness.register("store");
    check.ready();
    // Only its timer is used: a wait on the queue that ends when maintenance is due.
    let timer = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let maintenance = Maintenance::new(&options, check, metrics.clone());
    let writer = Writer { parts, commands, clock: options.clock, metrics, maintenance };
    thread::Builder::new().name("store-writer".to_owned()).spawn(move || writer.run(&timer)).map(drop)
}

struct Writer {
    parts: Parts,
    commands: mpsc::Receiver<Command>,
    clock: Clock,
    metrics: StoreMetrics,
    maintenance: Maintenance,
}

/// Why the thread ends.
enum End {
    Asked(oneshot::Sender<()>),
    Abandoned,
}

impl Writer {
    fn run(mut self, timer: &tokio::runtime::Runtime) {
        let end = loop {
            let command = match self.commands.try_recv() {
                Ok(command) => command,
                Err(TryRecvError::Disconnected) => break End::Abandoned,
                Err(TryRecvError::Empty) => {
                    if self.maintenance.slice(&mut self.parts, true) {
                        continue;
                    }
                    let wait = self.maintenance.due_in().min(IDLE);
                    // The timeout is made inside the runtime whose timer it uses.
                    let next = timer.block_on(async { tokio::time::timeout(wait, self.commands.recv()).await });
                    match next {
                        Ok(Some(command)) => command,
                        Ok(None) => break End::Abandoned,
                        Err(_due) => continue,
                    }
                }
            };
            if let Some(end) = self.handle(command) {
                break end;
            }
            // Under constant load maintenance gets a slice between two batches.
            self.maintenance.slice(&mut self.parts, false);
        };
        self.finish(end);
    }

    /// Executes a command together with all operations that wait behind it.
    fn handle(&mut self, first: Command) -> Option<End> {
        let mut batch = Vec::new();
        let mut next = Some(first);
        while let Some(command) = next.take() {
            match command {
                Command::Operation(operation) => batch.push(operation),
                Command::Compact(reply) => {
                    self.commit(std::mem::take(&mut batch));
                    // Who asked may have gone away.
                    let _gone = reply.send(self.maintenance.compact(&mut self.parts));
                }
                Command::Close(reply) => {
                    self.commit(batch);
                    return Some(End::Asked(reply));
                }
            }
            if batch.len() < BATCH {
                next = self.commands.try_recv().ok();
            }
        }
        self.commit(batch);
        None
    }

    /// Runs a batch in one transaction and answers every operation of it.
    fn commit(&mut self, mut batch: Vec<Box<dyn Operation>>) {
        if batch.is_empty() {
            return;
        }
        let started = self.clock.instant();
        let mut transaction = Batch::new(&self.parts.working, &self.clock);
        let mut failures = Vec::with_capacity(batch.len());
        for operation in &mut batch {
            match transaction.run(&self.parts.connection, &mut **operation) {
                Ok(()) => failures.push(None),
                Err(Failure::Operation(error)) => {
                    self.maintenance.note(&error);
                    failures.push(Some(error));
                }
                Err(Failure::Batch(error)) => return self.abandon(batch, &error),
            }
        }
        let Batch { working, events, .. } = match transaction.commit(&self.parts.connection) {
            Ok(committed) => committed,
            Err(error) => return self.abandon(batch, &error),
        };
        if !events.is_empty() {
            self.publish(working, &events);
            self.metrics.committed(self.clock.instant() - started, batch.len());
            self.maintenance.note_commit();
        }
        for (operation, failure) in batch.into_iter().zip(failures) {
            operation.answer(failure);
        }
    }

    fn publish(&mut self, working: BTreeMap<ClusterId, View>, events: &[Arc<Event>]) {
        let mut by_cluster: BTreeMap<ClusterId, Vec<Arc<Event>>> = BTreeMap::new();
        for event in events {
            by_cluster.entry(event.object.key.cluster).or_default().push(Arc::clone(event));
        }
        for (cluster, events) in by_cluster {
            if let (Some(cache), Some(view)) = (self.parts.clusters.get(&cluster), working.get(&cluster)) {
                cache.publish(view.clone(), &events);
            }
        }
        self.parts.working = working;
    }

    /// Nothing of the batch was written. Refusals are not passed on either: they may rest on writes that are gone.
    fn abandon(&mut self, batch: Vec<Box<dyn Operation>>, error: &StoreError) {
        if !self.parts.connection.is_autocommit()
            && let Err(error) = self.parts.connection.execute_batch("ROLLBACK")
        {
            tracing::error!("the object store cannot roll back: {error}");
        }
        self.maintenance.note(error);
        for operation in batch {
            operation.answer(Some(error.clone()));
        }
    }

    fn finish(mut self, end: End) {
        self.parts.closed.store(true, Ordering::Release);
        self.commands.close();
        for cache in self.parts.clusters.values() {
            cache.end_watches(None);
        }
        self.parts.readers.close();
        let connection = &self.parts.connection;
        let checkpoint = || connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        if let Err(error) = schema::mark_stop(connection, "clean").and_then(|()| checkpoint()) {
            // The next start checks the file and reads the WAL.
            tracing::warn!("the object store could not be closed cleanly: {error}");
        }
        while self.commands.try_recv().is_ok() {
            // Dropping a queued command answers its caller with `Closed`.
        }
        let Parts { connection, .. } = self.parts;
        drop(connection);
        if let End::Asked(reply) = end {
            // Who asked may have gone away.
            let _gone = reply.send(());
        }
    }
}

/// Whom an error concerns.
enum Failure {
    Operation(StoreError),
    Batch(StoreError),
}

/// A transaction in the making.
struct Batch {
    working: BTreeMap<ClusterId, View>,
    events: Vec<Arc<Event>>,
    now: jiff::Timestamp,
}

impl Batch {
    fn new(working: &BTreeMap<ClusterId, View>, clock: &Clock) -> Self {
        Self { working: working.clone(), events: Vec::new(), now: clock.now() }
    }

    fn run(&mut self, connection: &Connection, operation: &mut dyn Operation) -> Result<(), Failure> {
        let mut txn = Txn::new(&self.working, operation.is_dry_run(), self.now);
        // The transaction's state is dropped when the operation panics, so nothing half-done is seen again.
        let kept = catch_unwind(AssertUnwindSafe(|| operation.run(&mut txn)))
            .map_err(|_panic| Failure::Operation(StoreError::Panicked))?;
        let (touched, events) = txn.into_changes();
        if !kept || events.is_empty() {
            return Ok(());
        }
        let execute = |sql: &str| connection.prepare_cached(sql)?.execute([]).map(drop);
        // Refused operations and those that only read need no transaction.
        if connection.is_autocommit() {
            execute("BEGIN IMMEDIATE").map_err(|error| Failure::Batch(error.into()))?;
        }
        execute("SAVEPOINT operation").map_err(|error| Failure::Batch(error.into()))?;
        let applied = events.iter().try_for_each(|event| rows::apply(connection, event, self.now));
        if let Err(error) = applied {
            // Some errors (a full disk among them) end the whole transaction.
            if connection.is_autocommit() {
                return Err(Failure::Batch(error.into()));
            }
            execute("ROLLBACK TO operation")
                .and_then(|()| execute("RELEASE operation"))
                .map_err(|error| Failure::Batch(error.into()))?;
            return Err(Failure::Operation(error.into()));
        }
        execute("RELEASE operation").map_err(|error| Failure::Batch(error.into()))?;
        self.working.extend(touched);
        self.events.extend(events);
        Ok(())
    }

    fn commit(self, connection: &Connection) -> Result<Self, StoreError> {
        if connection.is_autocommit() {
            return Ok(self);
        }
        let mut revisions: BTreeMap<ClusterId, u64> = BTreeMap::new();
        for event in &self.events {
            revisions.insert(event.object.key.cluster, event.revision);
        }
        for (cluster, revision) in revisions {
            connection
                .prepare_cached("UPDATE clusters SET seq = ?2 WHERE id = ?1")?
                .execute((cluster.0, rows::revision_to_sql(revision)))?;
        }
        connection.prepare_cached("COMMIT")?.execute([])?;
        Ok(self)
    }
}
