//! Flags in a cluster: slots that move and nodes that fail in the middle of writes.

use std::time::Duration;

use redis::AsyncCommands as _;
use tidegate::flags::contract::{Keys, one, read};
use tidegate::flags::sources::Pace;
use tidegate::net::redis::Endpoint;
use tokio::time::sleep;

use super::{everything_works_from_the_command_line, load};
use crate::support::deployment::{Cluster, PATIENCE};
use crate::support::flags::{Flags, Writer, number, quick, settings};

fn attentive() -> Pace {
    Pace { heartbeat: Duration::from_millis(200), answer: Duration::from_secs(4), ..quick() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_moves_in_the_middle_of_writes_loses_and_doubles_no_revision() {
    let cluster = Cluster::start().await;
    let url = cluster.url();
    let mut writer = Writer::to(&url, "orders").await;
    writer.set("n", 0).await;
    let flags = Flags::start(settings(&url, &["orders"]), attentive());
    flags.until("the snapshot is applied", |flags| flags.value("n") == Some(0)).await;
    let load = load(&url, 3, 0);
    load.more(50).await;
    for _ in 0..3 {
        let (slot, from) = cluster.place(&writer.keys.meta).await;
        let to = (from + 1) % 3;
        cluster.reshard(slot, from, to, async || sleep(Duration::from_millis(20)).await).await;
        load.more(50).await;
    }
    let acknowledged = load.stop().await;
    let last = writer.set("end", 7).await.rev;
    flags.until("the last write is in force", |flags| flags.source(0).revision == Some(last)).await;
    assert_eq!((flags.value("end"), flags.state(0)), (Some(7), "fresh"));
    acknowledged.are_in_the_log_exactly_once(&mut writer).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_dies_in_the_middle_of_writes_loses_and_doubles_no_acknowledged_revision() {
    let mut cluster = Cluster::start().await;
    let url = cluster.url();
    let mut writer = Writer::to(&url, "orders").await;
    writer.set("n", 0).await;
    let flags = Flags::start(settings(&url, &["orders"]), attentive());
    flags.until("the snapshot is applied", |flags| flags.value("n") == Some(0)).await;
    let load = load(&url, 3, 1);
    load.more(50).await;
    let (_, owner) = cluster.place(&writer.keys.meta).await;
    cluster.nodes[owner].kill();
    load.more(50).await;
    let acknowledged = load.stop().await;
    let mut writer = Writer::to(&url, "orders").await;
    let last = writer.set("end", 7).await.rev;
    flags.until("the last write is in force", |flags| flags.source(0).revision == Some(last)).await;
    assert_eq!((flags.value("end"), flags.state(0)), (Some(7), "fresh"));
    acknowledged.are_in_the_log_exactly_once(&mut writer).await;
}

#[tokio::test]
async fn scopes_on_several_nodes_are_followed_and_any_node_leads_to_them() {
    let cluster = Cluster::start().await;
    let url = cluster.url();
    let scopes = ["orders", "shared", "search", "mail"];
    let mut places = std::collections::BTreeSet::new();
    for (value, scope) in scopes.into_iter().enumerate() {
        Writer::to(&url, scope).await.set(scope, value as u64).await;
        places.insert(cluster.place(&Keys::new("tidegate", scope).unwrap().meta).await.1);
    }
    assert!(places.len() > 1, "the scopes are on several nodes");
    let flags = Flags::start(settings(&url, &scopes), attentive());
    flags.until("all snapshots are applied", |flags| flags.status().flags == scopes.len()).await;
    for scope in scopes {
        Writer::to(&url, scope).await.set(scope, 9).await;
        flags.until("the event is applied", |flags| flags.value(scope) == Some(9)).await;
    }
    assert!(!flags.metrics().contains("reason=\"gap\""), "{}", flags.metrics());
    // A connection made for no key, as to any node.
    let mut connection = Endpoint::new(&url).unwrap().connect(PATIENCE).await.unwrap();
    for scope in scopes {
        let keys = Keys::new("tidegate", scope).unwrap();
        assert_eq!(one(&mut connection, &keys, scope).await.unwrap().rev, 2, "{scope}");
        assert_eq!(read(&mut connection, &keys).await.unwrap().rev, 2, "{scope}");
    }
    everything_works_from_the_command_line(&url);
}

#[tokio::test]
async fn writers_that_know_nothing_of_shard_channels_are_heard() {
    let cluster = Cluster::start().await;
    let url = cluster.url();
    let mut writer = Writer::to(&url, "orders").await;
    writer.set("a", 1).await;
    let flags = Flags::start(settings(&url, &["orders"]), attentive());
    flags.until("the snapshot is applied", |flags| flags.value("a") == Some(1)).await;
    let (_, owner) = cluster.place(&writer.keys.meta).await;
    let mut raw = cluster.nodes[owner].client().await;
    let _: () = raw.hset(&writer.keys.flags, "a", number(2)).await.unwrap();
    let _: () = raw.hincr(&writer.keys.meta, "rev", 1).await.unwrap();
    let event = format!(r#"{{"rev":2,"prev":1,"set":{{"a":{}}}}}"#, number(2));
    let _: () = raw.publish(&writer.keys.events, event).await.unwrap();
    flags.until("the event is applied", |flags| flags.value("a") == Some(2)).await;
}
