//! TLS. Here: towards databases and Redis, and which authorities are trusted. Below: [`server`], the listeners' side.

pub mod certificate;
pub mod client;
mod lenient;
pub mod material;
pub mod metrics;
mod names;
pub mod server;
pub mod settings;

use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// Makes ring the process's one cryptography provider. Call once, before any TLS; a second call changes nothing.
pub fn install_provider() {
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        tracing::debug!("a TLS provider was installed already");
    }
}

/// A client that trusts the system's certificates (`SSL_CERT_FILE` and `SSL_CERT_DIR` honoured) and, where there are
/// none (a scratch image), Mozilla's list.
pub fn client_config() -> Arc<ClientConfig> {
    Arc::new(ClientConfig::builder().with_root_certificates(system_roots()).with_no_client_auth())
}

fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    let (added, _) = roots.add_parsable_certificates(native.certs);
    if added == 0 {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}

/// A client that trusts the authorities in `roots` (PEM), or with `None` those of [`client_config`], and shows `identity`
/// (certificate chain and key, PEM) to a server that asks.
///
/// # Errors
/// Why the files are not what they should be; their content is not told.
pub fn client_config_from(
    roots: Option<&[u8]>,
    identity: Option<(&[u8], &[u8])>,
) -> Result<Arc<ClientConfig>, rustls::Error> {
    let wrong = |what: &str, why: &dyn std::fmt::Display| rustls::Error::General(format!("{what}: {why}"));
    if roots.is_none() && identity.is_none() {
        return Ok(client_config());
    }
    let store = match roots {
        None => system_roots(),
        Some(pem) => {
            let mut store = RootCertStore::empty();
            for certificate in CertificateDer::pem_slice_iter(pem) {
                store.add(certificate.map_err(|e| wrong("the authorities' file", &e))?)?;
            }
            if store.is_empty() {
                return Err(wrong("the authorities' file", &"no certificate in it"));
            }
            store
        }
    };
    let builder = ClientConfig::builder().with_root_certificates(store);
    let Some((chain, key)) = identity else { return Ok(Arc::new(builder.with_no_client_auth())) };
    let chain = CertificateDer::pem_slice_iter(chain).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|e| wrong("the client certificate's file", &e))?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| wrong("the client key's file", &e))?;
    builder.with_client_auth_cert(chain, key).map(Arc::new)
}
