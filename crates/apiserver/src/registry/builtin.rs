//! The compiled-in kinds as a table (SPEC 60 §1 and §14), in discovery order.

use std::sync::Arc;

use super::{Origin, ResourceInfo, Subresource, Verb, VersionInfo};

/// The compiled-in kinds. `Event` and `EventsEvent` are two faces of one storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Builtin {
    ConfigMap,
    Endpoints,
    Event,
    Namespace,
    Secret,
    Service,
    ServiceAccount,
    CustomResourceDefinition,
    Lease,
    EndpointSlice,
    EventsEvent,
}

const ALL: &[Verb] = &[
    Verb::Create,
    Verb::Delete,
    Verb::DeleteCollection,
    Verb::Get,
    Verb::List,
    Verb::Patch,
    Verb::Update,
    Verb::Watch,
];
// SPEC 60 §12.1: namespaces have no deletecollection.
const WITHOUT_DELETE_COLLECTION: &[Verb] =
    &[Verb::Create, Verb::Delete, Verb::Get, Verb::List, Verb::Patch, Verb::Update, Verb::Watch];
pub(super) const STATUS: &[Verb] = &[Verb::Get, Verb::Patch, Verb::Update];
const FINALIZE: &[Verb] = &[Verb::Update];

struct Row {
    builtin: Builtin,
    group: &'static str,
    kind: &'static str,
    plural: &'static str,
    singular: &'static str,
    short_names: &'static [&'static str],
    categories: &'static [&'static str],
    namespaced: bool,
    verbs: &'static [Verb],
    subresources: &'static [(&'static str, &'static [Verb])],
}

/// All compiled-in kinds are served in exactly this version.
const VERSION: &str = "v1";

const ROWS: &[Row] = &[
    Row {
        builtin: Builtin::ConfigMap,
        group: "",
        kind: "ConfigMap",
        plural: "configmaps",
        singular: "configmap",
        short_names: &["cm"],
        categories: &[],
        namespaced: true,
        verbs: ALL,
        subresources: &[],
    },
    Row {
        builtin: Builtin::Endpoints,
        group: "",
        kind: "Endpoints",
        plural: "endpoints",
        singular: "endpoints",
        short_names: &["ep"],
        categories: &[],
        namespaced: true,
        verbs: ALL,
        subresources: &[],
    },
    Row {
        builtin: Builtin::Event,
        group: "",
        kind: "Event",
        plural: "events",
        singular: "event",
        short_names: &["ev"],
        categories: &[],
        namespaced: true,
        verbs: ALL,
        subresources: &[],
    },
    Row {
        builtin: Builtin::Namespace,
        group: "",
        kind: "Namespace",
        plural: "namespaces",
        singular: "namespace",
        short_names: &["ns"],
        categories: &[],
        namespaced: false,
        verbs: WITHOUT_DELETE_COLLECTION,
        subresources: &[("finalize", FINALIZE), ("status", STATUS)],
    },
    Row {
        builtin: Builtin::Secret,
        group: "",
        kind: "Secret",
        plural: "secrets",
        singular: "secret",
        short_names: &[],
        categories: &[],
        namespaced: true,
        verbs: ALL,
        subresources: &[],
    },
    Row {
        builtin: Builtin::Service,
        group: "",
        kind: "Service",
        plural: "services",
        singular: "service",
        short_names: &["svc"],
        categories: &["all"],
        namespaced: true,
        verbs: ALL,
        subresources: &[("status", STATUS)],
    },
    Row {
        builtin: Builtin::ServiceAccount,
        group: "",
        kind: "ServiceAccount",
        plural: "serviceaccounts",
        singular: "serviceaccount",
        short_names: &["sa"],
        categories: &[],
        namespaced: true,
        verbs: ALL,
        subresources: &[],
    },
    Row {
        builtin: Builtin::CustomResourceDefinition,
        group: "apiextensions.k8s.io",
        kind: "CustomResourceDefinition",
        plural: "customresourcedefinitions",
        singular: "customresourcedefinition",
        short_names: &["crd", "crds"],
        categories: &["api-extensions"],
        namespaced: false,
        verbs: ALL,
        subresources: &[("status", STATUS)],
    },
    Row {
        builtin: Builtin::Lease,
        group: "coordination.k8s.io",
        kind: "Lease",
        plural: "leases",
        singular: "lease",
        short_names: &[],
        categories: &[],
        namespaced: true,
        verbs: ALL,
        subresources: &[],
    },
    Row {
        builtin: Builtin::EndpointSlice,
        group: "discovery.k8s.io",
        kind: "EndpointSlice",
        plural: "endpointslices",
        singular: "endpointslice",
        short_names: &[],
        categories: &[],
        namespaced: true,
        verbs: ALL,
        subresources: &[],
    },
    Row {
        builtin: Builtin::EventsEvent,
        group: "events.k8s.io",
        kind: "Event",
        plural: "events",
        singular: "event",
        short_names: &["ev"],
        categories: &[],
        namespaced: true,
        verbs: ALL,
        subresources: &[],
    },
];

pub(super) fn resources() -> Vec<ResourceInfo> {
    ROWS.iter().map(Row::info).collect()
}

impl Row {
    fn info(&self) -> ResourceInfo {
        let group: Arc<str> = self.group.into();
        let version: Arc<str> = VERSION.into();
        let kind: Arc<str> = self.kind.into();
        let subresources = self
            .subresources
            .iter()
            .map(|(name, verbs)| Subresource {
                name: (*name).into(),
                group: group.clone(),
                version: version.clone(),
                kind: kind.clone(),
                verbs,
            })
            .collect();
        ResourceInfo {
            list_kind: format!("{}List", self.kind).into(),
            plural: self.plural.into(),
            singular: self.singular.into(),
            short_names: self.short_names.iter().map(|name| (*name).to_owned()).collect(),
            categories: self.categories.iter().map(|name| (*name).to_owned()).collect(),
            namespaced: self.namespaced,
            verbs: self.verbs,
            versions: vec![VersionInfo {
                name: version.clone(),
                served: true,
                deprecation_warning: None,
                subresources,
                schema: None,
                structural: None,
                columns: Vec::new(),
                selectable_fields: Vec::new(),
                scale: None,
            }],
            storage_version: version,
            // SPEC 60 §1: one storage, two faces.
            storage_group: if self.builtin == Builtin::EventsEvent { "".into() } else { group.clone() },
            origin: Origin::Builtin(self.builtin),
            group,
            kind,
        }
    }
}
