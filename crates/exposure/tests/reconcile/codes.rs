//! Every code of SPEC 30 §2.7, reached by what a user does.

use serde_json::json;

use crate::common::{World, open, reason, rules, secured};

#[tokio::test]
async fn an_open_api_is_served_and_has_no_guard() {
    let world = World::start().await;
    world.create("a", &open("s", "Sample")).await;
    let status = world.becomes("a", (2, 2, -1)).await;
    assert_eq!((reason(&status, "Ready"), reason(&status, "Secured")), ("Programmed", "NotRequested"));
    assert!(status.get("enforcedSpec").is_none());
    let route = world.get("VirtualService", "a").await.unwrap();
    assert_eq!(route.data["spec"]["hosts"], json!(["sample.localhost"]));
    let written = &status["virtualService"]["resource"];
    assert_eq!((&written["name"], written["uid"].as_str()), (&json!("a"), route.metadata.uid.as_deref()));
    assert_eq!(written["version"].as_str(), route.metadata.resource_version.as_deref());
    assert!(world.get("Policy", "a").await.is_none());
    world.event("Api", "a", "Programmed").await;
    world.stop().await;
}

#[tokio::test]
async fn a_secured_api_has_a_guard_that_was_written_before_the_route() {
    let world = World::start().await;
    world.create("a", &secured("s", "sample")).await;
    let status = world.becomes("a", (2, 2, 2)).await;
    assert_eq!(reason(&status, "Secured"), "JwtRequired");
    let number = |block: &str| -> u64 { status[block]["resource"]["version"].as_str().unwrap().parse().unwrap() };
    assert!(number("authenticationStatus") < number("virtualService"), "{status:#}");
    world.stop().await;
}

#[tokio::test]
async fn success_waits_for_the_gateway() {
    let world = World::start().await;
    world.gate.close();
    world.create("a", &secured("s", "sample")).await;
    let status = world.becomes("a", (1, 1, 1)).await;
    assert_eq!(reason(&status, "Ready"), "InProgress");
    world.gate.open();
    world.becomes("a", (2, 2, 2)).await;
    world.gate.close();
    world.edit("a", &json!({"service": {"port": 81}})).await;
    let status = world.becomes("a", (1, 1, 1)).await;
    assert!(status["virtualService"]["resource"]["uid"].is_string(), "resources are kept");
    // A change that arrives while somebody waits is not held up by that.
    world.create("b", &open("kubernetes", "refused")).await;
    world.becomes("b", (3, 0, -1)).await;
    world.gate.open();
    world.becomes("a", (2, 2, 2)).await;
    world.stop().await;
}

#[tokio::test]
async fn a_gateway_that_is_behind_holds_nobody_else_up() {
    let world = World::start().await;
    world.gate.close();
    for number in 0..40 {
        world.create(&format!("waiting-{number}"), &open(&format!("s-{number}"), &format!("host-{number}"))).await;
    }
    world.becomes("waiting-39", (1, 1, -1)).await;
    world.create("refused", &open("kubernetes", "refused")).await;
    let began = tokio::time::Instant::now();
    world.becomes("refused", (3, 0, -1)).await;
    assert!(began.elapsed().as_secs() < 2, "{:?}", began.elapsed());
    world.gate.open();
    for number in 0..40 {
        world.becomes(&format!("waiting-{number}"), (2, 2, -1)).await;
    }
    world.stop().await;
}

#[tokio::test]
async fn a_protected_service_needs_a_guard() {
    let world = World::start().await;
    world.create("a", &open("kubernetes", "sample")).await;
    let status = world.becomes("a", (3, 0, -1)).await;
    assert_eq!(reason(&status, "Ready"), "ValidationFailed");
    assert!(world.get("VirtualService", "a").await.is_none());
    world.event("Api", "a", "ProtectedService").await;
    world.edit("a", &json!({"authentication": rules()})).await;
    world.becomes("a", (2, 2, 2)).await;
    // Opened again: refused, and the guarded earlier specification keeps serving.
    world.edit("a", &json!({"authentication": null})).await;
    let status = world.becomes("a", (3, 0, -1)).await;
    assert!(status["virtualService"]["resource"]["uid"].is_string());
    assert_eq!(status["enforcedSpec"]["authentication"], rules());
    assert!(world.get("Policy", "a").await.is_some() && world.get("VirtualService", "a").await.is_some());
    world.stop().await;
}

