//! Who sends a request (SPEC 60 §16; client certificates only) and whether they may (until RBAC exists).
//!
//! Nothing a client sends can create an [`Identity`]: in-process requests carry one as a request extension, which no
//! header maps to; requests from the network get theirs from the certificate chain of their connection.

use std::sync::{Arc, OnceLock};

use http::HeaderMap;
use http::header::AUTHORIZATION;
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use tidegate_pki::{ClientCertificateError, ClientIdentity, ClientVerifier};

use crate::request_info::{RequestInfo, Target};
use crate::status::ApiError;

/// How the headers of impersonation begin.
const IMPERSONATE: &str = "impersonate-";
const IMPERSONATE_USER: &str = "impersonate-user";

/// The group that is allowed everything.
pub const MASTERS: &str = "system:masters";

/// Who sends a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// User name, such as `kubernetes-admin` or `controller:exposure`.
    pub user: String,
    /// Groups; `system:authenticated` included.
    pub groups: Vec<String>,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    InProcess,
    Certificate,
    Anonymous,
}

impl Identity {
    /// A part of this process, such as `controller:exposure`.
    pub fn in_process(user: &str) -> Self {
        Self { user: user.to_owned(), groups: vec!["system:authenticated".to_owned()], kind: Kind::InProcess }
    }

    fn anonymous() -> Self {
        Self {
            user: "system:anonymous".to_owned(),
            groups: vec!["system:unauthenticated".to_owned()],
            kind: Kind::Anonymous,
        }
    }

    fn from_certificate(client: &ClientIdentity) -> Self {
        let mut groups = client.organizations.clone();
        groups.push("system:authenticated".to_owned());
        Self { user: client.common_name.clone(), groups, kind: Kind::Certificate }
    }

    /// Whether the request came through the in-process client.
    pub fn is_in_process(&self) -> bool {
        self.kind == Kind::InProcess
    }

    /// Whether the identity is in `system:masters`.
    pub fn is_administrator(&self) -> bool {
        self.groups.iter().any(|group| group == MASTERS)
    }
}

/// The certificate chain that a connection's client presented, unverified; one per connection, put into every request
/// of it. The verdict is kept, because verifying costs more than most requests do.
#[derive(Debug, Clone)]
pub struct PeerCertificates(Arc<Peer>);

#[derive(Debug)]
struct Peer {
    chain: Vec<CertificateDer<'static>>,
    verdict: OnceLock<Result<ClientIdentity, ClientCertificateError>>,
}

impl PeerCertificates {
    pub fn new(chain: Vec<CertificateDer<'static>>) -> Self {
        Self(Arc::new(Peer { chain, verdict: OnceLock::new() }))
    }

    fn identity(&self, authority: &ClientVerifier, now: Timestamp) -> Result<&ClientIdentity, AuthnFailure> {
        let verdict = self.0.verdict.get_or_init(|| authority.verify(&self.0.chain, now));
        match verdict {
            Ok(identity) if identity.validity.is_expired(now) => {
                Err(AuthnFailure::Certificate(ClientCertificateError::Expired))
            }
            Ok(identity) if identity.common_name.is_empty() => Err(AuthnFailure::NoUser),
            Ok(identity) => Ok(identity),
            Err(error) => Err(AuthnFailure::Certificate(*error)),
        }
    }
}

/// Why a credential was not accepted. Goes to log and metric, never to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthnFailure {
    #[error("client certificate refused: {0}")]
    Certificate(ClientCertificateError),
    #[error("client certificate names no user")]
    NoUser,
    #[error("bearer or basic credentials are not accepted")]
    Authorization,
}

impl AuthnFailure {
    /// Credential kind, for the metric.
    pub fn method(self) -> &'static str {
        match self {
            Self::Certificate(_) | Self::NoUser => "certificate",
            Self::Authorization => "authorization",
        }
    }

    /// Closed word, for the metric.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Certificate(ClientCertificateError::Expired) => "expired",
            Self::Certificate(ClientCertificateError::NotYetValid) => "not_yet_valid",
            Self::Certificate(ClientCertificateError::UnknownAuthority) => "unknown_authority",
            Self::Certificate(ClientCertificateError::Purpose) => "purpose",
            Self::Certificate(
                ClientCertificateError::Chain
                | ClientCertificateError::Malformed
                | ClientCertificateError::Unacceptable,
            ) => "malformed",
            Self::NoUser => "no_user",
            Self::Authorization => "unsupported",
        }
    }
}

