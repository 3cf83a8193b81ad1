//! Services that this process answers itself: upstreams without a socket (`80` section 3.1).

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use parking_lot::RwLock;
use tower::util::BoxCloneSyncService;

/// Error of a body or a service, of whatever kind.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A body whose concrete type was forgotten.
pub type BoxBody = UnsyncBoxBody<Bytes, BoxError>;

/// A service of this process: every problem is an answer, so it cannot fail.
pub type InProcessService = BoxCloneSyncService<Request<BoxBody>, Response<BoxBody>, Infallible>;

/// Forgets the type of a body.
pub fn boxed<B>(body: B) -> BoxBody
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    body.map_err(Into::into).boxed_unsync()
}

/// Name (`namespace/service`, as `default/kubernetes`) -> the service that answers it. Cheap to clone.
///
/// Filled at start by the binary; the data plane resolves a name when it publishes a route, not per request.
#[derive(Clone, Default)]
pub struct InProcess {
    services: Arc<RwLock<HashMap<String, InProcessService>>>,
}

impl InProcess {
    /// No services.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a service under `name`; the former one of that name, if any, is replaced for later look-ups.
    pub fn register(&self, name: impl Into<String>, service: InProcessService) {
        self.services.write().insert(name.into(), service);
    }

    /// The service registered under `name`.
    pub fn get(&self, name: &str) -> Option<InProcessService> {
        self.services.read().get(name).cloned()
    }

    /// All registered names, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.services.read().keys().cloned().collect();
        names.sort();
        names
    }
}

impl std::fmt::Debug for InProcess {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("InProcess").field(&self.names()).finish()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;
    use tower::ServiceExt as _;

    use super::*;

    #[tokio::test]
    async fn a_registered_service_answers_under_its_name() {
        let registry = InProcess::new();
        let echo = tower::service_fn(|request: Request<BoxBody>| async move {
            Ok::<_, Infallible>(Response::new(request.into_body()))
        });
        registry.register("default/echo", BoxCloneSyncService::new(echo));
        assert!(registry.get("default/other").is_none());
        let service = registry.get("default/echo").unwrap();
        let request = Request::new(boxed(Full::new(Bytes::from_static(b"hello"))));
        let response = service.oneshot(request).await.unwrap();
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hello");
        assert_eq!(registry.names(), ["default/echo"]);
    }
}
