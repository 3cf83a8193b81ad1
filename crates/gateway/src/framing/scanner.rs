//! The pure half: a byte-stream state machine over HTTP/1 requests.
//!
//! ```text
//! Start -> Method -> Target -> Version -> LineStart -> Name -> Value -> ... -> (empty line) end of head
//!   end of head -> Body(n) | ChunkSize -> ... -> LineStart (trailers) -> ... | end of message
//!   end of message -> Start | AwaitUpgrade (asked for an upgrade) | Ignore (last request of the connection)
//!   AwaitUpgrade -> Start | Passthrough          told by the caller once the answer is known
//! ```
//! The caller must hold back what [`Scan::release`] does not cover: the beginning of a head that is not
//! complete yet. A message with a violation is never released when its head has not been released before.

use super::{
    MAX_CHUNK_EXTENSION, MAX_CHUNK_EXTENSIONS, MAX_HEAD, MAX_HEADER_LINES, MAX_TARGET, MAX_TRAILERS, Violation,
};

/// What [`Scanner::scan`] found in a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scan {
    /// Bytes of the slice that may be handed on. More than 0 means that everything held back before may be, too.
    pub release: usize,
    /// The violation that ends the connection, if any.
    pub fault: Option<Fault>,
}

/// Where a violation was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// In a message of which nothing was released.
    Request(Violation),
    /// In the body of a message whose head was released earlier.
    Body(Violation),
}

/// What the caller has to do with the bytes that follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Scan them.
    Scanning,
    /// Keep them until [`Scanner::resume`].
    AwaitUpgrade,
    /// Throw them away: the connection ends after the answer.
    Ignore,
    /// Hand them on unseen: not HTTP/1 any more.
    Passthrough,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Start,
    /// CR of an empty line before the request line.
    StartLf,
    Method,
    Target,
    Version,
    /// After the CR of a head or trailer line.
    LineLf,
    LineStart,
    Name,
    Value,
    /// After the CR of the empty line.
    EndLf,
    Body(u64),
    ChunkSize,
    ChunkExtension,
    ChunkSizeLf,
    ChunkData(u64),
    ChunkCr,
    ChunkLf,
    AwaitUpgrade,
    Ignore,
    Passthrough,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Other,
    ContentLength,
    TransferEncoding,
    Connection,
    Upgrade,
}

/// The longest header name that means something here.
const LONGEST_NAME: usize = "transfer-encoding".len();

/// Follows the requests of one connection.
#[derive(Debug)]
pub struct Scanner {
    state: State,
    /// Bytes of the present head, or trailer section, in earlier slices.
    carried: usize,
    /// Bytes of the present request target, version or chunk extension.
    length: usize,
    lines: usize,
    name: [u8; LONGEST_NAME],
    name_length: usize,
    field: Field,
    /// Value of a header that means something here; reused.
    value: Vec<u8>,
    version: [u8; 8],
    in_trailers: bool,
    head: Head,
    chunk: u64,
    extensions: usize,
    heads: u64,
    messages: u64,
    body_bytes: u64,
}

/// What the head of the present message says about its framing.
#[derive(Debug, Default, Clone, Copy)]
struct Head {
    is_http_10: bool,
    content_length: Option<u64>,
    has_transfer_encoding: bool,
    is_chunked: bool,
    closes: bool,
    keeps_alive: bool,
    wants_upgrade: bool,
    names_upgrade: bool,
}

impl Default for Scanner {
    fn default() -> Self {
        Self::new()
    }
}

impl Scanner {
    /// A scanner at the start of a connection.
    pub fn new() -> Self {
        Self {
            state: State::Start,
            carried: 0,
            length: 0,
            lines: 0,
            name: [0; LONGEST_NAME],
            name_length: 0,
            field: Field::Other,
            value: Vec::new(),
            version: [0; 8],
            in_trailers: false,
            head: Head::default(),
            chunk: 0,
            extensions: 0,
            heads: 0,
            messages: 0,
            body_bytes: 0,
        }
    }

    /// Complete heads seen so far.
    pub fn heads(&self) -> u64 {
        self.heads
    }

