//! Reader for `application/vnd.kubernetes.protobuf` request bodies, which kubectl sends since 1.32.
//!
//! One table-driven walker turns every message into the JSON value that the same object has in JSON, so that
//! everything after it knows one form only. Nothing here panics on any bytes; nesting, and with it the thread stack,
//! is bounded. Encoding is never needed.
// SPEC 60 §4.3

mod table;
mod wire;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use jiff::tz::Offset;
use serde_json::{Map, Value};

use crate::decode;
use crate::status::ApiError;
use table::{Cardinality, Field, Form, Message, Scalar, Table, Type};
use wire::{Payload, Wire};

/// First bytes of every body.
const MAGIC: &[u8] = b"k8s\0";
/// The media type, as the envelope may repeat it.
const MEDIA_TYPE: &[u8] = b"application/vnd.kubernetes.protobuf";
/// Deepest nesting of messages (SPEC 60 §4.3).
const MAX_DEPTH: usize = 64;

/// True if the body starts with the protobuf prefix.
pub fn has_prefix(body: &[u8]) -> bool {
    body.starts_with(MAGIC)
}

/// Decodes a body that should hold a `kind`; the result carries `apiVersion` and `kind` as the sender wrote them.
///
/// 400 if the prefix is missing, the bytes are no message, or the table has no such kind.
pub fn decode(body: &[u8], kind: &str) -> Result<Value, ApiError> {
    let Some(envelope) = body.strip_prefix(MAGIC) else {
        return Err(ApiError::bad_request(format!(
            "the object provided is unrecognized (must be of type {kind}): provided data does not appear to be a \
             protobuf message, expected prefix [107 56 115 0] ({} bytes)",
            body.len()
        )));
    };
    let unrecognized = |problem: Problem| {
        ApiError::bad_request(format!("the object provided is unrecognized (must be of type {kind}): proto: {problem}"))
    };
    let Envelope { api_version, kind: sent_kind, raw } = Envelope::read(envelope).map_err(unrecognized)?;
    let sent_kind = if sent_kind.is_empty() { kind } else { &sent_kind };
    let table = Table::get();
    let Some(message) = table.root(&api_version, sent_kind) else {
        let version = api_version.rsplit('/').next().unwrap_or_default();
        return Err(ApiError::bad_request(format!(
            "{sent_kind} in version \"{version}\" cannot be handled as a {kind}: no kind \"{sent_kind}\" is registered \
             for version \"{api_version}\" in protobuf"
        )));
    };
    let mut object = Map::new();
    Walker { table }.message(message, raw, &mut object, 0).map_err(|problem| {
        let version = api_version.rsplit('/').next().unwrap_or_default();
        ApiError::bad_request(format!(
            "{sent_kind} in version \"{version}\" cannot be handled as a {kind}: proto: {problem}"
        ))
    })?;
    if !api_version.is_empty() {
        object.insert("apiVersion".to_owned(), Value::String(api_version));
    }
    object.insert("kind".to_owned(), Value::String(sent_kind.to_owned()));
    Ok(Value::Object(object))
}

/// Why bytes are no message.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Problem {
    Ended,
    Overflow,
    Tag(u64),
    WireType { field: &'static str },
    TooDeep,
    Encoding,
    Time,
    Json { field: &'static str },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended => f.write_str("unexpected EOF"),
            Self::Overflow => f.write_str("integer overflow"),
            Self::Tag(tag) => write!(f, "illegal tag {} (wire type {})", tag >> 3, tag & 7),
            Self::WireType { field } => write!(f, "wrong wireType for field {field}"),
            Self::TooDeep => write!(f, "messages are nested more than {MAX_DEPTH} deep"),
            Self::Encoding => f.write_str("the content is encoded or not protobuf"),
            Self::Time => f.write_str("time is out of range"),
            Self::Json { field } => write!(f, "field {field} holds no JSON"),
        }
    }
}

/// `runtime.Unknown`: the message around every object.
struct Envelope<'a> {
    api_version: String,
    kind: String,
    raw: &'a [u8],
}

