//! Names of objects.

use std::fmt;

/// Kinds that the route model is made of or speaks about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKind {
    /// `Api` of `gateway.kyma-project.io`.
    Api,
    /// Core `Service`.
    Service,
    /// `EndpointSlice` of `discovery.k8s.io`.
    EndpointSlice,
    /// Core `Endpoints`.
    Endpoints,
    /// `VirtualService` of `networking.istio.io`.
    VirtualService,
    /// `Gateway` of `networking.istio.io`.
    Gateway,
    /// `Policy` of `authentication.istio.io`.
    Policy,
    /// Core `Secret`.
    Secret,
}

impl ObjectKind {
    /// The kind as Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Api => "Api",
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Endpoints => "Endpoints",
            Self::VirtualService => "VirtualService",
            Self::Gateway => "Gateway",
            Self::Policy => "Policy",
            Self::Secret => "Secret",
        }
    }
}

/// One namespaced object by kind and name. `Display` gives `Kind/namespace/name`, the form of the access log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    /// Kind of the object.
    pub kind: ObjectKind,
    /// Namespace of the object.
    pub namespace: String,
    /// Name of the object.
    pub name: String,
}

impl ObjectRef {
    /// A reference from its parts.
    pub fn new(kind: ObjectKind, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { kind, namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.kind.as_str(), self.namespace, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_written_as_in_the_access_log() {
        assert_eq!(ObjectRef::new(ObjectKind::Api, "default", "sample").to_string(), "Api/default/sample");
    }
}
