//! What `/readyz` answers from.

use std::sync::Arc;

use parking_lot::Mutex;

/// The process's readiness checks. Cheap to clone; clones share the list.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    checks: Arc<Mutex<Vec<Check>>>,
}

#[derive(Debug)]
struct Check {
    name: &'static str,
    state: Result<(), String>,
}

/// One registered check; it is not ready until [`ReadyCheck::ready`] is called.
#[derive(Clone, Debug)]
pub struct ReadyCheck {
    checks: Arc<Mutex<Vec<Check>>>,
    index: usize,
}

impl Readiness {
    /// No checks yet: ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a check called `name` (a lower-case word, as `/readyz?verbose` prints it) in state "starting".
    pub fn register(&self, name: &'static str) -> ReadyCheck {
        let mut checks = self.checks.lock();
        checks.push(Check { name, state: Err("starting".to_owned()) });
        ReadyCheck { checks: Arc::clone(&self.checks), index: checks.len() - 1 }
    }

    /// Every check in the order of registration, with the reason of those that are not ready.
    pub fn report(&self) -> Vec<(&'static str, Result<(), String>)> {
        self.checks.lock().iter().map(|check| (check.name, check.state.clone())).collect()
    }

    /// Whether every check is ready.
    pub fn is_ready(&self) -> bool {
        self.checks.lock().iter().all(|check| check.state.is_ok())
    }
}

impl ReadyCheck {
    /// The part works.
    pub fn ready(&self) {
        self.set(Ok(()));
    }

    /// The part does not work; `reason` says why, without secrets.
    pub fn failed(&self, reason: impl Into<String>) {
        self.set(Err(reason.into()));
    }

    fn set(&self, state: Result<(), String>) {
        // The list only grows, so the index stays valid.
        if let Some(check) = self.checks.lock().get_mut(self.index) {
            check.state = state;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_means_that_every_check_is() {
        let readiness = Readiness::new();
        assert!(readiness.is_ready());
        let store = readiness.register("store");
        let routes = readiness.register("routes");
        assert!(!readiness.is_ready());
        store.ready();
        routes.ready();
        assert!(readiness.is_ready());
        store.failed("disk full");
        assert_eq!(readiness.report(), [("store", Err("disk full".to_owned())), ("routes", Ok(()))]);
        assert!(!readiness.is_ready());
    }
}
