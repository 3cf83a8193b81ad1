//! The admin listener: health, metrics and debugging, on a runtime of its own (`80` section 9).

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidegate_gateway::{Gateway, Question};
use tidegate_runtime::logging::LogHandle;
use tidegate_runtime::reconcile::watches;
use tidegate_runtime::{Metrics, Readiness, Tasks};
use tokio::net::TcpListener;

/// What the listener answers from. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Admin {
    pub(crate) readiness: Readiness,
    pub(crate) metrics: Metrics,
    pub(crate) log: LogHandle,
    pub(crate) pages: Pages,
}

/// Pages about the data plane; they answer 503 until it runs. Cheap to clone; clones show the same.
#[derive(Clone, Default)]
pub(crate) struct Pages {
    gateway: Arc<OnceLock<Gateway>>,
}

impl Pages {
    /// From now on the pages are about `gateway`.
    pub(crate) fn show(&self, gateway: Gateway) {
        // There is one gateway in a process; a second one would not be shown.
        let _ = self.gateway.set(gateway);
    }
}

/// Longest wait for admin requests in hand at shutdown.
const LINGER: Duration = Duration::from_secs(2);

/// Serves until the tasks are asked to end. `listener` was bound on the runtime that `tasks` spawns onto.
pub(crate) fn serve(listener: TcpListener, admin: Admin, tasks: &Tasks) {
    let on_loopback = listener.local_addr().is_ok_and(|address| address.ip().is_loopback());
    let mut router = Router::new()
        .route("/livez", get(|| async { "ok" }))
        .route("/readyz", get(readyz))
        .route("/health/alive", get(|| async { json_answer(StatusCode::OK, &json!({"status": "ok"})) }))
        .route("/health/ready", get(health_ready))
        .route("/metrics", get(metrics))
        .route("/debug/log-level", get(log_level).put(set_log_level))
        .route("/debug/routes", get(routes))
        .route("/debug/watches", get(|| async { shown(&watches()) }))
        .route("/debug/decide", get(decide_by_query).post(decide))
        .with_state(admin);
    if on_loopback {
        router = router.layer(middleware::from_fn(only_local_names));
    }
    let shutdown = tasks.shutdown().clone();
    let stopped = shutdown.clone();
    drop(tasks.spawn("admin-listener", async move {
        let server = axum::serve(listener, router).with_graceful_shutdown(async move { stopped.cancelled().await });
        let cut = async move {
            shutdown.cancelled().await;
            tokio::time::sleep(LINGER).await;
        };
        tokio::select! {
            result = async { server.await } => {
                if let Err(error) = result {
                    tracing::error!(%error, "the admin listener failed");
                }
            }
            () = cut => {}
        }
    }));
}

/// A page in somebody's browser must not reach a loopback listener under a name that it lets resolve to loopback.
async fn only_local_names(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if is_local_name(host) {
        return next.run(request).await;
    }
    let message = "this listener answers only to `localhost` and to IP addresses in the Host header\n";
    (StatusCode::FORBIDDEN, message).into_response()
}

fn is_local_name(host: &str) -> bool {
    if host.parse::<SocketAddr>().is_ok() {
        return true;
    }
    let name = host
        .rsplit_once(':')
        .map_or(host, |(name, port)| if port.bytes().all(|byte| byte.is_ascii_digit()) { name } else { host });
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    bare.is_empty() || bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

/// `ok`, or the checks that fail; `?verbose` lists all of them, as Kubernetes does.
async fn readyz(State(admin): State<Admin>, request: Request) -> Response {
    let verbose = request
        .uri()
        .query()
        .is_some_and(|query| query.split('&').any(|part| part == "verbose" || part.starts_with("verbose=")));
    let report = admin.readiness.report();
    let is_ready = report.iter().all(|(_, state)| state.is_ok());
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    if is_ready && !verbose {
        return (status, "ok").into_response();
    }
    let mut text = String::new();
    for (name, state) in &report {
        // Writing to a `String` cannot fail.
        let _ = match state {
            Ok(()) => writeln!(text, "[+]{name} ok"),
            Err(reason) => writeln!(text, "[-]{name} failed: {reason}"),
        };
    }
    text.push_str(if is_ready { "readyz check passed\n" } else { "readyz check failed\n" });
    (status, text).into_response()
}

async fn health_ready(State(admin): State<Admin>) -> Response {
    let failed: serde_json::Map<String, Value> = admin
        .readiness
        .report()
        .into_iter()
        .filter_map(|(name, state)| Some((name.to_owned(), Value::String(state.err()?))))
        .collect();
    if failed.is_empty() {
        json_answer(StatusCode::OK, &json!({"status": "ok"}))
    } else {
        json_answer(StatusCode::SERVICE_UNAVAILABLE, &json!({"errors": failed}))
    }
}

async fn metrics(State(admin): State<Admin>) -> Response {
    let mut response = admin.metrics.encode().into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(Metrics::CONTENT_TYPE));
    response
}

async fn log_level(State(admin): State<Admin>) -> String {
    format!("{}\n", admin.log.filter())
}

async fn set_log_level(State(admin): State<Admin>, filter: String) -> Response {
    match admin.log.set(filter.trim()) {
        Ok(()) => format!("{}\n", admin.log.filter()).into_response(),
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    }
}

/// The table that requests go through.
async fn routes(State(admin): State<Admin>) -> Response {
    let Some(gateway) = admin.pages.gateway.get() else { return starting() };
    shown(&gateway.routes())
}

/// Explains the request that the body describes. The one way to give a token: a query ends up in logs.
async fn decide(State(admin): State<Admin>, Json(question): Json<Question>) -> Response {
    let Some(gateway) = admin.pages.gateway.get() else { return starting() };
    shown(&gateway.explain(&question).await)
}

/// Explains `?url=...&method=...&host=...`, for a browser or curl.
async fn decide_by_query(State(admin): State<Admin>, Query(asked): Query<AskedByQuery>) -> Response {
    let Some(gateway) = admin.pages.gateway.get() else { return starting() };
    let headers = asked.host.map(|host| ("host".to_owned(), host)).into_iter().collect();
    let question = Question { method: asked.method, url: asked.url, headers, token: None };
    shown(&gateway.explain(&question).await)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AskedByQuery {
    url: String,
    method: Option<String>,
    host: Option<String>,
}

fn starting() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "the gateway is starting\n").into_response()
}

fn shown(value: &impl Serialize) -> Response {
    match serde_json::to_value(value) {
        Ok(value) => json_answer(StatusCode::OK, &value),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// A JSON answer for people and programs: indented.
fn json_answer(status: StatusCode, value: &Value) -> Response {
    let mut response = Response::new(Body::from(format!("{value:#}\n")));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loopback_listener_answers_to_local_names_only() {
        for host in ["", "localhost", "LOCALHOST:4445", "127.0.0.1", "127.0.0.1:4445", "[::1]:4445", "[::1]"] {
            assert!(is_local_name(host), "{host}");
        }
        for host in ["evil.example", "evil.example:4445", "localhost.evil.example", "127.0.0.1.evil.example:80"] {
            assert!(!is_local_name(host), "{host}");
        }
    }
}
