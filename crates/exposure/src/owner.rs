//! The mark that everything carries which an Api has created, and telling marked objects from others. SPEC 30 §2.6.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt as _;
use kube::api::{DynamicObject, ObjectMeta, TypeMeta};
use serde_json::{Value, json};
use tidegate_kinds::Api;
use tidegate_policy::{ObjectKind, ObjectRef};

/// `apiVersion` of the owner.
const API_VERSION: &str = "gateway.kyma-project.io/v1alpha2";
/// Label with the Api's resource version.
pub(crate) const STAMP_LABEL: &str = "apiVersion";
/// All labels of generated objects.
pub(crate) const LABELS: [&str; 6] =
    ["createdBy", "apiUid", "apiNamespace", "apiName", STAMP_LABEL, "app.kubernetes.io/managed-by"];
/// Longest value of a label.
const MAX_LABEL_BYTES: usize = 63;

/// The Api that an object is made for.
#[derive(Clone, Debug)]
pub(crate) struct Owner {
    namespace: String,
    name: String,
    uid: String,
    stamp: String,
}

impl Owner {
    /// `stamp`: the resource version that label `apiVersion` shows.
    pub(crate) fn of(api: &Api, stamp: String) -> Self {
        Self {
            namespace: api.namespace().unwrap_or_default(),
            name: api.name_any(),
            uid: api.uid().unwrap_or_default(),
            stamp,
        }
    }

    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// An object of the owner's name and namespace that carries the mark.
    pub(crate) fn object(&self, (api_version, kind): (&str, &str), spec: &Value) -> DynamicObject {
        let values = ["api-controller", &self.uid, &self.namespace, label_value(&self.name), &self.stamp, "tidegate"];
        let labels: BTreeMap<String, String> =
            LABELS.into_iter().zip(values).map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let owner = OwnerReference {
            api_version: API_VERSION.to_owned(),
            kind: "Api".to_owned(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        };
        DynamicObject {
            types: Some(TypeMeta { api_version: api_version.to_owned(), kind: kind.to_owned() }),
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                namespace: Some(self.namespace.clone()),
                labels: Some(labels),
                owner_references: Some(vec![owner]),
                ..ObjectMeta::default()
            },
            data: json!({"spec": spec}),
        }
    }
}

/// Names may be longer than values of labels, and have to end in a letter or digit when they are cut.
fn label_value(name: &str) -> &str {
    name.get(..MAX_LABEL_BYTES).unwrap_or(name).trim_end_matches(['-', '.'])
}

/// The Api that a marked object belongs to, with its uid; `None` for anybody else's object.
pub(crate) fn owner_of(object: &DynamicObject) -> Option<(ObjectRef, &str)> {
    let owners = object.metadata.owner_references.as_deref()?;
    let owner = owners.iter().find(|owner| owner.controller == Some(true))?;
    if owner.kind != "Api" || owner.api_version.split('/').next() != Some(tidegate_kinds::api::GROUP) {
        return None;
    }
    let namespace = object.metadata.namespace.clone()?;
    Some((ObjectRef::new(ObjectKind::Api, namespace, &owner.name), &owner.uid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_become_legal_values_of_labels() {
        assert_eq!(label_value("short"), "short");
        assert_eq!(label_value(&format!("{}-tail", "a".repeat(62))), "a".repeat(62));
    }
}
