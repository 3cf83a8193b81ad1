//! `tidegate demo`: starts the platform in a data dir of its own and runs the first steps of the story against it
//! (`90` section 2), each printed as what, the exact command, and the answer.
//!
//! The commands are really executed, by `bash`, with the environment that step 1 prints. What a command answers is
//! compared with what the story says it answers, so that `tidegate demo --exit` is a smoke test of an installation.

mod issuer;
mod platform;
mod shell;
mod upstream;

use std::io::{BufRead as _, IsTerminal as _};

use self::issuer::SampleIssuer;
use self::platform::DemoPlatform;
use self::shell::{Shell, shortened};
use self::upstream::SampleUpstream;
use crate::cli::Context;
use crate::exit::{Failure, Outcome, chain};
use crate::output;

/// Arguments of `tidegate demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Wait for Enter before each step
    #[arg(long)]
    step: bool,
    /// Print only the summary
    #[arg(long)]
    quiet: bool,
    /// Stop after the story; the exit status says whether every step came out as it should
    #[arg(long)]
    exit: bool,
}

/// One command of the story and what its answer must contain.
struct Command {
    line: String,
    /// A text that the answer contains, such as `HTTP/1.1 200`.
    expected: &'static str,
}

/// One step of the story.
struct Step {
    what: &'static str,
    commands: Vec<Command>,
}

/// Runs the story; succeeds when every command answered as it should. Without a data dir the state is temporary.
pub(crate) async fn run(args: &Args, context: Context<'_>) -> Outcome {
    let upstream = SampleUpstream::start().await.map_err(because("the sample service cannot be started"))?;
    let issuer = SampleIssuer::start().await?;
    let platform = DemoPlatform::start(context.global.data_dir.as_deref()).await?;
    let shell = Shell::new(platform.environment(), context.variable("PATH"))?;
    let is_interactive = args.step && std::io::stdin().is_terminal();
    let mut failed = Vec::new();

    if !args.quiet {
        introduce(&platform, &upstream, &issuer);
    }
    for (number, step) in story(&platform, &upstream, &issuer) {
        if is_interactive {
            wait_for_enter()?;
        }
        if !args.quiet {
            output::answer(format_args!("\n{number}. {}", step.what));
        }
        for command in step.commands {
            if !args.quiet {
                output::answer(format_args!("   $ {}", command.line));
            }
            let answer = shell.run(&command.line).await?;
            if !args.quiet && !answer.is_empty() {
                output::answer(shortened(&answer));
            }
            if !answer.contains(command.expected) {
                output::answer(format_args!("   ✗ expected an answer with `{}`", command.expected));
                failed.push(number);
            }
        }
    }
    summarize(&platform, &failed);
    if !args.exit {
        output::answer("\nThe platform keeps running. Ctrl-C stops it.");
        tokio::signal::ctrl_c().await.map_err(because("cannot wait for Ctrl-C"))?;
    }
    platform.stop().await?;
    if failed.is_empty() { Ok(()) } else { Err(Failure::new("the story did not come out as it should")) }
}

/// Makes a failure of an error, for `map_err`.
fn because<E: std::error::Error + 'static>(what: &'static str) -> impl FnOnce(E) -> Failure {
    move |error| Failure::new(format!("{what}: {}", chain(&error)))
}

/// Steps 2 and 3 of `90` section 2, with their numbers; step 1 is the platform itself, and the jobs of the later steps
/// do not exist yet.
fn story(platform: &DemoPlatform, upstream: &SampleUpstream, issuer: &SampleIssuer) -> Vec<(usize, Step)> {
    let expose = format!("tidegate expose sample --to {}", upstream.address());
    let call = format!("curl -sS -i -H 'Host: sample.localhost' http://{}/hello", platform.http());
    let secure = format!("{expose} --jwt-issuer {} --jwks {}", issuer.name(), issuer.jwks_uri());
    let explain = format!("tidegate why GET http://sample.localhost:{}/hello || true", platform.http().port());
    let command = |line: String, expected| Command { line, expected };
    vec![
        (
            2,
            Step {
                what: "Expose a local service and call it: 200",
                commands: vec![command(expose, "code 2"), command(call.clone(), "HTTP/1.1 200")],
            },
        ),
        (
            3,
            Step {
                what: "Secure it with a JWT issuer: 401 without a token, 200 with one",
                commands: vec![
                    command(secure, "code 2"),
                    command(call.clone(), "HTTP/1.1 401"),
                    command(explain, "token_missing"),
                    command(format!("TOKEN=$(curl -sS {})", issuer.token_uri()), ""),
                    command(format!("{call} -H \"Authorization: Bearer $TOKEN\""), "HTTP/1.1 200"),
                ],
            },
        ),
    ]
}

fn introduce(platform: &DemoPlatform, upstream: &SampleUpstream, issuer: &SampleIssuer) {
    output::answer("1. Tidegate is running");
    for (name, address) in platform.addresses() {
        output::answer(format_args!("   {name:<8} {address}"));
    }
    output::answer(format_args!("   sample   http://{} (a service to expose)", upstream.address()));
    output::answer(format_args!("   issuer   {} (signs tokens for this demo)", issuer.name()));
    for (name, value) in platform.environment() {
        output::answer(format_args!("   $ export {name}={value}"));
    }
}

fn summarize(platform: &DemoPlatform, failed: &[usize]) {
    if failed.is_empty() {
        let port = platform.http().port();
        output::answer(format_args!(
            "\n✓ a service is exposed at http://sample.localhost:{port}/ and asks for a token"
        ));
    } else {
        let mut steps: Vec<String> = failed.iter().map(ToString::to_string).collect();
        steps.dedup();
        output::answer(format_args!("\n✗ not as it should be: step {}", steps.join(", ")));
    }
    output::answer("try next   kubectl get apis,virtualservices -A");
    output::answer("           tidegate routes");
    output::answer("           kubectl explain api.spec");
}

fn wait_for_enter() -> Result<(), Failure> {
    output::note("   Enter goes on");
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).map_err(because("the terminal cannot be read"))?;
    Ok(())
}
