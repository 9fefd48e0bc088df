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
        }
    }
}
