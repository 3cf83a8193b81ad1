//! The second rendering of a route model: what Istio would be told. SPEC 30 §2.6.
//!
//! Pure. The gateway's table is made from the same [`RouteModel`], so projection and enforcement cannot drift; nothing
//! reads these objects back.

use kube::api::DynamicObject;
use serde_json::{Map, Value, json};
use tidegate_kinds::api::PathMatch;
use tidegate_policy::{CorsPolicy, RouteModel};

use crate::Config;
use crate::owner::Owner;

/// `apiVersion` and kind of the route projection.
pub(crate) const VIRTUAL_SERVICE: (&str, &str) = ("networking.istio.io/v1alpha3", "VirtualService");
/// `apiVersion` and kind of the authentication projection.
pub(crate) const POLICY: (&str, &str) = ("authentication.istio.io/v1alpha1", "Policy");

/// The VirtualService of a route: one host, one route with every path, the operator's CORS rules.
pub(crate) fn virtual_service(model: &RouteModel, owner: &Owner, config: &Config) -> DynamicObject {
    let service = &model.service;
    let destination = format!("{}.{}.svc.cluster.local", service.name, service.namespace);
    let mut route = json!({
        "match": [{"uri": {"regex": "/.*"}}],
        "route": [{"destination": {"host": destination, "port": {"number": service.port}}}],
    });
    if let Some(cors) = model.cors.as_deref().and_then(cors_policy)
        && let Some(route) = route.as_object_mut()
    {
        route.insert("corsPolicy".to_owned(), cors);
    }
    owner.object(
        VIRTUAL_SERVICE,
        &json!({
            "hosts": [model.host],
            "gateways": [config.gateway_fqdn],
            "http": [route],
        }),
    )
}

/// The authentication Policy of a secured route; `None` for an open one.
pub(crate) fn policy(model: &RouteModel, owner: &Owner, config: &Config) -> Option<DynamicObject> {
    if !model.guard.is_secured() {
        return None;
    }
    let mut spec = Map::new();
    spec.insert("targets".to_owned(), json!([{"name": model.service.name}]));
    if config.policy_mtls && model.written.disable_istio_auth_policy_mtls != Some(true) {
        spec.insert("peers".to_owned(), json!([{"mtls": {}}]));
    }
    spec.insert("principalBinding".to_owned(), json!("USE_ORIGIN"));
    spec.insert("origins".to_owned(), origins(model));
    Some(owner.object(POLICY, &Value::Object(spec)))
}

/// One origin per rule. The rules as written keep their path expressions; a default issuer has none.
fn origins(model: &RouteModel) -> Value {
    let written = model.written.rules();
    let origin = |(index, rule): (usize, &tidegate_policy::JwtRule)| {
        let mut jwt = json!({"issuer": &*rule.issuer, "jwksUri": &*rule.jwks_uri});
        let excluded = written.get(index).map(|rule| rule.jwt.excluded_paths()).unwrap_or_default();
        if !excluded.is_empty()
            && let Some(jwt) = jwt.as_object_mut()
        {
            let paths: Vec<Value> = excluded.iter().map(string_match).collect();
            jwt.insert("trigger_rules".to_owned(), json!([{"excluded_paths": paths}]));
        }
        json!({"jwt": jwt})
    };
    model.guard.rules().iter().enumerate().map(origin).collect()
}

fn string_match(path: &PathMatch) -> Value {
    match path {
        PathMatch::Exact(value) => json!({"exact": value}),
        PathMatch::Prefix(value) => json!({"prefix": value}),
        PathMatch::Suffix(value) => json!({"suffix": value}),
        PathMatch::Regex(value) => json!({"regex": value}),
    }
}

/// In the form of the Istio versions that know `allowOrigin`. Lists that are empty are left out, and so is the block
/// when all are.
fn cors_policy(cors: &CorsPolicy) -> Option<Value> {
    let lists = [("allowOrigin", cors.origins()), ("allowMethods", cors.methods()), ("allowHeaders", cors.headers())];
    let block: Map<String, Value> = lists
        .into_iter()
        .filter(|(_, values)| !values.is_empty())
        .map(|(name, values)| (name.to_owned(), json!(values)))
        .collect();
    (!block.is_empty()).then_some(Value::Object(block))
}

#[cfg(test)]
mod tests {
    use tidegate_kinds::Api;
    use tidegate_policy::cors::CorsOptions;
    use tidegate_policy::host::Domains;
    use tidegate_policy::{Change, Index, Input, ObjectKind, ObjectRef, Options};

