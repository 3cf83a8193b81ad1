//! From changed objects to the table that requests see.
//!
//! ```text
//! change -> Index (pure) -> dirty objects -> (at most every 2 ms) -> routes of the dirty ones -> changed shards
//! ```
//! One task owns all of it. Nothing is published before the initial lists of all kinds are in, so a restart has no
//! moment in which a live host answers 404. SPEC 30 §6.11, 70 §2.4

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use parking_lot::RwLock;
use tidegate_policy::{
    Change, EndpointHost, Index, ObjectKind, ObjectRef, Route, RouteModel, TableWriter, Upstream, UpstreamProblem,
};
use tidegate_runtime::{AddressPolicy, Column, EventKind, EventNote, EventRecorder, InProcess};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::Shared;
use crate::auth::JwksEvent;
use crate::handle::{Destination, Handle};
use crate::pool::Endpoints;
use crate::tls::TlsProblem;
use crate::tls::default::DefaultCertificates;
use crate::tls::secret::SecretFacts;

/// Least time between two publications.
const PUBLISH_EVERY: Duration = Duration::from_millis(2);

/// What the publisher is fed with.
#[derive(Debug)]
pub enum Input {
    /// An object changed.
    Changed(Change),
    /// A Secret was set (`Some`) or is gone.
    Secret(ObjectRef, Option<Box<k8s_openapi::api::core::v1::Secret>>),
    /// The initial lists of all kinds are in.
    Synced,
}

/// Which generations are in force; what [`tidegate_runtime::Enforcement`] asks.
#[derive(Debug)]
pub(crate) struct Published {
    generations: RwLock<HashMap<ObjectRef, i64>>,
    publications: watch::Sender<u64>,
}

impl Published {
    pub(crate) fn new() -> Self {
        Self { generations: RwLock::default(), publications: watch::Sender::new(0) }
    }

    /// Resolves once `condition` holds for the published generation of an object.
    pub(crate) async fn until(&self, object: &ObjectRef, condition: impl Fn(Option<i64>) -> bool) {
        let mut publications = self.publications.subscribe();
        loop {
            let generation = self.generations.read().get(object).copied();
            if condition(generation) {
                return;
            }
            if publications.changed().await.is_err() {
                // The process ends: nobody will publish any more, and nobody must be told that it was.
                std::future::pending::<()>().await;
            }
        }
    }
}

/// Everything that a publication needs.
pub(crate) struct Publisher {
    pub(crate) shared: Arc<Shared>,
    pub(crate) writer: TableWriter<Handle>,
    pub(crate) index: Arc<RwLock<Index>>,
    pub(crate) endpoints: Endpoints,
    pub(crate) in_process: InProcess,
    pub(crate) addresses: AddressPolicy,
    pub(crate) certificates: Arc<DefaultCertificates>,
    pub(crate) events: Option<EventRecorder>,
    pub(crate) state: State,
}

/// What the publisher remembers between publications.
#[derive(Default)]
pub(crate) struct State {
    /// What each published route was made of.
    current: HashMap<ObjectRef, Made>,
    secrets: HashMap<ObjectRef, SecretFacts>,
    dirty: BTreeSet<ObjectRef>,
    is_tls_dirty: bool,
    tls_problems: Vec<TlsProblem>,
    is_synced: bool,
    first_change: Option<Instant>,
}

#[derive(PartialEq)]
struct Made {
    model: Arc<RouteModel>,
    upstream: Upstream,
    uid: String,
}

