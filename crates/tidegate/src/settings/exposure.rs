//! Section `exposure` (`30` section 11): what the parts that compile, enforce and report exposures are configured with.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidegate_runtime::{Cidr, ColumnRules};
use tidegate_tokens::Algorithm;

/// Exposure of services.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Exposure {
    /// Gateway named in rendered VirtualServices.
    pub(crate) gateway_fqdn: String,
    /// Issuer of an Api with `authenticationEnabled: true` and without rules; without one such an Api stays closed.
    pub(crate) default_issuer: Option<String>,
    /// Keys of the default issuer.
    pub(crate) default_jwks_uri: Option<String>,
    /// Whether rendered Policies ask for mutual TLS between Pods.
    pub(crate) policy_mtls: bool,
    /// Answers to cross-origin requests.
    pub(crate) cors: Cors,
    /// Services (`name.namespace`) that are protected besides the built-in ones.
    pub(crate) blocklist: Vec<String>,
    /// What protection means: `require-auth` or `deny`.
    pub(crate) blocklist_mode: BlocklistMode,
    /// Verification of tokens.
    pub(crate) jwt: Jwt,
    /// How long fetched keys are fresh unless their answer says otherwise.
    #[serde(with = "tidegate_runtime::config::duration")]
    #[schemars(with = "String")]
    pub(crate) jwks_ttl: Duration,
    /// How long old keys are used while new ones cannot be fetched.
    #[serde(with = "tidegate_runtime::config::duration")]
    #[schemars(with = "String")]
    pub(crate) jwks_max_stale: Duration,
    /// Limit for one fetch of keys.
    #[serde(with = "tidegate_runtime::config::duration")]
    #[schemars(with = "String")]
    pub(crate) jwks_timeout: Duration,
    /// PEM file of authorities trusted for fetches of keys besides the system's.
    pub(crate) jwks_ca_file: Option<PathBuf>,
    /// Networks of proxies whose `X-Forwarded-For` is believed.
    #[schemars(with = "Vec<String>")]
    pub(crate) trusted_proxies: Vec<Cidr>,
    /// What happens to request headers with an underscore in their name: `drop`, `reject` or `allow`.
    pub(crate) underscore_headers: UnderscoreHeaders,
    /// Longest request body in bytes; 0: unlimited.
    pub(crate) max_request_body: u64,
    /// Whether the query parameter `access_token` is taken off before the request goes on.
    pub(crate) strip_token_query: bool,
    /// Where upstreams may be.
    pub(crate) upstream: Networks,
    /// Where keys may be fetched from.
    pub(crate) fetch: Networks,
}

impl Default for Exposure {
    fn default() -> Self {
        Self {
            gateway_fqdn: "kyma-gateway.kyma-system.svc.cluster.local".to_owned(),
            default_issuer: None,
            default_jwks_uri: None,
            policy_mtls: true,
            cors: Cors::default(),
            blocklist: Vec::new(),
            blocklist_mode: BlocklistMode::RequireAuth,
            jwt: Jwt::default(),
            jwks_ttl: Duration::from_mins(5),
            jwks_max_stale: Duration::from_hours(24),
            jwks_timeout: Duration::from_secs(5),
            jwks_ca_file: None,
            trusted_proxies: Vec::new(),
            underscore_headers: UnderscoreHeaders::Drop,
            max_request_body: 0,
            strip_token_query: false,
            upstream: Networks::default(),
            fetch: Networks::default(),
        }
    }
}

/// Answers to cross-origin requests of every Api.
#[expect(clippy::struct_field_names, reason = "the keys are those of the original product")]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Cors {
    /// Allowed origins; `*` is any.
    pub(crate) allow_origin: Vec<String>,
    /// Allowed methods.
    pub(crate) allow_methods: Vec<String>,
    /// Allowed request headers; `*` is any.
    pub(crate) allow_headers: Vec<String>,
}

impl Default for Cors {
    fn default() -> Self {
        let list = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect();
        Self {
            allow_origin: list(&["*"]),
            allow_methods: list(&["GET", "POST", "PUT", "DELETE"]),
            allow_headers: list(&["Authorization", "Content-Type", "*"]),
        }
    }
}

/// What protection of a service means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum BlocklistMode {
    /// It may be exposed with authentication only.
    RequireAuth,
    /// It may not be exposed.
    Deny,
}

/// What happens to request headers with an underscore in their name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum UnderscoreHeaders {
    /// They are removed.
    Drop,
    /// The request is refused.
    Reject,
    /// They pass.
    Allow,
}

/// Verification of tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Jwt {
    /// Tolerated difference between clocks.
    #[serde(with = "tidegate_runtime::config::duration")]
    #[schemars(with = "String")]
    pub(crate) skew: Duration,
    /// Whether a token must have an expiry.
    pub(crate) require_exp: bool,
    /// Status of the answer to a request without token: 401 or 403.
    pub(crate) missing_token_status: u16,
    /// Accepted signature algorithms; empty: the default ones.
    pub(crate) algorithms: Vec<String>,
}

impl Default for Jwt {
    fn default() -> Self {
        Self { skew: Duration::from_mins(1), require_exp: true, missing_token_status: 401, algorithms: Vec::new() }
    }
}

/// Networks that are allowed or denied beyond the built-in rules (`30` section 7.2). Deny wins.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Networks {
    /// Allowed although the built-in rules deny them.
    #[schemars(with = "Vec<String>")]
    pub(crate) allow_cidrs: Vec<Cidr>,
    /// Denied although the built-in rules allow them.
    #[schemars(with = "Vec<String>")]
    pub(crate) deny_cidrs: Vec<Cidr>,
}

impl Networks {
    pub(crate) fn rules(&self) -> ColumnRules {
        ColumnRules { allow: self.allow_cidrs.clone(), deny: self.deny_cidrs.clone() }
    }
}

impl Exposure {
    pub(super) fn problems(&self) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        let mut problem = |key: &str, text: String| problems.push((format!("exposure.{key}"), text));
        if !matches!(self.jwt.missing_token_status, 401 | 403) {
            problem("jwt.missingTokenStatus", format!("`{}` is neither 401 nor 403", self.jwt.missing_token_status));
        }
        if self.default_jwks_uri.is_some() && self.default_issuer.is_none() {
            problem("defaultJwksUri", "is set without `exposure.defaultIssuer`".to_owned());
        }
        if self.default_issuer.is_some() && self.default_jwks_uri.is_none() {
            problem("defaultIssuer", "is set without `exposure.defaultJwksUri`".to_owned());
        }
        for name in &self.jwt.algorithms {
            if name.parse::<Algorithm>().is_err() {
                let known: Vec<&str> = Algorithm::ALL.iter().map(|algorithm| algorithm.as_str()).collect();
                problem("jwt.algorithms", format!("`{name}` is none of {}", known.join(", ")));
            }
        }
        for service in &self.blocklist {
            if service.split_once('.').is_none_or(|(name, namespace)| name.is_empty() || namespace.is_empty()) {
                problem("blocklist", format!("`{service}` is not written as `name.namespace`"));
            }
        }
        problems
    }
}
