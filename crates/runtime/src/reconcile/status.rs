//! Statuses, written apart from reconciling so that a slow write holds up nothing else.

use std::collections::HashMap;
use std::sync::Arc;

use kube::api::{Api, DynamicObject, PostParams};
use kube::core::ApiResource;
use kube::{Client, ResourceExt as _};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::Notify;

use super::{Backoff, CONFLICT_TRIES, WorkQueue, is_conflict, is_not_found};
use crate::Tasks;

/// How many objects may wait for a write.
const CAPACITY: usize = 4_096;

/// How many writes run at a time.
const WORKERS: usize = 4;

/// The status that an object shall have.
#[derive(Clone, Debug)]
pub struct StatusUpdate {
    /// Namespace, `None` for cluster-wide kinds.
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
    /// Uid of the object it was computed for; an object made anew under the same name is not given it.
    pub uid: String,
    /// The whole `status`.
    pub status: Value,
}

/// Writes statuses of one kind: the newest per object, nothing when equal, conflicts retried, failures later again.
/// Cheap to clone; clones share the queue.
#[derive(Clone)]
pub struct StatusWriter {
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    resource: ApiResource,
    params: PostParams,
    queue: WorkQueue<ObjectKey>,
    /// The newest status of each object that is not written yet.
    pending: Mutex<HashMap<ObjectKey, Pending>>,
    /// Wakes writers that wait for room.
    room: Notify,
}

type ObjectKey = (Option<String>, String);

struct Pending {
    update: StatusUpdate,
    backoff: Backoff,
}

impl StatusWriter {
    /// Starts the workers. They end on shutdown; what still waits then is written by the next process, which
    /// reconciles everything.
    pub fn start(client: Client, resource: ApiResource, field_manager: &str, tasks: &Tasks) -> Self {
        let shared = Arc::new(Shared {
            client,
            resource,
            params: PostParams { field_manager: Some(field_manager.to_owned()), ..PostParams::default() },
            queue: WorkQueue::new(),
            pending: Mutex::default(),
            room: Notify::new(),
        });
        for _ in 0..WORKERS {
            let (shared, tasks_of_worker) = (Arc::clone(&shared), tasks.clone());
            drop(tasks.spawn("status-writer", async move {
                tokio::select! {
                    () = work(&shared, &tasks_of_worker) => {}
                    () = tasks_of_worker.shutdown().cancelled() => {}
                }
            }));
        }
        Self { shared }
    }

    /// Queues `update` in place of an older one of the same object; waits while the queue is full.
    pub async fn write(&self, update: StatusUpdate) {
        let key = (update.namespace.clone(), update.name.clone());
        loop {
            let room = self.shared.room.notified();
            {
                let mut pending = self.shared.pending.lock();
                if pending.len() < CAPACITY || pending.contains_key(&key) {
                    pending.insert(key.clone(), Pending { update, backoff: Backoff::default() });
                    break;
                }
            }
            room.await;
        }
        self.shared.queue.add(key);
    }

    /// How many objects wait or are being written.
    pub fn depth(&self) -> usize {
        self.shared.queue.depth()
    }
}

async fn work(shared: &Shared, tasks: &Tasks) {
    loop {
        let key = shared.queue.next().await;
        let pending = shared.pending.lock().remove(&key);
        shared.room.notify_one();
        let Some(mut pending) = pending else {
            shared.queue.done(&key);
            continue;
        };
        let outcome = write_one(shared, &pending.update).await;
        shared.queue.done(&key);
        if let Err(error) = outcome {
            let wait = pending.backoff.next_wait();
            tracing::warn!(object.name = %pending.update.name, object.namespace = pending.update.namespace, %error,
                "status of {} `{}` not written, next try in {wait:?}", shared.resource.kind, pending.update.name);
            // A newer status that came in between wins.
            shared.pending.lock().entry(key.clone()).or_insert(pending);
            shared.queue.add_after(key, wait, tasks);
        }
    }
}

