//! Every spawned task has a name, a tracker and ends on shutdown (`80` section 12).

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt as _;
use prometheus_client::metrics::counter::Counter;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Metrics;

/// Spawns tasks and waits for them. Cheap to clone; clones share tracker, shutdown token and panic count.
#[derive(Clone, Debug)]
pub struct Tasks {
    tracker: TaskTracker,
    shutdown: CancellationToken,
    panics: Counter,
    handle: Option<Handle>,
}

impl Default for Tasks {
    fn default() -> Self {
        Self::new()
    }
}

impl Tasks {
    /// A new group that spawns onto the runtime it is called from.
    pub fn new() -> Self {
        Self {
            tracker: TaskTracker::new(),
            shutdown: CancellationToken::new(),
            panics: Counter::default(),
            handle: None,
        }
    }

    /// The same group (tracker, token, count), spawning onto the given runtime wherever it is called from.
    #[must_use]
    pub fn on(&self, handle: Handle) -> Self {
        Self { handle: Some(handle), ..self.clone() }
    }

    /// A group of its own whose token also ends with this one's: what is stopped earlier than the rest.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { tracker: TaskTracker::new(), shutdown: self.shutdown.child_token(), ..self.clone() }
    }

    /// Puts `tidegate_process_panics_total` into the registry.
    pub fn register(&self, metrics: &Metrics) {
        let panics = self.panics.clone();
        metrics.register(|registry| {
            registry.register(
                "tidegate_process_panics",
                "Panics caught in tasks and requests; each one is a bug",
                panics,
            );
        });
    }

    /// Runs `future` as a task called `name`.
    ///
    /// The task is expected to end when [`Tasks::shutdown`] is canceled. A panic in it is counted, logged and
    /// reported by the returned handle; it never ends the process.
    pub fn spawn<F>(&self, name: &'static str, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let future = self.tracker.track_future(self.caught(name, future));
        match &self.handle {
            Some(handle) => handle.spawn(future),
            None => Handle::current().spawn(future),
        }
    }

    /// Runs blocking or long computing work off the asynchronous workers.
    pub fn spawn_blocking<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let panics = self.panics.clone();
        let token = self.tracker.token();
        let work = move || {
            let _tracked = token;
            std::panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
                note_panic(&panics, name);
                std::panic::resume_unwind(panic)
            })
        };
        match &self.handle {
            Some(handle) => handle.spawn_blocking(work),
            None => Handle::current().spawn_blocking(work),
        }
    }

    /// Wraps a future (one request, say) so that a panic in it is counted and logged; `None` when it panicked.
    pub async fn catch<F: Future>(&self, name: &'static str, future: F) -> Option<F::Output> {
        let output = AssertUnwindSafe(future).catch_unwind().await.ok();
        if output.is_none() {
            note_panic(&self.panics, name);
        }
        output
    }

    /// The token that tasks end on.
    pub fn shutdown(&self) -> &CancellationToken {
        &self.shutdown
    }

    /// How many panics were caught so far.
    pub fn panics(&self) -> u64 {
        self.panics.get()
    }

    /// How many tasks of this group run.
    pub fn running(&self) -> usize {
        self.tracker.len()
    }

    /// Asks all tasks of this group to end and waits for them; `false` when some still run after `limit`.
    pub async fn close_and_wait(&self, limit: Duration) -> bool {
        self.shutdown.cancel();
        self.tracker.close();
        tokio::time::timeout(limit, self.tracker.wait()).await.is_ok()
    }

    fn caught<F: Future>(&self, name: &'static str, future: F) -> impl Future<Output = F::Output> + use<F> {
        let panics = self.panics.clone();
        async move {
            match AssertUnwindSafe(future).catch_unwind().await {
                Ok(output) => output,
                Err(panic) => {
                    note_panic(&panics, name);
                    std::panic::resume_unwind(panic)
                }
            }
        }
    }
}

fn note_panic(panics: &Counter, name: &'static str) {
    panics.inc();
    // The panic hook has already printed message and place.
    tracing::error!(task = name, "a panic was caught in task `{name}`");
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn tasks_end_on_shutdown_and_are_waited_for() {
        let tasks = Tasks::new();
        let shutdown = tasks.shutdown().clone();
        let task = tasks.spawn("waiter", async move {
            shutdown.cancelled().await;
            7
        });
        assert_eq!(tasks.running(), 1);
        assert!(tasks.close_and_wait(LONG).await);
        assert_eq!(task.await.unwrap(), 7);
        assert_eq!(tasks.running(), 0);
    }

    #[tokio::test]
    async fn a_task_that_does_not_end_is_reported() {
        let tasks = Tasks::new();
        let _task = tasks.spawn("stubborn", std::future::pending::<()>());
        assert!(!tasks.close_and_wait(Duration::from_millis(20)).await);
    }

    #[tokio::test]
    async fn a_panic_is_counted_and_the_others_go_on() {
        let tasks = Tasks::new();
        let metrics = Metrics::new();
        tasks.register(&metrics);
        let broken = tasks.spawn("broken", async { panic!("on purpose") });
        assert!(broken.await.unwrap_err().is_panic());
        let blocking = tasks.spawn_blocking("broken-blocking", || panic!("on purpose"));
        assert!(blocking.await.unwrap_err().is_panic());
        assert_eq!(tasks.catch("request", async { panic!("on purpose") }).await, None::<()>);
        assert_eq!(tasks.spawn("fine", async { 1 }).await.unwrap(), 1);
        assert_eq!(tasks.panics(), 3);
        assert!(metrics.encode().contains("tidegate_process_panics_total 3"));
    }

    #[tokio::test]
    async fn a_child_group_can_end_before_its_parent() {
        let tasks = Tasks::new();
        let child = tasks.child();
        let token = child.shutdown().clone();
        drop(child.spawn("listener", async move { token.cancelled().await }));
        assert!(child.close_and_wait(LONG).await);
        assert!(!tasks.shutdown().is_cancelled());

        let other = tasks.child();
        tasks.shutdown().cancel();
        assert!(other.shutdown().is_cancelled());
    }

    #[test]
    fn tasks_go_to_the_runtime_they_are_bound_to() {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name("bound").build().unwrap();
        let tasks = Tasks::new().on(runtime.handle().clone());
        let name = tasks.spawn("where", async { std::thread::current().name().map(str::to_owned) });
        assert_eq!(runtime.block_on(name).unwrap().as_deref(), Some("bound"));
    }
}
