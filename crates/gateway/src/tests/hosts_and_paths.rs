//! SPEC 30 §6.2, §6.3, §6.4, §6.6.

use serde_json::json;
use tidegate_testkit::upstream::Upstream;

use super::edge::{Answer, Edge};

#[tokio::test]
async fn hosts_are_compared_in_one_form() {
    let upstream = Upstream::start().await.unwrap();
    let edge = Edge::exposing("a", upstream.address()).await;
    let status = async |text: String| Answer::parse(&edge.raw(text).await).status;
    let with = |lines: &str| format!("GET / HTTP/1.1\r\nConnection: close\r\n{lines}\r\n");
    for (expected, request) in [
        (200, with("Host: A.LocalHost:8080\r\n")),
        (200, with("Host: a.localhost.\r\n")),
        (400, with("")),
        (400, with("Host: a.localhost\r\nHost: a.localhost\r\n")),
        (400, with("Host: a.localhost\r\nHost: b.localhost\r\n")),
        (400, with("Host:\r\n")),
        (400, with("Host: a.localhost, b.localhost\r\n")),
        (400, with("Host: a_b*.localhost\r\n")),
        (400, with(&format!("Host: {}.localhost\r\n", "l".repeat(64)))),
        (404, with("Host: unknown.localhost\r\n")),
        (404, with("Host: localhost\r\n")),
        (404, with("Host: 127.0.0.1\r\n")),
        (404, with("Host: [::1]:8080\r\n")),
        (400, "GET / HTTP/1.0\r\n\r\n".to_owned()),
        (200, "GET / HTTP/1.0\r\nHost: a.localhost\r\n\r\n".to_owned()),
        (200, "GET http://a.localhost/x HTTP/1.1\r\nHost: A.localhost:80\r\nConnection: close\r\n\r\n".to_owned()),
        (400, "GET http://a.localhost/x HTTP/1.1\r\nHost: b.localhost\r\nConnection: close\r\n\r\n".to_owned()),
        (405, "CONNECT a.localhost:443 HTTP/1.1\r\nHost: a.localhost:443\r\nConnection: close\r\n\r\n".to_owned()),
        (405, "TRACE / HTTP/1.1\r\nHost: a.localhost\r\nConnection: close\r\n\r\n".to_owned()),
    ] {
        assert_eq!(status(request.clone()).await, expected, "{request:?}");
    }
}

#[tokio::test]
async fn an_unknown_host_gets_404_without_a_body_and_keeps_its_connection() {
    let edge = Edge::start().await;
    let request = "GET / HTTP/1.1\r\nHost: nobody.localhost\r\n\r\n";
    let last = "GET / HTTP/1.1\r\nHost: nobody.localhost\r\nConnection: close\r\n\r\n";
    let text = edge.raw(format!("{request}{last}")).await;
    assert_eq!(text.matches("HTTP/1.1 404 Not Found\r\n").count(), 2);
    let answer = edge.get("nobody.localhost", "/").await;
    assert_eq!(
        answer.whole(),
        "404\nconnection: close\ncontent-length: 0\ndate: …\nserver: tidegate\nx-request-id: …\n"
    );
}

#[tokio::test]
async fn upstreams_see_the_normalized_path_and_the_untouched_query() {
    let upstream = Upstream::start().await.unwrap();
    let edge = Edge::exposing("a", upstream.address()).await;
    for (sent, seen) in [
        ("/", "/"),
        ("/%41%7e", "/A~"),
        ("/%252e", "/%252e"),
        ("/a\\b", "/a/b"),
        ("/a/b/..", "/a/"),
        ("/../../x", "/x"),
        ("/a//b", "/a/b"),
        ("//", "/"),
        ("/a%2Fb", "/a%2Fb"),
        ("/a;v=1", "/a;v=1"),
        ("/%c0%ae", "/%c0%ae"),
        ("/a/../b?x=/../y//z&%41", "/b?x=/../y//z&%41"),
    ] {
        let answer = edge.get("a.localhost", sent).await;
        assert_eq!(answer.status, 200, "{sent}");
        assert_eq!(answer.seen().path, seen, "{sent}");
    }
    for bad in ["/%zz", "/%00", "/%", "/..;/admin", "/a/%2e%2e;x", "/a%2f..%2fb"] {
        assert_eq!(edge.get("a.localhost", bad).await.status, 400, "{bad}");
    }
    let options = "OPTIONS * HTTP/1.1\r\nHost: a.localhost\r\nConnection: close\r\n\r\n";
    assert_eq!(Answer::parse(&edge.raw(options).await).status, 404);
    assert_eq!(edge.get("a.localhost", "*").await.status, 400);
}

