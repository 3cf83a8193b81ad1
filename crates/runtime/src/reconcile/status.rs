//! Statuses, written apart from reconciling so that a slow write holds up nothing else.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use kube::api::{Api, DynamicObject, PostParams};
use kube::core::ApiResource;
use kube::{Client, ResourceExt as _};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::Notify;

use super::{Backoff, CONFLICT_TRIES, is_conflict, is_not_found};
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
    queue: Mutex<Queue>,
    /// Wakes workers: something became due.
    due: Notify,
    /// Wakes writers that wait for room.
    room: Notify,
}

type ObjectKey = (Option<String>, String);

#[derive(Default)]
struct Queue {
    waiting: HashMap<ObjectKey, Pending>,
    order: VecDeque<ObjectKey>,
    running: HashSet<ObjectKey>,
}

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
            queue: Mutex::default(),
            due: Notify::new(),
            room: Notify::new(),
        });
        for _ in 0..WORKERS {
            let (shared, tasks_of_worker) = (Arc::clone(&shared), tasks.clone());
            drop(tasks.spawn("status-writer", async move { work(&shared, &tasks_of_worker).await }));
        }
        Self { shared }
    }

    /// Queues `update` in place of an older one of the same object; waits while the queue is full.
    pub async fn write(&self, update: StatusUpdate) {
        let key = (update.namespace.clone(), update.name.clone());
        loop {
            let room = self.shared.room.notified();
            {
                let mut queue = self.shared.queue.lock();
                if queue.waiting.len() < CAPACITY || queue.waiting.contains_key(&key) {
                    queue.push(key, Pending { update, backoff: Backoff::default() });
                    self.shared.due.notify_one();
                    return;
                }
            }
            room.await;
        }
    }

    /// How many objects wait or are being written.
    pub fn depth(&self) -> usize {
        let queue = self.shared.queue.lock();
        queue.waiting.len() + queue.running.len()
    }
}

impl Queue {
    fn push(&mut self, key: ObjectKey, pending: Pending) {
        if self.waiting.insert(key.clone(), pending).is_none() {
            self.order.push_back(key);
        }
    }

    /// The oldest object that no worker has in hand.
    fn pop(&mut self) -> Option<(ObjectKey, Pending)> {
        let position = self.order.iter().position(|key| !self.running.contains(key))?;
        let key = self.order.remove(position)?;
        let pending = self.waiting.remove(&key)?;
        self.running.insert(key.clone());
        Some((key, pending))
    }
}

async fn work(shared: &Arc<Shared>, tasks: &Tasks) {
    loop {
        let due = shared.due.notified();
        let next = shared.queue.lock().pop();
        let Some((key, mut pending)) = next else {
            tokio::select! {
                () = due => continue,
                () = tasks.shutdown().cancelled() => return,
            }
        };
        shared.room.notify_one();
        let outcome = tokio::select! {
            outcome = write_one(shared, &pending.update) => outcome,
            () = tasks.shutdown().cancelled() => return,
        };
        shared.queue.lock().running.remove(&key);
        if let Err(error) = outcome {
            let wait = pending.backoff.next_wait();
            tracing::warn!(object.name = %pending.update.name, object.namespace = pending.update.namespace, %error,
                "status of {} `{}` not written, next try in {wait:?}", shared.resource.kind, pending.update.name);
            requeue_after(shared, tasks, wait, key, pending);
        } else {
            // Another worker may have passed over this object because it was in hand.
            shared.due.notify_one();
        }
    }
}

fn requeue_after(shared: &Arc<Shared>, tasks: &Tasks, wait: Duration, key: ObjectKey, pending: Pending) {
    let (shared, shutdown) = (Arc::clone(shared), tasks.shutdown().clone());
    drop(tasks.spawn("status-retry", async move {
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = shutdown.cancelled() => return,
        }
        let mut queue = shared.queue.lock();
        // A newer status that came in between wins.
        if !queue.waiting.contains_key(&key) {
            queue.push(key, pending);
        }
        drop(queue);
        shared.due.notify_one();
    }));
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