/// Finds out who sends a request: in-process identity, certificate, nobody. A bad credential is never ignored.
///
/// # Errors
/// See [`AuthnFailure`]; the client gets 401.
pub fn authenticate(
    extensions: &http::Extensions,
    headers: &HeaderMap,
    authority: &ClientVerifier,
    now: Timestamp,
) -> Result<Identity, AuthnFailure> {
    if let Some(identity) = extensions.get::<Identity>() {
        return Ok(identity.clone());
    }
    // SPEC 60 §16: of two credentials the certificate wins.
    if let Some(peer) = extensions.get::<PeerCertificates>() {
        return peer.identity(authority, now).map(Identity::from_certificate);
    }
    if headers.contains_key(AUTHORIZATION) {
        return Err(AuthnFailure::Authorization);
    }
    Ok(Identity::anonymous())
}

/// Whether the identity may do this. Until RBAC exists: `system:masters` and this process's own parts may do all,
/// anybody may ask for health and version.
///
/// # Errors
/// 401 for the anonymous, 403 in the words of SPEC 60 §17.1 for everybody else.
pub fn authorize(identity: &Identity, info: &RequestInfo) -> Result<(), ApiError> {
    if identity.is_in_process() || identity.is_administrator() {
        return Ok(());
    }
    if let Target::NonResource(path) = &info.target
        && is_public(path)
    {
        return Ok(());
    }
    if identity.kind == Kind::Anonymous {
        return Err(ApiError::unauthorized());
    }
    Err(refusal(identity, info))
}

/// Refuses requests in somebody else's name: nobody may impersonate until RBAC exists, and acting with the sender's own
/// rights instead would give `kubectl --as` more than it asked for (SPEC 60 §16.1).
///
/// # Errors
/// 403 naming the user; 400 when groups, uid or extras come without one.
pub fn refuse_impersonation(identity: &Identity, headers: &HeaderMap) -> Result<(), ApiError> {
    if identity.is_in_process() || !headers.keys().any(|name| name.as_str().starts_with(IMPERSONATE)) {
        return Ok(());
    }
    let Some(wanted) = headers.get(IMPERSONATE_USER) else {
        return Err(ApiError::bad_request("requested impersonation without impersonating a user name"));
    };
    let why = format!(
        "User \"{}\" cannot impersonate resource \"users\" in API group \"\" at the cluster scope",
        identity.user
    );
    Err(ApiError::forbidden("", "users", &String::from_utf8_lossy(wanted.as_bytes()), &why))
}

fn is_public(path: &str) -> bool {
    matches!(path, "/healthz" | "/livez" | "/readyz" | "/version")
        || path.starts_with("/livez/")
        || path.starts_with("/readyz/")
        || path.starts_with("/healthz/")
}

