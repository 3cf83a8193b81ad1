//! A whole platform: the real binary, in a data dir and on ports of its own.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::command::{Output, curl_status, run};
use crate::kubectl::{self, Kubectl};
use crate::wait::eventually;

/// How long a start or an end may take on a busy machine.
const LIMIT: Duration = Duration::from_mins(1);

/// How a [`Platform`] is started.
#[derive(Clone, Debug, Default)]
pub struct PlatformOptions {
    /// Further arguments of `tidegate up`.
    pub arguments: Vec<String>,
    /// Variables of its environment besides PATH.
    pub environment: Vec<(String, String)>,
}

/// A running `tidegate up`. Killed when dropped; its files live as long as this value.
pub struct Platform {
    binary: PathBuf,
    root: TempDir,
    options: PlatformOptions,
    child: Child,
    endpoints: BTreeMap<String, String>,
}

impl Platform {
    /// Starts `binary` (in a test of the binary's crate: `env!("CARGO_BIN_EXE_tidegate")`) and waits until it is ready.
    pub fn start(binary: impl Into<PathBuf>) -> Self {
        Self::start_with(binary, PlatformOptions::default())
    }

    /// As [`Platform::start`], with options.
    pub fn start_with(binary: impl Into<PathBuf>, options: PlatformOptions) -> Self {
        let binary = binary.into();
        let root = tempfile::tempdir().expect("a temporary folder can be made");
        let child = spawn(&binary, root.path(), &options);
        let mut platform = Self { binary, root, options, child, endpoints: BTreeMap::new() };
        platform.wait_until_ready();
        platform
    }

    /// Its data dir.
    pub fn data_dir(&self) -> PathBuf {
        self.root.path().join("data")
    }

    /// Its kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.data_dir().join("kubeconfig")
    }

    /// A folder for files of the test.
    pub fn folder(&self) -> &Path {
        self.root.path()
    }

    /// Address (`host:port`) of a listener, as `endpoints.json` says.
    #[track_caller]
    pub fn endpoint(&self, listener: &str) -> &str {
        self.endpoints.get(listener).unwrap_or_else(|| panic!("`{listener}` is not open: {:?}", self.endpoints))
    }

    /// All of `endpoints.json`.
    pub fn endpoints(&self) -> &BTreeMap<String, String> {
        &self.endpoints
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Runs another verb of the binary against this platform.
    pub fn verb(&self, arguments: &[&str]) -> Output {
        self.verb_with(arguments, "")
    }

    /// As [`Platform::verb`], with text on standard input.
    pub fn verb_with(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = Command::new(&self.binary);
        command.env("KUBECONFIG", self.kubeconfig()).env_remove("TIDEGATE_DATA_DIR").args(arguments);
        run(&mut command, input)
    }

    /// Runs the newest kubectl against this platform.
    pub fn kubectl(&self, arguments: &[&str]) -> Output {
        self.kubectl_with(arguments, "")
    }

    /// As [`Platform::kubectl`], with text on standard input.
    pub fn kubectl_with(&self, arguments: &[&str], input: &str) -> Output {
        self.kubectl_of(kubectl::newest(), arguments, input)
    }

    /// Runs a given kubectl against this platform.
    pub fn kubectl_of(&self, kubectl: &Kubectl, arguments: &[&str], input: &str) -> Output {
        kubectl.run_with(&self.kubeconfig(), arguments, input)
    }

    /// `kubectl apply -f -` of a manifest; panics when it is refused.
    #[track_caller]
    pub fn apply(&self, manifest: &str) {
        self.kubectl_with(&["apply", "-f", "-"], manifest).ok();
    }

    /// Status and body of a GET through the plain edge listener to a host.
    #[track_caller]
    pub fn get(&self, host: &str, path: &str, token: Option<&str>) -> (u16, String) {
        let url = format!("http://{}{path}", self.endpoint("http"));
        let host = format!("Host: {host}");
        let authorization = token.map(|token| format!("Authorization: Bearer {token}"));
        let mut arguments = vec!["-H", &host];
        if let Some(header) = &authorization {
            arguments.extend(["-H", header]);
        }
        arguments.push(&url);
        curl_status(&arguments)
    }

    /// Status and body of a page of the admin listener.
    #[track_caller]
    pub fn admin(&self, path: &str) -> (u16, String) {
        curl_status(&[&format!("http://{}{path}", self.endpoint("admin"))])
    }

    /// What it wrote to standard output (start message, access log) since it was made.
    pub fn stdout(&self) -> String {
        fs::read_to_string(self.root.path().join("stdout")).unwrap_or_default()
    }

    /// What it wrote to standard error (log) since it was made.
    pub fn stderr(&self) -> String {
        fs::read_to_string(self.root.path().join("stderr")).unwrap_or_default()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a child has a process id");
        kill_process(pid, signal).expect("the process exists");
    }

    /// `kill -9`, and waits for the end.
    pub fn kill(&mut self) {
        self.child.kill().expect("the process can be killed");
        self.child.wait().expect("the process can be waited for");
    }

    /// Waits for the process to end.
    pub fn wait(&mut self) -> ExitStatus {
        let child = &mut self.child;
        eventually(LIMIT, "the process ends", || child.try_wait().expect("the process can be waited for"))
    }

    /// SIGTERM, and waits for the end.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Starts the binary again on the same data dir, after [`Platform::kill`] or [`Platform::stop`].
    pub fn restart(&mut self) {
        // The new process removes the old addresses too, but a look could come before that.
        let _ = fs::remove_file(self.data_dir().join("endpoints.json"));
        self.child = spawn(&self.binary, self.root.path(), &self.options);
        self.wait_until_ready();
    }

    fn wait_until_ready(&mut self) {
        let path = self.data_dir().join("endpoints.json");
        let (child, root) = (&mut self.child, self.root.path());
        self.endpoints = eventually(LIMIT, "the platform is ready", || {
            if let Some(status) = child.try_wait().expect("the process can be waited for") {
                let log = fs::read_to_string(root.join("stderr")).unwrap_or_default();
                panic!("the platform ended with {status}:\n{log}");
            }
            let text = fs::read(&path).ok()?;
            let endpoints: BTreeMap<String, String> = serde_json::from_slice(&text).ok()?;
            let url = format!("http://{}/readyz", endpoints.get("admin")?);
            (curl_status(&[&url]).0 == 200).then_some(endpoints)
        });
    }
}

impl Drop for Platform {
    #[expect(clippy::print_stdout, reason = "the output of a failed test says what the platform logged")]
    fn drop(&mut self) {
        // Already ended is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            println!("---- standard error of the platform ----\n{}", self.stderr());
        }
    }
}

fn spawn(binary: &Path, root: &Path, options: &PlatformOptions) -> Child {
    let open = |name: &str| {
        File::options().create(true).append(true).open(root.join(name)).expect("a file of the test can be written")
    };
    let mut command = Command::new(binary);
    command
        .args(["up", "--http", "127.0.0.1:0", "--https", "127.0.0.1:0", "--kube", "127.0.0.1:0"])
        .args(["--admin", "127.0.0.1:0", "--outbound", "127.0.0.1:0", "--decisions", "127.0.0.1:0"])
        .arg("--data-dir")
        .arg(root.join("data"))
        .args(&options.arguments)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .envs(options.environment.iter().map(|(name, value)| (name, value)))
        .current_dir(root)
        .stdin(Stdio::null())
        .stdout(open("stdout"))
        .stderr(open("stderr"));
    command.spawn().unwrap_or_else(|error| panic!("`{}` cannot be started: {error}", binary.display()))
}
