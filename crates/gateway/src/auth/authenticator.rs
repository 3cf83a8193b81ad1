//! Verifies the tokens of a request, warm or cold.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use tidegate_policy::guard::RuleSet;
use tidegate_policy::{Guard, Verified};
use tidegate_runtime::{Clock, Metrics, Random};
use tidegate_tokens::{AlgorithmSet, JwtError, KeyId, MAX_TOKEN_BYTES, TimeRules, UnverifiedJwt, VerificationKey};

use super::cache::{TokenCache, VerifiedToken};
use super::extract::{bearer, query_tokens};
use super::jwks::LoadedKeys;
use super::metrics::AuthMetrics;
use super::{AuthFailure, KeySource, KeySources};

/// How tokens are judged (`exposure.jwt.*` of SPEC 30 §11) and how many are remembered.
#[derive(Clone, Copy, Debug)]
pub struct AuthOptions {
    /// `nbf` and `exp`.
    pub times: TimeRules,
    /// The algorithms that are accepted.
    pub algorithms: AlgorithmSet,
    /// A missing token is answered as Istio does, 403, and not 401.
    pub missing_is_forbidden: bool,
    /// How long a verification counts at most.
    pub max_age: Duration,
    /// Size of the cache in bytes.
    pub cache_bytes: usize,
}

impl Default for AuthOptions {
    /// Skew 60 s, `exp` required, all asymmetric algorithms, 401, 300 s, 64 MiB.
    fn default() -> Self {
        Self {
            times: TimeRules::default(),
            algorithms: AlgorithmSet::ALL,
            missing_is_forbidden: false,
            max_age: Duration::from_mins(5),
            cache_bytes: 64 << 20,
        }
    }
}

/// Verifies tokens. One for the process; shared by reference or `Arc`.
pub struct Authenticator {
    options: AuthOptions,
    clock: Clock,
    sources: KeySources,
    cache: TokenCache,
    metrics: AuthMetrics,
}

/// What a route's guard needs for verification, resolved once. It keeps the key sources of its issuers alive.
#[derive(Debug)]
pub struct GuardHandle {
    /// Tokens verified for one set are not taken for another.
    policy_set: u64,
    /// In the order of the guard's rules.
    rules: Box<[RuleHandle]>,
    claim_headers: Box<[(HeaderName, String)]>,
}

#[derive(Debug)]
struct RuleHandle {
    issuer: Arc<str>,
    jwks_uri: Arc<str>,
    source: Arc<KeySource>,
}

impl GuardHandle {
    fn of(&self, applicable: RuleSet) -> impl Iterator<Item = &RuleHandle> {
        self.rules.iter().enumerate().filter(move |(at, _)| applicable.contains(*at)).map(|(_, rule)| rule)
    }

    /// Whether one of the applicable rules is the one that the token was verified for.
    fn accepts(&self, applicable: RuleSet, token: &Verified) -> bool {
        self.of(applicable).any(|rule| rule.issuer == token.issuer && rule.jwks_uri == token.key_source)
    }
}

impl Authenticator {
    /// An authenticator with an empty cache.
    pub fn new(options: AuthOptions, clock: Clock, random: &Random, sources: KeySources, metrics: &Metrics) -> Self {
        let cache = TokenCache::new(options.cache_bytes, random);
        Self { options, clock, sources, cache, metrics: AuthMetrics::register(metrics) }
    }

    /// Resolves a guard, at publication: issuers that no route had before begin to be fetched now. `claim_headers` are
    /// the headers that the route makes from claims.
    pub fn guard(&self, guard: &Guard, claim_headers: &[(HeaderName, String)]) -> GuardHandle {
        let rules: Box<[_]> = guard
            .rules()
            .iter()
            .map(|rule| RuleHandle {
                issuer: Arc::clone(&rule.issuer),
                jwks_uri: Arc::clone(&rule.jwks_uri),
                source: self.sources.source(&rule.jwks_uri),
            })
            .collect();
        // Guards with the same issuers share their tokens, in whatever order and for whatever paths they name them.
        let issuers: BTreeSet<_> = rules.iter().map(|rule| (&*rule.issuer, &*rule.jwks_uri)).collect();
        let issuers = issuers.into_iter().flat_map(|(issuer, uri)| [issuer, uri]);
        let headers = claim_headers.iter().flat_map(|(name, claim)| [name.as_str(), claim.as_str()]);
        // Issuers come in pairs and an empty issuer cannot be configured, so the separator is unambiguous.
        let policy_set = self.cache.policy_set(issuers.chain([""]).chain(headers));
        GuardHandle { policy_set, rules, claim_headers: claim_headers.into() }
    }

