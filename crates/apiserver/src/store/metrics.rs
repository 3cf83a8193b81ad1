//! Metrics of the store (SPEC 60 §25).

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Unit;
use tidegate_runtime::Clock;

use super::{ClusterId, StoreOptions};
use crate::cache::Clusters;

/// Handles that the writer keeps. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct StoreMetrics {
    commit_duration: Histogram,
    batch_commands: Histogram,
    last_compaction: Arc<Mutex<Instant>>,
}

impl StoreMetrics {
    pub(crate) fn register(options: &StoreOptions, clusters: &Arc<Clusters>) -> Self {
        let metrics = Self {
            commit_duration: Histogram::new(exponential_buckets(0.000_1, 2.0, 16)),
            batch_commands: Histogram::new(exponential_buckets(1.0, 2.0, 11)),
            last_compaction: Arc::new(Mutex::new(options.clock.instant())),
        };
        let mut wal = options.path.clone().into_os_string();
        wal.push("-wal");
        let scraped = Scraped {
            wal: wal.into(),
            clock: options.clock.clone(),
            last_compaction: Arc::clone(&metrics.last_compaction),
            clusters: Arc::clone(clusters),
        };
        options.metrics.register(|registry| {
            registry.register_with_unit(
                "tidegate_store_commit_duration",
                "Time from taking a batch of writes to its durable commit",
                Unit::Seconds,
                metrics.commit_duration.clone(),
            );
            registry.register(
                "tidegate_store_batch_commands",
                "Operations executed in one transaction",
                metrics.batch_commands.clone(),
            );
            registry.register_collector(Box::new(scraped));
        });
        metrics
    }

    pub(crate) fn committed(&self, took: Duration, operations: usize) {
        self.commit_duration.observe(took.as_secs_f64());
        self.batch_commands.observe(u32::try_from(operations).map_or(f64::INFINITY, f64::from));
    }

    pub(crate) fn compacted(&self, at: Instant) {
        *self.last_compaction.lock() = at;
    }
}

/// What is looked up when somebody asks: it costs writers nothing.
struct Scraped {
    wal: PathBuf,
    clock: Clock,
    last_compaction: Arc<Mutex<Instant>>,
    clusters: Arc<Clusters>,
}

impl fmt::Debug for Scraped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scraped").field("wal", &self.wal).finish_non_exhaustive()
    }
}

impl Collector for Scraped {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let wal = std::fs::metadata(&self.wal).map_or(0, |wal| wal.len());
        let gauge = ConstGauge::new(i64::try_from(wal).unwrap_or(i64::MAX));
        gauge.encode(encoder.encode_descriptor(
            "tidegate_store_wal",
            "Size of the write-ahead log file",
            Some(&Unit::Bytes),
            MetricType::Gauge,
        )?)?;
        let age = self.clock.instant().saturating_duration_since(*self.last_compaction.lock());
        ConstGauge::new(age.as_secs_f64()).encode(encoder.encode_descriptor(
            "tidegate_store_compaction_age",
            "Time since the event log was last compacted",
            Some(&Unit::Seconds),
            MetricType::Gauge,
        )?)?;
        // SPEC 60 §25: resources of runtimes are not labels.
        let Some(root) = self.clusters.get(&ClusterId::ROOT) else { return Ok(()) };
        let mut objects = encoder.encode_descriptor(
            "tidegate_store_objects",
            "Objects stored in the root cluster",
            None,
            MetricType::Gauge,
        )?;
        for (resource, count) in root.view().counts() {
            let gauge = ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX));
            gauge.encode(objects.encode_family(&[("resource", resource.to_string())])?)?;
        }
        Ok(())
    }
}
