//! Schemas of real databases: what is missing, half-built or half-migrated, by the tables that the tools themselves make.

use tidegate::readiness::settings::{Check, Kind, Migration, Schema as Settings, Store, Tool};
use tidegate::secret::Secret;

use super::{fails, passes, says};
use crate::readiness::{check, watch};
use crate::support::mariadb::Mariadb;
use crate::support::postgres::Postgres;

fn of(settings: Settings) -> Check {
    check("schema", Kind::Schema(settings))
}

fn names(all: &[&str]) -> Vec<String> {
    all.iter().map(|name| (*name).to_owned()).collect()
}

#[tokio::test]
async fn what_code_needs_of_postgres_is_there_valid_and_validated() {
    let postgres = Postgres::start();
    let (client, _tasks) = postgres.client().await;
    let store = || Store::Postgres(Secret::new(postgres.url()));
    let watched = watch([of(Settings {
        tables: names(&["orders", "sales.Items"]),
        columns: names(&["orders.total", "sales.Items.price"]),
        indexes: names(&["orders_total_idx"]),
        constraints: names(&["orders.total_is_positive"]),
        ..Settings::new(store())
    })]);
    for (statement, reason) in [
        ("SELECT 1", "table orders is missing"),
        ("CREATE TABLE orders (id bigint)", "table sales.Items is missing"),
        ("CREATE SCHEMA sales", "table sales.Items is missing"),
        ("CREATE VIEW sales.\"Items\" AS SELECT 1 AS price", "column orders.total is missing"),
        ("ALTER TABLE orders ADD total int", "index orders_total_idx is missing"),
        ("CREATE INDEX orders_total_idx ON orders (total)", "constraint orders.total_is_positive is missing"),
        (
            "ALTER TABLE orders ADD CONSTRAINT total_is_positive CHECK (total > 0) NOT VALID",
            "constraint orders.total_is_positive is not validated",
        ),
    ] {
        client.batch_execute(statement).await.unwrap();
        fails(&watched, "schema", reason).await;
    }
    client.batch_execute("ALTER TABLE orders VALIDATE CONSTRAINT total_is_positive").await.unwrap();
    passes(&watched, "schema").await;

    // An index whose concurrent build failed half-way is there and not valid.
    client.batch_execute("DROP INDEX orders_total_idx; INSERT INTO orders VALUES (1, 7), (2, 7)").await.unwrap();
    let unique = "CREATE UNIQUE INDEX CONCURRENTLY orders_total_idx ON orders (total)";
    client.batch_execute(unique).await.unwrap_err();
    fails(&watched, "schema", "index orders_total_idx is invalid: it was not built to its end, or is being built")
        .await;
    client.batch_execute("DELETE FROM orders WHERE id = 2; REINDEX INDEX orders_total_idx").await.unwrap();
    passes(&watched, "schema").await;
    client.batch_execute("ALTER TABLE orders DROP total CASCADE").await.unwrap();
    fails(&watched, "schema", "column orders.total is missing").await;
    client.batch_execute("DROP TABLE orders CASCADE").await.unwrap();
    fails(&watched, "schema", "table orders is missing").await;
    let count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tidegate'";
    assert_eq!(client.query_one(count, &[]).await.unwrap().get::<_, i64>(0), 1, "one connection for all of it");
}

#[tokio::test]
async fn what_code_needs_of_mysql_is_there() {
    let server = Mariadb::start(&[]);
    let watched = watch([of(Settings {
        tables: names(&["orders"]),
        columns: names(&["orders.total", "sales.items.price"]),
        indexes: names(&["orders.orders_total_idx"]),
        constraints: names(&["orders.total_is_positive"]),
        ..Settings::new(Store::Mysql(Secret::new(server.url())))
    })]);
    for (statement, reason) in [
        ("SELECT 1", "table orders is missing"),
        ("CREATE TABLE test.orders (id bigint)", "column orders.total is missing"),
        ("ALTER TABLE test.orders ADD total int", "column sales.items.price is missing"),
        ("CREATE DATABASE sales; CREATE TABLE sales.items (price int)", "index orders.orders_total_idx is missing"),
        ("CREATE INDEX orders_total_idx ON test.orders (total)", "constraint orders.total_is_positive is missing"),
    ] {
        server.sql(statement);
        fails(&watched, "schema", reason).await;
    }
    server.sql("ALTER TABLE test.orders ADD CONSTRAINT total_is_positive CHECK (total > 0)");
    passes(&watched, "schema").await;
    server.sql("DROP TABLE test.orders");
    fails(&watched, "schema", "table orders is missing").await;
    assert_eq!(server.sessions(), 1);
}

