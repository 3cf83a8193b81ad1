//! Starts a platform or its parts on free ports for tests; sample upstream and issuer; kubectl runner.

pub mod issuer;
pub mod upstream;
