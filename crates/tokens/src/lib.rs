//! JWT and JWKS model: parsing, key selection, verification in the order the specification gives; pure.
#![warn(missing_docs)]
