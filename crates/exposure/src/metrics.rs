//! Families of the `Api` controller, named as `80` section 9.

use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use tidegate_policy::ObjectRef;
use tidegate_runtime::Metrics;
use tidegate_runtime::reconcile::WorkQueue;

use crate::reconcile::Next;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindResult {
    kind: &'static str,
    result: &'static str,
}

const API: Kind = Kind { kind: "Api" };

/// Handles of the families.
#[derive(Clone, Debug)]
pub(crate) struct ExposureMetrics {
    reconciles: Family<KindResult, Counter>,
    durations: Family<Kind, Histogram>,
}

impl ExposureMetrics {
    /// Registers the families; the depth of `queue` is read on each scrape.
    pub(crate) fn register(metrics: &Metrics, queue: WorkQueue<ObjectRef>) -> Self {
        let families = Self {
            reconciles: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.001, 2.0, 14))),
        };
        metrics.register(|registry| {
            registry.register(
                "tidegate_controller_reconciles",
                "Attempts to bring an object to where it should be, by outcome",
                families.reconciles.clone(),
            );
            registry.register(
                "tidegate_controller_reconcile_duration_seconds",
                "Time of one attempt, waiting for enforcement included",
                families.durations.clone(),
            );
            registry.register_collector(Box::new(QueueDepth { queue }));
        });
        families
    }

    /// Counts one attempt.
    pub(crate) fn reconciled(&self, outcome: Result<Next, &kube::Error>, took: Duration) {
        let result = match outcome {
            Ok(Next::Done) => "done",
            Ok(Next::Again) => "again",
            Ok(Next::Later) => "retry",
            Err(_) => "error",
        };
        self.reconciles.get_or_create(&KindResult { kind: API.kind, result }).inc();
        self.durations.get_or_create(&API).observe(took.as_secs_f64());
    }
}

#[derive(Debug)]
struct QueueDepth {
    queue: WorkQueue<ObjectRef>,
}

impl Collector for QueueDepth {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let depth = ConstGauge::new(i64::try_from(self.queue.depth()).unwrap_or(i64::MAX));
        let name = "tidegate_controller_queue_depth";
        let mut family =
            encoder.encode_descriptor(name, "Objects that wait or are worked on", None, depth.metric_type())?;
        depth.encode(family.encode_family(&API)?)
    }
}
