//! Why an attempt failed: a short text for everybody, and a cause for whoever has a remedy to give.

use std::io;
use std::time::Duration;

use thiserror::Error;

use crate::net::tls::client;
use crate::readiness::verdict::one_line;

/// A failed attempt. The text is one short line and carries no credentials.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{reason}")]
pub struct Failure {
    /// What kind of failure it is.
    pub cause: Cause,
    reason: String,
    remedy: Option<String>,
}

/// The kinds of failure that people put right in different ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// What is configured cannot be used.
    Configuration,
    /// The host's name has no address.
    Name,
    /// Nobody listens there.
    Refused,
    /// There is no way there.
    Unreachable,
    /// The connection broke.
    Lost,
    /// No answer in time.
    Timeout,
    /// TLS could not be agreed on.
    Tls,
    /// The credentials were not accepted.
    Credentials,
    /// The server is there and does not serve us for now: starting, full, shutting down.
    Busy,
    /// The server is the other end of a replication.
    Role,
    /// The replication, or the cluster, is not as it should be.
    Replication,
    /// The server answered what does not pass.
    Answer,
    /// The check itself broke.
    Panic,
}

impl Failure {
    /// A failure with a text that may come from elsewhere, which is cut to one line of bounded length. The caller
    /// has removed credentials.
    pub fn new(cause: Cause, reason: &str) -> Self {
        Self { cause, reason: one_line(reason), remedy: None }
    }

    /// The same with what a person does about it, where only the check knows that.
    #[must_use]
    pub fn advising(self, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..self }
    }

    /// What a person does about it, when the check knows more than what follows from cause and kind.
    pub fn remedy(&self) -> Option<&str> {
        self.remedy.as_deref()
    }

    /// No answer within the check's timeout.
    pub fn timeout(limit: Duration) -> Self {
        Self::new(Cause::Timeout, &format!("timeout after {}", humantime::format_duration(limit)))
    }

    /// From an error of the operating system, in the words an operator would use.
    pub fn io(error: &io::Error) -> Self {
        use io::ErrorKind as Kind;
        let (cause, reason) = match error.kind() {
            Kind::ConnectionRefused => (Cause::Refused, "connection refused"),
            Kind::NotFound => (Cause::Refused, "no such socket"),
            Kind::ConnectionReset | Kind::BrokenPipe => (Cause::Lost, "connection reset"),
            Kind::ConnectionAborted | Kind::UnexpectedEof | Kind::NotConnected => {
                (Cause::Lost, "connection closed by the other side")
            }
            Kind::HostUnreachable => (Cause::Unreachable, "no route to host"),
            Kind::NetworkUnreachable | Kind::NetworkDown => (Cause::Unreachable, "network unreachable"),
            Kind::AddrNotAvailable => (Cause::Unreachable, "no local address or port to connect from"),
            Kind::PermissionDenied => (Cause::Unreachable, "permission denied"),
            Kind::TimedOut => (Cause::Timeout, "connecting timed out"),
            // The resolver's errors have no kind; the standard library begins each of them like this.
            _ if error.to_string().starts_with("failed to lookup address") => (Cause::Name, "host name not found"),
            _ => return Self::new(Cause::Lost, &error.to_string()),
        };
        Self::new(cause, reason)
    }

    /// From an error of TLS among an error's sources, if there is one.
    pub fn tls(error: &(dyn std::error::Error + 'static)) -> Option<Self> {
        client::reason(error).map(|reason| Self::new(Cause::Tls, &format!("TLS: {reason}")))
    }

    /// From the first error of the operating system among an error's sources, if there is one.
    pub fn from_sources(error: &(dyn std::error::Error + 'static)) -> Option<Self> {
        let mut sources = std::iter::successors(Some(error), |error| error.source());
        // An io::Error without a number was made by a library around another error, whose text says more.
        let by_system = |error: &&io::Error| error.raw_os_error().is_some() || error.kind() != io::ErrorKind::Other;
        sources.find_map(|error| error.downcast_ref::<io::Error>().filter(by_system).map(Self::io))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_errors_read_as_an_operator_would_say_them() {
        for (error, cause, expected) in [
            (io::Error::from_raw_os_error(111), Cause::Refused, "connection refused"),
            (io::Error::from_raw_os_error(104), Cause::Lost, "connection reset"),
            (io::Error::from_raw_os_error(113), Cause::Unreachable, "no route to host"),
            (io::Error::other("failed to lookup address information: x"), Cause::Name, "host name not found"),
        ] {
            assert_eq!(Failure::io(&error), Failure { cause, reason: expected.to_owned(), remedy: None });
        }
        assert_eq!(Failure::timeout(Duration::from_millis(1500)).to_string(), "timeout after 1s 500ms");
    }
}
