//! Kubernetes Events about objects: for transitions, merged and limited so that a loop cannot fill the store.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use prometheus_client::metrics::counter::Counter;
use serde_json::json;
use tokio::sync::mpsc;

use super::is_not_found;
use crate::{Clock, Ids, Metrics, Tasks};

/// How many events may wait to be written; more are dropped and counted.
const CAPACITY: usize = 1_024;

/// How many distinct events and objects are remembered for merging and limiting.
const REMEMBERED: usize = 4_096;

/// An event that did not happen again for so long starts a new one.
const MERGE_WINDOW: Duration = Duration::from_mins(10);

/// Burst of events per object, and how long one more takes to be earned (the figures of Kubernetes' own recorders).
const BURST: f64 = 25.0;
const EARN_ONE: Duration = Duration::from_mins(5);

/// Whether an event tells of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// All is well.
    Normal,
    /// Somebody should look.
    Warning,
}

/// One thing that happened to an object.
#[derive(Clone, Debug, PartialEq)]
pub struct EventNote {
    /// The object; `kind`, `name`, `uid` and (unless cluster-wide) `namespace` set.
    pub regarding: ObjectReference,
    /// Normal or Warning.
    pub kind: EventKind,
    /// A word in UpperCamelCase, as `HostnameOccupied`.
    pub reason: &'static str,
    /// A sentence for people, without secrets.
    pub message: String,
}

/// Records events in the background. Cheap to clone; clones share the queue.
#[derive(Clone, Debug)]
pub struct EventRecorder {
    sender: mpsc::Sender<EventNote>,
    dropped: Counter,
}

impl EventRecorder {
    /// Starts the recorder. `component` is the reporting component, as `tidegate-exposure`.
    pub fn start(client: Client, component: &'static str, clock: Clock, tasks: &Tasks) -> Self {
        let (sender, receiver) = mpsc::channel(CAPACITY);
        let dropped = Counter::default();
        let writer = Writer {
            client,
            component,
            clock,
            merged: HashMap::new(),
            budgets: HashMap::new(),
            dropped: dropped.clone(),
        };
        let shutdown = tasks.shutdown().clone();
        drop(tasks.spawn("event-recorder", async move {
            tokio::select! {
                () = writer.run(receiver) => {}
                () = shutdown.cancelled() => {}
            }
        }));
        Self { sender, dropped }
    }

    /// Puts the number of dropped events into the registry as `tidegate_{area}_events_dropped_total`.
    pub fn register(&self, metrics: &Metrics, area: &str) {
        let dropped = self.dropped.clone();
        metrics.register(|registry| {
            let name = format!("tidegate_{area}_events_dropped");
            registry.register(name, "Kubernetes Events not written: too many at once or for one object", dropped);
        });
    }

    /// Queues an event; never waits. An event is dropped when too many wait.
    pub fn record(&self, note: EventNote) {
        if self.sender.try_send(note).is_err() {
            self.dropped.inc();
        }
    }
}

struct Writer {
    client: Client,
    component: &'static str,
    clock: Clock,
    merged: HashMap<Identity, Merged>,
    budgets: HashMap<String, Budget>,
    dropped: Counter,
}

/// Events that differ in none of these are one event that happened several times.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Identity {
    object: String,
    kind: EventKind,
    reason: &'static str,
    message: String,
}

struct Merged {
    name: String,
    count: i32,
    last: Instant,
}

struct Budget {
    left: f64,
    at: Instant,
}

impl Writer {
    async fn run(mut self, mut receiver: mpsc::Receiver<EventNote>) {
        while let Some(note) = receiver.recv().await {
            if !self.allows(&note) {
                self.dropped.inc();
                continue;
            }
            if let Err(error) = self.write(&note).await {
                // An event is a hint, not state: it is not worth a retry.
                self.dropped.inc();
                tracing::warn!(object.name = note.regarding.name, reason = note.reason, %error,
                    "event `{}` not written", note.reason);
            }
        }
    }

    fn allows(&mut self, note: &EventNote) -> bool {
        let now = self.clock.instant();
        if self.budgets.len() >= REMEMBERED {
            self.budgets.retain(|_, budget| budget.refilled(now) < BURST);
            if self.budgets.len() >= REMEMBERED {
                self.budgets.clear();
            }
        }
        let budget = self.budgets.entry(object_id(&note.regarding)).or_insert(Budget { left: BURST, at: now });
        budget.left = budget.refilled(now);
        budget.at = now;
        let allowed = budget.left >= 1.0;
        if allowed {
            budget.left -= 1.0;
        }
        allowed
    }

