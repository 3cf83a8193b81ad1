//! What is really enforced: the question that statuses wait for (`80` section 3.2).

use futures::future::BoxFuture;
use tidegate_policy::ObjectRef;

/// Answered by the data plane, asked by reconcilers before they write a success.
///
/// "Enforced" means a live route compiled from that generation: an object that is refused or waits for a host has none,
/// and the future does not resolve until it gets one. Callers that ask after the fact are answered too. Dropping a future
/// unsubscribes.
pub trait Enforcement: Send + Sync + 'static {
    /// Resolves once the published table holds a route of `object` compiled from `generation` or a newer one.
    fn enforced(&self, object: &ObjectRef, generation: i64) -> BoxFuture<'static, ()>;

    /// Resolves once the published table holds no route of `object`; what a deletion waits for.
    fn withdrawn(&self, object: &ObjectRef) -> BoxFuture<'static, ()>;
}
