//! Strategic merge patch: maps merge, a few lists merge by key or as sets, every other list is replaced.
//!
//! Directives (`$patch`, `$retainKeys`, `$deleteFromPrimitiveList/f`, `$setElementOrder/f`) live in the patch and
//! never reach the object. Upstream answers some malformed patches with 500; they are 400 here and never show
//! values.
// SPEC 60 §10.4

use std::collections::{BTreeSet, HashMap, HashSet};

use serde_json::{Map, Value};

use crate::status::ApiError;

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const SET_ORDER: &str = "$setElementOrder/";

/// How a list field takes a patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListMerge {
    /// The patch's list takes the place of the old one.
    Replace,
    /// Elements with the same value of this key merge; others are appended.
    ByKey(&'static str),
    /// Missing values are appended.
    Set,
}

/// The rule of a list field of a built-in kind; `path` holds field names only, list levels are left out.
pub fn merge_of(group: &str, kind: &str, path: &[&str]) -> ListMerge {
    match (group, kind, path) {
        (_, _, ["metadata", "ownerReferences"]) => ListMerge::ByKey("uid"),
        (_, _, ["metadata", "finalizers"]) => ListMerge::Set,
        ("", "Service", ["spec", "ports"]) => ListMerge::ByKey("port"),
        ("", "Service" | "Namespace", ["status", "conditions"]) => ListMerge::ByKey("type"),
        ("", "ServiceAccount", ["secrets"]) => ListMerge::ByKey("name"),
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy", ["spec", "matchConditions" | "variables"]) => {
            ListMerge::ByKey("name")
        }
        _ => ListMerge::Replace,
    }
}

/// `original` with `patch` applied.
pub(super) fn apply(group: &str, kind: &str, original: &Value, patch: &Value) -> Result<Value, ApiError> {
    let (Some(original), Some(patch)) = (original.as_object(), patch.as_object()) else {
        return Err(ApiError::bad_request("a strategic merge patch needs an object"));
    };
    let mut merged = original.clone();
    let mut merger = Merger { group, kind, path: Vec::new() };
    merger.map(&mut merged, patch)?;
    Ok(Value::Object(merged))
}

struct Merger<'p> {
    group: &'p str,
    kind: &'p str,
    path: Vec<&'p str>,
}

/// Everything a patch says about one field.
#[derive(Default)]
struct FieldPatch<'p> {
    value: Option<&'p Value>,
    delete: Option<&'p [Value]>,
    order: Option<&'p [Value]>,
}

impl<'p> Merger<'p> {
    fn map(&mut self, target: &mut Map<String, Value>, patch: &'p Map<String, Value>) -> Result<(), ApiError> {
        match patch.get(PATCH).map(|d| d.as_str().unwrap_or_default()) {
            None => {}
            Some("delete") => {
                target.clear();
                return Ok(());
            }
            Some("replace") => target.clear(),
            Some(other) => return Err(unknown_directive(other, "map", patch)),
        }
        if let Some(keep) = patch.get(RETAIN_KEYS) {
            let keep: HashSet<&str> = list_of(keep, RETAIN_KEYS)?.iter().filter_map(Value::as_str).collect();
            target.retain(|key, _| keep.contains(key.as_str()));
        }
        for (field, change) in fields(patch)? {
            self.path.push(field);
            self.field(target, field, &change)?;
            self.path.pop();
        }
        Ok(())
    }

