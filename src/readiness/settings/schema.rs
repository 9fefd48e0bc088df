//! What checks of a schema are told: where, and what has to be there.

use crate::secret::Secret;

/// What a database must have before code that needs it gets traffic.
#[derive(Debug, Clone)]
pub struct Schema {
    /// Where.
    pub store: Store,
    /// `[SCHEMA.]TABLE`; views count.
    pub tables: Vec<String>,
    /// `[SCHEMA.]TABLE.COLUMN`
    pub columns: Vec<String>,
    /// Valid indexes: `[SCHEMA.]INDEX` of PostgreSQL, `[SCHEMA.]TABLE.INDEX` of MySQL.
    pub indexes: Vec<String>,
    /// Validated constraints: `[SCHEMA.]TABLE.CONSTRAINT`
    pub constraints: Vec<String>,
    /// A migration that must have run.
    pub migration: Option<Migration>,
}

impl Schema {
    /// Nothing yet.
    pub fn new(store: Store) -> Self {
        let none = Vec::new;
        Self { store, tables: none(), columns: none(), indexes: none(), constraints: none(), migration: None }
    }
}

/// A database, by its URL.
#[derive(Debug, Clone)]
pub enum Store {
    /// As the `postgres` check's.
    Postgres(Secret),
    /// As the `mysql` check's.
    Mysql(Secret),
}

/// A migration by the tool that keeps count of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migration {
    /// Which tool.
    pub tool: Tool,
    /// The migration, by the name or number that the tool gave it.
    pub version: String,
    /// `[SCHEMA.]TABLE` where the tool keeps count; `None` is its own default.
    pub table: Option<String>,
}

/// A tool that migrates databases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// `alembic_version`
    Alembic,
    /// `django_migrations`; a migration is `APP.NAME`
    Django,
    /// `flyway_schema_history`
    Flyway,
    /// golang-migrate, `schema_migrations`
    GolangMigrate,
    /// `knex_migrations`
    Knex,
    /// `databasechangelog`
    Liquibase,
    /// `_prisma_migrations`
    Prisma,
    /// Active Record, `schema_migrations`
    Rails,
    /// `_sqlx_migrations`
    Sqlx,
}

impl Tool {
    /// The name in configuration and reasons.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alembic => "alembic",
            Self::Django => "django",
            Self::Flyway => "flyway",
            Self::GolangMigrate => "golang-migrate",
            Self::Knex => "knex",
            Self::Liquibase => "liquibase",
            Self::Prisma => "prisma",
            Self::Rails => "rails",
            Self::Sqlx => "sqlx",
        }
    }
}
