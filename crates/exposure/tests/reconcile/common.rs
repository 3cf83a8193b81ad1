//! One control plane and one set of reconcilers per test.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Event;
use kube::api::{Api as KubeApi, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};
use tidegate_apiserver::{Config as KubeConfig, ControlPlane};
use tidegate_exposure::{Config, Dependencies, Exposure};
use tidegate_kinds::Api;
use tidegate_policy::{Domains, ObjectRef, Options};
use tidegate_runtime::{Clock, Enforcement, Metrics, Readiness, Tasks};
use tidegate_testkit::eventually_async;
use tokio::sync::watch;

const LIMIT: Duration = Duration::from_secs(20);
pub(crate) const NAMESPACE: &str = "default";

/// Enforces everything at once while the gate is open, and nothing while it is closed.
#[derive(Clone)]
pub(crate) struct Gate {
    is_open: watch::Sender<bool>,
}

impl Gate {
    fn new() -> Self {
        Self { is_open: watch::Sender::new(true) }
    }

    pub(crate) fn close(&self) {
        self.is_open.send_replace(false);
    }

    pub(crate) fn open(&self) {
        self.is_open.send_replace(true);
    }

    fn passed(&self) -> BoxFuture<'static, ()> {
        let mut is_open = self.is_open.subscribe();
        Box::pin(async move {
            if is_open.wait_for(|is_open| *is_open).await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    }
}

impl Enforcement for Gate {
    fn enforced(&self, _: &ObjectRef, _: i64) -> BoxFuture<'static, ()> {
        self.passed()
    }

    fn withdrawn(&self, _: &ObjectRef) -> BoxFuture<'static, ()> {
        self.passed()
    }
}

pub(crate) struct World {
    pub(crate) client: Client,
    pub(crate) gate: Gate,
    plane: ControlPlane,
    tasks: Tasks,
    reconcilers: Option<(Tasks, Exposure)>,
    dir: tempfile::TempDir,
}

impl World {
    /// A control plane with its definitions and running reconcilers.
    pub(crate) async fn start() -> Self {
        let mut world = Self::without_reconcilers().await;
        world.start_reconcilers();
        world
    }

    pub(crate) async fn without_reconcilers() -> Self {
        let (tasks, dir) = (Tasks::new(), tempfile::tempdir().unwrap());
        let plane = ControlPlane::open(tidegate_apiserver::Options {
            data_dir: dir.path().to_owned(),
            config: KubeConfig::default(),
            namespaces: ["kyma-system", "istio-system"].map(str::to_owned).to_vec(),
            definitions: tidegate_kinds::crds(&["localhost".to_owned()]),
            clock: Clock::system(),
            tasks: tasks.clone(),
            readiness: Readiness::new(),
            metrics: Metrics::new(),
        })
        .await
        .unwrap();
        let client = plane.client("test");
        Self { client, gate: Gate::new(), plane, tasks, reconcilers: None, dir }
    }

    pub(crate) fn start_reconcilers(&mut self) {
        let tasks = self.tasks.child();
        let exposure = Exposure::start(
            Config::default(),
            Options::new(Domains::new(["localhost"])),
            Dependencies {
                client: self.plane.client("controller:exposure"),
                clock: Clock::system(),
                tasks: tasks.clone(),
                metrics: Metrics::new(),
                enforcement: Arc::new(self.gate.clone()),
            },
        );
        self.reconcilers = Some((tasks, exposure));
    }

    pub(crate) async fn stop_reconcilers(&mut self) {
        if let Some((tasks, _)) = self.reconcilers.take() {
            assert!(tasks.close_and_wait(LIMIT).await, "reconcilers still run");
        }
    }

    /// Ends everything; a test that does not is no test of an orderly end.
    pub(crate) async fn stop(mut self) {
        self.stop_reconcilers().await;
        assert!(self.tasks.close_and_wait(LIMIT).await, "tasks still run");
        self.plane.close().await;
        drop(self.dir);
    }

    pub(crate) fn apis(&self) -> KubeApi<Api> {
        KubeApi::namespaced(self.client.clone(), NAMESPACE)
    }

    pub(crate) fn objects(&self, kind: &str) -> KubeApi<DynamicObject> {
        KubeApi::namespaced_with(self.client.clone(), NAMESPACE, &resource(kind))
    }

    /// Creates an Api with a specification of the short form.
    pub(crate) async fn create(&self, name: &str, spec: &Value) -> Api {
        let api = json!({"apiVersion": "gateway.kyma-project.io/v1alpha2", "kind": "Api", "metadata": {"name": name}, "spec": spec});
        self.apis().create(&PostParams::default(), &serde_json::from_value(api).unwrap()).await.unwrap()
    }

    /// Changes an Api's specification; absent keys stay, null removes.
    pub(crate) async fn edit(&self, name: &str, spec: &Value) -> Api {
        self.apis().patch(name, &PatchParams::default(), &Patch::Merge(json!({"spec": spec}))).await.unwrap()
    }

    pub(crate) async fn delete(&self, name: &str) {
        self.apis().delete(name, &DeleteParams::default()).await.unwrap();
    }

    pub(crate) async fn status(&self, name: &str) -> Value {
        match self.apis().get_opt(name).await.unwrap() {
            Some(api) => json!({"generation": api.metadata.generation, "status": api.status}),
            None => Value::Null,
        }
    }

