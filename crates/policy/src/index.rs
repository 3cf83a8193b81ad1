//! What all objects together mean: who holds a host or a Service, and what must be enforced now. SPEC 30 §2.4, §2.7.
//!
//! The index is fed single changes and answers which objects are affected by each; a change costs what it affects and
//! nothing else. Verdicts are a function of the objects: the order in which they arrive does not matter (but see
//! *earlier specification*).
//!
//! Who holds what:
//!
//! | thing | holder |
//! |---|---|
//! | a Service of a namespace | the oldest `Api` that names it, by `(creationTimestamp, name)` |
//! | a host | nobody when it is the system's; else the oldest **established** `Api`; else the oldest `VirtualService` that a user wrote; else the oldest waiting `Api` |
//!
//! An `Api` is established on a host when its status says that its present specification is enforced there, or when an
//! earlier specification still serves there. So an edit never takes a host away from whoever serves on it.
//!
//! *Earlier specification*: when an `Api` is edited, the last enforced specification stays its fallback until the status
//! confirms the new one. It comes from what the index saw before, or after a restart from `status.enforcedSpec`.
//! Feed an index with the initial lists of all kinds before you act on its verdicts.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Endpoints, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube_core::DynamicObject;
use tidegate_kinds::Api;

use crate::compile::AuthProblem;
use crate::tls::{GatewayFacts, Gateways};
use crate::upstream::{EndpointFacts, ServiceFacts, resolve};
use crate::{ObjectKind, ObjectRef, Options, RouteModel, ServiceRef, TlsPlan, Upstream};

mod entry;
mod sorted;

use entry::ApiEntry;
use sorted::Sorted;

/// One change of one object.
#[derive(Clone, Debug)]
pub enum Change {
    /// The object was added or modified.
    Set(Input),
    /// The object is gone.
    Removed(ObjectRef),
}

/// An object that the index takes.
#[derive(Clone, Debug)]
pub enum Input {
    /// An exposure.
    Api(Box<Api>),
    /// A target.
    Service(Box<Service>),
    /// Addresses of a target.
    EndpointSlice(Box<EndpointSlice>),
    /// Addresses of a target.
    Endpoints(Box<Endpoints>),
    /// Host reservations; projections are recognized and have no effect.
    VirtualService(Box<DynamicObject>),
    /// TLS settings.
    Gateway(Box<DynamicObject>),
}

/// Whether the specification is valid where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Validation {
    /// It is.
    Valid,
    /// The Service is protected, and the Api does not guard it (code 3).
    Protected {
        /// `service.namespace`.
        service: String,
    },
    /// An older Api exposes the Service (code 5).
    ServiceOccupied {
        /// The Api that holds it.
        by: ObjectRef,
    },
}

/// Whether the host can be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostOutcome {
    /// It is held by this Api.
    Held,
    /// It is in use (code 4).
    Occupied {
        /// By whom.
        by: Holder,
    },
    /// It was not asked for, because the specification is not valid.
    NotAsked,
}

/// Who has a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// The product itself.
    System,
    /// An Api, or a VirtualService that a user wrote.
    Object(ObjectRef),
}

/// Whether authentication can be enforced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// It is off.
    Off,
    /// It is on and can be enforced.
    Ready,
    /// It is on and cannot be enforced (code 3).
    Failed(Arc<AuthProblem>),
}

/// What an Api means now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The Api.
    pub object: ObjectRef,
    /// Its identity.
    pub uid: String,
    /// Generation of the specification that was judged.
    pub generation: i64,
    /// Full host name in lower case.
    pub fqdn: String,
    /// Service and protection.
    pub validation: Validation,
    /// The host.
    pub host: HostOutcome,
    /// The guard.
    pub authentication: Authentication,
    /// The present specification, compiled, whether or not it may be enforced.
    pub present: Option<Arc<RouteModel>>,
    /// What must be enforced now: the present specification, or the earlier one while the present one is refused, or
    /// nothing.
    pub enforced: Option<Arc<RouteModel>>,
    /// Whether `enforced` is the present specification.
    pub current: bool,
    /// The Api is being deleted: nothing of it is enforced.
    pub deleting: bool,
    /// Annotations without effect.
    pub annotation_problems: Vec<String>,
}

