//! ConfigMap and Secret.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::{check_unchanged, default_text, fields, object_at, text};
use crate::decode;
use crate::names;
use crate::status::FieldError;

/// Bytes of all values of one object (SPEC 60 §23).
const MAX_BYTES: usize = 1024 * 1024;
const IMMUTABLE: &str = "field is immutable when `immutable` is set";

fn map_at<'a>(object: &'a Value, field: &str) -> &'a Map<String, Value> {
    super::fields_at(fields(object), field)
}

/// Bytes that base64 text stands for.
fn decoded_len(value: &Value) -> usize {
    let text = value.as_str().unwrap_or_default();
    text.len() / 4 * 3 - text.bytes().rev().take_while(|b| *b == b'=').count().min(2)
}

pub(super) fn config_map(object: &Value, old: Option<&Value>, problems: &mut Vec<FieldError>) {
    let (data, binary) = (map_at(object, "data"), map_at(object, "binaryData"));
    for key in data.keys() {
        let path = format!("data[{key}]");
        super::push_all(problems, &path, key, names::config_key(key));
        if binary.contains_key(key) {
            problems.push(FieldError::invalid_str(path, key, "duplicate of key present in binaryData"));
        }
    }
    for key in binary.keys() {
        super::push_all(problems, &format!("binaryData[{key}]"), key, names::config_key(key));
    }
    let bytes = data.values().map(|v| v.as_str().map_or(0, str::len)).sum::<usize>()
        + binary.values().map(decoded_len).sum::<usize>();
    if bytes > MAX_BYTES {
        // The path is upstream's way to print the whole object.
        problems.push(FieldError::too_long("[]", MAX_BYTES));
    }
    check_frozen(object, old, &["data", "binaryData"], problems);
}

/// `immutable: true` can neither be taken back nor can the content change.
fn check_frozen(object: &Value, old: Option<&Value>, content: &[&str], problems: &mut Vec<FieldError>) {
    let Some(old) = old.filter(|old| old.get("immutable") == Some(&Value::Bool(true))) else { return };
    if object.get("immutable") != Some(&Value::Bool(true)) {
        problems.push(FieldError::forbidden("immutable", IMMUTABLE));
    }
    for field in content {
        if map_at(object, field) != map_at(old, field) {
            problems.push(FieldError::forbidden(*field, IMMUTABLE));
        }
    }
}

pub(super) fn secret(object: &mut Value, old: Option<&Value>, problems: &mut Vec<FieldError>) {
    let Some(map) = object.as_object_mut() else { return };
    merge_string_data(map);
    if let Some(kind) = old.and_then(|old| old.get("type")).and_then(Value::as_str) {
        default_text(map, "type", kind);
    }
    default_text(map, "type", "Opaque");
    let object = &*object;
    let data = map_at(object, "data");
    for key in data.keys() {
        super::push_all(problems, &format!("data[{key}]"), key, names::config_key(key));
    }
    if data.values().map(decoded_len).sum::<usize>() > MAX_BYTES {
        problems.push(FieldError::too_long("data", MAX_BYTES));
    }
    check_required_keys(object, data, problems);
    if let Some(old) = old {
        check_unchanged(problems, "type", object.get("type"), old.get("type"));
        check_frozen(object, Some(old), &["data"], problems);
    }
}

/// `stringData` is for writing only: it wins over `data` and is never stored.
fn merge_string_data(map: &mut Map<String, Value>) {
    let Some(Value::Object(plain)) = map.remove("stringData") else { return };
    if plain.is_empty() {
        return;
    }
    if let Some(data) = object_at(map, "data") {
        for (key, value) in plain {
            data.insert(key, Value::String(STANDARD.encode(value.as_str().unwrap_or_default())));
        }
    }
}

fn check_required_keys(object: &Value, data: &Map<String, Value>, problems: &mut Vec<FieldError>) {
    const ACCOUNT: &str = "kubernetes.io/service-account.name";
    let mut require = |keys: &[&str]| {
        for key in keys.iter().filter(|key| !data.contains_key(**key)) {
            problems.push(FieldError::required(format!("data[{key}]"), ""));
        }
    };
    match text(fields(object), "type") {
        "kubernetes.io/tls" => require(&["tls.crt", "tls.key"]),
        // Either is enough.
        "kubernetes.io/basic-auth" if !data.contains_key("username") && !data.contains_key("password") => {
            require(&["username", "password"]);
        }
        "kubernetes.io/ssh-auth" => require(&["ssh-privatekey"]),
        "kubernetes.io/dockerconfigjson" => {
            require(&[".dockerconfigjson"]);
            check_json(data, ".dockerconfigjson", problems);
        }
        "kubernetes.io/dockercfg" => {
            require(&[".dockercfg"]);
            check_json(data, ".dockercfg", problems);
        }
        "kubernetes.io/service-account-token" => {
            let name = object.pointer("/metadata/annotations").map(fields).map(|a| text(a, ACCOUNT));
            if name.unwrap_or_default().is_empty() {
                problems.push(FieldError::required(format!("metadata.annotations[{ACCOUNT}]"), ""));
            }
        }
        _ => {}
    }
}

/// The value must hold JSON; what it holds is not shown.
fn check_json(data: &Map<String, Value>, key: &str, problems: &mut Vec<FieldError>) {
    let Some(value) = data.get(key).and_then(Value::as_str) else { return };
    let bytes = STANDARD.decode(value).unwrap_or_default();
    if decode::json::parse(&bytes).is_err() {
        problems.push(FieldError::invalid_secret(format!("data[{key}]"), "must be valid JSON"));
    }
}
