//! Building answers: status, headers, encoding.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WARNING, WWW_AUTHENTICATE};
use http::{Response, StatusCode};
use serde_json::Value;

use super::body::Body;
use super::negotiate::{Format, Representation};
use crate::status::{ApiError, Reason};

/// An answer on its way out.
pub type Answer = Response<Body>;

/// Most bytes of all `Warning` headers of one answer (SPEC 60 §3).
const MAX_WARNING_BYTES: usize = 4096;

/// A body of a known media type.
pub fn bytes(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Body::whole(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    answer
}

/// A JSON value in the format the client asked for.
pub fn value(status: StatusCode, representation: Representation, value: &Value) -> Answer {
    match representation.format {
        Format::Json if representation.pretty => bytes(status, "application/json", indented(value)),
        Format::Json => bytes(status, "application/json", value.to_string()),
        Format::Yaml => match serde_saphyr::to_string(value) {
            Ok(text) => bytes(status, "application/yaml", text),
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "a value could not be written as YAML");
                bytes(status, "application/json", value.to_string())
            }
        },
    }
}

/// Text that is already canonical JSON. Parsed again only when another format is wanted.
pub fn encoded(status: StatusCode, representation: Representation, json: Bytes) -> Answer {
    if representation.format == Format::Json && !representation.pretty {
        return bytes(status, "application/json", json);
    }
    match serde_json::from_slice::<Value>(&json) {
        Ok(parsed) => value(status, representation, &parsed),
        Err(_) => bytes(status, "application/json", json),
    }
}

fn indented(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_else(|_| value.to_string())
}

/// A failure as `Status`.
pub fn error(error: &ApiError, format: Format) -> Answer {
    let representation = Representation { format, ..Representation::JSON };
    let status = StatusCode::from_u16(error.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut answer = value(status, representation, &error.to_value());
    if let Some(seconds) = error.retry_after_seconds() {
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if error.reason == Reason::Unauthorized {
        // SPEC 60 §16
        answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"tidegate\""));
    }
    answer
}

/// Plain text.
pub fn text(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    let mut answer = bytes(status, "text/plain; charset=utf-8", text);
    answer.headers_mut().insert(HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
    answer
}

/// SPEC 60 §5.1: a path that belongs to no API.
pub fn page_not_found() -> Answer {
    text(StatusCode::NOT_FOUND, "404 page not found\n")
}

/// Adds `Warning` headers, one each, until 4096 bytes are used.
pub fn warn(answer: &mut Answer, warnings: &[String]) {
    let mut used = 0;
    for warning in warnings {
        let mut text = String::from("299 - \"");
        for character in warning.chars() {
            match character {
                '"' | '\\' => text.extend(['\\', character]),
                _ if character.is_control() => text.push(' '),
                _ => text.push(character),
            }
        }
        text.push('"');
        used += text.len();
        if used > MAX_WARNING_BYTES {
            break;
        }
        if let Ok(value) = HeaderValue::from_bytes(text.as_bytes()) {
            answer.headers_mut().append(WARNING, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_quoted_and_bounded() {
        let mut answer = text(StatusCode::OK, "");
        warn(&mut answer, &["unknown field \"spec.foo\"".to_owned(), "a\nb".to_owned(), "x".repeat(5000)]);
        let warnings: Vec<_> = answer.headers().get_all(WARNING).iter().map(|value| value.to_str().unwrap()).collect();
        assert_eq!(warnings, [r#"299 - "unknown field \"spec.foo\"""#, r#"299 - "a b""#]);
    }

    #[test]
    fn refusals_tell_how_to_come_back() {
        let answer = error(&ApiError::unauthorized(), Format::Json);
        assert_eq!(answer.status(), 401);
        assert_eq!(answer.headers()[WWW_AUTHENTICATE], "Bearer realm=\"tidegate\"");
        let answer = error(&ApiError::too_many_requests("later", 1), Format::Yaml);
        assert_eq!(answer.headers()[RETRY_AFTER], "1");
        assert_eq!(answer.headers()[CONTENT_TYPE], "application/yaml");
    }
}
