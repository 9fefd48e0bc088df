//! TLS towards servers that are asked: whom to believe, and what to show of ourselves. Knows no protocol above it.

use std::error::Error as StdError;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{AlertDescription, CertificateError, ClientConfig, OtherError, PeerIncompatible, RootCertStore};
use tokio::task::spawn_blocking;

use super::lenient::Lenient;
use super::{material, system_roots};

/// How much of a server's certificate is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verify {
    /// Nothing: a listener is kept out, an impostor is not.
    Nothing,
    /// That an authority we trust vouches for it.
    Authority,
    /// That, and that it bears the server's name.
    #[default]
    Name,
}

/// Whom to believe and what to show. The files are read anew for each connection, so that a certificate may be replaced
/// under a running process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Trust {
    /// What is checked.
    pub verify: Verify,
    /// Authorities in place of the system's, PEM.
    pub ca_file: Option<PathBuf>,
    /// Our certificate chain and its key, PEM, for servers that ask.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name that the certificate must bear, where it is not that of the host.
    pub server_name: Option<String>,
}

impl Trust {
    /// What a connection is made with.
    ///
    /// # Errors
    /// Which file is not what it should be, and why; never its content.
    pub async fn config(&self) -> Result<ClientConfig, String> {
        if self.verify == Verify::Name && self.ca_file.is_none() && self.identity.is_none() {
            static SYSTEM: OnceLock<Arc<ClientConfig>> = OnceLock::new();
            if let Some(known) = SYSTEM.get() {
                return Ok(ClientConfig::clone(known));
            }
            let read = spawn_blocking(super::client_config).await.map_err(|e| e.to_string())?;
            return Ok(ClientConfig::clone(SYSTEM.get_or_init(|| read)));
        }
        // A file may be on a disk that hangs.
        let trust = self.clone();
        spawn_blocking(move || trust.gathered()).await.map_err(|e| e.to_string())?
    }

    /// The name that the certificate of `host` must bear.
    ///
    /// # Errors
    /// It is none.
    pub fn name(&self, host: &str) -> Result<ServerName<'static>, String> {
        let name = self.server_name.as_deref().unwrap_or(host);
        ServerName::try_from(name.to_owned()).map_err(|_| format!("{name:?} is no name that a certificate bears"))
    }

    fn gathered(&self) -> Result<ClientConfig, String> {
        let builder = match self.verify {
            Verify::Nothing => ClientConfig::builder().dangerous().with_custom_certificate_verifier(Lenient::any()),
            Verify::Name => ClientConfig::builder().with_root_certificates(self.roots()?),
            Verify::Authority => {
                let verifier = Lenient::any_name(self.roots()?)?;
                ClientConfig::builder().dangerous().with_custom_certificate_verifier(verifier)
            }
        };
        let Some((chain_file, key_file)) = &self.identity else { return Ok(builder.with_no_client_auth()) };
        let chain = certificates(chain_file)?;
        let bytes = material::read(key_file).map_err(|why| told(key_file, &why))?;
        let key = PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| told(key_file, "no private key in it"))?;
        let joined = builder.with_client_auth_cert(chain, key);
        joined.map_err(|_| told(key_file, &format!("not the key of the certificate in {}", chain_file.display())))
    }

    fn roots(&self) -> Result<RootCertStore, String> {
        let Some(file) = &self.ca_file else { return Ok(system_roots()) };
        let mut roots = RootCertStore::empty();
        for authority in certificates(file)? {
            roots.add(authority).map_err(|_| told(file, "not an authority's certificate"))?;
        }
        Ok(roots)
    }
}

/// The certificates of a PEM file: one at least.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = material::read(path).map_err(|why| told(path, &why))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    found.ok().filter(|found| !found.is_empty()).ok_or_else(|| told(path, "no certificate in it"))
}

fn told(path: &Path, why: &str) -> String {
    format!("{}: {why}", path.display())
}

