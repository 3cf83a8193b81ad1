//! Tokens of sample issuers, checked as requests would have them checked; keys come over real sockets.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};
use tidegate_kinds::api::PathMatch;
use tidegate_policy::guard::JwtRule;
use tidegate_policy::path_set::PathSet;
use tidegate_policy::{Guard, Reason};
use tidegate_runtime::{
    AddressPolicy, AddressPolicyOptions, Clock, HttpClientOptions, ManualClock, Metrics, Random, Tasks, http_client,
};
use tidegate_testkit::issuer::{Behavior, Issuer, Mint};
use tidegate_tokens::Algorithm;

use super::*;

const NOW: i64 = 1_800_000_000;

struct World {
    hand: ManualClock,
    sources: KeySources,
    authenticator: Authenticator,
    metrics: Metrics,
}

impl World {
    fn new() -> Self {
        Self::with(AuthOptions::default())
    }

    fn with(options: AuthOptions) -> Self {
        let (clock, hand) = Clock::manual(Timestamp::from_second(NOW).unwrap());
        let metrics = Metrics::new();
        let random = Random::system();
        let policy = AddressPolicy::new(AddressPolicyOptions::default());
        // Limits that a busy machine keeps.
        let patient = Duration::from_secs(30);
        let limits = HttpClientOptions { timeout: patient, ..HttpClientOptions::default() };
        let sources = KeySources::start(
            JwksOptions { wait_for_first: patient, wait_for_demanded: patient, ..JwksOptions::default() },
            clock.clone(),
            random,
            Tasks::new(),
            http_client(&policy, limits),
            &metrics,
            None,
        );
        let authenticator = Authenticator::new(options, clock, &random, sources.clone(), &metrics);
        Self { hand, sources, authenticator, metrics }
    }

    fn pass(&self, seconds: u64) {
        self.hand.advance(Duration::from_secs(seconds));
        self.sources.sweep();
    }

    fn route(&self, rules: impl IntoIterator<Item = JwtRule>) -> Route {
        let guard = Guard::Jwt(rules.into_iter().collect());
        let handle = self.authenticator.guard(&guard, &[]);
        Route { guard, handle }
    }

