//! The one way a reconciler writes what it generates.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, DeleteParams, DynamicObject, PostParams, Preconditions};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, ResourceExt as _};
use serde_json::{Map, Value};

use super::{CONFLICT_TRIES, is_already_exists, is_conflict, is_not_found};

/// The object as it is now, and whether anything was written for that.
#[derive(Clone, Debug)]
pub struct Written {
    /// As the API server answered.
    pub object: DynamicObject,
    /// `false` when it already was as desired and nothing was sent.
    pub changed: bool,
}

/// Why an owned object was not written or deleted.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// An object of that name exists and belongs to somebody else; it was not touched.
    #[error("already exists and is not managed by this owner")]
    Foreign,
    /// The object is being deleted; try again once it is gone.
    #[error("is being deleted")]
    Terminating,
    /// Somebody changed it between each of five readings and writings.
    #[error("changed again and again while it was written")]
    Contended,
    /// The desired object lacks name, kind or owner.
    #[error("desired object has no {0}")]
    Incomplete(&'static str),
    /// The API server refused or could not be reached.
    #[error("{}", api_message(.0))]
    Api(#[source] kube::Error),
}

/// Makes the object exist as `desired`.
///
/// Creates it, or else replaces everything of it but metadata and status at the version read, so that a field added by
/// hand does not survive; labels, annotations and owner references of `desired` are set, those of others are kept.
/// Nothing is written when all that already holds. An existing object is ours when its controller owner has the same
/// uid as `desired`'s. The plural of the kind is derived from its name, as Kubernetes does for regular kinds.
pub async fn write_owned(client: &Client, desired: &DynamicObject, field_manager: &str) -> Result<Written, WriteError> {
    let target = Target::of(client, desired)?;
    let params = PostParams { field_manager: Some(field_manager.to_owned()), ..PostParams::default() };
    for _ in 0..CONFLICT_TRIES {
        let attempt = match target.api.get_opt(&target.name).await.map_err(WriteError::Api)? {
            None => target.api.create(&params, desired).await,
            Some(existing) => {
                target.check_ours(&existing)?;
                if existing.metadata.deletion_timestamp.is_some() {
                    return Err(WriteError::Terminating);
                }
                let updated = merged(&existing, desired);
                if updated == existing {
                    return Ok(Written { object: existing, changed: false });
                }
                target.api.replace(&target.name, &params, &updated).await
            }
        };
        match attempt {
            Ok(object) => return Ok(Written { object, changed: true }),
            Err(error) if is_conflict(&error) || is_already_exists(&error) || is_not_found(&error) => {}
            Err(error) => return Err(WriteError::Api(error)),
        }
    }
    Err(WriteError::Contended)
}

/// Deletes the object named by `desired` if it is ours (see [`write_owned`]); `false` when it was already gone.
pub async fn delete_owned(client: &Client, desired: &DynamicObject) -> Result<bool, WriteError> {
    let target = Target::of(client, desired)?;
    for _ in 0..CONFLICT_TRIES {
        let Some(existing) = target.api.get_opt(&target.name).await.map_err(WriteError::Api)? else { return Ok(false) };
        target.check_ours(&existing)?;
        let preconditions = Preconditions { uid: existing.uid(), resource_version: existing.resource_version() };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match target.api.delete(&target.name, &params).await {
            Ok(_) => return Ok(true),
            Err(error) if is_not_found(&error) => return Ok(false),
            Err(error) if is_conflict(&error) => {}
            Err(error) => return Err(WriteError::Api(error)),
        }
    }
    Err(WriteError::Contended)
}

struct Target<'a> {
    api: Api<DynamicObject>,
    name: String,
    owner_uid: &'a str,
}

impl<'a> Target<'a> {
    fn of(client: &Client, desired: &'a DynamicObject) -> Result<Self, WriteError> {
        let types = desired.types.as_ref().ok_or(WriteError::Incomplete("kind"))?;
        let gvk = GroupVersionKind::try_from(types).map_err(|_| WriteError::Incomplete("parsable apiVersion"))?;
        let resource = ApiResource::from_gvk(&gvk);
        let api = match &desired.metadata.namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        };
        let name = desired.metadata.name.clone().ok_or(WriteError::Incomplete("name"))?;
        let owner_uid = controller_uid(desired).ok_or(WriteError::Incomplete("controller owner reference"))?;
        Ok(Self { api, name, owner_uid })
    }

    fn check_ours(&self, existing: &DynamicObject) -> Result<(), WriteError> {
        if controller_uid(existing) == Some(self.owner_uid) { Ok(()) } else { Err(WriteError::Foreign) }
    }
}

fn controller_uid(object: &DynamicObject) -> Option<&str> {
    let owners = object.metadata.owner_references.as_deref()?;
    owners.iter().find(|owner| owner.controller == Some(true)).map(|owner| owner.uid.as_str())
}

