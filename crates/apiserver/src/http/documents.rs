//! Paths that are no resource: health, version, metrics, discovery, OpenAPI (SPEC 60 §5).

use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, EXPIRES, HeaderValue, IF_NONE_MATCH, LOCATION, VARY};
use http::{HeaderMap, StatusCode};
use serde_json::json;
use tidegate_runtime::Clock;

use super::health::{self, Check};
use super::negotiate::{self, MediaRange, negotiate};
use super::respond::{self, Answer};
use super::{Published, Shared};
use crate::discovery::{AggregatedVersion, Discovery, Document};
use crate::openapi::{self, Lookup};
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
        ["openapi", "v2"] => open_api_v2(headers),
        ["openapi", "v3"] => {
            let index = prefixed(info, &published.open_api.index().body);
            Ok(respond::bytes(StatusCode::OK, "application/json", index))
        }
        ["openapi", "v3", rest @ ..] => Ok(open_api_v3(&published, &rest.join("/"), info, headers, &shared.clock)),
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

/// SPEC 60 §5.4: kubectl asks for exactly this type; nobody else is served a Swagger document yet.
fn open_api_v2(headers: &HeaderMap) -> Result<Answer, ApiError> {
    let wants = |range: &MediaRange<'_>| {
        matches!(range.media_type.as_str(), "*/*" | "application/*")
            || range.media_type.starts_with("application/com.github.proto-openapi.spec.v2")
    };
    let ranges = negotiate::media_ranges(headers);
    if !ranges.is_empty() && !ranges.iter().any(wants) {
        return Err(ApiError::not_acceptable());
    }
    Ok(respond::bytes(StatusCode::OK, openapi::V2_CONTENT_TYPE, openapi::V2_STUB))
}

/// Documents refer to themselves by path: the cluster's prefix has to stay (SPEC 60 §2.1).
fn prefixed(info: &RequestInfo, body: &Bytes) -> Bytes {
    let (Some(cluster), Ok(text)) = (&info.cluster, std::str::from_utf8(body)) else { return body.clone() };
    let own = "\"serverRelativeURL\":\"/openapi";
    let with_prefix = format!("\"serverRelativeURL\":\"/clusters/{}/openapi", cluster.as_str());
    Bytes::from(text.replace(own, &with_prefix))
}

fn open_api_v3(published: &Published, path: &str, info: &RequestInfo, headers: &HeaderMap, clock: &Clock) -> Answer {
    let (document, cache) = match published.open_api.lookup(path, info.query.get("hash")) {
        None => return respond::page_not_found(),
        Some(Lookup::Moved(to)) => {
            let mut answer = respond::text(StatusCode::MOVED_PERMANENTLY, "");
            let prefix = info.cluster.as_ref().map(|cluster| format!("/clusters/{}", cluster.as_str()));
            if let Ok(to) = HeaderValue::from_str(&format!("{}{to}", prefix.unwrap_or_default())) {
                answer.headers_mut().insert(LOCATION, to);
            }
            return answer;
        }
        Some(Lookup::Immutable(document)) => (document, "public, immutable"),
        Some(Lookup::Current(document)) => (document, "no-cache, private"),
    };
    let mut answer = with_etag(headers, "application/json", document);
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static(cache));
    if cache.starts_with("public")
        && let Ok(in_a_year) = clock.now().checked_add(Duration::from_hours(365 * 24))
        && let Ok(expires) = HeaderValue::from_str(&in_a_year.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string())
    {
        answer.headers_mut().insert(EXPIRES, expires);
    }
    answer
}

/// An aggregated document, or 304 when the client has it (SPEC 60 §5.2).
fn document(headers: &HeaderMap, version: AggregatedVersion, document: &Document) -> Answer {
    let mut answer = with_etag(headers, version.content_type(), document);
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public"));
    answer.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    answer
}

/// A document, or 304 without a body when the client names its tag.
fn with_etag(headers: &HeaderMap, content_type: &'static str, document: &Document) -> Answer {
    let has_it = headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|tag| tag.trim().trim_start_matches("W/") == document.etag);
    let mut answer = if has_it {
        respond::bytes(StatusCode::NOT_MODIFIED, content_type, Bytes::new())
    } else {
        respond::bytes(StatusCode::OK, content_type, document.body.clone())
    };
    if has_it {
        answer.headers_mut().remove(CONTENT_TYPE);
    }
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
