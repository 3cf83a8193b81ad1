//! Waiting for an Api, and saying why it does not get there.

use std::time::Duration;

use kube::ResourceExt as _;
use kube::api::Api as Objects;
use tidegate_kinds::api::{Api, ResourceStatus};
use tokio::time::Instant;

use crate::exit::{Code, Failure, Outcome};
use crate::kube_access::{self, Access};
use crate::output;

use super::PAUSE;

/// What the status of an Api says about its present spec.
#[derive(Debug, PartialEq, Eq)]
enum State {
    Enforced,
    Pending(String),
    /// Somebody else has the host or the service; heals only when the other one goes.
    Conflict(String),
    /// Nothing but an edit helps.
    Refused(String),
}

/// Waits until the gateway enforces this generation of `api`.
pub(super) async fn until_enforced(access: &Access, api: &Api, limit: Duration) -> Outcome {
    let apis: Objects<Api> = Objects::namespaced(access.client.clone(), &access.namespace);
    let name = api.name_any();
    let what = format!("api `{}/{name}` not enforced", access.namespace);
    let next = format!("kubectl describe api {name} -n {}", access.namespace);
    let start = Instant::now();
    let mut said = false;
    loop {
        let current = apis.get(&name).await.map_err(|error| kube_access::failure(&what, &error))?;
        let message = match state(&current) {
            State::Enforced => return Ok(()),
            State::Conflict(message) => {
                return Err(Failure::new(format!("{what}: {message}")).code(Code::Conflict).detail("details", next));
            }
            State::Refused(message) => return Err(Failure::new(format!("{what}: {message}")).detail("details", next)),
            State::Pending(message) => message,
        };
        if start.elapsed() >= limit {
            let failure = Failure::new(format!("{what} within {limit:?}: {message}"));
            return Err(failure.code(Code::Timeout).detail("details", next));
        }
        if !said && start.elapsed() > Duration::from_secs(1) {
            output::note(format_args!("waiting for code 2 of api `{}/{name}`: {message}", access.namespace));
            said = true;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Waits until an Api is really gone, its route included.
pub(super) async fn until_gone(apis: &Objects<Api>, api: &Api, limit: Duration) -> Outcome {
    let name = api.name_any();
    let what = format!("api `{name}` not removed");
    let start = Instant::now();
    loop {
        let current = apis.get_opt(&name).await.map_err(|error| kube_access::failure(&what, &error))?;
        if current.is_none_or(|current| current.uid() != api.uid()) {
            return Ok(());
        }
        if start.elapsed() >= limit {
            let failure = Failure::new(format!("{what} within {limit:?}: it still has finalizers"));
            return Err(failure.code(Code::Timeout).detail("details", format!("kubectl get api {name} -o yaml")));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn state(api: &Api) -> State {
    let unseen = || State::Pending("this generation was not looked at yet".to_owned());
    let Some(status) = &api.status else { return unseen() };
    if status.observed_generation != api.metadata.generation {
        return unseen();
    }
    let ready = status.conditions.iter().find(|condition| condition.kind == "Ready");
    let say = |part: Option<&ResourceStatus>, fallback: &str| {
        let error = part.and_then(|part| part.last_error.clone()).filter(|error| !error.is_empty());
        let message = || ready.map(|ready| ready.message.clone()).filter(|message| !message.is_empty());
        error.or_else(message).unwrap_or_else(|| fallback.to_owned())
    };
    let host = status.virtual_service_status.as_ref();
    let authentication = status.authentication_status.as_ref();
    let validation = status.validation_status.unwrap_or_default();
    match (validation, host.map_or(0, |host| host.code), authentication.map(|authentication| authentication.code)) {
        (2, 2, None | Some(2)) => State::Enforced,
        (5, ..) => State::Conflict(say(None, "another Api holds its service")),
        (_, 4, _) => State::Conflict(say(host, "its host is in use")),
        (3, ..) => State::Refused(say(None, "its validation failed")),
        (.., Some(3)) => State::Refused(say(authentication, "its authentication cannot be enforced")),
        // A failed write is tried again by the platform.
        (_, 3, _) => State::Pending(say(host, "writing failed")),
        _ => State::Pending(say(None, "in progress")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn check(status: &Value, expected: &State) {
        let api: Api = serde_json::from_value(json!({
            "apiVersion": "gateway.kyma-project.io/v1alpha2", "kind": "Api",
            "metadata": {"name": "a", "generation": 3},
            "spec": {"hostname": "a", "service": {"name": "a", "port": 80}}, "status": status,
        }))
        .unwrap();
        assert_eq!(&state(&api), expected, "{status}");
    }

    #[test]
    fn the_codes_of_a_status_say_whether_to_wait() {
        let vs = |code: i64| json!({"code": code});
        check(&Value::Null, &State::Pending("this generation was not looked at yet".to_owned()));
        check(
            &json!({"observedGeneration": 2, "validationStatus": 2, "virtualServiceStatus": vs(2)}),
            &State::Pending("this generation was not looked at yet".to_owned()),
        );
        check(
            &json!({"observedGeneration": 3, "validationStatus": 2, "virtualServiceStatus": vs(2)}),
            &State::Enforced,
        );
        check(
            &json!({"observedGeneration": 3, "validationStatus": 2, "virtualServiceStatus": vs(2), "authenticationStatus": vs(1)}),
            &State::Pending("in progress".to_owned()),
        );
        check(
            &json!({"observedGeneration": 3, "validationStatus": 2,
                "virtualServiceStatus": {"code": 4, "lastError": "the hostname a.localhost is already in use"}}),
            &State::Conflict("the hostname a.localhost is already in use".to_owned()),
        );
        check(
            &json!({"observedGeneration": 3, "validationStatus": 5, "virtualServiceStatus": vs(0)}),
            &State::Conflict("another Api holds its service".to_owned()),
        );
        check(
            &json!({"observedGeneration": 3, "validationStatus": 2, "virtualServiceStatus": vs(2),
                "authenticationStatus": {"code": 3, "lastError": "bad regex"}}),
            &State::Refused("bad regex".to_owned()),
        );
    }
}
