//! The in-process client: `kube::Client` over the service itself, no socket (SPEC 60 §21).

use std::convert::Infallible;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use http::Request;

use crate::authn::Identity;
use crate::http::ApiService;
use crate::http::respond::Answer;

/// Puts an identity into every request before the API sees it.
#[derive(Clone)]
struct Identified {
    service: ApiService,
    identity: Identity,
}

impl tower::Service<Request<kube::client::Body>> for Identified {
    type Response = Answer;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Answer, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<kube::client::Body>) -> Self::Future {
        request.extensions_mut().insert(self.identity.clone());
        self.service.call(request)
    }
}

/// A client that acts as `identity`. Must be called inside a tokio runtime: the client's queue is a task on it.
pub fn in_process(service: ApiService, identity: &str) -> kube::Client {
    kube::Client::new(Identified { service, identity: Identity::in_process(identity) }, "default")
}
