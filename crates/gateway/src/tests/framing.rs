//! SPEC 30 §6.5: what is refused, with which status, and that nothing of it reaches an upstream.

use std::time::Duration;

use tidegate_testkit::upstream::Upstream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::edge::{Answer, DEADLINE, Edge, read_to_end};
use crate::framing::io::{StrictIo, Timeouts};

const HOST: &str = "Host: app.localhost\r\n";

#[tokio::test]
async fn malformed_messages_are_answered_with_their_status_and_the_connection_is_closed() {
    let upstream = Upstream::start().await.unwrap();
    let edge = Edge::exposing("app", upstream.address()).await;
    let get = |lines: &str| format!("GET / HTTP/1.1\r\n{HOST}{lines}\r\n");
    let post = |lines: &str, body: &str| format!("POST / HTTP/1.1\r\n{HOST}{lines}\r\n{body}");
    let chunked = |body: &str| post("Transfer-Encoding: chunked\r\n", body);
    for (status, request) in [
        (400, post("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n")),
        (400, post("Content-Length: 3\r\nContent-Length: 3\r\n", "abc")),
        (400, post("Content-Length: 3\r\nContent-Length: 4\r\n", "abcd")),
        (400, post("Content-Length: 3x\r\n", "abc")),
        (400, post("Content-Length: +3\r\n", "abc")),
        (400, post("Content-Length: -3\r\n", "abc")),
        (400, post("Content-Length: 99999999999999999999\r\n", "abc")),
        (400, get("X : 1\r\n")),
        (400, get("X: 1\r\n folded\r\n")),
        (400, get("X: a\rb\r\n")),
        (400, format!("GET / HTTP/1.1\n{HOST}\r\n")),
        (400, get("X: a\nY: b\r\n")),
        (400, get("X: a\0b\r\n")),
        (400, post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n")),
        (400, get(": 1\r\n")),
        (400, chunked("+3\r\nabc\r\n0\r\n\r\n")),
        (400, chunked(" 3\r\nabc\r\n0\r\n\r\n")),
        (400, chunked("3 \r\nabc\r\n0\r\n\r\n")),
        (400, chunked("0x3\r\nabc\r\n0\r\n\r\n")),
        (400, chunked("00000000000000003\r\nabc\r\n0\r\n\r\n")),
        (400, chunked("3\r\nabcd\r\n0\r\n\r\n")),
        (400, chunked(&format!("3;{}\r\nabc\r\n0\r\n\r\n", "e".repeat(257)))),
        (400, chunked(&format!("0\r\nX: {}\r\n\r\n", "t".repeat(17_000)))),
        (400, format!("GET  / HTTP/1.1\r\n{HOST}\r\n")),
        (400, format!("GET / / HTTP/1.1\r\n{HOST}\r\n")),
        (400, format!("G(T / HTTP/1.1\r\n{HOST}\r\n")),
        (505, format!("GET / HTTP/1.2\r\n{HOST}\r\n")),
        (505, format!("GET / HTTP/3.0\r\n{HOST}\r\n")),
        (501, post("Transfer-Encoding: gzip, chunked\r\n", "")),
        (501, post("Transfer-Encoding: identity\r\n", "")),
        (431, get(&"X: 1\r\n".repeat(100))),
        (431, get(&format!("X: {}\r\n", "x".repeat(65 * 1024)))),
        (414, format!("GET /{} HTTP/1.1\r\n{HOST}\r\n", "p".repeat(16 * 1024))),
        (400, "GET /\u{e9} HTTP/1.1\r\nHost: app.localhost\r\n\r\n".to_owned()),
        (400, "GET /a#b HTTP/1.1\r\nHost: app.localhost\r\n\r\n".to_owned()),
    ] {
        // `raw` returns only once the gateway has closed the connection.
        let answer = Answer::parse(&edge.raw(&request).await);
        assert_eq!(answer.status, status, "{request:.80?}");
        assert_eq!(answer.header("connection"), Some("close"), "{request:.80?}");
        assert_eq!(answer.header("server"), Some("tidegate"));
    }
    assert_eq!(upstream.requests(), 0, "nothing was forwarded");
    // The edge lives on.
    assert_eq!(edge.get("app.localhost", "/").await.status, 200);
}

#[tokio::test]
async fn a_refusal_is_small_json_that_says_what_to_change() {
    let edge = Edge::start().await;
    let answer = Answer::parse(&edge.raw("GET / HTTP/1.1\nHost: a\n\n").await);
    let expected = "400\n\
        connection: close\n\
        content-length: 89\n\
        content-type: application/json\n\
        date: …\n\
        server: tidegate\n\
        x-request-id: …\n\
        {\"error\":\"every line of a head must end with CR LF\",\"requestId\":\"…\",\"status\":400}";
    let whole = answer.whole();
    let without_length =
        |text: &str| text.lines().filter(|line| !line.starts_with("content-length")).collect::<Vec<_>>().join("\n");
    assert_eq!(without_length(&whole), without_length(expected));
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order_and_a_bad_one_ends_the_row() {
    let upstream = Upstream::start().await.unwrap();
    let edge = Edge::exposing("app", upstream.address()).await;
    let row = format!(
        "GET /status/201 HTTP/1.1\r\n{HOST}\r\nGET /status/202 HTTP/1.1\r\n{HOST}\r\nGET /bad HTTP/1.1\n{HOST}\r\nGET /status/203 HTTP/1.1\r\n{HOST}\r\n"
    );
    let text = edge.raw(row).await;
    let statuses: Vec<&str> = text.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(statuses, ["201", "202", "400"]);
    assert_eq!(upstream.requests(), 2);
}

#[tokio::test]
async fn bytes_after_the_last_request_are_ignored() {
    let upstream = Upstream::start().await.unwrap();
    let edge = Edge::exposing("app", upstream.address()).await;
    let text = edge
        .raw(format!("GET / HTTP/1.1\r\n{HOST}Connection: close\r\n\r\nGET /smuggled HTTP/1.1\r\n{HOST}\r\n"))
        .await;
    assert_eq!(text.matches("HTTP/1.1 ").count(), 1);
    assert_eq!(upstream.requests(), 1);
}

#[tokio::test]
async fn a_request_in_small_pieces_is_served() {
    let upstream = Upstream::start().await.unwrap();
    let edge = Edge::exposing("app", upstream.address()).await;
    let mut socket = TcpStream::connect(edge.http()).await.unwrap();
    socket.set_nodelay(true).unwrap();
    let request = format!(
        "POST /p HTTP/1.1\r\n{HOST}Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nX-T: v\r\n\r\n"
    );
    for byte in request.as_bytes() {
        socket.write_all(std::slice::from_ref(byte)).await.unwrap();
        tokio::task::yield_now().await;
    }
    let seen = Answer::parse(&read_to_end(&mut socket).await).seen();
    assert_eq!((seen.path.as_str(), seen.body.as_str()), ("/p", "hello"));
}

#[tokio::test]
async fn a_body_that_breaks_its_framing_later_is_cut_off_from_the_upstream() {
    let upstream = Upstream::start().await.unwrap();
    let edge = Edge::exposing("app", upstream.address()).await;
    let mut socket = TcpStream::connect(edge.http()).await.unwrap();
    socket
        .write_all(format!("POST / HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n").as_bytes())
        .await
        .unwrap();
    // The first part is on its way before the bad one is sent.
    tidegate_testkit::eventually_async(DEADLINE, "the upstream has the head", async || {
        (upstream.requests() == 1).then_some(())
    })
    .await;
    socket.write_all(b"zz\r\n").await.unwrap();
    let answer = Answer::parse(&read_to_end(&mut socket).await);
    assert_eq!((answer.status, answer.header("connection")), (400, Some("close")));
    assert!(upstream.last().is_none(), "the upstream never saw a complete request");
}

#[tokio::test]
async fn an_expectation_is_fulfilled_only_after_admission() {
    let upstream = Upstream::start().await.unwrap();
    let mut edge = Edge::exposing("app", upstream.address()).await;
    edge.service("locked", serde_json::json!({}), upstream.address()).await;
    let jwt = serde_json::json!({"issuer": "https://issuer.example", "jwksUri": "http://127.0.0.1:9/keys"});
    edge.api("locked", serde_json::json!({"authentication": [{"type": "JWT", "jwt": jwt}]})).await;
    let request = |host: &str| {
        format!(
            "POST / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
        )
    };

    let mut socket = TcpStream::connect(edge.http()).await.unwrap();
    socket.write_all(request("app.localhost").as_bytes()).await.unwrap();
    let mut first = [0; 25];
    tokio::time::timeout(DEADLINE, socket.read_exact(&mut first)).await.unwrap().unwrap();
    assert_eq!(&first, b"HTTP/1.1 100 Continue\r\n\r\n");
    socket.write_all(b"hello").await.unwrap();
    assert_eq!(Answer::parse(&read_to_end(&mut socket).await).seen().body, "hello");

    let mut socket = TcpStream::connect(edge.http()).await.unwrap();
    socket.write_all(request("locked.localhost").as_bytes()).await.unwrap();
    let answer = Answer::parse(&read_to_end(&mut socket).await);
    assert_eq!(answer.status, 401);
}

/// Limits that a test can wait for. Only their being exceeded is tested: nothing depends on a fast machine.
const SHORT: Timeouts = Timeouts {
    head: Duration::from_millis(200),
    body_idle: Duration::from_millis(400),
    body_window: Duration::from_millis(100),
    body_window_bytes: 1_000_000,
};

/// Writes, waits for ever, and reads what hyper would be given until its end or error.
async fn through_strict_io(text: &str, timeouts: Timeouts) -> (String, Option<String>) {
    let (mut client, server) = tokio::io::duplex(1 << 16);
    let mut io = StrictIo::new(server, timeouts);
    client.write_all(text.as_bytes()).await.unwrap();
    let mut all = Vec::new();
    let read = async {
        loop {
            match io.read_buf(&mut all).await {
                Ok(0) => return None,
                Ok(_) if all.ends_with(STAND_IN.as_bytes()) => return None,
                Ok(_) => {}
                Err(error) => return Some(error.to_string()),
            }
        }
    };
    let error = tokio::time::timeout(DEADLINE, read).await.expect("the wait ends");
    (String::from_utf8(all).unwrap(), error)
}

const STAND_IN: &str = "GET / HTTP/1.1\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn a_head_that_is_not_completed_in_time_is_replaced() {
    let (given, error) = through_strict_io("GET /a HTTP/1.1\r\n\r\nGET / HT", SHORT).await;
    assert_eq!((given, error), (format!("GET /a HTTP/1.1\r\n\r\n{STAND_IN}"), None));
}

#[tokio::test]
async fn a_body_that_stops_or_crawls_fails() {
    let head = "POST / HTTP/1.1\r\nContent-Length: 100000\r\n\r\nabc";
    let slow = Some("the request body arrived too slowly".to_owned());
    let stopped = Timeouts { body_window: Duration::from_mins(1), ..SHORT };
    assert_eq!(through_strict_io(head, stopped).await, (head.to_owned(), slow.clone()));
    let crawling = Timeouts { body_idle: Duration::from_mins(1), ..SHORT };
    assert_eq!(through_strict_io(head, crawling).await, (head.to_owned(), slow));
}

#[tokio::test]
async fn an_incomplete_head_is_answered_with_408() {
    let edge = Edge::start().await;
    // The real limit: 10 s.
    let answer = Answer::parse(&edge.raw("GET / HTTP/1.1\r\nHost").await);
    assert_eq!((answer.status, answer.header("connection")), (408, Some("close")));
}
