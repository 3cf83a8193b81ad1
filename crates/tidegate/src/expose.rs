//! `tidegate expose` and `tidegate unexpose`: the first form of `30` section 7.1 as one command.

mod objects;
mod progress;

use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use kube::api::{Api as Objects, DeleteParams, PostParams};
use kube::{Client, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use tidegate_kinds::api::Api;
use tidegate_runtime::{AddressPolicy, AddressPolicyOptions, HttpClientOptions, http_client};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::cli::{Context, wait_time};
use crate::exit::{Code, Failure, Outcome};
use crate::kube_access::{self, Access};
use crate::{output, status};
use objects::{Target, is_exposed_by_us};

/// How long optional look-arounds (keys reachable, target listening) may take.
const LOOK_AROUND: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(100);
const FIELD_MANAGER: &str = "tidegate-cli";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the Service and of the Api
    name: String,
    /// Where the process listens: an IPv4 address or a host name, and a port
    #[arg(long, value_name = "HOST:PORT", value_parser = clap::value_parser!(Target))]
    to: Target,
    /// Host name: one label, or a full name under a system domain [default: NAME]
    #[arg(long, value_name = "HOST")]
    hostname: Option<String>,
    /// Require a JWT of this issuer
    #[arg(long, value_name = "URL", requires = "jwks")]
    jwt_issuer: Option<String>,
    /// Where the issuer publishes its keys
    #[arg(long, value_name = "URL", requires = "jwt_issuer")]
    jwks: Option<String>,
    /// Open an Api that requires a JWT now
    #[arg(long, conflicts_with = "jwt_issuer")]
    unprotected: bool,
    /// Print what would be applied instead of applying it
    #[arg(long, value_name = "client", value_parser = ["client"])]
    dry_run: Option<String>,
    /// Form of what --dry-run prints
    #[arg(short, long, value_name = "FORM", value_parser = ["yaml", "json"], default_value = "yaml", requires = "dry_run")]
    output: String,
    /// Print what is applied
    #[arg(short, long)]
    verbose: bool,
    /// Wait until the gateway enforces it; 0s: do not wait
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_value = "30s",
          default_missing_value = "30s", value_parser = wait_time)]
    wait: Duration,
}

#[derive(Debug, clap::Args)]
pub(crate) struct UnexposeArgs {
    /// Name of the Api
    name: String,
    /// Wait until the route is gone; 0s: do not wait
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_value = "30s",
          default_missing_value = "30s", value_parser = wait_time)]
    wait: Duration,
}

/// Exposes a local process and waits until the gateway enforces it.
pub(crate) async fn run(args: &Args, context: Context<'_>) -> Outcome {
    if args.jwt_issuer.as_deref() == Some("self") || args.jwks.as_deref() == Some("self") {
        return Err(Failure::usage(
            "--jwt-issuer self needs Tidegate's own OAuth2 server, which this version does not have",
        )
        .try_next("--jwt-issuer URL --jwks URL of your identity provider"));
    }
    let hostname = args.hostname.as_deref().unwrap_or(&args.name);
    let issuer = args.jwt_issuer.as_deref().zip(args.jwks.as_deref());
    let namespace = context.global.namespace.as_deref();
    if args.dry_run.is_some() {
        let namespace = namespace.unwrap_or("default");
        let service = objects::service(&args.name, namespace, &args.to);
        let api = objects::api(&args.name, namespace, hostname, issuer);
        return print_documents(&args.output, &service, &api);
    }

    let access = kube_access::connect(context).await?;
    let namespace = access.namespace.as_str();
    let service = objects::service(&args.name, namespace, &args.to);
    let api = objects::api(&args.name, namespace, hostname, issuer);
    if args.verbose {
        output::note(yaml_documents(&service, &api)?);
    }
    apply_service(&access, service).await?;
    let api = apply_api(&access, api, args.unprotected).await?;
    if args.wait.is_zero() {
        output::answer(format_args!("api `{namespace}/{}` applied", args.name));
        return Ok(());
    }
    progress::until_enforced(&access, &api, args.wait).await?;
    output::answer(format_args!("api `{namespace}/{}` is enforced (code 2)", args.name));
    if let Some((_, jwks)) = issuer {
        hint_about_keys(jwks).await;
    }
    hint_about_target(&args.to).await;
    show_address(context, hostname, issuer.is_some());
    Ok(())
}

/// Removes the Api, and the Service if `expose` made it.
pub(crate) async fn run_unexpose(args: &UnexposeArgs, context: Context<'_>) -> Outcome {
    let Access { client, namespace } = kube_access::connect(context).await?;
    let apis: Objects<Api> = Objects::namespaced(client.clone(), &namespace);
    let what = format!("api `{namespace}/{}` not removed", args.name);
    let Some(api) = apis.get_opt(&args.name).await.map_err(|error| kube_access::failure(&what, &error))? else {
        return Err(
            Failure::new(format!("{what}: there is no such Api")).try_next(format!("kubectl get apis -n {namespace}"))
        );
    };
    apis.delete(&args.name, &DeleteParams::default()).await.map_err(|error| kube_access::failure(&what, &error))?;
    if !args.wait.is_zero() {
        progress::until_gone(&apis, &api, args.wait).await?;
    }
    let services: Objects<Service> = Objects::namespaced(client, &namespace);
    let service_name = &api.spec.service.name;
    let what = format!("service `{namespace}/{service_name}` not removed");
    let service = services.get_opt(service_name).await.map_err(|error| kube_access::failure(&what, &error))?;
    if service.as_ref().is_some_and(is_exposed_by_us) {
        services
            .delete(service_name, &DeleteParams::default())
            .await
            .map_err(|error| kube_access::failure(&what, &error))?;
        output::answer(format_args!("api and service `{namespace}/{}` removed", args.name));
    } else {
        output::answer(format_args!("api `{namespace}/{}` removed", args.name));
    }
    Ok(())
}

