use super::scanner::{Fault, Mode, Scanner};
use super::{MAX_HEAD, MAX_TARGET, Violation};

/// Scans `bytes` in slices of `step`; the number of complete messages, or the violation.
fn scan_in_steps(bytes: &[u8], step: usize) -> Result<u64, Violation> {
    let mut scanner = Scanner::new();
    for slice in bytes.chunks(step.max(1)) {
        let mut rest = slice;
        while !rest.is_empty() {
            let scan = scanner.scan(rest);
            match scan.fault {
                Some(Fault::Request(violation) | Fault::Body(violation)) => return Err(violation),
                None if scanner.mode() == Mode::Scanning || scanner.mode() == Mode::Passthrough => break,
                None if scanner.mode() == Mode::AwaitUpgrade => {
                    rest = &rest[scan.release..];
                    scanner.resume(false);
                }
                None => return Ok(scanner.messages()),
            }
        }
    }
    Ok(scanner.messages())
}

#[track_caller]
fn check(request: impl AsRef<[u8]>, expected: Result<u64, Violation>) {
    let request = request.as_ref();
    for step in [1, 2, 3, 7, 64, usize::MAX] {
        let found = scan_in_steps(request, step);
        assert_eq!(found, expected, "step {step}: {:?}", String::from_utf8_lossy(request));
    }
}

