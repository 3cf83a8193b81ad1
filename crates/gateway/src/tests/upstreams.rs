//! SPEC 30 §6.8: what clients see of upstreams, good and bad.

use std::convert::Infallible;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use serde_json::json;
use tidegate_runtime::{BoxBody, boxed};
use tidegate_testkit::upstream::{RawUpstream, Upstream, UpstreamOptions};
use tower::util::BoxCloneSyncService;

use super::edge::{Answer, Edge};

#[tokio::test]
async fn an_upstream_that_is_down_or_dies_is_answered_for() {
    let upstream = Upstream::start().await.unwrap();
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut edge = Edge::exposing("app", upstream.address()).await;
    edge.expose("down", unused).await;
    edge.api("missing", json!({})).await;
    let text = "upstream connect error or disconnect/reset before headers";
    let whole = |status: u16, text: &str| {
        format!(
            "{status}\nconnection: close\ncontent-length: {}\ncontent-type: text/plain\ndate: …\nserver: tidegate\nx-request-id: …\n{text}",
            text.len()
        )
    };
    let get = async |host: &str, path: &str| edge.ask(host, path, "").await.whole();
    assert_eq!(get("down.localhost", "/").await, whole(503, text));
    assert_eq!(get("app.localhost", "/reset").await, whole(503, text));
    assert_eq!(get("missing.localhost", "/").await, whole(503, "no healthy upstream"));
    for answer in [
        "garbage\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    ] {
        let raw = RawUpstream::start(answer).await.unwrap();
        edge_with(&raw).await;
    }
}

