#![expect(clippy::needless_pass_by_value, reason = "`json!` literals are handed over as they are")]

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::Domains;

fn index() -> Index {
    Index::new(Options::new(Domains::new(["localhost"])))
}

fn at(second: i64) -> String {
    Timestamp::from_second(second).unwrap().to_string()
}

fn api_ref(name: &str) -> ObjectRef {
    ObjectRef::new(ObjectKind::Api, "default", name)
}

/// An Api of namespace `default`, created at a second, with more fields merged into spec and status.
fn api(name: &str, second: i64, generation: i64, spec: Value, status: Value) -> Api {
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "default", "uid": name, "generation": generation, "creationTimestamp": at(second)},
        "spec": spec,
        "status": status,
    }))
    .unwrap()
}

fn spec(service: &str, hostname: &str) -> Value {
    json!({"service": {"name": service, "port": 80}, "hostname": hostname})
}

fn secured(service: &str, hostname: &str) -> Value {
    json!({"service": {"name": service, "port": 80}, "hostname": hostname,
           "authentication": [{"type": "JWT", "jwt": {"issuer": "i", "jwksUri": "http://k/keys"}}]})
}

fn confirmed(generation: i64) -> Value {
    json!({"observedGeneration": generation, "validationStatus": 2, "virtualServiceStatus": {"code": 2}})
}

fn set(index: &mut Index, api: Api) -> Vec<String> {
    names(index.apply(Change::Set(Input::Api(Box::new(api)))))
}

fn names(dirty: Vec<ObjectRef>) -> Vec<String> {
    dirty.into_iter().map(|object| object.name).collect()
}

fn verdict<'i>(index: &'i Index, name: &str) -> &'i Verdict {
    index.verdict(&api_ref(name)).unwrap()
}

fn virtual_service(name: &str, second: i64, hosts: &[&str], owner: Option<&str>) -> Change {
    let owners = owner.map(|name| {
        json!([{"apiVersion": "gateway.kyma-project.io/v1alpha2", "kind": "Api", "name": name, "uid": name, "controller": true}])
    });
    let object = serde_json::from_value(json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
        "metadata": {"name": name, "namespace": "other", "creationTimestamp": at(second), "ownerReferences": owners},
        "spec": {"hosts": hosts},
    }));
    Change::Set(Input::VirtualService(Box::new(object.unwrap())))
}

fn enforced_host(index: &Index, name: &str) -> Option<String> {
    verdict(index, name).enforced.as_ref().map(|model| model.host.clone())
}

#[test]
fn a_lone_api_is_enforced() {
    let mut index = index();
    assert_eq!(set(&mut index, api("a", 1, 1, spec("s", "A"), json!(null))), ["a"]);
    let verdict = verdict(&index, "a");
    assert!(verdict.current);
    assert_eq!((verdict.fqdn.as_str(), &verdict.authentication), ("a.localhost", &Authentication::Off));
    assert_eq!(set(&mut index, api("a", 1, 1, spec("s", "A"), confirmed(1))), [""; 0], "a status changes nothing");
}

#[test]
fn the_oldest_api_has_the_service_and_the_next_one_follows() {
    let mut index = index();
    set(&mut index, api("b", 1, 1, spec("s", "b"), json!(null)));
    assert_eq!(
        set(&mut index, api("a", 1, 1, spec("s", "a"), json!(null))),
        ["a", "b"],
        "same second: the name decides"
    );
    assert_eq!(verdict(&index, "b").validation, Validation::ServiceOccupied { by: api_ref("a") });
    assert_eq!(set(&mut index, api("c", 2, 1, spec("s", "c"), json!(null))), ["c"], "nobody else is touched");
    assert_eq!(names(index.apply(Change::Removed(api_ref("a")))), ["a", "b", "c"]);
    assert!(verdict(&index, "b").current);
    assert_eq!(verdict(&index, "c").validation, Validation::ServiceOccupied { by: api_ref("b") });
}

