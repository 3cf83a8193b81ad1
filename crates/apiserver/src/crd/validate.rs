//! What makes a definition invalid (SPEC 60 §13.2). Everything wrong is reported at once; metadata beyond the name is
//! checked like that of any object, elsewhere.

use serde_json::{Map, Value, json};

use super::{condition, is_true, jsonpaths, storage_version, versions};
use crate::names;
use crate::schema::Schema;
use crate::status::{FieldError, FieldPath};

const APPROVAL: &str = "api-approved.kubernetes.io";
const MAX_DEPRECATION_WARNING_BYTES: usize = 256;

/// All problems of a new, defaulted definition.
pub fn validate_create(definition: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let root = FieldPath::root("");
    let Some(spec) = definition.get("spec").and_then(Value::as_object) else {
        return vec![FieldError::required("spec", "")];
    };
    let text = |key: &str| spec.get(key).and_then(Value::as_str).unwrap_or_default();
    let group = text("group");
    let no_names = json!({});
    let names = spec.get("names").unwrap_or(&no_names);
    let expected = format!("{}.{group}", names["plural"].as_str().unwrap_or_default());
    let name = definition.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    if name != expected {
        let detail = "must be spec.names.plural+\".\"+spec.group";
        errors.push(FieldError::invalid_str("metadata.name", name, detail));
    }
    approval(definition, group, &mut errors);
    let path = root.field("spec");
    check_group(group, &path.field("group"), &mut errors);
    check_names(names, &path.field("names"), &mut errors);
    match text("scope") {
        "Cluster" | "Namespaced" => {}
        "" => errors.push(FieldError::required(path.field("scope"), "")),
        other => {
            let supported = ["Cluster", "Namespaced"];
            errors.push(FieldError::not_supported(path.field("scope"), &json!(other), &supported));
        }
    }
    check_versions(definition, &path.field("versions"), &mut errors);
    check_conversion(spec, &path.field("conversion"), &mut errors);
    if spec.get("preserveUnknownFields") == Some(&Value::Bool(true)) {
        let detail = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in \
                      spec.versions[*].schema instead";
        errors.push(FieldError::invalid(path.field("preserveUnknownFields"), &json!(true), detail));
    }
    errors
}

/// All problems of a changed, defaulted definition whose `status` is the stored one.
pub fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = validate_create(new);
    let established = is_true(old, "Established");
    let mut immutable = |pointer: &str, path: &str, applies: bool| {
        let (before, after) = (old.pointer(pointer), new.pointer(pointer));
        if applies && before != after {
            errors.push(FieldError::invalid(path, after.unwrap_or(&Value::Null), "field is immutable"));
        }
    };
    immutable("/spec/group", "spec.group", true);
    immutable("/spec/names/plural", "spec.names.plural", true);
    immutable("/spec/scope", "spec.scope", established);
    immutable("/spec/names/kind", "spec.names.kind", established);
    stored_versions(old, new, &mut errors);
    errors
}

/// All problems of a write to `/status`; `new` carries the stored `spec`.
pub fn validate_status_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let stored = new.pointer("/status/storedVersions");
    let names: Vec<&str> = stored.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    if names.is_empty() {
        let value = stored.unwrap_or(&Value::Null);
        errors.push(FieldError::invalid("status.storedVersions", value, "must have at least one stored version"));
    } else if let Some(version) = storage_version(old)
        && !names.contains(&version)
    {
        let detail = format!("must have the storage version {version}");
        errors.push(FieldError::invalid("status.storedVersions", stored.unwrap_or(&Value::Null), detail));
    }
    stored_versions(new, old, &mut errors);
    if is_true(old, "Established") && condition(new, "Established").is_some() && !is_true(new, "Established") {
        errors.push(FieldError::forbidden("status.conditions", "an established definition stays established"));
    }
    errors
}

/// Every version that objects may be stored at must stay declared.
fn stored_versions(status_of: &Value, spec_of: &Value, errors: &mut Vec<FieldError>) {
    let stored = status_of.pointer("/status/storedVersions").and_then(Value::as_array);
    for (index, name) in stored.into_iter().flatten().enumerate() {
        let text = name.as_str().unwrap_or_default();
        if versions(spec_of).iter().any(|version| version["name"] == *name) {
            continue;
        }
        let detail = format!(
            "missing from spec.versions; {text} was previously a storage version, and must remain in spec.versions \
             until a storage migration ensures no data remains persisted in {text} and removes {text} from \
             status.storedVersions"
        );
        let path = FieldPath::root("status");
        let path = path.field("storedVersions");
        errors.push(FieldError::invalid_str(path.index(index), text, detail));
    }
}

/// Groups of the Kubernetes community need an approval, as on any cluster.
fn approval(definition: &Value, group: &str, errors: &mut Vec<FieldError>) {
    if is_protected(group) && approval_annotation(definition).is_empty() {
        let detail = format!(
            "protected groups must have approval annotation \"{APPROVAL}\", \
             see https://github.com/kubernetes/enhancements/pull/1111"
        );
        errors.push(FieldError::required(format!("metadata.annotations[{APPROVAL}]"), detail));
    }
}

/// Whether a group belongs to the Kubernetes community.
pub(super) fn is_protected(group: &str) -> bool {
    ["k8s.io", "kubernetes.io"]
        .iter()
        .any(|domain| group.strip_suffix(domain).is_some_and(|prefix| prefix.is_empty() || prefix.ends_with('.')))
}

pub(super) fn approval_annotation(definition: &Value) -> &str {
    let annotations = definition.pointer("/metadata/annotations");
    annotations.and_then(|annotations| annotations[APPROVAL].as_str()).unwrap_or_default()
}

