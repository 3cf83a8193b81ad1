//! One problem of one field, and the paths that name fields.

use std::fmt::{self, Write as _};

use serde_json::Value;

/// Longest value shown in a message, in bytes of its JSON form (SPEC 60 §22.1, ours).
const MAX_SHOWN_VALUE: usize = 1024;

/// What stands in for a value that must not be shown.
const REDACTED: &str = "\"<secret contents redacted>\"";

/// Sort of a [`FieldError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldErrorKind {
    /// A referenced thing is missing.
    NotFound,
    /// The field must be given.
    Required,
    /// The value occurs twice.
    Duplicate,
    /// The value breaks a rule.
    Invalid,
    /// The value is none of a closed set.
    NotSupported,
    /// The field must not be set (now).
    Forbidden,
    /// The value has too many bytes.
    TooLong,
    /// The list or map has too many entries.
    TooMany,
    /// The value has the wrong JSON type.
    TypeInvalid,
    /// A check could not be carried out.
    Internal,
}

impl FieldErrorKind {
    /// Word of `causes[].reason`.
    pub fn cause(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::Internal => "InternalError",
        }
    }
}

/// One problem of one field: `path: body`.
///
/// The value is rendered (and cut to 1 KiB) when the error is made, so that a large or secret
/// value does not live on in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    kind: FieldErrorKind,
    path: String,
    value: String,
    detail: String,
}

impl FieldError {
    fn make(kind: FieldErrorKind, path: impl Into<String>, value: String, detail: impl Into<String>) -> Self {
        Self { kind, path: path.into(), value, detail: detail.into() }
    }

    /// `Required value[: detail]`; an empty detail adds nothing.
    pub fn required(path: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::make(FieldErrorKind::Required, path, String::new(), detail)
    }

    /// `Duplicate value: VALUE`.
    pub fn duplicate(path: impl Into<String>, value: &Value) -> Self {
        Self::make(FieldErrorKind::Duplicate, path, shown(value), "")
    }

    /// `Invalid value: VALUE: detail`.
    pub fn invalid(path: impl Into<String>, value: &Value, detail: impl Into<String>) -> Self {
        Self::make(FieldErrorKind::Invalid, path, shown(value), detail)
    }

    /// [`FieldError::invalid`] with a string as value.
    pub fn invalid_str(path: impl Into<String>, value: &str, detail: impl Into<String>) -> Self {
        Self::make(FieldErrorKind::Invalid, path, shown_str(value), detail)
    }

    /// [`FieldError::invalid`] for values that must not be shown.
    pub fn invalid_secret(path: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::make(FieldErrorKind::Invalid, path, REDACTED.to_owned(), detail)
    }

    /// `Invalid value: VALUE: detail` with cause `FieldValueTypeInvalid`.
    pub fn type_invalid(path: impl Into<String>, value: &Value, detail: impl Into<String>) -> Self {
        Self::make(FieldErrorKind::TypeInvalid, path, shown(value), detail)
    }

    /// `Unsupported value: VALUE: supported values: "a", "b"`.
    pub fn not_supported(path: impl Into<String>, value: &Value, supported: &[&str]) -> Self {
        let mut detail = String::from("supported values: ");
        for (i, one) in supported.iter().enumerate() {
            if i > 0 {
                detail.push_str(", ");
            }
            detail.push_str(&shown_str(one));
        }
        Self::make(FieldErrorKind::NotSupported, path, shown(value), detail)
    }

    /// `Forbidden: detail`.
    pub fn forbidden(path: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::make(FieldErrorKind::Forbidden, path, String::new(), detail)
    }

    /// `Too long: may not be more than N bytes`.
    pub fn too_long(path: impl Into<String>, max_bytes: usize) -> Self {
        let detail = format!("may not be more than {max_bytes} bytes");
        Self::make(FieldErrorKind::TooLong, path, String::new(), detail)
    }

    /// `Too many: N: must have at most M items` (`item` for 1).
    pub fn too_many(path: impl Into<String>, actual: usize, max: usize) -> Self {
        let noun = if max == 1 { "item" } else { "items" };
        let detail = format!("must have at most {max} {noun}");
        Self::make(FieldErrorKind::TooMany, path, actual.to_string(), detail)
    }

