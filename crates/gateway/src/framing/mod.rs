//! Strict HTTP/1 message framing in front of the HTTP library.
//!
//! hyper resolves several framing ambiguities silently (a bare LF, `Content-Length` beside
//! `Transfer-Encoding`, equal repeated `Content-Length`, 16 KiB of chunk extensions). An edge that guards
//! other servers must refuse them, because the next server may resolve them differently (request smuggling).
//!
//! - [`scanner`] is pure: it follows the byte stream message by message and says how many bytes are safe to
//!   hand on, or what is wrong.
//! - [`io`] puts it around a socket: a head is handed to hyper only when it is complete and correct, so a
//!   refused request never reaches the HTTP library, let alone an upstream.
//!
//! Absences: the scanner never allocates per request (one small buffer per connection is reused), never
//! changes a byte and never looks ahead of what arrived.
//!
//! SPEC 30 §6.5

pub mod io;
pub mod scanner;
#[cfg(test)]
mod tests;

use http::StatusCode;

/// Bytes of request line and header lines together, with their line ends.
pub const MAX_HEAD: usize = 64 * 1024;
/// Header lines of one head, and of one trailer section.
pub const MAX_HEADER_LINES: usize = 100;
/// Bytes of a request target.
pub const MAX_TARGET: usize = 16 * 1024;
/// Bytes of one chunk's extensions, `;` included.
pub const MAX_CHUNK_EXTENSION: usize = 256;
/// Bytes of all chunk extensions of one body: the library's own limit, kept so that we never accept more.
pub const MAX_CHUNK_EXTENSIONS: usize = 16 * 1024;
/// Bytes of a trailer section.
pub const MAX_TRAILERS: usize = 16 * 1024;

/// What is wrong with the bytes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Violation {
    /// Not `method SP target SP version`.
    RequestLine,
    /// The method is not a token.
    Method,
    /// A byte that no request target may contain, or a `#`.
    Target,
    /// `HTTP/x.y` other than 1.0 and 1.1.
    Version,
    /// A line that does not end with CRLF, or a lone CR or LF inside one.
    LineEnd,
    /// Empty header name, space before `:`, or a name that is not a token.
    HeaderName,
    /// A header line that begins with white space.
    ObsoleteFold,
    /// NUL or another control character in a header value.
    HeaderValue,
    /// Repeated, signed, empty, overflowing or otherwise not a plain number.
    ContentLength,
    /// `Content-Length` together with `Transfer-Encoding`.
    LengthAndTransferEncoding,
    /// More than one `Transfer-Encoding` line, or one on HTTP/1.0.
    TransferEncoding,
    /// A transfer coding other than exactly `chunked`.
    TransferCoding,
    /// A chunk size that is not 1 to 16 hexadecimal digits.
    ChunkSize,
    /// Too long or malformed chunk extension.
    ChunkExtension,
    /// A chunk that is not followed by CRLF.
    ChunkEnd,
    /// Trailer section above 16 KiB or 100 lines.
    Trailers,
    /// Request line and headers above 64 KiB.
    HeadTooLarge,
    /// More than 100 header lines.
    TooManyHeaders,
    /// Request target above 16 KiB.
    TargetTooLong,
    /// The head was not complete within 10 s.
    HeadTimeout,
    /// No byte of the body for 60 s, or less than 500 B/s.
    BodyTimeout,
}

impl Violation {
    const ALL: [Self; 21] = [
        Self::RequestLine,
        Self::Method,
        Self::Target,
        Self::Version,
        Self::LineEnd,
        Self::HeaderName,
        Self::ObsoleteFold,
        Self::HeaderValue,
        Self::ContentLength,
        Self::LengthAndTransferEncoding,
        Self::TransferEncoding,
        Self::TransferCoding,
        Self::ChunkSize,
        Self::ChunkExtension,
        Self::ChunkEnd,
        Self::Trailers,
        Self::HeadTooLarge,
        Self::TooManyHeaders,
        Self::TargetTooLong,
        Self::HeadTimeout,
        Self::BodyTimeout,
    ];

