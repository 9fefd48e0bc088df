//! What probes and hooks do: ask over HTTP, gRPC or TCP from the node, or run a command in the container.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::Request;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use super::files::Files;
use super::image::locate;
use super::network::{Network, connect};
use super::process::Run;
use super::spec::{ContainerPort, Grpc, Handler, HttpGet, PortRef};
use crate::support::raw::{Answer, Client};

/// A container, as its probes and hooks see it.
pub(super) struct Place {
    pub(super) run: Run,
    pub(super) ports: Vec<ContainerPort>,
    pub(super) files: Files,
    pub(super) network: Arc<Network>,
}

impl Place {
    /// A probe's attempt. `Err` says why it failed.
    pub(super) async fn probe(&self, handler: &Handler) -> Result<String, String> {
        match handler {
            Handler::HttpGet(get) => {
                let answer = self.get(get, "kube-probe/1.34").await?;
                match answer.status {
                    200..400 => Ok(answer.status.to_string()),
                    status => Err(format!("{status}: {}", answer.text().trim())),
                }
            }
            _ => self.act(handler).await,
        }
    }

    /// A hook. That of HTTP is done whatever the answer's status is: the kubelet looks at the connection alone.
    pub(super) async fn hook(&self, handler: &Handler) -> Result<String, String> {
        match handler {
            Handler::HttpGet(get) => {
                let answer = self.get(get, "kube-lifecycle/1.34").await?;
                Ok(format!("{}: {}", answer.status, answer.text().trim()))
            }
            _ => self.act(handler).await,
        }
    }

    async fn act(&self, handler: &Handler) -> Result<String, String> {
        match handler {
            Handler::HttpGet(_) => unreachable!("asked above"),
            Handler::TcpSocket(socket) => {
                let to = self.address(socket.host.as_deref(), &socket.port)?;
                connect(to).await.map(|_| "connected".to_owned()).map_err(|error| error.to_string())
            }
            Handler::Grpc(grpc) => self.health(grpc).await,
            Handler::Exec(exec) => {
                let here = |word: &String| self.files.rewrite(&self.network.rewrite(word));
                let run = self.run.other(locate(exec.command.iter().map(here).collect()));
                let output = run.command().output().await.map_err(|error| format!("{:?}: {error}", run.argv))?;
                let said = [output.stdout, output.stderr].concat();
                let said = format!("{}: {}", output.status, String::from_utf8_lossy(&said).trim());
                if output.status.success() { Ok(said) } else { Err(said) }
            }
            Handler::Sleep(sleep) => {
                tokio::time::sleep(std::time::Duration::from_secs(sleep.seconds)).await;
                Ok("slept".to_owned())
            }
        }
    }

    /// Where a handler asks: at the pod's address unless it says another one. A name is that of a port of the same
    /// container, and of no other.
    fn address(&self, host: Option<&str>, port: &PortRef) -> Result<SocketAddr, String> {
        let host = self.network.rewrite(host.unwrap_or("127.0.0.1"));
        let ip: IpAddr = host.parse().map_err(|_| format!("host `{host}`: not played"))?;
        let number = port.resolve(self.ports.iter()).ok_or_else(|| format!("no port {port:?} in this container"))?;
        Ok(SocketAddr::new(ip, number))
    }

    async fn get(&self, get: &HttpGet, agent: &str) -> Result<Answer, String> {
        let to = self.address(get.host.as_deref(), &get.port)?;
        let asked = async {
            let stream = connect(to).await?;
            let mut client = match get.scheme.as_deref().unwrap_or("HTTP") {
                "HTTPS" => {
                    let name = ServerName::IpAddress(to.ip().into());
                    Client::over(TlsConnector::from(unverified()).connect(name, stream).await?)
                }
                _ => Client::over(stream),
            };
            let path = format!("/{}", get.path.trim_start_matches('/'));
            let own = |name: &str| get.http_headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
            let host = own("host").map_or_else(|| to.to_string(), |field| field.value.clone());
            let mut head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
            for (name, value) in [("User-Agent", agent), ("Accept", "*/*")] {
                if own(name).is_none() {
                    head.push_str(&format!("{name}: {value}\r\n"));
                }
            }
            for field in get.http_headers.iter().filter(|field| !field.name.eq_ignore_ascii_case("host")) {
                head.push_str(&format!("{}: {}\r\n", field.name, field.value));
            }
            client.send(head + "\r\n").await?;
            // A hook may last as long as the grace period: whoever waits for it has its own limit.
            client.patiently().await
        };
        asked.await.map_err(|error: std::io::Error| error.to_string())
    }

    /// `grpc.health.v1.Health/Check`.
    async fn health(&self, grpc: &Grpc) -> Result<String, String> {
        let to = SocketAddr::new(self.network.ip.into(), grpc.port);
        let stream = connect(to).await.map_err(|error| error.to_string())?;
        let told = |error: h2::Error| error.to_string();
        let (sender, connection) = h2::client::handshake(stream).await.map_err(told)?;
        let mut driver = JoinSet::new();
        driver.spawn(async move { drop(connection.await) });
        let request = Request::post(format!("http://{to}/grpc.health.v1.Health/Check"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .unwrap();
        let (answer, mut body) = sender.ready().await.map_err(told)?.send_request(request, false).map_err(told)?;
        // Field 1, a string shorter than 128 bytes.
        let name = grpc.service.as_bytes();
        let message = if name.is_empty() { Vec::new() } else { [&[0x0a, name.len() as u8], name].concat() };
        let mut framed = BytesMut::new();
        framed.put_u8(0);
        framed.put_u32(message.len() as u32);
        framed.put_slice(&message);
        body.send_data(framed.freeze(), true).map_err(told)?;
        let mut stream = answer.await.map_err(told)?.into_body();
        let mut said = Vec::new();
        while let Some(part) = stream.data().await {
            let part: Bytes = part.map_err(told)?;
            said.extend_from_slice(&part);
        }
        // Field 1, an enum: SERVING is 1.
        if said.get(5..) == Some(&[0x08, 1]) { Ok("SERVING".to_owned()) } else { Err(format!("{said:02x?}")) }
    }
}

/// As the kubelet: an HTTPS probe does not look at the certificate.
fn unverified() -> Arc<ClientConfig> {
    tidegate::net::tls::install_provider();
    let config = ClientConfig::builder().dangerous().with_custom_certificate_verifier(Arc::new(Anything));
    Arc::new(config.with_no_client_auth())
}

#[derive(Debug)]
struct Anything;

impl ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
