//! What can go wrong in the store. Refusals of an operation itself are the caller's own type.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Why a write did not happen.
#[derive(Debug, thiserror::Error)]
pub enum WriteError<E> {
    /// The operation itself said no; nothing of it was written.
    #[error("operation refused")]
    Refused(#[source] E),
    /// The store could not write; nothing of it was written. The API answers 500 `InternalError`.
    #[error(transparent)]
    Store(StoreError),
}

/// Why the store cannot do its work. Reads from memory go on in every case (SPEC 60 §20.2).
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the disk of the object store is full")]
    Full(#[source] Arc<rusqlite::Error>),
    #[error("the object store cannot be written or read")]
    Io(#[source] Arc<rusqlite::Error>),
    /// Another object, in any cluster, has the same uid.
    #[error("the uid is already taken")]
    DuplicateUid,
    #[error("a stored body cannot be decoded")]
    Body,
    /// A panic inside the operation; caught, nothing written.
    #[error("the operation panicked")]
    Panicked,
    #[error("the object store is closed")]
    Closed,
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ffi;
        if let rusqlite::Error::SqliteFailure(failure, message) = &error {
            if failure.code == rusqlite::ErrorCode::DiskFull {
                return Self::Full(Arc::new(error));
            }
            let of_uid = message.as_deref().is_some_and(|text| text.contains("objects.uid"));
            if failure.extended_code == ffi::SQLITE_CONSTRAINT_UNIQUE && of_uid {
                return Self::DuplicateUid;
            }
        }
        Self::Io(Arc::new(error))
    }
}

impl StoreError {
    /// Whether the store itself is in trouble, not only the one operation.
    pub(crate) fn is_outage(&self) -> bool {
        match self {
            Self::Full(_) | Self::Io(_) => true,
            Self::DuplicateUid | Self::Body | Self::Panicked | Self::Closed => false,
        }
    }
}

/// Why an object cannot be put.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PutError {
    /// SPEC 60 §23: answered with 413.
    #[error("object is {bytes} bytes after encoding, more than the {limit} allowed")]
    TooLarge { bytes: usize, limit: usize },
    /// A caller's mistake: no object, no `metadata`, or no uid in it.
    #[error("object has no valid `metadata.uid`")]
    NoUid,
    #[error("no such logical cluster")]
    NoCluster,
}

/// Why a list at an old revision cannot be given.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// Compacted: 410 `Expired`.
    #[error("revision {requested} is older than the oldest kept, {oldest}")]
    Expired { requested: u64, oldest: u64 },
    #[error("revision {requested} is newer than the current, {current}")]
    Future { requested: u64, current: u64 },
    #[error(transparent)]
    Store(StoreError),
}

/// Why a watch cannot start or go on. Terminal.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// Compacted: 410 `Expired`, `too old resource version: {requested} ({oldest})`.
    #[error("too old resource version: {requested} ({oldest})")]
    Expired { requested: u64, oldest: u64 },
    /// The reader fell more than 1,000 events or 4 MiB behind: 410 `Expired`.
    #[error("too old resource version: {reached} ({oldest})")]
    Lagged { reached: u64, oldest: u64 },
    #[error(transparent)]
    Store(StoreError),
}

/// Why the store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot open the object store at `{}`", path.display())]
    Open { path: PathBuf, source: rusqlite::Error },
    #[error("`{}` is a database of another program (application id {application_id:#x})", path.display())]
    Foreign { path: PathBuf, application_id: i32 },
    #[error(
        "the object store at `{}` has schema {found}, this program knows up to {known}: it was written by a newer \
         tidegate; run that one, or restore a backup made before the upgrade", path.display()
    )]
    Newer { path: PathBuf, found: usize, known: usize },
    #[error("the object store at `{}` is damaged: {report}", path.display())]
    Damaged { path: PathBuf, report: String },
    #[error("cannot bring the object store at `{}` to the current schema", path.display())]
    Migrate { path: PathBuf, source: rusqlite_migration::Error },
    #[error("cannot start the thread of the object store")]
    Thread(#[source] io::Error),
}