/// A tool's own table, as its sources create it; what it writes when a migration ran, failed and was repaired; what we say.
struct Tale {
    tool: Tool,
    version: &'static str,
    /// What it is called where the tool's own name for it differs between databases.
    table: &'static str,
    create: &'static str,
    steps: &'static [(&'static str, &'static str)],
}

const OK: &str = "";

const TALES: [Tale; 9] = [
    Tale {
        tool: Tool::Sqlx,
        version: "20240102000000",
        table: "_sqlx_migrations",
        create: "CREATE TABLE _sqlx_migrations (version bigint PRIMARY KEY, description text NOT NULL, installed_on timestamp, \
                 success boolean NOT NULL, execution_time bigint NOT NULL)",
        steps: &[
            (
                "INSERT INTO _sqlx_migrations VALUES (20240101000000, 'a', now(), true, 1)",
                "migration 20240102000000 has not run",
            ),
            (
                "INSERT INTO _sqlx_migrations VALUES (20240102000000, 'b', now(), false, -1)",
                "migration 20240102000000 has failed",
            ),
            ("UPDATE _sqlx_migrations SET success = true", OK),
            (
                "INSERT INTO _sqlx_migrations VALUES (20240103000000, 'c', now(), false, -1)",
                "migration 20240103000000 has failed",
            ),
            ("DELETE FROM _sqlx_migrations WHERE NOT success", OK),
        ],
    },
    Tale {
        tool: Tool::Flyway,
        version: "1.2",
        table: "flyway_schema_history",
        create: "CREATE TABLE flyway_schema_history (installed_rank int PRIMARY KEY, version varchar(50), description varchar(200), \
                 type varchar(20) NOT NULL, script varchar(1000), success boolean NOT NULL)",
        steps: &[
            (
                "INSERT INTO flyway_schema_history VALUES (1, '1.1', 'a', 'SQL', 'V1.1__a.sql', true)",
                "migration 1.2 has not run",
            ),
            (
                "INSERT INTO flyway_schema_history VALUES (2, '1.2', 'b', 'SQL', 'V1.2__b.sql', false)",
                "migration 1.2 has failed",
            ),
            ("UPDATE flyway_schema_history SET success = true", OK),
            (
                "INSERT INTO flyway_schema_history VALUES (3, '1.2', 'b', 'UNDO_SQL', 'U1.2__b.sql', true)",
                "migration 1.2 was undone",
            ),
            ("INSERT INTO flyway_schema_history VALUES (4, '1.2', 'b', 'SQL', 'V1.2__b.sql', true)", OK),
        ],
    },
    Tale {
        tool: Tool::Liquibase,
        version: "add total",
        table: "databasechangelog",
        create: "CREATE TABLE databasechangelog (id varchar(255) NOT NULL, author varchar(255) NOT NULL, filename varchar(255) NOT \
                 NULL, exectype varchar(10) NOT NULL)",
        steps: &[
            (
                "INSERT INTO databasechangelog VALUES ('first', 'me', 'f', 'EXECUTED')",
                "migration add total has not run",
            ),
            ("INSERT INTO databasechangelog VALUES ('add total', 'me', 'f', 'EXECUTED')", OK),
            ("UPDATE databasechangelog SET exectype = 'FAILED' WHERE id = 'first'", "migration first has failed"),
            ("UPDATE databasechangelog SET exectype = 'MARK_RAN'", OK),
        ],
    },
    Tale {
        tool: Tool::GolangMigrate,
        version: "7",
        table: "schema_migrations",
        create: "CREATE TABLE schema_migrations (version bigint NOT NULL PRIMARY KEY, dirty boolean NOT NULL)",
        steps: &[
            ("SELECT 1", "migration 7 has not run"),
            ("INSERT INTO schema_migrations VALUES (6, false)", "the schema is at version 6, expected 7"),
            (
                "UPDATE schema_migrations SET version = 7, dirty = true",
                "the schema is dirty: migration 7 failed half-way",
            ),
            ("UPDATE schema_migrations SET dirty = false", OK),
            ("UPDATE schema_migrations SET version = 12", OK),
        ],
    },
    Tale {
        tool: Tool::Rails,
        version: "20240102",
        table: "schema_migrations",
        create: "CREATE TABLE schema_migrations (version varchar(255) NOT NULL PRIMARY KEY)",
        steps: &[
            ("INSERT INTO schema_migrations VALUES ('20240101')", "migration 20240102 has not run"),
            ("INSERT INTO schema_migrations VALUES ('20240102')", OK),
        ],
    },
    Tale {
        tool: Tool::Django,
        version: "orders.0002_total",
        table: "django_migrations",
        create: "CREATE TABLE django_migrations (id bigint PRIMARY KEY, app varchar(255) NOT NULL, name varchar(255) NOT NULL)",
        steps: &[
            (
                "INSERT INTO django_migrations VALUES (1, 'other', '0002_total')",
                "migration orders.0002_total has not run",
            ),
            ("INSERT INTO django_migrations VALUES (2, 'orders', '0002_total')", OK),
        ],
    },
    Tale {
        tool: Tool::Knex,
        version: "20240102_total",
        table: "knex_migrations",
        create: "CREATE TABLE knex_migrations (id int PRIMARY KEY, name varchar(255), batch int)",
        steps: &[
            ("INSERT INTO knex_migrations VALUES (1, '20240101_first.js', 1)", "migration 20240102_total has not run"),
            ("INSERT INTO knex_migrations VALUES (2, '20240102_total.ts', 1)", OK),
        ],
    },
    Tale {
        tool: Tool::Prisma,
        version: "20240102_total",
        table: "_prisma_migrations",
        create: "CREATE TABLE _prisma_migrations (id varchar(36) PRIMARY KEY, finished_at timestamp NULL, migration_name varchar(255) \
                 NOT NULL, logs text, rolled_back_at timestamp NULL)",
        steps: &[
            ("SELECT 1", "migration 20240102_total has not run"),
            (
                "INSERT INTO _prisma_migrations VALUES ('a', NULL, '20240102_total', 'no', NULL)",
                "migration 20240102_total has failed, or is under way",
            ),
            ("UPDATE _prisma_migrations SET rolled_back_at = now()", "migration 20240102_total was undone"),
            ("INSERT INTO _prisma_migrations VALUES ('b', now(), '20240102_total', NULL, NULL)", OK),
        ],
    },
    Tale {
        tool: Tool::Alembic,
        version: "1975ea83b712",
        table: "alembic_version",
        create: "CREATE TABLE alembic_version (version_num varchar(32) NOT NULL PRIMARY KEY)",
        steps: &[
            (
                "INSERT INTO alembic_version VALUES ('ae1027a6acf')",
                "the schema is at revision ae1027a6acf, expected 1975ea83b712",
            ),
            ("UPDATE alembic_version SET version_num = '1975ea83b712'", OK),
        ],
    },
];

