//! `tidegate routes`: what is exposed now, and what protects it, from the table that requests go through.

use serde::{Deserialize, Serialize};

use crate::cli::Context;
use crate::exit::{Failure, Outcome};
use crate::{local_http, output, status};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only routes that let everybody in
    #[arg(long)]
    unprotected: bool,
    /// Form of the answer
    #[arg(short, long, value_name = "FORM", value_parser = ["table", "json", "name"], default_value = "table")]
    output: String,
}

/// The parts of an entry of `/debug/routes` that the table shows.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Route {
    #[serde(rename = "route")]
    object: String,
    host: String,
    issuers: Vec<String>,
    service: String,
    upstream: Vec<String>,
    #[serde(flatten)]
    other: serde_json::Map<String, serde_json::Value>,
}

impl Route {
    /// `Api/namespace/name`.
    pub(crate) fn name(&self) -> String {
        self.object.clone()
    }

    /// Where its requests go.
    pub(crate) fn upstreams(&self) -> impl Iterator<Item = String> {
        self.upstream.iter().cloned()
    }
}

pub(crate) async fn run(args: &Args, context: Context<'_>) -> Outcome {
    let routes = fetch(context).await?;
    let shown: Vec<Route> = routes.into_iter().filter(|route| !args.unprotected || route.issuers.is_empty()).collect();
    match args.output.as_str() {
        "json" => {
            let json = serde_json::to_string_pretty(&shown).map_err(Failure::new)?;
            output::answer(json);
        }
        "name" => shown.iter().for_each(|route| output::answer(&route.object)),
        _ if shown.is_empty() => output::note("no such routes"),
        _ => {
            let rows = shown.iter().map(|route| {
                let protection = if route.issuers.is_empty() {
                    "none".to_owned()
                } else {
                    format!("JWT {}", route.issuers.join(", "))
                };
                [route.host.clone(), protection, route.service.clone(), route.upstream.join(", "), route.object.clone()]
            });
            output::table(["HOST", "PROTECTION", "SERVICE", "UPSTREAM", "ROUTE"], rows.collect());
        }
    }
    Ok(())
}

pub(crate) async fn fetch(context: Context<'_>) -> Result<Vec<Route>, Failure> {
    let endpoints = status::endpoints(&status::data_dir(context))?;
    let answer = local_http::get(status::admin_address(&endpoints)?, "/debug/routes").await?;
    if answer.status != 200 {
        return Err(Failure::new(format!("the platform does not show its routes: {}", answer.body.trim())));
    }
    serde_json::from_str(&answer.body)
        .map_err(|error| Failure::new(format!("the answer of the platform is not understood: {error}")))
}
