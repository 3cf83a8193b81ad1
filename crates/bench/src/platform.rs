//! The product under measurement: started like a user would, filled with exposures through its Kubernetes API.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use kube::api::{Api, DynamicObject, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::process::Measured;

/// Namespace of everything a benchmark creates.
const NAMESPACE: &str = "default";
/// Writes in flight while exposures are created.
const WRITERS: usize = 16;
/// Longest wait for readiness or for a status.
const PATIENCE: Duration = Duration::from_mins(5);

/// A running `tidegate up` in a data dir of its own.
pub(crate) struct Platform {
    /// Its process tree.
    pub(crate) process: Measured,
    /// Addresses from `endpoints.json`.
    pub(crate) endpoints: Endpoints,
    /// A client of its Kubernetes API, by the kubeconfig it wrote.
    pub(crate) client: kube::Client,
    /// From starting the process to the first 200 of `/readyz`.
    pub(crate) started_in: Duration,
}

/// The part of `endpoints.json` that benchmarks use.
#[derive(Deserialize)]
pub(crate) struct Endpoints {
    pub(crate) http: SocketAddr,
    pub(crate) admin: SocketAddr,
}

/// JWT rules of an Api: issuer and key location of each; none leaves it open.
pub(crate) type Rules = [(String, String)];

impl Platform {
    /// Starts the binary `tidegate` that lies beside the running one, pinned to `core`, with free ports.
    ///
    /// # Errors
    /// The binary is missing, or not ready within five minutes.
    pub(crate) async fn start(core: usize, data_dir: &Path) -> Result<Self> {
        let program = sibling("tidegate")?;
        let mut arguments = vec!["up".to_owned(), "--data-dir".to_owned(), data_dir.display().to_string()];
        for listener in ["http", "https", "kube", "admin"] {
            arguments.push(format!("--{listener}"));
            arguments.push("127.0.0.1:0".to_owned());
        }
        // Budgets are for the access log off and metrics on (`70` section 2).
        let config_file = data_dir.with_extension("yaml");
        std::fs::write(&config_file, "log: {access: 'off'}\n")?;
        arguments.extend(["--config".to_owned(), config_file.display().to_string()]);
        let begun = Instant::now();
        let endpoints_file = data_dir.join("endpoints.json");
        if endpoints_file.exists() {
            std::fs::remove_file(&endpoints_file)?;
        }
        let process = Measured::start(core, &program, &arguments, Stdio::null())?;
        let endpoints = loop {
            ensure!(begun.elapsed() < PATIENCE, "{} is not ready after {PATIENCE:?}", program.display());
            if let Some(endpoints) = read_endpoints(&endpoints_file)
                && is_ready(endpoints.admin).await
            {
                break endpoints;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        };
        let started_in = begun.elapsed();
        let kubeconfig = Kubeconfig::read_from(data_dir.join("kubeconfig"))?;
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        Ok(Self { process, endpoints, client: kube::Client::try_from(config)?, started_in })
    }

    /// Creates Services and Apis `{prefix}-{from}` to `{prefix}-{to - 1}`, all over `upstream`, and waits until the
    /// last one is enforced (status code 2).
    ///
    /// # Errors
    /// A write that is refused, or an Api that is not enforced within five minutes.
    pub(crate) async fn expose(
        &self,
        prefix: &str,
        range: std::ops::Range<usize>,
        upstream: SocketAddr,
        rules: &Rules,
    ) -> Result<()> {
        let services = self.api(&service_kind());
        let apis = self.api(&api_kind());
        stream::iter(range.clone())
            .map(Ok::<usize, anyhow::Error>)
            .try_for_each_concurrent(WRITERS, |index| {
                let (services, apis) = (&services, &apis);
                async move {
                    let name = format!("{prefix}-{index}");
                    create(services, service(&name, upstream)).await?;
                    create(apis, exposure(&name, rules)).await
                }
            })
            .await?;
        let begun = Instant::now();
        for index in range {
            while validation_code(&apis, &format!("{prefix}-{index}")).await? != Some(2) {
                ensure!(begun.elapsed() < PATIENCE, "Api {prefix}-{index} is not enforced after {PATIENCE:?}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(())
    }

    /// Objects of `resource` in the namespace of the benchmark.
    pub(crate) fn api(&self, resource: &ApiResource) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), NAMESPACE, resource)
    }
}

/// The `Api` kind.
pub(crate) fn api_kind() -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("gateway.kyma-project.io", "v1alpha2", "Api"), "apis")
}

/// The core `Service` kind.
pub(crate) fn service_kind() -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("", "v1", "Service"), "services")
}

/// An ExternalName Service over `upstream`, port 80.
pub(crate) fn service(name: &str, upstream: SocketAddr) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "type": "ExternalName", "externalName": upstream.ip().to_string(),
            "ports": [{"name": "http", "port": 80, "targetPort": upstream.port()}],
        },
    })
}

/// An Api that exposes Service `name` on host `name`.
pub(crate) fn exposure(name: &str, rules: &Rules) -> Value {
    let mut object = json!({
        "apiVersion": "gateway.kyma-project.io/v1alpha2", "kind": "Api",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"hostname": name, "service": {"name": name, "port": 80}},
    });
    if !rules.is_empty()
        && let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut)
    {
        let rule = |(issuer, jwks_uri): &(String, String)| json!({"type": "JWT", "jwt": {"issuer": issuer, "jwksUri": jwks_uri}});
        spec.insert("authentication".to_owned(), rules.iter().map(rule).collect());
    }
    object
}

/// Creates `object`.
///
/// # Errors
/// The API server refused it.
pub(crate) async fn create(api: &Api<DynamicObject>, object: Value) -> Result<()> {
    let object: DynamicObject = serde_json::from_value(object)?;
    api.create(&PostParams::default(), &object).await?;
    Ok(())
}

async fn validation_code(apis: &Api<DynamicObject>, name: &str) -> Result<Option<i64>> {
    let object = apis.get(name).await?;
    let status = object.data.get("status");
    let code = status.and_then(|status| status.pointer("/virtualServiceStatus/code")).and_then(Value::as_i64);
    let secured = object.data.pointer("/spec/authentication").is_some();
    let authentication = status.and_then(|status| status.pointer("/authenticationStatus/code")).and_then(Value::as_i64);
    Ok(if secured && authentication != Some(2) { None } else { code })
}

fn read_endpoints(path: &Path) -> Option<Endpoints> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

async fn is_ready(admin: SocketAddr) -> bool {
    match reqwest::get(format!("http://{admin}/readyz")).await {
        Ok(answer) => answer.status() == 200,
        Err(_) => false,
    }
}

/// Path of the program `name` beside the running one.
///
/// # Errors
/// It is not there: build it first.
pub(crate) fn sibling(name: &str) -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    if !path.exists() {
        bail!("{} is missing: cargo build --release -p tidegate", path.display());
    }
    path.canonicalize().context("cannot resolve the path of the binary")
}
