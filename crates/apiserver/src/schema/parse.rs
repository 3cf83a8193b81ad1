//! Reading an `openAPIV3Schema` and refusing what is not structural (SPEC 60 §13.2).
//!
//! One walk does both: it builds the [`Node`] tree and collects every problem with the path where it stands. Checks
//! that need the whole tree (defaults against their own schema, nested schemas against the outer one) follow.

use serde_json::{Map, Number, Value, json};

use super::format::Format;
use super::pattern::Pattern;
use super::{Additional, Checks, Kind, ListType, MAX_DEPTH, MAX_ERRORS, Node, default, prune, validate};
use crate::status::{FieldError, FieldPath};

pub(super) fn root(raw: &Value, path: &FieldPath<'_>) -> Result<Node, Vec<FieldError>> {
    let mut parser = Parser { errors: Vec::new() };
    let node = parser.structural(raw, path, Level::Root, 0);
    if parser.errors.is_empty() {
        parser.complete(&node, path);
        parser.defaults(&node, path, true, false);
    }
    parser.errors.truncate(MAX_ERRORS);
    if parser.errors.is_empty() { Ok(node) } else { Err(parser.errors) }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Field,
    Item,
}

/// Keywords that no structural schema may have.
const FORBIDDEN: &[&str] = &[
    "$ref",
    "$schema",
    "additionalItems",
    "definitions",
    "dependencies",
    "deprecated",
    "discriminator",
    "id",
    "patternProperties",
    "readOnly",
    "writeOnly",
    "xml",
];

/// Keywords that shape an object, so that they may not be repeated inside `allOf`, `anyOf`, `oneOf` and `not`.
const SHAPING: &[&str] = &[
    "additionalProperties",
    "default",
    "description",
    "nullable",
    "title",
    "type",
    "x-kubernetes-embedded-resource",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    "x-kubernetes-map-type",
    "x-kubernetes-preserve-unknown-fields",
];

struct Parser {
    errors: Vec<FieldError>,
}

impl Parser {
    fn forbid(&mut self, path: FieldPath<'_>, detail: &str) {
        self.errors.push(FieldError::forbidden(path, detail));
    }

    fn object<'a>(&mut self, raw: &'a Value, path: &FieldPath<'_>, depth: usize) -> Option<&'a Map<String, Value>> {
        if depth > MAX_DEPTH {
            self.forbid(*path, &format!("schemas may be nested at most {MAX_DEPTH} levels deep"));
            return None;
        }
        if self.errors.len() >= MAX_ERRORS {
            return None;
        }
        let object = raw.as_object();
        if object.is_none() {
            self.errors.push(FieldError::invalid(path, raw, "must be a schema object"));
        }
        object
    }

    /// Refuses what no schema may hold, at any level.
    fn refuse_unsupported(&mut self, map: &Map<String, Value>, path: &FieldPath<'_>) {
        for keyword in FORBIDDEN {
            if map.contains_key(*keyword) {
                self.forbid(path.field(keyword), &format!("{keyword} is not supported"));
            }
        }
        self.refuse_rules(map, path);
    }

