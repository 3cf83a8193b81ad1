//! WebSocket particulars of a request. SPEC 30 §6.9

use http::header::{CONNECTION, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderMap, HeaderValue};

/// Browsers cannot set headers: a token may come as this sub-protocol, next to a real one.
const BEARER: &str = "bearer.";

fn protocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).map(str::trim)
}

/// The token among the sub-protocols.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    protocols(headers).find_map(|protocol| protocol.strip_prefix(BEARER))
}

/// Makes cleaned headers ask for the upgrade again, without the token among the sub-protocols.
pub(crate) fn ask_again(headers: &mut HeaderMap) {
    if bearer(headers).is_some() {
        let left: Vec<&str> = protocols(headers).filter(|protocol| !protocol.starts_with(BEARER)).collect();
        let left = HeaderValue::try_from(left.join(", ")).ok().filter(|left| !left.is_empty());
        headers.remove(SEC_WEBSOCKET_PROTOCOL);
        if let Some(left) = left {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, left);
        }
    }
    set_upgrade(headers);
}

/// The two headers that belong to an upgrade, in a request and in its answer 101.
pub(crate) fn set_upgrade(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_among_the_sub_protocols_is_found_and_not_passed_on() {
        let mut headers = HeaderMap::new();
        headers.append(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("chat, bearer.a.b.c"));
        headers.append(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("superchat"));
        assert_eq!(bearer(&headers), Some("a.b.c"));
        ask_again(&mut headers);
        assert_eq!(headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().collect::<Vec<_>>(), ["chat, superchat"]);
        assert_eq!((headers[CONNECTION].as_bytes(), headers[UPGRADE].as_bytes()), (&b"upgrade"[..], &b"websocket"[..]));
    }

    #[test]
    fn without_a_token_the_sub_protocols_stay_as_they_are() {
        let mut headers = HeaderMap::new();
        headers.append(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("chat,superchat"));
        assert_eq!(bearer(&headers), None);
        ask_again(&mut headers);
        assert_eq!(headers[SEC_WEBSOCKET_PROTOCOL], "chat,superchat");
    }
}