    /// Complete messages seen so far.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// Body bytes seen so far, over all messages, without chunk framing.
    pub fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    /// True inside a body (or its trailers): the present message is not complete.
    pub fn is_in_body(&self) -> bool {
        matches!(
            self.state,
            State::Body(_)
                | State::ChunkSize
                | State::ChunkExtension
                | State::ChunkSizeLf
                | State::ChunkData(_)
                | State::ChunkCr
                | State::ChunkLf
        ) || (self.in_trailers && self.is_in_lines())
    }

    /// True when a head has begun and is not complete.
    pub fn is_in_head(&self) -> bool {
        !self.in_trailers
            && (matches!(self.state, State::StartLf | State::Method | State::Target | State::Version)
                || self.is_in_lines())
    }

    fn is_in_lines(&self) -> bool {
        matches!(self.state, State::LineLf | State::LineStart | State::Name | State::Value | State::EndLf)
    }

    /// What to do with the bytes that follow.
    pub fn mode(&self) -> Mode {
        match self.state {
            State::AwaitUpgrade => Mode::AwaitUpgrade,
            State::Ignore => Mode::Ignore,
            State::Passthrough => Mode::Passthrough,
            _ => Mode::Scanning,
        }
    }

    /// Hands everything on unseen from now on: another protocol was recognized.
    pub fn pass_through(&mut self) {
        self.state = State::Passthrough;
    }

    /// Leaves [`Mode::AwaitUpgrade`]: `is_upgraded` is true after an answer 101.
    pub fn resume(&mut self, is_upgraded: bool) {
        if self.state == State::AwaitUpgrade {
            self.state = if is_upgraded {
                State::Passthrough
            } else if self.head.closes {
                State::Ignore
            } else {
                State::Start
            };
        }
    }

    /// Follows `bytes`, the next of the stream. Stops early where [`Self::mode`] changes.
    pub fn scan(&mut self, bytes: &[u8]) -> Scan {
        // Where the present message begins in this slice, while nothing of it has been released.
        let mut start = self.is_in_head().then_some(0);
        // Where the counted section (head or trailers) begins in this slice.
        let mut section = 0;
        let mut at = 0;
        let result = self.run(bytes, &mut at, &mut start, &mut section);
        if let Err(violation) = result {
            self.state = State::Ignore;
            return match start {
                Some(start) => Scan { release: start, fault: Some(Fault::Request(violation)) },
                None => Scan { release: at, fault: Some(Fault::Body(violation)) },
            };
        }
        if self.is_in_head() {
            self.carried += at - section;
            let release = start.unwrap_or(0);
            if let Err(violation) = self.check_head_size(0) {
                self.state = State::Ignore;
                return Scan { release, fault: Some(Fault::Request(violation)) };
            }
            return Scan { release, fault: None };
        }
        if self.in_trailers && self.is_in_lines() {
            self.carried += at - section;
            if let Err(violation) = self.check_head_size(0) {
                self.state = State::Ignore;
                return Scan { release: at, fault: Some(Fault::Body(violation)) };
            }
        }
        Scan { release: at, fault: None }
    }

