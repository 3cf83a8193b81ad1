//! The HTTP face of the API server: one service for sockets and for this process (SPEC 60 §3, §21).
//!
//! ```text
//! Request ─▶ id ─▶ path ─▶ who ─▶ may they ─▶ timeout, panic guard ─▶ document | get list watch create update patch delete
//! ```
//!
//! [`ApiService`] is a tower service over any body. It answers every request, failures too: its error type is empty.

pub mod body;
mod delete;
mod documents;
mod events;
mod get;
mod gzip;
mod health;
mod kind;
mod list;
pub(crate) mod meta;
pub mod negotiate;
pub mod options;
pub mod page;
mod pipeline;
mod published;
pub mod respond;
mod scale;
mod select;
mod target;
mod view;
mod watch;
mod write;

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use arc_swap::ArcSwap;
use futures::future::BoxFuture;
use http::{HeaderMap, Request, StatusCode};
use serde_json::Value;
use tidegate_pki::ClientVerifier;
use tidegate_runtime::{BoxError, Clock, Ids, Random, Readiness, Tasks, boxed};

use self::negotiate::{MetaVersion, Representation, Shape};
use self::page::PageKey;
pub use self::published::Published;
use self::respond::Answer;
use self::target::Target;
use self::view::View;
use crate::admission::Advice;
use crate::crd::conversion::Converters;
use crate::metrics::Metrics;
use crate::request_info::Query;
use crate::status::ApiError;
use crate::store::{Object, PutError, Store, StoreError, Txn, WriteError};
use crate::table::{IncludeObject, ListMeta, Printer, TableOptions};

/// What every request shares.
pub struct Shared {
    pub store: Store,
    /// Resources and documents served now.
    pub published: ArcSwap<Published>,
    pub clock: Clock,
    pub random: Random,
    pub ids: Ids,
    pub tasks: Tasks,
    pub readiness: Readiness,
    /// Everything of the process, for `/metrics`.
    pub all_metrics: tidegate_runtime::Metrics,
    pub metrics: Metrics,
    pub page_key: PageKey,
    pub verifier: ClientVerifier,
    /// For kinds of ours whose versions differ in shape.
    pub converters: Arc<Converters>,
    /// What others have to say about writes; set once, before anybody but this process can write.
    pub advice: OnceLock<Advice>,
    /// `host:port` that clients use, for `/api`; set once the listener is bound.
    pub address: ArcSwap<String>,
}

/// The API as a tower service. Cheap to clone.
#[derive(Clone)]
pub struct ApiService {
    shared: Arc<Shared>,
}

impl ApiService {
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

impl<B> tower::Service<Request<B>> for ApiService
where
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Answer;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Answer, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    // Returns at once: the in-process client sends all its requests through one queue (SPEC 60 §21).
    fn call(&mut self, request: Request<B>) -> Self::Future {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move { Ok(pipeline::answer(shared, request.map(boxed)).await) })
    }
}

/// One request on a resource, after routing.
pub struct Call {
    shared: Arc<Shared>,
    target: Target,
    query: Query,
    headers: HeaderMap,
    representation: Representation,
}

impl Call {
    /// Runs an operation on the store, or throws its changes away for a dry run.
    async fn transact<T, F>(&self, dry_run: bool, operation: F) -> Result<T, ApiError>
    where
        F: FnOnce(&mut Txn<'_>) -> Result<T, ApiError> + Send + 'static,
        T: Send + 'static,
    {
        let store = &self.shared.store;
        let result = if dry_run { store.dry_run(operation).await } else { store.write(operation).await };
        result.map_err(|error| match error {
            WriteError::Refused(error) => error,
            WriteError::Store(error) => store_error(&error),
        })
    }

    /// How stored objects look to this request.
    fn view(&self) -> View {
        View::new(&self.target, &self.shared.converters, self.shared.advice.get())
    }

    /// Answers with a table of objects.
    fn table(
        &self,
        status: StatusCode,
        view: &View,
        version: MetaVersion,
        objects: &[Arc<Object>],
        metadata: ListMeta,
    ) -> Result<Answer, ApiError> {
        let options = TableOptions {
            api_version: version.api_version(),
            include: IncludeObject::parse(self.query.get("includeObject"))?,
            with_columns: true,
            now: self.shared.clock.now(),
        };
        let printer = Printer::new(&view.resource, &view.version);
        let values: Vec<Value> = objects.iter().map(|object| view.value(object)).collect::<Result<_, _>>()?;
        let table = view::json(&printer.table(&values, metadata, options))?;
        Ok(respond::encoded(status, self.representation, table))
    }

    /// Answers with one object.
    fn object(&self, status: StatusCode, object: &Arc<Object>) -> Result<Answer, ApiError> {
        let view = self.view();
        match self.representation.shape {
            Shape::Table(version) => {
                let metadata = ListMeta { resource_version: object.revision.to_string(), ..ListMeta::default() };
                self.table(status, &view, version, std::slice::from_ref(object), metadata)
            }
            shape @ (Shape::Whole | Shape::Metadata(_)) => {
                Ok(respond::encoded(status, self.representation, view.shaped(object, shape)?))
            }
        }
    }
}

/// The store's trouble: logged here once, the client learns nothing internal.
fn store_error(error: &StoreError) -> ApiError {
    tracing::error!(error = error as &dyn std::error::Error, "the object store refused: {error}");
    match error {
        StoreError::Closed => ApiError::unavailable("the server is shutting down").with_retry_after(1),
        StoreError::Full(_)
        | StoreError::Io(_)
        | StoreError::DuplicateUid
        | StoreError::Body
        | StoreError::Panicked => ApiError::internal("the object store cannot write"),
    }
}

fn put_error(error: &PutError) -> ApiError {
    match error {
        PutError::TooLarge { limit, .. } => ApiError::body_too_large(*limit),
        PutError::NoUid | PutError::NoCluster => ApiError::internal("the object cannot be stored"),
    }
}
