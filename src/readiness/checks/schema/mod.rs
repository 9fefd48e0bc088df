//! Looks whether a database has what the code needs, so that code gets no traffic before its schema is there.

mod migrations;
mod objects;

use std::time::Duration;

use super::mysql;
use super::postgres::{self, Row};
use super::{Cause, Failure};
use crate::net::mysql::Keep;
use crate::readiness::settings::{self, Migration, Store};

/// What is told of a database one by one: a reason is one line of bounded length.
const TOLD: usize = 4;

/// What a database must have.
#[derive(Debug)]
pub struct Schema {
    server: Server,
    /// Each asked for by one row of the statement.
    objects: Vec<String>,
    statement: Option<String>,
    migration: Option<Migration>,
}

#[derive(Debug)]
enum Server {
    Postgres(Box<postgres::Server>),
    Mysql(Box<mysql::Server>),
}

/// How a kind of database writes what we ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    Postgres,
    Mysql,
}

impl Schema {
    pub(super) fn new(settings: &settings::Schema, timeout: Duration) -> Result<Self, Failure> {
        let (server, dialect) = match &settings.store {
            Store::Postgres(url) => (Server::Postgres(Box::new(postgres::Server::new(url)?)), Dialect::Postgres),
            Store::Mysql(url) => (Server::Mysql(Box::new(mysql::Server::new(url, timeout)?)), Dialect::Mysql),
        };
        let (objects, statement) =
            objects::statement(settings, dialect).map_err(|why| Failure::new(Cause::Configuration, &why))?;
        Ok(Self { server, objects, statement, migration: settings.migration.clone() })
    }

    pub(super) async fn attempt(&mut self) -> Result<(), Failure> {
        let mut faults = Vec::new();
        // The migration comes first: it is what the objects would have come with.
        if let Some(migration) = &self.migration {
            let dialect = self.server.dialect();
            let statement = migrations::statement(migration, dialect);
            let judged = match self.server.rows(&statement).await {
                Ok(rows) => migrations::judge(migration, &rows),
                Err(failure) if failure.cause == Cause::Answer => Err(migrations::unread(migration, dialect, failure)),
                Err(failure) => return Err(failure),
            };
            faults.extend(judged.err());
        }
        if let Some(statement) = &self.statement {
            let rows = self.server.rows(statement).await?;
            faults.extend(objects::judge(&self.objects, &rows));
        }
        together(&faults)
    }

    pub(super) async fn abandon(&mut self, limit: Duration) {
        match &mut self.server {
            Server::Postgres(server) => server.abandon(limit).await,
            Server::Mysql(server) => server.disconnect(),
        }
    }
}

/// All that is not as it should be, in one line: the first of it, and how much more there is.
fn together(faults: &[Failure]) -> Result<(), Failure> {
    if faults.is_empty() {
        return Ok(());
    }
    let told = |all: &[String]| {
        let first = all[..all.len().min(TOLD)].join("; ");
        match all.len().saturating_sub(TOLD) {
            0 => first,
            more => format!("{first}; and {more} more"),
        }
    };
    let reasons: Vec<String> = faults.iter().map(Failure::to_string).collect();
    let mut remedies: Vec<String> = Vec::new();
    for remedy in faults.iter().filter_map(Failure::remedy) {
        if !remedies.iter().any(|known| known == remedy) {
            remedies.push(remedy.to_owned());
        }
    }
    Err(Failure::new(Cause::Answer, &told(&reasons)).advising(told(&remedies)))
}

impl Server {
    async fn rows(&mut self, sql: &str) -> Result<Vec<Row>, Failure> {
        match self {
            Self::Postgres(server) => server.rows(sql).await,
            Self::Mysql(server) => server.query(sql, Keep::Rows).await.map(|answer| answer.rows),
        }
    }

    fn dialect(&self) -> Dialect {
        match self {
            Self::Postgres(_) => Dialect::Postgres,
            Self::Mysql(_) => Dialect::Mysql,
        }
    }
}

impl Dialect {
    /// A name as it stands, whatever letters it has.
    fn quoted(self, name: &str) -> String {
        let mark = if self == Self::Postgres { '"' } else { '`' };
        let parts = name.split('.').map(|part| format!("{mark}{}{mark}", part.replace(mark, "")));
        parts.collect::<Vec<_>>().join(".")
    }
}

/// A text of ours within a statement. Configuration refuses backslashes, which the two databases read differently.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "").replace('\'', "''"))
}
