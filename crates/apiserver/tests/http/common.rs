//! One control plane per test, asked in process or over TLS.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};
use tidegate_apiserver::authn::Identity;
use tidegate_apiserver::http::respond::Answer;
use tidegate_apiserver::{Config, ControlPlane, Options};
use tidegate_runtime::{Clock, Metrics, Readiness, Tasks};
use tower::ServiceExt as _;

pub(crate) struct World {
    pub(crate) plane: ControlPlane,
    pub(crate) tasks: Tasks,
    pub(crate) readiness: Readiness,
    pub(crate) metrics: Metrics,
    pub(crate) dir: tempfile::TempDir,
}

/// An answer read to its end.
pub(crate) struct Got {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
    pub(crate) text: String,
}

impl Got {
    /// The body, after checking the status.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.body
    }

    pub(crate) fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl World {
    pub(crate) async fn open() -> Self {
        Self::open_in(tempfile::tempdir().unwrap(), Vec::new()).await
    }

    /// With a clock of the test's own.
    pub(crate) async fn open_at(clock: Clock) -> Self {
        Self::open_with(tempfile::tempdir().unwrap(), Vec::new(), clock).await
    }

    pub(crate) async fn open_in(dir: tempfile::TempDir, definitions: Vec<Value>) -> Self {
        Self::open_with(dir, definitions, Clock::system()).await
    }

    async fn open_with(dir: tempfile::TempDir, definitions: Vec<Value>, clock: Clock) -> Self {
        let (tasks, readiness, metrics) = (Tasks::new(), Readiness::new(), Metrics::new());
        let plane = ControlPlane::open(Options {
            data_dir: dir.path().to_owned(),
            config: Config::default(),
            namespaces: vec!["kyma-system".to_owned()],
            definitions,
            clock,
            tasks: tasks.clone(),
            readiness: readiness.clone(),
            metrics: metrics.clone(),
        })
        .await
        .unwrap();
        Self { plane, tasks, readiness, metrics, dir }
    }

    /// Serves TLS and returns the kubeconfig's path and the server's URL.
    pub(crate) async fn serve(&self) -> (PathBuf, String) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", self.plane.serve(listener).unwrap());
        let path = self.dir.path().join("kubeconfig");
        std::fs::write(&path, self.plane.kubeconfig(&url).unwrap()).unwrap();
        (path, url)
    }

    /// Sends a request as a part of this process and returns the answer with its body still open.
    pub(crate) async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Full::new(Bytes::copy_from_slice(body))).unwrap();
        request.extensions_mut().insert(Identity::in_process("test"));
        self.plane.service().oneshot(request).await.unwrap()
    }

    pub(crate) async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Got {
        let answer = self.send(method, path, headers, body).await;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Got { status, headers, body: serde_json::from_slice(&bytes).unwrap_or(Value::Null), text }
    }

    pub(crate) async fn get(&self, path: &str) -> Got {
        self.ask("GET", path, &[], b"").await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Got {
        self.ask("POST", path, &[], body.to_string().as_bytes()).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Got {
        self.ask("PUT", path, &[], body.to_string().as_bytes()).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Got {
        self.ask("DELETE", path, &[], b"").await
    }

    /// A merge patch.
    pub(crate) async fn patch(&self, path: &str, body: &Value) -> Got {
        let headers = [("content-type", "application/merge-patch+json")];
        self.ask("PATCH", path, &headers, body.to_string().as_bytes()).await
    }

    /// Opens a watch.
    pub(crate) async fn watch(&self, path: &str) -> Watch {
        let answer = self.send("GET", path, &[], b"").await;
        assert_eq!(answer.status(), 200, "{path}");
        Watch::new(answer)
    }

    /// Ends everything, as `up` does.
    pub(crate) async fn stop(self) -> tempfile::TempDir {
        assert!(self.tasks.close_and_wait(Duration::from_secs(10)).await, "tasks still run");
        self.plane.close().await;
        self.dir
    }
}

/// The lines of a watch.
pub(crate) struct Watch {
    body: tidegate_apiserver::http::body::Body,
    buffer: Vec<u8>,
}

impl Watch {
    pub(crate) fn new(answer: Answer) -> Self {
        Self { body: answer.into_body(), buffer: Vec::new() }
    }

    /// The next line within 5 s; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame = tokio::time::timeout(Duration::from_secs(5), self.body.frame()).await.expect("a line in 5 s");
            self.buffer.extend_from_slice(frame?.unwrap().into_data().unwrap().as_ref());
        }
    }

    /// Type and name of the next line.
    pub(crate) async fn step(&mut self) -> String {
        match self.next().await {
            Some(line) => format!(
                "{} {}",
                line["type"].as_str().unwrap(),
                line["object"]["metadata"]["name"].as_str().unwrap_or("-")
            ),
            None => "END".to_owned(),
        }
    }
}

/// Waits until `condition` holds, at most 5 s.
#[track_caller]
pub(crate) fn eventually<F, Fut>(what: &'static str, mut condition: F) -> impl Future<Output = ()>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    let place = std::panic::Location::caller();
    async move {
        let attempts = async {
            while !condition().await {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(tokio::time::timeout(Duration::from_secs(5), attempts).await.is_ok(), "{place}: not in time: {what}");
    }
}

pub(crate) fn config_map(name: &str, data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

/// A definition of `widgets.example.com` with status, scale, columns, defaults and a second version.
pub(crate) fn widgets() -> Value {
    let schema = json!({
        "type": "object",
        "properties": {
            "spec": {"type": "object", "properties": {
                "size": {"type": "integer", "maximum": 10},
                "replicas": {"type": "integer"},
                "color": {"type": "string", "default": "blue"}
            }},
            "status": {"type": "object", "properties": {"replicas": {"type": "integer"}, "ready": {"type": "boolean"}}}
        }
    });
    let version = |name: &str, storage: bool| {
        json!({
            "name": name, "served": true, "storage": storage, "schema": {"openAPIV3Schema": schema},
            "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}},
            "additionalPrinterColumns": [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}]
        })
    };
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "shortNames": ["wg"], "categories": ["all"]},
            "versions": [version("v1", true), version("v1beta1", false)]
        }
    })
}

pub(crate) fn widget(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name}, "spec": spec})
}

pub(crate) const WIDGETS: &str = "/apis/example.com/v1/namespaces/default/widgets";
pub(crate) const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
