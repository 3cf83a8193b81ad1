//! `tidegate up`: the embedded platform in the foreground. [`Platform::start`] is the wiring of the product.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tidegate_runtime::logging::{self, LogHandle, LogOptions};
use tidegate_runtime::{AddressPolicy, AddressPolicyOptions, Clock, DataDirLock, Metrics, Readiness, Tasks};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::admin::{self, Admin};
use crate::cli::Context;
use crate::endpoints::Endpoints;
use crate::exit::{Failure, Outcome, chain};
use crate::output;
use crate::planes::Planes;
use crate::settings::{self, Listen, Settings};

/// SPEC 00: SIGTERM drains, at most 30 s.
const DRAIN_LIMIT: Duration = Duration::from_secs(30);

/// Listeners whose job does not exist yet: accepted, not opened, and said so at start.
const WITHOUT_JOB: [&str; 2] = ["outbound", "decisions"];

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// YAML file with the same keys; a flag wins over the environment, the environment over the file
    /// [env: TIDEGATE_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// System domain; short host names become NAME.DOMAIN [env: TIDEGATE_DOMAIN] [default: localhost]
    #[arg(long, value_name = "DOMAIN")]
    domain: Option<String>,
    /// Edge gateway, plain [env: TIDEGATE_HTTP] [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    http: Option<String>,
    /// Edge gateway, TLS [env: TIDEGATE_HTTPS] [default: 127.0.0.1:8443]
    #[arg(long, value_name = "ADDRESS")]
    https: Option<String>,
    /// Kubernetes-compatible API, TLS [env: TIDEGATE_KUBE] [default: 127.0.0.1:6443]
    #[arg(long, value_name = "ADDRESS")]
    kube: Option<String>,
    /// Outbound application gateway [env: TIDEGATE_OUTBOUND] [default: 127.0.0.1:8082]
    #[arg(long, value_name = "ADDRESS")]
    outbound: Option<String>,
    /// Health, metrics, debugging [env: TIDEGATE_ADMIN] [default: 127.0.0.1:4445]
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<String>,
    /// Decision API for other proxies [env: TIDEGATE_DECISIONS] [default: 127.0.0.1:4456]
    #[arg(long, value_name = "ADDRESS")]
    decisions: Option<String>,
}

impl Args {
    /// The flags that were given, for the loader of the settings.
    fn flags(&self, data_dir: Option<&Path>) -> Vec<(&'static str, &'static str, Value)> {
        let data_dir = data_dir.map(|dir| dir.display().to_string());
        [
            ("dataDir", "--data-dir", &data_dir),
            ("domain", "--domain", &self.domain),
            ("http", "--http", &self.http),
            ("https", "--https", &self.https),
            ("kube", "--kube", &self.kube),
            ("outbound", "--outbound", &self.outbound),
            ("admin", "--admin", &self.admin),
            ("decisions", "--decisions", &self.decisions),
        ]
        .into_iter()
        .filter_map(|(key, flag, value)| Some((key, flag, json!(value.as_ref()?))))
        .collect()
    }
}

/// Runs the platform until it is told to end.
pub(crate) fn run(args: &Args, context: Context<'_>) -> Outcome {
    let flags = args.flags(context.global.data_dir.as_deref());
    let load = || settings::load(args.config.as_deref(), context.environment, &flags);
    let loaded = load()?;
    let settings = loaded.config;
    let log = start_log(&settings, context)?;
    for warning in loaded.warnings {
        tracing::warn!("{warning}");
    }
    let planes = Planes::start().map_err(|error| Failure::new(format!("runtimes cannot be started: {error}")))?;
    planes.data.block_on(async {
        let mut signals = Signals::listen()?;
        let platform = tokio::select! {
            platform = Platform::start(settings, &planes, log.clone()) => platform?,
            () = signals.end() => return Ok(()),
        };
        platform.announce();
        while signals.next().await == Wish::Reload {
            reload(&log, load());
        }
        output::note("draining; another signal ends at once");
        tokio::select! {
            () = platform.drain() => Ok(()),
            () = signals.end() => Err(Failure::new("ended before the drain was over")),
        }
    })
}

pub(crate) fn start_log(settings: &Settings, context: Context<'_>) -> Result<LogHandle, Failure> {
    let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let options = LogOptions {
        format: settings.log.format,
        filter: settings.log.level.clone(),
        color: context.is_colored(is_terminal),
    };
    logging::init(&options).map_err(|error| Failure::usage(chain(&error)).detail("key", "log.level"))
}

/// The running product.
pub(crate) struct Platform {
    endpoints: Endpoints,
    data_dir: PathBuf,
    /// What is configured and not opened, with the reason.
    closed: Vec<String>,
    readiness: Readiness,
    tasks: Tasks,
    admin_tasks: Tasks,
    /// Held until everything else has ended.
    _lock: DataDirLock,
}

