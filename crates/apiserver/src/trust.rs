//! Certificates of the control plane: its two authorities, its server certificate, the administrator's kubeconfig
//! (SPEC 60 §2.2).
//!
//! ```text
//! DATA/pki/local-ca.pem    signs what clients of any listener see; its certificate is `ca.crt`
//! DATA/pki/client-ca.pem   signs client certificates of the root cluster
//! DATA/pki/page.key        32 random bytes: continue tokens stay valid over a restart
//! ```
//!
//! Each file has mode 0600 and is written whole, certificate and key together, so that a process killed at any instant
//! never leaves a key without its certificate.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use tidegate_pki::{Authority, CLIENT_LIFETIME, ClientVerifier, PkiError, SERVER_LIFETIME, Validity};
use tidegate_runtime::{Clock, Random, write_atomically};

use crate::authn::MASTERS;

/// Why keys and certificates are not usable.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// A file in the data directory.
    #[error("cannot read or write `{}`", path.display())]
    File { path: PathBuf, source: io::Error },
    /// A file was changed by other hands.
    #[error("`{}` holds no usable certificate and key", path.display())]
    Content { path: PathBuf, source: PkiError },
    #[error("cannot issue a certificate")]
    Issue(#[from] PkiError),
    #[error("cannot set up TLS")]
    Tls(#[from] rustls::Error),
}

/// The authorities and what they issued for this process.
pub struct Trust {
    local: Arc<Authority>,
    client: Authority,
    client_verifier: ClientVerifier,
    page_secret: Vec<u8>,
    names: Vec<String>,
    server: Arc<ServerCertificate>,
    clock: Clock,
}

/// Names in every server certificate (SPEC 60 §2.2).
const SERVER_NAMES: [&str; 4] = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"];

impl Trust {
    /// Opens the files under `dir`/pki, making what is missing, and issues the server certificate for the usual names
    /// and `hosts`.
    ///
    /// # Errors
    /// See [`TrustError`].
    pub fn open(dir: &Path, hosts: &[String], clock: &Clock) -> Result<Self, TrustError> {
        let dir = dir.join("pki");
        make_dir(&dir)?;
        let local = authority(&dir.join("local-ca.pem"), "Tidegate local CA", clock)?;
        let client = authority(&dir.join("client-ca.pem"), "Tidegate client CA root", clock)?;
        let page_secret = secret(&dir.join("page.key"))?;
        let mut names: Vec<String> = SERVER_NAMES.iter().map(|name| (*name).to_owned()).collect();
        names.extend(hosts.iter().filter(|host| !SERVER_NAMES.contains(&host.as_str())).cloned());
        let server = issue_server(&local, &names, clock)?;
        Ok(Self {
            client_verifier: ClientVerifier::from_pem(client.certificate_pem())?,
            local: Arc::new(local),
            client,
            page_secret,
            names,
            server: Arc::new(ServerCertificate(ArcSwap::from_pointee(server))),
            clock: clock.clone(),
        })
    }

    /// The authority that signs server certificates of all listeners.
    pub fn local_authority(&self) -> &Arc<Authority> {
        &self.local
    }

    /// PEM of the authority that server certificates chain to: the content of `ca.crt`.
    pub fn ca_pem(&self) -> &str {
        self.local.certificate_pem()
    }

    /// Verifies client certificates of the root cluster.
    pub fn client_verifier(&self) -> &ClientVerifier {
        &self.client_verifier
    }

    /// The key of continue tokens.
    pub fn page_secret(&self) -> &[u8] {
        &self.page_secret
    }

    /// TLS 1.2 and newer, ALPN `h2` and `http/1.1`; client certificates are requested, not required, and not verified
    /// in the handshake, because a TLS alert gives kubectl an unreadable error.
    ///
    /// # Errors
    /// When the crypto provider refuses the configuration.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, TrustError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = Arc::new(DeferredVerifier { schemes: provider.signature_verification_algorithms });
        let resolver: Arc<ServerCertificate> = Arc::clone(&self.server);
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// When the server certificate now in use is valid.
    pub fn server_validity(&self) -> Validity {
        self.server.0.load().validity
    }

    /// Issues a new server certificate when two thirds of the present one's life are over. Connections that exist keep
    /// the one they have seen.
    ///
    /// # Errors
    /// When it cannot be issued; the old one stays.
    pub fn renew_server(&self) -> Result<bool, TrustError> {
        if !self.server_validity().is_renewal_due(self.clock.now()) {
            return Ok(false);
        }
        let renewed = issue_server(&self.local, &self.names, &self.clock)?;
        self.server.0.store(Arc::new(renewed));
        Ok(true)
    }

    /// A kubeconfig for the administrator with everything embedded: CA, a new client certificate of group
    /// `system:masters`, and its key. `server`: `https://127.0.0.1:6443`. Keep it at mode 0600.
    ///
    /// # Errors
    /// When the certificate cannot be issued.
    pub fn kubeconfig(&self, server: &str) -> Result<String, TrustError> {
        let admin = self.client.issue_client("kubernetes-admin", &[MASTERS], self.clock.now(), CLIENT_LIFETIME)?;
        let encode = |text: &str| STANDARD.encode(text.as_bytes());
        Ok(format!(
            "apiVersion: v1\n\
             kind: Config\n\
             current-context: tidegate\n\
             preferences: {{}}\n\
             clusters:\n\
             - name: tidegate\n\
             \x20 cluster:\n\
             \x20   server: {server}\n\
             \x20   certificate-authority-data: {ca}\n\
             contexts:\n\
             - name: tidegate\n\
             \x20 context:\n\
             \x20   cluster: tidegate\n\
             \x20   user: kubernetes-admin\n\
             users:\n\
             - name: kubernetes-admin\n\
             \x20 user:\n\
             \x20   client-certificate-data: {certificate}\n\
             \x20   client-key-data: {key}\n",
            ca = encode(self.ca_pem()),
            certificate = encode(admin.chain_pem()),
            key = encode(admin.private_key_pem().expose()),
        ))
    }
}

fn issue_server(authority: &Authority, names: &[String], clock: &Clock) -> Result<Issued, TrustError> {
    let mut addresses = vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let mut dns = Vec::new();
    for name in names {
        match name.parse() {
            Ok(address) if !addresses.contains(&address) => addresses.push(address),
            Ok(_) => {}
            Err(_) => dns.push(name.as_str()),
        }
    }
    let credential = authority.issue_server(&dns, &addresses, clock.now(), SERVER_LIFETIME)?;
    Ok(Issued { validity: credential.validity(), key: credential.certified_key()? })
}

#[derive(Debug)]
struct Issued {
    key: Arc<CertifiedKey>,
    validity: Validity,
}

#[derive(Debug)]
struct ServerCertificate(ArcSwap<Issued>);

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.load().key))
    }
}

