//! `/livez`, `/readyz`, `/healthz` (SPEC 60 §5.1).

use std::fmt::Write as _;

use http::StatusCode;

use super::respond::{self, Answer};
use crate::request_info::Query;

/// One check: name and, when it fails, why.
pub(super) type Check = (&'static str, Result<(), String>);

/// Answers `/readyz`, `/readyz/<check>` and the like. `path` begins with the endpoint's name.
///
/// The reason of a failure goes to the log, not to the caller: these paths need no credentials.
pub(super) fn answer(endpoint: &str, path: &str, query: &Query, checks: &[Check]) -> Answer {
    let one = path.strip_prefix(endpoint).and_then(|rest| rest.strip_prefix('/'));
    if let Some(name) = one {
        return match checks.iter().find(|(check, _)| *check == name) {
            Some((_, Ok(()))) => respond::text(StatusCode::OK, "ok"),
            Some((_, Err(_))) => failed(format!("internal server error: {name} failed: reason withheld\n")),
            None => respond::page_not_found(),
        };
    }
    let mut text = String::new();
    let mut good = true;
    for (name, state) in checks {
        if query.all("exclude").any(|excluded| excluded == *name) {
            let _ = writeln!(text, "[+]{name} excluded: ok");
            continue;
        }
        match state {
            Ok(()) => {
                let _ = writeln!(text, "[+]{name} ok");
            }
            Err(reason) => {
                good = false;
                tracing::warn!(check = name, "check `{name}` of {endpoint} fails: {reason}");
                let _ = writeln!(text, "[-]{name} failed: reason withheld");
            }
        }
    }
    let word = endpoint.trim_start_matches('/');
    if !good {
        let _ = writeln!(text, "{word} check failed");
        return failed(text);
    }
    if query.has("verbose") {
        let _ = writeln!(text, "{word} check passed");
        return respond::text(StatusCode::OK, text);
    }
    respond::text(StatusCode::OK, "ok")
}

fn failed(text: String) -> Answer {
    respond::text(StatusCode::INTERNAL_SERVER_ERROR, text)
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    async fn ask(path: &str, query: &str) -> (u16, String) {
        let checks = vec![("ping", Ok(())), ("store", Err("disk full".to_owned()))];
        let answer = answer("/readyz", path, &Query::parse(query).unwrap(), &checks);
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn failing_checks_are_named_without_their_reason() {
        assert_eq!(
            ask("/readyz", "").await,
            (500, "[+]ping ok\n[-]store failed: reason withheld\nreadyz check failed\n".into())
        );
        assert_eq!(ask("/readyz", "exclude=store").await, (200, "ok".into()));
        assert_eq!(
            ask("/readyz", "exclude=store&verbose").await,
            (200, "[+]ping ok\n[+]store excluded: ok\nreadyz check passed\n".into())
        );
        assert_eq!(ask("/readyz/ping", "").await, (200, "ok".into()));
        assert_eq!(ask("/readyz/store", "").await.0, 500);
        assert_eq!(ask("/readyz/other", "").await.0, 404);
    }
}
