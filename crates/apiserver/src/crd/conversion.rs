//! Moving an object between the versions of its definition (SPEC 60 §13.5).
//!
//! With strategy `None`, only `apiVersion` changes. Kinds of our own whose versions differ in shape register a
//! [`Converter`]; their definitions still say `None`.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::registry::ResourceInfo;

/// Changes the shape of one kind's objects.
///
/// An implementation must keep `metadata` apart from labels and annotations, must be able to go from every version to
/// every other, and must lose nothing on a round trip that starts at the storage version.
pub trait Converter: Send + Sync {
    /// Turns an object of version `from` into version `to`; `apiVersion` is set by the caller.
    ///
    /// # Errors
    /// Why the object has no form in that version, for people.
    fn convert(&self, object: &mut Value, from: &str, to: &str) -> Result<(), String>;
}

/// A conversion failed; answered as 500.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("conversion of {resource} from {from} to {to} failed: {reason}")]
pub struct ConversionError {
    resource: String,
    from: String,
    to: String,
    reason: String,
}

/// The registered converters, by name of the definition (`apirules.gateway.kyma-project.io`).
#[derive(Clone, Default)]
pub struct Converters {
    by_definition: HashMap<String, Arc<dyn Converter>>,
}

impl std::fmt::Debug for Converters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.by_definition.keys()).finish()
    }
}

impl Converters {
    /// Adds the converter of one definition.
    #[must_use]
    pub fn with(mut self, definition: impl Into<String>, converter: Arc<dyn Converter>) -> Self {
        self.by_definition.insert(definition.into(), converter);
        self
    }

    /// Turns `object` into version `to` of its resource, whatever version its `apiVersion` names.
    ///
    /// # Errors
    /// When the converter refuses.
    pub fn convert(&self, resource: &ResourceInfo, object: &mut Value, to: &str) -> Result<(), ConversionError> {
        let wanted = resource.api_version(to);
        let from = object.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
        if from == wanted {
            return Ok(());
        }
        let from = from.rsplit_once('/').map_or(from, |(_, version)| version).to_owned();
        let converter = resource.custom().and_then(|custom| self.by_definition.get(&*custom.definition));
        if let Some(converter) = converter {
            converter.convert(object, &from, to).map_err(|reason| ConversionError {
                resource: resource.qualified(),
                from,
                to: to.to_owned(),
                reason,
            })?;
        }
        if let Some(map) = object.as_object_mut() {
            map.insert("apiVersion".to_owned(), json!(wanted));
        }
        Ok(())
    }
}