/// Tells every tale to a database, `run` by its own client.
async fn tell(store: impl Fn() -> Store, run: impl AsyncFn(&str), no_table: &str) {
    for tale in &TALES {
        let migration =
            Migration { tool: tale.tool, version: tale.version.to_owned(), table: Some(tale.table.to_owned()) };
        let watched = watch([of(Settings { migration: Some(migration), ..Settings::new(store()) })]);
        says(&watched, no_table).await;
        run(tale.create).await;
        for (statement, reason) in tale.steps {
            run(statement).await;
            match *reason {
                OK => passes(&watched, "schema").await,
                reason => fails(&watched, "schema", reason).await,
            }
        }
        run(&format!("DROP TABLE {}", tale.table)).await;
        says(&watched, no_table).await;
    }
}

#[tokio::test]
async fn migrations_of_every_tool_are_found_in_postgres() {
    let postgres = Postgres::start();
    let (client, _tasks) = postgres.client().await;
    let run = async |sql: &str| client.batch_execute(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    tell(|| Store::Postgres(Secret::new(postgres.url())), run, "does not exist (SQLSTATE 42P01)").await;
}

#[tokio::test]
async fn migrations_of_every_tool_are_found_in_mysql() {
    let server = Mariadb::start(&[]);
    let run = async |sql: &str| {
        server.sql(&format!("USE test; {sql}"));
    };
    tell(|| Store::Mysql(Secret::new(server.url())), run, "doesn't exist (error 1146)").await;
}
