//! Namespaces: what every one has, and how one goes away (SPEC 60 §1, §12.3).
//!
//! ```text
//! Active ──DELETE──▶ Terminating ──(contents deleted; finalizers of others awaited)──▶ spec.finalizers emptied ──▶ gone
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{AGAIN, Follower, Step};
use crate::http::{Shared, meta};
use crate::status::ApiError;
use crate::store::{ClusterId, Event, Key, Object, Resource, Txn};

const CONFIG_MAP: &str = "kube-root-ca.crt";
const ACCOUNT: &str = "default";
/// Objects that one transaction of a namespace's deletion touches.
const CHUNK: usize = 500;

/// Runs until shutdown. `client` acts for this controller; `ca_pem` is the content of every `kube-root-ca.crt`.
pub async fn run(shared: Arc<Shared>, client: kube::Client, ca_pem: String) {
    let mut namespaces = Follower::new(&shared, "", "namespaces");
    let mut accounts = Follower::new(&shared, "", "serviceaccounts");
    let mut config_maps = Follower::new(&shared, "", "configmaps");
    let mut services = Follower::new(&shared, "", "services");
    let keeper = Keeper { shared: &shared, client, ca_pem };
    let mut waiting = false;
    loop {
        let again = async { if waiting { tokio::time::sleep(AGAIN).await } else { std::future::pending().await } };
        let step = tokio::select! {
            () = shared.tasks.shutdown().cancelled() => return,
            step = namespaces.next() => step,
            step = accounts.next() => step,
            step = config_maps.next() => step,
            step = services.next() => step,
            () = again => Some(Step::Restarted),
        };
        let Some(step) = step else { return };
        if let Step::Changed(event) = &step
            && !concerns(event)
        {
            continue;
        }
        namespaces.drain();
        waiting = keeper.reconcile().await;
    }
}

/// Whether an event can call for work: most changes of ConfigMaps and the like do not.
fn concerns(event: &Event) -> bool {
    let key = &event.object.key;
    match &*key.resource.resource {
        "namespaces" => true,
        "serviceaccounts" => &*key.name.name == ACCOUNT,
        "configmaps" => &*key.name.name == CONFIG_MAP,
        _ => &*key.name.name == "kubernetes" && &*key.name.namespace == "default",
    }
}

struct Keeper<'a> {
    shared: &'a Arc<Shared>,
    client: kube::Client,
    ca_pem: String,
}

impl Keeper<'_> {
    /// Looks at every namespace; `true` when some wait for others or something failed.
    async fn reconcile(&self) -> bool {
        let mut again = false;
        let namespaces = self.shared.store.snapshot(ClusterId::ROOT, &Resource::new("", "namespaces"));
        for namespace in namespaces.iter() {
            if namespace.deletion_timestamp().is_some() {
                again |= !finish(self.shared, namespace.name()).await;
            } else if let Err(error) = self.furnish(namespace.name()).await {
                tracing::warn!(object.namespace = namespace.name(), "cannot furnish the namespace: {error}");
                again = true;
            }
        }
        again
    }

    /// Creates what every namespace has.
    async fn furnish(&self, namespace: &str) -> Result<(), kube::Error> {
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT}});
        self.create(namespace, "serviceaccounts", ACCOUNT, &account).await?;
        let config_map = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {
                "name": CONFIG_MAP,
                "annotations": {"kubernetes.io/description": "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters."},
            },
            "data": {"ca.crt": self.ca_pem},
        });
        self.keep_config_map(namespace, &config_map).await?;
        if namespace == "default" {
            let service = json!({
                "apiVersion": "v1", "kind": "Service",
                "metadata": {"name": "kubernetes", "labels": {"component": "apiserver", "provider": "kubernetes"}},
                "spec": {"ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": 6443}]},
            });
            self.create(namespace, "services", "kubernetes", &service).await?;
        }
        Ok(())
    }

    async fn create(&self, namespace: &str, plural: &str, name: &str, object: &Value) -> Result<(), kube::Error> {
        if self.find(namespace, plural, name).is_some() {
            return Ok(());
        }
        let path = format!("/api/v1/namespaces/{namespace}/{plural}");
        match self.send("POST", &path, object).await {
            // Somebody was faster, or the namespace is going away.
            Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404 | 409) => Ok(()),
            other => other,
        }
    }

    /// The CA is replaced when it is not ours: clients would trust the wrong one.
    async fn keep_config_map(&self, namespace: &str, wanted: &Value) -> Result<(), kube::Error> {
        let Some(found) = self.find(namespace, "configmaps", CONFIG_MAP) else {
            return self.create(namespace, "configmaps", CONFIG_MAP, wanted).await;
        };
        if found.body().get("data") == wanted.get("data") {
            return Ok(());
        }
        self.send("PUT", &format!("/api/v1/namespaces/{namespace}/configmaps/{CONFIG_MAP}"), wanted).await
    }

    fn find(&self, namespace: &str, plural: &str, name: &str) -> Option<Arc<Object>> {
        self.shared.store.get(&Key::new(ClusterId::ROOT, &Resource::new("", plural), namespace, name))
    }

    async fn send(&self, method: &str, path: &str, object: &Value) -> Result<(), kube::Error> {
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(object.to_string().into_bytes())
            .map_err(kube::Error::HttpError)?;
        self.client.request::<Value>(request).await.map(drop)
    }
}

/// What is left in a namespace: by resource, and by finalizer.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Leftovers {
    resources: BTreeMap<String, usize>,
    finalizers: BTreeMap<String, usize>,
}