#[test]
fn ordinary_requests_pass() {
    check("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Ok(1));
    check("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Ok(1));
    check("GET /a?b=c%20d HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\nGET / HTTP/1.0\r\n\r\n", Ok(2));
    check("GET / HTTP/1.1\r\nHost:a\r\nX-Empty:\r\nX-Tab:\ta\t\r\n\r\n", Ok(1));
    check("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\nHost: a\r\n\r\n", Ok(2));
    check("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", Ok(1));
    check("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", Ok(1));
    check(
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0005;name=\"v\"\r\nhello\r\nA\r\n0123456789\r\n0\r\nX-T: 1\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        Ok(2),
    );
    check("!#$%&'*+-.^_`|~09Az / HTTP/1.1\r\n\r\n", Ok(1));
    check("GET http://a:80/x HTTP/1.1\r\nHost: a\r\n\r\n", Ok(1));
    check("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", Ok(1));
    check("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", Ok(1));
}

#[test]
fn bytes_behind_the_last_request_are_ignored() {
    check("GET / HTTP/1.1\r\nConnection: close\r\n\r\n\0\0garbage\n", Ok(1));
    check("GET / HTTP/1.0\r\n\r\ngarbage", Ok(1));
    check("POST / HTTP/1.1\r\nConnection: x, Close\r\nContent-Length: 1\r\n\r\nxgarbage", Ok(1));
}

#[test]
fn content_length_must_be_one_plain_number() {
    let one = |value: &str| format!("POST / HTTP/1.1\r\nContent-Length:{value}\r\n\r\n");
    for value in ["", " ", " +5", " -5", " 5x", " 0x5", " 5, 5", " 5,", " 5 5", " ٥", " 1.0", " 5;a"] {
        check(one(value), Err(Violation::ContentLength));
    }
    check(one(" 18446744073709551616"), Err(Violation::ContentLength));
    check(one(" 9223372036854775808"), Err(Violation::ContentLength));
    check(one(" 9223372036854775807"), Ok(0));
    check("POST / HTTP/1.1\r\nContent-Length: 5\r\ncontent-length: 5\r\n\r\nhello", Err(Violation::ContentLength));
    check("POST / HTTP/1.1\r\nContent-Length: 5\r\nCONTENT-LENGTH: 6\r\n\r\nhello", Err(Violation::ContentLength));
}

#[test]
fn transfer_encoding_must_be_chunked_once_and_alone() {
    let with = |headers: &str| format!("POST / HTTP/1.1\r\n{headers}\r\n\r\n0\r\n\r\n");
    check(with("Transfer-Encoding: chunked\r\nContent-Length: 5"), Err(Violation::LengthAndTransferEncoding));
    check(with("Content-Length: 5\r\nTransfer-Encoding: chunked"), Err(Violation::LengthAndTransferEncoding));
    check(with("Content-Length: 5\r\nTransfer-Encoding: gzip"), Err(Violation::LengthAndTransferEncoding));
    check(with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"), Err(Violation::TransferEncoding));
    for coding in
        ["gzip", "gzip, chunked", "chunked, gzip", "identity", "xchunked", "chunked,", "\"chunked\"", "", "chunked;a=b"]
    {
        check(with(&format!("Transfer-Encoding: {coding}")), Err(Violation::TransferCoding));
    }
    check("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Err(Violation::TransferEncoding));
}

#[test]
fn header_lines_must_be_well_formed() {
    let with = |line: &str| format!("GET / HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n");
    check(with("X : 1"), Err(Violation::HeaderName));
    check(with("Content-Length : 1"), Err(Violation::HeaderName));
    check(with("X\t: 1"), Err(Violation::HeaderName));
    check(with(": 1"), Err(Violation::HeaderName));
    check(with("X(: 1"), Err(Violation::HeaderName));
    check(with("é: 1"), Err(Violation::HeaderName));
    check(with(" folded"), Err(Violation::ObsoleteFold));
    check(with("X: 1\r\n\tfolded"), Err(Violation::ObsoleteFold));
    check(with("X: a\0b"), Err(Violation::HeaderValue));
    check(with("X: a\x01b"), Err(Violation::HeaderValue));
    check(with("X: a\x7fb"), Err(Violation::HeaderValue));
    check(with("X: a\rb"), Err(Violation::LineEnd));
    check(with("no colon"), Err(Violation::HeaderName));
    check(with("nocolon"), Err(Violation::LineEnd));
    check("GET / HTTP/1.1\r\nHost: a\nX: 1\r\n\r\n", Err(Violation::LineEnd));
    check("GET / HTTP/1.1\nHost: a\n\n", Err(Violation::LineEnd));
    check("GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", Err(Violation::LineEnd));
    check("GET / HTTP/1.1\r\nHost: a\r\n\n", Err(Violation::LineEnd));
    check("GET / HTTP/1.1\r\nHost: a\r\n\rX", Err(Violation::LineEnd));
    check("\nGET / HTTP/1.1\r\n\r\n", Err(Violation::LineEnd));
}

#[test]
fn request_lines_must_be_well_formed() {
    check("GET  / HTTP/1.1\r\n\r\n", Err(Violation::RequestLine));
    check("GET /  HTTP/1.1\r\n\r\n", Err(Violation::RequestLine));
    check("GET / x HTTP/1.1\r\n\r\n", Err(Violation::RequestLine));
    check("GET / HTTP/1.1 \r\n\r\n", Err(Violation::RequestLine));
    check(" GET / HTTP/1.1\r\n\r\n", Err(Violation::RequestLine));
    check("GET /\r\n\r\n", Err(Violation::RequestLine));
    check("GET\r\n\r\n", Err(Violation::RequestLine));
    check("GET / FTP/1.1\r\n\r\n", Err(Violation::RequestLine));
    check("GET / http/1.1\r\n\r\n", Err(Violation::RequestLine));
    check("G@T / HTTP/1.1\r\n\r\n", Err(Violation::Method));
    check("GÉT / HTTP/1.1\r\n\r\n", Err(Violation::Method));
    check("\x16\x03\x01\x02\0\x01\0\x01", Err(Violation::Method));
    check("GET /a#b HTTP/1.1\r\n\r\n", Err(Violation::Target));
    check("GET /é HTTP/1.1\r\n\r\n", Err(Violation::Target));
    check("GET /a\0b HTTP/1.1\r\n\r\n", Err(Violation::Target));
    check("GET /a\x7f HTTP/1.1\r\n\r\n", Err(Violation::Target));
    check("GET\t/ HTTP/1.1\r\n\r\n", Err(Violation::Method));
    for version in ["HTTP/2.0", "HTTP/1.2", "HTTP/0.9", "HTTP/11", "HTTP/1.1x", "HTTP/", "HTTP/9.99999"] {
        check(format!("GET / {version}\r\n\r\n"), Err(Violation::Version));
    }
}

#[test]
fn chunks_must_be_well_formed() {
    let chunked = |body: &str| format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
    for size in ["+5", "-5", " 5", "5 ", "0x5", "", ";a", "g", "00000000000000005", "5\t", "8000000000000000"] {
        check(chunked(&format!("{size}\r\nhello\r\n0\r\n\r\n")), Err(Violation::ChunkSize));
    }
    check(chunked("5\nhello\r\n0\r\n\r\n"), Err(Violation::ChunkSize));
    check(chunked("5\rhello\r\n0\r\n\r\n"), Err(Violation::ChunkSize));
    check(chunked("5\r\nhelloX\r\n0\r\n\r\n"), Err(Violation::ChunkEnd));
    check(chunked("5\r\nhello\n0\r\n\r\n"), Err(Violation::ChunkEnd));
    check(chunked("5\r\nhello0\r\n\r\n"), Err(Violation::ChunkEnd));
    check(chunked("5;a\nb\r\nhello\r\n0\r\n\r\n"), Err(Violation::ChunkExtension));
    check(chunked("5;a\0\r\nhello\r\n0\r\n\r\n"), Err(Violation::ChunkExtension));
    check(chunked(&format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(255))), Ok(1));
    check(chunked(&format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(256))), Err(Violation::ChunkExtension));
    check(chunked("0\r\n folded\r\n\r\n"), Err(Violation::ObsoleteFold));
    check(chunked("0\r\nX: a\n\r\n"), Err(Violation::LineEnd));
    check(chunked(&format!("0\r\nX: {}\r\n\r\n", "x".repeat(16 * 1024))), Err(Violation::Trailers));
    check(chunked(&format!("0\r\n{}\r\n", "X: 1\r\n".repeat(101))), Err(Violation::Trailers));
    check(chunked(&format!("0\r\n{}\r\n", "X: 1\r\n".repeat(100))), Ok(1));
}

#[test]
fn heads_have_limits() {
    check(format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(MAX_TARGET - 1)), Ok(1));
    check(format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(MAX_TARGET)), Err(Violation::TargetTooLong));
    check(format!("GET / HTTP/1.1\r\n{}\r\n", "X: 1\r\n".repeat(100)), Ok(1));
    check(format!("GET / HTTP/1.1\r\n{}\r\n", "X: 1\r\n".repeat(101)), Err(Violation::TooManyHeaders));
    let around = "GET / HTTP/1.1\r\nX: \r\n\r\n".len();
    check(format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(MAX_HEAD - around)), Ok(1));
    check(format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(MAX_HEAD - around + 1)), Err(Violation::HeadTooLarge));
    check("G".repeat(MAX_HEAD + 1), Err(Violation::HeadTooLarge));
    check(format!("GET / HTTP/1.1\r\n{}", "n".repeat(MAX_HEAD)), Err(Violation::HeadTooLarge));
}

