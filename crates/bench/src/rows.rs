//! The rows of `70` section 2 that exist today: proxying and JWT paths, growth with hosts, change to enforcement,
//! start time and memory.

use std::cell::Cell;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use crate::compare::{self, Contender, median};
use crate::load;
use crate::peers::{self, Peer};
use crate::platform::{self, Platform};
use crate::process::Measured;
use crate::report::Report;
use crate::tokens::{Algorithm, TokenSource};

/// Core of the measured programs.
const MEASURED_CORE: usize = 0;
/// Core of load generator, upstream and issuer.
const LOAD_CORE: usize = 1;
/// Distinct tokens of a warm row; all are seen during warm-up.
const WARM_TOKENS: usize = 100;

/// Cost of one verification on the machine of the specification, microseconds (`70` section 3).
const VERIFY_RS256_US: f64 = 16.7;
const VERIFY_ES256_US: f64 = 52.8;

/// What to measure and how long.
#[derive(Args)]
pub(crate) struct Settings {
    /// Rounds of the interleaved comparison
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Requests per contender and round
    #[arg(long, default_value_t = 100_000)]
    requests: usize,
    /// Virtual hosts that every contender serves
    #[arg(long, default_value_t = 1_000)]
    hosts: usize,
    /// Host counts of the growth rows, ascending; the first is the base
    #[arg(long, value_delimiter = ',', default_values_t = [10, 1_000, 10_000])]
    growth: Vec<usize>,
    /// Where the report is written as JSON
    #[arg(long, default_value = "bench-report.json")]
    pub(crate) output: PathBuf,
}

/// Measures everything that `settings` ask for.
///
/// # Errors
/// A program that does not start, or an answer that is not the expected one.
pub(crate) async fn run(settings: &Settings) -> Result<Report> {
    pin_to(LOAD_CORE)?;
    let scratch = tempfile::tempdir()?;
    let mut report = Report::default();
    report.settings.insert("machine".to_owned(), machine());
    report.settings.insert("rounds".to_owned(), settings.rounds.to_string());
    report.settings.insert("hosts".to_owned(), settings.hosts.to_string());

    let myself = std::env::current_exe()?;
    let mut upstream = Measured::start(LOAD_CORE, &myself, &["upstream".to_owned()], Stdio::piped())?;
    let upstream_address: SocketAddr = upstream.first_line()?.parse()?;
    let mut limit =
        Measured::start(MEASURED_CORE, &myself, &["limit".to_owned(), upstream_address.to_string()], Stdio::piped())?;
    let limit_address: SocketAddr = limit.first_line()?.parse()?;

    start_and_memory(&mut report, scratch.path()).await?;

    let platform = Platform::start(MEASURED_CORE, &scratch.path().join("main")).await?;
    let issuer = TokenSource::start().await?;
    platform.expose("open", 0..settings.hosts, upstream_address, &[]).await?;
    platform.expose("jwt", 0..WARM_TOKENS.min(settings.hosts), upstream_address, &issuer.rules()).await?;
    check_enforcement(&platform, &issuer).await?;

    let peers = peers::start_all(MEASURED_CORE, scratch.path(), upstream_address, settings.hosts).await?;
    for peer in &peers {
        report.settings.insert(peer.name.to_owned(), peer.version.clone());
    }
    hot_paths(settings, &mut report, &platform, (&limit, limit_address), &issuer, &peers).await?;
    propagation(&mut report, &platform, upstream_address).await?;
    report.judge("PSS with the hosts above, MiB", mib(platform.process.pss_kib()?), None);
    drop(platform);
    growth(settings, &mut report, scratch.path(), upstream_address).await?;
    Ok(report)
}

/// Start on an empty store, start again on the same store, and memory when idle.
async fn start_and_memory(report: &mut Report, scratch: &Path) -> Result<()> {
    let mut fresh = Vec::new();
    let mut again = Vec::new();
    let mut idle = Vec::new();
    for round in 0..5 {
        let data_dir = scratch.join(format!("start-{round}"));
        let first = Platform::start(MEASURED_CORE, &data_dir).await?;
        fresh.push(first.started_in.as_secs_f64() * 1e3);
        idle.push(mib(first.process.pss_kib()?));
        drop(first);
        let second = Platform::start(MEASURED_CORE, &data_dir).await?;
        again.push(second.started_in.as_secs_f64() * 1e3);
    }
    report.judge("start to ready, empty store, ms", median(fresh), Some(300.0));
    report.judge("start to ready, existing data dir, ms", median(again), None);
    report.judge("PSS idle after start, MiB", median(idle), Some(60.0));
    Ok(())
}

