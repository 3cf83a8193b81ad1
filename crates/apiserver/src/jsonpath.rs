//! The JSON path dialect of Kubernetes, as printer columns, selectable fields and scale paths use it.
//!
//! ```text
//! .spec.size              a field; a backslash takes the next character literally: .metadata.labels.a\.b
//! .metadata['a.b']        a field with any name
//! .spec.list[0] [-1] [1:3] [*] [0,2]
//! .status.conditions[?(@.type=="Ready")].status      == != < <= > >=, or alone: the path exists
//! ..name                  the field at any depth
//! ```
//!
//! Missing fields give no result, never an error.

use std::cmp::Ordering;

use serde_json::Value;

/// Filters inside filters at most.
const MAX_NESTING: usize = 8;
/// Results (and intermediate results) at most; `..` could otherwise multiply them.
const MAX_RESULTS: usize = 10_000;

/// What is wrong with a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} at byte {at}")]
pub struct JsonPathError {
    message: &'static str,
    at: usize,
}

/// A parsed path.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonPath {
    steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Field(String),
    /// `[start:end:step]`; a plain index is a slice of one.
    Slice(Slice),
    Every,
    /// The value itself and everything below.
    Descend,
    Union(Vec<Self>),
    Filter(Filter),
}

#[derive(Debug, Clone, PartialEq)]
struct Slice {
    start: Option<i64>,
    end: Option<i64>,
    step: usize,
}

#[derive(Debug, Clone, PartialEq)]
struct Filter {
    left: Operand,
    /// Without a comparison, the left path must exist.
    comparison: Option<(Comparison, Operand)>,
}

#[derive(Debug, Clone, PartialEq)]
enum Operand {
    /// Relative to the element under test.
    Path(Vec<Step>),
    Literal(Value),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl JsonPath {
    /// Parses a path that starts with `.` or `[` (`$` in front is allowed).
    ///
    /// # Errors
    /// Where the text stops being a path.
    pub fn parse(text: &str) -> Result<Self, JsonPathError> {
        let mut parser = Parser { text, at: 0 };
        parser.take('$');
        let steps = parser.steps(0)?;
        if parser.at < text.len() {
            return Err(parser.error("unexpected character"));
        }
        Ok(Self { steps })
    }

    /// All values that the path leads to, in document order.
    pub fn find<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        walk(&self.steps, value)
    }

    /// The first value that the path leads to.
    pub fn first<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        // Nearly all paths are plain fields: these need no list of results.
        let mut current = value;
        for step in &self.steps {
            let Step::Field(name) = step else { return self.find(value).into_iter().next() };
            current = current.get(name)?;
        }
        Some(current)
    }

    /// The names of a path that consists of fields only, such as scale paths and selectable fields must be.
    pub fn fields(&self) -> Option<Vec<&str>> {
        self.steps
            .iter()
            .map(|step| match step {
                Step::Field(name) => Some(name.as_str()),
                Step::Slice(_) | Step::Every | Step::Descend | Step::Union(_) | Step::Filter(_) => None,
            })
            .collect()
    }
}