    /// `Not found: VALUE`.
    pub fn not_found(path: impl Into<String>, value: &Value) -> Self {
        Self::make(FieldErrorKind::NotFound, path, shown(value), "")
    }

    /// `Internal error: detail`.
    pub fn internal(path: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::make(FieldErrorKind::Internal, path, String::new(), detail)
    }

    /// What sort of problem it is.
    pub fn kind(&self) -> FieldErrorKind {
        self.kind
    }

    /// Where it is; `<nil>` when it belongs to no field.
    pub fn path(&self) -> &str {
        if self.path.is_empty() { "<nil>" } else { &self.path }
    }

    pub(super) fn into_path(self) -> String {
        if self.path.is_empty() { "<nil>".to_owned() } else { self.path }
    }

    /// The text behind `path: `, also `causes[].message`.
    pub fn body(&self) -> String {
        let Self { value, detail, .. } = self;
        let head = match self.kind {
            FieldErrorKind::Required => "Required value".to_owned(),
            FieldErrorKind::Forbidden => "Forbidden".to_owned(),
            FieldErrorKind::TooLong => "Too long".to_owned(),
            FieldErrorKind::Internal => "Internal error".to_owned(),
            FieldErrorKind::Duplicate => format!("Duplicate value: {value}"),
            FieldErrorKind::NotFound => format!("Not found: {value}"),
            FieldErrorKind::Invalid | FieldErrorKind::TypeInvalid => format!("Invalid value: {value}"),
            FieldErrorKind::NotSupported => format!("Unsupported value: {value}"),
            FieldErrorKind::TooMany => format!("Too many: {value}"),
        };
        if detail.is_empty() { head } else { format!("{head}: {detail}") }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path(), self.body())
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => shown_str(text),
        other => cut(other.to_string()),
    }
}

fn shown_str(text: &str) -> String {
    if text.len() <= MAX_SHOWN_VALUE {
        return Value::String(text.to_owned()).to_string();
    }
    let end = (0..=MAX_SHOWN_VALUE).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
    let head = text.get(..end).unwrap_or_default();
    Value::String(format!("{head}...")).to_string()
}

fn cut(mut text: String) -> String {
    if text.len() > MAX_SHOWN_VALUE {
        let end = (0..=MAX_SHOWN_VALUE).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
        text.truncate(end);
        text.push_str("...");
    }
    text
}

/// Path of a field as validation prints it: `spec.ports[0].name`, `data[my.key]`.
///
/// Paths are built while walking down and only turned into text for an error.
#[derive(Debug, Clone, Copy)]
pub struct FieldPath<'a> {
    parent: Option<&'a Self>,
    step: Step<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Step<'a> {
    Name(&'a str),
    Index(usize),
    Key(&'a str),
}

impl<'a> FieldPath<'a> {
    /// The first step; `""` is the object itself.
    pub fn root(name: &'a str) -> Self {
        Self { parent: None, step: Step::Name(name) }
    }

    /// A field of this one.
    #[must_use]
    pub fn field(&'a self, name: &'a str) -> Self {
        Self { parent: Some(self), step: Step::Name(name) }
    }

    /// A list element of this one.
    #[must_use]
    pub fn index(&'a self, index: usize) -> Self {
        Self { parent: Some(self), step: Step::Index(index) }
    }

    /// A map entry of this one.
    #[must_use]
    pub fn key(&'a self, key: &'a str) -> Self {
        Self { parent: Some(self), step: Step::Key(key) }
    }

    fn write(&self, out: &mut String) {
        if let Some(parent) = self.parent {
            parent.write(out);
        }
        match self.step {
            Step::Name(name) => {
                if !out.is_empty() && !name.is_empty() {
                    out.push('.');
                }
                out.push_str(name);
            }
            Step::Index(index) => {
                let _ = write!(out, "[{index}]");
            }
            Step::Key(key) => {
                let _ = write!(out, "[{key}]");
            }
        }
    }
}

impl fmt::Display for FieldPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        self.write(&mut out);
        f.write_str(&out)
    }
}

impl From<FieldPath<'_>> for String {
    fn from(path: FieldPath<'_>) -> Self {
        path.to_string()
    }
}

impl From<&FieldPath<'_>> for String {
    fn from(path: &FieldPath<'_>) -> Self {
        path.to_string()
    }
}
