use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::{AddressPolicyOptions, Tasks};

/// Answers each connection with what `answer` makes of the request's first line.
async fn server(tasks: &Tasks, answer: impl Fn(&str) -> String + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(tasks.spawn("sample-server", async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let Ok(byte) = socket.read_u8().await else { break };
                head.push(byte);
            }
            let head = String::from_utf8(head).unwrap();
            let _ = socket.write_all(answer(head.lines().next().unwrap_or_default()).as_bytes()).await;
        }
    }));
    address
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

fn redirect(target: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nlocation: {target}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
}

fn client(options: HttpClientOptions) -> (HttpClient, AddressPolicy) {
    let policy = AddressPolicy::with_lookup(AddressPolicyOptions::default(), |host, port| {
        Box::pin(async move {
            match host.as_str() {
                "issuer.test" => Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))]),
                "metadata.test" => Ok(vec![SocketAddr::from(([169, 254, 169, 254], port))]),
                _ => Err(io::Error::other("no such name")),
            }
        })
    });
    (http_client(&policy, options), policy)
}

#[tokio::test]
async fn a_document_is_fetched_by_name_and_by_address() {
    let tasks = Tasks::new();
    let address = server(&tasks, ok).await;
    let (client, _) = client(HttpClientOptions::default());
    for host in ["issuer.test", "127.0.0.1"] {
        let fetched =
            client.get(&format!("http://{host}:{}/keys?a=b", address.port()), "application/json").await.unwrap();
        assert_eq!(fetched.status, 200);
        assert_eq!(fetched.body, "GET /keys?a=b HTTP/1.1");
    }
}

#[tokio::test]
async fn redirects_are_followed_within_their_limit_and_each_hop_is_checked() {
    let tasks = Tasks::new();
    let address = server(&tasks, |line| match line.split(' ').nth(1).unwrap() {
        "/two" => redirect("/one"),
        "/one" => redirect("/end"),
        "/loop" => redirect("/loop"),
        "/metadata" => redirect("http://169.254.169.254/latest"),
        "/metadata-name" => redirect("http://metadata.test/latest"),
        "/hidden" => redirect("http://0x7f000001/"),
        "/scheme" => redirect("file:///etc/passwd"),
        "/nowhere" => redirect(""),
        _ => ok("end"),
    })
    .await;
    let (client, policy) = client(HttpClientOptions::default());
    let get = |path: &str| {
        let url = format!("http://issuer.test:{}{path}", address.port());
        let client = client.clone();
        async move { client.get(&url, "*/*").await }
    };
    assert_eq!(get("/two").await.unwrap().body, "end");
    assert!(matches!(get("/loop").await, Err(FetchError::TooManyRedirects(3))));
    assert!(matches!(get("/metadata").await, Err(FetchError::Address(ResolveError::Refused(_)))));
    assert!(matches!(get("/metadata-name").await, Err(FetchError::Address(ResolveError::Refused(_)))));
    for path in ["/hidden", "/scheme", "/nowhere"] {
        assert!(matches!(get(path).await, Err(FetchError::Redirect(_))), "{path}");
    }
    policy.set_own_ports([address.port()]);
    assert!(matches!(get("/end").await, Err(FetchError::Address(ResolveError::Refused(_)))));
}

#[tokio::test]
async fn long_and_slow_answers_are_refused() {
    let tasks = Tasks::new();
    let long = server(&tasks, |_| ok(&"x".repeat(2_000))).await;
    let slow = server(&tasks, |_| "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n1".to_owned()).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (client, _) = client(HttpClientOptions {
        max_body_bytes: 1_000,
        timeout: Duration::from_millis(300),
        ..HttpClientOptions::default()
    });
    let get = |address: SocketAddr| {
        let client = client.clone();
        async move { client.get(&format!("http://{address}/"), "*/*").await.unwrap_err() }
    };
    assert!(matches!(get(long).await, FetchError::TooLarge(1_000)));
    assert!(matches!(get(slow).await, FetchError::Transport(_)), "the connection ended inside the body");
    assert!(matches!(get(silent.local_addr().unwrap()).await, FetchError::Timeout(_)));
}

#[tokio::test]
async fn only_plain_http_urls_are_fetched() {
    let (client, _) = client(HttpClientOptions::default());
    for url in [
        "",
        "/keys",
        "ftp://issuer.test/",
        "file:///etc/passwd",
        "http://",
        "http://user@issuer.test/",
        "http://2130706433/",
        "http://127.1/",
        "http://0x7f.0.0.1:80/",
        "http://0177.0.0.1/",
    ] {
        assert!(matches!(client.get(url, "*/*").await, Err(FetchError::InvalidUrl(_))), "{url}");
    }
    let unknown = client.get("http://unknown.test/", "*/*").await.unwrap_err();
    assert_eq!(unknown.to_string(), "host `unknown.test` cannot be resolved");
}
