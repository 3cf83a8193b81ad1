#![expect(clippy::needless_pass_by_value, reason = "`json!` literals are handed over as they are")]

use serde_json::{Value, json};

use super::*;
use crate::Domains;

fn service(metadata: Value, spec: Value) -> ServiceFacts {
    ServiceFacts::read(&serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap())
}

fn slice(value: Value) -> EndpointFacts {
    EndpointFacts::read_slice(&serde_json::from_value(value).unwrap())
}

fn options() -> Options {
    Options { in_process: ["oauth2".to_owned()].into(), ..Options::new(Domains::new(["localhost"])) }
}

fn resolved(service: &ServiceFacts, slices: &[EndpointFacts], port: u16) -> Upstream {
    resolve(("default", "s", port), Some(service), slices.iter(), None, &options())
}

fn addresses(upstream: &Upstream) -> Vec<String> {
    let Upstream::Pool(pool) = upstream else { panic!("{upstream:?}") };
    pool.endpoints
        .iter()
        .map(|endpoint| match &endpoint.host {
            EndpointHost::Ip(address) => format!("{address}:{}", endpoint.port),
            EndpointHost::Name(name) => format!("{name}:{}", endpoint.port),
        })
        .collect()
}

fn spoken(upstream: &Upstream) -> Protocol {
    let Upstream::Pool(pool) = upstream else { panic!("{upstream:?}") };
    pool.protocol
}

#[test]
fn an_external_name_leads_to_a_local_process() {
    let facts = service(
        json!({}),
        json!({"type": "ExternalName", "externalName": "127.0.0.1", "ports": [{"name": "http", "port": 80, "targetPort": 3000}]}),
    );
    assert_eq!(addresses(&resolved(&facts, &[], 80)), ["127.0.0.1:3000"]);
    assert!(matches!(resolved(&facts, &[], 81), Upstream::None(UpstreamProblem::PortNotFound { port: 81, .. })));
    let no_ports = service(json!({}), json!({"type": "ExternalName", "externalName": "host.example."}));
    assert_eq!(addresses(&resolved(&no_ports, &[], 8080)), ["host.example:8080"]);
    let named_target = service(
        json!({}),
        json!({"type": "ExternalName", "externalName": "localhost", "ports": [{"port": 80, "targetPort": "web"}]}),
    );
    assert_eq!(addresses(&resolved(&named_target, &[], 80)), ["localhost:80"]);
}

#[test]
fn slices_are_merged_and_matched_by_port_name() {
    let facts = service(json!({}), json!({"ports": [{"name": "http", "port": 80}, {"name": "admin", "port": 81}]}));
    let one = slice(json!({"metadata": {}, "addressType": "IPv4", "ports": [{"name": "http", "port": 3000}],
        "endpoints": [{"addresses": ["127.0.0.1"]}, {"addresses": ["127.0.0.2"], "conditions": {"ready": false}}]}));
    let two = slice(json!({"metadata": {}, "addressType": "IPv6", "ports": [{"name": "http", "port": 3001}],
        "endpoints": [{"addresses": ["::1"], "conditions": {"ready": true}}, {"addresses": ["nonsense"]}]}));
    let three = slice(json!({"metadata": {}, "addressType": "FQDN", "ports": [{"name": "http", "port": 1}],
        "endpoints": [{"addresses": ["a.example"]}]}));
    assert_eq!(
        addresses(&resolved(&facts, &[one.clone(), two, three], 80)),
        ["127.0.0.1:3000", "::1:3001", "a.example:1"]
    );
    assert!(matches!(resolved(&facts, &[one], 81), Upstream::None(UpstreamProblem::NoEndpoints(_))));
}

