//! Istio kinds. Most are projections (written by us, never read back); `Gateway` and the hosts of `VirtualService`s that
//! users write are inputs. Their specifications are free-form in the API, so that manifests made for Istio are taken as
//! they are; reading is therefore lenient and reports what it cannot use. SPEC 30 §1.1, §6.10.

use serde::Deserialize;
use serde_json::Value;

/// Group of `VirtualService` and `Gateway`.
pub const NETWORKING_GROUP: &str = "networking.istio.io";
/// Group of `RequestAuthentication` and `AuthorizationPolicy`.
pub const SECURITY_GROUP: &str = "security.istio.io";
/// Group of the retired `Policy`.
pub const AUTHENTICATION_GROUP: &str = "authentication.istio.io";

/// The hosts that a `VirtualService` names, as written. Entries that are not strings are left out.
pub fn virtual_service_hosts(object: &Value) -> Vec<&str> {
    object
        .pointer("/spec/hosts")
        .and_then(Value::as_array)
        .map(|hosts| hosts.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default()
}

/// What the edge gateway uses of a `Gateway`.
#[derive(Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct GatewaySpec {
    /// Ports, hosts and TLS settings.
    pub servers: Vec<GatewayServer>,
}

/// One entry of `spec.servers`.
#[derive(Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct GatewayServer {
    /// Port number, name and protocol.
    pub port: GatewayPort,
    /// `host` or `namespace/host`; a host may begin with `*.` or be `*`.
    pub hosts: Vec<String>,
    /// TLS settings.
    pub tls: Option<GatewayTls>,
}

/// Port of a server.
#[derive(Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct GatewayPort {
    /// Port number as in Istio; the edge listens where it was told to listen.
    pub number: u32,
    /// Name of the port.
    pub name: String,
    /// `HTTP`, `HTTPS`, `HTTP2`, `GRPC`, `TLS`, `TCP`.
    pub protocol: String,
}

/// TLS settings of a server.
#[derive(Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct GatewayTls {
    /// `SIMPLE`, `MUTUAL`, `OPTIONAL_MUTUAL` or one that the edge does not serve; absent means `SIMPLE`, or none when
    /// only a redirect is asked for.
    pub mode: Option<String>,
    /// Name of the Secret with certificate and key.
    pub credential_name: Option<String>,
    /// `TLSV1_2`, `TLSV1_3` (older ones are raised to 1.2).
    pub min_protocol_version: Option<String>,
    /// As above.
    pub max_protocol_version: Option<String>,
    /// Names of cipher suites (TLS 1.2).
    pub cipher_suites: Vec<String>,
    /// Answer plain requests with a redirect to `https`.
    pub https_redirect: bool,
}

impl GatewaySpec {
    /// Reads `spec` of a `Gateway` object.
    ///
    /// # Errors
    /// The text says which field has which wrong type.
    pub fn parse(object: &Value) -> Result<Self, String> {
        match object.get("spec") {
            None | Some(Value::Null) => Ok(Self::default()),
            Some(spec) => Self::deserialize(spec).map_err(|error| format!("spec: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn gateway_manifests_of_istio_are_read() {
        let object = json!({"spec": {"selector": {"istio": "ingressgateway"}, "servers": [
            {"port": {"number": 443, "name": "https", "protocol": "HTTPS"}, "hosts": ["*.example.com"],
             "tls": {"mode": "MUTUAL", "credentialName": "certs", "serverCertificate": "unused"}},
            {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*.example.com"], "tls": {"httpsRedirect": true}},
        ]}});
        let spec = GatewaySpec::parse(&object).unwrap();
        assert_eq!(spec.servers.len(), 2);
        assert_eq!(spec.servers[0].tls.as_ref().unwrap().mode.as_deref(), Some("MUTUAL"));
        assert!(spec.servers[1].tls.as_ref().unwrap().https_redirect);
        assert_eq!(GatewaySpec::parse(&json!({})).unwrap(), GatewaySpec::default());
        assert!(GatewaySpec::parse(&json!({"spec": {"servers": "x"}})).unwrap_err().starts_with("spec: "));
    }

    #[test]
    fn hosts_of_a_virtual_service_are_read_leniently() {
        assert_eq!(virtual_service_hosts(&json!({"spec": {"hosts": ["a", 1, "b"]}})), ["a", "b"]);
        assert!(virtual_service_hosts(&json!({"spec": {"hosts": "a"}})).is_empty());
        assert!(virtual_service_hosts(&json!({})).is_empty());
    }
}
