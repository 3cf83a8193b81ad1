//! A caller on one kept-alive connection, for tests that ask thousands of times.

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// An HTTP/1.1 connection that sends one GET at a time. It understands answers with `Content-Length` only.
pub struct KeepAlive {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl KeepAlive {
    /// Connects to `address` (`host:port`).
    ///
    /// # Errors
    /// Nobody listens there.
    pub async fn connect(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    /// The status of a GET to `host`, with an optional bearer token.
    ///
    /// # Errors
    /// The connection ends before the answer does, or the answer cannot be read.
    pub async fn get(&mut self, host: &str, path: &str, token: Option<&str>) -> io::Result<u16> {
        let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{authorization}\r\n");
        self.stream.write_all(request.as_bytes()).await?;
        self.buffer.clear();
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some((status, length)) = answer(&self.buffer)
                && self.buffer.len() >= length
            {
                return Ok(status);
            }
        }
    }
}

/// Status and whole length of the answer that `bytes` begin with, once its head is there.
fn answer(bytes: &[u8]) -> Option<(u16, usize)> {
    let head_length = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(bytes.get(..head_length)?).to_ascii_lowercase();
    let status = head.get(9..12)?.parse().ok()?;
    let length: usize = head.lines().find_map(|line| line.strip_prefix("content-length:"))?.trim().parse().ok()?;
    Some((status, head_length + length))
}
