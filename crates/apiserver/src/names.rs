//! Syntax of names, label keys and values, and finalizers, with the messages that kubectl users know.
//!
//! Every check returns the list of things wrong with a value; an empty list means it is fine.
//! Matching is done by hand, byte by byte, since these checks run on every write.
// SPEC 60 §22.3

/// Longest DNS-1123 subdomain in bytes.
pub const SUBDOMAIN_MAX: usize = 253;
/// Longest DNS label in bytes.
pub const LABEL_MAX: usize = 63;

const SUBDOMAIN_FMT: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const LABEL_FMT: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const DNS1035_FMT: &str = "[a-z]([-a-z0-9]*[a-z0-9])?";
const QUALIFIED_FMT: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const LABEL_VALUE_FMT: &str = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?";
const CONFIG_KEY_FMT: &str = "[-._a-zA-Z0-9]+";

/// Which rule the names of a kind follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameRule {
    /// Most kinds.
    Subdomain,
    /// Namespace, Service.
    Label,
    /// RBAC kinds.
    PathSegment,
}

impl NameRule {
    /// Problems of `name` under this rule.
    pub fn check(self, name: &str) -> Vec<String> {
        match self {
            Self::Subdomain => dns1123_subdomain(name),
            Self::Label => dns1123_label(name),
            Self::PathSegment => path_segment(name),
        }
    }

    /// Problems of a `generateName` prefix: as [`NameRule::check`], but a final `-` is fine.
    pub fn check_prefix(self, prefix: &str) -> Vec<String> {
        match self {
            // A prefix is never the whole name: stand in for the suffix by one letter.
            Self::Subdomain | Self::Label if prefix.len() > 1 && prefix.ends_with('-') => {
                let mut name = prefix.to_owned();
                name.pop();
                name.push('a');
                self.check(&name)
            }
            _ => self.check(prefix),
        }
    }
}

/// `message (e.g. 'a',  or 'b', regex used for validation is 'fmt')`, with upstream's two spaces.
fn with_regex(message: &str, fmt: &str, examples: &[&str]) -> String {
    let mut out = format!("{message} (e.g. ");
    for (i, example) in examples.iter().enumerate() {
        if i > 0 {
            out.push_str(" or ");
        }
        out.push('\'');
        out.push_str(example);
        out.push_str("', ");
    }
    out.push_str("regex used for validation is '");
    out.push_str(fmt);
    out.push_str("')");
    out
}

fn too_long(max: usize) -> String {
    format!("must be no more than {max} characters")
}

fn too_many_bytes(max: usize) -> String {
    format!("must be no more than {max} bytes")
}

