//! Over real sockets, with time moved by hand.

use bytes::Bytes;
use http::StatusCode;
use jiff::Timestamp;
use tidegate_runtime::{AddressPolicy, AddressPolicyOptions, HttpClientOptions, ManualClock, http_client};
use tidegate_testkit::issuer::{Behavior, Issuer};

use super::*;

const PATIENT: JwksOptions = JwksOptions {
    ttl: Duration::from_mins(5),
    max_stale: Duration::from_hours(24),
    wait_for_first: Duration::from_secs(30),
    wait_for_demanded: Duration::from_secs(30),
};

fn patient() -> HttpClientOptions {
    HttpClientOptions { timeout: Duration::from_secs(30), ..HttpClientOptions::default() }
}

struct World {
    issuer: Issuer,
    hand: ManualClock,
    sources: KeySources,
    metrics: Metrics,
    events: Arc<Mutex<Vec<JwksEvent>>>,
}

impl World {
    /// With the intervals of the product, and limits that a busy machine keeps.
    async fn new() -> Self {
        Self::with(PATIENT, patient()).await
    }

    async fn with(options: JwksOptions, limits: HttpClientOptions) -> Self {
        let (clock, hand) = Clock::manual(Timestamp::from_second(1_800_000_000).unwrap());
        let metrics = Metrics::new();
        let events = Arc::<Mutex<Vec<JwksEvent>>>::default();
        let seen = Arc::clone(&events);
        let sources = KeySources::start(
            options,
            clock,
            Random::system(),
            Tasks::new(),
            http_client(&AddressPolicy::new(AddressPolicyOptions::default()), limits),
            &metrics,
            Some(Arc::new(move |event| seen.lock().push(event))),
        );
        Self { issuer: Issuer::start().await.unwrap(), hand, sources, metrics, events }
    }

    fn source(&self) -> Arc<KeySource> {
        self.sources.source(&self.issuer.jwks_uri())
    }

    fn pass(&self, seconds: u64) {
        self.hand.advance(Duration::from_secs(seconds));
        self.sources.sweep();
    }

    fn metric(&self, line: &str) -> bool {
        self.metrics.encode().lines().any(|own| own == line)
    }
}

/// Waits until `condition` holds; fails the test after ten seconds.
async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Waits until no fetch runs.
async fn settled(source: &KeySource) {
    eventually("the fetch ends", || !source.state.lock().in_flight).await;
}

fn kids(loaded: &LoadedKeys) -> Vec<String> {
    loaded.set().iter().map(|key| key.kid().unwrap_or_default().to_owned()).collect()
}

#[test]
fn logs_show_no_password_of_a_uri() {
    for (uri, expected) in [
        ("https://user:pa@ss@issuer.example:8443/keys?a=b", "https://issuer.example:8443/keys?a=b"),
        ("https://issuer.example/a@b", "https://issuer.example/a@b"),
        ("http://u@h", "http://h"),
        ("no uri", "no uri"),
    ] {
        assert_eq!(shown(uri), expected);
    }
}

