//! What is remembered of each Api between two looks at it. All of it can be lost: after a restart it is found again in
//! the objects.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher as _};

use kube::ResourceExt as _;
use parking_lot::Mutex;
use tidegate_kinds::Api;
use tidegate_kinds::api::{ApiStatus, WrittenResource};
use tidegate_policy::ObjectRef;
use tokio::task::AbortHandle;

use crate::projections::Projection;

/// By Api; an Api made anew under the same name starts with nothing.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    apis: Mutex<HashMap<ObjectRef, Remembered>>,
}

#[derive(Debug, Default)]
struct Remembered {
    uid: String,
    /// What of the Api a look depends on, besides its status.
    shape: Option<u64>,
    /// The status that the watch showed last.
    seen_status: u64,
    /// What a user can change: label `apiVersion` follows it.
    content: Option<u64>,
    stamp: String,
    written: HashMap<Projection, WrittenResource>,
    said: Option<Said>,
    wait: Option<Waiting>,
}

/// The status that was handed over last.
#[derive(Clone, Copy, Debug)]
struct Said {
    status: u64,
    /// Reason and message of condition Ready.
    ready: u64,
}

/// What somebody waits for in the background.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// A route of this generation.
    Enforced(i64),
    /// No route.
    Withdrawn,
}

/// A wait in the background; it ends with this value.
#[derive(Debug)]
struct Waiting {
    what: Wait,
    task: AbortHandle,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Memory {
    /// Takes an Api as the watch shows it; whether it has to be looked at. A status of our own needs no look, one that
    /// somebody else wrote does.
    pub(crate) fn is_news(&self, object: &ObjectRef, api: &Api) -> bool {
        let meta = &api.metadata;
        let shape = hash((content_of(api), &meta.finalizers, meta.deletion_timestamp.is_some()));
        let status = hash_status(api.status.as_ref());
        self.of(object, api.uid().as_deref().unwrap_or_default(), |api| {
            let is_ours = api.said.is_some_and(|said| said.status == status);
            let is_news = api.shape != Some(shape) || api.seen_status != status && !is_ours;
            (api.shape, api.seen_status) = (Some(shape), status);
            is_news
        })
    }

    /// The value of label `apiVersion` on generated objects: the Api's resource version when its content last changed. A
    /// write of its status or finalizer changes the resource version but not the content, and must not change the
    /// label, or each status write would ask for another one.
    ///
    /// `carried`: what the generated object shows; after a restart that is right.
    pub(crate) fn stamp(&self, object: &ObjectRef, api: &Api, carried: Option<String>) -> String {
        let content = content_of(api);
        let version = api.resource_version().unwrap_or_default();
        self.of(object, api.uid().as_deref().unwrap_or_default(), |api| {
            match api.content {
                Some(known) if known == content => {}
                Some(_) => api.stamp = version,
                None => api.stamp = carried.unwrap_or(version),
            }
            api.content = Some(content);
            api.stamp.clone()
        })
    }

    /// A projection was written.
    pub(crate) fn note_written(&self, object: &ObjectRef, kind: Projection, resource: WrittenResource) {
        if let Some(api) = self.apis.lock().get_mut(object) {
            api.written.insert(kind, resource);
        }
    }

    /// A projection as it was last written by this process.
    pub(crate) fn written(&self, object: &ObjectRef, kind: Projection) -> Option<WrittenResource> {
        self.apis.lock().get(object)?.written.get(&kind).cloned()
    }

    /// A status is handed over; whether its condition Ready says something else than the status before it.
    pub(crate) fn say(&self, object: &ObjectRef, uid: &str, previous: Option<&ApiStatus>, next: &ApiStatus) -> bool {
        let said = Said { status: hash_status(Some(next)), ready: ready_of(Some(next)) };
        self.of(object, uid, |api| {
            let before = api.said.map_or_else(|| ready_of(previous), |said| said.ready);
            api.said = Some(said);
            before != said.ready
        })
    }

    /// Whether somebody waits for this in the background already.
    pub(crate) fn awaits(&self, object: &ObjectRef, what: Wait) -> bool {
        let apis = self.apis.lock();
        let waiting = apis.get(object).and_then(|api| api.wait.as_ref());
        waiting.is_some_and(|waiting| waiting.what == what && !waiting.task.is_finished())
    }

    /// Somebody waits in the background, in place of whoever waited before.
    pub(crate) fn note_wait(&self, object: &ObjectRef, what: Wait, task: AbortHandle) {
        let waiting = Waiting { what, task };
        // Of an Api that is gone meanwhile, nobody waits for anything: dropping ends the wait.
        if let Some(api) = self.apis.lock().get_mut(object) {
            api.wait = Some(waiting);
        }
    }

    /// The Api is gone.
    pub(crate) fn forget(&self, object: &ObjectRef) {
        self.apis.lock().remove(object);
    }

    fn of<T>(&self, object: &ObjectRef, uid: &str, change: impl FnOnce(&mut Remembered) -> T) -> T {
        let mut apis = self.apis.lock();
        let api = apis.entry(object.clone()).or_default();
        if api.uid != uid {
            *api = Remembered { uid: uid.to_owned(), ..Remembered::default() };
        }
        change(api)
    }
}

fn content_of(api: &Api) -> u64 {
    hash((api.uid(), api.metadata.generation, api.labels(), api.annotations()))
}

fn hash_status(status: Option<&ApiStatus>) -> u64 {
    hash(serde_json::to_string(&status).unwrap_or_default())
}

fn ready_of(status: Option<&ApiStatus>) -> u64 {
    let conditions = status.map(|status| status.conditions.as_slice()).unwrap_or_default();
    hash(conditions.iter().find(|c| c.kind == "Ready").map(|c| (c.reason.as_str(), c.message.as_str())))
}

fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tidegate_policy::ObjectKind;

