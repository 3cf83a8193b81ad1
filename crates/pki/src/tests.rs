//! Certificates made by an authority, verified as a server would.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::{
    Authority, CLIENT_LIFETIME, ClientCertificateError, ClientIdentity, ClientVerifier, Credential, PkiError,
    SERVER_LIFETIME, verify_client_chain,
};

const DAY_S: i64 = 24 * 60 * 60;

fn now() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

fn days_later(days: i64) -> Timestamp {
    Timestamp::from_second(now().as_second() + days * DAY_S).unwrap()
}

fn authority() -> Authority {
    Authority::generate("tidegate-client-ca", now()).unwrap()
}

fn admin(authority: &Authority) -> Credential {
    authority.issue_client("admin", &["system:masters"], now(), CLIENT_LIFETIME).unwrap()
}

fn verify(
    chain: &[CertificateDer<'_>],
    authority: &Authority,
    at: Timestamp,
) -> Result<ClientIdentity, ClientCertificateError> {
    verify_client_chain(chain, &[authority.certificate().clone()], at)
}

#[test]
fn a_client_certificate_names_its_user_and_groups() {
    let authority = authority();
    let credential = authority.issue_client("jane", &["dev", "ops"], now(), CLIENT_LIFETIME).unwrap();
    let identity = verify(credential.chain(), &authority, now()).unwrap();
    assert_eq!(identity.common_name, "jane");
    assert_eq!(identity.organizations, ["dev", "ops"]);
    assert_eq!(identity.serial.len(), 32);
    assert_eq!(identity.fingerprint_sha256.len(), 64);
    assert_eq!(identity.validity, credential.validity());
    assert!(identity.subject.contains("CN=jane"), "{}", identity.subject);
}

#[test]
fn two_certificates_for_one_user_differ_in_serial_and_fingerprint() {
    let authority = authority();
    let [one, two] = [(); 2].map(|()| verify(admin(&authority).chain(), &authority, now()).unwrap());
    assert_ne!(one.serial, two.serial);
    assert_ne!(one.fingerprint_sha256, two.fingerprint_sha256);
}

#[test]
fn a_client_certificate_of_another_authority_is_refused_even_under_the_same_name() {
    let (ours, theirs) = (authority(), authority());
    assert_eq!(verify(admin(&theirs).chain(), &ours, now()), Err(ClientCertificateError::UnknownAuthority));
}

#[test]
fn a_client_certificate_counts_from_its_first_to_its_last_second() {
    let authority = authority();
    let credential = admin(&authority);
    let validity = credential.validity();
    let second = Duration::from_secs(1);
    let at = |instant| verify(credential.chain(), &authority, instant).map(|_| ());
    assert_eq!(at(validity.not_before), Ok(()));
    assert_eq!(at(validity.not_after), Ok(()));
    assert_eq!(at(validity.not_before.checked_sub(second).unwrap()), Err(ClientCertificateError::NotYetValid));
    assert_eq!(at(validity.not_after.checked_add(second).unwrap()), Err(ClientCertificateError::Expired));
}

#[test]
fn a_server_certificate_is_no_client_certificate() {
    let authority = authority();
    let server = authority.issue_server(&["localhost"], &[], now(), SERVER_LIFETIME).unwrap();
    assert_eq!(verify(server.chain(), &authority, now()), Err(ClientCertificateError::Purpose));
}

#[test]
fn a_certificate_without_extended_key_usage_is_no_client_certificate() {
    let authority = authority();
    let issuer_key = rcgen::KeyPair::from_pem(authority.private_key_pem().expose()).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_pem(authority.certificate_pem(), issuer_key).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let bare = rcgen::CertificateParams::default().signed_by(&key, &issuer).unwrap();
    assert_eq!(verify(&[bare.der().clone()], &authority, now()), Err(ClientCertificateError::Purpose));
}

#[test]
fn an_authority_is_no_client() {
    let authority = authority();
    assert!(verify(&[authority.certificate().clone()], &authority, now()).is_err());
}

#[test]
fn a_client_certificate_cannot_issue_another() {
    let authority = authority();
    let mallory = admin(&authority);
    let key = rcgen::KeyPair::from_pem(mallory.private_key_pem().expose()).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_pem(mallory.chain_pem(), key).unwrap();
    let own_key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let forged = params.signed_by(&own_key, &issuer).unwrap();
    let chain = [forged.der().clone(), mallory.chain()[0].clone()];
    assert!(verify(&chain, &authority, now()).is_err());
}

#[test]
fn changed_bytes_are_refused() {
    let authority = authority();
    let good = admin(&authority).chain()[0].to_vec();
    for index in (0..good.len()).step_by(7) {
        let mut bytes = good.clone();
        bytes[index] ^= 1;
        assert!(verify(&[CertificateDer::from(bytes)], &authority, now()).is_err(), "byte {index}");
    }
    for length in 0..good.len() {
        let cut = CertificateDer::from(good[..length].to_vec());
        assert!(verify(&[cut], &authority, now()).is_err(), "{length} bytes");
    }
}

#[test]
fn no_certificate_and_a_long_chain_are_refused() {
    let authority = authority();
    assert_eq!(verify(&[], &authority, now()), Err(ClientCertificateError::Chain));
    let leaf = admin(&authority).chain()[0].clone();
    assert_eq!(verify(&vec![leaf; 9], &authority, now()), Err(ClientCertificateError::Chain));
}

#[test]
fn one_verifier_trusts_all_authorities_of_a_bundle() {
    let (one, two, stranger) = (authority(), authority(), authority());
    let bundle = format!("{}{}", one.certificate_pem(), two.certificate_pem());
    let verifier = ClientVerifier::from_pem(&bundle).unwrap();
    for known in [&one, &two] {
        assert!(verifier.verify(admin(known).chain(), now()).is_ok());
    }
    assert!(verifier.verify(admin(&stranger).chain(), now()).is_err());
}

#[test]
fn a_server_certificate_carries_names_addresses_and_ninety_days() {
    let authority = authority();
    let addresses = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let credential = authority
        .issue_server(&["localhost", "*.localhost", "kubernetes.default.svc"], &addresses, now(), SERVER_LIFETIME)
        .unwrap();
    let (_, parsed) = X509Certificate::from_der(&credential.chain()[0]).unwrap();
    let names = parsed.subject_alternative_name().unwrap().unwrap().value;
    let text: Vec<_> = names
        .general_names
        .iter()
        .map(|name| match name {
            GeneralName::DNSName(name) => (*name).to_owned(),
            GeneralName::IPAddress(bytes) => format!("{bytes:?}"),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        text,
        [
            "localhost",
            "*.localhost",
            "kubernetes.default.svc",
            "[127, 0, 0, 1]",
            "[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]",
        ]
    );
    let purposes = parsed.extended_key_usage().unwrap().unwrap().value;
    assert!(purposes.server_auth && !purposes.client_auth);
    assert_eq!(credential.validity().not_after, days_later(90));
    credential.certified_key().unwrap();
}

#[test]
fn a_certificate_is_due_for_renewal_at_two_thirds_of_its_life() {
    let validity = authority().issue_server(&["localhost"], &[], now(), SERVER_LIFETIME).unwrap().validity();
    assert!(!validity.is_renewal_due(days_later(59)));
    assert!(validity.is_renewal_due(days_later(61)));
    assert!(!validity.is_expired(days_later(90)));
    assert!(validity.is_expired(days_later(91)));
}

#[test]
fn a_leaf_never_outlives_its_authority() {
    let authority = authority();
    let late = days_later(3652 - 10);
    let leaf = authority.issue_server(&["localhost"], &[], late, SERVER_LIFETIME).unwrap();
    assert_eq!(leaf.validity().not_after, authority.validity().not_after);
}

#[test]
fn an_authority_read_from_pem_issues_for_the_same_verifiers() {
    let first = authority();
    let again = Authority::from_pem(first.certificate_pem(), first.private_key_pem().expose()).unwrap();
    assert_eq!(again.certificate(), first.certificate());
    assert_eq!(again.validity(), first.validity());
    verify(admin(&again).chain(), &first, now()).unwrap();
    verify(admin(&first).chain(), &again, now()).unwrap();
}

#[test]
fn a_credential_round_trips_through_pem() {
    let credential = admin(&authority());
    let again = Credential::from_pem(credential.chain_pem(), credential.private_key_pem().expose()).unwrap();
    assert_eq!(again.chain(), credential.chain());
    assert_eq!(again.validity(), credential.validity());
}

#[test]
fn parts_that_do_not_belong_together_are_refused() {
    let (one, two) = (authority(), authority());
    let (client, other) = (admin(&one), admin(&one));
    assert!(matches!(
        Authority::from_pem(one.certificate_pem(), two.private_key_pem().expose()),
        Err(PkiError::KeyMismatch)
    ));
    assert!(matches!(
        Authority::from_pem(client.chain_pem(), client.private_key_pem().expose()),
        Err(PkiError::NotAnAuthority)
    ));
    assert!(matches!(
        Credential::from_pem(client.chain_pem(), other.private_key_pem().expose()),
        Err(PkiError::KeyMismatch)
    ));
    assert!(matches!(Credential::from_pem("", ""), Err(PkiError::Certificate)));
    assert!(matches!(Credential::from_pem(client.chain_pem(), client.chain_pem()), Err(PkiError::PrivateKey)));
}

#[test]
fn names_that_no_certificate_can_carry_are_refused() {
    let authority = authority();
    let long = "n".repeat(65);
    for name in ["", long.as_str(), "a\nb"] {
        assert!(authority.issue_client(name, &[], now(), CLIENT_LIFETIME).is_err(), "{name:?}");
    }
    for name in ["", "a b", "a..b", "-a", "*", "a.*.b", "ä.example"] {
        assert!(authority.issue_server(&[name], &[], now(), SERVER_LIFETIME).is_err(), "{name:?}");
    }
    assert!(authority.issue_client("a", &["1", "2", "3"], now(), CLIENT_LIFETIME).is_err());
}

#[test]
fn a_private_key_never_shows_in_debug_output() {
    let authority = authority();
    let credential = admin(&authority);
    for text in [format!("{authority:?}"), format!("{credential:?}"), format!("{:?}", credential.private_key_pem())] {
        assert!(!text.contains("PRIVATE"), "{text}");
    }
}
