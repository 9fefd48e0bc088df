//! The loop that asks one dependency for as long as we run. Knows neither the kinds of check nor the other probers.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};
use tracing::{info, warn};

use crate::readiness::board::{Reporter, Transition};
use crate::readiness::checks::{Ages, Cause, Failure, Probe};
use crate::readiness::metrics::{CheckMetrics, Ending};
use crate::readiness::settings::Check;

/// The most that an interval is stretched or shortened, as a part of it: instances that started together do not
/// ask together for ever.
const JITTER: f64 = 0.1;

/// How soon a check that has never passed asks again where nobody listens yet: an app that starts beside us is in service
/// when it is ready, not an interval later, and nobody there is burdened.
const EAGER: Duration = Duration::from_secs(1);

/// The background asking of one check.
#[derive(Debug)]
pub struct Prober {
    name: String,
    interval: Duration,
    timeout: Duration,
    probe: Probe,
    reporter: Reporter,
    metrics: CheckMetrics,
    /// Whether it has passed since the start.
    passed: bool,
}

/// One attempt, bounded in time.
#[derive(Debug)]
pub struct Attempt {
    /// Whether the dependency passed.
    pub result: Result<(), Failure>,
    /// From the start to the result.
    pub took: Duration,
}

impl Prober {
    pub(super) fn new(check: &Check, reporter: Reporter, metrics: CheckMetrics) -> Result<Self, Failure> {
        let probe = Probe::new(check)?;
        Ok(Self {
            name: check.name.clone(),
            interval: check.interval,
            timeout: check.timeout,
            probe,
            reporter,
            metrics,
            passed: false,
        })
    }

    /// Says how a check of the flags learns their age.
    pub fn tell(&mut self, ages: &Ages) {
        self.probe.tell(ages);
    }

    /// Asks at once, then every interval, for ever; sooner where nobody has listened yet.
    ///
    /// # Cancellation
    /// Dropping the future closes the connection. The board keeps the last result until it is too old.
    pub async fn run(mut self) {
        loop {
            let started = Instant::now();
            let attempt = attempt(&mut self.probe, self.timeout).await;
            self.report(&attempt);
            if attempt.left_something() {
                abandon(&mut self.probe, self.timeout).await;
            }
            self.passed |= attempt.result.is_ok();
            // To look at the age of flags costs nothing, and the first ones come a moment after the start.
            let soon = !self.passed && (attempt.refused() || matches!(self.probe, Probe::Flags(_)));
            let interval = if soon { self.interval.min(EAGER) } else { self.interval };
            sleep_until(started + jittered(interval, fastrand::f64())).await;
        }
    }

    fn report(&self, attempt: &Attempt) {
        let error = attempt.result.as_ref().err().map(ToString::to_string);
        self.metrics.count(attempt.ending(), attempt.took);
        let turned = self.reporter.report(error.as_deref().map_or(Ok(()), Err), Instant::now());
        let Some(Transition { from, to }) = turned else { return };
        let (check, from) = (self.name.as_str(), from.as_str());
        let took_ms = u64::try_from(attempt.took.as_millis()).unwrap_or(u64::MAX);
        match error {
            Some(error) => warn!(check, from, to = to.as_str(), error, took_ms, "a check fails"),
            None => info!(check, from, to = to.as_str(), took_ms, "a check passes"),
        }
    }
}

impl Attempt {
    /// Whether it was cut off and [`abandon`] has to follow.
    pub fn left_something(&self) -> bool {
        matches!(&self.result, Err(failure) if matches!(failure.cause, Cause::Timeout | Cause::Panic))
    }

    /// Whether nobody listened.
    fn refused(&self) -> bool {
        matches!(&self.result, Err(failure) if failure.cause == Cause::Refused)
    }

    fn ending(&self) -> Ending {
        match &self.result {
            Ok(()) => Ending::Ok,
            Err(failure) if failure.cause == Cause::Timeout => Ending::Timeout,
            Err(_) => Ending::Failed,
        }
    }
}

/// Asks once, for `limit` at most. A panic inside is a failure like any other.
pub async fn attempt(probe: &mut Probe, limit: Duration) -> Attempt {
    let started = Instant::now();
    let result = match timeout(limit, caught(probe.attempt())).await {
        Ok(Some(result)) => result,
        Ok(None) => Err(Failure::new(Cause::Panic, "the check itself failed: a defect of tidegate, see its log")),
        Err(_) => Err(Failure::timeout(limit)),
    };
    Attempt { result, took: started.elapsed() }
}

/// Clears up after an attempt that was cut off, for `limit` at most.
pub async fn abandon(probe: &mut Probe, limit: Duration) {
    if caught(probe.abandon(limit)).await.is_none() {
        warn!("clearing up after a check panicked");
    }
}

/// `None` when the work panicked. What it left behind is only touched again by abandoning it.
async fn caught<T>(work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    std::future::poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(output)) => Poll::Ready(Some(output)),
        Err(_) => Poll::Ready(None),
    })
    .await
}

