//! Durations in configuration: text such as `500ms`, `60s`, `5m`, `24h`.
//!
//! Use as `#[serde(with = "tidegate_runtime::config::duration")]` on a [`Duration`].

use std::time::Duration;

use jiff::SignedDuration;
use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

/// Writes the shortest text that reads back as the same duration.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    match SignedDuration::try_from(*duration) {
        Ok(signed) => serializer.collect_str(&format_args!("{signed:#}")),
        Err(error) => Err(serde::ser::Error::custom(error)),
    }
}

/// Reads a duration; a number without unit and a negative one are refused.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse::<SignedDuration>()
        .ok()
        .and_then(|signed| Duration::try_from(signed).ok())
        .ok_or_else(|| D::Error::custom(format!("`{text}` is not a duration such as `500ms`, `60s`, `5m` or `24h`")))
}
