//! What clients of one protocol saw.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Counts that clients write while they run.
#[derive(Default)]
pub(crate) struct Tally {
    stop: AtomicBool,
    name: AtomicU64,
    asked: AtomicU64,
    moved: AtomicU64,
    failed: Mutex<BTreeMap<Fault, u64>>,
    ended: Mutex<BTreeMap<End, u64>>,
}

/// How a request failed, as its client sees it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// Nobody listens.
    Refused,
    /// An answer that is the sidecar's, or a balancer's.
    Status(u16),
    /// A gRPC status other than OK.
    Grpc(u32),
    /// The connection or stream ended before the answer was whole, and its client could tell.
    Lost,
    /// Nothing came any more.
    Hung,
    /// An answer that looks whole and is not what was asked for. Never allowed.
    Wrong(String),
}

/// How a stream that would go on for ever ended, as its client sees it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    /// A WebSocket's Close with this code.
    Close(u16),
    /// A gRPC status.
    Grpc(u32),
    /// An HTTP/2 stream was reset or its connection closed: gRPC libraries make UNAVAILABLE or CANCELLED of it.
    Reset,
    /// The connection ended, and the answer is seen not to be whole.
    Cut,
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::TimedOut => Self::Hung,
            io::ErrorKind::InvalidData => Self::Wrong(error.to_string()),
            _ => Self::Lost,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("refused"),
            Self::Status(status) => write!(f, "{status}"),
            Self::Grpc(status) => write!(f, "grpc {status}"),
            Self::Lost => f.write_str("lost"),
            Self::Hung => f.write_str("hung"),
            Self::Wrong(what) => write!(f, "WRONG {what}"),
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Close(code) => write!(f, "Close {code}"),
            Self::Grpc(status) => write!(f, "grpc {status}"),
            Self::Reset => f.write_str("reset"),
            Self::Cut => f.write_str("cut"),
        }
    }
}

impl Tally {
    /// Tells the clients to begin nothing more.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// A name that no other request has.
    pub(crate) fn name(&self) -> u64 {
        self.name.fetch_add(1, Ordering::SeqCst)
    }

    /// A request or stream has begun.
    pub(crate) fn asked(&self) {
        self.asked.fetch_add(1, Ordering::SeqCst);
    }

    /// An answer or a message has come.
    pub(crate) fn moved(&self) {
        self.moved.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn messages(&self) -> u64 {
        self.moved.load(Ordering::SeqCst)
    }

    pub(crate) fn failed(&self, fault: Fault) {
        *self.failed.lock().unwrap().entry(fault).or_default() += 1;
    }

    pub(crate) fn ended(&self, end: End) {
        *self.ended.lock().unwrap().entry(end).or_default() += 1;
    }

    /// What was seen so far.
    pub(crate) fn cell(&self) -> Cell {
        Cell {
            asked: self.asked.load(Ordering::SeqCst),
            messages: self.messages(),
            failed: self.failed.lock().unwrap().clone(),
            ended: self.ended.lock().unwrap().clone(),
        }
    }
}

/// A cell of the matrix.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cell {
    /// Requests, or streams.
    pub(crate) asked: u64,
    /// Answers, or messages of streams.
    pub(crate) messages: u64,
    pub(crate) failed: BTreeMap<Fault, u64>,
    pub(crate) ended: BTreeMap<End, u64>,
}

impl Cell {
    pub(crate) fn failures(&self) -> u64 {
        self.failed.values().sum()
    }

    /// Counts those of another with its own.
    pub(crate) fn add(&mut self, other: &Self) {
        self.asked += other.asked;
        for (fault, count) in &other.failed {
            *self.failed.entry(fault.clone()).or_default() += count;
        }
    }

    /// How many streams are over, by somebody else's doing.
    pub(crate) fn over(&self) -> u64 {
        self.failures() + self.ended.values().sum::<u64>()
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} failed", self.failures(), self.asked)?;
        for (fault, count) in &self.failed {
            write!(f, ", {count} {fault}")?;
        }
        for (end, count) in &self.ended {
            write!(f, ", {count} ended by {end}")?;
        }
        Ok(())
    }
}
