//! Why a token is refused, with the texts that clients match on.

/// Why a token is refused; one variant per text of `SPEC 30 §5.2`. `Display` is [`Self::text`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{}", self.text())]
pub enum JwtError {
    /// Row 1: no token in any of the places.
    Missing,
    /// More than [`crate::MAX_TOKEN_BYTES`].
    TooLarge,
    /// Row 2: not three non-empty base64url parts.
    BadFormat,
    /// Row 3: the header is not a JSON object.
    HeaderNotJson,
    /// Row 3: `alg` absent or not a string.
    HeaderAlg,
    /// Row 3: `kid` present and not a string.
    HeaderKid,
    /// Row 3: `crit` present.
    HeaderCrit,
    /// Row 3a: `alg` unknown, `none`, or not in the allow-list.
    AlgRefused,
    /// Row 4: the payload is not a JSON object.
    PayloadNotJson,
    /// Row 4: `exp` is not an integer.
    PayloadExp,
    /// Row 4: `nbf` is not an integer.
    PayloadNbf,
    /// Row 4: `iat` is not an integer.
    PayloadIat,
    /// Row 5: `iss` is the issuer of no applicable rule.
    IssuerNotConfigured,
    /// Row 6: `nbf` is in the future.
    NotYetValid,
    /// Row 7: `exp` is in the past.
    Expired,
    /// Row 7: `exp` is absent and required.
    ExpMissing,
    /// Row 8: the issuer's keys could not be fetched and none are cached.
    JwksUnavailable,
    /// Row 9: no key of the issuer fits.
    KeyUnknown,
    /// Row 10: the signature is wrong.
    SignatureInvalid,
}

impl JwtError {
    /// The response body, verbatim.
    // SPEC 30 §5.2
    pub fn text(self) -> &'static str {
        match self {
            Self::Missing => "Jwt is missing",
            Self::TooLarge => "Jwt is too large",
            Self::BadFormat => "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections",
            Self::HeaderNotJson => "Jwt header is an invalid JSON",
            Self::HeaderAlg => "Jwt header [alg] field is missing or not a string",
            Self::HeaderKid => "Jwt header [kid] field is not a string",
            Self::HeaderCrit => "Jwt header [crit] is not supported",
            Self::AlgRefused => "Jwt header [alg] is not supported",
            Self::PayloadNotJson => "Jwt payload is an invalid JSON",
            Self::PayloadExp => "Jwt payload [exp] field is not an integer",
            Self::PayloadNbf => "Jwt payload [nbf] field is not an integer",
            Self::PayloadIat => "Jwt payload [iat] field is not an integer",
            Self::IssuerNotConfigured => "Jwt issuer is not configured",
            Self::NotYetValid => "Jwt not yet valid",
            Self::Expired => "Jwt is expired",
            Self::ExpMissing => "Jwt payload [exp] field is missing",
            Self::JwksUnavailable => "Jwks remote fetch is failed",
            Self::KeyUnknown => "Jwks doesn't have key to match kid or alg from Jwt",
            Self::SignatureInvalid => "Jwt verification fails",
        }
    }

    /// The reason word in metrics, access log and `tidegate why`.
    // SPEC 90 §5
    pub fn reason(self) -> &'static str {
        match self {
            Self::Missing => "token_missing",
            Self::TooLarge
            | Self::BadFormat
            | Self::HeaderNotJson
            | Self::HeaderAlg
            | Self::HeaderKid
            | Self::HeaderCrit
            | Self::PayloadNotJson
            | Self::PayloadExp
            | Self::PayloadNbf
            | Self::PayloadIat
            | Self::ExpMissing => "token_malformed",
            Self::AlgRefused => "alg_refused",
            Self::IssuerNotConfigured => "issuer_unknown",
            Self::NotYetValid => "token_not_yet_valid",
            Self::Expired => "token_expired",
            Self::JwksUnavailable => "jwks_unavailable",
            Self::KeyUnknown => "key_unknown",
            Self::SignatureInvalid => "signature_invalid",
        }
    }

    /// Whether a token was there at all: then the challenge says `error="invalid_token"`.
    pub fn is_invalid_token(self) -> bool {
        self != Self::Missing
    }
}
