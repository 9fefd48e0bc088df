//! Binds, wires, runs and stops everything; the only file that sees every module.
//!
//! Event loops, one thread each: `control` (this thread: phases, checks, flag sources, the ops listener), `local`
//! (the app's flag evaluations, which may be many and must not keep a probe waiting) and one for each proxy worker.

mod edges;
mod flag_headers;
pub mod fleet;
mod telling;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use http::{Request, Response};
use tokio::net::TcpListener;
use tokio::sync::watch;

use self::edges::Edges;
use self::fleet::{Fleet, Subject};
use self::telling::Telling;
use crate::config::Settings;
use crate::flags;
use crate::flags::executor::Executor;
use crate::flags::sources::Sources;
use crate::flags::store::Store;
use crate::lifecycle::descriptors;
use crate::lifecycle::driver::{self, Lifecycle};
use crate::lifecycle::leases::Leases;
use crate::lifecycle::ledger::Ledger;
use crate::lifecycle::machine::{Event, Outcome, Phase};
use crate::lifecycle::signals::Signals;
use crate::lifecycle::tasks::{OnEnd, Tasks};
use crate::lifecycle::threads::{self, Pulse};
use crate::lifecycle::{self, drain};
use crate::local::control::{self, Control};
use crate::local::cors::{Asked, Cors};
use crate::local::{self, flagd, settings::Socket};
use crate::net::edge::Edge;
use crate::net::inbound::Inbound;
use crate::net::listen::{Acceptor, BindError, bind_tcp, bind_unix};
use crate::net::outbound::Outbound;
use crate::net::server::{Peer, Server};
use crate::ops;
use crate::proxy::gate::{Gates, Reason, restart};
use crate::proxy::worker::Proxy;
use crate::readiness::settings::Class;
use crate::readiness::verdict::Standing;
use crate::readiness::{self, Board, Condition};
use crate::telemetry;

/// How often the flags' staleness is compared with `flags.max_stale`: it grows without an event.
const STALENESS: Duration = Duration::from_secs(1);

/// Runs the sidecar until it has stopped, and returns how. An error is one of the start; nothing was served.
pub fn run(settings: Settings) -> anyhow::Result<Outcome> {
    let runtime = threads::runtime().context("the event loop cannot be made")?;
    let outcome = runtime.block_on(serve(settings));
    // Dropping it would wait for every name lookup and file read that was queued.
    runtime.shutdown_background();
    outcome
}

