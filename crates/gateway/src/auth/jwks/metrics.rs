//! `tidegate_gateway_jwks_fetches_total{result}` and `tidegate_gateway_jwks_age_seconds`. SPEC 30 §12.

use std::fmt;
use std::sync::Weak;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use tidegate_runtime::{FetchError, Metrics};

use super::{JwksError, Shared};

#[derive(Default)]
pub(super) struct JwksMetrics {
    fetches: Family<[(&'static str, &'static str); 1], Counter>,
}

impl JwksMetrics {
    pub(super) fn register(&self, metrics: &Metrics, shared: Weak<Shared>) {
        metrics.register(|registry| {
            registry.register(
                "tidegate_gateway_jwks_fetches",
                "Fetches of issuers' keys by outcome",
                self.fetches.clone(),
            );
            registry.register_collector(Box::new(Age(shared)));
        });
    }

    pub(super) fn count(&self, error: Option<&JwksError>) {
        self.fetches.get_or_create(&[("result", result(error))]).inc();
    }
}

fn result(error: Option<&JwksError>) -> &'static str {
    match error {
        None => "ok",
        Some(JwksError::Status(_)) => "status",
        Some(JwksError::KeySet(_)) => "malformed",
        Some(JwksError::Fetch(error)) => match error {
            FetchError::Timeout(_) => "timeout",
            FetchError::TooLarge(_) => "too_large",
            FetchError::TooManyRedirects(_) | FetchError::Redirect(_) => "redirect",
            FetchError::Address(_) | FetchError::InvalidUrl(_) => "address",
            FetchError::Transport(_) | FetchError::TrustRoots(_) => "transport",
        },
    }
}

/// Reads the ages when it is asked.
struct Age(Weak<Shared>);

impl fmt::Debug for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Age")
    }
}

impl Collector for Age {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(shared) = self.0.upgrade() else { return Ok(()) };
        let age = ConstGauge::new(shared.oldest_age_s());
        let descriptor = encoder.encode_descriptor(
            "tidegate_gateway_jwks_age",
            "Age of the oldest set of keys in use",
            Some(&Unit::Seconds),
            age.metric_type(),
        )?;
        age.encode(descriptor)
    }
}
