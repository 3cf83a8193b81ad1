//! Read-only connections, for what is not in memory: old events and the owner index.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::Connection;
use tidegate_runtime::Tasks;
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::rows::{self, Chunk};
use super::{ClusterId, Key, Resource, StoreError, schema};

/// More would only wait for the disk.
const CONNECTIONS: usize = 4;

/// A bounded pool; reads run off the asynchronous workers.
#[derive(Clone)]
pub(crate) struct Readers {
    shared: Arc<Shared>,
}

struct Shared {
    path: PathBuf,
    tasks: Tasks,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(crate) fn new(path: &Path, tasks: Tasks) -> Self {
        let shared = Shared {
            path: path.to_owned(),
            tasks,
            permits: Arc::new(Semaphore::new(CONNECTIONS)),
            idle: Mutex::new(Vec::new()),
        };
        Self { shared: Arc::new(shared) }
    }

    /// See [`rows::read_events`].
    pub(crate) async fn events(
        &self,
        cluster: ClusterId,
        resource: &Resource,
        after: u64,
        until: u64,
    ) -> Result<Chunk, StoreError> {
        let resource = resource.clone();
        self.run(move |connection| rows::read_events(connection, cluster, &resource, after, until)).await
    }

    /// See [`rows::read_dependents`].
    pub(crate) async fn dependents(&self, cluster: ClusterId, owner: Uuid) -> Result<Vec<Key>, StoreError> {
        self.run(move |connection| rows::read_dependents(connection, cluster, owner)).await
    }

    async fn run<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let permit = Arc::clone(&self.shared.permits).acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let shared = Arc::clone(&self.shared);
        let work = move || {
            // Held until the read ends, also when the asker has gone away.
            let _permit = permit;
            let idle = shared.idle.lock().pop();
            let mut connection = match idle {
                Some(connection) => connection,
                None => schema::open_reader(&shared.path)?,
            };
            let result = read(&mut connection);
            // A connection that failed is not used again.
            if result.is_ok() {
                shared.idle.lock().push(connection);
            }
            result
        };
        self.shared.tasks.spawn_blocking("store-read", work).await.unwrap_or(Err(StoreError::Panicked))
    }

    /// Refuses further reads and closes the connections that rest.
    pub(crate) fn close(&self) {
        self.shared.permits.close();
        self.shared.idle.lock().clear();
    }
}
