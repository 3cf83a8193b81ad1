//! CustomResourceDefinitions: from stored object to served resource and back (SPEC 60 §13.1).
//!
//! ```text
//! created ──names free──▶ NamesAccepted, Established ──▶ served; discovery and OpenAPI follow
//! DELETE ──▶ Terminating: creates refused, instances deleted, finalizers of others awaited ──▶ finalizer removed ──▶ gone
//! ```
//!
//! Streams of a resource end when its definition goes or changes, so that clients list again.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::{AGAIN, Follower, Step};
use crate::crd::{self, CLEANUP_FINALIZER, status::Cleanup};
use crate::http::{Shared, meta};
use crate::registry::{Registry, ResourceInfo};
use crate::status::ApiError;
use crate::store::{ClusterId, Key, Object, Resource};

const GROUP: &str = "apiextensions.k8s.io";
const PLURAL: &str = "customresourcedefinitions";
/// Instances that one transaction deletes.
const CHUNK: usize = 500;

/// The definitions' storage name.
pub fn storage() -> Resource {
    Resource::new(GROUP, PLURAL)
}

/// What is served, by the definition's name, with what it was made from.
#[derive(Default)]
pub struct Definitions {
    served: BTreeMap<Arc<str>, Served>,
}

struct Served {
    made_from: Source,
    resource: Arc<ResourceInfo>,
}

/// What a compiled definition depends on: not its revision, which moves with every status.
#[derive(Clone)]
struct Source {
    uid: uuid::Uuid,
    terminating: bool,
    body: Arc<Value>,
}

impl Source {
    fn of(object: &Object) -> Self {
        let terminating = object.deletion_timestamp().is_some();
        Self { uid: object.uid, terminating, body: Arc::clone(object.body()) }
    }

    /// Whether streams of the resource may go on: clients see the same kind of objects.
    fn serves_the_same(&self, other: &Self) -> bool {
        let names = "/status/acceptedNames";
        self.uid == other.uid
            && self.body.get("spec") == other.body.get("spec")
            && self.body.pointer(names) == other.body.pointer(names)
    }
}

/// Runs until shutdown.
pub async fn run(shared: Arc<Shared>, mut definitions: Definitions) {
    let mut follower = Follower::new(&shared, GROUP, PLURAL);
    let mut waiting = false;
    loop {
        let again = async { if waiting { tokio::time::sleep(AGAIN).await } else { std::future::pending().await } };
        let step = tokio::select! {
            () = shared.tasks.shutdown().cancelled() => return,
            step = follower.next() => step,
            () = again => Some(Step::Restarted),
        };
        if step.is_none() {
            return;
        }
        follower.drain();
        waiting = definitions.reconcile(&shared).await;
    }
}

impl Definitions {
    /// Brings statuses and what is served in line with the stored definitions; `true` when something has to be
    /// looked at again without an event.
    pub async fn reconcile(&mut self, shared: &Shared) -> bool {
        // First what is gone, so that its names are free; then what is new.
        self.publish(shared);
        let served = Arc::clone(&shared.published.load().registry);
        establish(shared, &served).await;
        self.publish(shared);
        let mut again = false;
        for definition in shared.store.snapshot(ClusterId::ROOT, &storage()).iter() {
            if definition.deletion_timestamp().is_some() {
                again |= !clean_up(shared, definition).await;
            }
        }
        again
    }

    /// Compiles what is new and swaps the registry when anything changed.
    fn publish(&mut self, shared: &Shared) {
        let snapshot = shared.store.snapshot(ClusterId::ROOT, &storage());
        let mut now = BTreeMap::new();
        let mut changed = Vec::new();
        let mut is_changed = false;
        for object in snapshot.iter().filter(|object| is_established(object)) {
            let name: Arc<str> = object.name().into();
            let made_from = Source::of(object);
            let before = self.served.remove(&name);
            let same = before.filter(|served| served.made_from.serves_the_same(&made_from));
            if let Some(same) = same.as_ref().filter(|served| served.made_from.terminating == made_from.terminating) {
                let resource = Arc::clone(&same.resource);
                now.insert(name, Served { made_from, resource });
                continue;
            }
            match ResourceInfo::from_definition(object.body()) {
                Ok(resource) => {
                    is_changed = true;
                    // A definition that is only marked for deletion keeps its streams: they tell what goes.
                    if same.is_none() {
                        changed.push(Resource::new(&resource.group, &resource.plural));
                    }
                    now.insert(name, Served { made_from, resource: Arc::new(resource) });
                }
                Err(error) => tracing::error!(object.name = &*name, "definition `{name}` cannot be served: {error}"),
            }
        }
        // What is left was removed, or is not established any more.
        let gone = std::mem::take(&mut self.served);
        is_changed |= !gone.is_empty();
        changed.extend(gone.values().map(|gone| Resource::new(&gone.resource.group, &gone.resource.plural)));
        self.served = now;
        if !is_changed {
            return;
        }
        let custom = self.served.values().map(|served| Arc::clone(&served.resource));
        let published = shared.published.load();
        let registry = published.registry.with_custom(custom);
        shared.published.store(Arc::new(published.next(registry)));
        shared.metrics.definitions.set(i64::try_from(self.served.len()).unwrap_or(i64::MAX));
        for resource in changed {
            shared.store.end_watches(ClusterId::ROOT, &resource);
        }
    }
}

