//! Columns of the compiled-in kinds (SPEC 60 §15).

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{ColumnDefinition, age};
use crate::registry::Builtin;

/// Makes the cells of one object.
pub(super) type Row = fn(&Value, Timestamp) -> Vec<Value>;

/// Entries of a list that are shown before `+ N more...`.
const SHOWN: usize = 3;

pub(super) fn name_column() -> ColumnDefinition {
    let description = "Name of the object, unique among the objects of its kind in its namespace.";
    ColumnDefinition { format: "name".to_owned(), ..column("Name", 0, description) }
}

pub(super) fn age_column() -> ColumnDefinition {
    column("Age", 0, "Time since the object was created.")
}

fn column(name: &str, priority: i64, description: &str) -> ColumnDefinition {
    ColumnDefinition {
        name: name.to_owned(),
        kind: "string".to_owned(),
        format: String::new(),
        description: description.to_owned(),
        priority,
    }
}

pub(super) fn columns(kind: Builtin) -> (Vec<ColumnDefinition>, Row) {
    let name = name_column();
    let age = age_column();
    match kind {
        Builtin::Namespace => (vec![name, column("Status", 0, "Active or Terminating."), age], namespace),
        Builtin::ConfigMap => (vec![name, column("Data", 0, "Number of entries."), age], config_map),
        Builtin::Secret => (
            vec![name, column("Type", 0, "What the secret holds."), column("Data", 0, "Number of entries."), age],
            secret,
        ),
        Builtin::ServiceAccount => (vec![name, age], name_and_age),
        Builtin::Service => (
            vec![
                name,
                column("Type", 0, "How the service is exposed."),
                column("Cluster-IP", 0, "Virtual address, None without one."),
                column("External-IP", 0, "Addresses outside the cluster, or the external name."),
                column("Port(s)", 0, "Ports with their protocols."),
                age,
                column("Selector", 1, "Labels of the pods behind the service."),
            ],
            service,
        ),
        Builtin::Endpoints => (vec![name, column("Endpoints", 0, "Addresses with ports."), age], endpoints),
        Builtin::EndpointSlice => (
            vec![
                name,
                column("AddressType", 0, "IPv4, IPv6 or FQDN."),
                column("Ports", 0, "Port numbers."),
                column("Endpoints", 0, "Addresses."),
                age,
            ],
            endpoint_slice,
        ),
        Builtin::Event | Builtin::EventsEvent => (
            vec![
                column("Last Seen", 0, "Time since the event last occurred."),
                column("Type", 0, "Normal or Warning."),
                column("Reason", 0, "Why, as a word for machines."),
                column("Object", 0, "What the event is about."),
                column("Subobject", 1, "Which part of the object."),
                column("Source", 1, "Who reported the event."),
                column("Message", 0, "What happened, for people."),
                column("First Seen", 1, "Time since the event first occurred."),
                column("Count", 1, "How often the event occurred."),
                ColumnDefinition { priority: 1, ..name },
            ],
            event,
        ),
        Builtin::Lease => (vec![name, column("Holder", 0, "Who holds the lease."), age], lease),
        Builtin::CustomResourceDefinition => {
            let created = column("Created At", 0, "When the object was created.");
            (vec![name, ColumnDefinition { kind: "date".to_owned(), ..created }], name_and_creation)
        }
    }
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn name(object: &Value) -> Value {
    text(object, "/metadata/name").into()
}

fn age(object: &Value, now: Timestamp) -> Value {
    age::since(object.pointer("/metadata/creationTimestamp"), now).into()
}

fn entries(object: &Value, pointer: &str) -> usize {
    object.pointer(pointer).and_then(Value::as_object).map_or(0, serde_json::Map::len)
}

fn name_and_age(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(object), age(object, now)]
}

fn name_and_creation(object: &Value, _now: Timestamp) -> Vec<Value> {
    vec![name(object), text(object, "/metadata/creationTimestamp").into()]
}

fn namespace(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(object), text(object, "/status/phase").into(), age(object, now)]
}

fn config_map(object: &Value, now: Timestamp) -> Vec<Value> {
    let count = entries(object, "/data") + entries(object, "/binaryData");
    vec![name(object), count.into(), age(object, now)]
}

fn secret(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(object), text(object, "/type").into(), entries(object, "/data").into(), age(object, now)]
}

fn lease(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(object), text(object, "/spec/holderIdentity").into(), age(object, now)]
}

fn or_none(text: String) -> String {
    if text.is_empty() { "<none>".to_owned() } else { text }
}

fn service(object: &Value, now: Timestamp) -> Vec<Value> {
    let cluster_ip = match object.pointer("/spec/clusterIPs/0").and_then(Value::as_str) {
        Some(first) => first,
        None => text(object, "/spec/clusterIP"),
    };
    let ports = list(object, "/spec/ports").iter().map(|port| {
        let number = &port["port"];
        let protocol = port["protocol"].as_str().unwrap_or("TCP");
        match port["nodePort"].as_i64() {
            Some(node_port) if node_port > 0 => format!("{number}:{node_port}/{protocol}"),
            _ => format!("{number}/{protocol}"),
        }
    });
    let selector = object.pointer("/spec/selector").and_then(Value::as_object);
    let selector =
        selector.into_iter().flatten().map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
    vec![
        name(object),
        text(object, "/spec/type").into(),
        or_none(cluster_ip.to_owned()).into(),
        external_ip(object).into(),
        or_none(ports.collect::<Vec<_>>().join(",")).into(),
        age(object, now),
        or_none(selector.collect::<Vec<_>>().join(",")).into(),
    ]
}

