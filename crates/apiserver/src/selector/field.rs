//! `metadata.name=a,status.phase!=Active`: the field selector language and the fields each kind offers.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde_json::Value;

use crate::status::ApiError;

/// A field of a kind that selectors may name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelectableField {
    /// Name in the selector, without a leading dot: `involvedObject.kind`.
    pub label: String,
    /// Where to look, first hit wins; each is a list of object keys.
    paths: Vec<Vec<String>>,
}

impl SelectableField {
    /// A field found under its own name.
    pub fn at(label: &str) -> Self {
        Self::alias(label, &[label])
    }

    /// A field with a name of its own, looked up at each dotted path in turn.
    pub fn alias(label: &str, paths: &[&str]) -> Self {
        let split = |path: &&str| path.trim_start_matches('.').split('.').map(str::to_owned).collect();
        Self { label: label.trim_start_matches('.').to_owned(), paths: paths.iter().map(split).collect() }
    }

    fn value<'v>(&self, object: &'v Value) -> Cow<'v, str> {
        for path in &self.paths {
            let found = path.iter().try_fold(object, |at, key| at.get(key));
            match found {
                Some(Value::String(text)) if !text.is_empty() => return Cow::Borrowed(text),
                Some(Value::Bool(flag)) => return Cow::Borrowed(if *flag { "true" } else { "false" }),
                Some(Value::Number(number)) => return Cow::Owned(number.to_string()),
                _ => {}
            }
        }
        Cow::Borrowed("")
    }
}

/// Which fields the selectors of one resource may name. `metadata.name` and `metadata.namespace` always may.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SupportedFields {
    extra: Vec<SelectableField>,
    is_custom: bool,
}

impl SupportedFields {
    /// The fields of a built-in resource, by group and plural.
    // SPEC 60 §8
    pub fn builtin(group: &str, plural: &str) -> Self {
        let extra = match (group, plural) {
            ("", "secrets") => vec![SelectableField::at("type")],
            ("", "namespaces") => {
                vec![SelectableField::at("status.phase"), SelectableField::alias("name", &["metadata.name"])]
            }
            ("" | "events.k8s.io", "events") => event_fields(),
            ("certificates.k8s.io", "certificatesigningrequests") => vec![SelectableField::at("spec.signerName")],
            _ => Vec::new(),
        };
        Self { extra, is_custom: false }
    }

    /// The fields of a custom resource: `json_paths` are its version's `selectableFields[].jsonPath` (`.spec.x`).
    pub fn custom<'p>(json_paths: impl IntoIterator<Item = &'p str>) -> Self {
        Self { extra: json_paths.into_iter().map(SelectableField::at).collect(), is_custom: true }
    }

    fn find(&self, label: &str) -> Result<SelectableField, String> {
        if matches!(label, "metadata.name" | "metadata.namespace") {
            return Ok(SelectableField::at(label));
        }
        if let Some(field) = self.extra.iter().find(|f| f.label == label) {
            return Ok(field.clone());
        }
        if self.extra.is_empty() && !self.is_custom {
            return Err(format!(
                "{} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
                Value::String(label.to_owned())
            ));
        }
        Err(format!("field label not supported: {label}"))
    }
}

/// Events have one storage and two faces; a selector works on whichever face it meets.
fn event_fields() -> Vec<SelectableField> {
    let mut fields: Vec<SelectableField> =
        ["kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath"]
            .into_iter()
            .flat_map(|leaf| {
                let core = format!("involvedObject.{leaf}");
                let newer = format!("regarding.{leaf}");
                [SelectableField::alias(&core, &[&core, &newer]), SelectableField::alias(&newer, &[&newer, &core])]
            })
            .collect();
    fields.push(SelectableField::at("reason"));
    fields.push(SelectableField::at("type"));
    for label in ["reportingComponent", "reportingController"] {
        fields.push(SelectableField::alias(label, &["reportingComponent", "reportingController"]));
    }
    fields.push(SelectableField::alias(
        "source",
        &["source.component", "deprecatedSource.component", "reportingComponent", "reportingController"],
    ));
    fields
}

/// A parsed field selector: all terms must hold. The empty selector matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSelector {
    terms: Vec<Term>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Term {
    field: SelectableField,
    value: String,
    negated: bool,
}

impl FieldSelector {
    /// Parses the value of `fieldSelector` for a resource with the given fields; 400 on bad syntax or unknown fields.
    pub fn parse(text: &str, supported: &SupportedFields) -> Result<Self, ApiError> {
        let mut terms = Vec::new();
        for part in split_terms(text) {
            if part.is_empty() {
                continue;
            }
            if terms.len() == super::MAX_TERMS {
                return Err(ApiError::bad_request(format!(
                    "the field selector has more than {} terms",
                    super::MAX_TERMS
                )));
            }
            terms.push(parse_term(text, part, supported).map_err(ApiError::bad_request)?);
        }
        Ok(Self { terms })
    }

    /// True if nothing is asked.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// True if `object` satisfies every term; absent fields have the empty value.
    pub fn matches(&self, object: &Value) -> bool {
        self.terms.iter().all(|term| (term.field.value(object) == term.value) != term.negated)
    }

    /// The one name that can match, if the selector asks for `metadata.name=x`.
    pub fn exact_name(&self) -> Option<&str> {
        self.exact("metadata.name")
    }

    /// The one namespace that can match, if the selector asks for `metadata.namespace=x`.
    pub fn exact_namespace(&self) -> Option<&str> {
        self.exact("metadata.namespace")
    }

