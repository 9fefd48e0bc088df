//! SIGTERM, SIGINT, and SIGHUP of a terminal that closes: the first asks for a drain and an end, the second for an end at once.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::driver::Lifecycle;
use super::machine::Event;

/// The signals that end the process, caught from now on.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Begins to catch. Must be called within a runtime; fails when the kernel refuses a handler.
    pub fn catch() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Passes signals on for as long as the process lives.
    pub async fn run(mut self, lifecycle: Lifecycle) {
        let mut event = Event::Terminate;
        loop {
            let name = tokio::select! {
                Some(()) = self.terminate.recv() => "SIGTERM",
                Some(()) = self.interrupt.recv() => "SIGINT",
                Some(()) = self.hangup.recv() => "SIGHUP",
                else => return,
            };
            match event {
                Event::Terminate => tracing::info!(signal = name, "draining, then ending"),
                _ => tracing::warn!(signal = name, "second signal: ending at once"),
            }
            lifecycle.send(event).await;
            event = Event::Abort;
        }
    }
}
