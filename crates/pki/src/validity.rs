//! When a certificate is valid and when it is due for renewal.

use std::time::Duration;

use jiff::Timestamp;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::PkiError;

/// The closed interval in which a certificate is valid, in whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// First instant of validity.
    pub not_before: Timestamp,
    /// Last instant of validity.
    pub not_after: Timestamp,
}

impl Validity {
    /// Reads the validity of one DER certificate.
    ///
    /// Errors: [`PkiError::Certificate`] for bytes that are no certificate, [`PkiError::Time`]
    /// for dates that a timestamp cannot hold.
    pub fn from_der(certificate: &[u8]) -> Result<Self, PkiError> {
        let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| PkiError::Certificate)?;
        let validity = parsed.validity();
        let instant = |seconds: i64| Timestamp::from_second(seconds).map_err(|_| PkiError::Time);
        Ok(Self {
            not_before: instant(validity.not_before.timestamp())?,
            not_after: instant(validity.not_after.timestamp())?,
        })
    }

    /// How long the certificate is valid in all; zero when the interval is empty.
    pub fn lifetime(&self) -> Duration {
        Duration::try_from(self.not_after.duration_since(self.not_before)).unwrap_or_default()
    }

    /// The instant at which two thirds of the lifetime are over.
    // SPEC 30 §6.10: renewed at 2/3 of its life.
    pub fn renew_at(&self) -> Timestamp {
        self.not_before.checked_add(self.lifetime() / 3 * 2).unwrap_or(self.not_after)
    }

    /// Whether a new certificate should be issued now (also true once it is expired).
    pub fn is_renewal_due(&self, now: Timestamp) -> bool {
        now >= self.renew_at()
    }

    /// Whether the certificate is no longer valid.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        now > self.not_after
    }
}