    /// Checks the tokens of a request against the rules that apply to it. `query`: without the question mark.
    ///
    /// Returns the token found in the header, else the first of the query; `None` when no rule applies. Every token
    /// that is found must be good.
    ///
    /// Errors: the answer to the request. Reason words and texts are those of SPEC 30 §5.2, rows 1 to 10.
    pub async fn verify(
        &self,
        guard: &GuardHandle,
        applicable: RuleSet,
        headers: &HeaderMap,
        query: Option<&str>,
    ) -> Result<Option<Arc<VerifiedToken>>, AuthFailure> {
        if applicable.is_empty() {
            return Ok(None);
        }
        let outcome = self.verify_all(guard, applicable, headers, query).await;
        self.metrics.count(outcome.as_ref().err());
        outcome.map(Some)
    }

    async fn verify_all(
        &self,
        guard: &GuardHandle,
        applicable: RuleSet,
        headers: &HeaderMap,
        query: Option<&str>,
    ) -> Result<Arc<VerifiedToken>, AuthFailure> {
        let mut found = None;
        if let Some(token) = bearer(headers)? {
            found = Some(self.verify_token(guard, applicable, token).await?);
        }
        for token in query_tokens(query.unwrap_or_default()) {
            let token = self.verify_token(guard, applicable, &token).await?;
            found.get_or_insert(token);
        }
        found.ok_or_else(|| {
            if self.options.missing_is_forbidden { AuthFailure::MISSING_AS_FORBIDDEN } else { JwtError::Missing.into() }
        })
    }

    /// Checks one token against the rules that apply: rows 2 to 10 of SPEC 30 §5.2.
    ///
    /// Errors: the first row that fails.
    pub async fn verify_token(
        &self,
        guard: &GuardHandle,
        applicable: RuleSet,
        token: &str,
    ) -> Result<Arc<VerifiedToken>, JwtError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(JwtError::TooLarge);
        }
        let now = self.clock.unix_seconds();
        let key = self.cache.key(guard.policy_set, token);
        if let Some(known) = self.cache.get(&key, now)
            && guard.accepts(applicable, known.verified())
        {
            return Ok(known);
        }
        // The cheap rows first: what fails them is never waited for and leaves no trace in the cache.
        let cold = Cold::parse(self, guard, applicable, token, now)?;
        match self.cache.get_or_reserve(&key, now).await {
            // Verified by another request while this one waited, or for a rule that does not apply here.
            Ok(known) if known.is_current(now) && guard.accepts(applicable, known.verified()) => Ok(known),
            Ok(_) => Ok(Arc::new(cold.verify(self, guard).await?)),
            Err(vacancy) => {
                let verified = Arc::new(cold.verify(self, guard).await?);
                // It is refused only when the entry is gone again, which costs a verification and nothing else.
                let _ = vacancy.insert(Arc::clone(&verified));
                Ok(verified)
            }
        }
    }

    /// The cache, for measurements and `/debug`.
    pub fn cache(&self) -> &TokenCache {
        &self.cache
    }

    /// How many signatures were verified so far.
    pub fn verifications(&self) -> u64 {
        self.metrics.verifications.get()
    }
}

impl std::fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authenticator")
            .field("options", &self.options)
            .field("cache", &self.cache)
            .finish_non_exhaustive()
    }
}

/// A token that passed rows 2 to 7, and the rules it may have been issued for.
struct Cold<'t, 'g> {
    jwt: UnverifiedJwt<'t>,
    /// At least one; rules with one key source appear once.
    rules: Vec<&'g RuleHandle>,
    now: i64,
}

