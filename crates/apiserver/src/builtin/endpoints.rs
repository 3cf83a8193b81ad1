//! Endpoints and EndpointSlice.
//!
//! Loopback addresses are accepted: they are how local processes are exposed (30 section 7). Link-local and multicast
//! addresses stay refused, as upstream.
// SPEC 60 §14

use std::collections::HashSet;
use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::{
    NOT_AN_IP, PROTOCOLS, check_choice, check_port, check_unchanged, default_text, fields, list, parse_ip, push_all,
    text,
};
use crate::names;
use crate::status::FieldError;

const MAX_ENDPOINTS: usize = 1000;
const MAX_ADDRESSES: usize = 100;
const MAX_PORTS: usize = 100;

/// What is wrong with an address as a place to send traffic to.
fn address_problem(address: IpAddr) -> Option<&'static str> {
    let address = address.to_canonical();
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    if address.is_unspecified() {
        Some("may not be unspecified (0.0.0.0 or ::)")
    } else if link_local {
        Some("may not be in the link-local range (169.254.0.0/16, fe80::/10)")
    } else if address.is_multicast() {
        Some("may not be in the multicast range (224.0.0.0/4, ff00::/8)")
    } else {
        None
    }
}

fn check_address(problems: &mut Vec<FieldError>, path: &str, shown: &str) {
    match parse_ip(shown) {
        None => problems.push(FieldError::invalid_str(path, shown, NOT_AN_IP)),
        Some(address) => {
            if let Some(problem) = address_problem(address) {
                problems.push(FieldError::invalid_str(path, shown, problem));
            }
        }
    }
}

fn default_protocols(ports: Option<&mut Value>) {
    for port in ports.and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(port) = port.as_object_mut() {
            default_text(port, "protocol", "TCP");
        }
    }
}

pub(super) fn endpoints(object: &mut Value, problems: &mut Vec<FieldError>) {
    for subset in object.get_mut("subsets").and_then(Value::as_array_mut).into_iter().flatten() {
        default_protocols(subset.get_mut("ports"));
    }
    for (i, subset) in list(fields(object), "subsets").iter().map(fields).enumerate() {
        let path = format!("subsets[{i}]");
        if list(subset, "addresses").is_empty() && list(subset, "notReadyAddresses").is_empty() {
            problems.push(FieldError::required(&path, "must specify `addresses` or `notReadyAddresses`"));
        }
        for field in ["addresses", "notReadyAddresses"] {
            for (j, address) in list(subset, field).iter().map(fields).enumerate() {
                let path = format!("{path}.{field}[{j}]");
                check_address(problems, &format!("{path}.ip"), text(address, "ip"));
                check_names(address, &path, problems);
            }
        }
        let ports = list(subset, "ports");
        for (j, port) in ports.iter().map(fields).enumerate() {
            let path = |field: &str| format!("{path}.ports[{j}].{field}");
            let name = text(port, "name");
            if name.is_empty() {
                if ports.len() > 1 {
                    problems.push(FieldError::required(path("name"), ""));
                }
            } else {
                push_all(problems, &path("name"), name, names::dns1123_label(name));
            }
            check_port(problems, path("port"), port.get("port").unwrap_or(&Value::Null));
            check_choice(problems, path("protocol"), port.get("protocol"), &PROTOCOLS, false);
            check_app_protocol(port, &path("appProtocol"), problems);
        }
    }
}

fn check_names(endpoint: &Map<String, Value>, path: &str, problems: &mut Vec<FieldError>) {
    let hostname = text(endpoint, "hostname");
    if !hostname.is_empty() {
        push_all(problems, &format!("{path}.hostname"), hostname, names::dns1123_label(hostname));
    }
    let node = text(endpoint, "nodeName");
    if !node.is_empty() {
        push_all(problems, &format!("{path}.nodeName"), node, names::dns1123_subdomain(node));
    }
}

