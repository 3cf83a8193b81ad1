//! SPEC 30 §6.12, §12, 90 §5: one record, one reason word, in log, metric and explanation.

use serde_json::json;
use tidegate_testkit::issuer::Issuer;
use tidegate_testkit::upstream::Upstream;

use super::edge::{Answer, DEADLINE, Edge};
use crate::Question;

fn question(url: &str, token: Option<&str>) -> Question {
    Question { method: None, url: url.to_owned(), headers: Vec::new(), token: token.map(str::to_owned) }
}

#[tokio::test]
async fn log_metric_and_explanation_tell_the_same_reason() {
    let (upstream, issuer) = (Upstream::start().await.unwrap(), Issuer::start().await.unwrap());
    let mut edge = Edge::exposing("app", upstream.address()).await;
    let jwt = json!({"issuer": issuer.issuer(), "jwksUri": issuer.jwks_uri()});
    edge.api("app", json!({"authentication": [{"type": "JWT", "jwt": jwt}]})).await;
    let token = issuer.mint().token("alice", 4_000_000_000).unwrap();
    let old = issuer.mint().token("alice", 1).unwrap();
    let url = "http://app.localhost/x";
    for (sent, reason, status) in
        [(None, "token_missing", 401), (Some(&old), "token_expired", 401), (Some(&token), "", 200)]
    {
        let lines = sent.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let answer = edge.ask("app.localhost", "/x?access_token_hint=1&token=secret", &lines).await;
        assert_eq!(answer.status, status);
        let explanation = edge.gateway.explain(&question(url, sent.map(String::as_str))).await;
        assert_eq!(explanation.reason.unwrap_or_default(), reason);
        assert_eq!(explanation.status.unwrap_or(200), status);
        assert_eq!(explanation.route.as_deref(), Some("Api/default/app"));
        let text = serde_json::to_string(&explanation).unwrap();
        assert!(!text.contains(&token) && !text.contains(&old));
    }
    let log = edge.log(3).await;
    let field = |line: &serde_json::Value, name: &str| line[name].as_str().map(str::to_owned);
    assert_eq!(
        log.iter().map(|line| field(line, "reason").unwrap()).collect::<Vec<_>>(),
        ["token_missing", "token_expired", ""]
    );
    let last = &log[2];
    assert_eq!(field(last, "route").as_deref(), Some("Api/default/app"));
    assert_eq!(field(last, "path").as_deref(), Some("/x?access_token_hint=1&token=***"));
    assert_eq!(field(last, "sub").as_deref(), Some("alice"));
    assert_eq!(field(last, "auth").as_deref(), Some("jwt"));
    assert_eq!(field(last, "decision").as_deref(), Some("allow"));
    assert_eq!(field(last, "upstream"), Some(upstream.address().to_string()));
    assert_eq!(field(last, "flags").as_deref(), Some(""));
    assert!(log.iter().all(|line| !line.to_string().contains(&token)));
    let metrics = edge.metrics.encode();
    for line in [
        r#"tidegate_gateway_requests_total{route="Api/default/app",code="401",reason="token_missing"} 1"#,
        r#"tidegate_gateway_requests_total{route="Api/default/app",code="401",reason="token_expired"} 1"#,
        r#"tidegate_gateway_requests_total{route="Api/default/app",code="200",reason=""} 1"#,
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}

#[tokio::test]
async fn refusals_before_a_route_are_counted() {
    let edge = Edge::start().await;
    edge.raw("GET / HTTP/1.1\nHost: a\n\n").await;
    edge.get("nobody.localhost", "/").await;
    edge.get("a..localhost", "/").await;
    edge.log(3).await;
    let metrics = edge.metrics.encode();
    for line in [
        r#"tidegate_gateway_rejects_total{reason="line_end"} 1"#,
        r#"tidegate_gateway_rejects_total{reason="host_malformed"} 1"#,
        r#"tidegate_gateway_requests_total{route="",code="404",reason="no_host"} 1"#,
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}

#[tokio::test]
async fn an_explanation_says_who_stands_in_the_way() {
    let upstream = Upstream::start().await.unwrap();
    let mut edge = Edge::exposing("app", upstream.address()).await;
    edge.set_api("late", &json!({"service": {"name": "app", "port": 80}}), &json!({})).await;
    let explained = async |url: &str| edge.gateway.explain(&question(url, None)).await;
    tidegate_testkit::eventually_async(DEADLINE, "the conflict is known", async || {
        let last = explained("http://late.localhost/").await.steps.pop()?;
        last.detail.contains("Api/default/app").then_some(())
    })
    .await;
    assert_eq!(explained("http://nobody.localhost/").await.reason, Some("no_host"));
    assert_eq!(explained("http://app.localhost/a%2f..%2fb").await.reason, Some("path_malformed"));
    let open = explained("http://app.localhost/").await;
    assert!(open.allowed);
    assert_eq!(open.steps.last().unwrap().detail, format!("forwarded to {}", upstream.address()));
}

#[tokio::test]
async fn a_client_that_leaves_is_noted_and_its_upstream_request_ends() {
    let upstream = Upstream::start().await.unwrap();
    let edge = Edge::exposing("app", upstream.address()).await;
    let mut socket = tokio::net::TcpStream::connect(edge.http()).await.unwrap();
    let request = b"GET /slow/1000000 HTTP/1.1\r\nHost: app.localhost\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut socket, request).await.unwrap();
    tidegate_testkit::eventually_async(DEADLINE, "a request", async || (upstream.requests() == 1).then_some(())).await;
    drop(socket);
    let line = edge.log(1).await.remove(0);
    assert_eq!((line["flags"].as_str(), line["status"].as_u64()), (Some("DC"), Some(0)));
    tidegate_testkit::eventually_async(DEADLINE, "its end", async || (upstream.open_connections() == 0).then_some(()))
        .await;
}

#[tokio::test]
async fn shutdown_lets_requests_finish_and_takes_no_new_ones() {
    let upstream = Upstream::start().await.unwrap();
    let edge = Edge::exposing("app", upstream.address()).await;
    let address = edge.http();
    let slow = edge.raw("GET /slow/300 HTTP/1.1\r\nHost: app.localhost\r\n\r\n");
    let stop = async {
        tidegate_testkit::eventually_async(DEADLINE, "a request", async || (upstream.requests() == 1).then_some(()))
            .await;
        edge.tasks.close_and_wait(DEADLINE).await
    };
    let (text, all_ended) = tokio::join!(slow, stop);
    let answer = Answer::parse(&text);
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert!(all_ended);
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}