fn external_ip(object: &Value) -> String {
    let given = list(object, "/spec/externalIPs").iter().filter_map(Value::as_str);
    match text(object, "/spec/type") {
        "ExternalName" => text(object, "/spec/externalName").to_owned(),
        "LoadBalancer" => {
            let ingress = list(object, "/status/loadBalancer/ingress")
                .iter()
                .filter_map(|ingress| ingress["ip"].as_str().or_else(|| ingress["hostname"].as_str()));
            let all = ingress.chain(given).collect::<Vec<_>>().join(",");
            if all.is_empty() { "<pending>".to_owned() } else { all }
        }
        _ => or_none(given.collect::<Vec<_>>().join(",")),
    }
}

/// The first entries, then how many there are besides.
fn shortened(entries: impl Iterator<Item = String>, empty: &str) -> String {
    let all: Vec<String> = entries.collect();
    if all.is_empty() {
        return empty.to_owned();
    }
    let shown: Vec<&str> = all.iter().take(SHOWN).map(String::as_str).collect();
    let joined = shown.join(",");
    match all.len().checked_sub(SHOWN) {
        None | Some(0) => joined,
        Some(more) => format!("{joined} + {more} more..."),
    }
}

fn endpoints(object: &Value, now: Timestamp) -> Vec<Value> {
    let addresses = list(object, "/subsets").iter().flat_map(|subset| {
        let addresses = || list(subset, "/addresses").iter().filter_map(|address| address["ip"].as_str());
        let ports = list(subset, "/ports");
        if ports.is_empty() {
            return addresses().map(str::to_owned).collect::<Vec<_>>();
        }
        ports.iter().flat_map(|port| addresses().map(move |ip| host_port(ip, &port["port"]))).collect()
    });
    vec![name(object), shortened(addresses, "<none>").into(), age(object, now)]
}

fn host_port(ip: &str, port: &Value) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

fn endpoint_slice(object: &Value, now: Timestamp) -> Vec<Value> {
    let ports = list(object, "/ports")
        .iter()
        .map(|port| port["port"].as_i64().map_or_else(|| "*".to_owned(), |number| number.to_string()));
    let addresses = list(object, "/endpoints")
        .iter()
        .flat_map(|endpoint| list(endpoint, "/addresses").iter().filter_map(Value::as_str).map(str::to_owned));
    vec![
        name(object),
        text(object, "/addressType").into(),
        shortened(ports, "<unset>").into(),
        shortened(addresses, "<unset>").into(),
        age(object, now),
    ]
}

/// Both faces of an event: core/v1 and events.k8s.io/v1 name the same fields differently.
fn event(object: &Value, now: Timestamp) -> Vec<Value> {
    let time = |core: &str, newer: &str| {
        let found = object.get(core).filter(|time| !time.is_null());
        found.or_else(|| object.get(newer)).filter(|time| !time.is_null())
    };
    let first = time("firstTimestamp", "deprecatedFirstTimestamp").or_else(|| object.get("eventTime"));
    let series = object.get("series").filter(|series| series.is_object());
    let last = match series {
        Some(series) => series.get("lastObservedTime"),
        None => time("lastTimestamp", "deprecatedLastTimestamp").or(first),
    };
    let count = match series {
        Some(series) => series["count"].as_i64(),
        None => object.get("count").or_else(|| object.get("deprecatedCount")).and_then(Value::as_i64),
    };
    let about = |field: &str| {
        let core = object.get("involvedObject").or_else(|| object.get("regarding"));
        core.and_then(|about| about[field].as_str()).unwrap_or_default()
    };
    let kind = about("kind").to_lowercase();
    let target = if about("name").is_empty() { kind } else { format!("{kind}/{}", about("name")) };
    let source = |field: &str| {
        let source = object.get("source").or_else(|| object.get("deprecatedSource"));
        source.and_then(|source| source[field].as_str()).unwrap_or_default()
    };
    let component = [text(object, "/reportingComponent"), text(object, "/reportingController"), source("component")]
        .into_iter()
        .find(|text| !text.is_empty())
        .unwrap_or_default();
    let host = [text(object, "/reportingInstance"), source("host")]
        .into_iter()
        .find(|text| !text.is_empty())
        .unwrap_or_default();
    let reporter = if host.is_empty() { component.to_owned() } else { format!("{component}, {host}") };
    let message = object.get("message").or_else(|| object.get("note")).and_then(Value::as_str).unwrap_or_default();
    vec![
        age::since(last, now).into(),
        text(object, "/type").into(),
        text(object, "/reason").into(),
        target.into(),
        about("fieldPath").into(),
        reporter.into(),
        message.trim().into(),
        age::since(first, now).into(),
        // Events of the newer form have no count until they repeat.
        json!(count.filter(|count| *count > 0).unwrap_or(1)),
        name(object),
    ]
}