impl<'a> Envelope<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, Problem> {
        let mut out = Self { api_version: String::new(), kind: String::new(), raw: &[] };
        let mut wire = Wire::new(bytes);
        while let Some((number, payload)) = wire.field()? {
            match (number, payload) {
                (1, Payload::Bytes(meta)) => {
                    let mut inner = Wire::new(meta);
                    while let Some((number, payload)) = inner.field()? {
                        match (number, payload) {
                            (1, Payload::Bytes(text)) => out.api_version = lossy(text),
                            (2, Payload::Bytes(text)) => out.kind = lossy(text),
                            _ => {}
                        }
                    }
                }
                (2, Payload::Bytes(raw)) => out.raw = raw,
                (3, Payload::Bytes(encoding)) if !encoding.is_empty() => return Err(Problem::Encoding),
                (4, Payload::Bytes(media)) if !media.is_empty() && media != MEDIA_TYPE => {
                    return Err(Problem::Encoding);
                }
                _ => {}
            }
        }
        Ok(out)
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

struct Walker {
    table: &'static Table,
}

impl Walker {
    /// Reads one message into `target`; a repeated singular message merges, as proto2 says.
    fn message(
        &self,
        message: &'static Message,
        bytes: &[u8],
        target: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<(), Problem> {
        if depth >= MAX_DEPTH {
            return Err(Problem::TooDeep);
        }
        let mut wire = Wire::new(bytes);
        while let Some((number, payload)) = wire.field()? {
            let Some(field) = message.field(number) else { continue };
            match field.cardinality {
                Cardinality::One => self.singular(field, payload, target, depth)?,
                Cardinality::Many => {
                    let element = self.value(field, payload, depth)?;
                    let list = target.entry(field.name).or_insert_with(|| Value::Array(Vec::new()));
                    if let Value::Array(list) = list {
                        list.push(element);
                    }
                }
                Cardinality::Map => {
                    let (key, value) = self.entry(field, payload, depth)?;
                    let map = target.entry(field.name).or_insert_with(|| Value::Object(Map::new()));
                    if let Value::Object(map) = map {
                        map.insert(key, value);
                    }
                }
            }
        }
        Ok(())
    }

    fn singular(
        &self,
        field: &'static Field,
        payload: Payload<'_>,
        target: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<(), Problem> {
        if let (Type::Message(message), Payload::Bytes(bytes)) = (field.kind, payload)
            && let Some(message) = self.table.message(message)
            && message.form == Form::Object
        {
            let inner = target.entry(field.name).or_insert_with(|| Value::Object(Map::new()));
            return match inner {
                Value::Object(inner) => self.message(message, bytes, inner, depth + 1),
                _ => Ok(()),
            };
        }
        let value = self.value(field, payload, depth)?;
        if !field.keeps_zero && is_zero(&value) {
            target.remove(field.name);
        } else {
            target.insert(field.name.to_owned(), value);
        }
        Ok(())
    }

    /// One key of a map; a missing key or value has its zero.
    fn entry(&self, field: &'static Field, payload: Payload<'_>, depth: usize) -> Result<(String, Value), Problem> {
        let Payload::Bytes(bytes) = payload else { return Err(Problem::WireType { field: field.name }) };
        let mut key = String::new();
        let mut value = None;
        let mut wire = Wire::new(bytes);
        while let Some((number, payload)) = wire.field()? {
            match (number, payload) {
                (1, Payload::Bytes(text)) => key = lossy(text),
                (2, payload) => value = Some(self.value(field, payload, depth)?),
                _ => {}
            }
        }
        let value = match value {
            Some(value) => value,
            None => self.value(field, Payload::Bytes(&[]), depth)?,
        };
        Ok((key, value))
    }

    fn value(&self, field: &'static Field, payload: Payload<'_>, depth: usize) -> Result<Value, Problem> {
        match field.kind {
            Type::Scalar(scalar) => scalar_value(field, scalar, payload),
            Type::Message(message) => {
                let Payload::Bytes(bytes) = payload else { return Err(Problem::WireType { field: field.name }) };
                let Some(message) = self.table.message(message) else { return Ok(Value::Null) };
                self.formed(message, bytes, depth + 1)
            }
        }
    }

    /// A message in the form that JSON gives it.
    fn formed(&self, message: &'static Message, bytes: &[u8], depth: usize) -> Result<Value, Problem> {
        match message.form {
            Form::Json => return raw_json(message, bytes),
            Form::Time | Form::MicroTime => return time(message.form, bytes),
            Form::IntOrString => return int_or_string(bytes),
            Form::Object | Form::List | Form::Either => {}
        }
        let mut object = Map::new();
        self.message(message, bytes, &mut object, depth)?;
        Ok(match message.form {
            Form::List => object.into_iter().next().map_or_else(|| Value::Array(Vec::new()), |(_, v)| v),
            Form::Either => {
                // A schema or list says more than the flag that is always written next to it.
                let mut values: Vec<Value> = object.into_iter().map(|(_, v)| v).collect();
                let best = values.iter().position(|v| v.is_object() || v.is_array()).unwrap_or(0);
                if values.is_empty() { Value::Null } else { values.swap_remove(best) }
            }
            _ => Value::Object(object),
        })
    }
}

fn scalar_value(field: &'static Field, scalar: Scalar, payload: Payload<'_>) -> Result<Value, Problem> {
    let wrong = Problem::WireType { field: field.name };
    Ok(match (scalar, payload) {
        (Scalar::Str, Payload::Bytes(bytes)) => Value::String(lossy(bytes)),
        (Scalar::Bytes, Payload::Bytes(bytes)) => Value::String(STANDARD.encode(bytes)),
        (Scalar::Bool, Payload::Varint(number)) => Value::Bool(number != 0),
        #[expect(clippy::cast_possible_truncation, reason = "int32 is the low half, in two's complement")]
        (Scalar::Int32, Payload::Varint(number)) => Value::from(number as i32),
        #[expect(clippy::cast_possible_wrap, reason = "int64 is two's complement on the wire")]
        (Scalar::Int64, Payload::Varint(number)) => Value::from(number as i64),
        (Scalar::Double, Payload::Fixed64(bits)) => {
            decode::json::number_from_float(f64::from_bits(bits)).ok_or(wrong)?
        }
        _ => return Err(wrong),
    })
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    }
}

/// The two integers of a time, or a type and its number, with unset ones 0, and the text of field 3.
fn small_fields(bytes: &[u8]) -> Result<([u64; 2], String), Problem> {
    let mut numbers = [0; 2];
    let mut text = String::new();
    let mut wire = Wire::new(bytes);
    while let Some((number, payload)) = wire.field()? {
        match (number, payload) {
            (1, Payload::Varint(value)) => numbers[0] = value,
            (2, Payload::Varint(value)) => numbers[1] = value,
            (3, Payload::Bytes(bytes)) => text = lossy(bytes),
            (1..=3, _) => return Err(Problem::WireType { field: "value" }),
            _ => {}
        }
    }
    Ok((numbers, text))
}

fn time(form: Form, bytes: &[u8]) -> Result<Value, Problem> {
    let ([seconds, nanos], _) = small_fields(bytes)?;
    if seconds == 0 && nanos == 0 {
        return Ok(Value::Null);
    }
    #[expect(
        clippy::cast_possible_wrap,
        clippy::cast_possible_truncation,
        reason = "int64 and int32 in two's complement"
    )]
    let time = Timestamp::new(seconds as i64, nanos as i32).map_err(|_| Problem::Time)?;
    // Years before 0 have no RFC 3339 form.
    if time.to_zoned(Offset::UTC.to_time_zone()).year() < 0 {
        return Err(Problem::Time);
    }
    let format = if form == Form::MicroTime { "%Y-%m-%dT%H:%M:%S.%6fZ" } else { "%Y-%m-%dT%H:%M:%SZ" };
    Ok(Value::String(time.strftime(format).to_string()))
}

fn int_or_string(bytes: &[u8]) -> Result<Value, Problem> {
    let ([kind, number], text) = small_fields(bytes)?;
    #[expect(clippy::cast_possible_truncation, reason = "int32 is the low half, in two's complement")]
    let number = number as i32;
    Ok(if kind == 1 { Value::String(text) } else { Value::from(number) })
}

fn raw_json(message: &'static Message, bytes: &[u8]) -> Result<Value, Problem> {
    let mut raw: &[u8] = &[];
    let mut wire = Wire::new(bytes);
    while let Some((number, payload)) = wire.field()? {
        if let (1, Payload::Bytes(bytes)) = (number, payload) {
            raw = bytes;
        }
    }
    if raw.is_empty() {
        return Ok(Value::Null);
    }
    decode::json::parse(raw).map(|parsed| parsed.value).map_err(|_| Problem::Json { field: message.name })
}

#[cfg(test)]
mod tests;
