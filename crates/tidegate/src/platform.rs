//! The running product, and how its parts are put together.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tidegate_apiserver::http::respond::Answer;
use tidegate_apiserver::{Advice, ControlPlane};
use tidegate_exposure::{Dependencies, Exposure};
use tidegate_gateway::{Gateway, GatewayDeps, StartError};
use tidegate_runtime::logging::LogHandle;
use tidegate_runtime::{
    AccessLog, AddressPolicy, Clock, DataDirLock, Ids, InProcess, Metrics, Random, Readiness, Tasks, boxed,
    http_client, write_atomically,
};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::time::Instant;
use tower::util::{BoxCloneSyncService, MapResponse};

use crate::admin::{self, Admin, Pages};
use crate::endpoints::Endpoints;
use crate::exit::{Failure, chain};
use crate::output;
use crate::planes::Planes;
use crate::settings::{Listen, Settings};
use crate::wiring;

/// SPEC 00: SIGTERM drains, at most 30 s in all. Traffic has most of it, the control plane what is left.
const DRAIN_LIMIT: Duration = Duration::from_secs(30);
const TRAFFIC_DRAIN_LIMIT: Duration = Duration::from_secs(27);
const ADMIN_DRAIN_LIMIT: Duration = Duration::from_secs(1);

/// Listeners whose job does not exist yet: accepted, not opened, and said so at start.
const WITHOUT_JOB: [&str; 2] = ["outbound", "decisions"];

/// The running product.
pub(crate) struct Platform {
    endpoints: Endpoints,
    data_dir: PathBuf,
    /// What is configured and not opened, with the reason.
    closed: Vec<String>,
    process: Process,
    control_plane: ControlPlane,
    /// Held until everything else has ended.
    _lock: DataDirLock,
}

/// What every part is given.
#[derive(Clone)]
struct Process {
    clock: Clock,
    metrics: Metrics,
    readiness: Readiness,
    access_log: AccessLog,
    /// On the workers that carry traffic.
    data: Tasks,
    /// On the control plane's thread.
    control: Tasks,
    /// On the admin thread.
    admin: Tasks,
}

impl Platform {
    /// Starts every part and returns once `/readyz` answers 200 and all files are written.
    pub(crate) async fn start(settings: Settings, planes: &Planes, log: LogHandle) -> Result<Self, Failure> {
        let lock = DataDirLock::acquire(&settings.data_dir)
            .map_err(|error| Failure::new(chain(&error)).try_next("another --data-dir, or end the other process"))?;
        let data_dir = std::path::absolute(lock.path()).unwrap_or_else(|_| lock.path().to_owned());
        // Addresses of a former process would mislead whoever waits for the file.
        let _ = std::fs::remove_file(Endpoints::path(&data_dir));

        let process = Process::new(planes, wiring::access_log(&settings)?);
        let files = process.readiness.register("files");
        let mut endpoints = Endpoints::new(&settings.domain);

        let (admin_listener, admin_address) = bind_on(planes.admin(), "admin", &settings.admin).await?;
        endpoints.insert("admin", admin_address);
        let pages = Pages::default();
        let admin =
            Admin { readiness: process.readiness.clone(), metrics: process.metrics.clone(), log, pages: pages.clone() };
        admin::serve(admin_listener, admin, &process.admin);

        let (kube_listener, kube_address) = bind_on(planes.control(), "kube", &settings.kube).await?;
        endpoints.insert("kube", kube_address);
        let addresses = wiring::addresses(&settings);
        addresses.set_own_ports([admin_address.port(), kube_address.port()]);

        let control_plane = process.open_control_plane(&settings, &data_dir, planes.control()).await?;
        let policy = wiring::policy(&settings)?;
        let gateway = process.start_gateway(&settings, policy.clone(), &control_plane, addresses, planes).await?;
        process.start_exposure(&settings, policy, &control_plane, &gateway, planes.control()).await?;
        pages.show(gateway.clone());
        for (listener, address) in [("http", gateway.http()), ("https", gateway.https())] {
            if let Some(address) = address {
                endpoints.insert(listener, address);
            }
        }
        process.serve_api(&control_plane, kube_listener, planes.control()).await?;

        write_files(&data_dir, &endpoints, &control_plane)?;
        files.ready();
        Ok(Self { endpoints, data_dir, closed: closed_listeners(&settings), process, control_plane, _lock: lock })
    }

