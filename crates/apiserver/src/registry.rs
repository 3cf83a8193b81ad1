//! Which resources this server knows: built-in kinds and those that CustomResourceDefinitions declare.
//!
//! A [`Registry`] is an immutable snapshot. Whoever establishes or removes a definition builds a new one
//! (`Registry::with_custom`) and swaps it in; a request reads one snapshot from start to end, so that routing,
//! decoding and encoding agree. Nothing here does I/O.

mod builtin;
mod custom;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use crate::schema::Schema;

pub use builtin::Builtin;
pub use custom::{Custom, CustomError};

/// The verbs of the resource API, in the spelling of discovery and RBAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    Create,
    Delete,
    DeleteCollection,
    Get,
    List,
    Patch,
    Update,
    Watch,
}

impl Verb {
    /// The lower-case word, e.g. `deletecollection`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
            Self::Get => "get",
            Self::List => "list",
            Self::Patch => "patch",
            Self::Update => "update",
            Self::Watch => "watch",
        }
    }

    /// Whether a request with this verb may change the store.
    pub fn is_mutating(self) -> bool {
        match self {
            Self::Create | Self::Delete | Self::DeleteCollection | Self::Patch | Self::Update => true,
            Self::Get | Self::List | Self::Watch => false,
        }
    }
}

/// A subresource of one version of a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subresource {
    /// `status`, `scale` or `finalize`.
    pub name: Arc<str>,
    /// Group, version and kind of its body; equal to the parent's unless the body is another kind (`Scale`).
    pub group: Arc<str>,
    pub version: Arc<str>,
    pub kind: Arc<str>,
    pub verbs: &'static [Verb],
}

/// An additional printer column of a custom resource version (SPEC 60 §15).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    /// `integer`, `number`, `string`, `boolean` or `date`.
    pub kind: String,
    /// OpenAPI format; empty when not given.
    pub format: String,
    /// Empty when not given; the Table then says where the value comes from.
    pub description: String,
    /// 0 is always shown, greater only by `-o wide`.
    pub priority: i64,
    pub json_path: String,
}

/// Where `/scale` finds its values (SPEC 60 §13.6); paths as written in the definition, such as `.spec.replicas`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScalePaths {
    pub spec_replicas: String,
    pub status_replicas: String,
    pub label_selector: Option<String>,
}

/// One version of a resource.
#[derive(Debug, Clone)]
pub struct VersionInfo {
    /// `v1`.
    pub name: Arc<str>,
    pub served: bool,
    /// What clients of a deprecated version are told in a `Warning` header; `None` when it is not deprecated.
    pub deprecation_warning: Option<String>,
    pub subresources: Vec<Subresource>,
    /// The definition's `openAPIV3Schema` as written; `None` for built-ins.
    pub schema: Option<Arc<serde_json::Value>>,
    /// The same, compiled once for all requests; `None` for built-ins.
    pub structural: Option<Arc<Schema>>,
    /// Printer columns of a custom resource; empty for built-ins, whose columns are code.
    pub columns: Vec<Column>,
    /// Paths such as `.spec.color` that a field selector may name besides metadata.
    pub selectable_fields: Vec<String>,
    pub scale: Option<ScalePaths>,
}

impl VersionInfo {
    /// The subresource of that name, if this version has it.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|subresource| &*subresource.name == name)
    }

    /// Whether `status` is written through its own endpoint only.
    pub fn has_status(&self) -> bool {
        self.subresource("status").is_some()
    }
}

/// Whether a resource is compiled in or declared.
#[derive(Debug, Clone)]
pub enum Origin {
    Builtin(Builtin),
    Custom(Custom),
}

/// One resource: everything that routing, discovery, decoding and printing ask about it.
#[derive(Debug, Clone)]
pub struct ResourceInfo {
    /// Empty for core.
    pub group: Arc<str>,
    pub kind: Arc<str>,
    pub list_kind: Arc<str>,
    pub plural: Arc<str>,
    /// Empty if none.
    pub singular: Arc<str>,
    pub short_names: Vec<String>,
    pub categories: Vec<String>,
    pub namespaced: bool,
    /// In discovery order.
    pub verbs: &'static [Verb],
    /// Every version of the definition, preferred first (GA, beta, alpha, then the rest); not all need be served.
    pub versions: Vec<VersionInfo>,
    /// The version that new writes are stored at.
    pub storage_version: Arc<str>,
    /// Group under which the objects are stored. Differs from `group` only where two groups show one storage
    /// (`events` of core and `events.k8s.io`).
    pub storage_group: Arc<str>,
    pub origin: Origin,
}

impl ResourceInfo {
    /// The version of that name, served or not.
    pub fn version(&self, name: &str) -> Option<&VersionInfo> {
        self.versions.iter().find(|version| &*version.name == name)
    }

    /// Served versions, preferred first.
    pub fn served_versions(&self) -> impl Iterator<Item = &VersionInfo> {
        self.versions.iter().filter(|version| version.served)
    }

    /// `v1` or `group/v1`.
    pub fn api_version(&self, version: &str) -> String {
        api_version(&self.group, version)
    }

    /// `configmaps` or `widgets.example.com`: how messages name the resource.
    pub fn qualified(&self) -> String {
        if self.group.is_empty() { self.plural.to_string() } else { format!("{}.{}", self.plural, self.group) }
    }

    pub fn is_custom(&self) -> bool {
        matches!(self.origin, Origin::Custom(_))
    }

    /// Which compiled-in kind this is.
    pub fn builtin(&self) -> Option<Builtin> {
        match &self.origin {
            Origin::Builtin(builtin) => Some(*builtin),
            Origin::Custom(_) => None,
        }
    }

