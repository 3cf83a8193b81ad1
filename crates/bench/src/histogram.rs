//! A latency histogram with 4 % wide buckets: small, mergeable, good for medians and tails.

use std::time::Duration;

use serde::{Serialize, Serializer};

/// Each bucket's upper bound is this much above the previous one.
const GROWTH: f64 = 1.04;
/// Upper bound of bucket 0, microseconds.
const FIRST_US: f64 = 1.0;
/// Enough buckets to reach 60 seconds.
const BUCKETS: usize = 460;

/// Counts of durations.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS] }
    }
}

impl Histogram {
    /// Adds one duration; what is longer than the last bucket is counted in it.
    pub(crate) fn record(&mut self, duration: Duration) {
        let micros = (duration.as_secs_f64() * 1e6).max(FIRST_US);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small non-negative index")]
        let index = (micros / FIRST_US).log(GROWTH).ceil() as usize;
        if let Some(count) = self.counts.get_mut(index.min(BUCKETS - 1)) {
            *count += 1;
        }
    }

    /// Adds all counts of `other`.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
    }

    /// Upper bound of the bucket that holds quantile `q` (0 to 1), in microseconds; 0 when nothing was recorded.
    pub(crate) fn quantile_us(&self, q: f64) -> f64 {
        let total: u64 = self.counts.iter().sum();
        if total == 0 {
            return 0.0;
        }
        #[expect(clippy::cast_precision_loss, reason = "counts of a benchmark run")]
        let wanted = total as f64 * q;
        let mut seen = 0_u64;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            #[expect(clippy::cast_precision_loss, reason = "counts of a benchmark run")]
            let reached = seen as f64 >= wanted;
            if reached && *count > 0 {
                return FIRST_US * GROWTH.powi(i32::try_from(index).unwrap_or(i32::MAX));
            }
        }
        FIRST_US * GROWTH.powi(i32::try_from(BUCKETS).unwrap_or(i32::MAX))
    }
}

impl Serialize for Histogram {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        [0.5, 0.9, 0.99, 0.999].map(|q| self.quantile_us(q)).serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_a_bucket_of_the_truth() {
        let mut histogram = Histogram::default();
        for micros in 1..=1000 {
            histogram.record(Duration::from_micros(micros));
        }
        for (q, truth) in [(0.5, 500.0), (0.99, 990.0)] {
            let found = histogram.quantile_us(q);
            assert!((truth..truth * GROWTH * 1.001).contains(&found), "quantile {q}: {found}");
        }
    }
}