    fn field(&mut self, target: &mut Map<String, Value>, field: &str, change: &FieldPatch<'p>) -> Result<(), ApiError> {
        if change.value.is_some_and(Value::is_null) {
            target.remove(field);
            return Ok(());
        }
        if let (Some(delete), Some(Value::Array(list))) = (change.delete, target.get_mut(field)) {
            let gone: HashSet<String> = delete.iter().map(Value::to_string).collect();
            list.retain(|element| !gone.contains(&element.to_string()));
        }
        let mut old_len = target.get(field).and_then(Value::as_array).map_or(0, Vec::len);
        match change.value {
            None => {}
            Some(Value::Object(patch)) => {
                if !matches!(target.get(field), Some(Value::Object(_))) {
                    target.insert(field.to_owned(), Value::Object(Map::new()));
                }
                if let Some(Value::Object(inner)) = target.get_mut(field) {
                    self.map(inner, patch)?;
                }
                if patch.get(PATCH).and_then(Value::as_str) == Some("delete") {
                    target.remove(field);
                }
            }
            Some(Value::Array(patch)) => {
                let mut list = match target.remove(field) {
                    Some(Value::Array(list)) => list,
                    _ => Vec::new(),
                };
                old_len = self.list(&mut list, patch)?;
                target.insert(field.to_owned(), Value::Array(list));
            }
            Some(scalar) => {
                target.insert(field.to_owned(), scalar.clone());
            }
        }
        let rule = self.rule();
        if let (Some(order), Some(Value::Array(list))) = (change.order, target.get_mut(field))
            && rule != ListMerge::Replace
        {
            let patch = change.value.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            reorder(rule, list, old_len, patch, order)?;
        }
        Ok(())
    }

    fn rule(&self) -> ListMerge {
        merge_of(self.group, self.kind, &self.path)
    }

    /// Merges `patch` into `list`; returns how many leading elements were there before.
    fn list(&mut self, list: &mut Vec<Value>, patch: &'p [Value]) -> Result<usize, ApiError> {
        match self.rule() {
            ListMerge::Replace => {
                list.clear();
                for element in patch {
                    if !matches!(element, Value::Object(map) if map.contains_key(PATCH)) {
                        list.push(self.fresh(element)?);
                    }
                }
                Ok(0)
            }
            ListMerge::Set => {
                let mut present: HashSet<String> = list.iter().map(Value::to_string).collect();
                let old_len = list.len();
                list.extend(patch.iter().filter(|element| present.insert(element.to_string())).cloned());
                Ok(old_len)
            }
            ListMerge::ByKey(key) => self.keyed_list(key, list, patch),
        }
    }

    fn keyed_list(&mut self, key: &'static str, list: &mut Vec<Value>, patch: &'p [Value]) -> Result<usize, ApiError> {
        let mut gone: HashSet<String> = HashSet::new();
        let mut replaces = false;
        let mut elements: Vec<(&'p Map<String, Value>, String)> = Vec::new();
        for element in patch {
            let Value::Object(map) = element else {
                return Err(ApiError::bad_request(format!(
                    "expected a list of maps with merge key {key} in {}",
                    self.path.join(".")
                )));
            };
            match map.get(PATCH).map(|d| d.as_str().unwrap_or_default()) {
                None => elements.push((map, merge_key(map, key)?)),
                Some("delete") => {
                    gone.insert(merge_key(map, key)?);
                }
                Some("replace") => replaces = true,
                Some(other) => return Err(unknown_directive(other, "list", map)),
            }
        }
        if replaces {
            list.clear();
        } else if !gone.is_empty() {
            list.retain(|element| element.get(key).is_none_or(|value| !gone.contains(&value.to_string())));
        }
        let old_len = list.len();
        // The first of several elements with one key is the one that merges, as upstream.
        let mut places: HashMap<String, usize> = HashMap::new();
        for (i, element) in list.iter().enumerate() {
            if let Some(value) = element.get(key) {
                places.entry(value.to_string()).or_insert(i);
            }
        }
        for (map, id) in elements {
            if let Some(Value::Object(target)) = places.get(&id).and_then(|i| list.get_mut(*i)) {
                self.map(target, map)?;
            } else {
                let mut target = Map::new();
                self.map(&mut target, map)?;
                places.insert(id, list.len());
                list.push(Value::Object(target));
            }
        }
        Ok(old_len)
    }

    /// A value of the patch where the object has none: directives and nulls vanish.
    fn fresh(&mut self, patch: &'p Value) -> Result<Value, ApiError> {
        match patch {
            Value::Object(map) => {
                let mut target = Map::new();
                self.map(&mut target, map)?;
                Ok(Value::Object(target))
            }
            Value::Array(list) => Ok(Value::Array(list.iter().map(|e| self.fresh(e)).collect::<Result<_, _>>()?)),
            scalar => Ok(scalar.clone()),
        }
    }
}

/// Sorts the keys of a patch map by the field they speak about.
fn fields<'p>(patch: &'p Map<String, Value>) -> Result<Vec<(&'p str, FieldPatch<'p>)>, ApiError> {
    let mut names: BTreeSet<&'p str> = BTreeSet::new();
    let mut changes: HashMap<&'p str, FieldPatch<'p>> = HashMap::new();
    for (key, value) in patch {
        let field = if let Some(field) = key.strip_prefix(DELETE_FROM) {
            changes.entry(field).or_default().delete = Some(list_of(value, key)?);
            field
        } else if let Some(field) = key.strip_prefix(SET_ORDER) {
            changes.entry(field).or_default().order = Some(list_of(value, key)?);
            field
        } else if key == PATCH || key == RETAIN_KEYS {
            continue;
        } else {
            changes.entry(key).or_default().value = Some(value);
            key
        };
        names.insert(field);
    }
    Ok(names.into_iter().filter_map(|name| changes.remove(name).map(|change| (name, change))).collect())
}

