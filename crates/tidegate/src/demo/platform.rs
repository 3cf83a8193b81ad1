//! The platform under demonstration: a `tidegate up` of its own, on free ports.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::Instant;

use super::because;
use crate::exit::Failure;

/// Longest wait for readiness.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// Longest wait for the drain; `up` itself cuts after 30 s.
const STOP_PATIENCE: Duration = Duration::from_secs(35);

/// A child process that runs `tidegate up`.
pub(super) struct DemoPlatform {
    child: Child,
    data_dir: PathBuf,
    endpoints: Endpoints,
    /// Removed with the value when the data dir is temporary.
    _temporary: Option<TempDir>,
}

/// The part of `endpoints.json` that the demo shows.
#[derive(Deserialize)]
struct Endpoints {
    http: SocketAddr,
    https: SocketAddr,
    kube: SocketAddr,
    admin: SocketAddr,
}

impl DemoPlatform {
    /// Starts the platform and waits until it is ready.
    /// It fails when the platform ends early or is not ready within 30 s; what it printed is part of the message.
    pub(super) async fn start(data_dir: Option<&Path>) -> Result<Self, Failure> {
        let (data_dir, temporary) = if let Some(given) = data_dir {
            (given.to_owned(), None)
        } else {
            let made = tempfile::Builder::new().prefix("tidegate-demo-").tempdir();
            let made = made.map_err(because("no temporary folder"))?;
            (made.path().to_owned(), Some(made))
        };
        std::fs::create_dir_all(&data_dir).map_err(because("the data dir cannot be made"))?;
        let data_dir = data_dir.canonicalize().map_err(because("the data dir cannot be opened"))?;
        let endpoints_file = data_dir.join("endpoints.json");
        // Addresses of an earlier run would be taken for this one's.
        let _ = std::fs::remove_file(&endpoints_file);
        let log_file = data_dir.join("demo.log");
        let log = std::fs::File::create(&log_file).map_err(because("the log file cannot be written"))?;
        let second = log.try_clone().map_err(because("the log file cannot be written"))?;
        let mut command = Command::new(std::env::current_exe().map_err(because("this binary cannot be found"))?);
        command.arg("up").arg("--data-dir").arg(&data_dir);
        for listener in ["--http", "--https", "--kube", "--admin"] {
            command.args([listener, "127.0.0.1:0"]);
        }
        command.stdin(Stdio::null()).stdout(second).stderr(log).kill_on_drop(true);
        let mut child = command.spawn().map_err(because("`tidegate up` cannot be started"))?;
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            if let Some(endpoints) = read_endpoints(&endpoints_file)
                && is_ready(endpoints.admin).await
            {
                return Ok(Self { child, data_dir, endpoints, _temporary: temporary });
            }
            let has_ended = !matches!(child.try_wait(), Ok(None));
            if has_ended || Instant::now() > deadline {
                let printed = std::fs::read_to_string(&log_file).unwrap_or_default();
                return Err(Failure::new(format!("`tidegate up` is not ready; it printed:\n{printed}")));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Address of the plain edge listener.
    pub(super) fn http(&self) -> SocketAddr {
        self.endpoints.http
    }

    /// Every address with its name, for people.
    pub(super) fn addresses(&self) -> [(&'static str, String); 4] {
        let Endpoints { http, https, kube, admin } = &self.endpoints;
        [
            ("http", format!("http://{http}")),
            ("https", format!("https://{https}")),
            ("kube", format!("https://{kube}")),
            ("admin", format!("http://{admin}")),
        ]
    }

    /// Variables that make `kubectl` and `tidegate` talk to this platform.
    pub(super) fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("KUBECONFIG", self.data_dir.join("kubeconfig").display().to_string()),
            ("TIDEGATE_DATA_DIR", self.data_dir.display().to_string()),
        ]
    }

    /// Asks the platform to drain and waits for its end.
    /// It fails when the platform does not end, or not with status 0.
    pub(super) async fn stop(mut self) -> Result<(), Failure> {
        if let Some(pid) =
            self.child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(rustix::process::Pid::from_raw)
        {
            // It may have ended by itself, on the same Ctrl-C.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        match tokio::time::timeout(STOP_PATIENCE, self.child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(Failure::new(format!("`tidegate up` ended with {status}"))),
            Ok(Err(error)) => Err(because("`tidegate up` cannot be waited for")(error)),
            Err(_) => Err(Failure::new("`tidegate up` does not end")),
        }
    }
}

fn read_endpoints(file: &Path) -> Option<Endpoints> {
    serde_json::from_slice(&std::fs::read(file).ok()?).ok()
}

/// Whether `/readyz` answers 200.
async fn is_ready(admin: SocketAddr) -> bool {
    ready_status(admin).await.is_some_and(|line| line.starts_with("HTTP/1.1 200"))
}

async fn ready_status(admin: SocketAddr) -> Option<String> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(admin).await.ok()?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.ok()?;
    let mut answer = [0; 64];
    let length = stream.read(&mut answer).await.ok()?;
    String::from_utf8(answer.get(..length)?.to_vec()).ok()
}
