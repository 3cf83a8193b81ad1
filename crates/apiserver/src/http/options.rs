//! Query options of reads and writes (SPEC 60 §7, §8, §9, §12.1). Pure.

use serde_json::{Value, json};

use crate::request_info::Query;
use crate::status::{ApiError, FieldError, Reason};

/// What happens to unknown and duplicate fields of a body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FieldValidation {
    Ignore,
    #[default]
    Warn,
    Strict,
}

/// Which options type a message names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptionsKind {
    Create,
    Update,
    Patch,
    Delete,
}

impl OptionsKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CreateOptions",
            Self::Update => "UpdateOptions",
            Self::Patch => "PatchOptions",
            Self::Delete => "DeleteOptions",
        }
    }

    fn refuse(self, problems: Vec<FieldError>) -> ApiError {
        ApiError::invalid("meta.k8s.io", self.as_str(), "", problems)
    }
}

/// Options of create, update and patch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WriteOptions {
    pub dry_run: bool,
    pub field_manager: Option<String>,
    pub field_validation: FieldValidation,
}

impl WriteOptions {
    /// # Errors
    /// 422 naming every bad option.
    pub fn parse(query: &Query, kind: OptionsKind) -> Result<Self, ApiError> {
        let mut problems = Vec::new();
        let dry_run = dry_run(query.all("dryRun"), &mut problems);
        let field_manager = query.get("fieldManager").map(str::to_owned);
        if let Some(manager) = &field_manager {
            check_manager(manager, &mut problems);
        }
        let field_validation = match query.get("fieldValidation") {
            None | Some("Warn") => FieldValidation::Warn,
            Some("Ignore") => FieldValidation::Ignore,
            Some("Strict") => FieldValidation::Strict,
            Some(other) => {
                let supported = ["", "Ignore", "Strict", "Warn"];
                problems.push(FieldError::not_supported("fieldValidation", &json!(other), &supported));
                FieldValidation::Warn
            }
        };
        if kind == OptionsKind::Patch && query.has("force") {
            problems.push(FieldError::forbidden("force", "may not be specified for non-apply patch"));
        }
        if problems.is_empty() {
            Ok(Self { dry_run, field_manager, field_validation })
        } else {
            Err(kind.refuse(problems))
        }
    }
}

fn dry_run<'a>(values: impl Iterator<Item = &'a str>, problems: &mut Vec<FieldError>) -> bool {
    let values: Vec<&str> = values.filter(|value| !value.is_empty()).collect();
    if values.iter().any(|value| *value != "All") {
        problems.push(FieldError::not_supported("dryRun", &json!(values), &["All"]));
    }
    !values.is_empty()
}

const MAX_MANAGER_BYTES: usize = 128;

fn check_manager(manager: &str, problems: &mut Vec<FieldError>) {
    if manager.len() > MAX_MANAGER_BYTES {
        problems.push(FieldError::too_long("fieldManager", MAX_MANAGER_BYTES));
    }
    for (position, character) in manager.chars().enumerate() {
        if character.is_control() {
            let detail = format!("invalid character U+{:04X} (at position {position})", u32::from(character));
            problems.push(FieldError::invalid_str("fieldManager", manager, detail));
        }
    }
}

/// Options of delete and deletecollection, from the query or a `DeleteOptions` body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    pub dry_run: bool,
    pub uid: Option<String>,
    pub resource_version: Option<String>,
}

impl DeleteOptions {
    /// `body`: the decoded request body, `None` when it was empty. A body wins over the query, as upstream.
    ///
    /// The propagation policies are checked and have no further effect: dependents are never collected by owner.
    ///
    /// # Errors
    /// 400 for a body of another kind, 422 naming every bad option.
    pub fn parse(query: &Query, body: Option<&Value>) -> Result<Self, ApiError> {
        let mut problems = Vec::new();
        let mut options = Self::default();
        let (policy, orphan, grace) = if let Some(body) = body {
            let Some(object) = body.as_object() else {
                return Err(ApiError::bad_request("the body of a delete must be a DeleteOptions object"));
            };
            if let Some(kind) = object.get("kind").and_then(Value::as_str).filter(|kind| *kind != "DeleteOptions") {
                let text = format!("{kind} cannot be handled as a DeleteOptions");
                return Err(ApiError::bad_request(text));
            }
            let dry = object.get("dryRun").and_then(Value::as_array);
            options.dry_run = dry_run(dry.into_iter().flatten().filter_map(Value::as_str), &mut problems);
            let precondition = |key: &str| {
                let preconditions = object.get("preconditions")?;
                preconditions.get(key)?.as_str().map(str::to_owned)
            };
            options.uid = precondition("uid");
            options.resource_version = precondition("resourceVersion");
            (
                object.get("propagationPolicy").and_then(Value::as_str).map(str::to_owned),
                object.get("orphanDependents").is_some_and(|value| !value.is_null()),
                object.get("gracePeriodSeconds").cloned().filter(|value| !value.is_null()),
            )
        } else {
            options.dry_run = dry_run(query.all("dryRun"), &mut problems);
            let grace = match query.get("gracePeriodSeconds") {
                Some(text) => Some(json!(integer(text)?)),
                None => None,
            };
            (query.get("propagationPolicy").map(str::to_owned), query.get("orphanDependents").is_some(), grace)
        };
        if let Some(policy) = &policy {
            if !matches!(policy.as_str(), "Foreground" | "Background" | "Orphan") {
                let supported = ["Foreground", "Background", "Orphan", "nil"];
                problems.push(FieldError::not_supported("propagationPolicy", &json!(policy), &supported));
            }
            if orphan {
                let text = "orphanDependents and deletionPropagation cannot be both set";
                problems.push(FieldError::invalid_str("propagationPolicy", policy, text));
            }
        }
        if let Some(grace) = grace
            && grace.as_i64().is_none_or(|seconds| seconds < 0)
        {
            problems.push(FieldError::invalid("gracePeriodSeconds", &grace, "must be greater than or equal to 0"));
        }
        if problems.is_empty() { Ok(options) } else { Err(OptionsKind::Delete.refuse(problems)) }
    }
}

