//! Redis as the two ends of a replication, behind Sentinels and as a cluster.

use std::time::Duration;

use tidegate::readiness::settings::{Check, Kind, Redis as Settings, RedisRole as Role};

use super::{fails, passes, says};
use crate::readiness::{check, watch};
use crate::support::deployment::{Cluster, Sentinels, Server};

fn of(settings: Settings) -> Check {
    check("redis", Kind::Redis(settings))
}

const PLAIN: [&str; 6] = ["--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0"];

#[tokio::test]
async fn a_master_and_its_replica_are_told_apart_and_the_link_between_is_looked_at() {
    let mut master = Server::start(&PLAIN);
    let port = master.port().to_string();
    let mut replica = Server::start(&[&PLAIN[..], &["--replicaof", "127.0.0.1", &port]].concat());
    let role = |server: &Server, role| watch([of(Settings { role, ..Settings::new(server.url()) })]);
    passes(&role(&master, Role::Master), "redis").await;
    let following = role(&replica, Role::Replica);
    passes(&following, "redis").await;
    fails(&role(&master, Role::Replica), "redis", "a master; expected a replica").await;
    let writing = role(&replica, Role::Master);
    fails(&writing, "redis", "a replica, which takes no writes; expected the master").await;
    let kept = watch([of(Settings {
        min_replicas: 1,
        max_lag: Some(Duration::from_secs(60)),
        ..Settings::new(master.url())
    })]);
    passes(&kept, "redis").await;

    replica.kill();
    fails(&kept, "redis", "0 of 1 replicas follow").await;
    fails(&following, "redis", "connection refused").await;
    replica.resume();
    passes(&kept, "redis").await;
    passes(&following, "redis").await;
    master.kill();
    says(&following, "redis: the replica has had no link to its master for ").await;
    master.resume();
    passes(&following, "redis").await;
    // A failover by hand.
    let _: Option<String> = replica.ask(&["REPLICAOF", "NO", "ONE"]).await;
    fails(&following, "redis", "a master; expected a replica").await;
    passes(&writing, "redis").await;
}

#[tokio::test]
async fn sentinels_lead_to_whoever_is_the_master_now() {
    let mut all = Sentinels::start(&[]).await;
    let settings = Settings { role: Role::Master, min_replicas: 1, ..Settings::new(all.url()) };
    let watched = watch([of(settings)]);
    passes(&watched, "redis").await;
    all.servers[0].kill();
    // Until the Sentinels agree on another one, there is none.
    says(&watched, "\"redis\":\"failed\"").await;
    all.master_but(0).await;
    passes(&watched, "redis").await;
}

#[tokio::test]
async fn a_cluster_that_lost_slots_is_down_and_back_with_them() {
    let mut cluster = Cluster::start().await;
    let watched = watch([of(Settings::new(cluster.url()))]);
    passes(&watched, "redis").await;
    // A third of the slots, with its replica.
    cluster.nodes[5].kill();
    cluster.nodes[2].kill();
    says(&watched, "redis: the cluster is down: ").await;
    cluster.nodes[2].resume();
    cluster.nodes[5].resume();
    passes(&watched, "redis").await;
}