    use super::*;

    fn object() -> ObjectRef {
        ObjectRef::new(ObjectKind::Api, "default", "a")
    }

    fn api(version: &str, labels: &Value, status: &Value) -> Api {
        serde_json::from_value(json!({
            "metadata": {"name": "a", "namespace": "default", "uid": "u", "generation": 1, "resourceVersion": version, "labels": labels},
            "spec": {"service": {"name": "s", "port": 80}, "hostname": "abc"},
            "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn a_status_of_our_own_needs_no_look_and_one_of_somebody_else_does() {
        let memory = Memory::default();
        let ours = json!({"observedGeneration": 1, "validationStatus": 2});
        assert!(memory.is_news(&object(), &api("1", &json!(null), &json!(null))));
        let status: ApiStatus = serde_json::from_value(ours.clone()).unwrap();
        memory.say(&object(), "u", None, &status);
        assert!(!memory.is_news(&object(), &api("2", &json!(null), &ours)));
        assert!(memory.is_news(&object(), &api("3", &json!(null), &json!({"validationStatus": 5}))));
        assert!(memory.is_news(&object(), &api("4", &json!({"team": "x"}), &ours)));
    }

    #[test]
    fn the_stamp_moves_with_the_content_only() {
        let memory = Memory::default();
        let status = json!({"validationStatus": 2});
        assert_eq!(
            memory.stamp(&object(), &api("9", &json!(null), &json!(null)), Some("3".to_owned())),
            "3",
            "after a restart"
        );
        assert_eq!(memory.stamp(&object(), &api("10", &json!(null), &status), None), "3");
        assert_eq!(memory.stamp(&object(), &api("11", &json!({"team": "x"}), &status), Some("3".to_owned())), "11");
        memory.forget(&object());
        assert_eq!(memory.stamp(&object(), &api("12", &json!(null), &status), None), "12");
    }

    #[test]
    fn a_transition_is_told_once() {
        let memory = Memory::default();
        let status = |reason: &str| -> ApiStatus {
            serde_json::from_value(json!({"conditions": [{"type": "Ready", "status": "True", "reason": reason}]}))
                .unwrap()
        };
        assert!(memory.say(&object(), "u", None, &status("Programmed")));
        assert!(!memory.say(&object(), "u", None, &status("Programmed")), "although the object does not show it yet");
        assert!(memory.say(&object(), "u", None, &status("Error")));
        memory.forget(&object());
        assert!(!memory.say(&object(), "u", Some(&status("Error")), &status("Error")), "after a restart");
    }
}
