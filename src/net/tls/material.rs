//! From files to what a listener serves with: read, judged, and put together as a whole or not at all.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore};
use xxhash_rust::xxh3::Xxh3;

use super::certificate;
use super::settings::{ClientAuth, Pair, Settings};

/// Bytes of a file: far more than any chain has.
const LONGEST: u64 = 256 * 1024;

/// Which file of a listener's TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The chain of the certificate with this number.
    Chain(usize),
    /// Its key.
    Key(usize),
    /// The clients' authorities.
    ClientCa,
}

/// What is wrong with a file. Never its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Which file.
    pub which: Which,
    /// Where it is.
    pub path: PathBuf,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub remedy: &'static str,
}

/// Answers for the content of a file, or says why there is none.
pub type Read = fn(&Path) -> Result<Vec<u8>, String>;

/// All that the files hold.
pub(super) struct Material {
    /// In the configured order.
    pub(super) keys: Vec<Arc<CertifiedKey>>,
    /// Whom clients must be vouched for by.
    pub(super) verifier: Option<Arc<dyn ClientCertVerifier>>,
    /// When the first of the certificates expires.
    pub(super) expires: SystemTime,
}

/// A regular file's content, if it is not absurdly long.
///
/// # Errors
/// Why there is none.
pub fn read(path: &Path) -> Result<Vec<u8>, String> {
    let said = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => "no such file".to_owned(),
        ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    };
    // A pipe or a device could keep the reader waiting for ever.
    if !std::fs::metadata(path).map_err(said)?.is_file() {
        return Err("not a regular file".to_owned());
    }
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(LONGEST + 1).read_to_end(&mut bytes)).map_err(said)?;
    if bytes.len() as u64 > LONGEST {
        return Err(format!("longer than {} KiB", LONGEST / 1024));
    }
    Ok(bytes)
}

/// A number that changes when the content of any file does.
pub(super) fn fingerprint(settings: &Settings, read: Read) -> u64 {
    let mut hash = Xxh3::new();
    let pairs = settings.certificates.iter().flat_map(|pair| [&pair.chain, &pair.key]);
    for path in pairs.chain(&settings.client_ca) {
        match read(path) {
            Ok(bytes) => {
                hash.update(&bytes.len().to_le_bytes());
                hash.update(&bytes);
            }
            Err(why) => hash.update(why.as_bytes()),
        }
    }
    hash.digest()
}

/// The fingerprint of the clients' authorities alone.
pub(super) fn authorities_fingerprint(settings: &Settings, read: Read) -> u64 {
    let path = settings.client_ca.as_ref();
    let mut hash = Xxh3::new();
    hash.update(&path.and_then(|path| read(path).ok()).unwrap_or_default());
    hash.digest()
}

/// What is wrong with the files of a certificate at the time `now`, as [`Which::Chain`] and [`Which::Key`] of number 0.
pub fn judge_pair(files: &Pair, read: Read, now: SystemTime) -> Vec<Fault> {
    pair(0, files, read, now).err().unwrap_or_default()
}

/// What is wrong with the file of clients' authorities.
pub fn judge_authorities(path: &Path, read: Read) -> Option<Fault> {
    authorities(path, ClientAuth::Require, read).err()
}

/// All that the files hold.
///
/// # Errors
/// Everything that is wrong with them.
pub(super) fn gather(settings: &Settings, read: Read, now: SystemTime) -> Result<Material, Vec<Fault>> {
    let mut faults = Vec::new();
    let (mut keys, mut expires) = (Vec::new(), None::<SystemTime>);
    for (index, files) in settings.certificates.iter().enumerate() {
        match pair(index, files, read, now) {
            Ok((key, expiry)) => {
                keys.push(Arc::new(key));
                expires = Some(expires.map_or(expiry, |earlier| earlier.min(expiry)));
            }
            Err(found) => faults.extend(found),
        }
    }
    let verifier = match (&settings.client_ca, settings.client_auth) {
        (Some(path), ClientAuth::Request | ClientAuth::Require) => {
            authorities(path, settings.client_auth, read).map_err(|fault| faults.push(fault)).ok()
        }
        // That there must be authorities then is the configuration's to say.
        _ => None,
    };
    match expires {
        Some(expires) if faults.is_empty() => Ok(Material { keys, verifier, expires }),
        _ => Err(faults),
    }
}

