//! The object store and its watch cache, from outside.

// `cfg(test)` is always true here; clippy allows helpers to unwrap under it.
#[cfg(test)]
mod basics;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod full_disk;
#[cfg(test)]
mod model;
#[cfg(test)]
mod support;
#[cfg(test)]
mod upkeep;
