//! What checks of a schema are told: what a database must have.

use super::super::super::key::Kind as Sort;
use super::super::super::node::Node;
use super::super::super::reader::Section;
use super::super::super::urls;
use super::super::super::values::{Type, check_name, choice, mask, secret, wrong};
use crate::readiness::settings::{Kind, Migration, Schema, Store, Tool};

/// The most that a check asks for of each sort.
const MOST: usize = 100;

pub(super) fn schema(section: &mut Section<'_>) -> Option<Option<Kind>> {
    let doc = "Looks whether a database has what the code needs, so that new code gets no traffic before its schema is there.";
    section.section_if_there("schema", doc, |s| {
        let url = s.required("url", &store(), "The database; keep the password out of the file.");
        let mut names = |key, example, least: usize, most: usize, doc| {
            let all = s.or(key, &name(example, least, most).list(), Vec::new(), doc);
            if all.len() > MOST {
                s.problem(key, Some(all.len().to_string()), "too many", format!("write at most {MOST}"));
            }
            all
        };
        let tables = names("tables", "orders", 1, 2, "Tables or views, as `[SCHEMA.]TABLE`.");
        let columns = names("columns", "orders.total", 2, 3, "Columns, as `[SCHEMA.]TABLE.COLUMN`.");
        let doc = "Valid indexes: `[SCHEMA.]INDEX` of PostgreSQL, `[SCHEMA.]TABLE.INDEX` of MySQL.";
        let indexes = names("indexes", "orders_total_idx", 1, 3, doc);
        let doc = "Validated constraints, as `[SCHEMA.]TABLE.CONSTRAINT`.";
        let constraints = names("constraints", "orders.orders_total_check", 2, 3, doc);
        let migration = s.section_if_there("migration", "A migration that must have run.", migration).flatten();
        let asked = [&tables, &columns, &indexes, &constraints].iter().any(|names| !names.is_empty());
        let sound = s.sound(&["url", "tables", "columns", "indexes", "constraints"]);
        if !asked && !s.given("migration") && sound {
            s.problem_here("nothing to look for", "add tables, columns, indexes, constraints or migration");
        }
        let store = url.map(|url| match url.expose().split_once("://") {
            Some(("mysql" | "mariadb", _)) => Store::Mysql(url),
            _ => Store::Postgres(url),
        });
        if matches!(store, Some(Store::Postgres(_)))
            && let Some(index) = indexes.iter().find(|index| index.split('.').count() > 2)
        {
            let remedy = "write [SCHEMA.]INDEX: an index of PostgreSQL is in its table's schema";
            s.problem("indexes", Some(index.clone()), "more parts than an index of PostgreSQL has", remedy);
        }
        if matches!(store, Some(Store::Mysql(_)))
            && let Some(index) = indexes.iter().find(|index| !index.contains('.'))
        {
            s.problem("indexes", Some(index.clone()), "an index of MySQL without its table", "write TABLE.INDEX");
        }
        store.map(|store| Kind::Schema(Schema { store, tables, columns, indexes, constraints, migration }))
    })
}

fn migration(section: &mut Section<'_>) -> Option<Migration> {
    let words: &[_] = &[
        ("alembic", Tool::Alembic),
        ("django", Tool::Django),
        ("flyway", Tool::Flyway),
        ("golang-migrate", Tool::GolangMigrate),
        ("knex", Tool::Knex),
        ("liquibase", Tool::Liquibase),
        ("prisma", Tool::Prisma),
        ("rails", Tool::Rails),
        ("sqlx", Tool::Sqlx),
    ];
    let tool = section.required("tool", &choice(words), "The tool that keeps count of migrations.");
    let doc = "The migration, by the name or number that the tool gave it; of Django `APP.NAME`.";
    let version = section.required("version", &version(), doc);
    let doc = "Where the tool keeps count, as `[SCHEMA.]TABLE`.";
    let table = section.optional("table", &name("schema_migrations", 1, 2), "the tool's own", doc);
    let (tool, version) = (tool?, version?);
    let number = version.parse::<i64>().is_ok();
    if matches!(tool, Tool::GolangMigrate | Tool::Sqlx) && !number {
        let remedy = "write the number that the migration's file begins with";
        section.problem("version", Some(version.clone()), "not the number of a migration", remedy);
    }
    if tool == Tool::Django && !version.contains('.') {
        let remedy = "write APP.NAME, as orders.0003_total";
        section.problem("version", Some(version.clone()), "not a migration of Django", remedy);
    }
    Some(Migration { tool, version, table })
}

/// A connection string of either database.
fn store() -> Type<crate::secret::Secret> {
    const EXAMPLE: &str = "postgres://app:${PASSWORD}@db:5432/orders";
    let is_mysql = |text: &str| text.starts_with("mysql://") || text.starts_with("mariadb://");
    let shown = |text: &str| if text.contains("://") { mask(text) } else { "REDACTED".into() };
    let mut store = secret("`postgres://` or `mysql://` URL, or `key=value` string", EXAMPLE, |_| Ok(()), shown);
    let (postgres, mysql, read) = (urls::postgres_url(), urls::mysql_url(), store.read);
    store.read = Box::new(move |node: &Node| {
        let text = read(node)?;
        let of = if is_mysql(text.expose()) { &mysql } else { &postgres };
        (of.read)(node)
    });
    store
}

/// A name of `least` to `most` parts.
fn name(example: &'static str, least: usize, most: usize) -> Type<String> {
    Type::text("name", example, move |text| {
        let parts = text.split('.').count();
        if !(least..=most).contains(&parts) {
            let noun = if parts == 1 { "part" } else { "parts" };
            return wrong(format!("a name of {parts} {noun}"), format!("write {least} to {most} parts, as {example}"));
        }
        text.split('.').try_for_each(|part| check_name(part, 128, "_-$"))?;
        Ok(text.to_owned())
    })
}

/// A version as it stands within a statement.
fn version() -> Type<String> {
    let parse = |text: &str| match text {
        "" => wrong("empty", "write the migration's name or number"),
        text if text.len() > 255 || text.contains(|c: char| c.is_control() || "'\\\"".contains(c)) => {
            wrong("not the name of a migration", "write it without quotes, backslashes and control characters")
        }
        text => Ok(text.to_owned()),
    };
    Type::new(Sort::Word { what: "version", example: "20260101120000" }, parse, |version| version.clone().into())
}