/// Good token 200, altered 401, none 401: a fast proxy that lets everybody in must not be measured.
async fn check_enforcement(platform: &Platform, issuer: &TokenSource) -> Result<()> {
    let good = issuer.mint(Algorithm::Rs256, 1)?.pop().context("no token")?;
    let altered = format!("{}A", good.get(..good.len() - 2).context("token")?);
    for (token, expected) in [(Some(good.as_str()), 200), (Some(altered.as_str()), 401), (None, 401)] {
        let request = load::get("jwt-0.localhost", "/", token);
        let plan =
            load::Plan { target: platform.endpoints.http, connections: 1, requests: vec![request].into(), total: 1 };
        let outcome = load::run(plan).await?;
        ensure!(outcome.all(expected, 1), "enforcement is wrong: expected {expected}, got {:?}", outcome.statuses);
    }
    Ok(())
}

async fn hot_paths(
    settings: &Settings,
    report: &mut Report,
    platform: &Platform,
    (limit, limit_address): (&Measured, SocketAddr),
    issuer: &TokenSource,
    peers: &[Peer],
) -> Result<()> {
    let open = |_: &str| -> Vec<Vec<u8>> {
        (0..settings.hosts).map(|host| load::get(&format!("open-{host}.localhost"), "/", None)).collect()
    };
    let secured_hosts = WARM_TOKENS.min(settings.hosts);
    let mut contenders = Vec::new();
    let mut add = |name: &str, process, target, requests, total| {
        contenders.push(Contender { name: name.to_owned(), process, target, requests, total });
    };
    add("limit", limit, limit_address, Box::new(move || Ok(open("limit"))) as Box<dyn Fn() -> _>, settings.requests);
    let http = platform.endpoints.http;
    add("plain", &platform.process, http, Box::new(move || Ok(open("plain"))), settings.requests);
    for peer in peers {
        add(peer.name, &peer.process, peer.address, Box::new(move || Ok(open(peer.name))), settings.requests);
    }
    for algorithm in Algorithm::ALL {
        let tokens = issuer.mint(algorithm, WARM_TOKENS)?;
        let requests = secured(&tokens, secured_hosts);
        let name = format!("{}-warm", algorithm.name());
        add(&name, &platform.process, http, Box::new(move || Ok(requests.clone())), settings.requests);
    }
    for algorithm in [Algorithm::Rs256, Algorithm::Es256] {
        let total = settings.requests / 10;
        let requests = move || Ok(secured(&issuer.mint(algorithm, total)?, secured_hosts));
        add(&format!("{}-cold", algorithm.name()), &platform.process, http, Box::new(requests), total);
    }
    report.rounds = compare::interleaved(&contenders, settings.rounds).await?;

    report.judge_ratio("plain", "limit", Some(1.5));
    for (peer, budget) in [("envoy", 0.45), ("nginx", 1.15)] {
        report.judge_ratio("plain", peer, Some(budget));
    }
    report.judge_ratio("plain", "haproxy", None);
    for algorithm in Algorithm::ALL {
        report.judge_ratio(&format!("{}-warm", algorithm.name()), "plain", Some(1.10));
    }
    let plain = report.cost("plain").context("plain did not run")?;
    for (name, budget) in [("rs256-cold", 1.3 * VERIFY_RS256_US + 6.0), ("es256-cold", 1.2 * VERIFY_ES256_US + 6.0)] {
        let cold = report.cost(name).with_context(|| format!("{name} did not run"))?;
        report.judge(format!("C({name}) - C(plain), us"), cold - plain, Some(budget));
    }
    Ok(())
}

/// Requests with `tokens`, going round `hosts` secured hosts.
fn secured(tokens: &[String], hosts: usize) -> Vec<Vec<u8>> {
    let request =
        |(index, token): (usize, &String)| load::get(&format!("jwt-{}.localhost", index % hosts), "/", Some(token));
    tokens.iter().enumerate().map(request).collect()
}

