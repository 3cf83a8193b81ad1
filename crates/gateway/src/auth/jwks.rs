//! The keys of foreign issuers: fetched, shared by all routes, refreshed before they age. SPEC 30 §5.4.
//!
//! ```text
//!            first handle made, sweep, a request that finds nothing
//!   empty ──────────────────────────────► fetching ── ok ──► fresh ── 80 % of its time ──► fetching
//!     ▲                                      │                 │
//!     │                                   failure              └─ unknown key id, bad signature:
//!     │                                      │                    fetching, at most every 10 s
//!     └── nothing fetched for `max_stale` ── stale, retried after 1 s, 2 s, 4 s … 30 s
//! ```
//!
//! One [`KeySource`] exists per URI while a route holds it. Its fetches are single flight: who needs the outcome waits
//! for the one that runs. Requests read the keys with one atomic load. Nothing here is awaited while keys are there.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tidegate_runtime::{Clock, HttpClient, Metrics, Random, Tasks};
use tidegate_tokens::{KeyId, KeySet};
use tokio::sync::{Semaphore, watch};

mod fetch;
mod metrics;
#[cfg(test)]
mod tests;

pub use fetch::JwksError;

use metrics::JwksMetrics;

/// How often the sweep looks for sets that are due. It only bounds how late a background refresh begins.
const SWEEP_EVERY: Duration = Duration::from_millis(500);

/// Fetches of different URIs that run at the same time.
const MAX_CONCURRENT_FETCHES: usize = 64;

/// Least time between two fetches that requests cause at one URI.
const DEMAND_EVERY: Duration = Duration::from_secs(10);

/// First and last delay after failed fetches.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Bounds of `max-age`.
const MAX_AGE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_hours(1));

/// How keys are kept (`exposure.jwks…` of SPEC 30 §11; the fetch's own limits are the HTTP client's).
#[derive(Clone, Copy, Debug)]
pub struct JwksOptions {
    /// How long a set is fresh when the answer has no `max-age`.
    pub ttl: Duration,
    /// How long a set is used when it cannot be refreshed, counted from its fetch.
    pub max_stale: Duration,
    /// How long a request waits for keys when there are none at all. The total limit of a fetch.
    pub wait_for_first: Duration,
    /// How long a request waits for a fetch that its unknown key id or bad signature caused.
    pub wait_for_demanded: Duration,
}

impl Default for JwksOptions {
    /// 5 min, 24 h, 5 s, 2 s.
    fn default() -> Self {
        Self {
            ttl: Duration::from_mins(5),
            max_stale: Duration::from_hours(24),
            wait_for_first: Duration::from_secs(5),
            wait_for_demanded: Duration::from_secs(2),
        }
    }
}

/// A change that operators are told about; once per change, not once per attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JwksEvent {
    /// A fetch failed after a success or for the first time. Events `JwksUnreachable` come from this.
    Unreachable {
        /// The `jwksUri`.
        uri: Arc<str>,
        /// What went wrong, for operators.
        error: String,
        /// Whether older keys are still in use.
        has_keys: bool,
    },
    /// A fetch succeeded after failures.
    Recovered {
        /// The `jwksUri`.
        uri: Arc<str>,
    },
}

/// Receives [`JwksEvent`]s. Called from a fetch's task: it must not block.
pub type JwksObserver = Arc<dyn Fn(JwksEvent) + Send + Sync>;

/// All key sources of the process. Cheap to clone.
#[derive(Clone)]
pub struct KeySources {
    shared: Arc<Shared>,
}

struct Shared {
    options: JwksOptions,
    clock: Clock,
    random: Random,
    tasks: Tasks,
    client: HttpClient,
    metrics: JwksMetrics,
    observer: Option<JwksObserver>,
    permits: Semaphore,
    sources: Mutex<HashMap<Arc<str>, Weak<KeySource>>>,
}

