//! Allowed, or refused with a reason.

use std::sync::Arc;

use http::{Method, StatusCode};

use crate::guard::RuleSet;
use crate::{Guard, Host, NormalizedPath, Reason, Route};

/// How the request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Plain.
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    /// `http` or `https`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// What is known of a request before anybody looked at its credentials.
#[derive(Clone, Copy, Debug)]
pub struct RequestFacts<'a> {
    /// Plain or TLS.
    pub scheme: Scheme,
    /// The host in its comparable form.
    pub host: &'a Host<'a>,
    /// The method.
    pub method: &'a Method,
    /// The normalized path.
    pub path: &'a NormalizedPath<'a>,
}

/// What a token says whose signature and times were checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Claim `iss`.
    pub issuer: Arc<str>,
    /// The key set that verified the signature: a rule's `jwks_uri`. Without it a second rule with the same issuer
    /// and other keys would accept what its own keys never saw.
    pub key_source: Arc<str>,
    /// Claim `sub`.
    pub subject: Option<Arc<str>>,
    /// Claim `aud`, one or many.
    pub audience: Box<[Arc<str>]>,
    /// Scopes of `scope`, `scp` or `scopes`.
    pub scopes: Box<[Arc<str>]>,
    /// Claim `exp`, in seconds since 1970.
    pub expires_at: Option<i64>,
}

/// The outcome for one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The request goes on.
    Allow(Allowed),
    /// The request is answered here.
    Deny(Denied),
}

/// Why a request may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// Position of the rule that accepted the token; `None` when no rule applies to the request.
    pub rule: Option<usize>,
}

/// How a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denied {
    /// Status of the answer.
    pub status: StatusCode,
    /// Word for metric and log.
    pub reason: Reason,
    /// Body of the answer, `text/plain`, without a final newline. SPEC 30 §5.2.
    pub body: &'static str,
}

/// Row 1 of SPEC 30 §5.2.
pub const TOKEN_MISSING: Denied =
    Denied { status: StatusCode::UNAUTHORIZED, reason: Reason::TokenMissing, body: "Jwt is missing" };
/// Row 5 of SPEC 30 §5.2.
pub const ISSUER_UNKNOWN: Denied =
    Denied { status: StatusCode::UNAUTHORIZED, reason: Reason::IssuerUnknown, body: "Jwt issuer is not configured" };
/// Row 9 of SPEC 30 §5.2: the token's keys are not those of any applicable rule.
pub const KEY_UNKNOWN: Denied = Denied {
    status: StatusCode::UNAUTHORIZED,
    reason: Reason::KeyUnknown,
    body: "Jwks doesn't have key to match kid or alg from Jwt",
};

/// Decides about a request on its route. `verified` is the token found in the request, if there is one; a token that
/// failed its checks is not "none": the caller has refused that request before.
pub fn decide<X>(route: &Route<X>, facts: &RequestFacts<'_>, verified: Option<&Verified>) -> Decision {
    let guard = &route.model.guard;
    decide_rules(guard, guard.applicable(facts.method, facts.path.as_str()), verified)
}

/// [`decide`] when the applicable rules are known already ([`crate::Selected::rules`]).
pub fn decide_rules(guard: &Guard, rules: RuleSet, verified: Option<&Verified>) -> Decision {
    if rules.is_empty() {
        return Decision::Allow(Allowed { rule: None });
    }
    let Some(verified) = verified else { return Decision::Deny(TOKEN_MISSING) };
    let mut issuer_is_known = false;
    for (position, rule) in rules.of(guard) {
        if rule.issuer == verified.issuer {
            issuer_is_known = true;
            if rule.jwks_uri == verified.key_source {
                return Decision::Allow(Allowed { rule: Some(position) });
            }
        }
    }
    Decision::Deny(if issuer_is_known { KEY_UNKNOWN } else { ISSUER_UNKNOWN })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidegate_kinds::api::PathMatch;

    use super::*;
    use crate::guard::JwtRule;
    use crate::path_set::PathSet;

    fn rule(issuer: &str, keys: &str, excluded: &[&str]) -> JwtRule {
        let excluded: Vec<PathMatch> = excluded.iter().map(|path| PathMatch::Exact((*path).into())).collect();
        JwtRule {
            issuer: issuer.into(),
            jwks_uri: keys.into(),
            excluded: PathSet::compile(&excluded).unwrap(),
            included: None,
            methods: Box::default(),
        }
    }

    fn token(issuer: &str, keys: &str) -> Verified {
        Verified {
            issuer: issuer.into(),
            key_source: keys.into(),
            subject: None,
            audience: Box::default(),
            scopes: Box::default(),
            expires_at: Some(1),
        }
    }

    fn outcome(guard: &Guard, path: &str, verified: Option<&Verified>) -> Decision {
        decide_rules(guard, guard.applicable(&Method::GET, path), verified)
    }

    #[test]
    fn any_one_applicable_rule_is_enough_and_none_other() {
        let guard =
            Guard::Jwt(Box::new([rule("a", "http://ka", &["/open"]), rule("b", "http://kb", &["/open", "/a-only"])]));
        assert_eq!(outcome(&guard, "/x", None), Decision::Deny(TOKEN_MISSING));
        assert_eq!(outcome(&guard, "/x", Some(&token("a", "http://ka"))), Decision::Allow(Allowed { rule: Some(0) }));
        assert_eq!(outcome(&guard, "/x", Some(&token("b", "http://kb"))), Decision::Allow(Allowed { rule: Some(1) }));
        assert_eq!(outcome(&guard, "/x", Some(&token("c", "http://ka"))), Decision::Deny(ISSUER_UNKNOWN));
        assert_eq!(outcome(&guard, "/x", Some(&token("a", "http://kb"))), Decision::Deny(KEY_UNKNOWN));
        assert_eq!(outcome(&guard, "/open", None), Decision::Allow(Allowed { rule: None }));
        assert_eq!(outcome(&guard, "/a-only", Some(&token("b", "http://kb"))), Decision::Deny(ISSUER_UNKNOWN));
        assert_eq!(outcome(&Guard::Open, "/x", None), Decision::Allow(Allowed { rule: None }));
    }

    proptest! {
        /// `decide` never allows what no rule allows: checked against the sentence of the specification, written down
        /// a second time without any of the compiled forms.
        #[test]
        fn nothing_passes_that_no_rule_lets_pass(
            rules in prop::collection::vec((0_u8..3, 0_u8..3, prop::collection::vec(0_u8..4, 0..3)), 0..5),
            path in 0_u8..4,
            presented in prop::option::of((0_u8..3, 0_u8..3)),
        ) {
            let name = |n: u8| format!("/p{n}");
            let guard = Guard::Jwt(rules.iter().map(|(issuer, keys, excluded)| {
                let excluded: Vec<String> = excluded.iter().map(|n| name(*n)).collect();
                let excluded: Vec<&str> = excluded.iter().map(String::as_str).collect();
                rule(&issuer.to_string(), &keys.to_string(), &excluded)
            }).collect());
            let verified = presented.map(|(issuer, keys)| token(&issuer.to_string(), &keys.to_string()));
            let applicable: Vec<_> = rules.iter().filter(|(_, _, excluded)| !excluded.contains(&path)).collect();
            let expected = applicable.is_empty()
                || presented.is_some_and(|token| applicable.iter().any(|(issuer, keys, _)| (*issuer, *keys) == token));
            let decision = outcome(&guard, &name(path), verified.as_ref());
            prop_assert_eq!(matches!(decision, Decision::Allow(_)), expected);
        }
    }
}
