//! Client certificates: is it one of this CA's, and whom does it name?

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{CertificateError, RootCertStore};
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::credential::{certificates_from_pem, fingerprint_sha256, hex};
use crate::{PkiError, Validity};

/// A chain longer than this is refused before anything in it is read.
const MAX_CHAIN: usize = 8;

/// Why a client certificate is not accepted. The text names no content of the certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClientCertificateError {
    /// No certificate, or a chain of more than eight.
    #[error("the client sent no certificate or too long a chain")]
    Chain,
    /// Not DER, a name that is not text, or two common names.
    #[error("the client certificate is malformed")]
    Malformed,
    /// Signed by nobody we trust for this purpose, or the signature is wrong.
    #[error("the client certificate is not signed by the client authority")]
    UnknownAuthority,
    /// `now` is after the last instant of validity.
    #[error("the client certificate is expired")]
    Expired,
    /// `now` is before the first instant of validity.
    #[error("the client certificate is not valid yet")]
    NotYetValid,
    /// Extended key usage `clientAuth` is not among its purposes.
    #[error("the certificate is not made for client authentication")]
    Purpose,
    /// Another rule of RFC 5280 is broken: a CA used as a client, name or path constraints, an
    /// unknown critical extension.
    #[error("the client certificate breaks a certificate rule")]
    Unacceptable,
}

/// Who a client certificate names. Values come from the certificate as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientIdentity {
    /// Subject CN; empty when the subject has none.
    pub common_name: String,
    /// Every subject O, in order.
    pub organizations: Vec<String>,
    /// The whole subject as text, for `X-Forwarded-Client-Cert`.
    pub subject: String,
    /// Alternative names of type URI.
    pub uris: Vec<String>,
    /// Alternative names of type DNS.
    pub dns_names: Vec<String>,
    /// Serial number, lower-case hexadecimal without leading zero bytes.
    pub serial: String,
    /// SHA-256 over the DER, 64 lower-case hexadecimal digits.
    pub fingerprint_sha256: String,
    /// When the certificate is valid.
    pub validity: Validity,
}

impl ClientIdentity {
    /// Reads the identity of the first certificate of a chain. **It is not verified here**: use
    /// [`ClientVerifier::verify`] unless the handshake has done that.
    ///
    /// Errors: [`ClientCertificateError::Chain`], [`ClientCertificateError::Malformed`].
    pub fn from_der(chain: &[CertificateDer<'_>]) -> Result<Self, ClientCertificateError> {
        let leaf = chain.first().ok_or(ClientCertificateError::Chain)?;
        let (_, certificate) = X509Certificate::from_der(leaf).map_err(|_| ClientCertificateError::Malformed)?;
        let subject = certificate.subject();
        let common_name = match values(subject.iter_common_name())?.as_slice() {
            [] => String::new(),
            [only] => only.clone(),
            // Two common names are two users; nobody should have to guess which one counts.
            _ => return Err(ClientCertificateError::Malformed),
        };
        let mut uris = Vec::new();
        let mut dns_names = Vec::new();
        let alternatives = certificate.subject_alternative_name().map_err(|_| ClientCertificateError::Malformed)?;
        for name in alternatives.iter().flat_map(|extension| &extension.value.general_names) {
            match name {
                GeneralName::URI(uri) => uris.push((*uri).to_owned()),
                GeneralName::DNSName(name) => dns_names.push((*name).to_owned()),
                _ => {}
            }
        }
        let serial = certificate.raw_serial();
        let zeros = serial.iter().take_while(|byte| **byte == 0).count();
        Ok(Self {
            common_name,
            organizations: values(subject.iter_organization())?,
            subject: subject.to_string(),
            uris,
            dns_names,
            serial: hex(serial.get(zeros..).unwrap_or_default()),
            fingerprint_sha256: fingerprint_sha256(leaf),
            validity: Validity::from_der(leaf).map_err(|_| ClientCertificateError::Malformed)?,
        })
    }
}

fn values<'a>(
    attributes: impl Iterator<Item = &'a x509_parser::x509::AttributeTypeAndValue<'a>>,
) -> Result<Vec<String>, ClientCertificateError> {
    attributes
        .map(|attribute| attribute.as_str().map(str::to_owned))
        .collect::<Result<_, _>>()
        .map_err(|_| ClientCertificateError::Malformed)
}

