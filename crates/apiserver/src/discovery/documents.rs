//! The unaggregated documents: one request per group and version.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::digest;
use base64::Engine as _;
use bytes::Bytes;
use serde::Serialize;
use serde_json::json;

use super::encode;
use crate::registry::{GroupInfo, Registry, ResourceInfo, Subresource, Verb, VersionInfo, api_version};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GroupVersion {
    group_version: String,
    version: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Group<'a> {
    #[serde(flatten)]
    head: Option<Head>,
    name: &'a str,
    versions: Vec<GroupVersion>,
    #[serde(skip_serializing_if = "Option::is_none")]
    preferred_version: Option<GroupVersion>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    kind: &'static str,
    api_version: &'static str,
}

impl Head {
    fn of(kind: &'static str) -> Self {
        Self { kind, api_version: "v1" }
    }
}

#[derive(Serialize)]
struct GroupList<'a> {
    #[serde(flatten)]
    head: Head,
    groups: Vec<Group<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceList<'a> {
    #[serde(flatten)]
    head: Head,
    group_version: String,
    resources: Vec<Resource<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Resource<'a> {
    name: String,
    singular_name: &'a str,
    namespaced: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'a str>,
    kind: &'a str,
    verbs: Vec<&'static str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    short_names: &'a [String],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    categories: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    storage_version_hash: Option<String>,
}

pub(super) fn core_versions(server_address: &str) -> Bytes {
    let body = json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": server_address}],
    });
    encode(&body).into()
}

fn group(info: &GroupInfo, head: Option<Head>) -> Group<'_> {
    let version =
        |name: &Arc<str>| GroupVersion { group_version: api_version(&info.name, name), version: name.to_string() };
    Group {
        head,
        name: &info.name,
        versions: info.versions.iter().map(version).collect(),
        preferred_version: info.versions.first().map(version),
    }
}

fn named(registry: &Registry) -> impl Iterator<Item = &GroupInfo> {
    registry.groups().iter().filter(|group| !group.name.is_empty())
}

pub(super) fn groups(registry: &Registry) -> Bytes {
    let groups = named(registry).map(|info| group(info, None)).collect();
    encode(&GroupList { head: Head::of("APIGroupList"), groups }).into()
}

pub(super) fn each_group(registry: &Registry) -> HashMap<Arc<str>, Bytes> {
    named(registry).map(|info| (info.name.clone(), encode(&group(info, Some(Head::of("APIGroup")))).into())).collect()
}

pub(super) fn each_version(registry: &Registry) -> HashMap<(Arc<str>, Arc<str>), Bytes> {
    let mut documents = HashMap::new();
    for info in registry.groups() {
        for version in &info.versions {
            let resources = registry
                .in_group_version(&info.name, version)
                .flat_map(|(resource, version)| entries(resource, version))
                .collect();
            let list = ResourceList {
                head: Head::of("APIResourceList"),
                group_version: api_version(&info.name, version),
                resources,
            };
            documents.insert((info.name.clone(), version.clone()), encode(&list).into());
        }
    }
    documents
}

fn entries<'a>(resource: &'a ResourceInfo, version: &'a VersionInfo) -> Vec<Resource<'a>> {
    let main = Resource {
        name: resource.plural.to_string(),
        singular_name: &resource.singular,
        namespaced: resource.namespaced,
        group: None,
        version: None,
        kind: &resource.kind,
        verbs: words(resource.verbs),
        short_names: &resource.short_names,
        categories: &resource.categories,
        storage_version_hash: Some(storage_version_hash(resource)),
    };
    let subresource = |sub: &'a Subresource| {
        let is_other = sub.group != resource.group || sub.version != version.name;
        Resource {
            name: format!("{}/{}", resource.plural, sub.name),
            singular_name: "",
            namespaced: resource.namespaced,
            group: is_other.then_some(&*sub.group),
            version: is_other.then_some(&*sub.version),
            kind: &sub.kind,
            verbs: words(sub.verbs),
            short_names: &[],
            categories: &[],
            storage_version_hash: None,
        }
    };
    std::iter::once(main).chain(version.subresources.iter().map(subresource)).collect()
}

pub(super) fn words(verbs: &[Verb]) -> Vec<&'static str> {
    verbs.iter().map(|verb| verb.as_str()).collect()
}

/// Tells clients when the version of stored objects changes: a short hash of it.
fn storage_version_hash(resource: &ResourceInfo) -> String {
    let text = format!("{}/{}/{}", resource.group, resource.storage_version, resource.kind);
    let digest = digest::digest(&digest::SHA256, text.as_bytes());
    base64::engine::general_purpose::STANDARD.encode(digest.as_ref().get(..8).unwrap_or_default())
}

pub(super) fn root(registry: &Registry) -> Bytes {
    let mut paths: Vec<String> =
        ["/api", "/apis", "/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3", "/readyz", "/version"]
            .map(str::to_owned)
            .into();
    for group in registry.groups() {
        let base = if group.name.is_empty() { "/api".to_owned() } else { format!("/apis/{}", group.name) };
        paths.extend(group.versions.iter().map(|version| format!("{base}/{version}")));
        if !group.name.is_empty() {
            paths.push(base);
        }
    }
    paths.sort_unstable();
    encode(&json!({ "paths": paths })).into()
}
