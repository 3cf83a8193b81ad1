//! Bodies on their way through, frame by frame: nothing is collected.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, header};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use parking_lot::Mutex;
use tidegate_runtime::{BoxBody, BoxError};
use tokio::time::Sleep;

use crate::exchange::{Exchange, Flag};
use crate::pool::Lease;

/// The body of a request on its way to the upstream.
///
/// It is shared with the request handler, which wants to know how far it got and may send it again on another
/// connection as long as nothing of it was taken.
#[derive(Debug, Clone)]
pub(crate) enum RequestBody {
    /// No body.
    Empty,
    /// The client's.
    Client(Arc<ClientBody>),
}

/// A client's body with what the handler wants to know about it. The lock is only ever contended when the
/// handler looks while the upstream connection reads.
#[derive(Debug)]
pub(crate) struct ClientBody {
    state: Mutex<ClientBodyState>,
}

#[derive(Debug)]
struct ClientBodyState {
    incoming: Incoming,
    limit: Option<u64>,
    progress: Progress,
}

/// How far a request body got.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Progress {
    /// Bytes handed on.
    pub(crate) bytes: u64,
    /// Something of it was taken, so it cannot be sent again.
    pub(crate) is_started: bool,
    /// It was read to its end.
    pub(crate) is_done: bool,
    /// Reading it failed: the client is gone or broke the framing.
    pub(crate) is_failed: bool,
    /// It is longer than allowed.
    pub(crate) is_too_large: bool,
}

impl RequestBody {
    /// Wraps a client's body; `limit` is the most bytes accepted (`exposure.maxRequestBody`).
    pub(crate) fn new(incoming: Incoming, limit: Option<u64>) -> Self {
        if incoming.is_end_stream() {
            return Self::Empty;
        }
        let state = ClientBodyState { incoming, limit, progress: Progress::default() };
        Self::Client(Arc::new(ClientBody { state: Mutex::new(state) }))
    }

    /// How far it got.
    pub(crate) fn progress(&self) -> Progress {
        match self {
            Self::Empty => Progress { is_done: true, ..Progress::default() },
            Self::Client(body) => body.state.lock().progress,
        }
    }
}

/// Why a request body ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestBodyError {
    /// Reading from the client failed.
    #[error("the request body ended early")]
    Read(#[source] hyper::Error),
    /// More bytes than allowed.
    #[error("the request body is longer than {0} bytes")]
    TooLarge(u64),
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        let body = match &*self {
            Self::Empty => return Poll::Ready(None),
            Self::Client(body) => body,
        };
        let mut state = body.state.lock();
        let state = &mut *state;
        let Some(frame) = ready!(Pin::new(&mut state.incoming).poll_frame(cx)) else {
            state.progress.is_done = true;
            return Poll::Ready(None);
        };
        let mut frame = frame.map_err(|error| {
            state.progress.is_failed = true;
            RequestBodyError::Read(error)
        })?;
        state.progress.is_started = true;
        if let Some(data) = frame.data_ref() {
            state.progress.bytes += data.len() as u64;
            if let Some(limit) = state.limit.filter(|limit| state.progress.bytes > *limit) {
                state.progress.is_too_large = true;
                return Poll::Ready(Some(Err(RequestBodyError::TooLarge(limit))));
            }
        } else if let Some(trailers) = frame.trailers_mut() {
            drop_forbidden_trailers(trailers);
        }
        state.progress.is_done |= state.incoming.is_end_stream();
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Client(body) => body.state.lock().incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Client(body) => body.state.lock().incoming.size_hint(),
        }
    }
}

/// Fields that decide about framing, routing or authentication have no business behind the body. SPEC 30 §6.5
fn drop_forbidden_trailers(trailers: &mut HeaderMap) {
    const FORBIDDEN: [HeaderName; 12] = [
        header::AUTHORIZATION,
        header::CONNECTION,
        header::CONTENT_ENCODING,
        header::CONTENT_LENGTH,
        header::CONTENT_TYPE,
        header::COOKIE,
        header::HOST,
        header::PROXY_AUTHORIZATION,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ];
    for name in &FORBIDDEN {
        trailers.remove(name);
    }
}

/// After the response headers: the longest time without a byte in either direction. SPEC 30 §6.8
const SILENCE: Duration = Duration::from_mins(5);

/// The body of an answer on its way to the client, with the record of its request.
pub(crate) struct ResponseBody {
    kind: Kind,
    exchange: Option<Box<Exchange>>,
}

enum Kind {
    Local(Bytes),
    Upstream(Streamed),
    InProcess(BoxBody),
}

struct Streamed {
    incoming: Incoming,
    lease: Option<Lease>,
    request_body: RequestBody,
    silence: Option<Silence>,
}

