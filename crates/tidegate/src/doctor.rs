//! `tidegate doctor`: looks at what usually goes wrong, and says what to do about it. Changes nothing.

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use kube::ResourceExt as _;
use kube::api::{Api as Objects, ListParams};
use serde::Serialize;
use tidegate_kinds::api::Api;
use tidegate_runtime::{AddressPolicy, AddressPolicyOptions, HttpClientOptions, http_client};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

use crate::cli::Context;
use crate::endpoints::Endpoints;
use crate::exit::{Code, Failure, Outcome};
use crate::output::{self, Sign};
use crate::settings::{self, Settings};
use crate::{kube_access, local_http, status};

/// Less free space than this is a finding.
const LEAST_FREE_BYTES: u64 = 512 << 20;
/// Limit for one connection attempt.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// How many issuers and upstreams are tried.
const MOST_TRIES: usize = 50;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Form of the answer
    #[arg(short, long, value_name = "FORM", value_parser = ["table", "json"], default_value = "table")]
    output: String,
}

/// One fact that was found.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Finding {
    check: &'static str,
    ok: bool,
    fact: String,
    /// What to do; empty when all is well.
    #[serde(rename = "try", skip_serializing_if = "String::is_empty")]
    try_next: String,
}

#[derive(Default)]
struct Report {
    findings: Vec<Finding>,
}

impl Report {
    fn good(&mut self, check: &'static str, fact: impl Into<String>) {
        self.findings.push(Finding { check, ok: true, fact: fact.into(), try_next: String::new() });
    }

    fn bad(&mut self, check: &'static str, fact: impl Into<String>, try_next: impl Into<String>) {
        self.findings.push(Finding { check, ok: false, fact: fact.into(), try_next: try_next.into() });
    }
}

/// Runs every check; ends with code 3 when one found something.
pub(crate) async fn run(args: &Args, context: Context<'_>) -> Outcome {
    let mut report = Report::default();
    let data_dir = status::data_dir(context);
    let settings = check_configuration(&mut report, context);
    check_data_dir(&mut report, &data_dir);
    check_kubectl(&mut report).await;
    match running_endpoints(&data_dir).await {
        Some(endpoints) => {
            check_domain(&mut report, endpoints.get("domain").unwrap_or("localhost")).await;
            check_platform(&mut report, &endpoints).await;
            check_objects(&mut report, context).await;
        }
        None => {
            if let Some(settings) = settings {
                check_domain(&mut report, &settings.domain).await;
                check_ports(&mut report, &settings).await;
            }
        }
    }
    print(&report, &args.output, context)?;
    let found = report.findings.iter().any(|finding| !finding.ok);
    if found { Err(Failure::silent(Code::Found)) } else { Ok(()) }
}

fn print(report: &Report, form: &str, context: Context<'_>) -> Outcome {
    if form == "json" {
        output::answer(serde_json::to_string_pretty(&report.findings).map_err(Failure::new)?);
        return Ok(());
    }
    let signs = context.signs(std::io::stdout().is_terminal());
    for finding in &report.findings {
        let sign = signs.show(if finding.ok { Sign::Good } else { Sign::Bad });
        output::answer(format_args!("{sign} {:<13} {}", finding.check, finding.fact));
        if !finding.try_next.is_empty() {
            output::answer(format_args!("{:16} try: {}", "", finding.try_next));
        }
    }
    Ok(())
}

fn check_configuration(report: &mut Report, context: Context<'_>) -> Option<Settings> {
    match settings::load(None, context.environment, &[]) {
        Ok(loaded) => {
            if loaded.warnings.is_empty() {
                report.good("configuration", "valid");
            }
            for warning in loaded.warnings {
                report.bad("configuration", warning, "unset or rename the variable");
            }
            Some(loaded.config)
        }
        Err(failure) => {
            let text = failure.to_string().trim_start_matches("error: ").lines().next().unwrap_or_default().to_owned();
            report.bad("configuration", text, "tidegate config check");
            None
        }
    }
}

