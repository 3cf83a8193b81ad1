//! What the writer does between batches: compaction, checkpoints, recovery from an outage.
//!
//! Everything is done in slices of one short transaction, so that writers never wait long.

use std::cell::Cell;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rusqlite::hooks::Wal;
use rusqlite::{Connection, params};
use tidegate_runtime::{Clock, ReadyCheck};

use super::metrics::StoreMetrics;
use super::rows::{revision_from_sql, revision_to_sql};
use super::writer::Parts;
use super::{ClusterId, Retention, StoreError, StoreOptions};

/// SPEC 60 §20.2: rows of one compaction transaction.
const COMPACT_ROWS: usize = 2_000;
/// SPEC 70 R30: pages in the WAL from which an idle writer makes a checkpoint.
const CHECKPOINT_PAGES: i32 = 4_000;
/// SPEC 60 §20.2: size from which the WAL is cut, idle or not.
const WAL_BYTES: u64 = 64 << 20;
/// A pause this long counts as idle.
const IDLE_PAUSE: Duration = Duration::from_millis(20);
/// How long a checkpoint that cuts the WAL waits for readers.
const CUT_WAIT: Duration = Duration::from_millis(200);
/// Between two attempts to cut a WAL that readers hold.
const CUT_AGAIN: Duration = Duration::from_secs(5);
/// Unused pages given back to the file system at once, and the number from which that is worth it.
const VACUUM_PAGES: i64 = 2_000;
/// Between probes of a store that could not write.
const PROBE_FIRST: Duration = Duration::from_millis(100);
const PROBE_LAST: Duration = Duration::from_secs(30);

thread_local! {
    /// Pages in the WAL after the last commit. SQLite's hook is a plain function and each writer has its thread.
    static WAL_PAGES: Cell<i32> = const { Cell::new(0) };
}

#[expect(clippy::unnecessary_wraps, reason = "the type of SQLite's hook")]
fn note_wal_pages(_: &Wal, pages: i32) -> rusqlite::Result<()> {
    WAL_PAGES.set(pages);
    Ok(())
}

/// The state of the writer's side work.
pub(crate) struct Maintenance {
    clock: Clock,
    check: ReadyCheck,
    metrics: StoreMetrics,
    retention: Retention,
    wal: PathBuf,
    hooked: bool,
    next_compaction: Instant,
    /// Clusters that the compaction under way has still to do.
    compacting: Vec<ClusterId>,
    last_activity: Instant,
    next_cut: Instant,
    outage: Option<Outage>,
}

/// Since the last write failed.
struct Outage {
    next_probe: Instant,
    delay: Duration,
}

impl Maintenance {
    pub(crate) fn new(options: &StoreOptions, check: ReadyCheck, metrics: StoreMetrics) -> Self {
        let now = options.clock.instant();
        let mut wal = options.path.clone().into_os_string();
        wal.push("-wal");
        Self {
            clock: options.clock.clone(),
            check,
            metrics,
            retention: options.retention,
            wal: wal.into(),
            hooked: false,
            next_compaction: now + options.retention.every,
            compacting: Vec::new(),
            last_activity: now,
            next_cut: now,
            outage: None,
        }
    }

    /// Does one piece of due work; whether there was any.
    pub(crate) fn slice(&mut self, parts: &mut Parts, idle: bool) -> bool {
        if !self.hooked {
            // Here, because the hook belongs to the writer's thread.
            parts.connection.wal_hook(Some(note_wal_pages));
            self.hooked = true;
        }
        let now = self.clock.instant();
        if let Some(outage) = &self.outage
            && outage.next_probe <= now
        {
            self.probe(&parts.connection);
            return true;
        }
        if self.compacting.is_empty() && self.next_compaction <= now {
            self.begin_compaction(parts);
        }
        if !self.compacting.is_empty() {
            if let Err(error) = self.compact_slice(parts) {
                self.note(&error);
            }
            return true;
        }
        self.checkpoint(&parts.connection, idle, now)
    }

    /// Time until there is work, if nothing else happens.
    pub(crate) fn due_in(&self) -> Duration {
        let now = self.clock.instant();
        let compaction = self.next_compaction.saturating_duration_since(now);
        let probe = self.outage.as_ref().map(|outage| outage.next_probe.saturating_duration_since(now));
        let checkpoint = (WAL_PAGES.get() >= CHECKPOINT_PAGES).then_some(IDLE_PAUSE);
        // Never zero: the caller has just found nothing to do.
        [Some(compaction), probe, checkpoint]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(compaction)
            .max(Duration::from_millis(1))
    }

    /// Takes notice of a failed write.
    pub(crate) fn note(&mut self, error: &StoreError) {
        if !error.is_outage() {
            return;
        }
        self.check.failed(error.to_string());
        let now = self.clock.instant();
        if self.outage.is_none() {
            let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
            tracing::error!("{error}: {cause}; reads go on, writes are refused until it works again");
            self.outage = Some(Outage { next_probe: now + PROBE_FIRST, delay: PROBE_FIRST });
        }
    }

    /// Takes notice of a commit.
    pub(crate) fn note_commit(&mut self) {
        self.last_activity = self.clock.instant();
        self.recovered();
    }

    fn recovered(&mut self) {
        if self.outage.take().is_some() {
            tracing::info!("the object store can be written again");
            self.check.ready();
        }
    }

