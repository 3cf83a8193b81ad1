//! The access log: JSON lines through a bounded queue to one writer thread (`70` R35).
//!
//! The request's side serializes into a buffer of its own and hands it over without a lock or a system call; when the
//! writer cannot keep up, records are dropped and counted, and traffic goes on.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use serde::Serialize;

use crate::Metrics;

/// How many records may wait.
const QUEUE_RECORDS: usize = 16_384;

/// How many bytes may wait.
const QUEUE_BYTES: usize = 16 << 20;

/// Size of the write buffer.
const BUFFER_BYTES: usize = 64 << 10;

/// How long a record may stay unwritten.
const FLUSH_INTERVAL: Duration = Duration::from_millis(100);

/// Takes records. Cheap to clone; clones share the queue. The last clone's end writes what waits.
#[derive(Clone)]
pub struct AccessLog {
    sink: Option<Arc<Sink>>,
}

struct Sink {
    sender: SyncSender<Vec<u8>>,
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
    thread: Thread,
}

#[derive(Default)]
struct Shared {
    queued_bytes: AtomicUsize,
    closing: AtomicBool,
    dropped: Counter,
}

impl AccessLog {
    /// No log: a record costs one branch.
    pub fn off() -> Self {
        Self { sink: None }
    }

    /// JSON lines to standard output.
    pub fn stdout() -> io::Result<Self> {
        Self::to(Box::new(io::stdout()))
    }

    /// JSON lines to `output`.
    pub fn to(output: Box<dyn Write + Send>) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(QUEUE_RECORDS);
        let shared = Arc::new(Shared::default());
        let for_writer = Arc::clone(&shared);
        let writer = std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || write_all(output, &receiver, &for_writer))?;
        let thread = writer.thread().clone();
        Ok(Self { sink: Some(Arc::new(Sink { sender, shared, writer: Mutex::new(Some(writer)), thread })) })
    }

    /// Whether records are written; lets a caller skip gathering them.
    pub fn is_on(&self) -> bool {
        self.sink.is_some()
    }

    /// Queues one record as a JSON line; never waits.
    pub fn record<T: Serialize>(&self, record: &T) {
        let Some(sink) = &self.sink else { return };
        let mut line = Vec::with_capacity(512);
        // Serializing into memory fails only for maps with keys that are no strings, which no record has.
        if serde_json::to_writer(&mut line, record).is_err() {
            sink.shared.dropped.inc();
            return;
        }
        line.push(b'\n');
        let size = line.len();
        let waiting = sink.shared.queued_bytes.fetch_add(size, Ordering::Relaxed);
        if waiting + size > QUEUE_BYTES || sink.sender.try_send(line).is_err() {
            sink.shared.queued_bytes.fetch_sub(size, Ordering::Relaxed);
            sink.shared.dropped.inc();
        }
    }

    /// How many records were dropped.
    pub fn dropped(&self) -> u64 {
        self.sink.as_ref().map_or(0, |sink| sink.shared.dropped.get())
    }

    /// Puts `tidegate_gateway_access_log_dropped_total` into the registry.
    pub fn register(&self, metrics: &Metrics) {
        let Some(sink) = &self.sink else { return };
        let dropped = sink.shared.dropped.clone();
        metrics.register(|registry| {
            registry.register(
                "tidegate_gateway_access_log_dropped",
                "Access log records dropped: the output was too slow",
                dropped,
            );
        });
    }

    /// Writes what waits and ends the writer; records that come later are dropped. Blocks until the output took them.
    pub fn close(&self) {
        if let Some(sink) = &self.sink {
            sink.close();
        }
    }
}

impl Sink {
    fn close(&self) {
        self.shared.closing.store(true, Ordering::Release);
        self.thread.unpark();
        if let Some(writer) = self.writer.lock().take() {
            // A writer that panicked has nothing left to wait for.
            let _ = writer.join();
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.close();
    }
}

impl std::fmt::Debug for AccessLog {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("AccessLog").field("on", &self.is_on()).finish_non_exhaustive()
    }
}

/// The writer thread. It wakes by time, not by record: a wake-up per record would cost the request a system call.
fn write_all(mut output: Box<dyn Write + Send>, receiver: &Receiver<Vec<u8>>, shared: &Shared) {
    let mut buffer = Vec::with_capacity(BUFFER_BYTES);
    let mut failed = false;
    loop {
        let closing = shared.closing.load(Ordering::Acquire);
        let mut taken = 0;
        while let Ok(line) = receiver.try_recv() {
            taken += 1;
            shared.queued_bytes.fetch_sub(line.len(), Ordering::Relaxed);
            if buffer.len() + line.len() > BUFFER_BYTES {
                flush(&mut output, &mut buffer, &mut failed);
            }
            buffer.extend_from_slice(&line);
        }
        flush(&mut output, &mut buffer, &mut failed);
        if closing {
            return;
        }
        // A busy queue is emptied sooner, so that a burst of one interval need not fit into it.
        let wait = if taken > QUEUE_RECORDS / 8 { FLUSH_INTERVAL / 20 } else { FLUSH_INTERVAL };
        std::thread::park_timeout(wait);
    }
}

fn flush(output: &mut dyn Write, buffer: &mut Vec<u8>, failed: &mut bool) {
    if buffer.is_empty() {
        return;
    }
    let result = output.write_all(buffer).and_then(|()| output.flush());
    buffer.clear();
    if let Err(error) = result
        && !*failed
    {
        *failed = true;
        tracing::error!(%error, "the access log cannot be written");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Lets nothing through until it is opened.
    struct Gate(Arc<Mutex<()>>, Memory);

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _open = self.0.lock();
            self.1.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_record_becomes_one_line_in_order() {
        let memory = Memory::default();
        let log = AccessLog::to(Box::new(memory.clone())).unwrap();
        for index in 0..1_000 {
            log.record(&json!({"index": index, "path": "/a\nb"}));
        }
        log.close();
        let text = String::from_utf8(memory.0.lock().clone()).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 1_000);
        assert!(lines.iter().enumerate().all(|(index, line)| line["index"] == index));
        assert_eq!(log.dropped(), 0);
    }

    #[test]
    fn records_are_dropped_and_counted_when_the_output_stands_still() {
        let (gate, memory) = (Arc::new(Mutex::new(())), Memory::default());
        let shut = gate.lock();
        let log = AccessLog::to(Box::new(Gate(Arc::clone(&gate), memory.clone()))).unwrap();
        let long = "x".repeat(64 << 10);
        for _ in 0..1_000 {
            log.record(&long);
        }
        let dropped = log.dropped();
        assert!(dropped > 700, "{dropped}");
        drop(shut);
        log.close();
        let lines = String::from_utf8(memory.0.lock().clone()).unwrap().lines().count() as u64;
        assert_eq!(lines + log.dropped(), 1_000);
    }

    #[test]
    fn no_log_takes_records_too() {
        let log = AccessLog::off();
        log.record(&json!({}));
        log.close();
        assert!(!log.is_on());
    }
}
