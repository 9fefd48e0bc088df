//! The life of one container: started, probed, restarted, and stopped when its turn has come.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::handler::Place;
use super::probes::Kind;
use super::process::{Exit, Process};
use super::record::{Record, What};
use super::spec::{self, RestartPolicy};

/// What is left between SIGTERM and SIGKILL at least (`minimumGracePeriodInSeconds`).
const LEAST_GRACE: Duration = Duration::from_secs(2);
/// The longest wait before a container that ends again and again is started: of the kubelet's five minutes, what a test
/// can wait for.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(4);

/// How a container is at the moment.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    pub(super) pid: Option<u32>,
    /// Its startup probe has passed, or it has none.
    pub(super) is_up: bool,
    pub(super) is_ready: bool,
    pub(super) restarts: u32,
    /// It has ended, and is not started again.
    pub(super) over: Option<Option<Exit>>,
}

/// What a container is in its pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// It must end well before the next begins.
    Init,
    /// `restartPolicy: Always` among init containers.
    Sidecar,
    Main,
}

/// A container of a pod.
pub(super) struct Container {
    pub(super) spec: spec::Container,
    pub(super) role: Role,
    pub(super) policy: RestartPolicy,
    pub(super) grace: Duration,
    pub(super) place: Place,
    pub(super) events: Arc<Record>,
    pub(super) state: watch::Sender<State>,
    /// Whether the pod is deleted.
    pub(super) deleted: watch::Receiver<bool>,
    /// Those that must be gone before it gets SIGTERM.
    pub(super) before: Vec<watch::Receiver<State>>,
}

enum End {
    Exited(Exit),
    Unhealthy(Kind),
    Deleted,
}

impl Container {
    pub(super) fn record(&self, what: What) {
        self.events.note(&self.spec.name, what);
    }

    /// Plays it to its end.
    pub(super) async fn play(self) {
        let mut back_off = Duration::ZERO;
        while !*self.deleted.borrow() {
            let began = Instant::now();
            let mut process = Process::start(&self.place.run);
            self.record(What::Started);
            self.state.send_modify(|state| state.pid = Some(process.pid));
            let mut deleted = self.deleted.clone();
            let end = tokio::select! {
                exit = process.ended() => End::Exited(exit),
                kind = self.probes(), if self.role != Role::Init => End::Unhealthy(kind),
                Ok(_) = deleted.wait_for(|deleted| *deleted) => End::Deleted,
            };
            let exit = match end {
                End::Exited(exit) => exit,
                End::Unhealthy(kind) => self.restarted(&mut process, kind).await,
                End::Deleted => self.terminated(&mut process).await,
            };
            self.record(What::Exited(exit));
            self.state.send_modify(|state| (state.pid, state.is_up, state.is_ready) = (None, false, false));
            if !self.is_started_again(exit) {
                self.state.send_modify(|state| state.over = Some(Some(exit)));
                return;
            }
            self.state.send_modify(|state| state.restarts += 1);
            // What ran for a while is started at once.
            if began.elapsed() > LONGEST_BACK_OFF * 2 {
                back_off = Duration::ZERO;
            }
            tokio::select! {
                () = sleep(back_off) => {}
                Ok(_) = deleted.wait_for(|deleted| *deleted) => {}
            }
            back_off = (back_off * 2).clamp(Duration::from_millis(500), LONGEST_BACK_OFF);
        }
        self.state.send_modify(|state| state.over = Some(None));
    }

    fn is_started_again(&self, exit: Exit) -> bool {
        let is_well = exit == Exit::Code(0);
        match (self.role, self.policy) {
            _ if *self.deleted.borrow() => false,
            (Role::Sidecar, _) | (Role::Main, RestartPolicy::Always) => true,
            (Role::Init, RestartPolicy::Never) => false,
            (Role::Init, _) => !is_well,
            (Role::Main, RestartPolicy::OnFailure) => !is_well,
            (Role::Main, RestartPolicy::Never) => false,
        }
    }

    /// It failed a probe.
    async fn restarted(&self, process: &mut Process, kind: Kind) -> Exit {
        let probe = if kind == Kind::Startup { &self.spec.startup_probe } else { &self.spec.liveness_probe };
        let grace = probe.as_ref().and_then(spec::Probe::grace).unwrap_or(self.grace);
        self.record(What::Stopping(kind.name()));
        self.state.send_modify(|state| state.is_up = false);
        let left = self.hook(grace).await;
        tokio::select! {
            exit = self.signalled(process, left) => exit,
            () = self.readiness() => unreachable!("it goes on as long as the container"),
        }
    }

    /// The pod is deleted. Readiness is still probed, and a native sidecar's liveness.
    async fn terminated(&self, process: &mut Process) -> Exit {
        self.record(What::Stopping("the pod is deleted"));
        let stopped = async {
            let left = self.its_turn(self.hook(self.grace).await).await;
            self.signalled(process, left).await
        };
        let lives = async {
            if self.role == Role::Sidecar {
                loop {
                    self.liveness().await;
                    self.record(What::Unhealthy("the liveness probe has failed while the pod ends".to_owned()));
                }
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            exit = stopped => exit,
            () = self.readiness() => unreachable!("it goes on as long as the container"),
            () = lives => unreachable!("it goes on as long as the container"),
        }
    }

    /// Runs the `preStop` hook; what is left of the grace period after it.
    async fn hook(&self, grace: Duration) -> Duration {
        let Some(hook) = &self.spec.lifecycle.pre_stop else { return grace };
        let began = Instant::now();
        self.record(What::HookBegan);
        let ended = timeout(grace, self.place.hook(hook)).await;
        self.record(What::HookEnded(ended.unwrap_or_else(|_| Err(format!("did not return within {grace:?}")))));
        grace.saturating_sub(began.elapsed())
    }

    /// Waits for its turn (`waitForTurn`); what is left of the grace period after that.
    async fn its_turn(&self, grace: Duration) -> Duration {
        let began = Instant::now();
        for other in &self.before {
            let mut other = other.clone();
            let gone = other.wait_for(|state| state.over.is_some());
            if timeout(grace.saturating_sub(began.elapsed()), gone).await.is_err() {
                break;
            }
        }
        grace.saturating_sub(began.elapsed())
    }

    /// SIGTERM, and SIGKILL when the time is over.
    async fn signalled(&self, process: &mut Process, left: Duration) -> Exit {
        self.record(What::Terminated);
        process.signal(Signal::TERM);
        if let Ok(exit) = timeout(left.max(LEAST_GRACE), process.ended()).await {
            return exit;
        }
        self.record(What::Killed);
        process.signal(Signal::KILL);
        process.ended().await
    }
}
