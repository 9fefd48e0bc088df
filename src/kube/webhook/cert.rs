//! Certificates of the webhook's own: an authority that is forgotten once it has signed one server's certificate, so that
//! no key that could sign another is kept anywhere. Pure but for chance: no socket, no file, the time is an argument.

pub mod apply;
pub mod cluster;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;

use crate::net::tls::certificate;
use crate::secret::Secret;

/// Clocks differ: what is signed now is valid since then.
const SKEW: Duration = Duration::from_secs(300);
/// Authorities in a bundle: that of the certificate in force, and those of certificates that some replica may still show.
const AUTHORITIES: usize = 3;

/// A certificate, its key, and whom clients must believe to believe it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// PEM.
    pub chain: String,
    /// PEM.
    pub key: Secret,
    /// PEM: the authority that signed the chain, and those before it whose certificates may still be shown.
    pub authorities: String,
}

/// What to do with a certificate that is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// It is good until then.
    Good(SystemTime),
    /// A new one is due, and why.
    Due(String),
}

/// The names that API servers ask a Service by; the first is the one that they verify.
pub fn names(service: &str, namespace: &str) -> Vec<String> {
    [
        format!("{service}.{namespace}.svc"),
        format!("{service}.{namespace}.svc.cluster.local"),
        format!("{service}.{namespace}"),
    ]
    .into()
}

/// A new authority and a certificate of it, valid for `life` from `now` on; clients may believe those of `earlier` (PEM) too.
///
/// # Errors
/// A name that no certificate can have.
pub fn issue(names: &[String], now: SystemTime, life: Duration, earlier: &str) -> Result<Held, rcgen::Error> {
    let valid = |params: &mut CertificateParams| {
        params.not_before = (now - SKEW).into();
        params.not_after = (now + life).into();
    };
    let mut authority = CertificateParams::default();
    valid(&mut authority);
    let subject = format!("tidegate webhook authority {}", humantime::format_rfc3339_seconds(now));
    authority.distinguished_name = rcgen::DistinguishedName::new();
    authority.distinguished_name.push(DnType::CommonName, subject);
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let authority_key = KeyPair::generate()?;
    let signed = authority.self_signed(&authority_key)?;
    let issuer = Issuer::new(authority, authority_key);

    let mut server = CertificateParams::new(names.to_vec())?;
    valid(&mut server);
    server.distinguished_name = rcgen::DistinguishedName::new();
    server.distinguished_name.push(DnType::CommonName, "tidegate webhook");
    server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    server.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let chain = server.signed_by(&key, &issuer)?;
    Ok(Held {
        chain: pem("CERTIFICATE", chain.der()),
        key: Secret::new(pem("PRIVATE KEY", &key.serialize_der())),
        authorities: bundle(&[pem("CERTIFICATE", signed.der())], earlier, now),
    })
}