/// A value as `kubectl -o jsonpath` prints it: strings bare, the rest as JSON.
pub fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn error(&self, message: &'static str) -> JsonPathError {
        JsonPathError { message, at: self.at }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn take(&mut self, expected: char) -> bool {
        let found = self.peek() == Some(expected);
        if found {
            self.at += expected.len_utf8();
        }
        found
    }

    fn take_text(&mut self, expected: &str) -> bool {
        let found = self.rest().starts_with(expected);
        if found {
            self.at += expected.len();
        }
        found
    }

    fn skip_blanks(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn expect(&mut self, expected: char, message: &'static str) -> Result<(), JsonPathError> {
        if self.take(expected) { Ok(()) } else { Err(self.error(message)) }
    }

    fn steps(&mut self, nesting: usize) -> Result<Vec<Step>, JsonPathError> {
        let mut steps = Vec::new();
        loop {
            if self.take('[') {
                steps.push(self.bracket(nesting)?);
            } else if self.take_text("..") {
                steps.push(Step::Descend);
                if self.peek() != Some('[') {
                    steps.push(self.name()?);
                }
            } else if self.take('.') {
                // A single dot is the object itself.
                if !matches!(self.peek(), None | Some('[')) {
                    steps.push(self.name()?);
                }
            } else {
                return Ok(steps);
            }
        }
    }

    fn name(&mut self) -> Result<Step, JsonPathError> {
        if self.take('*') {
            return Ok(Step::Every);
        }
        let mut name = String::new();
        while let Some(c) = self.peek() {
            if c == '\\' {
                self.at += 1;
                let escaped = self.peek().ok_or_else(|| self.error("nothing follows the backslash"))?;
                name.push(escaped);
                self.at += escaped.len_utf8();
                continue;
            }
            if c.is_whitespace() || ".,[]$@{}()=!<>'\"?".contains(c) {
                break;
            }
            name.push(c);
            self.at += c.len_utf8();
        }
        if name.is_empty() { Err(self.error("a field name must follow the dot")) } else { Ok(Step::Field(name)) }
    }

    /// What stands between `[` (consumed) and `]`.
    fn bracket(&mut self, nesting: usize) -> Result<Step, JsonPathError> {
        self.skip_blanks();
        if self.take('?') {
            if nesting >= MAX_NESTING {
                return Err(self.error("filters are nested too deep"));
            }
            self.expect('(', "a filter starts with `?(`")?;
            let filter = self.filter(nesting + 1)?;
            self.expect(')', "the filter is not closed")?;
            self.skip_blanks();
            self.expect(']', "the bracket is not closed")?;
            return Ok(Step::Filter(filter));
        }
        let mut members = Vec::new();
        loop {
            self.skip_blanks();
            members.push(match self.peek() {
                Some('*') => {
                    self.at += 1;
                    Step::Every
                }
                Some(quote @ ('\'' | '"')) => Step::Field(self.quoted(quote)?),
                _ => Step::Slice(self.slice()?),
            });
            self.skip_blanks();
            if self.take(']') {
                break;
            }
            self.expect(',', "the bracket is not closed")?;
        }
        Ok(if members.len() == 1 { members.swap_remove(0) } else { Step::Union(members) })
    }

    fn quoted(&mut self, quote: char) -> Result<String, JsonPathError> {
        self.at += 1;
        let mut out = String::new();
        while let Some(c) = self.peek() {
            self.at += c.len_utf8();
            if c == quote {
                return Ok(out);
            }
            if c == '\\' {
                let escaped = self.peek().ok_or_else(|| self.error("nothing follows the backslash"))?;
                self.at += escaped.len_utf8();
                out.push(escaped);
            } else {
                out.push(c);
            }
        }
        Err(self.error("the string is not closed"))
    }

    fn slice(&mut self) -> Result<Slice, JsonPathError> {
        let start = self.integer()?;
        if !self.take(':') {
            let start = start.ok_or_else(|| self.error("expected an index, a quoted name, `*` or `?(`"))?;
            // The element after the last one is number 0 from the other side.
            let end = (start != -1).then_some(start.saturating_add(1));
            return Ok(Slice { start: Some(start), end, step: 1 });
        }
        let end = self.integer()?;
        let step = if self.take(':') { self.integer()?.unwrap_or(1) } else { 1 };
        let step = usize::try_from(step).ok().filter(|step| *step > 0);
        let step = step.ok_or_else(|| self.error("the step must be greater than 0"))?;
        Ok(Slice { start, end, step })
    }

    fn integer(&mut self) -> Result<Option<i64>, JsonPathError> {
        let rest = self.rest();
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '-').unwrap_or(rest.len());
        let digits = rest.get(..end).unwrap_or_default();
        if digits.is_empty() {
            return Ok(None);
        }
        let number = digits.parse().map_err(|_| self.error("not a valid index"))?;
        self.at += end;
        Ok(Some(number))
    }

    fn filter(&mut self, nesting: usize) -> Result<Filter, JsonPathError> {
        let left = self.operand(nesting)?;
        self.skip_blanks();
        let comparison = [
            ("==", Comparison::Equal),
            ("!=", Comparison::NotEqual),
            ("<=", Comparison::LessOrEqual),
            (">=", Comparison::GreaterOrEqual),
            ("<", Comparison::Less),
            (">", Comparison::Greater),
        ]
        .into_iter()
        .find(|(sign, _)| self.take_text(sign));
        let comparison = match comparison {
            Some((_, comparison)) => Some((comparison, self.operand(nesting)?)),
            None => None,
        };
        self.skip_blanks();
        Ok(Filter { left, comparison })
    }

    fn operand(&mut self, nesting: usize) -> Result<Operand, JsonPathError> {
        self.skip_blanks();
        if let Some(quote @ ('\'' | '"')) = self.peek() {
            return Ok(Operand::Literal(Value::String(self.quoted(quote)?)));
        }
        if self.take('@') || matches!(self.peek(), Some('.' | '[')) {
            return Ok(Operand::Path(self.steps(nesting)?));
        }
        let rest = self.rest();
        let end = rest.find(|c: char| c.is_whitespace() || ")=!<>".contains(c)).unwrap_or(rest.len());
        let word = rest.get(..end).unwrap_or_default();
        // Numbers, `true`, `false` and `null` are written as in JSON.
        match serde_json::from_str(word) {
            Ok(literal) => {
                self.at += end;
                Ok(Operand::Literal(literal))
            }
            Err(_) => Err(self.error("expected a path, a quoted string, a number or a boolean")),
        }
    }
}

