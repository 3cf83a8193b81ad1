//! Checking an object against its schema, with the wording that kube-apiserver uses (SPEC 60 §13.3).

use std::collections::HashSet;

use serde_json::{Map, Number, Value, json};

use super::{Additional, Checks, Kind, ListType, MAX_ERRORS, Node, embedded};
use crate::status::{FieldError, FieldPath};

/// All problems of `value`, at most [`MAX_ERRORS`]; parts equal to those of `old` are taken as valid.
pub(super) fn object(node: &Node, value: &Value, old: Option<&Value>, path: &FieldPath<'_>) -> Vec<FieldError> {
    let mut sink = Sink::default();
    check(node, value, old, path, &mut sink);
    sink.errors.truncate(MAX_ERRORS);
    sink.errors
}

#[derive(Default)]
struct Sink {
    errors: Vec<FieldError>,
    /// How many groups of rules applied. Of several failing alternatives, the one where most applied is reported.
    applied: usize,
}

impl Sink {
    fn invalid(&mut self, path: &FieldPath<'_>, value: &Value, what: &str) {
        self.errors.push(FieldError::invalid(path, value, format!("{path} in body {what}")));
    }

    fn is_full(&self) -> bool {
        self.errors.len() >= MAX_ERRORS
    }
}

fn check(node: &Node, value: &Value, old: Option<&Value>, path: &FieldPath<'_>, sink: &mut Sink) {
    // SPEC 60 §13.3: ratcheting.
    if sink.is_full() || old == Some(value) {
        return;
    }
    check_type(node, value, path, sink);
    sink.applied += 1;
    if value.is_null() {
        check_enumeration(&node.checks, value, path, sink);
        return;
    }
    check_alternatives(&node.checks, value, path, sink);
    match value {
        Value::String(text) => check_string(node, text, value, path, sink),
        Value::Number(number) => check_number(node, number, value, path, sink),
        Value::Array(items) => check_items(node, items, old.and_then(Value::as_array), path, sink),
        Value::Object(_) | Value::Bool(_) | Value::Null => {}
    }
    check_enumeration(&node.checks, value, path, sink);
    if let Value::Object(map) = value {
        check_object(node, map, old.and_then(Value::as_object), path, sink);
    }
}

/// The name of a value's type in messages.
pub(super) fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if is_integral(number) => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn is_integral(number: &Number) -> bool {
    number.is_i64() || number.is_u64() || number.as_f64().is_some_and(|float| float.fract() == 0.0)
}

fn check_type(node: &Node, value: &Value, path: &FieldPath<'_>, sink: &mut Sink) {
    let expected = if node.is_int_or_string { "integer,string" } else { node.kind.map_or("", Kind::as_str) };
    let fits = expected.is_empty()
        || match value {
            Value::Null => node.nullable,
            Value::Number(_) if node.kind == Some(Kind::Number) => true,
            other => expected.split(',').any(|kind| kind == json_type(other)),
        };
    if !fits {
        let found = json_type(value);
        let detail = format!("{path} in body must be of type {expected}: \"{found}\"");
        sink.errors.push(FieldError::type_invalid(path, &json!(found), detail));
    }
}

/// `anyOf`, `oneOf`, `allOf`, `not`. Alternatives never ratchet: whether one fits depends on all of the value.
fn check_alternatives(checks: &Checks, value: &Value, path: &FieldPath<'_>, sink: &mut Sink) {
    let run = |node: &Node| {
        let mut branch = Sink::default();
        check(node, value, None, path, &mut branch);
        branch
    };
    let report = |sink: &mut Sink, what: &str| {
        // SPEC 60 §13.3: these belong to no field; the path is in the text.
        sink.errors.push(FieldError::invalid_str("", "", format!("{} {what}", json!(path.to_string()))));
    };
    let best = |best: &mut Option<Sink>, branch: Sink| {
        if best.as_ref().is_none_or(|best| branch.applied > best.applied) {
            *best = Some(branch);
        }
    };
    if !checks.any_of.is_empty() {
        sink.applied += 1;
        let mut failures = None;
        let mut fits = false;
        for node in &checks.any_of {
            let branch = run(node);
            if branch.errors.is_empty() {
                fits = true;
                break;
            }
            best(&mut failures, branch);
        }
        if !fits {
            report(sink, "must validate at least one schema (anyOf)");
            sink.errors.extend(failures.into_iter().flat_map(|branch: Sink| branch.errors));
        }
    }
    if !checks.one_of.is_empty() {
        sink.applied += 1;
        let mut failures = None;
        let mut fitting = 0_usize;
        for node in &checks.one_of {
            let branch = run(node);
            if branch.errors.is_empty() {
                fitting += 1;
            } else {
                best(&mut failures, branch);
            }
        }
        match fitting {
            0 => {
                report(sink, "must validate one and only one schema (oneOf). Found none valid");
                sink.errors.extend(failures.into_iter().flat_map(|branch: Sink| branch.errors));
            }
            1 => {}
            several => report(
                sink,
                &format!("must validate one and only one schema (oneOf). Found {several} valid alternatives"),
            ),
        }
    }
    if !checks.all_of.is_empty() {
        sink.applied += 1;
        let mut fitting = 0;
        for node in &checks.all_of {
            let branch = run(node);
            fitting += usize::from(branch.errors.is_empty());
            sink.applied += branch.applied;
            sink.errors.extend(branch.errors);
        }
        if fitting == 0 {
            report(sink, "must validate all the schemas (allOf). None validated");
        } else if fitting < checks.all_of.len() {
            report(sink, "must validate all the schemas (allOf)");
        }
    }
    if let Some(node) = &checks.not {
        sink.applied += 1;
        if run(node).errors.is_empty() {
            report(sink, "must not validate the schema (not)");
        }
    }
}

