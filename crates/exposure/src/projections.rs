//! The generated objects that exist, as the watches report them.

use std::collections::HashMap;
use std::sync::Arc;

use kube::ResourceExt as _;
use kube::api::DynamicObject;
use parking_lot::Mutex;
use tidegate_policy::ObjectRef;

use crate::owner::owner_of;
use crate::render::{POLICY, VIRTUAL_SERVICE};

/// Kinds of generated objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Projection {
    VirtualService,
    Policy,
}

impl Projection {
    /// `apiVersion` and kind.
    pub(crate) fn types(self) -> (&'static str, &'static str) {
        match self {
            Self::VirtualService => VIRTUAL_SERVICE,
            Self::Policy => POLICY,
        }
    }

    /// The kind in the words of `lastError`.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::VirtualService => "virtual service",
            Self::Policy => "authentication policy",
        }
    }
}

type Key = (Projection, String, String);

/// Marked objects by kind, namespace and name. Cheap to clone; clones share the objects.
#[derive(Clone, Debug, Default)]
pub(crate) struct Projections {
    objects: Arc<Mutex<HashMap<Key, Arc<DynamicObject>>>>,
}

impl Projections {
    /// Takes an object as it is now; one that does not carry the mark is forgotten. Returns the Apis that should look
    /// at it: whoever it belongs to now and whoever it belonged to before.
    pub(crate) fn set(&self, kind: Projection, object: DynamicObject) -> Vec<ObjectRef> {
        let key = (kind, object.namespace().unwrap_or_default(), object.name_any());
        let owner = owner_of(&object).map(|(owner, _)| owner);
        let mut objects = self.objects.lock();
        let before = if owner.is_some() { objects.insert(key, Arc::new(object)) } else { objects.remove(&key) };
        drop(objects);
        let before = before.as_deref().and_then(owner_of).map(|(owner, _)| owner);
        let mut owners: Vec<ObjectRef> = owner.into_iter().chain(before).collect();
        owners.dedup();
        owners
    }

    /// Forgets an object that is gone; returns the Api it belonged to.
    pub(crate) fn remove(&self, kind: Projection, namespace: &str, name: &str) -> Option<ObjectRef> {
        let before = self.objects.lock().remove(&(kind, namespace.to_owned(), name.to_owned()))?;
        owner_of(&before).map(|(owner, _)| owner)
    }

    /// The object of that name, if it carries the mark.
    pub(crate) fn get(&self, kind: Projection, namespace: &str, name: &str) -> Option<Arc<DynamicObject>> {
        self.objects.lock().get(&(kind, namespace.to_owned(), name.to_owned())).cloned()
    }

    /// All marked objects, in no order.
    pub(crate) fn all(&self) -> Vec<(Projection, Arc<DynamicObject>)> {
        self.objects.lock().iter().map(|((kind, ..), object)| (*kind, Arc::clone(object))).collect()
    }
}
