//! Where changes come from: the watches of everything that the edge is made of.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use k8s_openapi::api::core::v1::Secret;
use tidegate_policy::{ObjectKind, ObjectRef};
use tidegate_runtime::Tasks;
use tidegate_runtime::reconcile::{InputEvent, Observed, observe, watch_inputs};
use tokio::sync::mpsc;

use crate::publish::Input;

/// How many changes may wait for the publisher; the watches wait when it is slower.
const CAPACITY: usize = 1_024;

/// Watches the inputs of the route model and the Secrets that Gateways may name. [`Input::Synced`] comes once, when
/// everything that was there at the start has been reported.
pub(crate) fn inputs(client: &kube::Client, tasks: &Tasks) -> mpsc::Receiver<Input> {
    let (sender, receiver) = mpsc::channel(CAPACITY);
    // Two sources: the one that is complete last says so.
    let incomplete = Arc::new(AtomicUsize::new(2));

    let mut changes = watch_inputs(client, tasks);
    let (own, left) = (sender.clone(), Arc::clone(&incomplete));
    drop(tasks.spawn("gateway-inputs", async move {
        while let Some(event) = changes.recv().await {
            let input = match event {
                InputEvent::Changed(change) => Some(Input::Changed(change)),
                InputEvent::Synced => complete(&left),
            };
            if let Some(input) = input
                && own.send(input).await.is_err()
            {
                return;
            }
        }
    }));

    let secrets: kube::Api<Secret> = kube::Api::all(client.clone());
    let shutdown = tasks.shutdown().clone();
    let mut is_listed = false;
    drop(tasks.spawn("gateway-secrets", async move {
        let watch = observe(secrets, &sender, move |observed| match observed {
            Observed::Set(secret) => {
                let name = secret.metadata.name.clone().unwrap_or_default();
                let namespace = secret.metadata.namespace.clone().unwrap_or_default();
                Some(Input::Secret(ObjectRef::new(ObjectKind::Secret, namespace, name), Some(Box::new(secret))))
            }
            Observed::Removed { namespace, name } => {
                Some(Input::Secret(ObjectRef::new(ObjectKind::Secret, namespace, name), None))
            }
            Observed::Listed if std::mem::replace(&mut is_listed, true) => None,
            Observed::Listed => complete(&incomplete),
        });
        tokio::select! {
            () = watch => {}
            () = shutdown.cancelled() => {}
        }
    }));
    receiver
}

fn complete(incomplete: &AtomicUsize) -> Option<Input> {
    (incomplete.fetch_sub(1, Ordering::AcqRel) == 1).then_some(Input::Synced)
}
