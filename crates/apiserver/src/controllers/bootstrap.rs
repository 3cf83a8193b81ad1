//! What exists after the first start, and again after every later one (SPEC 60 §1).

use std::time::Duration;

use serde_json::{Value, json};

use crate::control_plane::ControlPlaneError;

/// Namespaces of every cluster.
const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];
/// How long a definition may take to be served.
const ESTABLISHED_WITHIN: Duration = Duration::from_secs(10);
/// How often that is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// Creates the namespaces of every cluster and `more`.
///
/// # Errors
/// When one cannot be created.
pub async fn namespaces(client: &kube::Client, more: &[String]) -> Result<(), ControlPlaneError> {
    for name in NAMESPACES.into_iter().chain(more.iter().map(String::as_str)) {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        match send(client, "POST", "/api/v1/namespaces", &namespace).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(failed("Namespace", name, error)),
        }
    }
    Ok(())
}

/// Creates the definitions, or brings their `spec` in line, and waits until all are served.
///
/// # Errors
/// When one is refused or not established in time.
pub async fn definitions(client: &kube::Client, definitions: &[Value]) -> Result<(), ControlPlaneError> {
    for definition in definitions {
        let name = name_of(definition);
        install(client, name, definition).await.map_err(|error| failed("CustomResourceDefinition", name, error))?;
    }
    for definition in definitions {
        let name = name_of(definition);
        let established = async {
            while !is_established(client, name).await {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::time::timeout(ESTABLISHED_WITHIN, established)
            .await
            .map_err(|_| ControlPlaneError::NotEstablished(name.to_owned()))?;
    }
    Ok(())
}

fn name_of(definition: &Value) -> &str {
    definition.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default()
}

async fn install(client: &kube::Client, name: &str, wanted: &Value) -> Result<(), kube::Error> {
    match send(client, "POST", DEFINITIONS, wanted).await {
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        other => return other.map(drop),
    }
    // A merge patch leaves labels, annotations and status of others alone; an equal one changes nothing.
    let patch = json!({"metadata": {"labels": wanted.pointer("/metadata/labels")}, "spec": wanted.get("spec")});
    send(client, "PATCH", &format!("{DEFINITIONS}/{name}"), &patch).await.map(drop)
}

/// Served means that its version answers, which comes a moment after the condition.
async fn is_established(client: &kube::Client, name: &str) -> bool {
    let Ok(definition) = send(client, "GET", &format!("{DEFINITIONS}/{name}"), &Value::Null).await else {
        return false;
    };
    let text = |path: &str| definition.pointer(path).and_then(Value::as_str).unwrap_or_default();
    let versions = definition.pointer("/spec/versions").and_then(Value::as_array);
    let served = versions.into_iter().flatten().find(|version| version["served"] == true);
    let Some(version) = served.and_then(|version| version["name"].as_str()) else { return true };
    let path = format!("/apis/{}/{version}/{}?limit=1", text("/spec/group"), text("/spec/names/plural"));
    send(client, "GET", &path, &Value::Null).await.is_ok()
}

async fn send(client: &kube::Client, method: &str, path: &str, body: &Value) -> Result<Value, kube::Error> {
    let content_type = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header(http::header::CONTENT_TYPE, content_type)
        .body(body)
        .map_err(kube::Error::HttpError)?;
    client.request(request).await
}

fn failed(kind: &str, name: &str, source: kube::Error) -> ControlPlaneError {
    ControlPlaneError::Bootstrap { object: format!("{kind}/{name}"), source: Box::new(source) }
}