impl KeySources {
    /// Makes the registry and starts its sweep. Fetches and the sweep run on `tasks`; bind those to the runtime that
    /// does not carry traffic, because keys are parsed there.
    pub fn start(
        options: JwksOptions,
        clock: Clock,
        random: Random,
        tasks: Tasks,
        client: HttpClient,
        metrics: &Metrics,
        observer: Option<JwksObserver>,
    ) -> Self {
        let shared = Arc::new(Shared {
            options,
            clock,
            random,
            tasks,
            client,
            metrics: JwksMetrics::default(),
            observer,
            permits: Semaphore::new(MAX_CONCURRENT_FETCHES),
            sources: Mutex::default(),
        });
        let sources = Self { shared };
        sources.shared.metrics.register(metrics, Arc::downgrade(&sources.shared));
        sources.spawn_sweep();
        sources
    }

    /// The source of a URI: the one that other routes use, or a new one whose keys are being fetched when this
    /// returns. It lives as long as somebody holds it.
    pub fn source(&self, uri: &str) -> Arc<KeySource> {
        let mut sources = self.shared.sources.lock();
        if let Some(source) = sources.get(uri).and_then(Weak::upgrade) {
            return source;
        }
        let source = Arc::new(KeySource::new(uri, &self.shared));
        sources.insert(Arc::clone(&source.uri), Arc::downgrade(&source));
        drop(sources);
        source.fetch(Cause::Refresh);
        source
    }

    /// Looks at every source now: refreshes what is due, drops what is too old. The sweep does this twice a second.
    pub fn sweep(&self) {
        // The handles are collected first, because the last holder of a source removes it from the map.
        let sources: Vec<_> = self.shared.sources.lock().values().filter_map(Weak::upgrade).collect();
        for source in sources {
            source.maintain();
        }
    }

    fn spawn_sweep(&self) {
        let shutdown = self.shared.tasks.shutdown().clone();
        let shared = Arc::downgrade(&self.shared);
        drop(self.shared.tasks.spawn("jwks-sweep", async move {
            let mut interval = tokio::time::interval(SWEEP_EVERY);
            interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    _ = interval.tick() => {}
                    () = shutdown.cancelled() => return,
                }
                let Some(shared) = shared.upgrade() else { return };
                Self { shared }.sweep();
            }
        }));
    }
}

impl std::fmt::Debug for KeySources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeySources").field("sources", &self.shared.sources.lock().len()).finish_non_exhaustive()
    }
}

/// The keys behind one `jwksUri`.
pub struct KeySource {
    uri: Arc<str>,
    shared: Weak<Shared>,
    loaded: ArcSwapOption<LoadedKeys>,
    /// Grows whenever a key that was there is gone.
    generation: AtomicU64,
    state: Mutex<FetchState>,
    /// How many fetches have ended.
    finished: watch::Sender<u64>,
}

/// A set of keys and when it was fetched.
#[derive(Debug)]
pub struct LoadedKeys {
    set: KeySet,
    fetched_at: Instant,
    refresh_at: Instant,
}

impl LoadedKeys {
    /// The keys.
    pub fn set(&self) -> &KeySet {
        &self.set
    }
}

#[derive(Default)]
struct FetchState {
    in_flight: bool,
    /// Failed fetches since the last success.
    failures: u32,
    /// No fetch of ours before; set by failures.
    retry_at: Option<Instant>,
    /// No fetch that a request causes before.
    demand_at: Option<Instant>,
}

/// Why a fetch is wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// The set is absent or old: bounded by the delay after failures.
    Refresh,
    /// A token that the set cannot verify: bounded to one in ten seconds.
    Demand,
}

impl KeySource {
    fn new(uri: &str, shared: &Arc<Shared>) -> Self {
        Self {
            uri: uri.into(),
            shared: Arc::downgrade(shared),
            loaded: ArcSwapOption::empty(),
            generation: AtomicU64::new(0),
            state: Mutex::default(),
            finished: watch::Sender::new(0),
        }
    }

    /// The `jwksUri`.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// The keys as they are in memory now, fresh or stale; `None` while there are none.
    pub fn loaded(&self) -> Option<Arc<LoadedKeys>> {
        self.loaded.load_full()
    }

