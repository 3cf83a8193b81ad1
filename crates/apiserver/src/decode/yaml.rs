//! YAML bodies: one document, bounded nesting and alias expansion, duplicate keys reported as for JSON.
//!
//! Built on the event stream of the YAML crate's parser instead of its serde side, because that recurses with tens of
//! kilobytes per level in debug builds, and a body must not be able to end the thread's stack. Plain scalars follow the
//! core schema of YAML 1.2; kubectl resolves YAML 1.1 words such as `yes` before it sends.

use std::collections::HashMap;
use std::fmt::Write as _;

use serde_json::{Map, Value};
use serde_saphyr::granit_parser::{Event, Options, Parser, ScalarStyle};

use super::json::{MAX_DEPTH, Parsed, number_from_float};

/// Bytes that anchors and aliases may copy (SPEC 60 §23).
const MAX_EXPANDED: usize = 3 * 1024 * 1024;
const MAX_DUPLICATES: usize = 100;
const CORE_TAGS: &str = "tag:yaml.org,2002:";

/// Parses exactly one document; the error is one line and shows no content.
pub(super) fn parse(bytes: &[u8]) -> Result<Parsed, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned())?;
    let mut options = Options::default();
    options.set_emit_comments(false);
    let mut builder = Builder::default();
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, _) = event.map_err(|error| {
            let mark = error.marker();
            format!("not YAML: line {}, column {}", mark.line(), mark.col() + 1)
        })?;
        builder.event(event)?;
    }
    let value = builder.document.unwrap_or(Value::Null);
    Ok(Parsed { value, duplicates: builder.duplicates })
}

enum Frame {
    List {
        items: Vec<Value>,
        anchor: usize,
    },
    /// `key` is set between a key and its value.
    Map {
        map: Map<String, Value>,
        merged: Vec<Value>,
        key: Option<String>,
        anchor: usize,
    },
}

#[derive(Default)]
struct Builder {
    stack: Vec<Frame>,
    document: Option<Value>,
    anchors: HashMap<usize, Value>,
    expanded: usize,
    duplicates: Vec<String>,
}

