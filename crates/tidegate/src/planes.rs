//! The three runtimes of the process (`70` R3): traffic, control plane, admin. None of them can starve another.

use std::io;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::sync::CancellationToken;

/// The runtimes, ended in the order of the fields when dropped.
pub(crate) struct Planes {
    /// Traffic: as many workers as cores.
    pub(crate) data: Runtime,
    /// API server and reconcilers: one thread.
    control: OwnThread,
    /// Admin listener: one thread, so that a slow scrape disturbs nothing.
    admin: OwnThread,
}

impl Planes {
    /// Starts all three.
    pub(crate) fn start() -> io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            data: Builder::new_multi_thread().worker_threads(cores).thread_name("data").enable_all().build()?,
            control: OwnThread::start("control")?,
            admin: OwnThread::start("admin")?,
        })
    }

    /// Where API server and reconcilers run.
    pub(crate) fn control(&self) -> &Handle {
        &self.control.handle
    }

    /// Where the admin listener runs.
    pub(crate) fn admin(&self) -> &Handle {
        &self.admin.handle
    }
}

/// A current-thread runtime and the thread that drives it.
struct OwnThread {
    handle: Handle,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl OwnThread {
    fn start(name: &'static str) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().thread_name(name).enable_all().build()?;
        let handle = runtime.handle().clone();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            runtime.block_on(stopped.cancelled());
            // What did not end on the shutdown token by now is cut; blocking work gets a moment.
            runtime.shutdown_timeout(Duration::from_secs(1));
        })?;
        Ok(Self { handle, stop, thread: Some(thread) })
    }
}

impl Drop for OwnThread {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // A panic of that thread was printed by the panic hook.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_plane_runs_on_its_own_threads() {
        let planes = Planes::start().unwrap();
        let name = || async { std::thread::current().name().unwrap_or_default().to_owned() };
        let names = planes.data.block_on(async {
            let data = planes.data.spawn(name());
            let control = planes.control().spawn(name());
            let admin = planes.admin().spawn(name());
            (data.await.unwrap(), control.await.unwrap(), admin.await.unwrap())
        });
        assert_eq!(names, ("data".to_owned(), "control".to_owned(), "admin".to_owned()));
    }
}
