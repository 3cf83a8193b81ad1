//! Which objects of a collection a request means.

use super::options::ListOptions;
use super::target::Target;
use crate::selector::{FieldSelector, LabelSelector, SupportedFields};
use crate::status::ApiError;
use crate::store::Object;

/// Namespace, label selector and field selector of one request.
#[derive(Debug)]
pub(super) struct Selection {
    /// Empty for all.
    namespace: String,
    /// From `metadata.name=x`: most objects are passed over without being parsed.
    name: Option<String>,
    labels: LabelSelector,
    fields: FieldSelector,
}

impl Selection {
    /// # Errors
    /// 400 in upstream's words for selectors that cannot be read.
    pub(super) fn parse(target: &Target, options: &ListOptions) -> Result<Self, ApiError> {
        let supported = if target.resource.is_custom() {
            SupportedFields::custom(target.version.selectable_fields.iter().map(String::as_str))
        } else {
            SupportedFields::builtin(target.group(), target.plural())
        };
        let labels = LabelSelector::parse(options.label_selector.as_deref().unwrap_or_default())?;
        let fields = FieldSelector::parse(options.field_selector.as_deref().unwrap_or_default(), &supported)?;
        let name = fields.exact_name().map(str::to_owned);
        Ok(Self { namespace: target.namespace.clone(), name, labels, fields })
    }

    /// Whether everything in the namespace is meant.
    pub(super) fn is_all(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether the object's namespace is meant.
    pub(super) fn has_namespace(&self, object: &Object) -> bool {
        self.namespace.is_empty() || *self.namespace == *object.namespace()
    }

    /// Whether the object is meant.
    pub(super) fn matches(&self, object: &Object) -> bool {
        self.has_namespace(object)
            && self.name.as_deref().is_none_or(|name| name == object.name())
            && (self.is_all() || (self.labels.matches(object.body()) && self.fields.matches(object.body())))
    }
}