fn is_lower_alnum(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

/// `first inner* last`, where a single byte must satisfy `first` only if it also satisfies `last`.
fn framed(text: &str, first: fn(u8) -> bool, inner: fn(u8) -> bool, last: fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    match bytes {
        [] => false,
        [one] => first(*one),
        [head, middle @ .., tail] => first(*head) && last(*tail) && middle.iter().all(|b| inner(*b)),
    }
}

fn is_label_text(text: &str) -> bool {
    framed(text, is_lower_alnum, |b| is_lower_alnum(b) || b == b'-', is_lower_alnum)
}

fn is_qualified_text(text: &str) -> bool {
    framed(
        text,
        |b| b.is_ascii_alphanumeric(),
        |b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'),
        |b| b.is_ascii_alphanumeric(),
    )
}

/// True if `text` is a DNS-1123 subdomain of at most 253 bytes.
pub fn is_dns1123_subdomain(text: &str) -> bool {
    text.len() <= SUBDOMAIN_MAX && text.split('.').all(is_label_text)
}

/// True if `text` is a DNS-1123 label of at most 63 bytes.
pub fn is_dns1123_label(text: &str) -> bool {
    text.len() <= LABEL_MAX && is_label_text(text)
}

/// Problems of a DNS-1123 subdomain.
pub fn dns1123_subdomain(text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if text.len() > SUBDOMAIN_MAX {
        problems.push(too_long(SUBDOMAIN_MAX));
    }
    if !text.split('.').all(is_label_text) {
        problems.push(with_regex(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must \
             start and end with an alphanumeric character",
            SUBDOMAIN_FMT,
            &["example.com"],
        ));
    }
    problems
}

/// Problems of a DNS-1123 label.
pub fn dns1123_label(text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if text.len() > LABEL_MAX {
        problems.push(too_long(LABEL_MAX));
    }
    if !is_label_text(text) {
        if text.split('.').all(is_label_text) {
            problems.push("must not contain dots".to_owned());
        } else {
            problems.push(with_regex(
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start \
                 and end with an alphanumeric character",
                LABEL_FMT,
                &["my-name", "123-abc"],
            ));
        }
    }
    problems
}

/// Problems of a DNS-1035 label (starts with a letter).
pub fn dns1035_label(text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if text.len() > LABEL_MAX {
        problems.push(too_long(LABEL_MAX));
    }
    let inner = |b| is_lower_alnum(b) || b == b'-';
    if !framed(text, |b| b.is_ascii_lowercase(), inner, is_lower_alnum) {
        problems.push(with_regex(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic \
             character, and end with an alphanumeric character",
            DNS1035_FMT,
            &["my-name", "abc-123"],
        ));
    }
    problems
}

/// Problems of a name that only has to be one segment of a URL path.
pub fn path_segment(text: &str) -> Vec<String> {
    match text {
        "." => return vec!["may not be '.'".to_owned()],
        ".." => return vec!["may not be '..'".to_owned()],
        _ => {}
    }
    ['/', '%'].into_iter().filter(|c| text.contains(*c)).map(|c| format!("may not contain '{c}'")).collect()
}

/// Problems of a label key, annotation key (lower-cased by the caller) or other qualified name.
pub fn qualified_name(text: &str) -> Vec<String> {
    const MESSAGE: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
                           alphanumeric character";
    const EXAMPLES: [&str; 3] = ["MyName", "my.name", "123-abc"];
    let mut problems = Vec::new();
    let name = match text.split_once('/') {
        None => text,
        Some((_, rest)) if rest.contains('/') => {
            problems.push(format!(
                "a qualified name {} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
                with_regex(MESSAGE, QUALIFIED_FMT, &EXAMPLES)
            ));
            return problems;
        }
        Some(("", name)) => {
            problems.push("prefix part must be non-empty".to_owned());
            name
        }
        Some((prefix, name)) => {
            problems.extend(dns1123_subdomain(prefix).into_iter().map(|p| format!("prefix part {p}")));
            name
        }
    };
    if name.is_empty() {
        problems.push("name part must be non-empty".to_owned());
    } else if name.len() > LABEL_MAX {
        problems.push(format!("name part {}", too_many_bytes(LABEL_MAX)));
    }
    if !is_qualified_text(name) {
        problems.push(format!("name part {}", with_regex(MESSAGE, QUALIFIED_FMT, &EXAMPLES)));
    }
    problems
}

/// Problems of a label value.
pub fn label_value(text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if text.len() > LABEL_MAX {
        problems.push(too_many_bytes(LABEL_MAX));
    }
    if !text.is_empty() && !is_qualified_text(text) {
        problems.push(with_regex(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must \
             start and end with an alphanumeric character",
            LABEL_VALUE_FMT,
            &["MyValue", "my_value", "12345"],
        ));
    }
    problems
}

/// Problems of a key of a ConfigMap or Secret.
pub fn config_key(text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if text.len() > SUBDOMAIN_MAX {
        problems.push(too_long(SUBDOMAIN_MAX));
    }
    let ok = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if text.is_empty() || !text.bytes().all(ok) {
        problems.push(with_regex(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
            CONFIG_KEY_FMT,
            &["key.name", "KEY_NAME", "key-name"],
        ));
    }
    match text {
        "." | ".." => problems.push(format!("must not be '{text}'")),
        _ if text.starts_with("..") => problems.push("must not start with '..'".to_owned()),
        _ => {}
    }
    problems
}

/// Problems of a finalizer on a built-in kind: a qualified name, with a domain unless it is a standard one.
pub fn builtin_finalizer(text: &str) -> Vec<String> {
    let mut problems = qualified_name(text);
    if !text.contains('/') && !matches!(text, "kubernetes" | "orphan" | "foregroundDeletion") {
        problems.push("name is neither a standard finalizer name nor is it fully qualified".to_owned());
    }
    problems
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use regex::Regex;

    use super::*;

    #[test]
    fn subdomain_messages_are_upstream_words() {
        assert_eq!(
            dns1123_subdomain("A"),
            vec![
                "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and \
                 must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
                 '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
            ]
        );
        assert_eq!(dns1123_subdomain(&"a".repeat(254)), vec!["must be no more than 253 characters"]);
    }

    #[test]
    fn a_dotted_namespace_name_is_told_apart() {
        assert_eq!(dns1123_label("a.b"), vec!["must not contain dots"]);
        let [message] = dns1123_label("A_").try_into().expect("one message");
        assert!(message.contains("(e.g. 'my-name',  or '123-abc', regex used"), "{message}");
    }

    #[test]
    fn qualified_names_report_each_part() {
        assert_eq!(qualified_name("example.com/x"), Vec::<String>::new());
        assert_eq!(qualified_name("/x"), vec!["prefix part must be non-empty"]);
        assert_eq!(qualified_name("a/").len(), 2);
        assert!(qualified_name("a/b/c")[0].ends_with("(e.g. 'example.com/MyName')"));
        assert_eq!(qualified_name(&"x".repeat(64)), vec!["name part must be no more than 63 bytes"]);
    }

    #[test]
    fn label_values_may_be_empty_but_not_long() {
        assert!(label_value("").is_empty());
        assert_eq!(label_value(&"x".repeat(64)), vec!["must be no more than 63 bytes"]);
        assert_eq!(label_value("-x").len(), 1);
    }

    #[test]
    fn config_keys_may_not_climb_directories() {
        assert_eq!(config_key("."), vec!["must not be '.'"]);
        assert_eq!(config_key(".."), vec!["must not be '..'"]);
        assert_eq!(config_key("..x"), vec!["must not start with '..'"]);
        assert!(config_key(".x").is_empty());
        assert_eq!(config_key("bad key").len(), 1);
    }

    #[test]
    fn path_segments_may_hold_colons_but_no_slash() {
        assert!(path_segment("system:a").is_empty());
        assert_eq!(path_segment("."), vec!["may not be '.'"]);
        assert_eq!(path_segment("a/b%"), vec!["may not contain '/'", "may not contain '%'"]);
    }

    #[test]
    fn generated_prefixes_may_end_in_a_dash() {
        assert!(NameRule::Subdomain.check_prefix("abc-").is_empty());
        assert!(!NameRule::Subdomain.check_prefix("Abc-").is_empty());
        assert!(!NameRule::Subdomain.check("abc-").is_empty());
    }

    #[test]
    fn unqualified_finalizers_are_refused_on_built_in_kinds() {
        assert!(builtin_finalizer("kubernetes").is_empty());
        assert!(builtin_finalizer("example.com/hold").is_empty());
        assert_eq!(
            builtin_finalizer("hold"),
            vec!["name is neither a standard finalizer name nor is it fully qualified"]
        );
    }

    fn full(pattern: &str) -> Regex {
        Regex::new(&format!("^(?:{pattern})$")).expect("pattern compiles")
    }

    proptest! {
        #[test]
        fn hand_written_matchers_agree_with_the_printed_patterns(text in "[aZ0_./ -]{0,8}") {
            prop_assert_eq!(dns1123_subdomain(&text).is_empty(), full(SUBDOMAIN_FMT).is_match(&text));
            prop_assert_eq!(dns1123_label(&text).is_empty(), full(LABEL_FMT).is_match(&text));
            prop_assert_eq!(dns1035_label(&text).is_empty(), full(DNS1035_FMT).is_match(&text));
            prop_assert_eq!(label_value(&text).is_empty(), full(LABEL_VALUE_FMT).is_match(&text));
            let qualified = full(&format!("({SUBDOMAIN_FMT}/)?{QUALIFIED_FMT}"));
            prop_assert_eq!(qualified_name(&text).is_empty(), qualified.is_match(&text));
        }
    }
}