fn check_string(node: &Node, text: &str, value: &Value, path: &FieldPath<'_>, sink: &mut Sink) {
    let checks = &node.checks;
    sink.applied += 1;
    // Lengths count code points, even where the message says bytes.
    let length = text.chars().count();
    if let Some(max) = checks.max_length
        && length > max
    {
        sink.errors.push(FieldError::too_long(path, max));
    }
    if let Some(min) = checks.min_length
        && length < min
    {
        sink.invalid(path, value, &format!("should be at least {min} chars long"));
    }
    if let Some(pattern) = &checks.pattern
        && !pattern.regex.is_match(text)
    {
        sink.invalid(path, value, &format!("should match '{}'", pattern.written));
    }
    if let Some(format) = checks.format
        && !format.matches(text)
    {
        let detail = format!("{path} in body must be of type {}: {}", checks.format_name, json!(text));
        sink.errors.push(FieldError::type_invalid(path, value, detail));
    }
}

fn check_number(node: &Node, number: &Number, value: &Value, path: &FieldPath<'_>, sink: &mut Sink) {
    let checks = &node.checks;
    sink.applied += 1;
    if !fits_range(node, number) {
        let kind = node.kind.map_or("number", Kind::as_str);
        let format = &checks.format_name;
        let detail = format!("Checked value must be of type {kind} with format {format} in {path}");
        sink.errors.push(FieldError::invalid_str("", "", detail));
    }
    if let Some(factor) = &checks.multiple_of
        && !is_multiple(number, factor)
    {
        sink.invalid(path, value, &format!("should be a multiple of {}", shown(factor)));
    }
    if let Some(max) = &checks.maximum {
        let order = compare(number, max);
        if order.is_gt() || (checks.excludes_maximum && order.is_eq()) {
            let relation = if checks.excludes_maximum { "less than" } else { "less than or equal to" };
            sink.invalid(path, value, &format!("should be {relation} {}", shown(max)));
        }
    }
    if let Some(min) = &checks.minimum {
        let order = compare(number, min);
        if order.is_lt() || (checks.excludes_minimum && order.is_eq()) {
            let relation = if checks.excludes_minimum { "greater than" } else { "greater than or equal to" };
            sink.invalid(path, value, &format!("should be {relation} {}", shown(min)));
        }
    }
}

/// Whether a number is in the range of its format.
fn fits_range(node: &Node, number: &Number) -> bool {
    match (node.kind, node.checks.format_name.as_str()) {
        (Some(Kind::Integer), "int32") => {
            compare(number, &i32::MAX.into()).is_le() && compare(number, &i32::MIN.into()).is_ge()
        }
        (Some(Kind::Integer), "int64") => {
            compare(number, &i64::MAX.into()).is_le() && compare(number, &i64::MIN.into()).is_ge()
        }
        (Some(Kind::Number), "float") => number.as_f64().is_some_and(|float| float.abs() <= f64::from(f32::MAX)),
        _ => true,
    }
}

fn as_i128(number: &Number) -> Option<i128> {
    number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from))
}

