//! JWT and JWKS: parsing, key selection, verification, signing; pure.
//!
//! Map:
//! - [`jwt`]: a token is parsed ([`UnverifiedJwt`]) and checked, row by row in the order of
//!   `SPEC 30 §5.2`; [`JwtError`] knows the exact text of each row and its reason word;
//! - [`jwks`]: the keys of an issuer ([`KeySet`]), from a JWKS, a PEM text or a map of PEM texts;
//! - [`algorithm`]: the signature algorithms and sets of them;
//! - [`signing`]: making keys and tokens, for issuers of our own.
//!
//! This crate never reads a clock, never awaits and does no I/O. The algorithm that verifies is a
//! property of the key: the token's header only chooses among those that the key allows. There is
//! no shared-secret algorithm here, so a public key can never serve as one. `jku`, `x5u`, `jwk`
//! and `x5c` in a token's header are never read.
#![warn(missing_docs)]

pub mod algorithm;
pub mod jwks;
pub mod jwt;
pub mod signing;

pub use algorithm::{Algorithm, AlgorithmSet};
pub use jwks::{KeyId, KeySet, KeySetError, VerificationKey};
pub use jwt::{Claims, JwtError, MAX_TOKEN_BYTES, Options, TimeRules, UnverifiedJwt, verify};
pub use signing::SigningKey;
