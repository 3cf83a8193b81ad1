//! SPEC 30 §6.9, first point.

use tidegate_testkit::upstream::Upstream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::edge::{Answer, DEADLINE, Edge};

const HANDSHAKE: &str = "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

async fn head(socket: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(tokio::time::timeout(DEADLINE, socket.read_u8()).await.unwrap().unwrap());
    }
    String::from_utf8(head).unwrap()
}

#[tokio::test]
async fn frames_pass_both_ways_after_the_upstreams_101() {
    let upstream = Upstream::start().await.unwrap();
    let edge = Edge::exposing("app", upstream.address()).await;
    let mut socket = TcpStream::connect(edge.http()).await.unwrap();
    // A first frame right behind the head must not get lost, nor be taken for a request.
    let request = format!("GET /ws HTTP/1.1\r\nHost: app.localhost\r\n{HANDSHAKE}\r\n");
    let frame = [0x81, 0x82, 1, 2, 3, 4, b'h' ^ 1, b'i' ^ 2];
    socket.write_all(&[request.as_bytes(), &frame].concat()).await.unwrap();
    let head = head(&mut socket).await;
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
    assert!(head.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{head}");
    assert!(head.contains("connection: upgrade\r\n") && head.contains("upgrade: websocket\r\n"), "{head}");
    let mut echo = [0; 4];
    tokio::time::timeout(DEADLINE, socket.read_exact(&mut echo)).await.unwrap().unwrap();
    assert_eq!(&echo, &[0x81, 2, b'h', b'i']);
    // Close frame: the echo, then the end.
    socket.write_all(&[0x88, 0x80, 0, 0, 0, 0]).await.unwrap();
    let mut rest = Vec::new();
    tokio::time::timeout(DEADLINE, socket.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert_eq!(rest, [0x88, 0]);
    drop(socket);
    let line = edge.log(1).await.remove(0);
    assert_eq!((line["status"].as_u64(), line["flags"].as_str()), (Some(101), Some("")));
}

#[tokio::test]
async fn an_answer_without_101_is_an_ordinary_one_and_the_connection_goes_on() {
    let upstream = Upstream::start().await.unwrap();
    let edge = Edge::exposing("app", upstream.address()).await;
    let first = format!("GET /status/403 HTTP/1.1\r\nHost: app.localhost\r\n{HANDSHAKE}\r\n");
    let second = "GET /status/200 HTTP/1.1\r\nHost: app.localhost\r\nConnection: close\r\n\r\n";
    let text = edge.raw(format!("{first}{second}")).await;
    assert!(text.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{text}");
    assert!(text.contains("HTTP/1.1 200 OK\r\n"), "{text}");
}

#[tokio::test]
async fn other_upgrades_are_stripped() {
    let upstream = Upstream::start().await.unwrap();
    let edge = Edge::exposing("app", upstream.address()).await;
    let request = "GET /x HTTP/1.1\r\nHost: app.localhost\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\nGET /y HTTP/1.1\r\nHost: app.localhost\r\nConnection: close\r\n\r\n";
    let text = edge.raw(request).await;
    assert_eq!(text.matches("HTTP/1.1 200 OK\r\n").count(), 2, "{text}");
    assert!(!text.contains("h2c") && !text.contains("http2-settings"), "{text}");
    let last = upstream.last().unwrap();
    assert_eq!(last.path, "/y");
}

#[tokio::test]
async fn a_websocket_route_is_guarded_like_any_other() {
    let upstream = Upstream::start().await.unwrap();
    let mut edge = Edge::exposing("app", upstream.address()).await;
    let jwt = serde_json::json!({"issuer": "i", "jwksUri": "http://127.0.0.1:9/keys"});
    edge.api("app", serde_json::json!({"authentication": [{"type": "JWT", "jwt": jwt}]})).await;
    let request = format!("GET /ws HTTP/1.1\r\nHost: app.localhost\r\n{HANDSHAKE}\r\n");
    let mut socket = TcpStream::connect(edge.http()).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(Answer::parse(&head(&mut socket).await).status, 401);
    assert_eq!(upstream.requests(), 0);
}
