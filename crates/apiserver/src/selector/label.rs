//! `app=web,tier in (a, b),!old`: the label selector language.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::{Map, Value};

use crate::names;
use crate::status::{ApiError, FieldError};

/// Most terms of one selector (SPEC 60 §23, ours).
pub const MAX_TERMS: usize = 100;

/// A parsed label selector: all terms must hold. The empty selector matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelSelector {
    terms: Vec<Term>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Term {
    key: String,
    test: Test,
}

/// What a term asks of the value under its key.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    Exists,
    Absent,
    In(BTreeSet<String>),
    /// Also true when the key is absent, as upstream.
    NotIn(BTreeSet<String>),
}

impl LabelSelector {
    /// Parses the value of `labelSelector`; 400 with upstream's text when it cannot be understood.
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        let terms = Parser { tokens: tokens(text), next: 0 }.selector().map_err(ApiError::bad_request)?;
        if terms.len() > MAX_TERMS {
            return Err(ApiError::bad_request(format!(
                "the label selector has {} terms, at most {MAX_TERMS} are allowed",
                terms.len()
            )));
        }
        Ok(Self { terms })
    }

    /// True if nothing is asked.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// True if `metadata.labels` of `object` satisfies every term.
    pub fn matches(&self, object: &Value) -> bool {
        self.terms.is_empty()
            || self.matches_labels(object.get("metadata").and_then(|m| m.get("labels")).and_then(Value::as_object))
    }

    /// True if the labels satisfy every term; `None` stands for no labels.
    pub fn matches_labels(&self, labels: Option<&Map<String, Value>>) -> bool {
        self.terms.iter().all(|term| {
            let value = labels.and_then(|l| l.get(&term.key)).and_then(Value::as_str);
            match (&term.test, value) {
                (Test::Exists, found) => found.is_some(),
                (Test::Absent, found) => found.is_none(),
                (Test::In(set), Some(value)) => set.contains(value),
                (Test::In(_), None) => false,
                (Test::NotIn(set), Some(value)) => !set.contains(value),
                (Test::NotIn(_), None) => true,
            }
        })
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, Term { key, test }) in self.terms.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            let (word, set) = match test {
                Test::Exists => {
                    write!(f, "{key}")?;
                    continue;
                }
                Test::Absent => {
                    write!(f, "!{key}")?;
                    continue;
                }
                Test::In(set) => ("in", set),
                Test::NotIn(set) => ("notin", set),
            };
            let values: Vec<&str> = set.iter().map(String::as_str).collect();
            // The set of just the empty value needs its comma: `()` is refused.
            let list = if values == [""] { ",".to_owned() } else { values.join(",") };
            write!(f, "{key} {word} ({list})")?;
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    /// A word; `in` and `notin` are words too and get their meaning from their place.
    Word(&'a str),
    /// `=`, `==`, `!=`, `!`, `(`, `)`, `,` or an operator that we do not know.
    Mark(&'a str),
    End,
}

impl<'a> Token<'a> {
    fn text(self) -> &'a str {
        match self {
            Self::Word(text) | Self::Mark(text) => text,
            Self::End => "",
        }
    }
}

fn is_mark(c: char) -> bool {
    matches!(c, '=' | '!' | '(' | ')' | ',' | '<' | '>')
}

fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut out = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, after) = if is_mark(first) {
            let len = if rest.starts_with("==") || rest.starts_with("!=") { 2 } else { 1 };
            let (mark, after) = rest.split_at(len);
            (Token::Mark(mark), after)
        } else {
            let end = rest.find(|c: char| is_mark(c) || c.is_whitespace()).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            (Token::Word(word), after)
        };
        out.push(token);
        rest = after.trim_start();
    }
    out
}