/// Why TLS was not agreed on, in short words, when `error` or one of its sources says so.
pub fn reason(error: &(dyn StdError + 'static)) -> Option<String> {
    let mut source = Some(error);
    let error = loop {
        let error = source?;
        if let Some(found) = of_rustls(error) {
            break found;
        }
        source = error.source();
    };
    let certificate = |what: &str| format!("invalid peer certificate: {what}");
    Some(match error {
        rustls::Error::InvalidCertificate(why) => certificate(&match why {
            CertificateError::Expired => "expired".to_owned(),
            CertificateError::ExpiredContext { not_after, .. } => format!("expired at {}", day_and_time(*not_after)),
            CertificateError::NotValidYet => "not valid yet".to_owned(),
            CertificateError::NotValidYetContext { not_before, .. } => {
                format!("not valid yet: from {} on", day_and_time(*not_before))
            }
            CertificateError::NotValidForName => "not for the name of this server".to_owned(),
            CertificateError::NotValidForNameContext { presented, .. } => {
                format!("not for the name of this server: for {}", names(presented))
            }
            // One that we trust has the issuer's name, and another key.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "no authority that we trust vouches for it".to_owned()
            }
            CertificateError::Revoked => "revoked".to_owned(),
            CertificateError::BadEncoding => "not encoded as a certificate is".to_owned(),
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                "not meant to be a server's, by its extended key usage".to_owned()
            }
            CertificateError::UnsupportedSignatureAlgorithmContext { .. }
            | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
                "signed in a way that is not supported".to_owned()
            }
            CertificateError::Other(other) => unusual(other),
            why => plain(&format!("{why:?}")),
        }),
        rustls::Error::AlertReceived(AlertDescription::Unknown(alert)) => {
            format!("the server broke off: alert {alert}")
        }
        rustls::Error::AlertReceived(alert) => format!("the server broke off: {}", plain(&format!("{alert:?}"))),
        rustls::Error::InvalidMessage(_) => "the answer is not TLS".to_owned(),
        rustls::Error::NoCertificatesPresented => "the server shows no certificate".to_owned(),
        rustls::Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled,
        ) => "the server speaks neither TLS 1.2 nor 1.3".to_owned(),
        rustls::Error::PeerIncompatible(why) => {
            format!("the server speaks another TLS than we: {}", plain(&format!("{why:?}")))
        }
        rustls::Error::PeerMisbehaved(why) => {
            format!("the server breaks the rules of TLS: {}", plain(&format!("{why:?}")))
        }
        rustls::Error::InappropriateMessage { .. } | rustls::Error::InappropriateHandshakeMessage { .. } => {
            "the server breaks the rules of TLS: a message out of place".to_owned()
        }
        rustls::Error::Other(OtherError(other)) => plain(&other.to_string()),
        error => error.to_string(),
    })
}

/// What the library has no reason of its own for: the verifier's, which shows itself by its name in the source alone.
///
/// An authority's own certificate (CA:TRUE, as `openssl req -x509` makes it) stays refused also where it is the very one that
/// we trust. To believe it here would leave its time and its purpose unchecked, or checked by whatever the library happens
/// to look at before this; and whoever has its key can issue certificates for any other name.
fn unusual(OtherError(error): &OtherError) -> String {
    let name = error.to_string();
    match name.as_str() {
        "CaUsedAsEndEntity" => "an authority's own (CA:TRUE), which is no server's".to_owned(),
        "EndEntityUsedAsCa" => "issued by a certificate that is no authority's (CA:FALSE)".to_owned(),
        "UnsupportedCertVersion" => "of another version of X.509 than 3".to_owned(),
        "UnsupportedCriticalExtension" => "with a critical extension that is not known here".to_owned(),
        name => plain(name),
    }
}

/// A name of the library's source, as `PathLenConstraintViolated(1)`, in words: `path len constraint violated`.
fn plain(name: &str) -> String {
    let end = name.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(name.len());
    let mut words = String::new();
    let mut before = None;
    for letter in name[..end].chars() {
        if letter.is_ascii_uppercase() && before.is_some_and(|before: char| !before.is_ascii_uppercase()) {
            words.push(' ');
        }
        words.push(letter.to_ascii_lowercase());
        before = Some(letter);
    }
    words
}

fn day_and_time(at: UnixTime) -> String {
    let at = std::time::UNIX_EPOCH + Duration::from_secs(at.as_secs());
    humantime::format_rfc3339_seconds(at).to_string()
}

/// The names in a certificate, of which the library says `DnsName("app.internal")`, `IpAddress(10.0.0.1)`. A certificate may
/// have many.
fn names(presented: &[String]) -> String {
    const MOST: usize = 5;
    let plain = |name: &String| {
        let inner = name.split_once('(').map_or(name.as_str(), |(_, inner)| inner.trim_end_matches(')'));
        inner.trim_matches('"').to_owned()
    };
    let first = presented.iter().take(MOST).map(plain).collect::<Vec<_>>().join(", ");
    match presented.len() {
        0 => "no name at all".to_owned(),
        count if count > MOST => format!("{first} and {} more", count - MOST),
        _ => first,
    }
}

