//! A stored object and an event, both immutable and shared.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde_json::Value;
use uuid::Uuid;

use super::Key;

/// One version of an object. Holds the canonical JSON; the parsed form is made on first use and kept, so that
/// 100,000 objects that nobody selects by label cost their bytes only.
#[derive(Debug)]
pub struct Object {
    pub key: Key,
    /// `metadata.resourceVersion`; 0 for the result of a dry-run create.
    pub revision: u64,
    pub uid: Uuid,
    /// Canonical JSON (keys in alphabetical order) with `kind` and `apiVersion` of the stored version.
    pub encoded: Bytes,
    body: OnceLock<Arc<Value>>,
}

impl Object {
    pub(crate) fn new(key: Key, revision: u64, uid: Uuid, encoded: Bytes) -> Self {
        Self { key, revision, uid, encoded, body: OnceLock::new() }
    }

    /// The parsed object, parsed once. Clone the `Value` inside to change it.
    pub fn body(&self) -> &Arc<Value> {
        self.body.get_or_init(|| {
            let parsed = serde_json::from_slice(&self.encoded).unwrap_or_else(|error| {
                // Only a database file changed by other hands gets here: the store encodes every body itself.
                tracing::error!(object = %self.key, "stored body of {} is not JSON: {error}", self.key);
                Value::Null
            });
            Arc::new(parsed)
        })
    }

    pub fn namespace(&self) -> &str {
        &self.key.name.namespace
    }

    pub fn name(&self) -> &str {
        &self.key.name.name
    }

    /// The time since which the object is being deleted, if it is.
    pub fn deletion_timestamp(&self) -> Option<&str> {
        self.body().pointer("/metadata/deletionTimestamp")?.as_str()
    }
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    Added,
    Modified,
    Deleted,
}

impl EventKind {
    /// The word of the watch protocol (SPEC 60 §9).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

/// One change of one object; one per revision of a cluster.
#[derive(Debug)]
pub struct Event {
    pub revision: u64,
    pub kind: EventKind,
    /// The object after the change. For `Deleted`: as before the deletion, with the revision of the deletion.
    pub object: Arc<Object>,
    /// The object before the change; absent for `Added`.
    pub previous: Option<Arc<Object>>,
    line: OnceLock<Bytes>,
}

impl Event {
    pub(crate) fn new(kind: EventKind, object: Arc<Object>, previous: Option<Arc<Object>>) -> Self {
        Self { revision: object.revision, kind, object, previous, line: OnceLock::new() }
    }

    /// The event as one line of a watch response in the stored version, line feed included. Encoded once for all
    /// watchers (SPEC 60 §20.3).
    pub fn line(&self) -> &Bytes {
        self.line.get_or_init(|| watch_line(self.kind, &self.object.encoded))
    }

    /// What the event weighs in a watcher's backlog, in bytes.
    pub(crate) fn weight(&self) -> usize {
        self.object.encoded.len()
    }
}

/// `{"type":"ADDED","object":...}` and a line feed around an encoded object.
pub fn watch_line(kind: EventKind, encoded: &[u8]) -> Bytes {
    let mut line = Vec::with_capacity(encoded.len() + 32);
    line.extend_from_slice(br#"{"type":""#);
    line.extend_from_slice(kind.as_str().as_bytes());
    line.extend_from_slice(br#"","object":"#);
    line.extend_from_slice(encoded);
    line.extend_from_slice(b"}\n");
    Bytes::from(line.into_boxed_slice())
}