/// Deletes the contents of a terminating namespace, and the namespace once it is empty; `true` when it is gone or
/// waits only for its own finalizers.
async fn finish(shared: &Shared, name: &str) -> bool {
    loop {
        let contents: Vec<Key> = {
            let view = shared.store.view(ClusterId::ROOT);
            let marked = |object: &&Arc<Object>| object.deletion_timestamp().is_none();
            view.in_namespace(name).filter(marked).take(CHUNK).map(|object| object.key.clone()).collect()
        };
        if contents.is_empty() {
            break;
        }
        let removed = super::write(shared, "emptying a namespace", move |txn| {
            for key in &contents {
                super::remove(txn, key).map_err(|error| ApiError::internal(error.to_string()))?;
            }
            Ok(())
        });
        if removed.await.is_none() {
            return false;
        }
    }
    let key = Key::new(ClusterId::ROOT, &Resource::new("", "namespaces"), "", name);
    let namespace = name.to_owned();
    super::write(shared, "finishing a namespace", move |txn| conclude(txn, &key, &namespace)).await.unwrap_or(false)
}

/// Removes the namespace if nothing is in it, else says in its conditions what is.
fn conclude(txn: &mut Txn<'_>, key: &Key, name: &str) -> Result<bool, ApiError> {
    let Some(object) = txn.get(key) else { return Ok(true) };
    let mut value = Value::clone(object.body());
    if !meta::is_deleting(&value) {
        return Ok(true);
    }
    let mut left = Leftovers::default();
    for object in txn.view(ClusterId::ROOT).in_namespace(name) {
        *left.resources.entry(object.key.resource.to_string()).or_default() += 1;
        for finalizer in meta::finalizers(object.body()) {
            *left.finalizers.entry(finalizer.to_owned()).or_default() += 1;
        }
    }
    let empty = left.resources.is_empty();
    if empty {
        meta::set(&mut value, "spec.finalizers", json!([]));
        if meta::finalizers(&value).is_empty() {
            txn.delete(key);
            return Ok(true);
        }
    }
    set_conditions(&mut value, &left, &meta::time(txn.now()));
    txn.put(key, value).map_err(|error| ApiError::internal(error.to_string()))?;
    Ok(empty)
}

fn set_conditions(namespace: &mut Value, left: &Leftovers, now: &str) {
    let remain = left.resources.iter().map(|(resource, count)| {
        // Upstream prints the group's dot even for core.
        let dot = if resource.contains('.') { "" } else { "." };
        format!("{resource}{dot} has {count} resource instances")
    });
    let held = left.finalizers.iter().map(|(finalizer, count)| format!("{finalizer} in {count} resource instances"));
    let content = (!left.resources.is_empty())
        .then(|| format!("Some resources are remaining: {}", remain.collect::<Vec<_>>().join(", ")));
    let finalizers = (!left.finalizers.is_empty()).then(|| {
        format!("Some content in the namespace has finalizers remaining: {}", held.collect::<Vec<_>>().join(", "))
    });
    let good = |kind, reason, message: &str| (kind, "False", reason, message.to_owned());
    let bad = |kind, reason, text: Option<String>, good_reason, good_text: &str| match text {
        Some(text) => (kind, "True", reason, text),
        None => (kind, "False", good_reason, good_text.to_owned()),
    };
    let wanted = [
        good("NamespaceDeletionDiscoveryFailure", "ResourcesDiscovered", "All resources successfully discovered"),
        good(
            "NamespaceDeletionGroupVersionParsingFailure",
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed",
        ),
        good(
            "NamespaceDeletionContentFailure",
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization",
        ),
        bad(
            "NamespaceContentRemaining",
            "SomeResourcesRemain",
            content,
            "ContentRemoved",
            "All content successfully removed",
        ),
        bad(
            "NamespaceFinalizersRemaining",
            "SomeFinalizersRemain",
            finalizers,
            "ContentHasNoFinalizers",
            "All content-preserving finalizers finished",
        ),
    ];
    let before = namespace.pointer("/status/conditions").and_then(Value::as_array).cloned().unwrap_or_default();
    let conditions: Vec<Value> = wanted
        .into_iter()
        .map(|(kind, status, reason, message)| {
            let old = before.iter().find(|old| old["type"] == kind);
            let since = old.filter(|old| old["status"] == status).and_then(|old| old["lastTransitionTime"].as_str());
            json!({
                "type": kind, "status": status, "reason": reason, "message": message,
                "lastTransitionTime": since.unwrap_or(now),
            })
        })
        .collect();
    meta::set(namespace, "status.phase", "Terminating");
    meta::set(namespace, "status.conditions", conditions);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_say_what_is_left_and_since_when() {
        let left = Leftovers {
            resources: [("configmaps".to_owned(), 1), ("widgets.example.com".to_owned(), 2)].into(),
            finalizers: [("e.com/h".to_owned(), 1)].into(),
        };
        let mut namespace = json!({});
        set_conditions(&mut namespace, &left, "t1");
        set_conditions(&mut namespace, &left, "t2");
        let conditions = namespace["status"]["conditions"].as_array().unwrap();
        assert_eq!(conditions.len(), 5);
        assert_eq!(
            conditions[3]["message"],
            "Some resources are remaining: configmaps. has 1 resource instances, widgets.example.com has 2 resource instances"
        );
        assert_eq!(
            conditions[4]["message"],
            "Some content in the namespace has finalizers remaining: e.com/h in 1 resource instances"
        );
        assert_eq!(conditions[3]["lastTransitionTime"], "t1");
        set_conditions(&mut namespace, &Leftovers::default(), "t3");
        assert_eq!(namespace["status"]["conditions"][3]["status"], "False");
        assert_eq!(namespace["status"]["conditions"][3]["lastTransitionTime"], "t3");
    }
}
