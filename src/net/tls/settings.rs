//! What a listener that speaks TLS is told: files, and whom it asks for a certificate.

use std::path::PathBuf;

/// A listener's TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `tls.certificates`: at least one; the first is shown to clients that name nobody we know.
    pub certificates: Vec<Pair>,
    /// `tls.client_ca`: the authorities (PEM) of clients' certificates.
    pub client_ca: Option<PathBuf>,
    /// `tls.client_auth`.
    pub client_auth: ClientAuth,
}

/// A certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// `tls.certificates[].chain`: the server's certificate and those between it and its authority, in PEM.
    pub chain: PathBuf,
    /// `tls.certificates[].key`: its private key, in PEM.
    pub key: PathBuf,
}

/// Whether clients are asked for a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientAuth {
    /// They are not.
    #[default]
    None,
    /// They are; one without is served all the same, one with a wrong one is not.
    Request,
    /// They are; one without is not served.
    Require,
}
