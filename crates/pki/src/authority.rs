//! A certificate authority of our own.

use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::credential::certificates_from_pem;
use crate::{Credential, PkiError, PrivateKeyPem, Validity};

/// How long a server certificate lives: 90 days (`SPEC 30 §6.10`).
pub const SERVER_LIFETIME: Duration = Duration::from_hours(90 * 24);

/// How long a client certificate lives unless the caller says otherwise: 365 days.
pub const CLIENT_LIFETIME: Duration = Duration::from_hours(365 * 24);

/// How long an authority lives: 10 years (`SPEC 60 §2.2`).
const AUTHORITY_LIFETIME: Duration = Duration::from_hours(3652 * 24);

/// Certificates begin a little before they are made, for clients whose clock is behind ours.
const BACKDATE: Duration = Duration::from_mins(5);

/// X.520 bounds a common name and an organization name.
const MAX_NAME_CHARS: usize = 64;

/// A CA with its private key: ECDSA P-256, 10 years, path length 0.
///
/// `Debug` shows the certificate only.
pub struct Authority {
    certificate: CertificateDer<'static>,
    certificate_pem: String,
    validity: Validity,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("validity", &self.validity).finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes a new self-signed authority that is valid from `now` for 10 years.
    ///
    /// Errors: [`PkiError::Name`] for an empty or overlong common name, [`PkiError::Time`],
    /// [`PkiError::Random`], [`PkiError::Sign`].
    pub fn generate(common_name: &str, now: Timestamp) -> Result<Self, PkiError> {
        let validity = starting(now, AUTHORITY_LIFETIME)?;
        let mut params = blank(validity)?;
        params.distinguished_name = subject(Some(common_name), &[])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = new_key()?;
        let certificate = params.self_signed(&key).map_err(PkiError::Sign)?;
        Ok(Self {
            certificate: certificate.der().clone(),
            certificate_pem: certificate.pem(),
            validity,
            issuer: Issuer::new(params, key),
        })
    }

    /// Reads an authority back: the first certificate of the text and its PKCS#8 key.
    ///
    /// Errors: [`PkiError::Certificate`], [`PkiError::PrivateKey`], [`PkiError::NotAnAuthority`],
    /// [`PkiError::KeyMismatch`].
    pub fn from_pem(certificate_pem: &str, key_pem: &str) -> Result<Self, PkiError> {
        let certificate = certificates_from_pem(certificate_pem)?.into_iter().next().ok_or(PkiError::Certificate)?;
        let validity = Validity::from_der(&certificate)?;
        let key = KeyPair::from_pem(key_pem).map_err(|_| PkiError::PrivateKey)?;
        let (_, parsed) = X509Certificate::from_der(&certificate).map_err(|_| PkiError::Certificate)?;
        if !parsed.is_ca() {
            return Err(PkiError::NotAnAuthority);
        }
        if *parsed.public_key().subject_public_key.data != *key.public_key_raw() {
            return Err(PkiError::KeyMismatch);
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(|_| PkiError::Certificate)?;
        Ok(Self { certificate_pem: certificate_pem.to_owned(), validity, issuer, certificate })
    }

    /// The authority's certificate in PEM: what clients trust (`ca.crt`).
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The authority's certificate in DER.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The authority's private key, to be stored.
    pub fn private_key_pem(&self) -> PrivateKeyPem {
        PrivateKeyPem::new(self.issuer.key().serialize_pem())
    }

    /// When the authority is valid.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// Issues a server certificate (extended key usage `serverAuth`, new ECDSA P-256 key) for DNS
    /// names, of which any may be a wildcard, and addresses. The first DNS name is also the
    /// common name when it is short enough. Usual lifetime: [`SERVER_LIFETIME`]; it is cut where
    /// the authority's own ends.
    ///
    /// Errors: [`PkiError::Name`] for a name that is no DNS name, or when there is no name and no
    /// address; [`PkiError::Time`], [`PkiError::Random`], [`PkiError::Sign`].
    pub fn issue_server(
        &self,
        names: &[&str],
        addresses: &[IpAddr],
        now: Timestamp,
        lifetime: Duration,
    ) -> Result<Credential, PkiError> {
        let mut alternative_names = Vec::with_capacity(names.len() + addresses.len());
        for name in names {
            if !is_dns_name(name) {
                return Err(unusable(name));
            }
            let name = (*name).try_into().map_err(|_| unusable(name))?;
            alternative_names.push(SanType::DnsName(name));
        }
        alternative_names.extend(addresses.iter().copied().map(SanType::IpAddress));
        if alternative_names.is_empty() {
            return Err(unusable(""));
        }
        let common_name = names.iter().find(|name| name.len() <= MAX_NAME_CHARS);
        self.issue(now, lifetime, |params| {
            params.distinguished_name = subject(common_name.copied(), &[])?;
            params.subject_alt_names = alternative_names;
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            Ok(())
        })
    }

    /// Issues a client certificate (extended key usage `clientAuth`, new ECDSA P-256 key). The
    /// common name is the user, each organization a group (`SPEC 60 §16`). Usual lifetime:
    /// [`CLIENT_LIFETIME`]; it is cut where the authority's own ends.
    ///
    /// Errors: [`PkiError::Name`] for an empty name, one of more than 64 characters, or a third
    /// organization; [`PkiError::Time`], [`PkiError::Random`], [`PkiError::Sign`].
    pub fn issue_client(
        &self,
        common_name: &str,
        organizations: &[&str],
        now: Timestamp,
        lifetime: Duration,
    ) -> Result<Credential, PkiError> {
        self.issue(now, lifetime, |params| {
            params.distinguished_name = subject(Some(common_name), organizations)?;
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            Ok(())
        })
    }

    fn issue(
        &self,
        now: Timestamp,
        lifetime: Duration,
        fill: impl FnOnce(&mut CertificateParams) -> Result<(), PkiError>,
    ) -> Result<Credential, PkiError> {
        let mut validity = starting(now, lifetime)?;
        validity.not_after = validity.not_after.min(self.validity.not_after);
        let mut params = blank(validity)?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        fill(&mut params)?;
        let key = new_key()?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(PkiError::Sign)?;
        Ok(Credential::issued(&certificate, &key, validity))
    }
}

fn new_key() -> Result<KeyPair, PkiError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(PkiError::Sign)
}

