//! What must survive: `kill -9` at any instant, a drain under load, a start on an existing store.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use tidegate_testkit::command::{curl_status, run};
use tidegate_testkit::upstream::Upstream;
use tidegate_testkit::{Platform, eventually};

const BINARY: &str = env!("CARGO_BIN_EXE_tidegate");
const LIMIT: Duration = Duration::from_secs(30);

/// Writers that kubectl runs as, each in a loop.
const WRITERS: usize = 3;
/// How often the process is killed.
const KILLS: usize = 3;

#[test]
fn kill_9_of_the_whole_process_loses_nothing_acknowledged() {
    let mut platform = Platform::start(BINARY);
    let mut acknowledged: Vec<String> = Vec::new();
    for round in 0..KILLS {
        let is_over = AtomicBool::new(false);
        let kubectl = tidegate_testkit::kubectl::newest();
        let kubeconfig = platform.kubeconfig();
        let created: Vec<String> = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| {
                    let (is_over, kubeconfig) = (&is_over, &kubeconfig);
                    scope.spawn(move || {
                        let mut created = Vec::new();
                        for number in 0.. {
                            let name = format!("written-{round}-{writer}-{number}");
                            let value = format!("--from-literal=name={name}");
                            if kubectl.run(kubeconfig, &["create", "configmap", &name, &value]).code == 0 {
                                created.push(name);
                            } else if is_over.load(Ordering::SeqCst) {
                                break;
                            }
                        }
                        created
                    })
                })
                .collect();
            // Somewhere in the middle of writing: as soon as there is something to lose.
            eventually(LIMIT, "a first write", || {
                let list = kubectl.run(&kubeconfig, &["get", "configmaps", "-o", "name"]);
                list.stdout.contains(&format!("written-{round}-")).then_some(())
            });
            platform.kill();
            is_over.store(true, Ordering::SeqCst);
            writers.into_iter().flat_map(|writer| writer.join().expect("a writer")).collect()
        });
        assert!(!created.is_empty());
        acknowledged.extend(created);
        platform.restart();
        let list = platform.kubectl(&["get", "configmaps", "-o", "name"]);
        list.ok();
        for name in &acknowledged {
            assert!(list.stdout.lines().any(|line| line == format!("configmap/{name}")), "`{name}` is lost: {list}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_serves_the_same_routes_from_its_first_answer_on() {
    let upstream = Upstream::start().await.unwrap();
    let mut platform = Platform::start(BINARY);
    platform.verb(&["expose", "my-app", "--to", &upstream.address().to_string()]).ok();
    assert_eq!(platform.get("my-app.localhost", "/", None).0, 200);
    platform.kill();
    platform.restart();
    assert_eq!(platform.get("my-app.localhost", "/", None).0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_cuts_no_request_that_was_accepted() {
    let upstream = Upstream::start().await.unwrap();
    let mut platform = Platform::start(BINARY);
    platform.verb(&["expose", "my-app", "--to", &upstream.address().to_string()]).ok();
    let url = format!("http://{}/slow/1500", platform.endpoint("http"));
    let admin = format!("http://{}/readyz", platform.endpoint("admin"));
    let answers: Vec<(u16, String)> = std::thread::scope(|scope| {
        let slow: Vec<_> =
            (0..4).map(|_| scope.spawn(|| curl_status(&["-H", "Host: my-app.localhost", &url]))).collect();
        eventually(LIMIT, "the requests reach the upstream", || (upstream.requests() >= 4).then_some(()));
        platform.signal(Signal::TERM);
        eventually(LIMIT, "readiness says so", || {
            let mut look = Command::new("curl");
            look.args(["--silent", "--max-time", "5", &admin]);
            run(&mut look, "").stdout.contains("draining").then_some(())
        });
        slow.into_iter().map(|request| request.join().expect("curl ends")).collect()
    });
    assert!(answers.iter().all(|(status, _)| *status == 200), "{answers:?}");
    assert_eq!(platform.wait().code(), Some(0));
    let logged = platform.stdout().lines().filter(|line| line.contains("\"path\":\"/slow/1500\"")).count();
    assert_eq!(logged, 4, "the access log of the last requests was not written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_admin_api_cannot_be_put_on_the_edge() {
    let platform = Platform::start(BINARY);
    for listener in ["admin", "kube", "http"] {
        let name = format!("to-{listener}");
        platform.verb(&["expose", &name, "--to", platform.endpoint(listener), "--wait=0s"]).ok();
        eventually(LIMIT, "the route answers", || {
            (platform.get(&format!("{name}.localhost"), "/metrics", None).0 != 404).then_some(())
        });
        let (status, body) = platform.get(&format!("{name}.localhost"), "/metrics", None);
        assert_eq!((status, body.as_str()), (503, "no healthy upstream"), "{listener}");
    }
}

#[test]
fn the_demo_ends_with_0() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(BINARY);
    command
        .args(["demo", "--exit"])
        .current_dir(folder.path())
        .env_remove("KUBECONFIG")
        .env_remove("TIDEGATE_DATA_DIR");
    let output = run(&mut command, "");
    output.ok();
    for words in ["HTTP/1.1 200", "HTTP/1.1 401", "Jwt is missing"] {
        assert!(output.stdout.contains(words), "no `{words}` in {output}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the demo left something behind");
}
