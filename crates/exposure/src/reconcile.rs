//! One Api: its finalizer, its generated objects, its status. SPEC 30 §2.6 to §2.8.
//!
//! Order of writes: a lock before its route when something is opened, a route before its lock when something is closed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{Api as KubeApi, DynamicObject, PostParams};
use kube::{Client, ResourceExt as _};
use parking_lot::Mutex;
use serde_json::json;
use tidegate_kinds::Api;
use tidegate_kinds::api::{FINALIZER, ResourceStatus, WrittenResource};
use tidegate_policy::index::{Authentication, HostOutcome, Validation};
use tidegate_policy::{Index, ObjectKind, ObjectRef, RouteModel, Verdict};
use tidegate_runtime::reconcile::{
    Backoff, EventKind, EventNote, EventRecorder, StatusUpdate, StatusWriter, WorkQueue, WriteError, delete_owned,
    write_owned,
};
use tidegate_runtime::{Clock, Enforcement, Tasks};

use crate::memory::{Memory, Wait};
use crate::owner::Owner;
use crate::projections::{Projection, Projections, resource_of};
use crate::status::{Facts, INSECURE_KEYS, Outcome, Progress, event_of, insecure_keys, status, written_before};
use crate::{Config, FIELD_MANAGER, render};

/// How long a worker waits for the gateway itself. A change that is enforced faster is never reported as in progress;
/// for a slower one somebody waits in the background, so that nobody else is held up.
const QUIET: Duration = Duration::from_millis(50);

/// What reconciling an Api needs.
pub(crate) struct Reconciler {
    pub(crate) client: Client,
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    pub(crate) tasks: Tasks,
    pub(crate) queue: WorkQueue<ObjectRef>,
    pub(crate) index: Arc<Mutex<Index>>,
    pub(crate) projections: Projections,
    pub(crate) memory: Memory,
    pub(crate) enforcement: Arc<dyn Enforcement>,
    pub(crate) statuses: StatusWriter,
    pub(crate) events: EventRecorder,
    /// Waits of Apis whose last attempt failed.
    pub(crate) backoffs: Mutex<HashMap<ObjectRef, Backoff>>,
}

/// What to do about the Api after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing until something changes.
    Done,
    /// Look again at once: what was read and what was judged are not the same state.
    Again,
    /// Look again after a growing wait: a write failed.
    Later,
}

impl Reconciler {
    /// Brings the Api's generated objects and its status to where its verdict says.
    ///
    /// # Errors
    /// The Api could not be read, or its finalizer not be written; the objects are left as they are.
    pub(crate) async fn reconcile(&self, object: &ObjectRef) -> Result<Next, kube::Error> {
        let apis: KubeApi<Api> = KubeApi::namespaced(self.client.clone(), &object.namespace);
        let Some(api) = apis.get_opt(&object.name).await? else {
            self.memory.forget(object);
            return Ok(Next::Done);
        };
        let verdict = self.index.lock().verdict(object).cloned();
        // The index lags behind what was just read, or ran ahead of it: the watch brings this Api back.
        let Some(verdict) = verdict.filter(|verdict| is_about(verdict, &api)) else { return Ok(Next::Again) };
        if verdict.deleting {
            return self.clean_up(&apis, &api, object).await;
        }
        let api = match with_finalizer(&apis, &api).await? {
            Some(updated) => updated,
            None => api,
        };
        let owner = Owner::of(&api, self.memory.stamp(object, &api, self.carried_stamp(&api)));
        let desired = Self::desired(&verdict);
        let (virtual_service, policy) = self.write(&api, &owner, &desired).await;
        self.conclude(&api, &verdict, virtual_service, policy).await
    }

    /// The last attempt succeeded: the next failure waits as long as a first one.
    pub(crate) fn settle(&self, object: &ObjectRef) {
        self.backoffs.lock().remove(object);
    }

    /// How long to wait after a failed attempt.
    pub(crate) fn next_wait(&self, object: &ObjectRef) -> Duration {
        self.backoffs.lock().entry(object.clone()).or_default().next_wait()
    }

    /// Which models the generated objects show.
    fn desired(verdict: &Verdict) -> Desired {
        // A waiting Api shows its lock already (SPEC 30 §2.4): it is enforced the moment the host is free.
        let waits_for_host =
            verdict.validation == Validation::Valid && matches!(verdict.host, HostOutcome::Occupied { .. });
        let lock = match &verdict.enforced {
            Some(earlier) if earlier.guard.is_secured() || !waits_for_host => Some(earlier.clone()),
            _ if waits_for_host && verdict.authentication == Authentication::Ready => verdict.present.clone(),
            earlier => earlier.clone(),
        };
        Desired { route: verdict.enforced.clone(), lock }
    }

