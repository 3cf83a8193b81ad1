//! Service: defaults, and validation on the object as the client meant it.
//!
//! There is no network behind cluster IPs here. A `ClusterIP` Service without an address is validated as an ordinary one
//! (it needs ports) and then stored headless, so that nobody dials a dead address.
// SPEC 60 §14

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use super::metadata::labels;
use super::{
    NOT_AN_IP, PROTOCOLS, check_choice, check_port, default_text, fields, list, object_at, parse_ip, push_all, text,
};
use crate::names;
use crate::status::FieldError;

const HEADLESS: &str = "None";
const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const POLICIES: [&str; 2] = ["Cluster", "Local"];

pub(super) fn admit(object: &mut Value, old: Option<&Value>, problems: &mut Vec<FieldError>) {
    let old_spec = old.and_then(|old| old.get("spec")).map(fields);
    let Some(map) = object.as_object_mut() else { return };
    if let Some(status) = object_at(map, "status") {
        object_at(status, "loadBalancer");
    }
    let Some(spec) = object_at(map, "spec") else { return };
    set_defaults(spec);
    if let Some(old_spec) = old_spec {
        keep_address(spec, old_spec, problems);
    }
    validate(spec, problems);
    store_headless(spec);
}

fn set_defaults(spec: &mut Map<String, Value>) {
    default_text(spec, "type", "ClusterIP");
    default_text(spec, "sessionAffinity", HEADLESS);
    let kind = text(spec, "type").to_owned();
    if text(spec, "sessionAffinity") == "ClientIP"
        && let Some(client) = object_at(spec, "sessionAffinityConfig").and_then(|config| object_at(config, "clientIP"))
    {
        client.entry("timeoutSeconds").or_insert_with(|| 10_800.into());
    }
    for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        let Some(port) = port.as_object_mut() else { continue };
        default_text(port, "protocol", "TCP");
        // Encoders write 0 or "" for an unset target.
        if matches!(port.get("targetPort"), None | Some(Value::Null))
            || port.get("targetPort") == Some(&json!(0))
            || port.get("targetPort") == Some(&json!(""))
        {
            let own = port.get("port").cloned().unwrap_or_default();
            port.insert("targetPort".to_owned(), own);
        }
        if port.get("nodePort") == Some(&json!(0)) {
            port.remove("nodePort");
        }
    }
    if matches!(kind.as_str(), "ClusterIP" | "NodePort" | "LoadBalancer") {
        default_text(spec, "internalTrafficPolicy", "Cluster");
        default_text(spec, "ipFamilyPolicy", "SingleStack");
        spec.entry("ipFamilies").or_insert_with(|| json!(["IPv4"]));
    }
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
        default_text(spec, "externalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        spec.entry("allocateLoadBalancerNodePorts").or_insert(Value::Bool(true));
    }
    if text(spec, "clusterIP").is_empty() {
        spec.remove("clusterIP");
        if let Some(first) = list(spec, "clusterIPs").first().cloned() {
            spec.insert("clusterIP".to_owned(), first);
        }
    }
}

/// An update that leaves the address out keeps it; one that names another is refused.
fn keep_address(spec: &mut Map<String, Value>, old: &Map<String, Value>, problems: &mut Vec<FieldError>) {
    let (kind, old_kind) = (text(spec, "type").to_owned(), text(old, "type"));
    if kind == "ExternalName" || old_kind == "ExternalName" {
        if kind == "ExternalName" && text(spec, "clusterIP") == text(old, "clusterIP") {
            clear_address(spec);
        }
        return;
    }
    let (new_ip, old_ip) = (text(spec, "clusterIP").to_owned(), text(old, "clusterIP").to_owned());
    if kind != "ClusterIP" && old_kind == "ClusterIP" && old_ip == HEADLESS && matches!(new_ip.as_str(), "" | HEADLESS)
    {
        // Stored headless by us, not by the client; the other types have no headless form.
        clear_address(spec);
        return;
    }
    if new_ip.is_empty() && !old_ip.is_empty() {
        set_address(spec, &old_ip);
    } else if !old_ip.is_empty() && new_ip != old_ip {
        problems.push(FieldError::invalid("spec.clusterIPs[0]", &json!([new_ip]), "may not change once set"));
    }
}

fn clear_address(spec: &mut Map<String, Value>) {
    spec.remove("clusterIP");
    spec.remove("clusterIPs");
}

fn set_address(spec: &mut Map<String, Value>, address: &str) {
    spec.insert("clusterIP".to_owned(), address.into());
    spec.insert("clusterIPs".to_owned(), json!([address]));
}

fn store_headless(spec: &mut Map<String, Value>) {
    match (text(spec, "type"), text(spec, "clusterIP").to_owned().as_str()) {
        ("ClusterIP", "") => set_address(spec, HEADLESS),
        (_, "") => clear_address(spec),
        (_, address) if list(spec, "clusterIPs").is_empty() => set_address(spec, address),
        _ => {}
    }
}

