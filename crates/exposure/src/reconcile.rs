//! One Api: its finalizer, its generated objects, its status. SPEC 30 §2.6 to §2.8.
//!
//! Order of writes: a lock before its route when something is opened, a route before its lock when something is closed.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{Api as KubeApi, DynamicObject, PostParams};
use kube::{Client, ResourceExt as _};
use parking_lot::Mutex;
use serde_json::json;
use tidegate_kinds::Api;
use tidegate_kinds::api::{FINALIZER, WrittenResource};
use tidegate_policy::index::{HostOutcome, Validation};
use tidegate_policy::{Index, ObjectRef, RouteModel, Verdict};
use tidegate_runtime::reconcile::{
    Backoff, EventKind, EventNote, EventRecorder, StatusUpdate, StatusWriter, WriteError, delete_owned, write_owned,
};
use tidegate_runtime::{Clock, Enforcement};

use crate::owner::Owner;
use crate::projections::{Projection, Projections};
use crate::status::{Facts, Outcome, Progress, status, transition, written_before};
use crate::{Config, FIELD_MANAGER, render};

/// A change that is enforced faster than this is never reported as in progress.
const QUIET: Duration = Duration::from_millis(50);
/// How long one attempt waits for the gateway before the Api is looked at again.
const PATIENCE: Duration = Duration::from_secs(2);

/// What reconciling an Api needs.
pub(crate) struct Reconciler {
    pub(crate) client: Client,
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    pub(crate) index: Arc<Mutex<Index>>,
    pub(crate) projections: Projections,
    pub(crate) enforcement: Arc<dyn Enforcement>,
    pub(crate) statuses: StatusWriter,
    pub(crate) events: EventRecorder,
    pub(crate) stamps: Stamps,
    /// Waits of Apis whose last attempt failed.
    pub(crate) backoffs: Mutex<HashMap<ObjectRef, Backoff>>,
}

