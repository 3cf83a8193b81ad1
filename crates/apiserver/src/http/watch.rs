//! Watches (SPEC 60 §9): the state at first where asked for, then every change, each encoded once for all watchers.
//!
//! ```text
//! Initial ──(state sent; bookmark if it was asked for)──▶ Following ──(timeout, shutdown, CRD change)──▶ end
//!                                                             └──(too old, too slow)──▶ ERROR 410 ──────▶ end
//! ```
//!
//! A stream owns its position and a few lines; a client that goes away drops it, which frees everything at once.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, UPGRADE};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Call;
use super::body::Body;
use super::list::wait_for;
use super::meta;
use super::negotiate::{MetaVersion, Shape};
use super::options::ListOptions;
use super::respond::Answer;
use super::select::Selection;
use super::view::{self, View};
use crate::cache::WatchStream;
use crate::metrics::Metrics;
use crate::status::ApiError;
use crate::store::{Event, EventKind, Object, WatchError, watch_line};
use crate::table::{IncludeObject, ListMeta, PartialObject, Printer, TableOptions};

/// Without `timeoutSeconds` a watch ends after 30 to 60 minutes, so that reconnects spread.
const SHORTEST_DEFAULT: Duration = Duration::from_mins(30);
/// Bookmarks come about once a minute.
const BOOKMARK_EVERY: Duration = Duration::from_mins(1);
/// The last bookmark comes this long before the end.
const LAST_BOOKMARK: Duration = Duration::from_secs(2);

/// Answers a watch: the head at once, the body as things happen.
///
/// # Errors
/// Those of the options; what goes wrong later is an ERROR line.
pub(super) async fn watch(call: &Call) -> Result<Answer, ApiError> {
    if call.headers.get(UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket")) {
        return Err(ApiError::bad_request("watching over a WebSocket is not supported; watch over plain HTTP instead"));
    }
    let options = ListOptions::parse(&call.query, true)?;
    let selection = Selection::parse(&call.target, &options)?;
    let shape = call.representation.shape;
    let include = IncludeObject::parse(call.query.get("includeObject"))?;
    let shared = &call.shared;
    let (cluster, resource) = (call.target.cluster, call.target.storage());
    let from = options.resource_version.unwrap_or(0);
    let sends_state = options.send_initial_events.unwrap_or(from == 0);
    if sends_state && from > 0 {
        wait_for(call, from).await?;
    }
    let mut initial = VecDeque::new();
    let from = if sends_state || from == 0 {
        let snapshot = shared.store.snapshot(cluster, &resource);
        if sends_state {
            initial = snapshot.iter().filter(|object| selection.matches(object)).cloned().collect();
        }
        snapshot.revision
    } else {
        from
    };
    let jitter = |base: Duration| base.mul_f64(0.75 + shared.random.f64() / 2.0);
    let lasts = match options.timeout_seconds {
        Some(seconds) => Duration::from_secs(seconds),
        None => SHORTEST_DEFAULT.mul_f64(1.0 + shared.random.f64()),
    };
    let now = Instant::now();
    let ends = now.checked_add(lasts).unwrap_or_else(|| now + SHORTEST_DEFAULT);
    let mut watcher = Watcher {
        lines: Lines {
            printer: Printer::new(&call.target.resource, &call.target.version),
            view: call.view(),
            shape,
            include,
            sent_columns: false,
            clock: shared.clock.clone(),
        },
        selection,
        events: None,
        initial,
        pending: VecDeque::new(),
        initial_end: (options.send_initial_events == Some(true) && options.allow_bookmarks).then_some(from),
        bookmarks: options.allow_bookmarks.then(|| Bookmarks {
            last: from,
            next: now + jitter(BOOKMARK_EVERY),
            every: jitter(BOOKMARK_EVERY),
            closing: ends.checked_sub(LAST_BOOKMARK).filter(|at| *at > now),
        }),
        ends,
        shutdown: shared.tasks.shutdown().clone(),
        open: OpenWatch::new(&shared.metrics),
    };
    match shared.store.watch(cluster, &resource, from) {
        Ok(events) => watcher.events = Some(events),
        Err(error) => watcher.fail(&watch_error(&error)),
    }
    let frames = stream::unfold(watcher, |mut watcher| async move {
        let frame = watcher.next().await?;
        watcher.open.0.watch_events.inc();
        Some((frame, watcher))
    });
    let mut answer = Answer::new(Body::stream(frames));
    *answer.status_mut() = StatusCode::OK;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    Ok(answer)
}