    fn run(
        &mut self,
        bytes: &[u8],
        at: &mut usize,
        start: &mut Option<usize>,
        section: &mut usize,
    ) -> Result<(), Violation> {
        while let Some(&byte) = bytes.get(*at) {
            match self.state {
                State::Start => {
                    if start.is_none() || self.carried == 0 {
                        *start = Some(*at);
                        *section = *at;
                        self.carried = 0;
                    }
                    match byte {
                        b'\r' => {
                            self.state = State::StartLf;
                            *at += 1;
                        }
                        b'\n' => return Err(Violation::LineEnd),
                        _ => {
                            self.begin_head();
                            self.state = State::Method;
                        }
                    }
                }
                State::StartLf => {
                    if byte != b'\n' {
                        return Err(Violation::LineEnd);
                    }
                    // One empty line before a request is tolerated (RFC 9112 2.2) and handed on as it is.
                    *at += 1;
                    self.carried += *at - *section;
                    *section = *at;
                    self.check_head_size(0)?;
                    self.state = State::Start;
                }
                State::Method => {
                    let end = skip(bytes, *at, TOKEN);
                    let is_empty = self.length == 0 && end == *at;
                    self.length += end - *at;
                    *at = end;
                    let Some(&byte) = bytes.get(end) else { break };
                    match byte {
                        b' ' if !is_empty => {
                            self.length = 0;
                            self.state = State::Target;
                            *at += 1;
                        }
                        b' ' | b'\r' | b'\n' => return Err(Violation::RequestLine),
                        _ => return Err(Violation::Method),
                    }
                }
                State::Target => {
                    let end = skip(bytes, *at, TARGET);
                    self.length += end - *at;
                    *at = end;
                    if self.length > MAX_TARGET {
                        return Err(Violation::TargetTooLong);
                    }
                    let Some(&byte) = bytes.get(end) else { break };
                    match byte {
                        b' ' if self.length > 0 => {
                            self.length = 0;
                            self.state = State::Version;
                            *at += 1;
                        }
                        b' ' | b'\r' | b'\n' => return Err(Violation::RequestLine),
                        _ => return Err(Violation::Target),
                    }
                }
                State::Version => match byte {
                    b'\r' => {
                        self.read_version()?;
                        self.state = State::LineLf;
                        *at += 1;
                    }
                    b'\n' => return Err(Violation::LineEnd),
                    b' ' => return Err(Violation::RequestLine),
                    _ => {
                        let Some(slot) = self.version.get_mut(self.length) else {
                            let is_http = self.version.starts_with(b"HTTP/");
                            return Err(if is_http { Violation::Version } else { Violation::RequestLine });
                        };
                        *slot = byte;
                        self.length += 1;
                        *at += 1;
                    }
                },
                State::LineLf => {
                    if byte != b'\n' {
                        return Err(Violation::LineEnd);
                    }
                    *at += 1;
                    self.check_head_size(*at - *section)?;
                    self.state = State::LineStart;
                }
                State::LineStart => match byte {
                    b'\r' => {
                        self.state = State::EndLf;
                        *at += 1;
                    }
                    b' ' | b'\t' => return Err(Violation::ObsoleteFold),
                    _ => {
                        self.lines += 1;
                        if self.lines > MAX_HEADER_LINES {
                            return Err(if self.in_trailers { Violation::Trailers } else { Violation::TooManyHeaders });
                        }
                        self.name_length = 0;
                        self.state = State::Name;
                    }
                },
                State::Name => {
                    let end = skip(bytes, *at, TOKEN);
                    self.add_to_name(bytes.get(*at..end).unwrap_or_default());
                    *at = end;
                    let Some(&byte) = bytes.get(end) else { break };
                    if byte != b':' || self.name_length == 0 {
                        return Err(match byte {
                            b'\r' | b'\n' => Violation::LineEnd,
                            0 => Violation::HeaderValue,
                            _ => Violation::HeaderName,
                        });
                    }
                    self.field = if self.in_trailers { Field::Other } else { self.field() };
                    self.value.clear();
                    self.state = State::Value;
                    *at += 1;
                }
                State::Value => {
                    let end = skip(bytes, *at, VALUE);
                    if self.field != Field::Other {
                        self.value.extend_from_slice(bytes.get(*at..end).unwrap_or_default());
                    }
                    *at = end;
                    self.check_head_size(*at - *section)?;
                    let Some(&byte) = bytes.get(end) else { break };
                    match byte {
                        b'\r' => {
                            self.take_field()?;
                            self.state = State::LineLf;
                            *at += 1;
                        }
                        b'\n' => return Err(Violation::LineEnd),
                        _ => return Err(Violation::HeaderValue),
                    }
                }
                State::EndLf => {
                    if byte != b'\n' {
                        return Err(Violation::LineEnd);
                    }
                    *at += 1;
                    self.check_head_size(*at - *section)?;
                    if self.in_trailers {
                        self.end_message(start);
                    } else {
                        self.end_head(start)?;
                    }
                    if self.mode() != Mode::Scanning {
                        break;
                    }
                }
                State::Body(left) => {
                    let take = take(bytes, *at, left);
                    *at += take;
                    self.body_bytes += take as u64;
                    match left - take as u64 {
                        0 => {
                            self.end_message(start);
                            if self.mode() != Mode::Scanning {
                                break;
                            }
                        }
                        left => self.state = State::Body(left),
                    }
                }
                State::ChunkSize => self.read_chunk_size(byte, at)?,
                State::ChunkExtension => {
                    let end = skip(bytes, *at, VALUE);
                    self.length += end - *at;
                    self.extensions += end - *at;
                    *at = end;
                    if self.length > MAX_CHUNK_EXTENSION || self.extensions > MAX_CHUNK_EXTENSIONS {
                        return Err(Violation::ChunkExtension);
                    }
                    match bytes.get(end) {
                        None => break,
                        Some(b'\r') => {
                            self.state = State::ChunkSizeLf;
                            *at += 1;
                        }
                        Some(_) => return Err(Violation::ChunkExtension),
                    }
                }
                State::ChunkSizeLf => {
                    if byte != b'\n' {
                        return Err(Violation::ChunkSize);
                    }
                    *at += 1;
                    if self.chunk == 0 {
                        self.in_trailers = true;
                        self.carried = 0;
                        self.lines = 0;
                        *section = *at;
                        self.state = State::LineStart;
                    } else {
                        self.state = State::ChunkData(self.chunk);
                    }
                }
                State::ChunkData(left) => {
                    let take = take(bytes, *at, left);
                    *at += take;
                    self.body_bytes += take as u64;
                    self.state = match left - take as u64 {
                        0 => State::ChunkCr,
                        left => State::ChunkData(left),
                    };
                }
                State::ChunkCr => {
                    if byte != b'\r' {
                        return Err(Violation::ChunkEnd);
                    }
                    *at += 1;
                    self.state = State::ChunkLf;
                }
                State::ChunkLf => {
                    if byte != b'\n' {
                        return Err(Violation::ChunkEnd);
                    }
                    *at += 1;
                    self.begin_chunk();
                }
                State::Passthrough => *at = bytes.len(),
                State::AwaitUpgrade | State::Ignore => break,
            }
        }
        Ok(())
    }

