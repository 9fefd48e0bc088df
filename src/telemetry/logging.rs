//! Log output: where lines go, in which shape, from which level on.

use thiserror::Error;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

use super::writer::Lines;

/// The shape of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// One JSON object a line, for collectors.
    #[default]
    Json,
    /// Text for people, coloured on a terminal unless `NO_COLOR` is set.
    Human,
}

/// How the process logs. Lines go to standard error, so that a command's answer on standard output stays clean.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `log.format`.
    pub format: Format,
    /// `log.level`: a level (`info`) or per-target levels (`info,tidegate::proxy=debug`).
    pub filter: Targets,
    /// Whether standard error is a terminal that wants colour.
    pub colour: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { format: Format::Json, filter: Targets::new().with_default(tracing::Level::INFO), colour: false }
    }
}

/// Why logging could not be set up.
#[derive(Debug, Error)]
pub enum InstallError {
    /// No thread for the lines.
    #[error("no thread for the log: {0}")]
    Thread(#[from] std::io::Error),
    /// A subscriber is installed already.
    #[error(transparent)]
    Twice(#[from] TryInitError),
}

/// Installs the process-wide subscriber, and returns what has to be flushed before the process ends.
pub fn install(settings: &Settings) -> Result<Lines, InstallError> {
    let out = Lines::to("log", std::io::stderr())?;
    let lines = match settings.format {
        Format::Json => tracing_subscriber::fmt::layer()
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .with_writer(out.clone())
            .with_filter(of_ours(&settings.filter))
            .boxed(),
        Format::Human => tracing_subscriber::fmt::layer()
            .with_ansi(settings.colour)
            .with_target(false)
            .with_writer(out.clone())
            .with_filter(of_ours(&settings.filter))
            .boxed(),
    };
    tracing_subscriber::registry().with(lines).try_init()?;
    Ok(out)
}

/// The h2 crate warns of what a peer does, once for each frame: a client that sends many could fill the log with it. It is
/// heard where somebody wants to know more.
fn of_ours(filter: &Targets) -> Targets {
    match filter.would_enable("h2::proto", &tracing::Level::DEBUG) {
        true => filter.clone(),
        false => filter.clone().with_target("h2", LevelFilter::ERROR),
    }
}

/// Logs panics as one line each, in the log's own shape. The panic's message stays out: it may quote what must not
/// be printed.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        let thread = std::thread::current();
        tracing::error!(thread = thread.name(), place, "panicked");
    }));
}
