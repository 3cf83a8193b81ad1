//! What the index keeps of one `Api`.

use std::sync::Arc;

use jiff::Timestamp;
use tidegate_kinds::{Api, ApiSpec};

use super::{Authentication, Claim, HostOutcome, Name, Rank, Validation, Verdict, created};
use crate::compile::{AuthProblem, Identity, RouteAnnotations, compile};
use crate::{ObjectKind, ObjectRef, Options, ProtectedMode, RouteModel};

/// Code of SPEC 30 §2.7 that says: done and enforced.
const SUCCESS: i32 = 2;

#[derive(Debug)]
pub(super) struct ApiEntry {
    pub(super) created: Timestamp,
    pub(super) deleting: bool,
    pub(super) spec: Arc<ApiSpec>,
    pub(super) fqdn: String,
    pub(super) is_protected: bool,
    pub(super) compiled: Result<Arc<RouteModel>, Arc<AuthProblem>>,
    pub(super) generation: i64,
    /// `None` when the object has none that matter.
    pub(super) annotations: Option<Box<RouteAnnotations>>,
    /// The status says that the present specification is enforced.
    is_confirmed: bool,
    /// The present specification was in force before, at the present generation, and the status did not say that an
    /// earlier one serves (after a restart, objects that come later may take back what an object seems to have).
    pub(super) was_current: bool,
    /// The status says that an earlier specification serves.
    pub(super) is_remembered: bool,
    /// The last enforced specification, until the present one is confirmed.
    pub(super) fallback: Option<Arc<RouteModel>>,
    /// What stands in the index's claim lists.
    pub(super) claims: Vec<(String, Rank)>,
    pub(super) verdict: Verdict,
    /// Nobody has been told of the verdict yet.
    pub(super) is_new: bool,
}

impl ApiEntry {
    pub(super) fn build(name: &Name, api: &Api, old: Option<Self>, options: &Options) -> Self {
        let uid = api.metadata.uid.clone().unwrap_or_default();
        // An object of the same name with another identity is another object: nothing is inherited.
        let old = old.filter(|old| old.verdict.uid == uid);
        let spec = match &old {
            Some(old) if *old.spec == api.spec => Arc::clone(&old.spec),
            _ => Arc::new(api.spec.clone()),
        };
        let annotations = RouteAnnotations::parse(|key| {
            api.metadata.annotations.as_ref().and_then(|all| all.get(key)).map(String::as_str)
        });
        let identity = Identity {
            object: ObjectRef::new(ObjectKind::Api, name.0.clone(), name.1.clone()),
            uid,
            generation: api.metadata.generation.unwrap_or_default(),
            annotations,
        };
        let compiled = match &old {
            // Most changes of an object are those of its status: nothing is compiled twice.
            Some(old) if old.is_made_from(&identity, &spec) => old.compiled.clone(),
            _ => compile(&identity, &spec, options).map(Arc::new).map_err(Arc::new),
        };
        let is_confirmed = is_confirmed(api, identity.generation);
        let fallback = if is_confirmed { None } else { fallback(api, old.as_ref(), &spec, &identity, options) };
        let is_protected = options.is_protected(&spec.service.name, &name.0)
            && (options.protected_mode == ProtectedMode::Deny || !spec.is_secured());
        let fqdn = options.domains.fqdn(&spec.hostname);
        let was_current = old.as_ref().is_some_and(|old| {
            old.was_current && Arc::ptr_eq(&old.spec, &spec) && old.generation == identity.generation
        });
        let is_new = old.as_ref().is_none_or(|old| old.is_new);
        let verdict = old.map_or_else(
            || Verdict {
                object: identity.object.clone(),
                uid: identity.uid.clone(),
                generation: identity.generation,
                fqdn: fqdn.clone(),
                validation: Validation::Valid,
                host: HostOutcome::NotAsked,
                authentication: Authentication::Off,
                present: None,
                enforced: None,
                current: false,
                deleting: false,
                annotation_problems: Vec::new(),
            },
            |old| old.verdict,
        );
        Self {
            created: created(api.metadata.creation_timestamp.as_ref()),
            deleting: api.metadata.deletion_timestamp.is_some(),
            spec,
            fqdn,
            is_protected,
            compiled,
            generation: identity.generation,
            annotations: (identity.annotations != RouteAnnotations::default()).then(|| Box::new(identity.annotations)),
            is_confirmed,
            was_current,
            is_remembered: api.status.as_ref().is_some_and(|status| status.enforced_spec.is_some()),
            fallback,
            claims: Vec::new(),
            verdict,
            is_new,
        }
    }

    /// Namespace and name of the Service that the present specification names.
    pub(super) fn service_name(&self, name: &Name) -> Name {
        (name.0.clone(), self.spec.service.name.clone())
    }

    /// The Service of the earlier specification, when that is another one.
    pub(super) fn earlier_service(&self, name: &Name) -> Option<Name> {
        let service = &self.fallback.as_ref()?.service.name;
        (*service != self.spec.service.name).then(|| (name.0.clone(), service.clone()))
    }

    /// How well the entry claims which hosts.
    pub(super) fn wanted_claims(&self, is_valid: bool) -> Vec<(String, Rank)> {
        let mut claims = Vec::with_capacity(1);
        if let Some(earlier) = &self.fallback {
            claims.push((earlier.host.clone(), Rank::Established));
        }
        if is_valid && claims.iter().all(|(host, _)| *host != self.fqdn) {
            claims.push((self.fqdn.clone(), if self.is_confirmed { Rank::Established } else { Rank::Waiting }));
        }
        claims
    }

    /// A claim as it stands in the lists of the index.
    pub(super) fn claim(&self, name: &Name, rank: Rank) -> Claim {
        let object = ObjectRef::new(ObjectKind::Api, name.0.clone(), name.1.clone());
        Claim { rank, created: self.created, object }
    }

    fn is_made_from(&self, identity: &Identity, spec: &Arc<ApiSpec>) -> bool {
        let annotations = self.annotations.as_deref();
        self.verdict.uid == identity.uid
            && self.generation == identity.generation
            && annotations
                .map_or_else(|| identity.annotations == RouteAnnotations::default(), |own| *own == identity.annotations)
            && Arc::ptr_eq(&self.spec, spec)
    }
}

/// The status was written for this generation, says success, and no earlier specification serves.
fn is_confirmed(api: &Api, generation: i64) -> bool {
    api.status.as_ref().is_some_and(|status| {
        status.observed_generation == Some(generation)
            && status.validation_status == Some(SUCCESS)
            && status.virtual_service_status.as_ref().is_some_and(|block| block.code == SUCCESS)
            && status.enforced_spec.is_none()
    })
}

fn fallback(
    api: &Api,
    old: Option<&ApiEntry>,
    spec: &Arc<ApiSpec>,
    identity: &Identity,
    options: &Options,
) -> Option<Arc<RouteModel>> {
    if let Some(old) = old {
        let is_edited = *old.spec != **spec || old.generation != identity.generation;
        if is_edited && old.verdict.current {
            return old.compiled.as_ref().ok().cloned();
        }
        if old.fallback.is_some() {
            return old.fallback.clone();
        }
    }
    let remembered = api.status.as_ref()?.enforced_spec.as_ref()?;
    if old.is_some_and(|old| old.verdict.current && *old.spec == **spec) {
        // The present specification is in force already; the status just does not know yet.
        return None;
    }
    let identity = Identity { generation: 0, ..identity.clone() };
    compile(&identity, &Arc::new(remembered.clone()), options).ok().map(Arc::new)
}
