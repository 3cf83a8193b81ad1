//! Hosts: the authority of a request in its one comparable form, and the domains of the system. SPEC 30 §6.2.

use std::borrow::Cow;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Longest host name that DNS can carry.
const MAX_NAME_BYTES: usize = 253;
/// Longest label of a host name.
const MAX_LABEL_BYTES: usize = 63;

/// Host names that the product serves itself, below each domain. SPEC 00, system hosts.
pub const SYSTEM_LABELS: [&str; 7] =
    ["oauth2", "oauth2-mtls", "kyma-env-broker", "openshift", "gateway", "connector-service", "console"];

/// A host name or IP literal in lower case, without port and trailing dot. Equality ignores the port.
#[derive(Clone, Debug)]
pub struct Host<'a> {
    name: Cow<'a, str>,
    port: Option<u16>,
}

/// Why an authority is not a host. All are answered with 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Nothing before the port.
    #[error("the host is empty")]
    Empty,
    /// A character outside `[A-Za-z0-9.:\-\[\]_]`, a list, or brackets in the wrong place.
    #[error("the host has a character that no host has")]
    Character,
    /// A label is empty or longer than 63 bytes, or the name longer than 253.
    #[error("the host has a label or a length that no host has")]
    Label,
    /// What follows the colon is not a port.
    #[error("the port of the host is not a number up to 65535")]
    Port,
}

impl<'a> Host<'a> {
    /// Reads an authority (`Host` header, `:authority`, absolute-form target).
    ///
    /// Borrows when the input is already in the comparable form.
    // SPEC 30 §6.2
    pub fn parse_authority(raw: &'a str) -> Result<Self, HostError> {
        let (name, port) = split_port(raw)?;
        if name.starts_with('[') {
            return Ok(Self { name: ipv6_literal(name)?, port });
        }
        let name = name.strip_suffix('.').unwrap_or(name);
        if name.is_empty() {
            return Err(HostError::Empty);
        }
        let mut has_upper = false;
        for byte in name.bytes() {
            match byte {
                b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_' => {}
                b'A'..=b'Z' => has_upper = true,
                _ => return Err(HostError::Character),
            }
        }
        if name.len() > MAX_NAME_BYTES || name.split('.').any(|label| label.is_empty() || label.len() > MAX_LABEL_BYTES)
        {
            return Err(HostError::Label);
        }
        let name = if has_upper { Cow::Owned(name.to_ascii_lowercase()) } else { Cow::Borrowed(name) };
        Ok(Self { name, port })
    }

    /// The name without port, in lower case; an IPv6 literal keeps its brackets.
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// The port, when the authority had one.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// Whether the host is an address and not a name.
    pub fn is_ip_literal(&self) -> bool {
        self.name.starts_with('[') || self.name.parse::<Ipv4Addr>().is_ok()
    }

    /// The same host, independent of the request's buffer.
    pub fn into_owned(self) -> Host<'static> {
        Host { name: Cow::Owned(self.name.into_owned()), port: self.port }
    }
}

impl PartialEq for Host<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Host<'_> {}

impl fmt::Display for Host<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

fn split_port(raw: &str) -> Result<(&str, Option<u16>), HostError> {
    let (name, port) = if raw.starts_with('[') {
        let end = raw.find(']').ok_or(HostError::Character)?;
        let (name, rest) = raw.split_at(end + 1);
        match rest.strip_prefix(':') {
            Some(port) => (name, Some(port)),
            None if rest.is_empty() => (name, None),
            None => return Err(HostError::Character),
        }
    } else {
        match raw.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (raw, None),
        }
    };
    match port {
        None | Some("") => Ok((name, None)),
        Some(digits) if digits.len() <= 5 && digits.bytes().all(|b| b.is_ascii_digit()) => {
            digits.parse().map(|port| (name, Some(port))).map_err(|_| HostError::Port)
        }
        Some(_) => Err(HostError::Port),
    }
}

fn ipv6_literal(bracketed: &str) -> Result<Cow<'_, str>, HostError> {
    let inner = bracketed.strip_prefix('[').and_then(|s| s.strip_suffix(']')).ok_or(HostError::Character)?;
    let address: Ipv6Addr = inner.parse().map_err(|_| HostError::Character)?;
    let canonical = format!("[{address}]");
    Ok(if canonical == bracketed { Cow::Borrowed(bracketed) } else { Cow::Owned(canonical) })
}

/// The system's domains; the first one completes short host names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domains {
    names: Vec<String>,
}

impl Domains {
    /// From the configuration, the default domain first; lower-cased, without duplicates. An empty list becomes
    /// `localhost`, the product's default.
    pub fn new(names: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        let mut kept: Vec<String> = Vec::new();
        for name in names {
            let name = name.as_ref().trim_end_matches('.').to_ascii_lowercase();
            if !name.is_empty() && !kept.contains(&name) {
                kept.push(name);
            }
        }
        if kept.is_empty() {
            kept.push("localhost".to_owned());
        }
        Self { names: kept }
    }

    /// All domains, the default one first.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The domain that completes short names.
    pub fn default_domain(&self) -> &str {
        self.names.first().map_or("localhost", String::as_str)
    }

