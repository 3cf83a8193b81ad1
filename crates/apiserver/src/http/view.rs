//! How a stored object looks to one request: version, shape, encoding (SPEC 60 §4.1, §13.5, §15).

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;

use super::events;
use super::negotiate::Shape;
use super::target::Target;
use crate::admission::{Advice, Subject};
use crate::crd::conversion::Converters;
use crate::crd::instance;
use crate::registry::{Builtin, ResourceInfo, VersionInfo};
use crate::status::ApiError;
use crate::store::Object;
use crate::table::PartialObject;

/// The requested version of a resource, ready to present objects of it.
#[derive(Debug, Clone)]
pub(super) struct View {
    pub(super) resource: Arc<ResourceInfo>,
    pub(super) version: Arc<VersionInfo>,
    pub(super) api_version: String,
    /// What an encoded object of this version begins with.
    prefix: String,
    fills_in: bool,
    converters: Arc<Converters>,
    advice: Option<Advice>,
    is_events_face: bool,
}

impl View {
    pub(super) fn new(target: &Target, converters: &Arc<Converters>, advice: Option<&Advice>) -> Self {
        let (resource, version) = (&target.resource, &target.version);
        let api_version = resource.api_version(&version.name);
        Self {
            // Keys are in alphabetical order, and nothing sorts before `apiVersion` in the kinds we serve; a custom
            // field that does only costs the longer way.
            prefix: format!("{{\"apiVersion\":{},", Value::from(api_version.as_str())),
            fills_in: version.structural.as_ref().is_some_and(|schema| schema.has_defaults()),
            converters: Arc::clone(converters),
            advice: advice.cloned(),
            is_events_face: resource.builtin() == Some(Builtin::EventsEvent),
            resource: Arc::clone(resource),
            version: Arc::clone(version),
            api_version,
        }
    }

    pub(super) fn converters(&self) -> &Converters {
        &self.converters
    }

    /// What others warn of when `object`, which is in this version, is stored.
    pub(super) fn warnings(&self, object: &Value) -> Vec<String> {
        let subject = Subject { group: &self.resource.group, kind: &self.resource.kind, object };
        self.advice.as_ref().map(|advice| advice.about(subject)).unwrap_or_default()
    }

    /// Whether the stored bytes are the answer.
    pub(super) fn is_stored_form(&self, object: &Object) -> bool {
        !self.fills_in && !self.is_events_face && object.encoded.starts_with(self.prefix.as_bytes())
    }

    /// The object in this version.
    ///
    /// # Errors
    /// 500 when a converter refuses it.
    pub(super) fn value(&self, object: &Object) -> Result<Value, ApiError> {
        if self.is_events_face {
            return Ok(events::to_events_face(object.body()));
        }
        let shown = instance::present(&self.converters, &self.resource, &self.version, object.body());
        shown.map(Cow::into_owned).map_err(ApiError::internal)
    }

    /// The object in this version as JSON; the stored bytes themselves wherever possible.
    ///
    /// # Errors
    /// 500 when a converter refuses it.
    pub(super) fn bytes(&self, object: &Object) -> Result<Bytes, ApiError> {
        if self.is_stored_form(object) {
            return Ok(object.encoded.clone());
        }
        Ok(Bytes::from(self.value(object)?.to_string()))
    }

    /// The object in a shape that is no table.
    ///
    /// # Errors
    /// 500 when a converter refuses it.
    pub(super) fn shaped(&self, object: &Object, shape: Shape) -> Result<Bytes, ApiError> {
        match shape {
            Shape::Metadata(version) => json(&PartialObject::new(object.body(), version.api_version())),
            Shape::Whole | Shape::Table(_) => self.bytes(object),
        }
    }
}

/// Canonical JSON of one of our own bodies.
///
/// # Errors
/// 500; JSON values always serialize.
pub(super) fn json(body: &impl Serialize) -> Result<Bytes, ApiError> {
    serde_json::to_vec(body).map(Bytes::from).map_err(|_| ApiError::internal("the answer cannot be encoded"))
}