    fn begin_head(&mut self) {
        self.length = 0;
        self.lines = 0;
        self.in_trailers = false;
        self.head = Head::default();
        self.extensions = 0;
    }

    fn begin_chunk(&mut self) {
        self.length = 0;
        self.chunk = 0;
        self.state = State::ChunkSize;
    }

    fn check_head_size(&self, in_slice: usize) -> Result<(), Violation> {
        let size = self.carried + in_slice;
        match self.in_trailers {
            false if size > MAX_HEAD => Err(Violation::HeadTooLarge),
            true if size > MAX_TRAILERS => Err(Violation::Trailers),
            _ => Ok(()),
        }
    }

    fn read_version(&mut self) -> Result<(), Violation> {
        let version = self.version.get(..self.length).unwrap_or_default();
        match version {
            b"HTTP/1.1" => Ok(()),
            b"HTTP/1.0" => {
                self.head.is_http_10 = true;
                Ok(())
            }
            _ if version.starts_with(b"HTTP/") => Err(Violation::Version),
            _ => Err(Violation::RequestLine),
        }
    }

    fn add_to_name(&mut self, part: &[u8]) {
        let end = self.name_length + part.len();
        if let Some(room) = self.name.get_mut(self.name_length..end) {
            room.copy_from_slice(part);
        }
        self.name_length = end;
    }

    fn field(&self) -> Field {
        let Some(name) = self.name.get(..self.name_length) else { return Field::Other };
        match name.len() {
            7 if name.eq_ignore_ascii_case(b"upgrade") => Field::Upgrade,
            10 if name.eq_ignore_ascii_case(b"connection") => Field::Connection,
            14 if name.eq_ignore_ascii_case(b"content-length") => Field::ContentLength,
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => Field::TransferEncoding,
            _ => Field::Other,
        }
    }

    /// Evaluates a header line that means something for framing.
    fn take_field(&mut self) -> Result<(), Violation> {
        let value = trim(&self.value);
        match self.field {
            Field::Other => {}
            Field::ContentLength => {
                let length = parse_length(value).ok_or(Violation::ContentLength)?;
                if self.head.content_length.replace(length).is_some() {
                    return Err(Violation::ContentLength);
                }
            }
            Field::TransferEncoding => {
                if self.head.has_transfer_encoding {
                    return Err(Violation::TransferEncoding);
                }
                self.head.has_transfer_encoding = true;
                self.head.is_chunked = value == b"chunked";
            }
            Field::Connection => {
                for option in value.split(|&byte| byte == b',').map(trim) {
                    self.head.closes |= option.eq_ignore_ascii_case(b"close");
                    self.head.keeps_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                    self.head.names_upgrade |= option.eq_ignore_ascii_case(b"upgrade");
                }
            }
            Field::Upgrade => self.head.wants_upgrade = true,
        }
        Ok(())
    }