/// The interval, shortened or stretched by a random number from 0 to 1.
fn jittered(interval: Duration, random: f64) -> Duration {
    interval.mul_f64(1.0 + JITTER * (2.0 * random - 1.0))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::Ordering;

    use tokio::task::JoinSet;

    use super::*;
    use crate::readiness::board::Board;
    use crate::readiness::checks::scripted::{Act, Scripted};
    use crate::readiness::metrics::Metrics;
    use crate::readiness::settings::{Kind, Settings};
    use crate::telemetry::metrics::{Registry, registry, render};

    struct Bench {
        board: Board,
        registry: Registry,
        tasks: JoinSet<()>,
        abandoned: Arc<std::sync::atomic::AtomicU32>,
    }

    /// A prober that performs `acts`, one every 5 s with a timeout of 1 s, rise 1 and fall 3.
    fn bench(acts: &[Act]) -> Bench {
        let check = Check::new("db", Kind::Tcp { address: "127.0.0.1:1".to_owned() });
        let board = Board::new(&Settings { checks: vec![check.clone()] });
        let mut registry = registry();
        let metrics = Metrics::register(&mut registry, &board);
        let script = Scripted { acts: acts.iter().copied().collect(), ..Scripted::default() };
        let abandoned = script.abandoned.clone();
        let reporter = board.reporters().next().expect("one check");
        let mut prober = Prober::new(&check, reporter, metrics.of_check("db")).expect("legal");
        prober.probe = Probe::Scripted(script);
        let mut tasks = JoinSet::new();
        tasks.spawn(prober.run());
        Bench { board, registry, tasks, abandoned }
    }

    impl Bench {
        /// What the board says after each of `count` attempts.
        async fn said(&self, count: usize) -> Vec<String> {
            let mut said = Vec::new();
            let mut snapshots = self.board.subscribe();
            for _ in 0..count {
                snapshots.changed().await.expect("the board lives");
                said.push(self.says());
            }
            said
        }

        fn says(&self) -> String {
            let line = self.board.snapshot().line("db", Instant::now()).expect("there is one");
            line.standing.to_string()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_attempt_is_made_at_once_and_the_next_after_an_interval() {
        let bench = bench(&[]);
        let start = Instant::now();
        let mut snapshots = bench.board.subscribe();
        snapshots.changed().await.expect("the board lives");
        assert_eq!(start.elapsed(), Duration::ZERO);
        snapshots.changed().await.expect("the board lives");
        let second = start.elapsed();
        assert!((4500..=5502).contains(&second.as_millis()), "{second:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn where_nobody_listens_yet_it_asks_again_soon_until_it_has_passed() {
        let bench = bench(&[Act::Refuse, Act::Refuse, Act::Fail, Act::Refuse, Act::Pass, Act::Refuse]);
        let mut snapshots = bench.board.subscribe();
        let mut last = Instant::now();
        let mut gaps = Vec::new();
        for _ in 0..7 {
            snapshots.changed().await.expect("the board lives");
            gaps.push(last.elapsed().as_secs_f64().round());
            last = Instant::now();
        }
        assert_eq!(gaps, [0.0, 1.0, 1.0, 5.0, 1.0, 5.0, 5.0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_that_hangs_is_a_timeout_and_is_cleared_up_after() {
        let bench = bench(&[Act::Pass, Act::Hang, Act::Hang, Act::Hang, Act::Pass]);
        assert_eq!(bench.said(5).await, ["ok", "ok", "ok", "timeout after 1s", "ok"]);
        assert_eq!(bench.abandoned.load(Ordering::Relaxed), 3);
        let text = render(&bench.registry);
        assert!(text.contains("check_attempts_total{check=\"db\",result=\"timeout\"} 3"), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_that_panics_has_failed_and_goes_on() {
        let bench = bench(&[Act::Panic, Act::Pass, Act::Panic, Act::Fail, Act::Panic]);
        let said = bench.said(6).await;
        assert!(said[0].starts_with("the check itself failed"), "{said:?}");
        assert_eq!(said[1..4], ["ok", "ok", "ok"]);
        assert!(said[4].starts_with("the check itself failed"), "{said:?}");
        assert_eq!(said[5], "ok");
        assert_eq!(bench.abandoned.load(Ordering::Relaxed), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_prober_that_dies_does_not_leave_green_behind() {
        let mut bench = bench(&[Act::Pass]);
        assert_eq!(bench.said(1).await, ["ok"]);
        assert!(bench.board.snapshot().answer(Instant::now()).0);
        bench.tasks.shutdown().await;
        assert_eq!(bench.says(), "ok", "its last result is believed for a while");
        tokio::time::advance(Duration::from_millis(16_001)).await;
        assert_eq!(bench.says(), "stale, no result for 16s");
        assert!(!bench.board.snapshot().answer(Instant::now()).0);
        assert!(render(&bench.registry).contains("check_up{check=\"db\"} 0"));
    }

    #[test]
    fn jitter_stays_within_a_tenth() {
        let interval = Duration::from_secs(10);
        for (random, expected) in [(0.0, 9.0), (0.5, 10.0), (1.0, 11.0)] {
            assert_eq!(jittered(interval, random).as_secs_f64(), expected);
        }
    }
}
