//! Why a request is allowed or refused, step by step: for `/debug/decide` and `tidegate why`.
//!
//! It asks the very table, guard and authenticator that requests go through, so it cannot tell another story.
//! Tokens are judged, never shown.

use http::header::{AUTHORIZATION, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use serde::{Deserialize, Serialize};
use tidegate_policy::headers::{Hygiene, clean_request};
use tidegate_policy::index::{HostOutcome, Validation, Verdict};
use tidegate_policy::{Decision, Guard, Host, Index, NormalizedPath, Reason, RequestFacts, Scheme, Selected};

use crate::Shared;
use crate::handle::{Destination, Handle};

/// A request to explain.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Question {
    /// Method; `GET` when absent.
    #[serde(default)]
    pub method: Option<String>,
    /// `http(s)://host[:port]/path[?query]`.
    pub url: String,
    /// Header lines.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// Bearer token, as if sent in `Authorization`.
    #[serde(default)]
    pub token: Option<String>,
}

/// The answer: every step that was taken, and what came out.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// In the order in which a request goes through them; the last one decided.
    pub steps: Vec<Step>,
    /// Whether the request would reach its upstream.
    pub allowed: bool,
    /// Status of the gateway's own answer; absent when the upstream answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The reason word of metric and access log; absent when there is nothing to complain about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// `Api/namespace/name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
}

/// One step.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// `url`, `host`, `path`, `headers`, `route`, `rule`, `token`, `decision` or `upstream`.
    pub name: &'static str,
    /// Whether it let the request go on.
    pub ok: bool,
    /// What was found, for a person.
    pub detail: String,
}

/// A published route, for `/debug/routes`.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RouteInfo {
    /// `Api/namespace/name`.
    pub route: String,
    /// Host pattern.
    pub host: String,
    /// Generation of the object that is enforced.
    pub generation: i64,
    /// Issuers of accepted tokens; empty for an open route.
    pub issuers: Vec<String>,
    /// `namespace/name:port`.
    pub service: String,
    /// Where requests go: addresses, `in-process:name`, or why nowhere.
    pub upstream: Vec<String>,
}

struct Trail {
    steps: Vec<Step>,
    route: Option<String>,
}

impl Trail {
    fn ok(&mut self, name: &'static str, detail: impl Into<String>) {
        self.steps.push(Step { name, ok: true, detail: detail.into() });
    }

    fn end(mut self, name: &'static str, detail: impl Into<String>, status: StatusCode, reason: Reason) -> Explanation {
        self.steps.push(Step { name, ok: false, detail: detail.into() });
        Explanation {
            steps: self.steps,
            allowed: false,
            status: Some(status.as_u16()),
            reason: Some(reason.as_str()),
            route: self.route,
        }
    }
}

/// Goes through the steps of a request without sending anything.
pub(crate) async fn explain(shared: &Shared, index: &parking_lot::RwLock<Index>, question: &Question) -> Explanation {
    let mut trail = Trail { steps: Vec::new(), route: None };
    let method = question.method.as_deref().unwrap_or("GET");
    let Ok(method) = Method::from_bytes(method.as_bytes()) else {
        let detail = format!("`{method}` is not a method");
        return trail.end("url", detail, StatusCode::BAD_REQUEST, Reason::FramingMalformed);
    };
    let Ok(uri) = question.url.parse::<Uri>() else {
        let detail = format!("`{}` is not a URL", question.url);
        return trail.end("url", detail, StatusCode::BAD_REQUEST, Reason::FramingMalformed);
    };
    let mut headers = match header_map(question) {
        Ok(headers) => headers,
        Err(detail) => return trail.end("headers", detail, StatusCode::BAD_REQUEST, Reason::HeaderMalformed),
    };
    let scheme = if uri.scheme_str() == Some("https") { Scheme::Https } else { Scheme::Http };
    // A Host header says where a request sent to some address of ours is really meant to go.
    let named = headers.get(HOST).and_then(|host| host.to_str().ok()).map(str::to_owned);
    let named = named.or_else(|| uri.authority().map(ToString::to_string)).unwrap_or_default();
    let host = match Host::parse_authority(&named) {
        Ok(host) => host,
        Err(error) => {
            let detail = format!("host `{named}`: {error}");
            return trail.end("host", detail, StatusCode::BAD_REQUEST, Reason::HostMalformed);
        }
    };
    if matches!(method, Method::CONNECT | Method::TRACE) {
        let detail = format!("{method} is not served");
        return trail.end("url", detail, StatusCode::METHOD_NOT_ALLOWED, Reason::NoRoute);
    }
    let raw = uri.path();
    let path = match NormalizedPath::parse(raw) {
        Ok(path) => path,
        Err(error) => {
            let detail = format!("path `{raw}`: {error}");
            return trail.end("path", detail, StatusCode::BAD_REQUEST, Reason::PathMalformed);
        }
    };
    if path.as_str() == raw {
        trail.ok("path", format!("`{raw}` is normal already"));
    } else {
        trail.ok("path", format!("`{raw}` is seen as `{}`", path.as_str()));
    }
    let facts = RequestFacts { scheme, host: &host, method: &method, path: &path };
    let selected = match shared.table.select(&facts) {
        Ok(selected) => selected,
        Err(problem) if problem.status() == StatusCode::NOT_FOUND => {
            let detail = no_host(&index.read(), host.as_str());
            return trail.end("host", detail, StatusCode::NOT_FOUND, problem.reason());
        }
        Err(problem) => {
            let detail = "decoding `%2F` or `%5C` leads to other rules, so the path is ambiguous";
            return trail.end("path", detail, problem.status(), problem.reason());
        }
    };
    let handle = &selected.route.handle;
    trail.route = Some(handle.name.to_string());
    trail.ok("host", format!("`{}` is exposed", host.as_str()));
    trail.ok("route", format!("{} generation {}", handle.name, selected.route.model.generation));
    if let Err(error) = clean_request(&method, &mut headers, Hygiene::default()) {
        return trail.end("headers", error.to_string(), StatusCode::BAD_REQUEST, Reason::HeaderMalformed);
    }
    judge(shared, trail, &selected, &headers, uri.query(), &path).await
}

