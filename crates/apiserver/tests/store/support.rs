//! A store in a folder of its own, small objects, watchers.

use std::convert::Infallible;
use std::path::Path;
use std::process::Child;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate_apiserver::cache::WatchStream;
use tidegate_apiserver::store::{
    ClusterId, Event, Key, Object, OpenError, Resource, Store, StoreOptions, WatchError, WriteError,
};
use tidegate_runtime::{Clock, Metrics, Readiness, Tasks};
use uuid::Uuid;

/// No wait in these tests is longer, unless something is broken.
pub(crate) const LONG: Duration = Duration::from_secs(30);
pub(crate) const ROOT: ClusterId = ClusterId::ROOT;

pub(crate) struct World {
    pub(crate) folder: TempDir,
    pub(crate) readiness: Readiness,
    pub(crate) metrics: Metrics,
    pub(crate) clock: Clock,
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            readiness: Readiness::new(),
            metrics: Metrics::new(),
            clock: Clock::system(),
        }
    }

    pub(crate) fn options(&self) -> StoreOptions {
        StoreOptions {
            readiness: self.readiness.clone(),
            metrics: self.metrics.clone(),
            clock: self.clock.clone(),
            ..options(self.folder.path())
        }
    }

    pub(crate) fn open(&self) -> Store {
        Store::open(self.options()).unwrap()
    }

    pub(crate) fn try_open(&self) -> Result<Store, OpenError> {
        Store::open(self.options())
    }
}

pub(crate) fn options(folder: &Path) -> StoreOptions {
    let path = folder.join("store.db");
    StoreOptions::new(path, Clock::system(), Tasks::new(), Readiness::new(), Metrics::new())
}

pub(crate) fn config_maps() -> Resource {
    Resource::new("", "configmaps")
}

pub(crate) fn key(name: &str) -> Key {
    Key::new(ROOT, &config_maps(), "default", name)
}

/// A ConfigMap whose uid follows from its name.
pub(crate) fn config_map(name: &str, value: &str) -> Value {
    let mut uid = [0_u8; 16];
    for (index, byte) in name.bytes().enumerate() {
        uid[index % 16] = uid[index % 16].wrapping_mul(31).wrapping_add(byte);
    }
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "default", "uid": Uuid::from_bytes(uid).to_string()},
        "data": {"value": value},
    })
}

/// Puts a ConfigMap called `name`.
pub(crate) async fn put(store: &Store, name: &str, value: &str) -> Arc<Object> {
    let (key, body) = (key(name), config_map(name, value));
    store.write(move |txn| txn.put(&key, body)).await.unwrap()
}

pub(crate) async fn delete(store: &Store, name: &str) -> Option<Arc<Object>> {
    let key = key(name);
    settled(store.write(move |txn| Ok::<_, Infallible>(txn.delete(&key))).await)
}

/// The value of a write whose operation does not refuse.
pub(crate) fn settled<T>(result: Result<T, WriteError<Infallible>>) -> T {
    result.unwrap()
}

pub(crate) fn value(object: &Object) -> &str {
    object.body()["data"]["value"].as_str().unwrap()
}

/// `ADDED a=1 @1000`.
pub(crate) fn text(event: &Event) -> String {
    format!("{} {}={} @{}", event.kind.as_str(), event.object.name(), value(&event.object), event.revision)
}

pub(crate) async fn next(stream: &mut WatchStream) -> Option<Result<Arc<Event>, WatchError>> {
    tokio::time::timeout(LONG, stream.next()).await.expect("an event, an error or the end")
}

/// The next `count` events, in short.
pub(crate) async fn take(stream: &mut WatchStream, count: usize) -> Vec<String> {
    let mut texts = Vec::new();
    for _ in 0..count {
        texts.push(text(&next(stream).await.unwrap().unwrap()));
    }
    texts
}

/// A child process that does not outlive its test.
pub(crate) struct Spawned(pub(crate) Child);

impl Spawned {
    /// SIGKILL, and wait for the end.
    pub(crate) fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        // Already ended, in a test that passes.
        if self.0.kill().is_ok() {
            drop(self.0.wait());
        }
    }
}

/// Text that does not compress.
pub(crate) fn noise(seed: u64, bytes: usize) -> String {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b'a' + (state % 26) as u8)
    };
    (0..bytes).map(|_| next()).collect()
}

/// Waits for a condition.
pub(crate) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        let mut tick = tokio::time::interval(Duration::from_millis(10));
        while !condition() {
            tick.tick().await;
        }
    };
    tokio::time::timeout(LONG, wait).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}
