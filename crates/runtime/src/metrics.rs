//! The metrics registry behind `/metrics`.

use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

/// The process's metrics. Cheap to clone; clones share the registry.
///
/// Names follow `80` section 9 (`tidegate_{area}_{noun}_{unit}`). A counter is registered **without** `_total`: the
/// encoder appends it.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
}

impl Metrics {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives `add` the registry to register families with; called once per component at start.
    pub fn register<T>(&self, add: impl FnOnce(&mut Registry) -> T) -> T {
        add(&mut self.registry.lock())
    }

    /// All families in the OpenMetrics text format.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a `String` fails only if a metric's own encoder does; what was written before it is still true.
        if encode(&mut text, &self.registry.lock()).is_err() {
            tracing::error!("a metric could not be encoded");
        }
        text
    }

    /// Media type of [`Metrics::encode`].
    pub const CONTENT_TYPE: &'static str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;

    use super::*;

    #[test]
    fn registered_families_are_encoded() {
        let metrics = Metrics::new();
        let counter = metrics.register(|registry| {
            let counter = Counter::<u64>::default();
            registry.register("tidegate_test_events", "Events of the test", counter.clone());
            counter
        });
        counter.inc();
        let text = metrics.encode();
        assert!(text.contains("tidegate_test_events_total 1"), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }
}
