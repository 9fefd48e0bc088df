//! TLS towards clients: what a handshake costs, what bytes cost, and what a connection at rest holds.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread::sleep;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::memory::SETTLE;
use super::proxy::Field;
use crate::child::Running;
use crate::contender::{self, Certificate, Face};
use crate::lab::{Ask, Cores, Lab, Load, Over};
use crate::report::{Row, Target};
use crate::series::Series;
use crate::tidegate::Setup;
use crate::{usage, wire};

const CONNECTIONS: usize = 1000;

fn field(lab: &Lab, files: &Certificate) -> anyhow::Result<Field> {
    let origin = contender::origin(lab, Cores::One)?;
    let at = origin.address;
    let peers = vec![
        contender::nginx_with(lab, Cores::One, 1, at, Face::Tls(files))?,
        contender::haproxy_with(lab, Cores::One, 1, at, Face::Tls(files))?,
    ];
    let (chain, key) = (files.chain.display(), files.key.display());
    let listener = vec![format!("tls: {{ certificates: [{{ chain: {chain}, key: {key} }}] }}")];
    let sidecar = Setup { listener, ..Setup::new(Cores::One, 1, at) }.start(lab)?;
    Ok(Field { origin, peers, sidecar })
}

/// Full handshakes with a request each, requests over connections that stay, and answers of 1 MB.
pub(super) fn run(lab: &Lab) -> anyhow::Result<Vec<Row>> {
    let files = Certificate::new(lab)?;
    let field = field(lab, &files)?;
    let mut rows = Vec::new();
    for (what, target, load) in [
        (
            "TLS, CPU per full handshake (ECDSA P-256) with a request",
            Target::AtMost(1.0, "nginx"),
            Load {
                over: Over::FreshTls(&files.authority),
                ..Load::closed(16, lab.requests / 5, Ask::get("/"), Cores::One)
            },
        ),
        (
            "TLS, CPU per request, 1 KB, 32 connections",
            Target::AtMost(1.0, "nginx"),
            Load { over: Over::Tls(&files.authority), ..Load::closed(32, lab.requests, Ask::get("/"), Cores::One) },
        ),
        (
            "TLS, CPU per answer of 1 MB",
            Target::AtMost(1.0, "nginx"),
            Load {
                over: Over::Tls(&files.authority),
                ..Load::closed(8, lab.requests / 40, Ask::get("/large"), Cores::One)
            },
        ),
    ] {
        let (figures, failed) = field.proxies(lab.rounds(), |running, address| lab.measure(running, address, load))?;
        rows.push(field.row((what, "µs"), target, failed, &figures, |f| f.cpu.clone()));
    }
    let mut peers = Vec::new();
    for peer in &field.peers {
        peers.push((peer.name.clone(), at_rest(&peer.running, peer.address, &files)?));
    }
    let tidegate = match &field.sidecar {
        Some(sidecar) => Some(at_rest(&sidecar.running, sidecar.proxy, &files)?),
        None => None,
    };
    rows.push(Row {
        what: "memory, open TLS connection that had a request".to_owned(),
        unit: "KiB",
        tidegate,
        peers,
        target: Target::Beside("haproxy"),
        failed: 0,
    });
    Ok(rows)
}

/// What each of many connections adds, after one request and at rest.
fn at_rest(running: &Running, address: SocketAddr, files: &Certificate) -> anyhow::Result<Series> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&files.authority)?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let config = Arc::new(builder.with_root_certificates(roots).with_no_client_auth());
    let before = usage::resident(&running.pids()?)?;
    let request = wire::request(address, "/", None, None);
    let mut open: Vec<StreamOwned<ClientConnection, TcpStream>> = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        let session = ClientConnection::new(config.clone(), ServerName::try_from("localhost")?)?;
        let mut stream = StreamOwned::new(session, wire::connect(address)?);
        wire::ask(&mut stream, &request)?;
        open.push(stream);
    }
    sleep(SETTLE);
    let after = usage::resident(&running.pids()?)?;
    drop(open);
    let mut series = Series::default();
    series.push(after.saturating_sub(before) as f64 / CONNECTIONS as f64);
    Ok(series)
}
