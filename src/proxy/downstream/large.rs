//! How many answers of one worker are read in large parts. Each part is held until its client has taken it, so that a
//! crowd of slow clients would hold much; whoever comes when enough hold large ones is served in small ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// At most so many at a time: 8 MB of the largest parts.
const MOST: usize = 64;

/// See the module's text. Cheap to clone.
#[derive(Clone, Default)]
pub(in crate::proxy) struct LargeParts(Arc<AtomicUsize>);

/// Leave to read one answer in large parts, given back when dropped.
pub(super) struct Leave(Arc<AtomicUsize>);

impl LargeParts {
    /// Leave to read one more so, if there is any.
    pub(super) fn take(&self) -> Option<Leave> {
        let taken = self.0.fetch_add(1, Relaxed);
        let leave = Leave(self.0.clone());
        (taken < MOST).then_some(leave)
    }
}

impl Drop for Leave {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leave_that_is_given_back_can_be_taken_again() {
        let large = LargeParts::default();
        let mut taken: Vec<_> = (0..MOST).map(|_| large.take().expect("there is some")).collect();
        assert!(large.take().is_none());
        assert!(large.take().is_none(), "asking takes nothing");
        taken.pop();
        assert!(large.take().is_some());
    }
}