fn walk<'a>(steps: &[Step], value: &'a Value) -> Vec<&'a Value> {
    let mut current = vec![value];
    for step in steps {
        let mut next = Vec::new();
        for value in current {
            step.apply(value, &mut next);
            if next.len() >= MAX_RESULTS {
                next.truncate(MAX_RESULTS);
                break;
            }
        }
        current = next;
    }
    current
}

impl Step {
    fn apply<'a>(&self, value: &'a Value, out: &mut Vec<&'a Value>) {
        match self {
            Self::Field(name) => out.extend(value.get(name)),
            Self::Every => match value {
                Value::Array(items) => out.extend(items),
                Value::Object(map) => out.extend(map.values()),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            },
            Self::Descend => descend(value, out),
            Self::Union(members) => {
                for member in members {
                    member.apply(value, out);
                }
            }
            Self::Slice(slice) => {
                let Value::Array(items) = value else { return };
                let position = |bound: i64| match usize::try_from(bound) {
                    Ok(bound) => bound.min(items.len()),
                    Err(_) => items.len().saturating_sub(usize::try_from(bound.unsigned_abs()).unwrap_or(usize::MAX)),
                };
                let (start, end) = (slice.start.map_or(0, position), slice.end.map_or(items.len(), position));
                if start < end {
                    out.extend(items.get(start..end).into_iter().flatten().step_by(slice.step));
                }
            }
            Self::Filter(filter) => match value {
                Value::Array(items) => out.extend(items.iter().filter(|item| filter.holds(item))),
                Value::Object(map) => out.extend(map.values().filter(|item| filter.holds(item))),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            },
        }
    }
}