/// Verifies client chains against one set of authorities. Build it once per set: the
/// authorities are parsed here and not per request.
#[derive(Debug, Clone)]
pub struct ClientVerifier {
    verifier: Arc<dyn ClientCertVerifier>,
}

impl ClientVerifier {
    /// A verifier that trusts every certificate of a PEM text.
    ///
    /// Errors: [`PkiError::Certificate`] when the text holds no usable authority.
    pub fn from_pem(authorities_pem: &str) -> Result<Self, PkiError> {
        Self::new(&certificates_from_pem(authorities_pem)?)
    }

    /// A verifier that trusts the given authorities.
    ///
    /// Errors: [`PkiError::Certificate`] when there is none or one is not readable.
    pub fn new(authorities: &[CertificateDer<'_>]) -> Result<Self, PkiError> {
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots.add(authority.clone().into_owned()).map_err(|_| PkiError::Certificate)?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(default_provider()))
            .build()
            .map_err(|_| PkiError::Certificate)?;
        Ok(Self { verifier })
    }

    /// Verifies a chain (leaf first) at `now`: signatures up to one of the authorities, validity,
    /// basic constraints, and that the leaf *names* extended key usage `clientAuth` (a certificate
    /// without any extended key usage is refused). Possession of the private key is proved in the
    /// TLS handshake, not here.
    ///
    /// Returns the identity of the leaf. Errors: see [`ClientCertificateError`].
    // SPEC 60 §16
    pub fn verify(
        &self,
        chain: &[CertificateDer<'_>],
        now: Timestamp,
    ) -> Result<ClientIdentity, ClientCertificateError> {
        let (leaf, intermediates) = chain.split_first().ok_or(ClientCertificateError::Chain)?;
        if chain.len() > MAX_CHAIN {
            return Err(ClientCertificateError::Chain);
        }
        let seconds = u64::try_from(now.as_second()).map_err(|_| ClientCertificateError::NotYetValid)?;
        self.verifier
            .verify_client_cert(leaf, intermediates, UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
            .map_err(|error| refusal(&error))?;
        // webpki accepts a certificate without any extended key usage; the rule does not.
        let (_, parsed) = X509Certificate::from_der(leaf).map_err(|_| ClientCertificateError::Malformed)?;
        let purposes = parsed.extended_key_usage().map_err(|_| ClientCertificateError::Malformed)?;
        if !purposes.is_some_and(|purposes| purposes.value.client_auth) {
            return Err(ClientCertificateError::Purpose);
        }
        ClientIdentity::from_der(chain)
    }
}

/// [`ClientVerifier::verify`] for one use: parses the authorities each time.
///
/// Errors: as there; unreadable authorities are [`ClientCertificateError::UnknownAuthority`].
pub fn verify_client_chain(
    chain: &[CertificateDer<'_>],
    authorities: &[CertificateDer<'_>],
    now: Timestamp,
) -> Result<ClientIdentity, ClientCertificateError> {
    ClientVerifier::new(authorities).map_err(|_| ClientCertificateError::UnknownAuthority)?.verify(chain, now)
}

fn refusal(error: &rustls::Error) -> ClientCertificateError {
    let rustls::Error::InvalidCertificate(cause) = error else {
        return ClientCertificateError::Unacceptable;
    };
    match cause {
        CertificateError::BadEncoding => ClientCertificateError::Malformed,
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => ClientCertificateError::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            ClientCertificateError::NotYetValid
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => ClientCertificateError::UnknownAuthority,
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            ClientCertificateError::Purpose
        }
        _ => ClientCertificateError::Unacceptable,
    }
}
