//! Which objects wait for a reconciler.

use std::collections::{HashSet, VecDeque};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::Tasks;

/// Keys that wait for work, each at most once, in the order they came. A key that is added while it is worked on waits
/// until that work is done, so that two workers never have one object in hand. Cheap to clone; clones share the queue.
///
/// Its size is bounded by the number of objects there are.
#[derive(Debug)]
pub struct WorkQueue<K> {
    shared: Arc<Shared<K>>,
}

impl<K> Clone for WorkQueue<K> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

#[derive(Debug)]
struct Shared<K> {
    state: Mutex<State<K>>,
    due: Notify,
}

#[derive(Debug)]
struct State<K> {
    order: VecDeque<K>,
    waiting: HashSet<K>,
    running: HashSet<K>,
    /// Keys that came again while they were worked on.
    again: HashSet<K>,
}

impl<K: Clone + Eq + Hash + Send + 'static> Default for WorkQueue<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Clone + Eq + Hash + Send + 'static> WorkQueue<K> {
    /// An empty queue.
    pub fn new() -> Self {
        let state =
            State { order: VecDeque::new(), waiting: HashSet::new(), running: HashSet::new(), again: HashSet::new() };
        Self { shared: Arc::new(Shared { state: Mutex::new(state), due: Notify::new() }) }
    }

    /// Adds `key` unless it waits already.
    pub fn add(&self, key: K) {
        let mut state = self.shared.state.lock();
        if state.running.contains(&key) {
            state.again.insert(key);
        } else if state.waiting.insert(key.clone()) {
            state.order.push_back(key);
            self.shared.due.notify_one();
        }
    }

    /// Adds `key` after `wait`, unless the process shuts down before.
    pub fn add_after(&self, key: K, wait: Duration, tasks: &Tasks) {
        let (queue, shutdown) = (self.clone(), tasks.shutdown().clone());
        drop(tasks.spawn("requeue", async move {
            tokio::select! {
                () = tokio::time::sleep(wait) => queue.add(key),
                () = shutdown.cancelled() => {}
            }
        }));
    }

    /// The key that waits longest; waits for one to come. The caller hands it back with [`WorkQueue::done`].
    pub async fn next(&self) -> K {
        loop {
            let due = self.shared.due.notified();
            {
                let mut state = self.shared.state.lock();
                if let Some(key) = state.order.pop_front() {
                    state.waiting.remove(&key);
                    state.running.insert(key.clone());
                    if !state.order.is_empty() {
                        self.shared.due.notify_one();
                    }
                    return key;
                }
            }
            due.await;
        }
    }

    /// The work on `key` is done; it waits again if it was added meanwhile.
    pub fn done(&self, key: &K) {
        let mut state = self.shared.state.lock();
        state.running.remove(key);
        if state.again.remove(key) && state.waiting.insert(key.clone()) {
            state.order.push_back(key.clone());
            self.shared.due.notify_one();
        }
    }

    /// How many keys wait or are worked on.
    pub fn depth(&self) -> usize {
        let state = self.shared.state.lock();
        state.waiting.len() + state.running.len() + state.again.len()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn next(queue: &WorkQueue<&'static str>) -> Option<&'static str> {
        queue.next().now_or_never()
    }

    #[tokio::test]
    async fn a_key_waits_once_and_in_order() {
        let queue = WorkQueue::new();
        for key in ["a", "b", "a"] {
            queue.add(key);
        }
        assert_eq!((next(&queue), next(&queue), next(&queue)), (Some("a"), Some("b"), None));
    }

    #[tokio::test]
    async fn a_key_that_comes_again_while_it_is_worked_on_waits_for_that() {
        let queue = WorkQueue::new();
        queue.add("a");
        assert_eq!(next(&queue), Some("a"));
        queue.add("a");
        assert_eq!(next(&queue), None);
        assert_eq!(queue.depth(), 2);
        queue.done(&"a");
        assert_eq!(next(&queue), Some("a"));
        queue.done(&"a");
        assert_eq!(queue.depth(), 0);
    }

    #[tokio::test]
    async fn waiting_workers_are_woken_one_per_key() {
        let queue: WorkQueue<u32> = WorkQueue::new();
        let workers: Vec<_> = (0..3)
            .map(|_| {
                let queue = queue.clone();
                Tasks::new().spawn("worker", async move { queue.next().await })
            })
            .collect();
        tokio::task::yield_now().await;
        (0..3).for_each(|key| queue.add(key));
        let mut got = Vec::new();
        for worker in workers {
            got.push(worker.await.unwrap());
        }
        got.sort_unstable();
        assert_eq!(got, [0, 1, 2]);
    }
}
