//! Something in front of a server that speaks TLS for it, with a certificate that can change.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::authority::Issued;

/// It ends on drop, with its connections.
pub(crate) struct Terminator {
    pub(crate) address: SocketAddr,
    protocol: &'static str,
    shown: watch::Sender<Arc<ServerConfig>>,
    _tasks: JoinSet<()>,
}

impl Terminator {
    /// Begins to show `issued` in front of `to`, which speaks `protocol` (ALPN).
    pub(crate) async fn start(to: SocketAddr, issued: &Issued, protocol: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (shown, current) = watch::channel(config(issued, protocol));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let mut current = current.clone();
                let config = current.borrow_and_update().clone();
                connections.spawn(async move {
                    let passed = async {
                        let mut here = TlsAcceptor::from(config).accept(stream).await?;
                        let mut there = TcpStream::connect(to).await?;
                        tokio::io::copy_bidirectional(&mut here, &mut there).await
                    };
                    tokio::select! {
                        _ = passed => {}
                        _ = current.changed() => {}
                    }
                });
            }
        });
        Self { address, protocol, shown, _tasks: tasks }
    }

    /// Shows another certificate from now on; open connections are closed.
    pub(crate) fn show(&self, issued: &Issued) {
        self.shown.send_replace(config(issued, self.protocol));
    }
}

fn config(issued: &Issued, protocol: &str) -> Arc<ServerConfig> {
    tidegate::net::tls::install_provider();
    let chain = CertificateDer::pem_file_iter(&issued.certificate).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(&issued.key).unwrap();
    let mut config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    Arc::new(config)
}
