//! The demo's sample service: says hello and shows who the gateway says the caller is.

use std::io;
use std::net::SocketAddr;

use axum::Router;
use axum::extract::Request;
use tidegate_runtime::Tasks;
use tokio::net::TcpListener;

/// A running sample service on a free loopback port.
pub(super) struct SampleUpstream {
    address: SocketAddr,
    tasks: Tasks,
}

impl SampleUpstream {
    /// Starts it; fails when there is no free port.
    pub(super) async fn start() -> io::Result<Self> {
        let (address, tasks) = serve(|_| Router::new().fallback(greet)).await?;
        Ok(Self { address, tasks })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for SampleUpstream {
    fn drop(&mut self) {
        self.tasks.shutdown().cancel();
    }
}

/// Serves the router made for a free loopback address until the returned tasks are shut down.
pub(super) async fn serve(router: impl FnOnce(SocketAddr) -> Router) -> io::Result<(SocketAddr, Tasks)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let router = router(address);
    let tasks = Tasks::new();
    let stopped = tasks.shutdown().clone().cancelled_owned();
    tasks.spawn("demo server", async move {
        // The demo ends with its process; a failing accept loop shows as a failing step.
        let _ = axum::serve(listener, router).with_graceful_shutdown(stopped).await;
    });
    Ok((address, tasks))
}

async fn greet(request: Request) -> String {
    let forwarded = |name: &str| {
        let value = request.headers().get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or("-").to_owned()
    };
    format!(
        "hello from the sample service\n{} {}\nX-Forwarded-Host: {}\nX-Request-Id: {}\n",
        request.method(),
        request.uri().path(),
        forwarded("x-forwarded-host"),
        forwarded("x-request-id"),
    )
}
