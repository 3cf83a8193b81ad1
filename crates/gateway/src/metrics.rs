//! What the data plane counts. SPEC 30 §12, 80 §9
//!
//! A route's cells are found once, when the route is published; a request only adds to them. Labels come from
//! closed sets: object names, status codes, reason words.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use tidegate_runtime::Metrics;

use crate::pool::PoolMetrics;

/// Upper bounds of the duration histograms, in seconds.
const BOUNDS: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// All metrics of the gateway. Cheap to clone.
#[derive(Clone)]
pub(crate) struct GatewayMetrics {
    routes: Arc<Routes>,
    pub(crate) connections: Family<ConnectionLabels, Gauge>,
    pub(crate) rejects: Family<RejectLabels, Counter>,
    pub(crate) snapshot_revision: Gauge,
    pub(crate) snapshot_build: Histogram,
    pub(crate) pool: PoolMetrics,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ConnectionLabels {
    pub(crate) listener: &'static str,
    pub(crate) protocol: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RejectLabels {
    pub(crate) reason: &'static str,
}

impl GatewayMetrics {
    pub(crate) fn register(metrics: &Metrics) -> Self {
        let own = Self {
            routes: Arc::default(),
            connections: Family::default(),
            rejects: Family::default(),
            snapshot_revision: Gauge::default(),
            snapshot_build: Histogram::new(BOUNDS),
            pool: PoolMetrics::default(),
        };
        metrics.register(|registry| {
            registry.register_collector(Box::new(RoutesCollector(Arc::clone(&own.routes))));
            registry.register("tidegate_gateway_connections", "Open client connections", own.connections.clone());
            registry.register(
                "tidegate_gateway_rejects",
                "Requests refused before a route was chosen",
                own.rejects.clone(),
            );
            registry.register(
                "tidegate_gateway_snapshot_revision",
                "Publications of the route table since start",
                own.snapshot_revision.clone(),
            );
            registry.register(
                "tidegate_gateway_snapshot_build_duration_seconds",
                "Time from the first change of a batch to its publication",
                own.snapshot_build.clone(),
            );
            registry.register(
                "tidegate_gateway_upstream_connects",
                "Connections opened to upstreams",
                own.pool.opened.clone(),
            );
            registry.register(
                "tidegate_gateway_upstream_connect_failures",
                "Connections to upstreams that could not be opened",
                own.pool.failed.clone(),
            );
        });
        own
    }

    /// The cells of a route; the same ones as long as any publication of it lives.
    pub(crate) fn route(&self, name: &str) -> Arc<RouteMetrics> {
        let mut routes = self.routes.by_name.lock();
        if let Some(route) = routes.get(name) {
            return Arc::clone(route);
        }
        let route = Arc::new(RouteMetrics::new(name));
        routes.insert(name.into(), Arc::clone(&route));
        route
    }

    /// Ends the series of an object that is gone.
    pub(crate) fn forget(&self, name: &str) {
        self.routes.by_name.lock().remove(name);
    }
}

#[derive(Default)]
struct Routes {
    by_name: Mutex<BTreeMap<Box<str>, Arc<RouteMetrics>>>,
}

/// The cells of one route.
pub(crate) struct RouteMetrics {
    name: Box<str>,
    /// A route sees few different outcomes: a short list is found faster than a hash is computed.
    outcomes: RwLock<Vec<Outcome>>,
    requests: Durations,
    upstream: Durations,
}

struct Outcome {
    code: u16,
    reason: &'static str,
    count: AtomicU64,
}

impl RouteMetrics {
    fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            outcomes: RwLock::default(),
            requests: Durations::default(),
            upstream: Durations::default(),
        }
    }