/// What to do about the Api after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing until something changes.
    Done,
    /// Look again at once: the gateway has not published it yet.
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
            self.stamps.forget(object);
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
        let owner = Owner::of(&api, self.stamps.stamp(object, &api, &self.projections));
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
            None if waits_for_host => verdict.present.clone(),
            enforced => enforced.clone(),
        };
        Desired { route: verdict.enforced.clone(), lock }
    }

    /// Writes what is desired and removes what is not, in the order that never leaves an open route.
    async fn write(&self, api: &Api, owner: &Owner, desired: &Desired) -> (Outcome, Outcome) {
        let previous = api.status.as_ref();
        let kept = |outcome: Outcome, block| Outcome { resource: outcome.resource.or(block), ..outcome };
        let policy_object = desired.lock.as_ref().and_then(|model| render::policy(model, owner, &self.config));
        let mut policy = Outcome::default();
        if let Some(object) = &policy_object {
            let before = written_before(previous.and_then(|status| status.authentication_status.as_ref()));
            policy = kept(self.put(Projection::Policy, object).await, before);
        }
        let virtual_service = match &desired.route {
            // A route whose lock could not be written stays as it is.
            _ if policy.error.is_some() => Outcome::default(),
            Some(model) => {
                let before = written_before(previous.and_then(|status| status.virtual_service_status.as_ref()));
                let object = render::virtual_service(model, owner, &self.config);
                kept(self.put(Projection::VirtualService, &object).await, before)
            }
            None => self.take_away(Projection::VirtualService, owner).await,
        };
        if policy_object.is_none() && virtual_service.error.is_none() {
            policy = self.take_away(Projection::Policy, owner).await;
        }
        (virtual_service, policy)
    }

    async fn put(&self, kind: Projection, desired: &DynamicObject) -> Outcome {
        let namespace = desired.namespace().unwrap_or_default();
        let exists = self.projections.get(kind, &namespace, &desired.name_any()).is_some();
        match write_owned(&self.client, desired, FIELD_MANAGER).await {
            Ok(written) => Outcome { resource: Some(identity_of(&written.object)), error: None },
            Err(error) => {
                let verb = if exists { "updating" } else { "creating" };
                Outcome { resource: None, error: Some(failure(verb, kind, &error)) }
            }
        }
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

    /// Waits for the gateway where that is due, then writes the status.
    async fn conclude(
        &self,
        api: &Api,
        verdict: &Verdict,
        virtual_service: Outcome,
        policy: Outcome,
    ) -> Result<Next, kube::Error> {
        let has_failed = virtual_service.error.is_some() || policy.error.is_some();
        let mut facts =
            Facts { api, verdict, virtual_service, policy, progress: Progress::Enforced, now: self.clock.now() };
        if !has_failed && verdict.current {
            let enforced = self.enforcement.enforced(&verdict.object, verdict.generation);
            tokio::pin!(enforced);
            if tokio::time::timeout(QUIET, &mut enforced).await.is_err() {
                facts.progress = Progress::Pending;
                self.publish(&facts).await;
                if tokio::time::timeout(PATIENCE, &mut enforced).await.is_err() {
                    return Ok(Next::Again);
                }
                facts.progress = Progress::Enforced;
            }
        }
        self.publish(&facts).await;
        Ok(if has_failed { Next::Later } else { Next::Done })
    }

    /// Writes the status and records the transition, if anything changed.
    async fn publish(&self, facts: &Facts<'_>) {
        let next = status(facts);
        if facts.api.status.as_ref() == Some(&next) {
            return;
        }
        if let Some((kind, reason, message)) = transition(facts.api.status.as_ref(), &next) {
            self.events.record(EventNote { regarding: reference(facts.api), kind, reason, message });
        }
        let Ok(status) = serde_json::to_value(&next) else { return };
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
        if tokio::time::timeout(PATIENCE, self.enforcement.withdrawn(object)).await.is_err() {
            return Ok(Next::Again);
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
        self.stamps.forget(object);
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

fn identity_of(object: &DynamicObject) -> WrittenResource {
    WrittenResource {
        name: object.name_any(),
        uid: object.uid().unwrap_or_default(),
        version: object.resource_version().unwrap_or_default(),
    }
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

/// The value of label `apiVersion` on generated objects: the Api's resource version when its content last changed. A
/// write of its status or finalizer changes the resource version but not the content, and must not change the label, or
/// each status write would ask for another one.
#[derive(Debug, Default)]
pub(crate) struct Stamps {
    known: Mutex<HashMap<ObjectRef, (u64, String)>>,
}

impl Stamps {
    /// The label's value. After a restart it is what the generated object carries.
    fn stamp(&self, object: &ObjectRef, api: &Api, projections: &Projections) -> String {
        let content = content_hash(api);
        let mut known = self.known.lock();
        if let Some((hash, stamp)) = known.get(object)
            && *hash == content
        {
            return stamp.clone();
        }
        let carried = if known.contains_key(object) { None } else { carried_label(object, api, projections) };
        let stamp = carried.unwrap_or_else(|| api.resource_version().unwrap_or_default());
        known.insert(object.clone(), (content, stamp.clone()));
        stamp
    }

    fn forget(&self, object: &ObjectRef) {
        self.known.lock().remove(object);
    }
}

fn content_hash(api: &Api) -> u64 {
    let mut hasher = DefaultHasher::new();
    api.uid().hash(&mut hasher);
    api.metadata.generation.hash(&mut hasher);
    api.labels().hash(&mut hasher);
    api.annotations().hash(&mut hasher);
    hasher.finish()
}

/// The label as the generated route carries it, when its status says that nothing has changed since it was written.
fn carried_label(object: &ObjectRef, api: &Api, projections: &Projections) -> Option<String> {
    let observed = api.status.as_ref()?.observed_generation;
    if observed != api.metadata.generation {
        return None;
    }
    let generated = projections.get(Projection::VirtualService, &object.namespace, &object.name)?;
    generated.labels().get("apiVersion").cloned()
}
