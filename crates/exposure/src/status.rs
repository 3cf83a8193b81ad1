//! What an Api's status says. Pure: a verdict and what became of the writes, in; `ApiStatus` and Events, out.
//!
//! | verdict | validation | virtualService | authentication (only while it is on) |
//! |---|---|---|---|
//! | protected Service | 3 | 0 | 0 |
//! | Service occupied | 5 | 0 | 0 |
//! | guard cannot be enforced | 2 | 0 (4 when the host is occupied too) | 3 with the reason |
//! | host occupied | 2 | 4 with the host | 2, its Policy is written |
//! | valid, writes in flight | 1 | 1 | 1 |
//! | valid, a write failed | 2 | 3 with the reason | 2 or 3 with the reason |
//! | valid, written and enforced | 2 | 2 | 2 |
//!
//! SPEC 30 §2.4, §2.7.

use jiff::Timestamp;
use tidegate_kinds::Api;
use tidegate_kinds::api::{ApiStatus, Condition, ResourceStatus, WrittenResource};
use tidegate_policy::Verdict;
use tidegate_policy::compile::is_insecure_key_source;
use tidegate_policy::index::{Authentication, Holder, HostOutcome, Validation};
use tidegate_runtime::reconcile::EventKind;

/// Reason of condition Secured, and of the Event.
pub(crate) const INSECURE_KEYS: &str = "InsecureJwks";

const NOT_CREATED: i32 = 0;
const IN_PROGRESS: i32 = 1;
const SUCCESS: i32 = 2;
const ERROR: i32 = 3;
const HOST_IN_USE: i32 = 4;
const SERVICE_OCCUPIED: i32 = 5;

/// What became of one generated object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The object as it was last written; kept from the previous status while nothing new was written.
    pub(crate) resource: Option<WrittenResource>,
    /// Why writing failed.
    pub(crate) error: Option<String>,
}

/// How far the present specification has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Written, not yet known to be enforced.
    Pending,
    /// The gateway enforces it.
    Enforced,
}

/// Everything that a status is made from.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) api: &'a Api,
    pub(crate) verdict: &'a Verdict,
    pub(crate) virtual_service: Outcome,
    pub(crate) policy: Outcome,
    pub(crate) progress: Progress,
    pub(crate) now: Timestamp,
}

/// The status that the facts ask for.
pub(crate) fn status(facts: &Facts<'_>) -> ApiStatus {
    let verdict = facts.verdict;
    let is_secured = facts.api.spec.is_secured();
    let (validation, route, lock) = codes(facts);
    let route_error = match (&verdict.host, &facts.virtual_service.error) {
        (HostOutcome::Occupied { .. }, _) if route == HOST_IN_USE => Some(host_in_use(&verdict.fqdn)),
        (_, Some(error)) if route == ERROR => Some(error.clone()),
        _ => None,
    };
    let virtual_service =
        ResourceStatus { code: route, last_error: route_error, resource: facts.virtual_service.resource.clone() };
    let authentication = is_secured.then(|| ResourceStatus {
        code: lock,
        last_error: match &verdict.authentication {
            Authentication::Failed(problem) if lock == ERROR => Some(problem.to_string()),
            _ if lock == ERROR => facts.policy.error.clone(),
            _ => None,
        },
        resource: facts.policy.resource.clone(),
    });
    let enforced_spec = match &verdict.enforced {
        Some(model) if !verdict.current => Some((*model.written).clone()),
        _ => None,
    };
    let mut status = ApiStatus {
        observed_generation: Some(verdict.generation),
        validation_status: Some(validation),
        virtual_service_status: Some(virtual_service.clone()),
        virtual_service: Some(virtual_service),
        authentication_status: authentication,
        enforced_spec,
        conditions: Vec::new(),
    };
    let previous = facts.api.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    status.conditions = [ready(facts, &status), secured(facts)]
        .into_iter()
        .map(|condition| dated(condition, previous, facts))
        .collect();
    status
}

fn codes(facts: &Facts<'_>) -> (i32, i32, i32) {
    match (&facts.verdict.validation, &facts.verdict.authentication, &facts.verdict.host) {
        (Validation::Protected { .. }, ..) => (ERROR, NOT_CREATED, NOT_CREATED),
        (Validation::ServiceOccupied { .. }, ..) => (SERVICE_OCCUPIED, NOT_CREATED, NOT_CREATED),
        (Validation::Valid, Authentication::Failed(_), HostOutcome::Occupied { .. }) => (SUCCESS, HOST_IN_USE, ERROR),
        (Validation::Valid, Authentication::Failed(_), _) => (SUCCESS, NOT_CREATED, ERROR),
        (Validation::Valid, _, HostOutcome::Occupied { .. }) => {
            (SUCCESS, HOST_IN_USE, if facts.policy.error.is_some() { ERROR } else { SUCCESS })
        }
        (Validation::Valid, ..) => {
            let route_failed = facts.virtual_service.error.is_some();
            let lock_failed = facts.policy.error.is_some();
            if lock_failed {
                // The route is not written before its lock.
                return (SUCCESS, NOT_CREATED, ERROR);
            }
            if route_failed {
                return (SUCCESS, ERROR, SUCCESS);
            }
            match facts.progress {
                Progress::Pending => (IN_PROGRESS, IN_PROGRESS, IN_PROGRESS),
                Progress::Enforced => (SUCCESS, SUCCESS, SUCCESS),
            }
        }
    }
}

