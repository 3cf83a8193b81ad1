//! One token: parsed, then checked in the order of `SPEC 30 §5.2`.
//!
//! ```text
//! row  check                             here
//! 1    present                           the caller; JwtError::Missing
//! 2-4  form, header, allow-list, payload UnverifiedJwt::parse
//! 5    issuer                            the caller; JwtError::IssuerNotConfigured
//! 6-7  nbf, exp                          UnverifiedJwt::check_times
//! 8    keys available                    the caller; JwtError::JwksUnavailable
//! 9-10 a key fits, signature             UnverifiedJwt::check_signature
//! 11   rule conditions                   the policy crate
//! ```

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::{Algorithm, AlgorithmSet, KeySet, VerificationKey};

mod claims;
mod error;
mod member;
#[cfg(test)]
mod tests;

pub use claims::Claims;
pub use error::JwtError;

use member::Member;

/// A token of more bytes than this is refused before anything in it is looked at.
// SPEC 30 §5.1
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// At most so many keys are tried for one token.
// SPEC 30 §5.3
const MAX_CANDIDATES: usize = 16;

/// How `nbf` and `exp` are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeRules {
    /// Seconds by which the issuer's clock may differ from ours.
    pub skew_s: i64,
    /// Whether a token without `exp` is refused.
    pub require_exp: bool,
}

impl Default for TimeRules {
    /// 60 s, `exp` required.
    fn default() -> Self {
        Self { skew_s: 60, require_exp: true }
    }
}

/// What [`verify`] needs besides token and keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// Now, in seconds since 1970.
    pub now: i64,
    /// How times are judged.
    pub times: TimeRules,
    /// Which algorithms are allowed.
    pub algorithms: AlgorithmSet,
}

/// A token whose form is right and **whose signature nobody has checked yet**.
#[derive(Debug)]
pub struct UnverifiedJwt<'a> {
    signing_input: &'a str,
    signature: Vec<u8>,
    algorithm: Algorithm,
    kid: Option<Box<str>>,
    payload: Vec<u8>,
    claims: Claims,
}

impl<'a> UnverifiedJwt<'a> {
    /// Rows 2, 3, 3a and 4 of `SPEC 30 §5.2`, and the size limit of §5.1.
    ///
    /// Base64url is read strictly: no padding, no white space, no unused bits set. A member that
    /// we read may occur once in header and payload.
    ///
    /// Errors: [`JwtError::TooLarge`], [`JwtError::BadFormat`], the `Header…`, `Alg…` and
    /// `Payload…` variants.
    pub fn parse(token: &'a str, allowed: AlgorithmSet) -> Result<Self, JwtError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(JwtError::TooLarge);
        }
        let (signing_input, signature) = token.rsplit_once('.').ok_or(JwtError::BadFormat)?;
        let (header, payload) = signing_input.split_once('.').ok_or(JwtError::BadFormat)?;
        // A fourth part would put a dot into the payload, which is not in the alphabet.
        let [header, payload, signature] = [decode(header)?, decode(payload)?, decode(signature)?];

        let header: Header<'_> = object(&header).ok_or(JwtError::HeaderNotJson)?;
        let Member::Text(name) = header.alg else {
            return Err(JwtError::HeaderAlg);
        };
        let kid = match header.kid {
            Member::Absent => None,
            Member::Text(kid) => Some(kid.into()),
            Member::Integer(_) | Member::Texts(_) | Member::Other => {
                return Err(JwtError::HeaderKid);
            }
        };
        if header.crit != Member::Absent {
            return Err(JwtError::HeaderCrit);
        }
        let algorithm =
            name.parse().ok().filter(|algorithm| allowed.contains(*algorithm)).ok_or(JwtError::AlgRefused)?;
        let claims = Claims::parse(&payload)?;
        Ok(Self { signing_input, signature, algorithm, kid, payload, claims })
    }

    /// The algorithm that the header names; it is in the allow-list.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The key id that the header names.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The claims. Until [`Self::check_signature`] succeeded they are what a stranger says.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// Gives the claims away.
    pub fn into_claims(self) -> Claims {
        self.claims
    }

    /// A claim as text, for a header (`SPEC 30 §5.5`): strings as they are, numbers and booleans
    /// as JSON writes them, arrays of those joined with `,`. `None` for anything else or absent.
    pub fn claim_text(&self, name: &str) -> Option<String> {
        claims::claim_text(&self.payload, name)
    }

    /// Rows 6 and 7: `nbf` ≤ now + skew, `exp` > now − skew. `now` in seconds since 1970.
    ///
    /// Errors: [`JwtError::NotYetValid`], [`JwtError::Expired`], [`JwtError::ExpMissing`].
    pub fn check_times(&self, now: i64, rules: TimeRules) -> Result<(), JwtError> {
        if let Some(not_before) = self.claims.not_before
            && not_before > now.saturating_add(rules.skew_s)
        {
            return Err(JwtError::NotYetValid);
        }
        match self.claims.expires_at {
            Some(expires_at) if expires_at <= now.saturating_sub(rules.skew_s) => Err(JwtError::Expired),
            None if rules.require_exp => Err(JwtError::ExpMissing),
            _ => Ok(()),
        }
    }

    /// Rows 9 and 10: tries the keys that fit, at most 16, and returns the one that verifies.
    ///
    /// Errors: [`JwtError::KeyUnknown`] when no key fits (no cryptography is done then),
    /// [`JwtError::SignatureInvalid`] when none of those that fit verifies.
    pub fn check_signature<'k>(&self, keys: &'k KeySet) -> Result<&'k VerificationKey, JwtError> {
        let mut candidates = keys.candidates(self.kid(), self.algorithm).take(MAX_CANDIDATES).peekable();
        if candidates.peek().is_none() {
            return Err(JwtError::KeyUnknown);
        }
        candidates
            .find(|key| key.verifies(self.algorithm, self.signing_input.as_bytes(), &self.signature))
            .ok_or(JwtError::SignatureInvalid)
    }
}

/// Rows 2 to 4, 6, 7, 9 and 10 at once, for a caller that has the keys and no list of issuers.
///
/// Errors: the first row that fails.
pub fn verify(token: &str, keys: &KeySet, options: Options) -> Result<Claims, JwtError> {
    let jwt = UnverifiedJwt::parse(token, options.algorithms)?;
    jwt.check_times(options.now, options.times)?;
    jwt.check_signature(keys)?;
    Ok(jwt.into_claims())
}

#[derive(serde::Deserialize)]
struct Header<'a> {
    #[serde(borrow, default)]
    alg: Member<'a>,
    #[serde(borrow, default)]
    kid: Member<'a>,
    #[serde(borrow, default)]
    crit: Member<'a>,
}

fn decode(part: &str) -> Result<Vec<u8>, JwtError> {
    if part.is_empty() {
        return Err(JwtError::BadFormat);
    }
    URL_SAFE_NO_PAD.decode(part).map_err(|_| JwtError::BadFormat)
}

/// Reads a JSON object. An array is refused, which serde would read into a struct as well.
fn object<'a, T: serde::Deserialize<'a>>(json: &'a [u8]) -> Option<T> {
    if json.trim_ascii_start().first() != Some(&b'{') {
        return None;
    }
    serde_json::from_slice(json).ok()
}
