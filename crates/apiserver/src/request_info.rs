//! What a request asks for: method, path and query read once into a [`RequestInfo`] (SPEC 60 §3).
//!
//! Pure; hostile input ends in an error or in [`Target::NonResource`], never in a panic. A path segment is decoded
//! after splitting, so an encoded slash never moves a boundary.

mod query;
#[cfg(test)]
mod tests;

use http::Method;
use percent_encoding::percent_decode_str;

pub use crate::registry::Verb;
pub use query::{MAX_QUERY_KEYS, Query};

/// A logical cluster's id as written in `/clusters/<id>/...`: it cannot hold `/` or `:` (SPEC 60 §2.1).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClusterName(String);

impl ClusterName {
    /// `^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`.
    pub fn parse(text: &str) -> Option<Self> {
        let edge = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let bytes = text.as_bytes();
        let sound = bytes.len() <= 63
            && bytes.first().is_some_and(edge)
            && bytes.last().is_some_and(edge)
            && bytes.iter().all(|byte| edge(byte) || *byte == b'-');
        sound.then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The product's own cluster.
    pub fn is_root(&self) -> bool {
        self.0 == "root"
    }
}

/// A request on a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceRequest {
    pub verb: Verb,
    /// Empty for core.
    pub group: String,
    pub version: String,
    /// Empty for cluster-scoped requests and for those across all namespaces. For the Namespace object itself it is
    /// the object's name, as RBAC expects.
    pub namespace: String,
    /// Plural name.
    pub resource: String,
    /// `None` for collections.
    pub name: Option<String>,
    pub subresource: Option<String>,
}

/// Where the request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Resource(ResourceRequest),
    /// The path without cluster prefix and without trailing slash (except `/` itself).
    NonResource(String),
}

/// A parsed request line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestInfo {
    /// Set when the path began with `/clusters/<id>`.
    pub cluster: Option<ClusterName>,
    pub target: Target,
    pub query: Query,
}

/// Why a request line cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestInfoError {
    /// HEAD, OPTIONS, CONNECT and the rest (405).
    #[error("method not supported")]
    Method,
    /// No such path (404): empty segments, bad escapes, `/watch/` prefixes.
    #[error("path not found")]
    Path,
    /// More than [`MAX_QUERY_KEYS`] query parameters (400).
    #[error("more than {MAX_QUERY_KEYS} query parameters")]
    Query,
}

impl RequestInfo {
    /// Reads method, path and query.
    ///
    /// # Errors
    /// See [`RequestInfoError`].
    pub fn parse(method: &Method, path: &str, query: Option<&str>) -> Result<Self, RequestInfoError> {
        let method = Known::from(method).ok_or(RequestInfoError::Method)?;
        let query = Query::parse(query.unwrap_or_default()).ok_or(RequestInfoError::Query)?;
        let path = path.strip_prefix('/').ok_or(RequestInfoError::Path)?;
        let mut segments = Vec::new();
        for raw in path.strip_suffix('/').unwrap_or(path).split('/') {
            let segment = percent_decode_str(raw).decode_utf8().map_err(|_| RequestInfoError::Path)?;
            // An encoded slash, a dot segment or a control character is never part of a name that exists.
            if segment.contains('/') || segment == "." || segment == ".." || segment.chars().any(char::is_control) {
                return Err(RequestInfoError::Path);
            }
            segments.push(segment.into_owned());
        }
        let mut segments: &[String] = &segments;
        if let [empty] = segments
            && empty.is_empty()
        {
            segments = &[];
        }
        if segments.iter().any(String::is_empty) {
            return Err(RequestInfoError::Path);
        }
        let mut cluster = None;
        if let [prefix, id, rest @ ..] = segments
            && prefix == "clusters"
        {
            cluster = Some(ClusterName::parse(id).ok_or(RequestInfoError::Path)?);
            segments = rest;
        }
        let target = match resource_request(method, segments, &query)? {
            Some(request) => Target::Resource(request),
            None => Target::NonResource(format!("/{}", segments.join("/"))),
        };
        Ok(Self { cluster, target, query })
    }
}

/// The methods this API has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

impl Known {
    fn from(method: &Method) -> Option<Self> {
        match method.as_str() {
            "GET" => Some(Self::Get),
            "POST" => Some(Self::Post),
            "PUT" => Some(Self::Put),
            "PATCH" => Some(Self::Patch),
            "DELETE" => Some(Self::Delete),
            _ => None,
        }
    }
}

fn resource_request(
    method: Known,
    segments: &[String],
    query: &Query,
) -> Result<Option<ResourceRequest>, RequestInfoError> {
    let (group, version, rest) = match segments {
        [api, version, rest @ ..] if api == "api" => (String::new(), version, rest),
        [apis, group, version, rest @ ..] if apis == "apis" => (group.clone(), version, rest),
        _ => return Ok(None),
    };
    // `/api/v1` and `/apis/g/v1` are discovery documents.
    if rest.is_empty() {
        return Ok(None);
    }
    let (namespace, resource, name, subresource) = match rest {
        // SPEC 60 §3: the deprecated prefix is not served.
        [watch, _, ..] if watch == "watch" => return Err(RequestInfoError::Path),
        [namespaces, namespace, resource, tail @ ..]
            if namespaces == "namespaces" && !(tail.is_empty() && is_namespace_subresource(&group, resource)) =>
        {
            let (name, subresource) = name_and_subresource(tail)?;
            (namespace.clone(), resource.clone(), name, subresource)
        }
        [namespaces, name, tail @ ..] if namespaces == "namespaces" && group.is_empty() => {
            (name.clone(), namespaces.clone(), Some(name.clone()), tail.first().cloned())
        }
        [resource, tail @ ..] => {
            let (name, subresource) = name_and_subresource(tail)?;
            (String::new(), resource.clone(), name, subresource)
        }
        [] => return Ok(None),
    };
    let verb = match (method, name.is_some()) {
        (Known::Post, _) => Verb::Create,
        (Known::Put, _) => Verb::Update,
        (Known::Patch, _) => Verb::Patch,
        (Known::Delete, true) => Verb::Delete,
        (Known::Delete, false) => Verb::DeleteCollection,
        (Known::Get, true) => Verb::Get,
        (Known::Get, false) if query.flag("watch") => Verb::Watch,
        (Known::Get, false) => Verb::List,
    };
    Ok(Some(ResourceRequest { verb, group, version: version.clone(), namespace, resource, name, subresource }))
}

/// `/api/v1/namespaces/x/status` is a part of the Namespace, not a collection of `status` objects.
fn is_namespace_subresource(group: &str, segment: &str) -> bool {
    group.is_empty() && matches!(segment, "status" | "finalize")
}

fn name_and_subresource(tail: &[String]) -> Result<(Option<String>, Option<String>), RequestInfoError> {
    match tail {
        [] => Ok((None, None)),
        [name] => Ok((Some(name.clone()), None)),
        [name, subresource] => Ok((Some(name.clone()), Some(subresource.clone()))),
        _ => Err(RequestInfoError::Path),
    }
}
