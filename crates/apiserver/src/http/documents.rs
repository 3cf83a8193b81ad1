//! Paths that are no resource: health, version, metrics, discovery (SPEC 60 §5).

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH, VARY};
use http::{HeaderMap, StatusCode};
use serde_json::json;

use super::health::{self, Check};
use super::negotiate::{self, negotiate};
use super::respond::{self, Answer};
use super::{Published, Shared};
use crate::discovery::{AggregatedVersion, Discovery, Document};
use crate::request_info::RequestInfo;
use crate::status::ApiError;

/// Answers a GET of a path that is no resource.
///
/// # Errors
/// 406; 404 inside a served group.
pub(super) fn answer(shared: &Shared, path: &str, info: &RequestInfo, headers: &HeaderMap) -> Result<Answer, ApiError> {
    let published = shared.published.load();
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    match segments.as_slice() {
        ["livez", ..] => Ok(health::answer("/livez", path, &info.query, &[("ping", Ok(()))])),
        ["healthz", ..] => Ok(health::answer("/healthz", path, &info.query, &[("ping", Ok(()))])),
        ["readyz", ..] => Ok(health::answer("/readyz", path, &info.query, &readiness(shared))),
        ["version"] => encoded(info, headers, Bytes::from(version().to_string())),
        ["metrics"] => {
            Ok(respond::bytes(StatusCode::OK, tidegate_runtime::Metrics::CONTENT_TYPE, shared.all_metrics.encode()))
        }
        [""] => encoded(info, headers, published.discovery.root().clone()),
        ["api"] => match aggregated(headers) {
            Some(version) => Ok(document(headers, version, published.discovery.aggregated_core(version))),
            None => encoded(info, headers, Discovery::core_versions(&shared.address.load())),
        },
        ["apis"] => match aggregated(headers) {
            Some(version) => Ok(document(headers, version, published.discovery.aggregated_groups(version))),
            None => encoded(info, headers, published.discovery.groups().clone()),
        },
        ["api", version] => resources(&published, "", version, info, headers),
        ["apis", group] => match published.discovery.group(group) {
            Some(body) => encoded(info, headers, body.clone()),
            None => Ok(respond::page_not_found()),
        },
        ["apis", group, version] => resources(&published, group, version, info, headers),
        _ => Ok(respond::page_not_found()),
    }
}

fn resources(
    published: &Published,
    group: &str,
    version: &str,
    info: &RequestInfo,
    headers: &HeaderMap,
) -> Result<Answer, ApiError> {
    match published.discovery.resources(group, version) {
        Some(body) => encoded(info, headers, body.clone()),
        None => Ok(respond::page_not_found()),
    }
}

fn encoded(info: &RequestInfo, headers: &HeaderMap, body: Bytes) -> Result<Answer, ApiError> {
    Ok(respond::encoded(StatusCode::OK, negotiate(headers, &info.query)?, body))
}

fn readiness(shared: &Shared) -> Vec<Check> {
    let mut checks = vec![("ping", Ok(()))];
    checks.extend(shared.readiness.report());
    checks
}

fn aggregated(headers: &HeaderMap) -> Option<AggregatedVersion> {
    negotiate::aggregated_discovery(headers).and_then(AggregatedVersion::parse)
}

/// An aggregated document, or 304 when the client has it (SPEC 60 §5.2).
fn document(headers: &HeaderMap, version: AggregatedVersion, document: &Document) -> Answer {
    let has_it = headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|tag| tag.trim().trim_start_matches("W/") == document.etag);
    let mut answer = if has_it {
        respond::bytes(StatusCode::NOT_MODIFIED, version.content_type(), Bytes::new())
    } else {
        respond::bytes(StatusCode::OK, version.content_type(), document.body.clone())
    };
    if has_it {
        answer.headers_mut().remove(CONTENT_TYPE);
    }
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public"));
    answer.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    if let Ok(etag) = HeaderValue::from_str(&document.etag) {
        answer.headers_mut().insert(ETAG, etag);
    }
    answer
}

/// SPEC 60 §5.1: the minor whose behavior this server is checked against, our own version as build metadata.
fn version() -> serde_json::Value {
    json!({
        "major": "1",
        "minor": "36",
        "gitVersion": concat!("v1.36.2+tidegate.", env!("CARGO_PKG_VERSION")),
        "gitCommit": option_env!("TIDEGATE_BUILD_COMMIT").unwrap_or_default(),
        "gitTreeState": "clean",
        "buildDate": option_env!("TIDEGATE_BUILD_DATE").unwrap_or_default(),
        "goVersion": "none",
        "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, architecture()),
    })
}

/// The architecture by Go's name, which clients know.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
