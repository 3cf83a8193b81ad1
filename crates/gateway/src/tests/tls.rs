//! SPEC 30 §6.10: certificates, client certificates, redirects, and HTTP/2.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use parking_lot::Mutex;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use serde_json::{Value, json};
use tidegate_pki::{Authority, ClientIdentity, Credential};
use tidegate_policy::index::Input as Object;
use tidegate_policy::{Domains, ObjectKind, ObjectRef, Table};
use tidegate_runtime::Clock;
use tidegate_testkit::upstream::{Seen, Upstream, UpstreamOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::edge::{Answer, DEADLINE, Edge};
use crate::Input;
use crate::tls::default::DefaultCertificates;

/// A TLS connection that trusts `authority` and asks for `name`.
async fn connect(
    edge: &Edge,
    authority: &Authority,
    name: &str,
    client: Option<&Credential>,
    alpn: &[u8],
) -> io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match client {
        None => builder.with_no_client_auth(),
        Some(own) => builder.with_client_auth_cert(own.chain().to_vec(), own.private_key().unwrap()).unwrap(),
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    let socket = TcpStream::connect(edge.gateway.https().unwrap()).await?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, socket).await
}

/// `GET /` with `Connection: close` over TLS.
async fn get(mut stream: TlsStream<TcpStream>, host: &str) -> io::Result<Answer> {
    stream.write_all(format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes()).await?;
    let mut text = String::new();
    tokio::time::timeout(DEADLINE, stream.read_to_string(&mut text)).await.unwrap()?;
    Ok(Answer::parse(&text))
}

fn names(stream: &TlsStream<TcpStream>) -> Vec<String> {
    let chain = stream.get_ref().1.peer_certificates().unwrap();
    ClientIdentity::from_der(chain).unwrap().dns_names
}

fn gateway(name: &str, servers: &Value) -> Object {
    let object = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "Gateway",
        "metadata": {"name": name, "namespace": "default", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"servers": servers},
    });
    Object::Gateway(Box::new(serde_json::from_value(object).unwrap()))
}

fn secret(name: &str, version: &str, data: &[(&str, &str)]) -> Input {
    let data: BTreeMap<_, _> =
        data.iter().map(|(key, text)| ((*key).to_owned(), ByteString(text.as_bytes().to_vec()))).collect();
    let mut secret = Secret { data: Some(data), ..Secret::default() };
    secret.metadata.resource_version = Some(version.to_owned());
    Input::Secret(ObjectRef::new(ObjectKind::Secret, "default", name), Some(Box::new(secret)))
}

fn issue(authority: &Authority, name: &str) -> Credential {
    authority.issue_server(&[name], &[], Clock::system().now(), Duration::from_hours(1)).unwrap()
}

#[tokio::test]
async fn live_hosts_get_a_certificate_with_their_name_and_strangers_do_not() {
    let upstream = Upstream::start().await.unwrap();
    let edge = Edge::exposing("app", upstream.address()).await;
    let stream = connect(&edge, &edge.authority, "app.localhost", None, b"http/1.1").await.unwrap();
    assert_eq!(names(&stream), ["app.localhost", "localhost", "*.localhost"]);
    let answer = get(stream, "app.localhost").await.unwrap();
    let seen = answer.seen();
    assert_eq!((seen.header("x-forwarded-proto"), seen.header("x-forwarded-client-cert")), (Some("https"), None));
    let stranger = connect(&edge, &edge.authority, "nobody.localhost", None, b"http/1.1").await;
    if let Ok(stream) = &stranger {
        assert!(!names(stream).contains(&"nobody.localhost".to_owned()));
    }
    let system = connect(&edge, &edge.authority, "oauth2.localhost", None, b"http/1.1").await.unwrap();
    assert!(names(&system).contains(&"oauth2.localhost".to_owned()));
}

