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
        let labels = [
            ("createdBy", "api-controller"),
            ("apiUid", &self.uid),
            ("apiNamespace", &self.namespace),
            ("apiName", &self.name),
            ("apiVersion", &self.stamp),
        ];
        let labels: BTreeMap<String, String> =
            labels.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
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

/// The Api that a marked object belongs to, with its uid; `None` for anybody else's object.
pub(crate) fn owner_of(object: &DynamicObject) -> Option<(ObjectRef, &str)> {
    let owners = object.metadata.owner_references.as_deref()?;
    let owner = owners.iter().find(|owner| owner.controller == Some(true))?;
    if owner.kind != "Api" || !owner.api_version.starts_with(tidegate_kinds::api::GROUP) {
        return None;
    }
    let namespace = object.metadata.namespace.clone()?;
    Some((ObjectRef::new(ObjectKind::Api, namespace, &owner.name), &owner.uid))
}