    /// Tries a write that needs new pages, and takes it back.
    fn probe(&mut self, connection: &Connection) {
        let probe = "BEGIN IMMEDIATE; \
             INSERT OR REPLACE INTO meta (key, value) VALUES ('probe', hex(zeroblob(16384))); COMMIT; \
             DELETE FROM meta WHERE key = 'probe'";
        match connection.execute_batch(probe) {
            Ok(()) => self.recovered(),
            Err(error) => {
                if !connection.is_autocommit()
                    && let Err(error) = connection.execute_batch("ROLLBACK")
                {
                    tracing::error!("the object store cannot roll back: {error}");
                }
                self.check.failed(StoreError::from(error).to_string());
                let now = self.clock.instant();
                if let Some(outage) = &mut self.outage {
                    outage.delay = (outage.delay * 2).min(PROBE_LAST);
                    outage.next_probe = now + outage.delay;
                }
            }
        }
    }

    /// Compacts everything now.
    pub(crate) fn compact(&mut self, parts: &mut Parts) -> Result<(), StoreError> {
        self.begin_compaction(parts);
        while !self.compacting.is_empty() {
            self.compact_slice(parts)?;
        }
        Ok(())
    }

    fn begin_compaction(&mut self, parts: &Parts) {
        self.next_compaction = self.clock.instant() + self.retention.every;
        self.compacting = parts.clusters.keys().copied().collect();
    }

    /// Deletes the oldest events of one cluster. An error ends this compaction; the next turn tries again.
    fn compact_slice(&mut self, parts: &mut Parts) -> Result<(), StoreError> {
        let Some(&cluster) = self.compacting.last() else { return Ok(()) };
        let revision = parts.working.get(&cluster).map_or(0, crate::cache::View::revision);
        match delete_oldest(&mut parts.connection, cluster, revision, self.retention, &self.clock) {
            Ok(deleted) => {
                if let (Some(compacted), Some(cache)) = (deleted.compacted, parts.clusters.get(&cluster)) {
                    cache.set_compacted(compacted);
                }
                if !deleted.more {
                    self.compacting.pop();
                }
                if self.compacting.is_empty() {
                    self.metrics.compacted(self.clock.instant());
                    give_back_pages(&parts.connection)?;
                }
                Ok(())
            }
            Err(error) => {
                self.compacting.clear();
                Err(error)
            }
        }
    }

    fn checkpoint(&mut self, connection: &Connection, idle: bool, now: Instant) -> bool {
        let pages = WAL_PAGES.get();
        if pages < CHECKPOINT_PAGES {
            return false;
        }
        if self.next_cut <= now && fs::metadata(&self.wal).is_ok_and(|wal| wal.len() > WAL_BYTES) {
            self.next_cut = now + CUT_AGAIN;
            return self.run_checkpoint(connection, "PRAGMA wal_checkpoint(TRUNCATE)");
        }
        let paused = now.saturating_duration_since(self.last_activity) >= IDLE_PAUSE;
        if idle && paused {
            // Looked at again after the next commit, also when readers kept this one from finishing.
            WAL_PAGES.set(0);
            return self.run_checkpoint(connection, "PRAGMA wal_checkpoint(PASSIVE)");
        }
        false
    }

    fn run_checkpoint(&mut self, connection: &Connection, sql: &str) -> bool {
        let run = |wait: Duration| -> rusqlite::Result<()> {
            connection.busy_timeout(wait)?;
            connection.query_row(sql, [], |_| Ok(()))
        };
        let result = run(CUT_WAIT).and_then(|()| connection.busy_timeout(super::schema::BUSY_TIMEOUT));
        if let Err(error) = result {
            self.note(&error.into());
        }
        true
    }
}

struct Deleted {
    compacted: Option<u64>,
    more: bool,
}

fn delete_oldest(
    connection: &mut Connection,
    cluster: ClusterId,
    revision: u64,
    retention: Retention,
    clock: &Clock,
) -> Result<Deleted, StoreError> {
    // One event per revision: the newest n events are those above `revision - n`.
    let bound = revision.saturating_sub(retention.newest);
    let age = i64::try_from(retention.age.as_micros()).unwrap_or(i64::MAX);
    let cutoff = clock.now().as_microsecond().saturating_sub(age);
    let transaction = connection.transaction()?;
    let (mut last, mut seen) = (None, 0);
    {
        let mut statement = transaction
            .prepare_cached("SELECT rv, at FROM events WHERE cluster = ?1 AND rv <= ?2 ORDER BY rv LIMIT ?3")?;
        let limit = i64::try_from(COMPACT_ROWS).unwrap_or(i64::MAX);
        let mut rows = statement.query(params![cluster.0, revision_to_sql(bound), limit])?;
        while let Some(row) = rows.next()? {
            let at: i64 = row.get(1)?;
            if at >= cutoff {
                break;
            }
            last = Some(row.get::<_, i64>(0)?);
            seen += 1;
        }
    }
    let Some(last) = last else { return Ok(Deleted { compacted: None, more: false }) };
    transaction.execute("DELETE FROM events WHERE cluster = ?1 AND rv <= ?2", params![cluster.0, last])?;
    transaction.execute("UPDATE clusters SET compacted = ?2 WHERE id = ?1", params![cluster.0, last])?;
    transaction.commit()?;
    Ok(Deleted { compacted: Some(revision_from_sql(last)), more: seen == COMPACT_ROWS })
}

fn give_back_pages(connection: &Connection) -> Result<(), StoreError> {
    let unused: i64 = connection.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
    if unused > VACUUM_PAGES {
        // Steps once per page.
        let mut statement = connection.prepare(&format!("PRAGMA incremental_vacuum({VACUUM_PAGES})"))?;
        let mut rows = statement.query([])?;
        while rows.next()?.is_some() {}
    }
    Ok(())
}
