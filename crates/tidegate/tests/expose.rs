//! Exposing a local process (`30` section 7.1), with kubectl and with `tidegate expose`; then JWTs of one and two issuers.

use std::time::Duration;

use jiff::Timestamp;
use tidegate_testkit::issuer::Issuer;
use tidegate_testkit::upstream::Upstream;
use tidegate_testkit::{Platform, eventually};

const BINARY: &str = env!("CARGO_BIN_EXE_tidegate");
const LIMIT: Duration = Duration::from_secs(30);

/// The first form of section 7.1.
fn first_form(port: u16) -> String {
    format!(
        "
apiVersion: v1
kind: Service
metadata: {{name: my-app, namespace: default}}
spec:
  type: ExternalName
  externalName: 127.0.0.1
  ports: [{{name: http, port: 80, targetPort: {port}}}]
---
apiVersion: gateway.kyma-project.io/v1alpha2
kind: Api
metadata: {{name: my-app, namespace: default}}
spec: {{hostname: my-app, service: {{name: my-app, port: 80}}}}
"
    )
}

/// The second form, with one process.
fn second_form(port: u16) -> String {
    format!(
        "
apiVersion: v1
kind: Service
metadata: {{name: my-app, namespace: default}}
spec: {{ports: [{{name: http, port: 80, targetPort: {port}}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: my-app-1, namespace: default, labels: {{kubernetes.io/service-name: my-app}}}}
addressType: IPv4
ports: [{{name: http, port: {port}, protocol: TCP}}]
endpoints: [{{addresses: [127.0.0.1]}}]
---
apiVersion: gateway.kyma-project.io/v1alpha2
kind: Api
metadata: {{name: my-app, namespace: default}}
spec: {{hostname: my-app, service: {{name: my-app, port: 80}}}}
"
    )
}

#[track_caller]
fn wait_for_code_2(platform: &Platform, name: &str) {
    let path = "{.status.virtualServiceStatus.code}";
    eventually(LIMIT, "code 2", || {
        let output = platform.kubectl(&["get", "api", name, "-o", &format!("jsonpath={path}")]);
        (output.text() == "2").then_some(())
    });
}

fn token(issuer: &Issuer, subject: &str) -> String {
    #[expect(clippy::disallowed_methods, reason = "tokens for a real process expire in real time")]
    let now = Timestamp::now().as_second();
    issuer.mint().token(subject, now + 3_600).expect("the issuer signs")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_form_answers_200() {
    let upstream = Upstream::start().await.unwrap();
    let platform = Platform::start(BINARY);
    platform.apply(&first_form(upstream.address().port()));
    wait_for_code_2(&platform, "my-app");
    let (status, body) = platform.get("my-app.localhost", "/anything", None);
    assert_eq!(status, 200, "{body}");
    assert_eq!(upstream.last().unwrap().path, "/anything");
    assert_eq!(platform.get("other.localhost", "/", None).0, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_second_form_answers_200_from_every_process() {
    let (one, two) = (Upstream::start().await.unwrap(), Upstream::start().await.unwrap());
    let platform = Platform::start(BINARY);
    platform.apply(&second_form(one.address().port()));
    wait_for_code_2(&platform, "my-app");
    assert_eq!(platform.get("my-app.localhost", "/", None).0, 200);
    let second = second_form(two.address().port()).replace("my-app-1", "my-app-2");
    platform.apply(&second);
    eventually(LIMIT, "the second process is asked too", || {
        assert_eq!(platform.get("my-app.localhost", "/", None).0, 200);
        (two.requests() > 0).then_some(())
    });
    assert!(one.requests() > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_command_exposes_secures_and_removes() {
    let upstream = Upstream::start().await.unwrap();
    let issuer = Issuer::start().await.unwrap();
    let platform = Platform::start(BINARY);
    let to = upstream.address().to_string();
    let jwks = issuer.jwks_uri();
    let jwt = ["--jwt-issuer", issuer.issuer(), "--jwks", &jwks];

    let exposed = platform.verb(&["expose", "my-app", "--to", &to]);
    assert!(exposed.ok().stdout.contains("code 2"), "{exposed}");
    assert!(exposed.stderr.contains("try: curl -i -H 'Host: my-app.localhost'"), "{exposed}");
    assert_eq!(platform.get("my-app.localhost", "/", None).0, 200);
    platform.verb(&["expose", "my-app", "--to", &to]).ok();
    let open = platform.verb(&["routes", "--unprotected", "-o", "name"]);
    assert_eq!(open.ok().text(), "Api/default/my-app");

    platform.verb(&[&["expose", "my-app", "--to", &to][..], &jwt[..]].concat()).ok();
    let (status, body) = platform.get("my-app.localhost", "/", None);
    assert_eq!((status, body.as_str()), (401, "Jwt is missing"));
    assert_eq!(platform.get("my-app.localhost", "/", Some("not-a-token")).0, 401);
    assert_eq!(platform.get("my-app.localhost", "/", Some(&token(&issuer, "alice"))).0, 200);
    assert_eq!(platform.verb(&["routes", "--unprotected", "-o", "name"]).ok().text(), "");

    let refused = platform.verb(&["expose", "my-app", "--to", &to]);
    refused.fails_with(6);
    assert!(refused.stderr.contains("it requires a JWT, and this would open it to everybody"), "{refused}");
    assert_eq!(platform.get("my-app.localhost", "/", None).0, 401);
    platform.verb(&["expose", "my-app", "--to", &to, "--unprotected"]).ok();
    assert_eq!(platform.get("my-app.localhost", "/", None).0, 200);

    platform.verb(&["unexpose", "my-app"]).ok();
    assert_eq!(platform.get("my-app.localhost", "/", None).0, 404);
    platform.kubectl(&["get", "service", "my-app"]).fails_with(1);
    platform.verb(&["unexpose", "my-app"]).fails_with(1);
}

#[test]
fn a_dry_run_prints_what_kubectl_applies() {
    let platform = Platform::start(BINARY);
    let printed = platform.verb(&["expose", "my-app", "--to", "127.0.0.1:3000", "--dry-run=client", "-o", "yaml"]);
    platform.kubectl(&["get", "apis"]).ok();
    platform.apply(&printed.ok().stdout);
    wait_for_code_2(&platform, "my-app");
    let json = platform.verb(&["expose", "my-app", "--to", "127.0.0.1:3000", "--dry-run=client", "-o", "json"]);
    platform.apply(&json.ok().stdout);
}

#[test]
fn a_host_that_is_taken_is_a_conflict_that_names_it() {
    let platform = Platform::start(BINARY);
    platform.verb(&["expose", "first", "--to", "127.0.0.1:3000", "--hostname", "shop"]).ok();
    let second = platform.verb(&["expose", "second", "--to", "127.0.0.1:3001", "--hostname", "shop"]);
    second.fails_with(6);
    assert!(second.stderr.contains("error: api `default/second` not enforced"), "{second}");
    assert!(second.stderr.contains("shop.localhost"), "{second}");
    platform.verb(&["unexpose", "first"]).ok();
    wait_for_code_2(&platform, "second");
}

#[test]
fn mistakes_are_explained() {
    let platform = Platform::start(BINARY);
    for (arguments, words) in [
        (&["expose", "a", "--to", "3000"][..], "is not HOST:PORT"),
        (&["expose", "a", "--to", "http://127.0.0.1:3000"], "is a URL: write HOST:PORT"),
        (&["expose", "a", "--to", "127.0.0.1:1", "--jwt-issuer", "self", "--jwks", "x"], "OAuth2 server"),
        (&["expose", "a", "--to", "127.0.0.1:1", "--jwt-issuer", "https://i"], "--jwks"),
        (&["why", "GET"], "URL"),
        (&["expse"], "expose"),
    ] {
        let refused = platform.verb(arguments);
        refused.fails_with(2);
        assert!(refused.stderr.contains(words), "no `{words}` in {refused}");
    }
    let invalid = platform.verb(&["expose", "Not_A_Name", "--to", "127.0.0.1:1"]);
    assert!(invalid.fails_with(1).stderr.contains("Not_A_Name"), "{invalid}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_of_two_issuers_open_paths_and_rotated_keys_work() {
    let upstream = Upstream::start().await.unwrap();
    let (one, two) = (Issuer::start().await.unwrap(), Issuer::start().await.unwrap());
    let stranger = Issuer::start().await.unwrap();
    let platform = Platform::start(BINARY);
    platform.verb(&["expose", "my-app", "--to", &upstream.address().to_string()]).ok();
    let rule = |issuer: &Issuer| {
        format!(
            "{{type: JWT, jwt: {{issuer: '{}', jwksUri: '{}', triggerRule: {{excludedPaths: [{{exact: /health}}]}}}}}}",
            issuer.issuer(),
            issuer.jwks_uri()
        )
    };
    platform.apply(&format!(
        "
apiVersion: gateway.kyma-project.io/v1alpha2
kind: Api
metadata: {{name: my-app, namespace: default}}
spec:
  hostname: my-app
  service: {{name: my-app, port: 80}}
  authentication: [{}, {}]
",
        rule(&one),
        rule(&two)
    ));
    let get = |path: &str, token: Option<&str>| platform.get("my-app.localhost", path, token).0;
    eventually(LIMIT, "the lock is on", || (get("/", None) == 401).then_some(()));
    assert_eq!(get("/", Some(&token(&one, "alice"))), 200);
    assert_eq!(get("/", Some(&token(&two, "bob"))), 200);
    assert_eq!(get("/", Some(&token(&stranger, "eve"))), 401);
    assert_eq!(get("/health", None), 200);
    assert_eq!(get("/health/", None), 401);
    let seen = upstream.requests();
    assert_eq!(get("/", Some(&token(&stranger, "eve"))), 401);
    assert_eq!(upstream.requests(), seen, "a refused request reached the upstream");

    one.mint().rotate(false).unwrap();
    let rotated = token(&one, "alice");
    eventually(LIMIT, "the rotated key is picked up", || (get("/", Some(&rotated)) == 200).then_some(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn why_explains_each_step_and_the_log_says_the_same_word() {
    let upstream = Upstream::start().await.unwrap();
    let issuer = Issuer::start().await.unwrap();
    let platform = Platform::start(BINARY);
    let to = upstream.address().to_string();
    let jwks = issuer.jwks_uri();
    platform.verb(&["expose", "my-app", "--to", &to, "--jwt-issuer", issuer.issuer(), "--jwks", &jwks]).ok();
    let url = format!("http://{}/orders", platform.endpoint("http"));
    let host = "Host: my-app.localhost";

    let missing = platform.verb(&["why", "GET", &url, "-H", host]);
    assert!(missing.fails_with(5).stdout.contains("401 token_missing"), "{missing}");
    let secret = token(&issuer, "alice");
    let allowed = platform.verb_with(&["why", "GET", &url, "-H", host, "--token-stdin"], &secret);
    assert!(allowed.ok().stdout.contains("allowed by Api/default/my-app"), "{allowed}");
    assert!(!allowed.stdout.contains(&secret), "a token was printed");
    let nowhere = platform.verb(&["why", "GET", "http://absent.localhost/", "-o", "json"]);
    let json: serde_json::Value = serde_json::from_str(&nowhere.fails_with(5).stdout).unwrap();
    assert_eq!((json["allowed"].as_bool(), json["reason"].as_str()), (Some(false), Some("no_host")));
    assert_eq!(upstream.requests(), 0, "explaining sent a request");

    assert_eq!(platform.get("my-app.localhost", "/orders", None).0, 401);
    eventually(LIMIT, "the access log", || platform.stdout().contains("\"reason\":\"token_missing\"").then_some(()));
    let (_, metrics) = platform.admin("/metrics");
    let counted = metrics
        .lines()
        .find(|line| line.starts_with("tidegate_gateway_requests_total") && line.contains("reason=\"token_missing\""));
    assert!(counted.is_some_and(|line| line.contains("route=\"Api/default/my-app\"")), "{metrics}");
    let (status, watches) = platform.admin("/debug/watches");
    assert_eq!(status, 200);
    assert!(watches.contains("/apis/gateway.kyma-project.io/v1alpha2/apis"), "{watches}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_finds_an_upstream_that_nobody_serves() {
    let platform = Platform::start(BINARY);
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    platform.verb(&["expose", "my-app", "--to", &closed.to_string()]).ok();
    let report = platform.verb(&["doctor"]);
    let expected = format!("`{closed}` of Api/default/my-app does not accept connections");
    assert!(report.fails_with(3).stdout.contains(&expected), "{report}");
    let json = platform.verb(&["doctor", "-o", "json"]);
    let findings: serde_json::Value = serde_json::from_str(&json.fails_with(3).stdout).unwrap();
    assert!(findings.as_array().unwrap().iter().any(|finding| finding["check"] == "platform" && finding["ok"] == true));
    assert_eq!(platform.get("my-app.localhost", "/", None).0, 503);
}
