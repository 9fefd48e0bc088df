//! How fast sources try, look again and save; tests go faster.

use std::time::Duration;

/// The sources' times.
#[derive(Debug, Clone)]
pub struct Pace {
    /// To connect to Redis, and for each of its answers. 5 s.
    pub answer: Duration,
    /// How long the first answer of Redis is waited for before the last known good is served. 1 s.
    pub patience: Duration,
    /// Between two looks at a scope's revision, jittered by a tenth: what heals a lost event. 30 s.
    pub reconcile: Duration,
    /// Between two looks whether Redis still answers. 5 s.
    pub heartbeat: Duration,
    /// A fleet that has to read a snapshot for the same reason spreads over this time. 1 s.
    pub spread: Duration,
    /// First wait before connecting again; doubles, jittered by half. 100 ms.
    pub retry_first: Duration,
    /// Longest wait before connecting again. 5 s.
    pub retry_most: Duration,
    /// Between two looks at a file, in case a change of its directory was not told. 5 s.
    pub look: Duration,
    /// After a change of a file's directory: whoever writes has this long to finish. 20 ms.
    pub settle: Duration,
    /// From a change to its being written to disk, so that a burst is one write. 1 s.
    pub save: Duration,
    /// Before a failed write to disk is tried again. 10 s.
    pub save_again: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(5),
            patience: Duration::from_secs(1),
            reconcile: Duration::from_secs(30),
            heartbeat: Duration::from_secs(5),
            spread: Duration::from_secs(1),
            retry_first: Duration::from_millis(100),
            retry_most: Duration::from_secs(5),
            look: Duration::from_secs(5),
            settle: Duration::from_millis(20),
            save: Duration::from_secs(1),
            save_again: Duration::from_secs(10),
        }
    }
}

impl Pace {
    /// The wait before attempt number `attempt` (0 is the first retry).
    pub(super) fn backoff(&self, attempt: u32) -> Duration {
        let full = self.retry_first.saturating_mul(1 << attempt.min(16)).min(self.retry_most);
        full.mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    /// Somewhere within the spread.
    pub(super) fn jitter(&self) -> Duration {
        self.spread.mul_f64(fastrand::f64())
    }

    /// Until the next reconcile.
    pub(super) fn next_reconcile(&self) -> Duration {
        self.reconcile.mul_f64(0.9 + fastrand::f64() / 5.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_slow_down_and_never_stop() {
        let pace = Pace::default();
        for (attempt, least, most) in
            [(0, 50, 100), (1, 100, 200), (3, 400, 800), (6, 2500, 5000), (u32::MAX, 2500, 5000)]
        {
            let wait = pace.backoff(attempt);
            assert!(wait >= Duration::from_millis(least) && wait <= Duration::from_millis(most), "{attempt}: {wait:?}");
        }
    }
}
