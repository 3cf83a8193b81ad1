//! Who has to show what on a route. SPEC 30 §2.5.

use std::sync::Arc;

use http::Method;

use crate::path_set::PathSet;

/// Most rules that one guard can have; the schema of `Api` allows as many.
pub const MAX_RULES: usize = 64;

/// What a route asks of a request.
#[derive(Clone, Debug)]
pub enum Guard {
    /// Nothing.
    Open,
    /// A token that one of the applicable rules accepts; nothing where no rule applies. At most [`MAX_RULES`] rules.
    Jwt(Box<[JwtRule]>),
}

/// Tokens of one issuer, for some requests.
#[derive(Clone, Debug)]
pub struct JwtRule {
    /// Compared byte by byte with the claim `iss`.
    pub issuer: Arc<str>,
    /// Where the keys are.
    pub jwks_uri: Arc<str>,
    /// Paths that the rule leaves out; they win over `included`.
    pub excluded: PathSet,
    /// Paths to which the rule is limited; `None` means all.
    pub included: Option<PathSet>,
    /// Methods to which the rule is limited; empty means all.
    pub methods: Box<[Method]>,
}

impl JwtRule {
    /// Whether the rule holds for a request.
    pub fn applies(&self, method: &Method, path: &str) -> bool {
        (self.methods.is_empty() || self.methods.contains(method))
            && !self.excluded.matches(path)
            && self.included.as_ref().is_none_or(|included| included.matches(path))
    }
}

impl Guard {
    /// The rules, empty for an open route.
    pub fn rules(&self) -> &[JwtRule] {
        match self {
            Self::Open => &[],
            Self::Jwt(rules) => rules,
        }
    }

    /// Whether tokens are asked for at all.
    pub fn is_secured(&self) -> bool {
        matches!(self, Self::Jwt(_))
    }

    /// The rules that apply to a method and a normalized path. Empty: the request passes without a token.
    pub fn applicable(&self, method: &Method, path: &str) -> RuleSet {
        let mut set = RuleSet::default();
        for (position, rule) in self.rules().iter().enumerate().take(MAX_RULES) {
            if rule.applies(method, path) {
                set.0 |= 1 << position;
            }
        }
        set
    }
}

/// Positions of rules within a guard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuleSet(u64);

impl RuleSet {
    /// Whether no rule is in the set.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether the rule at a position is in the set.
    pub fn contains(self, position: usize) -> bool {
        position < MAX_RULES && self.0 >> position & 1 == 1
    }

    /// The rules of a guard that are in the set, with their positions.
    pub fn of(self, guard: &Guard) -> impl Iterator<Item = (usize, &JwtRule)> {
        guard.rules().iter().enumerate().filter(move |(position, _)| self.contains(*position))
    }
}

#[cfg(test)]
mod tests {
    use tidegate_kinds::api::PathMatch;

    use super::*;

    fn rule(excluded: &[PathMatch], included: Option<&[PathMatch]>, methods: &[Method]) -> JwtRule {
        JwtRule {
            issuer: "i".into(),
            jwks_uri: "http://k".into(),
            excluded: PathSet::compile(excluded).unwrap(),
            included: included.map(|paths| PathSet::compile(paths).unwrap()),
            methods: methods.into(),
        }
    }

    #[test]
    fn excluded_wins_over_included_and_methods_limit() {
        let rule = rule(
            &[PathMatch::Exact("/api/open".into())],
            Some(&[PathMatch::Prefix("/api".into())]),
            &[Method::GET, Method::POST],
        );
        assert!(rule.applies(&Method::GET, "/api/x"));
        assert!(!rule.applies(&Method::GET, "/api/open"));
        assert!(!rule.applies(&Method::GET, "/other"));
        assert!(!rule.applies(&Method::PUT, "/api/x"));
    }

    #[test]
    fn a_path_is_open_only_when_every_rule_leaves_it_out() {
        let guard = Guard::Jwt(Box::new([
            rule(&[PathMatch::Exact("/a".into()), PathMatch::Exact("/both".into())], None, &[]),
            rule(&[PathMatch::Exact("/both".into())], None, &[]),
        ]));
        let positions = |path| guard.applicable(&Method::GET, path).of(&guard).map(|(at, _)| at).collect::<Vec<_>>();
        assert_eq!(positions("/x"), [0, 1]);
        assert_eq!(positions("/a"), [1]);
        assert!(positions("/both").is_empty());
        assert!(Guard::Open.applicable(&Method::GET, "/x").is_empty());
    }
}
