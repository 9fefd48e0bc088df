//! Redis as the two ends of a replication, behind Sentinels and as a cluster.

use std::time::Duration;

use tidegate::readiness::settings::{Check, Kind, Redis as Settings, RedisRole as Role};
use tidegate::secret::Secret;

use super::{fails, passes, says};
use crate::readiness::{check, watch};
use crate::support::authority::{Authority, Issued};
use crate::support::deployment::{Cluster, Sentinels, Server};
use crate::support::port::Port;

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
async fn what_is_no_sentinel_no_master_and_no_cluster_is_said_to_be_that() {
    let all = Sentinels::start(&[]).await;
    let (alone, closed) = (Server::start(&PLAIN), Port::reserve());
    let sentinel = format!("127.0.0.1:{}", all.sentinels[0].port());
    for (url, reason) in [
        (format!("redis+sentinel://{sentinel}/nosuch"), "no sentinel knows a master \"nosuch\"".to_owned()),
        (
            format!("redis+sentinel://{}/main", closed.address()),
            "no sentinel tells where the master \"main\" is: connection refused".to_owned(),
        ),
        (
            format!("redis+sentinel://127.0.0.1:{}/main", alone.port()),
            "no sentinel tells where the master \"main\" is: not a Sentinel".to_owned(),
        ),
        (
            format!("redis+cluster://127.0.0.1:{}", alone.port()),
            "not a cluster: the server's cluster support is off".to_owned(),
        ),
    ] {
        fails(&watch([of(Settings::new(Secret::new(url)))]), "redis", &reason).await;
    }
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

#[tokio::test]
async fn a_server_that_is_full_is_said_to_be_full() {
    let server = Server::start(&PLAIN);
    let watched = watch([of(Settings::new(server.url()))]);
    passes(&watched, "redis").await;
    let mut own = server.client().await;
    let mut run = async |command: &str| {
        let words: Vec<&str> = command.split(' ').collect();
        redis::cmd(words[0]).arg(&words[1..]).query_async::<redis::Value>(&mut own).await.unwrap();
    };
    run("CONFIG SET maxclients 1").await;
    run("CLIENT KILL TYPE normal SKIPME yes").await;
    fails(&watched, "redis", "too many connections: the server has as many clients as it may").await;
    run("CONFIG SET maxclients 10").await;
    passes(&watched, "redis").await;
}

#[tokio::test]
async fn the_certificate_of_redis_is_checked_and_the_reason_is_said() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let start = |issued: &Issued| {
        let ca = authority.certificate();
        let files = ["--tls-cert-file", &issued.certificate, "--tls-key-file", &issued.key, "--tls-ca-cert-file", &ca];
        Server::start_tls(&[&PLAIN[..], &files, &["--tls-auth-clients", "no"]].concat())
    };
    let of_host = |server: &Server, host: &str, ca: &Authority| {
        let url = format!("rediss://{host}:{}?ca_file={}", server.port(), ca.certificate());
        watch([of(Settings::new(Secret::new(url)))])
    };
    let server = start(&authority.issue("server", 2));
    passes(&of_host(&server, "localhost", &authority), "redis").await;
    let name = "TLS: invalid peer certificate: not for the name of this server: for localhost…";
    fails(&of_host(&server, "127.0.0.1", &authority), "redis", name).await;
    let unknown = "TLS: invalid peer certificate: no authority that we trust vouches for it";
    fails(&of_host(&server, "localhost", &stranger), "redis", unknown).await;
    let expired = start(&authority.issue("expired", -1));
    fails(&of_host(&expired, "localhost", &authority), "redis", "TLS: invalid peer certificate: expired at 20…").await;
}
