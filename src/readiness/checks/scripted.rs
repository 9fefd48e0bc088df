//! A probe that does what a test wrote down.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Cause, Failure};

#[derive(Debug, Clone, Copy)]
pub(in crate::readiness) enum Act {
    Pass,
    Fail,
    Refuse,
    Hang,
    Panic,
}

/// Performs its acts in order, then passes for ever.
#[derive(Debug, Default)]
pub struct Scripted {
    pub(in crate::readiness) acts: VecDeque<Act>,
    pub(in crate::readiness) abandoned: Arc<AtomicU32>,
}

impl Scripted {
    pub(super) async fn attempt(&mut self) -> Result<(), Failure> {
        match self.acts.pop_front().unwrap_or(Act::Pass) {
            Act::Pass => Ok(()),
            Act::Fail => Err(Failure::new(Cause::Answer, "as written")),
            Act::Refuse => Err(Failure::new(Cause::Refused, "as written")),
            Act::Hang => std::future::pending().await,
            Act::Panic => panic!("as written"),
        }
    }

    pub(super) fn abandon(&mut self) {
        self.abandoned.fetch_add(1, Ordering::Relaxed);
    }
}
