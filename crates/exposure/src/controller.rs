//! Watches, queue, workers and resync.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::Client;
use kube::ResourceExt as _;
use kube::api::{Api as KubeApi, DeleteParams, DynamicObject, Preconditions};
use kube::core::{ApiResource, GroupVersionKind};
use parking_lot::Mutex;
use tidegate_kinds::Api;
use tidegate_policy::{Change, Index, Input, ObjectKind, ObjectRef, Options};
use tidegate_runtime::reconcile::{
    Backoff, EventRecorder, InputEvent, Observed, StatusWriter, WorkQueue, observe, watch_inputs,
};
use tidegate_runtime::{Clock, Enforcement, Metrics, Tasks};
use tokio::sync::mpsc;

use crate::bootstrap::{bootstrap, is_shared_gateway};
use crate::memory::Memory;
use crate::metrics::ExposureMetrics;
use crate::projections::{Marked, Projection, Projections};
use crate::reconcile::{Next, Reconciler};
use crate::unenforced::Unenforced;
use crate::{Config, FIELD_MANAGER};

/// Apis worked on at a time; most of one's time is waiting for a commit or for the gateway.
const WORKERS: usize = 16;
/// Everything is looked at again after so long, in case a change was lost (SPEC 30 §2.8).
const RESYNC: Duration = Duration::from_mins(5);
/// Wait before an Api is looked at again whose verdict is not there yet.
const SOON: Duration = Duration::from_millis(10);
/// How many reports about projections may wait.
const CAPACITY: usize = 1_024;

/// What the reconcilers are given.
pub struct Dependencies {
    /// The Kubernetes API: in process or over the network, nothing here knows which.
    pub client: Client,
    /// Clock of conditions and Events.
    pub clock: Clock,
    /// Tasks end with this group.
    pub tasks: Tasks,
    /// Where families are registered.
    pub metrics: Metrics,
    /// Who knows what is enforced.
    pub enforcement: Arc<dyn Enforcement>,
}

/// The running reconcilers.
#[derive(Debug)]
pub struct Exposure {
    queue: WorkQueue<ObjectRef>,
}

impl Exposure {
    /// Starts watches and workers. They end on shutdown of the given tasks.
    pub fn start(config: Config, options: Options, dependencies: Dependencies) -> Self {
        let Dependencies { client, clock, tasks, metrics, enforcement } = dependencies;
        let queue = WorkQueue::new();
        let metrics = ExposureMetrics::register(&metrics, queue.clone());
        let events = EventRecorder::start(client.clone(), FIELD_MANAGER, clock.clone(), &tasks);
        let kind = ApiResource::erase::<Api>(&());
        let domain = options.domains.default_domain().to_owned();
        let reconciler = Arc::new(Reconciler {
            statuses: StatusWriter::start(client.clone(), kind, FIELD_MANAGER, &tasks),
            index: Arc::new(Mutex::new(Index::new(options))),
            projections: Projections::default(),
            memory: Memory::default(),
            tasks: tasks.clone(),
            queue: queue.clone(),
            backoffs: Mutex::default(),
            events: events.clone(),
            client: client.clone(),
            config,
            clock,
            enforcement,
        });
        let unenforced = Unenforced::new(events);
        unenforced.watch(&client, &tasks);
        let reconciler_of_watch = Arc::clone(&reconciler);
        let watch =
            Watch { reconciler: reconciler_of_watch, queue: queue.clone(), unenforced, domain, is_synced: false };
        let (inputs, projections) = (watch_inputs(&client, &tasks), watch_policies(&client, &tasks));
        let shutdown = tasks.shutdown().clone();
        drop(tasks.spawn("exposure-watch", async move {
            tokio::select! {
                () = watch.run(inputs, projections) => {}
                () = shutdown.cancelled() => {}
            }
        }));
        for _ in 0..WORKERS {
            let worker = Worker {
                reconciler: Arc::clone(&reconciler),
                queue: queue.clone(),
                metrics: metrics.clone(),
                tasks: tasks.clone(),
            };
            let shutdown = tasks.shutdown().clone();
            drop(tasks.spawn("exposure-worker", async move {
                tokio::select! {
                    () = worker.run() => {}
                    () = shutdown.cancelled() => {}
                }
            }));
        }
        Self { queue }
    }

