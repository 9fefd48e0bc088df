//! Flags resolved over gRPC, against tonic decoding the same request and answering a constant; and over Connect.

use std::net::SocketAddr;

use anyhow::{Context, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::TcpStream;

use crate::child::Running;
use crate::contender;
use crate::flags;
use crate::lab::{Ask, Calls, Cores, Lab};
use crate::messages;
use crate::report::{Row, Target};
use crate::series::Series;
use crate::service::{self, Answered, Asked};
use crate::tidegate::Setup;

/// As many calls under way as there are connections in the other measures.
const CONNECTIONS: usize = 4;
const STREAMS: usize = 8;

/// Of a resolution without a sidecar to ask.
const ANSWER_BYTES: usize = 64;

/// One service, and the method it is asked by.
struct Called<'a> {
    name: &'static str,
    running: &'a Running,
    address: SocketAddr,
    method: &'static str,
    figures: Answered,
}

pub(super) fn run(lab: &Lab) -> anyhow::Result<Vec<Row>> {
    let origin = contender::origin(lab, Cores::One)?;
    let flags_file = Some(flags::file(&lab.scratch("flags")?, &flags::all())?);
    let sidecar = Setup { flags_file, ..Setup::new(Cores::One, 1, origin.address) }.start(lab)?;
    let bytes = sidecar.as_ref().map_or(Ok(ANSWER_BYTES), |sidecar| answer_bytes(sidecar.local))?.to_string();
    let tonic = contender::baseline(lab, Cores::One, "tonic", "grpc", &["--answer-bytes", &bytes])?;
    let frames = contender::baseline(lab, Cores::One, "frames", "frames", &["--answer-bytes", &bytes])?;

    let called =
        |name, running, address, method| Called { name, running, address, method, figures: Answered::default() };
    let mut services = vec![
        called("tonic", &tonic.running, tonic.address, messages::V2),
        called("h2 hello", &frames.running, frames.address, messages::V2),
    ];
    if let Some(sidecar) = &sidecar {
        services.push(called("tidegate", &sidecar.running, sidecar.local, messages::V2));
        services.push(called("tidegate, v1", &sidecar.running, sidecar.local, messages::V1));
    }
    let mut failed = 0;
    for service in &mut services {
        service.measure(lab, lab.requests.min(2000))?;
        service.figures = Answered::default();
    }
    for round in lab.rounds() {
        for turn in 0..services.len() {
            let at = (round + turn) % services.len();
            failed += services[at].measure(lab, lab.requests)?;
        }
    }
    let row = |unit, target, pick: fn(&Answered) -> &Series| {
        let own =
            services.iter().find(|service| service.name == "tidegate").map(|service| pick(&service.figures).clone());
        let peers = services.iter().filter(|service| service.name != "tidegate");
        let peers = peers.map(|service| (service.name.to_owned(), pick(&service.figures).clone())).collect();
        Row { what: "gRPC ResolveBoolean".to_owned(), unit, tidegate: own, peers, target, failed }
    };
    let mut rows = vec![
        row("requests per CPU second", Target::AtLeast(0.85, "tonic"), |figures| &figures.per_cpu),
        row("µs of CPU", Target::Context, |figures| &figures.cpu),
    ];
    if let Some(sidecar) = &sidecar {
        rows.push(connect(lab, &sidecar.running, sidecar.local)?);
    }
    Ok(rows)
}

impl Called<'_> {
    /// The number of calls that failed.
    fn measure(&mut self, lab: &Lab, requests: u64) -> anyhow::Result<u64> {
        let calls = Calls {
            connections: CONNECTIONS,
            streams: STREAMS,
            requests,
            method: self.method,
            key: flags::ASKED,
            body: flags::CONTEXT,
        };
        let measured = lab.measure_calls(self.running, self.address, calls)?;
        self.figures.push(&measured);
        Ok(measured.report.failed)
    }
}

/// The same in JSON over HTTP/1.1, as browsers and `curl` ask.
fn connect(lab: &Lab, running: &Running, address: SocketAddr) -> anyhow::Result<Row> {
    let parse = contender::baseline(lab, Cores::One, "parse", "parse", &[])?;
    let mut body: serde_json::Value = serde_json::from_str(flags::CONTEXT)?;
    body["flagKey"] = flags::ASKED.into();
    let body = body.to_string();
    let ask = Ask::post(messages::V1, &body);
    let services = [
        Asked { name: "parse", running: &parse.running, address: parse.address, ask },
        Asked { name: "tidegate", running, address, ask },
    ];
    let (answered, failed) = service::compare(lab, &services, lab.requests)?;
    let (tidegate, peers) = service::split(&services, &answered, |figures| &figures.cpu);
    let what = "Connect ResolveBoolean, JSON over HTTP/1.1".to_owned();
    Ok(Row { what, unit: "µs of CPU", tidegate, peers, target: Target::Beside("parse"), failed })
}

/// How long the message of the sidecar's answer is.
fn answer_bytes(address: SocketAddr) -> anyhow::Result<usize> {
    let question = messages::question(flags::ASKED, flags::CONTEXT)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let asked = async {
        let stream = TcpStream::connect(address).await?;
        let (mut sender, connection) =
            http2::Builder::new(TokioExecutor::new()).handshake(TokioIo::new(stream)).await?;
        let request = http::Request::post(format!("http://{address}{}", messages::V2))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Full::new(Bytes::from(question)))?;
        let answered = async {
            let response = sender.send_request(request).await?;
            ensure!(response.status() == 200, "gRPC is answered with {}", response.status());
            let whole = response.into_body().collect().await?;
            let trailers = whole.trailers().cloned();
            Ok(messages::read(&whole.to_bytes()).with_context(|| format!("trailers {trailers:?}"))?.encoded_len())
        };
        tokio::select! {
            length = answered => length,
            ended = connection => Err(anyhow::anyhow!("the connection ended: {ended:?}")),
        }
    };
    runtime.block_on(async { tokio::time::timeout(std::time::Duration::from_secs(5), asked).await })?
}
