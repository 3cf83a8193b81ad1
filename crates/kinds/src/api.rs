//! `Api`: exposes one Service on one host, open or guarded by JWTs. SPEC 30 §2.

use std::borrow::Cow;

use jiff::Timestamp;
use kube_derive::CustomResource;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// API group of the product's exposure kinds.
pub const GROUP: &str = "gateway.kyma-project.io";

/// Finalizer that holds a deleted `Api` until its route is gone (SPEC 30 §2.8).
pub const FINALIZER: &str = "tidegate.io/exposure";

/// What the original accepted as issuer and key location. Kept, so that existing manifests stay valid.
const URL_PATTERN: &str = r"^(?:https?:\/\/)?(?:[^@\/\n]+@)?(?:www\.)?([^:\/\n]+)";

/// Api exposes a Service of its own namespace on one host of the edge gateway. Requests need a JWT of one of the
/// listed issuers when authentication is on.
#[derive(CustomResource, Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[expect(clippy::duplicated_attributes, reason = "columns of one type: the lint takes their `type_` for a repetition")]
#[kube(
    group = "gateway.kyma-project.io",
    version = "v1alpha2",
    kind = "Api",
    plural = "apis",
    singular = "api",
    namespaced,
    status = "ApiStatus",
    derive = "PartialEq",
    doc = "Api exposes a Service of its own namespace on one host of the edge gateway, open to everybody or guarded by JSON Web Tokens.",
    printcolumn(name = "Hostname", type_ = "string", json_path = ".spec.hostname"),
    printcolumn(name = "Service", type_ = "string", json_path = ".spec.service.name"),
    printcolumn(name = "Validation", type_ = "integer", json_path = ".status.validationStatus"),
    printcolumn(name = "VirtualService", type_ = "integer", json_path = ".status.virtualServiceStatus.code"),
    printcolumn(name = "Authentication", type_ = "integer", json_path = ".status.authenticationStatus.code"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    crates(
        kube_core = "::kube_core",
        k8s_openapi = "::k8s_openapi",
        schemars = "::schemars",
        serde = "::serde",
        serde_json = "::serde_json"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct ApiSpec {
    /// The Service that receives the requests.
    pub service: ServiceTarget,
    /// The host on which the service is reachable: one label, which the system domain completes, or the full name
    /// under one of the system domains. Upper and lower case are the same host.
    #[schemars(length(min = 3, max = 256))]
    pub hostname: String,
    /// Switches authentication. Unset: authentication is on when rules are given. True without rules: tokens of the
    /// default issuer are needed. False: the service is open and the rules are ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentication_enabled: Option<bool>,
    /// Leaves mutual TLS between sidecars out of the generated authentication Policy. It has no effect on the embedded
    /// gateway.
    #[serde(default, rename = "disableIstioAuthPolicyMTLS", skip_serializing_if = "Option::is_none")]
    pub disable_istio_auth_policy_mtls: Option<bool>,
    /// The rules of which one has to accept a request's token. Null and an empty list mean the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub authentication: Option<Vec<AuthenticationRule>>,
}

impl ApiSpec {
    /// The authentication rules; null and empty are the same.
    pub fn rules(&self) -> &[AuthenticationRule] {
        self.authentication.as_deref().unwrap_or_default()
    }

    /// Whether a token is asked for at all (SPEC 30 §2.5): `false` wins over rules, `true` needs none.
    pub fn is_secured(&self) -> bool {
        self.authentication_enabled.unwrap_or_else(|| !self.rules().is_empty())
    }
}

/// The Service and its port.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
pub struct ServiceTarget {
    /// Name of a Service in the namespace of the Api. It may be created later.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Port of the Service (its own port, not the target port).
    #[schemars(schema_with = "port_schema")]
    pub port: u16,
}

fn port_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "integer", "format": "int32", "minimum": 1, "maximum": 65535})
}

