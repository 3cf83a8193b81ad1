//! The way of one request (SPEC 60 §3).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request};
use tidegate_runtime::BoxBody;

use super::negotiate;
use super::respond::{self, Answer};
use super::target::Target;
use super::{Call, Shared, body, delete, documents, get, gzip, list, watch, write};
use crate::authn::{self, Identity};
use crate::metrics::RequestLabels;
use crate::registry::Verb;
use crate::request_info::{self, MAX_QUERY_KEYS, RequestInfo, RequestInfoError};
use crate::status::{ApiError, Reason};
use crate::store::ClusterId;

/// Longest request that is no watch (SPEC 60 §3).
const TIMEOUT: Duration = Duration::from_mins(1);
/// Longest path and query (SPEC 60 §23).
const MAX_URL_BYTES: usize = 16 * 1024;
/// Most bytes of all header fields (SPEC 60 §23). The listener's own bound depends on how the bytes arrive.
const MAX_HEADER_BYTES: usize = 64 * 1024;
/// Longest request id that is taken over from the client.
const MAX_ID_BYTES: usize = 64;
/// From here on a request that is no watch is logged.
const SLOW: Duration = Duration::from_secs(1);

const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

/// Answers one request, whatever it is.
pub(super) async fn answer(shared: Arc<Shared>, request: Request<BoxBody>) -> Answer {
    let started = shared.clock.instant();
    let (parts, body) = request.into_parts();
    let id = request_id(&shared, &parts);
    let format = negotiate::error_format(&parts.headers);
    let mut labels = RequestLabels {
        verb: method_word(&parts.method),
        group: String::new(),
        resource: String::new(),
        subresource: String::new(),
        code: 0,
        cluster: "root",
    };
    let caught = shared.tasks.catch("kube-request", route(&shared, &parts, body, &mut labels)).await;
    let mut answer = match caught {
        Some(Ok(answer)) => answer,
        Some(Err(error)) => respond::error(&error, format),
        None => respond::error(&ApiError::internal(format_args!("request {id}")), format),
    };
    answer = gzip::compress(answer, gzip::accepts_gzip(&parts.headers), &shared.tasks).await;
    if let Ok(value) = HeaderValue::from_str(&id) {
        answer.headers_mut().insert(AUDIT_ID, value);
    }
    labels.code = answer.status().as_u16();
    let took = shared.clock.instant().duration_since(started);
    shared.metrics.answered(&labels, (labels.verb != Verb::Watch.as_str()).then_some(took));
    log(&parts, &labels, &id, took);
    answer
}

fn log(parts: &Parts, labels: &RequestLabels, id: &str, took: Duration) {
    let RequestLabels { verb, resource, code, .. } = labels;
    let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    if *code >= 500 {
        tracing::error!(request.id = id, http.status = code, duration_ms, "{verb} {resource} failed with {code}");
    } else if took > SLOW && *verb != Verb::Watch.as_str() {
        tracing::warn!(request.id = id, http.status = code, duration_ms, "{verb} {resource} took {duration_ms} ms");
    } else if parts.method != Method::GET {
        tracing::debug!(request.id = id, http.status = code, duration_ms, "{verb} {resource} answered {code}");
    }
}

fn request_id(shared: &Shared, parts: &Parts) -> String {
    let given = parts.headers.get(AUDIT_ID).and_then(|value| value.to_str().ok());
    let sound = |id: &&str| {
        (1..=MAX_ID_BYTES).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
    };
    given.filter(sound).map_or_else(|| shared.ids.request_id(), str::to_owned)
}

fn method_word(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "get",
        "POST" => "post",
        "PUT" => "put",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "other",
    }
}