fn validate(spec: &Map<String, Value>, problems: &mut Vec<FieldError>) {
    let kind = text(spec, "type");
    let headless = text(spec, "clusterIP") == HEADLESS;
    check_choice(problems, "spec.type".to_owned(), spec.get("type"), &TYPES, false);
    check_choice(
        problems,
        "spec.sessionAffinity".to_owned(),
        spec.get("sessionAffinity"),
        &["ClientIP", "None"],
        false,
    );
    for field in ["internalTrafficPolicy", "externalTrafficPolicy"] {
        check_choice(problems, format!("spec.{field}"), spec.get(field), &POLICIES, true);
    }
    if kind == "ExternalName" {
        match text(spec, "externalName") {
            "" => problems.push(FieldError::required("spec.externalName", "")),
            name => {
                let plain = name.strip_suffix('.').unwrap_or(name);
                push_all(problems, "spec.externalName", name, names::dns1123_subdomain(plain));
            }
        }
        if !text(spec, "clusterIP").is_empty() {
            problems.push(FieldError::forbidden("spec.clusterIPs[0]", "may not be set for ExternalName services"));
        }
    } else if headless && kind != "ClusterIP" {
        let detail = format!("may not be set to 'None' for {kind} services");
        problems.push(FieldError::invalid("spec.clusterIPs[0]", &json!([HEADLESS]), detail));
    }
    if !headless && !text(spec, "clusterIP").is_empty() && parse_ip(text(spec, "clusterIP")).is_none() {
        problems.push(FieldError::invalid_str("spec.clusterIPs[0]", text(spec, "clusterIP"), NOT_AN_IP));
    }
    for (i, address) in list(spec, "externalIPs").iter().enumerate() {
        if address.as_str().and_then(parse_ip).is_none() {
            problems.push(FieldError::invalid(format!("spec.externalIPs[{i}]"), address, NOT_AN_IP));
        }
    }
    labels(spec, "selector", "spec.selector", problems);
    validate_ports(spec, kind, headless, problems);
}

fn validate_ports(spec: &Map<String, Value>, kind: &str, headless: bool, problems: &mut Vec<FieldError>) {
    let ports = list(spec, "ports");
    if ports.is_empty() && !headless && kind != "ExternalName" {
        problems.push(FieldError::required("spec.ports", ""));
    }
    let mut names_seen: HashSet<&str> = HashSet::new();
    let mut numbers_seen: HashSet<(String, &str)> = HashSet::new();
    for (i, port) in ports.iter().map(fields).enumerate() {
        let path = |field: &str| format!("spec.ports[{i}].{field}");
        let name = text(port, "name");
        if name.is_empty() {
            if ports.len() > 1 {
                problems.push(FieldError::required(path("name"), ""));
            }
        } else {
            push_all(problems, &path("name"), name, names::dns1123_label(name));
            if !names_seen.insert(name) {
                problems.push(FieldError::duplicate(path("name"), &Value::from(name)));
            }
        }
        let number = port.get("port").cloned().unwrap_or_default();
        check_port(problems, path("port"), &number);
        check_choice(problems, path("protocol"), port.get("protocol"), &PROTOCOLS, false);
        match port.get("targetPort") {
            Some(Value::String(name)) => push_all(problems, &path("targetPort"), name, port_name(name)),
            Some(number) => check_port(problems, path("targetPort"), number),
            None => {}
        }
        if let Some(node_port) = port.get("nodePort") {
            if kind == "ClusterIP" {
                problems.push(FieldError::forbidden(path("nodePort"), "may not be used when `type` is 'ClusterIP'"));
            } else {
                check_port(problems, path("nodePort"), node_port);
            }
        }
        let protocol = text(port, "appProtocol");
        if !protocol.is_empty() {
            push_all(problems, &path("appProtocol"), protocol, names::qualified_name(protocol));
        }
        if !numbers_seen.insert((number.to_string(), text(port, "protocol"))) {
            let shown = json!({"port": number, "protocol": text(port, "protocol")});
            problems.push(FieldError::duplicate(format!("spec.ports[{i}]"), &shown));
        }
    }
}

/// Problems of a port name (IANA service name).
fn port_name(name: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if name.len() > 15 {
        problems.push("must be no more than 15 characters".to_owned());
    }
    if !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        problems.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !name.bytes().any(|b| b.is_ascii_lowercase()) {
        problems.push("must contain at least one letter (a-z)".to_owned());
    }
    if name.contains("--") {
        problems.push("must not contain consecutive hyphens".to_owned());
    }
    if name.starts_with('-') || name.ends_with('-') {
        problems.push("must not begin or end with a hyphen".to_owned());
    }
    problems
}