#[test]
fn a_refused_message_is_never_released_and_the_ones_before_it_are() {
    let good = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n";
    let bad = b"POST /2 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloX";
    let mut scanner = Scanner::new();
    let scan = scanner.scan(&[&good[..], &bad[..]].concat());
    assert_eq!(scan.release, good.len());
    assert_eq!(scan.fault, Some(Fault::Request(Violation::ChunkEnd)));

    // When the head was correct and complete in an earlier read it is gone already; its body fails.
    let mut scanner = Scanner::new();
    let (head, body) = bad.split_at(bad.len() - 6);
    assert_eq!(scanner.scan(head).release, head.len());
    let scan = scanner.scan(body);
    assert_eq!((scan.release, scan.fault), (5, Some(Fault::Body(Violation::ChunkEnd))));
}

#[test]
fn an_incomplete_head_is_held_back_and_bodies_are_not() {
    let mut scanner = Scanner::new();
    let first = b"GET / HTTP/1.1\r\n\r\nPOST / HTTP/1.1\r\nConte";
    assert_eq!(scanner.scan(first).release, 18);
    assert_eq!(scanner.scan(b"nt-Length: 3").release, 0);
    assert_eq!(scanner.scan(b"\r\n\r\nab").release, 6);
    assert!(scanner.is_in_body());
    assert_eq!(scanner.scan(b"cGET").release, 1);
    assert!(scanner.is_in_head());
}

