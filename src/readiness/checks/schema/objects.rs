//! Tables, columns, indexes and constraints: one statement that asks for all of them, a row each, and what its rows mean. Pure.

use super::super::postgres::Row;
use super::super::{Cause, Failure};
use super::{Dialect, literal};
use crate::readiness::settings::Schema;

/// What is asked for, in words, and the statement; `None` when nothing is.
///
/// # Errors
/// A name that has too few or too many parts.
pub(super) fn statement(settings: &Schema, dialect: Dialect) -> Result<(Vec<String>, Option<String>), String> {
    let (mut words, mut selects) = (Vec::new(), Vec::new());
    let kinds = [
        ("table", &settings.tables),
        ("column", &settings.columns),
        ("index", &settings.indexes),
        ("constraint", &settings.constraints),
    ];
    for (kind, names) in kinds {
        for name in names {
            let state = match dialect {
                Dialect::Postgres => postgres(kind, name),
                Dialect::Mysql => mysql(kind, name),
            };
            let state = state.ok_or_else(|| format!("{name} does not name a {kind}: see docs/READINESS.md"))?;
            selects.push(format!("SELECT {} AS place, coalesce(({state}), 'missing') AS state", words.len()));
            words.push(format!("{kind} {name}"));
        }
    }
    let statement = (!selects.is_empty()).then(|| selects.join(" UNION ALL "));
    Ok((words, statement))
}

/// What the rows say: what of all that is asked for is not as it should be, and what to do about it.
pub(super) fn judge(words: &[String], rows: &[Row]) -> Vec<Failure> {
    let mut faults = Vec::new();
    for (at, what) in words.iter().enumerate() {
        let place = at.to_string();
        let row = rows.iter().find(|row| row.first().is_some_and(|first| first.as_deref() == Some(&place)));
        let name = what.split_once(' ').map_or("", |(_, name)| name);
        let (reason, remedy) = match row.and_then(|row| row.get(1)).and_then(|state| state.as_deref()) {
            Some("ok") => continue,
            Some("missing") => (
                format!("{what} is missing"),
                "run the migrations that make what is missing, or correct its name and schema here".to_owned(),
            ),
            Some("invalid") => (
                format!("{what} is invalid: it was not built to its end, or is being built"),
                format!("wait for its CREATE INDEX; when none runs: REINDEX INDEX CONCURRENTLY {name}"),
            ),
            Some("unvalidated") => {
                let (table, constraint) = owned(name).unwrap_or_default();
                (format!("{what} is not validated"), format!("ALTER TABLE {table} VALIDATE CONSTRAINT {constraint}"))
            }
            _ => (format!("no answer about {what}"), "ask again: the answer was cut".to_owned()),
        };
        faults.push(Failure::new(Cause::Answer, &reason).advising(remedy));
    }
    faults
}

/// `a.b.c` as (`a.b`, `c`); the first part may be a schema that is left out.
fn owned(name: &str) -> Option<(&str, &str)> {
    let (owner, own) = name.rsplit_once('.')?;
    (owner.split('.').count() <= 2).then_some((owner, own))
}

/// Names are looked for along `search_path` when they have no schema, and written in quotes: as they are.
fn postgres(kind: &str, name: &str) -> Option<String> {
    let relation = |name: &str| {
        let quoted = Dialect::Postgres.quoted(name);
        (name.split('.').count() <= 2).then(|| format!("to_regclass({})", literal(&quoted)))
    };
    Some(match kind {
        "table" => {
            let kinds = "relkind IN ('r', 'p', 'v', 'm', 'f')";
            format!("SELECT 'ok' FROM pg_catalog.pg_class WHERE oid = {} AND {kinds}", relation(name)?)
        }
        "column" => {
            let (table, column) = owned(name)?;
            let (table, column) = (relation(table)?, literal(column));
            format!(
                "SELECT 'ok' FROM pg_catalog.pg_attribute WHERE attrelid = {table} AND attname = {column} AND NOT attisdropped"
            )
        }
        "index" => format!(
            "SELECT CASE WHEN indisvalid AND indisready THEN 'ok' ELSE 'invalid' END FROM pg_catalog.pg_index \
             WHERE indexrelid = {}",
            relation(name)?
        ),
        _ => {
            let (table, constraint) = owned(name)?;
            let (table, constraint) = (relation(table)?, literal(constraint));
            format!(
                "SELECT CASE WHEN convalidated THEN 'ok' ELSE 'unvalidated' END FROM pg_catalog.pg_constraint \
                 WHERE conrelid = {table} AND conname = {constraint}"
            )
        }
    })
}

