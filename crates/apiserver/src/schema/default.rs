//! Filling in defaults and dropping nulls that are not allowed.

use serde_json::Value;

use super::{Additional, Node};

pub(super) fn any(node: &Node) -> bool {
    node.default.is_some()
        || node.properties.values().any(any)
        || node.items.as_deref().is_some_and(any)
        || matches!(&node.additional, Additional::Schema(schema) if any(schema))
}

pub(super) fn apply(node: &Node, value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, property) in &node.properties {
                let Some(default) = &property.default else { continue };
                match map.get_mut(key) {
                    Some(present) => replace_null(property, present),
                    None => {
                        map.insert(key.clone(), default.clone());
                    }
                }
            }
            for (key, value) in map {
                if let Some(child) = node.child(key) {
                    replace_null(child, value);
                    apply(child, value);
                }
            }
        }
        Value::Array(values) => {
            if let Some(item) = node.items.as_deref() {
                for value in values {
                    replace_null(item, value);
                    apply(item, value);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn replace_null(node: &Node, value: &mut Value) {
    if value.is_null()
        && !node.nullable
        && let Some(default) = &node.default
    {
        *value = default.clone();
    }
}

/// Removes object fields that are null although their schema does not allow it (SPEC 60 §13.3). Lists keep theirs,
/// because dropping one would move its neighbors; validation then reports them.
pub(super) fn drop_nulls(node: &Node, value: &mut Value) {
    match value {
        Value::Object(map) => map.retain(|key, value| {
            let Some(child) = node.child(key) else { return true };
            if value.is_null() {
                return child.nullable;
            }
            drop_nulls(child, value);
            true
        }),
        Value::Array(values) => {
            if let Some(item) = node.items.as_deref() {
                for value in values {
                    drop_nulls(item, value);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
