//! Interleaved comparison: in every round each contender runs once, in rotated order, and figures are judged as ratios
//! of medians within the run (`70` section 5).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Result, ensure};
use serde::Serialize;

use crate::load::{self, Outcome, Plan};
use crate::process::Measured;

/// Client connections kept open, as on the reference machine of `70` section 1.
const CONNECTIONS: usize = 64;

/// One way to send requests to one process.
pub(crate) struct Contender<'a> {
    /// Name in the report.
    pub(crate) name: String,
    /// The process whose CPU time is taken.
    pub(crate) process: &'a Measured,
    /// Where its requests go.
    pub(crate) target: SocketAddr,
    /// Requests of one round; a function, since cold rows need new tokens in each.
    pub(crate) requests: Box<dyn Fn() -> Result<Vec<Vec<u8>>> + 'a>,
    /// Requests sent per round.
    pub(crate) total: usize,
}

/// Figures of one contender in one round.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figures {
    /// CPU microseconds per answered request.
    pub(crate) cpu_us: f64,
    /// Answers per second.
    pub(crate) per_second: f64,
    /// Median latency in microseconds.
    pub(crate) p50_us: f64,
    /// 99th percentile in microseconds.
    pub(crate) p99_us: f64,
}

/// Runs `rounds` rounds and returns the figures of each contender by name, one entry per round.
///
/// # Errors
/// A connection that fails, or an answer that is not 200.
pub(crate) async fn interleaved(contenders: &[Contender<'_>], rounds: usize) -> Result<BTreeMap<String, Vec<Figures>>> {
    let mut results: BTreeMap<String, Vec<Figures>> = BTreeMap::new();
    for contender in contenders {
        let requests = Arc::new((contender.requests)()?);
        let total = requests.len().max(CONNECTIONS * 8).min(contender.total);
        measure(contender, requests, total).await?;
    }
    for round in 0..rounds {
        for offset in 0..contenders.len() {
            let Some(contender) = contenders.get((round + offset) % contenders.len()) else { continue };
            let requests = Arc::new((contender.requests)()?);
            let figures = measure(contender, requests, contender.total).await?;
            results.entry(contender.name.clone()).or_default().push(figures);
        }
    }
    Ok(results)
}

async fn measure(contender: &Contender<'_>, requests: Arc<Vec<Vec<u8>>>, total: usize) -> Result<Figures> {
    let before = contender.process.cpu();
    let outcome = load::run(Plan { target: contender.target, connections: CONNECTIONS, requests, total }).await?;
    let cpu = contender.process.cpu().saturating_sub(before);
    ensure!(outcome.all(200, total), "{}: not every answer is 200: {:?}", contender.name, outcome.statuses);
    Ok(figures(&outcome, cpu.as_secs_f64()))
}

#[expect(clippy::cast_precision_loss, reason = "counts of a benchmark run")]
fn figures(outcome: &Outcome, cpu_s: f64) -> Figures {
    let answered = outcome.answered() as f64;
    Figures {
        cpu_us: cpu_s * 1e6 / answered,
        per_second: answered / outcome.elapsed.as_secs_f64(),
        p50_us: outcome.latency.quantile_us(0.5),
        p99_us: outcome.latency.quantile_us(0.99),
    }
}

/// Median of `values`; 0 for none.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Largest relative distance between two rounds of one contender, by CPU.
pub(crate) fn spread(figures: &[Figures]) -> f64 {
    let costs = figures.iter().map(|figures| figures.cpu_us);
    let (low, high) = costs.fold((f64::INFINITY, 0.0_f64), |(low, high), cost| (low.min(cost), high.max(cost)));
    if low > 0.0 && low.is_finite() { high / low - 1.0 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(cpu_us: f64) -> Figures {
        Figures { cpu_us, per_second: 0.0, p50_us: 0.0, p99_us: 0.0 }
    }

    #[test]
    fn the_median_ignores_one_wild_round() {
        assert!((median([3.0, 100.0, 2.0, 4.0, 1.0]) - 3.0).abs() < f64::EPSILON);
        assert!(median([]).abs() < f64::EPSILON);
    }

    #[test]
    fn the_spread_is_relative_to_the_lowest_round() {
        assert!((spread(&[round(10.0), round(13.5)]) - 0.35).abs() < 1e-9);
        assert!(spread(&[]).abs() < f64::EPSILON);
    }
}