async fn serve(settings: Settings) -> anyhow::Result<Outcome> {
    let began = Instant::now();
    let signals = Signals::catch().context("signals cannot be caught")?;
    let tasks = Tasks::new();

    // Everything that can be refused, before anything is served.
    let workers = settings.proxy.workers;
    let mut limited = settings.proxy.clone();
    limited.limits.connections = descriptors::connections(descriptors::raise_limit(), limited.limits.connections);
    let mut registry = telemetry::metrics::registry();
    let edges = Edges::open(&settings, &mut registry)?;
    let proxy = Proxy::bind(limited, edges.proxy.clone())?;
    let ops = settings.ops.listen.iter().map(|address| bind_tcp(*address)).collect::<Result<Vec<_>, _>>()?;
    let local = Local::bind(&settings.local)?;
    let socket_is_ours = local.unix.is_some();
    let (board, mut probers) = readiness::set_up(&settings.checks, &mut registry)?;
    let store = Arc::new(Store::new());
    let metrics = flags::metrics::register(&mut registry);
    let (sources, flags) = Sources::new(settings.flags.clone(), store.clone(), metrics)?;
    let executors = sources.executors(&settings.workload);
    let schedules = executors.iter().map(Executor::standing).collect();
    let (reporter, used) = (sources.reporter(), store.clone());
    flags::metrics::register_ages(&mut registry, flags.status.clone());
    let ages = ages_of(flags.status.clone());
    probers.iter_mut().for_each(|prober| prober.tell(&ages));
    flags::usage::exposure::register(&mut registry, store.clone());

    let mut fleet = Fleet::new(&settings.fleet, &board, &mut registry)?;
    let mut telling = Telling::new(&settings.proxy, settings.tracing, &store, &mut registry)?;
    let proxy = proxy.telling(telling.outlets());
    let ledger = Arc::new(Ledger::new(workers + 1));
    let leases = Arc::new(Leases::new(ledger.shard(workers)));
    let (lifecycle, mut driver) = driver::new(settings.drain.clone(), ledger.clone(), leases.clone());
    lifecycle::metrics::register(&mut registry, lifecycle.clone(), ledger.clone());
    let (proxies, gates) = (proxy.addresses().to_vec(), proxy.gates());
    let crew = proxy.workers(&ledger, &lifecycle.watch(), &mut registry).context("a listener cannot be shared")?;

    // What readiness depends on beside the checks.
    let (complete, started) = watch::channel(false);
    let in_service = board.condition("lifecycle", Class::Critical, "not started");
    let kept = keep_phase(in_service, lifecycle.clone(), started.clone(), settings.drain.readiness);
    tasks.spawn("readiness of the phase", OnEnd::MustLive, kept);
    let evaluable = board.condition("flags", Class::Critical, "no flags applied yet");
    let fresh = keep_flags(evaluable, flags.status.clone(), settings.flags.max_stale);
    tasks.spawn("readiness of the flags", OnEnd::MustLive, fresh);

    // Event loops.
    let names = (0..workers).map(|index| format!("proxy-{index}"));
    let pulse = Pulse::new(["control".to_owned(), "local".to_owned()].into_iter().chain(names));
    for (index, worker) in crew.into_iter().enumerate() {
        let name = format!("proxy-{index}");
        let pulse = pulse.clone();
        threads::spawn(&name.clone(), move || async move {
            let tasks = Tasks::new();
            tasks.spawn("pulse", OnEnd::MustLive, pulse.beat(name));
            worker.run(tasks).await;
        })?;
    }
    let control = Control::new(control::Parts {
        workload: settings.workload.clone(),
        lifecycle: lifecycle.clone(),
        ledger: ledger.clone(),
        leases,
        gates: gates.clone(),
        board: board.clone(),
        flags: flags.status.clone(),
        schedules,
        began,
    });
    let streams = local::streams::Streams::default();
    streams.register(&mut registry, &["ofrep", "native", "flagd_events", "flagd_sync", "health", "reflection"]);
    let flagd = flagd::Api::new(flagd::Parts {
        store: store.clone(),
        flags: flags.status.clone(),
        phase: lifecycle.watch(),
        streams: streams.clone(),
    });
    let api = Arc::new(LocalApi {
        flags: local::Api::new(store).streaming(streams, lifecycle.watch(), settings.local.public_url.as_deref()),
        flagd,
        overrides: local::overrides::Api::new(settings.flags.overrides, flags.overrides, flags.status.clone()),
        control,
        cors: Cors::new(&settings.local.cors_origins),
    });
    let locals = local.run(api, &lifecycle, pulse.clone())?;

    tasks.spawn("pulse", OnEnd::MustLive, pulse.clone().beat("control".to_owned()));
    for prober in probers {
        tasks.spawn("check", OnEnd::MustLive, prober.run());
    }
    edges.follow(&tasks);
    tasks.spawn("flag sources", OnEnd::MustLive, sources.run());
    for executor in executors {
        tasks.spawn("schedules", OnEnd::MustLive, executor.run());
    }
    telling.run(&tasks);
    fleet.join(
        &tasks,
        Subject {
            board: board.clone(),
            flags: flags.status.clone(),
            lifecycle: lifecycle.clone(),
            ledger: ledger.clone(),
        },
    );
    if let Some(reporter) = reporter {
        let evaluated = move |scope: &str| flags::reporter::evaluated(&used.load(), scope);
        tasks.spawn("reports of evaluated flags", OnEnd::MustLive, reporter.run(evaluated));
    }
    tasks.spawn("start", OnEnd::MayEnd, start(lifecycle.clone(), board.clone(), flags.status, complete));
    for keeper in gates.keepers() {
        tasks.spawn("gate", OnEnd::MustLive, keeper.run());
    }
    tasks.spawn("restarts of the app", OnEnd::MustLive, restart::follow(gates.clone(), lifecycle.clone()));
    tasks.spawn("watch for the app's return", OnEnd::MustLive, restart::resume(gates.apps(), lifecycle.clone()));
    if let Some(check) = settings.proxy.hold.check {
        let kept = keep_hold(gates, board.clone(), check, lifecycle.clone());
        tasks.spawn("hold by a check", OnEnd::MustLive, kept);
    }
    let drain_token = settings.ops.drain_token;
    let parts = ops::Parts { lifecycle: lifecycle.clone(), pulse, board, started, registry, drain_token };
    let opses = serve_ops(&tasks, (ops, edges.ops), ops::Api::new(parts), &lifecycle)?;
    tasks.spawn("signals", OnEnd::MustLive, signals.run(lifecycle));

    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        workload = settings.workload,
        proxy = ?proxies,
        ops = ?opses,
        local = ?locals,
        workers,
        "listening"
    );
    let outcome = driver.run().await;
    tracing::info!(outcome = outcome.as_str(), uptime_s = began.elapsed().as_secs(), "stopped");
    tokio::join!(telling.finish(&ledger), fleet.leave());
    tasks.cancel();
    if socket_is_ours {
        local::settings::remove(&settings.local.socket);
    }
    Ok(outcome)
}