/// Counts a watch while it lives.
struct OpenWatch(Metrics);

impl OpenWatch {
    fn new(metrics: &Metrics) -> Self {
        metrics.watches.inc();
        Self(metrics.clone())
    }
}

impl Drop for OpenWatch {
    fn drop(&mut self) {
        self.0.watches.dec();
    }
}

struct Bookmarks {
    /// The revision the last one carried.
    last: u64,
    next: Instant,
    every: Duration,
    /// When the one before the end is due.
    closing: Option<Instant>,
}

struct Watcher {
    lines: Lines,
    selection: Selection,
    /// `None` once there is nothing more to come.
    events: Option<WatchStream>,
    initial: VecDeque<Arc<Object>>,
    pending: VecDeque<Bytes>,
    /// The revision for the bookmark that ends the initial state.
    initial_end: Option<u64>,
    bookmarks: Option<Bookmarks>,
    ends: Instant,
    shutdown: CancellationToken,
    open: OpenWatch,
}

impl Watcher {
    /// The next line; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(line) = self.pending.pop_front() {
                return Some(line);
            }
            let line = if let Some(object) = self.initial.pop_front() {
                self.lines.object(EventKind::Added, &object).map(Some)
            } else if let Some(revision) = self.initial_end.take() {
                self.lines.bookmark(revision, true).map(Some)
            } else {
                self.advance().await?
            };
            match line {
                Ok(line) => self.pending.extend(line),
                Err(error) => self.fail(&error),
            }
        }
    }

    /// One last line, then the end.
    fn fail(&mut self, error: &ApiError) {
        self.initial.clear();
        self.initial_end = None;
        self.events = None;
        self.pending.push_back(error_line(error));
    }

    /// Waits for whatever comes next, which need not be a line; `None` at the end.
    async fn advance(&mut self) -> Option<Result<Option<Bytes>, ApiError>> {
        let wake = match &self.bookmarks {
            Some(bookmarks) => bookmarks.closing.map_or(bookmarks.next, |closing| bookmarks.next.min(closing)),
            None => self.ends,
        };
        let ends = self.ends;
        let events = self.events.as_mut()?;
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => None,
            event = events.next() => match event {
                None => None,
                Some(Ok(event)) => Some(self.lines.event(&self.selection, &event)),
                Some(Err(error)) => Some(Err(watch_error(&error))),
            },
            () = tokio::time::sleep_until(wake.min(ends)) => {
                if Instant::now() >= ends {
                    return None;
                }
                Some(self.mark())
            }
        }
    }

    /// A bookmark, if something changed since the last one and everything before was delivered.
    fn mark(&mut self) -> Result<Option<Bytes>, ApiError> {
        let (Some(bookmarks), Some(events)) = (&mut self.bookmarks, &self.events) else { return Ok(None) };
        let now = Instant::now();
        if bookmarks.closing.is_some_and(|at| at <= now) {
            bookmarks.closing = None;
        }
        if bookmarks.next <= now {
            bookmarks.next = now + bookmarks.every;
        }
        let Some(revision) = events.progress().filter(|revision| *revision > bookmarks.last) else { return Ok(None) };
        bookmarks.last = revision;
        self.lines.bookmark(revision, false).map(Some)
    }
}

/// Makes the lines of one watch.
struct Lines {
    view: View,
    printer: Printer,
    shape: Shape,
    include: IncludeObject,
    sent_columns: bool,
    clock: tidegate_runtime::Clock,
}

