//! Following a file of definitions: its directory is watched, for files are replaced (editors, ConfigMaps) rather than
//! written to; and it is looked at now and then, for watches are lost.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use xxhash_rust::xxh3::xxh3_64;

use super::pace::Pace;
use crate::flags::compile::{self, Format, MAX_DOCUMENT};
use crate::flags::layers::{News, Report};
use crate::flags::model::FlagSet;
use crate::flags::store::Layer;
use crate::net::directory::{self, Watch};

/// A file, as it is followed.
pub(super) struct Follower {
    path: PathBuf,
    source: usize,
    name: Arc<str>,
    reports: mpsc::Sender<Report>,
    pace: Pace,
    /// Layers given so far: the file's revision.
    given: u64,
    seen: Option<Seen>,
}

/// What was last found in the file.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Seen {
    hash: u64,
    valid: bool,
}

/// What one look at the file came to.
enum Look {
    Gone(String),
    Unreadable(String),
    /// As it was.
    Same,
    New(u64, Result<FlagSet, String>),
}

impl Follower {
    pub(super) fn new(path: PathBuf, source: usize, name: Arc<str>, reports: mpsc::Sender<Report>, pace: Pace) -> Self {
        Self { path, source, name, reports, pace, given: 0, seen: None }
    }

    /// Follows for ever.
    ///
    /// # Cancellation
    /// At any point; what was reported is whole.
    pub(super) async fn run(mut self) {
        let (tell, mut told) = mpsc::channel(1);
        let mut watch = Watch::new(directory::of(&self.path), tell);
        loop {
            // Watched first, then read: what changes in between is told.
            watch.renew();
            self.look().await;
            tokio::select! {
                _ = told.recv() => {
                    sleep(self.pace.settle).await;
                    while told.try_recv().is_ok() {}
                }
                () = sleep(self.pace.look) => {}
            }
        }
    }

    async fn look(&mut self) {
        let (path, seen) = (self.path.clone(), self.seen.map(|seen| seen.hash));
        let look = match spawn_blocking(move || look(&path, seen)).await {
            Ok(look) => look,
            Err(ended) => Look::Unreadable(format!("reading it failed: {ended}")),
        };
        let news = match look {
            Look::Gone(why) => News::Missing { why },
            Look::Unreadable(why) => News::Unreachable { why },
            // What was refused then is refused still, and was said.
            Look::Same if !self.seen.is_some_and(|seen| seen.valid) => return,
            Look::Same => News::Confirmed,
            Look::New(hash, outcome) => {
                self.seen = Some(Seen { hash, valid: outcome.is_ok() });
                match outcome {
                    Ok(set) => News::Applied { layer: self.layer(set), written: None },
                    Err(why) => News::Rejected { why },
                }
            }
        };
        // Without anybody to report to, everything is being dropped.
        drop(self.reports.send(Report { source: self.source, news }).await);
    }

    fn layer(&mut self, set: FlagSet) -> Arc<Layer> {
        self.given += 1;
        Arc::new(Layer { name: self.name.clone(), flag_set_id: None, revision: self.given, set: Arc::new(set) })
    }
}

/// Reads the file, and compiles it unless its content is the one `seen`.
fn look(path: &Path, seen: Option<u64>) -> Look {
    let mut bytes = Vec::new();
    // One byte more than is taken, so that the compiler says that it is too large.
    let read = File::open(path).and_then(|file| file.take(MAX_DOCUMENT as u64 + 1).read_to_end(&mut bytes));
    match read {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Look::Gone("there is no such file".to_owned()),
        Err(e) => return Look::Unreadable(e.to_string()),
        Ok(_) => {}
    }
    let hash = xxh3_64(&bytes);
    if seen == Some(hash) {
        return Look::Same;
    }
    let format = match path.extension().and_then(|extension| extension.to_str()) {
        Some("yaml" | "yml") => Format::Yaml,
        _ => Format::Json,
    };
    let outcome = match std::str::from_utf8(&bytes) {
        Ok(text) => compile::document(text, format).map_err(|invalid| super::one_line(&[invalid])),
        Err(e) => Err(format!("not UTF-8: {e}")),
    };
    Look::New(hash, outcome)
}