/// How long ago each source confirmed what it gave, for checks of kind `flags`.
fn ages_of(status: watch::Receiver<flags::Status>) -> readiness::checks::Ages {
    readiness::checks::Ages::new(move || {
        let now = std::time::SystemTime::now();
        status.borrow().sources.iter().map(|source| (source.name.clone(), source.age(now))).collect()
    })
}

/// `Starting` ends when every check has had a result and the flags can be evaluated.
async fn start(
    lifecycle: Lifecycle,
    board: Board,
    mut flags: watch::Receiver<flags::Status>,
    complete: watch::Sender<bool>,
) {
    let mut checked = board.first_round_done();
    let both = async {
        checked.wait_for(|done| *done).await.map_err(|_| anyhow!("the board is gone"))?;
        flags.wait_for(|status| status.ready).await.map_err(|_| anyhow!("the flags are gone"))?;
        anyhow::Ok(())
    };
    if both.await.is_ok() {
        lifecycle.send(Event::Started).await;
        complete.send_replace(true);
    }
    // Readers of `complete` take its end for the end of the process.
    std::future::pending::<()>().await;
}

/// Readiness follows the phase: not before the start is complete, and not while clients are asked to leave.
async fn keep_phase(
    condition: Condition,
    lifecycle: Lifecycle,
    mut started: watch::Receiver<bool>,
    readiness: drain::Readiness,
) {
    let mut phases = lifecycle.watch();
    loop {
        let phase = *phases.borrow_and_update();
        match phase {
            Phase::LameDuck { .. } if readiness == drain::Readiness::Fail => condition.fail("shutting down"),
            phase if phase.is_shedding() => condition.fail("shutting down"),
            Phase::Starting => condition.fail("not started"),
            _ if *started.borrow_and_update() => condition.hold(),
            _ => condition.fail("not started"),
        }
        tokio::select! {
            changed = phases.changed() => if changed.is_err() { return },
            changed = started.changed() => if changed.is_err() { return },
        }
    }
}

/// Requests are held while the check that `hold.check` names fails, unless the instance is leaving.
async fn keep_hold(gates: Gates, board: Board, check: String, lifecycle: Lifecycle) {
    let (mut results, mut phases) = (board.subscribe(), lifecycle.watch());
    loop {
        let now = tokio::time::Instant::now();
        let line = results.borrow_and_update().line(&check, now);
        let fails = line.is_some_and(|line| matches!(line.standing, Standing::Failed(_) | Standing::Stale(_)));
        if fails && !phases.borrow_and_update().is_leaving() {
            gates.close(Reason::Check);
        } else {
            gates.open(Reason::Check);
        }
        tokio::select! {
            changed = results.changed() => if changed.is_err() { return },
            changed = phases.changed() => if changed.is_err() { return },
        }
    }
}

/// Readiness follows the flags: evaluable, and not staler than `flags.max_stale`.
async fn keep_flags(condition: Condition, mut status: watch::Receiver<flags::Status>, max_stale: Option<Duration>) {
    let mut said = Some(String::new());
    loop {
        let reason = status.borrow_and_update().unready(std::time::SystemTime::now(), max_stale);
        if said != reason {
            match &reason {
                None => condition.hold(),
                Some(reason) => condition.fail(reason),
            }
            said = reason;
        }
        tokio::select! {
            changed = status.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(STALENESS) => {}
        }
    }
}

