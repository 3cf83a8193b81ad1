//! SPEC 30 §6.11: changes never cost a request, and never let one through that must not pass.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use tidegate_testkit::upstream::Upstream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::edge::Edge;

/// Sends requests on one kept-alive connection until told to stop; how many answers there were of each status.
async fn keep_asking(address: std::net::SocketAddr, host: String, stop: Arc<AtomicBool>) -> Vec<(u16, usize)> {
    let mut counts: Vec<(u16, usize)> = Vec::new();
    let mut socket = TcpStream::connect(address).await.unwrap();
    let request = format!("GET /status/200 HTTP/1.1\r\nHost: {host}\r\n\r\n");
    while !stop.load(Ordering::Relaxed) {
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // Status line, headers and the ten bytes of the body, or an empty one.
        loop {
            let count = socket.read_buf(&mut answer).await.unwrap();
            assert_ne!(count, 0, "the connection was closed");
            let text = String::from_utf8_lossy(&answer);
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.to_ascii_lowercase();
            let length = length.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap().to_owned();
            if body.len() == length.parse::<usize>().unwrap() {
                break;
            }
        }
        let status: u16 = String::from_utf8_lossy(&answer[9..12]).parse().unwrap();
        match counts.iter_mut().find(|(own, _)| *own == status) {
            Some((_, count)) => *count += 1,
            None => counts.push((status, 1)),
        }
    }
    counts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_routes_change() {
    let (upstream, other) = (Upstream::start().await.unwrap(), Upstream::start().await.unwrap());
    let mut edge = Edge::exposing("app", upstream.address()).await;
    let stop = Arc::new(AtomicBool::new(false));
    let askers: Vec<_> = (0..4)
        .map(|_| edge.tasks.spawn("asker", keep_asking(edge.http(), "app.localhost".to_owned(), Arc::clone(&stop))))
        .collect();
    // 100 changes, at least 20 ms apart: of this very route, its upstream, and of others.
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    for round in 0..100 {
        ticks.tick().await;
        match round % 4 {
            0 => edge.api("app", json!({})).await,
            1 => edge.service("app", json!({}), other.address()).await,
            2 => edge.expose(&format!("other-{round}"), other.address()).await,
            _ => edge.service("app", json!({}), upstream.address()).await,
        }
    }
    stop.store(true, Ordering::Relaxed);
    let mut total = 0;
    for asker in askers {
        let counts = asker.await.unwrap();
        assert_eq!(counts.len(), 1, "only 200s: {counts:?}");
        assert_eq!(counts[0].0, 200);
        total += counts[0].1;
    }
    assert!(total > 100, "{total} requests");
    assert!(edge.gateway.revision() >= 75, "{} publications", edge.gateway.revision());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_unauthenticated_passes_while_a_guarded_route_changes() {
    let upstream = Upstream::start().await.unwrap();
    let mut edge = Edge::start().await;
    edge.service("app", json!({}), upstream.address()).await;
    let guarded = |issuer: usize| {
        let jwt = json!({"issuer": format!("https://issuer-{issuer}.example"), "jwksUri": "http://127.0.0.1:9/keys"});
        json!({"authentication": [{"type": "JWT", "jwt": jwt}]})
    };
    edge.api("app", guarded(0)).await;
    let stop = Arc::new(AtomicBool::new(false));
    let askers: Vec<_> = (0..4)
        .map(|_| edge.tasks.spawn("asker", keep_asking(edge.http(), "app.localhost".to_owned(), Arc::clone(&stop))))
        .collect();
    let changes = AtomicUsize::new(0);
    for round in 1..150 {
        if round % 5 == 0 {
            edge.remove_api("app").await;
        }
        edge.api("app", guarded(round)).await;
        changes.fetch_add(1, Ordering::Relaxed);
    }
    stop.store(true, Ordering::Relaxed);
    for asker in askers {
        let counts = asker.await.unwrap();
        assert!(counts.iter().all(|(status, _)| matches!(status, 401 | 404)), "{counts:?}");
    }
    assert_eq!(upstream.requests(), 0);
}

#[tokio::test]
async fn a_removed_route_answers_404_and_a_switched_guard_holds_at_once() {
    let upstream = Upstream::start().await.unwrap();
    let mut edge = Edge::exposing("app", upstream.address()).await;
    assert_eq!(edge.get("app.localhost", "/").await.status, 200);
    let jwt = json!({"issuer": "https://issuer.example", "jwksUri": "http://127.0.0.1:9/keys"});
    edge.api("app", json!({"authentication": [{"type": "JWT", "jwt": jwt}]})).await;
    assert_eq!(edge.get("app.localhost", "/").await.status, 401);
    edge.remove_api("app").await;
    assert_eq!(edge.get("app.localhost", "/").await.status, 404);
}
