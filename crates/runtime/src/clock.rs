//! The one place that reads the system's clock.
//!
//! Everything else asks a [`Clock`], so that tests can move time and the hot path can read it without a system call.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use parking_lot::Mutex;

use crate::Tasks;

/// No ticker runs: [`Clock::unix_seconds`] reads the real time.
const NOT_TICKING: i64 = i64::MIN;

/// How often the ticker refreshes the coarse seconds.
const TICK: Duration = Duration::from_millis(100);

/// Tells the time. Cheap to clone; clones share one source.
#[derive(Clone, Debug)]
pub struct Clock {
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    System(Arc<AtomicI64>),
    Manual(Arc<Manual>),
}

#[derive(Debug)]
struct Manual {
    started: Instant,
    state: Mutex<ManualState>,
}

#[derive(Debug)]
struct ManualState {
    now: Timestamp,
    elapsed: Duration,
}

/// Moves the time of a [`Clock`] made by [`Clock::manual`].
#[derive(Clone, Debug)]
pub struct ManualClock {
    manual: Arc<Manual>,
}

impl Clock {
    /// The operating system's time.
    pub fn system() -> Self {
        Self { source: Source::System(Arc::new(AtomicI64::new(NOT_TICKING))) }
    }

    /// A clock that stands at `start` until the second value moves it.
    pub fn manual(start: Timestamp) -> (Self, ManualClock) {
        let manual = Arc::new(Manual {
            started: system_instant(),
            state: Mutex::new(ManualState { now: start, elapsed: Duration::ZERO }),
        });
        (Self { source: Source::Manual(Arc::clone(&manual)) }, ManualClock { manual })
    }

    /// Wall-clock time.
    pub fn now(&self) -> Timestamp {
        match &self.source {
            Source::System(_) => system_now(),
            Source::Manual(manual) => manual.state.lock().now,
        }
    }

    /// Seconds since 1970, at most 100 ms old while the ticker runs, exact otherwise.
    ///
    /// This is what checks of token lifetimes use: one atomic load (`70` R18).
    pub fn unix_seconds(&self) -> i64 {
        match &self.source {
            Source::System(coarse) => match coarse.load(Ordering::Relaxed) {
                NOT_TICKING => system_now().as_second(),
                seconds => seconds,
            },
            Source::Manual(manual) => manual.state.lock().now.as_second(),
        }
    }

    /// Monotonic time, for measuring durations. A manual clock's instants move only with the clock.
    pub fn instant(&self) -> Instant {
        match &self.source {
            Source::System(_) => system_instant(),
            Source::Manual(manual) => manual.started + manual.state.lock().elapsed,
        }
    }

    /// Starts the task that refreshes [`Clock::unix_seconds`] until shutdown; does nothing for a manual clock.
    pub fn spawn_ticker(&self, tasks: &Tasks) {
        let Source::System(coarse) = &self.source else { return };
        let coarse = Arc::clone(coarse);
        let shutdown = tasks.shutdown().clone();
        drop(tasks.spawn("clock-ticker", async move {
            // Whatever ends this task (shutdown, an abort, a dropped runtime), a stopped clock must not be believed.
            let stop = StopTicking(coarse);
            let mut interval = tokio::time::interval(TICK);
            loop {
                tokio::select! {
                    _ = interval.tick() => stop.0.store(system_now().as_second(), Ordering::Relaxed),
                    () = shutdown.cancelled() => break,
                }
            }
        }));
    }
}

struct StopTicking(Arc<AtomicI64>);

impl Drop for StopTicking {
    fn drop(&mut self) {
        self.0.store(NOT_TICKING, Ordering::Relaxed);
    }
}

impl ManualClock {
    /// Moves both the wall clock and the monotonic time forward.
    pub fn advance(&self, by: Duration) {
        let mut state = self.manual.state.lock();
        state.elapsed += by;
        // A clock at the end of representable time stays there.
        state.now = state.now.checked_add(by).unwrap_or(Timestamp::MAX);
    }

    /// Sets the wall clock, also backwards (as an operator or NTP may); monotonic time stays.
    pub fn set(&self, now: Timestamp) {
        self.manual.state.lock().now = now;
    }
}

#[expect(clippy::disallowed_methods, reason = "the one reader of the wall clock")]
fn system_now() -> Timestamp {
    Timestamp::now()
}

#[expect(clippy::disallowed_methods, reason = "the one reader of the monotonic clock")]
fn system_instant() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manual_clock_moves_only_when_told() {
        let start = Timestamp::from_second(1_000).unwrap();
        let (clock, hand) = Clock::manual(start);
        let instant = clock.instant();
        assert_eq!(clock.now(), start);
        assert_eq!(clock.unix_seconds(), 1_000);

        hand.advance(Duration::from_millis(2_500));
        assert_eq!(clock.unix_seconds(), 1_002);
        assert_eq!(clock.instant() - instant, Duration::from_millis(2_500));

        hand.set(Timestamp::from_second(10).unwrap());
        assert_eq!(clock.unix_seconds(), 10);
        assert_eq!(clock.instant() - instant, Duration::from_millis(2_500));
    }

    #[tokio::test]
    async fn system_clock_reads_the_real_time_before_and_after_its_ticker() {
        let clock = Clock::system();
        assert!((clock.unix_seconds() - clock.now().as_second()).abs() <= 1);

        let tasks = Tasks::new();
        clock.spawn_ticker(&tasks);
        let Source::System(coarse) = &clock.source else { panic!("not a system clock") };
        while coarse.load(Ordering::Relaxed) == NOT_TICKING {
            tokio::task::yield_now().await;
        }
        assert!((clock.unix_seconds() - clock.now().as_second()).abs() <= 1);

        assert!(tasks.close_and_wait(Duration::from_secs(5)).await);
        assert_eq!(coarse.load(Ordering::Relaxed), NOT_TICKING);
    }
}