struct Parser<'a> {
    tokens: Vec<Token<'a>>,
    next: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Token<'a> {
        self.tokens.get(self.next).copied().unwrap_or(Token::End)
    }

    fn take(&mut self) -> Token<'a> {
        let token = self.peek();
        self.next += 1;
        token
    }

    fn selector(mut self) -> Result<Vec<Term>, String> {
        let mut terms = Vec::new();
        if self.peek() == Token::End {
            return Ok(terms);
        }
        if !matches!(self.peek(), Token::Word(_) | Token::Mark("!")) {
            let found = self.peek().text();
            return Err(format!("found '{found}', expected: !, identifier, or 'end of string'"));
        }
        loop {
            terms.push(self.term().map_err(|problem| format!("unable to parse requirement: {problem}"))?);
            match self.take() {
                Token::End => return Ok(terms),
                Token::Mark(",") => {
                    if !matches!(self.peek(), Token::Word(_) | Token::Mark("!")) {
                        let found = self.peek().text();
                        return Err(format!("found '{found}', expected: identifier after ','"));
                    }
                }
                other => return Err(format!("found '{}', expected: ',' or 'end of string'", other.text())),
            }
        }
    }

    fn term(&mut self) -> Result<Term, String> {
        let negated = self.peek() == Token::Mark("!");
        if negated {
            self.take();
        }
        let Token::Word(key) = self.peek() else {
            return Err(format!("found '{}', expected: identifier", self.peek().text()));
        };
        self.take();
        let problems = names::qualified_name(key);
        if !problems.is_empty() {
            return Err(FieldError::invalid_str("", key, problems.join("; ")).to_string());
        }
        let key = key.to_owned();
        if matches!(self.peek(), Token::End | Token::Mark(",")) {
            return Ok(Term { key, test: if negated { Test::Absent } else { Test::Exists } });
        }
        if negated {
            return Err(format!("found '{}', expected: ',' or 'end of string'", self.peek().text()));
        }
        let operator = self.take();
        let (values, is_in) = match operator {
            Token::Word(word @ ("in" | "notin")) => (self.value_list()?, word == "in"),
            Token::Mark(mark @ ("=" | "==" | "!=")) => (self.one_value()?, mark != "!="),
            other => return Err(format!("found '{}', expected: in, notin, =, ==, !=", other.text())),
        };
        for (i, value) in values.iter().enumerate() {
            let problems = names::label_value(value);
            if !problems.is_empty() {
                let path = format!("values[{i}][{key}]");
                return Err(FieldError::invalid_str(path, value, problems.join("; ")).to_string());
            }
        }
        Ok(Term { key, test: if is_in { Test::In(values) } else { Test::NotIn(values) } })
    }

    /// The value behind `=`; nothing stands for the empty value.
    fn one_value(&mut self) -> Result<BTreeSet<String>, String> {
        match self.peek() {
            Token::End | Token::Mark(",") => Ok(BTreeSet::from([String::new()])),
            Token::Word(word) => {
                self.take();
                Ok(BTreeSet::from([word.to_owned()]))
            }
            Token::Mark(found) => Err(format!("found '{found}', expected: identifier")),
        }
    }

    /// `(a, b)`; missing words between commas are the empty value.
    fn value_list(&mut self) -> Result<BTreeSet<String>, String> {
        match self.take() {
            Token::Mark("(") => {}
            other => return Err(format!("found '{}' expected: '('", other.text())),
        }
        let mut values = BTreeSet::new();
        if self.peek() == Token::Mark(")") {
            self.take();
            let problem = "for 'in', 'notin' operators, values set can't be empty";
            return Err(FieldError::invalid("values", &Value::Array(Vec::new()), problem).to_string());
        }
        loop {
            match self.peek() {
                Token::Word(word) => {
                    self.take();
                    values.insert(word.to_owned());
                }
                Token::Mark("," | ")") => {
                    values.insert(String::new());
                }
                other => return Err(format!("found '{}', expected: ',', ')' or identifier", other.text())),
            }
            match self.take() {
                Token::Mark(",") => {}
                Token::Mark(")") => return Ok(values),
                other => return Err(format!("found '{}', expected: ',' or ')'", other.text())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn matches(selector: &str, labels: &Value) -> bool {
        let object = json!({"metadata": {"labels": labels}});
        LabelSelector::parse(selector).expect("selector parses").matches(&object)
    }

    #[test]
    fn every_operator_matches_as_upstream() {
        let web = json!({"app": "web", "tier": "front", "empty": ""});
        for selector in [
            "",
            "app",
            "app=web",
            "app==web",
            " app = web , tier=front",
            "app!=api",
            "missing!=x",
            "missing notin (x)",
            "app in (web,api)",
            "app in ( web , api )",
            "!missing",
            "! missing",
            "empty=",
            "empty in (,x)",
            "app notin (api,)",
            "tier in (front),app",
        ] {
            assert!(matches(selector, &web), "{selector}");
        }
        for selector in
            ["missing", "app=api", "app!=web", "app notin (web)", "!app", "missing in (x)", "app=web,tier=x"]
        {
            assert!(!matches(selector, &web), "{selector}");
        }
    }

    #[test]
    fn words_that_look_like_operators_are_keys_and_values_too() {
        assert!(matches("in in (in, notin)", &json!({"in": "notin"})));
        assert!(matches("notin=in", &json!({"notin": "in"})));
    }

    #[test]
    fn objects_without_labels_only_match_negative_terms() {
        let selector = LabelSelector::parse("!a,b!=c").expect("selector parses");
        assert!(selector.matches(&json!({"metadata": {}})));
        assert!(!LabelSelector::parse("a").expect("selector parses").matches(&json!({})));
    }

    #[test]
    fn errors_have_upstream_words() {
        let rows = [
            ("a in b", "unable to parse requirement: found 'b' expected: '('"),
            ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
            ("a,,b", "found ',', expected: identifier after ','"),
            ("=a", "found '=', expected: !, identifier, or 'end of string'"),
            ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !="),
            ("a=b c", "found 'c', expected: ',' or 'end of string'"),
            ("a=(", "unable to parse requirement: found '(', expected: identifier"),
            ("!", "unable to parse requirement: found '', expected: identifier"),
            (
                "a in ()",
                "unable to parse requirement: values: Invalid value: []: for 'in', 'notin' operators, values set \
                 can't be empty",
            ),
        ];
        for (selector, expected) in rows {
            let error = LabelSelector::parse(selector).expect_err(selector);
            assert_eq!((error.code, error.message.as_str()), (400, expected), "{selector}");
        }
        let key = LabelSelector::parse("a/b/c=d").expect_err("bad key").message;
        assert!(
            key.starts_with("unable to parse requirement: <nil>: Invalid value: \"a/b/c\": a qualified name"),
            "{key}"
        );
        let value = LabelSelector::parse("a=-").expect_err("bad value").message;
        assert!(
            value.starts_with("unable to parse requirement: values[0][a]: Invalid value: \"-\": a valid label"),
            "{value}"
        );
    }

    #[test]
    fn more_than_a_hundred_terms_are_refused() {
        let text = |n: usize| (0..n).map(|i| format!("k{i}")).collect::<Vec<_>>().join(",");
        assert!(LabelSelector::parse(&text(100)).is_ok());
        assert_eq!(LabelSelector::parse(&text(101)).expect_err("too many").code, 400);
    }

    proptest! {
        #[test]
        fn any_text_is_answered_and_what_parses_prints_to_the_same_selector(text in "[a-c!=(), in]{0,24}") {
            if let Ok(selector) = LabelSelector::parse(&text) {
                let again = LabelSelector::parse(&selector.to_string());
                prop_assert_eq!(again, Ok(selector));
            }
        }

        #[test]
        fn a_selector_and_its_negation_disagree_on_every_object(value in proptest::option::of("[ab]"), set in proptest::collection::vec("[ab]", 1..3)) {
            let labels = value.map_or_else(|| json!({}), |v| json!({"k": v}));
            let list = set.join(",");
            let positive = matches(&format!("k in ({list})"), &labels);
            let negative = matches(&format!("k notin ({list})"), &labels);
            prop_assert_ne!(positive, negative);
        }
    }
}
