//! `tidegate status`: whether a platform runs on this data dir, where, and what it says about itself.

use std::path::{Path, PathBuf};

use crate::cli::Context;
use crate::endpoints::Endpoints;
use crate::exit::{Failure, Outcome};
use crate::{local_http, output};

pub(crate) async fn run(context: Context<'_>) -> Outcome {
    let data_dir = data_dir(context);
    let endpoints = endpoints(&data_dir)?;
    let admin = admin_address(&endpoints)?;
    let answer = local_http::get(admin, "/readyz?verbose").await?;
    for (listener, address) in endpoints.iter() {
        output::answer(format_args!("{listener:<10} {address}"));
    }
    output::answer(format_args!("{:<10} {}", "data", data_dir.display()));
    output::answer(answer.body.trim_end());
    if answer.status == 200 { Ok(()) } else { Err(Failure::new("the platform is not ready")) }
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
