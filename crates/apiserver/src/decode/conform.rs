//! Holds a value against a built-in schema: unknown fields, wrong types in Go's words, canonical forms.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::go_type;
use super::schema::{FieldSchema, ObjectSchema, object_meta};

/// Most unknown fields that are reported for one body.
const MAX_UNKNOWN: usize = 100;

/// Brings `value` into the form that upstream's structs would print: unknown fields are dropped and their paths
/// returned, nulls and empty optional lists and maps become absent, times and base64 take their canonical form.
///
/// The error says in the words of Go's JSON decoder which field has a wrong type.
pub fn conform(schema: &'static ObjectSchema, value: &mut Value) -> Result<Vec<String>, String> {
    let mut walk = Walk { unknown: Vec::new(), path: Vec::new() };
    match value {
        Value::Object(map) => walk.object(schema, map)?,
        other => {
            return Err(format!("json: cannot unmarshal {} into Go value of type v1.{}", go_type(other), schema.name));
        }
    }
    Ok(walk.unknown)
}

/// [`conform`] for `metadata` of a custom resource, whose other fields have a schema of their own. Absent is fine.
pub fn conform_metadata(object: &mut Value) -> Result<Vec<String>, String> {
    let (Some(metadata), Some(schema)) = (object.get_mut("metadata"), object_meta()) else { return Ok(Vec::new()) };
    let mut walk = Walk { unknown: Vec::new(), path: vec![Step::Field("metadata".to_owned())] };
    match metadata {
        Value::Object(map) => walk.object(schema, map)?,
        Value::Null => *metadata = Value::Object(Map::new()),
        other => {
            let found = go_type(other);
            return Err(format!("json: cannot unmarshal {found} into Go struct field .metadata of type v1.ObjectMeta"));
        }
    }
    Ok(walk.unknown)
}

enum Step {
    Field(String),
    Index(usize),
    Key(String),
}

struct Walk {
    unknown: Vec<String>,
    path: Vec<Step>,
}

impl Walk {
    fn object(&mut self, schema: &'static ObjectSchema, map: &mut Map<String, Value>) -> Result<(), String> {
        let mut unknown = Vec::new();
        let mut empty = Vec::new();
        for (name, value) in map.iter_mut() {
            let Some((field, required)) = schema.fields.get(name) else {
                unknown.push(name.clone());
                continue;
            };
            if value.is_null() {
                match zero(field) {
                    Some(zero) if *required => *value = zero,
                    _ => empty.push(name.clone()),
                }
                continue;
            }
            self.path.push(Step::Field(name.clone()));
            self.value(&schema.name, field, value)?;
            self.path.pop();
            let is_collection = matches!(field, FieldSchema::List(_) | FieldSchema::Map(_));
            if is_collection && !required && is_empty(value) {
                empty.push(name.clone());
            }
        }
        for name in unknown {
            map.remove(&name);
            if self.unknown.len() < MAX_UNKNOWN {
                let path = self.field_path(Some(&name));
                self.unknown.push(path);
            }
        }
        for name in empty {
            map.remove(&name);
        }
        Ok(())
    }

    fn value(&mut self, owner: &str, schema: &'static FieldSchema, value: &mut Value) -> Result<(), String> {
        match (schema, &mut *value) {
            (FieldSchema::Any, _)
            | (FieldSchema::Bool, Value::Bool(_))
            | (FieldSchema::String | FieldSchema::IntOrString, Value::String(_))
            | (FieldSchema::Double, Value::Number(_)) => Ok(()),
            (FieldSchema::Int64, Value::Number(number)) if number.is_i64() => Ok(()),
            (FieldSchema::Int32 | FieldSchema::IntOrString, Value::Number(number)) if fits_int32(number) => Ok(()),
            (FieldSchema::Bytes, Value::String(text)) => canonical_base64(text),
            (FieldSchema::Time | FieldSchema::MicroTime, Value::String(text)) => {
                canonical_time(text, *schema == FieldSchema::MicroTime)
            }
            (FieldSchema::List(element), Value::Array(list)) => {
                for (i, one) in list.iter_mut().enumerate() {
                    if one.is_null() {
                        *one = zero(element).unwrap_or(Value::Null);
                        continue;
                    }
                    self.path.push(Step::Index(i));
                    self.value(owner, element, one)?;
                    self.path.pop();
                }
                Ok(())
            }
            (FieldSchema::Map(element), Value::Object(map)) => {
                for (key, one) in map.iter_mut() {
                    if one.is_null() {
                        *one = zero(element).unwrap_or(Value::Null);
                        continue;
                    }
                    self.path.push(Step::Key(key.clone()));
                    self.value(owner, element, one)?;
                    self.path.pop();
                }
                Ok(())
            }
            (FieldSchema::Object(index) | FieldSchema::Either(index, _), Value::Object(map)) => {
                match ObjectSchema::at(*index) {
                    Some(object) => self.object(object, map),
                    None => Ok(()),
                }
            }
            (FieldSchema::Either(_, other), _) => self.value(owner, other, value),
            _ => Err(self.mismatch(owner, schema, value)),
        }
    }

