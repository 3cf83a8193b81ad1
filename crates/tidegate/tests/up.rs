//! The contract of `tidegate up` (`00`): files, ports, lock, signals, configuration.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use tidegate_testkit::command::{curl, curl_status, run};
use tidegate_testkit::{Output, Platform, PlatformOptions, eventually};

const BINARY: &str = env!("CARGO_BIN_EXE_tidegate");
const LIMIT: Duration = Duration::from_secs(30);

/// Runs `tidegate` with nothing but PATH in its environment.
fn tidegate(arguments: &[&str], environment: &[(&str, &str)], folder: &Path) -> Output {
    let mut command = Command::new(BINARY);
    command.args(arguments).env_clear().env("PATH", std::env::var_os("PATH").expect("PATH is set"));
    command.envs(environment.iter().copied()).current_dir(folder);
    run(&mut command, "")
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("the file exists").permissions().mode() & 0o777
}

#[test]
fn a_ready_platform_has_written_its_files_and_printed_its_addresses() {
    let platform = Platform::start(BINARY);
    assert_eq!(mode(&platform.data_dir()), 0o700);
    let keys: Vec<&str> = platform.endpoints().keys().map(String::as_str).collect();
    assert_eq!(keys, ["admin", "domain", "http", "https", "kube"]);
    assert_eq!(platform.endpoint("domain"), "localhost");
    assert_eq!(mode(&platform.kubeconfig()), 0o600);
    assert!(platform.kubectl(&["get", "namespaces"]).ok().stdout.contains("kyma-system"));
    let authority = platform.data_dir().join("ca.crt").display().to_string();
    let version = format!("https://{}/version", platform.endpoint("kube"));
    curl(&["--cacert", &authority, &version]).ok();
    let said = eventually(LIMIT, "the start message", || {
        let said = platform.stdout();
        said.contains("decisions").then_some(said)
    });
    assert!(said.contains(&format!("http://{}", platform.endpoint("admin"))), "{said}");
    for closed in ["outbound", "decisions"] {
        assert!(said.contains(&format!("{closed:<9} not opened")), "{said}");
    }
    assert_eq!(platform.admin("/livez"), (200, "ok".to_owned()));
    assert_eq!(platform.admin("/readyz"), (200, "ok".to_owned()));
    let (status, verbose) = platform.admin("/readyz?verbose");
    assert_eq!(status, 200);
    assert!(verbose.contains("[+]files ok\n") && verbose.ends_with("readyz check passed\n"), "{verbose}");
    let (status, metrics) = platform.admin("/metrics");
    assert_eq!(status, 200);
    assert!(metrics.contains("tidegate_process_panics_total 0"), "{metrics}");
    platform.verb(&["status"]).ok();
}

#[test]
fn the_admin_listener_refuses_foreign_host_names() {
    let platform = Platform::start(BINARY);
    let url = format!("http://{}/metrics", platform.endpoint("admin"));
    assert_eq!(curl_status(&["-H", "Host: rebound.example", &url]).0, 403);
    assert_eq!(curl_status(&["-H", "Host: localhost:1", &url]).0, 200);
}

#[test]
fn the_log_level_changes_while_the_process_runs() {
    let platform = Platform::start(BINARY);
    let url = format!("http://{}/debug/log-level", platform.endpoint("admin"));
    assert_eq!(curl_status(&[&url]), (200, "info\n".to_owned()));
    assert_eq!(curl_status(&["-X", "PUT", "-d", "debug", &url]), (200, "debug\n".to_owned()));
    assert_eq!(curl_status(&["-X", "PUT", "-d", "=x=", &url]).0, 400);
    assert_eq!(curl_status(&[&url]), (200, "debug\n".to_owned()));
}

#[test]
fn a_second_process_on_the_data_dir_is_refused() {
    let platform = Platform::start(BINARY);
    let dir = platform.data_dir();
    let refused = tidegate(&["up", "--data-dir", dir.to_str().unwrap()], &[], platform.folder());
    refused.fails_with(1);
    let expected = format!("error: data directory `{}` is already used by process {}", dir.display(), platform.pid());
    assert!(refused.stderr.contains(&expected), "{refused}");
    assert_eq!(platform.admin("/livez").0, 200);
}

#[test]
fn the_data_dir_is_free_again_after_kill_9_and_after_sigterm() {
    let mut platform = Platform::start(BINARY);
    platform.kill();
    platform.restart();
    assert_eq!(platform.stop().code(), Some(0));
    platform.restart();
    platform.signal(Signal::INT);
    assert_eq!(platform.wait().code(), Some(0));
}