#[test]
fn a_host_in_use_is_not_taken_and_becomes_free_by_itself() {
    let mut index = index();
    set(&mut index, api("a", 5, 1, spec("s1", "same"), confirmed(1)));
    set(&mut index, api("b", 1, 1, secured("s2", "SAME"), json!(null)));
    let waiting = verdict(&index, "b");
    assert_eq!(
        waiting.host,
        HostOutcome::Occupied { by: Holder::Object(api_ref("a")) },
        "an established holder wins over age"
    );
    assert_eq!((waiting.authentication.clone(), waiting.current), (Authentication::Ready, false));
    assert_eq!(names(index.apply(Change::Removed(api_ref("a")))), ["a", "b"]);
    assert!(verdict(&index, "b").current);
}

#[test]
fn an_edit_keeps_the_old_host_until_the_new_one_can_be_had() {
    let mut index = index();
    set(&mut index, api("a", 1, 1, spec("s1", "one"), confirmed(1)));
    set(&mut index, api("b", 2, 1, spec("s2", "two"), confirmed(1)));
    assert_eq!(set(&mut index, api("a", 1, 2, spec("s1", "two"), confirmed(1))), ["a"]);
    assert_eq!(enforced_host(&index, "a").as_deref(), Some("one.localhost"));
    assert!(!verdict(&index, "a").current);
    // A third one cannot have the host that still serves.
    set(&mut index, api("c", 3, 1, spec("s3", "one"), json!(null)));
    assert_eq!(verdict(&index, "c").host, HostOutcome::Occupied { by: Holder::Object(api_ref("a")) });
    // The holder moves away: the waiting one follows, and its old host is free once its status is confirmed.
    assert_eq!(
        set(&mut index, api("b", 2, 2, spec("s2", "three"), confirmed(1))),
        ["b"],
        "its old host is still its own"
    );
    assert_eq!(set(&mut index, api("b", 2, 2, spec("s2", "three"), confirmed(2))), ["a"]);
    assert_eq!(enforced_host(&index, "a").as_deref(), Some("two.localhost"));
    assert_eq!(set(&mut index, api("a", 1, 2, spec("s1", "two"), confirmed(2))), ["c"]);
    assert!(verdict(&index, "c").current);
}

#[test]
fn a_guard_that_was_in_force_is_not_taken_back_by_a_conflict() {
    let mut index = index();
    set(&mut index, api("old", 1, 1, spec("other", "old"), confirmed(1)));
    set(&mut index, api("a", 5, 1, spec("s", "a"), confirmed(1)));
    set(&mut index, api("a", 5, 2, secured("s", "a"), confirmed(1)));
    assert!(verdict(&index, "a").current, "the guard is in force, the status does not say so yet");
    // An older Api takes the Service in this moment.
    set(&mut index, api("old", 1, 2, spec("s", "old"), confirmed(1)));
    assert_eq!(verdict(&index, "a").validation, Validation::ServiceOccupied { by: api_ref("old") });
    assert_eq!(enforced_host(&index, "a"), None, "and not the open specification from before");
    set(&mut index, api("a", 5, 2, secured("s", "a"), confirmed(1)));
    assert_eq!(enforced_host(&index, "a"), None);
    // A guard that never was in force leaves what serves, whatever it wanted.
    set(&mut index, api("b", 6, 1, spec("t", "b"), confirmed(1)));
    set(&mut index, api("b", 6, 2, secured("s", "b"), confirmed(1)));
    assert_eq!(enforced_host(&index, "b"), Some("b.localhost".to_owned()));
}

#[test]
fn after_a_restart_the_status_remembers_what_served() {
    let mut index = index();
    let status = json!({"observedGeneration": 2, "validationStatus": 2, "virtualServiceStatus": {"code": 4}, "enforcedSpec": spec("s1", "one")});
    set(&mut index, api("a", 1, 2, spec("s1", "two"), status));
    set(&mut index, api("b", 2, 1, spec("s2", "two"), confirmed(1)));
    set(&mut index, api("c", 0, 1, spec("s3", "one"), json!(null)));
    assert_eq!(enforced_host(&index, "a").as_deref(), Some("one.localhost"));
    assert_eq!(enforced_host(&index, "b").as_deref(), Some("two.localhost"));
    assert_eq!(enforced_host(&index, "c"), None);
}

