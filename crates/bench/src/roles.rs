//! Small servers that a comparison needs, each run as a process of its own so that its cost can be told apart.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const HEAD_LIMIT: usize = 64 * 1024;

/// Answers every request with status 200 and 128 bytes. Prints its address on standard output first.
///
/// # Errors
/// The listener cannot be opened.
pub(crate) async fn upstream() -> Result<()> {
    let body = "u".repeat(128);
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let answer: &'static [u8] = Vec::leak(answer.into_bytes());
    serve(move |client| fixed(client, answer)).await
}

/// The do-nothing proxy, the limit L of `70` section 1: parses the head, forwards bytes over one upstream connection
/// per client connection, decides nothing.
///
/// # Errors
/// The listener cannot be opened.
pub(crate) async fn limit(upstream: SocketAddr) -> Result<()> {
    serve(move |client| forward(client, upstream)).await
}

async fn serve<F, R>(handle: F) -> Result<()>
where
    F: Fn(TcpStream) -> R,
    R: Future<Output = Result<()>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    announce(listener.local_addr()?);
    loop {
        let (client, _) = listener.accept().await?;
        client.set_nodelay(true)?;
        let work = handle(client);
        // A role ends with its process; nobody waits for its connections.
        tokio::spawn(async move {
            // A peer that goes away ends its connection; there is nobody to tell.
            let _ = work.await;
        });
    }
}

#[expect(clippy::print_stdout, reason = "the parent process reads the address")]
fn announce(address: SocketAddr) {
    println!("{address}");
}

async fn fixed(mut client: TcpStream, answer: &'static [u8]) -> Result<()> {
    let mut buffer = Vec::with_capacity(8 * 1024);
    while let Some(head) = request_head(&mut client, &mut buffer).await? {
        buffer.drain(..head);
        client.write_all(answer).await?;
    }
    Ok(())
}

async fn forward(mut client: TcpStream, upstream: SocketAddr) -> Result<()> {
    let mut server = TcpStream::connect(upstream).await?;
    server.set_nodelay(true)?;
    let mut request = Vec::with_capacity(8 * 1024);
    let mut answer = Vec::with_capacity(8 * 1024);
    while let Some(head) = request_head(&mut client, &mut request).await? {
        server.write_all(request.get(..head).context("head")?).await?;
        request.drain(..head);
        let length = response_length(&mut server, &mut answer).await?;
        client.write_all(answer.get(..length).context("answer")?).await?;
        answer.drain(..length);
    }
    Ok(())
}

/// Reads until `buffer` holds one whole request head without a body and returns its length; `None` at end of stream.
async fn request_head(client: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<Option<usize>> {
    loop {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        if let httparse::Status::Complete(head) = httparse::Request::new(&mut headers).parse(buffer)? {
            return Ok(Some(head));
        }
        if buffer.len() > HEAD_LIMIT {
            bail!("request head too large");
        }
        if client.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

/// Reads until `buffer` holds one whole answer with `Content-Length` and returns its length.
async fn response_length(server: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<usize> {
    loop {
        if server.read_buf(buffer).await? == 0 {
            bail!("upstream closed");
        }
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut response = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(head) = response.parse(buffer)? else { continue };
        let body = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
        let body: usize = std::str::from_utf8(body.context("no content-length")?.value)?.trim().parse()?;
        while buffer.len() < head + body {
            if server.read_buf(buffer).await? == 0 {
                bail!("upstream closed");
            }
        }
        return Ok(head + body);
    }
}