impl Publisher {
    /// Takes changes and publishes until the input ends or shutdown. `synced` is told after the first publication.
    pub(crate) async fn run(
        mut self,
        mut inputs: mpsc::Receiver<Input>,
        mut key_events: mpsc::Receiver<JwksEvent>,
        synced: oneshot::Sender<()>,
    ) {
        let shutdown = self.shared.tasks.shutdown().clone();
        let mut synced = Some(synced);
        let mut last = Instant::now();
        loop {
            let publish_at = self.is_due().then(|| last + PUBLISH_EVERY);
            tokio::select! {
                // Changes that are there go into the same publication, but a flood of them does not put it off.
                biased;
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep_until(publish_at.unwrap_or(last)), if publish_at.is_some_and(|at| self.is_late(at)) => {
                    self.publish();
                    last = Instant::now();
                }
                input = inputs.recv() => {
                    let Some(input) = input else { return };
                    self.take(input);
                    if self.state.is_synced && let Some(synced) = synced.take() {
                        self.publish();
                        last = Instant::now();
                        // Nobody waits when the start was given up.
                        let _ = synced.send(());
                    }
                }
                () = tokio::time::sleep_until(publish_at.unwrap_or(last)), if publish_at.is_some() => {
                    self.publish();
                    last = Instant::now();
                }
                Some(event) = key_events.recv() => self.tell_keys(&event),
            }
        }
    }

    fn is_due(&self) -> bool {
        self.state.is_synced && (!self.state.dirty.is_empty() || self.state.is_tls_dirty)
    }

    fn is_late(&self, publish_at: Instant) -> bool {
        let waited = self.state.first_change.is_some_and(|first| first.elapsed() >= PUBLISH_EVERY);
        waited && Instant::now() >= publish_at
    }

    fn take(&mut self, input: Input) {
        self.state.first_change.get_or_insert_with(Instant::now);
        match input {
            Input::Changed(change) => {
                for object in self.index.write().apply(change) {
                    match object.kind {
                        ObjectKind::Gateway => self.state.is_tls_dirty = true,
                        _ => drop(self.state.dirty.insert(object)),
                    }
                }
            }
            Input::Secret(name, secret) => {
                self.certificates.secret_changed(&name);
                let facts = secret.and_then(|secret| SecretFacts::read(&secret));
                self.state.is_tls_dirty |= match facts {
                    Some(facts) => {
                        self.state.secrets.insert(name, facts);
                        true
                    }
                    None => self.state.secrets.remove(&name).is_some(),
                };
            }
            Input::Synced => {
                self.state.is_synced = true;
                self.state.is_tls_dirty = true;
            }
        }
    }

    fn publish(&mut self) {
        if self.state.is_tls_dirty {
            self.publish_tls();
        }
        let index = Arc::clone(&self.index);
        let index = index.read();
        let mut changes = Vec::new();
        for object in std::mem::take(&mut self.state.dirty) {
            if let Some(change) = self.change(&index, object) {
                changes.push(change);
            }
        }
        drop(index);
        let started = self.state.first_change.take();
        if changes.is_empty() {
            return;
        }
        let published: Vec<_> = changes
            .iter()
            .map(|(object, route)| (object.clone(), route.as_ref().map(|route| route.model.generation)))
            .collect();
        let gone: Vec<_> =
            changes.iter().filter(|(_, route)| route.is_none()).map(|(object, _)| object.clone()).collect();
        self.writer.publish(changes);
        for object in &gone {
            self.shared.metrics.forget(&object.to_string());
        }
        {
            let mut generations = self.shared.published.generations.write();
            for (object, generation) in published {
                match generation {
                    Some(generation) => generations.insert(object, generation),
                    None => generations.remove(&object),
                };
            }
        }
        self.shared.published.publications.send_modify(|count| *count += 1);
        let revision = self.shared.table.revision();
        self.shared.metrics.snapshot_revision.set(i64::try_from(revision).unwrap_or(i64::MAX));
        if let Some(started) = started {
            self.shared.metrics.snapshot_build.observe(started.elapsed().as_secs_f64());
        }
    }