/// `existing` with all that `desired` says.
fn merged(existing: &DynamicObject, desired: &DynamicObject) -> DynamicObject {
    let mut object = existing.clone();
    let mut data = desired.data.as_object().cloned().unwrap_or_default();
    data.remove("status");
    if let Some(status) = existing.data.get("status") {
        data.insert("status".to_owned(), status.clone());
    }
    object.data = Value::Object(without_nulls(data));
    merge_map(&mut object.metadata.labels, desired.metadata.labels.as_ref());
    merge_map(&mut object.metadata.annotations, desired.metadata.annotations.as_ref());
    let owners = object.metadata.owner_references.get_or_insert_default();
    for owner in desired.metadata.owner_references.iter().flatten() {
        set_owner(owners, owner);
    }
    object
}

/// The API server drops explicit nulls of optional fields; a comparison must not see them either.
fn without_nulls(map: Map<String, Value>) -> Map<String, Value> {
    map.into_iter().filter(|(_, value)| !value.is_null()).collect()
}

fn merge_map(existing: &mut Option<BTreeMap<String, String>>, desired: Option<&BTreeMap<String, String>>) {
    let Some(desired) = desired.filter(|desired| !desired.is_empty()) else { return };
    existing.get_or_insert_default().extend(desired.iter().map(|(key, value)| (key.clone(), value.clone())));
}

fn set_owner(owners: &mut Vec<OwnerReference>, owner: &OwnerReference) {
    match owners.iter_mut().find(|existing| existing.uid == owner.uid) {
        Some(existing) => *existing = owner.clone(),
        None => owners.push(owner.clone()),
    }
}

fn api_message(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::reconcile::testing::FakeApi;

    fn desired(owner: &str, spec: &Value) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "networking.istio.io/v1alpha3", "kind": "VirtualService",
            "metadata": {
                "name": "sample", "namespace": "default", "labels": {"apiName": "sample"},
                "ownerReferences": [{"apiVersion": "gateway.kyma-project.io/v1alpha2", "kind": "Api", "name": "sample",
                    "uid": owner, "controller": true, "blockOwnerDeletion": true}],
            },
            "spec": spec,
        }))
        .unwrap()
    }

    const PATH: &str = "/apis/networking.istio.io/v1alpha3/namespaces/default/virtualservices/sample";

    #[tokio::test]
    async fn an_owned_object_is_created_then_replaced_then_left_alone() {
        let fake = FakeApi::new();
        let client = fake.client();
        let first = desired("u1", &json!({"hosts": ["a"]}));
        assert!(write_owned(&client, &first, "test").await.unwrap().changed);
        let again = write_owned(&client, &first, "test").await.unwrap();
        assert!(!again.changed);
        assert_eq!(fake.writes(), 1);

        fake.edit(PATH, |object| {
            object["spec"]["byHand"] = json!(true);
            object["metadata"]["labels"]["foreign"] = json!("kept");
            object["metadata"]["annotations"] = json!({"note": "kept"});
        });
        let second = write_owned(&client, &desired("u1", &json!({"hosts": ["b"]})), "test").await.unwrap();
        assert!(second.changed);
        assert_eq!(second.object.data["spec"], json!({"hosts": ["b"]}));
        assert_eq!(second.object.labels().get("foreign").map(String::as_str), Some("kept"));
        assert_eq!(second.object.annotations().get("note").map(String::as_str), Some("kept"));
        assert_eq!(second.object.uid(), again.object.uid());
    }

    #[tokio::test]
    async fn a_foreign_object_is_neither_adopted_nor_deleted() {
        let fake = FakeApi::new();
        let client = fake.client();
        write_owned(&client, &desired("somebody", &json!({})), "test").await.unwrap();
        let ours = desired("us", &json!({"hosts": ["a"]}));
        assert!(matches!(write_owned(&client, &ours, "test").await, Err(WriteError::Foreign)));
        assert!(matches!(delete_owned(&client, &ours).await, Err(WriteError::Foreign)));
        assert_eq!(fake.writes(), 1);
    }

    #[tokio::test]
    async fn conflicts_are_retried_five_times() {
        let fake = FakeApi::new();
        let client = fake.client();
        write_owned(&client, &desired("u1", &json!({})), "test").await.unwrap();
        fake.conflict_next(4);
        assert!(write_owned(&client, &desired("u1", &json!({"n": 1})), "test").await.unwrap().changed);
        fake.conflict_next(5);
        let result = write_owned(&client, &desired("u1", &json!({"n": 2})), "test").await;
        assert!(matches!(result, Err(WriteError::Contended)));
    }

    #[tokio::test]
    async fn deleting_twice_is_fine() {
        let fake = FakeApi::new();
        let client = fake.client();
        let object = desired("u1", &json!({}));
        write_owned(&client, &object, "test").await.unwrap();
        assert!(delete_owned(&client, &object).await.unwrap());
        assert!(!delete_owned(&client, &object).await.unwrap());
    }

    #[tokio::test]
    async fn an_object_without_owner_is_not_written() {
        let fake = FakeApi::new();
        let mut object = desired("u1", &json!({}));
        object.metadata.owner_references = None;
        let error = write_owned(&fake.client(), &object, "test").await.unwrap_err();
        assert_eq!(error.to_string(), "desired object has no controller owner reference");
    }
}
