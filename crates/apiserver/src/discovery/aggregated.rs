//! The aggregated document: every group, version and resource in one answer (SPEC 60 §5.2).

use serde::Serialize;

use super::documents::words;
use super::{AggregatedVersion, Document, encode};
use crate::registry::{GroupInfo, Registry, ResourceInfo, Subresource, VersionInfo};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct List<'a> {
    kind: &'static str,
    api_version: &'static str,
    metadata: Metadata<'a>,
    items: Vec<Group<'a>>,
}

#[derive(Serialize)]
struct Metadata<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
}

#[derive(Serialize)]
struct Group<'a> {
    metadata: Metadata<'a>,
    versions: Vec<VersionEntry<'a>>,
}

#[derive(Serialize)]
struct VersionEntry<'a> {
    version: &'a str,
    freshness: &'static str,
    resources: Vec<ResourceEntry<'a>>,
}

#[derive(Serialize)]
struct GroupVersionKind<'a> {
    group: &'a str,
    version: &'a str,
    kind: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceEntry<'a> {
    resource: &'a str,
    response_kind: GroupVersionKind<'a>,
    scope: &'static str,
    singular_resource: &'a str,
    verbs: Vec<&'static str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    short_names: &'a [String],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    categories: &'a [String],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subresources: Vec<SubresourceEntry<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SubresourceEntry<'a> {
    subresource: &'a str,
    response_kind: GroupVersionKind<'a>,
    verbs: Vec<&'static str>,
}

pub(super) fn document(
    registry: &Registry,
    version: AggregatedVersion,
    wanted: impl Fn(&GroupInfo) -> bool,
) -> Document {
    let items = registry.groups().iter().filter(|group| wanted(group)).map(|group| entry(registry, group)).collect();
    let list = List {
        kind: "APIGroupDiscoveryList",
        api_version: version.api_version(),
        metadata: Metadata { name: "" },
        items,
    };
    Document::new(encode(&list))
}

fn entry<'a>(registry: &'a Registry, group: &'a GroupInfo) -> Group<'a> {
    let versions = group
        .versions
        .iter()
        .map(|version| VersionEntry {
            version,
            freshness: "Current",
            resources: registry
                .in_group_version(&group.name, version)
                .map(|(info, version)| resource(info, version))
                .collect(),
        })
        .collect();
    Group { metadata: Metadata { name: &group.name }, versions }
}

fn resource<'a>(info: &'a ResourceInfo, version: &'a VersionInfo) -> ResourceEntry<'a> {
    ResourceEntry {
        resource: &info.plural,
        response_kind: GroupVersionKind { group: &info.group, version: &version.name, kind: &info.kind },
        scope: if info.namespaced { "Namespaced" } else { "Cluster" },
        singular_resource: &info.singular,
        verbs: words(info.verbs),
        short_names: &info.short_names,
        categories: &info.categories,
        subresources: version.subresources.iter().map(subresource).collect(),
    }
}

fn subresource(info: &Subresource) -> SubresourceEntry<'_> {
    SubresourceEntry {
        subresource: &info.name,
        response_kind: GroupVersionKind { group: &info.group, version: &info.version, kind: &info.kind },
        verbs: words(info.verbs),
    }
}