    /// What becomes of one object; `None` when nothing does.
    fn change(&mut self, index: &Index, object: ObjectRef) -> Option<(ObjectRef, Option<Route<Handle>>)> {
        let enforced = index
            .verdict(&object)
            .filter(|verdict| !verdict.deleting)
            .and_then(|verdict| Some((Arc::clone(verdict.enforced.as_ref()?), verdict.uid.clone())));
        let Some((model, uid)) = enforced else {
            let old = self.state.current.remove(&object)?;
            self.certificates.forget(&old.model.host);
            return Some((object, None));
        };
        let upstream = index.upstream(&model.service);
        let made = Made { model: Arc::clone(&model), upstream, uid };
        let old = self.state.current.get(&object);
        if old == Some(&made) {
            return None;
        }
        if let Some(old) = old.filter(|old| old.model.host != made.model.host) {
            self.certificates.forget(&old.model.host);
        }
        if old.is_none_or(|old| old.upstream != made.upstream) {
            self.tell_upstream(&object, &made);
        }
        let upstream =
            Destination::build(&made.upstream, |name| self.in_process.get(name), |keys| self.endpoints.pool(keys));
        let name = object.to_string();
        let handle = Handle {
            metrics: self.shared.metrics.route(&name),
            guard: self.shared.authenticator.guard(&model.guard, &model.token.claim_headers),
            name: name.into(),
            upstream,
        };
        self.state.current.insert(object.clone(), made);
        Some((object, Some(Route { model, handle })))
    }

    fn publish_tls(&mut self) {
        self.state.is_tls_dirty = false;
        let plan = Arc::clone(self.index.read().tls());
        let problems = self.shared.tls.rebuild(&plan, &self.state.secrets);
        for problem in problems.iter().filter(|problem| !self.state.tls_problems.contains(problem)) {
            tracing::warn!(gateway = %problem.gateway, "{}", problem.message);
            self.tell(&problem.gateway, None, "CertificateNotUsable", problem.message.clone());
        }
        // Only servers that were built anew are told again, so what was told once stays told while it lasts.
        self.state.tls_problems.retain(|known| plan.servers().iter().any(|server| server.gateway == known.gateway));
        for problem in problems {
            if !self.state.tls_problems.contains(&problem) {
                self.state.tls_problems.push(problem);
            }
        }
    }

    /// Events about an upstream that nobody can reach. SPEC 30 §12
    fn tell_upstream(&self, object: &ObjectRef, made: &Made) {
        match &made.upstream {
            Upstream::Pool(spec) => {
                let refusals = spec.endpoints.iter().filter_map(|endpoint| match &endpoint.host {
                    EndpointHost::Ip(ip) => self.addresses.check(Column::Upstream, (*ip, endpoint.port).into()).err(),
                    EndpointHost::Name(_) => None,
                });
                for refusal in refusals.take(3) {
                    self.tell(object, Some(&made.uid), "AddressNotAllowed", refusal.to_string());
                }
            }
            Upstream::None(problem @ UpstreamProblem::PortNotFound { .. }) => {
                self.tell(object, Some(&made.uid), "PortNotFound", problem.to_string());
            }
            Upstream::None(problem) => self.tell(object, Some(&made.uid), "NoEndpoints", problem.to_string()),
            Upstream::InProcess(_) => {}
        }
    }

    /// An Event on every object that asks for tokens of an issuer whose keys cannot be had.
    fn tell_keys(&self, event: &JwksEvent) {
        let JwksEvent::Unreachable { uri, error, has_keys } = event else { return };
        let effect = if *has_keys { "older keys are still used" } else { "tokens are refused until they are there" };
        for (object, made) in &self.state.current {
            if made.model.guard.rules().iter().any(|rule| rule.jwks_uri == *uri) {
                let message = format!("keys cannot be fetched from {uri}: {error}; {effect}");
                self.tell(object, Some(&made.uid), "JwksUnreachable", message);
            }
        }
    }

    fn tell(&self, object: &ObjectRef, uid: Option<&str>, reason: &'static str, message: String) {
        let Some(events) = &self.events else { return };
        let api_version = match object.kind {
            ObjectKind::Gateway => "networking.istio.io/v1",
            _ => "gateway.kyma-project.io/v1alpha2",
        };
        events.record(EventNote {
            regarding: ObjectReference {
                api_version: Some(api_version.to_owned()),
                kind: Some(object.kind.as_str().to_owned()),
                namespace: Some(object.namespace.clone()),
                name: Some(object.name.clone()),
                uid: uid.map(str::to_owned),
                ..ObjectReference::default()
            },
            kind: EventKind::Warning,
            reason,
            message,
        });
    }
}
