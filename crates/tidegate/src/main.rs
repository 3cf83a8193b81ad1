//! The binary: command line, configuration and wiring.
//!
//! | module | does |
//! |---|---|
//! | [`cli`] | the command line |
//! | [`settings`] | what can be configured, and loading it |
//! | [`expose`] | `tidegate expose`, `tidegate unexpose` |
//! | [`kube_access`], [`local_http`] | how verbs reach the platform |
//! | [`demo`] | `tidegate demo` |
//! | [`routes`], [`why`], [`doctor`] | what is enforced, why, and what is wrong |
//! | [`status`] | `tidegate status` |
//! | [`up`] | `tidegate up` |
//! | [`platform`], [`wiring`] | the whole product, put together |
//! | [`planes`] | the three runtimes of the process |
//! | [`admin`] | the admin listener |
//! | [`config_verbs`] | `tidegate config` |
//! | [`endpoints`] | `endpoints.json` |
//! | [`exit`] | how a verb ends: exit code, message |

mod admin;
mod cli;
mod config_verbs;
mod demo;
mod doctor;
mod endpoints;
mod exit;
mod expose;
mod kube_access;
mod local_http;
mod output;
mod planes;
mod platform;
mod routes;
mod settings;
mod status;
mod up;
mod why;
mod wiring;

use std::process::ExitCode;

use clap::Parser as _;

// SPEC 70 R5: jemalloc returns memory after bursts and costs less on the data path.
#[cfg(all(feature = "jemalloc", not(target_env = "msvc")))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    // The one crypto provider of the process (`70` R1). It fails only when set twice, and this is the first line.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let environment: Vec<(String, String)> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    exit::finish(cli::run(cli::Cli::parse(), &environment))
}
