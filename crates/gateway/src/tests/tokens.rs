//! SPEC 30 §5 at the edge: what a caller sees, and what the upstream does not.

use serde_json::json;
use tidegate_testkit::issuer::Issuer;
use tidegate_testkit::upstream::Upstream;

use super::edge::Edge;

/// Far in the future, in seconds since 1970.
const LATER: i64 = 4_000_000_000;

fn rule(issuer: &Issuer, excluded: &str) -> serde_json::Value {
    let trigger = json!({"excludedPaths": [{"exact": excluded}]});
    json!({"type": "JWT", "jwt": {"issuer": issuer.issuer(), "jwksUri": issuer.jwks_uri(), "triggerRule": trigger}})
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

#[tokio::test]
async fn a_guarded_route_lets_only_good_tokens_through() {
    let (upstream, one, other) =
        (Upstream::start().await.unwrap(), Issuer::start().await.unwrap(), Issuer::start().await.unwrap());
    let mut edge = Edge::exposing("app", upstream.address()).await;
    edge.api("app", json!({"authentication": [rule(&one, "/status/200")]})).await;
    let token = one.mint().token("alice", LATER).unwrap();

    let missing = edge.get("app.localhost", "/x?y=z").await;
    assert_eq!(
        missing.whole(),
        "401\ncache-control: no-store\nconnection: close\ncontent-length: 14\ncontent-type: text/plain\ndate: …\n\
         server: tidegate\nwww-authenticate: Bearer realm=\"http://app.localhost/x\"\nx-request-id: …\nJwt is missing"
    );
    let mut forged = token.clone();
    let position = forged.len() - 6;
    let other_letter = if forged.as_bytes()[position] == b'A' { "B" } else { "A" };
    forged.replace_range(position..=position, other_letter);
    let wrong = edge.ask("app.localhost", "/", &bearer(&forged)).await;
    assert_eq!((wrong.status, wrong.body.as_str()), (401, "Jwt verification fails"));
    assert_eq!(
        wrong.header("www-authenticate"),
        Some("Bearer realm=\"http://app.localhost/\", error=\"invalid_token\"")
    );
    let stranger = edge.ask("app.localhost", "/", &bearer(&other.mint().token("bob", LATER).unwrap())).await;
    assert_eq!((stranger.status, stranger.body.as_str()), (401, "Jwt issuer is not configured"));
    let twice = edge.ask("app.localhost", "/", &format!("{}{}", bearer(&token), bearer(&token))).await;
    assert_eq!((twice.status, twice.header("content-type")), (400, Some("application/json")));
    assert!(twice.body.contains("\"error\":\"more than one authorization header\""), "{twice:?}");
    assert_eq!(upstream.requests(), 0, "nothing unauthenticated reached the upstream");

    let good = edge.ask("app.localhost", "/", &bearer(&token)).await;
    assert_eq!(good.seen().header("authorization"), Some(format!("Bearer {token}").as_str()));
    assert_eq!(edge.get("app.localhost", &format!("/q?access_token={token}")).await.status, 200);
    assert_eq!(edge.get("app.localhost", "/status/200").await.status, 200, "an excluded path is open");
    assert_eq!(edge.get("app.localhost", "/status/./200").await.status, 200);
    assert_eq!(edge.get("app.localhost", "/status%2f200").await.status, 400, "another rule once decoded");

    // Two issuers: any one of them is enough.
    edge.api("app", json!({"authentication": [rule(&one, "/a"), rule(&other, "/b")]})).await;
    assert_eq!(edge.ask("app.localhost", "/", &bearer(&token)).await.status, 200);
    assert_eq!(edge.ask("app.localhost", "/", &bearer(&other.mint().token("bob", LATER).unwrap())).await.status, 200);
    assert_eq!(edge.get("app.localhost", "/a").await.status, 401, "the other rule still applies");
}

#[tokio::test]
async fn refusals_can_be_read_by_browsers() {
    let (upstream, issuer) = (Upstream::start().await.unwrap(), Issuer::start().await.unwrap());
    let mut edge = Edge::exposing("app", upstream.address()).await;
    edge.api("app", json!({"authentication": [rule(&issuer, "/open")]})).await;
    let refused = edge.ask("app.localhost", "/", "Origin: https://app.example\r\n").await;
    assert_eq!((refused.status, refused.header("access-control-allow-origin")), (401, Some("https://app.example")));
}

#[tokio::test]
async fn annotations_decide_what_the_upstream_gets_of_the_token() {
    let (upstream, issuer) = (Upstream::start().await.unwrap(), Issuer::start().await.unwrap());
    let mut edge = Edge::exposing("app", upstream.address()).await;
    let annotations = json!({"tidegate.io/strip-token": "true", "tidegate.io/claim-headers": "X-User=sub"});
    edge.api_with("app", json!({"authentication": [rule(&issuer, "/open")]}), annotations).await;
    let token = issuer.mint().token("alice", LATER).unwrap();
    let lines = format!("{}X-User: mallory\r\n", bearer(&token));
    let seen = edge.ask("app.localhost", &format!("/a?b=c&access_token={token}"), &lines).await.seen();
    assert_eq!((seen.path.as_str(), seen.header("authorization")), ("/a?b=c", None));
    assert_eq!(seen.headers("x-user"), ["alice"]);
    let open = edge.ask("app.localhost", "/open", "X-User: mallory\r\n").await.seen();
    assert_eq!(open.header("x-user"), None, "a caller cannot claim to be somebody");
}

#[tokio::test]
async fn a_browsers_web_socket_may_bring_its_token_as_a_sub_protocol() {
    let (upstream, issuer) = (Upstream::start().await.unwrap(), Issuer::start().await.unwrap());
    let mut edge = Edge::exposing("app", upstream.address()).await;
    edge.api("app", json!({"authentication": [rule(&issuer, "/open")]})).await;
    let token = issuer.mint().token("alice", LATER).unwrap();
    let ask = async |protocols: &str| {
        let lines = format!(
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: {protocols}\r\n"
        );
        let request = format!("GET /echo HTTP/1.1\r\nHost: app.localhost\r\n{lines}\r\n");
        let close = "GET /open HTTP/1.1\r\nHost: app.localhost\r\nConnection: close\r\n\r\n";
        edge.raw(format!("{request}{close}")).await
    };
    let text = ask(&format!("chat, bearer.{token}")).await;
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    assert!(text.contains(r#"["sec-websocket-protocol","chat"]"#) && !text.contains(&token), "{text}");
    assert!(ask("chat, bearer.x").await.starts_with("HTTP/1.1 401 "));
}

#[tokio::test]
async fn one_token_is_verified_once() {
    let (upstream, issuer) = (Upstream::start().await.unwrap(), Issuer::start().await.unwrap());
    let mut edge = Edge::exposing("app", upstream.address()).await;
    edge.api("app", json!({"authentication": [rule(&issuer, "/open")]})).await;
    let lines = bearer(&issuer.mint().token("alice", LATER).unwrap());
    for _ in 0..10 {
        assert_eq!(edge.ask("app.localhost", "/", &lines).await.status, 200);
    }
    assert_eq!(edge.gateway.shared.authenticator.verifications(), 1);
    assert_eq!(issuer.fetches(), 1);
}
