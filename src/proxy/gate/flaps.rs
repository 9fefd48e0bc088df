//! What the log has of an app that comes and goes: a line now and then, and how many are left out.

use std::time::{Duration, Instant};

/// Between two lines.
const QUIET: Duration = Duration::from_secs(10);

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Flaps {
    /// Until then nothing more is told.
    quiet: Option<Instant>,
    untold: u32,
}

impl Flaps {
    /// Whether it is told that the app has gone at `now`. It is counted if not.
    pub(super) fn is_told(&mut self, now: Instant) -> bool {
        if self.untold == 0 && self.quiet.is_none_or(|quiet| now >= quiet) {
            self.quiet = Some(now + QUIET);
            return true;
        }
        self.untold = self.untold.saturating_add(1);
        false
    }

    /// When what was left out is told.
    pub(super) fn due(&self) -> Option<Instant> {
        self.quiet.filter(|_| self.untold > 0)
    }

    /// How often the app has gone without a word, when that is due.
    pub(super) fn take(&mut self, now: Instant) -> Option<u32> {
        self.due().filter(|due| now >= *due)?;
        self.quiet = Some(now + QUIET);
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_that_comes_and_goes_is_told_once_in_a_while_and_every_time_is_counted() {
        let (begin, mut flaps) = (Instant::now(), Flaps::default());
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        let told: Vec<bool> = [0, 1, 5, 9].into_iter().map(|seconds| flaps.is_told(at(seconds))).collect();
        assert_eq!(told, [true, false, false, false]);
        assert_eq!((flaps.due(), flaps.take(at(9))), (Some(at(10)), None));
        assert!(!flaps.is_told(at(11)), "what is due is told first");
        assert_eq!(flaps.take(at(11)), Some(4));
        assert_eq!((flaps.due(), flaps.take(at(60))), (None, None));
        assert!(flaps.is_told(at(21)), "it is quiet for as long after a sum");
    }
}
