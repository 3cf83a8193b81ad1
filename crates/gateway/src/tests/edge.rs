//! A gateway on free ports, fed by hand instead of by an API server.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tidegate_pki::Authority;
use tidegate_policy::cors::CorsOptions;
use tidegate_policy::index::Input as Object;
use tidegate_policy::{Change, CorsPolicy, Domains, ObjectKind, ObjectRef, Options};
use tidegate_runtime::{
    AccessLog, AddressPolicy, AddressPolicyOptions, Clock, Enforcement as _, HttpClientOptions, Ids, InProcess,
    Metrics, Random, Readiness, Tasks, http_client,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::{Gateway, GatewayConfig, GatewayDeps, Input};

/// No answer of the edge in these tests takes this long.
pub(super) const DEADLINE: Duration = Duration::from_secs(20);

pub(super) struct Edge {
    pub(super) gateway: Gateway,
    pub(super) metrics: Metrics,
    pub(super) in_process: InProcess,
    pub(super) tasks: Tasks,
    pub(super) authority: Arc<Authority>,
    inputs: mpsc::Sender<Input>,
    log: Log,
    generation: i64,
}

impl Drop for Edge {
    fn drop(&mut self) {
        self.tasks.shutdown().cancel();
    }
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Options with the default CORS policy of SPEC 30 §2.6.
fn options() -> Options {
    let owned = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
    let cors = CorsPolicy::compile(&CorsOptions {
        allow_origins: owned(&["*"]),
        allow_methods: owned(&["GET", "POST", "PUT", "DELETE"]),
        allow_headers: owned(&["Authorization", "Content-Type", "*"]),
        ..CorsOptions::default()
    });
    Options { cors: cors.unwrap().map(Arc::new), ..Options::new(Domains::new(["localhost"])) }
}

impl Edge {
    /// A gateway without routes.
    pub(super) async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    pub(super) async fn start_with(change: impl FnOnce(&mut GatewayConfig)) -> Self {
        let (inputs, received) = mpsc::channel(10_000);
        let tasks = Tasks::new();
        let metrics = Metrics::new();
        let addresses = AddressPolicy::new(AddressPolicyOptions::default());
        let log = Log::default();
        let in_process = InProcess::new();
        let clock = Clock::system();
        let authority = Arc::new(Authority::generate("test authority", clock.now()).unwrap());
        let deps = GatewayDeps {
            data: tasks.clone(),
            control: tasks.clone(),
            random: Random::system(),
            ids: Ids::random(),
            metrics: metrics.clone(),
            readiness: Readiness::new(),
            access_log: AccessLog::to(Box::new(log.clone())).unwrap(),
            fetches: http_client(&addresses, HttpClientOptions::default()),
            addresses,
            in_process: in_process.clone(),
            authority: Arc::clone(&authority),
            clock,
        };
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut config = GatewayConfig { http: Some(any), https: Some(any), ..GatewayConfig::new(options()) };
        change(&mut config);
        inputs.send(Input::Synced).await.unwrap();
        let gateway = Gateway::start_from(config, None, deps, received).await.unwrap();
        Self { gateway, metrics, in_process, tasks, authority, inputs, log, generation: 0 }
    }

    /// A gateway with `{name}.localhost` for the upstream at `address`, without authentication.
    pub(super) async fn exposing(name: &str, address: SocketAddr) -> Self {
        let mut edge = Self::start().await;
        edge.expose(name, address).await;
        edge
    }

    pub(super) async fn expose(&mut self, name: &str, address: SocketAddr) {
        self.service(name, json!({}), address).await;
        self.api(name, json!({})).await;
    }

    /// Sets a Service of type ExternalName; `port` is merged into its port.
    pub(super) async fn service(&mut self, name: &str, port: Value, address: SocketAddr) {
        let mut own = json!({"name": "http", "port": 80, "targetPort": address.port()});
        own.as_object_mut().unwrap().extend(port.as_object().unwrap().clone());
        let service = json!({
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"type": "ExternalName", "externalName": address.ip().to_string(), "ports": [own]},
        });
        self.set(Object::Service(Box::new(serde_json::from_value(service).unwrap()))).await;
    }

    /// Sets an Api for host and Service of one name, and waits until it is enforced. `spec` is merged in.
    pub(super) async fn api(&mut self, name: &str, spec: Value) {
        self.api_with(name, spec, json!({})).await;
    }

    pub(super) async fn api_with(&mut self, name: &str, spec: Value, annotations: Value) {
        let object = self.set_api(name, &spec, &annotations).await;
        let enforced = self.gateway.enforced(&object, self.generation);
        tokio::time::timeout(DEADLINE, enforced).await.expect("the Api is enforced");
    }

    /// [`Self::api_with`] without waiting.
    pub(super) async fn set_api(&mut self, name: &str, spec: &Value, annotations: &Value) -> ObjectRef {
        self.generation += 1;
        let mut own = json!({"hostname": name, "service": {"name": name, "port": 80}});
        own.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let api = json!({
            "apiVersion": "gateway.kyma-project.io/v1alpha2", "kind": "Api",
            "metadata": {
                "name": name, "namespace": "default", "uid": format!("uid-{name}"), "generation": self.generation,
                "creationTimestamp": "2026-01-01T00:00:00Z", "annotations": annotations,
            },
            "spec": own,
        });
        self.set(Object::Api(Box::new(serde_json::from_value(api).unwrap()))).await;
        ObjectRef::new(ObjectKind::Api, "default", name)
    }

    pub(super) async fn remove_api(&self, name: &str) {
        let object = ObjectRef::new(ObjectKind::Api, "default", name);
        self.inputs.send(Input::Changed(Change::Removed(object.clone()))).await.unwrap();
        tokio::time::timeout(DEADLINE, self.gateway.withdrawn(&object)).await.expect("the Api is withdrawn");
    }

    pub(super) async fn set(&self, object: Object) {
        self.inputs.send(Input::Changed(Change::Set(object))).await.unwrap();
    }

    pub(super) async fn send(&self, input: Input) {
        self.inputs.send(input).await.unwrap();
    }

    pub(super) fn http(&self) -> SocketAddr {
        self.gateway.http().unwrap()
    }

    /// Sends bytes on a connection of their own and reads until the gateway closes it or nothing comes any more.
    pub(super) async fn raw(&self, request: impl AsRef<[u8]>) -> String {
        let mut socket = TcpStream::connect(self.http()).await.unwrap();
        socket.write_all(request.as_ref()).await.unwrap();
        read_to_end(&mut socket).await
    }

    /// `GET` with `Connection: close`.
    pub(super) async fn get(&self, host: &str, path: &str) -> Answer {
        self.ask(host, path, "").await
    }

    /// `GET` with more header lines, each ended by CRLF.
    pub(super) async fn ask(&self, host: &str, path: &str, lines: &str) -> Answer {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{lines}\r\n");
        Answer::parse(&self.raw(request).await)
    }

    /// The access log so far, once it has at least `count` lines.
    pub(super) async fn log(&self, count: usize) -> Vec<Value> {
        let lines = || -> Vec<Value> {
            let text = String::from_utf8(self.log.0.lock().clone()).unwrap();
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        };
        let enough = async || Some(lines()).filter(|lines| lines.len() >= count);
        tidegate_testkit::eventually_async(DEADLINE, "access log lines", enough).await
    }
}

pub(super) async fn read_to_end(socket: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset at the end, after everything was said, is no matter.
    let _ = tokio::time::timeout(DEADLINE, socket.read_to_end(&mut answer)).await.expect("the connection ends");
    String::from_utf8_lossy(&answer).into_owned()
}

/// One response on a connection that was closed after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Lines in lower-case names, sorted.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head in {text:?}"));
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let mut headers: Vec<(String, String)> = lines
            .map(|line| line.split_once(": ").map_or((line, ""), |(name, value)| (name, value)))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        headers.sort();
        let is_chunked = headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
        let body = if is_chunked { unchunk(body) } else { body.to_owned() };
        Self { status, headers, body }
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// What the sample upstream saw.
    pub(super) fn seen(&self) -> tidegate_testkit::upstream::Seen {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Status, headers without those that differ each time, and body; for whole-answer comparisons.
    pub(super) fn whole(&self) -> String {
        use std::fmt::Write as _;
        let mut text = format!("{}\n", self.status);
        for (name, value) in &self.headers {
            match name.as_str() {
                "date" | "x-request-id" => writeln!(text, "{name}: …").unwrap(),
                _ => writeln!(text, "{name}: {value}").unwrap(),
            }
        }
        let id = self.header("x-request-id").unwrap_or("-");
        text + &self.body.replace(id, "…")
    }
}

fn unchunk(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            break;
        }
        whole.push_str(&rest[..size]);
        body = &rest[size + 2..];
    }
    whole
}
