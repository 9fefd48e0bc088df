//! Runs a query on MySQL or MariaDB over one connection, and looks which end of a replication it talks to.

use std::time::Duration;

use super::{Cause, Failure};
use crate::net::mysql::{Connection, Endpoint, Error, Keep, Rows};
use crate::readiness::settings::{self, MysqlRole as Role};
use crate::secret::Secret;

/// The statement that a server of 8.0.22 (MariaDB 10.5.1) and later knows, and the one before it.
const STATES: [&str; 2] = ["SHOW REPLICA STATUS", "SHOW SLAVE STATUS"];

/// `ER_PARSE_ERROR`
const UNKNOWN_STATEMENT: u16 = 1064;

/// `ER_SPECIFIC_ACCESS_DENIED_ERROR`
const NO_PRIVILEGE: u16 = 1227;

/// What lets a user see the state of a replica.
const PRIVILEGE: &str = "let the check's user see it, in mysql: GRANT REPLICA MONITOR ON *.* TO USER (MariaDB 10.5 and later), \
                         GRANT REPLICATION CLIENT ON *.* TO USER (MySQL, older MariaDB)";

/// A check of MySQL.
#[derive(Debug)]
pub struct Mysql {
    server: Server,
    query: String,
    role: Role,
    max_lag: Option<Duration>,
}

/// One connection to a server, made when first needed and again when lost, for whichever check asks it.
#[derive(Debug)]
pub(super) struct Server {
    endpoint: Endpoint,
    timeout: Duration,
    connection: Option<Connection>,
}

impl Mysql {
    pub(super) fn new(settings: &settings::Mysql, timeout: Duration) -> Result<Self, Failure> {
        let settings::Mysql { url, query, role, max_lag } = settings;
        Ok(Self { server: Server::new(url, timeout)?, query: query.clone(), role: *role, max_lag: *max_lag })
    }

    pub(super) async fn attempt(&mut self) -> Result<(), Failure> {
        if let Err(failure) = self.part_in_replication().await {
            // After a failover the name leads elsewhere; this connection never would.
            self.server.disconnect();
            return Err(failure);
        }
        self.server.query(&self.query, Keep::Nothing).await.map(drop)
    }

    async fn part_in_replication(&mut self) -> Result<(), Failure> {
        if self.role == Role::Primary {
            let answer = self.server.query("SELECT @@global.read_only AS read_only", Keep::Rows).await?;
            if !matches!(answer.value(0, "read_only"), Some("0" | "OFF")) {
                return Err(Failure::new(Cause::Role, "read_only is on, so it takes no writes; expected the primary"));
            }
        }
        if self.role != Role::Replica && self.max_lag.is_none() {
            return Ok(());
        }
        let mut answer = self.server.ask(STATES[0], Keep::Rows).await;
        if matches!(answer, Err(Error::Server { code: UNKNOWN_STATEMENT, .. })) {
            answer = self.server.ask(STATES[1], Keep::Rows).await;
        }
        let lacks_privilege = matches!(answer, Err(Error::Server { code: NO_PRIVILEGE, .. }));
        let state = answer.map_err(|error| match self.server.failure(error) {
            failure if lacks_privilege => failure.advising(PRIVILEGE),
            failure => failure,
        })?;
        judge(&state, self.role, self.max_lag)
    }

    pub(super) fn abandon(&mut self) {
        self.server.disconnect();
    }
}

