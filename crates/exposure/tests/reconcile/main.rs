//! The reconcilers against the real API server in process. What is enforced is decided by the test.

// `cfg(test)` is always true here; clippy allows helpers to unwrap under it.
#[cfg(test)]
mod codes;
#[cfg(test)]
mod common;
#[cfg(test)]
mod healing;
#[cfg(test)]
mod projections;
#[cfg(test)]
mod removal;
#[cfg(test)]
mod scale;
