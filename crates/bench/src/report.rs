//! What a run found: ratios of medians beside their budgets, as a table for people and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Result;
use serde::Serialize;

use crate::compare::{Figures, median, spread};

/// A run whose do-nothing proxy varied more than this between rounds is repeated, not judged.
const TOO_BUSY: f64 = 0.35;

/// Everything one run measured.
#[derive(Default, Serialize)]
pub(crate) struct Report {
    /// Machine and versions, by name.
    pub(crate) settings: BTreeMap<String, String>,
    /// All rounds of the interleaved comparison, by contender.
    pub(crate) rounds: BTreeMap<String, Vec<Figures>>,
    /// Judged values.
    pub(crate) judgements: Vec<Judgement>,
}

/// One value beside its budget.
#[derive(Serialize)]
pub(crate) struct Judgement {
    /// What was measured.
    pub(crate) what: String,
    /// The value, in the unit of `what`.
    pub(crate) value: f64,
    /// The budget it must not exceed; `None` where it is for information.
    pub(crate) budget: Option<f64>,
}

impl Report {
    /// Median CPU microseconds per request of `contender`, if it ran.
    pub(crate) fn cost(&self, contender: &str) -> Option<f64> {
        self.rounds.get(contender).map(|rounds| median(rounds.iter().map(|round| round.cpu_us)))
    }

    /// Adds a value with an upper bound.
    pub(crate) fn judge(&mut self, what: impl Into<String>, value: f64, budget: Option<f64>) {
        self.judgements.push(Judgement { what: what.into(), value, budget });
    }

    /// Adds the ratio of two contenders' costs, if both ran.
    pub(crate) fn judge_ratio(&mut self, of: &str, over: &str, budget: Option<f64>) {
        if let (Some(cost), Some(base)) = (self.cost(of), self.cost(over)) {
            self.judge(format!("C({of}) / C({over})"), cost / base, budget);
        }
    }

    /// The report as text.
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.settings {
            let _ = writeln!(text, "{name}: {value}");
        }
        let _ = writeln!(
            text,
            "\n{:<24} {:>9} {:>11} {:>9} {:>9} {:>8}",
            "contender", "C us", "answers/s", "p50 us", "p99 us", "spread"
        );
        for (name, rounds) in &self.rounds {
            let of = |field: fn(&Figures) -> f64| median(rounds.iter().map(field));
            let _ = writeln!(
                text,
                "{name:<24} {:>9.1} {:>11.0} {:>9.0} {:>9.0} {:>7.0}%",
                of(|round| round.cpu_us),
                of(|round| round.per_second),
                of(|round| round.p50_us),
                of(|round| round.p99_us),
                spread(rounds) * 100.0,
            );
        }
        if self.rounds.get("limit").is_some_and(|rounds| spread(rounds) > TOO_BUSY) {
            text.push_str(
                "\nthe do-nothing proxy varied by more than 35 % between rounds: repeat this run, do not judge it\n",
            );
        }
        let _ = writeln!(text, "\n{:<58} {:>10} {:>10}", "value", "measured", "budget");
        for judgement in &self.judgements {
            let verdict = match judgement.budget {
                Some(budget) if judgement.value <= budget => format!("{budget:>10.3}  kept"),
                Some(budget) => format!("{budget:>10.3}  MISSED"),
                None => String::new(),
            };
            let _ = writeln!(text, "{:<58} {:>10.3} {verdict}", judgement.what, judgement.value);
        }
        text
    }

    /// The report as indented JSON.
    ///
    /// # Errors
    /// A value that is not a number.
    pub(crate) fn json(&self) -> Result<Vec<u8>> {
        Ok(serde_json::to_vec_pretty(self)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_budget_is_printed_as_missed() {
        let mut report = Report::default();
        report.judge("a", 2.0, Some(1.5));
        report.judge("b", 1.0, Some(1.5));
        let table = report.table();
        assert!(table.lines().any(|line| line.starts_with('a') && line.ends_with("MISSED")));
        assert!(table.lines().any(|line| line.starts_with('b') && line.ends_with("kept")));
    }
}
