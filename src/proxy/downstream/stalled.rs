//! How many clients of one worker take their answers slower than the app gives them. Each holds a part that it has not
//! taken; when they are many, parts are read small.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// More than so many are a crowd: 8 MB of the largest parts.
const CROWD: usize = 64;

/// See the module's text. Cheap to clone.
#[derive(Clone, Default)]
pub(in crate::proxy) struct Stalled(Arc<AtomicUsize>);

/// A client that is counted until this is dropped.
pub(super) struct Counted(Arc<AtomicUsize>);

impl Stalled {
    /// Counts one more.
    pub(super) fn count(&self) -> Counted {
        self.0.fetch_add(1, Relaxed);
        Counted(self.0.clone())
    }

    /// Whether they are so many that memory counts more than speed.
    pub(super) fn is_crowd(&self) -> bool {
        self.0.load(Relaxed) > CROWD
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
