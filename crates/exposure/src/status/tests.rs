use serde_json::{Value, json};
use tidegate_policy::host::Domains;
use tidegate_policy::{Change, Index, Input, ObjectKind, ObjectRef, Options};

use super::*;

const NOW: &str = "2026-01-02T03:04:05.678Z";

fn api(name: &str, created: &str, spec: &Value) -> Api {
    serde_json::from_value(json!({
        "apiVersion": "gateway.kyma-project.io/v1alpha2", "kind": "Api",
        "metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}"), "generation": 1,
            "creationTimestamp": created, "resourceVersion": "7"},
        "spec": spec,
    }))
    .unwrap()
}

fn open(host: &str, service: &str) -> Value {
    json!({"hostname": host, "service": {"name": service, "port": 80}})
}

fn locked(host: &str, service: &str, trigger: &Value) -> Value {
    let jwt = json!({"issuer": "https://i", "jwksUri": "https://i/keys", "triggerRule": trigger});
    json!({"hostname": host, "service": {"name": service, "port": 80}, "authentication": [{"type": "JWT", "jwt": jwt}]})
}

/// The verdict about the last of `apis`, in the company of the others.
fn judged(apis: &[Api]) -> Verdict {
    let mut index = Index::new(Options::new(Domains::new(["localhost"])));
    for api in apis {
        index.apply(Change::Set(Input::Api(Box::new(api.clone()))));
    }
    let name = apis.last().unwrap().metadata.name.clone().unwrap();
    index.verdict(&ObjectRef::new(ObjectKind::Api, "default", name)).unwrap().clone()
}

fn written(version: &str) -> Outcome {
    let resource = WrittenResource { name: "a".to_owned(), uid: "u".to_owned(), version: version.to_owned() };
    Outcome { resource: Some(resource), error: None }
}

fn failed(error: &str) -> Outcome {
    Outcome { resource: None, error: Some(error.to_owned()) }
}

fn facts<'a>(api: &'a Api, verdict: &'a Verdict, virtual_service: Outcome, policy: Outcome) -> Facts<'a> {
    Facts { api, verdict, virtual_service, policy, progress: Progress::Enforced, now: NOW.parse().unwrap() }
}

/// Validation, route and lock codes (`None`: no block), and the reasons of Ready and Secured.
fn summary(status: &ApiStatus) -> (i32, i32, Option<i32>, String, String) {
    assert_eq!(status.virtual_service, status.virtual_service_status, "both blocks are always equal");
    let reason = |kind: &str| {
        status.conditions.iter().find(|condition| condition.kind == kind).map(|c| c.reason.clone()).unwrap_or_default()
    };
    (
        status.validation_status.unwrap(),
        status.virtual_service_status.as_ref().unwrap().code,
        status.authentication_status.as_ref().map(|block| block.code),
        reason("Ready"),
        reason("Secured"),
    )
}

fn row(
    validation: i32,
    route: i32,
    lock: Option<i32>,
    ready: &str,
    secured: &str,
) -> (i32, i32, Option<i32>, String, String) {
    (validation, route, lock, ready.to_owned(), secured.to_owned())
}

#[test]
fn an_enforced_api_has_code_2_everywhere() {
    let open_api = api("a", "2026-01-01T00:00:00Z", &open("a-host", "a"));
    let verdict = judged(std::slice::from_ref(&open_api));
    let status_of = status(&facts(&open_api, &verdict, written("9"), Outcome::default()));
    assert_eq!(summary(&status_of), row(2, 2, None, "Programmed", "NotRequested"));
    assert_eq!(status_of.observed_generation, Some(1));
    assert_eq!(status_of.virtual_service.unwrap().resource.unwrap().version, "9");
    assert!(status_of.enforced_spec.is_none());

    let locked_api = api("a", "2026-01-01T00:00:00Z", &locked("a-host", "a", &json!({})));
    let verdict = judged(std::slice::from_ref(&locked_api));
    let status_of = status(&facts(&locked_api, &verdict, written("9"), written("8")));
    assert_eq!(summary(&status_of), row(2, 2, Some(2), "Programmed", "JwtRequired"));
}

#[test]
fn before_the_gateway_answers_everything_is_in_progress() {
    let api = api("a", "2026-01-01T00:00:00Z", &locked("a-host", "a", &json!({})));
    let verdict = judged(std::slice::from_ref(&api));
    let facts = Facts { progress: Progress::Pending, ..facts(&api, &verdict, written("9"), written("8")) };
    assert_eq!(summary(&status(&facts)), row(1, 1, Some(1), "InProgress", "JwtRequired"));
}

#[test]
fn a_protected_service_needs_a_lock() {
    let api = api("a", "2026-01-01T00:00:00Z", &open("a-host", "kubernetes"));
    let verdict = judged(std::slice::from_ref(&api));
    let status = status(&facts(&api, &verdict, Outcome::default(), Outcome::default()));
    assert_eq!(summary(&status), row(3, 0, None, "ValidationFailed", "NotRequested"));
    let event = event_of(&status).unwrap();
    assert_eq!((event.0, event.1), (EventKind::Warning, "ProtectedService"));
}

