//! Set-up of the process's log (`80` section 9): text to a terminal, JSON lines otherwise, to standard error.

use std::io::{self, IsTerminal as _};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, Registry, fmt, reload};

/// Form of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LogFormat {
    /// Text to a terminal, JSON otherwise.
    #[default]
    Auto,
    /// One line of text per record.
    Text,
    /// One JSON object per line.
    Json,
}

/// How the log is set up.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// Form.
    pub format: LogFormat,
    /// What is logged, as `info` or `info,tidegate_gateway=debug`.
    pub filter: String,
    /// Color in text.
    pub color: bool,
}

/// Why the log could not be set up or changed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is not understood.
    #[error(
        "`{filter}` is no log filter: write a level (`error`, `warn`, `info`, `debug`, `trace`) or `info,crate=debug`"
    )]
    Filter {
        /// As given.
        filter: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Some log is already set up in this process.
    #[error("the log is already set up")]
    AlreadySet,
    /// The log was taken down.
    #[error("the log is gone")]
    Gone,
}

/// Parts of libraries whose records of level `info` are of no use to an operator.
const QUIET: &str = "rusqlite_migration=warn";

/// Changes what is logged while the process runs. Cheap to clone.
#[derive(Clone)]
pub struct LogHandle {
    handle: reload::Handle<EnvFilter, Registry>,
    filter: Arc<Mutex<String>>,
}

/// Sets the process's log up; once per process.
pub fn init(options: &LogOptions) -> Result<LogHandle, LogError> {
    let (filter, handle) = reload::Layer::new(parse(&options.filter)?);
    let is_json = match options.format {
        LogFormat::Auto => !io::stderr().is_terminal(),
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let lines: Box<dyn Layer<_> + Send + Sync> = if is_json {
        Box::new(
            fmt::layer()
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .with_span_list(false)
                .with_writer(io::stderr),
        )
    } else {
        Box::new(fmt::layer().with_ansi(options.color).with_writer(io::stderr))
    };
    tracing_subscriber::registry().with(filter).with(lines).try_init().map_err(|_| LogError::AlreadySet)?;
    Ok(LogHandle { handle, filter: Arc::new(Mutex::new(options.filter.clone())) })
}

impl LogHandle {
    /// Logs what `filter` says from now on.
    pub fn set(&self, filter: &str) -> Result<(), LogError> {
        self.handle.reload(parse(filter)?).map_err(|_| LogError::Gone)?;
        filter.clone_into(&mut self.filter.lock());
        Ok(())
    }

    /// The filter in force.
    pub fn filter(&self) -> String {
        self.filter.lock().clone()
    }
}

impl std::fmt::Debug for LogHandle {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("LogHandle").field(&self.filter()).finish()
    }
}

fn parse(filter: &str) -> Result<EnvFilter, LogError> {
    // What the operator says comes later and wins.
    let all = format!("{QUIET},{filter}");
    EnvFilter::builder().parse(all).map_err(|source| LogError::Filter { filter: filter.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_can_be_changed_and_is_checked() {
        let options = LogOptions { format: LogFormat::Text, filter: "warn".to_owned(), color: false };
        let handle = init(&options).unwrap();
        assert_eq!(handle.filter(), "warn");
        handle.set("error,tidegate_gateway=debug").unwrap();
        assert!(handle.filter().contains("tidegate_gateway=debug"));
        let error = handle.set("info,=x=").unwrap_err();
        assert!(error.to_string().starts_with("`info,=x=` is no log filter"), "{error}");
        assert!(matches!(init(&options), Err(LogError::AlreadySet)));
    }
}