fn pair(index: usize, files: &Pair, read: Read, now: SystemTime) -> Result<(CertifiedKey, SystemTime), Vec<Fault>> {
    let at = |which: Which, path: &Path| {
        let path = path.to_owned();
        move |what: String, remedy: &'static str| Fault { which, path: path.clone(), what, remedy }
    };
    let (of_chain, of_key) = (at(Which::Chain(index), &files.chain), at(Which::Key(index), &files.key));
    let chain = certificates(&files.chain, read).map_err(|(what, remedy)| of_chain(what, remedy));
    let chain = chain.and_then(|chain| {
        let leaf = chain.first().expect("there is one at least");
        let validity = certificate::validity(leaf)
            .map_err(|wrong| of_chain(wrong.to_string(), "write a PEM file with the server's certificate first"))?;
        let when = |time: SystemTime| humantime::format_rfc3339_seconds(time);
        if now > validity.to {
            return Err(of_chain(format!("expired at {}", when(validity.to)), "replace it by a valid certificate"));
        }
        if now < validity.from {
            let what = format!("not valid before {}", when(validity.from));
            return Err(of_chain(what, "replace it by a valid certificate, or set this machine's clock"));
        }
        Ok((chain, validity.to))
    });
    let key = private_key(&files.key, read).map_err(|(what, remedy)| of_key(what, remedy));
    let (chain, expires, key) = match (chain, key) {
        (Ok((chain, expires)), Ok(key)) => (chain, expires, key),
        (chain, key) => return Err([chain.err(), key.err()].into_iter().flatten().collect()),
    };
    let certified = CertifiedKey::from_der(chain, key, &provider()).map_err(|error| {
        vec![match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                let what = format!("not the key of the certificate in {}", files.chain.display());
                of_key(what, "write the key that the certificate was issued for")
            }
            rustls::Error::InvalidCertificate(_) => {
                of_chain("not a certificate that TLS can use".to_owned(), "issue an X.509 version 3 certificate")
            }
            _ => of_key("not a key that TLS can use".to_owned(), "write an RSA, ECDSA or Ed25519 key in PEM"),
        }]
    })?;
    Ok((certified, expires))
}

type Wrong = (String, &'static str);

/// The certificates of a PEM file: one at least.
fn certificates(path: &Path, read: Read) -> Result<Vec<CertificateDer<'static>>, Wrong> {
    let bytes = read(path).map_err(|why| (why, "name a readable PEM file"))?;
    let found: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(("no certificate in it".to_owned(), "write a PEM file: -----BEGIN CERTIFICATE-----")),
        Err(error) => Err((format!("not PEM: {}", told(&error)), "write a PEM file: -----BEGIN CERTIFICATE-----")),
    }
}

fn private_key(path: &Path, read: Read) -> Result<PrivateKeyDer<'static>, Wrong> {
    let bytes = read(path).map_err(|why| (why, "name a readable PEM file"))?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| match error {
        _ if bytes.windows(9).any(|part| part == b"ENCRYPTED") => {
            ("the key is encrypted".to_owned(), "decrypt it: openssl pkey -in KEY -out PLAIN")
        }
        pem::Error::NoItemsFound => {
            ("no private key in it".to_owned(), "write a PEM file: -----BEGIN PRIVATE KEY-----")
        }
        error => (format!("not PEM: {}", told(&error)), "write a PEM file: -----BEGIN PRIVATE KEY-----"),
    })
}

/// What is wrong with a PEM file, without any of it: a line of a key must not be quoted.
fn told(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "a section has no end",
        pem::Error::IllegalSectionStart { .. } => "a section's first line is malformed",
        pem::Error::Base64Decode(_) => "a section is not base64",
        pem::Error::NoItemsFound => "nothing in it",
        _ => "it cannot be read",
    }
}

fn authorities(path: &Path, auth: ClientAuth, read: Read) -> Result<Arc<dyn ClientCertVerifier>, Fault> {
    let fault = |(what, remedy): Wrong| Fault { which: Which::ClientCa, path: path.to_owned(), what, remedy };
    let unusable = || fault(("not an authority's certificate".to_owned(), "write the CA's certificate in PEM"));
    let mut roots = RootCertStore::empty();
    for authority in certificates(path, read).map_err(fault)? {
        roots.add(authority).map_err(|_| unusable())?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    let builder = if auth == ClientAuth::Request { builder.allow_unauthenticated() } else { builder };
    builder.build().map_err(|_| unusable())
}

/// The cryptography of every listener.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
