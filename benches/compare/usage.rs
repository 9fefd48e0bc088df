//! What a process and its children have used, as the kernel counts it in `/proc`.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use anyhow::Context;

/// `root` and all its descendants, those born by now.
///
/// # Errors
/// When `root` does not run.
pub(crate) fn tree(root: u32) -> anyhow::Result<Vec<u32>> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // Others' processes may end while we look.
        let Ok(fields) = stat(pid) else { continue };
        if let Some(parent) = fields.get(1).and_then(|field| field.parse().ok()) {
            children.entry(parent).or_default().push(pid);
        }
    }
    stat(root)?;
    let mut found = vec![root];
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        found.extend(children.remove(pid).unwrap_or_default());
        next += 1;
    }
    Ok(found)
}

/// The CPU time of every thread at one moment, by thread.
///
/// From `schedstat`, which counts nanoseconds where `stat` counts ticks of 10 ms: a round can then be short, and a run
/// have many of them.
pub(crate) struct Clock(HashMap<u32, u64>);

impl Clock {
    /// Reads the threads of all of `pids`.
    ///
    /// # Errors
    /// When one of the processes has ended.
    pub(crate) fn read(pids: &[u32]) -> anyhow::Result<Self> {
        let mut threads = HashMap::new();
        for pid in pids {
            let tasks =
                fs::read_dir(format!("/proc/{pid}/task")).with_context(|| format!("process {pid} has ended"))?;
            for task in tasks.flatten() {
                let Some(thread) = task.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
                // A thread may end while we look.
                let Ok(line) = fs::read_to_string(task.path().join("schedstat")) else { continue };
                let spent = line.split_whitespace().next().context("an empty schedstat")?.parse()?;
                threads.insert(thread, spent);
            }
        }
        Ok(Clock(threads))
    }

    /// What the threads of now have spent since `before`; what a thread spent that ended in between is lost.
    pub(crate) fn since(&self, before: &Clock) -> Duration {
        let spent = |(thread, now): (&u32, &u64)| now.saturating_sub(before.0.get(thread).copied().unwrap_or(0));
        Duration::from_nanos(self.0.iter().map(spent).sum())
    }
}

/// Resident memory of all of `pids`, in kibibytes; pages that they share count for each.
///
/// # Errors
/// When one of them has ended.
pub(crate) fn resident(pids: &[u32]) -> anyhow::Result<u64> {
    let mut sum = 0;
    for pid in pids {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("a status without VmRSS")?;
        sum += line.trim().trim_end_matches("kB").trim().parse::<u64>()?;
    }
    Ok(sum)
}

/// The fields of `/proc/PID/stat` after the command's name, which may hold anything: state, parent, ….
fn stat(pid: u32) -> anyhow::Result<Vec<String>> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid} has ended"))?;
    let (_, fields) = line.rsplit_once(')').context("a stat line without a name")?;
    Ok(fields.split_whitespace().map(str::to_owned).collect())
}
