//! What the machine says where the configuration says nothing: host name, processors, a state directory, a terminal.

use std::fs;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::net::tls::material::{self, Read};

/// More workers than this are never a default: a sidecar leaves the processors to its app.
const MAX_WORKERS: usize = 2;

/// Where the state is kept when nothing else is said and the directory is there.
const STATE_DIR: &str = "/var/lib/tidegate";

/// What defaults are taken from.
#[derive(Debug, Clone)]
pub struct Machine {
    /// The host name, in a pod its name.
    pub hostname: Option<String>,
    /// Processors this process may use: its quota rounded up, at most 2.
    pub workers: usize,
    /// `/var/lib/tidegate` when it is a directory. It is never created: checking a configuration leaves no trace, and
    /// whoever wants state kept mounts a volume or names a path.
    pub state_dir: Option<PathBuf>,
    /// Whether standard error is a terminal.
    pub terminal: bool,
    /// Answers for the content of a certificate's file or a key's; an error says why not. `None` for a machine whose files
    /// are elsewhere: then they are not judged.
    pub read: Option<Read>,
    /// The time, which certificates have theirs of.
    pub now: SystemTime,
}

impl Machine {
    /// This machine. Reads a few small files of the kernel.
    pub fn observe() -> Self {
        let available = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let quota = quota(Path::new("/"));
        Self {
            hostname: fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|name| name.trim().to_owned()),
            workers: quota.unwrap_or(available).min(available).clamp(1, MAX_WORKERS),
            state_dir: Path::new(STATE_DIR).is_dir().then(|| STATE_DIR.into()),
            terminal: std::io::stderr().is_terminal(),
            read: Some(material::read),
            now: SystemTime::now(),
        }
    }

    /// A machine nothing is known about.
    pub fn unknown() -> Self {
        Self { hostname: None, workers: 1, state_dir: None, terminal: false, read: None, now: SystemTime::UNIX_EPOCH }
    }

    /// The workload's name as far as the host name tells it, else `app`.
    pub(super) fn workload(&self) -> String {
        self.hostname.as_deref().and_then(workload).unwrap_or("app").to_owned()
    }
}

/// A pod's host name without what its controller appended: `-6b7c9d5f4-x2x9z` of a Deployment, `-x2x9z` of a DaemonSet
/// or Job, `-0` of a StatefulSet.
fn workload(hostname: &str) -> Option<&str> {
    // The alphabet of Kubernetes' generated names (k8s.io/apimachinery, util/rand): no vowels, no 0, 1 or 3.
    let generated = |text: &str| text.bytes().all(|b| b"bcdfghjklmnpqrstvwxz2456789".contains(&b));
    let container_id =
        hostname.len() == 12 && hostname.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase());
    if hostname == "localhost" || container_id || super::values::check_name(hostname, 253, "._-").is_err() {
        return None;
    }
    let name = match hostname.rsplit_once('-') {
        Some((rest, suffix)) if suffix.len() == 5 && generated(suffix) => match rest.rsplit_once('-') {
            Some((name, hash)) if (6..=10).contains(&hash.len()) && generated(hash) => name,
            _ => rest,
        },
        Some((rest, ordinal)) if !ordinal.is_empty() && ordinal.bytes().all(|b| b.is_ascii_digit()) => rest,
        _ => hostname,
    };
    (!name.is_empty()).then_some(name)
}

/// The smallest processor quota of this process's control group and those around it, rounded up. `root` is `/`.
fn quota(root: &Path) -> Option<usize> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let mut quotas = Vec::new();
    for line in groups.lines() {
        // hierarchy-ID:controllers:path (cgroups(7)); version 2 is hierarchy 0 without controllers.
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else { continue };
        let (mount, read): (&str, fn(&Path) -> Option<usize>) = match controllers {
            "" => ("sys/fs/cgroup", version_2),
            controllers if controllers.split(',').any(|name| name == "cpu") => ("sys/fs/cgroup/cpu", version_1),
            _ => continue,
        };
        let mount = root.join(mount);
        // A container sees its own group as the root of the mount, whatever path it is told (no group namespace): the
        // path's directories that exist, and the mount itself, are asked.
        let group = mount.join(path.trim_start_matches('/'));
        quotas.extend(group.ancestors().take_while(|dir| dir.starts_with(&mount)).filter_map(read));
    }
    quotas.into_iter().min()
}

