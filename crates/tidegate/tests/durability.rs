//! `kill -9` of the whole process under eight writers: what was acknowledged is there after the restart, revisions never
//! go back, and exposures answer from the first moment.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, ResourceExt as _};
use parking_lot::Mutex;
use serde_json::json;
use tidegate_runtime::Tasks;
use tidegate_testkit::Platform;
use tidegate_testkit::upstream::Upstream;

const CYCLES: u64 = 10;
const WRITERS: usize = 8;

/// What a writer was told is stored: the last counter of its object and the newest revision.
#[derive(Clone, Default)]
struct Acknowledged {
    counters: BTreeMap<String, u64>,
    revision: u64,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_by_kill_9() {
    let upstream = Upstream::start().await.expect("an upstream");
    let mut platform = Platform::start(env!("CARGO_BIN_EXE_tidegate"));
    platform.verb(&["expose", "steady", "--to", &upstream.address().to_string()]).ok();
    let acknowledged = Arc::new(Mutex::new(Acknowledged::default()));
    for cycle in 0..CYCLES {
        let client = client(&platform).await;
        let tasks = Tasks::new();
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| tasks.spawn("writer", write(client.clone(), cycle, writer, Arc::clone(&acknowledged))))
            .collect();
        // A different moment in each cycle, from the first writes on.
        tokio::time::sleep(Duration::from_millis(40 + cycle * 37 % 200)).await;
        platform.kill();
        for writer in writers {
            writer.await.expect("a writer ends when its connection does");
        }
        platform.restart();
        assert_eq!(platform.get("steady.localhost", "/status/200", None).0, 200, "the route is there at once");
        let so_far = acknowledged.lock().clone();
        check(&platform, &so_far).await;
    }
    let written: u64 = acknowledged.lock().counters.values().sum();
    assert!(written > CYCLES * 8, "only {written} writes were acknowledged");
}

async fn client(platform: &Platform) -> Client {
    // Another test of this process may have done it.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let kubeconfig = Kubeconfig::read_from(platform.kubeconfig()).expect("a kubeconfig");
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    Client::try_from(config.expect("a configuration")).expect("a client")
}

/// Creates an object and counts it up until the server is gone.
async fn write(client: Client, cycle: u64, writer: usize, acknowledged: Arc<Mutex<Acknowledged>>) {
    let objects: Api<ConfigMap> = Api::default_namespaced(client);
    let name = format!("writer-{cycle}-{writer}");
    let mut object = ConfigMap::default();
    object.metadata.name = Some(name.clone());
    let mut answer = objects.create(&PostParams::default(), &object).await;
    let mut counter = 0;
    while let Ok(object) = answer {
        {
            let revision = revision(object.resource_version().as_deref());
            let mut acknowledged = acknowledged.lock();
            acknowledged.counters.insert(name.clone(), counter);
            acknowledged.revision = acknowledged.revision.max(revision);
        }
        counter += 1;
        let patch = Patch::Merge(json!({"data": {"counter": counter.to_string()}}));
        answer = objects.patch(&name, &PatchParams::default(), &patch).await;
    }
}

fn revision(text: Option<&str>) -> u64 {
    text.and_then(|text| text.parse().ok()).expect("a revision")
}

async fn check(platform: &Platform, acknowledged: &Acknowledged) {
    let objects: Api<ConfigMap> = Api::default_namespaced(client(platform).await);
    let list = objects.list(&ListParams::default()).await.expect("a list");
    let newest = revision(list.metadata.resource_version.as_deref());
    assert!(newest >= acknowledged.revision, "revision {newest} after {} was acknowledged", acknowledged.revision);
    let stored: BTreeMap<String, u64> = list
        .items
        .iter()
        .map(|object| {
            let counter = object.data.as_ref().and_then(|data| data.get("counter"));
            (object.name_any(), counter.map_or(0, |text| text.parse().expect("a counter")))
        })
        .collect();
    for (name, counter) in &acknowledged.counters {
        let found = stored.get(name);
        // One more write may have been committed whose answer was cut off.
        assert!(
            found == Some(counter) || found == Some(&(counter + 1)),
            "{name}: {counter} was acknowledged, {found:?} is stored"
        );
    }
}
