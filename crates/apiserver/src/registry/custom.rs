//! From a stored CustomResourceDefinition to a [`ResourceInfo`].

use std::sync::Arc;

use serde_json::Value;

use super::builtin::STATUS;
use super::{Column, Origin, ResourceInfo, ScalePaths, Subresource, Verb, VersionInfo, compare_versions};
use crate::schema::Schema;
use crate::status::FieldPath;

/// What a custom resource has besides what every resource has.
#[derive(Debug, Clone)]
pub struct Custom {
    /// The definition's name: `plural.group`.
    pub definition: Arc<str>,
    pub definition_uid: Arc<str>,
    /// The definition is being deleted: new objects are refused (SPEC 60 §13.1).
    pub terminating: bool,
    /// `spec.preserveUnknownFields`; always false for definitions created through v1.
    pub preserve_unknown_fields: bool,
}

/// The definition lacks something that validation guarantees.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("definition has no usable `{0}`")]
pub struct CustomError(&'static str);

// SPEC 60 §13.6: order of verbs in discovery for custom resources.
const VERBS: &[Verb] = &[
    Verb::Delete,
    Verb::DeleteCollection,
    Verb::Get,
    Verb::List,
    Verb::Patch,
    Verb::Create,
    Verb::Update,
    Verb::Watch,
];

impl ResourceInfo {
    /// Reads a validated CustomResourceDefinition (any JSON object with its `metadata` and `spec`).
    ///
    /// Names are taken from `status.acceptedNames` where present, else from `spec.names`.
    ///
    /// # Errors
    /// When a field is missing that the validation of definitions demands.
    pub fn from_definition(definition: &Value) -> Result<Self, CustomError> {
        let spec = definition.get("spec").ok_or(CustomError("spec"))?;
        let accepted = definition.pointer("/status/acceptedNames");
        let accepted = accepted.filter(|names| text(names, "plural").is_ok());
        let names = accepted.or_else(|| spec.get("names")).ok_or(CustomError("spec.names"))?;
        let group: Arc<str> = text(spec, "group")?;
        let kind: Arc<str> = text(names, "kind")?;
        let list_kind = text(names, "listKind").unwrap_or_else(|_| format!("{kind}List").into());
        let singular = text(names, "singular").unwrap_or_else(|_| kind.to_lowercase().into());
        let mut storage_version = None;
        let mut versions = Vec::new();
        for version in spec["versions"].as_array().ok_or(CustomError("spec.versions"))? {
            let info = version_info(&group, &kind, version)?;
            if version["storage"].as_bool() == Some(true) {
                storage_version = Some(info.name.clone());
            }
            versions.push(info);
        }
        versions.sort_by(|a, b| compare_versions(&a.name, &b.name));
        Ok(Self {
            plural: text(names, "plural")?,
            singular,
            list_kind,
            short_names: texts(&names["shortNames"]),
            categories: texts(&names["categories"]),
            namespaced: spec["scope"].as_str() == Some("Namespaced"),
            verbs: VERBS,
            versions,
            storage_version: storage_version.ok_or(CustomError("storage version"))?,
            storage_group: group.clone(),
            origin: Origin::Custom(Custom {
                definition: text(&definition["metadata"], "name")?,
                definition_uid: text(&definition["metadata"], "uid")?,
                terminating: definition.pointer("/metadata/deletionTimestamp").is_some_and(Value::is_string),
                preserve_unknown_fields: spec["preserveUnknownFields"].as_bool() == Some(true),
            }),
            group,
            kind,
        })
    }
}

fn version_info(group: &Arc<str>, kind: &Arc<str>, version: &Value) -> Result<VersionInfo, CustomError> {
    let name: Arc<str> = text(version, "name")?;
    let mut subresources = Vec::new();
    let declared = |name: &str| version.get("subresources").and_then(|declared| declared.get(name)?.as_object());
    if declared("status").is_some() {
        subresources.push(Subresource {
            name: "status".into(),
            group: group.clone(),
            version: name.clone(),
            kind: kind.clone(),
            verbs: STATUS,
        });
    }
    let scale = declared("scale").map(|scale| {
        let path = |key: &str| scale.get(key).and_then(Value::as_str).map(str::to_owned);
        ScalePaths {
            spec_replicas: path("specReplicasPath").unwrap_or_default(),
            status_replicas: path("statusReplicasPath").unwrap_or_default(),
            label_selector: path("labelSelectorPath").filter(|path| !path.is_empty()),
        }
    });
    if scale.is_some() {
        subresources.push(Subresource {
            name: "scale".into(),
            group: "autoscaling".into(),
            version: "v1".into(),
            kind: "Scale".into(),
            verbs: STATUS,
        });
    }
    let deprecation_warning = (version["deprecated"].as_bool() == Some(true)).then(|| {
        let written = version["deprecationWarning"].as_str().map(str::to_owned);
        written.unwrap_or_else(|| format!("{group}/{name} {kind} is deprecated"))
    });
    let columns = version["additionalPrinterColumns"]
        .as_array()
        .map_or_else(Vec::new, |columns| columns.iter().map(column).collect());
    let selectable_fields = version["selectableFields"].as_array().map_or_else(Vec::new, |fields| {
        fields.iter().filter_map(|field| field["jsonPath"].as_str().map(str::to_owned)).collect()
    });
    let schema = version["schema"].get("openAPIV3Schema");
    let structural = schema.map(|raw| {
        let parsed = Schema::parse(raw, &FieldPath::root("openAPIV3Schema"));
        parsed.map(Arc::new).map_err(|_| CustomError("openAPIV3Schema"))
    });
    Ok(VersionInfo {
        served: version["served"].as_bool() == Some(true),
        deprecation_warning,
        subresources,
        schema: schema.map(|schema| Arc::new(schema.clone())),
        structural: structural.transpose()?,
        columns,
        selectable_fields,
        scale,
        name,
    })
}

fn column(value: &Value) -> Column {
    let field = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    Column {
        name: field("name"),
        kind: field("type"),
        format: field("format"),
        description: field("description"),
        priority: value["priority"].as_i64().unwrap_or(0),
        json_path: field("jsonPath"),
    }
}

fn text(parent: &Value, key: &'static str) -> Result<Arc<str>, CustomError> {
    parent[key].as_str().filter(|text| !text.is_empty()).map(Arc::from).ok_or(CustomError(key))
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array()
        .map_or_else(Vec::new, |list| list.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect())
}
