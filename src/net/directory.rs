//! Being told of changes in a directory. Directories are watched and not files, because files are replaced (editors,
//! ConfigMaps, Secrets) rather than written to. A watch may be lost: whoever uses one also looks now and then.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;

/// The directory that a file is in.
pub fn of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// The watch on a directory, which may come, go and be replaced.
pub struct Watch {
    directory: PathBuf,
    tell: mpsc::Sender<()>,
    /// The watcher, and device and inode of what it watches.
    watching: Option<(RecommendedWatcher, (u64, u64))>,
    complained: bool,
}

impl Watch {
    /// Watches nothing before the first [`Watch::renew`]. Changes are told to `tell`; one that waits there stands for
    /// those that follow.
    pub fn new(directory: PathBuf, tell: mpsc::Sender<()>) -> Self {
        Self { directory, tell, watching: None, complained: false }
    }

    /// Watches what is at the directory's path now.
    pub fn renew(&mut self) {
        let there = fs::metadata(&self.directory).ok().map(|metadata| (metadata.dev(), metadata.ino()));
        if there == self.watching.as_ref().map(|(_, watched)| *watched) {
            return;
        }
        self.watching = None;
        let Some(there) = there else { return };
        let tell = self.tell.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading the file is an event too, and would have it read again for ever.
            let reading = |kind: &EventKind| matches!(kind, EventKind::Access(kind) if *kind != AccessKind::Close(AccessMode::Write));
            if !event.is_ok_and(|event| reading(&event.kind)) {
                // One that waits to be seen is enough.
                tell.try_send(()).unwrap_or_default();
            }
        });
        let watching = watcher.and_then(|mut watcher| {
            watcher.watch(&self.directory, RecursiveMode::NonRecursive)?;
            Ok(watcher)
        });
        match watching {
            Ok(watcher) => self.watching = Some((watcher, there)),
            Err(error) if !self.complained => {
                self.complained = true;
                let directory = self.directory.display().to_string();
                tracing::warn!(directory, %error, "directory cannot be watched; its files are looked at now and then");
            }
            Err(_) => {}
        }
    }
}
