//! Looks how much of a file system is free, and whether it takes writes. A disk may hang: all of it happens on a thread that is
//! waited for, and never on a second one while the first hangs.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::path::Path;

use tokio::task::{JoinHandle, spawn_blocking};

use super::{Cause, Failure};
use crate::readiness::settings::{self, Access};

/// A file system.
#[derive(Debug)]
pub struct Disk {
    settings: settings::Disk,
    /// An attempt that may have been given up, and goes on until the system answers.
    under_way: Option<JoinHandle<Result<(), String>>>,
}

impl Disk {
    pub(super) fn new(settings: &settings::Disk) -> Self {
        Self { settings: settings.clone(), under_way: None }
    }

    pub(super) async fn attempt(&mut self) -> Result<(), Failure> {
        if let Some(earlier) = &mut self.under_way {
            // What it says is of the past.
            let _past = earlier.await;
            self.under_way = None;
        }
        let settings = self.settings.clone();
        let looked = self.under_way.insert(spawn_blocking(move || look(&settings))).await;
        self.under_way = None;
        let looked = looked.map_err(|error| Failure::new(Cause::Panic, &error.to_string()))?;
        looked.map_err(|why| Failure::new(Cause::Answer, &why))
    }
}

fn look(settings: &settings::Disk) -> Result<(), String> {
    let path = &settings.path;
    let told = |error: io::Error| match error.kind() {
        ErrorKind::NotFound => "no such directory".to_owned(),
        ErrorKind::PermissionDenied => "permission denied".to_owned(),
        ErrorKind::ReadOnlyFilesystem => "the file system is read-only".to_owned(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "no space left for a file".to_owned(),
        _ => error.to_string(),
    };
    let state = rustix::fs::statvfs(path).map_err(|error| told(error.into()))?;
    judge(state.f_frsize.saturating_mul(state.f_bavail), state.f_frsize.saturating_mul(state.f_blocks), settings)?;
    match settings.access {
        Access::Space => Ok(()),
        Access::Write => write(path).map_err(told),
    }
}

/// What is free for whoever is not root, of how much there is.
fn judge(free: u64, whole: u64, settings: &settings::Disk) -> Result<(), String> {
    let bytes = |bytes: u64| format!("{} MiB", bytes >> 20);
    if free < settings.min_free {
        return Err(format!("{} free, less than {}", bytes(free), bytes(settings.min_free)));
    }
    let least = settings.min_free_percent;
    // Of none there is nothing to be short of (procfs, for one).
    if u128::from(free) * 100 < u128::from(whole) * u128::from(least) {
        let percent = u128::from(free) * 100 / u128::from(whole.max(1));
        return Err(format!("{percent} % free ({}), less than {least} %", bytes(free)));
    }
    Ok(())
}

/// Writes a small file, makes it durable and removes it. One that a process before us left is written over.
fn write(directory: &Path) -> io::Result<()> {
    let path = directory.join(format!(".tidegate-check-{}", std::process::id()));
    let written = File::create(&path).and_then(|mut file| {
        file.write_all(b"tidegate looks whether it can write here\n")?;
        file.sync_all()
    });
    let removed = fs::remove_file(&path);
    written.and(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(min_free: u64, min_free_percent: u32, access: Access) -> settings::Disk {
        settings::Disk { path: "/".into(), min_free, min_free_percent, access }
    }

    #[test]
    fn what_is_free_is_compared_with_both_bounds() {
        const MIB: u64 = 1 << 20;
        for (free, whole, min_free, percent, expected) in [
            (5 * MIB, 100 * MIB, 5 * MIB, 5, ""),
            (5 * MIB, 101 * MIB, 0, 5, "4 % free (5 MiB), less than 5 %"),
            (4 * MIB, 10 * MIB, 5 * MIB, 5, "4 MiB free, less than 5 MiB"),
            (0, 0, 0, 5, ""),
            (0, u64::MAX, 0, 0, ""),
            (u64::MAX / 2, u64::MAX, 0, 50, "49 % free (8796093022207 MiB), less than 50 %"),
        ] {
            let judged = judge(free, whole, &settings(min_free, percent, Access::Space));
            assert_eq!(judged.err().unwrap_or_default(), expected);
        }
    }

    #[test]
    fn a_write_leaves_nothing_behind_and_its_failure_is_said() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().to_owned();
        let of = |path: &Path| settings::Disk { path: path.to_owned(), ..settings(0, 0, Access::Write) };
        assert_eq!(look(&of(&path)), Ok(()));
        assert_eq!(fs::read_dir(&path).expect("it is there").count(), 0);
        drop(directory);
        assert_eq!(look(&of(&path)), Err("no such directory".to_owned()));
        assert!(look(&of(Path::new("/proc"))).is_err());
    }
}
