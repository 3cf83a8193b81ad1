//! The objects of `30` section 7.1, first form.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tidegate_kinds::api::{Api, ApiSpec, AuthenticationRule, AuthenticationType, JwtAuthentication, ServiceTarget};

/// Label of a Service that `expose` made, and its value: `unexpose` removes no other.
pub(super) const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "tidegate-cli");

/// Port of the Service; what it leads to is the target port.
const SERVICE_PORT: u16 = 80;

/// Where a process listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(super) host: String,
    pub(super) port: u16,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.contains("://") {
            return Err(format!("`{text}` is a URL: write HOST:PORT, as 127.0.0.1:3000"));
        }
        let parsed = text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
        let Some((host, port)) = parsed.filter(|(host, port)| !host.is_empty() && *port > 0) else {
            return Err(format!("`{text}` is not HOST:PORT, as 127.0.0.1:3000"));
        };
        if host.contains(':') {
            // A Service of type ExternalName holds a DNS name, which an IPv6 address is not.
            return Err(format!("`{host}` is an IPv6 address: use an IPv4 address or a host name"));
        }
        let is_name =
            host.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.');
        if !is_name {
            return Err(format!("`{host}` is neither an IPv4 address nor a host name in lower case"));
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.host, self.port)
    }
}

pub(super) fn service(name: &str, namespace: &str, target: &Target) -> Service {
    let (label, value) = MANAGED_BY;
    Service {
        metadata: ObjectMeta {
            labels: Some(BTreeMap::from([(label.to_owned(), value.to_owned())])),
            ..metadata(name, namespace)
        },
        spec: Some(ServiceSpec {
            type_: Some("ExternalName".to_owned()),
            external_name: Some(target.host.clone()),
            ports: Some(vec![ServicePort {
                name: Some("http".to_owned()),
                port: i32::from(SERVICE_PORT),
                target_port: Some(IntOrString::Int(i32::from(target.port))),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// `issuer`: the issuer and where its keys are; `None` leaves the Api open.
pub(super) fn api(name: &str, namespace: &str, hostname: &str, issuer: Option<(&str, &str)>) -> Api {
    let rule = |(issuer, jwks): (&str, &str)| AuthenticationRule {
        kind: AuthenticationType::Jwt,
        jwt: JwtAuthentication { issuer: issuer.to_owned(), jwks_uri: jwks.to_owned(), trigger_rule: None },
    };
    Api {
        metadata: metadata(name, namespace),
        spec: ApiSpec {
            service: ServiceTarget { name: name.to_owned(), port: SERVICE_PORT },
            hostname: hostname.to_owned(),
            authentication_enabled: None,
            disable_istio_auth_policy_mtls: None,
            authentication: issuer.map(|issuer| vec![rule(issuer)]),
        },
        status: None,
    }
}

/// Whether `expose` made this Service.
pub(super) fn is_exposed_by_us(service: &Service) -> bool {
    let (label, value) = MANAGED_BY;
    let labels = service.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(label)).is_some_and(|found| found == value)
}

fn metadata(name: &str, namespace: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.to_owned()), namespace: Some(namespace.to_owned()), ..ObjectMeta::default() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn targets_are_host_and_port() {
        for text in ["127.0.0.1:3000", "localhost:1", "db.internal:65535"] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "3000",
            ":3000",
            "host",
            "host:",
            "host:0",
            "host:65536",
            "http://host:80",
            "[::1]:80",
            "a b:1",
            "Host:1",
        ] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_objects_are_those_of_the_first_form() {
        let service = serde_json::to_value(service("my-app", "default", &"127.0.0.1:3000".parse().unwrap())).unwrap();
        assert_eq!(
            service["spec"],
            json!({"type": "ExternalName", "externalName": "127.0.0.1",
                "ports": [{"name": "http", "port": 80, "targetPort": 3000}]})
        );
        let open = serde_json::to_value(api("my-app", "default", "my-app", None)).unwrap();
        assert_eq!(open["spec"], json!({"hostname": "my-app", "service": {"name": "my-app", "port": 80}}));
        let secured =
            serde_json::to_value(api("my-app", "default", "my-app", Some(("https://i", "https://i/keys")))).unwrap();
        assert_eq!(
            secured["spec"]["authentication"],
            json!([{"type": "JWT", "jwt": {"issuer": "https://i", "jwksUri": "https://i/keys"}}])
        );
    }
}
