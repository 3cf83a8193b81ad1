use http_body_util::BodyExt as _;
use tidegate_runtime::AddressPolicyOptions;
use tidegate_testkit::upstream::{RawUpstream, Seen, Upstream, UpstreamOptions};

use super::*;

fn endpoints() -> Endpoints {
    Endpoints::new(
        Clock::system(),
        Random::system(),
        Tasks::new(),
        AddressPolicy::new(AddressPolicyOptions::default()),
        PoolLimits::default(),
        PoolMetrics::default(),
    )
}

fn plain(address: std::net::SocketAddr) -> EndpointKey {
    EndpointKey { target: Target::Address(address), protocol: WireProtocol::Http1, tls: None }
}

fn request(method: Method, path: &str) -> Request<RequestBody> {
    Request::builder().method(method).uri(path).header("host", "test").body(RequestBody::Empty).unwrap()
}

/// Sends, reads the whole answer and gives the connection back, as the request handler does.
async fn exchange(pool: &Pool, method: Method, path: &str) -> Result<(Option<Seen>, u32), Box<Failed>> {
    let answered = pool.send(request(method, path)).await?;
    let body = answered.response.into_body().collect().await.unwrap().to_bytes();
    answered.lease.give_back();
    Ok((serde_json::from_slice(&body).ok(), answered.tries))
}

