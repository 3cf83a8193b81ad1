//! Structural schemas of custom resources (SPEC 60 §13.2 and §13.3).
//!
//! ```text
//! openAPIV3Schema --parse--> Schema --+-- prune     drop fields that are not declared, and name them
//!  (all problems at once)             +-- default   fill in what is missing (writes and reads)
//!                                     +-- validate  report every problem of an object
//! ```
//!
//! A [`Schema`] is compiled once per version of a definition: patterns are compiled regular expressions, formats are
//! resolved. Pruning and defaulting are idempotent. Nothing here does I/O, and no value of an object recurses deeper
//! than the schema does, except in plain copies and comparisons.

mod default;
mod embedded;
mod format;
mod parse;
mod pattern;
mod prune;
#[cfg(test)]
mod tests;
mod validate;

use std::collections::BTreeMap;

use serde_json::{Number, Value};

use crate::status::{FieldError, FieldPath};
use format::Format;
use pattern::Pattern;

/// Problems reported at once at most, of a definition and of an object (SPEC 60 §13.3).
pub const MAX_ERRORS: usize = 100;
/// Nesting of a schema at most (SPEC 60 §13.2).
const MAX_DEPTH: usize = 64;

/// A compiled `openAPIV3Schema` of one version of a definition.
#[derive(Debug)]
pub struct Schema {
    root: Node,
}

impl Schema {
    /// Parses and validates a schema; `path` is where it stands in the definition and begins every error.
    ///
    /// # Errors
    /// All problems (at most [`MAX_ERRORS`]) with the texts of SPEC 60 §13.2.
    pub fn parse(raw: &Value, path: &FieldPath<'_>) -> Result<Self, Vec<FieldError>> {
        parse::root(raw, path).map(|root| Self { root })
    }

    /// Removes every field that the schema neither declares nor preserves; `apiVersion`, `kind` and `metadata` of the
    /// object itself always stay. Returns the paths of what was removed, such as `spec.rules[0].foo`, sorted.
    pub fn prune(&self, object: &mut Value) -> Vec<String> {
        prune::root(&self.root, object)
    }

    /// Fills in defaults. An explicit null where none is allowed counts as absent: it takes the default or goes away.
    /// Runs on every write after [`Schema::prune`] and on every read of a stored object.
    pub fn apply_defaults(&self, object: &mut Value) {
        default::apply(&self.root, object);
        default::drop_nulls(&self.root, object);
    }

    /// Whether reading a stored object may change it; `false` lets a reader skip [`Schema::apply_defaults`].
    pub fn has_defaults(&self) -> bool {
        default::any(&self.root)
    }

    /// Every problem of a pruned and defaulted object, at most [`MAX_ERRORS`].
    ///
    /// With `old`, a part that did not change since is not validated again, so that a tightened schema never blocks
    /// an update of something else.
    pub fn validate(&self, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
        validate::object(&self.root, object, old, &FieldPath::root(""))
    }
}

impl Schema {
    /// The type of the property that a path of names leads to, such as `string`; `None` when nothing declares it.
    pub fn type_of(&self, names: &[&str]) -> Option<&'static str> {
        let node = names.iter().try_fold(&self.root, |node, name| node.properties.get(*name))?;
        Some(node.kind.map_or("", Kind::as_str))
    }
}

/// JSON types as schemas name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "object" => Self::Object,
            "array" => Self::Array,
            "string" => Self::String,
            "integer" => Self::Integer,
            "number" => Self::Number,
            "boolean" => Self::Boolean,
            _ => return None,
        })
    }

    fn is_scalar(self) -> bool {
        !matches!(self, Self::Object | Self::Array)
    }
}

/// Keys of an object that `properties` does not name.
#[derive(Debug, Default)]
enum Additional {
    #[default]
    None,
    /// `additionalProperties: true`
    Any,
    Schema(Box<Node>),
}

/// How a list is merged and which duplicates it must not have.
#[derive(Debug, Default, PartialEq, Eq)]
enum ListType {
    #[default]
    Atomic,
    Set,
    /// With the names of the key properties.
    Map(Vec<String>),
}

/// One schema node. Nodes inside `allOf`, `anyOf`, `oneOf` and `not` have the same form; definition validation keeps
/// them free of everything that shapes objects (`type`, `default`, ...).
#[derive(Debug, Default)]
struct Node {
    kind: Option<Kind>,
    nullable: bool,
    default: Option<Value>,
    properties: BTreeMap<String, Self>,
    additional: Additional,
    items: Option<Box<Self>>,
    preserves_unknown: bool,
    is_embedded: bool,
    is_int_or_string: bool,
    list_type: ListType,
    checks: Checks,
}

impl Node {
    /// The schema of the value behind `key`, if one is declared.
    fn child(&self, key: &str) -> Option<&Self> {
        self.properties.get(key).or(match &self.additional {
            Additional::Schema(schema) => Some(schema),
            Additional::None | Additional::Any => None,
        })
    }
}

/// What restricts a value without shaping it.
#[derive(Debug, Default)]
struct Checks {
    enumeration: Option<Vec<Value>>,
    minimum: Option<Number>,
    excludes_minimum: bool,
    maximum: Option<Number>,
    excludes_maximum: bool,
    multiple_of: Option<Number>,
    min_length: Option<usize>,
    max_length: Option<usize>,
    pattern: Option<Pattern>,
    /// The name as written, for messages.
    format_name: String,
    format: Option<Format>,
    min_items: Option<usize>,
    max_items: Option<usize>,
    min_properties: Option<usize>,
    max_properties: Option<usize>,
    required: Vec<String>,
    all_of: Vec<Node>,
    any_of: Vec<Node>,
    one_of: Vec<Node>,
    not: Option<Box<Node>>,
}
