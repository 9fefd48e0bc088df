//! The load: a closed loop of keep-alive connections that sends a fixed number of requests and reports what it saw.
//!
//! Written on the socket rather than on an HTTP client, because it shares two cores with what it measures.

use std::cell::Cell;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use hdrhistogram::Histogram;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::LocalSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use crate::wire::{self, Answer};

/// What to send where.
#[derive(clap::Args, Clone)]
pub(super) struct LoadArgs {
    /// Where to connect.
    #[arg(long)]
    address: SocketAddr,
    /// Connections, each with one request under way at a time.
    #[arg(long)]
    connections: usize,
    /// Requests over all connections.
    #[arg(long)]
    requests: u64,
    /// Path and query.
    #[arg(long, default_value = "/")]
    path: String,
    /// A JSON body, which makes the request a POST.
    #[arg(long)]
    body: Option<String>,
    /// The entity tag of an answer that the client has.
    #[arg(long)]
    if_none_match: Option<String>,
    /// What every answer must be.
    #[arg(long, default_value_t = 200)]
    status: u16,
    /// How long a connection rests after an answer.
    #[arg(long, default_value_t = 0)]
    rest_us: u64,
    /// Speaks TLS and believes this authority; every handshake is a full one.
    #[arg(long)]
    ca: Option<PathBuf>,
    /// A connection for each request.
    #[arg(long)]
    fresh: bool,
    /// Gives up after this many seconds; requests that were not sent by then count as failed.
    #[arg(long, default_value_t = 60)]
    limit_secs: u64,
}

/// What a load saw, latencies in microseconds.
#[derive(Serialize, Deserialize, Debug)]
pub(crate) struct LoadReport {
    pub(crate) requests: u64,
    /// Answers of another status, broken connections, requests not sent in time.
    pub(crate) failed: u64,
    pub(crate) seconds: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) longest: f64,
}

impl LoadReport {
    /// `latencies` in nanoseconds.
    pub(super) fn new(requests: u64, failed: u64, took: Duration, latencies: &Histogram<u64>) -> Self {
        let quantile = |share| latencies.value_at_quantile(share) as f64 / 1e3;
        LoadReport {
            requests,
            failed,
            seconds: took.as_secs_f64(),
            p50: quantile(0.5),
            p99: quantile(0.99),
            p999: quantile(0.999),
            longest: latencies.max() as f64 / 1e3,
        }
    }
}

/// None yet; in nanoseconds, up to a minute.
pub(super) fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("the bounds are legal")
}

/// Loops on one thread, all of whose connections draw from the same budget of requests.
pub(super) fn run(args: &LoadArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = LocalSet::new().block_on(&runtime, load(args))?;
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

async fn load(args: &LoadArgs) -> anyhow::Result<LoadReport> {
    let request = wire::request(args.address, &args.path, args.body.as_deref(), args.if_none_match.as_deref());
    let budget = Cell::new(args.requests);
    let mut latencies = latencies();
    let door = &Door::new(args)?;
    let mut connected = Vec::with_capacity(args.connections);
    for _ in 0..args.connections {
        connected.push(door.connect().await?);
    }
    let begun = Instant::now();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(args.limit_secs);
    let loops = connected.into_iter().map(|stream| {
        let (request, budget) = (&request, &budget);
        async move {
            let mut seen = self::latencies();
            let mut failed = 0;
            let ended = tokio::time::timeout_at(
                deadline,
                one_loop(args, (door, stream), request, budget, &mut seen, &mut failed),
            );
            let cut = ended.await.is_err();
            (seen, failed + u64::from(cut))
        }
    });
    let mut failed = 0;
    for (seen, failures) in futures_util::future::join_all(loops).await {
        latencies.add(seen)?;
        failed += failures;
    }
    Ok(LoadReport::new(args.requests, failed + budget.get(), begun.elapsed(), &latencies))
}

/// One connection's share; a broken connection is a failed request and is opened anew.
async fn one_loop(
    args: &LoadArgs,
    (door, mut stream): (&Door, Stream),
    request: &[u8],
    budget: &Cell<u64>,
    seen: &mut Histogram<u64>,
    failed: &mut u64,
) {
    let mut buffer = Vec::with_capacity(16 * 1024);
    while budget.get() > 0 {
        budget.set(budget.get() - 1);
        let begun = Instant::now();
        match exchange(&mut stream, request, &mut buffer).await {
            Ok(answer) => {
                seen.saturating_record(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX));
                *failed += u64::from(answer.status != args.status);
                if args.rest_us > 0 {
                    tokio::time::sleep(Duration::from_micros(args.rest_us)).await;
                }
                if !answer.closes && !args.fresh {
                    continue;
                }
            }
            Err(_) => *failed += 1,
        }
        if budget.get() == 0 {
            return;
        }
        match door.connect().await {
            Ok(fresh) => stream = fresh,
            Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
}

type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// How connections are made.
struct Door {
    address: SocketAddr,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Door {
    fn new(args: &LoadArgs) -> anyhow::Result<Self> {
        let tls = args.ca.as_ref().map(|file| {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_file(file)?)?;
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
            let mut config = builder.with_root_certificates(roots).with_no_client_auth();
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            config.resumption = Resumption::disabled();
            anyhow::Ok((TlsConnector::from(Arc::new(config)), ServerName::try_from("localhost")?))
        });
        Ok(Door { address: args.address, tls: tls.transpose()? })
    }

    async fn connect(&self) -> anyhow::Result<Stream> {
        let address = self.address;
        let stream = TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        match &self.tls {
            None => Ok(Either::Left(stream)),
            Some((connector, name)) => {
                Ok(Either::Right(Box::new(connector.connect(name.clone(), stream).await.context("no handshake")?)))
            }
        }
    }
}

async fn exchange(stream: &mut Stream, request: &[u8], buffer: &mut Vec<u8>) -> anyhow::Result<Answer> {
    stream.write_all(request).await?;
    stream.flush().await?;
    buffer.clear();
    loop {
        if stream.read_buf(buffer).await? == 0 {
            bail!("closed before the answer was complete");
        }
        if let Some(answer) = wire::parse(buffer)? {
            return Ok(answer);
        }
    }
}