/// Watches a stream that waits; made when it first has to.
struct Silence {
    timer: Pin<Box<Sleep>>,
    /// Bytes in both directions when the timer was set.
    seen: u64,
}

/// Why a body was cut. The connection is aborted, so that the client sees that something is missing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResponseBodyError {
    /// The upstream's connection ended within the body.
    #[error("the upstream ended within the response body")]
    Upstream(#[source] hyper::Error),
    /// A service of this process failed within its body.
    #[error("the response body failed")]
    InProcess(#[source] BoxError),
    /// Nobody sent anything for too long.
    #[error("no byte in either direction for 300 s")]
    Silence,
}

impl ResponseBody {
    /// A body that is there already.
    pub(crate) fn local(body: Bytes, mut exchange: Option<Box<Exchange>>) -> Self {
        if let Some(exchange) = &mut exchange {
            exchange.is_complete = true;
            exchange.bytes_out = body.len() as u64;
        }
        Self { kind: Kind::Local(body), exchange }
    }

    /// The upstream's body; its connection goes back to the pool when it was read to its end.
    pub(crate) fn upstream(
        incoming: Incoming,
        lease: Lease,
        request_body: RequestBody,
        exchange: Box<Exchange>,
    ) -> Self {
        let is_empty = incoming.is_end_stream();
        let streamed = Streamed { incoming, lease: Some(lease), request_body, silence: None };
        let mut body = Self { kind: Kind::Upstream(streamed), exchange: Some(exchange) };
        if is_empty {
            body.finish();
        }
        body
    }

    /// The body of a service of this process.
    pub(crate) fn in_process(body: BoxBody, mut exchange: Box<Exchange>, is_head: bool) -> Self {
        exchange.is_complete = is_head || body.is_end_stream();
        Self { kind: Kind::InProcess(body), exchange: Some(exchange) }
    }

    /// Everything was read.
    fn finish(&mut self) {
        if let Some(exchange) = &mut self.exchange {
            exchange.is_complete = true;
        }
        if let Kind::Upstream(streamed) = &mut self.kind
            && let Some(lease) = streamed.lease.take()
            // An upstream that answered early may still be reading the request.
            && streamed.request_body.progress().is_done
        {
            lease.give_back();
        }
    }

    fn fail(&mut self, flag: Flag) {
        if let Some(exchange) = &mut self.exchange {
            exchange.flag = Some(flag);
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = ResponseBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ResponseBodyError>>> {
        let this = &mut *self;
        let sent = this.exchange.as_ref().map_or(0, |exchange| exchange.bytes_out);
        let polled = match &mut this.kind {
            Kind::Local(bytes) if bytes.is_empty() => return Poll::Ready(None),
            Kind::Local(bytes) => return Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Kind::Upstream(streamed) => match Pin::new(&mut streamed.incoming).poll_frame(cx) {
                Poll::Ready(frame) => frame.map(|frame| frame.map_err(ResponseBodyError::Upstream)),
                Poll::Pending if streamed.is_silent(cx, sent) => Some(Err(ResponseBodyError::Silence)),
                Poll::Pending => return Poll::Pending,
            },
            Kind::InProcess(body) => {
                ready!(Pin::new(body).poll_frame(cx)).map(|frame| frame.map_err(ResponseBodyError::InProcess))
            }
        };
        match &polled {
            None => this.finish(),
            Some(Ok(frame)) => {
                if let (Some(exchange), Some(data)) = (&mut this.exchange, frame.data_ref()) {
                    exchange.bytes_out += data.len() as u64;
                }
                if this.is_end_stream() {
                    this.finish();
                }
            }
            Some(Err(ResponseBodyError::Silence)) => this.fail(Flag::Timeout),
            Some(Err(_)) => this.fail(Flag::Reset),
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Local(bytes) => bytes.is_empty(),
            Kind::Upstream(streamed) => streamed.incoming.is_end_stream(),
            Kind::InProcess(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Local(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Upstream(streamed) => streamed.incoming.size_hint(),
            Kind::InProcess(body) => body.size_hint(),
        }
    }
}

impl Streamed {
    /// Called when there is nothing to read: has it been like that, in both directions, for too long?
    fn is_silent(&mut self, cx: &mut Context<'_>, sent: u64) -> bool {
        let moved = sent + self.request_body.progress().bytes;
        let silence =
            self.silence.get_or_insert_with(|| Silence { timer: Box::pin(tokio::time::sleep(SILENCE)), seen: moved });
        // Set anew only when it rings: a busy stream does not touch the timer.
        while silence.timer.as_mut().poll(cx).is_ready() {
            if silence.seen == moved {
                return true;
            }
            silence.seen = moved;
            silence.timer.set(tokio::time::sleep(SILENCE));
        }
        false
    }
}
