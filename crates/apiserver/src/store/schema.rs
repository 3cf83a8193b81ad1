//! Opening the database file: pragmas, schema, integrity.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params};
use rusqlite_migration::{M, Migrations};

use super::{ClusterId, Durability, OpenError, StoreOptions};

const MIGRATIONS: &[M<'_>] = &[M::up(include_str!("../../migrations/0001_objects.sql"))];
/// `TGST`, in the file's header: no other program's database is touched.
const APPLICATION_ID: i32 = 0x5447_5354;
const PAGE_BYTES: u64 = 4_096;
/// The first revision of a new cluster is the next one: 0 and 1 stay special (SPEC 60 §20.2).
const SEQ_OF_NEW_CLUSTER: i64 = 999;
/// How far revisions jump when the newest ones may have been lost.
const LOST_TAIL_JUMP: i64 = 1_000_000;
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
const MMAP_BYTES: i64 = 256 << 20;

/// The writing connection, on a file with the current schema and the `root` cluster.
pub(crate) fn open_writer(options: &StoreOptions) -> Result<Connection, OpenError> {
    let path = &*options.path;
    let failed = |source| OpenError::Open { path: path.to_owned(), source };
    // Secrets live in this file. SQLite gives its WAL the same mode; an error shows when SQLite opens the file.
    drop(OpenOptions::new().create(true).append(true).mode(0o600).open(path));
    let mut connection = Connection::open(path).map_err(failed)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
    connection.set_prepared_statement_cache_capacity(32);
    check_identity(&connection, path)?;
    pragmas(&connection, options).map_err(failed)?;
    Migrations::from_slice(MIGRATIONS)
        .to_latest(&mut connection)
        .map_err(|source| OpenError::Migrate { path: path.to_owned(), source })?;
    check_last_stop(&mut connection, options)?;
    Ok(connection)
}

/// A connection that only reads.
pub(crate) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "mmap_size", MMAP_BYTES)?;
    Ok(connection)
}

fn check_identity(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let failed = |source| OpenError::Open { path: path.to_owned(), source };
    let application_id = pragma("application_id").map_err(failed)?;
    let version = usize::try_from(pragma("user_version").map_err(failed)?).unwrap_or(0);
    // A file without tables is one whose creation was cut short.
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(failed)?;
    if application_id != APPLICATION_ID && (application_id != 0 || tables > 0) {
        return Err(OpenError::Foreign { path: path.to_owned(), application_id });
    }
    if version > MIGRATIONS.len() {
        return Err(OpenError::Newer { path: path.to_owned(), found: version, known: MIGRATIONS.len() });
    }
    Ok(())
}

fn pragmas(connection: &Connection, options: &StoreOptions) -> rusqlite::Result<()> {
    let synchronous = match options.durability {
        Durability::Full => "FULL",
        Durability::Normal => "NORMAL",
    };
    // `auto_vacuum` counts only before the first page is written.
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    connection.pragma_update(None, "mmap_size", MMAP_BYTES)?;
    // SPEC 70 R30: the writer makes checkpoints itself, when idle.
    connection.pragma_update_and_check(None, "wal_autocheckpoint", 0, |_| Ok(()))?;
    if let Some(bytes) = options.max_bytes {
        let pages = i64::try_from(bytes / PAGE_BYTES).unwrap_or(i64::MAX);
        connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))?;
    }
    Ok(())
}

/// Checks the file when the last process did not close it, and marks it as open.
fn check_last_stop(connection: &mut Connection, options: &StoreOptions) -> Result<(), OpenError> {
    let path = &*options.path;
    let failed = |source| OpenError::Open { path: path.to_owned(), source };
    let stop: Option<String> = connection
        .query_row("SELECT value FROM meta WHERE key = 'stop'", [], |row| row.get(0))
        .optional()
        .map_err(failed)?;
    let unclean = stop.as_deref() == Some("unclean");
    if unclean {
        tracing::info!("the object store was not closed by its last process; checking it");
        let report: String = connection.query_row("PRAGMA quick_check(10)", [], |row| row.get(0)).map_err(failed)?;
        if report != "ok" {
            return Err(OpenError::Damaged { path: path.to_owned(), report });
        }
    }
    let transaction = connection.transaction().map_err(failed)?;
    transaction
        .execute(
            "INSERT OR IGNORE INTO clusters (id, name, state, seq, compacted) VALUES (?1, 'root', 'active', ?2, 0)",
            params![ClusterId::ROOT.0, SEQ_OF_NEW_CLUSTER],
        )
        .map_err(failed)?;
    if unclean && options.durability == Durability::Normal {
        // Acknowledged writes may be gone. Their revisions must not come back with other content, and who has
        // seen them must list again.
        transaction
            .execute("UPDATE clusters SET seq = seq + ?1, compacted = seq + ?1", params![LOST_TAIL_JUMP])
            .map_err(failed)?;
        transaction.execute("DELETE FROM events", []).map_err(failed)?;
    }
    mark_stop(&transaction, "unclean").map_err(failed)?;
    transaction.commit().map_err(failed)
}

/// Notes how the file was left: `unclean` while it is open.
pub(crate) fn mark_stop(connection: &Connection, how: &str) -> rusqlite::Result<()> {
    connection
        .execute("INSERT INTO meta (key, value) VALUES ('stop', ?1) ON CONFLICT DO UPDATE SET value = ?1", params![how])
        .map(drop)
}
