use std::time::Duration;

use http::Method;
use proptest::prelude::*;
use tidegate_kinds::ApiSpec;
use tidegate_kinds::api::{PathMatch, ServiceTarget};

use super::*;
use crate::guard::{Guard, JwtRule};
use crate::path_set::PathSet;
use crate::{Host, NormalizedPath, ObjectKind, RouteModel, Scheme, ServiceRef, TokenForwarding};

fn object(name: &str) -> ObjectRef {
    ObjectRef::new(ObjectKind::Api, "default", name)
}

fn route(name: &str, host: &str, generation: i64, guard: Guard) -> (ObjectRef, Option<Route<()>>) {
    let model = RouteModel {
        object: object(name),
        uid: name.to_owned(),
        generation,
        host: host.to_owned(),
        service: ServiceRef { namespace: "default".to_owned(), name: "s".to_owned(), port: 80 },
        guard,
        cors: None,
        timeout: Duration::from_secs(1),
        token: TokenForwarding::default(),
        written: Arc::new(ApiSpec {
            service: ServiceTarget { name: "s".to_owned(), port: 80 },
            hostname: host.to_owned(),
            authentication_enabled: None,
            disable_istio_auth_policy_mtls: None,
            authentication: None,
        }),
    };
    (object(name), Some(Route { model: Arc::new(model), handle: () }))
}

fn open(name: &str, host: &str, generation: i64) -> (ObjectRef, Option<Route<()>>) {
    route(name, host, generation, Guard::Open)
}

fn served(table: &Table<()>, host: &str) -> Option<(String, i64)> {
    table.host(host).map(|entry| (entry.route.model.object.name.clone(), entry.route.model.generation))
}

fn select(table: &Table<()>, path: &str) -> Result<bool, NoRoute> {
    let host = Host::parse_authority("a.localhost").unwrap();
    let path = NormalizedPath::parse(path).unwrap();
    let facts = RequestFacts { scheme: Scheme::Http, host: &host, method: &Method::GET, path: &path };
    table.select(&facts).map(|selected| !selected.rules.is_empty())
}

#[test]
fn the_most_specific_host_wins() {
    let (table, mut writer) = Table::new();
    writer.publish([
        open("exact", "a.b.localhost", 1),
        open("near", "*.b.localhost", 1),
        open("far", "*.localhost", 1),
        open("all", "*", 1),
    ]);
    for (host, name) in [
        ("a.b.localhost", "exact"),
        ("c.b.localhost", "near"),
        ("x.y.b.localhost", "near"),
        ("b.localhost", "far"),
        ("other.example", "all"),
        ("localhost", "all"),
    ] {
        assert_eq!(served(&table, host).map(|(name, _)| name).as_deref(), Some(name), "{host}");
    }
    writer.publish([(object("all"), None)]);
    assert_eq!(served(&table, "other.example"), None);
    assert_eq!(table.routes().len(), 3);
    assert_eq!(table.revision(), 2);
}

#[test]
fn a_host_moves_with_its_object() {
    let (table, mut writer) = Table::new();
    writer.publish([open("one", "a.localhost", 1)]);
    writer.publish([open("one", "b.localhost", 2)]);
    assert_eq!(served(&table, "a.localhost"), None);
    assert_eq!(served(&table, "b.localhost"), Some(("one".to_owned(), 2)));
    assert_eq!(writer.published(&object("one")), Some(2));
    writer.publish([(object("one"), None)]);
    assert_eq!(writer.published(&object("one")), None);
    assert!(table.routes().is_empty());
}

#[test]
fn a_late_removal_does_not_take_the_host_from_its_new_holder() {
    let (table, mut writer) = Table::new();
    writer.publish([open("old", "a.localhost", 1)]);
    writer.publish([open("new", "a.localhost", 1)]);
    assert_eq!(writer.published(&object("old")), None);
    writer.publish([(object("old"), None)]);
    assert_eq!(served(&table, "a.localhost"), Some(("new".to_owned(), 1)));
}

#[test]
fn hosts_can_be_exchanged_in_one_publication() {
    let (table, mut writer) = Table::new();
    writer.publish([open("one", "a.localhost", 1), open("two", "b.localhost", 1)]);
    writer.publish([open("one", "b.localhost", 2), open("two", "a.localhost", 2)]);
    assert_eq!(served(&table, "a.localhost"), Some(("two".to_owned(), 2)));
    assert_eq!(served(&table, "b.localhost"), Some(("one".to_owned(), 2)));
    assert_eq!(writer.published(&object("one")), Some(2));
    assert_eq!(writer.published(&object("two")), Some(2));
}

#[test]
fn a_path_that_hides_another_exclusion_is_refused() {
    let (table, mut writer) = Table::new();
    let rule = JwtRule {
        issuer: "i".into(),
        jwks_uri: "http://k".into(),
        excluded: PathSet::compile(&[PathMatch::Prefix("/open/".into())]).unwrap(),
        included: None,
        methods: Box::default(),
    };
    writer.publish([route("one", "a.localhost", 1, Guard::Jwt(Box::new([rule])))]);
    assert_eq!(select(&table, "/open/x"), Ok(false));
    assert_eq!(select(&table, "/closed"), Ok(true));
    assert_eq!(select(&table, "/files/a%2Fb"), Ok(true));
    assert_eq!(select(&table, "/open%2Fx"), Err(NoRoute::AmbiguousPath));
    assert_eq!(select(&table, "/open/..%2Fclosed"), Err(NoRoute::AmbiguousPath));
    writer.publish([(object("one"), None)]);
    assert_eq!(select(&table, "/"), Err(NoRoute::Host));
}

proptest! {
    /// Whatever is published in whatever batches, the table holds for each object what was published last, as a plain
    /// map of hosts would.
    #[test]
    fn the_table_is_what_a_map_would_be(
        batches in prop::collection::vec(prop::collection::vec((0_u8..6, prop::option::of(0_u8..8)), 1..4), 1..20),
    ) {
        let (table, mut writer) = Table::new();
        let mut model: BTreeMap<u8, u8> = BTreeMap::new();
        for (batch, generation) in batches.into_iter().zip(1..) {
            // Two objects never hold one host: the index sees to that, so the generator does too.
            let mut changes: BTreeMap<u8, Option<u8>> = BTreeMap::new();
            for (name, host) in batch {
                let mut next = model.clone();
                for (name, host) in &changes {
                    match host { Some(host) => next.insert(*name, *host), None => next.remove(name) };
                }
                next.remove(&name);
                if host.is_none_or(|host| !next.values().any(|taken| *taken == host)) {
                    changes.insert(name, host);
                }
            }
            writer.publish(changes.iter().map(|(name, host)| match host {
                Some(host) => open(&name.to_string(), &format!("h{host}.localhost"), generation),
                None => (object(&name.to_string()), None),
            }));
            for (name, host) in changes {
                match host { Some(host) => model.insert(name, host), None => model.remove(&name) };
            }
            for host in 0..8 {
                let expected = model.iter().find(|(_, held)| **held == host).map(|(name, _)| name.to_string());
                prop_assert_eq!(served(&table, &format!("h{host}.localhost")).map(|(name, _)| name), expected);
            }
            prop_assert_eq!(table.routes().len(), model.len());
        }
    }
}