#[tokio::test]
async fn what_only_the_gateway_may_say_is_said_by_the_gateway() {
    let upstream = Upstream::start().await.unwrap();
    let edge = Edge::exposing("a", upstream.address()).await;
    let lines = "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Port: 1\r\n\
                 Forwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nX-Envoy-Original-Path: /admin\r\nX-Client-Cert: x\r\n\
                 X-Forwarded-Client-Cert: Hash=x\r\nKeep-Alive: 5\r\nTE: gzip\r\nTrailer: X\r\nProxy-Authorization: x\r\n\
                 Upgrade: h2c\r\nX_Under: 1\r\nX-Kept: yes\r\nX-Request-Id: abc-123\r\n";
    let answer = edge.ask("A.localhost:80", "/", lines).await;
    let seen = answer.seen();
    let mut own: Vec<(&str, &str)> = seen.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    own.sort_unstable();
    let port = edge.http().port().to_string();
    assert_eq!(
        own,
        [
            ("host", "A.localhost:80"),
            ("x-forwarded-for", "127.0.0.1"),
            ("x-forwarded-host", "a.localhost"),
            ("x-forwarded-port", port.as_str()),
            ("x-forwarded-proto", "http"),
            ("x-kept", "yes"),
            ("x-request-id", "abc-123"),
        ]
    );
    assert_eq!(answer.header("x-request-id"), Some("abc-123"));
    let strange = edge.ask("a.localhost", "/", "X-Request-Id: a b\r\n").await;
    assert_eq!(strange.seen().header("x-request-id").unwrap().len(), 36);
    for named in ["Host", "Content-Length", "Authorization", "Cookie", "X-Forwarded-For"] {
        let request = format!("GET / HTTP/1.1\r\nHost: a.localhost\r\nConnection: close, {named}\r\n\r\n");
        assert_eq!(Answer::parse(&edge.raw(request).await).status, 400, "{named}");
    }
}

#[tokio::test]
async fn a_trusted_proxy_is_believed_and_added_to_the_list() {
    let upstream = Upstream::start().await.unwrap();
    let mut edge =
        Edge::start_with(|config| config.requests.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()]).await;
    edge.expose("a", upstream.address()).await;
    let seen = edge.ask("a.localhost", "/", "X-Forwarded-For: 10.1.1.1\r\nX-Forwarded-Proto: https\r\n").await.seen();
    assert_eq!(seen.headers("x-forwarded-for"), ["10.1.1.1, 127.0.0.1"]);
    assert_eq!(seen.headers("x-forwarded-proto"), ["https"]);
}

#[tokio::test]
async fn preflights_are_answered_here_and_answers_carry_the_policy() {
    let upstream = Upstream::start().await.unwrap();
    let mut edge = Edge::exposing("a", upstream.address()).await;
    let preflight = "OPTIONS /x HTTP/1.1\r\nHost: a.localhost\r\nConnection: close\r\nOrigin: https://app.example\r\nAccess-Control-Request-Method: PUT\r\n\r\n";
    let answer = Answer::parse(&edge.raw(preflight).await);
    assert_eq!(
        answer.whole(),
        "200\naccess-control-allow-headers: Authorization,Content-Type,*\naccess-control-allow-methods: GET,POST,PUT,DELETE\n\
         access-control-allow-origin: https://app.example\nconnection: close\ncontent-length: 0\ndate: …\nserver: tidegate\n\
         vary: Origin\nx-request-id: …\n"
    );
    assert_eq!(upstream.requests(), 0);
    let actual = edge.ask("a.localhost", "/x", "Origin: https://app.example\r\n").await;
    assert_eq!(actual.header("access-control-allow-origin"), Some("https://app.example"));
    edge.api_with("a", json!({}), json!({"tidegate.io/cors": "upstream"})).await;
    assert_eq!(Answer::parse(&edge.raw(preflight).await).seen().method, "OPTIONS");
    let actual = edge.ask("a.localhost", "/x", "Origin: https://app.example\r\n").await;
    assert_eq!(actual.header("access-control-allow-origin"), None);
}