    /// The status of the answer; the connection is closed after it. SPEC 30 §6.5
    pub fn status(self) -> StatusCode {
        match self {
            Self::RequestLine
            | Self::Method
            | Self::Target
            | Self::LineEnd
            | Self::HeaderName
            | Self::ObsoleteFold
            | Self::HeaderValue
            | Self::ContentLength
            | Self::LengthAndTransferEncoding
            | Self::TransferEncoding
            | Self::ChunkSize
            | Self::ChunkExtension
            | Self::ChunkEnd
            | Self::Trailers => StatusCode::BAD_REQUEST,
            Self::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::TransferCoding => StatusCode::NOT_IMPLEMENTED,
            Self::HeadTooLarge | Self::TooManyHeaders => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadTimeout | Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
        }
    }

    /// What to change, for the caller.
    pub fn text(self) -> &'static str {
        match self {
            Self::RequestLine => "the request line must be a method, a target and a version with single spaces",
            Self::Method => "the method is not a token",
            Self::Target => "the request target contains a character that must be percent-encoded",
            Self::Version => "only HTTP/1.0 and HTTP/1.1 are served here",
            Self::LineEnd => "every line of a head must end with CR LF",
            Self::HeaderName => "a header name must be a token directly followed by a colon",
            Self::ObsoleteFold => "a header line must not begin with white space",
            Self::HeaderValue => "a header value contains a control character",
            Self::ContentLength => "content-length must be given once, as a plain number",
            Self::LengthAndTransferEncoding => "content-length and transfer-encoding exclude each other",
            Self::TransferEncoding => "transfer-encoding must be given once, on HTTP/1.1 only",
            Self::TransferCoding => "the only transfer coding is chunked",
            Self::ChunkSize => "a chunk size must be 1 to 16 hexadecimal digits",
            Self::ChunkExtension => "chunk extensions are limited to 256 bytes without control characters",
            Self::ChunkEnd => "a chunk must be followed by CR LF",
            Self::Trailers => "trailers are limited to 16 KiB and 100 lines",
            Self::HeadTooLarge => "the request head is limited to 64 KiB",
            Self::TooManyHeaders => "a request may carry at most 100 header lines",
            Self::TargetTooLong => "the request target is limited to 16 KiB",
            Self::HeadTimeout => "the request head was not complete within 10 s",
            Self::BodyTimeout => "the request body arrived too slowly",
        }
    }

    /// Word for `tidegate_gateway_rejects_total{reason}`, access log and debug output.
    pub fn reason(self) -> &'static str {
        match self {
            Self::RequestLine => "request_line",
            Self::Method => "method_syntax",
            Self::Target => "target_syntax",
            Self::Version => "http_version",
            Self::LineEnd => "line_end",
            Self::HeaderName => "header_name",
            Self::ObsoleteFold => "obsolete_fold",
            Self::HeaderValue => "header_value",
            Self::ContentLength => "content_length",
            Self::LengthAndTransferEncoding => "length_and_transfer_encoding",
            Self::TransferEncoding => "transfer_encoding",
            Self::TransferCoding => "transfer_coding",
            Self::ChunkSize => "chunk_size",
            Self::ChunkExtension => "chunk_extension",
            Self::ChunkEnd => "chunk_end",
            Self::Trailers => "trailers",
            Self::HeadTooLarge => "head_too_large",
            Self::TooManyHeaders => "too_many_headers",
            Self::TargetTooLong => "target_too_long",
            Self::HeadTimeout => "head_timeout",
            Self::BodyTimeout => "body_timeout",
        }
    }

    /// Number that [`Self::from_code`] takes back; never 0.
    pub(crate) fn code(self) -> u8 {
        self as u8 + 1
    }

    /// Inverse of [`Self::code`]; `None` for 0.
    pub(crate) fn from_code(code: u8) -> Option<Self> {
        usize::from(code).checked_sub(1).and_then(|index| Self::ALL.get(index).copied())
    }
}