type Name = (String, String);

/// How good a claim on a host is. The smallest one holds the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Established,
    Reserved,
    Waiting,
}

/// Ordered by rank, then by age.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Claim {
    rank: Rank,
    created: Timestamp,
    object: ObjectRef,
}

/// Everything that exposure depends on, indexed.
#[derive(Debug)]
pub struct Index {
    options: Options,
    apis: HashMap<Name, Box<ApiEntry>>,
    /// Who names a Service, oldest first. Key: namespace and Service.
    service_claims: HashMap<Name, Sorted<(Timestamp, String)>>,
    /// Apis whose earlier specification still sends requests to a Service.
    earlier_users: HashMap<Name, Sorted<String>>,
    /// Who wants a host.
    host_claims: HashMap<String, Sorted<Claim>>,
    reservations: HashMap<Name, Vec<(String, Claim)>>,
    services: HashMap<Name, ServiceFacts>,
    /// Slices by Service.
    slices: HashMap<Name, BTreeMap<String, EndpointFacts>>,
    /// Service of each slice.
    slice_services: HashMap<Name, String>,
    endpoints: HashMap<Name, EndpointFacts>,
    gateways: Gateways,
}

impl Index {
    /// An empty index.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            apis: HashMap::new(),
            service_claims: HashMap::new(),
            earlier_users: HashMap::new(),
            host_claims: HashMap::new(),
            reservations: HashMap::new(),
            services: HashMap::new(),
            slices: HashMap::new(),
            slice_services: HashMap::new(),
            endpoints: HashMap::new(),
            gateways: Gateways::default(),
        }
    }

    /// The options that the index compiles with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Takes a change and returns the objects that it affects, sorted: Apis whose verdict or upstream is another now
    /// (or that are gone), and the Gateway that was changed when the TLS plan is another now.
    pub fn apply(&mut self, change: Change) -> Vec<ObjectRef> {
        match change {
            Change::Set(Input::Api(api)) => self.set_api(&api),
            Change::Set(Input::Service(service)) => {
                let name = name_of(service.metadata.namespace.as_deref(), service.metadata.name.as_deref());
                self.set_service(&name, Some(ServiceFacts::read(&service)))
            }
            Change::Set(Input::EndpointSlice(slice)) => {
                let name = name_of(slice.metadata.namespace.as_deref(), slice.metadata.name.as_deref());
                let service = EndpointFacts::service_of_slice(&slice).map(str::to_owned);
                self.set_slice(&name, service.map(|service| (service, EndpointFacts::read_slice(&slice))))
            }
            Change::Set(Input::Endpoints(endpoints)) => {
                let name = name_of(endpoints.metadata.namespace.as_deref(), endpoints.metadata.name.as_deref());
                self.set_endpoints(&name, Some(EndpointFacts::read_endpoints(&endpoints)))
            }
            Change::Set(Input::VirtualService(object)) => self.set_virtual_service(&object),
            Change::Set(Input::Gateway(object)) => {
                let name = name_of(object.metadata.namespace.as_deref(), object.metadata.name.as_deref());
                let facts = GatewayFacts {
                    created: created(object.metadata.creation_timestamp.as_ref()),
                    spec: tidegate_kinds::istio::GatewaySpec::parse(&object.data),
                };
                self.set_gateway(name, Some(facts))
            }
            Change::Removed(object) => self.remove(object),
        }
    }

    /// What an Api means now. `None`: there is no such Api.
    pub fn verdict(&self, object: &ObjectRef) -> Option<&Verdict> {
        if object.kind != ObjectKind::Api {
            return None;
        }
        self.apis.get(&(object.namespace.clone(), object.name.clone())).map(|entry| &entry.verdict)
    }

    /// All Apis, in no order.
    pub fn verdicts(&self) -> impl Iterator<Item = &Verdict> {
        self.apis.values().map(|entry| &entry.verdict)
    }

    /// Where requests for a port of a Service go now.
    pub fn upstream(&self, service: &ServiceRef) -> Upstream {
        let name = (service.namespace.clone(), service.name.clone());
        resolve(
            (&service.namespace, &service.name, service.port),
            self.services.get(&name),
            self.slices.get(&name).into_iter().flat_map(BTreeMap::values),
            self.endpoints.get(&name),
            &self.options,
        )
    }

    /// TLS settings and redirects of all hosts.
    pub fn tls(&self) -> &Arc<TlsPlan> {
        self.gateways.plan()
    }

    /// Whether a VirtualService reserves hosts, which means that a user wrote it.
    pub fn reserves_hosts(&self, object: &ObjectRef) -> bool {
        self.reservations.contains_key(&(object.namespace.clone(), object.name.clone()))
    }

    fn remove(&mut self, object: ObjectRef) -> Vec<ObjectRef> {
        let name = (object.namespace, object.name);
        match object.kind {
            ObjectKind::Api => {
                let mut affected = Affected::default();
                if let Some(old) = self.apis.remove(&name) {
                    self.unlink(&name, &old, &mut affected);
                    affected.apis.insert(name);
                }
                self.settle(affected)
            }
            ObjectKind::Service => self.set_service(&name, None),
            ObjectKind::EndpointSlice => self.set_slice(&name, None),
            ObjectKind::Endpoints => self.set_endpoints(&name, None),
            ObjectKind::VirtualService => self.reserve(name, Vec::new()),
            ObjectKind::Gateway => self.set_gateway(name, None),
            ObjectKind::Policy | ObjectKind::Secret => Vec::new(),
        }
    }

    fn set_api(&mut self, api: &Api) -> Vec<ObjectRef> {
        let name = name_of(api.metadata.namespace.as_deref(), api.metadata.name.as_deref());
        let mut affected = Affected::default();
        let old = self.apis.remove(&name);
        if let Some(old) = &old {
            self.unlink(&name, old, &mut affected);
        }
        let entry = Box::new(ApiEntry::build(&name, api, old.map(|old| *old), &self.options));
        self.link(&name, &entry, &mut affected);
        self.apis.insert(name.clone(), entry);
        affected.apis.insert(name);
        self.settle(affected)
    }

    /// Takes an entry out of the claim lists, remembering whose outcome may change.
    fn unlink(&mut self, name: &Name, entry: &ApiEntry, affected: &mut Affected) {
        let service = entry.service_name(name);
        affected.note_service(&self.service_claims, &service);
        if let Some(claims) = self.service_claims.get_mut(&service) {
            claims.remove(&(entry.created, name.1.clone()));
            if claims.is_empty() {
                self.service_claims.remove(&service);
            }
        }
        if let Some(service) = entry.earlier_service(name)
            && let Some(users) = self.earlier_users.get_mut(&service)
        {
            users.remove(&name.1);
            if users.is_empty() {
                self.earlier_users.remove(&service);
            }
        }
        for (host, rank) in &entry.claims {
            self.drop_claim(host, &entry.claim(name, *rank), affected);
        }
    }

    fn link(&mut self, name: &Name, entry: &ApiEntry, affected: &mut Affected) {
        let service = entry.service_name(name);
        affected.note_service(&self.service_claims, &service);
        self.service_claims.entry(service).or_default().insert((entry.created, name.1.clone()));
        if let Some(service) = entry.earlier_service(name) {
            self.earlier_users.entry(service).or_default().insert(name.1.clone());
        }
        // Host claims follow once the validation is known: `settle`.
    }

    fn drop_claim(&mut self, host: &str, claim: &Claim, affected: &mut Affected) {
        affected.note_host(&self.host_claims, host);
        if let Some(claims) = self.host_claims.get_mut(host) {
            claims.remove(claim);
            if claims.is_empty() {
                self.host_claims.remove(host);
            }
        }
    }

    fn add_claim(&mut self, host: &str, claim: Claim, affected: &mut Affected) {
        affected.note_host(&self.host_claims, host);
        self.host_claims.entry(host.to_owned()).or_default().insert(claim);
    }

    /// Works out all consequences: Services first, because who holds a Service may claim a host; then hosts; then
    /// verdicts. Every list is walked only when its holder changed.
    fn settle(&mut self, mut affected: Affected) -> Vec<ObjectRef> {
        for (service, before) in std::mem::take(&mut affected.services) {
            let claims = self.service_claims.get(&service);
            let now = claims.and_then(|claims| claims.first());
            if now != before.as_ref() {
                let members =
                    claims.into_iter().flat_map(Sorted::iter).map(|(_, name)| (service.0.clone(), name.clone()));
                affected.apis.extend(members);
            }
        }
        for name in affected.apis.clone() {
            self.update_claims(&name, &mut affected);
        }
        for (host, before) in std::mem::take(&mut affected.hosts) {
            let claims = self.host_claims.get(&host);
            let now = claims.and_then(|claims| claims.first()).map(|claim| &claim.object);
            if now != before.as_ref() {
                let members =
                    claims.into_iter().flat_map(Sorted::iter).filter(|claim| claim.object.kind == ObjectKind::Api);
                affected.apis.extend(members.map(|claim| (claim.object.namespace.clone(), claim.object.name.clone())));
            }
        }
        let mut dirty: Vec<ObjectRef> = Vec::new();
        for name in affected.apis {
            let object = ObjectRef::new(ObjectKind::Api, name.0.clone(), name.1.clone());
            let Some(verdict) = self.judge(&name) else {
                dirty.push(object);
                continue;
            };
            if let Some(entry) = self.apis.get_mut(&name)
                && (entry.is_new || entry.verdict != verdict)
            {
                entry.is_new = false;
                entry.was_current |= verdict.current && !entry.is_remembered;
                entry.verdict = verdict;
                dirty.push(object);
            }
        }
        dirty.sort();
        dirty
    }

    fn validation(&self, name: &Name, entry: &ApiEntry) -> Validation {
        // SPEC 30 §2.4: protection first, then the Service.
        if entry.is_protected {
            return Validation::Protected { service: format!("{}.{}", entry.spec.service.name, name.0) };
        }
        match self.service_claims.get(&entry.service_name(name)).and_then(Sorted::first) {
            Some((_, holder)) if *holder != name.1 => {
                Validation::ServiceOccupied { by: ObjectRef::new(ObjectKind::Api, name.0.clone(), holder.clone()) }
            }
            _ => Validation::Valid,
        }
    }

    fn update_claims(&mut self, name: &Name, affected: &mut Affected) {
        let Some(entry) = self.apis.get(name) else { return };
        let is_valid = self.validation(name, entry) == Validation::Valid;
        let wanted = entry.wanted_claims(is_valid);
        if wanted == entry.claims {
            return;
        }
        let claims = |ranks: &[(String, Rank)]| -> Vec<(String, Claim)> {
            ranks.iter().map(|(host, rank)| (host.clone(), entry.claim(name, *rank))).collect()
        };
        let (old, new) = (claims(&entry.claims), claims(&wanted));
        if let Some(entry) = self.apis.get_mut(name) {
            entry.claims = wanted;
        }
        for (host, claim) in &old {
            self.drop_claim(host, claim, affected);
        }
        for (host, claim) in new {
            self.add_claim(&host, claim, affected);
        }
    }

    fn host_outcome(&self, object: &ObjectRef, host: &str) -> HostOutcome {
        if self.options.domains.is_system_name(host) {
            return HostOutcome::Occupied { by: Holder::System };
        }
        match self.host_claims.get(host).and_then(Sorted::first) {
            Some(claim) if claim.object != *object => {
                HostOutcome::Occupied { by: Holder::Object(claim.object.clone()) }
            }
            _ => HostOutcome::Held,
        }
    }

    fn judge(&self, name: &Name) -> Option<Verdict> {
        let entry = self.apis.get(name)?;
        let object = ObjectRef::new(ObjectKind::Api, name.0.clone(), name.1.clone());
        let validation = self.validation(name, entry);
        let is_valid = validation == Validation::Valid;
        let host = if is_valid { self.host_outcome(&object, &entry.fqdn) } else { HostOutcome::NotAsked };
        let present = entry.compiled.as_ref().ok().filter(|_| host == HostOutcome::Held);
        let earlier = || {
            let model = entry.fallback.as_ref()?;
            let may_serve = match &entry.compiled {
                // Somebody asked for a guard that cannot be enforced: nothing weaker than a guard stands in for it, and
                // nothing at all when it is not even known whose tokens are meant.
                Err(problem) if is_valid && **problem == AuthProblem::NoDefaultIssuer => false,
                Err(_) if is_valid => model.guard.is_secured(),
                // A guard that was in force is not taken back by a conflict: its owner may have been told of it.
                Ok(present) if entry.was_current && present.guard.is_secured() => model.guard.is_secured(),
                Ok(_) | Err(_) => true,
            };
            (may_serve && self.host_outcome(&object, &model.host) == HostOutcome::Held).then_some(model)
        };
        let enforced = if entry.deleting { None } else { present.or_else(earlier).cloned() };
        Some(Verdict {
            uid: entry.verdict.uid.clone(),
            generation: entry.generation,
            fqdn: entry.fqdn.clone(),
            authentication: match &entry.compiled {
                Err(problem) => Authentication::Failed(problem.clone()),
                Ok(model) if model.guard.is_secured() => Authentication::Ready,
                Ok(_) => Authentication::Off,
            },
            current: enforced.is_some() && present.is_some(),
            present: entry.compiled.as_ref().ok().cloned(),
            enforced,
            validation,
            host,
            deleting: entry.deleting,
            annotation_problems: entry
                .annotations
                .as_ref()
                .map(|annotations| annotations.problems.clone())
                .unwrap_or_default(),
            object,
        })
    }

    fn set_virtual_service(&mut self, object: &DynamicObject) -> Vec<ObjectRef> {
        let name = name_of(object.metadata.namespace.as_deref(), object.metadata.name.as_deref());
        if is_projection(object) {
            return self.reserve(name, Vec::new());
        }
        let created = created(object.metadata.creation_timestamp.as_ref());
        let reference = ObjectRef::new(ObjectKind::VirtualService, name.0.clone(), name.1.clone());
        let hosts: BTreeSet<String> = tidegate_kinds::istio::virtual_service_hosts(&object.data)
            .into_iter()
            .map(str::to_ascii_lowercase)
            // A wildcard of somebody else is no conflict: the more specific name wins at routing (SPEC 30 §2.4).
            .filter(|host| !host.contains('*'))
            .collect();
        let claim = Claim { rank: Rank::Reserved, created, object: reference };
        self.reserve(name, hosts.into_iter().map(|host| (host, claim.clone())).collect())
    }

    fn reserve(&mut self, name: Name, wanted: Vec<(String, Claim)>) -> Vec<ObjectRef> {
        let mut affected = Affected::default();
        let old = if wanted.is_empty() {
            self.reservations.remove(&name)
        } else {
            self.reservations.insert(name, wanted.clone())
        };
        for (host, claim) in old.into_iter().flatten() {
            self.drop_claim(&host, &claim, &mut affected);
        }
        for (host, claim) in wanted {
            self.add_claim(&host, claim, &mut affected);
        }
        self.settle(affected)
    }

    fn set_service(&mut self, name: &Name, facts: Option<ServiceFacts>) -> Vec<ObjectRef> {
        if self.services.get(name) == facts.as_ref() {
            return Vec::new();
        }
        match facts {
            Some(facts) => self.services.insert(name.clone(), facts),
            None => self.services.remove(name),
        };
        self.users_of(name)
    }

    fn set_endpoints(&mut self, name: &Name, facts: Option<EndpointFacts>) -> Vec<ObjectRef> {
        if self.endpoints.get(name) == facts.as_ref() {
            return Vec::new();
        }
        match facts {
            Some(facts) => self.endpoints.insert(name.clone(), facts),
            None => self.endpoints.remove(name),
        };
        self.users_of(name)
    }

    fn set_slice(&mut self, name: &Name, facts: Option<(String, EndpointFacts)>) -> Vec<ObjectRef> {
        let mut dirty = BTreeSet::new();
        let old_service = self.slice_services.get(name).cloned();
        if let Some(old) = old_service.filter(|old| facts.as_ref().is_none_or(|(service, _)| service != old)) {
            self.slice_services.remove(name);
            let service = (name.0.clone(), old);
            if let Some(slices) = self.slices.get_mut(&service) {
                slices.remove(&name.1);
                if slices.is_empty() {
                    self.slices.remove(&service);
                }
            }
            dirty.extend(self.users_of(&service));
        }
        if let Some((service, facts)) = facts {
            self.slice_services.insert(name.clone(), service.clone());
            let service = (name.0.clone(), service);
            let slices = self.slices.entry(service.clone()).or_default();
            if slices.get(&name.1) != Some(&facts) {
                slices.insert(name.1.clone(), facts);
                dirty.extend(self.users_of(&service));
            }
        }
        dirty.into_iter().collect()
    }

    fn set_gateway(&mut self, name: Name, facts: Option<GatewayFacts>) -> Vec<ObjectRef> {
        let object = ObjectRef::new(ObjectKind::Gateway, name.0.clone(), name.1.clone());
        let changed = self.gateways.set(name, facts, &self.options.domains);
        if changed { vec![object] } else { Vec::new() }
    }

    fn users_of(&self, service: &Name) -> Vec<ObjectRef> {
        let present = self.service_claims.get(service).into_iter().flat_map(Sorted::iter).map(|(_, name)| name);
        let earlier = self.earlier_users.get(service).into_iter().flat_map(Sorted::iter);
        let users: BTreeSet<&String> = present.chain(earlier).collect();
        users.into_iter().map(|name| ObjectRef::new(ObjectKind::Api, service.0.clone(), name.clone())).collect()
    }
}

