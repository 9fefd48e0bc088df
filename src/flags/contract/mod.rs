//! What Tidegate and others agree on about flags in Redis (docs/REDIS.md): keys, scripts, events, the log.
//! Knows definitions only as text: whether one means anything is the compiler's business.

mod edit;
mod event;
mod keys;
mod log;
pub mod schedules;
mod seen;
mod snapshot;
mod writer;

pub use edit::with_member;
pub use event::{Event, Malformed, What};
pub use keys::{IllegalName, Keys};
pub use log::{Entry, entries, following, walk};
pub use seen::{BULK, DEFINITIONS, Seen, report, seen};
pub use snapshot::{Head, MAX_BYTES, MAX_FLAGS, One, Remote, Unreadable, head, one, read};
pub use writer::{Change, Lost, Op, Place, WriteError, Written, last_writes, write};
