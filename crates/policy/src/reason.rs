//! Why a request was refused or failed: one closed set of words for metric, access log, console and `tidegate why`.

use std::fmt;

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $word:literal),+ $(,)?) => {
        /// A reason word. SPEC 90 §5.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $($(#[doc = $doc])+ $variant),+
        }

        impl Reason {
            /// Every reason, in the order of the reference.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The stable word.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),+
                }
            }

            /// The reason that a word stands for.
            pub fn from_word(word: &str) -> Option<Self> {
                match word {
                    $($word => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }
    };
}

reasons! {
    /// 404: no object exposes a service on the host.
    NoHost = "no_host",
    /// 404: the host is known, no rule matches path and method.
    NoRoute = "no_route",
    /// 404: the host's object is refused and nothing of it is served.
    RouteDisabled = "route_disabled",
    /// 401: no token in the request.
    TokenMissing = "token_missing",
    /// 401: the token cannot be read.
    TokenMalformed = "token_malformed",
    /// 401: the token's time is over.
    TokenExpired = "token_expired",
    /// 401: the token's time has not begun.
    TokenNotYetValid = "token_not_yet_valid",
    /// 401: no rule that applies names the token's issuer.
    IssuerUnknown = "issuer_unknown",
    /// 401: no key verifies the signature.
    SignatureInvalid = "signature_invalid",
    /// 401: the issuer has no key that fits the token.
    KeyUnknown = "key_unknown",
    /// 401: the token's algorithm is not allowed.
    AlgRefused = "alg_refused",
    /// 401: the issuer says that the token is not active.
    TokenInactive = "token_inactive",
    /// 401: the token is bound to another certificate or key.
    BindingMismatch = "binding_mismatch",
    /// 401: the token's allow list lacks the caller's address.
    AddressNotAllowed = "address_not_allowed",
    /// 401: no client certificate.
    CertificateMissing = "certificate_missing",
    /// 401: the client certificate was revoked.
    CertificateRevoked = "certificate_revoked",
    /// 403: the token lacks a scope.
    ScopeMissing = "scope_missing",
    /// 403: the token is meant for somebody else.
    AudienceMismatch = "audience_mismatch",
    /// 403: a claim has another value than the rule wants.
    ClaimMismatch = "claim_mismatch",
    /// 403: a rule denies the request.
    RuleDenied = "rule_denied",
    /// 403: the caller's address is denied.
    IpDenied = "ip_denied",
    /// 403: the rule does not list the method.
    MethodNotInRule = "method_not_in_rule",
    /// 429: the bucket is empty.
    RateLimited = "rate_limited",
    /// 429: too many wrong passwords.
    AccountLocked = "account_locked",
    /// 503: the Service has no address to send to.
    NoEndpoints = "no_endpoints",
    /// 503: nobody answered at the Service's addresses.
    UpstreamRefused = "upstream_refused",
    /// 503: the upstream's certificate does not verify.
    UpstreamTls = "upstream_tls",
    /// 502: the upstream's answer cannot be read.
    UpstreamProtocol = "upstream_protocol",
    /// 504: no answer in time.
    UpstreamTimeout = "upstream_timeout",
    /// 401 towards the caller: the issuer's keys could not be fetched.
    JwksUnavailable = "jwks_unavailable",
    /// 503: the issuer could not be asked about the token.
    IntrospectionUnavailable = "introspection_unavailable",
    /// 502: a credential for the target could not be had.
    CredentialFetchFailed = "credential_fetch_failed",
    /// 503: the process is ending.
    Draining = "draining",
    /// 400: the host is missing, malformed or ambiguous.
    HostMalformed = "host_malformed",
    /// 400: the path is malformed or means different things encoded and decoded.
    PathMalformed = "path_malformed",
    /// 400: the message's framing is malformed or ambiguous.
    FramingMalformed = "framing_malformed",
    /// 400: header lines contradict each other or name what they must not.
    HeaderMalformed = "header_malformed",
    /// 421: the host has other TLS settings than the connection.
    TlsMismatch = "tls_mismatch",
    /// 408, 413, 414, 431: a size or time limit.
    LimitExceeded = "limit_exceeded",
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_word() {
        for reason in Reason::ALL {
            assert_eq!(Reason::from_word(reason.as_str()), Some(*reason));
            assert!(reason.as_str().bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
        }
        assert_eq!(Reason::from_word("nothing"), None);
    }

    #[test]
    fn every_word_is_documented() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/reasons.md");
        let page = std::fs::read_to_string(page).unwrap();
        for reason in Reason::ALL {
            assert!(page.contains(&format!("`{reason}`")), "{reason} is missing in docs/reference/reasons.md");
        }
    }
}
