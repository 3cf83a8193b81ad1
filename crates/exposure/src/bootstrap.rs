//! What exists after the first start besides namespaces: the shared Gateway and the mesh configuration. SPEC 30 §1.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::{Api, DynamicObject, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::json;
use tidegate_kinds::SYSTEM_NAMESPACE;
use tidegate_kinds::istio::NETWORKING_GROUP;
use tidegate_policy::{ObjectKind, ObjectRef};

use crate::FIELD_MANAGER;

/// Name of the shared Gateway.
const SHARED_GATEWAY: &str = "kyma-gateway";

/// Namespace of the mesh configuration.
const MESH_NAMESPACE: &str = "istio-system";

/// An object that has to exist could not be created.
#[derive(Debug, thiserror::Error)]
#[error("cannot create {object}")]
pub struct BootstrapError {
    /// Kind, namespace and name.
    pub object: &'static str,
    /// What the API server said.
    pub source: kube::Error,
}

/// Creates Gateway `kyma-system/kyma-gateway` for `domain` and ConfigMap `istio-system/istio` unless they exist; what an
/// operator has changed in them stays. The namespaces and the definitions must be there.
///
/// # Errors
/// [`BootstrapError`] names the object.
pub async fn bootstrap(client: &Client, domain: &str) -> Result<(), BootstrapError> {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk(NETWORKING_GROUP, "v1alpha3", "Gateway"));
    let gateways: Api<DynamicObject> = Api::namespaced_with(client.clone(), SYSTEM_NAMESPACE, &kind);
    let hosts = format!("*.{domain}");
    let gateway = DynamicObject::new(SHARED_GATEWAY, &kind).within(SYSTEM_NAMESPACE).data(json!({"spec": {
        "selector": {"app": "istio-ingressgateway", "istio": "ingressgateway"},
        "servers": [
            {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": [hosts]},
            {"port": {"number": 443, "name": "https", "protocol": "HTTPS"}, "hosts": [hosts],
             "tls": {"mode": "SIMPLE", "credentialName": "kyma-gateway-certs"}},
        ],
    }}));
    let created = gateways.create(&params(), &gateway).await;
    unless_there(created).map_err(|source| BootstrapError { object: "Gateway kyma-system/kyma-gateway", source })?;

    let config_maps: Api<ConfigMap> = Api::namespaced(client.clone(), MESH_NAMESPACE);
    let mut mesh = ConfigMap::default();
    mesh.metadata.name = Some("istio".to_owned());
    mesh.data = Some([("mesh".to_owned(), "extensionProviders: []\n".to_owned())].into());
    let created = config_maps.create(&params(), &mesh).await;
    unless_there(created).map_err(|source| BootstrapError { object: "ConfigMap istio-system/istio", source })
}

/// Whether an object is the Gateway that always exists.
pub(crate) fn is_shared_gateway(object: &ObjectRef) -> bool {
    object.kind == ObjectKind::Gateway && object.namespace == SYSTEM_NAMESPACE && object.name == SHARED_GATEWAY
}

fn params() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() }
}

fn unless_there<T>(created: Result<T, kube::Error>) -> Result<(), kube::Error> {
    match created {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(error) => Err(error),
    }
}