/// Rules, token, decision and upstream.
async fn judge(
    shared: &Shared,
    mut trail: Trail,
    selected: &Selected<Handle>,
    headers: &HeaderMap,
    query: Option<&str>,
    path: &NormalizedPath<'_>,
) -> Explanation {
    let model = &selected.route.model;
    match &model.guard {
        Guard::Open => trail.ok("rule", "the route asks for no token"),
        Guard::Jwt(rules) => {
            for (position, rule) in rules.iter().enumerate() {
                let effect = if selected.rules.contains(position) { "applies to" } else { "does not apply to" };
                let detail = format!("rule {position} (issuer `{}`) {effect} `{}`", rule.issuer, path.as_str());
                trail.ok("rule", detail);
            }
        }
    }
    let guard = &selected.route.handle.guard;
    let token = match shared.authenticator.verify(guard, selected.rules, headers, query).await {
        Ok(token) => token,
        Err(failure) => {
            let denied = failure.denied;
            return trail.end("token", denied.body, denied.status, denied.reason);
        }
    };
    if let Some(token) = &token {
        let verified = token.verified();
        let subject = verified.subject.as_deref().unwrap_or("(none)");
        trail.ok("token", format!("issuer `{}`, subject `{subject}`, signature and times are good", verified.issuer));
    }
    match selected.decide(token.as_ref().map(|token| token.verified())) {
        Decision::Deny(denied) => return trail.end("decision", denied.body, denied.status, denied.reason),
        Decision::Allow(allowed) => {
            let detail = allowed.rule.map_or_else(
                || "no rule applies, so no token is needed".to_owned(),
                |rule| format!("rule {rule} accepts the token"),
            );
            trail.ok("decision", detail);
        }
    }
    match &selected.route.handle.upstream {
        Destination::None(problem) => {
            return trail.end("upstream", problem.clone(), StatusCode::SERVICE_UNAVAILABLE, Reason::NoEndpoints);
        }
        destination => trail.ok("upstream", format!("forwarded to {}", places(destination).join(", "))),
    }
    Explanation { steps: trail.steps, allowed: true, status: None, reason: None, route: trail.route }
}

fn header_map(question: &Question) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in &question.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("`{name}` is not a header name"))?;
        let value = HeaderValue::from_str(value).map_err(|_| format!("the value of `{name}` is not a header value"))?;
        headers.append(name, value);
    }
    if let Some(token) = &question.token {
        // Not quoted: a token is a secret.
        let value = HeaderValue::try_from(format!("Bearer {}", token.trim())).map_err(|_| "the token is not text")?;
        headers.append(AUTHORIZATION, value);
    }
    Ok(headers)
}

/// Who wants a host that nobody has, and what stands in the way.
fn no_host(index: &Index, host: &str) -> String {
    let Some(verdict) = index.verdicts().find(|verdict| verdict.fqdn == host) else {
        return format!("no Api exposes `{host}`");
    };
    format!("{} asks for `{host}`, but {}", verdict.object, obstacle(verdict))
}

fn obstacle(verdict: &Verdict) -> String {
    if verdict.deleting {
        return "it is being deleted".to_owned();
    }
    match &verdict.validation {
        Validation::Valid => {}
        Validation::Protected { service } => {
            return format!("service `{service}` may only be exposed with authentication");
        }
        Validation::ServiceOccupied { by } => return format!("its service is exposed by {by} already"),
    }
    match &verdict.host {
        HostOutcome::Occupied { by } => format!("the host is in use by {by:?}"),
        HostOutcome::Held | HostOutcome::NotAsked => "its authentication cannot be enforced".to_owned(),
    }
}

fn places(destination: &Destination) -> Vec<String> {
    match destination {
        Destination::Pool { pool, .. } => pool.keys().map(|key| key.target.to_string()).collect(),
        Destination::InProcess { name, .. } => vec![format!("in-process:{name}")],
        Destination::None(problem) => vec![problem.clone()],
    }
}

/// All published routes, by host.
pub(crate) fn routes(shared: &Shared) -> Vec<RouteInfo> {
    let mut all: Vec<RouteInfo> = shared
        .table
        .routes()
        .into_iter()
        .map(|route| {
            let model = &route.model;
            RouteInfo {
                route: route.handle.name.to_string(),
                host: model.host.clone(),
                generation: model.generation,
                issuers: model.guard.rules().iter().map(|rule| rule.issuer.to_string()).collect(),
                service: format!("{}/{}:{}", model.service.namespace, model.service.name, model.service.port),
                upstream: places(&route.handle.upstream),
            }
        })
        .collect();
    all.sort_by(|a, b| (&a.host, &a.route).cmp(&(&b.host, &b.route)));
    all
}
