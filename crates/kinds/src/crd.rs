//! The CustomResourceDefinitions of the product's kinds, generated from the types. SPEC 60 §1.1, 30 §2.2.

use kube_core::CustomResourceExt as _;
use serde_json::{Map, Value, json};

use crate::{api::Api, istio};

/// All definitions that the embedded API server serves, as `apiextensions.k8s.io/v1` JSON.
///
/// `domains`: the system domains, the default one first; the pattern of `Api.spec.hostname` allows a name under any of
/// them.
pub fn crds(domains: &[String]) -> Vec<Value> {
    let mut all = vec![api(domains)];
    all.extend(ISTIO_KINDS.iter().map(IstioKind::definition));
    all
}

/// The pattern of `Api.spec.hostname`: one label, optionally followed by one of the domains. SPEC 30 §2.2, §2.3.
pub fn hostname_pattern(domains: &[String]) -> String {
    let alternatives: Vec<String> = domains.iter().map(|domain| regex::escape(domain)).collect();
    format!(r"^([A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9\-]{{0,61}}[A-Za-z0-9])(\.({}))?$", alternatives.join("|"))
}

fn api(domains: &[String]) -> Value {
    // A type that derives its schema always serializes; the definition holds strings, numbers and maps only.
    let mut definition = serde_json::to_value(Api::crd()).unwrap_or_default();
    if let Some(schema) = definition.pointer_mut("/spec/versions/0/schema/openAPIV3Schema") {
        tidy(schema);
        if let Some(Value::Object(hostname)) = schema.pointer_mut("/properties/spec/properties/hostname") {
            hostname.insert("pattern".into(), hostname_pattern(domains).into());
        }
        // A status that repeats an earlier specification must stay readable after the domains changed, and explicit
        // nulls mean nothing there.
        if let Some(status) = schema.pointer_mut("/properties/status") {
            drop_nullable(status);
        }
    }
    definition
}

/// Makes the generated schema read like a written one: sentences on one line, whole numbers as whole numbers, no titles.
fn tidy(schema: &mut Value) {
    let Value::Object(map) = schema else { return };
    map.remove("title");
    if let Some(Value::String(description)) = map.get_mut("description") {
        *description = description.replace('\n', " ");
    }
    for bound in ["minimum", "maximum"] {
        // The type of the definition holds bounds as floating point; all of ours are small whole numbers.
        if let Some(number) = map.get(bound).and_then(Value::as_f64) {
            #[expect(clippy::cast_possible_truncation, reason = "bounds are written in this crate: 0, 1, 5 and 65535")]
            map.insert(bound.into(), Value::from(number as i64));
        }
    }
    if let Some(Value::Object(properties)) = map.get_mut("properties") {
        properties.values_mut().for_each(tidy);
    }
    if let Some(items) = map.get_mut("items") {
        tidy(items);
    }
}

fn drop_nullable(schema: &mut Value) {
    let Value::Object(map) = schema else { return };
    map.remove("nullable");
    if let Some(Value::Object(properties)) = map.get_mut("properties") {
        properties.values_mut().for_each(drop_nullable);
    }
    if let Some(items) = map.get_mut("items") {
        drop_nullable(items);
    }
}

/// A kind of Istio whose specification is stored as it comes.
struct IstioKind {
    group: &'static str,
    /// Oldest first; the last one is stored.
    versions: &'static [&'static str],
    kind: &'static str,
    plural: &'static str,
    short: Option<&'static str>,
    description: &'static str,
    spec: &'static str,
    columns: &'static [(&'static str, &'static str, &'static str, &'static str)],
    /// Known fields below `spec`: name, JSON type, sentence for `kubectl explain`.
    fields: &'static [(&'static str, FieldType, &'static str)],
}

#[derive(Clone, Copy)]
enum FieldType {
    Text,
    Texts,
    Free,
    Frees,
}

const AGE: (&str, &str, &str, &str) = ("Age", "date", ".metadata.creationTimestamp", "How long the object exists");

