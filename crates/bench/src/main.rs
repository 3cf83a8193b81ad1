//! `./dev bench`: measures the release binary end to end and prints medians and ratios of one run.
//!
//! The measured programs run alone on core 0; load generator, upstream and issuer share core 1. Figures of different
//! runs are never compared. Budgets are those of `70` section 2; a miss is printed like a hit.
#![expect(clippy::print_stdout, reason = "a report is what this program is for")]
#![expect(clippy::disallowed_methods, reason = "it reads the clocks: time is what it measures")]

mod compare;
mod histogram;
mod load;
mod peers;
mod platform;
mod process;
mod report;
mod roles;
mod rows;
mod tokens;

use std::net::SocketAddr;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Measures Tidegate against a do-nothing proxy and the peers found on PATH")]
struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    settings: rows::Settings,
}

#[derive(Subcommand)]
enum Verb {
    /// Serve a fixed 200 answer of 128 bytes (started by the benchmark itself)
    #[command(hide = true)]
    Upstream,
    /// Forward bytes to one upstream and do nothing else (started by the benchmark itself)
    #[command(hide = true)]
    Limit { upstream: SocketAddr },
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .ok()
        .context("a crypto provider is already installed")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match arguments.verb {
        Some(Verb::Upstream) => runtime.block_on(roles::upstream()),
        Some(Verb::Limit { upstream }) => runtime.block_on(roles::limit(upstream)),
        None => {
            let report = runtime.block_on(rows::run(&arguments.settings))?;
            println!("{}", report.table());
            let file = arguments.settings.output;
            std::fs::write(&file, report.json()?).with_context(|| format!("cannot write {}", file.display()))?;
            println!("written to {}", file.display());
            Ok(())
        }
    }
}
