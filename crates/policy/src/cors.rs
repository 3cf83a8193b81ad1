//! Cross-origin rules: preflights are answered, actual answers are marked. SPEC 30 §6.6.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD,
    ORIGIN, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

/// Everything that an upstream could say about cross-origin requests.
const RESPONSE_HEADERS: [HeaderName; 6] = [
    ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_ALLOW_CREDENTIALS,
    ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_HEADERS,
    ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_MAX_AGE,
];

/// Who may call from a browser, with the answer's values built once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorsPolicy {
    origins: Vec<String>,
    methods: Vec<String>,
    headers: Vec<String>,
    allow_any_origin: bool,
    allow_methods: Option<HeaderValue>,
    allow_headers: Option<HeaderValue>,
    expose_headers: Option<HeaderValue>,
    max_age: Option<HeaderValue>,
    allow_credentials: bool,
}

/// The written form of a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CorsOptions {
    /// Allowed origins, or `*`.
    pub allow_origins: Vec<String>,
    /// Allowed methods.
    pub allow_methods: Vec<String>,
    /// Allowed request headers.
    pub allow_headers: Vec<String>,
    /// Response headers that scripts may read.
    pub expose_headers: Vec<String>,
    /// How long a browser may remember the preflight, in seconds.
    pub max_age_s: Option<u32>,
    /// Whether cookies and authentication may be sent.
    pub allow_credentials: bool,
}

/// A value that cannot stand in a header line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` cannot stand in a header line")]
pub struct CorsError(pub String);

impl CorsPolicy {
    /// Builds the answer's values. `None` when nothing is allowed at all: then there is no policy (SPEC 30 §2.6).
    pub fn compile(options: &CorsOptions) -> Result<Option<Self>, CorsError> {
        if options.allow_origins.is_empty() && options.allow_methods.is_empty() && options.allow_headers.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self {
            allow_any_origin: options.allow_origins.iter().any(|origin| origin == "*"),
            allow_methods: joined(&options.allow_methods)?,
            allow_headers: joined(&options.allow_headers)?,
            expose_headers: joined(&options.expose_headers)?,
            max_age: options.max_age_s.map(HeaderValue::from),
            allow_credentials: options.allow_credentials,
            origins: options.allow_origins.clone(),
            methods: options.allow_methods.clone(),
            headers: options.allow_headers.clone(),
        }))
    }

    /// Allowed origins as written.
    pub fn origins(&self) -> &[String] {
        &self.origins
    }

    /// Allowed methods as written.
    pub fn methods(&self) -> &[String] {
        &self.methods
    }

    /// Allowed request headers as written.
    pub fn headers(&self) -> &[String] {
        &self.headers
    }

    /// Whether requests of an origin are allowed.
    pub fn allows(&self, origin: &HeaderValue) -> bool {
        self.allow_any_origin || self.origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes())
    }

    /// Writes the headers of a preflight's answer (status 200, empty body). An origin that is not allowed gets none.
    pub fn answer_preflight(&self, origin: &HeaderValue, answer: &mut HeaderMap) {
        if !self.allows(origin) {
            return;
        }
        self.mark_origin(origin, answer);
        for (name, value) in [
            (ACCESS_CONTROL_ALLOW_METHODS, &self.allow_methods),
            (ACCESS_CONTROL_ALLOW_HEADERS, &self.allow_headers),
            (ACCESS_CONTROL_MAX_AGE, &self.max_age),
        ] {
            if let Some(value) = value {
                answer.insert(name, value.clone());
            }
        }
    }

    /// Marks the answer to an actual request, ours or the upstream's: what the upstream said about origins goes, what
    /// the policy says comes. `origin`: the request's `Origin`, if it had one.
    pub fn mark_answer(&self, origin: Option<&HeaderValue>, answer: &mut HeaderMap) {
        for name in &RESPONSE_HEADERS {
            answer.remove(name);
        }
        let Some(origin) = origin.filter(|origin| self.allows(origin)) else { return };
        self.mark_origin(origin, answer);
        if let Some(value) = &self.expose_headers {
            answer.insert(ACCESS_CONTROL_EXPOSE_HEADERS, value.clone());
        }
    }

    fn mark_origin(&self, origin: &HeaderValue, answer: &mut HeaderMap) {
        answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        if self.allow_credentials {
            answer.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        let varies_already = answer
            .get_all(VARY)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|name| name.trim().eq_ignore_ascii_case("origin"));
        if !varies_already {
            answer.append(VARY, HeaderValue::from_static("Origin"));
        }
    }
}

