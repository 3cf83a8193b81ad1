//! The one form of a request path that routes, rules and the upstream see. SPEC 30 §6.4.

use std::borrow::Cow;

/// Why a path is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// The target `*`: right for `OPTIONS` only, and no route matches it (404).
    #[error("the target `*` names no path")]
    Asterisk,
    /// The path does not begin with `/` (400).
    #[error("the path does not begin with `/`")]
    NotAbsolute,
    /// A control character, a space, `#` or a byte beyond ASCII that is not percent-encoded (400).
    #[error("the path has a character that must be percent-encoded")]
    Character,
    /// `%` without two hexadecimal digits, or `%00` (400).
    #[error("the path has a malformed or forbidden percent-encoding")]
    Encoding,
    /// A segment such as `..;x`, which some servers take for `..` (400).
    #[error("the path has a dot segment with a parameter")]
    DotParameter,
    /// Decoding `%2F` or `%5C` uncovers a dot segment (400).
    #[error("the path hides a dot segment behind an encoded separator")]
    HiddenDotSegment,
}

/// A path after steps 1 to 7 and 9 of SPEC 30 §6.4, without query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NormalizedPath<'a> {
    text: Cow<'a, str>,
    has_encoded_separator: bool,
}

impl<'a> NormalizedPath<'a> {
    /// Normalizes the path of a request target (what stands before `?`).
    ///
    /// Borrows when nothing has to change, which is the case for nearly every request.
    pub fn parse(raw: &'a str) -> Result<Self, PathError> {
        normalize(raw)
    }

    /// The path.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether `%2F` or `%5C` stands in the path: the guard of step 8 has to look at it.
    pub fn has_encoded_separator(&self) -> bool {
        self.has_encoded_separator
    }

    /// The path with `%2F` and `%5C` decoded and steps 4 to 6 redone, for the guard of step 8. `None` when it has none.
    ///
    /// # Errors
    /// [`PathError::HiddenDotSegment`] when decoding uncovers a dot segment.
    pub fn decoded(&self) -> Option<Result<String, PathError>> {
        self.has_encoded_separator.then(|| {
            let text = decode_separators(&self.text);
            if text.split('/').any(|segment| is_dot(before_parameter(segment))) {
                return Err(PathError::HiddenDotSegment);
            }
            Ok(merge_slashes(&text))
        })
    }

    /// What a lenient upstream may read in the path: everything decoded once, path parameters (`;…`) dropped. `None`
    /// when that is the path as it is.
    pub fn plain(&self) -> Option<String> {
        if !self.text.contains(['%', ';']) {
            return None;
        }
        let decoded = decode_all(&self.text);
        let plain: Vec<&str> = decoded.split('/').map(before_parameter).collect();
        Some(plain.join("/"))
    }

    /// The same path, independent of the request's buffer.
    pub fn into_owned(self) -> NormalizedPath<'static> {
        NormalizedPath { text: Cow::Owned(self.text.into_owned()), has_encoded_separator: self.has_encoded_separator }
    }
}

/// Steps 1 to 7 and 9 of SPEC 30 §6.4.
pub fn normalize(raw: &str) -> Result<NormalizedPath<'_>, PathError> {
    if raw == "*" {
        return Err(PathError::Asterisk);
    }
    if !raw.starts_with('/') {
        return Err(PathError::NotAbsolute);
    }
    let scan = scan(raw)?;
    let text = if scan.needs_work { Cow::Owned(rewrite(raw, scan.has_percent)) } else { Cow::Borrowed(raw) };
    // Step 9. Plain dot segments are gone by now, so a dot before `;` is a disguised one.
    if scan.has_semicolon && text.split('/').any(|segment| segment.contains(';') && is_dot(before_parameter(segment))) {
        return Err(PathError::DotParameter);
    }
    let has_encoded_separator = scan.has_percent && contains_encoded_separator(&text);
    Ok(NormalizedPath { text, has_encoded_separator })
}

