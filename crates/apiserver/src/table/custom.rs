//! Columns of custom resources, as their definition declares them.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{ColumnDefinition, age, builtin};
use crate::jsonpath::{self, JsonPath};
use crate::registry::Column;

/// How one cell is found and shown.
#[derive(Debug)]
pub(super) struct Cell {
    /// `None` when the path is broken, which the definition's validation excludes: the cell stays empty.
    path: Option<JsonPath>,
    kind: String,
}

pub(super) fn columns(declared: &[Column]) -> (Vec<ColumnDefinition>, Vec<Cell>) {
    let mut definitions = vec![builtin::name_column()];
    let mut cells = vec![Cell::new(".metadata.name", "string")];
    for column in declared {
        let description = if column.description.is_empty() {
            format!("Custom resource definition column (in JSONPath format): {}", column.json_path)
        } else {
            column.description.clone()
        };
        definitions.push(ColumnDefinition {
            name: column.name.clone(),
            kind: column.kind.clone(),
            format: column.format.clone(),
            description,
            priority: column.priority,
        });
        cells.push(Cell::new(&column.json_path, &column.kind));
    }
    if declared.is_empty() {
        definitions.push(ColumnDefinition { kind: "date".to_owned(), ..builtin::age_column() });
        cells.push(Cell::new(".metadata.creationTimestamp", "date"));
    }
    (definitions, cells)
}

pub(super) fn row(cells: &[Cell], object: &Value, now: Timestamp) -> Vec<Value> {
    cells.iter().map(|cell| cell.value(object, now)).collect()
}

impl Cell {
    fn new(path: &str, kind: &str) -> Self {
        Self { path: JsonPath::parse(path).ok(), kind: kind.to_owned() }
    }

    /// A missing value, or one of another type than the column's, is null.
    fn value(&self, object: &Value, now: Timestamp) -> Value {
        let Some(value) = self.path.as_ref().and_then(|path| path.first(object)) else { return Value::Null };
        match (self.kind.as_str(), value) {
            (_, Value::Null) => Value::Null,
            ("string", value) => Value::String(jsonpath::text(value)),
            ("integer", Value::Number(number)) => number.as_i64().map_or_else(
                // Fractions are cut off, as kube-apiserver does.
                || number.as_f64().map_or(Value::Null, |float| json!(float.trunc())),
                Value::from,
            ),
            ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => value.clone(),
            ("date", Value::String(_)) => Value::String(age::since(Some(value), now)),
            _ => Value::Null,
        }
    }
}
