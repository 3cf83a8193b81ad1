//! What can be configured (`00`, `30` section 11), and loading it.

mod exposure;
mod listen;

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidegate_runtime::config::{self, Loaded, Sources};
use tidegate_runtime::logging::LogFormat;

pub(crate) use exposure::{BlocklistMode, Exposure, UnderscoreHeaders};
pub(crate) use listen::Listen;

use crate::exit::Failure;

/// Configuration of `tidegate up`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Settings {
    /// Directory of all state; created with mode 0700.
    pub(crate) data_dir: PathBuf,
    /// System domain; a short host name `x` means `x.{domain}`.
    pub(crate) domain: String,
    /// Further domains that host names may end with.
    pub(crate) domains: Vec<String>,
    /// Edge gateway without TLS: address and port, or `off`.
    pub(crate) http: Listen,
    /// Edge gateway with TLS.
    pub(crate) https: Listen,
    /// Kubernetes-compatible API, TLS. Cannot be `off`.
    pub(crate) kube: Listen,
    /// Outbound application gateway.
    pub(crate) outbound: Listen,
    /// Admin listener: health, metrics, debugging. Cannot be `off`; keep it on loopback.
    pub(crate) admin: Listen,
    /// Decision API for other proxies.
    pub(crate) decisions: Listen,
    /// What is logged, and how.
    pub(crate) log: Log,
    /// Exposure of services.
    pub(crate) exposure: Exposure,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("./.tidegate"),
            domain: "localhost".to_owned(),
            domains: Vec::new(),
            http: Listen::loopback(8080),
            https: Listen::loopback(8443),
            kube: Listen::loopback(6443),
            outbound: Listen::loopback(8082),
            admin: Listen::loopback(4445),
            decisions: Listen::loopback(4456),
            log: Log::default(),
            exposure: Exposure::default(),
        }
    }
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Log {
    /// `auto` (text to a terminal, JSON otherwise), `text` or `json`.
    #[schemars(with = "String")]
    pub(crate) format: LogFormat,
    /// A level (`error`, `warn`, `info`, `debug`, `trace`) or `info,tidegate_gateway=debug`. Reloaded on SIGHUP.
    pub(crate) level: String,
    /// Where the access log goes: `stdout`, `off`, or the path of a file that lines are appended to.
    pub(crate) access: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Auto, level: "info".to_owned(), access: "stdout".to_owned() }
    }
}

/// Variable names of the original products.
const ALIASES: &[(&str, &str)] = &[
    ("DOMAIN_NAME", "domain"),
    ("GATEWAY_FQDN", "exposure.gatewayFqdn"),
    ("DEFAULT_ISSUER", "exposure.defaultIssuer"),
    ("DEFAULT_JWKS_URI", "exposure.defaultJwksUri"),
    ("ENABLE_MTLS", "exposure.policyMtls"),
    ("CORS_ALLOW_ORIGIN", "exposure.cors.allowOrigin"),
    ("CORS_ALLOW_METHODS", "exposure.cors.allowMethods"),
    ("CORS_ALLOW_HEADERS", "exposure.cors.allowHeaders"),
    ("BLACKLISTED_SERVICES", "exposure.blocklist"),
];

/// Variables with our prefix that are read elsewhere: the path of the file, the first administrator's password.
const OTHER_VARIABLES: &[&str] = &["TIDEGATE_CONFIG", "TIDEGATE_ADMIN_PASSWORD"];

/// Loads the settings from the given flags, the environment and the file that one of them names.
pub(crate) fn load(
    file: Option<&Path>,
    environment: &[(String, String)],
    flags: &[(&str, &str, Value)],
) -> Result<Loaded<Settings>, Failure> {
    let from_environment =
        environment.iter().find(|(name, _)| name == "TIDEGATE_CONFIG").map(|(_, path)| PathBuf::from(path));
    let file = file.map(Path::to_owned).or(from_environment);
    let file = match &file {
        None => None,
        Some(path) => {
            let name = path.display().to_string();
            let text = std::fs::read_to_string(path)
                .map_err(|error| Failure::usage(format!("config file `{name}` cannot be read: {error}")))?;
            Some((name, text))
        }
    };
    let sources = Sources {
        file: file.as_ref().map(|(name, text)| (name.as_str(), text.as_str())),
        environment,
        flags,
        aliases: ALIASES,
        other_variables: OTHER_VARIABLES,
    };
    let loaded = config::load::<Settings>(&sources)
        .map_err(|error| Failure::usage(error).try_next("tidegate config default"))?;
    let problems = loaded.config.problems();
    if problems.is_empty() {
        return Ok(loaded);
    }
    let failure = Failure::usage(format!("configuration refused: {} of its values cannot be used", problems.len()));
    Err(problems
        .into_iter()
        .fold(failure, |failure, (key, problem)| failure.detail("key", format!("{key}: {problem}"))))
}

impl Settings {
    /// All values that have the right form and still make no sense, by key.
    fn problems(&self) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        for (index, domain) in self.all_domains().iter().enumerate() {
            if !is_domain(domain) {
                let key = if index == 0 { "domain".to_owned() } else { format!("domains[{}]", index - 1) };
                problems.push((key, format!("`{domain}` is not a DNS name in lower case")));
            }
        }
        for (key, listen) in [("kube", &self.kube), ("admin", &self.admin)] {
            if listen.address().is_none() {
                problems.push((
                    key.to_owned(),
                    "cannot be `off`: other commands talk to this process through it".to_owned(),
                ));
            }
        }
        let named = self.listeners();
        for (index, (key, listen)) in named.iter().enumerate() {
            let taken = named.iter().take(index).find(|(_, other)| listen.clashes_with(other));
            if let Some((other, _)) = taken {
                problems.push(((*key).to_owned(), format!("`{listen}` is also the address of `{other}`")));
            }
        }
        problems.extend(self.exposure.problems());
        problems
    }

    /// Every listener by its key.
    pub(crate) fn listeners(&self) -> [(&'static str, &Listen); 6] {
        [
            ("http", &self.http),
            ("https", &self.https),
            ("kube", &self.kube),
            ("outbound", &self.outbound),
            ("admin", &self.admin),
            ("decisions", &self.decisions),
        ]
    }

    /// The system domain first, then the others.
    pub(crate) fn all_domains(&self) -> Vec<String> {
        let mut domains = vec![self.domain.clone()];
        domains.extend(self.domains.iter().filter(|domain| **domain != self.domain).cloned());
        domains
    }
}

fn is_domain(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    let last_is_number = name.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    name.len() <= 200 && name.split('.').all(label) && !last_is_number
}

#[cfg(test)]
mod tests;
