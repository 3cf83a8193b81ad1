//! Sockets, certificates, limits, documents (SPEC 60 §2.2, §3, §5, §16, §23).

use std::io::Read as _;

use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tidegate_pki::Authority;
use tidegate_runtime::Clock;

use crate::common::{CONFIG_MAPS, World, config_map, widgets};

/// A client that trusts the local CA and shows a certificate of `authority`, or none.
fn client(world: &World, identity: Option<(&Authority, &[&str])>) -> reqwest::Client {
    let ca = reqwest::Certificate::from_pem(world.plane.ca_pem().as_bytes()).unwrap();
    #[expect(clippy::disallowed_methods, reason = "a foreign client of the server under test")]
    let mut builder = reqwest::Client::builder().tls_certs_only([ca]).no_proxy();
    if let Some((authority, groups)) = identity {
        let now = Clock::system().now();
        let credential = authority.issue_client("somebody", groups, now, tidegate_pki::CLIENT_LIFETIME).unwrap();
        let pem = format!("{}{}", credential.chain_pem(), credential.private_key_pem().expose());
        builder = builder.identity(reqwest::Identity::from_pem(pem.as_bytes()).unwrap());
    }
    builder.build().unwrap()
}

fn client_authority(world: &World) -> Authority {
    let text = std::fs::read_to_string(world.dir.path().join("pki/client-ca.pem")).unwrap();
    let (certificate, key) = text.split_at(text.find("-----BEGIN PRIVATE KEY-----").unwrap());
    Authority::from_pem(certificate, key).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_certificates_of_the_clusters_authority_and_of_masters_are_let_in() {
    let world = World::open().await;
    let (_, url) = world.serve().await;
    let ours = client_authority(&world);
    let foreign = Authority::generate("foreign", Clock::system().now()).unwrap();
    let path = format!("{url}{CONFIG_MAPS}");
    let masters: &[&str] = &["system:masters"];
    for (identity, status) in [
        (Some((&ours, masters)), 200),
        (Some((&ours, &["developers"] as &[&str])), 403),
        (Some((&foreign, masters)), 401),
        (None, 401),
    ] {
        let answer = client(&world, identity).get(&path).send().await.unwrap();
        assert_eq!(answer.status(), status);
        assert!(!answer.headers()["audit-id"].is_empty());
        if status == 401 {
            assert_eq!(answer.headers()["www-authenticate"], "Bearer realm=\"tidegate\"");
            let body: serde_json::Value = answer.json().await.unwrap();
            assert_eq!((&body["reason"], &body["message"]), (&json!("Unauthorized"), &json!("Unauthorized")));
        }
    }
    // A bad certificate is not worth less than none, but no more either.
    assert_eq!(
        client(&world, Some((&foreign, masters))).get(format!("{url}/version")).send().await.unwrap().status(),
        401
    );
    assert_eq!(client(&world, None).get(&path).bearer_auth("x").send().await.unwrap().status(), 401);
    for open in ["/version", "/livez", "/readyz", "/healthz"] {
        assert_eq!(client(&world, None).get(format!("{url}{open}")).send().await.unwrap().status(), 200, "{open}");
    }
    for closed in ["/", "/metrics", "/api", "/clusters/other/api"] {
        assert_eq!(client(&world, None).get(format!("{url}{closed}")).send().await.unwrap().status(), 401, "{closed}");
    }
    assert!(
        world
            .metrics
            .encode()
            .contains("tidegate_kube_authn_failures_total{method=\"certificate\",reason=\"unknown_authority\"}")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_have_their_status_and_the_connection_goes_on() {
    let world = World::open().await;
    let (_, url) = world.serve().await;
    let admin = client(&world, Some((&client_authority(&world), &["system:masters"])));
    let huge = admin.post(format!("{url}{CONFIG_MAPS}")).body(vec![b'a'; 3 * 1024 * 1024 + 1]).send().await.unwrap();
    assert_eq!(huge.status(), 413);
    let body: serde_json::Value = huge.json().await.unwrap();
    assert_eq!(body["message"], "Request entity too large: limit is 3145728");
    let long = admin.get(format!("{url}{CONFIG_MAPS}?labelSelector={}", "a".repeat(17 * 1024))).send().await.unwrap();
    assert_eq!(long.status(), 414);
    for method in [reqwest::Method::HEAD, reqwest::Method::OPTIONS] {
        assert_eq!(admin.request(method, format!("{url}{CONFIG_MAPS}")).send().await.unwrap().status(), 405);
    }
    let text = admin.get(format!("{url}/nothing/here")).send().await.unwrap();
    assert_eq!((text.status().as_u16(), text.text().await.unwrap().as_str()), (404, "404 page not found\n"));
    assert_eq!(admin.get(format!("{url}/clusters/root{CONFIG_MAPS}")).send().await.unwrap().status(), 200);
    assert_eq!(admin.get(format!("{url}/clusters/other{CONFIG_MAPS}")).send().await.unwrap().status(), 404);
    // A little more than allowed arrives in one piece over HTTP/2 and passes the listener's own bounds.
    for (bytes, status) in [(60 * 1024, 200), (65 * 1024 + 512, 431)] {
        let answer = admin.get(format!("{url}{CONFIG_MAPS}")).header("x-long", "a".repeat(bytes)).send().await;
        // Whoever counts first answers, or refuses the stream.
        assert!(answer.map_or(status == 431, |answer| answer.status() == status), "{bytes} bytes");
    }
    let kept = admin.get(format!("{url}/version")).header("Audit-Id", "mine").send().await.unwrap();
    assert_eq!(kept.headers()["audit-id"], "mine");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_acts_in_anothers_name_with_his_own_rights() {
    let world = World::open().await;
    let (_, url) = world.serve().await;
    let admin = client(&world, Some((&client_authority(&world), &["system:masters"])));
    let path = format!("{url}{CONFIG_MAPS}");
    let refused = admin.get(&path).header("Impersonate-User", "joe").send().await.unwrap();
    assert_eq!(refused.status(), 403);
    let body: serde_json::Value = refused.json().await.unwrap();
    assert_eq!(
        (&body["reason"], &body["message"]),
        (
            &json!("Forbidden"),
            &json!(
                "users \"joe\" is forbidden: User \"somebody\" cannot impersonate resource \"users\" in API group \"\" at the cluster scope"
            )
        )
    );
    assert_eq!(admin.get(&path).header("Impersonate-Group", "dev").send().await.unwrap().status(), 400);
    let anonymous = client(&world, None).get(&path).header("Impersonate-User", "joe").send().await.unwrap();
    assert_eq!(anonymous.status(), 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_header_bytes_are_431_and_a_handshake_without_tls_ends() {
    let world = World::open().await;
    let (_, url) = world.serve().await;
    let ca = reqwest::Certificate::from_pem(world.plane.ca_pem().as_bytes()).unwrap();
    #[expect(clippy::disallowed_methods, reason = "a foreign client of the server under test")]
    let client = reqwest::Client::builder().tls_certs_only([ca]).no_proxy().http1_only().build().unwrap();
    let answer = client.get(format!("{url}/version")).header("x-long", "a".repeat(70 * 1024)).send().await.unwrap();
    assert_eq!(answer.status(), 431);
    let plain = client.get(format!("http{}/version", url.trim_start_matches("https"))).send().await;
    assert!(plain.is_err());
    assert_eq!(client.get(format!("{url}/version")).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn open_api_documents_are_immutable_under_their_hash() {
    let world = World::open_in(tempfile::tempdir().unwrap(), vec![widgets()]).await;
    let index = world.get("/openapi/v3").await.expect(200);
    let url = index["paths"]["apis/example.com/v1"]["serverRelativeURL"].as_str().unwrap().to_owned();
    let document = world.get(&url).await;
    assert_eq!((document.status, document.header("cache-control")), (200, "public, immutable"));
    assert!(document.header("expires").ends_with(" GMT"));
    assert!(document.body["components"]["schemas"]["com.example.v1.Widget"].is_object());
    let stale = world.get("/openapi/v3/apis/example.com/v1?hash=0").await;
    assert_eq!((stale.status, stale.header("location")), (301, url.as_str()));
    assert_eq!(world.get("/openapi/v3/apis/example.com/v1").await.header("cache-control"), "no-cache, private");
    assert_eq!(world.get("/openapi/v3/apis/none/v1").await.status, 404);
    let prefixed = world.get("/clusters/root/openapi/v3").await.expect(200);
    let url = prefixed["paths"]["api/v1"]["serverRelativeURL"].as_str().unwrap();
    assert!(url.starts_with("/clusters/root/openapi/v3/api/v1?hash="), "{url}");
    let stub = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
    let v2 = world.ask("GET", "/openapi/v2", &[("accept", stub)], b"").await;
    assert_eq!((v2.status, v2.text.len()), (200, 21));
}

#[tokio::test]
async fn discovery_is_served_in_both_forms() {
    let world = World::open().await;
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
    let groups = world.ask("GET", "/apis", &[("accept", accept)], b"").await;
    assert_eq!(groups.header("content-type"), "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList");
    let etag = groups.header("etag").to_owned();
    let cached = world.ask("GET", "/apis", &[("accept", accept), ("if-none-match", &etag)], b"").await;
    assert_eq!((cached.status, cached.text.as_str()), (304, ""));
    let plain = world.get("/apis").await.expect(200);
    assert_eq!(plain["kind"], "APIGroupList");
    assert_eq!(world.get("/api").await.expect(200)["versions"], json!(["v1"]));
    assert_eq!(world.get("/api/v1").await.expect(200)["kind"], "APIResourceList");
    assert_eq!(world.get("/apis/apps/v1").await.status, 404);
    assert_eq!(world.get("/api/v1/pods").await.message(), "the server could not find the requested resource");
    assert_eq!(world.get("/version").await.expect(200)["minor"], "36");
    assert!(world.get("/metrics").await.text.contains("tidegate_kube_requests_total"));
}

#[tokio::test]
async fn a_panic_or_a_wrong_path_never_ends_the_service() {
    let world = World::open().await;
    for path in
        ["/api/v1/watch/configmaps", "/api/v1//configmaps", "/apis/%ff/v1/x", "/api/v1/namespaces/%2e%2e/configmaps"]
    {
        assert_eq!(world.get(path).await.status, 404, "{path}");
    }
    let query = vec!["a=b"; 65].join("&");
    assert_eq!(world.get(&format!("{CONFIG_MAPS}?{query}")).await.status, 400);
    assert_eq!(world.tasks.panics(), 0);
}

#[tokio::test]
async fn large_answers_are_compressed_for_clients_that_take_gzip() {
    let world = World::open().await;
    for name in ["a", "b", "c"] {
        world.post(CONFIG_MAPS, &config_map(name, &json!({"k": "v".repeat(60 * 1024)}))).await.expect(201);
    }
    let plain = world.get(CONFIG_MAPS).await;
    assert_eq!((plain.header("content-encoding"), plain.header("vary")), ("", "Accept-Encoding"));
    let answer = world.send("GET", CONFIG_MAPS, &[("accept-encoding", "gzip")], b"").await;
    assert_eq!(answer.headers()["content-encoding"], "gzip");
    let compressed = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(compressed.len() < plain.text.len() / 10);
    let mut text = String::new();
    flate2::read::GzDecoder::new(&*compressed).read_to_string(&mut text).unwrap();
    // The controllers of a fresh world may still be writing: only the objects of this test are compared.
    let ours = |list: &str| {
        let list: Value = serde_json::from_str(list).unwrap();
        let items = list["items"].as_array().unwrap().iter();
        items.filter(|item| item["data"]["k"].is_string()).cloned().collect::<Vec<_>>()
    };
    assert_eq!(ours(&text).len(), 3);
    assert_eq!(ours(&text), ours(&plain.text));

    let small = world.ask("GET", &format!("{CONFIG_MAPS}/a"), &[("accept-encoding", "gzip")], b"").await;
    assert_eq!((small.header("content-encoding"), small.header("vary")), ("", ""));
}
