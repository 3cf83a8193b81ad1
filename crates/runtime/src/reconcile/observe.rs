//! Watching objects: what kube's watcher reports, with removals that happened while nobody watched.

use std::fmt::Debug;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Endpoints, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, DynamicObject};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, watcher};
use kube::{Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tidegate_policy::{Change, Input, ObjectKind, ObjectRef};
use tokio::sync::mpsc;

use super::watches::{Entry, Known, Name, name_of};
use crate::Tasks;

/// How many changes may wait for the consumer; a watch waits when it is slower.
const CAPACITY: usize = 1_024;

/// What happened to objects of one kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Observed<K> {
    /// The object was there at the start, was created or was changed.
    Set(K),
    /// The object is gone.
    Removed {
        /// Its namespace; empty for cluster-wide kinds.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// All objects that are there have been reported; comes again after each new listing.
    Listed,
}

/// Reports the objects behind `api` as `wrap` puts them (`None` is left out), until `sender`'s consumer is gone.
/// Interruptions are retried with growing waits; objects that went away during one are reported as removed.
pub async fn observe<K, T>(api: Api<K>, sender: &mpsc::Sender<T>, mut wrap: impl FnMut(Observed<K>) -> Option<T>)
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let mut known = Known::default();
    let mut listed = Known::default();
    let board = Entry::new(api.resource_url());
    let mut events = pin!(watcher(api, watcher::Config::default()).default_backoff());
    while let Some(event) = events.next().await {
        let observed = match event {
            Ok(watcher::Event::Init) => {
                listed = Known::default();
                continue;
            }
            Ok(watcher::Event::InitApply(object)) => {
                listed.insert(&object);
                Observed::Set(object)
            }
            Ok(watcher::Event::InitDone) => {
                for gone in known.missing_in(&listed) {
                    if let Some(event) = wrap(removed(gone))
                        && sender.send(event).await.is_err()
                    {
                        return;
                    }
                }
                known = std::mem::take(&mut listed);
                board.show(&known, None);
                Observed::Listed
            }
            Ok(watcher::Event::Apply(object)) => {
                known.insert(&object);
                board.show(&known, object.resource_version());
                Observed::Set(object)
            }
            Ok(watcher::Event::Delete(object)) => {
                let name = name_of(&object);
                known.remove(&name);
                board.show(&known, object.resource_version());
                removed(&name)
            }
            Err(error) => {
                tracing::warn!(%error, "watch of {} interrupted, trying again", std::any::type_name::<K>());
                continue;
            }
        };
        if let Some(event) = wrap(observed)
            && sender.send(event).await.is_err()
        {
            return;
        }
    }
}

fn removed<K>((namespace, name): &Name) -> Observed<K> {
    Observed::Removed { namespace: namespace.clone(), name: name.clone() }
}

/// What [`watch_inputs`] reports.
#[derive(Clone, Debug)]
pub enum InputEvent {
    /// One object of the route model's inputs changed.
    Changed(Change),
    /// Every object that was there at the start has been reported; comes once.
    Synced,
}

/// Kinds that [`watch_inputs`] lists before it reports [`InputEvent::Synced`].
const INPUT_KINDS: usize = 6;

/// Watches everything that a route model is compiled from (SPEC 30 §1.1), for a `policy::Index`.
pub fn watch_inputs(client: &Client, tasks: &Tasks) -> mpsc::Receiver<InputEvent> {
    let (sender, receiver) = mpsc::channel(CAPACITY);
    let inputs = Inputs { sender, unlisted: Arc::new(AtomicUsize::new(INPUT_KINDS)), tasks };
    let virtual_services = istio(client, "v1alpha3", "VirtualService");
    let gateways = istio(client, "v1alpha3", "Gateway");
    inputs.watch(Api::all(client.clone()), ObjectKind::Api, |api| Input::Api(Box::new(api)));
    inputs.watch(Api::<Service>::all(client.clone()), ObjectKind::Service, |o| Input::Service(Box::new(o)));
    inputs.watch(Api::<EndpointSlice>::all(client.clone()), ObjectKind::EndpointSlice, |o| {
        Input::EndpointSlice(Box::new(o))
    });
    inputs.watch(Api::<Endpoints>::all(client.clone()), ObjectKind::Endpoints, |o| Input::Endpoints(Box::new(o)));
    inputs.watch(virtual_services, ObjectKind::VirtualService, |o| Input::VirtualService(Box::new(o)));
    inputs.watch(gateways, ObjectKind::Gateway, |o| Input::Gateway(Box::new(o)));
    receiver
}

fn istio(client: &Client, version: &str, kind: &str) -> Api<DynamicObject> {
    let gvk = GroupVersionKind::gvk(tidegate_kinds::istio::NETWORKING_GROUP, version, kind);
    Api::all_with(client.clone(), &ApiResource::from_gvk(&gvk))
}

struct Inputs<'a> {
    sender: mpsc::Sender<InputEvent>,
    unlisted: Arc<AtomicUsize>,
    tasks: &'a Tasks,
}

impl Inputs<'_> {
    fn watch<K>(&self, api: Api<K>, kind: ObjectKind, input: fn(K) -> Input)
    where
        K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        let (sender, unlisted, shutdown) =
            (self.sender.clone(), Arc::clone(&self.unlisted), self.tasks.shutdown().clone());
        let mut is_listed = false;
        let event = move |observed| match observed {
            Observed::Set(object) => Some(InputEvent::Changed(Change::Set(input(object)))),
            Observed::Removed { namespace, name } => {
                Some(InputEvent::Changed(Change::Removed(ObjectRef::new(kind, namespace, name))))
            }
            Observed::Listed if std::mem::replace(&mut is_listed, true) => None,
            // The last kind to be listed speaks for all: what the others had to say was sent before.
            Observed::Listed => (unlisted.fetch_sub(1, Ordering::AcqRel) == 1).then_some(InputEvent::Synced),
        };
        drop(self.tasks.spawn("watch-inputs", async move {
            tokio::select! {
                () = observe(api, &sender, event) => {}
                () = shutdown.cancelled() => {}
            }
        }));
    }
}
