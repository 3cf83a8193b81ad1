//! Errors as every Kubernetes client reads them: `Status` bodies with reason, code and causes.
//!
//! [`ApiError`] is the one error type that leaves the API server; nothing else chooses status codes.
//! [`FieldError`] is one problem of a validation pass; [`ApiError::invalid`] joins all of them.
//! Texts are fixed by SPEC 60 §22.1 because kubectl and client libraries match on them.

mod field;

use std::fmt;

use serde_json::{Map, Value, json};

pub use field::{FieldError, FieldErrorKind, FieldPath};

/// Machine readable reason of a failure; [`Reason::as_str`] is the word on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// 400
    BadRequest,
    /// 401
    Unauthorized,
    /// 403
    Forbidden,
    /// 404
    NotFound,
    /// 405
    MethodNotAllowed,
    /// 406
    NotAcceptable,
    /// 409, the name is taken
    AlreadyExists,
    /// 409, version or precondition mismatch
    Conflict,
    /// 410
    Expired,
    /// 413
    RequestEntityTooLarge,
    /// 414 and 431 have no word of their own upstream
    RequestTooLong,
    /// 415
    UnsupportedMediaType,
    /// 422
    Invalid,
    /// 429
    TooManyRequests,
    /// 500
    InternalError,
    /// 500 with a hint to retry
    ServerTimeout,
    /// 503
    ServiceUnavailable,
    /// 504
    Timeout,
}

impl Reason {
    /// The word of `Status.reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest | Self::RequestTooLong => "BadRequest",
            Self::Unauthorized => "Unauthorized",
            Self::Forbidden => "Forbidden",
            Self::NotFound => "NotFound",
            Self::MethodNotAllowed => "MethodNotAllowed",
            Self::NotAcceptable => "NotAcceptable",
            Self::AlreadyExists => "AlreadyExists",
            Self::Conflict => "Conflict",
            Self::Expired => "Expired",
            Self::RequestEntityTooLarge => "RequestEntityTooLarge",
            Self::UnsupportedMediaType => "UnsupportedMediaType",
            Self::Invalid => "Invalid",
            Self::TooManyRequests => "TooManyRequests",
            Self::InternalError => "InternalError",
            Self::ServerTimeout => "ServerTimeout",
            Self::ServiceUnavailable => "ServiceUnavailable",
            Self::Timeout => "Timeout",
        }
    }

    /// The HTTP status that goes with the reason.
    pub fn code(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::NotAcceptable => 406,
            Self::AlreadyExists | Self::Conflict => 409,
            Self::Expired => 410,
            Self::RequestEntityTooLarge => 413,
            Self::RequestTooLong => 414,
            Self::UnsupportedMediaType => 415,
            Self::Invalid => 422,
            Self::TooManyRequests => 429,
            Self::InternalError | Self::ServerTimeout => 500,
            Self::ServiceUnavailable => 503,
            Self::Timeout => 504,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One entry of `details.causes`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// Cause word, for example `FieldValueInvalid`.
    pub reason: &'static str,
    /// Text for people.
    pub message: String,
    /// Path of the field, empty if none.
    pub field: String,
}

/// `Status.details`; empty strings and lists are left out of the JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Details {
    /// Object name.
    pub name: String,
    /// API group, empty for core.
    pub group: String,
    /// Plural resource or Kind, whichever the reason uses (SPEC 60 §22.1).
    pub kind: String,
    /// One per problem.
    pub causes: Vec<Cause>,
    /// Seconds after which a retry makes sense; 0 means no hint.
    pub retry_after_seconds: u32,
}

/// A failed request, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// Decides the HTTP status too, unless [`ApiError::code`] was overridden.
    pub reason: Reason,
    /// HTTP status.
    pub code: u16,
    /// Text for people; never holds Secret values.
    pub message: String,
    /// Structured details; `{}` is sent when absent.
    pub details: Option<Box<Details>>,
    /// `metadata.continue` of a 410 answer to a list (SPEC 60 §8): where the caller may go on.
    pub continue_token: Option<String>,
}

impl std::error::Error for ApiError {}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// `plural` for the core group, `plural.group` otherwise.
pub fn qualified(group: &str, name: &str) -> String {
    if group.is_empty() { name.to_owned() } else { format!("{name}.{group}") }
}