async fn route(
    shared: &Arc<Shared>,
    parts: &Parts,
    body: BoxBody,
    labels: &mut RequestLabels,
) -> Result<Answer, ApiError> {
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    if target.len() > MAX_URL_BYTES {
        return Err(ApiError::new(Reason::RequestTooLong, format!("URL is longer than {MAX_URL_BYTES} bytes")));
    }
    if parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>() > MAX_HEADER_BYTES {
        return Err(ApiError::headers_too_large(MAX_HEADER_BYTES));
    }
    let info = match RequestInfo::parse(&parts.method, parts.uri.path(), parts.uri.query()) {
        Ok(info) => info,
        Err(RequestInfoError::Method) => return Err(ApiError::method_not_allowed()),
        Err(RequestInfoError::Path) => return Ok(respond::page_not_found()),
        Err(RequestInfoError::Query) => {
            return Err(ApiError::bad_request(format!("more than {MAX_QUERY_KEYS} query parameters")));
        }
    };
    let identity = authn::authenticate(&parts.extensions, &parts.headers, &shared.verifier, shared.clock.now())
        .map_err(|failure| {
            shared.metrics.refused(failure);
            tracing::info!(auth.reason = failure.reason(), "credential refused: {failure}");
            ApiError::unauthorized()
        })?;
    if let Some(cluster) = info.cluster.as_ref().filter(|cluster| !cluster.is_root()) {
        // SPEC 60 §2.1: only an administrator learns which clusters there are not.
        return Err(if identity.is_administrator() {
            ApiError::not_found("", "clusters", cluster.as_str())
        } else {
            ApiError::unauthorized()
        });
    }
    authn::authorize(&identity, &info)?;
    authn::refuse_impersonation(&identity, &parts.headers)?;
    match &info.target {
        request_info::Target::NonResource(path) => {
            if parts.method != Method::GET {
                return Err(ApiError::method_not_allowed());
            }
            documents::answer(shared, path, &info, &parts.headers)
        }
        request_info::Target::Resource(request) => {
            let published = shared.published.load_full();
            let target = match Target::resolve(&published.registry, ClusterId::ROOT, request) {
                Ok(target) => target,
                Err(none) => return Ok(none.into_answer(negotiate::error_format(&parts.headers))),
            };
            labels.verb = target.verb.as_str();
            target.group().clone_into(&mut labels.group);
            target.plural().clone_into(&mut labels.resource);
            target.subresource_name().clone_into(&mut labels.subresource);
            serve(shared, parts, info, target, &identity, body).await
        }
    }
}

async fn serve(
    shared: &Arc<Shared>,
    parts: &Parts,
    info: RequestInfo,
    target: Target,
    identity: &Identity,
    body: BoxBody,
) -> Result<Answer, ApiError> {
    let representation = if target.verb == Verb::Watch {
        negotiate::negotiate_watch(&parts.headers, &info.query)?
    } else {
        negotiate::negotiate(&parts.headers, &info.query)?
    };
    let timeout = timeout(info.query.get("timeout"));
    let warning = target.version.deprecation_warning.clone();
    let call =
        Call { shared: Arc::clone(shared), target, query: info.query, headers: parts.headers.clone(), representation };
    let work = async {
        let body = if call.target.verb.is_mutating() {
            body::read(body, (!identity.is_in_process()).then_some(body::MAX_BODY_BYTES)).await?
        } else {
            Bytes::new()
        };
        match call.target.verb {
            Verb::Get => get::get(&call).await,
            Verb::List => list::list(&call).await,
            Verb::Watch => watch::watch(&call).await,
            Verb::Create => write::create(&call, body).await,
            Verb::Update => write::update(&call, body).await,
            Verb::Patch => write::patch(&call, body).await,
            Verb::Delete => delete::delete(&call, body).await,
            Verb::DeleteCollection => delete::delete_collection(&call, body).await,
        }
    };
    let mut answer = tokio::time::timeout(timeout, work)
        .await
        .map_err(|_| ApiError::timeout("request did not complete within the allotted timeout"))??;
    if let Some(warning) = warning {
        respond::warn(&mut answer, &[warning]);
    }
    Ok(answer)
}

/// `?timeout=32s` as kubectl sends it; seconds, minutes and milliseconds, at most 60 s.
fn timeout(text: Option<&str>) -> Duration {
    let given = text.and_then(|text| {
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().ok()?;
        match unit {
            "" | "s" => Some(Duration::from_secs(number)),
            "ms" => Some(Duration::from_millis(number)),
            "m" | "m0s" => Some(Duration::from_secs(number.checked_mul(60)?)),
            _ => None,
        }
    });
    given.filter(|given| !given.is_zero()).map_or(TIMEOUT, |given| given.min(TIMEOUT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_may_shorten_the_timeout_but_not_lengthen_it() {
        for (text, seconds) in [
            (None, 60),
            (Some("32s"), 32),
            (Some("5"), 5),
            (Some("10m"), 60),
            (Some("0s"), 60),
            (Some("x"), 60),
            (Some("99999999999999999999s"), 60),
        ] {
            assert_eq!(timeout(text), Duration::from_secs(seconds), "{text:?}");
        }
    }
}
