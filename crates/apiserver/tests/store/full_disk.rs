//! A full disk and a disk that cannot be written: writes are answered with an error, reads go on, readiness says so,
//! and it recovers by itself.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tidegate_apiserver::store::{Object, PutError, Retention, Store, StoreError, StoreOptions, WriteError};
use tidegate_runtime::Readiness;

use crate::support::*;

async fn try_put(store: &Store, name: &str, value: &str) -> Result<Arc<Object>, StoreError> {
    let (key, body) = (key(name), config_map(name, value));
    match store.write(move |txn| txn.put(&key, body)).await {
        Ok(object) => Ok(object),
        Err(WriteError::Store(error)) => Err(error),
        Err(WriteError::<PutError>::Refused(error)) => panic!("{error}"),
    }
}

/// Waits until the store says it works again.
async fn recovered(readiness: &Readiness) {
    eventually("the store recovers", || readiness.is_ready()).await;
}

#[tokio::test]
async fn a_full_store_refuses_writes_and_recovers_when_compaction_frees_room() {
    let world = World::new();
    let retention = Retention { age: Duration::ZERO, newest: 4, ..Retention::default() };
    let store = Store::open(StoreOptions { max_bytes: Some(512 << 10), retention, ..world.options() }).unwrap();
    let mut stream = store.watch(ROOT, &config_maps(), 999).unwrap();
    let mut written = 0;
    let error = loop {
        match try_put(&store, "a", &noise(written, 8_000)).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 200, "the limit does not work");
    };
    assert!(matches!(error, StoreError::Full(_)), "{error:?}");
    assert!(written > 5);

    // What was acknowledged is there, what was not left no trace, and readiness names the reason.
    let last = 999 + written;
    assert_eq!(store.revision(ROOT), last);
    assert_eq!(value(&store.get(&key("a")).unwrap()), noise(written - 1, 8_000));
    take(&mut stream, usize::try_from(written).unwrap()).await;
    assert!(stream.try_next().is_none());
    assert_eq!(world.readiness.report(), [("store", Err("the disk of the object store is full".to_owned()))]);
    assert_eq!(store.list_at(ROOT, &config_maps(), last - 1).await.unwrap().len(), 1);

    store.compact().await.unwrap();
    recovered(&world.readiness).await;
    assert_eq!(try_put(&store, "b", "1").await.unwrap().revision, last + 1);
    store.close().await;
    let store = world.open();
    assert_eq!((store.count(ROOT, &config_maps()), store.revision(ROOT)), (2, last + 1));
}

/// Names the folder of the store to the process whose disk fails.
const LIMITED: &str = "TIDEGATE_TEST_STORE_LIMITED";

#[test]
fn a_disk_that_fails_in_the_middle_of_commits_loses_nothing() {
    if let Some(folder) = std::env::var_os(LIMITED) {
        return write_under_a_limit(Path::new(&folder));
    }
    let folder = tempfile::tempdir().unwrap();
    // A file-size limit makes real writes fail without root; the signal that comes with it is ignored.
    let process = Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "full_disk::a_disk_that_fails_in_the_middle_of_commits_loses_nothing", "--nocapture"])
        .env(LIMITED, folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut process = Spawned(process);
    let mut output = BufReader::new(process.0.stdout.take().unwrap()).lines();
    let mut input = process.0.stdin.take().unwrap();
    let pid = process.0.id().to_string();
    let mut says = |expected: &str| {
        let found = output.by_ref().map(Result::unwrap).find(|line| line.starts_with(expected));
        found.unwrap_or_else(|| panic!("the process never said `{expected}`"))
    };
    let limit = |bytes: &str| {
        let status = Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={bytes}:unlimited")]).status();
        assert!(status.expect("prlimit is there: apt-get install util-linux").success());
    };
    says("open");
    limit("300000");
    writeln!(input, "limited").unwrap();
    says("failed");
    limit("unlimited");
    let acknowledged: u64 = says("recovered ").strip_prefix("recovered ").unwrap().parse().unwrap();
    assert!(process.0.wait().unwrap().success());

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Store::open(options(folder.path())).unwrap();
        assert_eq!(store.revision(ROOT), 999 + acknowledged);
        let mut stream = store.watch(ROOT, &config_maps(), 999).unwrap();
        for revision in 1_000..1_000 + acknowledged {
            assert_eq!(next(&mut stream).await.unwrap().unwrap().revision, revision);
        }
        assert_eq!(value(&store.get(&key("a")).unwrap()), noise(acknowledged - 1, 8_000));
    });
}

/// Writes until it fails, then until it works again.
fn write_under_a_limit(folder: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = options(folder);
        let readiness = options.readiness.clone();
        let store = Store::open(options).unwrap();
        let say = |line: &str| std::io::stdout().lock().write_all(format!("{line}\n").as_bytes()).unwrap();
        say("\nopen");
        std::io::stdin().lock().read_line(&mut String::new()).unwrap();
        let mut acknowledged = 0;
        loop {
            match try_put(&store, "a", &noise(acknowledged, 8_000)).await {
                Ok(_) => acknowledged += 1,
                Err(StoreError::Io(_) | StoreError::Full(_)) => break,
                Err(error) => panic!("{error}"),
            }
            assert!(acknowledged < 1_000, "the limit does not work");
        }
        assert!(acknowledged > 0);
        assert!(!readiness.is_ready());
        assert_eq!(value(&store.get(&key("a")).unwrap()), noise(acknowledged - 1, 8_000));
        say("failed");
        recovered(&readiness).await;
        try_put(&store, "a", &noise(acknowledged, 8_000)).await.unwrap();
        store.close().await;
        say(&format!("recovered {}", acknowledged + 1));
    });
}
