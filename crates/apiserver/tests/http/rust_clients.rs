//! kube-rs over the in-process service and over TLS: the machinery that reconcilers are made of (SPEC 60 §21).

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::finalizer::{Event, finalizer};
use kube::runtime::{WatchStreamExt as _, reflector, watcher};
use kube::{Client, ResourceExt as _};

use crate::common::{World, eventually};

fn named(name: &str) -> ConfigMap {
    let mut object = ConfigMap::default();
    object.metadata.name = Some(name.to_owned());
    object
}

/// One client in process, one over TLS.
async fn clients(world: &World) -> [Client; 2] {
    let (kubeconfig, _) = world.serve().await;
    let kubeconfig = kube::config::Kubeconfig::read_from(kubeconfig).unwrap();
    let config =
        kube::Config::from_custom_kubeconfig(kubeconfig, &kube::config::KubeConfigOptions::default()).await.unwrap();
    [world.plane.client("controller:test"), Client::try_from(config).unwrap()]
}

#[tokio::test]
async fn typed_calls_work_and_errors_keep_their_reason() {
    let world = World::open().await;
    for client in clients(&world).await {
        let api: Api<ConfigMap> = Api::namespaced(client, "default");
        let made = api.create(&PostParams::default(), &named("a")).await.unwrap();
        assert_eq!(made.namespace().as_deref(), Some("default"));
        let again = api.create(&PostParams::default(), &named("a")).await.unwrap_err();
        assert!(matches!(&again, kube::Error::Api(status) if status.reason == "AlreadyExists"), "{again:?}");
        let patch = Patch::Merge(serde_json::json!({"data": {"k": "v"}}));
        let patched = api.patch("a", &PatchParams::default(), &patch).await.unwrap();
        assert_eq!(patched.data.unwrap()["k"], "v");
        let list = api.list(&ListParams::default().fields("metadata.name=a").limit(500)).await.unwrap();
        assert_eq!(list.items.len(), 1);
        let revision = list.metadata.resource_version.unwrap();
        let parameters = WatchParams::default().fields("metadata.name=a");
        let mut events = std::pin::pin!(api.watch(&parameters, &revision).await.unwrap());
        api.delete("a", &DeleteParams::default()).await.unwrap();
        let event = tokio::time::timeout(Duration::from_secs(5), events.try_next()).await.unwrap().unwrap().unwrap();
        assert!(matches!(event, WatchEvent::Deleted(object) if object.name_any() == "a"));
        assert!(api.get_opt("a").await.unwrap().is_none());
    }
}

#[tokio::test]
async fn a_reflector_mirrors_what_is_there_and_what_changes() {
    let world = World::open().await;
    for client in clients(&world).await {
        for strategy in [watcher::InitialListStrategy::ListWatch, watcher::InitialListStrategy::StreamingList] {
            let api: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-public");
            let (reader, writer) = reflector::store();
            let config = watcher::Config { initial_list_strategy: strategy, ..watcher::Config::default() };
            let stream = watcher(api.clone(), config).default_backoff().reflect(writer).applied_objects();
            let task = world.tasks.spawn("reflector", stream.for_each(|_| std::future::ready(())));
            reader.wait_until_ready().await.unwrap();
            api.create(&PostParams::default(), &named("b")).await.unwrap();
            eventually("added", async || reader.state().iter().any(|object| object.name_any() == "b")).await;
            api.delete("b", &DeleteParams::default()).await.unwrap();
            eventually("removed", async || reader.state().iter().all(|object| object.name_any() != "b")).await;
            task.abort();
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("reconcile failed")]
struct Failed;

/// Marks the object and cleans up behind it, the way our own reconcilers do.
async fn reconcile(object: Arc<ConfigMap>, api: Arc<Api<ConfigMap>>) -> Result<Action, Failed> {
    if !object.labels().contains_key("watched") {
        return Ok(Action::await_change());
    }
    finalizer(&api, "tidegate.io/test", object, async |event| match event {
        Event::Apply(object) => {
            let patch = Patch::Merge(serde_json::json!({"data": {"seen": "yes"}}));
            api.patch(&object.name_any(), &PatchParams::default(), &patch).await.map_err(|_| Failed)?;
            Ok::<_, Failed>(Action::await_change())
        }
        Event::Cleanup(object) => {
            api.create(&PostParams::default(), &named(&format!("{}-was-here", object.name_any())))
                .await
                .map_err(|_| Failed)?;
            Ok(Action::await_change())
        }
    })
    .await
    .map_err(|_| Failed)
}

#[tokio::test]
async fn a_controller_with_finalizer_sees_an_object_come_and_go() {
    let world = World::open().await;
    for (name, client) in ["inside", "outside"].into_iter().zip(clients(&world).await) {
        let api: Api<ConfigMap> = Api::namespaced(client, "kyma-system");
        let controller = Controller::new(api.clone(), watcher::Config::default().labels("watched"))
            .run(reconcile, |_, _: &Failed, _| Action::requeue(Duration::from_millis(50)), Arc::new(api.clone()))
            .for_each(|_| std::future::ready(()));
        let task = world.tasks.spawn("controller", controller);
        let mut object = named(name);
        object.metadata.labels = Some([("watched".to_owned(), "yes".to_owned())].into());
        api.create(&PostParams::default(), &object).await.unwrap();
        eventually("applied", async || {
            let found = api.get(name).await.unwrap();
            found.finalizers() == ["tidegate.io/test"] && found.data.is_some_and(|data| data["seen"] == "yes")
        })
        .await;
        api.delete(name, &DeleteParams::default()).await.unwrap();
        eventually("cleaned up", async || api.get_opt(name).await.unwrap().is_none()).await;
        assert!(api.get_opt(&format!("{name}-was-here")).await.unwrap().is_some());
        task.abort();
    }
}