static ISTIO_KINDS: [IstioKind; 5] = [
    IstioKind {
        group: istio::NETWORKING_GROUP,
        versions: &["v1alpha3", "v1beta1", "v1"],
        kind: "VirtualService",
        plural: "virtualservices",
        short: Some("vs"),
        description: "VirtualService shows how requests of some hosts are routed. The exposure controller writes one per exposed service; one that a user writes reserves its hosts and routes nothing in embedded mode.",
        spec: "Routing of the hosts, in the form that Istio reads.",
        columns: &[
            ("Gateways", "string", ".spec.gateways", "Gateways that apply the routes"),
            ("Hosts", "string", ".spec.hosts", "Hosts of the requests"),
            AGE,
        ],
        fields: &[
            (
                "hosts",
                FieldType::Texts,
                "Hosts of the requests. They are reserved: nobody else can expose a service on them.",
            ),
            ("gateways", FieldType::Texts, "Gateways that apply the routes."),
            ("http", FieldType::Frees, "Ordered HTTP routes; the first one that matches is taken."),
            ("exportTo", FieldType::Texts, "Namespaces that see the routes."),
        ],
    },
    IstioKind {
        group: istio::NETWORKING_GROUP,
        versions: &["v1alpha3", "v1beta1", "v1"],
        kind: "Gateway",
        plural: "gateways",
        short: Some("gw"),
        description: "Gateway describes hosts at the edge and their TLS settings. The embedded edge gateway uses certificates, client certificates and redirects of its servers.",
        spec: "Servers of the edge, in the form that Istio reads.",
        columns: &[("Hosts", "string", ".spec.servers[*].hosts", "Hosts of the servers"), AGE],
        fields: &[
            ("servers", FieldType::Frees, "Servers with their port, hosts and TLS settings."),
            ("selector", FieldType::Free, "Labels of the gateway's Pods; not used in embedded mode."),
        ],
    },
    IstioKind {
        group: istio::SECURITY_GROUP,
        versions: &["v1beta1", "v1"],
        kind: "RequestAuthentication",
        plural: "requestauthentications",
        short: Some("ra"),
        description: "RequestAuthentication names the token issuers of a workload. It is stored but not enforced in embedded mode: use an Api or APIRule.",
        spec: "Issuers and where their keys are, in the form that Istio reads.",
        columns: &[("Issuers", "string", ".spec.jwtRules[*].issuer", "Issuers of the accepted tokens"), AGE],
        fields: &[
            ("selector", FieldType::Free, "Labels of the workload."),
            ("jwtRules", FieldType::Frees, "Accepted issuers."),
        ],
    },
    IstioKind {
        group: istio::SECURITY_GROUP,
        versions: &["v1beta1", "v1"],
        kind: "AuthorizationPolicy",
        plural: "authorizationpolicies",
        short: Some("ap"),
        description: "AuthorizationPolicy says who may call a workload. It is stored but not enforced in embedded mode: use an Api or APIRule.",
        spec: "Action and conditions, in the form that Istio reads.",
        columns: &[("Action", "string", ".spec.action", "What happens to requests that match"), AGE],
        fields: &[
            ("selector", FieldType::Free, "Labels of the workload."),
            ("action", FieldType::Text, "What happens to requests that match: ALLOW, DENY, AUDIT or CUSTOM."),
            ("rules", FieldType::Frees, "Conditions of the requests."),
        ],
    },
    IstioKind {
        group: istio::AUTHENTICATION_GROUP,
        versions: &["v1alpha1"],
        kind: "Policy",
        plural: "policies",
        short: None,
        description: "Policy is the retired authentication object of Istio. The exposure controller writes one per secured Api, so that tools made for it keep working; one that a user writes is stored but not enforced: use an Api or APIRule.",
        spec: "Targets and accepted origins, in the form that Istio up to 1.5 reads.",
        columns: &[
            ("Targets", "string", ".spec.targets[*].name", "Services that the policy guards"),
            ("Issuers", "string", ".spec.origins[*].jwt.issuer", "Issuers of the accepted tokens"),
            AGE,
        ],
        fields: &[
            ("targets", FieldType::Frees, "Services that the policy guards."),
            ("peers", FieldType::Frees, "Accepted peers, for example mutual TLS between sidecars."),
            ("principalBinding", FieldType::Text, "Which identity becomes the principal: USE_PEER or USE_ORIGIN."),
            ("origins", FieldType::Frees, "Accepted origins: issuers of JSON Web Tokens."),
        ],
    },
];

impl IstioKind {
    fn definition(&self) -> Value {
        let stored = self.versions.last().copied().unwrap_or_default();
        let versions: Vec<Value> = self
            .versions
            .iter()
            .map(|version| {
                json!({
                    "name": version,
                    "served": true,
                    "storage": *version == stored,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": self.columns.iter().map(|(name, kind, path, description)| {
                        json!({"name": name, "type": kind, "jsonPath": path, "description": description})
                    }).collect::<Vec<_>>(),
                    "schema": {"openAPIV3Schema": self.schema()},
                })
            })
            .collect();
        let mut names = json!({
            "kind": self.kind,
            "listKind": format!("{}List", self.kind),
            "plural": self.plural,
            "singular": self.kind.to_lowercase(),
            "categories": ["istio-io", format!("{}-istio-io", self.group.split('.').next().unwrap_or_default())],
        });
        if let (Some(short), Some(names)) = (self.short, names.as_object_mut()) {
            names.insert("shortNames".into(), json!([short]));
        }
        json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{}.{}", self.plural, self.group)},
            "spec": {
                "group": self.group,
                "scope": "Namespaced",
                "conversion": {"strategy": "None"},
                "names": names,
                "versions": versions,
            },
        })
    }

    fn schema(&self) -> Value {
        let fields: Map<String, Value> = self
            .fields
            .iter()
            .map(|(name, kind, description)| {
                let mut schema = match kind {
                    FieldType::Text => json!({"type": "string"}),
                    FieldType::Texts => json!({"type": "array", "items": {"type": "string"}}),
                    FieldType::Free => json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}),
                    FieldType::Frees => {
                        json!({"type": "array", "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}})
                    }
                };
                if let Some(map) = schema.as_object_mut() {
                    map.insert("description".into(), Value::from(*description));
                }
                ((*name).to_owned(), schema)
            })
            .collect();
        json!({
            "type": "object",
            "description": self.description,
            "properties": {
                "spec": {
                    "type": "object",
                    "description": self.spec,
                    "x-kubernetes-preserve-unknown-fields": true,
                    "properties": fields,
                },
                "status": {
                    "type": "object",
                    "description": "What a mesh reports about the object; nothing is written here in embedded mode.",
                    "x-kubernetes-preserve-unknown-fields": true,
                },
            },
        })
    }
}

#[cfg(test)]
mod tests;
