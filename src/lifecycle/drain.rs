//! How long each part of a drain may take.

use std::time::Duration;

/// The drain's settings, `drain`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How long traffic is served as ever after the drain began, while endpoints are taken out elsewhere. 10 s.
    pub delay: Duration,
    /// How long no request may have come before nothing in flight counts as drained. 1 s.
    pub quiet: Duration,
    /// From the start of the drain to its end, whatever is in flight. 45 s.
    pub deadline: Duration,
    /// What the kubelet's `/readyz` says during the delay.
    pub readiness: Readiness,
    /// When WebSockets and other tunnels are told to end.
    pub tunnels: Tunnels,
    /// How long after the app's hook the end of the pod is still awaited; then it is a restart of the app. 2 s. None takes
    /// every hook for the end of the pod.
    pub restart_after: Option<Duration>,
    /// How long the app takes to stop once it is told to. 5 s.
    pub app_stop: Duration,
    /// When the app restarts: how long requests in flight may take before it is let go. Half of `hold.max_wait`, so that
    /// those that are held meanwhile have the other half for the app's return.
    pub restart_finish: Duration,
    /// The pod's `terminationGracePeriodSeconds`, if it is known.
    pub grace: Option<Duration>,
}

/// When a drain ends tunnels: one may be all that a client has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tunnels {
    /// Shortly before the deadline.
    #[default]
    Wait,
    /// At the beginning of shedding, spread over time: their clients come back by themselves.
    Close,
}

/// What `/readyz` says during lame duck.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Readiness {
    /// The verdict, as ever: kube-proxy may still fall back to serving terminating endpoints.
    #[default]
    Keep,
    /// 503 at once.
    Fail,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            delay: Duration::from_secs(10),
            quiet: Duration::from_secs(1),
            deadline: Duration::from_secs(45),
            readiness: Readiness::Keep,
            tunnels: Tunnels::Wait,
            restart_after: Some(Duration::from_secs(2)),
            app_stop: Duration::from_secs(5),
            restart_finish: Duration::from_secs(5),
            grace: None,
        }
    }
}
