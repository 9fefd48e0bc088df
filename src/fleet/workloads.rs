//! Which workloads there are under a prefix of a Redis: those whose fleet somebody has joined.

use std::collections::BTreeSet;

use redis::RedisResult;
use redis::aio::ConnectionLike;

use super::keys::Keys;

/// Keys that are looked at with one command: Redis answers others in between.
const PAGE: u32 = 1000;
/// Commands for one server: 10 million keys.
const PAGES: u32 = 10_000;
/// The most workloads that are told.
const MOST: usize = 1000;

/// See the module's text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Workloads {
    /// Their names.
    pub names: BTreeSet<String>,
    /// Whether there may be more: there are too many keys to look at, or too many workloads.
    pub extent: Extent,
}

/// How much was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Extent {
    /// Everything.
    #[default]
    All,
    /// As much as the bounds allow.
    Part,
}

/// Adds the workloads that one server knows under `prefix`. It looks through all of its keys, a page at a time: for people,
/// not for anything that asks again and again.
pub async fn workloads(connection: &mut impl ConnectionLike, prefix: &str, found: &mut Workloads) -> RedisResult<()> {
    // Of what a prefix may be made of, nothing means anything in a pattern.
    let pattern = format!("{prefix}:{{*}}:fleet:instances");
    let mut cursor = "0".to_owned();
    for _ in 0..PAGES {
        let mut scan = redis::cmd("SCAN");
        scan.arg(&cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(PAGE);
        let (next, keys): (String, Vec<Vec<u8>>) = scan.query_async(connection).await?;
        for key in keys {
            let Some(workload) = workload(&key, prefix) else { continue };
            if found.names.len() == MOST && !found.names.contains(workload) {
                found.extent = Extent::Part;
                return Ok(());
            }
            found.names.insert(workload.to_owned());
        }
        cursor = next;
        if cursor == "0" {
            return Ok(());
        }
    }
    found.extent = Extent::Part;
    Ok(())
}

/// Whose fleet a key belongs to, if it is one of ours.
fn workload<'a>(key: &'a [u8], prefix: &str) -> Option<&'a str> {
    let rest = std::str::from_utf8(key).ok()?.strip_prefix(prefix)?.strip_prefix(":{")?;
    let (workload, _) = rest.split_once('}')?;
    let keys = Keys::new(prefix, workload).ok()?;
    (keys.instances.as_bytes() == key).then_some(workload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_keys_of_ours_name_a_workload() {
        for (key, expected) in [
            (&b"tidegate:{orders}:fleet:instances"[..], Some("orders")),
            (b"tidegate:{a.b-c/d}:fleet:instances", Some("a.b-c/d")),
            (b"tidegate:{a}x}:fleet:instances", None),
            (b"tidegate:{a b}:fleet:instances", None),
            (b"tidegate:{}:fleet:instances", None),
            (b"other:{a}:fleet:instances", None),
            (b"tidegate:{\xff}:fleet:instances", None),
        ] {
            assert_eq!(workload(key, "tidegate"), expected, "{}", String::from_utf8_lossy(key));
        }
    }
}
