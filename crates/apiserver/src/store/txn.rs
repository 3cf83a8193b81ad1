//! What an operation sees and does inside its transaction.
//!
//! An operation works on the newest state, what earlier operations of the same batch wrote included, entirely in
//! memory: reading cannot fail, and a refused or dry-run operation leaves nothing to undo. The writer then turns
//! the changes into rows inside a savepoint.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use super::{ClusterId, Event, EventKind, Key, Object, PutError, Resource};
use crate::cache::{Snapshot, View};

/// SPEC 60 §23: largest stored object, in bytes after encoding.
pub const MAX_OBJECT_BYTES: usize = 1_572_864;

/// One read-modify-write operation, executed on the writer's thread: keep it short (SPEC 60 §20.2).
pub struct Txn<'a> {
    base: &'a BTreeMap<ClusterId, View>,
    touched: BTreeMap<ClusterId, View>,
    events: Vec<Arc<Event>>,
    dry_run: bool,
    now: Timestamp,
}

impl<'a> Txn<'a> {
    pub(crate) fn new(base: &'a BTreeMap<ClusterId, View>, dry_run: bool, now: Timestamp) -> Self {
        Self { base, touched: BTreeMap::new(), events: Vec::new(), dry_run, now }
    }

    /// Whether the changes will be thrown away (`dryRun=All`).
    pub fn is_dry_run(&self) -> bool {
        self.dry_run
    }

    /// The time of the transaction.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Highest revision of the cluster as this operation sees it.
    pub fn revision(&self, cluster: ClusterId) -> u64 {
        self.current(cluster).map_or(0, View::revision)
    }

    /// The state of a whole cluster as this operation sees it, O(1). Later changes do not show in it.
    pub fn view(&self, cluster: ClusterId) -> View {
        self.current(cluster).cloned().unwrap_or_else(|| View::new(cluster, 0))
    }

    /// The objects of one resource as this operation sees them, O(1). Later changes do not show in it.
    pub fn snapshot(&self, cluster: ClusterId, resource: &Resource) -> Snapshot {
        self.view(cluster).snapshot(resource)
    }

    pub fn get(&self, key: &Key) -> Option<Arc<Object>> {
        self.current(key.cluster)?.get(&key.resource, &key.name).cloned()
    }

    /// Writes an object, new or not, and returns it as stored: `metadata.resourceVersion` set, encoded.
    ///
    /// The caller has put `metadata.uid`. A body that is byte-equal to the stored one (but for the revision) changes
    /// nothing and emits nothing; the stored object is returned (SPEC 60 §6). In a dry run the revision is not
    /// moved: a new object has none, an existing one keeps its own.
    pub fn put(&mut self, key: &Key, mut body: Value) -> Result<Arc<Object>, PutError> {
        let uid = body.pointer("/metadata/uid").and_then(Value::as_str).and_then(|uid| Uuid::try_parse(uid).ok());
        let uid = uid.ok_or(PutError::NoUid)?;
        let current = self.current(key.cluster).ok_or(PutError::NoCluster)?;
        let previous = current.get(&key.resource, &key.name).cloned();
        if let Some(previous) = &previous
            && encode_at(&mut body, previous.revision) == previous.encoded
        {
            return Ok(Arc::clone(previous));
        }
        let revision = match (self.dry_run, &previous) {
            (false, _) => current.revision() + 1,
            (true, Some(previous)) => previous.revision,
            (true, None) => 0,
        };
        let encoded = encode_at(&mut body, revision);
        if encoded.len() > MAX_OBJECT_BYTES {
            return Err(PutError::TooLarge { bytes: encoded.len(), limit: MAX_OBJECT_BYTES });
        }
        // An update shares the key of the version it replaces.
        let key = previous.as_ref().map_or(key, |previous| &previous.key).clone();
        let object = Arc::new(Object::new(key, revision, uid, encoded));
        let kind = if previous.is_some() { EventKind::Modified } else { EventKind::Added };
        self.touch(object.key.cluster).insert(Arc::clone(&object));
        self.events.push(Arc::new(Event::new(kind, Arc::clone(&object), previous)));
        Ok(object)
    }

    /// Removes an object and returns it as the `DELETED` event shows it: as it was, with the revision of the
    /// deletion (in a dry run with its own). `None` if there is no such object.
    pub fn delete(&mut self, key: &Key) -> Option<Arc<Object>> {
        let current = self.current(key.cluster)?;
        let previous = Arc::clone(current.get(&key.resource, &key.name)?);
        let revision = current.revision() + 1;
        if self.dry_run {
            self.touch(key.cluster).remove(key, previous.revision);
            return Some(previous);
        }
        let object = Arc::new(at_revision(&previous, revision));
        self.touch(key.cluster).remove(key, revision);
        self.events.push(Arc::new(Event::new(EventKind::Deleted, Arc::clone(&object), Some(previous))));
        Some(object)
    }

    /// Removes up to `limit` objects of one resource, each with its event, and returns how many.
    pub fn delete_some(&mut self, cluster: ClusterId, resource: &Resource, limit: usize) -> usize {
        let snapshot = self.snapshot(cluster, resource);
        snapshot.iter().take(limit).filter(|object| self.delete(&object.key).is_some()).count()
    }

    pub(crate) fn into_changes(self) -> (BTreeMap<ClusterId, View>, Vec<Arc<Event>>) {
        (self.touched, self.events)
    }

    fn current(&self, cluster: ClusterId) -> Option<&View> {
        self.touched.get(&cluster).or_else(|| self.base.get(&cluster))
    }

    fn touch(&mut self, cluster: ClusterId) -> &mut View {
        let base = self.base;
        self.touched
            .entry(cluster)
            .or_insert_with(|| base.get(&cluster).cloned().unwrap_or_else(|| View::new(cluster, 0)))
    }
}

/// The same object at another revision: what a `DELETED` event carries.
pub(crate) fn at_revision(object: &Object, revision: u64) -> Object {
    let mut body = Value::clone(object.body());
    let encoded = encode_at(&mut body, revision);
    Object::new(object.key.clone(), revision, object.uid, encoded)
}

/// Canonical JSON of `body` with `metadata.resourceVersion` set; absent for revision 0 (a dry-run create).
fn encode_at(body: &mut Value, revision: u64) -> Bytes {
    if let Some(metadata) = body.pointer_mut("/metadata").and_then(Value::as_object_mut) {
        if revision == 0 {
            metadata.remove("resourceVersion");
        } else {
            metadata.insert("resourceVersion".to_owned(), Value::String(revision.to_string()));
        }
    }
    // `Display` of a `Value` cannot fail and sorts keys: `serde_json::Map` is ordered.
    Bytes::from(body.to_string().into_bytes().into_boxed_slice())
}
