//! `tidegate config check|show|schema|default`.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Subcommand;
use schemars::Schema;
use serde_json::Value;
use tidegate_runtime::config;

use crate::cli::Context;
use crate::exit::Outcome;
use crate::output;
use crate::settings::{self, Settings};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Check a configuration file and the environment without starting anything
    Check {
        /// YAML file [env: TIDEGATE_CONFIG]
        file: Option<PathBuf>,
    },
    /// Show the effective configuration
    Show {
        /// YAML file [env: TIDEGATE_CONFIG]
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Show where each value came from
        #[arg(long)]
        origin: bool,
    },
    /// Print the JSON Schema of the configuration file
    Schema,
    /// Print a commented configuration file with every key and its default
    Default,
}

pub(crate) fn run(verb: &Verb, context: Context<'_>) -> Outcome {
    match verb {
        Verb::Check { file } => {
            let loaded = settings::load(file.as_deref(), context.environment, &[])?;
            for warning in &loaded.warnings {
                output::note(format_args!("warning: {warning}"));
            }
            output::answer("configuration is valid");
        }
        Verb::Show { config, origin } => {
            let loaded = settings::load(config.as_deref(), context.environment, &[])?;
            for (key, value) in config::flattened(&loaded.config) {
                let value = as_yaml(&value);
                if *origin {
                    let origin = loaded.origins.get(&key).map_or_else(|| "default".to_owned(), ToString::to_string);
                    output::answer(format_args!("{key}: {value}  # {origin}"));
                } else {
                    output::answer(format_args!("{key}: {value}"));
                }
            }
        }
        Verb::Schema => output::answer(format_args!("{:#}", schema().to_value())),
        Verb::Default => output::answer(default_file().trim_end()),
    }
    Ok(())
}

fn schema() -> Schema {
    let settings = schemars::generate::SchemaSettings::default().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<Settings>()
}

/// Values of this configuration are scalars and lists of scalars, for which JSON is YAML.
fn as_yaml(value: &Value) -> String {
    value.to_string()
}

/// Every key with its documentation, its variable and its default. Keys are commented out with a `#` in the first
/// column; removing it, and that of the sections around, makes a key active.
fn default_file() -> String {
    let schema = schema().to_value();
    let defaults = serde_json::to_value(Settings::default()).unwrap_or_default();
    let mut text = String::from(
        "# Configuration of `tidegate up`: every key with its default. To change one, remove the `#` in front of it\n\
         # and of the sections that it is in.\n",
    );
    write_section(&mut text, &schema, &defaults, "", 0);
    text
}

fn write_section(text: &mut String, schema: &Value, defaults: &Value, path: &str, depth: usize) {
    let indent = "  ".repeat(depth);
    let (Some(properties), Some(defaults)) = (schema["properties"].as_object(), defaults.as_object()) else { return };
    for (key, property) in properties {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let description = property["description"].as_str().unwrap_or_default().replace('\n', " ");
        let default = defaults.get(key).unwrap_or(&Value::Null);
        // Writing to a `String` cannot fail.
        let _ = writeln!(text, "\n# {indent}{description}");
        if property["properties"].is_object() {
            let _ = writeln!(text, "#{indent}{key}:");
            write_section(text, property, default, &path, depth + 1);
        } else {
            let variable = config::variable_of(&path);
            let _ = writeln!(text, "# {indent}[{variable}]\n#{indent}{key}: {}", as_yaml(default));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_printed_default_file_is_valid_and_changes_nothing() {
        let text = default_file();
        for form in [text.clone(), uncommented(&text)] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("c.yaml");
            std::fs::write(&path, &form).unwrap();
            let loaded = settings::load(Some(&path), &[], &[]).unwrap_or_else(|failure| panic!("{failure}\n{form}"));
            assert_eq!(loaded.config, Settings::default());
        }
        assert!(text.contains("\n#  jwksTtl: \"5m\"\n"), "{text}");
        assert!(text.contains("[TIDEGATE_EXPOSURE_JWT_REQUIRE_EXP]"), "{text}");
    }

    /// The file with every key active: keys are indented by an even number of spaces, prose by an odd one.
    fn uncommented(text: &str) -> String {
        let contents = text.lines().filter_map(|line| line.strip_prefix('#'));
        let keys = contents.filter(|content| (content.len() - content.trim_start().len()).is_multiple_of(2));
        keys.map(|content| format!("{content}\n")).fold(String::new(), |all, line| all + &line)
    }

    #[test]
    fn the_schema_knows_every_key() {
        let schema = schema().to_value();
        for (path, _) in config::flattened(&Settings::default()) {
            let pointer = format!("/properties/{}", path.replace('.', "/properties/"));
            assert!(schema.pointer(&pointer).is_some_and(|node| node["description"].is_string()), "{path}");
        }
    }
}