#[test]
fn an_upgrade_stops_the_scan_until_its_outcome_is_known() {
    let request = b"GET /ws HTTP/1.1\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x05hello";
    let mut scanner = Scanner::new();
    let scan = scanner.scan(request);
    assert_eq!(scan.release, request.len() - 7);
    assert_eq!(scanner.mode(), Mode::AwaitUpgrade);
    scanner.resume(true);
    assert_eq!(scanner.scan(b"\x81\x05hello").release, 7);

    let mut scanner = Scanner::new();
    scanner.scan(request);
    scanner.resume(false);
    assert_eq!(scanner.scan(b"GET / HTTP/1.1\r\n\r\n").release, 18);
    // The header alone, without the option in `Connection`, asks for nothing.
    let mut scanner = Scanner::new();
    scanner.scan(b"GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(scanner.mode(), Mode::Scanning);
}

#[test]
fn every_violation_survives_its_code() {
    for code in 1..=Violation::BodyTimeout.code() {
        let violation = Violation::from_code(code).expect("codes are dense");
        assert_eq!(violation.code(), code);
        assert!(violation.status().is_client_error() || violation.status().is_server_error());
    }
    assert_eq!(Violation::from_code(0), None);
    assert_eq!(Violation::from_code(Violation::BodyTimeout.code() + 1), None);
}

mod against_the_library {
    //! Whatever the scanner accepts, hyper accepts, and both see the same messages.

    use std::convert::Infallible;
    use std::sync::Arc;

    use bytes::Bytes;
    use http_body_util::{BodyExt, Full};
    use hyper::service::service_fn;
    use hyper::{Request, Response};
    use hyper_util::rt::TokioIo;
    use parking_lot::Mutex;
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::super::scanner::{Mode, Scanner};

    /// Body length of each message that the scanner saw completely, and whether it found a violation.
    fn by_scanner(bytes: &[u8]) -> (Vec<u64>, bool) {
        let mut scanner = Scanner::new();
        let mut lengths = Vec::new();
        let mut body_before = 0;
        for byte in bytes {
            let scan = scanner.scan(std::slice::from_ref(byte));
            if scan.fault.is_some() {
                return (lengths, true);
            }
            if scanner.messages() > lengths.len() as u64 {
                lengths.push(scanner.body_bytes() - body_before);
                body_before = scanner.body_bytes();
            }
            if scanner.mode() != Mode::Scanning {
                break;
            }
        }
        (lengths, false)
    }

    /// Body length of each request that hyper served, and whether its connection ended with a parse error.
    async fn by_hyper(bytes: &[u8]) -> (Vec<u64>, bool) {
        let (mut client, server) = tokio::io::duplex(1024 * 1024);
        client.write_all(bytes).await.unwrap();
        client.shutdown().await.unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let service = service_fn(|request: Request<hyper::body::Incoming>| {
            let seen = Arc::clone(&seen);
            async move {
                if let Ok(body) = request.into_body().collect().await {
                    seen.lock().push(body.to_bytes().len() as u64);
                }
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::new())))
            }
        });
        let mut builder = hyper::server::conn::http1::Builder::new();
        let connection = builder.half_close(true).serve_connection(TokioIo::new(server), service);
        let drain = async {
            let mut answers = Vec::new();
            client.read_to_end(&mut answers).await.unwrap();
        };
        let (result, ()) = tokio::join!(connection, drain);
        let is_parse_error = result.is_err_and(|error| error.is_parse());
        let seen = seen.lock().clone();
        (seen, is_parse_error)
    }

    fn line_end() -> impl Strategy<Value = &'static str> {
        prop_oneof![30 => Just("\r\n"), 1 => Just("\n"), 1 => Just("\r"), 1 => Just("\r\r\n"), 1 => Just(" \r\n")]
    }

    fn header() -> impl Strategy<Value = &'static str> {
        prop_oneof![
            6 => Just("Host: a"),
            4 => Just("X-A: b"),
            1 => Just("X-Obs: \u{e9}"),
            1 => Just("X: "),
            1 => Just(" folded"),
            1 => Just("Space : 1"),
            1 => Just(": 1"),
            1 => Just("Connection: keep-alive"),
            1 => Just("Content-Length: 3"),
            1 => Just("Content-Length: +3"),
            1 => Just("Transfer-Encoding: chunked"),
            1 => Just("Transfer-Encoding: gzip, chunked"),
            1 => Just("Expect: nothing"),
        ]
    }

    fn body() -> impl Strategy<Value = (&'static str, &'static str)> {
        prop_oneof![
            4 => Just(("", "")),
            3 => Just(("Content-Length: 3\r\n", "abc")),
            1 => Just(("Content-Length: 3\r\n", "abcd")),
            1 => Just(("Content-Length: 03\r\n", "abc")),
            3 => Just(("Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\n\r\n")),
            1 => Just(("Transfer-Encoding: chunked\r\n", "3;x=y\r\nabc\r\n0\r\nX-T: v\r\n\r\n")),
            1 => Just(("Transfer-Encoding: chunked\r\n", "3 \r\nabc\r\n0\r\n\r\n")),
            1 => Just(("Transfer-Encoding: chunked\r\n", "3\nabc\r\n0\r\n\r\n")),
            1 => Just(("Transfer-Encoding: chunked\r\n", "003\r\nabc\r\n00\r\n\r\n")),
            1 => Just(("Transfer-Encoding: chunked\r\n", "3\r\nabcd\r\n0\r\n\r\n")),
        ]
    }

    prop_compose! {
        fn message()(
            line in prop_oneof![
                12 => Just("GET /a HTTP/1.1"), 4 => Just("POST /a/b?c HTTP/1.1"), 1 => Just("GET  / HTTP/1.1"),
                1 => Just("GET / HTTP/1.0"), 1 => Just("GET / HTTP/2.0"), 1 => Just("g@t / HTTP/1.1"),
            ],
            first_end in line_end(),
            headers in proptest::collection::vec((header(), line_end()), 0..4),
            (framing, body) in body(),
            last_end in line_end(),
        ) -> String {
            let headers = headers.iter().flat_map(|(header, end)| [*header, *end]).collect::<String>();
            format!("{line}{first_end}{headers}{framing}{last_end}{body}")
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

        #[test]
        fn both_see_the_same_messages(
            messages in proptest::collection::vec(message(), 1..4),
            noise in proptest::option::of((any::<prop::sample::Index>(), any::<u8>())),
        ) {
            let mut bytes = messages.concat().into_bytes();
            if let Some((index, byte)) = noise {
                let at = index.index(bytes.len());
                bytes[at] = byte;
            }
            let (scanned, is_violation) = by_scanner(&bytes);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let (served, is_parse_error) = runtime.block_on(by_hyper(&bytes));
            // A target that is no URI is the one thing that only the library looks into.
            let is_other_target = is_parse_error && noise.is_some();
            let both = served.len().min(scanned.len());
            prop_assert_eq!(&served[..both], &scanned[..both]);
            // Behind a violation hyper may be more lenient, but what came before is the same.
            prop_assert!(served.len() >= scanned.len() || is_other_target, "scanner {:?}, hyper {:?}", scanned, served);
            prop_assert!(served.len() <= scanned.len() || is_violation, "scanner {:?}, hyper {:?}", scanned, served);
            prop_assert!(is_violation || !is_parse_error || is_other_target);
        }
    }
}