/// `cpu.max`: `QUOTA PERIOD`, or `max PERIOD` (Linux, cgroup-v2, "CPU Interface Files").
fn version_2(group: &Path) -> Option<usize> {
    let text = fs::read_to_string(group.join("cpu.max")).ok()?;
    let (quota, period) = text.trim().split_once(' ')?;
    processors(quota, period)
}

/// `cpu.cfs_quota_us` (-1: none) and `cpu.cfs_period_us` (Linux, "CFS Bandwidth Control").
fn version_1(group: &Path) -> Option<usize> {
    let quota = fs::read_to_string(group.join("cpu.cfs_quota_us")).ok()?;
    let period = fs::read_to_string(group.join("cpu.cfs_period_us")).ok()?;
    processors(quota.trim(), period.trim())
}

fn processors(quota: &str, period: &str) -> Option<usize> {
    let (quota, period) = (quota.parse::<u64>().ok()?, period.parse::<u64>().ok()?);
    (period > 0).then(|| usize::try_from(quota.div_ceil(period)).unwrap_or(usize::MAX).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workload_is_the_host_name_without_what_its_controller_appended() {
        for (hostname, expected) in [
            ("orders-6b7c9d5f4-x2x9z", Some("orders")),
            ("orders-api-6b7c9d5f4-x2x9z", Some("orders-api")),
            ("node-agent-x2x9z", Some("node-agent")),
            ("orders-db-x2x9z", Some("orders-db")),
            ("orders-0", Some("orders")),
            ("orders-12", Some("orders")),
            ("orders", Some("orders")),
            ("build-host", Some("build-host")),
            ("localhost", None),
            ("3f2a9c1b7d4e", None),
            ("with space", None),
            ("", None),
        ] {
            assert_eq!(workload(hostname), expected, "{hostname}");
        }
    }

    #[test]
    fn the_quota_is_rounded_up_and_the_smallest_one_counts() {
        type Files = &'static [(&'static str, &'static str)];
        let cases: [(&str, Files, Option<usize>); 7] = [
            ("0::/\n", &[("sys/fs/cgroup/cpu.max", "150000 100000\n")], Some(2)),
            ("0::/\n", &[("sys/fs/cgroup/cpu.max", "max 100000\n")], None),
            ("0::/\n", &[("sys/fs/cgroup/cpu.max", "1000 100000\n")], Some(1)),
            (
                "0::/pod/app\n",
                &[("sys/fs/cgroup/pod/cpu.max", "100000 100000"), ("sys/fs/cgroup/pod/app/cpu.max", "400000 100000")],
                Some(1),
            ),
            ("0::/elsewhere\n", &[("sys/fs/cgroup/cpu.max", "300000 100000\n")], Some(3)),
            (
                "4:cpu,cpuacct:/\n1:name=x:/\n",
                &[
                    ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "250000\n"),
                    ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
                ],
                Some(3),
            ),
            (
                "4:cpu,cpuacct:/\n",
                &[("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"), ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n")],
                None,
            ),
        ];
        for (groups, files, expected) in cases {
            let root = tempfile::tempdir().expect("a temporary directory");
            for (path, text) in [("proc/self/cgroup", groups)].iter().chain(files) {
                let path = root.path().join(path);
                fs::create_dir_all(path.parent().expect("a directory")).expect("made");
                fs::write(path, text).expect("written");
            }
            assert_eq!(quota(root.path()), expected, "{groups}{files:?}");
        }
    }
}