/// Whole seconds only, because X.509 has nothing finer.
fn starting(now: Timestamp, lifetime: Duration) -> Result<Validity, PkiError> {
    let now = Timestamp::from_second(now.as_second()).map_err(|_| PkiError::Time)?;
    Ok(Validity {
        not_before: now.checked_sub(BACKDATE).map_err(|_| PkiError::Time)?,
        not_after: now.checked_add(lifetime).map_err(|_| PkiError::Time)?,
    })
}

/// Parameters with the validity and a random serial number of 126 bits.
fn blank(validity: Validity) -> Result<CertificateParams, PkiError> {
    let mut serial = [0; 16];
    aws_lc_rs::rand::fill(&mut serial).map_err(|_| PkiError::Random)?;
    // A serial number is positive, and one without leading zeros has one encoding.
    serial[0] = serial[0] & 0x3f | 0x40;
    // A `Timestamp` ends with the year 9999, and so do X.509 dates; only the past can overflow.
    let instant = |at: Timestamp| {
        let seconds = u64::try_from(at.as_second()).map_err(|_| PkiError::Time)?;
        Ok(rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds))
    };
    let mut params = CertificateParams::default();
    params.not_before = instant(validity.not_before)?;
    params.not_after = instant(validity.not_after)?;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}

/// The object identifier of X.520 `organizationName`.
const ORGANIZATION_OID: [u64; 4] = [2, 5, 4, 10];

/// The organizations, then the common name.
fn subject(common_name: Option<&str>, organizations: &[&str]) -> Result<DistinguishedName, PkiError> {
    // rcgen keeps a name as a map by attribute type. The same type can be spelled in two ways, so
    // there is room for two organizations and no more.
    let spellings = [DnType::OrganizationName, DnType::CustomDnType(ORGANIZATION_OID.to_vec())];
    if let Some(surplus) = organizations.get(spellings.len()) {
        return Err(unusable(surplus));
    }
    let mut name = DistinguishedName::new();
    for (spelling, organization) in spellings.into_iter().zip(organizations) {
        check_name(organization)?;
        name.push(spelling, *organization);
    }
    if let Some(common_name) = common_name {
        check_name(common_name)?;
        name.push(DnType::CommonName, common_name);
    }
    Ok(name)
}

fn check_name(name: &str) -> Result<(), PkiError> {
    if name.is_empty() || name.chars().count() > MAX_NAME_CHARS || name.contains(char::is_control) {
        return Err(unusable(name));
    }
    Ok(())
}

fn unusable(name: &str) -> PkiError {
    PkiError::Name { name: name.to_owned() }
}

/// Letters, digits, hyphens and underscores in labels of 1 to 63 characters; the first label may be
/// `*`.
fn is_dns_name(name: &str) -> bool {
    let rest = name.strip_prefix("*.").unwrap_or(name);
    rest.len() <= 253
        && rest.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        })
}
