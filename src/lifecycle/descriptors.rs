//! How many file descriptors the process may hold, and how many of them clients may take.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Kept for everything that is no client of the app: probes, local calls, checks, Redis, files. Clients must never take
/// the last one, or an idle crowd fails the liveness probe.
const KEPT: u64 = 256;

/// Raises the soft limit to the hard one, and returns it; `None` when there is none.
pub fn raise_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        match setrlimit(Resource::Nofile, raised) {
            Ok(()) => return limit.maximum,
            Err(error) => tracing::warn!(%error, limit = ?limit, "the limit of file descriptors cannot be raised"),
        }
    }
    limit.current
}

/// How many client connections fit, of `wanted`: each may need a second descriptor, for its connection to the app.
pub fn connections(limit: Option<u64>, wanted: usize) -> usize {
    let Some(limit) = limit else { return wanted };
    let kept = KEPT.min(limit / 2);
    let fit = usize::try_from((limit - kept) / 2).unwrap_or(usize::MAX).max(1);
    if fit < wanted {
        tracing::info!(
            limit,
            wanted,
            connections = fit,
            "fewer client connections than limits.connections, for want of file descriptors; raise RLIMIT_NOFILE"
        );
    }
    fit.min(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_never_take_the_last_descriptors() {
        assert_eq!(connections(None, 10_000), 10_000);
        assert_eq!(connections(Some(1_048_576), 10_000), 10_000);
        assert_eq!(connections(Some(1_024), 10_000), 384);
        assert_eq!(connections(Some(40), 10_000), 10);
        assert_eq!(connections(Some(0), 10_000), 1);
    }
}
