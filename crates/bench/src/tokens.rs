//! Tokens for the secured rows: one issuer per algorithm, served over HTTP like a foreign identity provider.

use std::net::SocketAddr;

use anyhow::Result;
use serde_json::json;
use tidegate_testkit::issuer::Issuer;

/// A signature algorithm that has a row.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Rs256,
    Es256,
    EdDsa,
}

impl Algorithm {
    /// Every algorithm, in the order of the report.
    pub(crate) const ALL: [Self; 3] = [Self::Rs256, Self::Es256, Self::EdDsa];

    /// Name in the report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "rs256",
            Self::Es256 => "es256",
            Self::EdDsa => "eddsa",
        }
    }

    fn signing(self) -> tidegate_tokens::Algorithm {
        match self {
            Self::Rs256 => tidegate_tokens::Algorithm::Rs256,
            Self::Es256 => tidegate_tokens::Algorithm::Es256,
            Self::EdDsa => tidegate_tokens::Algorithm::EdDsa,
        }
    }
}

/// The issuers of a run.
pub(crate) struct TokenSource {
    issuers: Vec<(Algorithm, Issuer)>,
}

impl TokenSource {
    /// Starts one issuer per algorithm on free loopback ports.
    ///
    /// # Errors
    /// No free port.
    pub(crate) async fn start() -> Result<Self> {
        let mut issuers = Vec::new();
        for algorithm in Algorithm::ALL {
            let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
            issuers.push((algorithm, Issuer::start_with(algorithm.signing(), any_port).await?));
        }
        Ok(Self { issuers })
    }

    /// Issuer name and key location of each, for the rules of an Api.
    pub(crate) fn rules(&self) -> Vec<(String, String)> {
        self.issuers.iter().map(|(_, issuer)| (issuer.issuer().to_owned(), issuer.jwks_uri())).collect()
    }

    /// `count` tokens that differ from each other and from all minted before, valid for an hour.
    ///
    /// # Errors
    /// Signing fails.
    pub(crate) fn mint(&self, algorithm: Algorithm, count: usize) -> Result<Vec<String>> {
        let Some((_, issuer)) = self.issuers.iter().find(|(known, _)| *known == algorithm) else {
            return Ok(Vec::new());
        };
        let started = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
        let claims = |index: usize| {
            json!({
                "iss": issuer.issuer(), "sub": "bench", "iat": started.as_secs(), "exp": started.as_secs() + 3600,
                // RFC 7519 section 4.1.7: makes each token another one.
                "jti": format!("{}-{index}", started.as_nanos()),
            })
        };
        (0..count).map(|index| Ok(issuer.mint().sign(&claims(index))?)).collect()
    }
}
