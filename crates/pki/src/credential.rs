//! A certificate chain with its private key.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use crate::{PkiError, Validity};

/// A private key in PKCS#8 PEM; wiped when dropped, hidden from `Debug`.
#[derive(Clone)]
pub struct PrivateKeyPem(Zeroizing<String>);

impl PrivateKeyPem {
    /// Wraps a PEM text. It is not parsed here; [`Credential::from_pem`] does that.
    pub fn new(pem: String) -> Self {
        Self(Zeroizing::new(pem))
    }

    /// The PEM text. Every use is a place where the key leaves the process's care.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PrivateKeyPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKeyPem(..)")
    }
}

/// A certificate (leaf first, then intermediates) with the private key of the leaf.
#[derive(Debug, Clone)]
pub struct Credential {
    chain: Vec<CertificateDer<'static>>,
    chain_pem: String,
    key_pem: PrivateKeyPem,
    validity: Validity,
}

impl Credential {
    /// Reads a chain (one or more `CERTIFICATE` blocks, leaf first) and its private key
    /// (PKCS#8, SEC 1 or PKCS#1).
    ///
    /// Errors: [`PkiError::Certificate`], [`PkiError::PrivateKey`], [`PkiError::KeyMismatch`].
    pub fn from_pem(chain_pem: &str, key_pem: &str) -> Result<Self, PkiError> {
        let chain = certificates_from_pem(chain_pem)?;
        let leaf = chain.first().ok_or(PkiError::Certificate)?;
        let validity = Validity::from_der(leaf)?;
        let credential =
            Self { validity, chain, chain_pem: chain_pem.to_owned(), key_pem: PrivateKeyPem::new(key_pem.to_owned()) };
        credential.certified_key()?;
        Ok(credential)
    }

    /// Joins parts that are known to fit, as [`crate::Authority`] makes them.
    pub(crate) fn issued(certificate: &rcgen::Certificate, key: &rcgen::KeyPair, validity: Validity) -> Self {
        Self {
            chain: vec![certificate.der().clone()],
            chain_pem: certificate.pem(),
            key_pem: PrivateKeyPem::new(key.serialize_pem()),
            validity,
        }
    }

    /// The chain in DER, leaf first; never empty.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The chain in PEM, leaf first.
    pub fn chain_pem(&self) -> &str {
        &self.chain_pem
    }

    /// The private key in PEM.
    pub fn private_key_pem(&self) -> &PrivateKeyPem {
        &self.key_pem
    }

    /// The private key in the form rustls takes.
    ///
    /// Errors: [`PkiError::PrivateKey`] (cannot happen for a value that was constructed).
    pub fn private_key(&self) -> Result<PrivateKeyDer<'static>, PkiError> {
        PrivateKeyDer::from_pem_slice(self.key_pem.expose().as_bytes()).map_err(|_| PkiError::PrivateKey)
    }

    /// Chain and key as a rustls certificate resolver hands them out.
    ///
    /// Errors: [`PkiError::PrivateKey`] for a key type that the provider does not know,
    /// [`PkiError::KeyMismatch`] when the key is another certificate's.
    pub fn certified_key(&self) -> Result<Arc<CertifiedKey>, PkiError> {
        let key = self.private_key()?;
        let signing = default_provider().key_provider.load_private_key(key).map_err(|_| PkiError::PrivateKey)?;
        let certified = CertifiedKey::new(self.chain.clone(), signing);
        certified.keys_match().map_err(|_| PkiError::KeyMismatch)?;
        Ok(Arc::new(certified))
    }

    /// When the leaf is valid.
    pub fn validity(&self) -> Validity {
        self.validity
    }
}

/// All certificates of a PEM text.
///
/// Errors: [`PkiError::Certificate`] when one block is broken or there is none.
pub(crate) fn certificates_from_pem(pem: &str) -> Result<Vec<CertificateDer<'static>>, PkiError> {
    let certificates = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| PkiError::Certificate)?;
    if certificates.is_empty() {
        return Err(PkiError::Certificate);
    }
    Ok(certificates)
}

/// SHA-256 over a DER certificate, 64 lower-case hexadecimal digits.
pub fn fingerprint_sha256(certificate: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, certificate).as_ref())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a `String` cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
