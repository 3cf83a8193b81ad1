//! What others have to say about a write (SPEC 60 §18): checks of the product's own kinds that are not the API server's
//! business. They are pure over the object and add warnings; they never do I/O.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

/// An object that is about to be stored, in the version it was sent in.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    pub group: &'a str,
    pub kind: &'a str,
    pub object: &'a Value,
}

/// Gives the texts of `Warning` headers for a write, usually none.
#[derive(Clone)]
pub struct Advice(Arc<dyn Fn(Subject<'_>) -> Vec<String> + Send + Sync>);

impl Advice {
    pub fn new(advise: impl Fn(Subject<'_>) -> Vec<String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(advise))
    }

    /// The warnings about one write.
    pub fn about(&self, subject: Subject<'_>) -> Vec<String> {
        (self.0)(subject)
    }
}

impl fmt::Debug for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Advice(..)")
    }
}
