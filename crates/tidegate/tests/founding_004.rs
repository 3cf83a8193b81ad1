//! Every command of founding document 004 (exposing services), and the status codes 0 to 5 that it lists.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tidegate_testkit::command::curl;
use tidegate_testkit::issuer::Issuer;
use tidegate_testkit::upstream::Upstream;
use tidegate_testkit::{Platform, PlatformOptions, eventually};

const BINARY: &str = env!("CARGO_BIN_EXE_tidegate");
const LIMIT: Duration = Duration::from_secs(30);

/// The document's sample, with its domain.
const SAMPLE: &str = "
apiVersion: gateway.kyma-project.io/v1alpha2
kind: Api
metadata:
  name: sample-api
spec:
  service:
    name: kubernetes
    port: 443
  hostname: kubernetes.kyma.local
  authentication:
  - type: JWT
    jwt:
      issuer: https://accounts.google.com
      jwksUri: https://www.googleapis.com/oauth2/v3/certs
";

fn platform(domain: &str, further: &[&str]) -> Platform {
    let mut arguments = vec!["--domain".to_owned(), domain.to_owned()];
    arguments.extend(further.iter().map(|argument| (*argument).to_owned()));
    Platform::start_with(BINARY, PlatformOptions { arguments, ..PlatformOptions::default() })
}

fn object(platform: &Platform, kind: &str, name: &str) -> Value {
    let output = platform.kubectl(&["get", kind, name, "-o", "json"]);
    serde_json::from_str(&output.ok().stdout).expect("kubectl prints JSON")
}

/// `(validation, virtual service, authentication)`; a code that is absent is -1.
fn codes(api: &Value) -> (i64, i64, i64) {
    let code = |path: &str| api.pointer(path).and_then(Value::as_i64).unwrap_or(-1);
    (
        code("/status/validationStatus"),
        code("/status/virtualServiceStatus/code"),
        code("/status/authenticationStatus/code"),
    )
}

#[track_caller]
fn wait_for(platform: &Platform, name: &str, expected: (i64, i64, i64)) -> Value {
    let mut last = (-1, -1, -1);
    eventually(LIMIT, &format!("codes {expected:?} of {name}"), || {
        let api = object(platform, "api", name);
        let seen = api.pointer("/status/observedGeneration") == api.pointer("/metadata/generation");
        last = codes(&api);
        (seen && last == expected).then_some(api)
    })
}

fn api(name: &str, spec: &str) -> String {
    format!("apiVersion: gateway.kyma-project.io/v1alpha2\nkind: Api\nmetadata: {{name: {name}}}\nspec: {spec}\n")
}