    /// The full name of an `Api`'s hostname, in lower case.
    // SPEC 30 §2.3
    pub fn fqdn(&self, hostname: &str) -> String {
        let hostname = hostname.to_ascii_lowercase();
        if self.names.iter().any(|domain| label_of(&hostname, domain).is_some()) {
            return hostname;
        }
        format!("{hostname}.{}", self.default_domain())
    }

    /// Whether the product serves the host itself by path: a domain, an address or `localhost`.
    pub fn is_path_routed(&self, host: &Host<'_>) -> bool {
        host.as_str() == "localhost" || host.is_ip_literal() || self.names.iter().any(|domain| domain == host.as_str())
    }

    /// Whether the host is reserved for the product: path-routed, or one of the named system hosts of a domain.
    pub fn is_system(&self, host: &Host<'_>) -> bool {
        self.is_path_routed(host) || self.is_system_name(host.as_str())
    }

    /// [`Self::is_system`] for a full name in lower case.
    pub fn is_system_name(&self, name: &str) -> bool {
        name == "localhost"
            || self.names.iter().any(|domain| {
                domain == name || label_of(name, domain).is_some_and(|label| SYSTEM_LABELS.contains(&label))
            })
    }
}

/// What stands before `.{domain}`, if the name is below the domain.
fn label_of<'n>(name: &'n str, domain: &str) -> Option<&'n str> {
    name.strip_suffix(domain)?.strip_suffix('.').filter(|label| !label.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_authority_has_one_comparable_form() {
        for (raw, name, port) in [
            ("A.LocalHost:8080", "a.localhost", Some(8080)),
            ("a.localhost.", "a.localhost", None),
            ("a.localhost.:80", "a.localhost", Some(80)),
            ("a.localhost:", "a.localhost", None),
            ("127.0.0.1:8080", "127.0.0.1", Some(8080)),
            ("[::1]:8080", "[::1]", Some(8080)),
            ("[0:0:0:0:0:0:0:1]", "[::1]", None),
            ("under_score.localhost", "under_score.localhost", None),
        ] {
            let host = Host::parse_authority(raw).unwrap();
            assert_eq!((host.as_str(), host.port()), (name, port), "{raw}");
        }
        assert!(matches!(Host::parse_authority("a.localhost").unwrap().name, Cow::Borrowed(_)));
    }

    #[test]
    fn what_is_no_host_is_refused() {
        let long_label = format!("{}.localhost", "a".repeat(64));
        let long_name = vec!["a".repeat(60); 5].join(".");
        for (raw, error) in [
            ("", HostError::Empty),
            (":8080", HostError::Empty),
            (".", HostError::Empty),
            ("a,b", HostError::Character),
            ("a b", HostError::Character),
            ("a@b", HostError::Character),
            ("a/b", HostError::Character),
            ("é.localhost", HostError::Character),
            ("[::1", HostError::Character),
            ("[::1]x", HostError::Character),
            ("[zz]", HostError::Character),
            ("a]b", HostError::Character),
            ("::1", HostError::Port),
            ("a:b", HostError::Port),
            ("a:99999", HostError::Port),
            ("a:+80", HostError::Port),
            ("a..b", HostError::Label),
            ("a..", HostError::Label),
            (long_label.as_str(), HostError::Label),
            (long_name.as_str(), HostError::Label),
        ] {
            assert_eq!(Host::parse_authority(raw).unwrap_err(), error, "{raw}");
        }
    }

    #[test]
    fn short_names_are_completed_with_the_default_domain() {
        let domains = Domains::new(["localhost", "Kyma.local"]);
        assert_eq!(domains.fqdn("Sample"), "sample.localhost");
        assert_eq!(domains.fqdn("sample.localhost"), "sample.localhost");
        assert_eq!(domains.fqdn("sample.KYMA.local"), "sample.kyma.local");
        assert_eq!(domains.fqdn("localhost"), "localhost.localhost");
    }

    #[test]
    fn system_hosts_are_reserved_below_every_domain() {
        let domains = Domains::new(["localhost", "kyma.local"]);
        for system in [
            "localhost",
            "kyma.local",
            "oauth2.localhost",
            "console.kyma.local",
            "127.0.0.1",
            "[::1]",
            "GATEWAY.localhost:8443",
        ] {
            assert!(domains.is_system(&Host::parse_authority(system).unwrap()), "{system}");
        }
        for other in ["sample.localhost", "a.oauth2.localhost", "oauth2.example", "xlocalhost"] {
            assert!(!domains.is_system(&Host::parse_authority(other).unwrap()), "{other}");
        }
    }

    proptest! {
        #[test]
        fn parsing_is_idempotent(raw in "[A-Za-z0-9.:_\\[\\]-]{0,40}") {
            if let Ok(host) = Host::parse_authority(&raw) {
                let again = Host::parse_authority(host.as_str()).unwrap();
                prop_assert_eq!(again.as_str(), host.as_str());
                prop_assert_eq!(again.port(), None);
            }
        }

        #[test]
        fn parsing_never_panics(raw in "\\PC{0,60}") {
            let _ = Host::parse_authority(&raw);
        }
    }
}
