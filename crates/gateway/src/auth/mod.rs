//! Who is calling: tokens of a request, their verification, and the keys for it. SPEC 30 §5.

pub mod jwks;