/// One way to authenticate.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
pub struct AuthenticationRule {
    /// Kind of authentication. JWT is the only one.
    #[serde(rename = "type")]
    #[schemars(schema_with = "authentication_type_schema")]
    pub kind: AuthenticationType,
    /// Who issues the accepted tokens, where the keys are, and for which requests the rule holds.
    pub jwt: JwtAuthentication,
}

/// Kinds of authentication.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthenticationType {
    /// JSON Web Tokens.
    #[serde(rename = "JWT")]
    Jwt,
}

fn authentication_type_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "enum": ["JWT"]})
}

/// An issuer of tokens.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct JwtAuthentication {
    /// Issuer of the tokens, compared byte by byte with the claim iss.
    #[schemars(length(min = 1, max = 2048), regex(pattern = URL_PATTERN))]
    pub issuer: String,
    /// Where the issuer publishes its keys as a JSON Web Key Set; http or https.
    #[schemars(length(min = 1, max = 2048), regex(pattern = URL_PATTERN))]
    pub jwks_uri: String,
    /// Restricts the rule to some requests. Without it the rule holds for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger_rule: Option<TriggerRule>,
}

impl JwtAuthentication {
    /// Paths that the rule leaves out.
    pub fn excluded_paths(&self) -> &[PathMatch] {
        self.trigger_rule.as_ref().and_then(|rule| rule.excluded_paths.as_deref()).unwrap_or_default()
    }

    /// Paths to which the rule is limited; empty means all.
    pub fn included_paths(&self) -> &[PathMatch] {
        self.trigger_rule.as_ref().and_then(|rule| rule.included_paths.as_deref()).unwrap_or_default()
    }

    /// Methods to which the rule is limited; empty means all.
    pub fn methods(&self) -> &[String] {
        self.trigger_rule.as_ref().and_then(|rule| rule.methods.as_deref()).unwrap_or_default()
    }
}

/// To which requests a rule applies. A request passes without a token when no rule applies to it.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct TriggerRule {
    /// Paths that need no token of this rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub excluded_paths: Option<Vec<PathMatch>>,
    /// Paths to which the rule is limited; absent or empty means all paths. A path that is excluded as well is
    /// excluded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub included_paths: Option<Vec<PathMatch>>,
    /// HTTP methods to which the rule is limited; absent or empty means all methods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "methods_schema")]
    pub methods: Option<Vec<String>>,
}

fn methods_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "nullable": true,
        "maxItems": 16,
        "items": {"type": "string", "minLength": 1, "maxLength": 32, "pattern": "^[A-Z][A-Z-]*$"}
    })
}

/// One path expression, matched against the normalized path without the query. Exactly one key is set.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum PathMatch {
    /// The path equals the value.
    Exact(String),
    /// The path starts with the value.
    Prefix(String),
    /// The path ends with the value.
    Suffix(String),
    /// The whole path matches the expression (RE2 syntax, anchored at both ends).
    Regex(String),
}

impl JsonSchema for PathMatch {
    fn schema_name() -> Cow<'static, str> {
        "PathMatch".into()
    }

    fn inline_schema() -> bool {
        true
    }

    /// Properties once, and junctors that carry nothing but `required`: the form that a structural schema allows
    /// (SPEC 30 §2.2). The derived form of an enum cannot be had with `minProperties` beside it.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let text = |description: &str| json_schema!({"type": "string", "minLength": 1, "maxLength": 2048, "description": description});
        json_schema!({
            "type": "object",
            "description": "One path expression with exactly one of the keys exact, prefix, suffix and regex. It is matched against the normalized path without the query.",
            "minProperties": 1,
            "maxProperties": 1,
            "properties": {
                "exact": text("The path equals this value."),
                "prefix": text("The path starts with this value."),
                "suffix": text("The path ends with this value."),
                "regex": text("The whole path matches this expression; RE2 syntax, anchored at both ends."),
            },
            "oneOf": [{"required": ["exact"]}, {"required": ["prefix"]}, {"required": ["suffix"]}, {"required": ["regex"]}]
        })
    }
}