async fn apply_service(access: &Access, desired: Service) -> Outcome {
    let name = desired.name_any();
    let what = format!("service `{}/{name}` not applied", access.namespace);
    apply(&access.client, &access.namespace, &what, desired, |existing: &mut Service, desired| {
        let is_other_form = existing.spec.as_ref().is_some_and(|spec| spec.type_.as_deref() != Some("ExternalName"));
        if is_other_form {
            return Err(Failure::new(format!("{what}: it exists and is not of type ExternalName"))
                .code(Code::Conflict)
                .detail("field", "spec.type")
                .try_next("another NAME, or an Api of your own for that Service"));
        }
        let unchanged = existing.spec == desired.spec;
        existing.spec = desired.spec;
        Ok(unchanged)
    })
    .await
    .map(drop)
}

async fn apply_api(access: &Access, desired: Api, unprotected: bool) -> Result<Api, Failure> {
    let name = desired.name_any();
    let what = format!("api `{}/{name}` not applied", access.namespace);
    apply(&access.client, &access.namespace, &what, desired, |existing: &mut Api, desired| {
        if existing.spec.is_secured() && !desired.spec.is_secured() && !unprotected {
            return Err(Failure::new(format!("{what}: it requires a JWT, and this would open it to everybody"))
                .code(Code::Conflict)
                .detail("field", "spec.authentication")
                .try_next("--jwt-issuer URL --jwks URL to keep it secured, or --unprotected to open it"));
        }
        let unchanged = existing.spec == desired.spec;
        existing.spec = desired.spec;
        Ok(unchanged)
    })
    .await
}

/// Creates the object, or lets `merge` put the desired state into the existing one (`Ok(true)`: nothing to write).
async fn apply<K, M>(client: &Client, namespace: &str, what: &str, desired: K, merge: M) -> Result<K, Failure>
where
    K: Resource<Scope = kube::core::NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned,
    K::DynamicType: Default,
    M: Fn(&mut K, K) -> Result<bool, Failure>,
{
    let objects: Objects<K> = Objects::namespaced(client.clone(), namespace);
    let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    let name = desired.name_any();
    let failure = |error: kube::Error| kube_access::failure(what, &error);
    // A conflict means that somebody wrote in between: look again.
    for _ in 0..5 {
        let result = match objects.get_opt(&name).await.map_err(failure)? {
            None => objects.create(&params, &desired).await,
            Some(mut existing) => {
                if merge(&mut existing, desired.clone())? {
                    return Ok(existing);
                }
                objects.replace(&name, &params, &existing).await
            }
        };
        match result {
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            other => return other.map_err(failure),
        }
    }
    Err(Failure::new(format!("{what}: it changes again and again")).code(Code::Conflict))
}

fn print_documents(form: &str, service: &Service, api: &Api) -> Outcome {
    if form == "json" {
        let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": [service, api]});
        output::answer(format_args!("{list:#}"));
    } else {
        output::answer(yaml_documents(service, api)?.trim_end());
    }
    Ok(())
}

fn yaml_documents(service: &Service, api: &Api) -> Result<String, Failure> {
    let as_yaml = |value: Result<serde_json::Value, serde_json::Error>| {
        let value = value.map_err(Failure::new)?;
        serde_saphyr::to_string(&value).map_err(Failure::new)
    };
    Ok(format!("{}---\n{}", as_yaml(serde_json::to_value(service))?, as_yaml(serde_json::to_value(api))?))
}

/// Says so when the keys cannot be fetched: every request would be answered 401.
async fn hint_about_keys(jwks: &str) {
    let policy = AddressPolicy::new(AddressPolicyOptions::default());
    let client =
        http_client(&policy, HttpClientOptions { timeout: Duration::from_secs(1), ..HttpClientOptions::default() });
    let start = Instant::now();
    let problem = loop {
        let problem = match client.get(jwks, "application/json").await {
            Ok(fetched) if fetched.status.is_success() => return,
            Ok(fetched) => format!("it answers {}", fetched.status.as_u16()),
            Err(error) => error.to_string(),
        };
        if start.elapsed() >= LOOK_AROUND {
            break problem;
        }
        tokio::time::sleep(PAUSE).await;
    };
    output::note(format_args!(
        "hint: no keys from `{jwks}` ({problem}); until there are some, every token is answered 401"
    ));
}

/// Says so when nothing listens at the target: every request would be answered 503.
async fn hint_about_target(target: &Target) {
    let connected = tokio::time::timeout(LOOK_AROUND, async {
        while TcpStream::connect((target.host.as_str(), target.port)).await.is_err() {
            tokio::time::sleep(PAUSE).await;
        }
    });
    if connected.await.is_err() {
        output::note(format_args!(
            "hint: nothing listens at `{target}` yet; until something does, requests are answered 503"
        ));
    }
}

/// Prints how to call it, if the platform runs on this machine.
fn show_address(context: Context<'_>, hostname: &str, is_secured: bool) {
    let Ok(endpoints) = status::endpoints(&status::data_dir(context)) else { return };
    let (Some(http), Some(domain)) = (endpoints.get("http"), endpoints.get("domain")) else { return };
    let host =
        if hostname.ends_with(&format!(".{domain}")) { hostname.to_owned() } else { format!("{hostname}.{domain}") };
    let header = if is_secured { " -H \"Authorization: Bearer $TOKEN\"" } else { "" };
    output::note(format_args!("try: curl -i -H 'Host: {host}'{header} http://{http}/"));
}