/// Go's wording for a number that is none.
fn integer(text: &str) -> Result<i64, ApiError> {
    text.parse()
        .map_err(|_| ApiError::bad_request(format!("strconv.ParseInt: parsing {}: invalid syntax", Value::from(text))))
}

/// How a list or watch relates to `resourceVersion`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionMatch {
    /// No `resourceVersionMatch` given.
    Unspecified,
    NotOlderThan,
    Exact,
}

/// Options of list and watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListOptions {
    /// Page size; `None` for all.
    pub limit: Option<usize>,
    pub continue_token: Option<String>,
    pub label_selector: Option<String>,
    pub field_selector: Option<String>,
    /// `None` when absent; `Some(0)` means any.
    pub resource_version: Option<u64>,
    pub version_match: VersionMatch,
    pub timeout_seconds: Option<u64>,
    pub allow_bookmarks: bool,
    /// `None` when not given.
    pub send_initial_events: Option<bool>,
}

impl ListOptions {
    /// `watch`: whether the rules of a watch apply.
    ///
    /// # Errors
    /// 400 for numbers that are none, 422 for combinations that SPEC 60 §8 and §9 forbid.
    pub fn parse(query: &Query, watch: bool) -> Result<Self, ApiError> {
        let limit = query.get("limit").map(integer).transpose()?;
        let timeout = query.get("timeoutSeconds").map(integer).transpose()?;
        let resource_version = query.get("resourceVersion").map(parse_resource_version).transpose()?;
        let mut problems = Vec::new();
        let version_match = match query.get("resourceVersionMatch") {
            None => VersionMatch::Unspecified,
            Some("NotOlderThan") => VersionMatch::NotOlderThan,
            Some("Exact") => VersionMatch::Exact,
            Some(other) => {
                let supported = ["Exact", "NotOlderThan"];
                problems.push(FieldError::not_supported("resourceVersionMatch", &json!(other), &supported));
                VersionMatch::Unspecified
            }
        };
        let options = Self {
            limit: limit.and_then(|limit| usize::try_from(limit).ok()).filter(|limit| *limit > 0),
            continue_token: query.get("continue").map(str::to_owned),
            label_selector: query.get("labelSelector").map(str::to_owned),
            field_selector: query.get("fieldSelector").map(str::to_owned),
            resource_version,
            version_match,
            timeout_seconds: timeout.and_then(|seconds| u64::try_from(seconds).ok()).filter(|seconds| *seconds > 0),
            allow_bookmarks: query.flag("allowWatchBookmarks"),
            send_initial_events: query.get("sendInitialEvents").map(|_| query.flag("sendInitialEvents")),
        };
        if problems.is_empty() {
            if watch {
                options.check_watch(&mut problems);
            } else {
                options.check_list(&mut problems);
            }
        }
        if !problems.is_empty() {
            return Err(ApiError::invalid("meta.k8s.io", "ListOptions", "", problems));
        }
        if !watch && options.continue_token.is_some() && options.resource_version.is_some_and(|version| version > 0) {
            return Err(ApiError::bad_request("specifying resource version is not allowed when using continue"));
        }
        Ok(options)
    }