/// What a change touched, with the holders before it.
#[derive(Debug, Default)]
struct Affected {
    apis: HashSet<Name>,
    services: HashMap<Name, Option<(Timestamp, String)>>,
    hosts: HashMap<String, Option<ObjectRef>>,
}

impl Affected {
    fn note_service(&mut self, claims: &HashMap<Name, Sorted<(Timestamp, String)>>, service: &Name) {
        if !self.services.contains_key(service) {
            self.services.insert(service.clone(), claims.get(service).and_then(Sorted::first).cloned());
        }
    }

    fn note_host(&mut self, claims: &HashMap<String, Sorted<Claim>>, host: &str) {
        if !self.hosts.contains_key(host) {
            let holder = claims.get(host).and_then(Sorted::first).map(|claim| claim.object.clone());
            self.hosts.insert(host.to_owned(), holder);
        }
    }
}

/// Whether an object is marked as rendered from an Api: its controller is one. SPEC 30 §1.1.
pub fn is_projection(object: &DynamicObject) -> bool {
    object.metadata.owner_references.iter().flatten().any(|owner| {
        owner.controller == Some(true)
            && owner.kind == "Api"
            && owner.api_version.split('/').next() == Some(tidegate_kinds::api::GROUP)
    })
}

fn name_of(namespace: Option<&str>, name: Option<&str>) -> Name {
    (namespace.unwrap_or_default().to_owned(), name.unwrap_or_default().to_owned())
}

fn created(time: Option<&k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>) -> Timestamp {
    time.map(|time| time.0).unwrap_or_default()
}

#[cfg(test)]
mod tests;