#[tokio::test]
async fn http2_is_served_over_tls_and_with_prior_knowledge() {
    let upstream = Upstream::start().await.unwrap();
    let edge = Edge::exposing("app", upstream.address()).await;
    let stream = connect(&edge, &edge.authority, "app.localhost", None, b"h2").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let plain = TcpStream::connect(edge.http()).await.unwrap();
    let (mut over_tls, driver) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    drop(edge.tasks.spawn("client", driver));
    let (mut over_tcp, driver) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(plain)).await.unwrap();
    drop(edge.tasks.spawn("client", driver));
    for (sender, scheme) in [(&mut over_tls, "https"), (&mut over_tcp, "http")] {
        let ask = |path: &str| {
            http::Request::builder()
                .uri(format!("{scheme}://app.localhost{path}"))
                .body(Empty::<bytes::Bytes>::new())
                .unwrap()
        };
        let response = sender.send_request(ask("/a//b?c")).await.unwrap();
        assert_eq!((response.status().as_u16(), response.version()), (200, http::Version::HTTP_2));
        let seen: Seen = serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap();
        assert_eq!((seen.path.as_str(), seen.header("host")), ("/a/b?c", Some("app.localhost")));
        assert_eq!(seen.header("x-forwarded-proto"), Some(scheme));
        // A truncated body is a reset stream, not a short answer.
        let response = sender.send_request(ask("/truncate")).await.unwrap();
        assert!(response.into_body().collect().await.is_err());
        let mut differing = ask("/");
        differing.headers_mut().insert("host", "other.localhost".parse().unwrap());
        assert_eq!(sender.send_request(differing).await.unwrap().status(), 400);
    }
    assert_eq!(upstream.requests(), 4);
}

#[tokio::test]
async fn a_client_that_resets_streams_again_and_again_is_cut_off() {
    let upstream = Upstream::start().await.unwrap();
    let edge = Edge::exposing("app", upstream.address()).await;
    let socket = TcpStream::connect(edge.http()).await.unwrap();
    let (mut sender, driver) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await.unwrap();
    drop(edge.tasks.spawn("client", driver));
    let mut started = 0;
    for count in 0..2_000 {
        if sender.ready().await.is_err() {
            break;
        }
        let request = http::Request::get("http://app.localhost/slow/1000000").body(Empty::<bytes::Bytes>::new());
        let response = sender.send_request(request.unwrap());
        started = count + 1;
        // Sent, then taken back.
        let _ = tokio::time::timeout(Duration::from_millis(1), response).await;
    }
    assert!(sender.is_closed(), "still served after {started} resets");
    assert!(started < 1_000, "{started} streams");
    assert_eq!(edge.get("app.localhost", "/").await.status, 200);
}

#[tokio::test]
async fn trailers_pass_from_http2_to_http2() {
    let upstream = Upstream::start_with(UpstreamOptions { http2: true, ..UpstreamOptions::default() }).await.unwrap();
    let mut edge = Edge::start().await;
    edge.service("grpc", json!({"name": "grpc"}), upstream.address()).await;
    edge.api("grpc", json!({})).await;
    let socket = TcpStream::connect(edge.http()).await.unwrap();
    let (mut sender, driver) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await.unwrap();
    drop(edge.tasks.spawn("client", driver));
    let request = http::Request::post("http://grpc.localhost/trailers").header("te", "trailers");
    let request = request.body(Full::new(bytes::Bytes::from_static(b"question"))).unwrap();
    let body = sender.send_request(request).await.unwrap().into_body().collect().await.unwrap();
    assert_eq!(body.trailers().unwrap()["x-checksum"], "abc");
    let seen = upstream.last().unwrap();
    assert_eq!((seen.body.as_str(), seen.header("te")), ("question", Some("trailers")));
}

