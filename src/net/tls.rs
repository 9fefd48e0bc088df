//! TLS towards databases and Redis: which authorities are trusted.

use std::sync::Arc;

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
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    let (added, _) = roots.add_parsable_certificates(native.certs);
    if added == 0 {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}
