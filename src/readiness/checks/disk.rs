//! Looks how much of a file system is free, and whether it takes writes. A disk may hang: all of it happens on a thread that is
//! waited for, and never on a second one while the first hangs.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use tokio::task::{JoinHandle, spawn_blocking};

use super::{Cause, Failure};
use crate::readiness::settings::{self, Access};

/// A file system.
#[derive(Debug)]
pub struct Disk {
    settings: settings::Disk,
    /// An attempt that may have been given up, and goes on until the system answers.
    under_way: Option<JoinHandle<Result<(), Failure>>>,
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
        looked.map_err(|error| Failure::new(Cause::Panic, &error.to_string()))?
    }
}

fn look(settings: &settings::Disk) -> Result<(), Failure> {
    let path = &settings.path;
    let failed = |(why, remedy): (String, String)| Failure::new(Cause::Answer, &why).advising(remedy);
    let state = rustix::fs::statvfs(path).map_err(|error| match io::Error::from(error) {
        error if error.kind() == ErrorKind::NotFound => {
            failed(("no such directory".to_owned(), format!("make {0}, or mount what belongs there", path.display())))
        }
        error => failed(told(&error, path)),
    })?;
    let (free, whole) = (state.f_frsize.saturating_mul(state.f_bavail), state.f_frsize.saturating_mul(state.f_blocks));
    judge(free, whole, settings).map_err(failed)?;
    match settings.access {
        Access::Space => Ok(()),
        Access::Write => write(path).map_err(|error| failed(told(&error, path))),
    }
}

/// An error in the words of an operator, and what to do about it.
fn told(error: &io::Error, path: &Path) -> (String, String) {
    let at = path.display();
    let (why, remedy) = match error.kind() {
        ErrorKind::PermissionDenied => {
            ("permission denied", format!("let the sidecar's user make files in {at}: ls -ld {at}"))
        }
        ErrorKind::ReadOnlyFilesystem => ("the file system is read-only", format!("mount {at} for writing")),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            ("no space left for a file", format!("free space or inodes below {at}: df -h {at}; df -i {at}"))
        }
        // The directory itself is there: it was asked for its space.
        ErrorKind::NotFound => ("no file can be made there", format!("name a directory of files in place of {at}")),
        ErrorKind::NotADirectory => ("not a directory", format!("name a directory in place of {at}")),
        _ => return (error.to_string(), format!("look at the file system by hand: touch {at}/x; dmesg")),
    };
    (why.to_owned(), remedy)
}

/// What is free for whoever is not root, of how much there is. The error comes with what to do.
fn judge(free: u64, whole: u64, settings: &settings::Disk) -> Result<(), (String, String)> {
    let bytes = |bytes: u64| format!("{} MiB", bytes >> 20);
    let remedy = |least: u64, key: &str| {
        let more = least.saturating_sub(free).div_ceil(1 << 20);
        format!("free {more} MiB on the file system of {}, or lower {key}", settings.path.display())
    };
    if free < settings.min_free {
        let why = format!("{} free, less than {}", bytes(free), bytes(settings.min_free));
        return Err((why, remedy(settings.min_free, "min_free")));
    }
    let part = settings.min_free_percent;
    let least = (u128::from(whole) * u128::from(part)).div_ceil(100);
    // Of none there is nothing to be short of (procfs, for one).
    if u128::from(free) < least {
        let percent = u128::from(free) * 100 / u128::from(whole.max(1));
        let why = format!("{percent} % free ({}), less than {part} %", bytes(free));
        return Err((why, remedy(u64::try_from(least).unwrap_or(u64::MAX), "min_free_percent")));
    }
    Ok(())
}

/// Writes a small file, makes it durable and removes it. Nothing that is there is opened or followed: whoever may write in
/// the directory could otherwise have another file of ours cut. The name is another one each time, so that none can be taken
/// beforehand.
fn write(directory: &Path) -> io::Result<()> {
    let path = directory.join(format!(".tidegate-check-{:016x}", fastrand::u64(..)));
    // `O_EXCL` does not follow a link either (open(2)); file systems in userspace may be less strict.
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).custom_flags(NO_LINKS);
    let mut file = options.open(&path)?;
    let written = file.write_all(b"tidegate looks whether it can write here\n").and_then(|()| file.sync_all());
    let removed = fs::remove_file(&path);
    written.and(removed)
}

/// `O_NOFOLLOW`
const NO_LINKS: i32 = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(min_free: u64, min_free_percent: u32, access: Access) -> settings::Disk {
        settings::Disk { path: "/".into(), min_free, min_free_percent, access }
    }

    #[test]
    fn what_is_free_is_compared_with_both_bounds() {
        const MIB: u64 = 1 << 20;
        let (file_system, of) = ("free", "MiB on the file system of /, or lower");
        for (free, whole, min_free, percent, expected, more) in [
            (5 * MIB, 100 * MIB, 5 * MIB, 5, "", None),
            (5 * MIB, 101 * MIB, 0, 5, "4 % free (5 MiB), less than 5 %", Some((1, "min_free_percent"))),
            (4 * MIB, 10 * MIB, 5 * MIB, 5, "4 MiB free, less than 5 MiB", Some((1, "min_free"))),
            (4 * MIB, 10 * MIB, 700 * MIB, 5, "4 MiB free, less than 700 MiB", Some((696, "min_free"))),
            (0, 0, 0, 5, "", None),
            (0, u64::MAX, 0, 0, "", None),
            (
                u64::MAX / 2,
                u64::MAX,
                0,
                50,
                "49 % free (8796093022207 MiB), less than 50 %",
                Some((1, "min_free_percent")),
            ),
        ] {
            let judged = judge(free, whole, &settings(min_free, percent, Access::Space));
            let remedy = more.map(|(more, key)| format!("{file_system} {more} {of} {key}")).unwrap_or_default();
            assert_eq!(judged.err().unwrap_or_default(), (expected.to_owned(), remedy));
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
        let said = |path: &Path| {
            let failure = look(&of(path)).expect_err("nothing can be written");
            (failure.to_string(), failure.remedy().unwrap_or_default().to_owned())
        };
        let remedy = format!("make {}, or mount what belongs there", path.display());
        assert_eq!(said(&path), ("no such directory".to_owned(), remedy));
        let remedy = "name a directory of files in place of /proc".to_owned();
        assert_eq!(said(Path::new("/proc")), ("no file can be made there".to_owned(), remedy));
    }
}
