//! A control plane for one kubectl.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;
use tidegate_apiserver::{Config, ControlPlane, Options};
use tidegate_runtime::{Clock, Metrics, Readiness, Tasks};
use tidegate_testkit::command::Output;
use tidegate_testkit::kubectl::{Kubectl, kubectls};

/// One server and one kubectl.
pub(crate) struct Shell {
    pub(crate) kubectl: &'static Kubectl,
    pub(crate) kubeconfig: PathBuf,
    dir: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
    tasks: Tasks,
}

/// Runs a story with every kubectl, each against a server of its own.
pub(crate) fn with_every_kubectl(story: impl Fn(&Shell)) {
    for kubectl in kubectls() {
        story(&Shell::start(kubectl));
    }
}

impl Shell {
    fn start(kubectl: &'static Kubectl) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let tasks = Tasks::new();
        let kubeconfig = dir.path().join("kubeconfig");
        runtime.block_on(async {
            let plane = ControlPlane::open(Options {
                data_dir: dir.path().to_owned(),
                config: Config::default(),
                namespaces: Vec::new(),
                definitions: Vec::new(),
                clock: Clock::system(),
                tasks: tasks.clone(),
                readiness: Readiness::new(),
                metrics: Metrics::new(),
            });
            let plane = plane.await.unwrap();
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = plane.serve(listener).unwrap();
            std::fs::write(&kubeconfig, plane.kubeconfig(&format!("https://{address}")).unwrap()).unwrap();
        });
        Self { kubectl, kubeconfig, dir, runtime, tasks }
    }

    /// Runs a command, words separated by single spaces.
    pub(crate) fn run(&self, line: &str) -> Output {
        self.run_with(line, "")
    }

    /// The same with text on standard input.
    pub(crate) fn run_with(&self, line: &str, input: &str) -> Output {
        let words: Vec<&str> = line.split(' ').collect();
        self.kubectl.run_with(&self.kubeconfig, &words, input)
    }

    /// Runs a command that must work and returns what it printed.
    #[track_caller]
    pub(crate) fn ok(&self, line: &str) -> String {
        self.run(line).ok().stdout.clone()
    }

    /// The same with text on standard input.
    #[track_caller]
    pub(crate) fn ok_with(&self, line: &str, input: &str) -> String {
        self.run_with(line, input).ok().stdout.clone()
    }

    /// Runs a command that must work and print `expected` somewhere.
    #[track_caller]
    pub(crate) fn says(&self, line: &str, expected: &str) {
        let output = self.run(line);
        output.ok();
        assert!(output.stdout.contains(expected), "`{expected}` is missing in:\n{output}");
    }

    /// Runs a command that must fail with exit code 1 and say `expected` on standard error.
    #[track_caller]
    pub(crate) fn fails(&self, line: &str, expected: &str) {
        let output = self.run(line);
        output.fails_with(1);
        assert!(output.stderr.contains(expected), "`{expected}` is missing in:\n{output}");
    }

    /// An object as JSON.
    #[track_caller]
    pub(crate) fn json(&self, what: &str) -> Value {
        serde_json::from_str(&self.ok(&format!("get {what} -o json"))).unwrap()
    }

    /// Writes a file into the test's folder and returns its path.
    pub(crate) fn file(&self, name: &str, content: &str) -> String {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Starts a command in the background; its output goes to a file of the test's folder.
    pub(crate) fn background(&self, line: &str, log: &str) -> Background {
        let words: Vec<&str> = line.split(' ').collect();
        let path = self.dir.path().join(log);
        let mut command = self.kubectl.command(&self.kubeconfig, &words);
        command.stdout(std::fs::File::create(&path).unwrap()).stderr(std::process::Stdio::null());
        Background { child: command.spawn().unwrap(), log: path }
    }

    pub(crate) fn folder(&self) -> &std::path::Path {
        self.dir.path()
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let tasks = self.tasks.clone();
        self.runtime.block_on(async { tasks.close_and_wait(Duration::from_secs(5)).await });
    }
}

/// A kubectl that runs on.
pub(crate) struct Background {
    child: std::process::Child,
    log: PathBuf,
}

impl Background {
    /// Waits until the output has a line that contains `text`.
    #[track_caller]
    pub(crate) fn prints(&self, text: &str) {
        eventually(text, || std::fs::read_to_string(&self.log).unwrap().contains(text));
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for a condition, at most 20 s.
#[track_caller]
#[expect(clippy::disallowed_methods, reason = "waits for another process, in a test without runtime")]
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < Duration::from_secs(20), "not in time: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
