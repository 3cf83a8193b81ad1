//! A Kubernetes API of the smallest kind, for the tests of this module: objects by path, versions, conflicts.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};

#[derive(Clone, Default)]
pub(super) struct FakeApi {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Value>,
    version: u64,
    writes: usize,
    conflicts: usize,
    failures: usize,
}

impl FakeApi {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn client(&self) -> kube::Client {
        let fake = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let fake = fake.clone();
            async move { Ok::<_, Infallible>(fake.answer(request).await) }
        });
        kube::Client::new(service, "default")
    }

    /// How many writes succeeded.
    pub(super) fn writes(&self) -> usize {
        self.state.lock().writes
    }

    /// Lets the next replacements fail with a conflict.
    pub(super) fn conflict_next(&self, count: usize) {
        self.state.lock().conflicts = count;
    }

    /// Lets the next requests fail with 500.
    pub(super) fn fail_next(&self, count: usize) {
        self.state.lock().failures = count;
    }

    pub(super) fn put(&self, path: &str, object: Value) {
        self.state.lock().objects.insert(path.to_owned(), object);
    }

    pub(super) fn edit(&self, path: &str, change: impl FnOnce(&mut Value)) {
        let mut state = self.state.lock();
        state.version += 1;
        let version = state.version.to_string();
        let object = state.objects.get_mut(path).unwrap();
        change(object);
        object["metadata"]["resourceVersion"] = json!(version);
    }

    pub(super) fn get(&self, path: &str) -> Option<Value> {
        self.state.lock().objects.get(path).cloned()
    }

    pub(super) fn below(&self, prefix: &str) -> Vec<Value> {
        let state = self.state.lock();
        state.objects.iter().filter(|(path, _)| path.starts_with(prefix)).map(|(_, object)| object.clone()).collect()
    }

    async fn answer(&self, request: Request<Body>) -> Response<Full<bytes::Bytes>> {
        let (head, body) = request.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        let (status, answer) = self.state.lock().answer(&head.method, head.uri.path(), body);
        let answer = Full::new(bytes::Bytes::from(answer.to_string()));
        Response::builder().status(status).header("content-type", "application/json").body(answer).unwrap()
    }
}

impl State {
    fn answer(&mut self, method: &Method, path: &str, body: Value) -> (StatusCode, Value) {
        if self.failures > 0 {
            self.failures -= 1;
            return failure(500, "InternalError");
        }
        let (path, is_status) = match path.strip_suffix("/status") {
            Some(path) => (path.to_owned(), true),
            None => (path.to_owned(), false),
        };
        match *method {
            Method::GET => match self.objects.get(&path) {
                Some(object) => (StatusCode::OK, object.clone()),
                None => failure(404, "NotFound"),
            },
            Method::POST => {
                let path = format!("{path}/{}", body["metadata"]["name"].as_str().unwrap());
                if self.objects.contains_key(&path) {
                    return failure(409, "AlreadyExists");
                }
                let mut object = body;
                object["metadata"]["uid"] = json!(format!("uid-{}", self.version));
                self.store(path, object)
            }
            Method::PUT => {
                let Some(existing) = self.objects.get(&path).cloned() else { return failure(404, "NotFound") };
                let read = &body["metadata"]["resourceVersion"];
                if self.conflicts > 0 || read != &existing["metadata"]["resourceVersion"] {
                    self.conflicts = self.conflicts.saturating_sub(1);
                    return failure(409, "Conflict");
                }
                let mut object = body;
                if is_status {
                    let status = object["status"].take();
                    object = existing;
                    object["status"] = status;
                }
                self.store(path, object)
            }
            Method::PATCH => {
                let Some(mut object) = self.objects.get(&path).cloned() else { return failure(404, "NotFound") };
                for (key, value) in body.as_object().unwrap() {
                    object[key] = value.clone();
                }
                self.store(path, object)
            }
            Method::DELETE => match self.objects.remove(&path) {
                Some(object) => (StatusCode::OK, object),
                None => failure(404, "NotFound"),
            },
            _ => failure(405, "MethodNotAllowed"),
        }
    }

    fn store(&mut self, path: String, mut object: Value) -> (StatusCode, Value) {
        self.version += 1;
        self.writes += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.objects.insert(path, object.clone());
        (StatusCode::OK, object)
    }
}

fn failure(code: u16, reason: &str) -> (StatusCode, Value) {
    let body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code,
        "reason": reason, "message": reason});
    (StatusCode::from_u16(code).unwrap(), body)
}