fn check_app_protocol(port: &Map<String, Value>, path: &str, problems: &mut Vec<FieldError>) {
    let protocol = text(port, "appProtocol");
    if !protocol.is_empty() {
        push_all(problems, path, protocol, names::qualified_name(protocol));
    }
}

pub(super) fn slice(object: &mut Value, old: Option<&Value>, problems: &mut Vec<FieldError>) {
    default_protocols(object.get_mut("ports"));
    if let Some(slice) = object.as_object_mut() {
        // A required field that may be empty: typed clients cannot read a slice without it.
        slice.entry("endpoints").or_insert_with(|| json!([]));
    }
    for port in object.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(port) = port.as_object_mut() {
            port.entry("name").or_insert_with(|| "".into());
        }
    }
    let slice = fields(object);
    let address_type = text(slice, "addressType");
    check_choice(problems, "addressType".to_owned(), slice.get("addressType"), &["FQDN", "IPv4", "IPv6"], false);
    if let Some(old) = old {
        check_unchanged(problems, "addressType", slice.get("addressType"), old.get("addressType"));
    }
    let endpoints = list(slice, "endpoints");
    if endpoints.len() > MAX_ENDPOINTS {
        problems.push(FieldError::too_many("endpoints", endpoints.len(), MAX_ENDPOINTS));
        return;
    }
    for (i, endpoint) in endpoints.iter().map(fields).enumerate() {
        let path = format!("endpoints[{i}]");
        let addresses = list(endpoint, "addresses");
        if addresses.is_empty() {
            problems.push(FieldError::required(format!("{path}.addresses"), "must contain at least 1 address"));
        } else if addresses.len() > MAX_ADDRESSES {
            problems.push(FieldError::too_many(format!("{path}.addresses"), addresses.len(), MAX_ADDRESSES));
        }
        for (j, address) in addresses.iter().take(MAX_ADDRESSES).filter_map(Value::as_str).enumerate() {
            check_typed_address(address_type, address, &format!("{path}.addresses[{j}]"), problems);
        }
        check_names(endpoint, &path, problems);
    }
    slice_ports(slice, problems);
}

fn check_typed_address(address_type: &str, address: &str, path: &str, problems: &mut Vec<FieldError>) {
    let parsed = parse_ip(address);
    match (address_type, parsed) {
        ("IPv4", Some(IpAddr::V4(_))) | ("IPv6", Some(IpAddr::V6(_))) => check_address(problems, path, address),
        ("IPv4", _) => problems.push(FieldError::invalid_str(path, address, "must be an IPv4 address")),
        ("IPv6", _) => problems.push(FieldError::invalid_str(path, address, "must be an IPv6 address")),
        ("FQDN", _) => {
            push_all(problems, path, address, names::dns1123_subdomain(address));
            if !address.contains('.') {
                let detail = "should be a domain with at least two segments separated by dots";
                problems.push(FieldError::invalid_str(path, address, detail));
            }
        }
        // The type itself was refused already.
        _ => {}
    }
}

fn slice_ports(slice: &Map<String, Value>, problems: &mut Vec<FieldError>) {
    let ports = list(slice, "ports");
    if ports.len() > MAX_PORTS {
        problems.push(FieldError::too_many("ports", ports.len(), MAX_PORTS));
        return;
    }
    let mut seen: HashSet<&str> = HashSet::new();
    for (i, port) in ports.iter().map(fields).enumerate() {
        let path = |field: &str| format!("ports[{i}].{field}");
        let name = text(port, "name");
        if !name.is_empty() {
            push_all(problems, &path("name"), name, names::dns1123_label(name));
        }
        if !seen.insert(name) {
            problems.push(FieldError::duplicate(path("name"), &Value::from(name)));
        }
        // No port means all ports.
        if let Some(number) = port.get("port") {
            check_port(problems, path("port"), number);
        }
        check_choice(problems, path("protocol"), port.get("protocol"), &PROTOCOLS, false);
        check_app_protocol(port, &path("appProtocol"), problems);
    }
}