impl Builder {
    fn event(&mut self, event: Event<'_>) -> Result<(), String> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let tag = tag
                    .as_deref()
                    .and_then(|tag| if tag.handle() == CORE_TAGS { Some(tag.suffix().to_owned()) } else { None });
                let value = scalar(&text, style, tag.as_deref())?;
                self.finish(value, anchor)
            }
            Event::SequenceStart(_, anchor, _) => self.open(Frame::List { items: Vec::new(), anchor }),
            Event::MappingStart(_, anchor, _) => {
                self.open(Frame::Map { map: Map::new(), merged: Vec::new(), key: None, anchor })
            }
            Event::SequenceEnd | Event::MappingEnd => match self.stack.pop() {
                Some(Frame::List { items, anchor }) => self.finish(Value::Array(items), anchor),
                Some(Frame::Map { mut map, merged, anchor, .. }) => {
                    merge(&mut map, merged)?;
                    self.finish(Value::Object(map), anchor)
                }
                None => Err("not YAML: unbalanced".to_owned()),
            },
            Event::Alias(id) => {
                let value = self.anchors.get(&id).cloned().ok_or_else(|| "an alias points to itself".to_owned())?;
                self.account(&value)?;
                self.finish(value, 0)
            }
            Event::DocumentStart(..) if self.document.is_some() => Err("more than one document".to_owned()),
            _ => Ok(()),
        }
    }

    fn open(&mut self, frame: Frame) -> Result<(), String> {
        if self.stack.len() >= MAX_DEPTH {
            return Err("exceeded max depth".to_owned());
        }
        if let Some(Frame::Map { key: None, .. }) = self.stack.last() {
            return Err("a key must be text, a number or a boolean".to_owned());
        }
        self.stack.push(frame);
        Ok(())
    }

    /// Counts copies, so that aliases of aliases cannot fill memory, and bounds the nesting that they add.
    fn account(&mut self, value: &Value) -> Result<(), String> {
        self.expanded = self.expanded.saturating_add(super::json::size(value));
        if self.expanded > MAX_EXPANDED {
            return Err("the document expands to too much text".to_owned());
        }
        if self.stack.len() + super::json::depth(value) > MAX_DEPTH {
            return Err("exceeded max depth".to_owned());
        }
        Ok(())
    }

    /// Hands a finished node to its parent.
    fn finish(&mut self, value: Value, anchor: usize) -> Result<(), String> {
        if anchor != 0 {
            self.account(&value)?;
            self.anchors.insert(anchor, value.clone());
        }
        match self.stack.last_mut() {
            None => self.document = Some(value),
            Some(Frame::List { items, .. }) => items.push(value),
            Some(Frame::Map { key: key @ None, .. }) => {
                *key = Some(match value {
                    Value::String(text) => text,
                    // YAML has other keys than text; JSON writes them as text.
                    Value::Bool(_) | Value::Number(_) | Value::Null => value.to_string(),
                    Value::Array(_) | Value::Object(_) => {
                        return Err("a key must be text, a number or a boolean".to_owned());
                    }
                });
            }
            Some(Frame::Map { map, merged, key, .. }) => {
                let name = key.take().unwrap_or_default();
                if name == "<<" && (value.is_object() || value.is_array()) {
                    merged.push(value);
                } else if map.insert(name.clone(), value).is_some() {
                    self.note_duplicate(&name);
                }
            }
        }
        Ok(())
    }

    fn note_duplicate(&mut self, name: &str) {
        let mut path = String::new();
        for frame in &self.stack {
            match frame {
                Frame::List { items, .. } => {
                    let _ = write!(path, "[{}]", items.len());
                }
                Frame::Map { key: Some(key), .. } => {
                    let dot = if path.is_empty() { "" } else { "." };
                    let _ = write!(path, "{dot}{key}");
                }
                Frame::Map { key: None, .. } => {}
            }
        }
        let dot = if path.is_empty() { "" } else { "." };
        let _ = write!(path, "{dot}{name}");
        if self.duplicates.len() < MAX_DUPLICATES && !self.duplicates.contains(&path) {
            self.duplicates.push(path);
        }
    }
}

/// `<<`: the keys of other maps, where the map has none of its own; the first of several wins.
fn merge(map: &mut Map<String, Value>, merged: Vec<Value>) -> Result<(), String> {
    for value in merged {
        let sources = match value {
            Value::Array(list) => list,
            one => vec![one],
        };
        for source in sources {
            let Value::Object(source) = source else { return Err("<< takes maps only".to_owned()) };
            for (key, value) in source {
                map.entry(key).or_insert(value);
            }
        }
    }
    Ok(())
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&str>) -> Result<Value, String> {
    match tag {
        Some("str" | "binary" | "timestamp") => return Ok(Value::String(text.to_owned())),
        Some("null" | "bool" | "int" | "float") | None => {}
        Some(_) => return Err("a scalar has an unknown tag".to_owned()),
    }
    if tag.is_none() && style != ScalarStyle::Plain {
        return Ok(Value::String(text.to_owned()));
    }
    plain(text)
}

/// The core schema of YAML 1.2.
fn plain(text: &str) -> Result<Value, String> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Null),
        "true" | "True" | "TRUE" => return Ok(Value::Bool(true)),
        "false" | "False" | "FALSE" => return Ok(Value::Bool(false)),
        _ => {}
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return Err("JSON has no such number".to_owned());
    }
    let radix = |prefix: &str, radix: u32| {
        text.strip_prefix(prefix)
            .filter(|digits| !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix)))
            .and_then(|digits| i64::from_str_radix(digits, radix).ok())
    };
    if let Some(number) = radix("0x", 16).or_else(|| radix("0o", 8)) {
        return Ok(Value::from(number));
    }
    if is_decimal(unsigned) {
        if let Ok(number) = text.parse::<i64>() {
            return Ok(Value::from(number));
        }
        return text
            .parse::<f64>()
            .ok()
            .and_then(number_from_float)
            .ok_or_else(|| "JSON has no such number".to_owned());
    }
    Ok(Value::String(text.to_owned()))
}

