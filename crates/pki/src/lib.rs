//! Local certificate authority, leaf and client certificates, PEM; pure.
#![warn(missing_docs)]
