//! What the fuzz targets in `tests/` share.
//!
//! In CI each target runs as a plain test on the stable toolchain for [`SHORT`]; `cargo bolero test NAME` runs one for
//! as long as one likes with a coverage-guided engine.

use std::time::Duration;

/// Bound of one target in CI.
pub const SHORT: Duration = Duration::from_secs(3);

/// Splits fuzz input into at most `count` texts at NUL bytes, for targets that take several; input that is not UTF-8 is
/// read lossily, so that every byte string is a case.
pub fn texts(input: &[u8], count: usize) -> Vec<String> {
    input.splitn(count, |byte| *byte == 0).map(|part| String::from_utf8_lossy(part).into_owned()).collect()
}