/// `[0-9]+`, `[0-9]*.[0-9]*` with at least one digit, and an optional exponent.
fn is_decimal(text: &str) -> bool {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent_ok = exponent.is_none_or(|e| {
        let e = e.strip_prefix(['+', '-']).unwrap_or(e);
        !e.is_empty() && digits(e)
    });
    digits(whole) && digits(fraction) && !(whole.is_empty() && fraction.is_empty()) && exponent_ok
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn manifests_become_the_json_that_kubectl_would_send() {
        let text = b"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  k: \"1\"\n  t: |\n    x\nimmutable: true\nn: [1, 1.5, ~]\n";
        let parsed = parse(text).expect("parses");
        assert_eq!(
            parsed.value,
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"},
                   "data": {"k": "1", "t": "x\n"}, "immutable": true, "n": [1, 1.5, null]})
        );
        assert_eq!(parsed.duplicates, Vec::<String>::new());
    }

    #[test]
    fn duplicate_keys_are_reported_and_the_last_wins() {
        let parsed = parse(b"data:\n  a: 1\n  a: 2\nl:\n- {x: 1, x: 2}\n").expect("parses");
        assert_eq!(parsed.value, json!({"data": {"a": 2}, "l": [{"x": 2}]}));
        assert_eq!(parsed.duplicates, ["data.a", "l[0].x"]);
    }

    #[test]
    fn several_documents_and_broken_ones_are_refused() {
        for text in ["a: 1\n---\nb: 2\n", "a: [", "a: \u{1}", "? {a: b}\n: c\n"] {
            let error = parse(text.as_bytes()).expect_err(text);
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn aliases_expand_within_bounds_only() {
        assert_eq!(parse(b"a: &x {k: v}\nb: *x\n").expect("parses").value, json!({"a": {"k": "v"}, "b": {"k": "v"}}));
        let mut bomb = String::from("a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
        for i in 1..10 {
            let before = format!("*a{}", i - 1);
            let _ = writeln!(bomb, "a{i}: &a{i} [{}]", vec![before; 9].join(", "));
        }
        assert!(parse(bomb.as_bytes()).is_err());
    }

    #[test]
    fn plain_scalars_follow_the_core_schema() {
        let rows = [
            ("1", json!(1)),
            ("-7", json!(-7)),
            ("0x1f", json!(31)),
            ("0o17", json!(15)),
            ("1.50", json!(1.5)),
            ("1e3", json!(1000)),
            (".5", json!(0.5)),
            ("yes", json!("yes")),
            ("1.2.3", json!("1.2.3")),
            ("0x", json!("0x")),
            ("e5", json!("e5")),
            (".", json!(".")),
            ("2026-01-02", json!("2026-01-02")),
            ("\"1\"", json!("1")),
            ("!!str 1", json!("1")),
            ("null", json!(null)),
        ];
        for (text, expected) in rows {
            assert_eq!(parse(format!("a: {text}\n").as_bytes()).map(|p| p.value), Ok(json!({"a": expected})), "{text}");
        }
        assert!(parse(b"a: .nan\n").is_err());
    }

    #[test]
    fn merge_keys_fill_in_what_is_missing() {
        let parsed = parse(b"base: &b {x: 1, y: 2}\nuse:\n  <<: *b\n  y: 3\n").expect("parses");
        assert_eq!(parsed.value["use"], json!({"x": 1, "y": 3}));
    }

    #[test]
    fn deep_nesting_is_refused_and_costs_no_thread_stack() {
        let flow = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
        assert!(parse(flow(200).as_bytes()).is_ok());
        assert!(parse(flow(5000).as_bytes()).is_err());
        let block: String = (0..2000).fold(String::new(), |mut text, i| {
            let _ = writeln!(text, "{}a:", " ".repeat(i));
            text
        });
        assert!(parse(block.as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn json_is_yaml_too(value in proptest::collection::btree_map("[a-z]{1,3}", "[ -~]{0,6}", 0..5)) {
            let value = Value::from_iter(value);
            let parsed = parse(value.to_string().as_bytes());
            prop_assert_eq!(parsed.map(|p| p.value), Ok(value));
        }
    }
}
