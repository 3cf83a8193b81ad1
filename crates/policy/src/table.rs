//! The table that requests are looked up in: immutable shards, swapped one at a time. SPEC 70 R8, R10, R11.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ahash::{AHashMap, RandomState};
use arc_swap::{ArcSwap, ArcSwapOption};

use crate::decision::{Decision, RequestFacts, Verified, decide_rules};
use crate::guard::RuleSet;
use crate::{ObjectRef, Reason, Route};

/// Shards of the table. One change rebuilds one of them: about 400 entries at 100,000 hosts.
const SHARDS: usize = 256;

type Shard<X> = AHashMap<Arc<str>, Arc<HostEntry<X>>>;

/// Routes by host. Readers load one shard and never wait; all changes go through the one [`TableWriter`].
#[derive(Debug)]
pub struct Table<X> {
    shards: Box<[ArcSwap<Shard<X>>]>,
    /// The host `*`.
    fallback: ArcSwapOption<HostEntry<X>>,
    hasher: RandomState,
    revision: AtomicU64,
}

/// The routes of one host pattern. A pattern is an exact name, `*.suffix` or `*`.
#[derive(Debug)]
pub struct HostEntry<X> {
    /// The route of all paths and methods.
    pub route: Arc<Route<X>>,
}

/// A route that a request matched, and which of its rules apply.
#[derive(Debug)]
pub struct Selected<X> {
    /// The route. A request keeps it from match to answer, whatever is published meanwhile.
    pub route: Arc<Route<X>>,
    /// The rules of the route's guard that apply to the request.
    pub rules: RuleSet,
}

impl<X> Selected<X> {
    /// Decides about the request; `verified` is the token found in it.
    pub fn decide(&self, verified: Option<&Verified>) -> Decision {
        decide_rules(&self.route.model.guard, self.rules, verified)
    }
}

/// Why no route was selected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRoute {
    /// Nobody exposes the host (404, empty body).
    Host,
    /// The path means one thing encoded and another decoded (400). SPEC 30 §6.4, step 8.
    AmbiguousPath,
}

impl NoRoute {
    /// Status of the answer.
    pub fn status(self) -> http::StatusCode {
        match self {
            Self::Host => http::StatusCode::NOT_FOUND,
            Self::AmbiguousPath => http::StatusCode::BAD_REQUEST,
        }
    }

    /// Word for metric and log.
    pub fn reason(self) -> Reason {
        match self {
            Self::Host => Reason::NoHost,
            Self::AmbiguousPath => Reason::PathMalformed,
        }
    }
}

impl<X> Table<X> {
    /// An empty table and the one writer that fills it.
    pub fn new() -> (Arc<Self>, TableWriter<X>) {
        let table = Arc::new(Self {
            shards: (0..SHARDS).map(|_| ArcSwap::from_pointee(AHashMap::new())).collect(),
            fallback: ArcSwapOption::empty(),
            hasher: RandomState::new(),
            revision: AtomicU64::new(0),
        });
        let writer = TableWriter { table: Arc::clone(&table), hosts: BTreeMap::new() };
        (table, writer)
    }

    /// How many publications there were.
    pub fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    /// The route of a request, with the guard against paths that mean two things.
    pub fn select(&self, facts: &RequestFacts<'_>) -> Result<Selected<X>, NoRoute> {
        let entry = self.host(facts.host.as_str()).ok_or(NoRoute::Host)?;
        let route = Arc::clone(&entry.route);
        let guard = &route.model.guard;
        let rules = guard.applicable(facts.method, facts.path.as_str());
        // A host has one route, so decoding can only lead to other exclusions.
        // SPEC 30 §6.4, step 8
        match facts.path.decoded() {
            None => {}
            Some(Ok(decoded)) if guard.applicable(facts.method, &decoded) == rules => {}
            Some(_) => return Err(NoRoute::AmbiguousPath),
        }
        if guard.is_evaded(facts.method, facts.path) {
            return Err(NoRoute::AmbiguousPath);
        }
        Ok(Selected { route, rules })
    }

    /// The entry of a host (lower case): exact name, then the longest `*.suffix`, then `*`.
    pub fn host(&self, host: &str) -> Option<Arc<HostEntry<X>>> {
        if let Some(entry) = self.lookup(host) {
            return Some(entry);
        }
        let mut rest = host;
        // Wildcards are kept under `.suffix`, which is a slice of the host: nothing is built to look one up.
        while let Some(dot) = rest.get(1..).and_then(|tail| tail.find('.')) {
            rest = rest.get(dot + 1..).unwrap_or_default();
            if let Some(entry) = self.lookup(rest) {
                return Some(entry);
            }
        }
        self.fallback.load_full()
    }

