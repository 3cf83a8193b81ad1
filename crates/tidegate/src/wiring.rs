//! Settings as the options of the parts that they configure.

use std::sync::Arc;

use tidegate_gateway::auth::{AuthOptions, JwksOptions};
use tidegate_gateway::{GatewayConfig, RequestOptions};
use tidegate_policy::cors::CorsOptions;
use tidegate_policy::headers::Underscores;
use tidegate_policy::options::DEFAULT_PROTECTED;
use tidegate_policy::{CorsPolicy, Domains, Issuer, Options, ProtectedMode};
use tidegate_runtime::{AccessLog, AddressPolicy, AddressPolicyOptions, Column, HttpClientOptions};
use tidegate_tokens::{Algorithm, AlgorithmSet, TimeRules};

use crate::exit::Failure;
use crate::settings::{BlocklistMode, Settings, UnderscoreHeaders};

/// SPEC 00: the namespaces that exist after the first start, besides those of every cluster.
pub(crate) const NAMESPACES: [&str; 4] = ["kyma-system", "kyma-integration", "istio-system", "kcp-system"];

/// How objects are compiled, for the gateway and the reconcilers alike.
pub(crate) fn policy(settings: &Settings) -> Result<Options, Failure> {
    let exposure = &settings.exposure;
    let issuer = exposure.default_issuer.as_ref().zip(exposure.default_jwks_uri.as_ref());
    let cors = CorsOptions {
        allow_origins: exposure.cors.allow_origin.clone(),
        allow_methods: exposure.cors.allow_methods.clone(),
        allow_headers: exposure.cors.allow_headers.clone(),
        ..CorsOptions::default()
    };
    let cors = CorsPolicy::compile(&cors)
        .map_err(|error| Failure::usage(format!("configuration refused: {error}")).detail("key", "exposure.cors"))?;
    let built_in = DEFAULT_PROTECTED.iter().map(|name| (*name).to_owned());
    Ok(Options {
        default_issuer: issuer.map(|(issuer, jwks)| Issuer { issuer: issuer.clone(), jwks_uri: jwks.clone() }),
        protected: built_in.chain(exposure.blocklist.iter().cloned()).collect(),
        protected_mode: match exposure.blocklist_mode {
            BlocklistMode::RequireAuth => ProtectedMode::RequireAuth,
            BlocklistMode::Deny => ProtectedMode::Deny,
        },
        cors: cors.map(Arc::new),
        ..Options::new(Domains::new(settings.all_domains()))
    })
}

/// How the edge listens, judges tokens and treats requests.
pub(crate) fn gateway(settings: &Settings, policy: Options) -> GatewayConfig {
    let exposure = &settings.exposure;
    let named: Vec<Algorithm> = exposure.jwt.algorithms.iter().filter_map(|name| name.parse().ok()).collect();
    let algorithms = if named.is_empty() { AlgorithmSet::ALL } else { named.into_iter().collect() };
    GatewayConfig {
        http: settings.http.address(),
        https: settings.https.address(),
        requests: RequestOptions {
            trusted_proxies: exposure.trusted_proxies.clone(),
            underscores: match exposure.underscore_headers {
                UnderscoreHeaders::Drop => Underscores::Drop,
                UnderscoreHeaders::Reject => Underscores::Reject,
                UnderscoreHeaders::Allow => Underscores::Allow,
            },
            max_request_body: (exposure.max_request_body > 0).then_some(exposure.max_request_body),
            strip_token_query: exposure.strip_token_query,
            ..RequestOptions::default()
        },
        auth: AuthOptions {
            times: TimeRules {
                skew_s: i64::try_from(exposure.jwt.skew.as_secs()).unwrap_or(i64::MAX),
                require_exp: exposure.jwt.require_exp,
            },
            algorithms,
            missing_is_forbidden: exposure.jwt.missing_token_status == 403,
            ..AuthOptions::default()
        },
        jwks: JwksOptions {
            ttl: exposure.jwks_ttl,
            max_stale: exposure.jwks_max_stale,
            wait_for_first: exposure.jwks_timeout,
            ..JwksOptions::default()
        },
        ..GatewayConfig::new(policy)
    }
}

/// What the reconcilers render.
pub(crate) fn exposure(settings: &Settings) -> tidegate_exposure::Config {
    tidegate_exposure::Config {
        gateway_fqdn: settings.exposure.gateway_fqdn.clone(),
        policy_mtls: settings.exposure.policy_mtls,
    }
}

/// Where this process may connect (`30` section 7.2).
pub(crate) fn addresses(settings: &Settings) -> AddressPolicy {
    AddressPolicy::new(AddressPolicyOptions {
        allow_loopback: true,
        upstream: settings.exposure.upstream.rules(),
        fetch: settings.exposure.fetch.rules(),
    })
}

/// How issuers' keys are fetched.
pub(crate) fn key_fetches(settings: &Settings) -> HttpClientOptions {
    HttpClientOptions {
        column: Column::Fetch,
        timeout: settings.exposure.jwks_timeout,
        ca_file: settings.exposure.jwks_ca_file.clone(),
        ..HttpClientOptions::default()
    }
}

/// Where requests are logged.
pub(crate) fn access_log(settings: &Settings) -> Result<AccessLog, Failure> {
    let opened = match settings.log.access.as_str() {
        "off" => return Ok(AccessLog::off()),
        "stdout" => AccessLog::stdout(),
        path => {
            std::fs::File::options().create(true).append(true).open(path).and_then(|file| AccessLog::to(Box::new(file)))
        }
    };
    opened.map_err(|error| {
        Failure::new(format!("access log `{}` cannot be written: {error}", settings.log.access))
            .detail("key", "log.access")
    })
}
