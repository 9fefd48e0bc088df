//! Schemas of real databases: what is missing, half-built or not validated.

use tidegate::readiness::settings::{Check, Kind, Schema as Settings, Store};
use tidegate::secret::Secret;

use super::{fails, passes};
use crate::readiness::{check, watch};
use crate::support::mariadb::Mariadb;
use crate::support::postgres::Postgres;

pub(super) fn of(settings: Settings) -> Check {
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
        (
            "SELECT 1",
            "table orders is missing; table sales.Items is missing; column orders.total is missing; \
             column sales.Items.price is missing; and 2 more",
        ),
        ("CREATE TABLE orders (id bigint)", "table sales.Items is missing; column orders.total is missing…"),
        ("CREATE SCHEMA sales", "table sales.Items is missing; column orders.total is missing…"),
        ("CREATE VIEW sales.\"Items\" AS SELECT 1 AS price", "column orders.total is missing; index…"),
        (
            "ALTER TABLE orders ADD total int",
            "index orders_total_idx is missing; constraint orders.total_is_positive is missing",
        ),
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
    fails(&watched, "schema", "column orders.total is missing; index…").await;
    client.batch_execute("DROP TABLE orders CASCADE").await.unwrap();
    fails(&watched, "schema", "table orders is missing; column…").await;
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
        ("SELECT 1", "table orders is missing; column orders.total is missing…"),
        ("CREATE TABLE test.orders (id bigint)", "column orders.total is missing; column…"),
        ("ALTER TABLE test.orders ADD total int", "column sales.items.price is missing; index…"),
        (
            "CREATE DATABASE sales; CREATE TABLE sales.items (price int)",
            "index orders.orders_total_idx is missing; constraint orders.total_is_positive is missing",
        ),
        ("CREATE INDEX orders_total_idx ON test.orders (total)", "constraint orders.total_is_positive is missing"),
    ] {
        server.sql(statement);
        fails(&watched, "schema", reason).await;
    }
    server.sql("ALTER TABLE test.orders ADD CONSTRAINT total_is_positive CHECK (total > 0)");
    passes(&watched, "schema").await;
    server.sql("DROP TABLE test.orders");
    fails(&watched, "schema", "table orders is missing; column…").await;
    assert_eq!(server.sessions(), 1);
}