    /// Prints the addresses and the next command to try.
    pub(crate) fn announce(&self) {
        let mut lines = vec![format!("tidegate {} is ready", env!("CARGO_PKG_VERSION"))];
        let listeners = [
            ("http", "http://", "edge gateway"),
            ("https", "https://", "edge gateway, TLS"),
            ("kube", "https://", "Kubernetes API"),
            ("admin", "http://", "health, metrics"),
        ];
        for (key, scheme, what) in listeners {
            if let Some(address) = self.endpoints.get(key) {
                lines.push(format!("  {key:<9} {:<30} {what}", format!("{scheme}{address}")));
            }
        }
        lines.push(format!("  {:<9} {}", "data", self.data_dir.display()));
        lines.extend(self.closed.iter().map(|closed| format!("  {closed}")));
        lines.push("try:".to_owned());
        lines.push(format!("  export KUBECONFIG={}", self.data_dir.join("kubeconfig").display()));
        lines.push("  tidegate expose my-app --to 127.0.0.1:3000".to_owned());
        output::answer(lines.join("\n"));
    }

    /// Stops accepting, lets requests in hand end (at most 30 s), then ends everything else.
    pub(crate) async fn drain(self) {
        let start = Instant::now();
        self.process.readiness.register("running").failed("draining");
        if !self.process.data.close_and_wait(TRAFFIC_DRAIN_LIMIT).await {
            tracing::warn!("some requests did not end in {} s and are cut", TRAFFIC_DRAIN_LIMIT.as_secs());
        }
        let left = DRAIN_LIMIT.saturating_sub(start.elapsed() + ADMIN_DRAIN_LIMIT);
        if !self.process.control.close_and_wait(left).await {
            let running = self.process.control.running();
            tracing::warn!(tasks = running, "{running} tasks of the control plane did not end in time and are cut");
        }
        self.control_plane.close().await;
        // What waits is written; it blocks for as long as the output does.
        let access_log = self.process.access_log.clone();
        let closed = self.process.admin.spawn_blocking("access-log-close", move || access_log.close());
        let _ = tokio::time::timeout(ADMIN_DRAIN_LIMIT, closed).await;
        // Last, so that health and metrics can be read while the rest drains.
        self.process.admin.close_and_wait(ADMIN_DRAIN_LIMIT).await;
        let _ = std::fs::remove_file(Endpoints::path(&self.data_dir));
    }
}

impl Process {
    fn new(planes: &Planes, access_log: AccessLog) -> Self {
        // Groups of their own, so that they end one after the other; panics are counted in one place.
        let all = Tasks::new();
        let metrics = Metrics::new();
        all.register(&metrics);
        access_log.register(&metrics);
        let process = Self {
            access_log,
            clock: Clock::system(),
            metrics,
            readiness: Readiness::new(),
            data: all.child().on(planes.data.handle().clone()),
            control: all.child().on(planes.control().clone()),
            admin: all.child().on(planes.admin().clone()),
        };
        process.clock.spawn_ticker(&process.control);
        process
    }

    /// Store, API server, kinds, system namespaces.
    async fn open_control_plane(
        &self,
        settings: &Settings,
        data_dir: &Path,
        runtime: &Handle,
    ) -> Result<ControlPlane, Failure> {
        let options = tidegate_apiserver::Options {
            data_dir: data_dir.to_owned(),
            config: tidegate_apiserver::Config::default(),
            namespaces: wiring::NAMESPACES.map(str::to_owned).to_vec(),
            definitions: tidegate_kinds::crd::crds(&settings.all_domains()),
            clock: self.clock.clone(),
            tasks: self.control.clone(),
            readiness: self.readiness.clone(),
            metrics: self.metrics.clone(),
        };
        on(runtime, ControlPlane::open(options))
            .await?
            .map_err(|error| Failure::new(format!("the control plane cannot be opened: {}", chain(&error))))
    }

    /// The edge: reads all exposures, publishes their routes, then opens its listeners.
    async fn start_gateway(
        &self,
        settings: &Settings,
        policy: tidegate_policy::Options,
        plane: &ControlPlane,
        addresses: AddressPolicy,
        planes: &Planes,
    ) -> Result<Gateway, Failure> {
        let in_process = InProcess::new();
        // Whoever exposes `default/kubernetes` reaches this API server, which judges the request itself.
        let api = MapResponse::new(plane.service(), |answer: Answer| answer.map(boxed));
        in_process.register("default/kubernetes", BoxCloneSyncService::new(api));
        let deps = GatewayDeps {
            data: self.data.clone(),
            control: self.control.clone(),
            clock: self.clock.clone(),
            random: Random::system(),
            ids: Ids::random(),
            metrics: self.metrics.clone(),
            readiness: self.readiness.clone(),
            access_log: self.access_log.clone(),
            fetches: http_client(&addresses, wiring::key_fetches(settings)),
            addresses,
            in_process,
            authority: plane.local_authority(),
        };
        let config = wiring::gateway(settings, policy);
        let plane = plane.clone();
        let start = async move { Gateway::start(config, plane.client("controller:gateway"), deps).await };
        on(planes.control(), start).await?.map_err(|error| match error {
            StartError::Listen { address, source } => {
                let key = if settings.http.address() == Some(address) { "http" } else { "https" };
                cannot_listen(key, address, &source)
            }
            error => Failure::new(format!("the edge gateway cannot be started: {}", chain(&error))),
        })
    }