/// Takes any client certificate whose key the client holds; who it names is judged per request.
#[derive(Debug)]
struct DeferredVerifier {
    schemes: rustls::crypto::WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for DeferredVerifier {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    // No hints: a client with one certificate sends it, whoever signed it.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: rustls::pki_types::UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.schemes)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.schemes)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.supported_schemes()
    }
}

/// How often the age of the server certificate is looked at.
pub const RENEWAL_CHECK: Duration = Duration::from_hours(1);

fn make_dir(dir: &Path) -> Result<(), TrustError> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|source| TrustError::File { path: dir.to_owned(), source })
}

const KEY_BEGINS: &str = "-----BEGIN PRIVATE KEY-----";

fn authority(path: &Path, common_name: &str, clock: &Clock) -> Result<Authority, TrustError> {
    match fs::read_to_string(path) {
        Ok(text) => {
            let (certificate, key) = text.split_at(text.find(KEY_BEGINS).unwrap_or(text.len()));
            Authority::from_pem(certificate, key)
                .map_err(|source| TrustError::Content { path: path.to_owned(), source })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let made = Authority::generate(common_name, clock.now())?;
            let text = format!("{}{}", made.certificate_pem(), made.private_key_pem().expose());
            write_atomically(path, text.as_bytes(), 0o600)
                .map_err(|source| TrustError::File { path: path.to_owned(), source })?;
            Ok(made)
        }
        Err(source) => Err(TrustError::File { path: path.to_owned(), source }),
    }
}

fn secret(path: &Path) -> Result<Vec<u8>, TrustError> {
    let failed = |source| TrustError::File { path: path.to_owned(), source };
    match fs::read(path) {
        Ok(bytes) if bytes.len() == 32 => Ok(bytes),
        // Too short to be a secret: a new one only makes clients list again.
        Ok(_) => new_secret(path).map_err(failed),
        Err(error) if error.kind() == io::ErrorKind::NotFound => new_secret(path).map_err(failed),
        Err(source) => Err(failed(source)),
    }
}

fn new_secret(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 32];
    Random::system().fill(&mut bytes);
    write_atomically(path, &bytes, 0o600)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn authorities_survive_a_restart_and_their_files_are_private() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::system();
        let first = Trust::open(dir.path(), &[], &clock).unwrap();
        let second = Trust::open(dir.path(), &["10.0.0.1".into(), "kube.example".into()], &clock).unwrap();
        assert_eq!(first.ca_pem(), second.ca_pem());
        assert_eq!(first.page_secret(), second.page_secret());
        for file in ["local-ca.pem", "client-ca.pem", "page.key"] {
            let mode = fs::metadata(dir.path().join("pki").join(file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
        second.server_config().unwrap();
    }

    #[test]
    fn the_kubeconfig_names_a_certificate_of_the_client_authority() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::system();
        let trust = Trust::open(dir.path(), &[], &clock).unwrap();
        let text = trust.kubeconfig("https://127.0.0.1:6443").unwrap();
        let config: kube::config::Kubeconfig = kube::config::Kubeconfig::from_yaml(&text).unwrap();
        assert_eq!(config.current_context.as_deref(), Some("tidegate"));
        let user = config.auth_infos[0].auth_info.as_ref().unwrap();
        let pem = STANDARD.decode(user.client_certificate_data.as_ref().unwrap()).unwrap();
        let chain: Vec<CertificateDer<'static>> =
            rustls::pki_types::pem::PemObject::pem_slice_iter(&pem).collect::<Result<_, _>>().unwrap();
        let identity = trust.client_verifier().verify(&chain, clock.now()).unwrap();
        assert_eq!(identity.organizations, [MASTERS]);
    }

    #[test]
    fn the_server_certificate_is_renewed_after_two_thirds_of_its_life() {
        let dir = tempfile::tempdir().unwrap();
        let (clock, hand) = Clock::manual("2026-11-21T00:00:00Z".parse().unwrap());
        let trust = Trust::open(dir.path(), &[], &clock).unwrap();
        let before = trust.server_validity();
        hand.advance(SERVER_LIFETIME / 2);
        assert!(!trust.renew_server().unwrap());
        hand.advance(SERVER_LIFETIME / 5);
        assert!(trust.renew_server().unwrap());
        assert!(trust.server_validity().not_after > before.not_after);
    }

    #[test]
    fn a_file_changed_by_other_hands_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::system();
        drop(Trust::open(dir.path(), &[], &clock).unwrap());
        fs::write(dir.path().join("pki/local-ca.pem"), "nothing").unwrap();
        let error = Trust::open(dir.path(), &[], &clock).err().unwrap();
        assert!(error.to_string().contains("local-ca.pem"), "{error}");
    }
}
