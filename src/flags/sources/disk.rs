//! Keeping the last known good of a Redis scope in `state_dir`, never in the way of serving: a file is replaced
//! whole, and whatever is found there is checked before it is believed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::kept::Kept;
use super::pace::Pace;
use super::redis::Held;
use crate::flags::contract::MAX_BYTES;
use crate::flags::layers::{News, Report};

/// Where one scope is kept.
#[derive(Debug, Clone)]
pub(super) struct Place {
    directory: PathBuf,
    name: String,
    flags_key: String,
}

/// What should be on disk.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) held: Arc<Held>,
    /// When the source last confirmed it.
    pub(super) confirmed: SystemTime,
}

impl Place {
    /// In `state_dir`, for the scope whose flags are at `flags_key` and that is called `scope`.
    pub(super) fn new(state_dir: &Path, scope: &str, flags_key: &str) -> Self {
        // Scopes may hold '/' and ':', which no file name should.
        let safe = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '.' };
        let tag = xxhash_rust::xxh3::xxh3_64(flags_key.as_bytes());
        let scope: String = scope.chars().take(64).map(safe).collect();
        Self {
            directory: state_dir.join("flags"),
            name: format!("redis-{scope}-{tag:016x}.kept"),
            flags_key: flags_key.to_owned(),
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.join(&self.name)
    }

    /// What is kept and when it was confirmed; `None` when there is nothing that can be believed.
    pub(super) async fn load(&self) -> Option<(Kept, SystemTime)> {
        let place = self.clone();
        match spawn_blocking(move || place.read()).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                let path = self.path().display().to_string();
                tracing::warn!(path, error, "last known good flags are ignored");
                None
            }
            Err(ended) => {
                tracing::error!(error = %ended, "last known good flags were not read");
                None
            }
        }
    }

    fn read(&self) -> Result<Option<(Kept, SystemTime)>, String> {
        let file = match File::open(self.path()) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e.to_string()),
        };
        let confirmed = file.metadata().and_then(|metadata| metadata.modified()).map_err(|e| e.to_string())?;
        // JSON escapes: at worst six bytes for one.
        let limit = MAX_BYTES as u64 * 6;
        let mut bytes = Vec::new();
        file.take(limit).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
        let kept = Kept::decode(&bytes, &self.flags_key).map_err(|e| e.to_string())?;
        Ok(Some((kept, confirmed)))
    }

    /// Replaces the file: a crash at any point leaves the old one or the new one.
    fn write(&self, kept: &Kept, confirmed: SystemTime) -> io::Result<()> {
        fs::create_dir_all(&self.directory)?;
        // The same name every time, so that what a crash left is overwritten and never piles up. Should two processes
        // share the directory, the checksum tells what they made of it.
        let unfinished = self.directory.join(format!("{}.unfinished", self.name));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
        file.write_all(&kept.encode())?;
        file.set_modified(confirmed)?;
        file.sync_all()?;
        fs::rename(&unfinished, self.path())?;
        // The rename itself is on disk only when the directory is.
        File::open(&self.directory)?.sync_all()
    }

    /// Notes that what is kept still holds.
    fn confirm(&self, confirmed: SystemTime) -> io::Result<()> {
        OpenOptions::new().write(true).open(self.path())?.set_modified(confirmed)
    }
}

/// Writes what is wanted, a little later, for as long as anybody may want something.
///
/// # Cancellation
/// A write that has begun ends on its own thread; what was wanted within the last moment is not written.
pub(super) async fn run(
    place: Place,
    source: usize,
    mut wanted: watch::Receiver<Option<Wanted>>,
    reports: mpsc::Sender<Report>,
    pace: Pace,
) {
    let mut written: Option<Arc<Held>> = None;
    let mut failed = false;
    loop {
        if failed {
            sleep(pace.save_again).await;
        } else if wanted.changed().await.is_err() {
            return;
        } else {
            sleep(pace.save).await;
        }
        let Some(now) = wanted.borrow_and_update().clone() else { continue };
        let unchanged = written.as_ref().is_some_and(|written| Arc::ptr_eq(written, &now.held));
        let (at, held, confirmed) = (place.clone(), now.held.clone(), now.confirmed);
        // The last may be held by nobody else by now, and freeing thousands of flags takes as long as writing them.
        let last = written.take();
        let save = move || {
            drop(last);
            match unchanged {
                true => at.confirm(confirmed),
                false => at.write(&now.held.keep(&at.flags_key), confirmed),
            }
        };
        let outcome = match spawn_blocking(save).await {
            Ok(outcome) => outcome,
            Err(ended) if ended.is_panic() => std::panic::resume_unwind(ended.into_panic()),
            Err(_) => return,
        };
        failed = outcome.is_err();
        // A file that somebody removed cannot be confirmed: the next attempt writes it anew.
        written = (!failed).then_some(held);
        let news = News::Kept(outcome.map_err(|e| format!("{}: {e}", place.path().display())));
        if reports.send(Report { source, news }).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn confirmed() -> SystemTime {
        SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000)
    }

    fn kept(rev: u64) -> Kept {
        Kept {
            flags_key: "t:{a}:flags".to_owned(),
            rev,
            incarnation: String::new(),
            evaluators: None,
            metadata: None,
            flags: [("k".to_owned(), "x".repeat(100_000))].into(),
        }
    }

    #[test]
    fn a_crash_in_the_middle_of_a_write_leaves_the_last_one() {
        let directory = tempfile::tempdir().expect("a directory");
        let place = Place::new(directory.path(), "a/b", "t:{a}:flags");
        assert_eq!(place.read(), Ok(None));
        place.write(&kept(1), confirmed()).expect("written");
        // What kill -9 leaves: a part of the next one under its unfinished name.
        let half = &kept(2).encode()[..50_000];
        fs::write(place.directory.join(format!("{}.unfinished", place.name)), half).expect("written");
        let (read, at) = place.read().expect("whole").expect("there");
        assert_eq!((read.rev, at), (1, confirmed()));
        place.write(&kept(3), confirmed()).expect("written over what was left");
        assert_eq!(place.read().expect("whole").expect("there").0.rev, 3);
        assert_eq!(fs::read_dir(&place.directory).expect("there").count(), 1, "nothing is left behind");
    }

    #[test]
    fn a_file_that_is_damaged_or_no_file_is_not_believed() {
        let directory = tempfile::tempdir().expect("a directory");
        let place = Place::new(directory.path(), "a", "t:{a}:flags");
        place.write(&kept(1), confirmed()).expect("written");
        fs::write(place.path(), &kept(1).encode()[..50_000]).expect("cut");
        assert!(place.read().is_err_and(|why| why.contains("100")), "cut short");
        fs::write(place.path(), "").expect("emptied");
        assert!(place.read().is_err());
        fs::remove_file(place.path()).expect("there");
        fs::create_dir(place.path()).expect("a directory in its place");
        assert!(place.read().is_err());
    }
}