#[test]
fn a_protected_service_needs_authentication() {
    let mut index = index();
    set(&mut index, api("a", 1, 1, spec("kubernetes", "k8s"), json!(null)));
    assert_eq!(verdict(&index, "a").validation, Validation::Protected { service: "kubernetes.default".to_owned() });
    assert_eq!(verdict(&index, "a").host, HostOutcome::NotAsked);
    set(&mut index, api("a", 1, 2, secured("kubernetes", "k8s"), json!(null)));
    assert!(verdict(&index, "a").current);
    // Back to open: refused, and the guarded earlier specification keeps serving.
    set(&mut index, api("a", 1, 3, spec("kubernetes", "k8s"), json!(null)));
    let refused = verdict(&index, "a");
    assert!(!refused.current);
    assert!(refused.enforced.as_ref().unwrap().guard.is_secured());

    let mut denying = Index::new(Options { protected_mode: crate::ProtectedMode::Deny, ..index.options().clone() });
    set(&mut denying, api("a", 1, 1, secured("kubernetes", "k8s"), json!(null)));
    assert!(matches!(verdict(&denying, "a").validation, Validation::Protected { .. }));
}

#[test]
fn a_guard_that_cannot_be_enforced_opens_nothing() {
    let broken = json!({"service": {"name": "s", "port": 80}, "hostname": "a",
        "authentication": [{"type": "JWT", "jwt": {"issuer": "i", "jwksUri": "nowhere"}}]});
    let no_issuer = json!({"service": {"name": "s", "port": 80}, "hostname": "a", "authenticationEnabled": true});
    for (before, after, serves) in [
        (spec("s", "a"), broken.clone(), false),
        (spec("s", "a"), no_issuer.clone(), false),
        (secured("s", "a"), broken, true),
        (secured("s", "a"), no_issuer, false),
    ] {
        let mut index = index();
        set(&mut index, api("a", 1, 1, before, confirmed(1)));
        set(&mut index, api("a", 1, 2, after, confirmed(1)));
        let verdict = verdict(&index, "a");
        assert!(matches!(verdict.authentication, Authentication::Failed(_)));
        assert_eq!(verdict.enforced.is_some(), serves);
        assert!(!verdict.current);
    }
}

#[test]
fn virtual_services_of_users_reserve_their_hosts() {
    let mut index = index();
    index.apply(virtual_service("vs", 9, &["Taken.localhost", "*.localhost"], None));
    set(&mut index, api("a", 1, 1, spec("s", "taken"), json!(null)));
    let by = Holder::Object(ObjectRef::new(ObjectKind::VirtualService, "other", "vs"));
    assert_eq!(verdict(&index, "a").host, HostOutcome::Occupied { by });
    set(&mut index, api("b", 1, 1, spec("s2", "free"), json!(null)));
    assert!(verdict(&index, "b").current, "a wildcard of somebody else is no conflict");
    assert_eq!(names(index.apply(virtual_service("vs", 9, &["elsewhere.localhost"], None))), ["a"]);
    assert!(verdict(&index, "a").current);
    // Projections are never inputs.
    set(&mut index, api("a", 1, 1, spec("s", "taken"), confirmed(1)));
    assert_eq!(index.apply(virtual_service("a", 1, &["taken.localhost", "free.localhost"], Some("a"))), []);
    assert!(!index.reserves_hosts(&ObjectRef::new(ObjectKind::VirtualService, "other", "a")));
}

#[test]
fn system_hosts_belong_to_the_product() {
    let mut index = index();
    for hostname in ["oauth2", "gateway.localhost", "Console"] {
        set(&mut index, api("a", 1, 1, spec("s", hostname), json!(null)));
        assert_eq!(verdict(&index, "a").host, HostOutcome::Occupied { by: Holder::System }, "{hostname}");
        assert!(verdict(&index, "a").enforced.is_none());
    }
}

