//! What the flag service says of itself: plain values for `/v1/status`, `/readyz` and `tidegate status`.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Serialize, Serializer};

use super::overrides::Overridden;

/// A source that says it is fresh and has not confirmed anything for this long is wedged. Sources confirm at least
/// every 33 s.
const WEDGED: Duration = Duration::from_secs(120);

/// The state of all sources.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Whether the first snapshot is applied, as far as every source has one; once true it stays.
    pub ready: bool,
    /// Whether something is served that its source does not confirm, or a source is out of reach.
    pub stale: bool,
    /// The generation in force, `Tidegate-Revision`.
    pub generation: u64,
    /// Flags in force.
    pub flags: usize,
    /// By priority, the highest first.
    pub sources: Vec<Source>,
    /// Flags forced in this process, above every source.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<Overridden>,
}

/// One source of flags.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Source {
    /// `redis:SCOPE` or `file:PATH`.
    pub name: Arc<str>,
    /// How it is.
    #[serde(flatten)]
    pub state: State,
    /// The source's own revision of what is served; `None` while it gave nothing.
    pub revision: Option<u64>,
    /// Flags it gives, covered by a higher layer or not.
    pub flags: usize,
    /// Whether what is served comes from the last known good on disk.
    pub from_disk: bool,
    /// When the source last confirmed what is served; in milliseconds since the epoch when serialised.
    #[serde(serialize_with = "millis")]
    pub confirmed_at: Option<SystemTime>,
    /// Why the last known good cannot be written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_error: Option<String>,
}

/// How a source is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum State {
    /// It has not answered yet.
    Waiting,
    /// What it last gave is in force.
    Fresh,
    /// It is out of reach; what it last gave stays in force.
    Stale {
        /// What was tried.
        why: String,
    },
    /// It answered that it has nothing; what it last gave stays in force, for it may have lost it.
    Missing {
        /// What is not there.
        why: String,
    },
    /// It gave something that does not validate; what it gave before stays in force.
    Rejected {
        /// What is wrong with it.
        why: String,
    },
}

impl State {
    /// The name in logs and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Fresh => "fresh",
            Self::Stale { .. } => "stale",
            Self::Missing { .. } => "missing",
            Self::Rejected { .. } => "rejected",
        }
    }

    /// What is wrong, if anything.
    pub fn why(&self) -> Option<&str> {
        match self {
            Self::Waiting | Self::Fresh => None,
            Self::Stale { why } | Self::Missing { why } | Self::Rejected { why } => Some(why),
        }
    }
}

impl Source {
    /// Whether it is a file: an operator names one that is there, where a scope may not be written yet.
    pub(super) fn is_file(&self) -> bool {
        self.name.starts_with("file:")
    }

    /// Whether something is served that it does not confirm, or might be hidden by what it would say.
    pub fn is_stale(&self) -> bool {
        match self.state {
            State::Waiting | State::Fresh => false,
            State::Missing { .. } => self.revision.is_some(),
            State::Stale { .. } | State::Rejected { .. } => true,
        }
    }

    /// How long ago the source confirmed what is served.
    pub fn age(&self, now: SystemTime) -> Option<Duration> {
        // A clock that was set back makes things young, not unknown.
        self.confirmed_at.map(|at| now.duration_since(at).unwrap_or_default())
    }
}

impl Status {
    /// Why an instance is not ready as far as flags go; `None` when they are no reason. `max_stale` is the longest
    /// that something unconfirmed may be served.
    pub fn unready(&self, now: SystemTime, max_stale: Option<Duration>) -> Option<String> {
        if !self.ready {
            let waiting = self.sources.iter().find(|source| source.revision.is_none() && source.state != State::Fresh);
            return Some(match waiting.map(|source| (&source.name, source.state.why())) {
                Some((name, Some(why))) => format!("no flags yet from {name}: {why}"),
                Some((name, None)) => format!("no flags yet from {name}"),
                None => "no flags yet".to_owned(),
            });
        }
        let max_stale = max_stale?;
        self.sources.iter().find_map(|source| {
            let limit = if source.state == State::Fresh { max_stale.max(WEDGED) } else { max_stale };
            let age = source.age(now).filter(|age| *age > limit)?;
            let age = humantime::format_duration(Duration::from_secs(age.as_secs()));
            Some(match source.state.why() {
                Some(why) => format!("{} not confirmed for {age}: {why}", source.name),
                None => format!("{} not confirmed for {age}", source.name),
            })
        })
    }
}

pub(super) fn millis<S: Serializer>(at: &Option<SystemTime>, serializer: S) -> Result<S::Ok, S::Error> {
    let millis = at.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok()).map(|since| since.as_millis());
    millis.map(|millis| u64::try_from(millis).unwrap_or(u64::MAX)).serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(ready: bool, state: State, confirmed: Option<u64>) -> Status {
        let confirmed_at = confirmed.map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        let revision = confirmed.map(|_| 7);
        let name = "redis:orders".into();
        let source = Source { name, state, revision, flags: 1, from_disk: false, confirmed_at, disk_error: None };
        Status { ready, stale: false, generation: 1, flags: 1, sources: vec![source], overrides: Vec::new() }
    }

    #[test]
    fn only_what_is_too_old_or_never_came_is_a_reason() {
        let stale = || State::Stale { why: "connection refused".to_owned() };
        let minute = Some(Duration::from_secs(60));
        let cases = [
            (status(false, State::Waiting, None), minute, Some("no flags yet from redis:orders")),
            (status(false, stale(), None), None, Some("no flags yet from redis:orders: connection refused")),
            (status(true, stale(), Some(1000)), None, None),
            (status(true, stale(), Some(940)), minute, None),
            (
                status(true, stale(), Some(939)),
                minute,
                Some("redis:orders not confirmed for 1m 1s: connection refused"),
            ),
            (status(true, stale(), Some(2000)), minute, None),
            (status(true, State::Fresh, Some(900)), minute, None),
            (status(true, State::Fresh, Some(800)), minute, Some("redis:orders not confirmed for 3m 20s")),
            (status(true, State::Missing { why: "no meta".to_owned() }, None), minute, None),
        ];
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        for (status, max_stale, expected) in cases {
            assert_eq!(status.unready(now, max_stale).as_deref(), expected, "{status:?}");
        }
    }

    #[test]
    fn a_status_serialises_flat() {
        let text = serde_json::to_string(&status(true, State::Stale { why: "x".to_owned() }, Some(2))).expect("plain");
        assert_eq!(
            text,
            r#"{"ready":true,"stale":false,"generation":1,"flags":1,"sources":[{"name":"redis:orders","state":"stale","why":"x","revision":7,"flags":1,"from_disk":false,"confirmed_at":2000}]}"#
        );
    }
}
