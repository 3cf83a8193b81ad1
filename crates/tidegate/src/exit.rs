//! How a verb ends (`90` sections 4 and 5): exit code, and a message in the anatomy that every error has.

use std::fmt;
use std::process::ExitCode;

use crate::output;

/// Result of a verb.
pub(crate) type Outcome = Result<(), Failure>;

/// The exit codes of `90` section 4 that a verb of this version can end with, besides 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// It did not work.
    Failed = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// A check found something.
    Found = 3,
    /// The answer was 401.
    NotAuthenticated = 4,
    /// The answer was 403, or `why` explains a refusal.
    Refused = 5,
    /// Somebody else has what was asked for.
    Conflict = 6,
    /// `--wait` ended before the condition held.
    Timeout = 7,
}

/// Why a verb did not do what it was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    code: Code,
    /// What did not happen, and the cause; empty when the answer was printed already.
    message: String,
    details: Vec<(&'static str, String)>,
}

impl Failure {
    /// An ordinary failure.
    pub(crate) fn new(message: impl fmt::Display) -> Self {
        Self { code: Code::Failed, message: message.to_string(), details: Vec::new() }
    }

    /// A wrong command line or configuration.
    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self::new(message).code(Code::Usage)
    }

    /// Only an exit code: the verb printed its answer.
    pub(crate) fn silent(code: Code) -> Self {
        Self { code, message: String::new(), details: Vec::new() }
    }

    /// The same failure with another exit code.
    pub(crate) fn code(self, code: Code) -> Self {
        Self { code, ..self }
    }

    /// Adds a line: the field, what to try, where more is.
    pub(crate) fn detail(mut self, label: &'static str, text: impl fmt::Display) -> Self {
        self.details.push((label, text.to_string()));
        self
    }

    /// Adds the command to try next.
    pub(crate) fn try_next(self, text: impl fmt::Display) -> Self {
        self.detail("try", text)
    }
}

/// An error with its causes, each said once.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "error: {}", self.message)?;
        for (label, text) in &self.details {
            write!(formatter, "\n  {label:<9} {text}")?;
        }
        Ok(())
    }
}

/// Prints the message of a failure and gives the process its exit code.
pub(crate) fn finish(outcome: Outcome) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.message.is_empty() {
                output::note(&failure);
            }
            ExitCode::from(failure.code as u8)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_did_not_happen_and_what_to_try() {
        let failure = Failure::new("api `default/my-app` not enforced: hostname is used")
            .detail("field", "spec.hostname")
            .try_next("another hostname");
        assert_eq!(
            failure.to_string(),
            "error: api `default/my-app` not enforced: hostname is used\n  field     spec.hostname\n  try       another hostname"
        );
    }

    #[test]
    fn a_chain_says_each_cause_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer: inner")]
        struct Outer(#[source] Inner);
        #[derive(Debug, thiserror::Error)]
        #[error("inner")]
        struct Inner(#[source] std::io::Error);
        let error = Outer(Inner(std::io::Error::other("disk full")));
        assert_eq!(chain(&error), "outer: inner: disk full");
    }
}
