//! JSON reader for request bodies.
//!
//! Differs from `serde_json` where Kubernetes clients can see it: syntax errors in Go's words, duplicate keys
//! reported with their path (the last one wins), integral floats such as `1.0` become integers as they do in
//! upstream's output. It keeps its own stack, so that 512 levels cost no thread stack.
// SPEC 60 §7, §22.2, §23

use std::fmt::{self, Write as _};

use serde_json::{Map, Number, Value};

/// Deepest nesting of a body (SPEC 60 §23).
pub const MAX_DEPTH: usize = 512;

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
    let mut reader = Reader { bytes, at: 0, stack: Vec::new(), duplicates: Vec::new() };
    let value = reader.document()?;
    Ok(Parsed { value, duplicates: reader.duplicates })
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

enum Frame {
    Object { map: Map<String, Value>, key: String },
    Array(Vec<Value>),
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Frame>,
    duplicates: Vec<String>,
}

fn ended() -> SyntaxError {
    SyntaxError("unexpected end of JSON input".to_owned())
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

fn unexpected(byte: u8, place: &str) -> SyntaxError {
    SyntaxError(format!("invalid character {} {place}", quote(byte)))
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    /// Next byte that is no space, without taking it.
    fn next(&mut self) -> Result<u8, SyntaxError> {
        self.skip_space();
        self.peek().ok_or_else(ended)
    }

    fn document(&mut self) -> Result<Value, SyntaxError> {
        loop {
            // Down: a value starts here. Opening brackets push a frame and go on.
            let value = match self.next()? {
                b'{' => {
                    self.open()?;
                    if self.next()? == b'}' {
                        self.at += 1;
                        Some(Value::Object(Map::new()))
                    } else {
                        let key = self.key()?;
                        self.stack.push(Frame::Object { map: Map::new(), key });
                        None
                    }
                }
                b'[' => {
                    self.open()?;
                    if self.next()? == b']' {
                        self.at += 1;
                        Some(Value::Array(Vec::new()))
                    } else {
                        self.stack.push(Frame::Array(Vec::new()));
                        None
                    }
                }
                b'"' => Some(Value::String(self.string()?)),
                b't' => Some(self.literal("true", Value::Bool(true))?),
                b'f' => Some(self.literal("false", Value::Bool(false))?),
                b'n' => Some(self.literal("null", Value::Null)?),
                b'-' | b'0'..=b'9' => Some(self.number()?),
                other => return Err(unexpected(other, "looking for beginning of value")),
            };
            let Some(value) = value else { continue };
            if let Some(done) = self.close(value)? {
                return Ok(done);
            }
        }
    }

    fn open(&mut self) -> Result<(), SyntaxError> {
        if self.stack.len() >= MAX_DEPTH {
            return Err(SyntaxError("exceeded max depth".to_owned()));
        }
        self.at += 1;
        Ok(())
    }

    /// Up: hands a finished value to its parent, until a parent expects another value (`None`) or all is read.
    fn close(&mut self, value: Value) -> Result<Option<Value>, SyntaxError> {
        let mut value = value;
        loop {
            match self.stack.pop() {
                None => {
                    self.skip_space();
                    return match self.peek() {
                        None => Ok(Some(value)),
                        Some(byte) => Err(unexpected(byte, "after top-level value")),
                    };
                }
                Some(Frame::Array(mut list)) => {
                    list.push(value);
                    match self.next()? {
                        b',' => {
                            self.at += 1;
                            self.stack.push(Frame::Array(list));
                            return Ok(None);
                        }
                        b']' => {
                            self.at += 1;
                            value = Value::Array(list);
                        }
                        other => return Err(unexpected(other, "after array element")),
                    }
                }
                Some(Frame::Object { mut map, key }) => {
                    if map.contains_key(&key) {
                        self.note_duplicate(&key);
                    }
                    map.insert(key, value);
                    match self.next()? {
                        b',' => {
                            self.at += 1;
                            let key = self.key()?;
                            self.stack.push(Frame::Object { map, key });
                            return Ok(None);
                        }
                        b'}' => {
                            self.at += 1;
                            value = Value::Object(map);
                        }
                        other => return Err(unexpected(other, "after object key:value pair")),
                    }
                }
            }
        }
    }

    fn note_duplicate(&mut self, key: &str) {
        if self.duplicates.len() >= MAX_DUPLICATES {
            return;
        }
        let mut path = String::new();
        for frame in &self.stack {
            match frame {
                Frame::Object { key, .. } => {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.push_str(key);
                }
                Frame::Array(list) => {
                    let _ = write!(path, "[{}]", list.len());
                }
            }
        }
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(key);
        if !self.duplicates.contains(&path) {
            self.duplicates.push(path);
        }
    }

    /// A key and its colon.
    fn key(&mut self) -> Result<String, SyntaxError> {
        match self.next()? {
            b'"' => {}
            other => return Err(unexpected(other, "looking for beginning of object key string")),
        }
        let key = self.string()?;
        match self.next()? {
            b':' => {
                self.at += 1;
                Ok(key)
            }
            other => Err(unexpected(other, "after object key")),
        }
    }

    fn literal(&mut self, word: &str, value: Value) -> Result<Value, SyntaxError> {
        for expected in word.bytes() {
            match self.peek() {
                Some(byte) if byte == expected => self.at += 1,
                Some(byte) => {
                    let place = format!("in literal {word} (expecting {})", quote(expected));
                    return Err(unexpected(byte, &place));
                }
                None => return Err(ended()),
            }
        }
        Ok(value)
    }

    fn digits(&mut self, place: &str) -> Result<(), SyntaxError> {
        match self.peek() {
            Some(b'0'..=b'9') => {}
            Some(byte) => return Err(unexpected(byte, place)),
            None => return Err(ended()),
        }
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Result<Value, SyntaxError> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let mut is_integer = true;
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits("in numeric literal")?;
        }
        if self.peek() == Some(b'.') {
            is_integer = false;
            self.at += 1;
            self.digits("after decimal point in numeric literal")?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            is_integer = false;
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits("in exponent of numeric literal")?;
        }
        let text = self.bytes.get(start..self.at).and_then(|b| std::str::from_utf8(b).ok()).unwrap_or_default();
        if is_integer && let Ok(number) = text.parse::<i64>() {
            return Ok(number.into());
        }
        let float: f64 = text.parse().unwrap_or(f64::INFINITY);
        number_from_float(float).ok_or_else(|| {
            let shown: String = text.chars().take(40).collect();
            SyntaxError(format!("json: cannot unmarshal number {shown} into Go value of type float64"))
        })
    }

    fn string(&mut self) -> Result<String, SyntaxError> {
        self.at += 1;
        let mut out: Vec<u8> = Vec::new();
        loop {
            let start = self.at;
            while let Some(byte) = self.peek() {
                if byte == b'"' || byte == b'\\' || byte < 0x20 {
                    break;
                }
                self.at += 1;
            }
            out.extend_from_slice(self.bytes.get(start..self.at).unwrap_or_default());
            match self.peek() {
                None => return Err(ended()),
                Some(b'"') => {
                    self.at += 1;
                    // Go replaces what is no UTF-8; so do we.
                    return Ok(
                        String::from_utf8(out).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
                    );
                }
                Some(b'\\') => {
                    self.at += 1;
                    self.escape(&mut out)?;
                }
                Some(byte) => return Err(unexpected(byte, "in string literal")),
            }
        }
    }

    fn escape(&mut self, out: &mut Vec<u8>) -> Result<(), SyntaxError> {
        let byte = self.peek().ok_or_else(ended)?;
        self.at += 1;
        match byte {
            b'"' | b'\\' | b'/' => out.push(byte),
            b'b' => out.push(0x08),
            b'f' => out.push(0x0c),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'u' => {
                let first = self.hex()?;
                let character = match first {
                    0xd800..=0xdbff if self.bytes.get(self.at..self.at + 2) == Some(br"\u") => {
                        let back = self.at;
                        self.at += 2;
                        let second = self.hex()?;
                        if (0xdc00..=0xdfff).contains(&second) {
                            char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00))
                        } else {
                            self.at = back;
                            None
                        }
                    }
                    other => char::from_u32(other),
                };
                let character = character.unwrap_or(char::REPLACEMENT_CHARACTER);
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            other => return Err(unexpected(other, "in string escape code")),
        }
        Ok(())
    }

    fn hex(&mut self) -> Result<u32, SyntaxError> {
        let mut value = 0;
        for _ in 0..4 {
            let byte = self.peek().ok_or_else(ended)?;
            let digit =
                char::from(byte).to_digit(16).ok_or_else(|| unexpected(byte, "in \\u hexadecimal character escape"))?;
            value = value * 16 + digit;
            self.at += 1;
        }
        Ok(value)
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
            ("tru ", "invalid character ' ' in literal true (expecting 'e')"),
            ("\"a\nb\"", "invalid character '\\n' in string literal"),
            ("\"\\x\"", "invalid character 'x' in string escape code"),
            ("\"\\u12g4\"", "invalid character 'g' in \\u hexadecimal character escape"),
            ("-x", "invalid character 'x' in numeric literal"),
            ("1.x", "invalid character 'x' after decimal point in numeric literal"),
            ("01", "invalid character '1' after top-level value"),
            ("1e999", "json: cannot unmarshal number 1e999 into Go value of type float64"),
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
    fn nesting_is_bounded_without_using_the_thread_stack() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        let parsed = parse(nested(512).as_bytes()).expect("512 levels are fine");
        assert_eq!(depth(&parsed.value), 512);
        assert_eq!(error(&nested(513)), "exceeded max depth");
        assert_eq!(error(&"[".repeat(3_000_000)), "exceeded max depth");
    }

    #[test]
    fn integral_floats_become_integers_and_large_integers_stay_close() {
        assert_eq!(parse(b"[1.0, 1e2, -0.0, 1.5]").expect("parses").value, json!([1, 100, 0, 1.5]));
        assert_eq!(parse(b"9223372036854775807").expect("parses").value, json!(i64::MAX));
        assert!(parse(b"9223372036854775808").expect("parses").value.is_f64());
    }

    #[test]
    fn broken_surrogates_and_bytes_become_the_replacement_character() {
        assert_eq!(parse(br#""\ud83d\ude00""#).expect("parses").value, json!("😀"));
        assert_eq!(parse(br#""\ud83d\u0041\udc00""#).expect("parses").value, json!("\u{fffd}A\u{fffd}"));
        assert_eq!(parse(b"\"a\xffb\"").expect("parses").value, json!("a\u{fffd}b"));
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