fn is_established(definition: &Object) -> bool {
    crd::is_true(definition.body(), "Established")
}

/// Writes the status of every definition that lacks it, in one transaction. Whoever came first gets its names.
async fn establish(shared: &Shared, served: &Registry) {
    let snapshot = shared.store.snapshot(ClusterId::ROOT, &storage());
    let now = shared.clock.now();
    let is_settled = |object: &Arc<Object>| {
        let body = object.body();
        body.get("status") == Some(&wanted_status(body, served, now))
    };
    if snapshot.iter().all(is_settled) {
        return;
    }
    let served = served.clone();
    super::write(shared, "establishing definitions", move |txn| {
        let snapshot = txn.snapshot(ClusterId::ROOT, &storage());
        let mut oldest_first: Vec<&Arc<Object>> = snapshot.iter().collect();
        oldest_first.sort_by_key(|object| object.revision);
        let mut served = served.clone();
        let mut taken: Vec<Arc<ResourceInfo>> =
            served.resources().iter().filter(|known| known.is_custom()).cloned().collect();
        for object in oldest_first {
            let status = wanted_status(object.body(), &served, txn.now());
            if object.body().get("status") == Some(&status) {
                continue;
            }
            let mut value = Value::clone(object.body());
            meta::set(&mut value, "status", status);
            // What this one takes is not free for the next.
            if crd::is_true(&value, "Established")
                && let Ok(resource) = ResourceInfo::from_definition(&value)
            {
                taken.push(Arc::new(resource));
                served = served.with_custom(taken.iter().cloned());
            }
            txn.put(&object.key, value).map_err(|error| ApiError::internal(error.to_string()))?;
        }
        Ok(())
    })
    .await;
}

fn wanted_status(definition: &Value, served: &Registry, now: jiff::Timestamp) -> Value {
    if meta::is_deleting(definition) {
        return crd::status::terminating(definition, Cleanup::InProgress, now);
    }
    crd::status::compute(definition, served, now)
}

/// Deletes the instances of a definition that is going away, then lets it go; `false` while some wait for their
/// finalizers.
async fn clean_up(shared: &Shared, definition: &Object) -> bool {
    if !meta::finalizers(definition.body()).contains(&CLEANUP_FINALIZER) {
        return true;
    }
    let text = |path: &str| definition.body().pointer(path).and_then(Value::as_str).unwrap_or_default();
    let resource = Resource::new(text("/spec/group"), text("/spec/names/plural"));
    // Only whoever was served has instances of its own; one whose names were never accepted must not delete another's.
    let owns = is_established(definition);
    loop {
        if !owns {
            break;
        }
        let snapshot = shared.store.snapshot(ClusterId::ROOT, &resource);
        let unmarked = snapshot.iter().filter(|object| object.deletion_timestamp().is_none());
        let keys: Vec<Key> = unmarked.take(CHUNK).map(|object| object.key.clone()).collect();
        if keys.is_empty() {
            if snapshot.is_empty() {
                break;
            }
            return false;
        }
        let removed = super::write(shared, "deleting instances of a definition", move |txn| {
            for key in &keys {
                super::remove(txn, key).map_err(|error| ApiError::internal(error.to_string()))?;
            }
            Ok(())
        });
        if removed.await.is_none() {
            return false;
        }
    }
    let key = definition.key.clone();
    let released = super::write(shared, "releasing a definition", move |txn| {
        let Some(object) = txn.get(&key) else { return Ok(()) };
        let mut value = Value::clone(object.body());
        if !meta::is_deleting(&value) || !txn.snapshot(ClusterId::ROOT, &resource).is_empty() && owns {
            return Ok(());
        }
        let metadata = meta::of(&mut value);
        if let Some(finalizers) = metadata.get_mut("finalizers").and_then(Value::as_array_mut) {
            finalizers.retain(|finalizer| finalizer != CLEANUP_FINALIZER);
        }
        if meta::finalizers(&value).is_empty() {
            txn.delete(&key);
        } else {
            txn.put(&key, value).map_err(|error| ApiError::internal(error.to_string()))?;
        }
        Ok(())
    });
    released.await.is_some()
}
