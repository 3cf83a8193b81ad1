//! The server-side tables that `kubectl get` prints (SPEC 60 §15), and objects cut down to their metadata.
//!
//! A [`Printer`] knows the columns of one version of a resource. It is cheap to make: one per list, or one per watch
//! stream. Everything borrows from the objects and serializes to whatever the request negotiated.

mod age;
mod builtin;
mod custom;
#[cfg(test)]
mod tests;

use jiff::Timestamp;
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use crate::registry::{ResourceInfo, VersionInfo};
use crate::status::ApiError;

pub use age::human_duration;

/// One column.
#[derive(Debug, Clone, Serialize)]
pub struct ColumnDefinition {
    pub name: String,
    /// `string`, `integer`, `number`, `boolean` or `date`.
    #[serde(rename = "type")]
    pub kind: String,
    pub format: String,
    pub description: String,
    /// Columns above 0 are shown by `-o wide` only.
    pub priority: i64,
}

/// What each row carries besides its cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IncludeObject {
    None,
    #[default]
    Metadata,
    Object,
}

impl IncludeObject {
    /// Reads the query parameter `includeObject`; absent and empty mean [`IncludeObject::Metadata`].
    ///
    /// # Errors
    /// 400 for any other word.
    pub fn parse(text: Option<&str>) -> Result<Self, ApiError> {
        match text {
            None | Some("" | "Metadata") => Ok(Self::Metadata),
            Some("None") => Ok(Self::None),
            Some("Object") => Ok(Self::Object),
            Some(other) => Err(ApiError::bad_request(format!(
                "Unable to convert to Table as requested: includeObject: Invalid value: {}: \
                 must be 'Metadata', 'Object', 'None', or empty",
                Value::from(other)
            ))),
        }
    }
}

/// `metadata` of a list or table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListMeta {
    /// Empty for an object that was not stored.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    #[serde(rename = "continue", skip_serializing_if = "Option::is_none")]
    pub continue_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remaining_item_count: Option<u64>,
}

/// Turns objects of one resource version into rows.
#[derive(Debug)]
pub struct Printer {
    columns: Vec<ColumnDefinition>,
    cells: Cells,
}

#[derive(Debug)]
enum Cells {
    Builtin(builtin::Row),
    Custom(Vec<custom::Cell>),
}

impl Printer {
    /// The printer of that version.
    pub fn new(resource: &ResourceInfo, version: &VersionInfo) -> Self {
        if let Some(kind) = resource.builtin() {
            let (columns, row) = builtin::columns(kind);
            return Self { columns, cells: Cells::Builtin(row) };
        }
        let (columns, cells) = custom::columns(&version.columns);
        Self { columns, cells: Cells::Custom(cells) }
    }

    /// The columns, in order.
    pub fn columns(&self) -> &[ColumnDefinition] {
        &self.columns
    }

    /// The cells of one object; ages are relative to `now`.
    pub fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        match &self.cells {
            Cells::Builtin(row) => row(object, now),
            Cells::Custom(cells) => custom::row(cells, object, now),
        }
    }

    /// The table of a list, of one object, or of one watch event.
    ///
    /// `api_version` is `meta.k8s.io/v1` or `meta.k8s.io/v1beta1`; the parts are the same. Of a watch stream, only the
    /// first event says `with_columns`.
    pub fn table<'a>(
        &'a self,
        objects: impl IntoIterator<Item = &'a Value>,
        metadata: ListMeta,
        options: TableOptions<'a>,
    ) -> Table<'a> {
        let rows = objects
            .into_iter()
            .map(|object| Row { cells: self.cells(object, options.now), object, include: options.include })
            .collect();
        let columns = options.with_columns.then_some(self.columns.as_slice());
        Table { api_version: options.api_version, metadata, columns, rows }
    }
}

/// How a table is asked for.
#[derive(Debug, Clone, Copy)]
pub struct TableOptions<'a> {
    pub api_version: &'a str,
    pub include: IncludeObject,
    pub with_columns: bool,
    pub now: Timestamp,
}

/// A `Table` body.
#[derive(Debug)]
pub struct Table<'a> {
    api_version: &'a str,
    metadata: ListMeta,
    columns: Option<&'a [ColumnDefinition]>,
    rows: Vec<Row<'a>>,
}

#[derive(Debug)]
struct Row<'a> {
    cells: Vec<Value>,
    object: &'a Value,
    include: IncludeObject,
}

impl Serialize for Table<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(5))?;
        map.serialize_entry("kind", "Table")?;
        map.serialize_entry("apiVersion", self.api_version)?;
        map.serialize_entry("metadata", &self.metadata)?;
        map.serialize_entry("columnDefinitions", &self.columns)?;
        map.serialize_entry("rows", &Rows { rows: &self.rows, api_version: self.api_version })?;
        map.end()
    }
}

struct Rows<'a> {
    rows: &'a [Row<'a>],
    api_version: &'a str,
}

impl Serialize for Rows<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Out<'a, O> {
            cells: &'a [Value],
            object: O,
        }
        let mut list = serializer.serialize_seq(Some(self.rows.len()))?;
        for row in self.rows {
            let cells = row.cells.as_slice();
            match row.include {
                IncludeObject::None => list.serialize_element(&Out { cells, object: () })?,
                IncludeObject::Object => list.serialize_element(&Out { cells, object: row.object })?,
                IncludeObject::Metadata => {
                    let object = PartialObject::new(row.object, self.api_version);
                    list.serialize_element(&Out { cells, object })?;
                }
            }
        }
        list.end()
    }
}

/// A `PartialObjectMetadata`: an object of which only the metadata is left.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct PartialObject<'a> {
    kind: &'static str,
    #[serde(rename = "apiVersion")]
    api_version: &'a str,
    metadata: Metadata<'a>,
}

/// `metadata` of an object; an object without one shows `{}`.
#[derive(Debug, Clone, Copy)]
struct Metadata<'a>(Option<&'a Value>);

impl Serialize for Metadata<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(metadata) => metadata.serialize(serializer),
            None => Map::new().serialize(serializer),
        }
    }
}

impl<'a> PartialObject<'a> {
    /// `api_version` is `meta.k8s.io/v1` or `meta.k8s.io/v1beta1`.
    pub fn new(object: &'a Value, api_version: &'a str) -> Self {
        Self { kind: "PartialObjectMetadata", api_version, metadata: Metadata(object.get("metadata")) }
    }
}

/// A `PartialObjectMetadataList`.
#[derive(Debug, Serialize)]
pub struct PartialList<'a> {
    kind: &'static str,
    #[serde(rename = "apiVersion")]
    api_version: &'a str,
    metadata: ListMeta,
    items: Vec<PartialObject<'a>>,
}

impl<'a> PartialList<'a> {
    /// `api_version` is `meta.k8s.io/v1` or `meta.k8s.io/v1beta1`.
    pub fn new(objects: impl IntoIterator<Item = &'a Value>, metadata: ListMeta, api_version: &'a str) -> Self {
        let items = objects.into_iter().map(|object| PartialObject::new(object, api_version)).collect();
        Self { kind: "PartialObjectMetadataList", api_version, metadata, items }
    }
}
