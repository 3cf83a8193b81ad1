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

/// Prints rows in columns as wide as their content; the last column is not padded.
pub(crate) fn table<const N: usize>(header: [&str; N], rows: Vec<[String; N]>) {
    let mut all = vec![header.map(str::to_owned)];
    all.extend(rows);
    let width = |column: usize| all.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..N).map(|column| width(column).unwrap_or_default()).collect();
    for row in &all {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        let line = cells.collect::<Vec<_>>().join("   ");
        answer(line.trim_end());
    }
}

/// A mark in front of a line. Its meaning never rests on color alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    Good,
    Bad,
}

/// How signs are drawn on this terminal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signs {
    pub(crate) is_utf8: bool,
    pub(crate) is_colored: bool,
}

impl Signs {
    pub(crate) fn show(self, sign: Sign) -> String {
        let (text, ascii, color) = match sign {
            Sign::Good => ("✓", "ok", 32),
            Sign::Bad => ("✗", "no", 31),
        };
        let text = if self.is_utf8 { text } else { ascii };
        if self.is_colored { format!("\u{1b}[{color}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_has_an_ascii_form_and_a_colored_one() {
        let show = |is_utf8, is_colored| Signs { is_utf8, is_colored }.show(Sign::Bad);
        assert_eq!(show(true, false), "✗");
        assert_eq!(show(false, false), "no");
        assert_eq!(show(false, true), "\u{1b}[31mno\u{1b}[0m");
    }
}