    fn check_list(&self, problems: &mut Vec<FieldError>) {
        if self.send_initial_events.is_some() {
            problems.push(FieldError::forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"));
        }
        let Self { version_match, resource_version, continue_token, .. } = self;
        match (version_match, resource_version) {
            (VersionMatch::Unspecified, _) => {}
            (_, None) => problems.push(FieldError::forbidden(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            )),
            (VersionMatch::Exact, Some(0)) => problems.push(FieldError::forbidden(
                "resourceVersionMatch",
                "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
            )),
            (_, Some(_)) if continue_token.is_some() => problems.push(FieldError::forbidden(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden when continue is provided",
            )),
            (VersionMatch::Exact | VersionMatch::NotOlderThan, Some(_)) => {}
        }
    }

    fn check_watch(&self, problems: &mut Vec<FieldError>) {
        match (self.send_initial_events.is_some(), self.version_match) {
            (true, VersionMatch::Unspecified) => problems.push(FieldError::forbidden(
                "resourceVersionMatch",
                "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            )),
            (true, VersionMatch::Exact) => {
                problems.push(FieldError::not_supported("resourceVersionMatch", &json!("Exact"), &["NotOlderThan"]));
            }
            (false, VersionMatch::NotOlderThan | VersionMatch::Exact) => problems.push(FieldError::forbidden(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            )),
            (true, VersionMatch::NotOlderThan) | (false, VersionMatch::Unspecified) => {}
        }
    }
}

/// The `resourceVersion` parameter of get, list and watch.
///
/// # Errors
/// 400 in Go's words.
pub fn parse_resource_version(text: &str) -> Result<u64, ApiError> {
    // Go's ParseUint knows no sign; Rust's would take a plus.
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or_else(|| {
        let shown = Value::from(text);
        ApiError::new(
            Reason::BadRequest,
            format!(
                "invalid resource version: resourceVersion: Invalid value: {shown}: strconv.ParseUint: parsing {shown}: invalid syntax"
            ),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Query {
        Query::parse(text).unwrap()
    }

    #[test]
    fn bad_write_options_are_all_named() {
        let refused = |text: &str, kind| WriteOptions::parse(&query(text), kind).unwrap_err().message;
        assert_eq!(
            refused("dryRun=Some", OptionsKind::Create),
            "CreateOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: [\"Some\"]: supported values: \"All\""
        );
        assert_eq!(
            refused("fieldValidation=Some&fieldManager=a%09b", OptionsKind::Update),
            "UpdateOptions.meta.k8s.io \"\" is invalid: [fieldManager: Invalid value: \"a\\tb\": invalid character U+0009 (at position 1), fieldValidation: Unsupported value: \"Some\": supported values: \"\", \"Ignore\", \"Strict\", \"Warn\"]"
        );
        assert!(
            refused(&format!("fieldManager={}", "a".repeat(129)), OptionsKind::Create)
                .contains("fieldManager: Too long: may not be more than 128 bytes")
        );
        assert!(
            refused("force=true", OptionsKind::Patch)
                .contains("force: Forbidden: may not be specified for non-apply patch")
        );
        let options =
            WriteOptions::parse(&query("dryRun=All&fieldManager=m&fieldValidation=Strict"), OptionsKind::Create)
                .unwrap();
        assert_eq!(
            options,
            WriteOptions { dry_run: true, field_manager: Some("m".into()), field_validation: FieldValidation::Strict }
        );
    }

    #[test]
    fn delete_options_come_from_body_or_query() {
        let body = json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background", "preconditions": {"uid": "u"}});
        let options = DeleteOptions::parse(&query(""), Some(&body)).unwrap();
        assert_eq!(options, DeleteOptions { uid: Some("u".into()), ..DeleteOptions::default() });
        let refused = |text: &str| DeleteOptions::parse(&query(text), None).unwrap_err().message;
        assert!(refused("propagationPolicy=S").contains("propagationPolicy: Unsupported value: \"S\": supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\""));
        assert!(
            refused("propagationPolicy=Orphan&orphanDependents=true")
                .contains("orphanDependents and deletionPropagation cannot be both set")
        );
        assert!(refused("gracePeriodSeconds=-1").contains("gracePeriodSeconds"));
        assert_eq!(refused("gracePeriodSeconds=abc"), "strconv.ParseInt: parsing \"abc\": invalid syntax");
        assert!(DeleteOptions::parse(&query("dryRun=All"), None).unwrap().dry_run);
    }

    #[test]
    fn forbidden_combinations_of_list_and_watch_options_have_their_texts() {
        for (text, watch, expected) in [
            (
                "resourceVersionMatch=Exact",
                false,
                "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
            ),
            (
                "resourceVersion=0&resourceVersionMatch=Exact",
                false,
                "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
            ),
            ("sendInitialEvents=true", false, "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list"),
            ("resourceVersion=5&continue=x", false, "specifying resource version is not allowed when using continue"),
            (
                "resourceVersion=abc",
                false,
                "invalid resource version: resourceVersion: Invalid value: \"abc\": strconv.ParseUint: parsing \"abc\": invalid syntax",
            ),
            ("resourceVersion=%2B1", false, "invalid syntax"),
            ("limit=x", false, "strconv.ParseInt: parsing \"x\": invalid syntax"),
            (
                "sendInitialEvents=true",
                true,
                "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            ),
            (
                "resourceVersionMatch=NotOlderThan",
                true,
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            ),
            (
                "sendInitialEvents=true&resourceVersionMatch=Exact",
                true,
                "Unsupported value: \"Exact\": supported values: \"NotOlderThan\"",
            ),
        ] {
            let error = ListOptions::parse(&query(text), watch).unwrap_err();
            assert!(error.message.contains(expected), "{text}: {}", error.message);
        }
        let options = ListOptions::parse(&query("limit=-1&resourceVersion=0&continue=x"), false).unwrap();
        assert_eq!((options.limit, options.resource_version), (None, Some(0)));
    }
}