    /// The definition's facts for a custom resource.
    pub fn custom(&self) -> Option<&Custom> {
        match &self.origin {
            Origin::Builtin(_) => None,
            Origin::Custom(custom) => Some(custom),
        }
    }

    pub fn allows(&self, verb: Verb) -> bool {
        self.verbs.contains(&verb)
    }
}

/// `v1` for the core group, else `group/version`.
pub fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// One API group in discovery order.
#[derive(Debug, Clone)]
pub struct GroupInfo {
    /// Empty for core.
    pub name: Arc<str>,
    /// Versions with at least one served resource, preferred first.
    pub versions: Vec<Arc<str>>,
}

/// An immutable snapshot of all resources (SPEC 60 §5): compiled-in kinds in fixed order, then custom ones by group.
#[derive(Debug, Clone)]
pub struct Registry {
    generation: u64,
    resources: Vec<Arc<ResourceInfo>>,
    groups: Vec<GroupInfo>,
    by_plural: HashMap<Arc<str>, HashMap<Arc<str>, usize>>,
}

impl Registry {
    /// The compiled-in kinds alone, generation 0.
    pub fn builtin() -> Self {
        Self::assemble(0, builtin::resources().into_iter().map(Arc::new).collect())
    }

    /// The compiled-in kinds followed by `custom` (sorted by group, then plural), one generation later than `self`.
    #[must_use]
    pub fn with_custom(&self, custom: impl IntoIterator<Item = Arc<ResourceInfo>>) -> Self {
        let mut custom: Vec<_> = custom.into_iter().collect();
        custom.sort_by(|a, b| (&a.group, &a.plural).cmp(&(&b.group, &b.plural)));
        let mut resources: Vec<_> = self.resources.iter().filter(|resource| !resource.is_custom()).cloned().collect();
        resources.extend(custom);
        Self::assemble(self.generation + 1, resources)
    }

    fn assemble(generation: u64, resources: Vec<Arc<ResourceInfo>>) -> Self {
        let mut groups: Vec<GroupInfo> = Vec::new();
        let mut by_plural: HashMap<Arc<str>, HashMap<Arc<str>, usize>> = HashMap::new();
        for (index, resource) in resources.iter().enumerate() {
            by_plural.entry(resource.group.clone()).or_default().insert(resource.plural.clone(), index);
            let position = groups.iter().position(|group| group.name == resource.group).unwrap_or_else(|| {
                groups.push(GroupInfo { name: resource.group.clone(), versions: Vec::new() });
                groups.len() - 1
            });
            let Some(group) = groups.get_mut(position) else { continue };
            for version in resource.served_versions() {
                if !group.versions.contains(&version.name) {
                    group.versions.push(version.name.clone());
                }
            }
        }
        for group in &mut groups {
            group.versions.sort_by(|a, b| compare_versions(a, b));
        }
        groups.retain(|group| !group.versions.is_empty());
        Self { generation, resources, groups, by_plural }
    }

    /// Grows by one with every change.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// All resources in discovery order.
    pub fn resources(&self) -> &[Arc<ResourceInfo>] {
        &self.resources
    }

    /// All groups with something served, in discovery order.
    pub fn groups(&self) -> &[GroupInfo] {
        &self.groups
    }

    pub fn group(&self, name: &str) -> Option<&GroupInfo> {
        self.groups.iter().find(|group| &*group.name == name)
    }

    /// Whether some resource is served in this group and version.
    pub fn serves(&self, group: &str, version: &str) -> bool {
        self.group(group).is_some_and(|group| group.versions.iter().any(|name| &**name == version))
    }

    /// The resource of that group and plural name, in whatever version.
    pub fn resource(&self, group: &str, plural: &str) -> Option<&Arc<ResourceInfo>> {
        self.by_plural.get(group)?.get(plural).and_then(|index| self.resources.get(*index))
    }

    /// The resource, if it is served in that version.
    pub fn served(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<ResourceInfo>> {
        self.resource(group, plural).filter(|resource| resource.version(version).is_some_and(|version| version.served))
    }

    /// The resource of that group and kind.
    pub fn kind(&self, group: &str, kind: &str) -> Option<&Arc<ResourceInfo>> {
        self.resources.iter().find(|resource| &*resource.group == group && &*resource.kind == kind)
    }

    /// Resources served in one group and version, in discovery order.
    pub fn in_group_version<'a>(
        &'a self,
        group: &'a str,
        version: &'a str,
    ) -> impl Iterator<Item = (&'a Arc<ResourceInfo>, &'a VersionInfo)> {
        self.resources.iter().filter(move |resource| &*resource.group == group).filter_map(move |resource| {
            resource.version(version).filter(|version| version.served).map(|version| (resource, version))
        })
    }
}

/// Preferred version first: GA before beta before alpha, higher numbers first; other names last, by alphabet.
pub fn compare_versions(a: &str, b: &str) -> Ordering {
    match (rank(a), rank(b)) {
        (Some(a), Some(b)) => b.cmp(&a),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}

/// (stability, major, minor) of a conventional version name; greater is preferred.
fn rank(version: &str) -> Option<(u8, u64, u64)> {
    let rest = version.strip_prefix('v')?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (major, rest) = rest.split_at(digits);
    let major = number(major)?;
    if rest.is_empty() {
        return Some((2, major, 0));
    }
    if let Some(minor) = rest.strip_prefix("beta") {
        return Some((1, major, number(minor)?));
    }
    Some((0, major, number(rest.strip_prefix("alpha")?)?))
}

fn number(digits: &str) -> Option<u64> {
    if digits.is_empty() || digits.starts_with('0') || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}
