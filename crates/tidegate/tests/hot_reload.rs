//! SPEC 30 §6.11 against the real binary: 50 route changes a second for ten seconds, written through the Kubernetes API
//! while callers keep asking. No request fails, and nothing unauthenticated gets through.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};
use tidegate_runtime::Tasks;
use tidegate_testkit::issuer::Issuer;
use tidegate_testkit::upstream::Upstream;
use tidegate_testkit::{KeepAlive, Platform};

const CHANGES_PER_SECOND: u64 = 50;
const SECONDS: u64 = 10;
const CALLERS: usize = 4;
/// Distinct names that the changes go round.
const CHURNING: u64 = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_changes_a_second_cost_no_request_and_open_no_door() {
    let upstream = Upstream::start().await.expect("an upstream");
    let issuer = Issuer::start().await.expect("an issuer");
    let platform = Platform::start(env!("CARGO_BIN_EXE_tidegate"));
    let world = World::connect(&platform).await;
    world.service("steady", &upstream).await;
    world.service("locked", &upstream).await;
    world.create(&world.apis, &exposure("steady", "steady", &json!([]))).await;
    world.create(&world.apis, &exposure("locked", "locked", &rules(&issuer))).await;
    for number in 0..CHURNING {
        world.service(&format!("churn-{number}"), &upstream).await;
    }
    world.enforced("steady").await;
    world.enforced("locked").await;
    let expiry = tidegate_runtime::Clock::system().now().as_second() + 600;
    let token = issuer.mint().token("caller", expiry).expect("a token");

    let (stop, tasks) = (Arc::new(AtomicBool::new(false)), Tasks::new());
    let address = platform.endpoint("http").to_owned();
    let callers: Vec<_> =
        (0..CALLERS).map(|_| tasks.spawn("caller", call(address.clone(), token.clone(), Arc::clone(&stop)))).collect();
    let mut ticks = tokio::time::interval(Duration::from_millis(1000 / CHANGES_PER_SECOND));
    for round in 0..CHANGES_PER_SECOND * SECONDS {
        ticks.tick().await;
        world.change(round, &issuer).await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut answered = 0;
    for caller in callers {
        answered += caller.await.expect("a caller ends").expect("every answer was the right one");
    }
    assert!(answered > 1_000, "only {answered} requests");
}

/// Asks for both exposures in turn, with and without a token; the number of right answers, or the first wrong one.
async fn call(address: String, token: String, stop: Arc<AtomicBool>) -> Result<usize, String> {
    let mut connection = KeepAlive::connect(&address).await.map_err(|error| error.to_string())?;
    let mut answered = 0;
    while !stop.load(Ordering::Relaxed) {
        for (host, token, expected) in
            [("steady.localhost", None, 200), ("locked.localhost", None, 401), ("locked.localhost", Some(&*token), 200)]
        {
            let status = connection.get(host, "/status/200", token).await;
            let status = status.map_err(|error| format!("{host} after {answered} answers: {error}"))?;
            if status != expected {
                return Err(format!("{host} after {answered} answers: {status} instead of {expected}"));
            }
            answered += 1;
        }
    }
    Ok(answered)
}

fn exposure(name: &str, host: &str, rules: &Value) -> Value {
    json!({
        "apiVersion": "gateway.kyma-project.io/v1alpha2", "kind": "Api", "metadata": {"name": name},
        "spec": {"hostname": host, "service": {"name": name, "port": 80}, "authentication": rules},
    })
}

fn rules(issuer: &Issuer) -> Value {
    json!([{"type": "JWT", "jwt": {"issuer": issuer.issuer(), "jwksUri": issuer.jwks_uri()}}])
}

/// The platform's Kubernetes API as a client sees it.
struct World {
    apis: Api<DynamicObject>,
    services: Api<DynamicObject>,
}

impl World {
    async fn connect(platform: &Platform) -> Self {
        // Another test of this process may have done it.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let kubeconfig = Kubeconfig::read_from(platform.kubeconfig()).expect("a kubeconfig");
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
        let client = kube::Client::try_from(config.expect("a configuration")).expect("a client");
        let kind = |group: &str, version: &str, kind: &str| {
            ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
        };
        Self {
            apis: Api::default_namespaced_with(client.clone(), &kind("gateway.kyma-project.io", "v1alpha2", "Api")),
            services: Api::default_namespaced_with(client, &kind("", "v1", "Service")),
        }
    }

    async fn create(&self, api: &Api<DynamicObject>, object: &Value) {
        let object: DynamicObject = serde_json::from_value(object.clone()).expect("an object");
        api.create(&PostParams::default(), &object).await.expect("the object is created");
    }

    async fn service(&self, name: &str, upstream: &Upstream) {
        let address = upstream.address();
        let port = json!({"name": "http", "port": 80, "targetPort": address.port()});
        let object = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"type": "ExternalName", "externalName": address.ip().to_string(), "ports": [port]},
        });
        self.create(&self.services, &object).await;
    }

    /// One of: a new exposure, another host for it, a lock on it, its end; and every tenth time an edit of the exposures
    /// that the callers use.
    async fn change(&self, round: u64, issuer: &Issuer) {
        let name = format!("churn-{}", (round / 4) % CHURNING);
        let patch = |spec: Value| Patch::Merge(json!({"spec": spec}));
        let params = PatchParams::default();
        match round % 4 {
            0 => {
                // The end of an earlier round of this name may still be going on.
                let object: DynamicObject =
                    serde_json::from_value(exposure(&name, &name, &json!([]))).expect("an object");
                while let Err(error) = self.apis.create(&PostParams::default(), &object).await {
                    assert!(matches!(&error, kube::Error::Api(status) if status.code == 409), "{error}");
                    tokio::task::yield_now().await;
                }
            }
            1 => drop(
                self.apis
                    .patch(&name, &params, &patch(json!({"hostname": format!("{name}-b")})))
                    .await
                    .expect("patched"),
            ),
            2 => drop(
                self.apis
                    .patch(&name, &params, &patch(json!({"authentication": rules(issuer)})))
                    .await
                    .expect("patched"),
            ),
            _ => drop(self.apis.delete(&name, &DeleteParams::default()).await.expect("deleted")),
        }
        if round.is_multiple_of(10) {
            let both = json!({"metadata": {"annotations": {"round": round.to_string()}}});
            for steady in ["steady", "locked"] {
                self.apis.patch(steady, &params, &Patch::Merge(both.clone())).await.expect("annotated");
            }
        }
    }

    async fn enforced(&self, name: &str) {
        tidegate_testkit::eventually_async(Duration::from_secs(20), "code 2", || async {
            let object = self.apis.get(name).await.ok()?;
            let status = object.data.get("status")?.pointer("/virtualServiceStatus/code")?.as_i64()?;
            (status == 2).then_some(())
        })
        .await;
    }
}