struct Scan {
    needs_work: bool,
    has_percent: bool,
    has_semicolon: bool,
}

/// Refuses what steps 1 and 2 refuse, and finds out in the same pass whether anything has to be rewritten.
fn scan(raw: &str) -> Result<Scan, PathError> {
    let bytes = raw.as_bytes();
    let mut found = Scan { needs_work: false, has_percent: false, has_semicolon: false };
    let mut previous = 0_u8;
    let mut rest = bytes;
    while let [byte, tail @ ..] = rest {
        match *byte {
            0..0x21 | 0x7F.. | b'#' => return Err(PathError::Character),
            b'%' => {
                let [high, low, ..] = tail else { return Err(PathError::Encoding) };
                let (Some(high), Some(low)) = (hex(*high), hex(*low)) else { return Err(PathError::Encoding) };
                let decoded = high << 4 | low;
                if decoded == 0 {
                    return Err(PathError::Encoding);
                }
                found.has_percent = true;
                found.needs_work |= is_unreserved(decoded);
            }
            b'\\' => found.needs_work = true,
            b';' => found.has_semicolon = true,
            // A dot segment may begin here; rewriting a path that only has a file called `.x` does no harm.
            b'/' | b'.' if previous == b'/' => found.needs_work = true,
            _ => {}
        }
        previous = *byte;
        rest = tail;
    }
    Ok(found)
}

/// Steps 3 to 6 on a path that `scan` accepted.
fn rewrite(raw: &str, has_percent: bool) -> String {
    let mut decoded = if has_percent { decode_unreserved(raw) } else { raw.to_owned() };
    if decoded.contains('\\') {
        decoded = decoded.replace('\\', "/");
    }
    merge_slashes(&resolve_dots(&decoded))
}

