//! The newest events of one resource, shared by all its watchers.
//!
//! A watcher owns no queue: it holds the revision it has reached and takes what is newer from here. A slow reader
//! therefore costs nothing but its position, and the writer never waits for one.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::RwLock;
use tokio::sync::watch as signal;

use crate::store::Event;

/// SPEC 60 §20.3: events kept in memory; older ones are read from the `events` table.
const KEPT_EVENTS: usize = 1_000;
/// Bodies kept in memory beyond the current state: a hot object of 1 MiB must not cost 1,000 MiB.
const KEPT_BYTES: u64 = 16 << 20;
/// SPEC 60 §9: a reader further behind than this, or than `KEPT_EVENTS`, is cut off.
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
    /// Which generation of streams may live; see `end_streams`.
    epoch: u64,
    /// The last revision that streams of earlier epochs deliver.
    epoch_ended_at: u64,
}

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
        let state = State { events: VecDeque::new(), appended: 0, floor, epoch: 0, epoch_ended_at: 0 };
        Self { state: RwLock::new(state), changed: signal::Sender::new(()) }
    }

    pub(crate) fn append(&self, events: Vec<Arc<Event>>) {
        {
            let mut state = self.state.write();
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
            state.epoch += 1;
            state.epoch_ended_at = state.events.back().map_or(state.floor, |(_, event)| event.revision);
        }
        self.changed.send_replace(());
    }

    pub(crate) fn subscribe(&self) -> (signal::Receiver<()>, u64) {
        // The epoch is read first: an end in between is then noticed by `take`.
        let epoch = self.state.read().epoch;
        (self.changed.subscribe(), epoch)
    }

    /// What comes after revision `position`, for a stream of `epoch` that began when the log was at `began`.
    pub(crate) fn take(&self, position: u64, began: u64, epoch: u64) -> Taken {
        let state = self.state.read();
        let last = if state.epoch == epoch { u64::MAX } else { state.epoch_ended_at };
        if position < state.floor {
            // The backlog that a stream asked for is no fault of its reader.
            return if position < began {
                Taken::Older { floor: state.floor }
            } else {
                Taken::Lagged { oldest: state.floor }
            };
        }
        let first = state.events.partition_point(|(_, event)| event.revision <= position);
        let Some((before, _)) = state.events.get(first) else {
            return if last == u64::MAX { Taken::Nothing } else { Taken::Ended };
        };
        if position >= began && state.appended - before > LAG_BYTES && state.events.len() - first > 1 {
            return Taken::Lagged { oldest: state.floor };
        }
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
        if events.is_empty() { Taken::Ended } else { Taken::Events(events) }
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
