//! Bodies on both sides of the service.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::Stream;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tidegate_runtime::BoxBody;

use crate::status::ApiError;

/// Most bytes of a request body (SPEC 60 §23).
pub const MAX_BODY_BYTES: usize = 3 * 1024 * 1024;
/// What is read and thrown away beyond that, so that the connection survives an answer of 413.
const MAX_DRAINED_BYTES: usize = 16 * 1024 * 1024;
/// Longest pause between two pieces of a request body (SPEC 60 §23).
const SLOW_BODY: Duration = Duration::from_secs(30);

/// An answer's body: whole, or one frame per watch event.
pub struct Body(Inner);

enum Inner {
    Whole(Option<Bytes>),
    Stream(Pin<Box<dyn Stream<Item = Bytes> + Send>>),
}

impl Body {
    pub fn empty() -> Self {
        Self(Inner::Whole(None))
    }

    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self(Inner::Whole(Some(bytes).filter(|bytes| !bytes.is_empty())))
    }

    /// The bytes of a body that is not a stream and has any.
    pub fn as_whole(&self) -> Option<&Bytes> {
        match &self.0 {
            Inner::Whole(bytes) => bytes.as_ref(),
            Inner::Stream(_) => None,
        }
    }

    pub fn stream(frames: impl Stream<Item = Bytes> + Send + 'static) -> Self {
        Self(Inner::Stream(Box::pin(frames)))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut self.get_mut().0 {
            Inner::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Inner::Stream(frames) => {
                frames.as_mut().poll_next(cx).map(|frame| frame.map(|bytes| Ok(Frame::data(bytes))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Whole(bytes) => bytes.is_none(),
            Inner::Stream(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Inner::Stream(_) => SizeHint::default(),
        }
    }
}

/// Reads a request body whole; in-process requests have no `limit`.
///
/// # Errors
/// 413 beyond the limit; 400 when the client breaks off; 504 after 30 s without a byte.
pub async fn read(body: BoxBody, limit: Option<usize>) -> Result<Bytes, ApiError> {
    read_within(body, limit.unwrap_or(usize::MAX), SLOW_BODY).await
}

async fn read_within(mut body: BoxBody, limit: usize, pause: Duration) -> Result<Bytes, ApiError> {
    let mut whole = BytesMut::new();
    let mut surplus = 0;
    loop {
        let frame = tokio::time::timeout(pause, body.frame())
            .await
            .map_err(|_| ApiError::timeout("the request body did not arrive in time"))?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|_| ApiError::bad_request("the request body ended unexpectedly"))?;
        let Ok(data) = frame.into_data() else { continue };
        if surplus == 0 && whole.len().saturating_add(data.len()) <= limit {
            whole.extend_from_slice(&data);
        } else {
            surplus += data.len();
            whole.clear();
            if surplus > MAX_DRAINED_BYTES {
                break;
            }
        }
    }
    if surplus > 0 { Err(ApiError::body_too_large(limit)) } else { Ok(whole.freeze()) }
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use http_body_util::{Full, StreamBody};
    use tidegate_runtime::{BoxError, boxed};

    use super::*;

    fn full(bytes: Vec<u8>) -> BoxBody {
        boxed(Full::new(Bytes::from(bytes)))
    }

    #[tokio::test]
    async fn a_body_of_3_mib_is_read_and_one_byte_more_is_413() {
        assert_eq!(read(full(vec![b'a'; MAX_BODY_BYTES]), Some(MAX_BODY_BYTES)).await.unwrap().len(), MAX_BODY_BYTES);
        let error = read(full(vec![b'a'; MAX_BODY_BYTES + 1]), Some(MAX_BODY_BYTES)).await.unwrap_err();
        assert_eq!((error.code, error.message.as_str()), (413, "Request entity too large: limit is 3145728"));
    }

    #[tokio::test]
    async fn a_body_that_stalls_times_out() {
        let frames = stream::pending::<Result<Frame<Bytes>, BoxError>>();
        let error =
            read_within(boxed(StreamBody::new(frames)), MAX_BODY_BYTES, Duration::from_millis(1)).await.unwrap_err();
        assert_eq!(error.code, 504);
    }
}
