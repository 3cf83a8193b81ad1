//! Who is calling: tokens of a request, their verification, and the keys for it. SPEC 30 §5.
//!
//! | module | gives |
//! |---|---|
//! | [`extract`] | the tokens of a request |
//! | [`authenticator`] | [`Authenticator::verify`]: the check table, warm and cold |
//! | [`cache`] | tokens that were verified before |
//! | [`jwks`] | the issuers' keys |
//! | [`failure`] | the answer to a request that is refused here |
//!
//! A route's [`GuardHandle`] is built once, at publication. A warm request then costs one digest of its token and one
//! probe of one shard: it awaits nothing, takes no other lock and allocates nothing. No failure is ever remembered, and
//! nothing that a token says is believed before its signature is checked.

pub mod authenticator;
pub mod cache;
pub mod extract;
pub mod failure;
pub mod jwks;
mod metrics;
#[cfg(test)]
mod tests;

pub use authenticator::{AuthOptions, Authenticator, GuardHandle};
pub use cache::VerifiedToken;
pub use failure::{AuthFailure, Challenge};
pub use jwks::{JwksEvent, JwksObserver, JwksOptions, KeySource, KeySources};
