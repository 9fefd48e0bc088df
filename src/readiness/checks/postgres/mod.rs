//! Runs a query on PostgreSQL over one connection, and looks which end of a replication it talks to.

mod options;
mod session;

use std::time::Duration;

pub(crate) use options::split as split_options;
pub(crate) use session::hosts;
pub(super) use session::{Row, Server};

use super::{Cause, Failure};
use crate::readiness::settings::{self, PostgresRole as Role};

/// What a server says of its part in a replication. What has been received and replayed is compared, and not only the
/// age of the last transaction: behind a primary that has nothing to do, a standby that has everything looks old.
const STATE: &str = "SELECT pg_is_in_recovery(), EXISTS (SELECT FROM pg_stat_wal_receiver), \
                     pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn(), \
                     extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())";

/// A check of PostgreSQL.
#[derive(Debug)]
pub struct Postgres {
    server: Server,
    query: String,
    role: Role,
    max_lag: Option<Duration>,
}

impl Postgres {
    pub(super) fn new(settings: &settings::Postgres) -> Result<Self, Failure> {
        let settings::Postgres { url, query, role, max_lag } = settings;
        Ok(Self { server: Server::new(url)?, query: query.clone(), role: *role, max_lag: *max_lag })
    }

    pub(super) async fn attempt(&mut self) -> Result<(), Failure> {
        if self.role != Role::Any || self.max_lag.is_some() {
            let rows = self.server.rows(STATE).await?;
            let state = rows.first().and_then(State::read);
            let state = state.ok_or_else(|| Failure::new(Cause::Answer, "no answer about replication"))?;
            if let Err(failure) = state.judge(self.role, self.max_lag) {
                // After a failover the name leads elsewhere; this connection never would.
                self.server.disconnect();
                return Err(failure);
            }
        }
        self.server.execute(&self.query).await
    }

    pub(super) async fn abandon(&mut self, limit: Duration) {
        self.server.abandon(limit).await;
    }
}

/// Read from [`STATE`].
#[derive(Debug, Clone, Copy, PartialEq)]
struct State {
    standby: bool,
    /// Whether a connection to its primary is there.
    receiving: bool,
    /// Whether all that was received was replayed.
    replayed: bool,
    /// The age of the last transaction that was replayed, seconds; the clocks are two.
    age: Option<f64>,
}

impl State {
    fn read(row: &Row) -> Option<Self> {
        let [standby, receiving, replayed, age] = row.as_slice() else { return None };
        let yes = |field: &Option<String>| field.as_deref() == Some("t");
        let age = age.as_deref().and_then(|age| age.parse().ok());
        standby.as_ref()?;
        Some(Self { standby: yes(standby), receiving: yes(receiving), replayed: yes(replayed), age })
    }

    fn judge(self, role: Role, max_lag: Option<Duration>) -> Result<(), Failure> {
        let wrong = |why| Err(Failure::new(Cause::Role, why));
        match (role, self.standby) {
            (Role::Primary, true) => return wrong("a standby, which takes no writes; expected the primary"),
            (Role::Standby, false) => return wrong("a primary; expected a standby"),
            _ => {}
        }
        let Some(most) = max_lag.filter(|_| self.standby && !(self.receiving && self.replayed)) else { return Ok(()) };
        let whence = if self.receiving { "" } else { ", and no connection to its primary" };
        let age = self.age.map(|age| Duration::try_from_secs_f64(age).unwrap_or_default());
        let why = match age {
            Some(age) if age <= most => return Ok(()),
            Some(age) => {
                let (age, most) = (Duration::from_secs(age.as_secs()), humantime::format_duration(most));
                let age = humantime::format_duration(age);
                format!("the standby is {age} behind, more than {most}{whence}")
            }
            None => format!("the standby has replayed nothing yet{whence}"),
        };
        Err(Failure::new(Cause::Replication, &why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(state: [&str; 4], role: Role, max_lag: Option<u64>, expected: &str) {
        let row: Row = state.map(|field| (!field.is_empty()).then(|| field.to_owned())).into();
        let judged = State::read(&row).expect("four fields").judge(role, max_lag.map(Duration::from_secs));
        assert_eq!(
            judged.err().map(|failure| failure.to_string()).unwrap_or_default(),
            expected,
            "{state:?} {role:?} {max_lag:?}"
        );
    }

    #[test]
    fn a_standby_is_behind_when_it_has_not_replayed_all_or_cannot_know() {
        const PRIMARY: [&str; 4] = ["f", "f", "", ""];
        for (role, expected) in [(Role::Any, ""), (Role::Primary, ""), (Role::Standby, "a primary; expected a standby")]
        {
            check(PRIMARY, role, Some(0), expected);
        }
        let wrong = "a standby, which takes no writes; expected the primary";
        check(["t", "t", "t", "1"], Role::Primary, None, wrong);
        for (state, expected) in [
            // The primary has had nothing to do for a day.
            (["t", "t", "t", "86400.5"], ""),
            (["t", "t", "f", "4.9"], ""),
            (["t", "t", "f", "-0.3"], ""),
            (["t", "t", "f", "65.7"], "the standby is 1m 5s behind, more than 5s"),
            (["t", "t", "f", ""], "the standby has replayed nothing yet"),
            (["t", "f", "t", "3"], ""),
            (["t", "f", "t", "9.2"], "the standby is 9s behind, more than 5s, and no connection to its primary"),
            (["t", "f", "", ""], "the standby has replayed nothing yet, and no connection to its primary"),
        ] {
            check(state, Role::Standby, Some(5), expected);
            check(state, Role::Any, None, "");
        }
    }
}
