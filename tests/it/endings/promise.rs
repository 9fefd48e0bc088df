//! What the design promises for each cell of the matrix, and how a cell is judged.

use super::load::Protocol;
use super::tally::{Cell, End, Fault};

/// A row of the matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ending {
    RollingUpdate,
    AppRestart,
    AppCrash,
    SignalNative,
    SignalContainer,
    Deadline,
}

/// A cell's promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Promise {
    /// No request fails, no stream is ended by somebody else.
    Nothing,
    /// What was in flight, once a client at most, fails in a way that its client can tell; what comes next is served.
    InFlight,
    /// No request fails. Streams that were open, once a client at most, get this end.
    Streams(End),
    /// Every stream that would go on for ever gets this end.
    Ends(&'static [End]),
}

impl Ending {
    pub(super) const ALL: [Self; 6] = [
        Self::RollingUpdate,
        Self::AppRestart,
        Self::AppCrash,
        Self::SignalNative,
        Self::SignalContainer,
        Self::Deadline,
    ];

    /// The name in the matrix.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::RollingUpdate => "rolling update",
            Self::AppRestart => "restart of the app",
            Self::AppCrash => "crash of the app",
            Self::SignalNative => "SIGTERM, native sidecar",
            Self::SignalContainer => "SIGTERM, plain container",
            Self::Deadline => "the deadline is reached",
        }
    }

    /// What the design promises.
    pub(super) fn promise(self, protocol: Protocol) -> Promise {
        match (self, protocol) {
            (Self::AppCrash, _) => Promise::InFlight,
            (Self::AppRestart, Protocol::WebSocket | Protocol::WebSocketHttp2) => Promise::Streams(End::Close(1012)),
            (Self::Deadline, Protocol::WebSocket | Protocol::WebSocketHttp2) => Promise::Ends(&[End::Close(1001)]),
            (Self::Deadline, Protocol::GrpcStream) => Promise::Ends(&[End::Reset]),
            (Self::Deadline, Protocol::Events) => Promise::Ends(&[End::Cut]),
            _ => Promise::Nothing,
        }
    }
}

impl Promise {
    /// What is wrong with a cell.
    pub(super) fn broken_by(&self, protocol: Protocol, cell: &Cell) -> Option<String> {
        let clients = protocol.clients();
        let ended: u64 = cell.ended.values().sum();
        let telling = |fault: &Fault| match fault {
            Fault::Lost | Fault::Grpc(14) => true,
            Fault::Status(status) => [502, 503, 504].contains(status),
            _ => false,
        };
        let broken = match self {
            _ if cell.messages < 5 * clients => "hardly anything was asked",
            Self::Nothing if cell.failures() > 0 => "requests failed",
            Self::Nothing if ended > 0 => "streams were ended",
            Self::InFlight if !cell.failed.keys().all(telling) => "a failure that its client cannot take for one",
            Self::InFlight if cell.failures() + ended > clients => "more than was in flight failed",
            Self::Streams(_) if cell.failures() > 0 => "requests failed",
            Self::Streams(end) if cell.ended.keys().any(|known| known != end) => "another end than promised",
            Self::Streams(_) if ended > clients => "more than was open was ended",
            Self::Ends(_) if cell.failures() > 0 => "streams failed",
            Self::Ends(ends) if !cell.ended.keys().all(|end| ends.contains(end)) => "another end than promised",
            Self::Ends(_) if ended != clients => "not every stream was ended",
            _ => return None,
        };
        Some(broken.to_owned())
    }

    /// The words of the documentation.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Nothing => "0 failed".to_owned(),
            Self::InFlight => "in flight fails".to_owned(),
            Self::Streams(end) => end.to_string(),
            Self::Ends([End::Close(code)]) => format!("Close {code}"),
            Self::Ends([End::Cut]) => "cut".to_owned(),
            Self::Ends(_) => "CANCELLED".to_owned(),
        }
    }
}