    fn end_head(&mut self, start: &mut Option<usize>) -> Result<(), Violation> {
        let head = &mut self.head;
        if head.has_transfer_encoding {
            if head.content_length.is_some() {
                return Err(Violation::LengthAndTransferEncoding);
            }
            if head.is_http_10 {
                return Err(Violation::TransferEncoding);
            }
            if !head.is_chunked {
                return Err(Violation::TransferCoding);
            }
        }
        head.closes |= head.is_http_10 && !head.keeps_alive;
        head.wants_upgrade &= head.names_upgrade && !head.is_http_10;
        self.heads += 1;
        self.carried = 0;
        if self.head.is_chunked {
            self.begin_chunk();
        } else {
            match self.head.content_length {
                None | Some(0) => self.end_message(start),
                Some(length) => self.state = State::Body(length),
            }
        }
        Ok(())
    }

    fn end_message(&mut self, start: &mut Option<usize>) {
        self.messages += 1;
        self.carried = 0;
        self.in_trailers = false;
        *start = None;
        self.state = if self.head.wants_upgrade {
            State::AwaitUpgrade
        } else if self.head.closes {
            State::Ignore
        } else {
            State::Start
        };
    }

    fn read_chunk_size(&mut self, byte: u8, at: &mut usize) -> Result<(), Violation> {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            b'\r' if self.length > 0 => {
                self.state = State::ChunkSizeLf;
                *at += 1;
                return Ok(());
            }
            b';' if self.length > 0 => {
                self.length = 0;
                self.state = State::ChunkExtension;
                return Ok(());
            }
            _ => return Err(Violation::ChunkSize),
        };
        self.length += 1;
        self.chunk = match self.chunk.checked_mul(16) {
            Some(size) if self.length <= 16 => size + u64::from(digit),
            _ => return Err(Violation::ChunkSize),
        };
        // The library counts what is left in 63 bits.
        if self.chunk > MAX_LENGTH {
            return Err(Violation::ChunkSize);
        }
        *at += 1;
        Ok(())
    }
}

/// The longest body or chunk: nothing real comes near, and no arithmetic on it can overflow.
const MAX_LENGTH: u64 = i64::MAX as u64;

fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    let mut length: u64 = 0;
    for &byte in value {
        if !byte.is_ascii_digit() {
            return None;
        }
        length = length.checked_mul(10)?.checked_add(u64::from(byte - b'0'))?;
    }
    (length <= MAX_LENGTH).then_some(length)
}

/// Without optional white space (space and tab only) at both ends.
fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// How many of `left` body bytes the slice holds from `at` on.
fn take(bytes: &[u8], at: usize, left: u64) -> usize {
    let here = bytes.len() - at;
    usize::try_from(left).map_or(here, |left| left.min(here))
}

/// Index of the first byte from `at` on that is not of the class.
#[inline]
fn skip(bytes: &[u8], at: usize, class: u8) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    let mut count = 0;
    for &byte in rest {
        // A 256-entry table has an answer for every byte.
        if CLASS.get(usize::from(byte)).is_none_or(|classes| classes & class == 0) {
            break;
        }
        count += 1;
    }
    at + count
}

const TOKEN: u8 = 1;
const TARGET: u8 = 2;
const VALUE: u8 = 4;

/// Which bytes may stand in a token (RFC 9110 5.6.2), in a request target (SPEC 30 §6.4 step 1: no byte below
/// 0x21, no 0x7F, none from 0x80 on, no `#`) and in a header value (no control character but the tab).
static CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "the loop ends at 255")]
        let c = byte as u8;
        let mut class = 0;
        if c.is_ascii_alphanumeric()
            || matches!(
                c,
                b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
            )
        {
            class |= TOKEN;
        }
        if c > 0x20 && c < 0x7f && c != b'#' {
            class |= TARGET;
        }
        if c == b'\t' || (c >= 0x20 && c != 0x7f) {
            class |= VALUE;
        }
        #[expect(clippy::indexing_slicing, reason = "the loop ends at the length of the table")]
        {
            table[byte] = class;
        }
        byte += 1;
    }
    table
}