#[tokio::test]
async fn keys_are_fetched_as_soon_as_a_route_names_them_and_shared_by_all_routes() {
    let world = World::new().await;
    let (one, two) = (world.source(), world.source());
    assert!(Arc::ptr_eq(&one, &two));
    eventually("prefetch", || one.loaded().is_some()).await;
    assert_eq!(kids(&two.keys().await.unwrap()), ["key-1"]);
    assert_eq!(world.issuer.fetches(), 1);
    assert!(world.metric(r#"tidegate_gateway_jwks_fetches_total{result="ok"} 1"#));
}

#[tokio::test]
async fn many_requests_that_need_the_first_keys_share_one_fetch() {
    let world = World::new().await;
    world.issuer.behave(Behavior::Slow(Duration::from_millis(50)));
    let source = world.source();
    let waiting = (0..100).map(|_| {
        let source = Arc::clone(&source);
        async move { source.keys().await.is_some() }
    });
    assert!(futures::future::join_all(waiting).await.into_iter().all(|found| found));
    assert_eq!(world.issuer.fetches(), 1);
}

#[tokio::test]
async fn a_set_is_refreshed_in_the_background_at_four_fifths_of_its_time() {
    let cases = [
        (None, 240),
        (Some("max-age=100"), 80),
        // Clamped to 30 s and to one hour.
        (Some("public, max-age=1"), 24),
        (Some("max-age=1000000"), 2_880),
    ];
    for (cache_control, refresh_after) in cases {
        let world = World::new().await;
        if let Some(value) = cache_control {
            world.issuer.set_cache_control(value);
        }
        let source = world.source();
        source.keys().await.unwrap();
        settled(&source).await;
        world.pass(refresh_after - 1);
        settled(&source).await;
        assert_eq!(world.issuer.fetches(), 1, "{cache_control:?}");
        world.issuer.mint().rotate(false).unwrap();
        world.pass(1);
        eventually("refresh", || kids(&source.loaded().unwrap()) == ["key-2"]).await;
        assert_eq!(world.issuer.fetches(), 2, "{cache_control:?}");
    }
}

#[tokio::test]
async fn keys_stay_in_use_while_they_are_refreshed() {
    let world = World::new().await;
    let source = world.source();
    source.keys().await.unwrap();
    world.issuer.behave(Behavior::Slow(Duration::from_mins(1)));
    world.pass(290);
    eventually("refresh begins", || world.issuer.fetches() == 2).await;
    assert_eq!(kids(&source.keys().await.unwrap()), ["key-1"]);
}

#[tokio::test]
async fn a_demanded_fetch_happens_at_most_every_ten_seconds() {
    let world = World::new().await;
    let source = world.source();
    let first = source.keys().await.unwrap();
    settled(&source).await;
    world.issuer.mint().rotate(false).unwrap();

    // A hundred at once cause one fetch and all get its result.
    let demands = (0..100).map(|_| source.newer_keys(&first));
    let found = futures::future::join_all(demands).await;
    assert!(found.iter().all(|loaded| kids(loaded.as_ref().unwrap()) == ["key-2"]));
    assert_eq!(world.issuer.fetches(), 2);

    let second = source.loaded().unwrap();
    settled(&source).await;
    world.issuer.mint().rotate(false).unwrap();
    world.pass(9);
    assert!(source.newer_keys(&second).await.is_none());
    assert_eq!(world.issuer.fetches(), 2);
    world.pass(1);
    assert_eq!(kids(&source.newer_keys(&second).await.unwrap()), ["key-3"]);
    assert_eq!(world.issuer.fetches(), 3);
}

#[tokio::test]
async fn a_request_does_not_wait_for_a_slow_issuer_but_the_fetch_goes_on() {
    let options = JwksOptions { wait_for_demanded: Duration::from_millis(20), ..PATIENT };
    let world = World::with(options, patient()).await;
    let source = world.source();
    let first = source.keys().await.unwrap();
    settled(&source).await;
    world.issuer.mint().rotate(false).unwrap();
    world.issuer.behave(Behavior::Slow(Duration::from_millis(200)));
    assert!(source.newer_keys(&first).await.is_none());
    eventually("the fetch ends", || kids(&source.loaded().unwrap()) == ["key-2"]).await;
    assert_eq!(world.issuer.fetches(), 2);
}

#[tokio::test]
async fn failures_are_retried_after_one_two_four_and_at_most_thirty_seconds() {
    let world = World::new().await;
    world.issuer.behave(Behavior::Status(StatusCode::BAD_GATEWAY));
    let source = world.source();
    assert!(source.keys().await.is_none());
    settled(&source).await;
    for (fetches, delay) in (1..).zip([1, 2, 4, 8, 16, 30, 30]) {
        // Not a moment earlier, whoever asks; and at the latest a fifth later.
        world.hand.advance(Duration::from_millis(delay * 1_000 - 100));
        world.sources.sweep();
        assert!(source.keys().await.is_none());
        settled(&source).await;
        assert_eq!(world.issuer.fetches(), fetches, "{delay} s");
        world.hand.advance(Duration::from_millis(delay * 200 + 100));
        world.sources.sweep();
        eventually("the retry", || world.issuer.fetches() == fetches + 1).await;
        settled(&source).await;
    }
    world.issuer.behave(Behavior::Good);
    world.pass(36);
    eventually("recovery", || source.loaded().is_some()).await;
}

#[tokio::test]
async fn keys_outlive_their_issuer_for_a_day_and_operators_hear_of_it_once() {
    let world = World::new().await;
    let source = world.source();
    source.keys().await.unwrap();
    settled(&source).await;
    world.issuer.behave(Behavior::Close);
    let generation = source.generation();
    for _ in 0..5 {
        world.pass(3_600);
        settled(&source).await;
    }
    assert!(source.keys().await.is_some());
    assert_eq!(world.issuer.fetches(), 6);
    assert!(matches!(
        world.events.lock().as_slice(),
        [JwksEvent::Unreachable { has_keys: true, uri, .. }] if **uri == *world.issuer.jwks_uri()
    ));
    assert!(world.metric("tidegate_gateway_jwks_age_seconds 18000.0"), "{}", world.metrics.encode());
    assert_eq!(source.generation(), generation);

    world.pass(19 * 3_600);
    assert!(source.loaded().is_some(), "a day to the second");
    settled(&source).await;
    world.pass(1);
    assert!(source.loaded().is_none());
    assert_ne!(source.generation(), generation);

    settled(&source).await;
    world.issuer.behave(Behavior::Good);
    world.pass(60);
    eventually("recovery", || source.loaded().is_some()).await;
    eventually("the event", || matches!(world.events.lock().last(), Some(JwksEvent::Recovered { .. }))).await;
    assert_eq!(world.events.lock().len(), 2);
}

#[tokio::test]
async fn a_bad_answer_gives_no_keys_and_keeps_the_old_ones() {
    let cases = [
        ("status", Behavior::Status(StatusCode::CREATED)),
        ("status", Behavior::Status(StatusCode::NOT_FOUND)),
        ("malformed", Behavior::Body(Bytes::from_static(b"<html>down for maintenance</html>"))),
        ("malformed", Behavior::Body(Bytes::new())),
        ("malformed", Behavior::Body(Bytes::from(format!(r#"{{"keys":[{}1]}}"#, "1,".repeat(256))))),
        ("too_large", Behavior::Huge(1 << 20)),
        ("timeout", Behavior::Slow(Duration::from_mins(5))),
        ("transport", Behavior::Close),
        ("redirect", Behavior::Redirect("/keys".to_owned())),
        ("redirect", Behavior::Redirect("ftp://127.0.0.1/keys".to_owned())),
        ("address", Behavior::Redirect("http://169.254.169.254/keys".to_owned())),
    ];
    for (result, behavior) in cases {
        // Only the slow issuer is given up on, and then soon.
        let timeout = if result == "timeout" { Duration::from_secs(1) } else { patient().timeout };
        let world = World::with(PATIENT, HttpClientOptions { timeout, ..patient() }).await;
        world.issuer.behave(behavior.clone());
        let source = world.source();
        assert!(source.keys().await.is_none(), "{behavior:?}");
        let line = format!(r#"tidegate_gateway_jwks_fetches_total{{result="{result}"}} 1"#);
        assert!(world.metric(&line), "{behavior:?}: {}", world.metrics.encode());

        world.issuer.behave(Behavior::Good);
        world.pass(2);
        source.keys().await.unwrap();
        settled(&source).await;
        world.issuer.behave(behavior.clone());
        world.pass(240);
        settled(&source).await;
        let line = format!(r#"tidegate_gateway_jwks_fetches_total{{result="{result}"}} 2"#);
        assert!(world.metric(&line), "{behavior:?}: {}", world.metrics.encode());
        assert_eq!(kids(&source.keys().await.unwrap()), ["key-1"], "{behavior:?}");
    }
}

#[tokio::test]
async fn a_redirect_to_the_keys_is_followed() {
    let world = World::new().await;
    world.issuer.behave(Behavior::Redirect("/moved".to_owned()));
    assert_eq!(kids(&world.source().keys().await.unwrap()), ["key-1"]);
}

#[tokio::test]
async fn an_address_that_may_not_be_asked_gives_no_keys_at_once() {
    let world = World::new().await;
    for uri in ["http://169.254.169.254/keys", "http://[::ffff:169.254.169.254]/", "http://2130706433/", "file:///x"] {
        assert!(world.sources.source(uri).keys().await.is_none(), "{uri}");
    }
    assert!(world.metric(r#"tidegate_gateway_jwks_fetches_total{result="address"} 4"#), "{}", world.metrics.encode());
}

#[tokio::test]
async fn the_generation_grows_when_a_key_is_removed_and_only_then() {
    let world = World::new().await;
    let source = world.source();
    let first = source.keys().await.unwrap();
    settled(&source).await;
    let key = first.set().iter().next().unwrap().id();
    let generation = source.generation();

    world.issuer.mint().rotate(true).unwrap();
    let second = source.newer_keys(&first).await.unwrap();
    assert_eq!(source.generation(), generation);
    assert!(source.still_has(key));

    settled(&source).await;
    world.pass(10);
    world.issuer.mint().rotate(false).unwrap();
    source.newer_keys(&second).await.unwrap();
    assert_ne!(source.generation(), generation);
    assert!(!source.still_has(key));
}

#[tokio::test]
async fn a_source_that_no_route_holds_is_forgotten() {
    let world = World::new().await;
    let source = world.source();
    source.keys().await.unwrap();
    settled(&source).await;
    drop(source);
    eventually("the last holder is gone", || world.sources.shared.sources.lock().is_empty()).await;
    world.pass(4_000);
    assert_eq!(world.issuer.fetches(), 1);
}

#[tokio::test]
async fn nobody_waits_for_a_fetch_that_shutdown_ended() {
    let world = World::new().await;
    world.issuer.behave(Behavior::Slow(Duration::from_mins(1)));
    let source = world.source();
    eventually("the fetch begins", || world.issuer.fetches() == 1).await;
    let waiting = source.keys();
    let tasks = world.sources.shared.tasks.clone();
    let (found, ended) = tokio::join!(waiting, tasks.close_and_wait(Duration::from_secs(5)));
    assert!(found.is_none() && ended);
}

#[test]
fn the_product_waits_as_long_as_the_specification_says() {
    let options = JwksOptions::default();
    assert_eq!((options.ttl, options.max_stale), (PATIENT.ttl, PATIENT.max_stale));
    assert_eq!(options.wait_for_first, Duration::from_secs(5));
    assert_eq!(options.wait_for_demanded, Duration::from_secs(2));
}

#[test]
fn the_backoff_grows_from_one_to_thirty_seconds() {
    let exact: Vec<_> = (0..8).map(|failures| backoff(failures, 0.0).as_secs()).collect();
    assert_eq!(exact, [1, 2, 4, 8, 16, 30, 30, 30]);
    assert_eq!(backoff(u32::MAX, 1.0), Duration::from_secs(36));
}