    use super::*;

    fn rendered(spec: &Value, config: &Config) -> (Value, Option<Value>) {
        let api: Api = serde_json::from_value(json!({
            "apiVersion": "gateway.kyma-project.io/v1alpha2", "kind": "Api",
            "metadata": {"name": "sample-api", "namespace": "default", "uid": "u1", "resourceVersion": "41", "generation": 1},
            "spec": spec,
        }))
        .unwrap();
        let cors = CorsOptions {
            allow_origins: vec!["*".to_owned()],
            allow_methods: ["GET", "POST", "PUT", "DELETE"].map(str::to_owned).to_vec(),
            allow_headers: ["Authorization", "Content-Type", "*"].map(str::to_owned).to_vec(),
            ..CorsOptions::default()
        };
        let mut options = Options::new(Domains::new(["localhost"]));
        options.cors = CorsPolicy::compile(&cors).unwrap().map(std::sync::Arc::new);
        let mut index = Index::new(options);
        index.apply(Change::Set(Input::Api(Box::new(api.clone()))));
        let verdict = index.verdict(&ObjectRef::new(ObjectKind::Api, "default", "sample-api")).unwrap().clone();
        let model = verdict.enforced.unwrap();
        let owner = Owner::of(&api, "41".to_owned());
        let policy = policy(&model, &owner, config).map(|object| serde_json::to_value(object).unwrap());
        (serde_json::to_value(virtual_service(&model, &owner, config)).unwrap(), policy)
    }

    fn secured() -> Value {
        json!({"hostname": "sample", "service": {"name": "sample", "port": 8080}, "authentication": [{"type": "JWT", "jwt": {
            "issuer": "https://issuer-1.example", "jwksUri": "https://issuer-1.example/keys",
            "triggerRule": {"excludedPaths": [{"exact": "/status"}]}}}]})
    }

    #[test]
    fn a_secured_api_becomes_a_route_and_a_policy() {
        let (route, policy) = rendered(&secured(), &Config::default());
        assert_eq!(
            route["spec"],
            json!({
                "hosts": ["sample.localhost"],
                "gateways": ["kyma-gateway.kyma-system.svc.cluster.local"],
                "http": [{
                    "match": [{"uri": {"regex": "/.*"}}],
                    "route": [{"destination": {"host": "sample.default.svc.cluster.local", "port": {"number": 8080}}}],
                    "corsPolicy": {
                        "allowOrigin": ["*"], "allowMethods": ["GET", "POST", "PUT", "DELETE"],
                        "allowHeaders": ["Authorization", "Content-Type", "*"],
                    },
                }],
            })
        );
        assert_eq!(
            policy.unwrap()["spec"],
            json!({
                "targets": [{"name": "sample"}],
                "peers": [{"mtls": {}}],
                "principalBinding": "USE_ORIGIN",
                "origins": [{"jwt": {
                    "issuer": "https://issuer-1.example", "jwksUri": "https://issuer-1.example/keys",
                    "trigger_rules": [{"excluded_paths": [{"exact": "/status"}]}],
                }}],
            })
        );
    }

    #[test]
    fn generated_objects_carry_the_mark() {
        let (route, _) = rendered(&secured(), &Config::default());
        assert_eq!(
            route["metadata"],
            json!({
                "name": "sample-api", "namespace": "default",
                "labels": {"createdBy": "api-controller", "apiUid": "u1", "apiNamespace": "default",
                    "apiName": "sample-api", "apiVersion": "41", "app.kubernetes.io/managed-by": "tidegate"},
                "ownerReferences": [{"apiVersion": "gateway.kyma-project.io/v1alpha2", "kind": "Api",
                    "name": "sample-api", "uid": "u1", "controller": true, "blockOwnerDeletion": true}],
            })
        );
    }

    #[test]
    fn an_open_api_has_no_policy_and_mtls_can_be_left_out() {
        let mut open = secured();
        open["authenticationEnabled"] = json!(false);
        assert!(rendered(&open, &Config::default()).1.is_none());

        let mut without = secured();
        without["disableIstioAuthPolicyMTLS"] = json!(true);
        assert!(rendered(&without, &Config::default()).1.unwrap()["spec"].get("peers").is_none());
        let config = Config { policy_mtls: false, ..Config::default() };
        assert!(rendered(&secured(), &config).1.unwrap()["spec"].get("peers").is_none());
    }
}
