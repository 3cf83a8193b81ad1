//! The newest events of one resource, shared by all its watchers.
//!
//! A watcher owns no queue: it holds the revision it has reached and takes what is newer from here. A slow reader
//! therefore costs nothing but its position, and the writer never waits for one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;
use tokio::sync::watch as signal;

use crate::store::Event;

/// Events kept in memory (SPEC 60 §20.3: at least 1,000); older ones are read from the `events` table.
const KEPT_EVENTS: usize = 2_000;
/// Bodies kept in memory beyond the current state: a hot object of 1 MiB must not cost 1,000 MiB.
const KEPT_BYTES: u64 = 16 << 20;
/// SPEC 60 §9: a reader further behind than either is cut off. What came with the last commit does not count: one
/// transaction may hold more, and no reader is slow for not having been asked yet.
const LAG_EVENTS: usize = 1_000;
const LAG_BYTES: u64 = 4 << 20;
/// What a stream takes at once.
const TAKE_EVENTS: usize = 64;
const TAKE_BYTES: usize = 1 << 20;

pub(crate) struct ResourceLog {
    state: RwLock<State>,
    changed: signal::Sender<()>,
}

struct State {
    /// In revision order, each with the weight of everything appended before it.
    events: VecDeque<(u64, Arc<Event>)>,
    /// Weight of everything ever appended.
    appended: u64,
    /// Every event of the resource above this revision is in `events`.
    floor: u64,
    /// A reader that stands below this revision is too slow.
    cut: u64,
    /// The last revision that the streams of this generation deliver; see `end_streams`.
    last: Last,
}

/// A generation of streams: the last revision they deliver, `u64::MAX` while they live.
pub(crate) type Last = Arc<AtomicU64>;

/// What a stream finds after its position.
pub(crate) enum Taken {
    Events(Vec<Arc<Event>>),
    Nothing,
    /// Older than the log: read (position, `floor`] from the table.
    Older {
        floor: u64,
    },
    /// Too far behind events that came after the stream began.
    Lagged {
        oldest: u64,
    },
    Ended,
}

impl ResourceLog {
    pub(crate) fn new(floor: u64) -> Self {
        let state = State { events: VecDeque::new(), appended: 0, floor, cut: 0, last: live() };
        Self { state: RwLock::new(state), changed: signal::Sender::new(()) }
    }

    pub(crate) fn append(&self, events: Vec<Arc<Event>>) {
        {
            let mut state = self.state.write();
            state.cut = state.cut.max(state.slow_below());
            for event in events {
                let before = state.appended;
                state.appended += event.weight() as u64;
                state.events.push_back((before, event));
            }
            while let Some((before, oldest)) = state.events.front() {
                if state.events.len() <= KEPT_EVENTS && state.appended - before <= KEPT_BYTES {
                    break;
                }
                state.floor = oldest.revision;
                state.events.pop_front();
            }
        }
        self.changed.send_replace(());
    }

    /// Lets every stream that exists now deliver what is here and end: the resource is gone or has another schema.
    pub(crate) fn end_streams(&self) {
        {
            let mut state = self.state.write();
            let newest = state.events.back().map_or(state.floor, |(_, event)| event.revision);
            std::mem::replace(&mut state.last, live()).store(newest, Ordering::Release);
        }
        self.changed.send_replace(());
    }

    pub(crate) fn subscribe(&self) -> (signal::Receiver<()>, Last) {
        // The generation is taken first: an end in between is then noticed by `take`.
        let last = Arc::clone(&self.state.read().last);
        (self.changed.subscribe(), last)
    }

    /// What comes after revision `position`, for a stream that began when the cluster was at `began`.
    pub(crate) fn take(&self, position: u64, began: u64, last: &Last) -> Taken {
        let state = self.state.read();
        let last = last.load(Ordering::Acquire);
        if position >= last {
            return Taken::Ended;
        }
        // The backlog that a stream asked for is no fault of its reader.
        if position >= began && position < state.cut {
            return Taken::Lagged { oldest: state.floor };
        }
        if position < state.floor {
            return Taken::Older { floor: state.floor.min(last) };
        }
        let first = state.events.partition_point(|(_, event)| event.revision <= position);
        let mut weight = 0;
        let events: Vec<_> = state
            .events
            .range(first..)
            .map(|(_, event)| event)
            .take_while(|event| {
                let fits = weight <= TAKE_BYTES;
                weight += event.weight();
                fits && event.revision <= last
            })
            .take(TAKE_EVENTS)
            .cloned()
            .collect();
        match (events.is_empty(), last) {
            (false, _) => Taken::Events(events),
            (true, u64::MAX) => Taken::Nothing,
            (true, _) => Taken::Ended,
        }
    }

    /// Whether nothing newer than `position` is here.
    pub(crate) fn is_drained(&self, position: u64) -> bool {
        let state = self.state.read();
        position >= state.floor && state.events.back().is_none_or(|(_, event)| event.revision <= position)
    }

    /// The events in (`after`, `until`], if the log still has all of them.
    pub(crate) fn between(&self, after: u64, until: u64) -> Option<Vec<Arc<Event>>> {
        let state = self.state.read();
        if after < state.floor {
            return None;
        }
        let first = state.events.partition_point(|(_, event)| event.revision <= after);
        let newer = state.events.range(first..).map(|(_, event)| event);
        Some(newer.take_while(|event| event.revision <= until).cloned().collect())
    }
}

fn live() -> Last {
    Arc::new(AtomicU64::new(u64::MAX))
}

impl State {
    /// The revision below which a reader has more than `LAG_EVENTS` or `LAG_BYTES` to read.
    fn slow_below(&self) -> u64 {
        let by_count = self.events.len().checked_sub(LAG_EVENTS + 1);
        let by_bytes = self.appended.checked_sub(LAG_BYTES).and_then(|limit| {
            // The last event that weighs more than the limit together with everything after it.
            self.events.partition_point(|(before, _)| *before < limit).checked_sub(1)
        });
        let index = by_count.max(by_bytes);
        index.and_then(|index| self.events.get(index)).map_or(0, |(_, event)| event.revision)
    }
}