    /// How many Apis wait or are worked on.
    pub fn queue_depth(&self) -> usize {
        self.queue.depth()
    }
}

/// Policies, marked or not.
fn watch_policies(client: &Client, tasks: &Tasks) -> mpsc::Receiver<Observed<DynamicObject>> {
    let (sender, receiver) = mpsc::channel(CAPACITY);
    let api: KubeApi<DynamicObject> = KubeApi::all_with(client.clone(), &resource(Projection::Policy));
    let shutdown = tasks.shutdown().clone();
    drop(tasks.spawn("watch-policies", async move {
        tokio::select! {
            () = observe(api, &sender, Some) => {}
            () = shutdown.cancelled() => {}
        }
    }));
    receiver
}

fn resource(kind: Projection) -> ApiResource {
    let (api_version, kind) = kind.types();
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
}

/// The task that owns what the watches report.
struct Watch {
    reconciler: Arc<Reconciler>,
    queue: WorkQueue<ObjectRef>,
    unenforced: Unenforced,
    domain: String,
    /// Every kind was listed: what comes now is news.
    is_synced: bool,
}

impl Watch {
    async fn run(
        mut self,
        mut inputs: mpsc::Receiver<InputEvent>,
        mut policies: mpsc::Receiver<Observed<DynamicObject>>,
    ) {
        let (mut are_inputs_listed, mut are_policies_listed) = (false, false);
        // Verdicts mean nothing before every kind is listed: a host may look free because its holder is not known yet.
        while !(are_inputs_listed && are_policies_listed) {
            tokio::select! {
                Some(event) = inputs.recv() => are_inputs_listed |= self.input(event).1,
                Some(event) = policies.recv() => are_policies_listed |= self.policy(event).1,
                else => return,
            }
        }
        self.is_synced = true;
        self.resync().await;
        let mut resync = tokio::time::interval_at(tokio::time::Instant::now() + RESYNC, RESYNC);
        loop {
            let affected = tokio::select! {
                Some(event) = inputs.recv() => self.input(event).0,
                Some(event) = policies.recv() => self.policy(event).0,
                _ = resync.tick() => {
                    self.resync().await;
                    continue;
                }
                else => return,
            };
            for api in affected {
                self.queue.add(api);
            }
        }
    }

    /// Apis that an input's change affects, and whether the inputs are synced now.
    fn input(&mut self, event: InputEvent) -> (Vec<ObjectRef>, bool) {
        let change = match event {
            InputEvent::Synced => return (Vec::new(), true),
            InputEvent::Changed(change) => change,
        };
        let mut concerned = match &change {
            Change::Set(Input::Api(api)) => {
                let namespace = api.namespace().unwrap_or_default();
                let object = ObjectRef::new(ObjectKind::Api, namespace, api.name_any());
                if self.reconciler.memory.is_news(&object, api) { vec![object] } else { Vec::new() }
            }
            Change::Set(Input::VirtualService(object)) => self.seen(Projection::VirtualService, object),
            Change::Removed(object) if object.kind == ObjectKind::VirtualService => {
                self.gone(Projection::VirtualService, &object.namespace, &object.name)
            }
            Change::Removed(object) if self.is_synced && is_shared_gateway(object) => {
                self.restore_first_objects();
                Vec::new()
            }
            _ => Vec::new(),
        };
        let affected = self.reconciler.index.lock().apply(change);
        concerned.extend(affected.into_iter().filter(|object| object.kind == ObjectKind::Api));
        (concerned, false)
    }

    /// Apis that a Policy's change affects, and whether Policies are listed now.
    fn policy(&mut self, event: Observed<DynamicObject>) -> (Vec<ObjectRef>, bool) {
        match event {
            Observed::Listed => (Vec::new(), true),
            Observed::Set(object) => (self.seen(Projection::Policy, &object), false),
            Observed::Removed { namespace, name } => (self.gone(Projection::Policy, &namespace, &name), false),
        }
    }

