//! A client of the Kubernetes API for the verbs of the command line: where kubectl would go, with better messages.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use kube::{Client, Error};
use tokio::time::Instant;

use crate::cli::Context;
use crate::exit::{Code, Failure};
use crate::output;

/// How long a verb waits for a platform that is just starting.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(100);

/// A client, and the namespace that a verb without `-n` means.
pub(crate) struct Access {
    pub(crate) client: Client,
    pub(crate) namespace: String,
}

/// Connects to the cluster of the kubeconfig in use. Waits up to 10 s for a platform that is just starting.
pub(crate) async fn connect(context: Context<'_>) -> Result<Access, Failure> {
    let start = Instant::now();
    let mut said = false;
    loop {
        let problem = match attempt(context).await {
            Ok(access) => return Ok(access),
            Err(Attempt::Final(failure)) => return Err(failure),
            Err(Attempt::NotYet(failure)) => failure,
        };
        if start.elapsed() >= PATIENCE {
            return Err(problem);
        }
        if !said {
            output::note("waiting for the platform to start");
            said = true;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

enum Attempt {
    /// Could be a platform that is still starting.
    NotYet(Failure),
    Final(Failure),
}

async fn attempt(context: Context<'_>) -> Result<Access, Attempt> {
    let paths = kubeconfig_paths(context);
    let mut merged: Option<Kubeconfig> = None;
    for path in paths.iter().filter(|path| path.exists()) {
        let unreadable =
            |error| Attempt::Final(Failure::usage(format!("kubeconfig `{}` cannot be used: {error}", path.display())));
        let read = Kubeconfig::read_from(path).map_err(unreadable)?;
        merged = Some(match merged {
            None => read,
            Some(first) => first.merge(read).map_err(unreadable)?,
        });
    }
    let Some(kubeconfig) = merged else {
        let names: Vec<String> = paths.iter().map(|path| format!("`{}`", path.display())).collect();
        return Err(Attempt::NotYet(
            Failure::new(format!("no kubeconfig found at {}", names.join(", ")))
                .try_next("tidegate up, then: export KUBECONFIG=$PWD/.tidegate/kubeconfig"),
        ));
    };
    let options = KubeConfigOptions { context: context.global.context.clone(), ..KubeConfigOptions::default() };
    let config = Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .map_err(|error| Attempt::Final(Failure::usage(format!("kubeconfig cannot be used: {error}"))))?;
    let server = config.cluster_url.to_string();
    let namespace = context.global.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
    let client = Client::try_from(config)
        .map_err(|error| Attempt::Final(Failure::usage(format!("kubeconfig cannot be used: {error}"))))?;
    match client.apiserver_version().await {
        Ok(_) => Ok(Access { client, namespace }),
        Err(Error::Api(status)) => {
            Err(Attempt::Final(failure("the Kubernetes API refuses this client", &Error::Api(status))))
        }
        Err(error) => Err(Attempt::NotYet(
            Failure::new(format!("the Kubernetes API at `{server}` does not answer: {}", innermost(&error)))
                .try_next("tidegate up, or --kubeconfig FILE of the cluster that runs"),
        )),
    }
}

/// The files to look at: the flag, the flag of the data dir, KUBECONFIG, the data dir's, the user's.
fn kubeconfig_paths(context: Context<'_>) -> Vec<PathBuf> {
    if let Some(path) = &context.global.kubeconfig {
        return vec![path.clone()];
    }
    let of = |dir: &Path| dir.join("kubeconfig");
    if let Some(dir) = &context.global.data_dir {
        return vec![of(dir)];
    }
    if let Some(list) = context.variable("KUBECONFIG") {
        return list.split(':').filter(|part| !part.is_empty()).map(PathBuf::from).collect();
    }
    let dir = context.variable("TIDEGATE_DATA_DIR").map_or_else(|| PathBuf::from("./.tidegate"), PathBuf::from);
    let home = context.variable("HOME").map(|home| Path::new(home).join(".kube/config"));
    let own = of(&dir);
    match home {
        Some(home) if !own.exists() && home.exists() => vec![home],
        _ => vec![own],
    }
}

/// A failure of a request, with the exit code that its status means.
pub(crate) fn failure(what: &str, error: &Error) -> Failure {
    let Error::Api(status) = error else { return Failure::new(format!("{what}: {}", innermost(error))) };
    let code = match status.code {
        401 => Code::NotAuthenticated,
        403 => Code::Refused,
        409 => Code::Conflict,
        _ => Code::Failed,
    };
    Failure::new(format!("{what}: {}", status.message)).code(code)
}

/// The last cause: what the system or TLS said.
fn innermost(error: &Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
