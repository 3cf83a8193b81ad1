//! `kill -9` at random instants while eight writers write.
//!
//! The test starts itself again as the victim, which reports each acknowledged write through a pipe. After the kill
//! the parent opens the store and compares: every acknowledged write is in the history as it was acknowledged, the
//! history has no gap, it leads from the state before to the state found, and no revision ever had two contents.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use tidegate_apiserver::store::{Durability, EventKind, Retention, Store, Txn};
use tidegate_runtime::{Clock, Random, Tasks};

use crate::support::*;

/// Names the folder of the store to the victim.
const VICTIM: &str = "TIDEGATE_TEST_STORE_VICTIM";
const KILLS: u64 = 50;
const WRITERS: u64 = 8;

#[test]
fn kill_9_loses_nothing_acknowledged_and_reuses_no_revision() {
    if let Some(folder) = std::env::var_os(VICTIM) {
        return be_killed(Path::new(&folder));
    }
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let random = Random::system();
    let mut history = History::default();
    let mut acknowledged = Vec::new();
    let mut total = 0;
    for kill in 0..KILLS {
        let victim = Victim::start(folder.path(), kill);
        // Some are killed while they open the store, most in the middle of writing.
        let acknowledgements = if kill % 8 == 7 { 0 } else { 1 + random.u64() % 300 };
        let delay = Duration::from_micros(random.u64() % 8_000);
        let lines = victim.kill_after(acknowledgements, delay);
        total += lines.len();
        acknowledged.extend(lines);
        // Every other time the next victim finds what this one left.
        if kill % 2 == 1 {
            runtime.block_on(history.check(folder.path(), std::mem::take(&mut acknowledged)));
        }
    }
    assert!(total > 500, "only {total} writes were acknowledged: the victims were killed too early to prove anything");
    let revisions: Vec<_> = history.events.keys().copied().collect();
    let last = revisions.last().copied().unwrap();
    assert_eq!(revisions, (1_000..=last).collect::<Vec<_>>());
}

/// What has been found so far, over all lives of the store.
#[derive(Default)]
struct History {
    events: BTreeMap<u64, String>,
    objects: BTreeMap<String, String>,
}

impl History {
    async fn check(&mut self, folder: &Path, acknowledged: Vec<String>) {
        let store = open(folder);
        let known = self.events.keys().next_back().copied().unwrap_or(999);
        let mut stream = store.watch(ROOT, &config_maps(), known).unwrap();
        for expected in known + 1..=store.revision(ROOT) {
            let event = next(&mut stream).await.unwrap().unwrap();
            assert_eq!(event.revision, expected, "the history has a gap");
            let (name, value) = (event.object.name().to_owned(), value(&event.object).to_owned());
            let before = match event.kind {
                EventKind::Added | EventKind::Modified => self.objects.insert(name, value),
                EventKind::Deleted => self.objects.remove(&name),
            };
            assert_eq!(before.is_some(), event.kind != EventKind::Added, "{}", text(&event));
            assert_eq!(before.as_deref(), event.previous.as_deref().map(crate::support::value));
            self.events.insert(event.revision, text(&event));
        }
        assert!(stream.try_next().is_none());
        for line in acknowledged {
            let revision = line.rsplit('@').next().unwrap().parse().unwrap();
            assert_eq!(self.events.get(&revision), Some(&line), "acknowledged, but not so in the history");
        }
        let found = store.snapshot(ROOT, &config_maps());
        let found: BTreeMap<_, _> =
            found.iter().map(|object| (object.name().to_owned(), value(object).to_owned())).collect();
        assert_eq!(found, self.objects, "the state is not what the history says");
        // Twins are written in one transaction.
        for (name, value) in &found {
            if let Some(twin) = name.strip_prefix("left-") {
                assert_eq!(found.get(&format!("right-{twin}")), Some(value));
            }
        }
        store.close().await;
    }
}