impl Lines {
    /// The line of an event, if the selection sees it (SPEC 60 §9, selector transitions).
    fn event(&mut self, selection: &Selection, event: &Event) -> Result<Option<Bytes>, ApiError> {
        if !selection.has_namespace(&event.object) {
            return Ok(None);
        }
        if selection.is_all() {
            if self.shape == Shape::Whole && self.view.is_stored_form(&event.object) {
                return Ok(Some(event.line().clone()));
            }
            return self.object(event.kind, &event.object).map(Some);
        }
        let before = event.previous.as_ref().filter(|previous| selection.matches(previous));
        let kind = match (event.kind, before, selection.matches(&event.object)) {
            (EventKind::Deleted, _, true) => EventKind::Deleted,
            (EventKind::Modified, Some(_), true) => EventKind::Modified,
            (EventKind::Added, _, true) | (EventKind::Modified, None, true) => EventKind::Added,
            (EventKind::Modified, Some(previous), false) => {
                // The old object, at the revision of the change.
                let mut value = self.view.value(previous)?;
                meta::of(&mut value).insert("resourceVersion".to_owned(), event.revision.to_string().into());
                return self.value(EventKind::Deleted, &value).map(Some);
            }
            (EventKind::Added | EventKind::Deleted, _, false) | (EventKind::Modified, None, false) => return Ok(None),
        };
        self.object(kind, &event.object).map(Some)
    }

    fn object(&mut self, kind: EventKind, object: &Object) -> Result<Bytes, ApiError> {
        match self.shape {
            Shape::Whole => Ok(watch_line(kind, &self.view.bytes(object)?)),
            Shape::Metadata(_) | Shape::Table(_) => {
                let value = self.view.value(object)?;
                self.value(kind, &value)
            }
        }
    }

    fn value(&mut self, kind: EventKind, value: &Value) -> Result<Bytes, ApiError> {
        let shaped = match self.shape {
            Shape::Whole => view::json(value)?,
            Shape::Metadata(version) => view::json(&PartialObject::new(value, version.api_version()))?,
            Shape::Table(version) => self.table(value, version)?,
        };
        Ok(watch_line(kind, &shaped))
    }

    fn table(&mut self, value: &Value, version: MetaVersion) -> Result<Bytes, ApiError> {
        let options = TableOptions {
            api_version: version.api_version(),
            include: self.include,
            with_columns: !std::mem::replace(&mut self.sent_columns, true),
            now: self.clock.now(),
        };
        let resource_version = meta::text(value, "resourceVersion").to_owned();
        let metadata = ListMeta { resource_version, ..ListMeta::default() };
        view::json(&self.printer.table([value], metadata, options))
    }

    fn bookmark(&mut self, revision: u64, ends_initial: bool) -> Result<Bytes, ApiError> {
        let mut metadata = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        if ends_initial {
            meta::set(&mut metadata, "annotations", json!({"k8s.io/initial-events-end": "true"}));
        }
        let (kind, api_version) = match self.shape {
            Shape::Metadata(version) => ("PartialObjectMetadata", version.api_version()),
            Shape::Whole | Shape::Table(_) => (&*self.view.resource.kind, self.view.api_version.as_str()),
        };
        let object = json!({"kind": kind, "apiVersion": api_version, "metadata": metadata});
        let object = match self.shape {
            Shape::Table(version) => self.table(&object, version)?,
            Shape::Whole | Shape::Metadata(_) => view::json(&object)?,
        };
        Ok(line("BOOKMARK", &object))
    }
}

fn watch_error(error: &WatchError) -> ApiError {
    match error {
        WatchError::Expired { .. } | WatchError::Lagged { .. } => ApiError::expired(error.to_string()),
        WatchError::Store(error) => super::store_error(error),
    }
}

fn error_line(error: &ApiError) -> Bytes {
    line("ERROR", error.to_json().as_bytes())
}

fn line(kind: &str, object: &[u8]) -> Bytes {
    let parts: [&[u8]; 5] = [b"{\"type\":\"", kind.as_bytes(), b"\",\"object\":", object, b"}\n"];
    Bytes::from(parts.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_is_gone_ends_a_watch_with_one_error_line() {
        let error = watch_error(&WatchError::Expired { requested: 1, oldest: 4423 });
        let line: Value = serde_json::from_slice(&error_line(&error)).unwrap();
        assert_eq!(line["type"], "ERROR");
        assert_eq!(
            (&line["object"]["code"], &line["object"]["reason"], &line["object"]["message"]),
            (&json!(410), &json!("Expired"), &json!("too old resource version: 1 (4423)"))
        );
    }
}