fn check_group(group: &str, path: &FieldPath<'_>, errors: &mut Vec<FieldError>) {
    if group.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    let problems = names::dns1123_subdomain(group);
    if !problems.is_empty() {
        errors.push(FieldError::invalid_str(path, group, problems.join(",")));
    } else if !group.contains('.') {
        errors.push(FieldError::invalid_str(path, group, "should be a domain with at least one dot"));
    }
}

fn check_names(names: &Value, path: &FieldPath<'_>, errors: &mut Vec<FieldError>) {
    let text = |key: &str| names[key].as_str().unwrap_or_default();
    let mut label = |at: FieldPath<'_>, text: &str| {
        let problems = names::dns1035_label(text);
        if !problems.is_empty() {
            errors.push(FieldError::invalid_str(at, text, problems.join(",")));
        }
    };
    label(path.field("plural"), text("plural"));
    if !text("singular").is_empty() {
        label(path.field("singular"), text("singular"));
    }
    for key in ["shortNames", "categories"] {
        for (index, name) in names[key].as_array().into_iter().flatten().enumerate() {
            label(path.field(key).index(index), name.as_str().unwrap_or_default());
        }
    }
    for key in ["kind", "listKind"] {
        let kind = text(key);
        if kind.is_empty() {
            errors.push(FieldError::required(path.field(key), ""));
            continue;
        }
        let problems = names::dns1035_label(&kind.to_lowercase());
        if !problems.is_empty() {
            let detail = format!("may have mixed case, but should otherwise match: {}", problems.join(","));
            errors.push(FieldError::invalid_str(path.field(key), kind, detail));
        }
    }
    if !text("kind").is_empty() && text("kind") == text("listKind") {
        let detail = "kind and listKind may not be the same";
        errors.push(FieldError::invalid_str(path.field("listKind"), text("listKind"), detail));
    }
}

fn check_versions(definition: &Value, path: &FieldPath<'_>, errors: &mut Vec<FieldError>) {
    let versions = versions(definition);
    for (index, version) in versions.iter().enumerate() {
        let at = path.index(index);
        let name = version["name"].as_str().unwrap_or_default();
        let problems = names::dns1035_label(name);
        if !problems.is_empty() {
            errors.push(FieldError::invalid_str(at.field("name"), name, problems.join(",")));
        }
        check_version(version, &at, errors);
    }
    let whole = definition.pointer("/spec/versions").unwrap_or(&Value::Null);
    let mut names: Vec<&str> = versions.iter().filter_map(|version| version["name"].as_str()).collect();
    names.sort_unstable();
    if names.windows(2).any(|pair| pair.first() == pair.last()) {
        errors.push(FieldError::invalid(path, whole, "must contain unique version names"));
    }
    if versions.iter().filter(|version| version["storage"] == true).count() != 1 {
        errors.push(FieldError::invalid(path, whole, "must have exactly one version marked as storage version"));
    }
}

fn check_version(version: &Value, path: &FieldPath<'_>, errors: &mut Vec<FieldError>) {
    let schema_path = path.field("schema");
    let schema_path = schema_path.field("openAPIV3Schema");
    let mut schema = None;
    match version.get("schema").and_then(|schema| schema.get("openAPIV3Schema")) {
        None | Some(Value::Null) => errors.push(FieldError::required(schema_path, "schemas are required")),
        Some(raw) => match Schema::parse(raw, &schema_path) {
            Ok(parsed) => schema = Some(parsed),
            Err(problems) => errors.extend(problems),
        },
    }
    let list = |key: &str| version[key].as_array().map_or(&[][..], Vec::as_slice);
    jsonpaths::columns(list("additionalPrinterColumns"), &path.field("additionalPrinterColumns"), errors);
    jsonpaths::selectable(list("selectableFields"), schema.as_ref(), &path.field("selectableFields"), errors);
    if let Some(scale) = version.pointer("/subresources/scale").filter(|scale| scale.is_object()) {
        let subresources = path.field("subresources");
        jsonpaths::scale(scale, &subresources.field("scale"), errors);
    }
    if let Some(warning) = version["deprecationWarning"].as_str() {
        let at = path.field("deprecationWarning");
        if version["deprecated"] != true {
            errors.push(FieldError::invalid_str(at, warning, "can only be set for deprecated versions"));
        } else if warning.len() > MAX_DEPRECATION_WARNING_BYTES {
            errors.push(FieldError::too_long(at, MAX_DEPRECATION_WARNING_BYTES));
        } else if warning.is_empty() || warning.chars().any(char::is_control) {
            errors.push(FieldError::invalid_str(at, warning, "must be printable text"));
        }
    }
}

fn check_conversion(spec: &Map<String, Value>, path: &FieldPath<'_>, errors: &mut Vec<FieldError>) {
    let Some(conversion) = spec.get("conversion").and_then(Value::as_object) else { return };
    let strategy = conversion.get("strategy").and_then(Value::as_str).unwrap_or_default();
    let at = path.field("strategy");
    match strategy {
        "None" => {
            if conversion.get("webhook").is_some_and(|webhook| !webhook.is_null()) {
                let detail = "should not be set when strategy is not set to Webhook";
                errors.push(FieldError::forbidden(path.field("webhook"), detail));
            }
        }
        // Accepting it without calling the webhook would corrupt objects.
        "Webhook" => errors.push(FieldError::forbidden(at, "webhook conversion is not supported by this version")),
        "" => errors.push(FieldError::required(at, "")),
        other => errors.push(FieldError::not_supported(at, &json!(other), &["None"])),
    }
}