fn host_in_use(fqdn: &str) -> String {
    format!("the hostname {fqdn} is already in use")
}

fn ready(facts: &Facts<'_>, status: &ApiStatus) -> Condition {
    let verdict = facts.verdict;
    let block_error = |block: &Option<ResourceStatus>| block.as_ref().and_then(|block| block.last_error.clone());
    let (state, reason, message) = match (&verdict.validation, &verdict.host) {
        (Validation::Protected { service }, _) => {
            let message = format!("service `{service}` is protected: expose it with authentication");
            ("False", "ValidationFailed", message)
        }
        (Validation::ServiceOccupied { by }, _) => {
            let service = &facts.api.spec.service.name;
            ("False", "ServiceOccupied", format!("service `{service}` is already exposed by {by}"))
        }
        (Validation::Valid, HostOutcome::Occupied { by }) => {
            ("False", "HostnameOccupied", format!("hostname `{}` is already used by {}", verdict.fqdn, holder(by)))
        }
        (Validation::Valid, _) => {
            match block_error(&status.authentication_status).or_else(|| block_error(&status.virtual_service_status)) {
                Some(error) => ("False", "Error", error),
                None if facts.progress == Progress::Pending => {
                    ("Unknown", "InProgress", "waiting for the gateway".to_owned())
                }
                None => ("True", "Programmed", format!("enforced on {}", verdict.fqdn)),
            }
        }
    };
    condition("Ready", state, reason, message)
}

fn secured(facts: &Facts<'_>) -> Condition {
    let spec = &facts.api.spec;
    if !spec.is_secured() {
        return condition("Secured", "False", "NotRequested", "requests need no token".to_owned());
    }
    let is_partial = spec.rules().iter().any(|rule| {
        !rule.jwt.excluded_paths().is_empty() || !rule.jwt.included_paths().is_empty() || !rule.jwt.methods().is_empty()
    });
    if is_partial {
        return condition("Secured", "True", "PartiallyExcluded", "some requests need no token".to_owned());
    }
    let insecure = spec.rules().iter().find(|rule| is_insecure_key_source(&rule.jwt.jwks_uri));
    match insecure {
        Some(rule) => {
            let message = format!("a token is needed; keys are fetched without TLS from {}", rule.jwt.jwks_uri);
            condition("Secured", "True", INSECURE_KEYS, message)
        }
        None => condition("Secured", "True", "JwtRequired", "requests need a token".to_owned()),
    }
}

fn condition(kind: &str, status: &str, reason: &str, message: String) -> Condition {
    Condition {
        kind: kind.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        last_transition_time: None,
        observed_generation: None,
    }
}

/// Keeps the time of the last change of the condition's status.
fn dated(condition: Condition, previous: &[Condition], facts: &Facts<'_>) -> Condition {
    let same = previous.iter().find(|old| old.kind == condition.kind && old.status == condition.status);
    // Kubernetes writes whole seconds; a finer time would differ from what is read back.
    let now = Timestamp::from_second(facts.now.as_second()).unwrap_or(facts.now);
    Condition {
        last_transition_time: same.and_then(|old| old.last_transition_time).or(Some(now)),
        observed_generation: Some(facts.verdict.generation),
        ..condition
    }
}

fn holder(holder: &Holder) -> String {
    match holder {
        Holder::System => "the platform itself".to_owned(),
        Holder::Object(object) => object.to_string(),
    }
}

/// The Event that a status is worth whose condition Ready says something new.
pub(crate) fn event_of(next: &ApiStatus) -> Option<(EventKind, &'static str, String)> {
    let now = next.conditions.iter().find(|condition| condition.kind == "Ready")?;
    let (kind, reason) = match now.reason.as_str() {
        "Programmed" => (EventKind::Normal, "Programmed"),
        "HostnameOccupied" => (EventKind::Warning, "HostnameOccupied"),
        "ServiceOccupied" => (EventKind::Warning, "ServiceOccupied"),
        "ValidationFailed" => (EventKind::Warning, "ProtectedService"),
        "Error" => (EventKind::Warning, "NotProgrammed"),
        _ => return None,
    };
    Some((kind, reason, now.message.clone()))
}

/// The Event that a status is worth whose keys can be changed by others on the way, unless the status before said so.
pub(crate) fn insecure_keys(previous: Option<&ApiStatus>, next: &ApiStatus) -> Option<String> {
    let told = |status: &ApiStatus| {
        let is_told = |condition: &&Condition| condition.kind == "Secured" && condition.reason == INSECURE_KEYS;
        status.conditions.iter().find(is_told).map(|condition| condition.message.clone())
    };
    if previous.and_then(told).is_some() { None } else { told(next) }
}

/// What an earlier status says was written.
pub(crate) fn written_before(block: Option<&ResourceStatus>) -> Option<WrittenResource> {
    block.and_then(|block| block.resource.clone())
}

#[cfg(test)]
mod tests;
