//! Printing: standard output carries the answer, standard error everything else (`90` section 4).

use std::fmt::Display;
use std::io::{self, Write as _};

/// Prints a line of the answer. A reader that went away (`| head`) is not an error.
pub(crate) fn answer(line: impl Display) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}

/// Prints a line for the person at the terminal.
pub(crate) fn note(line: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}