/// What the state of a replica means; a server that follows nobody has no rows, one that follows several one for each.
fn judge(state: &Rows, role: Role, max_lag: Option<Duration>) -> Result<(), Failure> {
    let failed = |why: &str| Err(Failure::new(Cause::Replication, why));
    if state.rows.is_empty() && role == Role::Replica {
        return Err(Failure::new(Cause::Role, "it follows no other server; expected a replica"));
    }
    for row in 0..state.rows.len() {
        let value = |names: [&str; 2]| names.into_iter().find_map(|name| state.value(row, name)).unwrap_or_default();
        let runs = |names| value(names) == "Yes";
        // Asked for its role alone, a replica passes that is behind, but not one that has stopped to follow.
        if !runs(["Replica_IO_Running", "Slave_IO_Running"]) {
            let error = value(["Last_IO_Error", "Last_IO_Error"]);
            return failed(&joined("the replica has no connection to its primary", error));
        }
        if !runs(["Replica_SQL_Running", "Slave_SQL_Running"]) {
            return failed(&joined("the replica has stopped to apply", value(["Last_SQL_Error", "Last_SQL_Error"])));
        }
        let Some(most) = max_lag else { continue };
        match value(["Seconds_Behind_Source", "Seconds_Behind_Master"]).parse().map(Duration::from_secs) {
            Ok(lag) if lag <= most => {}
            Ok(lag) => {
                let (lag, most) = (humantime::format_duration(lag), humantime::format_duration(most));
                return failed(&format!("the replica is {lag} behind, more than {most}"));
            }
            Err(_) => return failed("the replica does not know how far it is behind"),
        }
    }
    Ok(())
}

fn joined(what: &str, error: &str) -> String {
    if error.is_empty() { what.to_owned() } else { format!("{what}: {error}") }
}

impl Server {
    pub(super) fn new(url: &Secret, timeout: Duration) -> Result<Self, Failure> {
        let endpoint = Endpoint::new(url).map_err(|error| Failure::new(Cause::Configuration, &error.to_string()))?;
        Ok(Self { endpoint, timeout, connection: None })
    }

    /// Runs a query; over a new connection when the one before was lost.
    pub(super) async fn query(&mut self, sql: &str, keep: Keep) -> Result<Rows, Failure> {
        self.ask(sql, keep).await.map_err(|error| self.failure(error))
    }

    async fn ask(&mut self, sql: &str, keep: Keep) -> Result<Rows, Error> {
        if let Some(connection) = &mut self.connection {
            match connection.query(sql, keep).await {
                Err(error) if ended(&error) => self.connection = None,
                answer => return answer,
            }
        }
        let connection = self.endpoint.connect(self.timeout).await?;
        let answer = self.connection.insert(connection).query(sql, keep).await;
        if answer.as_ref().is_err_and(ended) {
            self.connection = None;
        }
        answer
    }

    pub(super) fn disconnect(&mut self) {
        self.connection = None;
    }

    fn failure(&self, error: Error) -> Failure {
        describe(self.endpoint.scrubbed(error), self.timeout)
    }
}

/// Whether the connection is of no use any more. Of what a server says, only its farewells end it:
/// `ER_SERVER_SHUTDOWN`, `ER_CONNECTION_KILLED`, `ER_NORMAL_SHUTDOWN`.
fn ended(error: &Error) -> bool {
    !matches!(error, Error::Server { code, .. } if !matches!(code, 1053 | 1927 | 1077))
}

fn describe(error: Error, timeout: Duration) -> Failure {
    match error {
        Error::Io(error) => Failure::io(&error),
        Error::Url(_) => Failure::new(Cause::Configuration, &error.to_string()),
        Error::Tls(_) => Failure::new(Cause::Tls, &error.to_string()),
        Error::Protocol(text) => Failure::new(Cause::Answer, text),
        Error::Authentication(text) => Failure::new(Cause::Credentials, &text),
        Error::Server { code, text } => match code {
            1045 | 1130 | 1698 | 1251 | 2059 => Failure::new(Cause::Credentials, &text),
            1044 | 1049 => Failure::new(Cause::Configuration, &text),
            1040 | 1203 | 1226 => Failure::new(Cause::Busy, &format!("too many connections: {text}")),
            1053 | 1077 | 1129 | 1927 => Failure::new(Cause::Busy, &text),
            // The server ended the statement at our own limit: `ER_STATEMENT_TIMEOUT`, `ER_QUERY_TIMEOUT`.
            1969 | 3024 => Failure::timeout(timeout),
            _ => Failure::new(Cause::Answer, &format!("{text} (error {code})")),
        },
    }
}
