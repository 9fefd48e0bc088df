//! Flags in Redis: what writers and readers agree on, and what happens when Redis does not keep its side.

mod acl;
mod cli;
mod cluster;
mod contract;
mod faults;
mod following;
mod hardships;
mod kept;
mod sentinel;
mod sidecar;
mod tls;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tidegate::flags::contract::{Change, Op, Place, entries, write};
use tidegate::net::redis::Confirmed;
use tidegate::secret::Secret;
use tokio::task::JoinSet;

use crate::support::deployment::PATIENCE;
use crate::support::eventually;
use crate::support::flags::{Writer, number};
use crate::support::sidecar::TIDEGATE;

/// The command line and the readiness check against a deployment: what they say to people.
fn everything_works_from_the_command_line(url: &Secret) {
    let tidegate = |arguments: &[&str]| {
        let output = Command::new(TIDEGATE)
            .args(arguments)
            .env_clear()
            .env("TIDEGATE_REDIS__URL", url.expose())
            .env("TIDEGATE_FLAGS__SCOPES", "cli")
            .env("TIDEGATE_CHECKS__STORE__REDIS__URL", url.expose())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{arguments:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
        said
    };
    let definition = r#"{"state":"ENABLED","variants":{"yes":true,"no":false},"defaultVariant":"no"}"#;
    assert!(tidegate(&["flags", "set", "--create", "search", definition]).contains("revision 1"));
    assert!(tidegate(&["flags", "on", "search"]).contains("revision 2"));
    assert!(tidegate(&["flags", "ls"]).contains("search"));
    assert!(tidegate(&["flags", "get", "search"]).contains("\"yes\""));
    assert_eq!(tidegate(&["flags", "log"]).lines().count(), 3);
    assert!(tidegate(&["flags", "rm", "search"]).contains("revision 3"));
    assert!(tidegate(&["check"]).contains("ok"));
}

/// Writers that do not stop for a failover.
struct Load {
    stop: Arc<AtomicBool>,
    /// Writes that must be there in the end, and those that a replica confirmed.
    kept: Arc<AtomicU64>,
    confirmed: Arc<AtomicU64>,
    writers: JoinSet<Acknowledged>,
}

/// Writes by their note.
#[derive(Default)]
struct Acknowledged {
    /// Said to be made, with their revisions, and to be kept.
    kept: BTreeMap<String, u64>,
    /// Those that a failover may lose: the writer was told that no replica has them, or that nothing is known.
    doubtful: BTreeSet<String>,
}

/// `count` writers of the scope `orders`, each as fast as it can. What the server that leads at first was told must be
/// kept once `replicas` have it (0: always), for it may be killed; what its successor was told, always.
fn load(url: &Secret, count: usize, replicas: u64) -> Load {
    let stop = Arc::new(AtomicBool::new(false));
    let (kept, confirmed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut writers = JoinSet::new();
    for name in 0..count {
        let (url, stop, kept, confirmed) = (url.clone(), stop.clone(), kept.clone(), confirmed.clone());
        writers.spawn(async move {
            let mut writer = Writer::to(&url, "orders").await;
            let first = writer.connection.node().to_string();
            let mut acknowledged = Acknowledged::default();
            for value in 1.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let (note, key) = (format!("{name}-{value}"), format!("k{name}"));
                let op = Op { place: Place::Flags, key, set: Some(number(value)), expect: None };
                let change =
                    Change { expect: None, create: false, actor: "load".to_owned(), note: note.clone(), ops: vec![op] };
                let Ok(written) = write(&mut writer.connection, &writer.keys, &change).await else {
                    // No server led for longer than a writer is patient.
                    acknowledged.doubtful.insert(note);
                    writer = Writer::to(&url, "orders").await;
                    continue;
                };
                let copies = match written.confirmed {
                    Confirmed::Replicas(count) => count,
                    _ => 0,
                };
                confirmed.fetch_add(u64::from(copies > 0), Ordering::Relaxed);
                if copies >= replicas || writer.connection.node().to_string() != first {
                    acknowledged.kept.insert(note, written.rev);
                    kept.fetch_add(1, Ordering::Relaxed);
                } else {
                    acknowledged.doubtful.insert(note);
                }
            }
            acknowledged
        });
    }
    Load { stop, kept, confirmed, writers }
}

impl Load {
    /// Waits for that many writes more that must be kept.
    async fn more(&self, count: u64) {
        let wanted = self.kept.load(Ordering::Relaxed) + count;
        eventually(PATIENCE, "writes go on", async || self.kept.load(Ordering::Relaxed) >= wanted).await;
    }

    /// Waits for a write more that a replica confirms.
    async fn confirmed(&self) {
        let before = self.confirmed.load(Ordering::Relaxed);
        eventually(PATIENCE, "a write is confirmed", async || self.confirmed.load(Ordering::Relaxed) > before).await;
    }

    async fn stop(mut self) -> Acknowledged {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Acknowledged::default();
        while let Some(one) = self.writers.join_next().await {
            let mut one = one.unwrap();
            all.kept.append(&mut one.kept);
            all.doubtful.append(&mut one.doubtful);
        }
        all
    }
}

impl Acknowledged {
    /// Compares what was said to the writers with the audit log: no write is missing that was to be kept, none is there
    /// twice, and each revision there is belongs to one write.
    async fn are_in_the_log_exactly_once(&self, writer: &mut Writer) {
        let log = entries(&mut writer.connection, &writer.keys, None, 100_000).await.unwrap();
        let mut by_note: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for entry in log.iter().filter(|entry| entry.actor == "load") {
            by_note.entry(&entry.note).or_default().push(entry.rev);
        }
        for (note, rev) in &self.kept {
            assert_eq!(by_note.get(note.as_str()), Some(&vec![*rev]), "write {note}, acknowledged as revision {rev}");
        }
        for (note, revisions) in &by_note {
            assert_eq!(revisions.len(), 1, "write {note} was made more than once: {revisions:?}");
            assert!(self.kept.contains_key(*note) || self.doubtful.contains(*note), "nobody made write {note}");
        }
        let mut revisions: Vec<u64> = log.iter().map(|entry| entry.rev).collect();
        revisions.reverse();
        let expected: Vec<u64> = (1..=revisions.len() as u64).collect();
        assert_eq!(revisions, expected, "every revision exactly once, in order");
    }
}