fn check_data_dir(report: &mut Report, data_dir: &Path) {
    let shown = data_dir.display();
    let Ok(metadata) = std::fs::metadata(data_dir) else {
        report.good("data dir", format!("`{shown}` does not exist yet; the first start makes it"));
        return;
    };
    let mode = metadata.permissions().mode() & 0o777;
    let for_others = mode & 0o077;
    if for_others == 0 {
        report.good("data dir", format!("`{shown}` belongs to its owner alone"));
    } else {
        report.bad(
            "data dir",
            format!("`{shown}` has mode {mode:o}: others can read keys"),
            format!("chmod 700 {shown}"),
        );
    }
    match rustix::fs::statvfs(data_dir) {
        Ok(space) => {
            let free = space.f_bavail.saturating_mul(space.f_frsize);
            let fact = format!("{} MiB free", free >> 20);
            if free >= LEAST_FREE_BYTES {
                report.good("disk", fact);
            } else {
                report.bad("disk", fact, "free some space: a full disk makes every write fail");
            }
        }
        Err(error) => {
            report.bad("disk", format!("free space of `{shown}` is unknown: {error}"), "look at the file system");
        }
    }
}

async fn check_kubectl(report: &mut Report) {
    let output = Command::new("kubectl").args(["version", "--client", "-o", "json"]).output().await;
    let version = output.ok().and_then(|output| {
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
        Some(json.pointer("/clientVersion/gitVersion")?.as_str()?.to_owned())
    });
    match version {
        Some(version) if minor_of(&version).is_some_and(|minor| minor >= 27) => report.good("kubectl", version),
        Some(version) => report.bad("kubectl", format!("{version} is older than 1.27"), "install a newer one"),
        None => report.bad("kubectl", "not found on PATH", "./dev test installs one into .tools/bin"),
    }
}

/// Minor version of `v1.30.13`.
fn minor_of(version: &str) -> Option<u32> {
    version.strip_prefix("v1.")?.split('.').next()?.parse().ok()
}

/// The addresses in the data dir, if somebody answers there: a killed process leaves its file behind.
async fn running_endpoints(data_dir: &Path) -> Option<Endpoints> {
    let endpoints = Endpoints::read(data_dir).ok()?;
    let answer = local_http::get(endpoints.get("admin")?, "/livez").await;
    answer.is_ok().then_some(endpoints)
}

async fn check_domain(report: &mut Report, domain: &str) {
    let name = format!("doctor.{domain}");
    let addresses = tokio::net::lookup_host((name.as_str(), 0)).await.map(Iterator::collect::<Vec<SocketAddr>>);
    match addresses {
        Ok(addresses) if !addresses.is_empty() => {
            let list: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
            report.good("domain", format!("`*.{domain}` resolves to {}", list.join(", ")));
        }
        // Not a finding: curl and browsers know `*.localhost` themselves, and `-H Host` always works.
        _ if domain == "localhost" => {
            report.good(
                "domain",
                "`*.localhost` does not resolve in libc; use `-H 'Host: NAME.localhost'`, curl and browsers know it",
            );
        }
        _ => report.bad(
            "domain",
            format!("`*.{domain}` does not resolve"),
            format!("a DNS record for *.{domain}, or `-H 'Host: NAME.{domain}'`"),
        ),
    }
}

async fn check_platform(report: &mut Report, endpoints: &Endpoints) {
    let Some(admin) = endpoints.get("admin") else {
        report.bad("platform", "`endpoints.json` names no admin listener", "restart the platform");
        return;
    };
    match local_http::get(admin, "/readyz?verbose").await {
        Ok(answer) if answer.status == 200 => report.good("platform", "runs and is ready"),
        Ok(answer) => {
            for line in answer.body.lines().filter(|line| line.starts_with("[-]")) {
                report.bad("platform", line.trim_start_matches("[-]"), "the log says more");
            }
        }
        Err(failure) => report.bad("platform", failure.to_string().replace('\n', " "), "tidegate up"),
    }
}

async fn check_ports(report: &mut Report, settings: &Settings) {
    report.good("platform", "does not run on this data dir");
    for (key, listen) in settings.listeners() {
        let Some(address) = listen.address() else { continue };
        match TcpListener::bind(address).await {
            Ok(_) => report.good("port", format!("{address} is free for `{key}`")),
            Err(error) => {
                report.bad("port", format!("{address} for `{key}`: {error}"), format!("--{key} {}:0", address.ip()));
            }
        }
    }
}

