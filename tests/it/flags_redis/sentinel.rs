//! Flags behind Sentinels: failovers in the middle of writes, and masters that were replaced.

use std::time::Duration;

use tidegate::flags::sources::Pace;
use tidegate::net::redis::{Confirmed, Endpoint};
use tidegate::secret::Secret;

use super::{everything_works_from_the_command_line, load};
use crate::support::deployment::{PATIENCE, Sentinels};
use crate::support::eventually;
use crate::support::flags::{Flags, Writer, quick, settings};

fn attentive() -> Pace {
    Pace { heartbeat: Duration::from_millis(200), answer: Duration::from_secs(2), ..quick() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_in_the_middle_of_writes_loses_and_doubles_no_acknowledged_revision() {
    let deployment = Sentinels::start(&[]).await;
    // With one copy the other replica may take over, which has less.
    let url = Secret::new(format!("{}?wait_replicas=2", deployment.url().expose()));
    Writer::to(&url, "orders").await.set("n", 0).await;
    let flags = Flags::start(settings(&url, &["orders"]), attentive());
    flags.until("the snapshot is applied", |flags| flags.value("n") == Some(0)).await;
    let mut deployment = deployment;
    let load = load(&url, 3, 2);
    load.more(100).await;
    deployment.servers[0].kill();
    let master = deployment.master_but(0).await;
    load.more(100).await;
    // Right after the failover, before the other replica has found its new master, they are said to be only there.
    load.confirmed().await;
    let acknowledged = load.stop().await;

    let mut writer = Writer::to(&url, "orders").await;
    let last = writer.set("end", 7).await.rev;
    flags.until("the last write is in force", |flags| flags.source(0).revision == Some(last)).await;
    assert_eq!(flags.value("end"), Some(7));
    acknowledged.are_in_the_log_exactly_once(&mut writer).await;
    let led = Endpoint::new(&url).unwrap().connect(PATIENCE).await.unwrap();
    assert!(led.node().to_string().ends_with(&format!(":{}", deployment.servers[master].port())), "{}", led.node());
}

#[tokio::test]
async fn a_master_that_hangs_is_left_for_the_one_that_took_its_place() {
    let deployment = Sentinels::start(&[]).await;
    let url = deployment.url();
    let mut writer = Writer::to(&url, "orders").await;
    assert!(matches!(writer.set("a", 1).await.confirmed, Confirmed::Replicas(_)));
    let flags = Flags::start(settings(&url, &["orders"]), attentive());
    flags.until("the snapshot is applied", |flags| flags.value("a") == Some(1)).await;
    deployment.servers[0].freeze();
    deployment.master_but(0).await;
    let mut writer = Writer::to(&url, "orders").await;
    writer.set("a", 2).await;
    flags.until("the write to the new master is in force", |flags| flags.value("a") == Some(2)).await;

    // The old one comes back believing that it is the master, until the sentinels tell it otherwise.
    deployment.servers[0].thaw();
    for value in 3..20 {
        writer.set("a", value).await;
        flags.until("writes go on", |flags| flags.value("a") == Some(value)).await;
    }
    eventually(PATIENCE, "the old master follows", async || {
        let info = deployment.servers[0].ask::<String>(&["INFO", "replication"]).await.unwrap_or_default();
        info.contains("role:slave")
    })
    .await;
    assert_eq!((flags.value("a"), flags.state(0)), (Some(19), "fresh"));
    everything_works_from_the_command_line(&url);
}

#[tokio::test]
async fn sentinels_with_a_stale_or_no_answer_do_not_decide() {
    let mut deployment = Sentinels::start(&[]).await;
    // It never hears of the failover.
    deployment.sentinels[2].freeze();
    deployment.servers[0].kill();
    deployment.master_but(0).await;
    eventually(PATIENCE, "the rest finds the new master", async || {
        match Endpoint::new(&deployment.url()).unwrap().connect(Duration::from_secs(4)).await {
            Ok(connection) => !connection.node().to_string().ends_with(&deployment.servers[0].port().to_string()),
            Err(_) => false,
        }
    })
    .await;
    // The old master is back, empty, and a master as far as it knows: nobody leads there.
    deployment.servers[0].resume();
    for _ in 0..5 {
        let connection = Endpoint::new(&deployment.url()).unwrap().connect(Duration::from_secs(4)).await.unwrap();
        assert!(!connection.node().to_string().ends_with(&deployment.servers[0].port().to_string()));
    }
    deployment.sentinels[2].thaw();
    let unknown = deployment.url().expose().replace("/main", "/other");
    let Err(why) = Endpoint::new(&Secret::new(unknown)).unwrap().connect(Duration::from_secs(4)).await else {
        panic!("there is no such master")
    };
    assert!(why.to_string().contains("No such master"), "{why}");
}

#[tokio::test]
async fn writes_that_a_failover_lost_are_lost_openly() {
    let deployment = Sentinels::start(&[]).await;
    let url = Secret::new(format!("{}?wait_replicas=2", deployment.url().expose()));
    let mut writer = Writer::to(&url, "orders").await;
    assert_eq!(writer.set("a", 1).await.confirmed, Confirmed::Replicas(2));
    let flags = Flags::start(settings(&url, &["orders"]), attentive());
    flags.until("the snapshot is applied", |flags| flags.value("a") == Some(1)).await;
    // Replicas that no longer hear the master, which goes on.
    for replica in &deployment.servers[1..] {
        replica.freeze();
    }
    let _: u64 = deployment.servers[0].ask(&["CLIENT", "KILL", "TYPE", "replica"]).await.unwrap();
    let lost = writer.set("a", 2).await;
    assert_eq!(lost.confirmed, Confirmed::Nobody, "nobody else has it");
    assert!(lost.confirmed.warning().is_some());
    flags.until("it was in force", |flags| flags.value("a") == Some(2)).await;
    let mut deployment = deployment;
    deployment.servers[0].kill();
    for replica in &deployment.servers[1..] {
        replica.thaw();
    }
    deployment.master_but(0).await;
    flags.until("the new master's history is in force", |flags| flags.value("a") == Some(1)).await;
    assert_eq!((flags.source(0).revision, flags.state(0)), (Some(1), "fresh"));
    assert!(flags.metrics().contains("tidegate_flags_rewinds_total{source=\"redis:orders\"} 1"), "{}", flags.metrics());
    let mut writer = Writer::to(&url, "orders").await;
    assert_eq!(writer.set("a", 3).await.rev, 2);
    flags.until("writes go on", |flags| flags.value("a") == Some(3)).await;
}