    fn structural(&mut self, raw: &Value, path: &FieldPath<'_>, level: Level, depth: usize) -> Node {
        let mut node = Node::default();
        let Some(map) = self.object(raw, path, depth) else { return node };
        self.refuse_unsupported(map, path);
        node.nullable = self.flag(map, "nullable", path);
        node.preserves_unknown = self.flag(map, "x-kubernetes-preserve-unknown-fields", path);
        node.is_embedded = self.flag(map, "x-kubernetes-embedded-resource", path);
        node.is_int_or_string = self.flag(map, "x-kubernetes-int-or-string", path);
        node.default = map.get("default").filter(|default| !default.is_null()).cloned();
        if map.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(false)) {
            let path = path.field("x-kubernetes-preserve-unknown-fields");
            self.errors.push(FieldError::invalid(path, &json!(false), "must be true or undefined"));
        }
        self.kind(map, &mut node, path, level);
        self.children(map, &mut node, path, level, depth);
        node.checks = self.checks(map, path, depth, node.is_int_or_string);
        self.list_type(map, &mut node, path);
        self.map_type(map, &node, path);
        self.int_or_string(map, &node, path);
        self.resource(map, &node, path, level);
        node
    }

    /// Rules in CEL would be security relevant if they were accepted and not evaluated.
    fn refuse_rules(&mut self, map: &Map<String, Value>, path: &FieldPath<'_>) {
        const RULES: &str = "x-kubernetes-validations";
        if map.get(RULES).is_some_and(|rules| rules.as_array().is_none_or(|rules| !rules.is_empty())) {
            self.forbid(path.field(RULES), "validation rules are not supported by this version");
        }
    }

    fn kind(&mut self, map: &Map<String, Value>, node: &mut Node, path: &FieldPath<'_>, level: Level) {
        let text = match map.get("type") {
            None | Some(Value::Null) => "",
            Some(Value::String(text)) => text,
            Some(other) => {
                self.errors.push(FieldError::invalid(path.field("type"), other, "must be a single type name"));
                return;
            }
        };
        if text == "null" {
            self.forbid(path.field("type"), "type cannot be set to null, use nullable as an alternative");
            return;
        }
        node.kind = Kind::parse(text);
        if !text.is_empty() && node.kind.is_none() {
            let supported = ["array", "boolean", "integer", "number", "object", "string"];
            self.errors.push(FieldError::not_supported(path.field("type"), &json!(text), &supported));
            return;
        }
        if node.is_embedded && node.kind != Some(Kind::Object) {
            let detail = "must be object if x-kubernetes-embedded-resource is true";
            self.errors.push(match node.kind {
                None => FieldError::required(path.field("type"), detail),
                Some(kind) => FieldError::invalid_str(path.field("type"), kind.as_str(), detail),
            });
        } else if node.kind.is_none() && !node.is_int_or_string && !node.preserves_unknown {
            let detail = match level {
                Level::Root => "must not be empty at the root",
                Level::Item => "must not be empty for specified array items",
                Level::Field => "must not be empty for specified object fields",
            };
            self.errors.push(FieldError::required(path.field("type"), detail));
        }
        if level == Level::Root
            && let Some(kind) = node.kind
            && kind != Kind::Object
        {
            self.errors.push(FieldError::invalid_str(path.field("type"), kind.as_str(), "must be object at the root"));
        }
    }

    fn children(
        &mut self,
        map: &Map<String, Value>,
        node: &mut Node,
        path: &FieldPath<'_>,
        level: Level,
        depth: usize,
    ) {
        let properties = self.map(map, "properties", path);
        for (name, raw) in properties.into_iter().flatten() {
            let properties = path.field("properties");
            let child = self.structural(raw, &properties.key(name), Level::Field, depth + 1);
            node.properties.insert(name.clone(), child);
        }
        let at = path.field("additionalProperties");
        match map.get("additionalProperties") {
            None | Some(Value::Null) => {}
            Some(_) if level == Level::Root => self.forbid(at, "must not be used at the root"),
            Some(_) if node.is_embedded => {
                self.forbid(at, "must not be used if x-kubernetes-embedded-resource is set");
            }
            Some(Value::Bool(false)) => self.forbid(at, "additionalProperties cannot be set to false"),
            Some(_) if properties.is_some_and(|properties| !properties.is_empty()) => {
                self.forbid(at, "additionalProperties and properties are mutual exclusive");
            }
            Some(Value::Bool(true)) => node.additional = Additional::Any,
            Some(raw) => {
                let schema = self.structural(raw, &at, Level::Field, depth + 1);
                node.additional = Additional::Schema(Box::new(schema));
            }
        }
        match map.get("items") {
            None | Some(Value::Null) => {
                if node.kind == Some(Kind::Array) {
                    self.errors.push(FieldError::required(path.field("items"), "must be specified"));
                }
            }
            Some(Value::Array(_)) => {
                self.forbid(path.field("items"), "items must be a schema object and not an array");
            }
            Some(raw) => {
                let item = self.structural(raw, &path.field("items"), Level::Item, depth + 1);
                node.items = Some(Box::new(item));
            }
        }
    }

    fn checks(&mut self, map: &Map<String, Value>, path: &FieldPath<'_>, depth: usize, int_or_string: bool) -> Checks {
        let mut checks = Checks {
            minimum: self.number(map, "minimum", path),
            excludes_minimum: self.flag(map, "exclusiveMinimum", path),
            maximum: self.number(map, "maximum", path),
            excludes_maximum: self.flag(map, "exclusiveMaximum", path),
            multiple_of: self.number(map, "multipleOf", path),
            min_length: self.count(map, "minLength", path),
            max_length: self.count(map, "maxLength", path),
            min_items: self.count(map, "minItems", path),
            max_items: self.count(map, "maxItems", path),
            min_properties: self.count(map, "minProperties", path),
            max_properties: self.count(map, "maxProperties", path),
            ..Checks::default()
        };
        if let Some(factor) = &checks.multiple_of
            && factor.as_f64().is_none_or(|factor| factor <= 0.0)
        {
            let at = path.field("multipleOf");
            self.errors.push(FieldError::invalid(at, &Value::Number(factor.clone()), "must be greater than 0"));
        }
        if self.flag(map, "uniqueItems", path) {
            let detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
            self.forbid(path.field("uniqueItems"), detail);
        }
        if let Some(values) = self.list(map, "enum", path) {
            checks.enumeration = Some(values.clone()).filter(|values| !values.is_empty());
        }
        if let Some(text) = self.text(map, "pattern", path) {
            match Pattern::parse(text) {
                Ok(pattern) => checks.pattern = Some(pattern),
                Err(reason) => {
                    let detail = format!("must be a valid regular expression, but isn't: {reason}");
                    self.errors.push(FieldError::invalid_str(path.field("pattern"), text, detail));
                }
            }
        }
        if let Some(name) = self.text(map, "format", path) {
            name.clone_into(&mut checks.format_name);
            checks.format = Format::parse(name);
        }
        for (index, name) in self.list(map, "required", path).into_iter().flatten().enumerate() {
            match name {
                Value::String(name) => checks.required.push(name.clone()),
                other => {
                    let required = path.field("required");
                    self.errors.push(FieldError::invalid(required.index(index), other, "must be a string"));
                }
            }
        }
        checks.any_of = self.alternatives(map, "anyOf", path, depth, int_or_string);
        checks.one_of = self.alternatives(map, "oneOf", path, depth, false);
        checks.all_of = self.alternatives(map, "allOf", path, depth, int_or_string);
        if let Some(raw) = map.get("not").filter(|raw| !raw.is_null()) {
            checks.not = Some(Box::new(self.nested(raw, &path.field("not"), depth + 1, false)));
        }
        checks
    }

    /// `int_or_string`: the one pattern may occur that repeats the types, `anyOf: [{type: integer}, {type: string}]`,
    /// directly or as the first entry of `allOf`. It says nothing new, so it is dropped.
    fn alternatives(
        &mut self,
        map: &Map<String, Value>,
        key: &str,
        path: &FieldPath<'_>,
        depth: usize,
        int_or_string: bool,
    ) -> Vec<Node> {
        let list = self.list(map, key, path).map_or(&[][..], Vec::as_slice);
        let pattern = json!([{"type": "integer"}, {"type": "string"}]);
        if int_or_string && key == "anyOf" && pattern.as_array().is_some_and(|pattern| pattern == list) {
            return Vec::new();
        }
        let at = path.field(key);
        list.iter()
            .enumerate()
            .map(|(index, raw)| {
                let first_of_all = int_or_string && key == "allOf" && index == 0;
                self.nested(raw, &at.index(index), depth + 1, first_of_all)
            })
            .collect()
    }

    /// A schema that restricts values without shaping them.
    fn nested(&mut self, raw: &Value, path: &FieldPath<'_>, depth: usize, int_or_string: bool) -> Node {
        let mut node = Node::default();
        let Some(map) = self.object(raw, path, depth) else { return node };
        self.refuse_unsupported(map, path);
        for keyword in SHAPING {
            // Decoded Go structs write `nullable: false`; for keywords that hold any value, false is a value.
            let holds_any = matches!(*keyword, "default" | "additionalProperties");
            let is_unset = |value: &Value| value.is_null() || (!holds_any && *value == Value::Bool(false));
            if map.get(*keyword).is_some_and(|value| !is_unset(value)) {
                self.forbid(path.field(keyword), "must be empty to be structural");
            }
        }
        for (name, raw) in self.map(map, "properties", path).into_iter().flatten() {
            let properties = path.field("properties");
            let at = properties.key(name);
            if name == "metadata" {
                self.forbid(at, "must not be specified in a nested context");
            }
            node.properties.insert(name.clone(), self.nested(raw, &at, depth + 1, false));
        }
        if let Some(raw) = map.get("items").filter(|raw| !raw.is_null()) {
            node.items = Some(Box::new(self.nested(raw, &path.field("items"), depth + 1, false)));
        }
        node.checks = self.checks(map, path, depth, int_or_string);
        node
    }

    fn list_type(&mut self, map: &Map<String, Value>, node: &mut Node, path: &FieldPath<'_>) {
        const TYPE: &str = "x-kubernetes-list-type";
        const KEYS: &str = "x-kubernetes-list-map-keys";
        let keys: Vec<String> = self
            .list(map, KEYS, path)
            .into_iter()
            .flatten()
            .filter_map(|key| key.as_str().map(str::to_owned))
            .collect();
        let written = self.text(map, TYPE, path).unwrap_or_default();
        if !written.is_empty() && node.kind != Some(Kind::Array) {
            let found = node.kind.map_or("", Kind::as_str);
            let detail = "must be array if x-kubernetes-list-type is specified";
            self.errors.push(FieldError::invalid_str(path.field("type"), found, detail));
            return;
        }
        if !keys.is_empty() && written != "map" {
            let detail = "must be map if x-kubernetes-list-map-keys is non-empty";
            self.errors.push(if written.is_empty() {
                FieldError::required(path.field(TYPE), detail)
            } else {
                FieldError::invalid_str(path.field(TYPE), written, detail)
            });
        }
        let item_path = path.field("items");
        match (written, &node.items) {
            ("" | "atomic", _) => {}
            ("set", Some(item)) => {
                if item.nullable {
                    let detail = "cannot be nullable when x-kubernetes-list-type is set";
                    self.forbid(item_path.field("nullable"), detail);
                }
                let raw = map.get("items").and_then(Value::as_object);
                let says = |key: &str, value: &str| {
                    raw.and_then(|raw| raw.get(key)).is_some_and(|found| found.as_str() == Some(value))
                };
                if item.kind == Some(Kind::Object) && !says("x-kubernetes-map-type", "atomic") {
                    let detail = "must be atomic as item of a list with x-kubernetes-list-type=set";
                    self.errors.push(FieldError::invalid_str(item_path.field("x-kubernetes-map-type"), "", detail));
                }
                if item.kind == Some(Kind::Array) && item.list_type != ListType::Atomic {
                    let detail = "must be atomic as item of a list with x-kubernetes-list-type=set";
                    self.errors.push(FieldError::invalid_str(item_path.field(TYPE), "", detail));
                }
                node.list_type = ListType::Set;
            }
            ("map", Some(item)) => {
                self.map_keys(&keys, item, path);
                node.list_type = ListType::Map(keys);
            }
            ("set" | "map", None) => {
                let detail = format!("must have a schema if x-kubernetes-list-type is {written}");
                self.errors.push(FieldError::required(item_path, detail));
            }
            (other, _) => {
                let supported = ["atomic", "map", "set"];
                self.errors.push(FieldError::not_supported(path.field(TYPE), &json!(other), &supported));
            }
        }
    }

    fn map_keys(&mut self, keys: &[String], item: &Node, path: &FieldPath<'_>) {
        let keys_path = path.field("x-kubernetes-list-map-keys");
        let item_path = path.field("items");
        if item.kind != Some(Kind::Object) {
            let found = item.kind.map_or("", Kind::as_str);
            let detail = "must be object if parent array's x-kubernetes-list-type is map";
            self.errors.push(FieldError::invalid_str(item_path.field("type"), found, detail));
        }
        if keys.is_empty() {
            let detail = "must not be empty if x-kubernetes-list-type is map";
            self.errors.push(FieldError::required(keys_path, detail));
        }
        let properties = item_path.field("properties");
        for (index, key) in keys.iter().enumerate() {
            if keys.iter().take(index).any(|earlier| earlier == key) {
                self.errors.push(FieldError::duplicate(keys_path.index(index), &json!(key)));
                continue;
            }
            let at = properties.key(key);
            let Some(property) = item.properties.get(key) else {
                let detail = "entries must all be names of item properties";
                self.errors.push(FieldError::invalid_str(keys_path.index(index), key, detail));
                continue;
            };
            if let Some(kind) = property.kind
                && !kind.is_scalar()
            {
                let detail = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                self.errors.push(FieldError::invalid_str(at.field("type"), kind.as_str(), detail));
            }
            if property.nullable {
                let detail = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
                self.forbid(at.field("nullable"), detail);
            }
            if property.default.is_none() && !item.checks.required.contains(key) {
                let detail = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
                self.errors.push(FieldError::required(at.field("default"), detail));
            }
        }
    }

    fn map_type(&mut self, map: &Map<String, Value>, node: &Node, path: &FieldPath<'_>) {
        const TYPE: &str = "x-kubernetes-map-type";
        let Some(written) = self.text(map, TYPE, path) else { return };
        if node.kind != Some(Kind::Object) {
            let found = node.kind.map_or("", Kind::as_str);
            let detail = "must be object if x-kubernetes-map-type is specified";
            self.errors.push(FieldError::invalid_str(path.field("type"), found, detail));
        }
        if !matches!(written, "atomic" | "granular") {
            let supported = ["atomic", "granular"];
            self.errors.push(FieldError::not_supported(path.field(TYPE), &json!(written), &supported));
        }
    }

    fn int_or_string(&mut self, map: &Map<String, Value>, node: &Node, path: &FieldPath<'_>) {
        if !node.is_int_or_string {
            return;
        }
        if let Some(kind) = node.kind {
            let detail = "must be empty if x-kubernetes-int-or-string is true";
            self.errors.push(FieldError::invalid_str(path.field("type"), kind.as_str(), detail));
        }
        for key in ["x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource"] {
            if map.get(key) == Some(&Value::Bool(true)) {
                let detail = "must be false if x-kubernetes-int-or-string is true";
                self.errors.push(FieldError::invalid(path.field(key), &json!(true), detail));
            }
        }
    }

    /// What `apiVersion`, `kind` and `metadata` may say, of the object itself and of embedded ones.
    fn resource(&mut self, map: &Map<String, Value>, node: &Node, path: &FieldPath<'_>, level: Level) {
        if level != Level::Root && !node.is_embedded {
            return;
        }
        if node.is_embedded && !node.preserves_unknown && node.properties.is_empty() {
            let detail = "must not be empty if x-kubernetes-embedded-resource is true without \
                          x-kubernetes-preserve-unknown-fields";
            self.errors.push(FieldError::required(path.field("properties"), detail));
        }
        let properties = path.field("properties");
        for key in ["apiVersion", "kind"] {
            if let Some(kind) = node.properties.get(key).and_then(|property| property.kind)
                && kind != Kind::String
            {
                let at = properties.key(key);
                self.errors.push(FieldError::invalid_str(at.field("type"), kind.as_str(), "must be string"));
            }
        }
        let Some(metadata) = node.properties.get("metadata") else { return };
        let at = properties.key("metadata");
        if let Some(kind) = metadata.kind
            && kind != Kind::Object
        {
            self.errors.push(FieldError::invalid_str(at.field("type"), kind.as_str(), "must be object"));
        }
        let raw = map.get("properties").and_then(|properties| properties.get("metadata")).and_then(Value::as_object);
        let others = raw.into_iter().flatten().any(|(keyword, _)| {
            !matches!(keyword.as_str(), "type" | "description" | "title" | "properties" | "required" | "nullable")
        });
        let unknown = metadata.properties.keys().any(|name| !matches!(name.as_str(), "name" | "generateName"));
        if others || unknown {
            let detail =
                "must not specify anything other than name and generateName, but metadata is implicitly specified";
            self.forbid(at, detail);
        }
    }

    /// Everything that a nested schema names must be declared by the structural one around it.
    fn complete(&mut self, node: &Node, path: &FieldPath<'_>) {
        for nested in node.checks.nested() {
            self.covers(node, nested, path);
        }
        let properties = path.field("properties");
        for (name, child) in &node.properties {
            self.complete(child, &properties.key(name));
        }
        if let Additional::Schema(schema) = &node.additional {
            self.complete(schema, &path.field("additionalProperties"));
        }
        if let Some(item) = &node.items {
            self.complete(item, &path.field("items"));
        }
    }

    fn covers(&mut self, node: &Node, nested: &Node, path: &FieldPath<'_>) {
        const BECAUSE: &str = "because it is defined in a nested schema (allOf, anyOf, oneOf or not)";
        let properties = path.field("properties");
        for (name, inner) in &nested.properties {
            let at = properties.key(name);
            match node.child(name) {
                Some(child) => self.covers(child, inner, &at),
                None => self.errors.push(FieldError::required(at, BECAUSE)),
            }
        }
        if let Some(inner) = &nested.items {
            let at = path.field("items");
            match &node.items {
                Some(item) => self.covers(item, inner, &at),
                None => self.errors.push(FieldError::required(at, BECAUSE)),
            }
        }
        for deeper in nested.checks.nested() {
            self.covers(node, deeper, path);
        }
    }

    /// Defaults must be values that their own schema accepts unchanged.
    fn defaults(&mut self, node: &Node, path: &FieldPath<'_>, is_resource: bool, in_metadata: bool) {
        if let Some(value) = &node.default {
            self.default_value(node, value, &path.field("default"), in_metadata);
        }
        let properties = path.field("properties");
        for (name, child) in &node.properties {
            let is_metadata = in_metadata || ((is_resource || node.is_embedded) && name == "metadata");
            self.defaults(child, &properties.key(name), false, is_metadata);
        }
        if let Additional::Schema(schema) = &node.additional {
            self.defaults(schema, &path.field("additionalProperties"), false, in_metadata);
        }
        if let Some(item) = &node.items {
            self.defaults(item, &path.field("items"), false, in_metadata);
        }
    }

    fn default_value(&mut self, node: &Node, value: &Value, path: &FieldPath<'_>, in_metadata: bool) {
        if in_metadata {
            self.forbid(*path, "must not be set inside metadata");
            return;
        }
        let mut pruned = value.clone();
        let unknown = prune::value(node, &mut pruned);
        if !unknown.is_empty() {
            let detail = format!("must not have fields that the schema does not declare: {}", unknown.join(", "));
            self.errors.push(FieldError::invalid(path, value, detail));
            return;
        }
        // Defaults of the parts are filled in when a default is used, so they count here too.
        default::apply(node, &mut pruned);
        self.errors.extend(validate::object(node, &pruned, None, path));
    }

    fn flag(&mut self, map: &Map<String, Value>, key: &str, path: &FieldPath<'_>) -> bool {
        match map.get(key) {
            None | Some(Value::Null) => false,
            Some(Value::Bool(flag)) => *flag,
            Some(other) => {
                self.errors.push(FieldError::invalid(path.field(key), other, "must be a boolean"));
                false
            }
        }
    }

    fn text<'a>(&mut self, map: &'a Map<String, Value>, key: &str, path: &FieldPath<'_>) -> Option<&'a str> {
        match map.get(key)? {
            Value::Null => None,
            Value::String(text) => Some(text.as_str()).filter(|text| !text.is_empty()),
            other => {
                self.errors.push(FieldError::invalid(path.field(key), other, "must be a string"));
                None
            }
        }
    }

    fn number(&mut self, map: &Map<String, Value>, key: &str, path: &FieldPath<'_>) -> Option<Number> {
        match map.get(key)? {
            Value::Null => None,
            Value::Number(number) => Some(number.clone()),
            other => {
                self.errors.push(FieldError::invalid(path.field(key), other, "must be a number"));
                None
            }
        }
    }

    fn count(&mut self, map: &Map<String, Value>, key: &str, path: &FieldPath<'_>) -> Option<usize> {
        let value = map.get(key).filter(|value| !value.is_null())?;
        let count = value.as_u64().and_then(|count| usize::try_from(count).ok());
        if count.is_none() {
            self.errors.push(FieldError::invalid(path.field(key), value, "must be a non-negative integer"));
        }
        count
    }

    fn list<'a>(&mut self, map: &'a Map<String, Value>, key: &str, path: &FieldPath<'_>) -> Option<&'a Vec<Value>> {
        match map.get(key)? {
            Value::Null => None,
            Value::Array(list) => Some(list),
            other => {
                self.errors.push(FieldError::invalid(path.field(key), other, "must be a list"));
                None
            }
        }
    }

    fn map<'a>(
        &mut self,
        map: &'a Map<String, Value>,
        key: &str,
        path: &FieldPath<'_>,
    ) -> Option<&'a Map<String, Value>> {
        match map.get(key)? {
            Value::Null => None,
            Value::Object(map) => Some(map),
            other => {
                self.errors.push(FieldError::invalid(path.field(key), other, "must be an object"));
                None
            }
        }
    }
}

impl Checks {
    fn nested(&self) -> impl Iterator<Item = &Node> {
        let lists = self.all_of.iter().chain(&self.any_of).chain(&self.one_of);
        lists.chain(self.not.as_deref())
    }
}
