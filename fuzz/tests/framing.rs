//! The strict scanner of HTTP/1 requests: any bytes, cut anywhere, give the same verdict.

use tidegate_fuzz::SHORT;
use tidegate_gateway::framing::Violation;
use tidegate_gateway::framing::scanner::{Fault, Mode, Scanner};

/// Feeds `bytes` in pieces of `size`: the violation that ended it, heads and messages seen. Whether the violation counts
/// as one of the request or of its body depends on what was handed on before, and so on the pieces.
fn verdict(bytes: &[u8], size: usize) -> (Option<Violation>, u64, u64) {
    let mut scanner = Scanner::new();
    for piece in bytes.chunks(size) {
        if scanner.mode() != Mode::Scanning {
            break;
        }
        let scan = scanner.scan(piece);
        assert!(scan.release <= piece.len());
        if let Some(Fault::Request(violation) | Fault::Body(violation)) = scan.fault {
            return (Some(violation), scanner.heads(), scanner.messages());
        }
    }
    (None, scanner.heads(), scanner.messages())
}

#[test]
fn any_bytes_cut_anywhere_give_the_same_verdict() {
    bolero::check!().with_type::<(Vec<u8>, u8)>().with_test_time(SHORT).for_each(|(bytes, size)| {
        assert_eq!(verdict(bytes, bytes.len().max(1)), verdict(bytes, usize::from(*size).max(1)));
    });
}

#[test]
fn changed_requests_cut_anywhere_give_the_same_verdict() {
    let seeds: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    ];
    bolero::check!().with_type::<(u8, Vec<(u16, u8)>, u8)>().with_test_time(SHORT).for_each(|(seed, edits, size)| {
        let mut bytes = seeds[usize::from(*seed) % seeds.len()].to_vec();
        for (position, byte) in edits.iter().take(8) {
            let position = usize::from(*position) % bytes.len();
            bytes[position] = *byte;
        }
        assert_eq!(verdict(&bytes, bytes.len()), verdict(&bytes, usize::from(*size).max(1)));
    });
}