    /// Every route, in no order; for `/debug/routes`.
    pub fn routes(&self) -> Vec<Arc<Route<X>>> {
        let mut all: Vec<_> = self
            .shards
            .iter()
            .flat_map(|shard| shard.load().values().map(|e| Arc::clone(&e.route)).collect::<Vec<_>>())
            .collect();
        all.extend(self.fallback.load().iter().map(|entry| Arc::clone(&entry.route)));
        all
    }

    fn lookup(&self, key: &str) -> Option<Arc<HostEntry<X>>> {
        self.shards.get(self.shard_of(key))?.load().get(key).map(Arc::clone)
    }

    fn shard_of(&self, key: &str) -> usize {
        usize::try_from(self.hasher.hash_one(key) % SHARDS as u64).unwrap_or_default()
    }
}

/// The one writer of a [`Table`].
#[derive(Debug)]
pub struct TableWriter<X> {
    table: Arc<Table<X>>,
    /// What each object has in the table, and the generation of it.
    hosts: BTreeMap<ObjectRef, (Key, i64)>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    /// An exact name, or `.suffix` for a wildcard.
    Name(Arc<str>),
    Fallback,
}

impl Key {
    fn of(pattern: &str) -> Self {
        match pattern {
            "*" => Self::Fallback,
            _ => Self::Name(pattern.strip_prefix('*').unwrap_or(pattern).into()),
        }
    }
}

/// Entries of one shard that change: `None` takes an entry away.
type Edits<X> = BTreeMap<Key, Edit<X>>;
type Edit<X> = Option<Arc<HostEntry<X>>>;
type NamedEdit<X> = (Arc<str>, Edit<X>);

impl<X> TableWriter<X> {
    /// The table that the writer fills.
    pub fn table(&self) -> &Arc<Table<X>> {
        &self.table
    }

    /// The generation of an object that the table holds, if it holds a route of it.
    pub fn published(&self, object: &ObjectRef) -> Option<i64> {
        self.hosts.get(object).map(|(_, generation)| *generation)
    }

    /// Publishes what became of some objects: the route of each, or `None` when nothing of it may be served.
    ///
    /// One shard is rebuilt per host that changes. What takes routes away or replaces them is published before what
    /// adds some, so that a host that moves is never served by both (SPEC 70 R10).
    pub fn publish(&mut self, changes: impl IntoIterator<Item = (ObjectRef, Option<Route<X>>)>) {
        let changes: BTreeMap<ObjectRef, Option<Route<X>>> = changes.into_iter().collect();
        let mut left: Vec<Key> = Vec::new();
        let mut set: Edits<X> = BTreeMap::new();
        for (object, route) in changes {
            if let Some((key, _)) = self.hosts.remove(&object)
                && self.owner(&key).as_ref() == Some(&object)
            {
                left.push(key);
            }
            if let Some(route) = route {
                let key = Key::of(&route.model.host);
                self.hosts.insert(object, (key.clone(), route.model.generation));
                set.insert(key, Some(Arc::new(HostEntry { route: Arc::new(route) })));
            }
        }
        // A host that changes hands within the batch changes in place: no gap, no double.
        let mut replaced: Edits<X> = left.into_iter().map(|key| (key, None)).collect();
        let mut added: Edits<X> = BTreeMap::new();
        for (key, entry) in set {
            if let Some(previous) = self.owner(&key)
                && entry.as_ref().is_some_and(|entry| entry.route.model.object != previous)
                && self.hosts.get(&previous).is_some_and(|(held, _)| *held == key)
            {
                self.hosts.remove(&previous);
            }
            match replaced.get_mut(&key) {
                Some(slot) => *slot = entry,
                None => {
                    added.insert(key, entry);
                }
            }
        }
        self.swap(replaced);
        self.swap(added);
        self.table.revision.fetch_add(1, Ordering::AcqRel);
    }

    /// Whose route hangs under a key at present.
    fn owner(&self, key: &Key) -> Option<ObjectRef> {
        let entry = match key {
            Key::Fallback => self.table.fallback.load_full(),
            Key::Name(name) => self.table.lookup(name),
        };
        entry.map(|entry| entry.route.model.object.clone())
    }

    fn swap(&self, edits: Edits<X>) {
        let mut by_shard: BTreeMap<usize, Vec<NamedEdit<X>>> = BTreeMap::new();
        for (key, entry) in edits {
            match key {
                Key::Fallback => self.table.fallback.store(entry),
                Key::Name(name) => by_shard.entry(self.table.shard_of(&name)).or_default().push((name, entry)),
            }
        }
        for (number, edits) in by_shard {
            let Some(shard) = self.table.shards.get(number) else { continue };
            let mut next = Shard::clone(&shard.load());
            for (name, entry) in edits {
                match entry {
                    Some(entry) => next.insert(name, entry),
                    None => next.remove(&name),
                };
            }
            shard.store(Arc::new(next));
        }
    }
}

#[cfg(test)]
mod tests;
