//! Requests of the command line to the admin listener: one connection, one answer, bounded.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::exit::Failure;

const LIMIT: Duration = Duration::from_secs(10);
const MAX_BYTES: usize = 64 << 20;

/// An answer of the admin listener.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// GETs `path` from `address` (`host:port`).
pub(crate) async fn get(address: &str, path: &str) -> Result<Answer, Failure> {
    let request = hyper::Request::get(path).header("host", address).body(Full::new(Bytes::new()));
    send(address, request).await
}

/// POSTs JSON to `path`.
pub(crate) async fn post(address: &str, path: &str, body: &serde_json::Value) -> Result<Answer, Failure> {
    let request = hyper::Request::post(path).header("host", address).header("content-type", "application/json");
    send(address, request.body(Full::new(Bytes::from(body.to_string())))).await
}

async fn send(address: &str, request: hyper::http::Result<hyper::Request<Full<Bytes>>>) -> Result<Answer, Failure> {
    let unreachable = |problem: String| {
        Failure::new(format!("the platform at `{address}` does not answer: {problem}"))
            .try_next("tidegate up, or --data-dir DIR of the one that runs")
    };
    let request = request.map_err(|error| Failure::new(format!("request cannot be made: {error}")))?;
    let exchange = async {
        let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
            let status = response.status().as_u16();
            let body =
                Limited::new(response.into_body(), MAX_BYTES).collect().await.map_err(|error| error.to_string())?;
            Ok(Answer { status, body: String::from_utf8_lossy(&body.to_bytes()).into_owned() })
        };
        // The connection ends with the exchange: nothing is left running.
        tokio::select! {
            answer = answer => answer,
            Err(error) = connection => Err(error.to_string()),
        }
    };
    match tokio::time::timeout(LIMIT, exchange).await {
        Ok(result) => result.map_err(unreachable),
        Err(_) => Err(unreachable(format!("no answer within {} s", LIMIT.as_secs()))),
    }
}