    fn exact(&self, label: &str) -> Option<&str> {
        self.terms.iter().find(|t| !t.negated && t.field.label == label).map(|t| t.value.as_str())
    }
}

/// Splits at commas that no backslash escapes.
fn split_terms(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut start = 0;
    let mut escaped = false;
    for (i, c) in text.char_indices() {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == ',' {
            parts.push(text.get(start..i).unwrap_or_default());
            start = i + 1;
        }
    }
    parts.push(text.get(start..).unwrap_or_default());
    parts
}

fn parse_term(whole: &str, part: &str, supported: &SupportedFields) -> Result<Term, String> {
    let misunderstood = || format!("invalid selector: '{whole}'; can't understand '{part}'");
    let at = part.find(['=', '!']).ok_or_else(misunderstood)?;
    let (label, rest) = part.split_at(at);
    let (negated, raw) = match rest.strip_prefix("!=") {
        Some(raw) => (true, raw),
        None => (false, rest.strip_prefix("==").or_else(|| rest.strip_prefix('=')).ok_or_else(misunderstood)?),
    };
    let field = supported.find(label)?;
    Ok(Term { field, value: unescape(raw)?, negated })
}

fn unescape(raw: &str) -> Result<String, String> {
    let mut out = String::with_capacity(raw.len());
    let mut chars = raw.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(escaped @ ('\\' | ',' | '=')) => out.push(escaped),
                other => {
                    let mut sequence = String::from("\\");
                    if let Some(other) = other {
                        let _ = write!(sequence, "{other}");
                    }
                    return Err(format!("invalid field selector: invalid escape sequence: {sequence}"));
                }
            },
            '=' => return Err("invalid field selector: unescaped character in value: '='".to_owned()),
            other => out.push(other),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn check(group: &str, plural: &str, selector: &str, object: &Value) -> bool {
        FieldSelector::parse(selector, &SupportedFields::builtin(group, plural)).expect("parses").matches(object)
    }

    #[test]
    fn every_resource_selects_by_name_and_namespace() {
        let object = json!({"metadata": {"name": "a", "namespace": "b"}});
        assert!(check("", "configmaps", "metadata.name=a,metadata.namespace==b", &object));
        assert!(check("", "configmaps", "metadata.name!=b", &object));
        assert!(check("", "configmaps", "", &object));
        assert!(!check("", "configmaps", "metadata.name=b", &object));
    }

    #[test]
    fn kinds_offer_their_own_fields() {
        assert!(check("", "secrets", "type=Opaque", &json!({"type": "Opaque"})));
        let ns = json!({"metadata": {"name": "x"}, "status": {"phase": "Active"}});
        assert!(check("", "namespaces", "status.phase=Active,name=x", &ns));
        let core = json!({"involvedObject": {"kind": "Api", "uid": "u"}, "source": {"component": "c"}});
        assert!(check("", "events", "involvedObject.kind=Api,involvedObject.uid=u,source=c", &core));
        let newer = json!({"regarding": {"kind": "Api"}, "reportingController": "c"});
        assert!(check("events.k8s.io", "events", "regarding.kind=Api,reportingController=c", &newer));
        assert!(check("", "events", "involvedObject.name=", &core));
    }

    #[test]
    fn custom_resources_select_by_their_declared_paths() {
        let fields = SupportedFields::custom([".spec.color", ".spec.size", ".spec.on"]);
        let selector = FieldSelector::parse("spec.color=red,spec.size=3,spec.on=true", &fields).expect("parses");
        assert!(selector.matches(&json!({"spec": {"color": "red", "size": 3, "on": true}})));
        assert!(!selector.matches(&json!({"spec": {"color": "red"}})));
        let error = FieldSelector::parse("spec.foo=1", &fields).expect_err("unknown");
        assert_eq!(error.message, "field label not supported: spec.foo");
    }

    #[test]
    fn unknown_fields_and_bad_syntax_are_400() {
        let rows = [
            (
                "configmaps",
                "spec.foo=1",
                "\"spec.foo\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
            ),
            ("secrets", "spec.foo=1", "field label not supported: spec.foo"),
            ("configmaps", "a", "invalid selector: 'a'; can't understand 'a'"),
            ("configmaps", "a!b", "invalid selector: 'a!b'; can't understand 'a!b'"),
            ("configmaps", "metadata.name=a\\b", "invalid field selector: invalid escape sequence: \\b"),
            ("configmaps", "metadata.name=a=b", "invalid field selector: unescaped character in value: '='"),
        ];
        for (plural, selector, expected) in rows {
            let error = FieldSelector::parse(selector, &SupportedFields::builtin("", plural)).expect_err(selector);
            assert_eq!((error.code, error.message.as_str()), (400, expected));
        }
    }

    #[test]
    fn an_exact_name_is_found() {
        let fields = SupportedFields::default();
        let selector = FieldSelector::parse("metadata.name=a,metadata.namespace!=b", &fields).expect("parses");
        assert_eq!((selector.exact_name(), selector.exact_namespace()), (Some("a"), None));
    }

    proptest! {
        #[test]
        fn escaped_values_come_back_whole(value in "[a-c,=\\\\]{0,8}") {
            let escaped = value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=");
            let selector = FieldSelector::parse(&format!("metadata.name={escaped}"), &SupportedFields::default());
            let selector = selector.expect("parses");
            prop_assert_eq!(selector.exact_name(), Some(value.as_str()));
        }

        #[test]
        fn any_text_is_answered(text in "[a-b!=,.\\\\]{0,16}") {
            let _ = FieldSelector::parse(&text, &SupportedFields::default());
        }
    }
}
