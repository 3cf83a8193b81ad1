//! Raw bytes in both directions behind an answer 101. SPEC 30 §6.9

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tidegate_runtime::Clock;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::exchange::Exchange;

/// A tunnel in which nobody sends anything is closed after this time.
const IDLE: Duration = Duration::from_hours(1);

/// Copies until both sides have ended; a side that ends first only ends its direction. The record of the request
/// ends with the tunnel.
pub(crate) async fn tunnel(client: OnUpgrade, upstream: OnUpgrade, mut exchange: Box<Exchange>) {
    // Either side can be gone by now; then there is nothing to copy.
    let Ok((client, upstream)) = futures::future::try_join(client, upstream).await else { return };
    let clock = exchange.connection.shared.clock.clone();
    let last = Arc::new(AtomicI64::new(clock.unix_seconds()));
    let watched = |io| Watched { io, last: Arc::clone(&last), clock: clock.clone() };
    let (mut client, mut upstream) = (watched(TokioIo::new(client)), watched(TokioIo::new(upstream)));
    let copy = tokio::io::copy_bidirectional(&mut client, &mut upstream);
    tokio::select! {
        copied = copy => {
            if let Ok((_, from_upstream)) = copied {
                exchange.bytes_out += from_upstream;
                exchange.is_complete = true;
            }
        }
        () = idle(&last, &clock) => {}
    }
}

async fn idle(last: &AtomicI64, clock: &Clock) {
    let limit = i64::try_from(IDLE.as_secs()).unwrap_or(i64::MAX);
    loop {
        let left = last.load(Ordering::Relaxed) + limit - clock.unix_seconds();
        let Ok(left) = u64::try_from(left) else { return };
        if left == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_secs(left)).await;
    }
}

/// Notes when the last bytes arrived.
struct Watched<T> {
    io: T,
    last: Arc<AtomicI64>,
    clock: Clock,
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.io).poll_read(cx, buffer);
        if result.is_ready() {
            self.last.store(self.clock.unix_seconds(), Ordering::Relaxed);
        }
        result
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