    /// Writes what is desired and removes what is not, in the order that never leaves an open route.
    async fn write(&self, api: &Api, owner: &Owner, desired: &Desired) -> (Outcome, Outcome) {
        let lock = desired.lock.as_ref().and_then(|model| render::policy(model, owner, &self.config));
        let mut policy = Outcome::default();
        if let Some(object) = &lock {
            policy = self.put(api, Projection::Policy, object).await;
        }
        let virtual_service = match &desired.route {
            // A route whose lock could not be written stays as it is.
            Some(_) if policy.error.is_some() => {
                Outcome { resource: self.known(api, Projection::VirtualService), error: None }
            }
            Some(model) => {
                let object = render::virtual_service(model, owner, &self.config);
                self.put(api, Projection::VirtualService, &object).await
            }
            None => self.take_away(Projection::VirtualService, owner).await,
        };
        if lock.is_none() && virtual_service.error.is_none() {
            policy = self.take_away(Projection::Policy, owner).await;
        }
        (virtual_service, policy)
    }

    async fn put(&self, api: &Api, kind: Projection, desired: &DynamicObject) -> Outcome {
        let seen = self.projections.get(kind, &api.namespace().unwrap_or_default(), &desired.name_any());
        if let Some(seen) = seen.as_ref().filter(|seen| seen.is_as(desired)) {
            let known = self.known(api, kind).filter(|known| known.uid == seen.resource.uid);
            return Outcome { resource: Some(known.unwrap_or_else(|| seen.resource.clone())), error: None };
        }
        match write_owned(&self.client, desired, FIELD_MANAGER).await {
            Ok(written) => {
                let now = resource_of(&written.object);
                let known = self.known(api, kind).filter(|known| !written.changed && known.uid == now.uid);
                let resource = known.unwrap_or(now);
                self.memory.note_written(&reference_of(api), kind, resource.clone());
                Outcome { resource: Some(resource), error: None }
            }
            Err(error) => {
                let verb = if seen.is_some() { "updating" } else { "creating" };
                Outcome { resource: self.known(api, kind), error: Some(failure(verb, kind, &error)) }
            }
        }
    }

    /// A generated object as last written by us: what others did to its labels since does not count (SPEC 30 §2.7).
    fn known(&self, api: &Api, kind: Projection) -> Option<WrittenResource> {
        let block = |status: &tidegate_kinds::ApiStatus| -> Option<ResourceStatus> {
            match kind {
                Projection::VirtualService => status.virtual_service_status.clone(),
                Projection::Policy => status.authentication_status.clone(),
            }
        };
        let told = || written_before(api.status.as_ref().and_then(block).as_ref());
        self.memory.written(&reference_of(api), kind).or_else(told)
    }

    /// Label `apiVersion` as a generated object carries it, when the Api's status says that nothing has changed since.
    fn carried_stamp(&self, api: &Api) -> Option<String> {
        if api.status.as_ref()?.observed_generation != api.metadata.generation {
            return None;
        }
        let generated =
            self.projections.get(Projection::VirtualService, &api.namespace().unwrap_or_default(), &api.name_any())?;
        generated.stamp.filter(|_| Some(&generated.owner_uid) == api.metadata.uid.as_ref())
    }

    /// Deletes a generated object; one that belongs to somebody else is none of ours.
    async fn take_away(&self, kind: Projection, owner: &Owner) -> Outcome {
        if self.projections.get(kind, owner.namespace(), owner.name()).is_none() {
            return Outcome::default();
        }
        match delete_owned(&self.client, &owner.object(kind.types(), &json!({}))).await {
            Ok(_) | Err(WriteError::Foreign) => Outcome::default(),
            Err(error) => Outcome { resource: None, error: Some(failure("deleting", kind, &error)) },
        }
    }

    /// Waits a moment for the gateway where that is due, then writes the status.
    async fn conclude(
        &self,
        api: &Api,
        verdict: &Verdict,
        virtual_service: Outcome,
        policy: Outcome,
    ) -> Result<Next, kube::Error> {
        let has_failed = virtual_service.error.is_some() || policy.error.is_some();
        let mut progress = Progress::Enforced;
        if !has_failed && verdict.current {
            let mut enforced = self.enforcement.enforced(&verdict.object, verdict.generation);
            if tokio::time::timeout(QUIET, &mut enforced).await.is_err() {
                progress = Progress::Pending;
                self.wait_for(&verdict.object, Wait::Enforced(verdict.generation), enforced);
            }
        }
        if self.index.lock().verdict(&verdict.object) != Some(verdict) {
            // Things changed meanwhile: whoever looks next writes the status.
            return Ok(if has_failed { Next::Later } else { Next::Done });
        }
        let facts = Facts { api, verdict, virtual_service, policy, progress, now: self.clock.now() };
        self.publish(&facts).await;
        Ok(if has_failed { Next::Later } else { Next::Done })
    }

    /// Looks at the Api again once `condition` is met.
    fn wait_for(&self, object: &ObjectRef, what: Wait, condition: BoxFuture<'static, ()>) {
        if self.memory.awaits(object, what) {
            return;
        }
        let (queue, key, shutdown) = (self.queue.clone(), object.clone(), self.tasks.shutdown().clone());
        let task = self.tasks.spawn("exposure-wait", async move {
            tokio::select! {
                () = condition => queue.add(key),
                () = shutdown.cancelled() => {}
            }
        });
        self.memory.note_wait(object, what, task.abort_handle());
    }

