//! Metric families of the control plane (SPEC 60 §25). Labels come from closed sets: served kinds, verbs, codes.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use tidegate_runtime::Metrics as Registry;

use crate::authn::AuthnFailure;

/// Labels of one kind of request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// `get`, `list`, ... or the method in lower case for paths that are no resource.
    pub verb: &'static str,
    /// Empty for core and for paths that are no resource.
    pub group: String,
    /// Empty for what is not served.
    pub resource: String,
    pub subresource: String,
    pub code: u16,
    /// `root` or `runtime`.
    pub cluster: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DurationLabels {
    verb: &'static str,
    resource: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailureLabels {
    method: &'static str,
    reason: &'static str,
}

/// 1 ms to 60 s.
const BUCKETS: [f64; 15] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// The families; cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics {
    requests: Family<RequestLabels, Counter<u64, AtomicU64>>,
    durations: Family<DurationLabels, Histogram, fn() -> Histogram>,
    failures: Family<FailureLabels, Counter<u64, AtomicU64>>,
    /// Open watches.
    pub watches: Gauge,
    /// Events sent to watchers.
    pub watch_events: Counter,
    /// Established definitions.
    pub definitions: Gauge,
}

impl Metrics {
    /// Creates the families and registers them.
    pub fn new(registry: &Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            failures: Family::default(),
            watches: Gauge::default(),
            watch_events: Counter::default(),
            definitions: Gauge::default(),
        };
        registry.register(|registry| {
            registry.register("tidegate_kube_requests", "Requests of the Kubernetes API", metrics.requests.clone());
            registry.register(
                "tidegate_kube_request_duration_seconds",
                "Time from request to answer, watches excluded",
                metrics.durations.clone(),
            );
            registry.register("tidegate_kube_watches", "Open watches", metrics.watches.clone());
            registry.register("tidegate_kube_watch_events", "Events sent to watchers", metrics.watch_events.clone());
            registry.register("tidegate_kube_crds", "Established definitions", metrics.definitions.clone());
            registry.register(
                "tidegate_kube_authn_failures",
                "Credentials that were refused",
                metrics.failures.clone(),
            );
        });
        metrics
    }

    /// Counts an answered request; `took` is absent for watches.
    pub fn answered(&self, labels: &RequestLabels, took: Option<Duration>) {
        if let Some(took) = took {
            let labels = DurationLabels { verb: labels.verb, resource: labels.resource.clone() };
            self.durations.get_or_create(&labels).observe(took.as_secs_f64());
        }
        self.requests.get_or_create(labels).inc();
    }

    /// Counts a refused credential.
    pub fn refused(&self, failure: AuthnFailure) {
        self.failures.get_or_create(&FailureLabels { method: failure.method(), reason: failure.reason() }).inc();
    }
}
