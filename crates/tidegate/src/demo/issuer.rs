//! The demo's sample issuer: one ES256 key, its JWKS, and an endpoint that hands a token to anybody.
//!
//! It exists so that the demo needs no identity provider. It listens on loopback and dies with the demo.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tidegate_runtime::{Clock, Tasks};
use tidegate_tokens::signing::jwks;
use tidegate_tokens::{Algorithm, SigningKey};

use super::because;
use super::upstream::serve;
use crate::exit::Failure;

/// Lifetime of a sample token, seconds.
const TOKEN_LIFETIME_S: i64 = 3600;

/// A running sample issuer on a free loopback port.
pub(super) struct SampleIssuer {
    address: SocketAddr,
    tasks: Tasks,
}

/// What its handlers share.
struct Signer {
    issuer: String,
    key: SigningKey,
    clock: Clock,
}

impl SampleIssuer {
    /// Starts it with a new key.
    pub(super) async fn start() -> Result<Self, Failure> {
        let key = SigningKey::generate(Algorithm::Es256, "demo").map_err(because("no key for the sample issuer"))?;
        let (address, tasks) = serve(|address| {
            let signer = Signer { issuer: issuer_name(address), key, clock: Clock::system() };
            Router::new().route("/keys", get(keys)).route("/token", get(token)).with_state(Arc::new(signer))
        })
        .await
        .map_err(because("the sample issuer cannot be started"))?;
        Ok(Self { address, tasks })
    }

    /// The `iss` of its tokens.
    pub(super) fn name(&self) -> String {
        issuer_name(self.address)
    }

    pub(super) fn jwks_uri(&self) -> String {
        format!("http://{}/keys", self.address)
    }

    pub(super) fn token_uri(&self) -> String {
        format!("http://{}/token", self.address)
    }
}

impl Drop for SampleIssuer {
    fn drop(&mut self) {
        self.tasks.shutdown().cancel();
    }
}

async fn keys(State(signer): State<Arc<Signer>>) -> Json<Value> {
    Json(jwks([&signer.key]))
}

async fn token(State(signer): State<Arc<Signer>>) -> Result<String, StatusCode> {
    let now = signer.clock.now().as_second();
    let claims = json!({"iss": signer.issuer, "sub": "demo", "iat": now, "exp": now + TOKEN_LIFETIME_S});
    signer.key.sign(&claims).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}

fn issuer_name(address: SocketAddr) -> String {
    format!("http://{address}")
}
