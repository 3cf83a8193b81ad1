//! JSON reader for request bodies: `serde_json` with what Kubernetes clients can see on top.
//!
//! Syntax errors come in Go's words, duplicate keys are reported with their path (the last one wins), nesting is
//! bounded at 512 levels, and integral floats such as `1.0` become integers as they do in upstream's output.
// SPEC 60 §7, §22.2, §23

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Deepest nesting of a body (SPEC 60 §23).
pub const MAX_DEPTH: usize = 512;

const TOO_DEEP: &str = "exceeded max depth";

/// Most duplicate keys that are reported for one body.
const MAX_DUPLICATES: usize = 100;

/// A parsed body.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// The value; of equal keys the last one.
    pub value: Value,
    /// Paths of keys that occurred more than once, such as `data.a` or `spec.ports[0].name`.
    pub duplicates: Vec<String>,
}

/// Why a body is no JSON, in the words of Go's `encoding/json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntaxError(String);

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SyntaxError {}

/// Parses exactly one JSON value.
pub fn parse(bytes: &[u8]) -> Result<Parsed, SyntaxError> {
    let mut duplicates = Vec::new();
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    // The library stops at 128 levels; `Node` counts to ours.
    reader.disable_recursion_limit();
    let value = Node { place: None, depth: 0, duplicates: &mut duplicates }
        .deserialize(&mut reader)
        .and_then(|value| reader.end().map(|()| value))
        .map_err(|error| in_go_words(&error, bytes))?;
    Ok(Parsed { value, duplicates })
}

/// Levels of objects and lists in `value`; a scalar has 0.
pub fn depth(value: &Value) -> usize {
    let mut deepest = 0;
    let mut open = vec![(value, 0)];
    while let Some((value, level)) = open.pop() {
        deepest = deepest.max(level);
        match value {
            Value::Object(map) => {
                deepest = deepest.max(level + 1);
                open.extend(map.values().map(|v| (v, level + 1)));
            }
            Value::Array(list) => {
                deepest = deepest.max(level + 1);
                open.extend(list.iter().map(|v| (v, level + 1)));
            }
            _ => {}
        }
    }
    deepest
}

/// About the bytes that `value` takes as JSON.
pub(crate) fn size(value: &Value) -> usize {
    let mut total = 0;
    let mut open = vec![value];
    while let Some(value) = open.pop() {
        total += 8;
        match value {
            Value::String(text) => total += text.len(),
            Value::Array(list) => open.extend(list),
            Value::Object(map) => {
                total += map.keys().map(|k| k.len() + 4).sum::<usize>();
                open.extend(map.values());
            }
            _ => {}
        }
    }
    total
}

/// Where a value is; turned into text only for a duplicate key.
#[derive(Clone, Copy)]
struct Place<'a> {
    parent: Option<&'a Self>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.step {
            Step::Key(key) if self.parent.is_none() => f.write_str(key),
            Step::Key(key) => write!(f, ".{key}"),
            Step::Index(index) => write!(f, "[{index}]"),
        }
    }
}

/// Builds one value; `depth` containers are open around it.
struct Node<'a> {
    place: Option<&'a Place<'a>>,
    depth: usize,
    duplicates: &'a mut Vec<String>,
}