    /// Waits until an Api's status speaks about its present generation with these codes (validation, route, guard; -1:
    /// no such block), and returns it.
    #[track_caller]
    pub(crate) fn becomes(&self, name: &str, codes: (i64, i64, i64)) -> impl Future<Output = Value> {
        let what = format!("Api `{name}` with codes {codes:?}");
        async move {
            let mut last = Value::Null;
            let found = tokio::time::timeout(
                LIMIT,
                eventually_async(LIMIT * 2, &what, async || {
                    last = self.status(name).await;
                    let status = &last["status"];
                    let is_current = status["observedGeneration"] == last["generation"] && !status.is_null();
                    (is_current && codes_of(status) == codes).then(|| status.clone())
                }),
            )
            .await;
            found.unwrap_or_else(|_| panic!("{what}: {last:#}"))
        }
    }

    pub(crate) async fn get(&self, kind: &str, name: &str) -> Option<DynamicObject> {
        self.objects(kind).get_opt(name).await.unwrap()
    }

    /// Waits until a projection is there and looks as asked.
    pub(crate) async fn sees(
        &self,
        kind: &str,
        name: &str,
        what: &str,
        look: impl Fn(&DynamicObject) -> bool,
    ) -> DynamicObject {
        eventually_async(LIMIT, &format!("{kind} `{name}` {what}"), async || self.get(kind, name).await.filter(&look))
            .await
    }

    pub(crate) async fn is_gone(&self, kind: &str, name: &str) {
        eventually_async(LIMIT, &format!("{kind} `{name}` gone"), async || {
            self.get(kind, name).await.is_none().then_some(())
        })
        .await;
    }

    /// Reasons of Events about an object, with how often each was recorded.
    pub(crate) async fn events(&self, kind: &str, name: &str) -> BTreeMap<String, i32> {
        let events: KubeApi<Event> = KubeApi::namespaced(self.client.clone(), NAMESPACE);
        let mut counts = BTreeMap::new();
        for event in events.list(&ListParams::default()).await.unwrap() {
            let object = &event.involved_object;
            if object.kind.as_deref() == Some(kind) && object.name.as_deref() == Some(name) {
                *counts.entry(event.reason.unwrap_or_default()).or_default() += event.count.unwrap_or(1);
            }
        }
        counts
    }

    pub(crate) async fn event(&self, kind: &str, name: &str, reason: &str) {
        eventually_async(LIMIT, &format!("event {reason} on {kind} `{name}`"), async || {
            self.events(kind, name).await.contains_key(reason).then_some(())
        })
        .await;
    }

    /// The revision of the whole store: any write changes it.
    pub(crate) async fn revision(&self) -> String {
        self.apis().list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap()
    }

    /// Waits until nobody has written for a while, and returns the revision.
    pub(crate) async fn is_quiet(&self) -> String {
        let mut last = (self.revision().await, 0);
        eventually_async(LIMIT, "no more writes", async || {
            let now = self.revision().await;
            last = if now == last.0 { (now, last.1 + 1) } else { (now, 0) };
            (last.1 >= 20).then(|| last.0.clone())
        })
        .await
    }

    /// An object that a user writes.
    pub(crate) async fn write(&self, kind: &str, name: &str, more: &Value) -> DynamicObject {
        let mut object = DynamicObject::new(name, &resource(kind)).data(json!({"spec": more["spec"]}));
        if let Some(metadata) = more.get("metadata") {
            object.metadata = serde_json::from_value(metadata.clone()).unwrap();
            object.metadata.name = Some(name.to_owned());
        }
        self.objects(kind).create(&PostParams::default(), &object).await.unwrap()
    }

    pub(crate) async fn remove(&self, kind: &str, name: &str) {
        self.objects(kind).delete(name, &DeleteParams::default()).await.unwrap();
    }
}

pub(crate) fn resource(kind: &str) -> ApiResource {
    let (group, version) = match kind {
        "Policy" => ("authentication.istio.io", "v1alpha1"),
        "RequestAuthentication" | "AuthorizationPolicy" => ("security.istio.io", "v1"),
        _ => ("networking.istio.io", "v1"),
    };
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
}

pub(crate) fn codes_of(status: &Value) -> (i64, i64, i64) {
    assert_eq!(status["virtualService"], status["virtualServiceStatus"], "both names always say the same");
    let code = |block: &Value| block["code"].as_i64().unwrap_or(-1);
    (
        status["validationStatus"].as_i64().unwrap_or(-1),
        code(&status["virtualService"]),
        code(&status["authenticationStatus"]),
    )
}

pub(crate) fn reason<'s>(status: &'s Value, kind: &str) -> &'s str {
    let conditions = status["conditions"].as_array().unwrap();
    conditions.iter().find(|condition| condition["type"] == kind).and_then(|c| c["reason"].as_str()).unwrap_or_default()
}

pub(crate) fn open(service: &str, hostname: &str) -> Value {
    json!({"service": {"name": service, "port": 8080}, "hostname": hostname})
}

pub(crate) fn rules() -> Value {
    json!([{"type": "JWT", "jwt": {"issuer": "https://issuer.example", "jwksUri": "https://issuer.example/keys"}}])
}

pub(crate) fn secured(service: &str, hostname: &str) -> Value {
    json!({"service": {"name": service, "port": 8080}, "hostname": hostname, "authentication": rules()})
}

pub(crate) fn version(object: &DynamicObject) -> String {
    object.resource_version().unwrap()
}