#[tokio::test]
async fn a_guard_that_cannot_be_enforced_opens_nothing() {
    let world = World::start().await;
    let broken =
        |trigger| json!([{"type": "JWT", "jwt": {"issuer": "i", "jwksUri": "https://k", "triggerRule": trigger}}]);
    let mut regex = open("s1", "one");
    regex["authentication"] = broken(json!({"excludedPaths": [{"regex": "("}]}));
    let mut scheme = open("s2", "two");
    scheme["authentication"] = json!([{"type": "JWT", "jwt": {"issuer": "i", "jwksUri": "ftp://k/keys"}}]);
    let mut nobody = open("s3", "three");
    nobody["authenticationEnabled"] = json!(true);
    for (name, spec, text) in
        [("regex", regex, "does not compile"), ("scheme", scheme, "http or https"), ("nobody", nobody, "defaultIssuer")]
    {
        world.create(name, &spec).await;
        let status = world.becomes(name, (2, 0, 3)).await;
        assert!(status["authenticationStatus"]["lastError"].as_str().unwrap().contains(text), "{status:#}");
        assert_eq!(reason(&status, "Ready"), "Error");
        assert!(world.get("VirtualService", name).await.is_none() && world.get("Policy", name).await.is_none());
    }
    // An open route is closed when its owner asks for a guard that cannot be had.
    world.create("open", &open("s4", "four")).await;
    world.becomes("open", (2, 2, -1)).await;
    world.edit("open", &json!({"authenticationEnabled": true})).await;
    world.becomes("open", (2, 0, 3)).await;
    world.is_gone("VirtualService", "open").await;
    world.stop().await;
}

#[tokio::test]
async fn a_name_that_is_taken_is_never_adopted() {
    let world = World::start().await;
    let spec = json!({"spec": {"hosts": ["mine.example"]}});
    world.write("VirtualService", "a", &spec).await;
    world.create("a", &open("s", "sample")).await;
    let status = world.becomes("a", (2, 3, -1)).await;
    let text = "error while creating virtual service: already exists and is not managed by this Api";
    assert_eq!(status["virtualService"]["lastError"], text);
    assert_eq!(world.get("VirtualService", "a").await.unwrap().data["spec"]["hosts"], json!(["mine.example"]));
    world.write("Policy", "b", &json!({"spec": {"targets": []}})).await;
    world.create("b", &secured("t", "other")).await;
    let status = world.becomes("b", (2, 0, 3)).await;
    let text = "error while creating authentication policy: already exists and is not managed by this Api";
    assert_eq!(status["authenticationStatus"]["lastError"], text);
    assert!(world.get("VirtualService", "b").await.is_none(), "no route without its guard");
    // Both heal when the name becomes free, without waiting for the next try.
    world.remove("VirtualService", "a").await;
    world.remove("Policy", "b").await;
    world.becomes("a", (2, 2, -1)).await;
    world.becomes("b", (2, 2, 2)).await;
    world.stop().await;
}

#[tokio::test]
async fn authentication_goes_on_and_off() {
    let world = World::start().await;
    world.create("a", &open("s", "sample")).await;
    let before = world.becomes("a", (2, 2, -1)).await;
    world.edit("a", &json!({"authentication": rules()})).await;
    let guarded = world.becomes("a", (2, 2, 2)).await;
    assert_eq!(before["virtualService"]["resource"]["uid"], guarded["virtualService"]["resource"]["uid"]);
    let policy = world.get("Policy", "a").await.unwrap();
    let mut partial = rules();
    partial[0]["jwt"]["triggerRule"] = json!({"excludedPaths": [{"exact": "/status"}]});
    world.edit("a", &json!({"authentication": partial})).await;
    world
        .sees("Policy", "a", "with the exclusion", |object| {
            object.data.pointer("/spec/origins/0/jwt/trigger_rules/0/excluded_paths/0/exact") == Some(&json!("/status"))
        })
        .await;
    let status = world.becomes("a", (2, 2, 2)).await;
    assert_eq!(reason(&status, "Secured"), "PartiallyExcluded");
    assert_eq!(status["authenticationStatus"]["resource"]["uid"].as_str(), policy.metadata.uid.as_deref());
    world.edit("a", &json!({"authenticationEnabled": false})).await;
    world.becomes("a", (2, 2, -1)).await;
    assert!(world.get("Policy", "a").await.is_none(), "the guard's object goes before its status block");
    world.stop().await;
}

#[tokio::test]
async fn a_long_name_is_no_error() {
    let world = World::start().await;
    let name = format!("a{}", "-long".repeat(20));
    world.create(&name, &open("s", "sample")).await;
    world.becomes(&name, (2, 2, -1)).await;
    world.stop().await;
}