fn refusal(identity: &Identity, info: &RequestInfo) -> ApiError {
    let user = &identity.user;
    match &info.target {
        Target::NonResource(path) => {
            let text = format!("forbidden: User \"{user}\" cannot get path \"{path}\"");
            ApiError::new(crate::status::Reason::Forbidden, text)
        }
        Target::Resource(request) => {
            let resource = match &request.subresource {
                Some(subresource) => format!("{}/{subresource}", request.resource),
                None => request.resource.clone(),
            };
            let scope = if request.namespace.is_empty() {
                "at the cluster scope".to_owned()
            } else {
                format!("in the namespace \"{}\"", request.namespace)
            };
            let why = format!(
                "User \"{user}\" cannot {} resource \"{resource}\" in API group \"{}\" {scope}",
                request.verb.as_str(),
                request.group
            );
            ApiError::forbidden(&request.group, &request.resource, request.name.as_deref().unwrap_or_default(), &why)
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    fn info(path: &str) -> RequestInfo {
        RequestInfo::parse(&Method::GET, path, None).unwrap()
    }

    fn certificate_user(groups: &[&str]) -> Identity {
        Identity {
            user: "u".into(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            kind: Kind::Certificate,
        }
    }

    #[test]
    fn only_masters_and_this_process_are_let_in() {
        let path = info("/api/v1/namespaces/n/configmaps");
        assert!(authorize(&Identity::in_process("controller:x"), &path).is_ok());
        assert!(authorize(&certificate_user(&[MASTERS]), &path).is_ok());
        let error = authorize(&certificate_user(&["dev"]), &path).unwrap_err();
        assert_eq!(
            (error.code, error.message.as_str()),
            (
                403,
                "configmaps is forbidden: User \"u\" cannot list resource \"configmaps\" in API group \"\" in the namespace \"n\""
            )
        );
        assert_eq!(
            authorize(&certificate_user(&[]), &info("/apis/g/v1/widgets/a/status")).unwrap_err().message,
            "widgets.g \"a\" is forbidden: User \"u\" cannot get resource \"widgets/status\" in API group \"g\" at the cluster scope"
        );
        assert_eq!(authorize(&Identity::anonymous(), &path).unwrap_err().code, 401);
    }

    #[test]
    fn anybody_may_ask_for_health_and_version_and_nothing_else() {
        for path in ["/healthz", "/livez", "/readyz", "/readyz/store", "/version", "/version/"] {
            assert!(authorize(&Identity::anonymous(), &info(path)).is_ok(), "{path}");
        }
        for path in ["/", "/metrics", "/api", "/apis", "/openapi/v3", "/versions", "/readyzx"] {
            assert_eq!(authorize(&Identity::anonymous(), &info(path)).unwrap_err().code, 401, "{path}");
        }
        assert_eq!(
            authorize(&certificate_user(&[]), &info("/metrics")).unwrap_err().message,
            "forbidden: User \"u\" cannot get path \"/metrics\""
        );
    }

    #[test]
    fn certificates_are_judged_by_the_clusters_authority() {
        let now: Timestamp = "2026-11-21T00:00:00Z".parse().unwrap();
        let day = std::time::Duration::from_hours(24);
        let ours = tidegate_pki::Authority::generate("ours", now).unwrap();
        let foreign = tidegate_pki::Authority::generate("foreign", now).unwrap();
        let verifier = ClientVerifier::from_pem(ours.certificate_pem()).unwrap();
        let request = |chain: &[CertificateDer<'static>], at| {
            let mut extensions = http::Extensions::new();
            extensions.insert(PeerCertificates::new(chain.to_vec()));
            authenticate(&extensions, &HeaderMap::new(), &verifier, at)
        };
        let good = ours.issue_client("kubernetes-admin", &[MASTERS], now, day).unwrap();
        let identity = request(good.chain(), now).unwrap();
        assert_eq!((identity.user.as_str(), identity.is_administrator()), ("kubernetes-admin", true));
        let bad = foreign.issue_client("kubernetes-admin", &[MASTERS], now, day).unwrap();
        assert!(request(bad.chain(), now).is_err());
        assert!(request(good.chain(), now + 2 * day).is_err());
        let server = ours.issue_server(&["localhost"], &[], now, day).unwrap();
        assert!(request(server.chain(), now).is_err());
    }

    #[test]
    fn a_bearer_token_is_refused_rather_than_ignored() {
        let now: Timestamp = "2026-11-21T00:00:00Z".parse().unwrap();
        let authority = tidegate_pki::Authority::generate("ours", now).unwrap();
        let verifier = ClientVerifier::from_pem(authority.certificate_pem()).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, "Bearer x".parse().unwrap());
        let refused = authenticate(&http::Extensions::new(), &headers, &verifier, now).unwrap_err();
        assert_eq!(refused, AuthnFailure::Authorization);
        let nobody = authenticate(&http::Extensions::new(), &HeaderMap::new(), &verifier, now).unwrap();
        assert_eq!(nobody, Identity::anonymous());
    }
}
