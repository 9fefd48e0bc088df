//! What happened in a pod, in order, for whoever judges it or reads why a test failed.

use std::fmt;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

pub(crate) use super::process::Exit;

/// What happened to a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    Started,
    /// A probe failed, or its verdict changed.
    Unhealthy(String),
    /// The startup probe has passed.
    Up,
    Ready,
    NotReady,
    /// It is stopped, for this reason.
    Stopping(&'static str),
    HookBegan,
    /// The hook has returned, with what it said or why it failed.
    HookEnded(Result<String, String>),
    /// SIGTERM.
    Terminated,
    /// SIGKILL: the grace period is over.
    Killed,
    Exited(Exit),
}

/// Something that happened.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    /// Since the pod's start.
    pub(crate) at: Duration,
    pub(crate) container: String,
    pub(crate) what: What,
}

/// The events of a pod.
pub(crate) struct Record {
    began: Instant,
    events: Mutex<Vec<Event>>,
    /// Where containers write.
    pub(super) logs: PathBuf,
}

impl Record {
    pub(super) fn new(logs: PathBuf) -> Self {
        Self { began: Instant::now(), events: Mutex::default(), logs }
    }

    pub(super) fn note(&self, container: &str, what: What) {
        let event = Event { at: self.began.elapsed(), container: container.to_owned(), what };
        self.events.lock().unwrap().push(event);
    }

    /// All of it so far.
    pub(crate) fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap().clone()
    }

    /// The place in the order of what first happened to a container.
    #[track_caller]
    pub(crate) fn place(&self, container: &str, what: impl Fn(&What) -> bool) -> usize {
        let events = self.events();
        let found = events.iter().position(|event| event.container == container && what(&event.what));
        found.unwrap_or_else(|| panic!("did not happen to {container}:\n{self}"))
    }

    /// How often it happened.
    pub(crate) fn count(&self, container: &str, what: impl Fn(&What) -> bool) -> usize {
        self.events().iter().filter(|event| event.container == container && what(&event.what)).count()
    }

    /// How the container ended, each time it did.
    pub(crate) fn exits(&self, container: &str) -> Vec<Exit> {
        let exit = |event: &Event| match event.what {
            What::Exited(exit) if event.container == container => Some(exit),
            _ => None,
        };
        self.events().iter().filter_map(exit).collect()
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for event in self.events() {
            writeln!(f, "{:8.3} s {}: {:?}", event.at.as_secs_f64(), event.container, event.what)?;
        }
        for log in std::fs::read_dir(&self.logs).into_iter().flatten().flatten() {
            let text = std::fs::read(log.path()).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let lines: Vec<&str> = text.lines().collect();
            writeln!(f, "log of {}:", log.file_name().display())?;
            for line in &lines[lines.len().saturating_sub(25)..] {
                writeln!(f, "  {line}")?;
            }
        }
        Ok(())
    }
}
