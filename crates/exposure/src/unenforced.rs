//! Istio objects that users write in embedded mode are stored and have no effect. An Event on each says so (SPEC 30
//! §1.1): Event `NotProgrammed`.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{Api as KubeApi, DynamicObject};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, ResourceExt as _};
use parking_lot::Mutex;
use serde_json::Value;
use tidegate_kinds::istio::{AUTHENTICATION_GROUP, NETWORKING_GROUP, SECURITY_GROUP};
use tidegate_runtime::Tasks;
use tidegate_runtime::reconcile::{EventKind, EventNote, EventRecorder, Observed, observe};
use tokio::sync::mpsc;

use crate::owner::owner_of;

/// Kinds of which nothing is generated in embedded mode, so that all of them are users' own.
const FOREIGN_KINDS: [&str; 2] = ["RequestAuthentication", "AuthorizationPolicy"];

/// The warning that the API server adds to a write of an object that will have no effect (SPEC 30 §1.1); `None` for all
/// other objects. Generated objects carry the mark and are no one's mistake.
pub fn warning(group: &str, kind: &str, object: &Value) -> Option<&'static str> {
    let is_istio = [NETWORKING_GROUP, SECURITY_GROUP, AUTHENTICATION_GROUP].contains(&group);
    let is_projection = matches!(kind, "VirtualService" | "RequestAuthentication" | "AuthorizationPolicy" | "Policy");
    if !is_istio || !is_projection || is_marked(object) {
        return None;
    }
    Some("stored but not enforced in embedded mode: use an Api or APIRule")
}

fn is_marked(object: &Value) -> bool {
    let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    owners.into_iter().flatten().any(|owner| owner["controller"] == true && owner["kind"] == "Api")
}

/// Kind, namespace and name.
type Key = (String, String, String);

/// Tells the writers of objects without effect, once per specification.
#[derive(Clone)]
pub(crate) struct Unenforced {
    events: EventRecorder,
    /// Identity and generation that was told of last; as many as there are such objects.
    told: Arc<Mutex<HashMap<Key, (String, i64)>>>,
}

impl Unenforced {
    pub(crate) fn new(events: EventRecorder) -> Self {
        Self { events, told: Arc::default() }
    }

    /// Watches the kinds that nothing else here watches.
    pub(crate) fn watch(&self, client: &Client, tasks: &Tasks) {
        for kind in FOREIGN_KINDS {
            let gvk = GroupVersionKind::gvk(SECURITY_GROUP, "v1", kind);
            let api: KubeApi<DynamicObject> = KubeApi::all_with(client.clone(), &ApiResource::from_gvk(&gvk));
            let (sender, mut receiver) = mpsc::channel(64);
            let (unenforced, shutdown) = (self.clone(), tasks.shutdown().clone());
            drop(tasks.spawn("watch-unenforced", async move {
                let note = async {
                    let mut is_news = false;
                    while let Some(observed) = receiver.recv().await {
                        match observed {
                            Observed::Set(object) => unenforced.note(&object, is_news),
                            Observed::Removed { namespace, name } => unenforced.forget(kind, &namespace, &name),
                            Observed::Listed => is_news = true,
                        }
                    }
                };
                tokio::select! {
                    () = observe(api, &sender, Some) => {}
                    () = note => {}
                    () = shutdown.cancelled() => {}
                }
            }));
        }
    }

    /// Takes an object as it is now. Objects with the mark are no one's mistake; what stood there at the start
    /// (`is_news` is false) was told of when it was written.
    pub(crate) fn note(&self, object: &DynamicObject, is_news: bool) {
        let Some(types) = &object.types else { return };
        if owner_of(object).is_some() {
            return;
        }
        let key = (types.kind.clone(), object.namespace().unwrap_or_default(), object.name_any());
        let version = (object.uid().unwrap_or_default(), object.metadata.generation.unwrap_or_default());
        let before = self.told.lock().insert(key, version.clone());
        if !is_news || before == Some(version) {
            return;
        }
        let message = match types.kind.as_str() {
            "VirtualService" => "its hosts are reserved, its routes have no effect in embedded mode: use an Api",
            _ => "stored but not enforced in embedded mode: use an Api",
        };
        self.events.record(EventNote {
            regarding: ObjectReference {
                api_version: Some(types.api_version.clone()),
                kind: Some(types.kind.clone()),
                namespace: object.namespace(),
                name: Some(object.name_any()),
                uid: object.uid(),
                resource_version: object.resource_version(),
                field_path: None,
            },
            kind: EventKind::Warning,
            reason: "NotProgrammed",
            message: message.to_owned(),
        });
    }
}

impl Unenforced {
    /// The object is gone.
    pub(crate) fn forget(&self, kind: &str, namespace: &str, name: &str) {
        self.told.lock().remove(&(kind.to_owned(), namespace.to_owned(), name.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_istio_objects_that_users_write_are_warned_of() {
        let mine = json!({"metadata": {"name": "mine"}});
        let generated = json!({"metadata": {"ownerReferences": [{"kind": "Api", "controller": true}]}});
        assert!(warning(NETWORKING_GROUP, "VirtualService", &mine).is_some());
        assert!(warning(SECURITY_GROUP, "AuthorizationPolicy", &mine).is_some());
        assert!(warning(NETWORKING_GROUP, "VirtualService", &generated).is_none());
        assert!(warning(NETWORKING_GROUP, "Gateway", &mine).is_none());
        assert!(warning("", "Service", &mine).is_none());
        assert!(warning("policy", "Policy", &mine).is_none());
    }
}
