//! What an object is stored under: logical cluster, resource, namespace, name.

use std::fmt;
use std::sync::Arc;

/// A logical cluster: one complete, isolated Kubernetes API (SPEC 60 §2). Obtained from the store by name,
/// so that no path-shaped text can ever reach a storage key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub(crate) i64);

impl ClusterId {
    /// The product's own API, always present.
    pub const ROOT: Self = Self(1);
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A group and a plural resource name; the version is not part of it (one stored copy serves all versions).
/// The core group is the empty text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Resource {
    pub group: Arc<str>,
    pub resource: Arc<str>,
}

impl Resource {
    pub fn new(group: &str, resource: &str) -> Self {
        Self { group: group.into(), resource: resource.into() }
    }
}

/// `configmaps` for the core group, else `apis.gateway.kyma-project.io`: the name a CRD has.
impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.group.is_empty() { f.write_str(&self.resource) } else { write!(f, "{}.{}", self.resource, self.group) }
    }
}

/// Namespace and name, the order of lists (SPEC 60 §8). The namespace is empty for cluster-scoped objects.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    pub namespace: Arc<str>,
    pub name: Arc<str>,
}

impl Name {
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

/// The full storage key of one object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub cluster: ClusterId,
    pub resource: Resource,
    pub name: Name,
}

impl Key {
    /// `namespace` is empty for cluster-scoped objects.
    pub fn new(cluster: ClusterId, resource: &Resource, namespace: &str, name: &str) -> Self {
        Self { cluster, resource: resource.clone(), name: Name::new(namespace, name) }
    }
}

/// `configmaps/default/a`, `namespaces/default`: for logs.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.namespace.is_empty() {
            write!(f, "{}/{}", self.resource, self.name.name)
        } else {
            write!(f, "{}/{}/{}", self.resource, self.name.namespace, self.name.name)
        }
    }
}
