//! `tidegate up`: the embedded platform in the foreground. What it consists of: [`Platform::start`].

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tidegate_runtime::logging::{self, LogHandle, LogOptions};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::Context;
use crate::exit::{Failure, Outcome, chain};
use crate::output;
use crate::planes::Planes;
use crate::platform::Platform;
use crate::settings::{self, Settings};

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