#[test]
fn a_deleted_api_serves_nothing_but_keeps_its_host_until_it_is_gone() {
    let mut index = index();
    let mut gone = api("a", 1, 1, spec("s", "same"), confirmed(1));
    set(&mut index, gone.clone());
    gone.metadata.deletion_timestamp = gone.metadata.creation_timestamp.clone();
    assert_eq!(set(&mut index, gone), ["a"]);
    assert!(verdict(&index, "a").enforced.is_none() && verdict(&index, "a").deleting);
    set(&mut index, api("b", 2, 1, spec("s2", "same"), json!(null)));
    assert!(!verdict(&index, "b").current);
    index.apply(Change::Removed(api_ref("a")));
    assert!(verdict(&index, "b").current);
}

#[test]
fn a_recreated_object_inherits_nothing() {
    let mut index = index();
    set(&mut index, api("a", 1, 1, spec("s", "one"), confirmed(1)));
    let mut again = api(
        "a",
        9,
        1,
        json!({"service": {"name": "s", "port": 80}, "hostname": "one", "authenticationEnabled": true}),
        json!(null),
    );
    again.metadata.uid = Some("other".to_owned());
    set(&mut index, again);
    assert!(verdict(&index, "a").enforced.is_none());
}

#[test]
fn changes_of_a_service_reach_its_users_only() {
    let mut index = index();
    set(&mut index, api("a", 1, 1, spec("s1", "one"), json!(null)));
    set(&mut index, api("b", 1, 1, spec("s2", "two"), json!(null)));
    let service = |port: u16| {
        let object = json!({"metadata": {"name": "s1", "namespace": "default"},
            "spec": {"type": "ExternalName", "externalName": "127.0.0.1", "ports": [{"port": 80, "targetPort": port}]}});
        Change::Set(Input::Service(Box::new(serde_json::from_value(object).unwrap())))
    };
    assert_eq!(names(index.apply(service(3000))), ["a"]);
    assert_eq!(names(index.apply(service(3000))), [""; 0]);
    assert_eq!(names(index.apply(service(3001))), ["a"]);
    let slice = |service: &str, address: &str| {
        let object = json!({"metadata": {"name": "x", "namespace": "default", "labels": {"kubernetes.io/service-name": service}},
            "addressType": "IPv4", "ports": [{"port": 1}], "endpoints": [{"addresses": [address]}]});
        Change::Set(Input::EndpointSlice(Box::new(serde_json::from_value(object).unwrap())))
    };
    assert_eq!(names(index.apply(slice("s2", "127.0.0.1"))), ["b"]);
    assert_eq!(names(index.apply(slice("s2", "127.0.0.1"))), [""; 0]);
    assert_eq!(names(index.apply(slice("s1", "127.0.0.1"))), ["a", "b"], "a slice that moves touches both");
    let removed = Change::Removed(ObjectRef::new(ObjectKind::EndpointSlice, "default", "x"));
    assert_eq!(names(index.apply(removed)), ["a"]);
}

#[test]
fn an_annotation_changes_the_route_without_a_new_generation() {
    let mut index = index();
    set(&mut index, api("a", 1, 1, spec("s", "one"), confirmed(1)));
    let mut annotated = api("a", 1, 1, spec("s", "one"), confirmed(1));
    annotated.metadata.annotations = Some([("tidegate.io/strip-token".to_owned(), "true".to_owned())].into());
    assert_eq!(set(&mut index, annotated), ["a"]);
    assert!(verdict(&index, "a").enforced.as_ref().unwrap().token.strip);
}

/// Small worlds in which conflicts are common.
fn changes() -> impl Strategy<Value = Vec<Change>> {
    let api = (0_u8..5, 0_i64..3, 0_u8..3, 0_u8..4, any::<bool>(), 0_u8..3).prop_map(
        |(name, second, service, host, is_secured, status)| {
            let name = format!("api-{name}");
            let (service, host) =
                (["s1", "s2", "kubernetes"][usize::from(service)], ["h1", "h2", "h3", "oauth2"][usize::from(host)]);
            let spec = if is_secured { secured(service, host) } else { spec(service, host) };
            let status = match status {
                0 => json!(null),
                1 => confirmed(1),
                _ => json!({"observedGeneration": 1, "validationStatus": 5, "enforcedSpec": self::spec("s1", "h1")}),
            };
            Change::Set(Input::Api(Box::new(api(&name, second, 1, spec, status))))
        },
    );
    let reserved = (0_u8..3, 0_i64..3, 0_u8..4).prop_map(|(name, second, host)| {
        virtual_service(&format!("vs-{name}"), second, &[&format!("h{host}.localhost")], None)
    });
    prop::collection::vec(prop_oneof![3 => api, 1 => reserved], 1..10)
}

