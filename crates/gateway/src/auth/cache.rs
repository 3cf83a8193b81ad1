//! Tokens that were verified before. SPEC 70 §4 R17, R18.
//!
//! The key is a keyed digest, so that nobody can choose tokens that meet in one shard or read tokens out of memory. What
//! a hit is worth is decided by [`VerifiedToken::is_current`]: the cache itself knows no time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::digest::{Context, SHA256};
use http::{HeaderName, HeaderValue};
use quick_cache::sync::{Cache, DefaultLifecycle, PlaceholderGuard};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};
use tidegate_policy::Verified;
use tidegate_runtime::Random;
use tidegate_tokens::KeyId;

use super::KeySource;

const SHARDS: usize = 64;

/// For the estimate of how many entries there will be; the limit is in bytes.
const TYPICAL_ENTRY_BYTES: usize = 512;

/// What the cache itself needs for an entry, besides the value.
const OVERHEAD_BYTES: usize = 96;

/// A token whose signature and times were checked, and how long that holds.
#[derive(Debug)]
pub struct VerifiedToken {
    verified: Verified,
    claim_headers: Box<[(HeaderName, HeaderValue)]>,
    source: Arc<KeySource>,
    key: KeyId,
    /// Generation of the key source up to which `key` is known to be trusted.
    generation: AtomicU64,
    /// First second (since 1970) in which the verification no longer counts.
    valid_until: i64,
}

impl VerifiedToken {
    pub(super) fn new(
        verified: Verified,
        claim_headers: Box<[(HeaderName, HeaderValue)]>,
        source: Arc<KeySource>,
        key: KeyId,
        generation: u64,
        valid_until: i64,
    ) -> Self {
        Self { verified, claim_headers, source, key, generation: AtomicU64::new(generation), valid_until }
    }

    /// What the token says.
    pub fn verified(&self) -> &Verified {
        &self.verified
    }

    /// The headers of the route that are made from claims, with their values. A claim that the token lacks, or whose
    /// text no header can carry, is not among them. SPEC 30 §5.5.
    pub fn claim_headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.claim_headers
    }

    /// Whether the verification counts at `now` (seconds since 1970): not too old, and the key that verified is still
    /// among the issuer's.
    pub fn is_current(&self, now: i64) -> bool {
        if now >= self.valid_until {
            return false;
        }
        let generation = self.source.generation();
        if generation == self.generation.load(Ordering::Relaxed) {
            return true;
        }
        // Some key of the issuer is gone; usually another one.
        let is_trusted = self.source.still_has(self.key);
        if is_trusted {
            self.generation.store(generation, Ordering::Relaxed);
        }
        is_trusted
    }

    fn weight(&self) -> usize {
        let texts = |texts: &[Arc<str>]| texts.iter().map(|text| text.len() + 32).sum::<usize>();
        size_of::<Self>()
            + OVERHEAD_BYTES
            + self.verified.subject.as_ref().map_or(0, |subject| subject.len() + 16)
            + texts(&self.verified.audience)
            + texts(&self.verified.scopes)
            + self
                .claim_headers
                .iter()
                .map(|(_, value)| size_of::<(HeaderName, HeaderValue)>() + value.len())
                .sum::<usize>()
    }
}

/// Digest of a token within a policy set.
pub type TokenKey = [u8; 16];

/// The verified tokens of the process.
pub struct TokenCache {
    secret: [u8; 32],
    entries: Entries,
}

type Entries = Cache<TokenKey, Arc<VerifiedToken>, Bytes>;

/// The right to fill in an entry; others that want the same token wait for it. Dropping it unfilled lets the next one
/// try.
pub type Vacancy<'a> = PlaceholderGuard<
    'a,
    TokenKey,
    Arc<VerifiedToken>,
    Bytes,
    DefaultHashBuilder,
    DefaultLifecycle<TokenKey, Arc<VerifiedToken>>,
>;

impl TokenCache {
    /// An empty cache that holds about `capacity_bytes`.
    pub fn new(capacity_bytes: usize, random: &Random) -> Self {
        let mut secret = [0; 32];
        random.fill(&mut secret);
        let options = OptionsBuilder::new()
            .shards(SHARDS)
            .estimated_items_capacity((capacity_bytes / TYPICAL_ENTRY_BYTES).max(SHARDS * 32))
            .weight_capacity(capacity_bytes as u64)
            .build()
            .expect("both capacities are set");
        let entries = Cache::with_options(options, Bytes, DefaultHashBuilder::default(), DefaultLifecycle::default());
        Self { secret, entries }
    }

    /// The key of a token: the first 16 bytes of SHA-256(secret ‖ policy set ‖ token).
    pub fn key(&self, policy_set: u64, token: &str) -> TokenKey {
        let mut context = Context::new(&SHA256);
        context.update(&self.secret);
        context.update(&policy_set.to_be_bytes());
        context.update(token.as_bytes());
        let mut key = TokenKey::default();
        for (to, from) in key.iter_mut().zip(context.finish().as_ref()) {
            *to = *from;
        }
        key
    }

    /// A number for a policy set, given as what distinguishes it. Keyed, so that nobody can write two sets with one
    /// number.
    pub(super) fn policy_set<'a>(&self, parts: impl IntoIterator<Item = &'a str>) -> u64 {
        let mut context = Context::new(&SHA256);
        context.update(&self.secret);
        for part in parts {
            context.update(&part.len().to_be_bytes());
            context.update(part.as_bytes());
        }
        context.finish().as_ref().first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
    }

    /// The entry of a key if it counts at `now`. One shard, read lock.
    pub fn get(&self, key: &TokenKey, now: i64) -> Option<Arc<VerifiedToken>> {
        self.entries.get(key).filter(|token| token.is_current(now))
    }

    /// The entry of a key that somebody else is just making, or the right to make it. An entry that no longer counts is
    /// removed.
    pub async fn get_or_reserve(&self, key: &TokenKey, now: i64) -> Result<Arc<VerifiedToken>, Vacancy<'_>> {
        self.entries.remove_if(key, |token| !token.is_current(now));
        self.entries.get_value_or_guard_async(key).await
    }

    /// How many tokens are in the cache.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the cache is empty.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes that the entries take, as the limit counts them.
    pub fn bytes(&self) -> u64 {
        self.entries.weight()
    }
}

impl std::fmt::Debug for TokenCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenCache").field("tokens", &self.len()).field("bytes", &self.bytes()).finish_non_exhaustive()
    }
}

/// Weighs entries in bytes.
#[derive(Clone, Debug)]
pub struct Bytes;

impl Weighter<TokenKey, Arc<VerifiedToken>> for Bytes {
    fn weight(&self, _: &TokenKey, token: &Arc<VerifiedToken>) -> u64 {
        token.weight() as u64
    }
}
