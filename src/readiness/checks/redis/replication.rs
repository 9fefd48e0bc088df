//! What Redis says of its replication (`INFO replication`) and of its cluster (`CLUSTER INFO`), and what that means. Pure.

use std::time::Duration;

use super::super::{Cause, Failure};
use crate::readiness::settings::RedisRole as Role;

/// The value of `name:value` in a text of lines.
fn field<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.lines().find_map(|line| line.trim_end().strip_prefix(name)?.strip_prefix(':'))
}

fn failed(why: &str) -> Result<(), Failure> {
    Err(Failure::new(Cause::Replication, why))
}

/// Whether the cluster serves.
pub(super) fn cluster(info: &str) -> Result<(), Failure> {
    match field(info, "cluster_state") {
        Some("ok") => Ok(()),
        _ => {
            let covered = field(info, "cluster_slots_ok").unwrap_or("?");
            failed(&format!("the cluster is down: {covered} of 16384 slots are served"))
        }
    }
}

/// Whether the server is the end of a replication that it has to be, and not further from the other than it may.
pub(super) fn judge(info: &str, role: Role, max_lag: Option<Duration>, min_replicas: u32) -> Result<(), Failure> {
    let wrong = |why| Err(Failure::new(Cause::Role, why));
    match (field(info, "role"), role) {
        (Some("master"), Role::Replica) => wrong("a master; expected a replica"),
        (Some("slave"), Role::Master) => wrong("a replica, which takes no writes; expected the master"),
        (Some("master"), _) => replicas(info, max_lag, min_replicas),
        (Some("slave"), _) if min_replicas > 0 => wrong("a replica, where a master with replicas is expected"),
        (Some("slave"), _) => link(info, max_lag),
        _ => Err(Failure::new(Cause::Answer, "no answer about replication")),
    }
}

/// A replica's link to its master. What was read before it broke may be old without bound.
fn link(info: &str, max_lag: Option<Duration>) -> Result<(), Failure> {
    let seconds = |name| field(info, name).and_then(|text| text.parse().ok()).map(Duration::from_secs);
    let said = |age: Option<Duration>| age.map_or("ever".into(), |age| humantime::format_duration(age).to_string());
    if field(info, "master_link_status") != Some("up") {
        let since = seconds("master_link_down_since_seconds");
        let copying = field(info, "master_sync_in_progress") == Some("1");
        let copying = if copying { "; it copies its master's data" } else { "" };
        return failed(&format!("the replica has had no link to its master for {}{copying}", said(since)));
    }
    let Some(most) = max_lag else { return Ok(()) };
    match seconds("master_last_io_seconds_ago") {
        Some(age) if age <= most => Ok(()),
        age => {
            let most = humantime::format_duration(most);
            failed(&format!("the replica has heard nothing from its master for {}, more than {most}", said(age)))
        }
    }
}

/// A master's replicas: `slave0:ip=…,port=…,state=online,offset=…,lag=1`.
fn replicas(info: &str, max_lag: Option<Duration>, least: u32) -> Result<(), Failure> {
    let online = info.lines().filter(|line| {
        let Some((number, fields)) = line.strip_prefix("slave").and_then(|rest| rest.split_once(':')) else {
            return false;
        };
        let field = |name: &str| fields.split(',').find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
        let lag = field("lag").and_then(|lag| lag.trim().parse().ok()).map(Duration::from_secs);
        number.bytes().all(|byte| byte.is_ascii_digit())
            && field("state") == Some("online")
            && max_lag.is_none_or(|most| lag.is_some_and(|lag| lag <= most))
    });
    let online = online.count();
    if u32::try_from(online).is_ok_and(|online| online < least) {
        return failed(&format!("{online} of {least} replicas follow"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASTER: &str = "# Replication\r\nrole:master\r\nconnected_slaves:3\r\n\
        slave0:ip=127.0.0.1,port=1,state=online,offset=70,lag=0\r\nslave1:ip=127.0.0.1,port=2,state=online,offset=7,lag=40\r\n\
        slave2:ip=127.0.0.1,port=3,state=wait_bgsave,offset=0,lag=0\r\nmaster_repl_offset:70\r\n";

    fn check(info: &str, role: Role, max_lag: Option<u64>, least: u32, expected: &str) {
        let judged = judge(info, role, max_lag.map(Duration::from_secs), least);
        assert_eq!(
            judged.err().map(|failure| failure.to_string()).unwrap_or_default(),
            expected,
            "{role:?} {max_lag:?} {least} {info}"
        );
    }

    #[test]
    fn a_masters_replicas_count_while_they_follow() {
        check(MASTER, Role::Master, None, 2, "");
        check(MASTER, Role::Any, None, 3, "2 of 3 replicas follow");
        check(MASTER, Role::Any, Some(10), 2, "1 of 2 replicas follow");
        check(MASTER, Role::Replica, None, 0, "a master; expected a replica");
        check("role:sentinel", Role::Master, None, 0, "no answer about replication");
    }

    #[test]
    fn a_replicas_link_is_up_and_heard_of() {
        const UP: &str = "role:slave\r\nmaster_link_status:up\r\nmaster_last_io_seconds_ago:7\r\n";
        check(UP, Role::Replica, None, 0, "");
        check(UP, Role::Any, Some(7), 0, "");
        check(UP, Role::Any, Some(6), 0, "the replica has heard nothing from its master for 7s, more than 6s");
        check(UP, Role::Any, None, 1, "a replica, where a master with replicas is expected");
        check(UP, Role::Master, None, 0, "a replica, which takes no writes; expected the master");
        let down = "role:slave\r\nmaster_link_status:down\r\nmaster_link_down_since_seconds:61\r\n";
        check(down, Role::Replica, None, 0, "the replica has had no link to its master for 1m 1s");
        let never =
            "role:slave\r\nmaster_link_status:down\r\nmaster_link_down_since_seconds:-1\r\nmaster_sync_in_progress:1";
        check(
            never,
            Role::Any,
            Some(9),
            0,
            "the replica has had no link to its master for ever; it copies its master's data",
        );
    }

    #[test]
    fn a_cluster_that_does_not_serve_is_down() {
        assert_eq!(cluster("cluster_state:ok\r\ncluster_slots_ok:16384\r\n"), Ok(()));
        let down = cluster("cluster_state:fail\r\ncluster_slots_assigned:16384\r\ncluster_slots_ok:10923\r\n");
        assert_eq!(down.expect_err("it is down").to_string(), "the cluster is down: 10923 of 16384 slots are served");
    }
}