fn object_of(change: &Change) -> String {
    match change {
        Change::Set(Input::Api(api)) => format!("Api/{}", api.metadata.name.as_deref().unwrap()),
        Change::Set(Input::VirtualService(object)) => {
            format!("VirtualService/{}", object.metadata.name.as_deref().unwrap())
        }
        other => panic!("{other:?}"),
    }
}

fn summary(index: &Index) -> BTreeMap<String, Verdict> {
    index.verdicts().map(|verdict| (verdict.object.name.clone(), verdict.clone())).collect()
}

fn fed(changes: impl IntoIterator<Item = Change>) -> (Index, HashMap<String, Verdict>) {
    let mut index = index();
    // What somebody knows who only looks at the objects that were reported.
    let mut told: HashMap<String, Verdict> = HashMap::new();
    for change in changes {
        for dirty in index.apply(change) {
            match index.verdict(&dirty) {
                Some(verdict) => told.insert(dirty.name.clone(), verdict.clone()),
                None => told.remove(&dirty.name),
            };
        }
    }
    (index, told)
}

proptest! {
    /// The same objects give the same verdicts in whatever order they arrive.
    #[test]
    fn order_does_not_matter(changes in changes(), seed in any::<u64>()) {
        let mut unique: BTreeMap<String, Change> = BTreeMap::new();
        for change in changes {
            unique.insert(object_of(&change), change);
        }
        let forward: Vec<Change> = unique.into_values().collect();
        let mut shuffled = forward.clone();
        let mut state = seed | 1;
        for at in (1..shuffled.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            shuffled.swap(at, usize::try_from(state >> 33).unwrap() % (at + 1));
        }
        prop_assert_eq!(summary(&fed(forward).0), summary(&fed(shuffled).0));
    }

    /// Whoever follows the reported objects knows everything, after every kind of history.
    #[test]
    fn nothing_changes_unreported(changes in changes(), removed in prop::collection::vec(0_u8..5, 0..4)) {
        let removals = removed.into_iter().map(|name| Change::Removed(api_ref(&format!("api-{name}"))));
        let (index, told) = fed(changes.into_iter().chain(removals));
        prop_assert_eq!(summary(&index), told.into_iter().collect::<BTreeMap<_, _>>());
    }

    /// One host has one route, a system host none, and a refused specification is never what is enforced.
    #[test]
    fn a_host_is_served_by_one_object(changes in changes()) {
        let (index, _) = fed(changes);
        let mut hosts = BTreeSet::new();
        for verdict in index.verdicts() {
            if let Some(model) = &verdict.enforced {
                prop_assert!(hosts.insert(model.host.clone()), "{} twice", model.host);
                prop_assert!(!index.options().domains.is_system_name(&model.host));
                prop_assert_eq!(&model.object, &verdict.object);
            }
            prop_assert!(!verdict.current || verdict.validation == Validation::Valid);
            prop_assert!(!verdict.current || verdict.host == HostOutcome::Held);
        }
    }

    /// When everything is removed again, nothing is left behind.
    #[test]
    fn an_emptied_index_is_empty(changes in changes()) {
        let (mut index, _) = fed(changes.clone());
        for change in &changes {
            let (kind, name) = object_of(change).split_once('/').map(|(kind, name)| (kind.to_owned(), name.to_owned())).unwrap();
            let object = if kind == "Api" { api_ref(&name) } else { ObjectRef::new(ObjectKind::VirtualService, "other", name) };
            index.apply(Change::Removed(object));
        }
        prop_assert!(index.apis.is_empty() && index.service_claims.is_empty() && index.earlier_users.is_empty());
        prop_assert!(index.host_claims.is_empty() && index.reservations.is_empty());
    }
}