#[tokio::test]
async fn the_default_certificate_is_kept_in_its_secret_and_renewed() {
    let (clock, hands) = Clock::manual("2026-01-01T00:00:00Z".parse().unwrap());
    let authority = Arc::new(Authority::generate("test authority", clock.now()).unwrap());
    let (table, _writer) = Table::new();
    let domains = Domains::new(["localhost"]);
    let keeper = DefaultCertificates::new(Arc::clone(&authority), clock.clone(), domains, table).unwrap();
    let (client, stored) = one_secret_api();
    let leaf = || stored.lock().as_ref().map(|secret| secret["data"]["tls.crt"].clone());

    keeper.keep(&client).await.unwrap();
    let first = leaf().expect("the Secret was created");
    assert_eq!(stored.lock().as_ref().unwrap()["type"], "kubernetes.io/tls");
    hands.advance(Duration::from_hours(24 * 59));
    keeper.keep(&client).await.unwrap();
    assert_eq!(leaf().as_ref(), Some(&first), "before two thirds of its life it stays");
    hands.advance(Duration::from_hours(24 * 2));
    keeper.keep(&client).await.unwrap();
    let second = leaf().unwrap();
    assert_ne!(second, first, "after two thirds of its life it is renewed");

    // What an operator puts there is served and left alone.
    let own = issue(&authority, "localhost");
    let encoded = |text: &str| base64_of(text);
    stored.lock().as_mut().unwrap()["data"] = json!({
        "tls.crt": encoded(own.chain_pem()), "tls.key": encoded(own.private_key_pem().expose()),
    });
    keeper.keep(&client).await.unwrap();
    assert_eq!(leaf(), Some(json!(encoded(own.chain_pem()))));
    assert_eq!(keeper.certificate(None).cert, own.chain());
}

fn base64_of(text: &str) -> String {
    serde_json::to_value(ByteString(text.as_bytes().to_vec())).unwrap().as_str().unwrap().to_owned()
}

/// An API server that knows one Secret.
fn one_secret_api() -> (kube::Client, Arc<Mutex<Option<Value>>>) {
    let stored = Arc::<Mutex<Option<Value>>>::default();
    let own = Arc::clone(&stored);
    let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let stored = Arc::clone(&own);
        async move {
            let (head, body) = request.into_parts();
            let sent: Option<Value> = serde_json::from_slice(&body.collect_bytes().await?).ok();
            if sent.is_some() {
                *stored.lock() = sent;
            }
            let found = stored.lock().clone();
            let missing =
                json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404});
            let status = if found.is_some() { 200 } else { 404 };
            assert!(head.uri.path().starts_with("/api/v1/namespaces/kyma-system/secrets"));
            let text = found.unwrap_or(missing).to_string();
            Ok::<_, kube::Error>(
                http::Response::builder().status(status).body(kube::client::Body::from(text.into_bytes())).unwrap(),
            )
        }
    });
    (kube::Client::new(service, "default"), stored)
}

#[tokio::test]
async fn a_gateways_secret_is_used_and_a_changed_one_for_new_handshakes() {
    let upstream = Upstream::start().await.unwrap();
    let edge = Edge::exposing("app", upstream.address()).await;
    let theirs = Authority::generate("their authority", Clock::system().now()).unwrap();
    let own = issue(&theirs, "shop.example");
    let data = |own: &Credential| {
        let (chain, key) = (own.chain_pem().to_owned(), own.private_key_pem().expose().to_owned());
        [("tls.crt".to_owned(), chain), ("tls.key".to_owned(), key)]
    };
    let send = async |version: &str, own: &Credential| {
        let data = data(own);
        let data: Vec<(&str, &str)> = data.iter().map(|(key, text)| (key.as_str(), text.as_str())).collect();
        edge.send(secret("shop-certs", version, &data)).await;
    };
    let server = json!({"port": {"number": 443, "protocol": "HTTPS"}, "hosts": ["shop.example"],
                        "tls": {"mode": "SIMPLE", "credentialName": "shop-certs"}});
    edge.set(gateway("shop", &json!([server]))).await;
    send("1", &own).await;
    let shown = async || {
        connect(&edge, &theirs, "shop.example", None, b"http/1.1")
            .await
            .ok()
            .map(|stream| stream.get_ref().1.peer_certificates().unwrap()[0].to_vec())
    };
    let first = tidegate_testkit::eventually_async(DEADLINE, "the Secret is used", shown).await;
    assert_eq!(first, own.chain()[0].to_vec());
    send("2", &issue(&theirs, "shop.example")).await;
    let is_new = async || shown().await.filter(|shown| *shown != first);
    tidegate_testkit::eventually_async(DEADLINE, "the new Secret is used", is_new).await;
}

