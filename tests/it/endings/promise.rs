//! What the design promises for each cell of the matrix, and how a cell is judged.

use super::load::Protocol;
use super::tally::{Cell, End};

/// A row of the matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ending {
    RollingUpdate,
    SignalNative,
    SignalContainer,
    Deadline,
}

/// A cell's promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Promise {
    /// No request fails, no stream is ended by somebody else.
    Nothing,
    /// Every stream that would go on for ever gets this end.
    Ends(&'static [End]),
}

impl Ending {
    pub(super) const ALL: [Self; 4] = [Self::RollingUpdate, Self::SignalNative, Self::SignalContainer, Self::Deadline];

    /// The name in the matrix.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::RollingUpdate => "rolling update",
            Self::SignalNative => "SIGTERM, native sidecar",
            Self::SignalContainer => "SIGTERM, plain container",
            Self::Deadline => "the deadline is reached",
        }
    }

    /// What the design promises.
    pub(super) fn promise(self, protocol: Protocol) -> Promise {
        match (self, protocol) {
            (Self::Deadline, Protocol::WebSocket) => Promise::Ends(&[End::Close(1001)]),
            (Self::Deadline, Protocol::Events) => Promise::Ends(&[End::Cut]),
            _ => Promise::Nothing,
        }
    }
}

impl Promise {
    /// What is wrong with a cell.
    pub(super) fn broken_by(self, protocol: Protocol, cell: &Cell) -> Option<String> {
        let clients = protocol.clients();
        let ended: u64 = cell.ended.values().sum();
        let broken = match self {
            _ if cell.messages < 5 * clients => "hardly anything was asked",
            Self::Nothing if cell.failures() > 0 => "requests failed",
            Self::Nothing if ended > 0 => "streams were ended",
            Self::Ends(_) if cell.failures() > 0 => "streams failed",
            Self::Ends(ends) if !cell.ended.keys().all(|end| ends.contains(end)) => "another end than promised",
            Self::Ends(_) if ended != clients => "not every stream was ended",
            _ => return None,
        };
        Some(broken.to_owned())
    }

    /// The words of the documentation.
    pub(super) fn words(self) -> String {
        match self {
            Self::Nothing => "0 failed".to_owned(),
            Self::Ends([End::Close(code)]) => format!("Close {code}"),
            Self::Ends([End::Cut]) => "cut".to_owned(),
            Self::Ends(_) => "another".to_owned(),
        }
    }
}