/// What became of an Api. SPEC 30 §2.7.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ApiStatus {
    /// Generation of the Api that this status speaks about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Code of the Api itself: 0 not looked at, 1 in progress, 2 valid, 3 error, 5 another Api holds the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "code_schema")]
    pub validation_status: Option<i32>,
    /// State of the generated VirtualService.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virtual_service_status: Option<ResourceStatus>,
    /// The same as virtualServiceStatus, under the name that the documentation of the original uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virtual_service: Option<ResourceStatus>,
    /// State of the generated authentication Policy; present only when authentication is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentication_status: Option<ResourceStatus>,
    /// The earlier specification that keeps serving while the present one is refused; absent otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforced_spec: Option<ApiSpec>,
    /// Conditions Ready and Secured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
}

fn code_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "integer", "format": "int32", "minimum": 0, "maximum": 5})
}

fn conditions_schema(generator: &mut SchemaGenerator) -> Schema {
    let items = generator.subschema_for::<Condition>();
    json_schema!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"], "items": items})
}

/// State of one generated object.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ResourceStatus {
    /// 0 not created, 1 in progress, 2 written and enforced, 3 error, 4 the host is in use.
    #[schemars(schema_with = "code_schema")]
    pub code: i32,
    /// Why the code is 3 or 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// The generated object as it was last written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<WrittenResource>,
}

/// Identity of a generated object as last written.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
pub struct WrittenResource {
    /// Name of the object.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Identity of the object; the same over updates.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Resource version of the object; changes whenever the object is changed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
}

/// One condition, in the form that Kubernetes tools read.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Name of the condition: Ready or Secured.
    #[serde(rename = "type")]
    pub kind: String,
    /// True, False or Unknown.
    pub status: String,
    /// One word that says why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// A sentence for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// When the condition's status last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "date_time_schema")]
    pub last_transition_time: Option<Timestamp>,
    /// Generation of the Api that the condition speaks about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

fn date_time_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "format": "date-time"})
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(value: serde_json::Value) -> ApiSpec {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_manifest_round_trips() {
        let manifest = json!({
            "apiVersion": "gateway.kyma-project.io/v1alpha2",
            "kind": "Api",
            "metadata": {"name": "sample-api"},
            "spec": {
                "service": {"name": "kubernetes", "port": 443},
                "hostname": "kubernetes.kyma.local",
                "authentication": [{"type": "JWT", "jwt": {
                    "issuer": "https://accounts.google.com",
                    "jwksUri": "https://www.googleapis.com/oauth2/v3/certs",
                    "triggerRule": {"excludedPaths": [{"exact": "/status"}, {"regex": "/x/.*"}]},
                }}],
            },
        });
        let api: Api = serde_json::from_value(manifest.clone()).unwrap();
        assert_eq!(api.spec.rules()[0].jwt.excluded_paths()[0], PathMatch::Exact("/status".into()));
        assert_eq!(serde_json::to_value(&api).unwrap(), manifest);
    }

    #[test]
    fn authentication_is_on_exactly_when_the_table_says_so() {
        let base = |enabled: serde_json::Value, rules: serde_json::Value| {
            spec(json!({"service": {"name": "s", "port": 1}, "hostname": "abc",
                        "authenticationEnabled": enabled, "authentication": rules}))
            .is_secured()
        };
        let one = json!([{"type": "JWT", "jwt": {"issuer": "i", "jwksUri": "http://k"}}]);
        assert!(!base(json!(null), json!(null)));
        assert!(!base(json!(null), json!([])));
        assert!(base(json!(null), one.clone()));
        assert!(base(json!(true), one.clone()));
        assert!(base(json!(true), json!([])));
        assert!(base(json!(true), json!(null)));
        assert!(!base(json!(false), one));
        assert!(!base(json!(false), json!([])));
    }

    #[test]
    fn a_path_expression_with_two_keys_is_not_read() {
        assert!(serde_json::from_value::<PathMatch>(json!({"exact": "/a", "prefix": "/b"})).is_err());
        assert!(serde_json::from_value::<PathMatch>(json!({})).is_err());
    }
}