fn descend<'a>(value: &'a Value, out: &mut Vec<&'a Value>) {
    if out.len() >= MAX_RESULTS {
        return;
    }
    out.push(value);
    match value {
        Value::Array(items) => items.iter().for_each(|item| descend(item, out)),
        Value::Object(map) => map.values().for_each(|item| descend(item, out)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

impl Filter {
    fn holds(&self, element: &Value) -> bool {
        let Some(left) = self.left.value(element) else { return false };
        let Some((comparison, right)) = &self.comparison else { return true };
        let Some(right) = right.value(element) else { return false };
        match comparison {
            Comparison::Equal => left == right,
            Comparison::NotEqual => left != right,
            Comparison::Less => order(left, right).is_some_and(Ordering::is_lt),
            Comparison::LessOrEqual => order(left, right).is_some_and(Ordering::is_le),
            Comparison::Greater => order(left, right).is_some_and(Ordering::is_gt),
            Comparison::GreaterOrEqual => order(left, right).is_some_and(Ordering::is_ge),
        }
    }
}

impl Operand {
    fn value<'a>(&'a self, element: &'a Value) -> Option<&'a Value> {
        match self {
            Self::Literal(value) => Some(value),
            Self::Path(steps) => walk(steps, element).into_iter().next(),
        }
    }
}

fn order(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Number(a), Value::Number(b)) => a.as_f64()?.partial_cmp(&b.as_f64()?),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::JsonPath;

    fn object() -> Value {
        json!({
            "metadata": {"name": "a", "labels": {"a.b/c": "dotted"}},
            "spec": {"size": 3, "list": [10, 20, 30, 40], "hosts": [{"name": "x", "n": 1}, {"name": "y", "n": 2}]},
            "status": {"conditions": [
                {"type": "Synced", "status": "False"}, {"type": "Ready", "status": "True"}]},
        })
    }

    #[track_caller]
    fn check(path: &str, expected: &Value) {
        let object = object();
        let parsed = JsonPath::parse(path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let found = parsed.find(&object);
        assert_eq!(json!(found), *expected, "{path}");
        assert_eq!(parsed.first(&object), found.first().copied(), "{path}");
    }

    #[test]
    fn paths_lead_to_values() {
        check(".metadata.name", &json!(["a"]));
        check("$.metadata.name", &json!(["a"]));
        check(".spec.size", &json!([3]));
        check(".spec.missing.deeper", &json!([]));
        check(".spec.size.deeper", &json!([]));
        check(".metadata.labels.a\\.b/c", &json!(["dotted"]));
        check(".metadata.labels['a.b/c']", &json!(["dotted"]));
        check(".metadata[\"labels\"]['a.b/c']", &json!(["dotted"]));
        check(".spec.list[0]", &json!([10]));
        check(".spec.list[-1]", &json!([40]));
        check(".spec.list[-2]", &json!([30]));
        check(".spec.list[-5]", &json!([]));
        check(".spec.list[9]", &json!([]));
        check(".spec.list[1:3]", &json!([20, 30]));
        check(".spec.list[:-1]", &json!([10, 20, 30]));
        check(".spec.list[::2]", &json!([10, 30]));
        check(".spec.list[0,2]", &json!([10, 30]));
        check(".spec.list[*]", &json!([10, 20, 30, 40]));
        check(".spec.hosts[*].name", &json!(["x", "y"]));
        check(".spec.hosts.*.name", &json!(["x", "y"]));
        check("..n", &json!([1, 2]));
        check(".status.conditions[?(@.type==\"Ready\")].status", &json!(["True"]));
        check(".status.conditions[?(@.type == 'Ready')].status", &json!(["True"]));
        check(".status.conditions[?(@.type!='Ready')].type", &json!(["Synced"]));
        check(".status.conditions[?(@.reason)].type", &json!([]));
        check(".spec.hosts[?(@.n>1)].name", &json!(["y"]));
        check(".spec.hosts[?(@.n<=1)].name", &json!(["x"]));
        check(".spec.hosts[?(@.name=='z')].name", &json!([]));
    }

    #[test]
    fn broken_paths_are_refused() {
        for path in [
            ".a[",
            ".a[]",
            ".a[x]",
            ".a['x]",
            "a",
            ".a b",
            "...a",
            ".a[?(@.b==]",
            ".a[?(@.b==c)]",
            ".a[?@.b]",
            ".a\\",
            ".a[1:2:0]",
            ".a[?(@.b)",
            ".a[99999999999999999999]",
        ] {
            assert!(JsonPath::parse(path).is_err(), "{path}");
        }
        let nested = format!(".a{}{}", "[?(@.a".repeat(20), ")]".repeat(20));
        assert!(JsonPath::parse(&nested).is_err());
    }

    #[test]
    fn only_plain_paths_have_field_names() {
        assert_eq!(JsonPath::parse(".spec.replicas").unwrap().fields(), Some(vec!["spec", "replicas"]));
        assert_eq!(JsonPath::parse(".spec.list[0]").unwrap().fields(), None);
    }
}
