//! The field table of `data/protobuf-fields.txt`, parsed once; its grammar is described in that file.

use std::collections::HashMap;
use std::sync::LazyLock;

const TEXT: &str = include_str!("../../data/protobuf-fields.txt");

static TABLE: LazyLock<Table> = LazyLock::new(|| Table::parse(TEXT));

/// All known messages.
#[derive(Debug, Default)]
pub(super) struct Table {
    messages: Vec<Message>,
    by_name: HashMap<&'static str, usize>,
}

/// One message.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) name: &'static str,
    pub(super) form: Form,
    /// Sorted by number.
    pub(super) fields: Vec<Field>,
}

/// How JSON shows a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Object,
    Time,
    MicroTime,
    IntOrString,
    Json,
    List,
    Either,
}

/// One field.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) number: u64,
    pub(super) name: &'static str,
    pub(super) cardinality: Cardinality,
    pub(super) kind: Type,
    /// Zero means something; other zeros are dropped.
    pub(super) keeps_zero: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cardinality {
    One,
    Many,
    /// From string.
    Map,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Scalar(Scalar),
    /// Index into the table.
    Message(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scalar {
    Str,
    Bytes,
    Bool,
    Int32,
    Int64,
    Double,
}

impl Message {
    /// The field with this number.
    pub(super) fn field(&self, number: u64) -> Option<&Field> {
        let at = self.fields.binary_search_by_key(&number, |f| f.number).ok()?;
        self.fields.get(at)
    }
}

impl Table {
    pub(super) fn get() -> &'static Self {
        &TABLE
    }

    pub(super) fn message(&self, index: usize) -> Option<&Message> {
        self.messages.get(index)
    }

    #[cfg(test)]
    pub(super) fn named(&self, name: &str) -> Option<&Message> {
        self.message(*self.by_name.get(name)?)
    }

    /// The message of a top-level kind: `discovery.k8s.io/v1`, `EndpointSlice` is `discovery/v1.EndpointSlice`.
    pub(super) fn root(&self, api_version: &str, kind: &str) -> Option<&Message> {
        let (group, version) = api_version.split_once('/').unwrap_or(("core", api_version));
        // Options travel under the version of the resource that they are for.
        let name = if kind == "DeleteOptions" {
            "meta/v1.DeleteOptions".to_owned()
        } else {
            let group = group.split('.').next().unwrap_or_default();
            format!("{group}/{version}.{kind}")
        };
        self.message(*self.by_name.get(name.as_str())?)
    }

    /// Parses the file. Lines that do not follow its grammar are skipped; a test pins that there are none.
    fn parse(text: &'static str) -> Self {
        let mut table = Self::default();
        let heads = text.lines().filter(|line| !line.starts_with([' ', '#']) && !line.is_empty());
        for (i, line) in heads.enumerate() {
            let mut words = line.split_whitespace();
            let name = words.next().unwrap_or_default();
            let form = match words.next() {
                Some("=time") => Form::Time,
                Some("=microtime") => Form::MicroTime,
                Some("=int-or-string") => Form::IntOrString,
                Some("=json") => Form::Json,
                Some("=list") => Form::List,
                Some("=either") => Form::Either,
                _ => Form::Object,
            };
            table.messages.push(Message { name, form, fields: Vec::new() });
            table.by_name.insert(name, i);
        }
        let mut current = None;
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if line.starts_with(' ') {
                let field = table.parse_field(line);
                if let Some(message) = current.and_then(|i: usize| table.messages.get_mut(i)) {
                    message.fields.extend(field);
                }
            } else {
                current = line.split_whitespace().next().and_then(|name| table.by_name.get(name).copied());
            }
        }
        table
    }

    fn parse_field(&self, line: &'static str) -> Option<Field> {
        let mut words = line.split_whitespace();
        let number = words.next()?.parse().ok()?;
        let raw_name = words.next()?;
        let name = raw_name.trim_end_matches('!');
        let raw_kind = words.next()?;
        let (cardinality, kind) = if let Some(rest) = raw_kind.strip_prefix("[]") {
            (Cardinality::Many, rest)
        } else if let Some(rest) = raw_kind.strip_prefix("{}") {
            (Cardinality::Map, rest)
        } else {
            (Cardinality::One, raw_kind)
        };
        let kind = match kind {
            "string" => Type::Scalar(Scalar::Str),
            "bytes" => Type::Scalar(Scalar::Bytes),
            "bool" => Type::Scalar(Scalar::Bool),
            "int32" => Type::Scalar(Scalar::Int32),
            "int64" => Type::Scalar(Scalar::Int64),
            "double" => Type::Scalar(Scalar::Double),
            message => Type::Message(*self.by_name.get(message)?),
        };
        Some(Field { number, name, cardinality, kind, keeps_zero: raw_name.ends_with('!') })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_data_file_is_understood() {
        let lines = TEXT.lines().filter(|l| l.starts_with(' ')).count();
        let fields: usize = TABLE.messages.iter().map(|m| m.fields.len()).sum();
        assert_eq!(fields, lines);
        for message in &TABLE.messages {
            assert!(message.fields.is_sorted_by_key(|f| f.number), "{}", message.name);
            let mut names: Vec<_> = message.fields.iter().map(|f| f.name).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), message.fields.len(), "{}", message.name);
        }
    }

    #[test]
    fn kinds_are_found_by_api_version_and_kind() {
        let rows = [
            ("v1", "ConfigMap", "core/v1.ConfigMap"),
            ("events.k8s.io/v1", "Event", "events/v1.Event"),
            ("apiextensions.k8s.io/v1", "CustomResourceDefinition", "apiextensions/v1.CustomResourceDefinition"),
            ("v1", "DeleteOptions", "meta/v1.DeleteOptions"),
            ("coordination.k8s.io/v1", "DeleteOptions", "meta/v1.DeleteOptions"),
        ];
        for (api_version, kind, expected) in rows {
            assert_eq!(TABLE.root(api_version, kind).map(|m| m.name), Some(expected));
        }
        assert!(TABLE.root("v2", "ConfigMap").is_none());
        assert!(TABLE.root("example.com/v1", "Widget").is_none());
    }
}
