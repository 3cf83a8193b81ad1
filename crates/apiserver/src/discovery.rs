//! Discovery: the documents that tell clients which resources exist (SPEC 60 §5.1, §5.2).
//!
//! A [`Discovery`] holds finished bytes. It is built once per registry generation, beside the registry, and read by
//! every request; nothing is encoded per request except `/api`, which names the caller's server address.

mod aggregated;
mod documents;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::digest;
use bytes::Bytes;

use crate::registry::Registry;

/// The two names of the aggregated format. The documents differ in nothing else: kubectl 1.27 to 1.29 know only the
/// older one, newer servers only the newer one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AggregatedVersion {
    V2,
    V2Beta1,
}

impl AggregatedVersion {
    /// The version as media types name it; `None` for one that is not served.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "v2" => Some(Self::V2),
            "v2beta1" => Some(Self::V2Beta1),
            _ => None,
        }
    }

    /// The exact `Content-Type` of answers; kubectl compares it as text.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::V2 => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
            Self::V2Beta1 => "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
        }
    }

    fn api_version(self) -> &'static str {
        match self {
            Self::V2 => "apidiscovery.k8s.io/v2",
            Self::V2Beta1 => "apidiscovery.k8s.io/v2beta1",
        }
    }
}

/// A body with its validator.
#[derive(Debug, Clone)]
pub struct Document {
    pub body: Bytes,
    /// With quotes, as in the `ETag` header: SHA-512 of the body in hex.
    pub etag: String,
}

impl Document {
    /// Takes a finished body.
    pub fn new(body: Vec<u8>) -> Self {
        let etag = format!("\"{}\"", sha512_hex(&body));
        Self { body: body.into(), etag }
    }
}

/// SHA-512 in 128 upper-case hexadecimal digits.
pub fn sha512_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digest = digest::digest(&digest::SHA512, bytes);
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).map_or('0', |digit| char::from(*digit));
    digest.as_ref().iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// All discovery documents of one registry snapshot.
#[derive(Debug)]
pub struct Discovery {
    groups: Bytes,
    group: HashMap<Arc<str>, Bytes>,
    resources: HashMap<(Arc<str>, Arc<str>), Bytes>,
    root: Bytes,
    /// Core and named groups, in both versions of the format.
    aggregated: [(AggregatedVersion, Document, Document); 2],
}

impl Discovery {
    /// Builds every document.
    pub fn new(registry: &Registry) -> Self {
        let aggregated = [AggregatedVersion::V2, AggregatedVersion::V2Beta1].map(|version| {
            let core = aggregated::document(registry, version, |group| group.name.is_empty());
            let named = aggregated::document(registry, version, |group| !group.name.is_empty());
            (version, core, named)
        });
        Self {
            groups: documents::groups(registry),
            group: documents::each_group(registry),
            resources: documents::each_version(registry),
            root: documents::root(registry),
            aggregated,
        }
    }

    /// `/api`, unaggregated; `server_address` is `host:port`.
    pub fn core_versions(server_address: &str) -> Bytes {
        documents::core_versions(server_address)
    }

    /// `/apis`, unaggregated.
    pub fn groups(&self) -> &Bytes {
        &self.groups
    }

    /// `/apis/{group}`.
    pub fn group(&self, group: &str) -> Option<&Bytes> {
        self.group.get(group)
    }

    /// `/api/v1` (with an empty group) and `/apis/{group}/{version}`.
    pub fn resources(&self, group: &str, version: &str) -> Option<&Bytes> {
        self.resources.get(&(Arc::from(group), Arc::from(version)))
    }

    /// `/`: the paths that this server answers.
    pub fn root(&self) -> &Bytes {
        &self.root
    }

    /// `/api` aggregated.
    pub fn aggregated_core(&self, version: AggregatedVersion) -> &Document {
        let [(first, core, _), (_, other, _)] = &self.aggregated;
        if *first == version { core } else { other }
    }

    /// `/apis` aggregated.
    pub fn aggregated_groups(&self, version: AggregatedVersion) -> &Document {
        let [(first, _, groups), (_, _, other)] = &self.aggregated;
        if *first == version { groups } else { other }
    }
}

fn encode<T: serde::Serialize>(document: &T) -> Vec<u8> {
    // Plain structs of strings always have a JSON form.
    serde_json::to_vec(document).unwrap_or_default()
}