fn compare(a: &Number, b: &Number) -> std::cmp::Ordering {
    match (as_i128(a), as_i128(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        _ => a.as_f64().unwrap_or(0.0).total_cmp(&b.as_f64().unwrap_or(0.0)),
    }
}

fn is_multiple(number: &Number, factor: &Number) -> bool {
    if let (Some(number), Some(factor)) = (as_i128(number), as_i128(factor)) {
        return number.checked_rem(factor) == Some(0);
    }
    let quotient = number.as_f64().unwrap_or(0.0) / factor.as_f64().unwrap_or(1.0);
    (quotient - quotient.round()).abs() < 1e-9
}

/// A limit as Go prints a float: without a fraction when it has none.
fn shown(number: &Number) -> String {
    match number.as_f64() {
        Some(float) if !number.is_i64() && !number.is_u64() && float.fract() == 0.0 && float.abs() < 1e21 => {
            format!("{float:.0}")
        }
        _ => number.to_string(),
    }
}

fn check_enumeration(checks: &Checks, value: &Value, path: &FieldPath<'_>, sink: &mut Sink) {
    let Some(allowed) = &checks.enumeration else { return };
    sink.applied += 1;
    if allowed.iter().any(|one| is_same(one, value)) {
        return;
    }
    let names: Vec<String> =
        allowed.iter().map(|one| one.as_str().map_or_else(|| one.to_string(), str::to_owned)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    sink.errors.push(FieldError::not_supported(path, value, &names));
}

/// Equality of JSON values in which `1` and `1.0` are the same number.
pub(super) fn is_same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => compare(a, b).is_eq(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| is_same(a, b)))
        }
        _ => a == b,
    }
}

fn check_items(node: &Node, items: &[Value], old: Option<&Vec<Value>>, path: &FieldPath<'_>, sink: &mut Sink) {
    let checks = &node.checks;
    sink.applied += 1;
    if let Some(item) = &node.items {
        for (index, value) in items.iter().enumerate() {
            let before = old.and_then(|old| correlated(node, old, value));
            check(item, value, before, &path.index(index), sink);
        }
    }
    if let Some(min) = checks.min_items
        && items.len() < min
    {
        sink.invalid(path, &json!(items.len()), &format!("should have at least {min} items"));
    }
    if let Some(max) = checks.max_items
        && items.len() > max
    {
        sink.errors.push(FieldError::too_many(path, items.len(), max));
    }
    match &node.list_type {
        ListType::Atomic => {}
        ListType::Set => check_unique(items, path, sink, Clone::clone),
        ListType::Map(keys) => check_unique(items, path, sink, |item| map_key(keys, item)),
    }
}

/// What the item was before, known only where items have an identity.
fn correlated<'a>(node: &Node, old: &'a [Value], item: &Value) -> Option<&'a Value> {
    match &node.list_type {
        ListType::Atomic | ListType::Set => None,
        ListType::Map(keys) => {
            let key = map_key(keys, item);
            old.iter().find(|old| is_same(&map_key(keys, old), &key))
        }
    }
}

fn map_key(keys: &[String], item: &Value) -> Value {
    let fields: Map<String, Value> =
        keys.iter().filter_map(|key| item.get(key).map(|value| (key.clone(), value.clone()))).collect();
    Value::Object(fields)
}

fn check_unique(items: &[Value], path: &FieldPath<'_>, sink: &mut Sink, identity: impl Fn(&Value) -> Value) {
    // Keys of maps are sorted, so equal values have equal texts.
    let mut seen = HashSet::with_capacity(items.len());
    let mut reported = HashSet::new();
    for (index, item) in items.iter().enumerate() {
        let id = identity(item);
        let text = id.to_string();
        if !seen.insert(text.clone()) && reported.insert(text) {
            sink.errors.push(FieldError::duplicate(path.index(index), &id));
        }
    }
}

fn check_object(
    node: &Node,
    map: &Map<String, Value>,
    old: Option<&Map<String, Value>>,
    path: &FieldPath<'_>,
    sink: &mut Sink,
) {
    let checks = &node.checks;
    sink.applied += 1;
    if let Some(min) = checks.min_properties
        && map.len() < min
    {
        sink.invalid(path, &json!(map.len()), &format!("should have at least {min} properties"));
    }
    if let Some(max) = checks.max_properties
        && map.len() > max
    {
        sink.errors.push(FieldError::too_many(path, map.len(), max));
    }
    for name in &checks.required {
        if !map.contains_key(name) {
            sink.errors.push(FieldError::required(path.field(name), ""));
        }
    }
    if node.is_embedded {
        embedded::check(map, path, &mut sink.errors);
    }
    for (key, value) in map {
        let child = match (node.properties.get(key), &node.additional) {
            (Some(child), _) => child,
            (None, Additional::Schema(schema)) => schema,
            (None, Additional::None | Additional::Any) => continue,
        };
        check(child, value, old.and_then(|old| old.get(key)), &path.field(key), sink);
    }
}