async fn edge_with(raw: &RawUpstream) {
    let edge = Edge::exposing("raw", raw.address()).await;
    let answer = edge.get("raw.localhost", "/").await;
    assert_eq!((answer.status, answer.body.as_str()), (502, "upstream protocol error"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upstream_connections_never_outnumber_requests_and_are_used_again() {
    let upstream = Upstream::start().await.unwrap();
    let edge = Edge::exposing("app", upstream.address()).await;
    for _ in 0..20 {
        let round = (0..8).map(|_| edge.get("app.localhost", "/"));
        for answer in futures::future::join_all(round).await {
            assert_eq!(answer.status, 200);
        }
    }
    let opened = upstream.connections();
    assert!(opened <= 8, "{opened} connections for 8 requests at a time");
    for _ in 0..50 {
        edge.get("app.localhost", "/").await;
    }
    assert_eq!(upstream.connections(), opened);
}

#[tokio::test]
async fn a_slow_upstream_is_given_up_with_504() {
    let upstream = Upstream::start().await.unwrap();
    let wait = Duration::from_millis(300);
    let mut edge = Edge::start_with(|config| config.requests.longest_upstream_wait = wait).await;
    edge.expose("app", upstream.address()).await;
    let answer = edge.get("app.localhost", "/slow/100000").await;
    assert_eq!((answer.status, answer.body.as_str()), (504, "upstream request timeout"));
}

#[tokio::test]
async fn a_response_that_breaks_off_is_visibly_incomplete() {
    let upstream = Upstream::start().await.unwrap();
    let edge = Edge::exposing("app", upstream.address()).await;
    let truncated = edge.raw("GET /truncate HTTP/1.1\r\nHost: app.localhost\r\n\r\n").await;
    assert!(truncated.contains("content-length: 100\r\n") && truncated.ends_with("\r\n\r\n0123456789"), "{truncated}");
    let cut = edge.raw("GET /cut HTTP/1.1\r\nHost: app.localhost\r\n\r\n").await;
    assert!(cut.contains("first chunk") && !cut.contains("\r\n0\r\n"), "{cut}");
}

#[tokio::test]
async fn bodies_stream_both_ways() {
    let upstream = Upstream::start().await.unwrap();
    let edge = Edge::exposing("app", upstream.address()).await;
    let body = "y".repeat(3_000_000);
    let request = format!(
        "POST /up HTTP/1.1\r\nHost: app.localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    assert_eq!(Answer::parse(&edge.raw(request).await).seen().body_bytes, 3_000_000);
    assert_eq!(edge.get("app.localhost", "/bytes/3000000").await.body.len(), 3_000_000);
    assert_eq!(edge.get("app.localhost", "/chunks/3").await.body, "chunk 0\nchunk 1\nchunk 2\n");
    let events = edge.get("app.localhost", "/events").await;
    assert_eq!(
        (events.header("content-type"), events.body.as_str()),
        (Some("text/event-stream"), "data: 1\n\ndata: 2\n\ndata: 3\n\n")
    );
}

#[tokio::test]
async fn an_answer_that_comes_before_the_body_is_passed_on() {
    let upstream =
        RawUpstream::start("HTTP/1.1 413 Payload Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
            .await
            .unwrap();
    let edge = Edge::exposing("app", upstream.address()).await;
    let body = "y".repeat(300_000);
    let request = format!(
        "POST / HTTP/1.1\r\nHost: app.localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = Answer::parse(&edge.raw(request).await);
    assert_eq!((answer.status, answer.body.as_str()), (413, "no"));
}

#[tokio::test]
async fn answers_without_a_body_keep_their_length() {
    let upstream = RawUpstream::start("HTTP/1.1 200 OK\r\nContent-Length: 42\r\nServer: theirs\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\nConnection: X-Internal\r\nX-Internal: 1\r\n\r\n").await.unwrap();
    let edge = Edge::exposing("app", upstream.address()).await;
    let answer = Answer::parse(&edge.raw("HEAD / HTTP/1.1\r\nHost: app.localhost\r\nConnection: close\r\n\r\n").await);
    assert_eq!((answer.status, answer.header("content-length"), answer.body.as_str()), (200, Some("42"), ""));
    assert_eq!(answer.header("server"), Some("theirs"));
    assert_eq!(answer.header("date"), Some("Thu, 01 Jan 2026 00:00:00 GMT"));
    assert_eq!(answer.header("x-internal"), None);
    let upstream = Upstream::start().await.unwrap();
    let edge = Edge::exposing("app", upstream.address()).await;
    for status in [204, 304] {
        let answer = edge.get("app.localhost", &format!("/status/{status}")).await;
        assert_eq!((answer.status, answer.body.as_str()), (status, ""));
    }
}

#[tokio::test]
async fn a_body_beyond_the_configured_limit_is_refused() {
    let upstream = Upstream::start().await.unwrap();
    let mut edge = Edge::start_with(|config| config.requests.max_request_body = Some(10)).await;
    edge.expose("app", upstream.address()).await;
    let fixed = "POST / HTTP/1.1\r\nHost: app.localhost\r\nContent-Length: 11\r\n\r\nhello world";
    assert_eq!(Answer::parse(&edge.raw(fixed).await).status, 413);
    assert_eq!(upstream.requests(), 0);
    let chunked =
        "POST / HTTP/1.1\r\nHost: app.localhost\r\nTransfer-Encoding: chunked\r\n\r\nb\r\nhello world\r\n0\r\n\r\n";
    assert_eq!(Answer::parse(&edge.raw(chunked).await).status, 413);
    let small = "POST / HTTP/1.1\r\nHost: app.localhost\r\nConnection: close\r\nContent-Length: 10\r\n\r\nhello worl";
    assert_eq!(Answer::parse(&edge.raw(small).await).status, 200);
}

#[tokio::test]
async fn http2_upstreams_are_spoken_to_in_http2() {
    let upstream = Upstream::start_with(UpstreamOptions { http2: true, ..UpstreamOptions::default() }).await.unwrap();
    let mut edge = Edge::start().await;
    edge.service("grpc", json!({"appProtocol": "kubernetes.io/h2c"}), upstream.address()).await;
    edge.api("grpc", json!({})).await;
    let seen = edge.get("grpc.localhost", "/a?b").await.seen();
    assert_eq!((seen.path.as_str(), seen.header("host")), ("/a?b", None));
    for _ in 0..5 {
        edge.get("grpc.localhost", "/").await;
    }
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn grpc_callers_are_told_in_grpc() {
    let edge = Edge::start().await;
    let answer = edge.ask("nobody.localhost", "/pkg.Service/Method", "Content-Type: application/grpc\r\n").await;
    assert_eq!(
        (answer.status, answer.header("grpc-status"), answer.header("content-type")),
        (200, Some("12"), Some("application/grpc"))
    );
}

#[tokio::test]
async fn services_of_this_process_need_no_socket() {
    let mut edge = Edge::start().await;
    let service = tower::service_fn(|request: http::Request<BoxBody>| async move {
        let path = request.uri().to_string();
        let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let text = format!("{path} {}", String::from_utf8_lossy(&body));
        Ok::<_, Infallible>(http::Response::new(boxed(Full::new(bytes::Bytes::from(text)))))
    });
    edge.in_process.register("default/kubernetes", BoxCloneSyncService::new(service));
    let jwt = json!({"issuer": "i", "jwksUri": "http://127.0.0.1:9/keys", "triggerRule": {"excludedPaths": [{"prefix": "/"}]}});
    let spec = json!({"service": {"name": "kubernetes", "port": 443}, "authentication": [{"type": "JWT", "jwt": jwt}]});
    edge.api("kube", spec).await;
    let request = "POST /api?x HTTP/1.1\r\nHost: kube.localhost\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi";
    assert_eq!(Answer::parse(&edge.raw(request).await).body, "/api?x hi");
}