impl ApiError {
    /// An error without details.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, code: reason.code(), message: message.into(), details: None, continue_token: None }
    }

    fn about(reason: Reason, group: &str, kind: &str, name: &str, message: String) -> Self {
        let mut error = Self::new(reason, message);
        let details = error.details_mut();
        group.clone_into(&mut details.group);
        kind.clone_into(&mut details.kind);
        name.clone_into(&mut details.name);
        error
    }

    /// The details, created empty when absent.
    pub fn details_mut(&mut self) -> &mut Details {
        self.details.get_or_insert_default()
    }

    /// Adds one cause.
    #[must_use]
    pub fn with_cause(mut self, reason: &'static str, message: impl Into<String>, field: impl Into<String>) -> Self {
        self.details_mut().causes.push(Cause { reason, message: message.into(), field: field.into() });
        self
    }

    /// Sets `details.retryAfterSeconds`; the HTTP layer sends `Retry-After` from it.
    #[must_use]
    pub fn with_retry_after(mut self, seconds: u32) -> Self {
        self.details_mut().retry_after_seconds = seconds;
        self
    }

    /// Seconds to wait before a retry, if the error says so.
    pub fn retry_after_seconds(&self) -> Option<u32> {
        self.details.as_ref().map(|d| d.retry_after_seconds).filter(|s| *s > 0)
    }

    /// 400
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(Reason::BadRequest, message)
    }

    /// 401
    pub fn unauthorized() -> Self {
        Self::new(Reason::Unauthorized, "Unauthorized")
    }

    /// 403 about a resource; `name` may be empty (collections), `why` follows `is forbidden: `.
    pub fn forbidden(group: &str, plural: &str, name: &str, why: &str) -> Self {
        let what = qualified(group, plural);
        let message = if name.is_empty() {
            format!("{what} is forbidden: {why}")
        } else {
            format!("{what} \"{name}\" is forbidden: {why}")
        };
        Self::about(Reason::Forbidden, group, plural, name, message)
    }

    /// 403 of a create inside a namespace that is going away (SPEC 60 §12.3).
    pub fn namespace_terminating(group: &str, plural: &str, name: &str, namespace: &str) -> Self {
        let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
        Self::forbidden(group, plural, name, &why).with_cause(
            "NamespaceTerminating",
            format!("namespace {namespace} is being terminated"),
            "metadata.namespace",
        )
    }

    /// 404 of a named object; `plural` as in the URL.
    pub fn not_found(group: &str, plural: &str, name: &str) -> Self {
        let message = format!("{} \"{name}\" not found", qualified(group, plural));
        Self::about(Reason::NotFound, group, plural, name, message)
    }

    /// 404 of a path that no resource serves.
    pub fn no_such_path() -> Self {
        Self::new(Reason::NotFound, "the server could not find the requested resource")
    }

    /// 405
    pub fn method_not_allowed() -> Self {
        Self::new(Reason::MethodNotAllowed, "the server does not allow this method on the requested resource")
    }

    /// 406
    pub fn not_acceptable() -> Self {
        Self::new(
            Reason::NotAcceptable,
            "only the following media types are accepted: application/json, application/yaml",
        )
    }

    /// 409 of a create over an existing name.
    pub fn already_exists(group: &str, plural: &str, name: &str) -> Self {
        let message = format!("{} \"{name}\" already exists", qualified(group, plural));
        Self::about(Reason::AlreadyExists, group, plural, name, message)
    }

    /// 409 after every generated name was taken (SPEC 60 §6, `generateName`).
    pub fn name_generation_exhausted(group: &str, plural: &str, name: &str) -> Self {
        let mut error = Self::already_exists(group, plural, name).with_retry_after(1);
        error.message.push_str(", the server was not able to generate a unique name for the object");
        error
    }

    /// 409 `Operation cannot be fulfilled on ...`; `kind` is the plural, or the Kind for delete preconditions.
    pub fn conflict(group: &str, kind: &str, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} \"{name}\": {why}", qualified(group, kind));
        Self::about(Reason::Conflict, group, kind, name, message)
    }

    /// 409 of a write at a stale `resourceVersion`; clients match on this text.
    pub fn stale_version(group: &str, plural: &str, name: &str) -> Self {
        Self::conflict(
            group,
            plural,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// 409 of an update whose `metadata.uid` is another object's (SPEC 60 §6).
    pub fn uid_mismatch(group: &str, plural: &str, name: &str, asked: &str, found: &str) -> Self {
        let why = format!("Precondition failed: UID in precondition: {asked}, UID in object meta: {found}");
        Self::conflict(group, plural, name, &why)
    }

    /// 410 of a watch or exact list at a version that is gone.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(Reason::Expired, message)
    }

    /// 410 of a list page whose snapshot is gone; `fresh` continues at the same key in the newest state.
    pub fn expired_continue(fresh: String) -> Self {
        let mut error = Self::expired(
            "The provided continue parameter is too old to display a consistent list result. You can start a new \
             list without the continue parameter, or use the continue token in this response to retrieve the \
             remainder of the results. Continuing with the provided token results in an inconsistent list - \
             objects that were created, modified, or deleted between the time the first chunk was returned and \
             now may show up in the list.",
        );
        error.continue_token = Some(fresh);
        error
    }

    /// 413; `limit` in bytes.
    pub fn body_too_large(limit: usize) -> Self {
        Self::new(Reason::RequestEntityTooLarge, format!("Request entity too large: limit is {limit}"))
    }

    /// 431; the header fields of a request may have `limit` bytes.
    pub fn headers_too_large(limit: usize) -> Self {
        let message = format!("the request's header fields are longer than {limit} bytes");
        Self { code: 431, ..Self::new(Reason::RequestTooLong, message) }
    }

    /// 413 with a text of its own.
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(Reason::RequestEntityTooLarge, message)
    }

    /// 415; `accepted` are the media types the resource takes.
    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        Self::new(
            Reason::UnsupportedMediaType,
            format!(
                "the body of the request was in an unknown format - accepted media types include: {}",
                accepted.join(", ")
            ),
        )
    }

    /// 422 with every problem found, in order, equal ones once. `kind` is the Kind, not the plural.
    pub fn invalid(group: &str, kind: &str, name: &str, problems: Vec<FieldError>) -> Self {
        let mut texts: Vec<String> = Vec::with_capacity(problems.len());
        let mut causes: Vec<Cause> = Vec::with_capacity(problems.len());
        for problem in problems {
            let text = problem.to_string();
            if texts.contains(&text) {
                continue;
            }
            texts.push(text);
            causes.push(Cause { reason: problem.kind().cause(), message: problem.body(), field: problem.into_path() });
        }
        let joined = match texts.as_slice() {
            [] => String::new(),
            [one] => format!(": {one}"),
            many => format!(": [{}]", many.join(", ")),
        };
        let message = format!("{} \"{name}\" is invalid{joined}", qualified(group, kind));
        let mut error = Self::about(Reason::Invalid, group, kind, name, message);
        error.details_mut().causes = causes;
        error
    }

    /// 422 without a field, as a refused JSON patch answers (SPEC 60 §10.2).
    pub fn unprocessable() -> Self {
        Self::new(Reason::Invalid, "the server rejected our request due to an error in our request")
    }

    /// 429 with a retry hint.
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        Self::new(Reason::TooManyRequests, message).with_retry_after(retry_after_seconds)
    }

    /// 500; `what` must hold nothing internal beyond what a caller may see (80 §6: the request id).
    pub fn internal(what: impl fmt::Display) -> Self {
        Self::new(Reason::InternalError, format!("Internal error occurred: {what}"))
    }

    /// 503
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(Reason::ServiceUnavailable, message)
    }

    /// 504; the text starts with `Timeout: `.
    pub fn timeout(what: &str) -> Self {
        Self::new(Reason::Timeout, format!("Timeout: {what}"))
    }

    /// 504 of a read at a version that does not exist yet (SPEC 60 §8).
    pub fn resource_version_too_large(requested: u64, current: u64) -> Self {
        Self::timeout(&format!("Too large resource version: {requested}, current: {current}"))
            .with_cause("ResourceVersionTooLarge", "Too large resource version", "")
            .with_retry_after(1)
    }

    /// The `Status` object.
    pub fn to_value(&self) -> Value {
        let mut metadata = Map::new();
        if let Some(token) = &self.continue_token {
            metadata.insert("continue".to_owned(), Value::String(token.clone()));
        }
        json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": metadata,
            "status": "Failure",
            "message": self.message,
            "reason": self.reason.as_str(),
            "details": self.details.as_deref().map_or_else(|| Value::Object(Map::new()), Details::to_value),
            "code": self.code,
        })
    }

    /// The `Status` object as JSON text, without a final line break.
    pub fn to_json(&self) -> String {
        self.to_value().to_string()
    }
}

