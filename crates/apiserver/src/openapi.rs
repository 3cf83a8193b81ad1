//! OpenAPI documents: what kubectl reads before `apply`, `create -f` and `explain` (SPEC 60 §5.3, §5.4).
//!
//! There is one document per group and version, and an index with their hashes. An [`OpenApi`] belongs to one registry
//! snapshot; a document is built when it is first asked for (the index asks for all) and carried over to the next
//! snapshot as long as the resources in it stay the same.

mod components;
mod paths;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use serde_json::{Map, Value, json};

use crate::discovery::{Document, sha512_hex};
use crate::registry::{Registry, ResourceInfo};

/// Body of `/openapi/v2`: a protobuf document with version, title and nothing else. kubectl 1.27 and 1.28 stop without
/// one, and need nothing from it.
pub const V2_STUB: &[u8] = b"\x0a\x032.0\x12\x0e\x0a\x08tidegate\x12\x02v1";
/// `Content-Type` of [`V2_STUB`].
pub const V2_CONTENT_TYPE: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// All documents of one registry snapshot.
#[derive(Debug)]
pub struct OpenApi {
    /// By path below `/openapi/v3/`: `api/v1`, `apis/example.com`, `apis/example.com/v1`.
    entries: BTreeMap<String, Arc<Entry>>,
    index: OnceLock<Document>,
}

#[derive(Debug)]
struct Entry {
    group: Arc<str>,
    /// `None` for the document of a group.
    version: Option<Arc<str>>,
    resources: Vec<Arc<ResourceInfo>>,
    document: OnceLock<Document>,
}

/// How a request for a document is answered.
#[derive(Debug)]
pub enum Lookup<'a> {
    /// The hash in the URL is the current one: cacheable for ever.
    Immutable(&'a Document),
    /// Without a hash: the current document, not to be cached.
    Current(&'a Document),
    /// The hash is an old one: go to this path with the current hash.
    Moved(String),
}

impl OpenApi {
    /// The documents for `registry`; those of `previous` whose resources are the same objects are kept.
    pub fn new(registry: &Registry, previous: Option<&Self>) -> Self {
        let mut entries = BTreeMap::new();
        let mut add = |path: String, entry: Entry| {
            let kept = previous.and_then(|previous| previous.entries.get(&path)).filter(|kept| kept.is_same(&entry));
            entries.insert(path, kept.cloned().unwrap_or_else(|| Arc::new(entry)));
        };
        for group in registry.groups() {
            let base = if group.name.is_empty() { "api".to_owned() } else { format!("apis/{}", group.name) };
            for version in &group.versions {
                let resources =
                    registry.in_group_version(&group.name, version).map(|(resource, _)| resource.clone()).collect();
                let (group, name) = (group.name.clone(), Some(version.clone()));
                let entry = Entry { group, version: name, resources, document: OnceLock::new() };
                add(format!("{base}/{version}"), entry);
            }
            if !group.name.is_empty() {
                let group = group.name.clone();
                add(base, Entry { group, version: None, resources: Vec::new(), document: OnceLock::new() });
            }
        }
        Self { entries, index: OnceLock::new() }
    }

    /// `/openapi/v3`: the paths of all documents with their hashes.
    pub fn index(&self) -> &Document {
        self.index.get_or_init(|| {
            let paths: Map<String, Value> = self
                .entries
                .iter()
                .map(|(path, entry)| {
                    let url = url(path, entry.document());
                    (path.clone(), json!({ "serverRelativeURL": url }))
                })
                .collect();
            Document::new(json!({ "paths": paths }).to_string().into_bytes())
        })
    }

    /// `/openapi/v3/{path}?hash={hash}`; `None` when there is no such document.
    pub fn lookup(&self, path: &str, hash: Option<&str>) -> Option<Lookup<'_>> {
        let entry = self.entries.get(path)?;
        let document = entry.document();
        Some(match hash {
            None | Some("") => Lookup::Current(document),
            Some(hash) if hash == self::hash(document) => Lookup::Immutable(document),
            Some(_) => Lookup::Moved(url(path, document)),
        })
    }
}

fn hash(document: &Document) -> &str {
    document.etag.trim_matches('"')
}

fn url(path: &str, document: &Document) -> String {
    format!("/openapi/v3/{path}?hash={}", hash(document))
}

impl Entry {
    fn is_same(&self, other: &Self) -> bool {
        self.resources.len() == other.resources.len()
            && self.resources.iter().zip(&other.resources).all(|(one, two)| Arc::ptr_eq(one, two))
    }

    fn document(&self) -> &Document {
        self.document.get_or_init(|| {
            let body = match &self.version {
                Some(version) => group_version(version, &self.resources),
                None => group(&self.group),
            };
            Document::new(body.to_string().into_bytes())
        })
    }
}

fn document(paths: &Map<String, Value>, schemas: &Map<String, Value>) -> Value {
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Tidegate", "version": "v1"},
        "paths": paths,
        "components": {"schemas": schemas},
    })
}

fn group_version(version: &str, resources: &[Arc<ResourceInfo>]) -> Value {
    let mut schemas = Map::new();
    let mut all = Map::new();
    for resource in resources {
        let Some(info) = resource.version(version) else { continue };
        components::add(resource, info, &mut schemas);
        paths::add(resource, info, &mut all);
    }
    document(&all, &schemas)
}

/// A group on its own has one operation: reading the group.
fn group(name: &str) -> Value {
    let operation = json!({
        "description": format!("get information about group {name}"),
        "operationId": format!("getAPIGroup{}", &sha512_hex(name.as_bytes()).chars().take(8).collect::<String>()),
        "responses": {"200": {"description": "OK"}},
    });
    let mut paths = Map::new();
    paths.insert(format!("/apis/{name}/"), json!({ "get": operation }));
    document(&paths, &Map::new())
}