/// Whether a certificate can go on, or a new one is due: when a third of its life is left, or when it would not be believed.
pub fn judge(held: &Held, names: &[String], now: SystemTime) -> Judgement {
    let due = |why: String| Judgement::Due(why);
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(held.chain.as_bytes()).filter_map(Result::ok).collect();
    let Some((first, others)) = chain.split_first() else { return due("there is no certificate".to_owned()) };
    let Ok(validity) = certificate::validity(first) else { return due("it is not a certificate".to_owned()) };
    let left = validity.to.duration_since(now).unwrap_or_default();
    if left * 3 < validity.to.duration_since(validity.from).unwrap_or_default() {
        return due(format!("it expires at {}", humantime::format_rfc3339_seconds(validity.to)));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let Ok(key) = PrivateKeyDer::from_pem_slice(held.key.expose().as_bytes()) else {
        return due("there is no key".to_owned());
    };
    if CertifiedKey::from_der(chain.clone(), key, &provider).is_err() {
        return due("the key is not the certificate's".to_owned());
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(held.authorities.as_bytes()).filter_map(Result::ok));
    let Ok(verifier) = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build() else {
        return due("there is no authority".to_owned());
    };
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    for name in names {
        let believed = ServerName::try_from(name.as_str()).map(|name| {
            let at = UnixTime::since_unix_epoch(since);
            rustls::client::danger::ServerCertVerifier::verify_server_cert(&*verifier, first, others, &name, &[], at)
        });
        match believed {
            Ok(Ok(_)) => {}
            Ok(Err(why)) => return due(format!("{name} would not be believed: {why}")),
            Err(_) => return due(format!("{name} is no name")),
        }
    }
    Judgement::Good(validity.to)
}

/// Those that must be believed, and of `others` (PEM) those that are still valid and find room.
pub fn bundle(first: &[String], others: &str, now: SystemTime) -> String {
    let mut all = first.to_vec();
    for authority in CertificateDer::pem_slice_iter(others.as_bytes()).filter_map(Result::ok) {
        let valid = certificate::validity(&authority).is_ok_and(|validity| validity.to > now);
        let text = pem("CERTIFICATE", &authority);
        if valid && !all.contains(&text) && all.len() < AUTHORITIES {
            all.push(text);
        }
    }
    all.concat()
}

/// The certificates of a text, each as PEM of its own.
pub fn each(text: &str) -> Vec<String> {
    let all = CertificateDer::pem_slice_iter(text.as_bytes()).filter_map(Result::ok);
    all.map(|certificate| pem("CERTIFICATE", &certificate)).collect()
}

/// RFC 7468.
fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        out.extend(line.iter().map(|byte| char::from(*byte)));
        out.push('\n');
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn a_certificate_is_good_for_two_thirds_of_its_life() {
        let (now, names) = (SystemTime::now(), names("tidegate-webhook", "tidegate"));
        let held = issue(&names, now, 90 * DAY, "").expect("plain names");
        assert!(matches!(judge(&held, &names, now), Judgement::Good(to) if to > now + 89 * DAY));
        assert!(matches!(judge(&held, &names, now + 59 * DAY), Judgement::Good(_)));
        assert!(
            matches!(judge(&held, &names, now + 61 * DAY), Judgement::Due(why) if why.starts_with("it expires at "))
        );
        assert!(matches!(judge(&held, &names, now + 91 * DAY), Judgement::Due(_)));
    }

    #[test]
    fn what_would_not_be_believed_is_due() {
        let (now, of_ours) = (SystemTime::now(), names("webhook", "ours"));
        let held = issue(&of_ours, now, 90 * DAY, "").expect("plain names");
        let other = issue(&of_ours, now, 90 * DAY, "").expect("plain names");
        let check = |held: &Held, names: &[String], part: &str| match judge(held, names, now) {
            Judgement::Due(why) => assert!(why.contains(part), "{why}"),
            good => panic!("{good:?}, not {part}"),
        };
        check(&held, &names("webhook", "theirs"), "webhook.theirs.svc would not be believed");
        check(&Held { key: other.key.clone(), ..held.clone() }, &of_ours, "the key is not");
        check(&Held { authorities: other.authorities.clone(), ..held.clone() }, &of_ours, "would not be believed");
        check(&Held { authorities: String::new(), ..held.clone() }, &of_ours, "no authority");
        check(&Held { chain: "x".to_owned(), ..held.clone() }, &of_ours, "no certificate");
        check(&Held { key: Secret::new("x"), ..held }, &of_ours, "no key");
        assert!(issue(&["é".to_owned()], now, DAY, "").is_err());
    }

    #[test]
    fn those_who_believed_the_certificate_before_go_on() {
        let (now, names) = (SystemTime::now(), names("w", "n"));
        let mut held = issue(&names, now, 90 * DAY, "").expect("plain names");
        for round in 1..6 {
            let next = issue(&names, now + round * DAY, 90 * DAY, &held.authorities).expect("plain names");
            let both = Held { authorities: next.authorities.clone(), ..held };
            assert!(matches!(judge(&both, &names, now + round * DAY), Judgement::Good(_)));
            assert!(matches!(judge(&next, &names, now + round * DAY), Judgement::Good(_)));
            held = next;
        }
        assert_eq!(held.authorities.matches("BEGIN").count(), AUTHORITIES);
        let much_later = issue(&names, now + 400 * DAY, 90 * DAY, &held.authorities).expect("plain names");
        assert_eq!(much_later.authorities.matches("BEGIN").count(), 1, "those that are over are left out");
    }
}
