//! The event loops: a thread each, with a `current_thread` runtime of its own, and a pulse that shows it turning.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often an event loop shows that it turns.
const BEAT: Duration = Duration::from_millis(500);

/// An event loop that has not turned for this long is stuck. Far above any scheduling delay of a throttled
/// container: a liveness probe that fires on a slow node makes the node slower.
const STUCK: Duration = Duration::from_secs(10);

/// When each event loop last turned.
#[derive(Clone)]
pub struct Pulse(Arc<Beats>);

struct Beats {
    born: Instant,
    loops: Box<[(String, AtomicU64)]>,
}

impl Pulse {
    /// A pulse of event loops with these names, which all count as turning now.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        let loops = names.into_iter().map(|name| (name, AtomicU64::new(0))).collect();
        Self(Arc::new(Beats { born: Instant::now(), loops }))
    }

    /// The name of an event loop that is stuck at `now`, if one is.
    pub fn stuck(&self, now: Instant) -> Option<&str> {
        let now = self.ms(now);
        let limit = STUCK.as_millis() as u64;
        let stuck = self.0.loops.iter().find(|(_, last)| now.saturating_sub(last.load(Ordering::Relaxed)) > limit);
        stuck.map(|(name, _)| name.as_str())
    }

    /// Beats for the event loop `name` for as long as it is polled.
    pub async fn beat(self, name: String) {
        let Some(index) = self.0.loops.iter().position(|(known, _)| *known == name) else { return };
        loop {
            self.0.loops[index].1.store(self.ms(Instant::now()), Ordering::Relaxed);
            tokio::time::sleep(BEAT).await;
        }
    }

    fn ms(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.0.born).as_millis() as u64
    }
}

/// A `current_thread` runtime.
pub fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(4).build()
}

/// Runs `main` on a thread with an event loop of its own, for the rest of the process's life. An event loop that
/// returns or panics takes the process with it: half a sidecar would drop requests silently.
pub fn spawn<F>(name: &str, main: impl FnOnce() -> F + Send + 'static) -> std::io::Result<()>
where
    F: Future<Output = ()>,
{
    let runtime = runtime()?;
    let ends = EndsProcess(name.to_owned());
    std::thread::Builder::new().name(name.to_owned()).stack_size(1024 * 1024).spawn(move || {
        let _ends = ends;
        runtime.block_on(async move { main().await });
    })?;
    Ok(())
}

struct EndsProcess(String);

impl Drop for EndsProcess {
    fn drop(&mut self) {
        tracing::error!(event_loop = self.0, "an event loop has ended: exiting");
        std::process::exit(super::tasks::EXIT_TASK_LOST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_stopped_turning_is_named() {
        let pulse = Pulse::new(["ops".to_owned(), "proxy-0".to_owned()]);
        let now = Instant::now();
        assert_eq!(pulse.stuck(now), None);
        pulse.0.loops[0].1.store(20_000, Ordering::Relaxed);
        assert_eq!(pulse.stuck(now + Duration::from_secs(20)), Some("proxy-0"));
    }
}
