//! What this process watches, for `/debug/watches`: two watches of one kind that hold the same have the same checksum.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Weak};

use kube::{Resource, ResourceExt as _};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::time::Instant;

/// Namespace (empty for cluster-wide kinds) and name.
pub(super) type Name = (String, String);

/// Like metrics, this is a fact about the process. Entries end with their watches.
static BOARD: LazyLock<Mutex<Vec<Weak<Entry>>>> = LazyLock::new(Mutex::default);

/// State of one watch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WatchReport {
    /// Path of the watched resource.
    pub resource: String,
    /// How many objects it holds.
    pub objects: usize,
    /// Resource version of the last change; absent before the first one after a listing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Seconds since the last listing or change.
    pub age_seconds: u64,
    /// Over names and versions of all objects, independent of their order.
    pub checksum: String,
}

/// Every watch of this process that runs now, by resource.
pub fn watches() -> Vec<WatchReport> {
    let entries: Vec<Arc<Entry>> = BOARD.lock().iter().filter_map(Weak::upgrade).collect();
    let mut reports: Vec<WatchReport> = entries.iter().map(|entry| entry.report()).collect();
    reports.sort_by(|one, other| one.resource.cmp(&other.resource));
    reports
}

/// One watch on the board, as long as this value lives.
#[derive(Debug)]
pub(super) struct Entry {
    resource: String,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    objects: usize,
    revision: Option<String>,
    checksum: u64,
    at: Instant,
}

impl Entry {
    pub(super) fn new(resource: &str) -> Arc<Self> {
        let state = State { objects: 0, revision: None, checksum: 0, at: Instant::now() };
        let entry = Arc::new(Self { resource: resource.to_owned(), state: Mutex::new(state) });
        let mut board = BOARD.lock();
        board.retain(|entry| entry.strong_count() > 0);
        board.push(Arc::downgrade(&entry));
        entry
    }

    /// Shows what the watch holds after a listing (`None`) or a change of that version.
    pub(super) fn show(&self, known: &Known, revision: Option<String>) {
        *self.state.lock() =
            State { objects: known.versions.len(), revision, checksum: known.checksum, at: Instant::now() };
    }

    fn report(&self) -> WatchReport {
        let state = self.state.lock();
        WatchReport {
            resource: self.resource.clone(),
            objects: state.objects,
            revision: state.revision.clone(),
            age_seconds: state.at.elapsed().as_secs(),
            checksum: format!("{:016x}", state.checksum),
        }
    }
}

/// The objects that a watch holds, with a checksum kept up with each change.
#[derive(Debug, Default)]
pub(super) struct Known {
    versions: HashMap<Name, u64>,
    checksum: u64,
}

impl Known {
    pub(super) fn insert<K: Resource>(&mut self, object: &K) {
        let name = name_of(object);
        let hash = fingerprint(&name, object.resource_version().as_deref().unwrap_or_default());
        self.checksum ^= hash ^ self.versions.insert(name, hash).unwrap_or_default();
    }

    pub(super) fn remove(&mut self, name: &Name) {
        self.checksum ^= self.versions.remove(name).unwrap_or_default();
    }

    /// Objects that `other` does not hold.
    pub(super) fn missing_in<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a Name> {
        self.versions.keys().filter(|name| !other.versions.contains_key(*name))
    }
}

pub(super) fn name_of<K: Resource>(object: &K) -> Name {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// FNV-1a: the same in every process, so that checksums can be compared between them.
fn fingerprint((namespace, name): &Name, version: &str) -> u64 {
    let parts = [namespace.as_bytes(), b"/", name.as_bytes(), b"@", version.as_bytes()];
    parts
        .concat()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    fn object(name: &str, version: &str) -> ConfigMap {
        let mut object = ConfigMap::default();
        object.metadata.namespace = Some("default".to_owned());
        object.metadata.name = Some(name.to_owned());
        object.metadata.resource_version = Some(version.to_owned());
        object
    }

    #[test]
    fn the_checksum_depends_on_what_is_held_and_not_on_how_it_came() {
        let (mut one, mut other) = (Known::default(), Known::default());
        one.insert(&object("a", "1"));
        one.insert(&object("b", "2"));
        one.insert(&object("a", "3"));
        other.insert(&object("c", "9"));
        other.insert(&object("a", "3"));
        assert_ne!(one.checksum, other.checksum);
        other.insert(&object("b", "2"));
        other.remove(&("default".to_owned(), "c".to_owned()));
        assert_eq!(one.checksum, other.checksum);
        assert_eq!(one.missing_in(&other).count(), 0);
        one.remove(&("default".to_owned(), "absent".to_owned()));
        assert_eq!(one.checksum, other.checksum);
    }

    #[test]
    fn a_watch_is_on_the_board_while_it_lives() {
        let entry = Entry::new("/api/v1/test-of-the-board");
        let mut known = Known::default();
        known.insert(&object("a", "7"));
        entry.show(&known, Some("7".to_owned()));
        let mine = || watches().into_iter().find(|watch| watch.resource == "/api/v1/test-of-the-board");
        let report = mine().unwrap();
        assert_eq!((report.objects, report.revision.as_deref()), (1, Some("7")));
        drop(entry);
        assert!(mine().is_none());
    }
}
