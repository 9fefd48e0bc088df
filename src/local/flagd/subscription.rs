//! What a streaming client waits for: flags that can be evaluated, their changes, its own deadline, the sidecar's end.
//! It holds the snapshot it last told of and no queue, so a slow client costs no more than a quick one.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::events::Changes;
use super::view::{Selector, View, Views};
use crate::flags;
use crate::lifecycle::machine::Phase;
use crate::net::rpc::{Code, Status};

/// Without news for this long a client is told so, as flagd does.
const QUIET: Duration = Duration::from_secs(20);

/// What the sidecar's parts tell streams.
#[derive(Debug, Clone)]
pub(super) struct Sources {
    pub(super) views: Arc<Views>,
    pub(super) phase: watch::Receiver<Phase>,
    pub(super) flags: watch::Receiver<flags::Status>,
}

impl Sources {
    /// Whether flags can be evaluated.
    pub(super) fn ready(&self) -> bool {
        self.flags.borrow().ready
    }

    /// Whether the sidecar ends: no more than what is under way is done.
    pub(super) fn closing(&self) -> bool {
        closing(*self.phase.borrow())
    }
}

fn closing(phase: Phase) -> bool {
    matches!(phase, Phase::Closing { .. } | Phase::Stopped { .. })
}

/// How a stream ends with the sidecar. An error, because Node's provider (0.16.1) opens a stream anew only after one:
/// after a plain end its app would stay without flags or with the last ones for ever.
pub(super) fn parted() -> Status {
    Status::new(Code::Unavailable, "the sidecar ends")
}

/// Something to tell a client.
#[derive(Debug)]
pub(super) enum News {
    /// Flags can be evaluated; the first news but for others that end the stream.
    Ready,
    /// Another snapshot is in force; not all of it need be of flags.
    Changed(Arc<Changes>),
    /// Nothing, for a while.
    Quiet,
    /// The sidecar ends.
    Closing,
    /// The client's time is over.
    TooLate(Status),
}

/// One client's place in the news.
#[derive(Debug)]
pub(super) struct Subscription {
    sources: Sources,
    generation: watch::Receiver<u64>,
    selector: Selector,
    deadline: Option<Instant>,
    /// What the client knows; none before it is told that flags are ready.
    known: Option<Arc<View>>,
}

impl Subscription {
    pub(super) fn new(sources: Sources, selector: Selector, deadline: Option<Instant>) -> Self {
        let generation = sources.views.store().subscribe();
        Self { sources, generation, selector, deadline, known: None }
    }

    /// The flags as the client knows them; none before it is told that they are ready.
    pub(super) fn view(&self) -> Option<&Arc<View>> {
        self.known.as_ref()
    }

    /// Waits for the next.
    pub(super) async fn next(&mut self) -> News {
        let Sources { views, phase, flags } = &mut self.sources;
        let deadline = async {
            match self.deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        let known = self.known.is_some();
        tokio::select! {
            biased;
            // Its other side is gone only at the end of the process.
            _ = phase.wait_for(|phase| closing(*phase)) => News::Closing,
            () = deadline => News::TooLate(Status::new(Code::DeadlineExceeded, "the time of the stream is over")),
            _ = flags.wait_for(|status| status.ready), if !known => {
                self.generation.mark_unchanged();
                self.known = Some(views.get(&self.selector));
                News::Ready
            }
            Ok(()) = self.generation.changed(), if known => {
                let view = views.get(&self.selector);
                let change = match &self.known {
                    Some(known) => view.since(known),
                    None => return News::Quiet,
                };
                self.known = Some(view);
                News::Changed(change)
            }
            () = tokio::time::sleep(QUIET) => News::Quiet,
        }
    }
}
