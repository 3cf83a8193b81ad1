use proptest::prelude::*;

use super::*;

fn parse(method: &Method, target: &str) -> Result<RequestInfo, RequestInfoError> {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    RequestInfo::parse(method, path, query)
}

/// `verb group/version namespace resource name subresource`, `-` for absent.
fn shown(method: &Method, target: &str) -> String {
    match parse(method, target).map(|info| info.target) {
        Ok(Target::Resource(request)) => format!(
            "{} {}/{} {} {} {} {}",
            request.verb.as_str(),
            request.group,
            request.version,
            if request.namespace.is_empty() { "-" } else { &request.namespace },
            request.resource,
            request.name.as_deref().unwrap_or("-"),
            request.subresource.as_deref().unwrap_or("-")
        ),
        Ok(Target::NonResource(path)) => path,
        Err(error) => error.to_string(),
    }
}

#[test]
fn paths_and_methods_name_verb_and_object() {
    for (method, target, expected) in [
        (Method::GET, "/api/v1/configmaps", "list /v1 - configmaps - -"),
        (Method::GET, "/api/v1/configmaps?watch=true", "watch /v1 - configmaps - -"),
        (Method::GET, "/api/v1/configmaps?watch=1", "watch /v1 - configmaps - -"),
        (Method::GET, "/api/v1/configmaps?watch=false", "list /v1 - configmaps - -"),
        (Method::GET, "/api/v1/namespaces/n/configmaps/a", "get /v1 n configmaps a -"),
        (Method::GET, "/api/v1/namespaces/n/configmaps/a?watch=1", "get /v1 n configmaps a -"),
        (Method::POST, "/api/v1/namespaces/n/configmaps", "create /v1 n configmaps - -"),
        (Method::PUT, "/api/v1/namespaces/n/configmaps/a", "update /v1 n configmaps a -"),
        (Method::PATCH, "/api/v1/namespaces/n/services/a/status", "patch /v1 n services a status"),
        (Method::DELETE, "/api/v1/namespaces/n/configmaps/a", "delete /v1 n configmaps a -"),
        (Method::DELETE, "/api/v1/namespaces/n/configmaps", "deletecollection /v1 n configmaps - -"),
        (Method::GET, "/api/v1/namespaces", "list /v1 - namespaces - -"),
        (Method::GET, "/api/v1/namespaces/n", "get /v1 n namespaces n -"),
        (Method::PUT, "/api/v1/namespaces/n/finalize", "update /v1 n namespaces n finalize"),
        (Method::GET, "/api/v1/namespaces/n/status", "get /v1 n namespaces n status"),
        (Method::GET, "/apis/g.example/v1/namespaces/n/widgets/a/scale", "get g.example/v1 n widgets a scale"),
        (Method::GET, "/apis/g.example/v1/widgets/a", "get g.example/v1 - widgets a -"),
        (Method::GET, "/apis/g.example/v1/namespaces/n/status", "list g.example/v1 n status - -"),
        (Method::GET, "/api/v1/namespaces/n/configmaps/", "list /v1 n configmaps - -"),
        (Method::GET, "/api/v1/namespaces/n/configmaps/a%3Ab", "get /v1 n configmaps a:b -"),
        (Method::GET, "/api/v1", "/api/v1"),
        (Method::GET, "/apis/g/v1", "/apis/g/v1"),
        (Method::GET, "/", "/"),
        (Method::GET, "/version/", "/version"),
        (Method::GET, "/api/v1/watch/configmaps", "path not found"),
        (Method::GET, "/api/v1/namespaces/n/configmaps/a/b/c", "path not found"),
        (Method::GET, "/api/v1//configmaps", "path not found"),
        (Method::GET, "/api/v1/namespaces/n%2Fx/configmaps", "path not found"),
        (Method::GET, "/api/v1/namespaces/%2e%2e/configmaps", "path not found"),
        (Method::GET, "/api/v1/namespaces/%ff/configmaps", "path not found"),
        (Method::HEAD, "/api/v1/configmaps", "method not supported"),
        (Method::OPTIONS, "/api/v1/configmaps", "method not supported"),
    ] {
        assert_eq!(shown(&method, target), expected, "{target}");
    }
}

#[test]
fn a_cluster_prefix_is_taken_off() {
    let info = parse(&Method::GET, "/clusters/root/api/v1/configmaps").unwrap();
    assert!(info.cluster.unwrap().is_root());
    assert!(matches!(info.target, Target::Resource(request) if request.resource == "configmaps"));
    let info = parse(&Method::GET, "/clusters/root").unwrap();
    assert_eq!(info.target, Target::NonResource("/".into()));
    assert_eq!(parse(&Method::GET, "/clusters/a:b/api").unwrap_err(), RequestInfoError::Path);
    assert_eq!(parse(&Method::GET, "/clusters/-a/api").unwrap_err(), RequestInfoError::Path);
    assert_eq!(parse(&Method::GET, "/clusters/*/api").unwrap_err(), RequestInfoError::Path);
}

#[test]
fn a_query_may_begin_with_an_ampersand() {
    let info = parse(&Method::GET, "/api/v1/configmaps?&limit=500&labelSelector=a%3Db+c").unwrap();
    assert_eq!(info.query.get("limit"), Some("500"));
    assert_eq!(info.query.get("labelSelector"), Some("a=b c"));
    assert_eq!(info.query.get("continue"), None);
}

#[test]
fn more_than_64_parameters_are_refused() {
    let query = |count: usize| vec!["a=b"; count].join("&");
    assert!(Query::parse(&query(64)).is_some());
    assert!(Query::parse(&query(65)).is_none());
}

proptest! {
    #[test]
    fn any_path_is_read_or_refused_and_no_name_holds_a_slash(path in "(/|[a-z0-9%.:~-]{0,4}|api|apis|namespaces|clusters|v1|watch){0,12}", query in "[a-z=&%0-9]{0,40}") {
        if let Ok(RequestInfo { target: Target::Resource(request), .. }) = RequestInfo::parse(&Method::GET, &path, Some(&query)) {
            for part in [&request.group, &request.version, &request.namespace, &request.resource] {
                prop_assert!(!part.contains('/'));
            }
            prop_assert!(!request.resource.is_empty() && !request.version.is_empty());
            prop_assert!(request.name.as_deref().is_none_or(|name| !name.is_empty() && !name.contains('/')));
        }
    }

    #[test]
    fn a_path_built_from_names_reads_back(namespace in "[a-z]{1,8}", resource in "[b-m]{1,8}", name in "[a-z0-9.:-]{1,8}") {
        prop_assume!(name != "." && name != "..");
        let path = format!("/apis/g.example/v1/namespaces/{namespace}/{resource}/{name}");
        let info = RequestInfo::parse(&Method::DELETE, &path, None).unwrap();
        prop_assert_eq!(info.target, Target::Resource(ResourceRequest {
            verb: Verb::Delete, group: "g.example".into(), version: "v1".into(), namespace, resource,
            name: Some(name), subresource: None,
        }));
    }
}
