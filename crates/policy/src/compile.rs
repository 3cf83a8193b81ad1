//! One specification to its [`RouteModel`], or why it cannot be enforced. SPEC 30 §2.5.

use std::sync::Arc;

use http::{HeaderName, Method};
use tidegate_kinds::api::{ApiSpec, AuthenticationRule, PathMatch};
use url::Url;

use crate::guard::MAX_RULES;
use crate::path_set::{PathSet, PathSetError};
use crate::route::DEFAULT_REQUEST_TIMEOUT;
use crate::{Guard, JwtRule, ObjectRef, Options, RouteModel, ServiceRef, TokenForwarding};

/// `upstream`: no CORS policy of ours on the object.
const CORS_ANNOTATION: &str = "tidegate.io/cors";
/// Headers set from claims: `X-User=sub,X-Mail=email`.
const CLAIM_HEADERS_ANNOTATION: &str = "tidegate.io/claim-headers";
/// `true`: the upstream does not get the token.
const STRIP_TOKEN_ANNOTATION: &str = "tidegate.io/strip-token";

/// What of an object's metadata matters for its route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The object.
    pub object: ObjectRef,
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.generation`.
    pub generation: i64,
    /// The annotations that change the route.
    pub annotations: RouteAnnotations,
}

/// Annotations of an exposing object, parsed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteAnnotations {
    /// `tidegate.io/cors: upstream`.
    pub cors_upstream: bool,
    /// `tidegate.io/strip-token`, `tidegate.io/claim-headers`.
    pub token: TokenForwarding,
    /// Entries of annotations that say nothing useful; they have no effect.
    pub problems: Vec<String>,
}

impl RouteAnnotations {
    /// Looks the annotations up by name.
    pub fn parse<'v>(get: impl Fn(&str) -> Option<&'v str>) -> Self {
        let mut problems = Vec::new();
        let cors_upstream = match get(CORS_ANNOTATION) {
            None => false,
            Some("upstream") => true,
            Some(other) => {
                problems.push(format!("annotation {CORS_ANNOTATION}: `{other}` is not `upstream`"));
                false
            }
        };
        let mut claim_headers = Vec::new();
        for entry in
            get(CLAIM_HEADERS_ANNOTATION).unwrap_or_default().split(',').map(str::trim).filter(|e| !e.is_empty())
        {
            let parsed = entry.split_once('=').and_then(|(header, claim)| {
                let name = HeaderName::from_bytes(header.trim().as_bytes()).ok()?;
                (is_settable(&name) && !claim.trim().is_empty()).then(|| (name, claim.trim().to_owned()))
            });
            match parsed {
                Some(entry) => claim_headers.push(entry),
                None => {
                    problems.push(format!("annotation {CLAIM_HEADERS_ANNOTATION}: `{entry}` is not `Header=claim`"));
                }
            }
        }
        let token =
            TokenForwarding { strip: get(STRIP_TOKEN_ANNOTATION) == Some("true"), claim_headers: claim_headers.into() };
        Self { cors_upstream, token, problems }
    }
}

/// Headers that carry the message itself cannot be made from claims.
fn is_settable(name: &HeaderName) -> bool {
    !matches!(
        name.as_str(),
        "host" | "content-length" | "transfer-encoding" | "connection" | "upgrade" | "te" | "trailer" | "authorization"
    )
}

/// Why the authentication of a specification cannot be enforced: `authenticationStatus.code` 3, nothing is opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthProblem {
    /// Authentication is on without rules, and no default issuer is configured.
    #[error(
        "spec.authenticationEnabled: no rules are given and `exposure.defaultIssuer` with `exposure.defaultJwksUri` is not configured"
    )]
    NoDefaultIssuer,
    /// The keys cannot be fetched from there.
    #[error("spec.authentication[{rule}].jwt.jwksUri: must be an absolute http or https URL, got `{value}`")]
    JwksUri {
        /// Position of the rule.
        rule: usize,
        /// The value as written.
        value: String,
    },
    /// A path expression does not compile.
    #[error("spec.authentication[{rule}].jwt.triggerRule.{list}{source}")]
    Regex {
        /// Position of the rule.
        rule: usize,
        /// `excludedPaths` or `includedPaths`.
        list: &'static str,
        /// Which one and why.
        source: PathSetError,
    },
    /// A method that HTTP does not have.
    #[error("spec.authentication[{rule}].jwt.triggerRule.methods: `{value}` is not a method")]
    Method {
        /// Position of the rule.
        rule: usize,
        /// The value as written.
        value: String,
    },
    /// More rules than the schema allows.
    #[error("spec.authentication: must have at most 64 items")]
    TooManyRules,
}

/// Compiles a specification. Whether it may hold its host and Service is not asked here.
pub fn compile(identity: &Identity, spec: &Arc<ApiSpec>, options: &Options) -> Result<RouteModel, AuthProblem> {
    let annotations = &identity.annotations;
    Ok(RouteModel {
        object: identity.object.clone(),
        uid: identity.uid.clone(),
        generation: identity.generation,
        host: options.domains.fqdn(&spec.hostname),
        service: ServiceRef {
            namespace: identity.object.namespace.clone(),
            name: spec.service.name.clone(),
            port: spec.service.port,
        },
        guard: guard(spec, options)?,
        cors: if annotations.cors_upstream { None } else { options.cors.clone() },
        timeout: DEFAULT_REQUEST_TIMEOUT,
        token: annotations.token.clone(),
        written: Arc::clone(spec),
    })
}

// SPEC 30 §2.5
fn guard(spec: &ApiSpec, options: &Options) -> Result<Guard, AuthProblem> {
    if !spec.is_secured() {
        return Ok(Guard::Open);
    }
    let rules = spec.rules();
    if rules.len() > MAX_RULES {
        return Err(AuthProblem::TooManyRules);
    }
    if rules.is_empty() {
        let issuer = options.default_issuer.as_ref().ok_or(AuthProblem::NoDefaultIssuer)?;
        if !is_fetchable(&issuer.jwks_uri) {
            return Err(AuthProblem::NoDefaultIssuer);
        }
        return Ok(Guard::Jwt(Box::new([JwtRule {
            issuer: issuer.issuer.as_str().into(),
            jwks_uri: issuer.jwks_uri.as_str().into(),
            excluded: PathSet::default(),
            included: None,
            methods: Box::default(),
        }])));
    }
    rules.iter().enumerate().map(|(position, rule)| jwt_rule(position, rule)).collect::<Result<_, _>>().map(Guard::Jwt)
}

fn jwt_rule(position: usize, rule: &AuthenticationRule) -> Result<JwtRule, AuthProblem> {
    let jwt = &rule.jwt;
    if !is_fetchable(&jwt.jwks_uri) {
        return Err(AuthProblem::JwksUri { rule: position, value: jwt.jwks_uri.clone() });
    }
    let paths = |list: &'static str, paths: &[PathMatch]| {
        PathSet::compile(paths).map_err(|source| AuthProblem::Regex { rule: position, list, source })
    };
    let included = paths("includedPaths", jwt.included_paths())?;
    let methods = jwt.methods().iter().map(|value| {
        Method::from_bytes(value.as_bytes()).map_err(|_| AuthProblem::Method { rule: position, value: value.clone() })
    });
    Ok(JwtRule {
        issuer: jwt.issuer.as_str().into(),
        jwks_uri: jwt.jwks_uri.as_str().into(),
        excluded: paths("excludedPaths", jwt.excluded_paths())?,
        included: if included.is_empty() { None } else { Some(included) },
        methods: methods.collect::<Result<_, _>>()?,
    })
}

fn is_fetchable(uri: &str) -> bool {
    Url::parse(uri).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

/// Whether keys are fetched in a way that others on the network can change: plain `http` to anything but loopback.
// SPEC 30 §5.4
pub fn is_insecure_key_source(uri: &str) -> bool {
    let Ok(url) = Url::parse(uri) else { return false };
    url.scheme() == "http"
        && !match url.host() {
            Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
            Some(url::Host::Ipv4(address)) => address.is_loopback(),
            Some(url::Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::needless_pass_by_value, reason = "`json!` literals are handed over as they are")]

    use serde_json::{Value, json};

    use super::*;
    use crate::{Domains, Issuer, ObjectKind};

    fn compiled(spec: Value, options: &Options) -> Result<RouteModel, AuthProblem> {
        let identity = Identity {
            object: ObjectRef::new(ObjectKind::Api, "default", "sample"),
            uid: "u".to_owned(),
            generation: 1,
            annotations: RouteAnnotations::default(),
        };
        compile(&identity, &Arc::new(serde_json::from_value(spec).unwrap()), options)
    }

    fn options() -> Options {
        Options::new(Domains::new(["localhost"]))
    }

    fn with_auth(authentication: Value) -> Value {
        json!({"service": {"name": "s", "port": 80}, "hostname": "Sample", "authentication": authentication})
    }

    fn rule(jwks_uri: &str, trigger: Value) -> Value {
        json!({"type": "JWT", "jwt": {"issuer": "i", "jwksUri": jwks_uri, "triggerRule": trigger}})
    }

    #[test]
    fn an_open_api_becomes_an_open_route() {
        let model = compiled(with_auth(json!(null)), &options()).unwrap();
        assert_eq!((model.host.as_str(), model.service.port), ("sample.localhost", 80));
        assert!(!model.guard.is_secured());
    }

    #[test]
    fn authentication_without_rules_needs_a_default_issuer() {
        let spec = json!({"service": {"name": "s", "port": 80}, "hostname": "sample", "authenticationEnabled": true});
        assert_eq!(compiled(spec.clone(), &options()).unwrap_err(), AuthProblem::NoDefaultIssuer);
        let configured = Options {
            default_issuer: Some(Issuer { issuer: "i".to_owned(), jwks_uri: "https://k/keys".to_owned() }),
            ..options()
        };
        let model = compiled(spec.clone(), &configured).unwrap();
        assert_eq!(model.guard.rules().len(), 1);
        let broken =
            Options { default_issuer: Some(Issuer { issuer: "i".to_owned(), jwks_uri: "k".to_owned() }), ..options() };
        assert_eq!(compiled(spec, &broken).unwrap_err(), AuthProblem::NoDefaultIssuer);
    }

    #[test]
    fn false_ignores_the_rules_even_broken_ones() {
        let mut spec = with_auth(json!([rule("nothing", json!(null))]));
        spec["authenticationEnabled"] = json!(false);
        assert!(!compiled(spec, &options()).unwrap().guard.is_secured());
    }

    #[test]
    fn what_cannot_be_enforced_is_named() {
        for (authentication, text) in [
            (
                json!([rule("http://k", json!(null)), rule("file:///etc/keys", json!(null))]),
                "spec.authentication[1].jwt.jwksUri: must be an absolute http or https URL, got `file:///etc/keys`",
            ),
            (
                json!([rule("keys", json!(null))]),
                "spec.authentication[0].jwt.jwksUri: must be an absolute http or https URL, got `keys`",
            ),
            (
                json!([rule("http://k", json!({"excludedPaths": [{"exact": "/"}, {"regex": "("}]}))]),
                "spec.authentication[0].jwt.triggerRule.excludedPaths[1].regex: `(` does not compile: unclosed group",
            ),
            (
                json!([rule("http://k", json!({"includedPaths": [{"regex": "["}]}))]),
                "spec.authentication[0].jwt.triggerRule.includedPaths[0].regex: `[` does not compile: unclosed character class",
            ),
        ] {
            assert_eq!(compiled(with_auth(authentication), &options()).unwrap_err().to_string(), text);
        }
    }

    #[test]
    fn annotations_change_cors_and_token() {
        let parse = |cors: Option<&'static str>, claims: Option<&'static str>| {
            RouteAnnotations::parse(|name| match name {
                CORS_ANNOTATION => cors,
                CLAIM_HEADERS_ANNOTATION => claims,
                STRIP_TOKEN_ANNOTATION => Some("true"),
                _ => None,
            })
        };
        let good = parse(Some("upstream"), Some("X-User=sub, X-Mail = email"));
        assert!(good.cors_upstream && good.token.strip && good.problems.is_empty());
        assert_eq!(good.token.claim_headers[1], (HeaderName::from_static("x-mail"), "email".to_owned()));
        let bad = parse(Some("none"), Some("X-User,Host=sub,X-A=,X-B=b"));
        assert_eq!((bad.problems.len(), bad.token.claim_headers.len(), bad.cors_upstream), (4, 1, false));
    }

    #[test]
    fn keys_over_plain_http_are_insecure_except_on_loopback() {
        for (uri, expected) in [
            ("http://issuer.example/keys", true),
            ("http://10.0.0.1/keys", true),
            ("https://issuer.example/keys", false),
            ("http://127.0.0.1:9000/keys", false),
            ("http://[::1]/keys", false),
            ("http://localhost/keys", false),
        ] {
            assert_eq!(is_insecure_key_source(uri), expected, "{uri}");
        }
    }
}
