//! Waiting on a condition with a deadline: what tests do instead of sleeping.

use std::time::{Duration, Instant};

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// Looks until `look` gives something; panics with `what` when that takes longer than `limit`. Blocks the thread.
pub fn eventually<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = now();
    loop {
        if let Some(value) = look() {
            return value;
        }
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        pause();
    }
}

/// As [`eventually`], for a look that awaits.
pub async fn eventually_async<T>(limit: Duration, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let start = now();
    loop {
        if let Some(value) = look().await {
            return value;
        }
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        tokio::time::sleep(PAUSE).await;
    }
}

#[expect(clippy::disallowed_methods, reason = "a test's deadline is real time")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "the pause of the one loop that tests wait with")]
fn pause() {
    std::thread::sleep(PAUSE);
}
