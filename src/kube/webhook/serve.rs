//! Binds the webhook's listeners, runs them, and stops them without losing a review.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use ring::rand::SystemRandom;
use tokio::sync::Semaphore;

use super::api::{Api, Parts, ROOM};
use super::metrics::Metrics;
use super::review::OnRefusal;
use crate::kube::inject::Options;
use crate::lifecycle::drain;
use crate::lifecycle::driver;
use crate::lifecycle::leases::Leases;
use crate::lifecycle::ledger::Ledger;
use crate::lifecycle::machine::{Event, Outcome};
use crate::lifecycle::signals::Signals;
use crate::lifecycle::tasks::{OnEnd, Tasks};
use crate::lifecycle::threads::{self, Pulse};
use crate::net::edge::{self, Edge};
use crate::net::listen::{Acceptor, bind_tcp};
use crate::net::server::Server;
use crate::net::tls::server::said;
use crate::net::tls::settings::Settings as Tls;
use crate::telemetry;

/// After the delay, an answer under way has this long.
const FINISH: Duration = Duration::from_secs(10);
/// API servers ask webhooks by HTTP/1.1 alone, so that calls spread over replicas (kubernetes/kubernetes#75791).
const PROTOCOLS: &[&[u8]] = &[b"http/1.1"];

/// What the webhook is told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where API servers ask, over TLS.
    pub listen: SocketAddr,
    /// Where probes and Prometheus ask, without TLS.
    pub ops: Option<SocketAddr>,
    /// Certificate, key, and whom clients must be vouched for by.
    pub tls: Tls,
    /// How pods are injected that say nothing themselves.
    pub options: Options,
    /// What becomes of those that cannot be.
    pub on_refusal: OnRefusal,
    /// After SIGTERM, how long reviews are answered as ever, while endpoints are taken out elsewhere.
    pub delay: Duration,
}

/// Serves until it has been stopped. An error is one of the start; nothing was served.
///
/// # Errors
/// A file of TLS is wrong, an address is taken, or the machine has no event loop to give.
pub fn serve(settings: Settings) -> anyhow::Result<Outcome> {
    let runtime = threads::runtime().context("the event loop cannot be made")?;
    let outcome = runtime.block_on(run(settings));
    runtime.shutdown_background();
    outcome
}

async fn run(settings: Settings) -> anyhow::Result<Outcome> {
    let signals = Signals::catch().context("signals cannot be caught")?;
    let tasks = Tasks::new();
    let mut registry = telemetry::metrics::registry();
    let edge = edge::Settings { tls: Some(settings.tls), ..edge::Settings::default() };
    let edge = Edge::open("webhook", &edge, PROTOCOLS, &edge::Metrics::register(&mut registry))
        .map_err(|faults| anyhow!("{}", said(&faults)))?;
    let tls = edge.tls().cloned().context("the listener has no TLS")?;
    let listener = Acceptor::tcp(bind_tcp(settings.listen)?, "webhook")?;
    let ops = settings.ops.map(|address| anyhow::Ok(Acceptor::tcp(bind_tcp(address)?, "ops")?)).transpose()?;

    let ledger = Arc::new(Ledger::new(1));
    let leases = Arc::new(Leases::new(ledger.shard(0)));
    let drain = drain::Settings {
        delay: settings.delay,
        deadline: settings.delay + FINISH,
        restart_after: None,
        ..drain::Settings::default()
    };
    let (lifecycle, mut driver) = driver::new(drain, ledger.clone(), leases);
    let pulse = Pulse::new(["webhook".to_owned()]);
    tasks.spawn("pulse", OnEnd::MustLive, pulse.clone().beat("webhook".to_owned()));
    tasks.spawn("certificates", OnEnd::MustLive, tls.clone().follow());
    let api = Api::new(Parts {
        options: settings.options,
        on_refusal: settings.on_refusal,
        lifecycle: lifecycle.clone(),
        ledger: ledger.shard(0),
        pulse,
        tls,
        metrics: Metrics::register(&mut registry),
        registry,
        random: SystemRandom::new(),
        room: Arc::new(Semaphore::new(ROOM)),
    });
    let server = Server::new(&tasks, lifecycle.watch());
    let address = listener.address()?;
    let probes = ops.as_ref().map(Acceptor::address).transpose()?;
    let mutate = api.clone();
    server.behind(edge, listener, move |_, request| mutate.clone().handle(request));
    if let Some(acceptor) = ops {
        server.tcp(acceptor, move |_, request| std::future::ready(api.ops(request.method(), request.uri().path())));
    }
    tasks.spawn("signals", OnEnd::MustLive, signals.run(lifecycle.clone()));
    lifecycle.send(Event::Started).await;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), webhook = %address, ops = probes.map(tracing::field::display), "listening");
    let outcome = driver.run().await;
    tracing::info!(outcome = outcome.as_str(), "stopped");
    tasks.cancel();
    Ok(outcome)
}
