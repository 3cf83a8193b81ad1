//! A process to live in: clock, randomness, tasks, readiness, listeners, metrics, logs, configuration, reconciler harness, injected traits.
#![warn(missing_docs)]
