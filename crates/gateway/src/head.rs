//! Host and path of a request, before anything is looked up with them. SPEC 30 §6.2, §6.4

use http::header::HOST;
use http::request::Parts;
use http::uri::{Authority, PathAndQuery};
use http::{HeaderValue, Method, Version};
use tidegate_policy::{Host, NormalizedPath, PathError, Reason};

use crate::answer::Answer;
use crate::framing::MAX_TARGET;

/// The authority that a request names, independent of the request (the bytes are shared, not copied).
#[derive(Debug, Clone)]
pub(crate) enum Named {
    Header(HeaderValue),
    Target(Authority),
}

impl Named {
    /// As the client wrote it; `None` when it is not text.
    pub(crate) fn as_str(&self) -> Option<&str> {
        match self {
            Self::Header(value) => value.to_str().ok(),
            Self::Target(authority) => Some(authority.as_str()),
        }
    }

    /// As the `Host` header towards the upstream.
    pub(crate) fn to_header(&self) -> Option<HeaderValue> {
        match self {
            Self::Header(value) => Some(value.clone()),
            Self::Target(authority) => HeaderValue::from_str(authority.as_str()).ok(),
        }
    }

    /// In the comparable form.
    pub(crate) fn host(&self) -> Result<Host<'_>, Answer> {
        let text = self.as_str().ok_or_else(|| host_refused("the host is not text"))?;
        Host::parse_authority(text).map_err(|_| host_refused("the host is not a host name"))
    }
}

fn host_refused(text: &'static str) -> Answer {
    Answer::bad_request(Reason::HostMalformed, text)
}

/// Finds the one authority of a request.
pub(crate) fn authority(parts: &Parts) -> Result<Named, Answer> {
    let mut headers = parts.headers.get_all(HOST).iter();
    let header = headers.next();
    if headers.next().is_some() {
        return Err(host_refused("there must be exactly one host"));
    }
    match (parts.uri.authority(), header) {
        (None, None) => Err(host_refused("there must be exactly one host")),
        (None, Some(header)) => Ok(Named::Header(header.clone())),
        (Some(target), None) => Ok(Named::Target(target.clone())),
        (Some(target), Some(header)) => {
            let named = Named::Target(target.clone());
            let header = Named::Header(header.clone());
            // The port is no part of the comparable form, so it is compared on its own.
            let (one, other) = (named.host()?, header.host()?);
            let is_same_port = one.port() == other.port() || one.port().is_none() || other.port().is_none();
            if one != other || !is_same_port {
                return Err(host_refused("the request target and the host header differ"));
            }
            // What the client wrote as Host stays, where both mean the same.
            Ok(if parts.version == Version::HTTP_2 { named } else { header })
        }
    }
}

/// The path of a target in the form that everything else sees.
pub(crate) fn path<'t>(method: &Method, target: Option<&'t PathAndQuery>) -> Result<NormalizedPath<'t>, Answer> {
    // A target of only an authority belongs to CONNECT.
    let Some(target) = target else { return Err(refused("the path must begin with a slash")) };
    // HTTP/1 was measured by the scanner.
    if target.as_str().len() > MAX_TARGET {
        return Err(Answer::target_too_long());
    }
    let raw = target.path();
    NormalizedPath::parse(raw).map_err(|error| match error {
        PathError::Asterisk if method == Method::OPTIONS => Answer::not_found(Reason::NoRoute),
        PathError::Asterisk | PathError::NotAbsolute => refused("the path must begin with a slash"),
        PathError::Character => refused("the path contains a character that must be percent-encoded"),
        PathError::Encoding => refused("the path contains a malformed percent-encoding"),
        PathError::DotParameter | PathError::HiddenDotSegment => refused("the path contains a disguised dot segment"),
    })
}

fn refused(text: &'static str) -> Answer {
    Answer::bad_request(Reason::PathMalformed, text)
}

/// The target towards the upstream: normalized path, untouched query. Nothing is copied when the path was normal.
pub(crate) fn upstream_target(
    target: Option<&PathAndQuery>,
    path: &NormalizedPath<'_>,
    query: Option<&str>,
) -> Result<PathAndQuery, Answer> {
    if let Some(target) = target
        && target.path() == path.as_str()
        && target.query() == query
    {
        return Ok(target.clone());
    }
    let text = match query {
        Some(query) => format!("{}?{query}", path.as_str()),
        None => path.as_str().to_owned(),
    };
    PathAndQuery::try_from(text).map_err(|_| refused("the path is no request target"))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn parts(version: Version, uri: &str, hosts: &[&str]) -> Parts {
        let mut builder = Request::builder().version(version).uri(uri);
        for host in hosts {
            builder = builder.header(HOST, *host);
        }
        builder.body(()).unwrap().into_parts().0
    }

    #[track_caller]
    fn check(version: Version, uri: &str, hosts: &[&str], expected: Result<&str, ()>) {
        let parts = parts(version, uri, hosts);
        let found = authority(&parts).and_then(|named| named.host().map(|host| host.as_str().to_owned()));
        assert_eq!(found.as_deref().map_err(|_| ()), expected, "{uri} {hosts:?}");
    }

    #[test]
    fn a_request_names_exactly_one_host() {
        let http1 = Version::HTTP_11;
        check(http1, "/", &["A.LocalHost:8080"], Ok("a.localhost"));
        check(http1, "/", &["a.localhost."], Ok("a.localhost"));
        check(http1, "/", &[], Err(()));
        check(http1, "/", &["a", "a"], Err(()));
        check(http1, "/", &[""], Err(()));
        check(http1, "/", &["a, b"], Err(()));
        check(http1, "/", &["a/b"], Err(()));
        check(http1, "/", &["user@a"], Err(()));
        check(http1, "/", &[&"l".repeat(64)], Err(()));
        check(http1, "/", &[&"l".repeat(63)], Ok(&"l".repeat(63)));
        check(http1, "http://a/x", &["a"], Ok("a"));
        check(http1, "http://a:80/x", &["A"], Ok("a"));
        check(http1, "http://a/x", &["b"], Err(()));
        check(http1, "http://a:1/x", &["a:2"], Err(()));
        check(http1, "http://a/x", &[], Ok("a"));
        check(Version::HTTP_2, "http://a/x", &["b"], Err(()));
        check(Version::HTTP_2, "http://a/x", &["a"], Ok("a"));
        check(Version::HTTP_2, "http://a/x", &[], Ok("a"));
        check(http1, "/", &["[::1]:80"], Ok("[::1]"));
    }

    #[test]
    fn a_normal_target_is_passed_on_as_it_is() {
        let target = PathAndQuery::from_static("/a%2Fb?x=/../y");
        let path = path(&Method::GET, Some(&target)).unwrap();
        assert_eq!(upstream_target(Some(&target), &path, target.query()).unwrap(), target);
        let target = PathAndQuery::from_static("/a//b/../c?x=/../y");
        let path = super::path(&Method::GET, Some(&target)).unwrap();
        assert_eq!(upstream_target(Some(&target), &path, target.query()).unwrap(), "/a/c?x=/../y");
    }

    #[test]
    fn the_asterisk_is_a_path_for_options_only() {
        let target = PathAndQuery::from_static("*");
        assert_eq!(path(&Method::OPTIONS, Some(&target)).unwrap_err().status, 404);
        assert_eq!(path(&Method::GET, Some(&target)).unwrap_err().status, 400);
    }
}
