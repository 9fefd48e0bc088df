//! Whether a migration has run, as the common tools keep count of them. Pure. Every statement answers with names and one of the
//! states `ok`, `failed`, `undone`, `behind`, `other`.

use super::super::postgres::Row;
use super::super::{Cause, Failure};
use super::{Dialect, literal};
use crate::readiness::settings::{Migration, Tool};

/// Rows that are looked at.
const MOST: usize = 20;

/// The table that a tool keeps count in.
fn table(migration: &Migration, dialect: Dialect) -> &str {
    let own = match (migration.tool, dialect) {
        (Tool::Alembic, _) => "alembic_version",
        (Tool::Django, _) => "django_migrations",
        (Tool::Flyway, _) => "flyway_schema_history",
        (Tool::GolangMigrate | Tool::Rails, _) => "schema_migrations",
        (Tool::Knex, _) => "knex_migrations",
        (Tool::Liquibase, Dialect::Postgres) => "databasechangelog",
        (Tool::Liquibase, Dialect::Mysql) => "DATABASECHANGELOG",
        (Tool::Prisma, _) => "_prisma_migrations",
        (Tool::Sqlx, _) => "_sqlx_migrations",
    };
    migration.table.as_deref().unwrap_or(own)
}

/// Asks for the migration, and for those that failed.
pub(super) fn statement(migration: &Migration, dialect: Dialect) -> String {
    let version = literal(&migration.version);
    let (columns, which) = match migration.tool {
        // Only where the schema stands is known, not the way there.
        Tool::Alembic => (format!("version_num, CASE WHEN version_num = {version} THEN 'ok' ELSE 'other' END"), None),
        Tool::Django => {
            let (app, name) = migration.version.split_once('.').unwrap_or(("", &migration.version));
            ("name, 'ok'".to_owned(), Some(format!("app = {} AND name = {}", literal(app), literal(name))))
        }
        Tool::Flyway => (
            "version, CASE WHEN NOT success THEN 'failed' WHEN type LIKE 'UNDO%' OR type = 'DELETE' THEN 'undone' \
             ELSE 'ok' END"
                .to_owned(),
            Some(format!("version = {version} OR NOT success ORDER BY installed_rank DESC")),
        ),
        // One row, of the latest.
        Tool::GolangMigrate => (
            format!("version, CASE WHEN dirty THEN 'failed' WHEN version >= {version} THEN 'ok' ELSE 'behind' END"),
            None,
        ),
        Tool::Knex => {
            let names = ["", ".js", ".ts", ".mjs", ".cjs"].map(|end| literal(&format!("{}{end}", migration.version)));
            ("name, 'ok'".to_owned(), Some(format!("name IN ({})", names.join(", "))))
        }
        Tool::Liquibase => (
            "id, CASE WHEN exectype = 'FAILED' THEN 'failed' ELSE 'ok' END".to_owned(),
            Some(format!("id = {version} OR exectype = 'FAILED'")),
        ),
        Tool::Prisma => (
            "migration_name, CASE WHEN rolled_back_at IS NOT NULL THEN 'undone' WHEN finished_at IS NULL THEN 'failed' \
             ELSE 'ok' END"
                .to_owned(),
            Some(format!("migration_name = {version} OR (finished_at IS NULL AND rolled_back_at IS NULL)")),
        ),
        // Rails keeps the number of `001_total.rb`, as a text.
        Tool::Rails => {
            let number = literal(migration.version.trim_start_matches('0'));
            ("version, 'ok'".to_owned(), Some(format!("version IN ({version}, {number})")))
        }
        Tool::Sqlx => (
            "version, CASE WHEN success THEN 'ok' ELSE 'failed' END".to_owned(),
            Some(format!("version = {version} OR NOT success")),
        ),
    };
    let which = which.map(|which| format!(" WHERE {which}")).unwrap_or_default();
    format!("SELECT {columns} FROM {}{which} LIMIT {MOST}", dialect.quoted(table(migration, dialect)))
}

/// What the rows mean, and the command that mends it.
pub(super) fn judge(migration: &Migration, rows: &[Row]) -> Result<(), Failure> {
    let version = &migration.version;
    let read = |row: &Row| Some((row.first()?.clone().unwrap_or_default(), row.get(1)?.clone()?));
    let rows: Vec<(String, String)> = rows.iter().filter_map(read).collect();
    let of = |state: &str| rows.iter().find(|(_, known)| known == state).map(|(name, _)| name.as_str());
    let failed = |why: String, remedy: String| Err(Failure::new(Cause::Answer, &why).advising(remedy));
    if let Some(name) = of("failed") {
        let why = match migration.tool {
            Tool::GolangMigrate => format!("the schema is dirty: migration {name} failed half-way"),
            Tool::Prisma => format!("migration {name} has failed, or is under way"),
            _ => format!("migration {name} has failed"),
        };
        return failed(why, mending(migration.tool, name));
    }
    // Flyway's latest row comes first: a migration that was undone may have been done again.
    let undone = migration.tool == Tool::Flyway && rows.first().is_some_and(|(_, state)| state == "undone");
    if of("ok").is_some() && !undone {
        return Ok(());
    }
    let why = match (of("behind"), of("other")) {
        (Some(at), _) => format!("the schema is at version {at}, expected {version}"),
        (_, Some(at)) => format!("the schema is at revision {at}, expected {version}"),
        _ if of("undone").is_some() => format!("migration {version} was undone"),
        _ => format!("migration {version} has not run"),
    };
    failed(why, running(migration))
}

