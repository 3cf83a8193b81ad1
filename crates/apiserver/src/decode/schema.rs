//! Schemas of the built-in kinds, taken from the types of `k8s-openapi`.
//!
//! [`definitions`] is their OpenAPI form, with the markers that kubectl's strategic merge reads; [`FieldSchema`] is the
//! same in a shape that is quick to walk, for unknown fields and wrong types.

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use k8s_openapi::api::{coordination, core, discovery, events};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions;
use k8s_openapi::apimachinery::pkg::apis::meta;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

/// What one field may hold.
#[derive(Debug, Clone, PartialEq)]
pub enum FieldSchema {
    /// Any JSON, kept as it is.
    Any,
    Bool,
    Int32,
    Int64,
    Double,
    String,
    /// Base64.
    Bytes,
    /// RFC 3339, seconds.
    Time,
    /// RFC 3339, microseconds.
    MicroTime,
    IntOrString,
    List(Box<Self>),
    Map(Box<Self>),
    /// An object: index for [`ObjectSchema::at`].
    Object(usize),
    /// An object or, second, something that is none.
    Either(usize, Box<Self>),
}

/// One Go struct.
#[derive(Debug, Clone, PartialEq)]
pub struct ObjectSchema {
    /// `ServicePort`, as Go's errors name it.
    pub name: String,
    /// By JSON name; true if JSON always carries the field.
    pub fields: HashMap<String, (FieldSchema, bool)>,
}

impl ObjectSchema {
    /// The object that a [`FieldSchema::Object`] points to.
    pub fn at(index: usize) -> Option<&'static Self> {
        COMPILED.objects.get(index)
    }
}

struct Compiled {
    objects: Vec<ObjectSchema>,
    by_definition: BTreeMap<String, usize>,
}

/// Group, version, kind and OpenAPI definition of every object that a body can hold.
const ROOTS: [(&str, &str, &str, &str); 12] = [
    ("", "v1", "ConfigMap", "io.k8s.api.core.v1.ConfigMap"),
    ("", "v1", "Secret", "io.k8s.api.core.v1.Secret"),
    ("", "v1", "Namespace", "io.k8s.api.core.v1.Namespace"),
    ("", "v1", "ServiceAccount", "io.k8s.api.core.v1.ServiceAccount"),
    ("", "v1", "Service", "io.k8s.api.core.v1.Service"),
    ("", "v1", "Endpoints", "io.k8s.api.core.v1.Endpoints"),
    ("", "v1", "Event", "io.k8s.api.core.v1.Event"),
    ("events.k8s.io", "v1", "Event", "io.k8s.api.events.v1.Event"),
    ("discovery.k8s.io", "v1", "EndpointSlice", "io.k8s.api.discovery.v1.EndpointSlice"),
    ("coordination.k8s.io", "v1", "Lease", "io.k8s.api.coordination.v1.Lease"),
    (
        "apiextensions.k8s.io",
        "v1",
        "CustomResourceDefinition",
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition",
    ),
    ("", "v1", "DeleteOptions", "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"),
];

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";
const EXTENSIONS: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.";

static DEFINITIONS: LazyLock<Map<String, Value>> = LazyLock::new(generate);
static COMPILED: LazyLock<Compiled> = LazyLock::new(|| compile(&DEFINITIONS));

/// OpenAPI v3 schemas by definition name (`io.k8s.api.core.v1.ConfigMap`): the built-in kinds, their lists, `Status`,
/// `DeleteOptions` and all that they refer to by `#/components/schemas/NAME`.
pub fn definitions() -> &'static Map<String, Value> {
    &DEFINITIONS
}

/// The name under which [`definitions`] holds a built-in kind; its list is the same with `List` behind it.
pub fn definition_name(group: &str, version: &str, kind: &str) -> Option<&'static str> {
    ROOTS.iter().find(|(g, v, k, _)| (*g, *v, *k) == (group, version, kind)).map(|(.., name)| *name)
}

/// The schema of a built-in kind.
pub fn builtin_schema(group: &str, version: &str, kind: &str) -> Option<&'static ObjectSchema> {
    let name = definition_name(group, version, kind)?;
    ObjectSchema::at(*COMPILED.by_definition.get(name)?)
}

/// The schema of `metadata`.
pub(super) fn object_meta() -> Option<&'static ObjectSchema> {
    ObjectSchema::at(*COMPILED.by_definition.get(&format!("{META}ObjectMeta"))?)
}

