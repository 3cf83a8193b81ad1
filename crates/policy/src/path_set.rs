//! A set of path expressions, compiled once. SPEC 30 §2.5.

use std::sync::Arc;

use regex::{RegexSet, RegexSetBuilder};
use tidegate_kinds::api::PathMatch;

use crate::path::decode_all;

/// Compiled size of one rule's expressions; beyond it an expression counts as one that does not compile.
const MAX_REGEX_BYTES: usize = 1 << 20;

/// Path expressions of one rule. Clones are cheap.
#[derive(Clone, Debug, Default)]
pub struct PathSet {
    inner: Option<Arc<Compiled>>,
}

#[derive(Debug)]
struct Compiled {
    /// Sorted.
    exact: Box<[Box<str>]>,
    prefixes: Box<[Box<str>]>,
    suffixes: Box<[Box<str>]>,
    regexes: Option<RegexSet>,
    /// Exact values, prefixes and suffixes that have something percent-encoded, decoded.
    decoded: Box<[PathMatch]>,
}

/// An expression that does not compile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("[{position}].regex: `{expression}` does not compile: {problem}")]
pub struct PathSetError {
    /// Position in the list.
    pub position: usize,
    /// The expression as written.
    pub expression: String,
    /// What the compiler says, on one line.
    pub problem: String,
}

impl PathSet {
    /// Compiles a list of expressions.
    pub fn compile(paths: &[PathMatch]) -> Result<Self, PathSetError> {
        if paths.is_empty() {
            return Ok(Self::default());
        }
        let (mut exact, mut prefixes, mut suffixes, mut regexes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (position, path) in paths.iter().enumerate() {
            match path {
                PathMatch::Exact(value) => exact.push(value.as_str().into()),
                PathMatch::Prefix(value) => prefixes.push(value.as_str().into()),
                PathMatch::Suffix(value) => suffixes.push(value.as_str().into()),
                PathMatch::Regex(expression) => regexes.push(anchored(position, expression)?),
            }
        }
        let regexes = if regexes.is_empty() {
            None
        } else {
            let set = RegexSetBuilder::new(&regexes).size_limit(MAX_REGEX_BYTES).build();
            Some(set.map_err(|error| PathSetError {
                position: 0,
                expression: regexes.concat(),
                problem: one_line(&error),
            })?)
        };
        exact.sort();
        let (exact, prefixes, suffixes) = (exact.into(), prefixes.into(), suffixes.into());
        let decoded = paths.iter().filter_map(decoded).collect();
        Ok(Self { inner: Some(Arc::new(Compiled { exact, prefixes, suffixes, regexes, decoded })) })
    }

    /// Whether the set has no expression.
    pub fn is_empty(&self) -> bool {
        self.inner.is_none()
    }

    /// Whether any expression matches a normalized path.
    pub fn matches(&self, path: &str) -> bool {
        self.inner.as_ref().is_some_and(|set| {
            set.exact.binary_search_by(|exact| (**exact).cmp(path)).is_ok()
                || set.prefixes.iter().any(|prefix| path.starts_with(&**prefix))
                || set.suffixes.iter().any(|suffix| path.ends_with(&**suffix))
                || set.regexes.as_ref().is_some_and(|regexes| regexes.is_match(path))
        })
    }

    /// Whether any expression, itself decoded, matches a decoded path ([`crate::NormalizedPath::plain`]).
    pub(crate) fn matches_decoded(&self, plain: &str) -> bool {
        self.matches(plain)
            || self.inner.as_ref().is_some_and(|set| {
                set.decoded.iter().any(|expression| match expression {
                    PathMatch::Exact(value) => plain == value,
                    PathMatch::Prefix(value) => plain.starts_with(value),
                    PathMatch::Suffix(value) => plain.ends_with(value),
                    PathMatch::Regex(_) => false,
                })
            })
    }
}

fn decoded(expression: &PathMatch) -> Option<PathMatch> {
    let decode = |value: &String| value.contains('%').then(|| decode_all(value));
    match expression {
        PathMatch::Exact(value) => decode(value).map(PathMatch::Exact),
        PathMatch::Prefix(value) => decode(value).map(PathMatch::Prefix),
        PathMatch::Suffix(value) => decode(value).map(PathMatch::Suffix),
        PathMatch::Regex(_) => None,
    }
}

/// The expression, anchored at both ends. It must compile alone first, because `a)|(b` would only compile inside the
/// group and change what the anchors hold.
fn anchored(position: usize, expression: &str) -> Result<String, PathSetError> {
    let check = |text: &str| {
        regex::RegexBuilder::new(text).size_limit(MAX_REGEX_BYTES).build().map_err(|error| PathSetError {
            position,
            expression: expression.to_owned(),
            problem: one_line(&error),
        })
    };
    check(expression)?;
    let whole = format!(r"\A(?:{expression})\z");
    check(&whole)?;
    Ok(whole)
}

fn one_line(error: &regex::Error) -> String {
    let text = error.to_string();
    text.lines().last().unwrap_or_default().trim().trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(paths: &[PathMatch]) -> PathSet {
        PathSet::compile(paths).unwrap()
    }

    #[test]
    fn each_kind_of_expression_matches_what_it_says() {
        for (expression, path, expected) in [
            (PathMatch::Exact("/a".into()), "/a", true),
            (PathMatch::Exact("/a".into()), "/a/", false),
            (PathMatch::Prefix("/a".into()), "/ab/c", true),
            (PathMatch::Prefix("/a".into()), "/b/a", false),
            (PathMatch::Suffix(".ico".into()), "/x/favicon.ico", true),
            (PathMatch::Suffix(".ico".into()), "/x.ico/y", false),
            (PathMatch::Regex("/a/[0-9]+".into()), "/a/12", true),
            (PathMatch::Regex("/a/[0-9]+".into()), "/a/12/b", false),
            (PathMatch::Regex("/a/[0-9]+".into()), "/x/a/12", false),
            (PathMatch::Regex("^/a|/b".into()), "/b", true),
            (PathMatch::Regex("^/a|/b".into()), "/a/x/b", false),
        ] {
            assert_eq!(set(std::slice::from_ref(&expression)).matches(path), expected, "{expression:?} {path}");
        }
    }

    #[test]
    fn an_empty_set_matches_nothing() {
        assert!(!set(&[]).matches("/"));
        assert!(set(&[]).is_empty());
    }

    #[test]
    fn an_expression_that_does_not_compile_is_named() {
        for bad in ["(", "a)|(b", r"(?=x)", r"(a)\1", "(?x)a #"] {
            let error = PathSet::compile(&[PathMatch::Exact("/".into()), PathMatch::Regex(bad.into())]).unwrap_err();
            assert_eq!((error.position, error.expression.as_str()), (1, bad));
            assert!(!error.problem.is_empty() && !error.problem.contains('\n'), "{error}");
        }
    }

    #[test]
    fn an_expression_that_explodes_is_refused() {
        assert!(PathSet::compile(&[PathMatch::Regex("(a{1000}){1000}".into())]).is_err());
    }
}
