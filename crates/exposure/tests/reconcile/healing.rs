//! Conflicts: who holds what, and how they heal without an edit. SPEC 30 §2.4.

use serde_json::json;

use crate::common::{World, open, reason, secured};

#[tokio::test]
async fn a_service_in_use_is_code_5_and_heals_when_the_holder_goes_or_changes() {
    let world = World::start().await;
    world.create("a", &open("s", "one")).await;
    world.becomes("a", (2, 2, -1)).await;
    world.create("b", &secured("s", "two")).await;
    let status = world.becomes("b", (5, 0, 0)).await;
    assert_eq!(reason(&status, "Ready"), "ServiceOccupied");
    assert!(world.get("VirtualService", "b").await.is_none() && world.get("Policy", "b").await.is_none());
    world.event("Api", "b", "ServiceOccupied").await;
    world.create("c", &open("s", "three")).await;
    world.becomes("c", (5, 0, -1)).await;
    // The holder changes: the oldest of those that wait follows.
    world.edit("a", &json!({"service": {"name": "other"}})).await;
    world.becomes("b", (2, 2, 2)).await;
    world.becomes("a", (2, 2, -1)).await;
    world.becomes("c", (5, 0, -1)).await;
    // The holder goes.
    world.delete("b").await;
    world.becomes("c", (2, 2, -1)).await;
    world.stop().await;
}

#[tokio::test]
async fn a_host_in_use_is_code_4_and_heals_when_the_holder_goes_or_changes() {
    let world = World::start().await;
    world.create("a", &open("s1", "same")).await;
    world.becomes("a", (2, 2, -1)).await;
    world.create("b", &secured("s2", "SAME.localhost")).await;
    let status = world.becomes("b", (2, 4, 2)).await;
    assert_eq!(
        status["virtualService"],
        json!({"code": 4, "lastError": "the hostname same.localhost is already in use"})
    );
    assert_eq!(reason(&status, "Ready"), "HostnameOccupied");
    assert!(world.get("VirtualService", "b").await.is_none());
    let policy = world.get("Policy", "b").await.expect("a host in use does not stop the authentication step");
    assert_eq!(status["authenticationStatus"]["resource"]["uid"].as_str(), policy.metadata.uid.as_deref());
    world.event("Api", "b", "HostnameOccupied").await;
    world.edit("a", &json!({"hostname": "elsewhere"})).await;
    world.becomes("b", (2, 2, 2)).await;
    world.becomes("a", (2, 2, -1)).await;
    world.create("c", &open("s3", "same")).await;
    world.becomes("c", (2, 4, -1)).await;
    world.delete("b").await;
    world.becomes("c", (2, 2, -1)).await;
    world.stop().await;
}

#[tokio::test]
async fn virtual_services_of_users_reserve_hosts() {
    let world = World::start().await;
    world
        .write(
            "VirtualService",
            "users-own",
            &json!({"spec": {"hosts": ["Taken.localhost"], "unknown": {"kept": true}}}),
        )
        .await;
    world.event("VirtualService", "users-own", "NotProgrammed").await;
    world.create("a", &open("s", "taken")).await;
    world.becomes("a", (2, 4, -1)).await;
    world.remove("VirtualService", "users-own").await;
    world.becomes("a", (2, 2, -1)).await;
    // Nobody takes a host away from whoever serves on it.
    world.write("VirtualService", "late", &json!({"spec": {"hosts": ["taken.localhost"]}})).await;
    world.is_quiet().await;
    world.becomes("a", (2, 2, -1)).await;
    world.stop().await;
}

#[tokio::test]
async fn system_hosts_are_never_free() {
    let world = World::start().await;
    for (name, hostname) in [("a", "oauth2"), ("b", "console.localhost")] {
        world.create(name, &open(name, hostname)).await;
        world.becomes(name, (2, 4, -1)).await;
    }
    world.stop().await;
}

#[tokio::test]
async fn a_refused_edit_keeps_the_old_route_through_a_restart() {
    let mut world = World::start().await;
    world.create("a", &secured("s1", "one")).await;
    world.create("b", &open("s2", "two")).await;
    world.becomes("a", (2, 2, 2)).await;
    world.becomes("b", (2, 2, -1)).await;
    let route = world.get("VirtualService", "a").await.unwrap();
    world.edit("a", &json!({"hostname": "two"})).await;
    let status = world.becomes("a", (2, 4, 2)).await;
    assert_eq!(status["enforcedSpec"], secured("s1", "one"));
    assert_eq!(status["virtualService"]["resource"]["uid"].as_str(), route.metadata.uid.as_deref());
    // Somebody else cannot have the host that still serves, before and after a restart.
    world.create("c", &open("s3", "one")).await;
    world.becomes("c", (2, 4, -1)).await;
    world.stop_reconcilers().await;
    let quiet = world.is_quiet().await;
    world.start_reconcilers();
    assert_eq!(world.is_quiet().await, quiet, "a restart writes nothing");
    assert_eq!(world.get("VirtualService", "a").await.unwrap().data["spec"]["hosts"], json!(["one.localhost"]));
    // The holder goes: the edit takes effect, and its old host becomes free.
    world.delete("b").await;
    let status = world.becomes("a", (2, 2, 2)).await;
    assert!(status.get("enforcedSpec").is_none());
    let updated = world.get("VirtualService", "a").await.unwrap();
    assert_eq!(updated.data["spec"]["hosts"], json!(["two.localhost"]));
    assert_eq!(updated.metadata.uid, route.metadata.uid, "updated in place");
    world.becomes("c", (2, 2, -1)).await;
    world.stop().await;
}

#[tokio::test]
async fn an_edit_to_a_service_in_use_keeps_the_old_configuration() {
    let world = World::start().await;
    world.create("a", &open("s1", "one")).await;
    world.becomes("a", (2, 2, -1)).await;
    world.create("b", &secured("s2", "two")).await;
    world.becomes("b", (2, 2, 2)).await;
    world.edit("b", &json!({"service": {"name": "s1"}})).await;
    let status = world.becomes("b", (5, 0, 0)).await;
    assert!(status["virtualService"]["resource"]["uid"].is_string());
    assert!(status["authenticationStatus"]["resource"]["uid"].is_string());
    assert_eq!(status["enforcedSpec"], secured("s2", "two"));
    world.delete("a").await;
    world.becomes("b", (2, 2, 2)).await;
    world.stop().await;
}

#[tokio::test]
async fn an_edit_to_a_host_in_use_that_asks_for_a_guard_writes_the_guard() {
    let world = World::start().await;
    world.create("a", &open("s1", "one")).await;
    world.create("b", &open("s2", "two")).await;
    world.becomes("a", (2, 2, -1)).await;
    world.becomes("b", (2, 2, -1)).await;
    world.edit("b", &secured("s2", "one")).await;
    let status = world.becomes("b", (2, 4, 2)).await;
    let policy = world.get("Policy", "b").await.expect("code 2 speaks about an object");
    assert_eq!(status["authenticationStatus"]["resource"]["uid"].as_str(), policy.metadata.uid.as_deref());
    world.stop().await;
}