fn generate() -> Map<String, Value> {
    let mut generator = SchemaSettings::openapi3().into_generator();
    generator.subschema_for::<core::v1::ConfigMap>();
    generator.subschema_for::<core::v1::Secret>();
    generator.subschema_for::<core::v1::Namespace>();
    generator.subschema_for::<core::v1::ServiceAccount>();
    generator.subschema_for::<core::v1::Service>();
    generator.subschema_for::<core::v1::Endpoints>();
    generator.subschema_for::<core::v1::Event>();
    generator.subschema_for::<events::v1::Event>();
    generator.subschema_for::<discovery::v1::EndpointSlice>();
    generator.subschema_for::<coordination::v1::Lease>();
    generator.subschema_for::<apiextensions::v1::CustomResourceDefinition>();
    generator.subschema_for::<meta::v1::DeleteOptions>();
    generator.subschema_for::<meta::v1::Status>();
    generator.subschema_for::<meta::v1::ListMeta>();
    generator.subschema_for::<meta::v1::Patch>();
    let mut definitions = generator.take_definitions(true);
    for (group, version, kind, name) in ROOTS {
        let identity = |kind: &str| json!([{"group": group, "version": version, "kind": kind}]);
        if let Some(definition) = definitions.get_mut(name).and_then(Value::as_object_mut) {
            definition.insert("x-kubernetes-group-version-kind".to_owned(), identity(kind));
        }
        if kind != "DeleteOptions" {
            let list_kind = format!("{kind}List");
            definitions.insert(format!("{name}List"), list_definition(name, kind, &identity(&list_kind)));
        }
    }
    mark(&mut definitions);
    definitions
}

fn list_definition(item: &str, kind: &str, identity: &Value) -> Value {
    let reference = |name: &str| json!({"allOf": [{"$ref": format!("#/components/schemas/{name}")}]});
    json!({
        "description": format!("A list of {kind} objects."),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string", "description": "Group and version of the list."},
            "kind": {"type": "string", "description": "Kind of the list."},
            "metadata": reference(&format!("{META}ListMeta")),
            "items": {"type": "array", "items": reference(item), "description": "The objects."},
        },
        "x-kubernetes-group-version-kind": identity,
    })
}

/// Adds what the Rust types do not tell: merge keys (kubectl computes strategic merge patches from them) and types
/// that are any JSON although the generator calls them objects.
// SPEC 60 §10.4
fn mark(definitions: &mut Map<String, Value>) {
    let markers = [
        ("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta", "ownerReferences", Some("uid")),
        ("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta", "finalizers", None),
        ("io.k8s.api.core.v1.ServiceSpec", "ports", Some("port")),
        ("io.k8s.api.core.v1.ServiceStatus", "conditions", Some("type")),
        ("io.k8s.api.core.v1.NamespaceStatus", "conditions", Some("type")),
        ("io.k8s.api.core.v1.ServiceAccount", "secrets", Some("name")),
    ];
    for (definition, field, key) in markers {
        let property = definitions
            .get_mut(definition)
            .and_then(|d| d.get_mut("properties"))
            .and_then(|p| p.get_mut(field))
            .and_then(Value::as_object_mut);
        if let Some(property) = property {
            property.insert("x-kubernetes-patch-strategy".to_owned(), "merge".into());
            if let Some(key) = key {
                property.insert("x-kubernetes-patch-merge-key".to_owned(), key.into());
            }
        }
    }
    for any in ["JSON", "JSONSchemaPropsOrArray", "JSONSchemaPropsOrBool", "JSONSchemaPropsOrStringArray"] {
        if let Some(definition) = definitions.get_mut(&format!("{EXTENSIONS}{any}")).and_then(Value::as_object_mut) {
            definition.retain(|key, _| key == "description");
        }
    }
}

fn compile(definitions: &Map<String, Value>) -> Compiled {
    let by_definition: BTreeMap<String, usize> =
        definitions.keys().enumerate().map(|(i, name)| (name.clone(), i)).collect();
    let compiler = Compiler { by_definition: &by_definition };
    let objects = definitions.iter().map(|(name, definition)| compiler.object(name, definition)).collect();
    Compiled { objects, by_definition }
}

struct Compiler<'a> {
    by_definition: &'a BTreeMap<String, usize>,
}

