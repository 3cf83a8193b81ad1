//! The socket half: [`StrictIo`] scans what it reads and hands hyper only complete, correct heads.
//!
//! In the usual case (a read brings whole messages) bytes are checked in place in hyper's own buffer. Only the
//! beginning of a head that is not complete yet is copied aside until the rest arrives.
//!
//! A refused request is replaced by a tiny harmless one, so that its answer goes out through the HTTP library,
//! in order behind the answers of earlier pipelined requests. [`Wire::refusal`] tells the request handler which
//! one it is; the refused bytes themselves are gone by then.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::Violation;
use super::scanner::{Fault, Mode, Scanner};

/// Time limits of reading a request. SPEC 30 §6.5
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// From the first byte of a head to its last.
    pub head: Duration,
    /// Longest wait for the next byte of a body.
    pub body_idle: Duration,
    /// Window over which the rate of a body is averaged; the first one is free.
    pub body_window: Duration,
    /// Fewer bytes in a window of waiting than this end the request.
    pub body_window_bytes: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(10),
            body_idle: Duration::from_mins(1),
            body_window: Duration::from_secs(30),
            body_window_bytes: 500 * 30,
        }
    }
}

/// What socket and request handler of one connection tell each other.
#[derive(Debug, Default)]
pub struct Wire {
    /// Which request (from 1) is the stand-in of a refused one; 0: none.
    refused_request: AtomicU64,
    refusal: AtomicU8,
    body_fault: AtomicU8,
    /// Request number times 2, plus 1 when the answer was 101.
    upgrade: AtomicU64,
    /// Who waits for the outcome of an upgrade.
    waiting: AtomicWaker,
}

impl Wire {
    /// The violation for which request `number` (from 1) of this connection stands in.
    pub fn refusal(&self, number: u64) -> Option<Violation> {
        if self.refused_request.load(Ordering::Acquire) != number {
            return None;
        }
        Violation::from_code(self.refusal.load(Ordering::Acquire))
    }

    /// The violation that ended the body of the present request.
    pub fn body_fault(&self) -> Option<Violation> {
        Violation::from_code(self.body_fault.load(Ordering::Acquire))
    }

    /// To be told for every request that asked for an upgrade, before its answer is handed to the library.
    pub fn decide_upgrade(&self, number: u64, is_upgraded: bool) {
        self.upgrade.store(number << 1 | u64::from(is_upgraded), Ordering::Release);
        // hyper does not ask again by itself once it was told that there is nothing to read.
        self.waiting.wake();
    }

    fn upgrade(&self, number: u64) -> Option<bool> {
        let decided = self.upgrade.load(Ordering::Acquire);
        (decided >> 1 == number).then_some(decided & 1 == 1)
    }

    fn refuse(&self, number: u64, violation: Violation) {
        self.refusal.store(violation.code(), Ordering::Release);
        self.refused_request.store(number, Ordering::Release);
    }
}

/// First bytes of HTTP/2 with prior knowledge (RFC 9113 3.4).
const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// What hyper reads in place of a refused request.
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n";
/// What is still read and thrown away after the last answer, so that the client sees it before a reset.
const LINGER_BYTES: usize = 1024 * 1024;
const LINGER_TIME: Duration = Duration::from_secs(2);
/// Size of the first read of a connection.
const FIRST_READ: usize = 4096;

/// The protocol of a connection, from its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Everything that is not the preface of HTTP/2.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
}

/// A connection whose HTTP/1 requests are checked before anybody parses them.
#[derive(Debug)]
pub struct StrictIo<T> {
    inner: T,
    scanner: Scanner,
    wire: Arc<Wire>,
    timeouts: Timeouts,
    /// Bytes read and not handed on: `taken..released` may be, the rest is the beginning of a head or waits
    /// for the outcome of an upgrade.
    held: Vec<u8>,
    taken: usize,
    released: usize,
    end: End,
    timer: Option<Pin<Box<Sleep>>>,
    head_since: Option<Instant>,
    body: BodyWatch,
    linger: Linger,
    moved: Arc<AtomicU64>,
}

/// What comes after the bytes that may be handed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Open,
    /// Nothing more, ever: the stand-in is the last request.
    Refused,
    /// The body in flight fails.
    BodyFault,
}

/// How long and how productively the present body has been waited for.
#[derive(Debug, Default)]
struct BodyWatch {
    wait: Option<BodyWait>,
    /// Waiting time of the present window before the present wait.
    waited: Duration,
    /// Body bytes of the connection when the present window began.
    bytes_before: u64,
    /// The first window of a body is free.
    is_first_over: bool,
}

#[derive(Debug, Clone, Copy)]
struct BodyWait {
    since: Instant,
    /// The part that counts for the present window.
    in_window_since: Instant,
}

#[derive(Debug, Default)]
struct Linger {
    is_needed: bool,
    is_shut_down: bool,
    drained: usize,
}