#[test]
fn the_younger_api_of_a_service_gets_code_5() {
    let older = api("z", "2026-01-01T00:00:00Z", &open("z-host", "shared"));
    let younger = api("a", "2026-01-01T00:00:01Z", &locked("a-host", "shared", &json!({})));
    let verdict = judged(&[older, younger.clone()]);
    let status = status(&facts(&younger, &verdict, Outcome::default(), Outcome::default()));
    assert_eq!(summary(&status), row(5, 0, Some(0), "ServiceOccupied", "JwtRequired"));
    let ready = status.conditions.first().unwrap();
    assert_eq!(ready.message, "service `shared` is already exposed by Api/default/z");
}

#[test]
fn the_younger_api_of_a_host_gets_code_4_and_its_lock_is_written() {
    let older = api("z", "2026-01-01T00:00:00Z", &open("same", "z"));
    let younger = api("a", "2026-01-01T00:00:01Z", &locked("same", "a", &json!({})));
    let verdict = judged(&[older, younger.clone()]);
    let status = status(&facts(&younger, &verdict, Outcome::default(), written("3")));
    assert_eq!(summary(&status), row(2, 4, Some(2), "HostnameOccupied", "JwtRequired"));
    let route = status.virtual_service.unwrap();
    assert_eq!(route.last_error.as_deref(), Some("the hostname same.localhost is already in use"));
    assert!(route.resource.is_none());
}

#[test]
fn a_guard_that_cannot_be_enforced_is_code_3_and_nothing_is_opened() {
    let broken = json!({"excludedPaths": [{"regex": "("}]});
    let api = api("a", "2026-01-01T00:00:00Z", &locked("a-host", "a", &broken));
    let verdict = judged(std::slice::from_ref(&api));
    assert!(verdict.enforced.is_none());
    let status = status(&facts(&api, &verdict, Outcome::default(), Outcome::default()));
    assert_eq!(summary(&status), row(2, 0, Some(3), "Error", "PartiallyExcluded"));
    let error = status.authentication_status.unwrap().last_error.unwrap();
    assert!(error.starts_with("spec.authentication[0].jwt.triggerRule.excludedPaths"), "{error}");
}

#[test]
fn failed_writes_are_code_3_with_the_reason() {
    let api = api("a", "2026-01-01T00:00:00Z", &locked("a-host", "a", &json!({})));
    let verdict = judged(std::slice::from_ref(&api));
    let route_failed = status(&facts(&api, &verdict, failed("error while creating virtual service: x"), written("1")));
    assert_eq!(summary(&route_failed), row(2, 3, Some(2), "Error", "JwtRequired"));
    let lock_failed =
        status(&facts(&api, &verdict, Outcome::default(), failed("error while creating authentication policy: x")));
    assert_eq!(summary(&lock_failed), row(2, 0, Some(3), "Error", "JwtRequired"));
    let error = lock_failed.authentication_status.unwrap().last_error;
    assert_eq!(error.as_deref(), Some("error while creating authentication policy: x"));
}

#[test]
fn what_still_serves_is_remembered_while_an_edit_is_refused() {
    let mut edited = api("a", "2026-01-01T00:00:00Z", &open("a-host", "a"));
    let verdict = judged(std::slice::from_ref(&edited));
    edited.status = Some(status(&facts(&edited, &verdict, written("9"), Outcome::default())));
    let confirmed = edited.clone();
    edited.spec = serde_json::from_value(open("a-host", "kubernetes")).unwrap();
    edited.metadata.generation = Some(2);
    let verdict = judged(&[confirmed, edited.clone()]);
    let status = status(&facts(&edited, &verdict, written("9"), Outcome::default()));
    assert_eq!(summary(&status), row(3, 0, None, "ValidationFailed", "NotRequested"));
    assert_eq!(status.enforced_spec.unwrap().service.name, "a");
    assert!(status.virtual_service.unwrap().resource.is_some(), "the object that still serves is named");
}

#[test]
fn a_condition_keeps_its_time_until_its_status_changes() {
    let mut api = api("a", "2026-01-01T00:00:00Z", &open("a-host", "a"));
    let verdict = judged(std::slice::from_ref(&api));
    let first = status(&facts(&api, &verdict, written("9"), Outcome::default()));
    api.status = Some(first.clone());
    let later = Facts {
        now: "2026-02-01T00:00:00Z".parse().unwrap(),
        ..facts(&api, &verdict, written("9"), Outcome::default())
    };
    assert_eq!(status(&later), first);
    let pending = Facts { progress: Progress::Pending, ..later };
    let ready = status(&pending).conditions.into_iter().next().unwrap();
    assert_eq!(ready.last_transition_time.unwrap().to_string(), "2026-02-01T00:00:00Z");
}
