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

use std::collections::BTreeMap;
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
    done: Arc<AtomicU64>,
    writers: JoinSet<Acknowledged>,
}

/// Writes that were said to be made, by their note, and those that no replica confirmed.
#[derive(Default)]
struct Acknowledged {
    revisions: BTreeMap<String, u64>,
    unconfirmed: u64,
}

/// `count` writers of the scope `orders`, each as fast as it can.
fn load(url: &Secret, count: usize) -> Load {
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut writers = JoinSet::new();
    for name in 0..count {
        let (url, stop, done) = (url.clone(), stop.clone(), done.clone());
        writers.spawn(async move {
            let mut writer = Writer::to(&url, "orders").await;
            let mut acknowledged = Acknowledged::default();
            for value in 1.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let (note, key) = (format!("{name}-{value}"), format!("k{name}"));
                let op = Op { place: Place::Flags, key, set: Some(number(value)), expect: None };
                let change =
                    Change { expect: None, create: false, actor: "load".to_owned(), note: note.clone(), ops: vec![op] };
                let written = write(&mut writer.connection, &writer.keys, &change).await.unwrap();
                acknowledged.unconfirmed += u64::from(!matches!(written.confirmed, Confirmed::Replicas(_)));
                acknowledged.revisions.insert(note, written.rev);
                done.fetch_add(1, Ordering::Relaxed);
            }
            acknowledged
        });
    }
    Load { stop, done, writers }
}

impl Load {
    /// Waits for that many writes more.
    async fn more(&self, count: u64) {
        let wanted = self.done.load(Ordering::Relaxed) + count;
        eventually(PATIENCE, "writes go on", async || self.done.load(Ordering::Relaxed) >= wanted).await;
    }

    async fn stop(mut self) -> Acknowledged {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Acknowledged::default();
        while let Some(one) = self.writers.join_next().await {
            let one = one.unwrap();
            all.revisions.extend(one.revisions);
            all.unconfirmed += one.unconfirmed;
        }
        all
    }
}

impl Acknowledged {
    /// Compares what was said to the writers with the audit log: no write is missing, none is there twice, and each
    /// revision there is belongs to one write.
    async fn are_in_the_log_exactly_once(&self, writer: &mut Writer) {
        let log = entries(&mut writer.connection, &writer.keys, None, 100_000).await.unwrap();
        let mut by_note: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for entry in log.iter().filter(|entry| entry.actor == "load") {
            by_note.entry(&entry.note).or_default().push(entry.rev);
        }
        for (note, rev) in &self.revisions {
            assert_eq!(by_note.get(note.as_str()), Some(&vec![*rev]), "write {note}, acknowledged as revision {rev}");
        }
        assert_eq!(by_note.len(), self.revisions.len(), "a write is in the log that nobody made");
        let mut revisions: Vec<u64> = log.iter().map(|entry| entry.rev).collect();
        revisions.reverse();
        let expected: Vec<u64> = (1..=revisions.len() as u64).collect();
        assert_eq!(revisions, expected, "every revision exactly once, in order");
    }
}