impl Node<'_> {
    /// Refuses one more level before the reader recurses into it.
    fn deeper<E: Error>(&self) -> Result<usize, E> {
        if self.depth >= MAX_DEPTH { Err(E::custom(TOO_DEEP)) } else { Ok(self.depth + 1) }
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        #[expect(clippy::cast_precision_loss, reason = "upstream's integers are 64-bit signed, larger ones floats")]
        Ok(i64::try_from(value).map_or_else(|_| Value::from(value as f64), Value::from))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        number_from_float(value).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let depth = self.deeper()?;
        let mut list = Vec::new();
        loop {
            let place = Place { parent: self.place, step: Step::Index(list.len()) };
            let node = Node { place: Some(&place), depth, duplicates: self.duplicates };
            match elements.next_element_seed(node)? {
                Some(element) => list.push(element),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let depth = self.deeper()?;
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let place = Place { parent: self.place, step: Step::Key(&key) };
            let node = Node { place: Some(&place), depth, duplicates: self.duplicates };
            let value = entries.next_value_seed(node)?;
            if map.contains_key(&key) && self.duplicates.len() < MAX_DUPLICATES {
                let path = place.to_string();
                if !self.duplicates.contains(&path) {
                    self.duplicates.push(path);
                }
            }
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

/// Says in the words of Go what `serde_json` found wrong.
fn in_go_words(error: &serde_json::Error, bytes: &[u8]) -> SyntaxError {
    let text = error.to_string();
    let text = text.split(" at line ").next().unwrap_or_default();
    if error.is_eof() {
        return SyntaxError("unexpected end of JSON input".to_owned());
    }
    if text == TOO_DEEP {
        return SyntaxError(TOO_DEEP.to_owned());
    }
    if text == "number out of range" {
        return SyntaxError("json: cannot unmarshal number into Go value of type float64".to_owned());
    }
    let at = bytes
        .split_inclusive(|b| *b == b'\n')
        .take(error.line().saturating_sub(1))
        .map(<[u8]>::len)
        .sum::<usize>()
        // A line break in the wrong place counts as column 0 of the next line.
        .saturating_add(error.column())
        .saturating_sub(1);
    let Some(byte) = bytes.get(at) else { return SyntaxError("unexpected end of JSON input".to_owned()) };
    // The library reads the four digits of \u at once.
    if let Some([b'\\', b'u', digits @ ..]) = at.checked_sub(5).and_then(|start| bytes.get(start..=at))
        && let Some(byte) = digits.iter().find(|b| !b.is_ascii_hexdigit())
        && text == "invalid escape"
    {
        return SyntaxError(format!("invalid character {} in \\u hexadecimal character escape", quote(*byte)));
    }
    let place = match text {
        "key must be a string" => "looking for beginning of object key string",
        "expected `:`" => "after object key",
        "expected `,` or `}`" => "after object key:value pair",
        "expected `,` or `]`" => "after array element",
        "trailing characters" => "after top-level value",
        "trailing comma" if *byte == b'}' => "looking for beginning of object key string",
        "expected value" | "trailing comma" => "looking for beginning of value",
        "expected ident" => "in literal",
        "invalid number" => "in numeric literal",
        "invalid escape" => "in string escape code",
        _ => "in string literal",
    };
    SyntaxError(format!("invalid character {} {place}", quote(*byte)))
}

/// Go's way to print one offending byte.
fn quote(byte: u8) -> String {
    match byte {
        b'\'' => r"'\''".to_owned(),
        b'"' => "'\"'".to_owned(),
        b'\n' => r"'\n'".to_owned(),
        b'\r' => r"'\r'".to_owned(),
        b'\t' => r"'\t'".to_owned(),
        b'\\' => r"'\\'".to_owned(),
        0x00..=0x1f | 0x7f => format!("'\\x{byte:02x}'"),
        // Go converts the byte, not the character, to a rune.
        _ => format!("'{}'", char::from(byte)),
    }
}

/// A JSON number from a float: integral values up to 2^53 become integers, since upstream prints them so.
pub(crate) fn number_from_float(float: f64) -> Option<Value> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if float.fract() == 0.0 && float.abs() <= EXACT {
        #[expect(clippy::cast_possible_truncation, reason = "integral and within 2^53, so the cast is exact")]
        return Some(Value::from(float as i64));
    }
    Number::from_f64(float).map(Value::Number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn error(text: &str) -> String {
        parse(text.as_bytes()).expect_err(text).to_string()
    }

    #[test]
    fn syntax_errors_have_go_words() {
        let rows = [
            ("", "unexpected end of JSON input"),
            ("{", "unexpected end of JSON input"),
            ("{\"a\":", "unexpected end of JSON input"),
            ("x", "invalid character 'x' looking for beginning of value"),
            ("{a", "invalid character 'a' looking for beginning of object key string"),
            ("{\"a\" 1}", "invalid character '1' after object key"),
            ("{\"a\":1 \"b\"", "invalid character '\"' after object key:value pair"),
            ("{\"a\":1,}", "invalid character '}' looking for beginning of object key string"),
            ("[1 2]", "invalid character '2' after array element"),
            ("[1,]", "invalid character ']' looking for beginning of value"),
            ("{} x", "invalid character 'x' after top-level value"),
            ("tru ", "invalid character ' ' in literal"),
            ("\"a\nb\"", "invalid character '\\n' in string literal"),
            ("\"\\x\"", "invalid character 'x' in string escape code"),
            ("\"\\u12g4\"", "invalid character 'g' in \\u hexadecimal character escape"),
            ("-x", "invalid character 'x' in numeric literal"),
            ("1.x", "invalid character 'x' in numeric literal"),
            ("01", "invalid character '1' in numeric literal"),
            ("1e999", "json: cannot unmarshal number into Go value of type float64"),
        ];
        for (text, expected) in rows {
            assert_eq!(error(text), expected, "{text}");
        }
    }

    #[test]
    fn duplicate_keys_are_reported_with_their_path_and_the_last_wins() {
        let parsed = parse(br#"{"data":{"a":1,"a":2},"l":[{},{"x":1,"x":2,"x":3}],"data":{"b":1}}"#).expect("parses");
        assert_eq!(parsed.value, json!({"data": {"b": 1}, "l": [{}, {"x": 3}]}));
        assert_eq!(parsed.duplicates, ["data.a", "l[1].x", "data"]);
    }

    #[test]
    fn nesting_is_bounded_and_fits_a_thread_of_one_mebibyte() {
        let nested = |n: usize| format!("{}{}", "[{\"k\":".repeat(n / 2), "null") + &"}]".repeat(n / 2);
        let work = move || {
            let parsed = parse(nested(512).as_bytes()).expect("512 levels are fine");
            assert_eq!(depth(&parsed.value), 512);
            assert_eq!(error(&nested(514)), "exceeded max depth");
            assert_eq!(error(&"[".repeat(3_000_000)), "exceeded max depth");
        };
        // Tokio's threads have twice as much.
        std::thread::Builder::new().stack_size(1 << 20).spawn(work).expect("starts").join().expect("ends well");
    }

    #[test]
    fn integral_floats_become_integers_and_large_integers_stay_close() {
        assert_eq!(parse(b"[1.0, 1e2, -0.0, 1.5]").expect("parses").value, json!([1, 100, 0, 1.5]));
        assert_eq!(parse(b"9223372036854775807").expect("parses").value, json!(i64::MAX));
        assert!(parse(b"9223372036854775808").expect("parses").value.is_f64());
    }

    #[test]
    fn text_must_be_unicode() {
        assert_eq!(parse(br#""\ud83d\ude00""#).expect("parses").value, json!("😀"));
        assert!(parse(br#""\ud83d""#).is_err());
        assert!(parse(b"\"a\xffb\"").is_err());
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            (-1.0e9..1.0e9f64).prop_map(|f| Value::from(f + 0.5)),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                proptest::collection::btree_map(any::<String>(), inner, 0..5)
                    .prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_serde_json_writes_is_read_back(value in any_json()) {
            let compact = parse(value.to_string().as_bytes()).expect("parses");
            prop_assert_eq!(&compact.value, &value);
            let pretty = serde_json::to_vec_pretty(&value).expect("writes");
            prop_assert_eq!(parse(&pretty).expect("parses").value, value);
        }

        #[test]
        fn both_readers_agree_on_what_is_json(text in "[\\[\\]{}:,\"a0\\-.e \\\\n]{0,12}") {
            let theirs: Result<Value, _> = serde_json::from_str(&text);
            prop_assert_eq!(parse(text.as_bytes()).is_ok(), theirs.is_ok(), "{}", text);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = parse(&bytes);
        }
    }
}