/// The origin of a preflight: `OPTIONS` with `Origin` and `Access-Control-Request-Method`. `None` for other requests.
pub fn preflight_origin<'h>(method: &Method, headers: &'h HeaderMap) -> Option<&'h HeaderValue> {
    if method != Method::OPTIONS || !headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
        return None;
    }
    headers.get(ORIGIN)
}

fn joined(values: &[String]) -> Result<Option<HeaderValue>, CorsError> {
    if values.is_empty() {
        return Ok(None);
    }
    let text = values.join(",");
    HeaderValue::from_str(&text).map(Some).map_err(|_| CorsError(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(origins: &[&str]) -> CorsPolicy {
        let owned = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
        CorsPolicy::compile(&CorsOptions {
            allow_origins: owned(origins),
            allow_methods: owned(&["GET", "POST"]),
            allow_headers: owned(&["Authorization", "*"]),
            expose_headers: owned(&["X-Total"]),
            max_age_s: Some(60),
            allow_credentials: true,
        })
        .unwrap()
        .unwrap()
    }

    fn lines(headers: &HeaderMap) -> Vec<String> {
        let mut lines: Vec<String> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        lines.sort();
        lines
    }

    #[test]
    fn a_preflight_of_an_allowed_origin_is_answered_with_that_origin() {
        let origin = HeaderValue::from_static("https://app.example");
        let mut answer = HeaderMap::new();
        policy(&["*"]).answer_preflight(&origin, &mut answer);
        assert_eq!(
            lines(&answer),
            [
                "access-control-allow-credentials: true",
                "access-control-allow-headers: Authorization,*",
                "access-control-allow-methods: GET,POST",
                "access-control-allow-origin: https://app.example",
                "access-control-max-age: 60",
                "vary: Origin",
            ]
        );
    }

    #[test]
    fn a_foreign_origin_gets_no_header() {
        let mut answer = HeaderMap::new();
        policy(&["https://app.example"])
            .answer_preflight(&HeaderValue::from_static("https://evil.example"), &mut answer);
        assert!(answer.is_empty());
    }

    #[test]
    fn the_upstreams_own_headers_are_replaced() {
        let mut answer = HeaderMap::new();
        answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        answer.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("PATCH"));
        answer.insert(VARY, HeaderValue::from_static("Accept, origin"));
        let policy = policy(&["https://app.example"]);
        let mut foreign = answer.clone();
        policy.mark_answer(Some(&HeaderValue::from_static("https://app.example")), &mut answer);
        assert_eq!(
            lines(&answer),
            [
                "access-control-allow-credentials: true",
                "access-control-allow-origin: https://app.example",
                "access-control-expose-headers: X-Total",
                "vary: Accept, origin",
            ]
        );
        policy.mark_answer(None, &mut foreign);
        assert_eq!(lines(&foreign), ["vary: Accept, origin"]);
    }

    #[test]
    fn nothing_allowed_means_no_policy() {
        assert_eq!(CorsPolicy::compile(&CorsOptions::default()), Ok(None));
        let bad = CorsOptions { allow_methods: vec!["GET\n".to_owned()], ..CorsOptions::default() };
        assert!(CorsPolicy::compile(&bad).is_err());
    }

    #[test]
    fn only_a_complete_preflight_is_one() {
        let mut headers = HeaderMap::new();
        headers.insert(ORIGIN, HeaderValue::from_static("https://a"));
        assert!(preflight_origin(&Method::OPTIONS, &headers).is_none());
        headers.insert(ACCESS_CONTROL_REQUEST_METHOD, HeaderValue::from_static("GET"));
        assert!(preflight_origin(&Method::OPTIONS, &headers).is_some());
        assert!(preflight_origin(&Method::GET, &headers).is_none());
    }
}
