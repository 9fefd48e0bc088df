//! The names of a fleet's keys in Redis.

/// The keys of one workload's fleet. All carry the hash tag `{workload}`, so that they live on one slot of a cluster and
/// one script may touch them together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    /// Whose fleet it is.
    pub workload: String,
    /// Hash: id → what the instance says of itself.
    pub instances: String,
    /// Sorted set: id → when its heartbeat expires, ms since the epoch.
    pub alive: String,
    /// String, expires: there while too little is known of the fleet for a brake to be trusted.
    pub young: String,
    /// What the keys of those who have left begin with.
    left: String,
    /// What the keys of failing checks begin with.
    failing: String,
}

/// A prefix or workload that cannot be part of a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a workload's name: write 1 to 253 of letters, digits, '.', '_', '-'")]
pub struct IllegalName(pub String);

impl Keys {
    /// The keys of `workload` under `prefix`.
    pub fn new(prefix: &str, workload: &str) -> Result<Self, IllegalName> {
        // A brace would move the hash tag: two keys of one fleet on two nodes.
        let legal = |c: char| c.is_ascii_alphanumeric() || "._-:/".contains(c);
        if let Some(name) = [prefix, workload].iter().find(|name| {
            let name: &str = name;
            name.is_empty() || name.len() > 253 || !name.chars().all(legal)
        }) {
            return Err(IllegalName((*name).to_owned()));
        }
        let key = |part: &str| format!("{prefix}:{{{workload}}}:fleet:{part}");
        Ok(Self {
            workload: workload.to_owned(),
            instances: key("instances"),
            alive: key("alive"),
            young: key("young"),
            left: key("left:"),
            failing: key("failing:"),
        })
    }

    /// String, expires: there for a while after an instance said goodbye or was evicted, so that who misses it knows why.
    pub fn left(&self, id: &str) -> String {
        format!("{}{id}", self.left)
    }

    /// Sorted set: id of an instance on which `check` fails → when that expires, ms since the epoch.
    pub fn failing(&self, check: &str) -> String {
        format!("{}{check}", self.failing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_is_the_hash_tag() {
        let keys = Keys::new("tidegate", "orders").expect("legal");
        assert_eq!(keys.instances, "tidegate:{orders}:fleet:instances");
        assert_eq!(keys.failing("db"), "tidegate:{orders}:fleet:failing:db");
        for (prefix, workload) in [("tidegate", ""), ("", "a"), ("t", "a}b"), ("t{", "a"), ("t", "a b")] {
            assert!(Keys::new(prefix, workload).is_err(), "{prefix:?} {workload:?}");
        }
    }
}
