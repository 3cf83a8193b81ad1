//! `tidegate status`: whether a platform runs on this data dir, where, and what it says about itself.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use crate::cli::{Context, wait_time};
use crate::endpoints::Endpoints;
use crate::exit::{Code, Failure, Outcome};
use crate::local_http::Answer;
use crate::{local_http, output};

const PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Wait until the platform is ready, also while it has not written its files yet
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "30s",
          value_parser = wait_time)]
    wait: Option<Duration>,
}

pub(crate) async fn run(args: &Args, context: Context<'_>) -> Outcome {
    let data_dir = data_dir(context);
    let start = Instant::now();
    let (endpoints, answer) = loop {
        let looked = look(&data_dir).await;
        let is_ready = looked.as_ref().is_ok_and(|(_, answer)| answer.status == 200);
        match args.wait {
            Some(limit) if !is_ready && start.elapsed() < limit => tokio::time::sleep(PAUSE).await,
            Some(limit) if !is_ready => {
                let reason = looked.map_or_else(|failure| failure.to_string(), |(_, answer)| answer.body);
                let reason = reason.trim().trim_start_matches("error: ").to_owned();
                return Err(Failure::new(format!("not ready within {limit:?}: {reason}")).code(Code::Timeout));
            }
            _ => break looked?,
        }
    };
    for (listener, address) in endpoints.iter() {
        output::answer(format_args!("{listener:<10} {address}"));
    }
    output::answer(format_args!("{:<10} {}", "data", data_dir.display()));
    output::answer(answer.body.trim_end());
    if answer.status == 200 { Ok(()) } else { Err(Failure::new("the platform is not ready")) }
}

/// Where the platform listens, and what it says about itself.
async fn look(data_dir: &Path) -> Result<(Endpoints, Answer), Failure> {
    let endpoints = endpoints(data_dir)?;
    let answer = local_http::get(admin_address(&endpoints)?, "/readyz?verbose").await?;
    Ok((endpoints, answer))
}

/// The data dir that a verb speaks about: the flag, the variable, the folder of the kubeconfig in use if a platform
/// wrote it, else the default.
pub(crate) fn data_dir(context: Context<'_>) -> PathBuf {
    if let Some(dir) = &context.global.data_dir {
        return dir.clone();
    }
    if let Some(dir) = context.variable("TIDEGATE_DATA_DIR") {
        return PathBuf::from(dir);
    }
    let kubeconfig = context.global.kubeconfig.clone().or_else(|| {
        let list = context.variable("KUBECONFIG")?;
        list.split(':').find(|part| !part.is_empty()).map(PathBuf::from)
    });
    let folder = kubeconfig.as_deref().and_then(Path::parent).map(Path::to_owned);
    folder.filter(|folder| Endpoints::path(folder).exists()).unwrap_or_else(|| PathBuf::from("./.tidegate"))
}

/// Where the platform of a data dir listens.
pub(crate) fn endpoints(data_dir: &Path) -> Result<Endpoints, Failure> {
    Endpoints::read(data_dir).map_err(|error| {
        Failure::new(format!(
            "no running platform found: `{}` cannot be read: {error}",
            Endpoints::path(data_dir).display()
        ))
        .try_next("tidegate up, or --data-dir DIR of the one that runs")
    })
}

/// Where its admin listener is.
pub(crate) fn admin_address(endpoints: &Endpoints) -> Result<&str, Failure> {
    endpoints.get("admin").ok_or_else(|| Failure::new("`endpoints.json` names no admin listener"))
}