#[test]
fn sighup_reloads_the_log_level_and_a_bad_reload_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("c.yaml");
    fs::write(&file, "log: {level: info}\n").unwrap();
    let platform = Platform::start_with(
        BINARY,
        PlatformOptions {
            arguments: vec!["--config".to_owned(), file.display().to_string()],
            ..PlatformOptions::default()
        },
    );
    let wait_for = |level: &str| {
        eventually(LIMIT, "the new level", || (platform.admin("/debug/log-level").1.trim() == level).then_some(()));
    };
    fs::write(&file, "log: {level: debug}\n").unwrap();
    platform.signal(Signal::HUP);
    wait_for("debug");
    fs::write(&file, "lgo: {level: trace}\n").unwrap();
    platform.signal(Signal::HUP);
    eventually(LIMIT, "the refused reload is logged", || platform.stderr().contains("unknown key `lgo`").then_some(()));
    wait_for("debug");
}

#[test]
fn configuration_mistakes_end_with_code_2_and_their_place() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("c.yaml"), "domain: apps.test\nexposure:\n  jwt:\n    skwe: 10s\n").unwrap();
    let refused = tidegate(&["up", "--config", "c.yaml"], &[], folder.path());
    refused.fails_with(2);
    assert_eq!(
        refused.stderr.lines().next(),
        Some("error: c.yaml line 4, column 5: unknown key `skwe`, did you mean `skew`?")
    );
    let flag = tidegate(&["up", "--http", "somewhere"], &[], folder.path());
    flag.fails_with(2);
    assert!(flag.stderr.contains("flag --http: `somewhere` is not a value of `http`"), "{flag}");
    let variable = tidegate(&["up"], &[("TIDEGATE_EXPOSURE_JWKS_TTL", "soon")], folder.path());
    variable.fails_with(2);
    assert!(variable.stderr.contains("environment TIDEGATE_EXPOSURE_JWKS_TTL"), "{variable}");
    tidegate(&["up", "--no-such-flag"], &[], folder.path()).fails_with(2);
    assert!(!folder.path().join(".tidegate").exists(), "a refused start leaves nothing behind");
}

#[test]
fn an_unknown_variable_is_a_warning() {
    let options = PlatformOptions {
        environment: vec![("TIDEGATE_DOMIAN".to_owned(), "x".to_owned())],
        ..PlatformOptions::default()
    };
    let platform = Platform::start_with(BINARY, options);
    let expected = "unknown variable `TIDEGATE_DOMIAN` is ignored, did you mean `TIDEGATE_DOMAIN`?";
    eventually(LIMIT, "the warning", || platform.stderr().contains(expected).then_some(()));
}

#[test]
fn effective_configuration_shows_where_values_come_from() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("c.yaml"), "domain: apps.test\n").unwrap();
    let shown = tidegate(
        &["config", "show", "--origin", "--config", "c.yaml"],
        &[("TIDEGATE_EXPOSURE_JWT_SKEW", "5s")],
        folder.path(),
    );
    shown.ok();
    for line in [
        "domain: \"apps.test\"  # file",
        "exposure.jwt.skew: \"5s\"  # environment TIDEGATE_EXPOSURE_JWT_SKEW",
        "http: \"127.0.0.1:8080\"  # default",
    ] {
        assert!(shown.stdout.lines().any(|shown| shown == line), "{line} in {shown}");
    }
    tidegate(&["config", "check", "c.yaml"], &[], folder.path()).ok();
}

#[test]
fn a_taken_port_is_named_with_its_flag() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let refused = tidegate(&["up", "--admin", &address], &[], folder.path());
    refused.fails_with(1);
    assert!(refused.stderr.contains(&format!("listener `admin` cannot be opened at `{address}`")), "{refused}");
    assert!(refused.stderr.contains("--admin 127.0.0.1:0 picks a free port"), "{refused}");
}

#[test]
fn completion_and_version_need_no_platform() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        assert!(tidegate(&["completion", shell], &[], folder.path()).ok().stdout.contains("tidegate"), "{shell}");
    }
    assert!(tidegate(&["version"], &[], folder.path()).ok().stdout.starts_with("tidegate "));
    let nothing = tidegate(&["status"], &[], folder.path());
    nothing.fails_with(1);
    assert!(nothing.stderr.contains("no running platform found"), "{nothing}");
}
