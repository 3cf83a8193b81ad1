//! Lease.

use serde_json::Value;

use super::fields;
use crate::status::FieldError;

pub(super) fn admit(object: &Value, problems: &mut Vec<FieldError>) {
    let spec = super::fields_at(fields(object), "spec");
    let too_small = |field: &str, least: i64| {
        spec.get(field).filter(|value| value.as_i64().is_some_and(|number| number < least)).cloned()
    };
    if let Some(value) = too_small("leaseDurationSeconds", 1) {
        problems.push(FieldError::invalid("spec.leaseDurationSeconds", &value, "must be greater than 0"));
    }
    // The first holder of client-go's leader election writes 0.
    if let Some(value) = too_small("leaseTransitions", 0) {
        problems.push(FieldError::invalid("spec.leaseTransitions", &value, "must be greater than or equal to 0"));
    }
    if spec.contains_key("preferredHolder") && !spec.contains_key("strategy") {
        problems.push(FieldError::forbidden("spec.preferredHolder", "may only be specified if `strategy` is defined"));
    }
}