    /// Grows whenever a key is removed. A verification made under an older generation counts only if
    /// [`Self::still_has`] its key.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Whether that very key is still in the set.
    pub fn still_has(&self, key: KeyId) -> bool {
        self.loaded.load().as_ref().is_some_and(|loaded| loaded.set.contains(key))
    }

    /// The keys, waiting for the first fetch when there are none: at most
    /// [`JwksOptions::wait_for_first`]. `None` when the fetch failed, or failed a moment ago.
    pub async fn keys(self: &Arc<Self>) -> Option<Arc<LoadedKeys>> {
        if let Some(loaded) = self.loaded() {
            return Some(loaded);
        }
        let limit = self.shared.upgrade()?.options.wait_for_first;
        let finished = self.fetch(Cause::Refresh)?;
        wait(finished, limit).await;
        self.loaded()
    }

    /// After `seen` could not verify a token: a set that is newer, or `None`. Causes a fetch unless a request did so
    /// within the last 10 s; waits at most [`JwksOptions::wait_for_demanded`] for it, while the fetch itself goes on.
    pub async fn newer_keys(self: &Arc<Self>, seen: &Arc<LoadedKeys>) -> Option<Arc<LoadedKeys>> {
        let newer = || self.loaded().filter(|loaded| !Arc::ptr_eq(loaded, seen));
        if let Some(loaded) = newer() {
            return Some(loaded);
        }
        let limit = self.shared.upgrade()?.options.wait_for_demanded;
        let finished = self.fetch(Cause::Demand)?;
        wait(finished, limit).await;
        newer()
    }

    /// Starts a fetch, or joins the one that runs. `None`: it is too early for another one, or the process ends.
    fn fetch(self: &Arc<Self>, cause: Cause) -> Option<watch::Receiver<u64>> {
        let shared = self.shared.upgrade()?;
        let now = shared.clock.instant();
        let mut state = self.state.lock();
        // Subscribed under the lock: the end of a fetch that runs now cannot be missed.
        let finished = self.finished.subscribe();
        if state.in_flight {
            return Some(finished);
        }
        let not_before = match cause {
            Cause::Refresh => state.retry_at,
            Cause::Demand => state.demand_at,
        };
        if not_before.is_some_and(|at| now < at) || shared.tasks.shutdown().is_cancelled() {
            return None;
        }
        if cause == Cause::Demand {
            state.demand_at = Some(now + DEMAND_EVERY);
        }
        state.in_flight = true;
        drop(state);
        let source = Arc::clone(self);
        let tasks = shared.tasks.clone();
        drop(tasks.spawn("jwks-fetch", async move {
            // Also when this task is dropped or panics: nobody may wait for it forever.
            let ended = EndOfFetch(&source);
            let shutdown = shared.tasks.shutdown().clone();
            tokio::select! {
                () = source.fetch_now(&shared) => {}
                () = shutdown.cancelled() => {}
            }
            drop(ended);
        }));
        Some(finished)
    }

    async fn fetch_now(&self, shared: &Shared) {
        // The semaphore is never closed.
        let Ok(_permit) = shared.permits.acquire().await else { return };
        let outcome = fetch::fetch(&shared.client, &self.uri).await;
        let now = shared.clock.instant();
        shared.metrics.count(outcome.as_ref().err());
        match outcome {
            Ok(fetched) => {
                let (least, most) = MAX_AGE;
                let fresh = fetched.max_age.map_or(shared.options.ttl, |age| age.clamp(least, most));
                self.publish(LoadedKeys { set: fetched.keys, fetched_at: now, refresh_at: now + fresh / 5 * 4 });
                let failures = {
                    let mut state = self.state.lock();
                    state.retry_at = None;
                    std::mem::take(&mut state.failures)
                };
                if failures > 0 {
                    tracing::info!(
                        jwks.uri = shown(&self.uri),
                        "the keys of `{}` can be fetched again",
                        shown(&self.uri)
                    );
                    shared.notify(|| JwksEvent::Recovered { uri: Arc::clone(&self.uri) });
                }
            }
            Err(error) => {
                let delay = {
                    let mut state = self.state.lock();
                    let delay = backoff(state.failures, shared.random.f64());
                    state.failures = state.failures.saturating_add(1);
                    state.retry_at = Some(now + delay);
                    (state.failures == 1).then_some(delay)
                };
                if delay.is_some() {
                    let has_keys = self.loaded.load().is_some();
                    tracing::warn!(
                        jwks.uri = shown(&self.uri), %error, has_keys,
                        "the keys of `{}` cannot be fetched: {error}", shown(&self.uri)
                    );
                    shared.notify(|| JwksEvent::Unreachable {
                        uri: Arc::clone(&self.uri),
                        error: error.to_string(),
                        has_keys,
                    });
                }
            }
        }
    }

