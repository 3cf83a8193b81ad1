//! Addresses of listeners.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Where a listener is opened; port 0 picks a free port.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String")]
pub(crate) enum Listen {
    /// At this address.
    At(SocketAddr),
    /// Not at all.
    Off,
}

impl Listen {
    pub(crate) fn loopback(port: u16) -> Self {
        Self::At(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    }

    /// The address, unless it is off.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::At(address) => Some(*address),
            Self::Off => None,
        }
    }

    /// Whether both cannot be opened.
    pub(crate) fn clashes_with(&self, other: &Self) -> bool {
        let (Self::At(one), Self::At(two)) = (self, other) else { return false };
        let same_place = one.ip() == two.ip() || one.ip().is_unspecified() || two.ip().is_unspecified();
        one.port() != 0 && one.port() == two.port() && same_place
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "off" {
            return Ok(Self::Off);
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::At(address));
        }
        let on_localhost = text.strip_prefix("localhost:").and_then(|port| port.parse().ok());
        on_localhost.map(|port| Self::At(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))).ok_or_else(|| {
            format!("`{text}` is not an address such as `127.0.0.1:8080` (port 0 picks a free one) or `off`")
        })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(address) => address.fmt(formatter),
            Self::Off => formatter.write_str("off"),
        }
    }
}

impl Serialize for Listen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// YAML 1.1 readers took a bare `off` for a boolean; both spellings mean the same here.
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Text(String),
            Flag(bool),
        }
        match Form::deserialize(deserializer)? {
            Form::Text(text) => text.parse().map_err(serde::de::Error::custom),
            Form::Flag(false) => Ok(Self::Off),
            Form::Flag(true) => {
                Err(serde::de::Error::custom("`true` is not an address such as `127.0.0.1:8080` or `off`"))
            }
        }
    }
}