fn list_of<'p>(value: &'p Value, directive: &str) -> Result<&'p [Value], ApiError> {
    value
        .as_array()
        .map(Vec::as_slice)
        .ok_or_else(|| ApiError::bad_request(format!("the value of `{directive}` must be a list")))
}

/// `map[a b]`: which keys a map has, without their values.
fn keys_of(map: &Map<String, Value>) -> String {
    let keys: Vec<&str> = map.keys().map(String::as_str).collect();
    format!("map[{}]", keys.join(" "))
}

fn unknown_directive(word: &str, place: &str, map: &Map<String, Value>) -> ApiError {
    ApiError::bad_request(format!("unknown patch type: {word} in {place}: {}", keys_of(map)))
}

fn merge_key(map: &Map<String, Value>, key: &str) -> Result<String, ApiError> {
    match map.get(key) {
        Some(value) if !value.is_null() => Ok(value.to_string()),
        _ => Err(ApiError::bad_request(format!("map: {} does not contain declared merge key: {key}", keys_of(map)))),
    }
}

/// What tells elements of a list apart.
fn identity(rule: ListMerge, element: &Value) -> String {
    match rule {
        ListMerge::ByKey(key) => element.get(key).map(Value::to_string).unwrap_or_default(),
        ListMerge::Set | ListMerge::Replace => element.to_string(),
    }
}

/// Brings `list` into the order of `$setElementOrder`. Elements that the order does not name keep their place
/// before the next named one; the first `old_len` elements are those that were there before the patch.
fn reorder(
    rule: ListMerge,
    list: &mut Vec<Value>,
    old_len: usize,
    patch: &[Value],
    order: &[Value],
) -> Result<(), ApiError> {
    let order_ids: Vec<String> = order.iter().map(|element| identity(rule, element)).collect();
    let patch_ids: Vec<String> =
        patch.iter().filter(|element| element.get(PATCH).is_none()).map(|element| identity(rule, element)).collect();
    let mut rest = order_ids.iter();
    if !patch_ids.iter().all(|id| rest.any(|listed| listed == id)) {
        return Err(ApiError::bad_request(format!(
            "The order in patch list:\n[{}]\n doesn't match $setElementOrder list:\n[{}]\n",
            patch_ids.join(" "),
            order_ids.join(" ")
        )));
    }
    let rank: HashMap<&str, usize> = order_ids.iter().enumerate().rev().map(|(i, id)| (id.as_str(), i)).collect();
    let mut named: Vec<(usize, usize, Value)> = Vec::new();
    let mut unnamed: Vec<(usize, Value)> = Vec::new();
    for (place, element) in list.drain(..).enumerate() {
        match rank.get(identity(rule, &element).as_str()) {
            Some(rank) => named.push((*rank, place, element)),
            None => unnamed.push((place, element)),
        }
    }
    named.sort_by_key(|(rank, place, _)| (*rank, *place));
    let mut named = named.into_iter().peekable();
    for (place, element) in unnamed {
        // Named elements go first unless both are old and the unnamed one stood in front.
        while let Some((_, _, next)) = named.next_if(|(_, other, _)| *other >= old_len || place > *other) {
            list.push(next);
        }
        list.push(element);
    }
    list.extend(named.map(|(_, _, element)| element));
    Ok(())
}
