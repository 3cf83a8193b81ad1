//! Query parameters.

use url::form_urlencoded;

/// Most parameters one request may have (SPEC 60 §23).
pub const MAX_QUERY_KEYS: usize = 64;

/// Decoded query parameters in the order written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    /// Reads `a=b&c=d`. A leading `&` is accepted: kube-rs sends `?&limit=500` (SPEC 60 §21).
    /// `None` when there are more than [`MAX_QUERY_KEYS`] parameters.
    pub fn parse(query: &str) -> Option<Self> {
        let mut pairs = Vec::new();
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            if pairs.len() == MAX_QUERY_KEYS {
                return None;
            }
            pairs.push((key.into_owned(), value.into_owned()));
        }
        Some(Self { pairs })
    }

    /// The first value of that key; empty values count as absent, as they do upstream.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.pairs
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// Every value of that key, empty ones included.
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.pairs.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Whether the key is there at all.
    pub fn has(&self, key: &str) -> bool {
        self.pairs.iter().any(|(name, _)| name == key)
    }

    /// Whether the key's value is one of Go's words for true.
    pub fn flag(&self, key: &str) -> bool {
        self.get(key).is_some_and(|value| matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True"))
    }
}