fn decode_unreserved(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find('%') {
        let (before, tail) = rest.split_at(at);
        out.push_str(before);
        let encoded = tail.get(..3).unwrap_or(tail);
        let value = match encoded.as_bytes() {
            [_, high, low] => hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        match value {
            Some(byte) if is_unreserved(byte) => out.push(char::from(byte)),
            _ => out.push_str(encoded),
        }
        rest = tail.get(3..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}

/// Everything percent-encoded, decoded once. Bytes that are no UTF-8 become replacement characters, in paths and in
/// expressions alike.
pub(crate) fn decode_all(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let decoded = match tail {
            [high, low, after @ ..] if *first == b'%' => hex(*high).zip(hex(*low)).map(|pair| (pair, after)),
            _ => None,
        };
        rest = if let Some(((high, low), after)) = decoded {
            out.push(high << 4 | low);
            after
        } else {
            out.push(*first);
            tail
        };
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Step 5, never above the root; the slash stays where the last segment was a dot segment.
fn resolve_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut ends_in_dot = false;
    for segment in path.split('/').skip(1) {
        ends_in_dot = is_dot(segment);
        match segment {
            "." => {}
            ".." => {
                kept.pop();
            }
            other => kept.push(other),
        }
    }
    let mut out = String::with_capacity(path.len());
    for segment in kept {
        out.push('/');
        out.push_str(segment);
    }
    if ends_in_dot || out.is_empty() {
        out.push('/');
    }
    out
}

fn merge_slashes(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for character in path.chars() {
        if character != '/' || !out.ends_with('/') {
            out.push(character);
        }
    }
    out
}

fn decode_separators(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        let (before, tail) = rest.split_at(at);
        out.push_str(before);
        let encoded = tail.get(..3).unwrap_or(tail);
        out.push_str(if is_encoded_separator(encoded) { "/" } else { encoded });
        rest = tail.get(3..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}

fn contains_encoded_separator(path: &str) -> bool {
    path.match_indices('%').any(|(at, _)| path.get(at..at + 3).is_some_and(is_encoded_separator))
}

fn is_encoded_separator(encoded: &str) -> bool {
    matches!(encoded, "%2F" | "%2f" | "%5C" | "%5c")
}

fn is_dot(segment: &str) -> bool {
    matches!(segment, "." | "..")
}

fn before_parameter(segment: &str) -> &str {
    segment.split_once(';').map_or(segment, |(name, _)| name)
}

fn hex(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_table_of_the_specification_holds() {
        for (raw, expected) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/%41%7e", "/A~"),
            ("/%252e", "/%252e"),
            ("/a\\b", "/a/b"),
            ("/a/b/..", "/a/"),
            ("/a/b/.", "/a/b/"),
            ("/../../x", "/x"),
            ("/..", "/"),
            ("/a//b", "/a/b"),
            ("//", "/"),
            ("/a//../b", "/a/b"),
            ("/%2e%2e/x", "/x"),
            ("/a/%2E/b", "/a/b"),
            ("/a\\..\\b", "/b"),
            ("/a%2Fb", "/a%2Fb"),
            ("/a;v=1", "/a;v=1"),
            ("/%c0%ae", "/%c0%ae"),
            ("/.well-known/x", "/.well-known/x"),
            ("/a/...", "/a/..."),
            ("/a/", "/a/"),
        ] {
            assert_eq!(normalize(raw).map(|path| path.text.into_owned()).as_deref(), Ok(expected), "{raw}");
        }
    }

    #[test]
    fn malformed_paths_are_refused() {
        for (raw, error) in [
            ("*", PathError::Asterisk),
            ("", PathError::NotAbsolute),
            ("a", PathError::NotAbsolute),
            ("/é", PathError::Character),
            ("/a b", PathError::Character),
            ("/a#b", PathError::Character),
            ("/a\u{7f}", PathError::Character),
            ("/a\0", PathError::Character),
            ("/%zz", PathError::Encoding),
            ("/%", PathError::Encoding),
            ("/%4", PathError::Encoding),
            ("/%00", PathError::Encoding),
            ("/..;/admin", PathError::DotParameter),
            ("/.;x", PathError::DotParameter),
            ("/%2e%2e;/admin", PathError::DotParameter),
        ] {
            assert_eq!(normalize(raw).map(|path| path.text.into_owned()), Err(error), "{raw}");
        }
    }

    #[test]
    fn a_path_that_is_already_normal_is_not_copied() {
        for raw in ["/", "/a/b-c_d~e.f", "/a%20b", "/a%2Fb", "/a;b=c"] {
            assert!(matches!(normalize(raw).unwrap().text, Cow::Borrowed(_)), "{raw}");
        }
    }

    #[test]
    fn the_guard_sees_what_encoded_separators_hide() {
        let decoded = |raw: &str| normalize(raw).unwrap().decoded();
        assert_eq!(decoded("/a/b"), None);
        assert_eq!(decoded("/a%2Fb"), Some(Ok("/a/b".to_owned())));
        assert_eq!(decoded("/a%5cb%2f"), Some(Ok("/a/b/".to_owned())));
        assert_eq!(decoded("/a%2F%2Fb"), Some(Ok("/a/b".to_owned())));
        for hidden in ["/a/..%2fadmin", "/a%2f..", "/a%2f.%2fb", "/a%5c..;x/b"] {
            assert_eq!(decoded(hidden), Some(Err(PathError::HiddenDotSegment)), "{hidden}");
        }
    }

    proptest! {
        #[test]
        fn normalizing_twice_changes_nothing(raw in "/([a-c./;%\\\\]|%2[eEfF5]|%5[cC]|%41|\\.\\.){0,24}") {
            if let Ok(once) = normalize(&raw) {
                let once = once.into_owned();
                let twice = normalize(once.as_str()).expect("a normal path is a legal path");
                prop_assert_eq!(&twice, &once);
                prop_assert!(!once.as_str().contains("//"));
                prop_assert!(once.as_str().split('/').all(|segment| !is_dot(before_parameter(segment))));
            }
        }

        #[test]
        fn normalizing_never_panics(raw in "\\PC{0,60}") {
            if let Ok(path) = normalize(&raw) {
                let _ = path.decoded();
            }
        }
    }
}
