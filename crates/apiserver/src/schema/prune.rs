//! Dropping fields that a schema does not declare.

use std::fmt::Write as _;

use serde_json::Value;

use super::{Additional, Node};

/// Prunes a whole object. Its own `apiVersion`, `kind` and `metadata` are the server's business, not the schema's.
pub(super) fn root(node: &Node, object: &mut Value) -> Vec<String> {
    let mut pruning = Pruning { path: String::new(), unknown: Vec::new() };
    pruning.value(Some(node), object, true);
    pruning.unknown.sort_unstable();
    pruning.unknown
}

/// Prunes a part of an object. Returns what was removed, relative to it.
pub(super) fn value(node: &Node, value: &mut Value) -> Vec<String> {
    let mut pruning = Pruning { path: String::new(), unknown: Vec::new() };
    pruning.value(Some(node), value, false);
    pruning.unknown
}

/// Whether the server's own fields of an object (embedded or not) stay whatever the schema says.
fn is_type_field(key: &str) -> bool {
    matches!(key, "apiVersion" | "kind" | "metadata")
}

struct Pruning {
    /// Where the walk is, such as `spec.rules[0]`.
    path: String,
    unknown: Vec<String>,
}

impl Pruning {
    /// `node` is `None` below a place whose content is not described: then nothing in an object stays.
    fn value(&mut self, node: Option<&Node>, value: &mut Value, is_resource: bool) {
        match value {
            Value::Object(map) => {
                let preserves = node.is_some_and(|node| node.preserves_unknown);
                let is_resource = is_resource || node.is_some_and(|node| node.is_embedded);
                map.retain(|key, value| {
                    if is_resource && is_type_field(key) {
                        return true;
                    }
                    let length = self.path.len();
                    if length > 0 {
                        self.path.push('.');
                    }
                    self.path.push_str(key);
                    let stays = self.entry(node, key, value, preserves);
                    self.path.truncate(length);
                    stays
                });
            }
            Value::Array(items) => {
                let item = node.and_then(|node| node.items.as_deref());
                // A list of undescribed things inside something preserved is preserved as a whole.
                if item.is_none() && node.is_some_and(|node| node.preserves_unknown) {
                    return;
                }
                for (index, value) in items.iter_mut().enumerate() {
                    let length = self.path.len();
                    let _ = write!(self.path, "[{index}]");
                    self.value(item, value, false);
                    self.path.truncate(length);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn entry(&mut self, node: Option<&Node>, key: &str, value: &mut Value, preserves: bool) -> bool {
        let Some(node) = node else {
            self.unknown.push(self.path.clone());
            return false;
        };
        if let Some(child) = node.child(key) {
            self.value(Some(child), value, false);
            return true;
        }
        if preserves {
            return true;
        }
        if matches!(node.additional, Additional::Any) {
            // Any key is fine, but nothing describes the objects behind it.
            self.value(None, value, false);
            return true;
        }
        self.unknown.push(self.path.clone());
        false
    }
}
