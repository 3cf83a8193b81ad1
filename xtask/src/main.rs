//! Repository chores: `cargo xtask VERB`.
#![expect(clippy::print_stdout, reason = "a command-line tool answers on stdout")]

mod codegen;
mod layers;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Repository chores")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Check the direction of crate dependencies and the banned crates
    Layers,
    /// Write the generated files: CustomResourceDefinitions under packaging/crds
    Codegen {
        /// Only compare them
        #[arg(long)]
        check: bool,
    },
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().verb {
        Verb::Layers => {
            let checked = layers::check()?;
            println!("layers: {checked} workspace crates follow the direction rules");
            Ok(())
        }
        Verb::Codegen { check } => {
            let files = if check { codegen::check()? } else { codegen::write()? };
            println!("codegen: {files} generated files are up to date");
            Ok(())
        }
    }
}