    /// Writes the status and records the transition, if anything changed.
    async fn publish(&self, facts: &Facts<'_>) {
        let previous = facts.api.status.as_ref();
        let next = status(facts);
        let is_new = self.memory.say(&facts.verdict.object, &facts.verdict.uid, previous, &next);
        if is_new && let Some((kind, reason, message)) = event_of(&next) {
            self.events.record(EventNote { regarding: reference(facts.api), kind, reason, message });
        }
        if is_new && let Some(message) = insecure_keys(previous, &next) {
            let (regarding, kind) = (reference(facts.api), EventKind::Warning);
            self.events.record(EventNote { regarding, kind, reason: INSECURE_KEYS, message });
        }
        let Ok(status) = serde_json::to_value(&next) else { return };
        // Should an older status still wait to be written, the watch will show it and the Api is looked at again.
        if previous == Some(&next) {
            return;
        }
        let update = StatusUpdate {
            namespace: facts.api.namespace(),
            name: facts.api.name_any(),
            uid: facts.verdict.uid.clone(),
            status,
        };
        self.statuses.write(update).await;
    }

    /// A deleted Api: first the route is gone, then its objects, then the finalizer.
    async fn clean_up(&self, apis: &KubeApi<Api>, api: &Api, object: &ObjectRef) -> Result<Next, kube::Error> {
        let mut withdrawn = self.enforcement.withdrawn(object);
        if tokio::time::timeout(QUIET, &mut withdrawn).await.is_err() {
            self.wait_for(object, Wait::Withdrawn, withdrawn);
            return Ok(Next::Done);
        }
        let owner = Owner::of(api, api.resource_version().unwrap_or_default());
        for kind in [Projection::VirtualService, Projection::Policy] {
            // Asked of the server, not of what was seen last: nothing may stay behind.
            match delete_owned(&self.client, &owner.object(kind.types(), &json!({}))).await {
                Ok(_) | Err(WriteError::Foreign) => {}
                Err(error) => {
                    tracing::warn!(object.kind = "Api", object.namespace = %object.namespace, object.name = %object.name,
                        "{}", failure("deleting", kind, &error));
                    return Ok(Next::Later);
                }
            }
        }
        if api.finalizers().iter().any(|finalizer| finalizer == FINALIZER) {
            let mut released = api.clone();
            released.finalizers_mut().retain(|finalizer| finalizer != FINALIZER);
            match apis.replace(&object.name, &params(), &released).await {
                Ok(_) => {
                    let message = "the route is withdrawn".to_owned();
                    self.events.record(EventNote {
                        regarding: reference(api),
                        kind: EventKind::Normal,
                        reason: "Removed",
                        message,
                    });
                }
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(kube::Error::Api(status)) if status.code == 409 => return Ok(Next::Again),
                Err(error) => return Err(error),
            }
        }
        Ok(Next::Done)
    }
}

/// The models that the two generated objects show.
struct Desired {
    route: Option<Arc<RouteModel>>,
    lock: Option<Arc<RouteModel>>,
}

/// Whether a verdict speaks about this very state of the Api.
fn is_about(verdict: &Verdict, api: &Api) -> bool {
    api.uid().as_deref() == Some(&verdict.uid)
        && api.metadata.generation.unwrap_or_default() == verdict.generation
        && api.metadata.deletion_timestamp.is_some() == verdict.deleting
}

/// Puts the finalizer on an Api that lacks it; `None` when it is there.
async fn with_finalizer(apis: &KubeApi<Api>, api: &Api) -> Result<Option<Api>, kube::Error> {
    if api.finalizers().iter().any(|finalizer| finalizer == FINALIZER) {
        return Ok(None);
    }
    let mut held = api.clone();
    held.finalizers_mut().push(FINALIZER.to_owned());
    apis.replace(&api.name_any(), &params(), &held).await.map(Some)
}

fn params() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() }
}

fn failure(verb: &str, kind: Projection, error: &WriteError) -> String {
    let cause = match error {
        WriteError::Foreign => "already exists and is not managed by this Api".to_owned(),
        other => other.to_string(),
    };
    format!("error while {verb} {}: {cause}", kind.words())
}

fn reference_of(api: &Api) -> ObjectRef {
    ObjectRef::new(ObjectKind::Api, api.namespace().unwrap_or_default(), api.name_any())
}

/// How Events name an Api.
pub(crate) fn reference(api: &Api) -> ObjectReference {
    ObjectReference {
        api_version: Some("gateway.kyma-project.io/v1alpha2".to_owned()),
        kind: Some("Api".to_owned()),
        namespace: api.namespace(),
        name: Some(api.name_any()),
        uid: api.uid(),
        resource_version: api.resource_version(),
        field_path: None,
    }
}
