//! Compression of large answers (SPEC 60 §3).

use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::HeaderMap;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HeaderValue, VARY};
use tidegate_runtime::Tasks;

use super::body::Body;
use super::respond::Answer;

/// Smaller bodies go out as they are.
const THRESHOLD: usize = 128 * 1024;

/// Compresses a large body for a client that takes gzip. Watches are streams and never compressed.
///
/// The work is done off the runtime's thread: megabytes take tens of milliseconds.
pub(super) async fn compress(mut answer: Answer, accepts_gzip: bool, tasks: &Tasks) -> Answer {
    let Some(plain) = answer.body().as_whole().filter(|bytes| bytes.len() > THRESHOLD).cloned() else { return answer };
    answer.headers_mut().append(VARY, HeaderValue::from_static("Accept-Encoding"));
    if !accepts_gzip {
        return answer;
    }
    // A compression that fails leaves the body as it is.
    if let Ok(Some(compressed)) = tasks.spawn_blocking("kube-gzip", move || gzip(&plain)).await {
        answer.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        *answer.body_mut() = Body::whole(compressed);
    }
    answer
}

/// The fast level: clients of this API are near.
fn gzip(plain: &[u8]) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 4), Compression::fast());
    encoder.write_all(plain).ok()?;
    encoder.finish().ok().map(Bytes::from)
}

/// Whether `Accept-Encoding` names gzip without refusing it (RFC 9110 section 12.5.3).
pub(super) fn accepts_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|coding| {
        let (name, parameters) = coding.split_once(';').unwrap_or((coding, ""));
        let is_refused = parameters.trim().strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0));
        name.trim().eq_ignore_ascii_case("gzip") && !is_refused
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_taken_when_named_and_not_refused() {
        for (value, accepted) in [
            ("gzip", true),
            ("deflate, GZIP;q=0.5", true),
            ("gzip;q=0", false),
            ("gzip;q=0.0", false),
            ("identity", false),
            ("xgzip", false),
        ] {
            let headers = HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(value))]);
            assert_eq!(accepts_gzip(&headers), accepted, "{value}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }
}
