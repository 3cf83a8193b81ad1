//! Who has to show what on a route. SPEC 30 §2.5.

use std::sync::Arc;

use http::Method;

use crate::NormalizedPath;
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
        self.lists(method)
            && !self.excluded.matches(path)
            && self.included.as_ref().is_none_or(|included| included.matches(path))
    }

    /// A rule for GET holds for HEAD, too: the answer to HEAD tells the same headers, and whoever lists GET rarely
    /// thinks of it.
    fn lists(&self, method: &Method) -> bool {
        self.methods.is_empty()
            || self.methods.contains(method)
            || *method == Method::HEAD && self.methods.contains(&Method::GET)
    }

    /// Whether the rule leaves a path out as it is written, but includes what an upstream may read in it.
    fn is_evaded(&self, method: &Method, path: &str, plain: &str) -> bool {
        self.lists(method)
            && !self.excluded.matches(path)
            && self.included.as_ref().is_some_and(|included| !included.matches(path) && included.matches_decoded(plain))
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

    /// Whether a rule with `includedPaths` would apply if the upstream decoded the path and dropped path parameters,
    /// but does not apply as the path is written: `/users/%40me` for `/users/@me`, `/admin;x` for `/admin`.
    ///
    /// A list of excluded paths needs no such look: whoever writes a path in another way only closes it.
    pub fn is_evaded(&self, method: &Method, path: &NormalizedPath<'_>) -> bool {
        if self.rules().iter().all(|rule| rule.included.is_none()) {
            return false;
        }
        let path_as_written = path.as_str();
        path.plain()
            .is_some_and(|plain| self.rules().iter().any(|rule| rule.is_evaded(method, path_as_written, &plain)))
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
    fn a_rule_for_get_holds_for_head() {
        let rule = rule(&[], None, &[Method::GET]);
        assert!(rule.applies(&Method::HEAD, "/x"));
        assert!(!rule.applies(&Method::POST, "/x"));
    }

    #[test]
    fn an_included_path_cannot_be_evaded_by_writing_it_in_another_way() {
        let included = [
            PathMatch::Exact("/users/@me".into()),
            PathMatch::Prefix("/caf%C3%A9/".into()),
            PathMatch::Suffix(".csv".into()),
            PathMatch::Regex("/v[0-9]:[a-z]+".into()),
        ];
        let excluded = [PathMatch::Exact("/users/%40me/open.csv;x".into())];
        let guard = Guard::Jwt(Box::new([rule(&excluded, Some(&included), &[Method::GET])]));
        let evaded = |method: &Method, path: &str| guard.is_evaded(method, &NormalizedPath::parse(path).unwrap());
        for path in ["/users/%40me", "/users/@me;a=b", "/users;x/%40me", "/caf%c3%a9/x", "/a/b%2Ecsv;v=1", "/v1%3Arun"]
        {
            assert!(evaded(&Method::GET, path), "{path}");
            assert!(evaded(&Method::HEAD, path), "{path}");
            assert!(!evaded(&Method::POST, path), "{path}");
        }
        for path in ["/users/@me", "/users/%2540me", "/caf%C3%A9/x", "/other%40", "/x;y", "/users/%40me/open.csv;x"] {
            assert!(!evaded(&Method::GET, path), "{path}");
        }
        let without = Guard::Jwt(Box::new([rule(&[PathMatch::Exact("/a@b".into())], None, &[])]));
        assert!(!without.is_evaded(&Method::GET, &NormalizedPath::parse("/a%40b").unwrap()));
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