impl Platform {
    /// Starts every part and returns once `/readyz` answers 200 and all files are written.
    pub(crate) async fn start(settings: Settings, planes: &Planes, log: LogHandle) -> Result<Self, Failure> {
        let lock = DataDirLock::acquire(&settings.data_dir)
            .map_err(|error| Failure::new(chain(&error)).try_next("another --data-dir, or end the other process"))?;
        let data_dir = std::path::absolute(lock.path()).unwrap_or_else(|_| lock.path().to_owned());
        // Addresses of a former process would mislead whoever waits for the file.
        let _ = std::fs::remove_file(Endpoints::path(&data_dir));

        let clock = Clock::system();
        let tasks = Tasks::new();
        let admin_tasks = Tasks::new().on(planes.admin().clone());
        let metrics = Metrics::new();
        let readiness = Readiness::new();
        let files = readiness.register("files");
        tasks.register(&metrics);
        clock.spawn_ticker(&tasks.on(planes.control().clone()));
        let policy = address_policy(&settings);

        let mut endpoints = Endpoints::new(&settings.domain);
        let admin_listener = bind_on(planes.admin(), "admin", &settings.admin).await?;
        if let Some((listener, address)) = admin_listener {
            endpoints.insert("admin", address);
            policy.set_own_ports([address.port()]);
            let admin = Admin { readiness: readiness.clone(), metrics: metrics.clone(), log };
            admin::serve(listener, admin, &admin_tasks);
        }

        endpoints
            .write(&data_dir)
            .map_err(|error| Failure::new(format!("`endpoints.json` cannot be written: {error}")))?;
        files.ready();
        let closed = closed_listeners(&settings);
        Ok(Self { endpoints, data_dir, closed, readiness, tasks, admin_tasks, _lock: lock })
    }

    /// Prints the addresses and the next command to try.
    fn announce(&self) {
        let mut lines = vec![format!("tidegate {} is ready", env!("CARGO_PKG_VERSION"))];
        let listeners = [
            ("http", "http://", "edge gateway"),
            ("https", "https://", "edge gateway, TLS"),
            ("kube", "https://", "Kubernetes API"),
            ("admin", "http://", "health, metrics"),
        ];
        for (key, scheme, what) in listeners {
            if let Some(address) = self.endpoints.get(key) {
                lines.push(format!("  {key:<9} {:<30} {what}", format!("{scheme}{address}")));
            }
        }
        lines.push(format!("  {:<9} {}", "data", self.data_dir.display()));
        lines.extend(self.closed.iter().map(|closed| format!("  {closed}")));
        output::answer(lines.join("\n"));
    }

    /// Stops accepting, lets requests in hand end (at most 30 s), then ends everything else.
    pub(crate) async fn drain(self) {
        let draining = self.readiness.register("running");
        draining.failed("draining");
        if !self.tasks.close_and_wait(DRAIN_LIMIT).await {
            tracing::warn!(tasks = self.tasks.running(), "some tasks did not end in time and are cut");
        }
        // Last, so that health and metrics can be read while the rest drains.
        self.admin_tasks.close_and_wait(Duration::from_secs(3)).await;
        let _ = std::fs::remove_file(Endpoints::path(&self.data_dir));
    }
}

/// Opens a listener on the given runtime, unless it is off.
async fn bind_on(
    runtime: &tokio::runtime::Handle,
    key: &'static str,
    listen: &Listen,
) -> Result<Option<(TcpListener, SocketAddr)>, Failure> {
    let Some(address) = listen.address() else { return Ok(None) };
    let bound = runtime.spawn(async move {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok::<_, std::io::Error>((listener, address))
    });
    let bound = bound.await.map_err(|_| Failure::new("a runtime ended while listeners were opened"))?;
    bound.map(Some).map_err(|error| {
        Failure::new(format!("listener `{key}` cannot be opened at `{address}`: {error}"))
            .detail("field", format!("--{key}"))
            .try_next(format!("--{key} {}:0 picks a free port; `ss -ltnp` shows who listens", address.ip()))
    })
}

/// Where this process may connect (`30` section 7.2).
fn address_policy(settings: &Settings) -> AddressPolicy {
    AddressPolicy::new(AddressPolicyOptions {
        allow_loopback: true,
        upstream: settings.exposure.upstream.rules(),
        fetch: settings.exposure.fetch.rules(),
    })
}

fn closed_listeners(settings: &Settings) -> Vec<String> {
    let listeners = settings.listeners().into_iter();
    listeners
        .filter_map(|(key, listen)| {
            if listen == &Listen::Off {
                return Some(format!("{key:<9} off"));
            }
            WITHOUT_JOB.contains(&key).then(|| format!("{key:<9} not opened: this version has nothing to serve there"))
        })
        .collect()
}

/// Applies what can change while the process runs; a bad reload keeps the old values and says so.
fn reload(log: &LogHandle, loaded: Result<tidegate_runtime::config::Loaded<Settings>, Failure>) {
    match loaded {
        Ok(loaded) => match log.set(&loaded.config.log.level) {
            Ok(()) => tracing::info!("configuration reloaded: log.level is `{}`", log.filter()),
            Err(error) => tracing::warn!(%error, "configuration not reloaded"),
        },
        Err(failure) => tracing::warn!("configuration not reloaded: {failure}"),
    }
}

/// The signals that a process in the foreground listens to.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    pub(crate) fn listen() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(|error| Failure::new(format!("signals cannot be received: {error}")));
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    /// Waits for SIGINT or SIGTERM.
    pub(crate) async fn end(&mut self) {
        while self.next().await == Wish::Reload {}
    }

    async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.interrupt.recv() => Wish::End,
            _ = self.terminate.recv() => Wish::End,
            _ = self.hang_up.recv() => Wish::Reload,
        }
    }
}

/// What a signal asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wish {
    End,
    Reload,
}