    /// Counts a finished request. `code` 0: the client was gone before an answer.
    pub(crate) fn record(&self, code: u16, reason: &'static str, duration: Duration, upstream: Option<Duration>) {
        self.requests.observe(duration);
        if let Some(upstream) = upstream {
            self.upstream.observe(upstream);
        }
        let is_same = |outcome: &&Outcome| outcome.code == code && outcome.reason == reason;
        if let Some(outcome) = self.outcomes.read().iter().find(is_same) {
            outcome.count.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut outcomes = self.outcomes.write();
        match outcomes.iter().find(is_same) {
            Some(outcome) => {
                outcome.count.fetch_add(1, Ordering::Relaxed);
            }
            None => outcomes.push(Outcome { code, reason, count: AtomicU64::new(1) }),
        }
    }
}

/// A histogram without a lock; nothing is allocated before the first observation.
#[derive(Default)]
struct Durations {
    cells: OnceLock<Box<Cells>>,
}

#[derive(Default)]
struct Cells {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    sum_ns: AtomicU64,
}

/// What a histogram says at a scrape.
struct Observed {
    /// Seconds.
    sum: f64,
    count: u64,
    /// Upper bound and count of each bucket.
    buckets: Vec<(f64, u64)>,
}

impl Durations {
    fn observe(&self, duration: Duration) {
        let cells = self.cells.get_or_init(Box::default);
        let seconds = duration.as_secs_f64();
        let bucket = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        if let Some(cell) = cells.buckets.get(bucket) {
            cell.fetch_add(1, Ordering::Relaxed);
        }
        cells.sum_ns.fetch_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn read(&self) -> Option<Observed> {
        let cells = self.cells.get()?;
        let counts: Vec<u64> = cells.buckets.iter().map(|cell| cell.load(Ordering::Relaxed)).collect();
        let bounds = BOUNDS.iter().copied().chain([f64::MAX]);
        #[expect(clippy::cast_precision_loss, reason = "a sum of seconds needs no more than 53 bits")]
        let sum = cells.sum_ns.load(Ordering::Relaxed) as f64 / 1e9;
        Some(Observed { sum, count: counts.iter().sum(), buckets: bounds.zip(counts).collect() })
    }
}

struct RoutesCollector(Arc<Routes>);

impl fmt::Debug for RoutesCollector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("RoutesCollector")
    }
}

impl Collector for RoutesCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let routes: Vec<Arc<RouteMetrics>> = self.0.by_name.lock().values().cloned().collect();
        let mut family = encoder.encode_descriptor(
            "tidegate_gateway_requests",
            "Requests by route, status code (0: the client left before an answer) and reason",
            None,
            MetricType::Counter,
        )?;
        for route in &routes {
            for outcome in route.outcomes.read().iter() {
                let code = outcome.code.to_string();
                let labels = [("route", &*route.name), ("code", &*code), ("reason", outcome.reason)];
                let count = outcome.count.load(Ordering::Relaxed);
                family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
            }
        }
        for (name, help, is_upstream) in [
            ("tidegate_gateway_request_duration_seconds", "Time from a request's head to the end of its answer", false),
            ("tidegate_gateway_upstream_duration_seconds", "Time until the upstream's response headers", true),
        ] {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
            for route in &routes {
                let durations = if is_upstream { &route.upstream } else { &route.requests };
                if let Some(Observed { sum, count, buckets }) = durations.read() {
                    let labels = [("route", &*route.name)];
                    family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_routes_outcomes_are_counted_and_outlive_its_publications() {
        let metrics = Metrics::new();
        let gateway = GatewayMetrics::register(&metrics);
        let name = "Api/default/sample";
        gateway.route(name).record(200, "", Duration::from_millis(3), Some(Duration::from_millis(2)));
        gateway.route(name).record(200, "", Duration::from_millis(3), None);
        gateway.route(name).record(401, "token_missing", Duration::ZERO, None);
        let text = metrics.encode();
        for line in [
            r#"tidegate_gateway_requests_total{route="Api/default/sample",code="200",reason=""} 2"#,
            r#"tidegate_gateway_requests_total{route="Api/default/sample",code="401",reason="token_missing"} 1"#,
            r#"tidegate_gateway_request_duration_seconds_count{route="Api/default/sample"} 3"#,
            r#"tidegate_gateway_upstream_duration_seconds_bucket{le="0.0025",route="Api/default/sample"} 1"#,
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        gateway.forget(name);
        assert!(!metrics.encode().contains("Api/default/sample"));
    }
}
