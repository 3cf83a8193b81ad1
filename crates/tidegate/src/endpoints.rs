//! `endpoints.json`: where this process really listens.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tidegate_runtime::write_atomically;

/// Addresses by listener, and the domain. Values are `host:port` without scheme; a listener that is not open is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Endpoints {
    values: BTreeMap<String, String>,
}

impl Endpoints {
    /// No listener yet.
    pub(crate) fn new(domain: &str) -> Self {
        Self { values: BTreeMap::from([("domain".to_owned(), domain.to_owned())]) }
    }

    /// Adds an open listener.
    pub(crate) fn insert(&mut self, listener: &'static str, address: SocketAddr) {
        self.values.insert(listener.to_owned(), reachable(address).to_string());
    }

    /// Address of a listener, if it is open.
    pub(crate) fn get(&self, listener: &str) -> Option<&str> {
        self.values.get(listener).map(String::as_str)
    }

    /// All of them, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Where the file of a data dir is.
    pub(crate) fn path(data_dir: &Path) -> PathBuf {
        data_dir.join("endpoints.json")
    }

    pub(crate) fn write(&self, data_dir: &Path) -> io::Result<()> {
        let text = serde_json::to_string_pretty(&self.values).map_err(io::Error::other)? + "\n";
        write_atomically(&Self::path(data_dir), text.as_bytes(), 0o644)
    }

    pub(crate) fn read(data_dir: &Path) -> io::Result<Self> {
        let text = std::fs::read(Self::path(data_dir))?;
        Ok(Self { values: serde_json::from_slice(&text).map_err(io::Error::other)? })
    }
}

/// An address that a client on this machine can connect to: a listener on all addresses is reached over loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => ([127, 0, 0, 1], v4.port()).into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => (std::net::Ipv6Addr::LOCALHOST, v6.port()).into(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut endpoints = Endpoints::new("apps.test");
        endpoints.insert("http", "0.0.0.0:8080".parse().unwrap());
        endpoints.insert("admin", "[::1]:4445".parse().unwrap());
        endpoints.write(dir.path()).unwrap();
        let read = Endpoints::read(dir.path()).unwrap();
        assert_eq!(read, endpoints);
        assert_eq!(read.get("http"), Some("127.0.0.1:8080"));
        assert_eq!(read.get("admin"), Some("[::1]:4445"));
        assert_eq!(read.get("outbound"), None);
        assert_eq!(read.get("domain"), Some("apps.test"));
    }
}