/// An address where nobody listens.
fn unused_address() -> std::net::SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn one_connection_serves_request_after_request() {
    let upstream = Upstream::start().await.unwrap();
    let pool = endpoints().pool([plain(upstream.address())]);
    for _ in 0..20 {
        exchange(&pool, Method::GET, "/a").await.unwrap();
    }
    assert_eq!((upstream.connections(), upstream.requests()), (1, 20));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_never_outnumber_concurrent_requests() {
    let upstream = Upstream::start().await.unwrap();
    let pool = endpoints().pool([plain(upstream.address())]);
    for _ in 0..30 {
        let round = (0..8).map(|_| exchange(&pool, Method::GET, "/a"));
        for result in futures::future::join_all(round).await {
            result.unwrap();
        }
    }
    assert!(upstream.connections() <= 8, "{} connections", upstream.connections());
}

#[tokio::test]
async fn routes_to_the_same_endpoint_share_its_connections() {
    let upstream = Upstream::start().await.unwrap();
    let endpoints = endpoints();
    let (first, second) = (endpoints.pool([plain(upstream.address())]), endpoints.pool([plain(upstream.address())]));
    exchange(&first, Method::GET, "/a").await.unwrap();
    exchange(&second, Method::GET, "/b").await.unwrap();
    drop(first);
    exchange(&second, Method::GET, "/c").await.unwrap();
    assert_eq!(upstream.connections(), 1);
    drop(second);
    assert_eq!(endpoints.sweep(), 0);
}

#[tokio::test]
async fn endpoints_take_turns() {
    let start = |name: &str| Upstream::start_with(UpstreamOptions { name: name.to_owned(), ..Default::default() });
    let (a, b) = (start("a").await.unwrap(), start("b").await.unwrap());
    let pool = endpoints().pool([plain(a.address()), plain(b.address())]);
    for _ in 0..10 {
        exchange(&pool, Method::GET, "/").await.unwrap();
    }
    assert_eq!((a.requests(), b.requests()), (5, 5));
}

#[tokio::test]
async fn a_connect_failure_is_tried_on_another_endpoint_for_any_method() {
    let upstream = Upstream::start().await.unwrap();
    let pool = endpoints().pool([plain(unused_address()), plain(upstream.address())]);
    for _ in 0..10 {
        exchange(&pool, Method::POST, "/").await.unwrap();
    }
    assert_eq!(upstream.requests(), 10);
}

#[tokio::test]
async fn an_endpoint_is_skipped_after_five_connect_errors_unless_it_is_the_last() {
    let upstream = Upstream::start().await.unwrap();
    let endpoints = endpoints();
    let dead = plain(unused_address());
    let pool = endpoints.pool([dead.clone(), plain(upstream.address())]);
    let mut tries = 0;
    for _ in 0..40 {
        tries += exchange(&pool, Method::GET, "/").await.unwrap().1;
    }
    assert_eq!(tries, 40 + 5);

    let alone = endpoints.pool([dead]);
    let failed = exchange(&alone, Method::GET, "/").await.unwrap_err();
    assert!(matches!(failed.error, SendError::Connect(_)));
    assert_eq!(failed.tries, 3);
}

#[tokio::test]
async fn a_reused_connection_that_dies_is_replaced_once_for_repeatable_methods_only() {
    let upstream = Upstream::start().await.unwrap();
    let pool = endpoints().pool([plain(upstream.address())]);
    exchange(&pool, Method::GET, "/").await.unwrap();
    let (seen, tries) = exchange(&pool, Method::GET, "/reset-once/a").await.unwrap();
    assert_eq!((seen.unwrap().connection, tries), (2, 2));

    exchange(&pool, Method::GET, "/").await.unwrap();
    let failed = exchange(&pool, Method::POST, "/reset-once/b").await.unwrap_err();
    assert!(matches!(failed.error, SendError::Reset(_)), "{failed:?}");
    assert_eq!(failed.tries, 1);

    // A fresh connection that dies is not a stale one: no second try.
    let requests = upstream.requests();
    let failed = exchange(&pool, Method::GET, "/reset").await.unwrap_err();
    assert!(matches!(failed.error, SendError::Reset(_)));
    assert_eq!(upstream.requests(), requests + 1);
}

#[tokio::test]
async fn a_response_that_began_is_never_asked_for_again() {
    let upstream = RawUpstream::start("HTTP/1.1 200 OK\r\nContent-Le").await.unwrap();
    let pool = endpoints().pool([plain(upstream.address())]);
    let failed = exchange(&pool, Method::GET, "/").await.unwrap_err();
    assert!(matches!(failed.error, SendError::Reset(_)), "{failed:?}");
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn malformed_and_oversized_response_heads_are_protocol_errors() {
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: 1\r\n".repeat(101));
    let large = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(65 * 1024));
    for answer in ["garbage\r\n\r\n".to_owned(), "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n".to_owned(), many, large]
    {
        let upstream = RawUpstream::start(answer.clone()).await.unwrap();
        let pool = endpoints().pool([plain(upstream.address())]);
        let failed = exchange(&pool, Method::GET, "/").await.unwrap_err();
        assert!(matches!(failed.error, SendError::Protocol(_)), "{failed:?} for {answer:.40}");
    }
}

#[tokio::test]
async fn addresses_that_the_policy_refuses_are_never_connected_to() {
    let upstream = Upstream::start().await.unwrap();
    let addresses = AddressPolicy::new(AddressPolicyOptions::default());
    addresses.set_own_ports([upstream.address().port()]);
    let network = (Clock::system(), Random::system(), Tasks::new());
    let endpoints =
        Endpoints::new(network.0, network.1, network.2, addresses, PoolLimits::default(), PoolMetrics::default());
    let failed = exchange(&endpoints.pool([plain(upstream.address())]), Method::GET, "/").await.unwrap_err();
    assert!(matches!(failed.error, SendError::NoEndpoint));
    let named = Target::Name { host: "127.0.0.1".to_owned(), port: upstream.address().port() };
    let key = EndpointKey { target: named, protocol: WireProtocol::Http1, tls: None };
    let failed = exchange(&endpoints.pool([key]), Method::GET, "/").await.unwrap_err();
    assert!(matches!(failed.error, SendError::NoEndpoint));
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test]
async fn http2_upstreams_share_one_connection() {
    let upstream = Upstream::start_with(UpstreamOptions { http2: true, ..UpstreamOptions::default() }).await.unwrap();
    let key = EndpointKey { target: Target::Address(upstream.address()), protocol: WireProtocol::Http2, tls: None };
    let pool = endpoints().pool([key]);
    let send = || async {
        let request = Request::builder().uri("http://test/a").body(RequestBody::Empty).unwrap();
        let answered = pool.send(request).await.unwrap();
        answered.response.into_body().collect().await.unwrap().to_bytes()
    };
    send().await;
    futures::future::join_all((0..20).map(|_| send())).await;
    assert_eq!((upstream.connections(), upstream.requests()), (1, 21));
}

#[tokio::test]
async fn names_are_resolved_and_connected_to() {
    let upstream = Upstream::start().await.unwrap();
    let named = Target::Name { host: "localhost".to_owned(), port: upstream.address().port() };
    let pool = endpoints().pool([EndpointKey { target: named, protocol: WireProtocol::Http1, tls: None }]);
    let (seen, _) = exchange(&pool, Method::GET, "/x?y=z").await.unwrap();
    assert_eq!(seen.unwrap().path, "/x?y=z");
}

#[tokio::test]
async fn an_upstream_without_endpoints_answers_at_once() {
    let failed = exchange(&endpoints().pool([]), Method::GET, "/").await.unwrap_err();
    assert!(matches!(failed.error, SendError::NoEndpoint));
}