#[test]
fn endpoints_count_only_without_slices() {
    let facts = service(json!({}), json!({"ports": [{"port": 80}]}));
    let endpoints = EndpointFacts::read_endpoints(
        &serde_json::from_value(
            json!({"metadata": {}, "subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 3000}]}]}),
        )
        .unwrap(),
    );
    let at = |slices: &[EndpointFacts]| {
        resolve(("default", "s", 80), Some(&facts), slices.iter(), Some(&endpoints), &options())
    };
    assert_eq!(addresses(&at(&[])), ["10.0.0.1:3000"]);
    assert!(matches!(at(&[EndpointFacts::default()]), Upstream::None(UpstreamProblem::NoEndpoints(_))));
}

#[test]
fn the_annotation_wins_over_everything() {
    let spec = json!({"type": "ExternalName", "externalName": "other.example", "selector": {"a": "b"}, "ports": [{"name": "grpc", "port": 80}]});
    let with = |value: &str| service(json!({"annotations": {"tidegate.io/upstream": value}}), spec.clone());
    let two = resolved(&with("http://127.0.0.1:9001, http://127.0.0.1:9000"), &[], 80);
    assert_eq!(
        (addresses(&two), spoken(&two)),
        (vec!["127.0.0.1:9000".to_owned(), "127.0.0.1:9001".to_owned()], Protocol::H2c)
    );
    let tls = resolved(&with("https://a.example"), &[], 9);
    assert_eq!((addresses(&tls), spoken(&tls)), (vec!["a.example:443".to_owned()], Protocol::Tls));
    for bad in [
        "127.0.0.1:80",
        "ftp://a",
        "http://a/path",
        "http://a/",
        "http://a?x",
        "http://u:p@a",
        "http://a,https://a",
        "",
    ] {
        let upstream = resolved(&with(bad), &[], 80);
        assert!(matches!(upstream, Upstream::None(UpstreamProblem::BadAnnotation { .. })), "{bad}: {upstream:?}");
    }
}

#[test]
fn the_protocol_follows_app_protocol_and_port_name() {
    for (port, expected) in [
        (json!({"port": 80}), Protocol::Http1),
        (json!({"port": 80, "name": "grpc-web"}), Protocol::H2c),
        (json!({"port": 80, "name": "http2"}), Protocol::H2c),
        (json!({"port": 80, "name": "https-admin"}), Protocol::Tls),
        (json!({"port": 80, "appProtocol": "kubernetes.io/h2c"}), Protocol::H2c),
        (json!({"port": 80, "appProtocol": "https", "name": "grpc"}), Protocol::Tls),
        (json!({"port": 80, "appProtocol": "http", "name": "grpc"}), Protocol::Http1),
        (json!({"port": 80, "appProtocol": "example.com/x", "name": "h2c"}), Protocol::H2c),
    ] {
        let facts = service(json!({}), json!({"type": "ExternalName", "externalName": "a.example", "ports": [port]}));
        assert_eq!(spoken(&resolved(&facts, &[], 80)), expected, "{port}");
    }
}

#[test]
fn tls_names_and_verification_come_from_annotations() {
    let facts = service(
        json!({"annotations": {"tidegate.io/upstream-sni": "sni.example", "tidegate.io/upstream-tls-verify": "false"}}),
        json!({"type": "ExternalName", "externalName": "a.example", "ports": [{"name": "https", "port": 443}]}),
    );
    let Upstream::Pool(pool) = resolved(&facts, &[], 443) else { panic!() };
    assert_eq!((pool.sni.as_deref(), pool.verify_tls), (Some("sni.example"), false));
}

#[test]
fn our_own_services_are_answered_in_process() {
    let at = |namespace: &str, name: &str, port: u16, facts: Option<&ServiceFacts>| {
        resolve((namespace, name, port), facts, std::iter::empty(), None, &options())
    };
    let api = service(json!({}), json!({"ports": [{"name": "https", "port": 443}]}));
    let kubernetes = Upstream::InProcess("default/kubernetes".to_owned());
    assert_eq!(at("default", "kubernetes", 443, Some(&api)), kubernetes);
    assert_eq!(at("default", "kubernetes", 443, None), kubernetes);
    assert!(matches!(
        at("default", "kubernetes", 80, Some(&api)),
        Upstream::None(UpstreamProblem::PortNotFound { .. })
    ));
    let labelled = service(json!({"labels": {"tidegate.io/system": "true"}}), json!({"ports": [{"port": 80}]}));
    let plain = service(json!({}), json!({"ports": [{"port": 80}]}));
    assert_eq!(at("kyma-system", "oauth2", 80, Some(&labelled)), Upstream::InProcess("kyma-system/oauth2".to_owned()));
    assert!(matches!(at("kyma-system", "oauth2", 80, Some(&plain)), Upstream::None(_)));
    assert!(matches!(at("default", "oauth2", 80, Some(&labelled)), Upstream::None(_)));
    assert!(matches!(at("kyma-system", "other", 80, Some(&labelled)), Upstream::None(_)));
    assert!(matches!(at("default", "s", 80, None), Upstream::None(UpstreamProblem::ServiceMissing(_))));
}
