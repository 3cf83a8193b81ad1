//! The load generator: a fixed number of keep-alive HTTP/1.1 connections, each sending its next request when the last
//! answer is complete.
//!
//! It speaks raw HTTP over `TcpStream` with prebuilt request bytes, so that what it costs does not vary with the
//! request and little of the second core goes to it. Answers are parsed far enough to know where they end and what
//! their status is; every status is counted, because a fast wrong answer is worth nothing.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::histogram::Histogram;

/// What one run of the generator does.
pub(crate) struct Plan {
    /// Where the connections go.
    pub(crate) target: SocketAddr,
    /// Connections kept open, each with one request in flight.
    pub(crate) connections: usize,
    /// Complete requests, sent in order and round robin over the connections.
    pub(crate) requests: Arc<Vec<Vec<u8>>>,
    /// Requests in all; the run ends when the last is answered.
    pub(crate) total: usize,
}

/// What came of a run.
#[derive(Debug, Default, Clone, Serialize)]
pub(crate) struct Outcome {
    /// Answers by status code.
    pub(crate) statuses: BTreeMap<u16, usize>,
    /// Wall time from the first request to the last answer.
    pub(crate) elapsed: Duration,
    /// Time from sending a request to the end of its answer, in microseconds.
    pub(crate) latency: Histogram,
}

impl Outcome {
    /// Answered requests.
    pub(crate) fn answered(&self) -> usize {
        self.statuses.values().sum()
    }

    /// Whether every answer had status `expected` and there were `total` of them.
    pub(crate) fn all(&self, expected: u16, total: usize) -> bool {
        self.statuses.len() == 1 && self.statuses.get(&expected) == Some(&total)
    }
}

/// Builds one GET request for `host`, with an optional bearer token.
pub(crate) fn get(host: &str, path: &str, token: Option<&str>) -> Vec<u8> {
    let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: tidegate-bench\r\n{authorization}\r\n").into_bytes()
}

/// Runs `plan` to its end.
///
/// # Errors
/// A connection that cannot be opened, ends early or answers something that is not HTTP/1.1.
pub(crate) async fn run(plan: Plan) -> Result<Outcome> {
    let plan = Arc::new(plan);
    let mut workers = JoinSet::new();
    let started = Instant::now();
    for worker in 0..plan.connections {
        let plan = Arc::clone(&plan);
        workers.spawn(async move { connection(&plan, worker).await });
    }
    let mut outcome = Outcome::default();
    while let Some(finished) = workers.join_next().await {
        let part = finished.context("a load connection panicked")??;
        for (status, count) in part.statuses {
            *outcome.statuses.entry(status).or_default() += count;
        }
        outcome.latency.merge(&part.latency);
    }
    outcome.elapsed = started.elapsed();
    Ok(outcome)
}

async fn connection(plan: &Plan, worker: usize) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut stream = TcpStream::connect(plan.target).await.with_context(|| format!("connect {}", plan.target))?;
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(16 * 1024);
    for index in (worker..plan.total).step_by(plan.connections) {
        let request = plan.requests.get(index % plan.requests.len()).context("no requests to send")?;
        let sent = Instant::now();
        stream.write_all(request).await?;
        let status = answer(&mut stream, &mut buffer).await?;
        outcome.latency.record(sent.elapsed());
        *outcome.statuses.entry(status).or_default() += 1;
    }
    Ok(outcome)
}

/// Reads one whole answer and returns its status. `buffer` is reused between answers and empty between calls.
async fn answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<u16> {
    buffer.clear();
    loop {
        if stream.read_buf(buffer).await? == 0 {
            bail!("connection closed inside an answer");
        }
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut response = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(head) = response.parse(buffer)? else { continue };
        let status = response.code.context("answer without status")?;
        let length = content_length(response.headers)?;
        while buffer.len() < head + length {
            if stream.read_buf(buffer).await? == 0 {
                bail!("connection closed inside a body");
            }
        }
        return Ok(status);
    }
}

fn content_length(headers: &[httparse::Header<'_>]) -> Result<usize> {
    let value = headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let Some(value) = value else { bail!("the answers of a benchmark must carry content-length") };
    Ok(std::str::from_utf8(value.value)?.trim().parse()?)
}