    fn seen(&self, kind: Projection, object: &DynamicObject) -> Vec<ObjectRef> {
        self.unenforced.note(object, self.is_synced);
        self.reconciler.projections.set(kind, object)
    }

    fn gone(&self, kind: Projection, namespace: &str, name: &str) -> Vec<ObjectRef> {
        self.unenforced.forget(kind.types().1, namespace, name);
        self.reconciler.projections.remove(kind, namespace, name)
    }

    /// The shared Gateway comes back when somebody deletes it (SPEC 30 §1); edits of it are the operator's.
    fn restore_first_objects(&self) {
        let tasks = &self.reconciler.tasks;
        let (client, domain, shutdown) =
            (self.reconciler.client.clone(), self.domain.clone(), tasks.shutdown().clone());
        drop(tasks.spawn("exposure-first-objects", async move {
            let mut backoff = Backoff::default();
            while let Err(error) = bootstrap(&client, &domain).await {
                let wait = backoff.next_wait();
                tracing::warn!(%error, "a deleted object of the system is not back yet, next try in {wait:?}");
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = shutdown.cancelled() => return,
                }
            }
        }));
    }

    /// Looks at every Api again and deletes marked objects that no living Api renders.
    async fn resync(&self) {
        let apis: Vec<ObjectRef> =
            self.reconciler.index.lock().verdicts().map(|verdict| verdict.object.clone()).collect();
        for api in apis {
            self.queue.add(api);
        }
        for (kind, namespace, object) in self.reconciler.projections.strays(|object| self.is_rendered(object)) {
            self.remove_stray(kind, &namespace, &object).await;
        }
    }

    /// Whether the Api that an object names as its owner is there. Its own reconciliation sees to the rest.
    fn is_rendered(&self, object: &Marked) -> bool {
        let index = self.reconciler.index.lock();
        index.verdict(&object.owner).is_some_and(|verdict| verdict.uid == object.owner_uid)
    }

    async fn remove_stray(&self, kind: Projection, namespace: &str, object: &Marked) {
        let name = &object.resource.name;
        let api: KubeApi<DynamicObject> =
            KubeApi::namespaced_with(self.reconciler.client.clone(), namespace, &resource(kind));
        let preconditions = Preconditions {
            uid: Some(object.resource.uid.clone()),
            // Whoever adopts it in this moment keeps it.
            resource_version: Some(object.resource.version.clone()),
        };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match api.delete(name, &params).await {
            Ok(_) => tracing::info!(object.namespace = %namespace, object.name = %name,
                "deleted {} without a living owner", kind.words()),
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => {}
            Err(error) => tracing::warn!(object.namespace = %namespace, object.name = %name, %error,
                "{} without a living owner not deleted", kind.words()),
        }
    }
}

/// One of the workers.
struct Worker {
    reconciler: Arc<Reconciler>,
    queue: WorkQueue<ObjectRef>,
    metrics: ExposureMetrics,
    tasks: Tasks,
}

impl Worker {
    async fn run(self) {
        loop {
            let api = self.queue.next().await;
            let begun = self.reconciler.clock.instant();
            let outcome = self.reconciler.reconcile(&api).await;
            self.metrics.reconciled(outcome.as_ref().copied(), elapsed(&self.reconciler.clock, begun));
            self.queue.done(&api);
            match outcome {
                Ok(Next::Done) => self.reconciler.settle(&api),
                Ok(Next::Again) => self.queue.add_after(api, SOON, &self.tasks),
                Ok(Next::Later) => self.retry(api),
                Err(error) => {
                    tracing::warn!(object.kind = "Api", object.namespace = %api.namespace, object.name = %api.name, %error,
                        "{api} not reconciled, trying again");
                    self.retry(api);
                }
            }
        }
    }

    fn retry(&self, api: ObjectRef) {
        let wait = self.reconciler.next_wait(&api);
        self.queue.add_after(api, wait, &self.tasks);
    }
}

fn elapsed(clock: &Clock, begun: Instant) -> Duration {
    clock.instant().saturating_duration_since(begun)
}
