//! The schemas of a document: those of the built-in kinds as they are, those of custom resources made from their
//! definitions.

use serde_json::{Map, Value, json};

use crate::decode::{definition_name, definitions};
use crate::registry::{ResourceInfo, VersionInfo};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const REFERENCE: &str = "#/components/schemas/";

/// The name of a kind's schema: that of its Go type, or the reversed group for a custom resource.
pub(super) fn name(resource: &ResourceInfo, version: &VersionInfo) -> String {
    definition_name(&resource.group, &version.name, &resource.kind)
        .map_or_else(|| custom_name(&resource.group, &version.name, &resource.kind), str::to_owned)
}

/// The name of the schema of a kind's list.
pub(super) fn list_name(resource: &ResourceInfo, version: &VersionInfo) -> String {
    match definition_name(&resource.group, &version.name, &resource.kind) {
        Some(name) => format!("{name}List"),
        None => custom_name(&resource.group, &version.name, &resource.list_kind),
    }
}

/// The name of a schema that all kinds share, such as `DeleteOptions`.
pub(super) fn meta_name(kind: &str) -> String {
    format!("{META}.{kind}")
}

pub(super) fn reference(name: &str) -> Value {
    json!({ "$ref": format!("{REFERENCE}{name}") })
}

fn custom_name(group: &str, version: &str, kind: &str) -> String {
    let mut parts: Vec<&str> = group.split('.').rev().collect();
    parts.extend([version, kind]);
    parts.join(".")
}

/// Adds the schemas of one kind, its list, and everything that they and its operations refer to.
pub(super) fn add(resource: &ResourceInfo, version: &VersionInfo, schemas: &mut Map<String, Value>) {
    if resource.is_custom() {
        let raw = version.schema.as_deref().cloned().unwrap_or_else(|| json!({"type": "object"}));
        schemas.insert(name(resource, version), custom(resource, version, raw));
        schemas.insert(list_name(resource, version), custom_list(resource, version));
    } else {
        include(&name(resource, version), schemas);
        include(&list_name(resource, version), schemas);
    }
    for kind in ["ObjectMeta", "ListMeta", "DeleteOptions", "Status", "Patch"] {
        include(&meta_name(kind), schemas);
    }
}

/// Copies a built-in definition and all that it refers to.
fn include(name: &str, schemas: &mut Map<String, Value>) {
    let mut wanted = vec![name.to_owned()];
    while let Some(name) = wanted.pop() {
        if schemas.contains_key(&name) {
            continue;
        }
        let Some(definition) = definitions().get(&name) else { continue };
        let mut definition = definition.clone();
        references(&definition, &mut wanted);
        // The Rust types always have metadata; clients need not send it.
        if definition.get("x-kubernetes-group-version-kind").is_some()
            && let Some(Value::Array(required)) = definition.get_mut("required")
        {
            required.retain(|field| field != "metadata");
            if required.is_empty()
                && let Some(map) = definition.as_object_mut()
            {
                map.remove("required");
            }
        }
        schemas.insert(name, definition);
    }
}

fn references(schema: &Value, found: &mut Vec<String>) {
    match schema {
        Value::Object(map) => {
            for (key, value) in map {
                match value {
                    Value::String(text) if key == "$ref" => {
                        found.extend(text.strip_prefix(REFERENCE).map(str::to_owned));
                    }
                    other => references(other, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn identity(group: &str, version: &str, kind: &str) -> Value {
    json!([{"group": group, "version": version, "kind": kind}])
}

fn custom(resource: &ResourceInfo, version: &VersionInfo, mut schema: Value) -> Value {
    embed(&mut schema, true);
    if let Some(map) = schema.as_object_mut() {
        let identity = identity(&resource.group, &version.name, &resource.kind);
        map.insert("x-kubernetes-group-version-kind".to_owned(), identity);
    }
    schema
}

fn custom_list(resource: &ResourceInfo, version: &VersionInfo) -> Value {
    json!({
        "description": format!("{} is a list of {}", resource.list_kind, resource.kind),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": api_version(),
            "kind": kind(),
            "metadata": {
                "description": "Version of the list and position in it.",
                "allOf": [reference(&meta_name("ListMeta"))],
            },
            "items": {
                "description": format!("List of {}.", resource.plural),
                "type": "array",
                "items": reference(&name(resource, version)),
            },
        },
        "x-kubernetes-group-version-kind": identity(&resource.group, &version.name, &resource.list_kind),
    })
}

fn api_version() -> Value {
    json!({"type": "string", "description": "Group and version that this representation of the object has."})
}

fn kind() -> Value {
    json!({"type": "string", "description": "Kind of the object, in CamelCase."})
}

/// Declares `apiVersion`, `kind` and `metadata` of the object and of every object embedded in it, which definitions
/// leave out because every object has them.
fn embed(schema: &mut Value, is_resource: bool) {
    let Some(map) = schema.as_object_mut() else { return };
    let is_resource = is_resource || map.get("x-kubernetes-embedded-resource") == Some(&Value::Bool(true));
    if is_resource {
        let properties = map.entry("properties").or_insert_with(|| json!({}));
        if let Some(properties) = properties.as_object_mut() {
            for (key, standard) in [("apiVersion", api_version()), ("kind", kind())] {
                // A definition may restrict these two; most then leave out what they are.
                match properties.get_mut(key).and_then(Value::as_object_mut) {
                    Some(declared) => {
                        if let (None, Some(text)) = (declared.get("description"), standard.get("description")) {
                            declared.insert("description".to_owned(), text.clone());
                        }
                    }
                    None => {
                        properties.insert(key.to_owned(), standard);
                    }
                }
            }
            let metadata = json!({
                "description": "Name, labels and other data that every object has.",
                "allOf": [reference(&meta_name("ObjectMeta"))],
            });
            properties.insert("metadata".to_owned(), metadata);
        }
    }
    if let Some(Value::Object(properties)) = map.get_mut("properties") {
        properties.iter_mut().filter(|(name, _)| !(is_resource && *name == "metadata")).for_each(|(_, child)| {
            embed(child, false);
        });
    }
    for key in ["items", "additionalProperties"] {
        if let Some(child) = map.get_mut(key) {
            embed(child, false);
        }
    }
}