    async fn request(&self, route: &Route, path: &str, authorization: &[&str], query: &str) -> Outcome {
        let mut headers = HeaderMap::new();
        for value in authorization {
            headers.append(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        let applicable = route.guard.applicable(&Method::GET, path);
        self.authenticator.verify(&route.handle, applicable, &headers, Some(query)).await
    }

    async fn bearer(&self, route: &Route, token: &str) -> Outcome {
        self.request(route, "/", &[&format!("Bearer {token}")], "").await
    }
}

struct Route {
    guard: Guard,
    handle: GuardHandle,
}

type Outcome = Result<Option<Arc<VerifiedToken>>, AuthFailure>;

fn rule(issuer: &str, jwks_uri: &str, excluded: &[&str]) -> JwtRule {
    let excluded: Vec<_> = excluded.iter().map(|path| PathMatch::Exact((*path).to_owned())).collect();
    JwtRule {
        issuer: issuer.into(),
        jwks_uri: jwks_uri.into(),
        excluded: PathSet::compile(&excluded).unwrap(),
        included: None,
        methods: Box::default(),
    }
}

fn rule_of(issuer: &Issuer) -> JwtRule {
    rule(issuer.issuer(), &issuer.jwks_uri(), &[])
}

fn token(issuer: &Issuer) -> String {
    issuer.mint().token("jane", NOW + 3_600).unwrap()
}

fn subject(outcome: &Outcome) -> Option<&str> {
    outcome.as_ref().unwrap().as_ref().unwrap().verified().subject.as_deref()
}

#[track_caller]
fn denied(outcome: &Outcome, reason: Reason, body: &str) {
    let failure = outcome.as_ref().expect_err("the request should be refused");
    assert_eq!((failure.denied.reason, failure.denied.body), (reason, body));
}

const KEY_UNKNOWN: &str = "Jwks doesn't have key to match kid or alg from Jwt";

#[tokio::test]
async fn a_good_token_passes_and_says_whose_it_is() {
    let world = World::new();
    let issuer = Issuer::start().await.unwrap();
    let route = world.route([rule_of(&issuer)]);
    let claims = json!({ "sub": "jane", "aud": ["a", "b"], "scope": "read write", "exp": NOW + 60 });
    let outcome = world.bearer(&route, &issuer.mint().sign(&claims).unwrap()).await;
    let found = outcome.unwrap().unwrap();
    let verified = found.verified();
    assert_eq!(*verified.issuer, *issuer.issuer());
    assert_eq!(*verified.key_source, *issuer.jwks_uri());
    assert_eq!(verified.subject.as_deref(), Some("jane"));
    assert_eq!(verified.audience.iter().map(|text| &**text).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(verified.scopes.iter().map(|text| &**text).collect::<Vec<_>>(), ["read", "write"]);
    assert_eq!(verified.expires_at, Some(NOW + 60));
}

#[tokio::test]
async fn a_missing_token_is_401_or_as_configured_403_and_an_excluded_path_asks_for_none() {
    let issuer = Issuer::start().await.unwrap();
    for missing_is_forbidden in [false, true] {
        let world = World::with(AuthOptions { missing_is_forbidden, ..AuthOptions::default() });
        let route = world.route([rule(issuer.issuer(), &issuer.jwks_uri(), &["/open"])]);
        let outcome = world.request(&route, "/", &[], "").await;
        if missing_is_forbidden {
            denied(&outcome, Reason::TokenMissing, "RBAC: access denied");
            assert_eq!(outcome.unwrap_err().denied.status, StatusCode::FORBIDDEN);
        } else {
            denied(&outcome, Reason::TokenMissing, "Jwt is missing");
            assert_eq!(outcome.unwrap_err().challenge, Challenge::Realm);
        }
        // Not even looked at.
        for authorization in [&[][..], &["Bearer rubbish"], &["a", "b"]] {
            assert!(world.request(&route, "/open", authorization, "access_token=x").await.unwrap().is_none());
        }
    }
}

#[tokio::test]
async fn every_token_that_is_found_must_be_good() {
    let world = World::new();
    let issuer = Issuer::start().await.unwrap();
    let route = world.route([rule_of(&issuer)]);
    let (jane, joe) = (token(&issuer), issuer.mint().token("joe", NOW + 60).unwrap());
    let header = format!("bEARER {jane}");
    let request = async |authorization: &[&str], query: &str| world.request(&route, "/", authorization, query).await;

    assert_eq!(subject(&request(&[], &format!("a=b&access_token={joe}")).await), Some("joe"));
    assert_eq!(subject(&request(&[&header], &format!("access_token={joe}")).await), Some("jane"));
    assert_eq!(subject(&request(&["Basic eDp5"], &format!("access_token={joe}")).await), Some("joe"));
    let malformed = "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections";
    denied(&request(&[&header], "access_token=x").await, Reason::TokenMalformed, malformed);
    denied(&request(&[&header], "access_token=").await, Reason::TokenMalformed, malformed);
    let query = format!("access_token={joe}&access_token=x");
    denied(&request(&[], &query).await, Reason::TokenMalformed, malformed);
    let query = format!("access_token={joe}");
    denied(&request(&["Bearer x"], &query).await, Reason::TokenMalformed, malformed);
    denied(&request(&["Basic eDp5"], "").await, Reason::TokenMissing, "Jwt is missing");
    let twice = request(&[&header, &header], "").await;
    assert_eq!(twice.unwrap_err().denied.status, StatusCode::BAD_REQUEST);
    let large = format!("Bearer {}", "x".repeat(16 * 1024 + 1));
    denied(&request(&[&large], "").await, Reason::TokenMalformed, "Jwt is too large");
}

#[tokio::test]
async fn only_issuers_of_applicable_rules_count_and_only_with_their_own_keys() {
    let world = World::new();
    let (one, two) = (Issuer::start().await.unwrap(), Issuer::start().await.unwrap());
    let route =
        world.route([rule(one.issuer(), &one.jwks_uri(), &["/two-only"]), rule(two.issuer(), &two.jwks_uri(), &[])]);
    let of_one = format!("Bearer {}", token(&one));
    // Verified and in the cache from here on.
    assert!(world.request(&route, "/", &[&of_one], "").await.is_ok());
    assert!(world.bearer(&route, &token(&two)).await.is_ok());
    let outcome = world.request(&route, "/two-only", &[&of_one], "").await;
    denied(&outcome, Reason::IssuerUnknown, "Jwt issuer is not configured");

    // Another route that knows the issuer under another name, or not at all.
    let with_slash = world.route([rule(&format!("{}/", one.issuer()), &one.jwks_uri(), &[])]);
    denied(&world.bearer(&with_slash, &token(&one)).await, Reason::IssuerUnknown, "Jwt issuer is not configured");
    let foreign = world.route([rule_of(&two)]);
    denied(&world.bearer(&foreign, &token(&one)).await, Reason::IssuerUnknown, "Jwt issuer is not configured");

    // Issuer one says it is issuer two.
    let claims = json!({ "iss": two.issuer(), "sub": "root", "exp": NOW + 60 });
    let forged = one.mint().sign(&claims).unwrap();
    denied(&world.bearer(&route, &forged).await, Reason::SignatureInvalid, "Jwt verification fails");
    let anonymous = one.mint().key().sign(&json!({ "exp": NOW + 60 })).unwrap();
    denied(&world.bearer(&route, &anonymous).await, Reason::IssuerUnknown, "Jwt issuer is not configured");
}

#[tokio::test]
async fn two_key_sets_of_one_issuer_count_where_their_rules_apply() {
    let world = World::new();
    let (old, new) = (Issuer::start().await.unwrap(), Issuer::start().await.unwrap());
    let route = world.route([rule("shared", &old.jwks_uri(), &["/new"]), rule("shared", &new.jwks_uri(), &[])]);
    let sign = |issuer: &Issuer| {
        let claims = json!({ "iss": "shared", "sub": "jane", "exp": NOW + 60 });
        format!("Bearer {}", issuer.mint().sign(&claims).unwrap())
    };
    let (by_old, by_new) = (sign(&old), sign(&new));
    for _ in 0..2 {
        for (path, authorization, is_good) in
            [("/", &by_old, true), ("/", &by_new, true), ("/new", &by_new, true), ("/new", &by_old, false)]
        {
            let outcome = world.request(&route, path, &[authorization], "").await;
            assert_eq!(outcome.is_ok(), is_good, "{path}");
        }
    }
}

#[tokio::test]
async fn a_token_is_verified_once_however_many_requests_carry_it() {
    let world = World::new();
    let issuer = Issuer::start().await.unwrap();
    issuer.behave(Behavior::Slow(Duration::from_millis(50)));
    let route = world.route([rule_of(&issuer)]);
    // The same issuers for other paths: the same set of tokens.
    let other = world.route([rule(issuer.issuer(), &issuer.jwks_uri(), &["/x"])]);
    let token = token(&issuer);
    // At once, before there are keys…
    let outcomes = futures::future::join_all((0..50).map(|_| world.bearer(&route, &token))).await;
    assert!(outcomes.iter().all(|outcome| subject(outcome) == Some("jane")));
    // …and later.
    for _ in 0..50 {
        assert!(world.bearer(&other, &token).await.is_ok());
    }
    assert_eq!(world.authenticator.verifications(), 1);
    assert_eq!(world.authenticator.cache().len(), 1);
    assert_eq!(issuer.fetches(), 1);
    let text = world.metrics.encode();
    assert!(text.contains(r#"tidegate_gateway_auth_total{kind="jwt",result="ok",reason=""} 100"#), "{text}");
    assert!(text.contains("tidegate_gateway_signature_verifications_total 1"), "{text}");
}

#[tokio::test]
async fn a_known_token_is_accepted_without_awaiting_anything() {
    let world = World::new();
    let issuer = Issuer::start().await.unwrap();
    let route = world.route([rule_of(&issuer)]);
    let token = token(&issuer);
    assert!(world.bearer(&route, &token).await.is_ok());
    let outcome = world.bearer(&route, &token).now_or_never();
    assert_eq!(outcome.as_ref().map(subject), Some(Some("jane")));
}

#[tokio::test]
async fn what_fails_is_never_remembered() {
    let world = World::new();
    let issuer = Issuer::start().await.unwrap();
    let route = world.route([rule_of(&issuer)]);
    let good = token(&issuer);
    let forged = Mint::new(issuer.issuer(), Algorithm::Es256).unwrap().token("jane", NOW + 60).unwrap();
    for _ in 0..3 {
        denied(&world.bearer(&route, &forged).await, Reason::SignatureInvalid, "Jwt verification fails");
    }
    assert!(world.authenticator.cache().is_empty());
    assert!(world.bearer(&route, &good).await.is_ok());
    let line = r#"tidegate_gateway_auth_total{kind="jwt",result="denied",reason="signature_invalid"} 3"#;
    assert!(world.metrics.encode().contains(line));
}

#[tokio::test]
async fn a_token_in_the_cache_expires_to_the_second() {
    let world = World::new();
    let issuer = Issuer::start().await.unwrap();
    let route = world.route([rule_of(&issuer)]);
    let token = issuer.mint().token("jane", NOW + 30).unwrap();
    assert!(world.bearer(&route, &token).await.is_ok());
    world.hand.advance(Duration::from_secs(89));
    assert!(world.bearer(&route, &token).await.is_ok());
    world.hand.advance(Duration::from_secs(1));
    denied(&world.bearer(&route, &token).await, Reason::TokenExpired, "Jwt is expired");
    assert_eq!(world.authenticator.verifications(), 1);
}

#[tokio::test]
async fn a_verification_counts_for_five_minutes() {
    let world = World::new();
    let issuer = Issuer::start().await.unwrap();
    let route = world.route([rule_of(&issuer)]);
    let token = token(&issuer);
    for (pause, verifications) in [(0, 1), (299, 1), (1, 2), (299, 2), (1, 3)] {
        world.hand.advance(Duration::from_secs(pause));
        assert!(world.bearer(&route, &token).await.is_ok());
        assert_eq!(world.authenticator.verifications(), verifications);
    }
    assert_eq!(world.authenticator.cache().len(), 1);
}

#[tokio::test]
async fn a_rotated_key_works_at_once_and_again_after_ten_seconds() {
    let world = World::new();
    let issuer = Issuer::start().await.unwrap();
    let route = world.route([rule_of(&issuer)]);
    assert!(world.bearer(&route, &token(&issuer)).await.is_ok());

    issuer.mint().rotate(true).unwrap();
    assert!(world.bearer(&route, &token(&issuer)).await.is_ok(), "first rotation: without waiting");
    assert_eq!(issuer.fetches(), 2);

    issuer.mint().rotate(true).unwrap();
    denied(&world.bearer(&route, &token(&issuer)).await, Reason::KeyUnknown, KEY_UNKNOWN);
    world.pass(9);
    denied(&world.bearer(&route, &token(&issuer)).await, Reason::KeyUnknown, KEY_UNKNOWN);
    assert_eq!(issuer.fetches(), 2, "unknown key ids are answered from memory");
    world.pass(1);
    assert!(world.bearer(&route, &token(&issuer)).await.is_ok(), "second rotation: after ten seconds");
    assert_eq!(issuer.fetches(), 3);
}

#[tokio::test]
async fn a_key_replaced_under_its_own_id_is_noticed() {
    let world = World::new();
    let issuer = Issuer::start().await.unwrap();
    let route = world.route([rule_of(&issuer)]);
    let old = token(&issuer);
    assert!(world.bearer(&route, &old).await.is_ok());
    issuer.mint().replace_under_same_id().unwrap();
    assert!(world.bearer(&route, &token(&issuer)).await.is_ok());
    // The old key is gone, and with it what it had signed, cache or not.
    denied(&world.bearer(&route, &old).await, Reason::SignatureInvalid, "Jwt verification fails");
}

#[tokio::test]
async fn tokens_of_a_removed_key_stop_working_and_others_are_not_verified_again() {
    let world = World::new();
    let issuer = Issuer::start().await.unwrap();
    let route = world.route([rule_of(&issuer)]);
    let of_first = token(&issuer);
    issuer.mint().rotate(true).unwrap();
    let of_second = token(&issuer);
    assert!(world.bearer(&route, &of_first).await.is_ok());
    assert!(world.bearer(&route, &of_second).await.is_ok());
    let verifications = world.authenticator.verifications();

    // The third set lacks both the first and the second key but for the second, which signs on.
    let jwks = issuer.mint().jwks();
    let second_only: Vec<Value> =
        jwks["keys"].as_array().unwrap().iter().filter(|key| key["kid"] == "key-2").cloned().collect();
    issuer.behave(Behavior::Body(json!({ "keys": second_only }).to_string().into()));
    world.pass(240);
    let source = world.sources.source(&issuer.jwks_uri());
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while source.loaded().unwrap().set().len() != 1 {
        assert!(tokio::time::Instant::now() < deadline, "the background refresh never came");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(world.bearer(&route, &of_second).await.is_ok());
    assert_eq!(world.authenticator.verifications(), verifications);
    denied(&world.bearer(&route, &of_first).await, Reason::KeyUnknown, KEY_UNKNOWN);
}

#[tokio::test]
async fn an_issuer_that_never_answered_refuses_until_it_does() {
    let world = World::new();
    let issuer = Issuer::start().await.unwrap();
    issuer.behave(Behavior::Close);
    let route = world.route([rule_of(&issuer)]);
    let token = token(&issuer);
    for _ in 0..3 {
        let outcome = world.bearer(&route, &token).await;
        denied(&outcome, Reason::JwksUnavailable, "Jwks remote fetch is failed");
        assert_eq!(outcome.unwrap_err().challenge, Challenge::InvalidToken);
    }
    issuer.behave(Behavior::Good);
    world.hand.advance(Duration::from_secs(2));
    assert!(world.bearer(&route, &token).await.is_ok());
}

#[tokio::test]
async fn tokens_work_on_while_their_issuer_is_away() {
    let world = World::new();
    let issuer = Issuer::start().await.unwrap();
    let route = world.route([rule_of(&issuer)]);
    let later = issuer.mint().token("jane", NOW + 100_000).unwrap();
    assert!(world.bearer(&route, &later).await.is_ok());
    issuer.stop();
    world.pass(23 * 3_600);
    assert!(world.bearer(&route, &later).await.is_ok());
    world.pass(3_601);
    denied(&world.bearer(&route, &later).await, Reason::JwksUnavailable, "Jwks remote fetch is failed");
}

#[tokio::test]
async fn claims_become_headers_of_the_routes_that_ask_for_them() {
    let world = World::new();
    let issuer = Issuer::start().await.unwrap();
    let guard = Guard::Jwt(Box::new([rule_of(&issuer)]));
    let names: Vec<(HeaderName, String)> =
        [("x-user", "sub"), ("x-groups", "groups"), ("x-mail", "mail"), ("x-bad", "bad")]
            .map(|(name, claim)| (HeaderName::from_static(name), claim.to_owned()))
            .into();
    let handle = world.authenticator.guard(&guard, &names);
    let claims = json!({ "sub": "jane", "groups": ["a", "b"], "bad": "a\r\nX-Admin: yes", "exp": NOW + 60 });
    let token = issuer.mint().sign(&claims).unwrap();
    let applicable = guard.applicable(&Method::GET, "/");
    for _ in 0..2 {
        let found = world.authenticator.verify_token(&handle, applicable, &token).await.unwrap();
        let headers: Vec<_> =
            found.claim_headers().iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(headers, [("x-user", "jane"), ("x-groups", "a,b")]);
    }
    let plain = world.route([rule_of(&issuer)]);
    assert!(world.bearer(&plain, &token).await.unwrap().unwrap().claim_headers().is_empty());
}

#[tokio::test]
async fn the_cache_stays_within_its_bytes() {
    let world = World::with(AuthOptions { cache_bytes: 256 * 1024, ..AuthOptions::default() });
    let issuer = Issuer::start().await.unwrap();
    let route = world.route([rule_of(&issuer)]);
    for number in 0..1_000 {
        let token = issuer.mint().token(&format!("user-{number}-{}", "x".repeat(200)), NOW + 60).unwrap();
        assert!(world.bearer(&route, &token).await.is_ok());
    }
    let cache = world.authenticator.cache();
    assert!(cache.len() > 100, "{cache:?}");
    assert!(cache.bytes() <= 256 * 1024, "{cache:?}");
}