    fn publish(&self, loaded: LoadedKeys) {
        let loaded = Arc::new(loaded);
        let former = self.loaded.swap(Some(Arc::clone(&loaded)));
        if former.is_some_and(|former| former.set.iter().any(|key| !loaded.set.contains(key.id()))) {
            // After the swap: who sees the new generation sees the new set.
            self.generation.fetch_add(1, Ordering::Release);
        }
    }

    fn maintain(self: &Arc<Self>) {
        let Some(shared) = self.shared.upgrade() else { return };
        let now = shared.clock.instant();
        let loaded = self.loaded();
        if let Some(loaded) = &loaded
            && now.saturating_duration_since(loaded.fetched_at) > shared.options.max_stale
        {
            tracing::warn!(jwks.uri = shown(&self.uri), "the keys of `{}` are too old to be used", shown(&self.uri));
            // Unless a fetch has just replaced them.
            let previous = self.loaded.compare_and_swap(loaded, None);
            if previous.as_ref().is_some_and(|previous| Arc::ptr_eq(previous, loaded)) {
                self.generation.fetch_add(1, Ordering::Release);
            }
        }
        if loaded.is_none_or(|loaded| now >= loaded.refresh_at) {
            self.fetch(Cause::Refresh);
        }
    }
}

impl Drop for KeySource {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            let mut sources = shared.sources.lock();
            // A new source of the same URI may have taken the place already.
            if sources.get(&self.uri).is_some_and(|source| source.strong_count() == 0) {
                sources.remove(&self.uri);
            }
        }
    }
}

impl std::fmt::Debug for KeySource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeySource").field("uri", &self.uri).finish_non_exhaustive()
    }
}

impl Shared {
    fn notify(&self, event: impl FnOnce() -> JwksEvent) {
        if let Some(observer) = &self.observer {
            observer(event());
        }
    }

    /// Age of the oldest set in use, in seconds.
    fn oldest_age_s(&self) -> f64 {
        let now = self.clock.instant();
        let sources: Vec<_> = self.sources.lock().values().filter_map(Weak::upgrade).collect();
        sources
            .iter()
            .filter_map(|source| source.loaded())
            .map(|loaded| now.saturating_duration_since(loaded.fetched_at).as_secs_f64())
            .fold(0.0, f64::max)
    }
}

struct EndOfFetch<'a>(&'a KeySource);

impl Drop for EndOfFetch<'_> {
    fn drop(&mut self) {
        self.0.state.lock().in_flight = false;
        self.0.finished.send_modify(|count| *count += 1);
    }
}

/// A URI as logs may show it: without name and password (`https://user:password@host/keys`).
fn shown(uri: &str) -> String {
    let Some((scheme, rest)) = uri.split_once("://") else { return uri.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

async fn wait(mut finished: watch::Receiver<u64>, limit: Duration) {
    // Too late or gone are the same to the caller: it looks at what is there.
    let _ = tokio::time::timeout(limit, finished.changed()).await;
}

/// 1 s, doubled for each earlier failure up to 30 s; up to a fifth more, so that routes do not ask in step.
fn backoff(earlier_failures: u32, random: f64) -> Duration {
    let (first, last) = BACKOFF;
    let delay = first.saturating_mul(1 << earlier_failures.min(5)).min(last);
    delay + delay.mul_f64(random / 5.0)
}