async fn write_one(shared: &Shared, update: &StatusUpdate) -> Result<(), kube::Error> {
    let api: Api<DynamicObject> = match &update.namespace {
        Some(namespace) => Api::namespaced_with(shared.client.clone(), namespace, &shared.resource),
        None => Api::all_with(shared.client.clone(), &shared.resource),
    };
    let mut tries = 0;
    loop {
        let Some(mut object) = api.get_opt(&update.name).await? else { return Ok(()) };
        if object.uid().as_deref() != Some(&update.uid) || object.data.get("status") == Some(&update.status) {
            return Ok(());
        }
        let Some(data) = object.data.as_object_mut() else { return Ok(()) };
        data.insert("status".to_owned(), update.status.clone());
        tries += 1;
        match api.replace_status(&update.name, &shared.params, &object).await {
            Ok(_) => return Ok(()),
            Err(error) if is_not_found(&error) => return Ok(()),
            Err(error) if is_conflict(&error) && tries < CONFLICT_TRIES => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kube::core::GroupVersionKind;
    use serde_json::json;

    use super::*;
    use crate::reconcile::testing::FakeApi;

    const PATH: &str = "/apis/gateway.kyma-project.io/v1alpha2/namespaces/default/apis/sample";

    fn fake() -> FakeApi {
        let fake = FakeApi::new();
        fake.put(
            PATH,
            json!({"apiVersion": "gateway.kyma-project.io/v1alpha2", "kind": "Api",
            "metadata": {"name": "sample", "namespace": "default", "uid": "u1", "resourceVersion": "1"}, "spec": {}}),
        );
        fake
    }

    fn writer(fake: &FakeApi, tasks: &Tasks) -> StatusWriter {
        let gvk = GroupVersionKind::gvk("gateway.kyma-project.io", "v1alpha2", "Api");
        StatusWriter::start(fake.client(), ApiResource::from_gvk(&gvk), "test", tasks)
    }

    fn update(uid: &str, code: i64) -> StatusUpdate {
        StatusUpdate {
            namespace: Some("default".to_owned()),
            name: "sample".to_owned(),
            uid: uid.to_owned(),
            status: json!({"validationStatus": code}),
        }
    }

    async fn idle(writer: &StatusWriter) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        while writer.depth() > 0 {
            assert!(tokio::time::Instant::now() < deadline, "statuses still wait");
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn the_newest_status_is_written_once() {
        let (fake, tasks) = (fake(), Tasks::new());
        let writer = writer(&fake, &tasks);
        for code in [0, 1, 1, 2] {
            writer.write(update("u1", code)).await;
        }
        idle(&writer).await;
        assert_eq!(fake.get(PATH).unwrap()["status"], json!({"validationStatus": 2}));
        assert!(fake.writes() <= 3);
        let before = fake.writes();
        writer.write(update("u1", 2)).await;
        idle(&writer).await;
        assert_eq!(fake.writes(), before);
        assert!(tasks.close_and_wait(Duration::from_secs(5)).await);
    }

    #[tokio::test]
    async fn conflicts_and_failures_are_retried() {
        let (fake, tasks) = (fake(), Tasks::new());
        let writer = writer(&fake, &tasks);
        fake.conflict_next(3);
        writer.write(update("u1", 2)).await;
        idle(&writer).await;
        assert_eq!(fake.get(PATH).unwrap()["status"], json!({"validationStatus": 2}));

        fake.fail_next(1);
        writer.write(update("u1", 5)).await;
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        while fake.get(PATH).unwrap()["status"] != json!({"validationStatus": 5}) {
            assert!(tokio::time::Instant::now() < deadline, "the status was not written again");
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_namesake_and_a_deleted_object_get_no_status() {
        let (fake, tasks) = (fake(), Tasks::new());
        let writer = writer(&fake, &tasks);
        writer.write(update("former", 2)).await;
        writer.write(StatusUpdate { name: "gone".to_owned(), ..update("u1", 2) }).await;
        idle(&writer).await;
        assert_eq!(fake.writes(), 0);
    }
}
