//! Events live for an hour after they were last seen (SPEC 60 §14).

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use crate::http::Shared;
use crate::store::{ClusterId, Key, Resource};

/// How often old events are looked for.
const SWEEP: Duration = Duration::from_mins(1);
/// Events that one transaction removes.
const CHUNK: usize = 1000;

/// Sweeps until shutdown.
pub async fn run(shared: Arc<Shared>, ttl: Duration) {
    loop {
        tokio::select! {
            () = shared.tasks.shutdown().cancelled() => return,
            () = tokio::time::sleep(SWEEP) => drop(sweep(&shared, ttl).await),
        }
    }
}

/// Removes every event last seen more than `ttl` ago; returns how many.
pub async fn sweep(shared: &Shared, ttl: Duration) -> usize {
    let Ok(limit) = shared.clock.now().checked_sub(ttl) else { return 0 };
    let snapshot = shared.store.snapshot(ClusterId::ROOT, &Resource::new("", "events"));
    let old: Vec<Key> =
        snapshot.iter().filter(|event| last_seen(event.body()) < limit).map(|event| event.key.clone()).collect();
    for chunk in old.chunks(CHUNK) {
        let keys = chunk.to_vec();
        super::write(shared, "sweeping events", move |txn| {
            for key in &keys {
                // One that was counted up meanwhile stays.
                if txn.get(key).is_some_and(|event| last_seen(event.body()) < limit) {
                    txn.delete(key);
                }
            }
            Ok(())
        })
        .await;
    }
    old.len()
}

fn last_seen(event: &Value) -> Timestamp {
    ["/metadata/creationTimestamp", "/lastTimestamp", "/eventTime", "/series/lastObservedTime"]
        .iter()
        .filter_map(|path| event.pointer(path)?.as_str()?.parse().ok())
        .max()
        .unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_is_as_old_as_its_last_sighting() {
        let event = json!({
            "metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"},
            "lastTimestamp": "2026-01-01T02:00:00Z", "eventTime": null
        });
        assert_eq!(last_seen(&event), "2026-01-01T02:00:00Z".parse().unwrap());
        // One without any time is not ours to judge.
        assert_eq!(last_seen(&json!({})), Timestamp::MAX);
    }
}