impl<T: AsyncRead + AsyncWrite + Unpin> StrictIo<T> {
    /// Wraps a fresh connection.
    pub fn new(inner: T, timeouts: Timeouts) -> Self {
        Self {
            inner,
            scanner: Scanner::new(),
            wire: Arc::default(),
            timeouts,
            held: Vec::new(),
            taken: 0,
            released: 0,
            end: End::Open,
            timer: None,
            head_since: None,
            body: BodyWatch::default(),
            linger: Linger::default(),
            moved: Arc::default(),
        }
    }

    /// Bytes moved over the socket in both directions, for whoever looks whether anything still happens.
    pub fn moved(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.moved)
    }

    /// The side of the request handler.
    pub fn wire(&self) -> Arc<Wire> {
        Arc::clone(&self.wire)
    }

    /// Reads until the protocol is clear. Cancel safe. An early end counts as HTTP/1.
    pub async fn sniff(&mut self) -> io::Result<Protocol> {
        if self.held.capacity() == 0 {
            self.held.reserve(FIRST_READ);
        }
        loop {
            let known = self.held.len().min(H2_PREFACE.len());
            if self.held.get(..known) != H2_PREFACE.get(..known) {
                break;
            }
            if known == H2_PREFACE.len() {
                self.pass_through();
                return Ok(Protocol::Http2);
            }
            if self.inner.read_buf(&mut self.held).await? == 0 {
                break;
            }
        }
        self.scan_held(0);
        Ok(Protocol::Http1)
    }

    /// Hands everything on unseen: the protocol was negotiated as something else than HTTP/1.
    pub fn pass_through(&mut self) {
        self.scanner.pass_through();
        self.released = self.held.len();
    }

    /// The wrapped connection.
    pub fn get_ref(&self) -> &T {
        &self.inner
    }

    /// Scans `held` from `from` on.
    fn scan_held(&mut self, from: usize) {
        let scan = self.scanner.scan(self.held.get(from..).unwrap_or_default());
        if scan.release > 0 {
            self.released = from + scan.release;
        }
        self.settle(scan.fault);
    }

    /// Follows up on what a scan found; `held` is complete by now.
    fn settle(&mut self, fault: Option<Fault>) {
        match fault {
            None => {
                if self.scanner.mode() == Mode::Ignore && self.held.len() > self.released {
                    self.held.truncate(self.released);
                    self.linger.is_needed = true;
                }
            }
            Some(Fault::Request(violation)) => self.refuse(violation),
            Some(Fault::Body(violation)) => self.fail_body(violation),
        }
        if !self.scanner.is_in_head() {
            self.head_since = None;
        }
    }

    fn refuse(&mut self, violation: Violation) {
        self.wire.refuse(self.scanner.messages() + 1, violation);
        self.held.truncate(self.released);
        self.held.extend_from_slice(STAND_IN);
        self.released = self.held.len();
        self.end = End::Refused;
        self.linger.is_needed = true;
    }

    fn fail_body(&mut self, violation: Violation) {
        self.wire.body_fault.store(violation.code(), Ordering::Release);
        self.held.truncate(self.released);
        self.end = End::BodyFault;
        self.linger.is_needed = true;
    }

    fn note_written(&self, written: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(count)) = written {
            self.moved.fetch_add(*count as u64, Ordering::Relaxed);
        }
    }

    fn has_ready(&self) -> bool {
        self.taken < self.released
    }

    /// Copies released bytes out.
    fn hand_on(&mut self, buffer: &mut ReadBuf<'_>) {
        let ready = self.held.get(self.taken..self.released).unwrap_or_default();
        let count = ready.len().min(buffer.remaining());
        buffer.put_slice(ready.get(..count).unwrap_or_default());
        self.taken += count;
        if self.taken == self.released {
            if self.held.len() == self.released {
                // Idle connections keep no buffer.
                self.held = Vec::new();
            } else {
                self.held.drain(..self.released);
            }
            self.taken = 0;
            self.released = 0;
        }
    }

    /// Takes in what was read behind `before` in hyper's buffer; leaves there what may be handed on.
    fn take_in(&mut self, buffer: &mut ReadBuf<'_>, before: usize) {
        let read = buffer.filled().get(before..).unwrap_or_default();
        match self.scanner.mode() {
            Mode::Passthrough => {}
            Mode::AwaitUpgrade => {
                self.held.extend_from_slice(read);
                buffer.set_filled(before);
            }
            Mode::Ignore => {
                self.linger.is_needed = true;
                buffer.set_filled(before);
            }
            Mode::Scanning if self.held.is_empty() => {
                let scan = self.scanner.scan(read);
                let keep = before + scan.release;
                if keep < buffer.filled().len() {
                    // From here on it is as if the rest had been held all the time.
                    self.held.extend_from_slice(buffer.filled().get(keep..).unwrap_or_default());
                    buffer.set_filled(keep);
                }
                self.settle(scan.fault);
            }
            Mode::Scanning => {
                let from = self.held.len();
                self.held.extend_from_slice(read);
                buffer.set_filled(before);
                self.scan_held(from);
            }
        }
    }

    fn time_is_up(&mut self, cx: &mut Context<'_>, until: Instant) -> bool {
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        // The timer is moved only when it would ring too late, not on each request.
        if timer.deadline() > until {
            timer.as_mut().reset(until);
        }
        while timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= until {
                return true;
            }
            timer.as_mut().reset(until);
        }
        false
    }

    /// Called when the socket has nothing to read: is the client too slow?
    fn check_patience(&mut self, cx: &mut Context<'_>) {
        if self.end != End::Open {
            return;
        }
        if self.scanner.is_in_head() {
            let since = *self.head_since.get_or_insert_with(Instant::now);
            if self.time_is_up(cx, since + self.timeouts.head) {
                self.refuse(Violation::HeadTimeout);
            }
        } else if self.scanner.is_in_body() {
            self.check_body_pace(cx);
        }
    }

    fn check_body_pace(&mut self, cx: &mut Context<'_>) {
        loop {
            let wait = *self.body.wait.get_or_insert_with(|| {
                let now = Instant::now();
                BodyWait { since: now, in_window_since: now }
            });
            let window_end = wait.in_window_since + self.timeouts.body_window.saturating_sub(self.body.waited);
            let wait_end = wait.since + self.timeouts.body_idle;
            if !self.time_is_up(cx, window_end.min(wait_end)) {
                return;
            }
            let now = Instant::now();
            let bytes = self.scanner.body_bytes() - self.body.bytes_before;
            let is_slow = self.body.is_first_over && bytes < self.timeouts.body_window_bytes;
            if now >= wait_end || is_slow {
                self.fail_body(Violation::BodyTimeout);
                return;
            }
            self.body = BodyWatch {
                wait: Some(BodyWait { since: wait.since, in_window_since: now }),
                waited: Duration::ZERO,
                bytes_before: self.scanner.body_bytes(),
                is_first_over: true,
            };
        }
    }

    /// Called when bytes arrived: the client is not to blame for the time until the next read.
    fn note_arrival(&mut self) {
        if !self.scanner.is_in_body() {
            self.body = BodyWatch { bytes_before: self.scanner.body_bytes(), ..BodyWatch::default() };
        } else if let Some(wait) = self.body.wait.take() {
            self.body.waited += wait.in_window_since.elapsed();
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for StrictIo<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            if this.has_ready() {
                this.hand_on(buffer);
                return Poll::Ready(Ok(()));
            }
            match this.end {
                End::Open => {}
                // No waker: the answer to the stand-in ends the connection.
                End::Refused => return Poll::Pending,
                End::BodyFault => {
                    let text = this.wire.body_fault().map_or("bad body", Violation::text);
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, text)));
                }
            }
            if this.scanner.mode() == Mode::AwaitUpgrade {
                this.wire.waiting.register(cx.waker());
                match this.wire.upgrade(this.scanner.messages()) {
                    Some(is_upgraded) => {
                        this.scanner.resume(is_upgraded);
                        this.scan_held(0);
                        continue;
                    }
                    None if this.held.len() >= FIRST_READ => return Poll::Pending,
                    None => {}
                }
            }
            let before = buffer.filled().len();
            if Pin::new(&mut this.inner).poll_read(cx, buffer)?.is_pending() {
                this.check_patience(cx);
                if this.has_ready() || this.end == End::BodyFault {
                    continue;
                }
                return Poll::Pending;
            }
            this.moved.fetch_add((buffer.filled().len() - before) as u64, Ordering::Relaxed);
            if buffer.filled().len() == before {
                // The end: a head that is not complete goes with it.
                return Poll::Ready(Ok(()));
            }
            this.take_in(buffer, before);
            this.note_arrival();
            if buffer.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for StrictIo<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.note_written(&written);
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    /// Closes the writing side; when the client may still be sending, reads on for a moment, because closing a
    /// socket with unread bytes resets the connection and can destroy the answer on its way.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.linger.is_shut_down {
            ready!(Pin::new(&mut this.inner).poll_shutdown(cx))?;
            this.linger.is_shut_down = true;
            this.linger.is_needed |= this.scanner.is_in_body();
            this.timer = this.linger.is_needed.then(|| Box::pin(tokio::time::sleep(LINGER_TIME)));
        }
        let Some(timer) = &mut this.timer else { return Poll::Ready(Ok(())) };
        let mut scratch = [0; 8192];
        loop {
            if timer.as_mut().poll(cx).is_ready() || this.linger.drained > LINGER_BYTES {
                return Poll::Ready(Ok(()));
            }
            let mut buffer = ReadBuf::new(&mut scratch);
            match Pin::new(&mut this.inner).poll_read(cx, &mut buffer) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => this.linger.drained += buffer.filled().len(),
                Poll::Ready(_) => return Poll::Ready(Ok(())),
            }
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, bytes);
        self.note_written(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}