fn open(folder: &Path) -> Store {
    // Compaction runs in the victims; it keeps what the parent has not seen yet.
    let retention = Retention { age: Duration::ZERO, newest: 4_000, ..Retention::default() };
    Store::open(tidegate_apiserver::store::StoreOptions { durability: Durability::Full, retention, ..options(folder) })
        .unwrap()
}

/// The parent's end of a victim.
struct Victim {
    process: Spawned,
    lines: Receiver<String>,
}

impl Victim {
    fn start(folder: &Path, life: u64) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::kill_9_loses_nothing_acknowledged_and_reuses_no_revision", "--nocapture"])
            .env(VICTIM, folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let (sender, lines) = sync_channel(100_000);
        let read = move || {
            // A line cut short by the kill was not acknowledged.
            for line in output.split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8(line).unwrap();
                if let Some(line) = line.strip_prefix("acknowledged ").and_then(|line| line.strip_suffix(" .")) {
                    sender.send(line.to_owned()).unwrap();
                }
            }
        };
        std::thread::Builder::new().name(format!("victim-{life}")).spawn(read).unwrap();
        Self { process: Spawned(process), lines }
    }

    /// Kills after that many acknowledgements and a delay; everything that was acknowledged.
    fn kill_after(mut self, acknowledgements: u64, delay: Duration) -> Vec<String> {
        let mut lines = Vec::new();
        for _ in 0..acknowledgements {
            lines.push(self.lines.recv_timeout(LONG).expect("the victim lives and writes"));
        }
        let clock = Clock::system();
        let deadline = clock.instant() + delay;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(clock.instant())) {
                Ok(line) => lines.push(line),
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => panic!("the victim ended by itself"),
            }
        }
        self.process.kill();
        lines.extend(self.lines.iter());
        lines
    }
}

/// Writes until killed.
fn be_killed(folder: &Path) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let store = open(folder);
        let tasks = Tasks::new();
        let life = store.revision(ROOT);
        let write = |writer: u64| {
            let store = store.clone();
            tasks.spawn("writer", async move {
                for round in 0.. {
                    let operation = move |txn: &mut Txn<'_>| Ok::<_, Infallible>(work(txn, writer, life, round));
                    let mut lines = String::new();
                    for line in settled(store.write(operation).await) {
                        writeln!(lines, "acknowledged {line} .").unwrap();
                    }
                    // One write into the pipe: whole lines of one operation, never mixed with others.
                    std::io::stdout().lock().write_all(lines.as_bytes()).unwrap();
                }
            })
        };
        let writers = futures::future::select_all((0..WRITERS).map(write));
        let compaction = async {
            loop {
                store.compact().await.unwrap();
            }
        };
        // A writer ends only when the parent is gone.
        tokio::select! {
            _ = writers => {}
            () = compaction => {}
        }
    });
}

/// One operation of a writer: mostly an update, sometimes twins or a deletion. What its events must look like.
fn work(txn: &mut Txn<'_>, writer: u64, life: u64, round: u64) -> Vec<String> {
    let value = format!("{life}-{writer}-{round}{}", if round % 7 == 3 { "x".repeat(2_000) } else { String::new() });
    let mut put = |name: String| {
        let existed = txn.get(&key(&name)).is_some();
        let object = txn.put(&key(&name), config_map(&name, &value)).unwrap();
        format!("{} {name}={value} @{}", if existed { "MODIFIED" } else { "ADDED" }, object.revision)
    };
    match (writer + round) % 6 {
        0 => vec![put(format!("left-{writer}")), put(format!("right-{writer}"))],
        1 => {
            let name = format!("shared-{}", round % 3);
            let deleted = txn.delete(&key(&name));
            let line = |object: std::sync::Arc<tidegate_apiserver::store::Object>| {
                format!("DELETED {name}={} @{}", crate::support::value(&object), object.revision)
            };
            deleted.map(line).into_iter().collect()
        }
        2 => vec![put(format!("shared-{}", round % 3))],
        _ => vec![put(format!("own-{writer}-{}", round % 4))],
    }
}