impl Compiler<'_> {
    fn object(&self, name: &str, definition: &Value) -> ObjectSchema {
        let required: Vec<&str> = definition
            .get("required")
            .and_then(Value::as_array)
            .map(|list| list.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        let fields = definition
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .map(|(field, schema)| (field.clone(), (self.field(schema), required.contains(&field.as_str()))))
            .collect();
        ObjectSchema { name: name.rsplit('.').next().unwrap_or(name).to_owned(), fields }
    }

    fn field(&self, schema: &Value) -> FieldSchema {
        let reference = schema
            .get("$ref")
            .or_else(|| schema.pointer("/allOf/0/$ref"))
            .and_then(Value::as_str)
            .and_then(|r| r.strip_prefix("#/components/schemas/"));
        if let Some(name) = reference {
            return self.referenced(name);
        }
        let word = |key: &str| schema.get(key).and_then(Value::as_str).unwrap_or_default();
        match (word("type"), word("format")) {
            ("boolean", _) => FieldSchema::Bool,
            ("integer", "int32") => FieldSchema::Int32,
            ("integer", _) => FieldSchema::Int64,
            ("number", _) => FieldSchema::Double,
            ("string", "byte") => FieldSchema::Bytes,
            ("string", _) => FieldSchema::String,
            ("array", _) => {
                FieldSchema::List(Box::new(schema.get("items").map_or(FieldSchema::Any, |s| self.field(s))))
            }
            ("object", _) => match schema.get("additionalProperties") {
                Some(values) if values.is_object() => FieldSchema::Map(Box::new(self.field(values))),
                _ => FieldSchema::Any,
            },
            _ => FieldSchema::Any,
        }
    }

    fn referenced(&self, name: &str) -> FieldSchema {
        let object = |name: &str| self.by_definition.get(name).copied();
        let schema_props = object(&format!("{EXTENSIONS}JSONSchemaProps"));
        let either =
            |other: FieldSchema| schema_props.map_or(FieldSchema::Any, |i| FieldSchema::Either(i, Box::new(other)));
        match name.rsplit('.').next().unwrap_or_default() {
            "Time" => FieldSchema::Time,
            "MicroTime" => FieldSchema::MicroTime,
            "IntOrString" => FieldSchema::IntOrString,
            "FieldsV1" | "JSON" | "RawExtension" | "Patch" => FieldSchema::Any,
            "JSONSchemaPropsOrArray" => {
                either(FieldSchema::List(Box::new(schema_props.map_or(FieldSchema::Any, FieldSchema::Object))))
            }
            "JSONSchemaPropsOrBool" => either(FieldSchema::Bool),
            "JSONSchemaPropsOrStringArray" => either(FieldSchema::List(Box::new(FieldSchema::String))),
            _ => object(name).map_or(FieldSchema::Any, FieldSchema::Object),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_root_has_a_definition_with_fields_and_an_identity() {
        for (group, version, kind, name) in ROOTS {
            let schema = builtin_schema(group, version, kind).expect(kind);
            assert_eq!(schema.name, kind);
            assert!(schema.fields.contains_key("kind"), "{kind}");
            let identity = &definitions()[name]["x-kubernetes-group-version-kind"][0];
            assert_eq!(identity, &json!({"group": group, "version": version, "kind": kind}));
        }
        assert!(definitions().contains_key("io.k8s.api.core.v1.ConfigMapList"));
        assert!(definitions().contains_key("io.k8s.apimachinery.pkg.apis.meta.v1.Status"));
    }

    #[test]
    fn every_reference_leads_to_a_definition() {
        let text = Value::Object(definitions().clone()).to_string();
        for part in text.split("#/components/schemas/").skip(1) {
            let name = part.split('"').next().expect("quoted");
            assert!(definitions().contains_key(name), "{name}");
        }
    }

    #[test]
    fn fields_have_the_types_of_the_go_structs() {
        let service = builtin_schema("", "v1", "Service").expect("known");
        let FieldSchema::Object(spec) = service.fields["spec"].0 else { panic!("spec is an object") };
        let spec = ObjectSchema::at(spec).expect("compiled");
        let FieldSchema::List(ports) = &spec.fields["ports"].0 else { panic!("ports is a list") };
        let FieldSchema::Object(port) = **ports else { panic!("a port is an object") };
        let port = ObjectSchema::at(port).expect("compiled");
        assert_eq!(port.name, "ServicePort");
        assert_eq!(port.fields["port"], (FieldSchema::Int32, true));
        assert_eq!(port.fields["targetPort"], (FieldSchema::IntOrString, false));
        assert_eq!(spec.fields["selector"].0, FieldSchema::Map(Box::new(FieldSchema::String)));
        let secret = builtin_schema("", "v1", "Secret").expect("known");
        assert_eq!(secret.fields["data"].0, FieldSchema::Map(Box::new(FieldSchema::Bytes)));
        let lease = builtin_schema("coordination.k8s.io", "v1", "Lease").expect("known");
        let FieldSchema::Object(spec) = lease.fields["spec"].0 else { panic!("spec is an object") };
        assert_eq!(ObjectSchema::at(spec).expect("compiled").fields["renewTime"].0, FieldSchema::MicroTime);
    }

    #[test]
    fn merge_keys_are_marked_for_kubectl() {
        let ports = &definitions()["io.k8s.api.core.v1.ServiceSpec"]["properties"]["ports"];
        assert_eq!(ports["x-kubernetes-patch-merge-key"], json!("port"));
        assert_eq!(ports["x-kubernetes-patch-strategy"], json!("merge"));
    }
}