/// What is said when the table that a tool keeps count in cannot be read: of one that is not there the same by all databases.
pub(super) fn unread(migration: &Migration, dialect: Dialect, failure: Failure) -> Failure {
    // As the kinds of databases write `undefined_table` and `ER_NO_SUCH_TABLE`.
    let missing = ["(SQLSTATE 42P01)", "(error 1146)"].iter().any(|code| failure.to_string().ends_with(code));
    let why = match missing {
        true => {
            let (table, tool) = (table(migration, dialect), migration.tool.as_str());
            Failure::new(Cause::Answer, &format!("table {table} of {tool} is missing"))
        }
        false => failure,
    };
    why.advising(
        "run the tool's first migration, or name in migration.table where it keeps count, and grant SELECT on it",
    )
}

/// The command that brings the schema to the migration.
fn running(migration: &Migration) -> String {
    let version = &migration.version;
    match migration.tool {
        Tool::Alembic => format!("alembic upgrade {version}"),
        Tool::Django => format!("python manage.py migrate {}", version.replacen('.', " ", 1)),
        Tool::Flyway => "flyway migrate".to_owned(),
        Tool::GolangMigrate => format!("migrate … goto {version}"),
        Tool::Knex => "knex migrate:latest".to_owned(),
        Tool::Liquibase => "liquibase update".to_owned(),
        Tool::Prisma => "prisma migrate deploy".to_owned(),
        Tool::Rails => "bin/rails db:migrate".to_owned(),
        Tool::Sqlx => "sqlx migrate run".to_owned(),
    }
}

/// What to do about one that failed; the tools that keep no count of failures have none.
fn mending(tool: Tool, name: &str) -> String {
    let again = match tool {
        Tool::GolangMigrate => format!("migrate … force {name}"),
        Tool::Prisma => format!("prisma migrate resolve --applied {name}, or --rolled-back"),
        Tool::Flyway => "flyway repair, and flyway migrate".to_owned(),
        Tool::Sqlx => format!("delete its row ({name}) from _sqlx_migrations, and sqlx migrate run"),
        _ => "run it again".to_owned(),
    };
    format!("mend by hand what it left half done, then {again}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(tool: Tool, rows: &[(&str, &str)], expected: &str) {
        let migration = Migration { tool, version: "7".to_owned(), table: None };
        let row = |(name, state): &(&str, &str)| vec![Some((*name).to_owned()), Some((*state).to_owned())];
        let rows: Vec<Row> = rows.iter().map(row).collect();
        assert_eq!(
            judge(&migration, &rows).err().map(|failure| failure.to_string()).unwrap_or_default(),
            expected,
            "{tool:?} {rows:?}"
        );
    }

    #[test]
    fn a_migration_has_run_failed_or_is_still_to_come() {
        check(Tool::Sqlx, &[("7", "ok")], "");
        check(Tool::Sqlx, &[], "migration 7 has not run");
        check(Tool::Sqlx, &[("7", "ok"), ("8", "failed")], "migration 8 has failed");
        check(Tool::GolangMigrate, &[("6", "behind")], "the schema is at version 6, expected 7");
        check(Tool::GolangMigrate, &[("8", "failed")], "the schema is dirty: migration 8 failed half-way");
        check(Tool::Alembic, &[("a", "other"), ("7", "ok")], "");
        check(Tool::Alembic, &[("a", "other")], "the schema is at revision a, expected 7");
        check(Tool::Flyway, &[("7", "undone"), ("7", "ok")], "migration 7 was undone");
        check(Tool::Flyway, &[("7", "ok"), ("7", "undone"), ("7", "ok")], "");
        check(Tool::Prisma, &[("7", "undone"), ("7", "ok")], "");
        check(Tool::Prisma, &[("8", "failed")], "migration 8 has failed, or is under way");
    }

    #[test]
    fn each_tool_has_its_command() {
        let remedy = |tool, version: &str, rows: &[(&str, &str)]| {
            let migration = Migration { tool, version: version.to_owned(), table: None };
            let row = |(name, state): &(&str, &str)| vec![Some((*name).to_owned()), Some((*state).to_owned())];
            let rows: Vec<Row> = rows.iter().map(row).collect();
            judge(&migration, &rows).expect_err("it has not run").remedy().unwrap_or_default().to_owned()
        };
        assert_eq!(remedy(Tool::Django, "orders.0003_total", &[]), "python manage.py migrate orders 0003_total");
        assert_eq!(remedy(Tool::GolangMigrate, "7", &[("6", "behind")]), "migrate … goto 7");
        let dirty = remedy(Tool::GolangMigrate, "7", &[("8", "failed")]);
        assert_eq!(dirty, "mend by hand what it left half done, then migrate … force 8");
    }

    #[test]
    fn a_version_stays_a_text() {
        let migration =
            Migration { tool: Tool::Rails, version: "01' OR '1'='1".to_owned(), table: Some("s.t".to_owned()) };
        let expected =
            "SELECT version, 'ok' FROM \"s\".\"t\" WHERE version IN ('01'' OR ''1''=''1', '1'' OR ''1''=''1') LIMIT 20";
        assert_eq!(statement(&migration, Dialect::Postgres), expected);
        let expected =
            "SELECT version, 'ok' FROM `s`.`t` WHERE version IN ('01'' OR ''1''=''1', '1'' OR ''1''=''1') LIMIT 20";
        assert_eq!(statement(&migration, Dialect::Mysql), expected);
    }
}
