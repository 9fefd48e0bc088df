//! Clients of TLS listeners: one of the test's own, curl and `openssl s_client`.

use std::io;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::authority::{Authority, Issued};
use super::raw::Client;

/// What a client of TLS is made with; clones share the tickets they were given.
#[derive(Clone)]
pub(crate) struct Tls(Arc<ClientConfig>);

impl Tls {
    /// One that believes `authority`, shows `identity` if it is asked, and offers `protocols`.
    pub(crate) fn new(authority: &Authority, identity: Option<&Issued>, protocols: &[&str]) -> Self {
        tidegate::net::tls::install_provider();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(authority.certificate()).unwrap()).unwrap();
        let builder = ClientConfig::builder().with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(issued) => {
                let chain = CertificateDer::pem_file_iter(&issued.certificate).unwrap().map(Result::unwrap).collect();
                let key = PrivateKeyDer::from_pem_file(&issued.key).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Self(Arc::new(config))
    }

    /// Connects and shakes hands, asking for `name`.
    pub(crate) async fn stream(&self, address: SocketAddr, name: &str) -> io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        self.over(stream, name).await
    }

    /// Shakes hands over a connection that is there.
    pub(crate) async fn over(&self, stream: TcpStream, name: &str) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        TlsConnector::from(self.0.clone()).connect(name, stream).await
    }

    /// A client that has shaken hands with `localhost`.
    pub(crate) async fn client(&self, address: SocketAddr) -> io::Result<Client> {
        self.stream(address, "localhost").await.map(Client::over)
    }
}

/// The first certificate that a server showed.
pub(crate) fn shown(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

/// The certificate in a file.
pub(crate) fn certificate(path: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(path).unwrap()
}

/// What curl gets from `https://localhost` at `address`: its exit code and standard output.
pub(crate) async fn curl(address: SocketAddr, path: &str, arguments: &[&str]) -> (i32, String) {
    let port = address.port();
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "30", "--resolve"])
        .arg(format!("localhost:{port}:{}", address.ip()))
        .args(arguments)
        .arg(format!("https://localhost:{port}{path}"))
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap_or_else(|e| panic!("curl: {e}; install it with: apt-get install -y curl"));
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What `openssl s_client` tells of a handshake with `address`: whether it worked, and its output.
pub(crate) async fn s_client(address: SocketAddr, arguments: &[&str]) -> (bool, String) {
    let output = Command::new("openssl")
        .args(["s_client", "-connect", &address.to_string()])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap_or_else(|e| panic!("openssl: {e}; install it with: apt-get install -y openssl"));
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}
