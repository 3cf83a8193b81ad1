//! Clients that mean harm, and what they get.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tidegate_testkit::issuer::Issuer;
use tidegate_testkit::upstream::{Seen, Upstream};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::edge::{Answer, Edge, read_to_end};

/// An HTTP/2 client with prior knowledge.
async fn http2(edge: &Edge) -> SendRequest<Empty<Bytes>> {
    let socket = TcpStream::connect(edge.http()).await.unwrap();
    let (sender, driver) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await.unwrap();
    drop(edge.tasks.spawn("client", driver));
    sender
}

fn ask(path: &str) -> Request<Empty<Bytes>> {
    Request::builder().uri(format!("http://app.localhost{path}")).body(Empty::new()).unwrap()
}

#[tokio::test]
async fn a_path_that_only_the_upstream_decodes_does_not_evade_included_paths() {
    let (upstream, issuer) = (Upstream::start().await.unwrap(), Issuer::start().await.unwrap());
    let mut edge = Edge::exposing("app", upstream.address()).await;
    let trigger = json!({
        "includedPaths": [{"exact": "/users/@me"}, {"prefix": "/caf%C3%A9"}, {"exact": "/admin"}], "methods": ["GET"],
    });
    let jwt = json!({"issuer": issuer.issuer(), "jwksUri": issuer.jwks_uri(), "triggerRule": trigger});
    edge.api("app", json!({"authentication": [{"type": "JWT", "jwt": jwt}]})).await;
    for path in ["/users/@me", "/caf%C3%A9/x", "/admin"] {
        assert_eq!(edge.get("app.localhost", path).await.status, 401, "{path}");
        let head = format!("HEAD {path} HTTP/1.1\r\nHost: app.localhost\r\nConnection: close\r\n\r\n");
        assert_eq!(Answer::parse(&edge.raw(head).await).status, 401, "HEAD {path}");
    }
    for path in ["/users/%40me", "/users/%40%6De", "/caf%c3%a9/x", "/admin;x=y", "/admin;"] {
        assert_eq!(edge.get("app.localhost", path).await.status, 400, "{path}");
    }
    assert_eq!(upstream.requests(), 0, "nothing unauthenticated reached the upstream");
    for path in ["/", "/users/@you", "/a%40b;c"] {
        assert_eq!(edge.get("app.localhost", path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn a_token_under_an_encoded_name_is_a_token() {
    let (upstream, issuer) = (Upstream::start().await.unwrap(), Issuer::start().await.unwrap());
    let mut edge = Edge::exposing("app", upstream.address()).await;
    let jwt = json!({"issuer": issuer.issuer(), "jwksUri": issuer.jwks_uri()});
    let spec = json!({"authentication": [{"type": "JWT", "jwt": jwt}]});
    edge.api_with("app", spec, json!({"tidegate.io/strip-token": "true"})).await;
    let token = issuer.mint().token("alice", 4_000_000_000).unwrap();
    let good = format!("Authorization: Bearer {token}\r\n");
    let bad = edge.ask("app.localhost", "/?access%5Ftoken=x.y.z", &good).await;
    assert_eq!(bad.status, 401, "every token that is found must be good");
    let seen = edge.ask("app.localhost", &format!("/?a&access%5Ftoken={token}"), &good).await.seen();
    assert_eq!(seen.path, "/?a", "a token that is to be kept from the upstream is");
}

#[tokio::test]
async fn a_target_without_a_path_is_refused() {
    let upstream = Upstream::start().await.unwrap();
    let edge = Edge::exposing("app", upstream.address()).await;
    for target in ["app.localhost", "app.localhost:80"] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: app.localhost\r\nConnection: close\r\n\r\n");
        assert_eq!(Answer::parse(&edge.raw(request).await).status, 400, "{target}");
    }
    assert_eq!(upstream.requests(), 0);
}

#[tokio::test]
async fn http2_requests_become_clean_http1_requests() {
    let upstream = Upstream::start().await.unwrap();
    let edge = Edge::exposing("app", upstream.address()).await;
    let mut client = http2(&edge).await;
    let mut request = ask("/");
    for (name, value) in [("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3"), ("content-length", "0")] {
        request.headers_mut().append(name, value.parse().unwrap());
    }
    request.headers_mut().append("content-length", "0".parse().unwrap());
    let answer = client.send_request(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
    let seen: Seen = serde_json::from_slice(&answer).unwrap();
    assert_eq!(seen.headers("cookie"), ["a=1; b=2; c=3"]);
    assert!(seen.headers("content-length").len() <= 1, "{seen:?}");
    // The limits of HTTP/1 are those of HTTP/2.
    let long = client.send_request(ask(&format!("/{}", "t".repeat(16 * 1024)))).await.unwrap();
    assert_eq!(long.status(), 414);
    assert_eq!(upstream.requests(), 1);
}

#[tokio::test]
async fn an_idle_http2_client_that_never_answers_loses_its_place() {
    let edge = Edge::start_with(|config| config.requests.keep_alive_idle = Duration::from_secs(1)).await;
    let mut socket = TcpStream::connect(edge.http()).await.unwrap();
    // The preface and empty settings; no acknowledgement and no pong will follow.
    socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    read_to_end(&mut socket).await;
}