    async fn write(&mut self, note: &EventNote) -> Result<(), kube::Error> {
        let now = self.clock.instant();
        let identity = Identity {
            object: object_id(&note.regarding),
            kind: note.kind,
            reason: note.reason,
            message: note.message.clone(),
        };
        let namespace = note.regarding.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        let time = Time(self.clock.now());
        if let Some(merged) = self.merged.get_mut(&identity)
            && now.saturating_duration_since(merged.last) < MERGE_WINDOW
        {
            let patch = json!({"count": merged.count + 1, "lastTimestamp": time});
            match api.patch(&merged.name, &PatchParams::default(), &Patch::Merge(patch)).await {
                Ok(_) => {
                    merged.count += 1;
                    merged.last = now;
                    return Ok(());
                }
                // Deleted, by age or by hand: it starts anew below.
                Err(error) if is_not_found(&error) => {}
                Err(error) => return Err(error),
            }
        }
        let name = event_name(note);
        api.create(&PostParams::default(), &self.event(note, &name, namespace, &time)).await?;
        if self.merged.len() >= REMEMBERED {
            self.merged.retain(|_, merged| now.saturating_duration_since(merged.last) < MERGE_WINDOW);
            if self.merged.len() >= REMEMBERED {
                self.merged.clear();
            }
        }
        self.merged.insert(identity, Merged { name, count: 1, last: now });
        Ok(())
    }

    fn event(&self, note: &EventNote, name: &str, namespace: String, time: &Time) -> Event {
        Event {
            metadata: ObjectMeta { name: Some(name.to_owned()), namespace: Some(namespace), ..ObjectMeta::default() },
            involved_object: note.regarding.clone(),
            type_: Some(match note.kind {
                EventKind::Normal => "Normal".to_owned(),
                EventKind::Warning => "Warning".to_owned(),
            }),
            reason: Some(note.reason.to_owned()),
            message: Some(note.message.clone()),
            reporting_component: Some(self.component.to_owned()),
            source: Some(EventSource { component: Some(self.component.to_owned()), host: None }),
            count: Some(1),
            first_timestamp: Some(time.clone()),
            last_timestamp: Some(time.clone()),
            ..Event::default()
        }
    }
}

impl Budget {
    fn refilled(&self, now: Instant) -> f64 {
        let earned = now.saturating_duration_since(self.at).as_secs_f64() / EARN_ONE.as_secs_f64();
        (self.left + earned).min(BURST)
    }
}

fn object_id(object: &ObjectReference) -> String {
    let part = |value: &Option<String>| value.clone().unwrap_or_default();
    format!("{}/{}/{}/{}", part(&object.kind), part(&object.namespace), part(&object.name), part(&object.uid))
}

/// `{object}.{16 hexadecimal digits}`, as kubectl shows events of others.
fn event_name(note: &EventNote) -> String {
    let id = Ids::random().request_id();
    let object: String = note.regarding.name.as_deref().unwrap_or("object").chars().take(200).collect();
    format!("{object}.{}", id.get(..16).unwrap_or(&id))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::reconcile::testing::FakeApi;

    const EVENTS: &str = "/api/v1/namespaces/default/events";

    fn note(name: &str, message: &str) -> EventNote {
        EventNote {
            regarding: ObjectReference {
                kind: Some("Api".to_owned()),
                namespace: Some("default".to_owned()),
                name: Some(name.to_owned()),
                uid: Some("u1".to_owned()),
                ..ObjectReference::default()
            },
            kind: EventKind::Warning,
            reason: "HostnameOccupied",
            message: message.to_owned(),
        }
    }

    async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        while !condition() {
            assert!(tokio::time::Instant::now() < deadline, "{what}");
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn equal_events_are_merged_and_others_are_not() {
        let (fake, tasks) = (FakeApi::new(), Tasks::new());
        let (clock, hand) = Clock::manual(Timestamp::UNIX_EPOCH);
        let recorder = EventRecorder::start(fake.client(), "tidegate-test", clock, &tasks);
        for _ in 0..3 {
            recorder.record(note("a", "host is taken"));
        }
        recorder.record(note("a", "host is taken by another"));
        eventually("four writes", || fake.writes() == 4).await;
        let events = fake.below(EVENTS);
        assert_eq!(events.len(), 2);
        let merged = events.iter().find(|event| event["message"] == "host is taken").unwrap();
        assert_eq!(merged["count"], 3);
        assert_eq!(merged["reportingComponent"], "tidegate-test");
        assert_eq!(merged["type"], "Warning");
        assert_eq!(merged["involvedObject"]["name"], "a");

        hand.advance(MERGE_WINDOW);
        recorder.record(note("a", "host is taken"));
        eventually("a new event", || fake.below(EVENTS).len() == 3).await;
    }

    #[tokio::test]
    async fn one_object_cannot_flood_the_others() {
        let (fake, tasks) = (FakeApi::new(), Tasks::new());
        let (clock, hand) = Clock::manual(Timestamp::UNIX_EPOCH);
        let recorder = EventRecorder::start(fake.client(), "tidegate-test", clock, &tasks);
        for index in 0..40 {
            recorder.record(note("noisy", &format!("message {index}")));
        }
        recorder.record(note("quiet", "once"));
        eventually("the quiet object's event", || fake.below(&format!("{EVENTS}/quiet")).len() == 1).await;
        assert_eq!(fake.below(&format!("{EVENTS}/noisy")).len(), 25);
        assert_eq!(recorder.dropped.get(), 15);

        hand.advance(EARN_ONE);
        recorder.record(note("noisy", "later"));
        eventually("one more", || fake.below(&format!("{EVENTS}/noisy")).len() == 26).await;
    }
}
