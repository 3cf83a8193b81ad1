//! The generated objects that exist, as the watches report them: just enough to see whether one is as it should be.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use kube::ResourceExt as _;
use kube::api::DynamicObject;
use parking_lot::Mutex;
use tidegate_kinds::api::WrittenResource;
use tidegate_policy::{ObjectKind, ObjectRef};

use crate::owner::{LABELS, STAMP_LABEL, owner_of};
use crate::render::{POLICY, VIRTUAL_SERVICE};

/// Kinds of generated objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

/// A marked object as last seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Marked {
    /// The Api that it names as its owner.
    pub(crate) owner: ObjectRef,
    /// The owner's identity.
    pub(crate) owner_uid: String,
    /// Its own name and identity.
    pub(crate) resource: WrittenResource,
    /// Label `apiVersion`.
    pub(crate) stamp: Option<String>,
    content: u64,
}

impl Marked {
    /// `None` for anybody else's object.
    pub(crate) fn read(object: &DynamicObject) -> Option<Self> {
        let (owner, uid) = owner_of(object)?;
        Some(Self {
            owner,
            owner_uid: uid.to_owned(),
            resource: resource_of(object),
            stamp: object.labels().get(STAMP_LABEL).cloned(),
            content: content_of(object),
        })
    }

    /// Whether writing `desired` would change nothing.
    pub(crate) fn is_as(&self, desired: &DynamicObject) -> bool {
        self.content == content_of(desired)
    }

    fn is_under(&self, name: &str) -> bool {
        self.owner.name == name
    }
}

/// Name, identity and version of an object.
pub(crate) fn resource_of(object: &DynamicObject) -> WrittenResource {
    WrittenResource {
        name: object.name_any(),
        uid: object.uid().unwrap_or_default(),
        version: object.resource_version().unwrap_or_default(),
    }
}

/// Everything of an object that is ours: its content without status, our labels and the controlling owner.
fn content_of(object: &DynamicObject) -> u64 {
    let mut hasher = DefaultHasher::new();
    let data: BTreeMap<_, _> = object
        .data
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, value)| *key != "status" && !value.is_null())
        .collect();
    data.hash(&mut hasher);
    for label in LABELS {
        object.labels().get(label).hash(&mut hasher);
    }
    let owners = object.metadata.owner_references.iter().flatten();
    for owner in owners.filter(|owner| owner.controller == Some(true)) {
        (&owner.api_version, &owner.kind, &owner.name, &owner.uid, owner.block_owner_deletion).hash(&mut hasher);
    }
    hasher.finish()
}

type Key = (Projection, String, String);

/// Marked objects by kind, namespace and name. Cheap to clone; clones share the objects.
#[derive(Clone, Debug, Default)]
pub(crate) struct Projections {
    objects: Arc<Mutex<HashMap<Key, Marked>>>,
}

impl Projections {
    /// Takes an object as it is now; one that does not carry the mark is forgotten. Returns the Apis that should look
    /// at it: whoever it belongs to now and before, and the Api of its name, which may wait for the name.
    pub(crate) fn set(&self, kind: Projection, object: &DynamicObject) -> Vec<ObjectRef> {
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        let key = (kind, namespace.clone(), name.clone());
        let now = Marked::read(object);
        let mut objects = self.objects.lock();
        let before = match &now {
            Some(now) => objects.insert(key, now.clone()),
            None => objects.remove(&key),
        };
        drop(objects);
        match (&now, &before) {
            // A label of somebody else, or a status: nothing of ours.
            (Some(now), Some(before)) if now.content == before.content => Vec::new(),
            _ => concerned(&namespace, &name, &[now, before]),
        }
    }

    /// Forgets an object that is gone; returns the Apis that should look at that.
    pub(crate) fn remove(&self, kind: Projection, namespace: &str, name: &str) -> Vec<ObjectRef> {
        let before = self.objects.lock().remove(&(kind, namespace.to_owned(), name.to_owned()));
        concerned(namespace, name, &[before])
    }

    /// The object of that name, if it carries the mark.
    pub(crate) fn get(&self, kind: Projection, namespace: &str, name: &str) -> Option<Marked> {
        self.objects.lock().get(&(kind, namespace.to_owned(), name.to_owned())).cloned()
    }

    /// Marked objects that `is_rendered` does not know, with their kind and namespace.
    pub(crate) fn strays(&self, is_rendered: impl Fn(&Marked) -> bool) -> Vec<(Projection, String, Marked)> {
        let objects = self.objects.lock();
        let strays = objects.iter().filter(|((_, _, name), marked)| !marked.is_under(name) || !is_rendered(marked));
        strays.map(|((kind, namespace, _), marked)| (*kind, namespace.clone(), marked.clone())).collect()
    }
}

fn concerned(namespace: &str, name: &str, marks: &[Option<Marked>]) -> Vec<ObjectRef> {
    let mut apis: Vec<ObjectRef> = marks.iter().flatten().map(|marked| marked.owner.clone()).collect();
    apis.push(ObjectRef::new(ObjectKind::Api, namespace, name));
    apis.sort();
    apis.dedup();
    apis
}
