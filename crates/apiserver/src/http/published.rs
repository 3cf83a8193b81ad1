//! What is served now: the registry and the documents made from it, swapped together.

use std::sync::Arc;

use crate::discovery::Discovery;
use crate::openapi::OpenApi;
use crate::registry::Registry;

/// One immutable state of everything that depends on which resources exist.
#[derive(Debug)]
pub struct Published {
    pub registry: Arc<Registry>,
    pub discovery: Discovery,
    pub open_api: OpenApi,
}

impl Published {
    /// The compiled-in kinds alone.
    pub fn builtin() -> Self {
        Self::of(Registry::builtin(), None)
    }

    /// What follows `self` when `registry` is served; documents of resources that stay are kept.
    #[must_use]
    pub fn next(&self, registry: Registry) -> Self {
        Self::of(registry, Some(&self.open_api))
    }

    fn of(registry: Registry, open_api: Option<&OpenApi>) -> Self {
        Self {
            discovery: Discovery::new(&registry),
            open_api: OpenApi::new(&registry, open_api),
            registry: Arc::new(registry),
        }
    }
}
