//! Every command block marked `sh` in the README and under `docs` runs as printed, in order, in a folder that holds nothing
//! but `examples`.
//!
//! A `curl` line that ends with `# NNN` states the status it answers; the statuses that the script prints must be
//! exactly those, in that order. The documents use the default ports, so these tests run one at a time.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Tests of this file share the default ports; nextest gets the same rule from `.config/nextest.toml`.
static DEFAULT_PORTS: parking_lot::Mutex<()> = parking_lot::Mutex::new(());

/// What a reader does around the printed commands: have the tools on PATH, stop at the first failure, end what was
/// started.
const PROLOGUE: &str = "set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT\n";

#[test]
fn the_readme_works_as_printed() {
    runs_as_printed("README.md");
}

#[test]
fn the_first_tutorial_works_as_printed() {
    runs_as_printed("docs/tutorials/expose-and-secure.md");
}

#[test]
fn several_issuers_work_as_printed() {
    runs_as_printed("docs/how-to/trust-several-issuers.md");
}

#[test]
fn open_paths_work_as_printed() {
    runs_as_printed("docs/how-to/leave-paths-open.md");
}

#[test]
fn several_processes_work_as_printed() {
    runs_as_printed("docs/how-to/balance-over-processes.md");
}

#[test]
fn every_document_with_commands_is_run_by_a_test() {
    let source = include_str!("docs.rs");
    for folder in ["docs/tutorials", "docs/how-to", "docs/reference", "docs/explanation"] {
        let Ok(entries) = std::fs::read_dir(repository().join(folder)) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            let document = format!("{folder}/{}", path.file_name().unwrap().to_str().unwrap());
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(command_blocks(&text).is_empty() || source.contains(&document), "no test runs {document}");
        }
    }
}

fn runs_as_printed(document: &str) {
    let _one_at_a_time = DEFAULT_PORTS.lock();
    let text = std::fs::read_to_string(repository().join(document)).expect("the document exists");
    let script = command_blocks(&text);
    assert!(!script.is_empty(), "{document} has no command block");

    let folder = tempfile::tempdir().expect("a temporary folder");
    std::os::unix::fs::symlink(repository().join("examples"), folder.path().join("examples")).expect("a link");
    let output = Command::new("timeout")
        .args(["--kill-after=10", "120", "bash", "-c", &format!("{PROLOGUE}{script}")])
        .current_dir(folder.path())
        .env("PATH", path_with_tools())
        .env("HOME", folder.path())
        .env_remove("KUBECONFIG")
        .stdin(Stdio::null())
        .output()
        .expect("bash runs under timeout");
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{document} failed: {}\n{stdout}\n{stderr}", output.status);
    assert_eq!(printed_statuses(&stdout), stated_statuses(&script), "{document}\n{stdout}\n{stderr}");
}

/// The content of all fenced blocks whose info string is `sh`.
fn command_blocks(markdown: &str) -> String {
    let mut script = String::new();
    let mut inside = false;
    for line in markdown.lines() {
        if line.starts_with("```") {
            inside = line == "```sh";
        } else if inside {
            script.push_str(line);
            script.push('\n');
        }
    }
    script
}

fn stated_statuses(script: &str) -> Vec<u16> {
    let comments = script.lines().filter(|line| line.starts_with("curl ")).map(|line| line.rsplit_once("# "));
    comments.map(|comment| comment.expect("each curl line states its status")).map(|(_, text)| status(text)).collect()
}

/// Statuses of all answers that `curl -i` printed. An answer without a final line feed is followed by the next one on the
/// same line.
fn printed_statuses(output: &str) -> Vec<u16> {
    let starts = output.split("HTTP/1.1 ").skip(1);
    starts.filter_map(|rest| rest.get(..3)?.parse().ok()).collect()
}

fn status(text: &str) -> u16 {
    text.get(..3).and_then(|digits| digits.parse().ok()).unwrap_or_else(|| panic!("no status in `{text}`"))
}

/// The folder of the built binary and the project's own tools, then the rest of PATH.
fn path_with_tools() -> std::ffi::OsString {
    let mut folders = vec![Path::new(env!("CARGO_BIN_EXE_tidegate")).parent().expect("a folder").to_owned()];
    folders.push(repository().join(".tools/bin"));
    let rest = std::env::var_os("PATH").unwrap_or_default();
    folders.extend(std::env::split_paths(&rest));
    std::env::join_paths(folders).expect("folders without colons")
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the repository")
}
