//! What is served now: the registry and the documents made from it, swapped together.

use std::sync::Arc;

use crate::discovery::Discovery;
use crate::registry::Registry;

/// One immutable state of everything that depends on which resources exist.
#[derive(Debug)]
pub struct Published {
    pub registry: Arc<Registry>,
    pub discovery: Discovery,
}

impl Published {
    /// Builds every document of a registry.
    pub fn new(registry: Registry) -> Self {
        Self { discovery: Discovery::new(&registry), registry: Arc::new(registry) }
    }
}