impl Details {
    fn to_value(&self) -> Value {
        let mut out = Map::new();
        for (key, value) in [("name", &self.name), ("group", &self.group), ("kind", &self.kind)] {
            if !value.is_empty() {
                out.insert(key.to_owned(), Value::String(value.clone()));
            }
        }
        if !self.causes.is_empty() {
            out.insert("causes".to_owned(), self.causes.iter().map(Cause::to_value).collect());
        }
        if self.retry_after_seconds > 0 {
            out.insert("retryAfterSeconds".to_owned(), self.retry_after_seconds.into());
        }
        Value::Object(out)
    }
}

impl Cause {
    fn to_value(&self) -> Value {
        let mut out = Map::new();
        for (key, value) in [("reason", self.reason), ("message", &self.message), ("field", &self.field)] {
            if !value.is_empty() {
                out.insert(key.to_owned(), Value::String(value.to_owned()));
            }
        }
        Value::Object(out)
    }
}

/// The `Status` of a delete that removed the object at once (SPEC 60 §12.1); `plural` as in the URL.
pub fn deleted(group: &str, plural: &str, name: &str, uid: &str) -> Value {
    let mut details = Map::new();
    for (key, value) in [("name", name), ("group", group), ("kind", plural), ("uid", uid)] {
        if !value.is_empty() {
            details.insert(key.to_owned(), Value::String(value.to_owned()));
        }
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}

#[cfg(test)]
mod tests;
