//! What checks of databases are told.

use std::time::Duration;

use super::super::super::reader::Section;
use super::super::super::urls;
use super::super::super::values::{Type, choice, duration, wrong};
use super::DAY;
use crate::readiness::settings::{Kind, Mysql, MysqlRole, Postgres, PostgresRole};

pub(super) fn postgres(section: &mut Section<'_>) -> Option<Option<Kind>> {
    section.section_if_there("postgres", "Runs a query on PostgreSQL.", |s| {
        let url = s.required("url", &urls::postgres_url(), "The server; keep the password out of the file.");
        let query = s.or("query", &query(), "SELECT 1".to_owned(), "Any answer without an error passes.");
        let words: &[_] =
            &[("any", PostgresRole::Any), ("primary", PostgresRole::Primary), ("standby", PostgresRole::Standby)];
        let doc = "Which end of a replication the server has to be; only a primary takes writes.";
        let role = s.or("role", &choice(words), PostgresRole::Any, doc);
        let max_lag = s.or("max_lag", &max_lag(), None, "How far a standby may be behind its primary.");
        if role == PostgresRole::Primary && max_lag.is_some() && s.sound(&["role", "max_lag"]) {
            s.problem(
                "max_lag",
                None,
                "beside role: primary, which is behind nobody",
                "remove it, or write role: standby",
            );
        }
        url.map(|url| Kind::Postgres(Postgres { url, query, role, max_lag }))
    })
}

pub(super) fn mysql(section: &mut Section<'_>) -> Option<Option<Kind>> {
    section.section_if_there("mysql", "Runs a query on MySQL or MariaDB.", |s| {
        let url = s.required("url", &urls::mysql_url(), "The server; keep the password out of the file.");
        let query = s.or("query", &query(), "SELECT 1".to_owned(), "Any answer without an error passes.");
        let words: &[_] = &[("any", MysqlRole::Any), ("primary", MysqlRole::Primary), ("replica", MysqlRole::Replica)];
        let doc = "Which end of a replication the server has to be; a primary is one whose `read_only` is off. `replica` needs \
                   the privilege to see the replica's state.";
        let role = s.or("role", &choice(words), MysqlRole::Any, doc);
        let doc = "How far a replica may be behind its primary. Needs the privilege to see the replica's state.";
        let max_lag = s.or("max_lag", &max_lag(), None, doc);
        url.map(|url| Kind::Mysql(Mysql { url, query, role, max_lag }))
    })
}

/// How far a copy may be behind.
fn max_lag() -> Type<Option<Duration>> {
    duration(Duration::ZERO..=DAY).or_none()
}

fn query() -> Type<String> {
    Type::text("SQL", "SELECT 1", |text| match text.trim() {
        "" => wrong("an empty query", "write SELECT 1 or remove the key"),
        _ if text.contains('\0') => wrong("a query with a NUL in it", "remove it"),
        _ => Ok(text.to_owned()),
    })
}
