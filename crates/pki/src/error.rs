//! Why a certificate could not be made or read.

/// Why a certificate, key or PEM text could not be made or read. No variant carries key material.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// Key generation or signing failed in the crypto library.
    #[error("cannot sign the certificate")]
    Sign(#[source] rcgen::Error),
    /// The system's random generator gave nothing.
    #[error("cannot read random bytes for a serial number")]
    Random,
    /// A DNS name or common name that a certificate cannot carry.
    #[error("`{name}` cannot stand in a certificate")]
    Name {
        /// The name as given.
        name: String,
    },
    /// A point in time that X.509 cannot express (years 1970 to 9999).
    #[error("the validity leaves the years that a certificate can express")]
    Time,
    /// The PEM text holds no certificate, or one that is not DER.
    #[error("no readable certificate in the PEM text")]
    Certificate,
    /// The PEM text holds no private key that we can use.
    #[error("no readable private key in the PEM text")]
    PrivateKey,
    /// The private key does not belong to the (first) certificate.
    #[error("the private key does not belong to the certificate")]
    KeyMismatch,
    /// The certificate of an authority lacks the CA bit.
    #[error("the certificate is not a certificate authority")]
    NotAnAuthority,
}