    /// The reconcilers that turn Apis into projections and statuses.
    async fn start_exposure(
        &self,
        settings: &Settings,
        policy: tidegate_policy::Options,
        plane: &ControlPlane,
        gateway: &Gateway,
        runtime: &Handle,
    ) -> Result<(), Failure> {
        let (process, plane, gateway) = (self.clone(), plane.clone(), gateway.clone());
        let (config, domain) = (wiring::exposure(settings), settings.domain.clone());
        let start = async move {
            let client = plane.client("controller:exposure");
            tidegate_exposure::bootstrap(&client, &domain).await?;
            let dependencies = Dependencies {
                client,
                clock: process.clock,
                tasks: process.control,
                metrics: process.metrics,
                enforcement: Arc::new(gateway),
            };
            drop(Exposure::start(config, policy, dependencies));
            plane.take_advice(Advice::new(|subject| {
                let warning = tidegate_exposure::warning(subject.group, subject.kind, subject.object);
                warning.map(str::to_owned).into_iter().collect()
            }));
            Ok::<_, tidegate_exposure::BootstrapError>(())
        };
        on(runtime, start)
            .await?
            .map_err(|error| Failure::new(format!("the exposure reconcilers cannot be started: {}", chain(&error))))
    }

    /// Lets kubectl and other clients in.
    async fn serve_api(&self, plane: &ControlPlane, listener: TcpListener, runtime: &Handle) -> Result<(), Failure> {
        let plane = plane.clone();
        on(runtime, async move { plane.serve(listener) })
            .await?
            .map(drop)
            .map_err(|error| Failure::new(format!("the Kubernetes API cannot be served: {}", chain(&error))))
    }
}

/// Runs a part's start on the runtime that it belongs to.
async fn on<T: Send + 'static>(
    runtime: &Handle,
    start: impl Future<Output = T> + Send + 'static,
) -> Result<T, Failure> {
    runtime.spawn(start).await.map_err(|error| Failure::new(format!("a part of the platform did not start: {error}")))
}

/// Opens a listener on the runtime that serves it.
async fn bind_on(runtime: &Handle, key: &'static str, listen: &Listen) -> Result<(TcpListener, SocketAddr), Failure> {
    let address = listen.address().ok_or_else(|| Failure::usage(format!("listener `{key}` cannot be off")))?;
    let bound = on(runtime, async move {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok::<_, std::io::Error>((listener, address))
    });
    bound.await?.map_err(|error| cannot_listen(key, address, &error))
}

fn cannot_listen(key: &str, address: SocketAddr, error: &dyn std::error::Error) -> Failure {
    Failure::new(format!("listener `{key}` cannot be opened at `{address}`: {error}"))
        .detail("field", format!("--{key}"))
        .try_next(format!("--{key} {}:0 picks a free port; `ss -ltnp` shows who listens", address.ip()))
}

/// SPEC 00: what the data dir holds when `/readyz` answers 200. The addresses come last: whoever sees them finds the rest.
fn write_files(data_dir: &Path, endpoints: &Endpoints, plane: &ControlPlane) -> Result<(), Failure> {
    let failure =
        |file: &str, error: &dyn std::error::Error| Failure::new(format!("`{file}` cannot be written: {error}"));
    let url = format!("https://{}", endpoints.get("kube").unwrap_or_default());
    let kubeconfig = plane.kubeconfig(&url).map_err(|error| failure("kubeconfig", &error))?;
    write_atomically(&data_dir.join("kubeconfig"), kubeconfig.as_bytes(), 0o600)
        .map_err(|error| failure("kubeconfig", &error))?;
    write_atomically(&data_dir.join("ca.crt"), plane.ca_pem().as_bytes(), 0o644)
        .map_err(|error| failure("ca.crt", &error))?;
    endpoints.write(data_dir).map_err(|error| failure("endpoints.json", &error))
}

fn closed_listeners(settings: &Settings) -> Vec<String> {
    let listeners = settings.listeners().into_iter();
    listeners
        .filter_map(|(key, listen)| {
            if listen == &Listen::Off {
                return Some(format!("{key:<9} off"));
            }
            WITHOUT_JOB.contains(&key).then(|| format!("{key:<9} not opened: this version has nothing to serve there"))
        })
        .collect()
}