#[tokio::test]
async fn mutual_hosts_want_a_certificate_and_are_not_reached_through_others() {
    let upstream = Upstream::start().await.unwrap();
    let mut edge = Edge::exposing("app", upstream.address()).await;
    edge.expose("vault", upstream.address()).await;
    edge.expose("open", upstream.address()).await;
    let clients = Authority::generate("client authority", Clock::system().now()).unwrap();
    let own = clients.issue_client("alice", &["devs"], Clock::system().now(), Duration::from_hours(1)).unwrap();
    let foreign = edge.authority.issue_client("mallory", &[], Clock::system().now(), Duration::from_hours(1)).unwrap();
    edge.send(secret("vault-certs-cacert", "1", &[("cacert", clients.certificate_pem())])).await;
    let server = |host: &str, mode: &str| json!({"port": {"number": 443, "protocol": "HTTPS"}, "hosts": [host], "tls": {"mode": mode, "credentialName": "vault-certs"}});
    edge.set(gateway(
        "vault",
        &json!([server("vault.localhost", "MUTUAL"), server("open.localhost", "OPTIONAL_MUTUAL")]),
    ))
    .await;

    let through = async |name: &str, client: Option<&Credential>, host: &str| {
        get(connect(&edge, &edge.authority, name, client, b"http/1.1").await?, host).await
    };
    let good = tidegate_testkit::eventually_async(DEADLINE, "the Gateway is in force", async || {
        let answer = through("vault.localhost", Some(&own), "vault.localhost").await.ok()?;
        // Between handshake and request the Gateway may have come into force: then it is 421.
        (answer.status == 200).then(|| answer.seen().header("x-forwarded-client-cert").map(str::to_owned))?
    })
    .await;
    let fingerprint = tidegate_pki::fingerprint_sha256(&own.chain()[0]);
    assert!(good.starts_with(&format!("Hash={fingerprint};Subject=\"")), "{good}");
    assert!(good.contains("CN=alice"), "{good}");
    assert!(through("vault.localhost", None, "vault.localhost").await.is_err());
    assert!(through("vault.localhost", Some(&foreign), "vault.localhost").await.is_err());
    assert_eq!(through("app.localhost", None, "vault.localhost").await.unwrap().status, 421);
    assert_eq!(through("vault.localhost", Some(&own), "app.localhost").await.unwrap().status, 421);
    assert_eq!(edge.get("vault.localhost", "/").await.status, 421, "without TLS there is no certificate");
    assert_eq!(edge.get("open.localhost", "/").await.status, 200);
    let anonymous = through("open.localhost", None, "open.localhost").await.unwrap();
    assert_eq!(anonymous.seen().header("x-forwarded-client-cert"), None);
    assert!(through("open.localhost", Some(&foreign), "open.localhost").await.is_err());
    assert!(
        through("open.localhost", Some(&own), "open.localhost")
            .await
            .unwrap()
            .seen()
            .header("x-forwarded-client-cert")
            .is_some()
    );
}

#[tokio::test]
async fn plain_requests_are_redirected_where_a_gateway_says_so() {
    let upstream = Upstream::start().await.unwrap();
    let edge = Edge::exposing("app", upstream.address()).await;
    let server =
        json!({"port": {"number": 80, "protocol": "HTTP"}, "hosts": ["app.localhost"], "tls": {"httpsRedirect": true}});
    edge.set(gateway("redirect", &json!([server]))).await;
    let answer = tidegate_testkit::eventually_async(DEADLINE, "the Gateway is in force", async || {
        Some(edge.get("app.localhost", "/a//b?c=d").await).filter(|answer| answer.status == 301)
    })
    .await;
    let port = edge.gateway.https().unwrap().port();
    assert_eq!(answer.header("location"), Some(format!("https://app.localhost:{port}/a/b?c=d").as_str()));
    let post = "POST / HTTP/1.1\r\nHost: app.localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(Answer::parse(&edge.raw(post).await).status, 308);
    let over_tls = connect(&edge, &edge.authority, "app.localhost", None, b"http/1.1").await.unwrap();
    assert_eq!(get(over_tls, "app.localhost").await.unwrap().status, 200);
}