fn serve_ops(
    tasks: &Tasks,
    (listeners, edge): (Vec<std::net::TcpListener>, Edge),
    api: ops::Api,
    lifecycle: &Lifecycle,
) -> anyhow::Result<Vec<std::net::SocketAddr>> {
    let server = Server::new(tasks, lifecycle.watch()).with_plain(api.plain());
    let mut addresses = Vec::new();
    for listener in listeners {
        let acceptor = Acceptor::tcp(listener, "ops")?;
        addresses.push(acceptor.address()?);
        let api = api.clone();
        server.behind(edge.clone(), acceptor, move |peer, request| api.clone().handle(peer, request));
    }
    Ok(addresses)
}

/// The local listeners, bound.
struct Local {
    tcp: Vec<std::net::TcpListener>,
    unix: Option<std::os::unix::net::UnixListener>,
}

/// What the local listeners answer.
struct LocalApi {
    flags: local::Api,
    flagd: flagd::Api,
    overrides: local::overrides::Api,
    control: Control,
    cors: Cors,
}

impl Local {
    fn bind(settings: &local::Settings) -> Result<Self, BindError> {
        let tcp = settings.listen.iter().map(|address| bind_tcp(*address)).collect::<Result<_, _>>()?;
        let unix = match &settings.socket {
            Socket::None => None,
            Socket::Required(path) => Some(bind_unix(path)?),
            Socket::IfPossible(path) => match bind_unix(path) {
                Ok(listener) => Some(listener),
                Err(error) => {
                    tracing::warn!(%error, "no local socket: `tidegate drain` and `status` will not reach this sidecar");
                    None
                }
            },
        };
        Ok(Self { tcp, unix })
    }

    /// Serves on a thread of its own.
    fn run(self, api: Arc<LocalApi>, lifecycle: &Lifecycle, pulse: Pulse) -> anyhow::Result<Vec<std::net::SocketAddr>> {
        let addresses = self.tcp.iter().map(std::net::TcpListener::local_addr).collect::<Result<_, _>>()?;
        let phase = lifecycle.watch();
        threads::spawn("local", move || async move {
            let tasks = Tasks::new();
            tasks.spawn("pulse", OnEnd::MustLive, pulse.beat("local".to_owned()));
            let server = Server::new(&tasks, phase);
            let answer = move |peer, request| api.clone().handle(peer, request);
            for listener in self.tcp {
                match Acceptor::<TcpListener>::tcp(listener, "local") {
                    Ok(acceptor) => server.tcp(acceptor, answer.clone()),
                    Err(error) => return tracing::error!(%error, "a local listener cannot be served"),
                }
            }
            if let Some(listener) = self.unix {
                match Acceptor::unix(listener, "local socket") {
                    Ok(acceptor) => server.unix(acceptor, answer),
                    Err(error) => return tracing::error!(%error, "the local socket cannot be served"),
                }
            }
            std::future::pending::<()>().await;
        })?;
        Ok(addresses)
    }
}

impl LocalApi {
    async fn handle(self: Arc<Self>, peer: Peer, request: Request<Inbound>) -> Response<Outbound> {
        let mark = match self.cors.judge(request.method(), request.uri().path(), request.headers()) {
            Asked::Plainly => None,
            Asked::FromPage(mark) => Some(mark),
            Asked::Beforehand(answer) => return answer.map(Outbound::Whole),
        };
        let path = request.uri().path();
        let mut response = if local::serves(path) {
            let activity = request.body().activity().clone();
            local::handle(&self.flags, &activity, request).await
        } else if flagd::serves(path, request.headers()) {
            let activity = request.body().activity().clone();
            // Boxed, as are those below: every request's future is as large as that of the largest route.
            Box::pin(flagd::handle(&self.flagd, &activity, request)).await
        } else if local::overrides::serves(path) {
            Box::pin(self.overrides.handle(peer, request)).await.map(Outbound::Whole)
        } else if control::hold::serves(path) {
            Box::pin(self.control.hold(peer, &request)).await
        } else {
            Box::pin(self.control.handle(peer, &request)).await.map(Outbound::Whole)
        };
        if let Some(mark) = mark {
            mark.set(response.headers_mut());
        }
        response
    }
}
