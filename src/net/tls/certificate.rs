//! What a certificate says of itself: for how long it is valid, and whom it names. Trusts nothing: whether it is to be
//! believed is the TLS library's to say.

use std::time::SystemTime;

use ring::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;
use thiserror::Error;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// Names of one kind that are passed on; more are left out, so that what an app is told stays small.
const NAMES: usize = 8;
/// Bytes of a name that is passed on.
const LONGEST: usize = 512;

/// A certificate that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not an X.509 certificate")]
pub struct Unreadable;

/// From when to when a certificate is valid (RFC 5280 section 4.1.2.5), both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// Not before.
    pub from: SystemTime,
    /// Not after.
    pub to: SystemTime,
}

/// Whom a certificate names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Names {
    /// The subject as RFC 4514 writes it; empty when there is none, or it is too long to be passed on.
    pub subject: String,
    /// Alternative names that are host names, in lower case.
    pub dns: Vec<String>,
    /// Alternative names that are URIs, such as SPIFFE's.
    pub uris: Vec<String>,
}

/// What a client's certificate tells, for the app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// SHA-256 of the certificate (DER).
    pub hash: [u8; 32],
    /// At most [`NAMES`] of each kind.
    pub names: Names,
    /// How long the certificate is good.
    pub validity: Validity,
}

impl Client {
    /// Reads a client's certificate.
    ///
    /// # Errors
    /// It is none.
    pub fn read(certificate: &CertificateDer<'_>) -> Result<Self, Unreadable> {
        let parsed = parse(certificate)?;
        let mut names = names_of(&parsed);
        if names.subject.len() > LONGEST {
            names.subject.clear();
        }
        for kind in [&mut names.dns, &mut names.uris] {
            kind.retain(|name| name.len() <= LONGEST);
            kind.truncate(NAMES);
        }
        let hash = digest(&SHA256, certificate).as_ref().try_into().expect("SHA-256 is 32 bytes long");
        Ok(Self { hash, names, validity: validity_of(&parsed) })
    }
}

/// How long a certificate is good.
///
/// # Errors
/// It is none.
pub fn validity(certificate: &CertificateDer<'_>) -> Result<Validity, Unreadable> {
    parse(certificate).map(|parsed| validity_of(&parsed))
}

/// Whom a certificate names.
///
/// # Errors
/// It is none.
pub fn names(certificate: &CertificateDer<'_>) -> Result<Names, Unreadable> {
    parse(certificate).map(|parsed| names_of(&parsed))
}

fn parse(certificate: &CertificateDer<'_>) -> Result<Certificate, Unreadable> {
    Certificate::from_der(certificate).map_err(|_| Unreadable)
}

fn validity_of(certificate: &Certificate) -> Validity {
    let validity = certificate.tbs_certificate.validity;
    Validity { from: validity.not_before.to_system_time(), to: validity.not_after.to_system_time() }
}

fn names_of(certificate: &Certificate) -> Names {
    let mut names = Names { subject: certificate.tbs_certificate.subject.to_string(), ..Names::default() };
    let Ok(Some((_, alternatives))) = certificate.tbs_certificate.get::<SubjectAltName>() else { return names };
    for name in alternatives.0 {
        match name {
            GeneralName::DnsName(name) => names.dns.push(name.as_str().to_ascii_lowercase()),
            GeneralName::UniformResourceIdentifier(uri) => names.uris.push(uri.as_str().to_owned()),
            _ => {}
        }
    }
    names
}
