//! Every kubectl found, from 1.27 on, against the API over TLS (SPEC 60 §24): what people and scripts type.

// `cfg(test)` is always true here; clippy allows helpers to unwrap under it.
#[cfg(test)]
mod commands;
#[cfg(test)]
mod custom;
#[cfg(test)]
mod support;
