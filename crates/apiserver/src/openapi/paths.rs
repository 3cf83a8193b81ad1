//! The operations of a document. kubectl looks for a patch operation of the kind with a query parameter
//! `fieldValidation`; generators of clients read the rest.

use serde_json::{Map, Value, json};

use super::components::{list_name, meta_name, name, reference};
use crate::registry::{ResourceInfo, Subresource, Verb, VersionInfo, api_version};

/// Adds the paths of one resource and of its subresources.
pub(super) fn add(resource: &ResourceInfo, version: &VersionInfo, paths: &mut Map<String, Value>) {
    let api = if resource.group.is_empty() { "api" } else { "apis" };
    let root = format!("/{api}/{}", api_version(&resource.group, &version.name));
    let plural = &resource.plural;
    let kind = Kind::of(resource, version);
    if resource.namespaced {
        let scoped = format!("{root}/namespaces/{{namespace}}/{plural}");
        paths.insert(format!("{root}/{plural}"), item(&[], vec![kind.list("ForAllNamespaces")]));
        insert_resource(resource, version, &kind, &scoped, paths);
    } else {
        insert_resource(resource, version, &kind, &format!("{root}/{plural}"), paths);
    }
}

fn insert_resource(
    resource: &ResourceInfo,
    version: &VersionInfo,
    kind: &Kind<'_>,
    collection: &str,
    paths: &mut Map<String, Value>,
) {
    let mut on_collection: Vec<&str> = Vec::new();
    if resource.namespaced {
        on_collection.push("namespace");
    }
    let mut on_object = on_collection.clone();
    on_object.push("name");
    let allowed = |pairs: Vec<(Verb, (&'static str, Value))>| {
        pairs.into_iter().filter(|(verb, _)| resource.allows(*verb)).map(|(_, operation)| operation).collect()
    };
    let operations = allowed(vec![
        (Verb::List, kind.list("")),
        (Verb::Create, kind.write("post", "create", "")),
        (Verb::DeleteCollection, kind.delete("deletecollection", "Collection")),
    ]);
    paths.insert(collection.to_owned(), item(&on_collection, operations));
    let object = format!("{collection}/{{name}}");
    let operations = allowed(vec![
        (Verb::Get, kind.get("")),
        (Verb::Update, kind.write("put", "replace", "")),
        (Verb::Patch, kind.patch("")),
        (Verb::Delete, kind.delete("delete", "")),
    ]);
    paths.insert(object.clone(), item(&on_object, operations));
    for subresource in &version.subresources {
        let kind = kind.subresource(subresource, resource);
        let operations = subresource
            .verbs
            .iter()
            .filter_map(|verb| match verb {
                Verb::Get => Some(kind.get(&subresource.name)),
                Verb::Update => Some(kind.write("put", "replace", &subresource.name)),
                Verb::Patch => Some(kind.patch(&subresource.name)),
                Verb::Create => Some(kind.write("post", "create", &subresource.name)),
                Verb::Delete | Verb::DeleteCollection | Verb::List | Verb::Watch => None,
            })
            .collect();
        paths.insert(format!("{object}/{}", subresource.name), item(&on_object, operations));
    }
}

/// A path with its parameters and operations.
fn item(parameters: &[&str], operations: Vec<(&'static str, Value)>) -> Value {
    let mut map: Map<String, Value> =
        operations.into_iter().map(|(method, operation)| (method.to_owned(), operation)).collect();
    if !parameters.is_empty() {
        let list = parameters
            .iter()
            .map(|name| {
                json!({"name": name, "in": "path", "required": true, "description": format!("{name} of the object"),
                    "schema": {"type": "string"}})
            })
            .collect();
        map.insert("parameters".to_owned(), Value::Array(list));
    }
    Value::Object(map)
}

/// What all operations on one kind have in common.
struct Kind<'a> {
    identity: Value,
    word: &'a str,
    /// Names of the schemas; `None` for bodies of kinds that no document describes.
    object: Option<String>,
    list: Option<String>,
    /// Middle of operation ids: group, version and scope.
    id: String,
    is_custom: bool,
}

impl<'a> Kind<'a> {
    fn of(resource: &'a ResourceInfo, version: &'a VersionInfo) -> Self {
        let group = resource.group.split('.').next().filter(|group| !group.is_empty()).unwrap_or("core");
        let scope = if resource.namespaced { "Namespaced" } else { "" };
        Self {
            identity: json!({"group": &*resource.group, "version": &*version.name, "kind": &*resource.kind}),
            word: &resource.kind,
            object: Some(name(resource, version)),
            list: Some(list_name(resource, version)),
            id: format!("{}{}{scope}", capitalized(group), capitalized(&version.name)),
            is_custom: resource.is_custom(),
        }
    }

    fn subresource(&self, subresource: &Subresource, resource: &ResourceInfo) -> Self {
        let is_own = *subresource.kind == *resource.kind;
        Self {
            identity: json!({
                "group": &*subresource.group, "version": &*subresource.version, "kind": &*subresource.kind,
            }),
            word: self.word,
            object: self.object.clone().filter(|_| is_own),
            list: None,
            id: self.id.clone(),
            is_custom: self.is_custom,
        }
    }

    fn schema(name: Option<&String>) -> Value {
        name.map_or_else(|| json!({"type": "object"}), |name| reference(name))
    }

    fn operation(&self, action: &str, suffix: &str, parameters: &[Value], answer: Option<&String>) -> Value {
        let suffix = capitalized(suffix);
        json!({
            "description": format!("{action} {} {suffix}", self.word).trim_end(),
            "operationId": format!("{action}{}{}{suffix}", self.id, self.word),
            "parameters": parameters,
            "responses": {"200": {
                "description": "OK", "content": {"application/json": {"schema": Self::schema(answer)}},
            }},
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": self.identity,
        })
    }

    fn list(&self, suffix: &str) -> (&'static str, Value) {
        let parameters = [
            text("continue", "Token of the next page."),
            text("fieldSelector", "Fields that objects must have."),
            text("labelSelector", "Labels that objects must have."),
            number("limit", "Objects of a page at most."),
            text("resourceVersion", "Version that the answer must have or follow."),
            text("resourceVersionMatch", "How resourceVersion is meant."),
            flag("sendInitialEvents", "Whether a watch begins with what exists."),
            flag("allowWatchBookmarks", "Whether a watch tells versions without events."),
            number("timeoutSeconds", "Length of the request at most."),
            flag("watch", "Whether to send changes instead of a list."),
        ];
        ("get", self.operation("list", suffix, &parameters, self.list.as_ref()))
    }

    fn get(&self, suffix: &str) -> (&'static str, Value) {
        let parameters = [text("resourceVersion", "Version that the answer must follow.")];
        ("get", self.operation("get", suffix, &parameters, self.object.as_ref()))
    }

    fn write(&self, method: &'static str, action: &str, suffix: &str) -> (&'static str, Value) {
        let mut operation = self.operation(action, suffix, &write_parameters(), self.object.as_ref());
        let body = json!({
            "required": true, "content": {"application/json": {"schema": Self::schema(self.object.as_ref())}},
        });
        set(&mut operation, "requestBody", body);
        set(&mut operation, "x-kubernetes-action", json!(method));
        (method, operation)
    }

    fn patch(&self, suffix: &str) -> (&'static str, Value) {
        let mut operation = self.operation("patch", suffix, &write_parameters(), self.object.as_ref());
        let mut content = Map::new();
        for (media_type, for_custom) in [
            ("application/json-patch+json", true),
            ("application/merge-patch+json", true),
            ("application/strategic-merge-patch+json", false),
        ] {
            if for_custom || !self.is_custom {
                content.insert(media_type.to_owned(), json!({"schema": reference(&meta_name("Patch"))}));
            }
        }
        set(&mut operation, "requestBody", json!({"required": true, "content": content}));
        ("patch", operation)
    }

    fn delete(&self, action: &str, suffix: &str) -> (&'static str, Value) {
        let parameters = [
            text("dryRun", "`All` to change nothing."),
            text("propagationPolicy", "What happens to dependent objects."),
            number("gracePeriodSeconds", "Seconds before the object goes."),
        ];
        let mut operation = self.operation("delete", suffix, &parameters, Some(&meta_name("Status")));
        let body = json!({"content": {"application/json": {"schema": reference(&meta_name("DeleteOptions"))}}});
        set(&mut operation, "requestBody", body);
        set(&mut operation, "x-kubernetes-action", json!(action));
        ("delete", operation)
    }
}

fn set(operation: &mut Value, key: &str, value: Value) {
    if let Some(map) = operation.as_object_mut() {
        map.insert(key.to_owned(), value);
    }
}

fn write_parameters() -> [Value; 3] {
    [
        text("dryRun", "`All` to change nothing."),
        text("fieldManager", "Who makes the change."),
        text("fieldValidation", "What to do about unknown fields: Ignore, Warn or Strict."),
    ]
}

fn parameter(name: &str, description: &str, kind: &str) -> Value {
    json!({"name": name, "in": "query", "description": description, "schema": {"type": kind}})
}

fn text(name: &str, description: &str) -> Value {
    parameter(name, description, "string")
}

fn number(name: &str, description: &str) -> Value {
    parameter(name, description, "integer")
}

fn flag(name: &str, description: &str) -> Value {
    parameter(name, description, "boolean")
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}