/// Exposures that are not enforced, issuers without keys, upstreams that nobody serves.
async fn check_objects(report: &mut Report, context: Context<'_>) {
    let access = match kube_access::connect(context).await {
        Ok(access) => access,
        Err(failure) => {
            report.bad("api server", failure.to_string().replace('\n', " "), "tidegate status");
            return;
        }
    };
    let apis: Objects<Api> = Objects::all(access.client);
    let list = match apis.list(&ListParams::default()).await {
        Ok(list) => list.items,
        Err(error) => {
            report.bad(
                "exposures",
                kube_access::failure("cannot be listed", &error).to_string(),
                "kubectl get apis -A",
            );
            return;
        }
    };
    let not_enforced: Vec<&Api> = list.iter().filter(|api| !is_ready(api)).collect();
    for api in not_enforced.iter().take(MOST_TRIES) {
        let (namespace, name) = (api.namespace().unwrap_or_default(), api.name_any());
        report.bad(
            "exposure",
            format!("api `{namespace}/{name}` is not enforced"),
            format!("kubectl describe api {name} -n {namespace}"),
        );
    }
    report.good("exposures", format!("{} of {} are enforced", list.len() - not_enforced.len(), list.len()));
    check_issuers(report, &list).await;
    check_upstreams(report, context).await;
}

fn is_ready(api: &Api) -> bool {
    let conditions = api.status.iter().flat_map(|status| &status.conditions);
    conditions.filter(|condition| condition.kind == "Ready").any(|condition| condition.status == "True")
}

async fn check_issuers(report: &mut Report, apis: &[Api]) {
    let rules = apis.iter().filter(|api| api.spec.is_secured()).flat_map(|api| api.spec.rules());
    let mut uris: Vec<&str> = rules.map(|rule| rule.jwt.jwks_uri.as_str()).collect();
    uris.sort_unstable();
    uris.dedup();
    let policy = AddressPolicy::new(AddressPolicyOptions::default());
    let client = http_client(&policy, HttpClientOptions { timeout: CONNECT_LIMIT, ..HttpClientOptions::default() });
    for uri in uris.into_iter().take(MOST_TRIES) {
        let advice = "without keys every token is answered 401";
        match client.get(uri, "application/json").await {
            Ok(fetched) if fetched.status.is_success() => report.good("issuer keys", format!("`{uri}` answers")),
            Ok(fetched) => report.bad("issuer keys", format!("`{uri}` answers {}", fetched.status.as_u16()), advice),
            Err(error) => report.bad("issuer keys", format!("`{uri}`: {error}"), advice),
        }
    }
}

async fn check_upstreams(report: &mut Report, context: Context<'_>) {
    let routes = match crate::routes::fetch(context).await {
        Ok(routes) => routes,
        Err(failure) => {
            report.bad("upstreams", failure.to_string().replace('\n', " "), "tidegate routes");
            return;
        }
    };
    let mut upstreams: Vec<(String, String)> = routes
        .into_iter()
        .flat_map(|route| route.upstreams().map(|upstream| (upstream, route.name())).collect::<Vec<_>>())
        .collect();
    upstreams.sort();
    upstreams.dedup_by(|one, other| one.0 == other.0);
    for (upstream, route) in upstreams.into_iter().take(MOST_TRIES) {
        // What is not `host:port` is answered in process, or says itself why it leads nowhere.
        let is_address = upstream.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        if !is_address {
            continue;
        }
        let connected = tokio::time::timeout(CONNECT_LIMIT, TcpStream::connect(&upstream)).await;
        match connected {
            Ok(Ok(_)) => report.good("upstream", format!("`{upstream}` of {route} accepts connections")),
            _ => report.bad(
                "upstream",
                format!("`{upstream}` of {route} does not accept connections"),
                "start it: its route answers 503",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_kubectl_are_compared_by_minor() {
        assert_eq!(minor_of("v1.30.13"), Some(30));
        assert_eq!(minor_of("v1.32.4-dispatcher"), Some(32));
        assert_eq!(minor_of("v2.0.0"), None);
        assert_eq!(minor_of(""), None);
    }

    #[test]
    fn a_data_dir_that_others_can_read_is_found() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut report = Report::default();
        check_data_dir(&mut report, dir.path());
        let finding = report.findings.iter().find(|finding| finding.check == "data dir").unwrap();
        assert!(!finding.ok);
        assert_eq!(finding.try_next, format!("chmod 700 {}", dir.path().display()));
    }
}