/// Names without a schema are those of the connection's database.
fn mysql(kind: &str, name: &str) -> Option<String> {
    let table = |name: &str| {
        let (schema, table) = match name.split_once('.') {
            Some((schema, table)) => (literal(schema), table),
            None => ("database()".to_owned(), name),
        };
        (!table.contains('.')).then(|| format!("table_schema = {schema} AND table_name = {}", literal(table)))
    };
    let (from, column) = match kind {
        "table" => return Some(format!("SELECT 'ok' FROM information_schema.tables WHERE {} LIMIT 1", table(name)?)),
        "column" => ("columns", "column_name"),
        "index" => ("statistics", "index_name"),
        _ => ("table_constraints", "constraint_name"),
    };
    let (owner, own) = owned(name)?;
    let (owner, own) = (table(owner)?, literal(own));
    Some(format!("SELECT 'ok' FROM information_schema.{from} WHERE {owner} AND {column} = {own} LIMIT 1"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::readiness::settings::Store;
    use crate::secret::Secret;

    #[test]
    fn names_have_as_many_parts_as_they_need() {
        for (kind, name, in_postgres, in_mysql) in [
            ("table", "t", true, true),
            ("table", "s.t", true, true),
            ("table", "d.s.t", false, false),
            ("column", "t.c", true, true),
            ("column", "s.t.c", true, true),
            ("column", "c", false, false),
            ("column", "d.s.t.c", false, false),
            ("index", "i", true, false),
            ("index", "t.i", true, true),
            ("index", "s.t.i", false, true),
            ("constraint", "t.c", true, true),
            ("constraint", "c", false, false),
        ] {
            assert_eq!(postgres(kind, name).is_some(), in_postgres, "{kind} {name}");
            assert_eq!(mysql(kind, name).is_some(), in_mysql, "{kind} {name}");
        }
    }

    #[test]
    fn a_name_stays_a_name_whatever_it_holds() {
        let mut settings = Schema::new(Store::Postgres(Secret::new("host=h")));
        settings.tables = vec!["a'); DROP TABLE x; --\"`".to_owned()];
        let (_, statement) = statement(&settings, Dialect::Postgres).expect("one part");
        assert!(statement.expect("one table").contains(r#"to_regclass('"a''); DROP TABLE x; --`"')"#));
        let statement = mysql("table", "a\\' OR 1").expect("one part");
        assert!(statement.contains("table_name = 'a'' OR 1'"), "{statement}");
    }

    #[test]
    fn all_that_is_not_as_it_should_be_is_told_within_bounds() {
        let judge = |words: &[String], rows: &[Row]| super::super::together(&judge(words, rows));
        let row = |place: usize, state: &str| vec![Some(place.to_string()), Some(state.to_owned())];
        let words = ["table t".to_owned(), "index i".to_owned(), "constraint t.c".to_owned()];
        let judged = |states: &[&str]| {
            let rows: Vec<Row> = states.iter().enumerate().map(|(at, state)| row(at, state)).collect();
            judge(&words, &rows)
        };
        let said = |states: &[&str]| {
            let failure = judged(states).expect_err("not as it should be");
            (failure.to_string(), failure.remedy().unwrap_or_default().to_owned())
        };
        assert_eq!(judged(&["ok", "ok", "ok"]), Ok(()));
        let run = "run the migrations that make what is missing, or correct its name and schema here";
        assert_eq!(said(&["ok", "missing", "ok"]), ("index i is missing".to_owned(), run.to_owned()));
        let both = "table t is missing; index i is missing; constraint t.c is not validated".to_owned();
        let validate = format!("{run}; ALTER TABLE t VALIDATE CONSTRAINT c");
        assert_eq!(said(&["missing", "missing", "unvalidated"]), (both, validate));
        let (_, remedy) = said(&["ok", "invalid", "ok"]);
        assert_eq!(remedy, "wait for its CREATE INDEX; when none runs: REINDEX INDEX CONCURRENTLY i");
        assert_eq!(said(&["ok", "ok"]).0, "no answer about constraint t.c");
        let words: Vec<String> = (0..9).map(|at| format!("table t{at}")).collect();
        let rows: Vec<Row> = (0..9).map(|at| row(at, "missing")).collect();
        let reason = judge(&words, &rows).expect_err("nothing is there").to_string();
        let first = "table t0 is missing; table t1 is missing; table t2 is missing; table t3 is missing";
        assert_eq!(reason, format!("{first}; and 5 more"));
    }
}
