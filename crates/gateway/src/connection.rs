//! One client connection, as its requests see it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};

use http::HeaderValue;
use tidegate_policy::Scheme;

use crate::Shared;
use crate::framing::io::Wire;
use crate::tls::TlsFacts;

/// What does not change from request to request, with the header values that follow from it, built once.
pub(crate) struct Connection {
    pub(crate) shared: Arc<Shared>,
    pub(crate) scheme: Scheme,
    pub(crate) peer: SocketAddr,
    /// The peer is one of `exposure.trustedProxies`.
    pub(crate) is_peer_trusted: bool,
    pub(crate) forwarded_for: HeaderValue,
    pub(crate) forwarded_port: HeaderValue,
    pub(crate) tls: Option<TlsFacts>,
    /// `None` for HTTP/2.
    pub(crate) wire: Option<Arc<Wire>>,
    requests: AtomicU64,
    active: AtomicUsize,
    idle_since: AtomicI64,
    resets: Resets,
}

/// Streams that a client reset before their answer (HTTP/2), in windows of 10 s. SPEC 30 §6.5
#[derive(Default)]
struct Resets {
    window: AtomicI64,
    count: AtomicUsize,
}

/// Streams reset before their answer in 10 s that end a connection.
const MAX_RESETS: usize = 200;
const RESET_WINDOW_SECONDS: i64 = 10;

impl Connection {
    pub(crate) fn new(
        shared: Arc<Shared>,
        scheme: Scheme,
        peer: SocketAddr,
        own_port: u16,
        tls: Option<TlsFacts>,
        wire: Option<Arc<Wire>>,
    ) -> Self {
        let ip = peer.ip().to_canonical();
        // An address has no character that a header value must not have.
        let forwarded_for = HeaderValue::from_str(&ip.to_string()).unwrap_or(HeaderValue::from_static("unknown"));
        Self {
            scheme,
            peer,
            is_peer_trusted: shared.options.trusted_proxies.iter().any(|network| network.contains(ip)),
            forwarded_for,
            forwarded_port: HeaderValue::from(own_port),
            tls,
            wire,
            requests: AtomicU64::new(0),
            active: AtomicUsize::new(0),
            idle_since: AtomicI64::new(shared.clock.unix_seconds()),
            resets: Resets::default(),
            shared,
        }
    }

    /// Number of the next request, from 1.
    pub(crate) fn next_number(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn begin(&self) {
        self.active.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn end(&self) {
        self.idle_since.store(self.shared.clock.unix_seconds(), Ordering::Relaxed);
        self.active.fetch_sub(1, Ordering::Relaxed);
    }

    /// For how many seconds no request has been in progress.
    pub(crate) fn idle_seconds(&self) -> i64 {
        if self.active.load(Ordering::Relaxed) > 0 {
            return 0;
        }
        self.shared.clock.unix_seconds() - self.idle_since.load(Ordering::Relaxed)
    }

    /// Counts a stream that ended before its answer.
    pub(crate) fn note_reset(&self) {
        let now = self.shared.clock.unix_seconds();
        let window = self.resets.window.load(Ordering::Relaxed);
        if now - window >= RESET_WINDOW_SECONDS {
            self.resets.window.store(now, Ordering::Relaxed);
            self.resets.count.store(0, Ordering::Relaxed);
        }
        self.resets.count.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the client resets streams faster than anybody honest does.
    pub(crate) fn resets_too_often(&self) -> bool {
        self.resets.count.load(Ordering::Relaxed) > MAX_RESETS
    }
}
