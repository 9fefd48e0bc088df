//! A fleet that meets behind Sentinels, in a cluster, and by the users of Redis that are shipped.

use redis::AsyncCommands as _;
use tidegate::fleet::brake::Position;
use tidegate::fleet::{evict, list};
use tidegate::net::redis::Endpoint;
use tidegate::secret::Secret;

use super::{PATIENCE, Running, fleet_is, keys};
use crate::support::deployment::{Cluster, Sentinels};
use crate::support::eventually;
use crate::support::redis::Redis;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_follows_the_master() {
    let mut deployment = Sentinels::start(&[]).await;
    let url = deployment.url();
    let (a, b) = (Running::quick(&url, "a"), Running::quick(&url, "b"));
    fleet_is(&url, &["a", "b"]).await;
    deployment.servers[0].kill();
    deployment.master_but(0).await;
    a.beats("ok", 3).await;
    b.beats("ok", 3).await;
    fleet_is(&url, &["a", "b"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_follows_its_slot() {
    let cluster = Cluster::start().await;
    let url = cluster.url();
    let member = Running::quick(&url, "a");
    fleet_is(&url, &["a"]).await;
    let (slot, from) = cluster.place(&keys().alive).await;
    cluster.reshard(slot, from, (from + 1) % 3, async || {}).await;
    member.beats("ok", 3).await;
    fleet_is(&url, &["a"]).await;
    member.handle.leave(PATIENCE).await;
    fleet_is(&url, &[]).await;
}

#[tokio::test]
async fn the_shipped_users_are_enough_for_the_fleet_and_a_sidecar_still_cannot_write_flags() {
    let directory = tempfile::tempdir().unwrap();
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/redis-acl.conf");
    let text = std::fs::read_to_string(shipped).unwrap().replace("replace-me-", "s3cret-");
    let file = directory.path().join("acl.conf");
    std::fs::write(&file, text).unwrap();
    let redis = Redis::start_with(&["--include", file.to_str().unwrap()]);
    let url = |user: &str| Secret::new(format!("{}?user=tidegate-{user}&pass=s3cret-{user}", redis.url().expose()));
    for user in ["sidecar", "executor"] {
        let member = Running::quick(&url(user), user);
        member.registered().await;
        member.failing.send_replace([("db".into(), Position::In)].into());
        member.beats("ok", 3).await;
        member.failing.send_replace([].into());
        member.beats("ok", 3).await;
        fleet_is(&url("operator"), &[user]).await;
        member.handle.leave(PATIENCE).await;
    }
    let mut operator = Endpoint::new(&url("operator")).unwrap().connect(PATIENCE).await.unwrap();
    assert!(list(&mut operator, &keys()).await.unwrap().is_empty());
    evict(&mut operator, &keys(), "nobody").await.unwrap();
    let log: Vec<redis::Value> = redis::cmd("ACL").arg("LOG").query_async(&mut redis.client().await).await.unwrap();
    assert!(log.is_empty(), "nothing that is tried is denied: {log:?}");
    let mut sidecar = Endpoint::new(&url("sidecar")).unwrap().connect(PATIENCE).await.unwrap();
    for key in ["tidegate:{orders}:flags", "tidegate:{orders:fleet:x}:flags", "other"] {
        let written: Result<u64, _> = sidecar.hset(key, "a", "b").await;
        assert!(written.is_err(), "{key} was written");
    }
}

#[tokio::test]
async fn every_word_that_the_shipped_sidecar_has_for_the_fleet_is_needed() {
    let redis = Redis::start();
    let mut raw = redis.client().await;
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/redis-acl.conf");
    let text = std::fs::read_to_string(shipped).unwrap();
    let line = text.lines().find(|line| line.starts_with("user tidegate-sidecar ")).unwrap();
    let words: Vec<&str> = line.split(' ').skip(4).collect();
    let url = Secret::new(format!("{}?user=some&pass=x", redis.url().expose()));
    let needed = ["+time", "+hget", "+exists", "+zcount", "+zcard", "+hset", "+set", "+zadd", "+zrem", "+pexpire"];
    for word in needed.into_iter().chain(["+zremrangebyscore)", "+pexpire)"]).filter(|word| words.contains(word)) {
        let rules: Vec<&str> = words.iter().copied().filter(|other| *other != word).collect();
        let closing = if word.ends_with(')') { &[")"][..] } else { &[] };
        let setuser = redis::cmd("ACL").arg("SETUSER").arg("some").arg(&["reset", "on", ">x"]).to_owned();
        let _: () = setuser.clone().arg(&rules).arg(closing).query_async(&mut raw).await.unwrap();
        let _: u64 = raw.del(&[keys().alive, keys().instances, keys().young]).await.unwrap();
        let member = Running::quick(&url, "a");
        let refused = "tidegate_fleet_heartbeats_total{result=\"refused\"}";
        eventually(PATIENCE, &format!("{word} is missed"), async || {
            let failing =
                if member.failing.borrow().is_empty() { vec![("db".into(), Position::In)] } else { Vec::new() };
            member.failing.send_replace(failing.into_iter().collect());
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            member.metric(refused) > 0.0
        })
        .await;
    }
}

#[tokio::test]
async fn a_user_that_may_not_write_is_not_registered_and_is_once_that_is_granted() {
    let redis = Redis::start();
    let mut raw = redis.client().await;
    let rules = ["on", ">x", "-@all", "~tidegate:*", "+evalsha", "+eval", "+ping", "+time", "+hget"];
    let grant = redis::cmd("ACL").arg("SETUSER").arg("some").arg(&rules).to_owned();
    let _: () = grant.query_async(&mut raw).await.unwrap();
    let url = Secret::new(format!("{}?user=some&pass=x", redis.url().expose()));
    let member = Running::quick(&url, "a");
    member.beats("refused", 2).await;
    let _: () = redis::cmd("ACL").arg("SETUSER").arg("some").arg("+@all").query_async(&mut raw).await.unwrap();
    member.registered().await;
}
