//! `tidegate_gateway_auth_total{kind,result,reason}` (SPEC 30 §12) and how often a signature was verified.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use tidegate_runtime::Metrics;

use super::AuthFailure;

type Labels = [(&'static str, &'static str); 3];

pub(super) struct AuthMetrics {
    outcomes: Family<Labels, Counter>,
    /// The one outcome of the warm path, looked up once.
    accepted: Counter,
    pub(super) verifications: Counter,
}

impl AuthMetrics {
    pub(super) fn register(metrics: &Metrics) -> Self {
        let outcomes = Family::<Labels, Counter>::default();
        let accepted = outcomes.get_or_create(&labels("ok", "")).clone();
        let verifications = Counter::default();
        metrics.register(|registry| {
            registry.register(
                "tidegate_gateway_auth",
                "Requests whose tokens were checked, by outcome",
                outcomes.clone(),
            );
            registry.register(
                "tidegate_gateway_signature_verifications",
                "Tokens whose signature was verified, not counting what the cache knew",
                verifications.clone(),
            );
        });
        Self { outcomes, accepted, verifications }
    }

    pub(super) fn count(&self, failure: Option<&AuthFailure>) {
        match failure {
            None => self.accepted.inc(),
            Some(failure) => self.outcomes.get_or_create(&labels("denied", failure.denied.reason.as_str())).inc(),
        };
    }
}

fn labels(result: &'static str, reason: &'static str) -> Labels {
    [("kind", "jwt"), ("result", result), ("reason", reason)]
}