#[test]
fn the_commands_of_the_document_work_as_written() {
    let platform = platform("kyma.local", &[]);
    platform.apply(SAMPLE);
    let sample = wait_for(&platform, "sample-api", (2, 2, 2));
    assert_eq!(sample["status"]["virtualService"], sample["status"]["virtualServiceStatus"]);
    assert_eq!(sample["status"]["virtualService"]["resource"]["name"], "sample-api");

    let services = platform.kubectl(&["get", "virtualservices.networking.istio.io", "--all-namespaces"]);
    assert!(services.ok().stdout.contains("sample-api"), "{services}");
    let policies = platform.kubectl(&["get", "policies.authentication.istio.io", "--all-namespaces"]);
    assert!(policies.ok().stdout.contains("sample-api"), "{policies}");
    let definition = platform.kubectl(&["get", "crd", "apis.gateway.kyma-project.io", "-o", "yaml"]);
    assert!(definition.ok().stdout.contains("name: apis.gateway.kyma-project.io"), "{definition}");
    let described = platform.kubectl(&["describe", "api", "sample-api"]);
    assert!(described.ok().stdout.contains("Programmed"), "{described}");

    let virtual_service = object(&platform, "virtualservices.networking.istio.io", "sample-api");
    assert_eq!(virtual_service["spec"]["hosts"], serde_json::json!(["kubernetes.kyma.local"]));
    let policy = object(&platform, "policies.authentication.istio.io", "sample-api");
    assert_eq!(policy["spec"]["origins"][0]["jwt"]["issuer"], "https://accounts.google.com");
    assert_eq!(platform.get("kubernetes.kyma.local", "/version", None), (401, "Jwt is missing".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secured_service_is_called_with_a_bearer_token() {
    let upstream = Upstream::start().await.unwrap();
    let issuer = Issuer::start().await.unwrap();
    let platform = platform("localhost", &[]);
    let jwks = issuer.jwks_uri();
    let to = upstream.address().to_string();
    platform.verb(&["expose", "httpbin", "--to", &to, "--jwt-issuer", issuer.issuer(), "--jwks", &jwks]).ok();
    #[expect(clippy::disallowed_methods, reason = "tokens for a real process expire in real time")]
    let now = Timestamp::now().as_second();
    let token = issuer.mint().token("admin", now + 600).unwrap();
    let https = platform.endpoint("https");
    let port = https.rsplit_once(':').unwrap().1;
    let resolve = format!("httpbin.localhost:{port}:127.0.0.1");
    let authority = platform.data_dir().join("ca.crt").display().to_string();
    let url = format!("https://httpbin.localhost:{port}/headers");
    let header = format!("Authorization: Bearer {token}");
    let call = |further: &[&str]| {
        curl(&[&["-i", &url, "--cacert", &authority, "--resolve", &resolve][..], further].concat()).ok().stdout.clone()
    };
    assert!(call(&["-H", &header]).contains(" 200"));
    assert!(call(&[]).contains(" 401"));
    assert!(upstream.last().unwrap().header("authorization").is_some());
}

#[test]
fn conflicts_4_and_5_heal_by_themselves() {
    let platform = platform("localhost", &[]);
    platform.apply(&api("first", "{hostname: shop, service: {name: one, port: 80}}"));
    wait_for(&platform, "first", (2, 2, -1));
    platform.apply(&api("second", "{hostname: shop, service: {name: two, port: 80}}"));
    let second = wait_for(&platform, "second", (2, 4, -1));
    let said = second["status"]["virtualServiceStatus"]["lastError"].as_str().unwrap();
    assert_eq!(said, "the hostname shop.localhost is already in use");
    platform.apply(&api("third", "{hostname: store, service: {name: one, port: 80}}"));
    wait_for(&platform, "third", (5, 0, -1));

    platform.kubectl(&["delete", "api", "first"]).ok();
    wait_for(&platform, "second", (2, 2, -1));
    wait_for(&platform, "third", (2, 2, -1));
}

#[test]
fn what_cannot_be_enforced_has_code_3_and_is_not_served() {
    let platform = platform("localhost", &[]);
    platform.apply(&api("closed", "{hostname: closed, service: {name: a, port: 80}, authenticationEnabled: true}"));
    let closed = wait_for(&platform, "closed", (2, 0, 3));
    assert!(closed["status"]["authenticationStatus"]["lastError"].is_string(), "{closed}");
    assert_eq!(platform.get("closed.localhost", "/", None).0, 404);

    platform.apply(&api("protected", "{hostname: kube, service: {name: kubernetes, port: 443}}"));
    wait_for(&platform, "protected", (3, 0, -1));
    assert_eq!(platform.get("kube.localhost", "/version", None).0, 404);
}

#[test]
fn a_configured_default_issuer_locks_an_api_without_rules() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("c.yaml");
    std::fs::write(
        &file,
        "exposure: {defaultIssuer: 'https://issuer.test', defaultJwksUri: 'https://issuer.test/keys'}\n",
    )
    .unwrap();
    let platform = platform("localhost", &["--config", file.to_str().unwrap()]);
    platform.apply(&api("locked", "{hostname: locked, service: {name: a, port: 80}, authenticationEnabled: true}"));
    wait_for(&platform, "locked", (2, 2, 2));
    assert_eq!(platform.get("locked.localhost", "/", None).0, 401);
}

#[test]
fn generated_objects_are_restored_and_foreign_ones_are_warned_about() {
    let platform = platform("localhost", &[]);
    platform.apply(&api("guarded", "{hostname: guarded, service: {name: a, port: 80}}"));
    wait_for(&platform, "guarded", (2, 2, -1));
    let kind = "virtualservices.networking.istio.io";
    platform
        .kubectl(&["patch", kind, "guarded", "--type=merge", "-p", r#"{"spec":{"hosts":["stolen.localhost"]}}"#])
        .ok();
    eventually(LIMIT, "the edit is undone", || {
        (object(&platform, kind, "guarded")["spec"]["hosts"] == serde_json::json!(["guarded.localhost"])).then_some(())
    });
    platform.kubectl(&["delete", kind, "guarded"]).ok();
    eventually(LIMIT, "the object is back", || (platform.kubectl(&["get", kind, "guarded"]).code == 0).then_some(()));

    let foreign = "apiVersion: networking.istio.io/v1alpha3\nkind: VirtualService\nmetadata: {name: mine}\nspec: {hosts: [reserved.localhost]}\n";
    let written = platform.kubectl_with(&["apply", "-f", "-"], foreign);
    assert!(written.ok().stderr.contains("stored but not enforced in embedded mode"), "{written}");
    platform.apply(&api("late", "{hostname: reserved, service: {name: b, port: 80}}"));
    wait_for(&platform, "late", (2, 4, -1));
    platform.kubectl(&["delete", kind, "mine"]).ok();
    wait_for(&platform, "late", (2, 2, -1));
}
