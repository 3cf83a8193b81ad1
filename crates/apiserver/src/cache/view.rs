//! Immutable state: of a whole cluster, of one resource.

use std::collections::HashSet;
use std::ops::Bound;
use std::sync::Arc;

use rpds::RedBlackTreeMapSync;

use crate::store::{ClusterId, Event, Key, Name, Object, Resource};

pub(crate) type Objects = RedBlackTreeMapSync<Name, Arc<Object>>;

/// Every object of one cluster at one revision. Cloning is O(1).
#[derive(Clone, Debug)]
pub struct View {
    cluster: ClusterId,
    revision: u64,
    resources: RedBlackTreeMapSync<Resource, Objects>,
}

impl View {
    pub(crate) fn new(cluster: ClusterId, revision: u64) -> Self {
        Self { cluster, revision, resources: RedBlackTreeMapSync::new_sync() }
    }

    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// Highest revision given out in the cluster at this state.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    pub fn get(&self, resource: &Resource, name: &Name) -> Option<&Arc<Object>> {
        self.resources.get(resource)?.get(name)
    }

    /// The objects of one resource; empty for a resource that nobody ever wrote.
    pub fn snapshot(&self, resource: &Resource) -> Snapshot {
        Snapshot {
            cluster: self.cluster,
            revision: self.revision,
            objects: self.resources.get(resource).cloned().unwrap_or_else(RedBlackTreeMapSync::new_sync),
        }
    }

    /// Every resource that has objects, with the number of them.
    pub fn counts(&self) -> impl Iterator<Item = (&Resource, usize)> {
        self.resources.iter().map(|(resource, objects)| (resource, objects.size()))
    }

    /// Everything in a namespace, by resource: the work list of namespace deletion (SPEC 60 §12.3).
    pub fn in_namespace<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a Arc<Object>> {
        self.resources.values().flat_map(move |objects| in_namespace(objects, namespace, ""))
    }

    pub(crate) fn insert(&mut self, object: Arc<Object>) {
        let (resource, name) = (object.key.resource.clone(), object.key.name.clone());
        self.revision = self.revision.max(object.revision);
        if let Some(objects) = self.resources.get_mut(&resource) {
            objects.insert_mut(name, object);
        } else {
            self.resources.insert_mut(resource, RedBlackTreeMapSync::new_sync().insert(name, object));
        }
    }

    pub(crate) fn remove(&mut self, key: &Key, revision: u64) {
        self.revision = self.revision.max(revision);
        let Some(objects) = self.resources.get_mut(&key.resource) else { return };
        objects.remove_mut(&key.name);
        if objects.is_empty() {
            self.resources.remove_mut(&key.resource);
        }
    }
}

fn in_namespace<'a>(objects: &'a Objects, namespace: &'a str, from: &str) -> impl Iterator<Item = &'a Arc<Object>> {
    objects
        .range((Bound::Included(Name::new(namespace, from)), Bound::Unbounded))
        .take_while(move |(name, _)| &*name.namespace == namespace)
        .map(|(_, object)| object)
}

/// The objects of one resource at one revision, ordered by namespace and name. Cloning is O(1).
#[derive(Clone, Debug)]
pub struct Snapshot {
    cluster: ClusterId,
    /// The cluster's revision at this state, not the newest item's: a watch from it misses and repeats nothing.
    pub revision: u64,
    pub(crate) objects: Objects,
}

impl Snapshot {
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    pub fn len(&self) -> usize {
        self.objects.size()
    }

    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// Takes back the effect of events, given in revision order: the first one of an object says what it was before
    /// all of them. `undone` carries the names that are done from one call to the next.
    pub(crate) fn undo_all(&mut self, events: &[Arc<Event>], undone: &mut HashSet<Name>) {
        for event in events {
            let name = &event.object.key.name;
            if !undone.insert(name.clone()) {
                continue;
            }
            if let Some(previous) = &event.previous {
                self.objects.insert_mut(name.clone(), Arc::clone(previous));
            } else {
                self.objects.remove_mut(name);
            }
        }
    }

    /// `namespace` is empty for cluster-scoped objects.
    pub fn get(&self, namespace: &str, name: &str) -> Option<&Arc<Object>> {
        self.objects.get(&Name::new(namespace, name))
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.objects.values()
    }

    /// The objects of one namespace.
    pub fn namespace<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a Arc<Object>> {
        in_namespace(&self.objects, namespace, "")
    }

    /// The objects of one namespace from `name` on, itself included: a page of a list.
    pub fn namespace_from<'a>(&'a self, namespace: &'a str, name: &str) -> impl Iterator<Item = &'a Arc<Object>> {
        in_namespace(&self.objects, namespace, name)
    }

    /// All objects from a key on, itself included: a page of a list over all namespaces.
    pub fn from(&self, namespace: &str, name: &str) -> impl Iterator<Item = &Arc<Object>> {
        self.objects.range((Bound::Included(Name::new(namespace, name)), Bound::Unbounded)).map(|(_, object)| object)
    }
}