    /// `json: cannot unmarshal number into Go struct field ConfigMap.data of type string`.
    fn mismatch(&self, owner: &str, schema: &FieldSchema, value: &Value) -> String {
        let found = match value {
            // Go names the number when only its size or fraction is wrong.
            Value::Number(number)
                if matches!(schema, FieldSchema::Int32 | FieldSchema::Int64 | FieldSchema::IntOrString) =>
            {
                format!("number {number}")
            }
            other => go_type(other).to_owned(),
        };
        let fields: Vec<&str> = self
            .path
            .iter()
            .filter_map(|step| match step {
                Step::Field(name) => Some(name.as_str()),
                Step::Index(_) | Step::Key(_) => None,
            })
            .collect();
        format!(
            "json: cannot unmarshal {found} into Go struct field {owner}.{} of type {}",
            fields.join("."),
            go_name(schema)
        )
    }

    /// `spec.ports[0].foo`: the present path, and a field of it.
    fn field_path(&self, field: Option<&str>) -> String {
        let mut out = String::new();
        let names = self.path.iter().map(|step| match step {
            Step::Field(name) | Step::Key(name) => (name.clone(), true),
            Step::Index(index) => (format!("[{index}]"), false),
        });
        for (text, is_name) in names.chain(field.map(|f| (f.to_owned(), true))) {
            if is_name && !out.is_empty() {
                out.push('.');
            }
            out.push_str(&text);
        }
        out
    }
}

fn fits_int32(number: &serde_json::Number) -> bool {
    number.as_i64().is_some_and(|n| i32::try_from(n).is_ok())
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// What null means for a list element, a map value or a field that is always there.
fn zero(schema: &FieldSchema) -> Option<Value> {
    match schema {
        FieldSchema::Any | FieldSchema::Time | FieldSchema::MicroTime | FieldSchema::Either(..) => None,
        FieldSchema::Bool => Some(Value::Bool(false)),
        FieldSchema::Int32 | FieldSchema::Int64 | FieldSchema::Double | FieldSchema::IntOrString => {
            Some(Value::from(0))
        }
        FieldSchema::String | FieldSchema::Bytes => Some(Value::String(String::new())),
        FieldSchema::List(_) => Some(Value::Array(Vec::new())),
        FieldSchema::Map(_) | FieldSchema::Object(_) => Some(Value::Object(Map::new())),
    }
}

/// The Go type, as its errors print it.
fn go_name(schema: &FieldSchema) -> String {
    match schema {
        FieldSchema::Any => "interface {}".to_owned(),
        FieldSchema::Bool => "bool".to_owned(),
        FieldSchema::Int32 | FieldSchema::IntOrString => "int32".to_owned(),
        FieldSchema::Int64 => "int64".to_owned(),
        FieldSchema::Double => "float64".to_owned(),
        FieldSchema::String | FieldSchema::Time | FieldSchema::MicroTime => "string".to_owned(),
        FieldSchema::Bytes => "[]uint8".to_owned(),
        FieldSchema::List(element) => format!("[]{}", go_name(element)),
        FieldSchema::Map(element) => format!("map[string]{}", go_name(element)),
        FieldSchema::Object(index) => {
            format!("v1.{}", ObjectSchema::at(*index).map_or("struct", |object| object.name.as_str()))
        }
        FieldSchema::Either(_, other) => go_name(other),
    }
}

/// Line breaks are skipped, as Go's decoder does; the text is rewritten without them.
fn canonical_base64(text: &mut String) -> Result<(), String> {
    if text.contains(['\r', '\n']) {
        text.retain(|c| !matches!(c, '\r' | '\n'));
    }
    STANDARD.decode(text.as_bytes()).map(|_| ()).map_err(|error| {
        let at = match error {
            base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => at,
            // Go points at the start of the last, incomplete group.
            base64::DecodeError::InvalidLength(_) | base64::DecodeError::InvalidPadding => text.len() / 4 * 4,
        };
        format!("illegal base64 data at input byte {at}")
    })
}

fn canonical_time(text: &mut String, micro: bool) -> Result<(), String> {
    let parsed = (text.as_bytes().get(10) == Some(&b'T')).then(|| text.parse::<Timestamp>().ok()).flatten();
    let Some(time) = parsed else {
        let shown: String = text.chars().take(40).collect();
        let layout = if micro { "2006-01-02T15:04:05.000000Z07:00" } else { "2006-01-02T15:04:05Z07:00" };
        return Err(format!("parsing time {0} as \"{layout}\": cannot parse {0} as \"2006\"", Value::String(shown)));
    };
    let format = if micro { "%Y-%m-%dT%H:%M:%S.%6fZ" } else { "%Y-%m-%dT%H:%M:%SZ" };
    *text = time.strftime(format).to_string();
    Ok(())
}
