//! The command line: what can be said, and which module does it.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use jiff::SignedDuration;

use crate::exit::{Failure, Outcome};
use crate::output::Signs;
use crate::{config_verbs, demo, doctor, expose, output, routes, status, up, why};

/// Authorization in front of, behind and around APIs: one binary.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, max_term_width = 100, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Flags that work on every verb, as kubectl's users expect them.
#[derive(Clone, Debug, Args)]
pub(crate) struct Global {
    /// Directory of all state [env: TIDEGATE_DATA_DIR] [default: ./.tidegate]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Kubeconfig to use [env: KUBECONFIG] [default: kubeconfig of the data dir]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// Namespace
    #[arg(short, long, global = true, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
    /// When to use color
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: Color,
}

/// When to use color.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless `NO_COLOR` is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the embedded platform in the foreground
    Up(up::Args),
    /// Start a platform of its own and run the story against it, step by step
    Demo(demo::Args),
    /// Expose a process that listens on a port: Service and Api in one command
    Expose(expose::Args),
    /// Remove what `expose` made
    Unexpose(expose::UnexposeArgs),
    /// List what is exposed, and what protects it
    Routes(routes::Args),
    /// Explain what the gateway would do with a request, step by step
    Why(why::Args),
    /// Look for what usually goes wrong, and say what to do
    Doctor(doctor::Args),
    /// Show where the platform of this data dir listens and whether it is ready
    Status(status::Args),
    /// Check, show and describe configuration
    #[command(subcommand)]
    Config(config_verbs::Verb),
    /// Print the version
    Version,
    /// Print a completion script for a shell
    Completion {
        /// Shell
        shell: clap_complete::Shell,
    },
}

/// What every verb gets besides its own arguments.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context<'a> {
    pub(crate) global: &'a Global,
    pub(crate) environment: &'a [(String, String)],
}

impl<'a> Context<'a> {
    /// A variable of the environment.
    pub(crate) fn variable(&self, name: &str) -> Option<&'a str> {
        let found = self.environment.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// How signs are drawn on a stream that is (or is not) a terminal.
    pub(crate) fn signs(&self, is_terminal: bool) -> Signs {
        let locale =
            ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(|name| self.variable(name)).unwrap_or_default();
        let locale = locale.to_ascii_lowercase();
        let is_utf8 = locale.contains("utf-8") || locale.contains("utf8");
        Signs { is_utf8, is_colored: self.is_colored(is_terminal) }
    }

    /// Whether text for a stream that is (or is not) a terminal is colored.
    pub(crate) fn is_colored(&self, is_terminal: bool) -> bool {
        match self.global.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto if self.variable("NO_COLOR").is_some() => false,
            Color::Auto => is_terminal || self.variable("CLICOLOR_FORCE").is_some_and(|value| value != "0"),
        }
    }
}

/// Does what the command line says.
pub(crate) fn run(cli: Cli, environment: &[(String, String)]) -> Outcome {
    let context = Context { global: &cli.global, environment };
    match cli.command {
        Command::Up(args) => up::run(&args, context),
        Command::Demo(args) => block_on(demo::run(&args, context)),
        Command::Expose(args) => block_on(expose::run(&args, context)),
        Command::Unexpose(args) => block_on(expose::run_unexpose(&args, context)),
        Command::Routes(args) => block_on(routes::run(&args, context)),
        Command::Why(args) => block_on(why::run(&args, context)),
        Command::Doctor(args) => block_on(doctor::run(&args, context)),
        Command::Status(args) => block_on(status::run(&args, context)),
        Command::Config(verb) => config_verbs::run(&verb, context),
        Command::Version => {
            output::answer(format_args!("tidegate {}", env!("CARGO_PKG_VERSION")));
            Ok(())
        }
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "tidegate", &mut script);
            output::answer(String::from_utf8_lossy(&script).trim_end());
            Ok(())
        }
    }
}

/// Reads the value of a `--wait` flag.
pub(crate) fn wait_time(text: &str) -> Result<Duration, String> {
    text.parse::<SignedDuration>()
        .ok()
        .and_then(|time| Duration::try_from(time).ok())
        .ok_or_else(|| format!("`{text}` is not a time such as `30s` or `2m`"))
}

/// Runs a verb that waits for the network.
fn block_on(verb: impl Future<Output = Outcome>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::new(format!("no runtime: {error}")))?.block_on(verb)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn color_follows_the_flag_then_the_environment_then_the_terminal() {
        let parse = |flags: &[&str]| {
            let mut all = vec!["tidegate"];
            all.extend(flags);
            all.push("version");
            Cli::parse_from(all)
        };
        let colored = |flags: &[&str], variables: &[(&str, &str)], is_terminal| {
            let environment: Vec<_> = variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            Context { global: &parse(flags).global, environment: &environment }.is_colored(is_terminal)
        };
        assert!(colored(&[], &[], true));
        assert!(!colored(&[], &[], false));
        assert!(!colored(&[], &[("NO_COLOR", "1")], true));
        assert!(colored(&[], &[("CLICOLOR_FORCE", "1")], false));
        assert!(colored(&["--color=always"], &[("NO_COLOR", "1")], false));
        assert!(!colored(&["--color=never"], &[("CLICOLOR_FORCE", "1")], true));
    }
}
