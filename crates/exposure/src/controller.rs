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
    EventRecorder, InputEvent, Observed, StatusWriter, WorkQueue, observe, watch_inputs,
};
use tidegate_runtime::{Clock, Enforcement, Metrics, Tasks};
use tokio::sync::mpsc;

use crate::metrics::ExposureMetrics;
use crate::owner::owner_of;
use crate::projections::{Projection, Projections};
use crate::reconcile::{Next, Reconciler, Stamps};
use crate::unenforced::Unenforced;
use crate::{Config, FIELD_MANAGER};

/// Apis worked on at a time; most of one's time is waiting for a commit or for the gateway.
const WORKERS: usize = 16;
/// Everything is looked at again after so long, in case a change was lost (SPEC 30 §2.8).
const RESYNC: Duration = Duration::from_mins(5);
/// Wait before an Api is looked at again whose verdict or route is not there yet.
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
        let reconciler = Arc::new(Reconciler {
            statuses: StatusWriter::start(client.clone(), kind, FIELD_MANAGER, &tasks),
            index: Arc::new(Mutex::new(Index::new(options))),
            projections: Projections::default(),
            stamps: Stamps::default(),
            backoffs: Mutex::default(),
            events: events.clone(),
            client: client.clone(),
            config,
            clock,
            enforcement,
        });
        let unenforced = Unenforced::new(events);
        unenforced.watch(&client, &tasks);
        let watch = Watch { reconciler: Arc::clone(&reconciler), queue: queue.clone(), unenforced };
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
}

impl Watch {
    async fn run(
        mut self,
        mut inputs: mpsc::Receiver<InputEvent>,
        mut policies: mpsc::Receiver<Observed<DynamicObject>>,
    ) {
        let mut are_policies_listed = false;
        let mut is_synced = false;
        // Verdicts mean nothing before every kind is listed: a host may look free because its holder is not known yet.
        while !(is_synced && are_policies_listed) {
            tokio::select! {
                Some(event) = inputs.recv() => is_synced |= self.input(event).1,
                Some(event) = policies.recv() => are_policies_listed |= self.policy(event).1,
                else => return,
            }
        }
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
        let projections = &self.reconciler.projections;
        let mut owners = match &change {
            Change::Set(Input::VirtualService(object)) => {
                if owner_of(object).is_none() {
                    self.unenforced.note(object);
                }
                projections.set(Projection::VirtualService, (**object).clone())
            }
            Change::Removed(object) if object.kind == ObjectKind::VirtualService => {
                let owner = projections.remove(Projection::VirtualService, &object.namespace, &object.name);
                owner.into_iter().collect()
            }
            _ => Vec::new(),
        };
        let affected = self.reconciler.index.lock().apply(change);
        owners.extend(affected.into_iter().filter(|object| object.kind == ObjectKind::Api));
        (owners, false)
    }

    /// Apis that a Policy's change affects, and whether Policies are listed now.
    fn policy(&mut self, event: Observed<DynamicObject>) -> (Vec<ObjectRef>, bool) {
        let projections = &self.reconciler.projections;
        match event {
            Observed::Listed => (Vec::new(), true),
            Observed::Set(object) => {
                if owner_of(&object).is_none() {
                    self.unenforced.note(&object);
                }
                (projections.set(Projection::Policy, object), false)
            }
            Observed::Removed { namespace, name } => {
                (projections.remove(Projection::Policy, &namespace, &name).into_iter().collect(), false)
            }
        }
    }

    /// Looks at every Api again and deletes marked objects that no living Api renders.
    async fn resync(&self) {
        let apis: Vec<ObjectRef> =
            self.reconciler.index.lock().verdicts().map(|verdict| verdict.object.clone()).collect();
        for api in apis {
            self.queue.add(api);
        }
        for (kind, object) in self.reconciler.projections.all() {
            if self.is_stray(&object) {
                self.remove_stray(kind, &object).await;
            }
        }
    }

    /// Marked, but of an Api that is not there, or under a name that its Api does not render.
    fn is_stray(&self, object: &DynamicObject) -> bool {
        let Some((owner, uid)) = owner_of(object) else { return false };
        let index = self.reconciler.index.lock();
        index.verdict(&owner).is_none_or(|verdict| verdict.uid != uid || owner.name != object.name_any())
    }

    async fn remove_stray(&self, kind: Projection, object: &DynamicObject) {
        let namespace = object.namespace().unwrap_or_default();
        let api: KubeApi<DynamicObject> =
            KubeApi::namespaced_with(self.reconciler.client.clone(), &namespace, &resource(kind));
        let preconditions = Preconditions { uid: object.uid(), resource_version: None };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match api.delete(&object.name_any(), &params).await {
            Ok(_) => tracing::info!(object.namespace = %namespace, object.name = %object.name_any(),
                "deleted {} without a living owner", kind.words()),
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => {}
            Err(error) => tracing::warn!(object.namespace = %namespace, object.name = %object.name_any(), %error,
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
