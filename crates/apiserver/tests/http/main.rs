//! The API as clients meet it: whole requests and answers, in process and over TLS.

// `cfg(test)` is always true here; clippy allows helpers to unwrap under it.
#[cfg(test)]
mod common;
#[cfg(test)]
mod concurrency;
#[cfg(test)]
mod definitions;
#[cfg(test)]
mod expired;
#[cfg(test)]
mod lists_and_watches;
#[cfg(test)]
mod namespaces;
#[cfg(test)]
mod objects;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod rust_clients;
#[cfg(test)]
mod wire;