impl<'t, 'g> Cold<'t, 'g> {
    fn parse(
        authenticator: &Authenticator,
        guard: &'g GuardHandle,
        applicable: RuleSet,
        token: &'t str,
        now: i64,
    ) -> Result<Self, JwtError> {
        let jwt = UnverifiedJwt::parse(token, authenticator.options.algorithms)?;
        let issuer = jwt.claims().issuer.as_deref().ok_or(JwtError::IssuerNotConfigured)?;
        let mut rules: Vec<&RuleHandle> = Vec::new();
        for rule in guard.of(applicable).filter(|rule| *rule.issuer == *issuer) {
            if !rules.iter().any(|own| Arc::ptr_eq(&own.source, &rule.source)) {
                rules.push(rule);
            }
        }
        if rules.is_empty() {
            return Err(JwtError::IssuerNotConfigured);
        }
        jwt.check_times(now, authenticator.options.times)?;
        Ok(Self { jwt, rules, now })
    }

    /// Rows 8 to 10, against each key source in turn. The error is that of the source that came farthest.
    async fn verify(&self, authenticator: &Authenticator, guard: &GuardHandle) -> Result<VerifiedToken, JwtError> {
        let mut farthest = JwtError::JwksUnavailable;
        for rule in &self.rules {
            // Read before the keys: should this key be removed meanwhile, the next hit looks for it again.
            let generation = rule.source.generation();
            match self.check(&rule.source, authenticator).await {
                Ok(key) => return Ok(self.accepted(authenticator, guard, rule, key, generation)),
                Err(JwtError::JwksUnavailable) => {}
                Err(JwtError::KeyUnknown) if farthest == JwtError::SignatureInvalid => {}
                Err(error) => farthest = error,
            }
        }
        Err(farthest)
    }

    /// Tries the keys at hand; when they do not verify the token, newer ones. SPEC 30 §5.4.
    async fn check(&self, source: &Arc<KeySource>, authenticator: &Authenticator) -> Result<KeyId, JwtError> {
        let loaded = source.keys().await.ok_or(JwtError::JwksUnavailable)?;
        match self.try_keys(&loaded, authenticator) {
            Ok(key) => Ok(key),
            Err(error) => {
                let newer = source.newer_keys(&loaded).await.ok_or(error)?;
                self.try_keys(&newer, authenticator)
            }
        }
    }

    fn try_keys(&self, keys: &LoadedKeys, authenticator: &Authenticator) -> Result<KeyId, JwtError> {
        let outcome = self.jwt.check_signature(keys.set());
        if !matches!(outcome, Err(JwtError::KeyUnknown)) {
            authenticator.metrics.verifications.inc();
        }
        outcome.map(VerificationKey::id)
    }

    fn accepted(
        &self,
        authenticator: &Authenticator,
        guard: &GuardHandle,
        rule: &RuleHandle,
        key: KeyId,
        generation: u64,
    ) -> VerifiedToken {
        let AuthOptions { times, max_age, .. } = authenticator.options;
        let claims = self.jwt.claims();
        let shared = |texts: &[String]| texts.iter().map(|text| Arc::from(text.as_str())).collect();
        let verified = Verified {
            issuer: Arc::clone(&rule.issuer),
            key_source: Arc::clone(&rule.jwks_uri),
            subject: claims.subject.as_deref().map(Arc::from),
            audience: shared(&claims.audience),
            scopes: shared(&claims.scopes),
            expires_at: claims.expires_at,
        };
        let claim_headers = guard
            .claim_headers
            .iter()
            .filter_map(|(name, claim)| {
                let value = HeaderValue::from_str(&self.jwt.claim_text(claim)?).ok()?;
                Some((name.clone(), value))
            })
            .collect();
        // SPEC 70 R18
        let too_old = self.now.saturating_add_unsigned(max_age.as_secs());
        let expired = claims.expires_at.map_or(i64::MAX, |at| at.saturating_add(times.skew_s));
        VerifiedToken::new(verified, claim_headers, Arc::clone(&rule.source), key, generation, too_old.min(expired))
    }
}