/// From the API server's answer to a write until 20 answers in a row, each on a new connection, obey it (`70` 2.4).
async fn propagation(report: &mut Report, platform: &Platform, upstream: SocketAddr) -> Result<()> {
    let services = platform.api(&platform::service_kind());
    let apis = platform.api(&platform::api_kind());
    let (mut added, mut moved, mut removed) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..30 {
        let name = format!("change-{round}");
        platform::create(&services, platform::service(&name, upstream)).await?;
        platform::create(&apis, platform::exposure(&name, &[])).await?;
        added.push(until(platform, &format!("{name}.localhost"), 200).await?);
        let other = format!("moved-{round}");
        let patch = json!({"spec": {"hostname": other}});
        apis.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        moved.push(until(platform, &format!("{other}.localhost"), 200).await?);
        apis.delete(&name, &DeleteParams::default()).await?;
        removed.push(until(platform, &format!("{other}.localhost"), 404).await?);
    }
    for (what, mut times) in [("add", added), ("change", moved), ("delete", removed)] {
        times.sort_by(f64::total_cmp);
        let p99 = times.last().copied().unwrap_or_default();
        report.judge(format!("{what} a host to enforcement, median ms"), median(times), None);
        report.judge(format!("{what} a host to enforcement, worst of 30, ms"), p99, Some(50.0));
    }
    Ok(())
}

/// Milliseconds until the first of 20 answers in a row with status `expected`.
async fn until(platform: &Platform, host: &str, expected: u16) -> Result<f64> {
    let begun = Instant::now();
    let first_right = Cell::new(None);
    let mut in_a_row = 0;
    while in_a_row < 20 {
        ensure!(begun.elapsed() < Duration::from_secs(20), "{host} does not answer {expected}");
        let asked = begun.elapsed();
        let plan = load::Plan {
            target: platform.endpoints.http,
            connections: 1,
            requests: vec![load::get(host, "/", None)].into(),
            total: 1,
        };
        if load::run(plan).await?.all(expected, 1) {
            in_a_row += 1;
            first_right.set(first_right.get().or(Some(asked)));
        } else {
            in_a_row = 0;
            first_right.set(None);
        }
    }
    Ok(first_right.get().unwrap_or_default().as_secs_f64() * 1e3)
}

/// Cost of the plain path while hosts are added to one platform (`70` 2.3), with the do-nothing proxy as the yardstick.
async fn growth(settings: &Settings, report: &mut Report, scratch: &Path, upstream: SocketAddr) -> Result<()> {
    let platform = Platform::start(MEASURED_CORE, &scratch.join("growth")).await?;
    let mut present = 0;
    let mut base = None;
    for hosts in &settings.growth {
        let begun = Instant::now();
        platform.expose("grow", present..*hosts, upstream, &[]).await?;
        present = *hosts;
        report.judge(format!("seconds to enforce up to {hosts} hosts"), begun.elapsed().as_secs_f64(), None);
        let requests: Vec<_> =
            (0..*hosts).map(|host| load::get(&format!("grow-{host}.localhost"), "/", None)).collect();
        let contender = Contender {
            name: format!("plain at {hosts} hosts"),
            process: &platform.process,
            target: platform.endpoints.http,
            requests: Box::new(move || Ok(requests.clone())),
            total: settings.requests,
        };
        let name = contender.name.clone();
        let rounds = compare::interleaved(&[contender], settings.rounds).await?;
        let cost = median(rounds.values().flatten().map(|round| round.cpu_us));
        report.rounds.extend(rounds);
        let first = *base.get_or_insert(cost);
        report.judge(format!("C({name}) / C at the fewest hosts"), cost / first, None);
        report.judge(format!("PSS at {hosts} hosts, MiB"), mib(platform.process.pss_kib()?), None);
    }
    let data_dir = scratch.join("growth");
    drop(platform);
    let again = Platform::start(MEASURED_CORE, &data_dir).await?;
    report.judge(format!("start to ready with {present} hosts, ms"), again.started_in.as_secs_f64() * 1e3, Some(800.0));
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a memory size for people")]
fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

fn pin_to(core: usize) -> Result<()> {
    let status = Command::new("taskset")
        .args(["-cp", &core.to_string(), &std::process::id().to_string()])
        .stdout(Stdio::null())
        .status()
        .context("taskset (package util-linux) is needed")?;
    ensure!(status.success(), "cannot pin to core {core}: the benchmark needs two cores");
    Ok(())
}

fn machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    format!("{cores} core(s) visible,{}", model.trim_start_matches(['\t', ' ', ':']))
}
