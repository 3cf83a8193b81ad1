//! `pattern` keywords: Go's regular expression syntax (RE2) on the `regex` crate.
//!
//! Both are linear-time and refuse look-around and back references, but they differ in details that real schemas use:
//! Go's `\d`, `\w`, `\s` and `\b` are ASCII; a `[`, `&&`, `--` or `~~` inside a class is literal; a `{` that starts no
//! repetition is literal; `\<` is a literal `<`; `\Q..\E` quotes. [`compile`] rewrites these and nothing else.

use regex::{Regex, RegexBuilder};

/// Bytes that one compiled pattern may take; larger ones are refused like syntax errors.
const SIZE_LIMIT_BYTES: usize = 2 << 20;

/// A compiled `pattern` with the text that messages show.
#[derive(Debug)]
pub(super) struct Pattern {
    pub(super) written: String,
    pub(super) regex: Regex,
}

impl Pattern {
    pub(super) fn parse(written: &str) -> Result<Self, String> {
        Ok(Self { written: written.to_owned(), regex: compile(written)? })
    }
}

/// Compiles a pattern in Go's syntax. The match is unanchored, as `pattern` demands.
///
/// # Errors
/// The reason in one line, without the pattern.
fn compile(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(&translate(pattern)).size_limit(SIZE_LIMIT_BYTES).build().map_err(|error| match error {
        regex::Error::CompiledTooBig(limit) => {
            format!("compiled form exceeds {limit} bytes")
        }
        // The crate draws the pattern with a caret on several lines; the last line holds the reason.
        other => other.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned(),
    })
}

fn translate(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut rest = pattern;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        rest = match c {
            '\\' => escape(after, false, &mut out),
            '[' => class(after, &mut out),
            '{' if !starts_repetition(after) => {
                out.push_str(r"\{");
                after
            }
            _ => {
                out.push(c);
                after
            }
        };
    }
    out
}

/// Translates what follows a backslash; returns the text after it.
fn escape<'a>(after: &'a str, in_class: bool, out: &mut String) -> &'a str {
    let Some(c) = after.chars().next() else {
        out.push('\\');
        return after;
    };
    let next = &after[c.len_utf8()..];
    let replacement = match (c, in_class) {
        ('d', false) => "[0-9]",
        ('d', true) => "0-9",
        ('D', _) => "[^0-9]",
        ('w', false) => "[0-9A-Za-z_]",
        ('w', true) => "0-9A-Za-z_",
        ('W', _) => "[^0-9A-Za-z_]",
        ('s', false) => r"[\t\n\x0C\r ]",
        ('s', true) => r"\t\n\x0C\r ",
        ('S', _) => r"[^\t\n\x0C\r ]",
        ('b', false) => r"(?-u:\b)",
        // The negated ASCII boundary could split a code point; Go looks at code points, so this is its meaning.
        ('B', false) => r"(?:(?-u:\b)\b\B|\B)",
        ('<', _) => "<",
        ('>', _) => ">",
        ('Q', false) => {
            let (literal, end) = next.split_once(r"\E").unwrap_or((next, ""));
            out.push_str(&regex::escape(literal));
            return end;
        }
        _ => {
            out.push('\\');
            out.push(c);
            return next;
        }
    };
    out.push_str(replacement);
    next
}

/// Translates a bracket expression whose `[` was consumed; returns the text after its `]`.
fn class<'a>(after: &'a str, out: &mut String) -> &'a str {
    out.push('[');
    let mut rest = after;
    if let Some(negated) = rest.strip_prefix('^') {
        out.push('^');
        rest = negated;
    }
    // A `]` in first place is literal in both dialects; spelled out, it is so in every position.
    if let Some(literal) = rest.strip_prefix(']') {
        out.push_str(r"\]");
        rest = literal;
    }
    let mut previous = None;
    while let Some(c) = rest.chars().next() {
        let next = &rest[c.len_utf8()..];
        match c {
            ']' => {
                out.push(']');
                return next;
            }
            '\\' => {
                rest = escape(next, true, out);
                previous = None;
                continue;
            }
            '[' => {
                if let Some(end) = next.starts_with(':').then(|| next.find(":]")).flatten() {
                    out.push('[');
                    out.push_str(&next[..end + 2]);
                    rest = &next[end + 2..];
                    previous = None;
                    continue;
                }
                out.push_str(r"\[");
            }
            '&' | '~' | '-' if previous == Some(c) => {
                out.push('\\');
                out.push(c);
            }
            _ => out.push(c),
        }
        previous = Some(c);
        rest = next;
    }
    rest
}

fn starts_repetition(after: &str) -> bool {
    let Some((inside, _)) = after.split_once('}') else {
        return false;
    };
    let (low, high) = inside.split_once(',').unwrap_or((inside, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    !low.is_empty() && digits(low) && digits(high)
}

#[cfg(test)]
mod tests {
    use super::compile;

    fn check(pattern: &str, matching: &[&str], other: &[&str]) {
        let regex = compile(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
        for text in matching {
            assert!(regex.is_match(text), "{pattern} must match {text}");
        }
        for text in other {
            assert!(!regex.is_match(text), "{pattern} must not match {text}");
        }
    }

    #[test]
    fn patterns_mean_what_they_mean_in_go() {
        check("^[a-z.]+$", &["a.b"], &["U", ""]);
        check(r"^\d+$", &["12"], &["\u{0664}"]);
        check(r"^[\d_]+$", &["1_2"], &["\u{0664}"]);
        check(r"^[^\w]$", &["é", "-"], &["a", "_"]);
        check(r"^[\D]$", &["a"], &["1"]);
        check(r"^\s\S$", &[" a"], &["\u{a0}a"]);
        check("^[[]$", &["["], &["a"]);
        check("^[]a]$", &["]", "a"], &["b"]);
        check("^[[:alpha:]]$", &["a"], &["1", ":"]);
        check("^[a&&b]+$", &["a&b"], &["c"]);
        check("^a{$", &["a{"], &["a"]);
        check("^{x}$", &["{x}"], &["x"]);
        check("^a{2,3}$", &["aa", "aaa"], &["a", "aaaa"]);
        check(r"^\<a\>\/$", &["<a>/"], &["a/"]);
        check(r"^\Qa.b\E+$", &["a.bb"], &["axb"]);
        check(r"\bfoo\b", &["a foo b"], &["afoo"]);
        check("b", &["abc"], &["ac"]);
        check("^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", &["a-b"], &["-a"]);
    }

    #[test]
    fn what_needs_backtracking_or_is_broken_is_refused() {
        for pattern in [r"(?=a)b", r"(a)\1", "(", "[a", "*a", "(?<!a)b", "(a{1000}){1000}"] {
            assert!(compile(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn the_reason_is_one_line() {
        let reason = compile("a(b").unwrap_err();
        assert_eq!(reason, "unclosed group");
    }
}