/// An io::Error holds the error that it was made around without counting it among its sources.
fn of_rustls<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e rustls::Error> {
    let within = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    error.downcast_ref().or_else(|| within?.downcast_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_that_cannot_be_used_is_named() {
        let directory = tempfile::tempdir().expect("a directory");
        let empty = directory.path().join("empty.pem");
        std::fs::write(&empty, "").expect("a file");
        let missing = directory.path().join("missing.pem");
        for (ca_file, identity, expected) in [
            (Some(missing.clone()), None, "missing.pem: no such file"),
            (Some(empty.clone()), None, "empty.pem: no certificate in it"),
            (None, Some((empty.clone(), missing.clone())), "empty.pem: no certificate in it"),
        ] {
            for verify in [Verify::Authority, Verify::Name] {
                super::super::install_provider();
                let trust = Trust { verify, ca_file: ca_file.clone(), identity: identity.clone(), server_name: None };
                let error = trust.config().await.expect_err("nothing to trust");
                assert!(error.ends_with(expected), "{error}");
            }
        }
    }

    #[test]
    fn a_reason_is_found_within_other_errors() {
        let inner = rustls::Error::InvalidCertificate(CertificateError::Expired);
        assert_eq!(reason(&inner).as_deref(), Some("invalid peer certificate: expired"));
        let within = std::io::Error::new(std::io::ErrorKind::InvalidData, inner);
        assert_eq!(reason(&within).as_deref(), Some("invalid peer certificate: expired"));
        assert_eq!(reason(&std::io::Error::other("else")), None);
    }

    #[test]
    fn no_reason_is_a_name_of_the_librarys_source() {
        use rustls::PeerMisbehaved;
        let of = |why: CertificateError| rustls::Error::InvalidCertificate(why);
        let other = |name: &'static str| of(CertificateError::Other(OtherError(Arc::new(Named(name)))));
        let (algorithm, supported) = (vec![42, 134], vec![]);
        for (error, expected) in [
            (
                other("CaUsedAsEndEntity"),
                "invalid peer certificate: an authority's own (CA:TRUE), which is no server's",
            ),
            (other("PathLenConstraintViolated"), "invalid peer certificate: path len constraint violated"),
            (of(CertificateError::InvalidOcspResponse), "invalid peer certificate: invalid ocsp response"),
            (
                of(CertificateError::UnsupportedSignatureAlgorithmContext {
                    signature_algorithm_id: algorithm,
                    supported_algorithms: supported,
                }),
                "invalid peer certificate: signed in a way that is not supported",
            ),
            (rustls::Error::AlertReceived(AlertDescription::UnknownCA), "the server broke off: unknown ca"),
            (rustls::Error::AlertReceived(AlertDescription::Unknown(99)), "the server broke off: alert 99"),
            (
                rustls::Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon),
                "the server speaks another TLS than we: no cipher suites in common",
            ),
            (
                rustls::Error::PeerMisbehaved(PeerMisbehaved::TooManyEmptyFragments),
                "the server breaks the rules of TLS: too many empty fragments",
            ),
        ] {
            assert_eq!(reason(&error).as_deref(), Some(expected), "{error:?}");
        }
    }

    /// An error of which the text is a name, as the verifier's are.
    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Named(&'static str);

    #[test]
    fn a_certificate_is_told_with_its_names_and_its_time() {
        let told = |why| reason(&rustls::Error::InvalidCertificate(why)).expect("a reason of TLS");
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let expired = CertificateError::ExpiredContext { time: at(1_700_000_001), not_after: at(1_700_000_000) };
        assert_eq!(told(expired), "invalid peer certificate: expired at 2023-11-14T22:13:20Z");
        let early = CertificateError::NotValidYetContext { time: at(0), not_before: at(1_700_000_000) };
        assert_eq!(told(early), "invalid peer certificate: not valid yet: from 2023-11-14T22:13:20Z on");
        let of = |presented: &[&str]| {
            let presented = presented.iter().map(|name| (*name).to_owned()).collect();
            let expected = ServerName::try_from("db").expect("a name");
            let told = told(CertificateError::NotValidForNameContext { expected, presented });
            told.trim_start_matches("invalid peer certificate: not for the name of this server: for ").to_owned()
        };
        assert_eq!(of(&[]), "no name at all");
        assert_eq!(of(&["DnsName(\"a.b\")", "IpAddress(10.0.0.1)"]), "a.b, 10.0.0.1");
        assert_eq!(of(&["DnsName(\"a\")"; 7]), "a, a, a, a, a and 2 more");
    }
}
