//! Which resource, version and object a request means.

use std::sync::Arc;

use super::respond::{self, Answer};
use crate::registry::{Registry, ResourceInfo, Subresource, Verb, VersionInfo};
use crate::request_info::ResourceRequest;
use crate::status::ApiError;
use crate::store::{ClusterId, Key, Resource};

/// A request on a resource that is served, with a verb that it has.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) cluster: ClusterId,
    pub(super) resource: Arc<ResourceInfo>,
    /// The requested version; served.
    pub(super) version: Arc<VersionInfo>,
    pub(super) verb: Verb,
    /// Empty for cluster-scoped resources and for lists over all namespaces.
    pub(super) namespace: String,
    pub(super) name: Option<String>,
    pub(super) subresource: Option<Subresource>,
}

/// Why there is no target.
pub(super) enum NoTarget {
    /// No such group and version: nothing of this API lives here.
    Page,
    Refused(ApiError),
}

impl NoTarget {
    pub(super) fn into_answer(self, format: super::negotiate::Format) -> Answer {
        match self {
            Self::Page => respond::page_not_found(),
            Self::Refused(error) => respond::error(&error, format),
        }
    }
}

impl From<ApiError> for NoTarget {
    fn from(error: ApiError) -> Self {
        Self::Refused(error)
    }
}

impl Target {
    /// Finds what a request line names.
    ///
    /// # Errors
    /// 404 for what is not served, 405 for verbs that it does not have.
    pub(super) fn resolve(
        registry: &Registry,
        cluster: ClusterId,
        request: &ResourceRequest,
    ) -> Result<Self, NoTarget> {
        let ResourceRequest { verb, group, version, namespace, resource, name, subresource } = request;
        if !registry.serves(group, version) {
            return Err(NoTarget::Page);
        }
        let resource = registry.served(group, version, resource).ok_or_else(ApiError::no_such_path)?;
        let version = resource.version(version).ok_or_else(ApiError::no_such_path)?;
        let is_namespace = resource.group.is_empty() && &*resource.plural == "namespaces";
        let namespace = if is_namespace { "" } else { namespace.as_str() };
        if !resource.namespaced && !namespace.is_empty() {
            return Err(ApiError::no_such_path().into());
        }
        if resource.namespaced && namespace.is_empty() {
            if name.is_some() {
                return Err(ApiError::no_such_path().into());
            }
            if !matches!(verb, Verb::List | Verb::Watch) {
                return Err(ApiError::method_not_allowed().into());
            }
        }
        let subresource = match subresource {
            None => None,
            Some(wanted) => Some(version.subresource(wanted).cloned().ok_or_else(ApiError::no_such_path)?),
        };
        // Creating happens in a collection, changing under a name.
        let misplaced = match verb {
            Verb::Create => name.is_some(),
            Verb::Update | Verb::Patch => name.is_none(),
            Verb::Get | Verb::List | Verb::Watch | Verb::Delete | Verb::DeleteCollection => false,
        };
        let allowed = match &subresource {
            Some(subresource) => subresource.verbs.contains(verb),
            None => resource.allows(*verb) && !misplaced,
        };
        if !allowed {
            return Err(ApiError::method_not_allowed().into());
        }
        Ok(Self {
            cluster,
            version: Arc::new(version.clone()),
            resource: Arc::clone(resource),
            verb: *verb,
            namespace: namespace.to_owned(),
            name: name.clone(),
            subresource,
        })
    }

    pub(super) fn group(&self) -> &str {
        &self.resource.group
    }

    pub(super) fn plural(&self) -> &str {
        &self.resource.plural
    }

    pub(super) fn kind(&self) -> &str {
        &self.resource.kind
    }

    /// The storage's name of the resource.
    pub(super) fn storage(&self) -> Resource {
        Resource::new(&self.resource.storage_group, &self.resource.plural)
    }

    pub(super) fn key(&self, name: &str) -> Key {
        Key::new(self.cluster, &self.storage(), &self.namespace, name)
    }

    /// The object's name; empty for collections, whose handlers do not ask.
    pub(super) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    /// `status`, `scale`, `finalize` or nothing.
    pub(super) fn subresource_name(&self) -> &str {
        self.subresource.as_ref().map_or("", |subresource| &subresource.name)
    }

    pub(super) fn not_found(&self, name: &str) -> ApiError {
        ApiError::not_found(self.group(), self.plural(), name)
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::request_info::{RequestInfo, Target as Line};

    fn resolve(method: &Method, path: &str) -> Result<Target, u16> {
        let Line::Resource(request) = RequestInfo::parse(method, path, None).unwrap().target else { panic!("{path}") };
        Target::resolve(&Registry::builtin(), ClusterId::ROOT, &request).map_err(|none| match none {
            NoTarget::Page => 0,
            NoTarget::Refused(error) => error.code,
        })
    }

    #[test]
    fn unknown_paths_are_404_and_missing_verbs_405() {
        for (method, path, code) in [
            (Method::GET, "/apis/none/v1/things", 0),
            (Method::GET, "/api/v1/pods", 404),
            (Method::GET, "/api/v1/configmaps/a", 404),
            (Method::POST, "/api/v1/configmaps", 405),
            (Method::DELETE, "/api/v1/configmaps", 405),
            (Method::DELETE, "/api/v1/namespaces", 405),
            (Method::POST, "/api/v1/namespaces/n/configmaps/a", 405),
            (Method::PUT, "/api/v1/namespaces/n/configmaps", 405),
            (Method::PATCH, "/api/v1/namespaces", 405),
            (Method::GET, "/api/v1/namespaces/n/configmaps/a/status", 404),
            (Method::GET, "/api/v1/namespaces/n/finalize", 405),
            (Method::GET, "/apis/apiextensions.k8s.io/v1/namespaces/n/customresourcedefinitions", 404),
        ] {
            assert_eq!(resolve(&method, path).unwrap_err(), code, "{method} {path}");
        }
        let target = resolve(&Method::PUT, "/api/v1/namespaces/n/finalize").unwrap();
        assert_eq!((target.namespace.as_str(), target.name(), target.subresource_name()), ("", "n", "finalize"));
        let target = resolve(&Method::GET, "/apis/events.k8s.io/v1/events").unwrap();
        assert_eq!(target.storage(), Resource::new("", "events"));
    }
}
