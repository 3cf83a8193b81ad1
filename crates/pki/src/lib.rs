//! Local certificate authority, leaf and client certificates, PEM; pure.
//!
//! Map:
//! - [`Authority`]: a CA that issues server and client certificates (`SPEC 60 §2.2`, `30 §6.10`);
//! - [`Credential`]: a certificate chain with its private key, in and out of PEM;
//! - [`Validity`]: when a certificate is valid and when it is to be renewed;
//! - [`ClientVerifier`], [`ClientIdentity`]: who a client certificate is, once it is verified.
//!
//! Nothing here reads a clock, a file or the environment: the time comes in as an argument. No
//! ASN.1 is written or read by hand: rcgen writes certificates, x509-parser reads names and
//! extensions, rustls (webpki) verifies chains. No private key is visible through `Debug`.
#![warn(missing_docs)]

mod authority;
mod client;
mod credential;
mod error;
mod validity;

pub use authority::{Authority, CLIENT_LIFETIME, SERVER_LIFETIME};
pub use client::{ClientCertificateError, ClientIdentity, ClientVerifier, verify_client_chain};
pub use credential::{Credential, PrivateKeyPem, fingerprint_sha256};
pub use error::PkiError;
pub use validity::Validity;

#[cfg(test)]
mod tests;
