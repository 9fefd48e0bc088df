//! Every task has a name, an owner, and a meaning of its end. The only place that spawns.

use std::future::Future;

use tokio_util::sync::CancellationToken;

/// Exit code of a process that lost a task it cannot live without (EX_SOFTWARE of sysexits.h).
pub(super) const EXIT_TASK_LOST: i32 = 70;

/// What it means when a task ends without having been cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnEnd {
    /// The process cannot do its work without it: it ends, so that its supervisor starts a whole one.
    MustLive,
    /// It has done what it was for.
    MayEnd,
}

/// Spawns tasks on the runtime of the calling thread; dropping out of them is one call. Cheap to clone.
#[derive(Clone, Default)]
pub struct Tasks {
    cancel: CancellationToken,
}

impl Tasks {
    /// No tasks yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Spawns a task, dropped at its next await when these tasks are cancelled.
    pub fn spawn<F>(&self, name: &'static str, end: OnEnd, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let cancel = self.cancel.clone();
        let owned = detach(async move {
            tokio::select! {
                biased;
                () = cancel.cancelled() => Ended::Cancelled,
                () = task => Ended::ByItself,
            }
        });
        detach(async move {
            match (owned.await, end) {
                (Ok(Ended::Cancelled), _) | (Ok(Ended::ByItself), OnEnd::MayEnd) => {}
                (Err(error), OnEnd::MayEnd) => log_end(name, &error),
                (ended, OnEnd::MustLive) => {
                    if let Err(error) = ended {
                        log_end(name, &error);
                    }
                    tracing::error!(task = name, "a task the process cannot live without has ended: exiting");
                    std::process::exit(EXIT_TASK_LOST);
                }
            }
        });
    }

    /// Spawns a connection's task: many, short-lived, ended by their peer or by a drain, never by cancellation. A
    /// panic ends that connection alone.
    pub fn spawn_connection<F>(&self, connection: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        detach(connection);
    }

    /// Drops every task spawned through this or a clone, except connections.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }
}

enum Ended {
    Cancelled,
    ByItself,
}

fn log_end(name: &'static str, error: &tokio::task::JoinError) {
    if error.is_panic() {
        tracing::error!(task = name, "a task panicked");
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
fn detach<F>(future: F) -> tokio::task::JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(future)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn a_cancelled_task_is_dropped_and_a_panic_stays_its_own() {
        let tasks = Tasks::new();
        let (held, dropped) = oneshot::channel::<()>();
        tasks.spawn("endless", OnEnd::MustLive, async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        tasks.spawn("broken", OnEnd::MayEnd, async { panic!("on purpose") });
        tokio::task::yield_now().await;
        tasks.cancel();
        assert!(dropped.await.is_err(), "the task's values are dropped");
    }
}
