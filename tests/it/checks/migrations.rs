//! Migrations by the tables of the tools that keep count of them, each created as the tool's own source creates it.

use tidegate::readiness::settings::{Migration, Schema as Settings, Store, Tool};
use tidegate::secret::Secret;

use super::schema::of;
use super::{fails, passes};
use crate::readiness::watch;
use crate::support::mariadb::Mariadb;
use crate::support::postgres::Postgres;

/// A tool's own table; what it writes when a migration ran, failed and was repaired; what we say.
struct Tale {
    tool: Tool,
    version: &'static str,
    /// What it is called where the tool's own name for it differs between databases.
    table: &'static str,
    /// In PostgreSQL and in MySQL.
    create: [&'static str; 2],
    steps: &'static [(&'static str, &'static str)],
}

const OK: &str = "";

const TALES: [Tale; 10] = [
    Tale {
        tool: Tool::Sqlx,
        version: "20240102000000",
        table: "_sqlx_migrations",
        // <https://github.com/launchbadge/sqlx/blob/main/sqlx-postgres/src/migrate.rs>,
        // <https://github.com/launchbadge/sqlx/blob/main/sqlx-mysql/src/migrate.rs>
        create: [
            "CREATE TABLE _sqlx_migrations (version BIGINT PRIMARY KEY, description TEXT NOT NULL, installed_on TIMESTAMPTZ NOT \
             NULL DEFAULT now(), success BOOLEAN NOT NULL, checksum BYTEA NOT NULL, execution_time BIGINT NOT NULL)",
            "CREATE TABLE _sqlx_migrations (version BIGINT PRIMARY KEY, description TEXT NOT NULL, installed_on TIMESTAMP NOT \
             NULL DEFAULT CURRENT_TIMESTAMP, success BOOLEAN NOT NULL, checksum BLOB NOT NULL, execution_time BIGINT NOT NULL)",
        ],
        steps: &[
            ("SELECT 1", "migration 20240102000000 has not run"),
            (
                "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                 VALUES (20240102000000, 'b', false, '', -1)",
                "migration 20240102000000 has failed",
            ),
            ("UPDATE _sqlx_migrations SET success = true", OK),
            (
                "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                 VALUES (20240103000000, 'c', false, '', -1)",
                "migration 20240103000000 has failed",
            ),
            ("DELETE FROM _sqlx_migrations WHERE NOT success", OK),
        ],
    },
    Tale {
        tool: Tool::Flyway,
        version: "1.2",
        table: "flyway_schema_history",
        // `getRawCreateScript` in
        // <https://github.com/flyway/flyway/blob/main/flyway-database/flyway-database-postgresql/src/main/java/org/flywaydb/database/postgresql/PostgreSQLDatabase.java>,
        // <https://github.com/flyway/flyway/blob/main/flyway-database/flyway-mysql/src/main/java/org/flywaydb/database/mysql/MySQLDatabase.java>
        create: [
            "CREATE TABLE \"flyway_schema_history\" (\"installed_rank\" INT NOT NULL, \"version\" VARCHAR(50), \"description\" \
             VARCHAR(200) NOT NULL, \"type\" VARCHAR(20) NOT NULL, \"script\" VARCHAR(1000) NOT NULL, \"checksum\" INTEGER, \
             \"installed_by\" VARCHAR(100) NOT NULL, \"installed_on\" TIMESTAMP NOT NULL DEFAULT now(), \"execution_time\" \
             INTEGER NOT NULL, \"success\" BOOLEAN NOT NULL)",
            "CREATE TABLE `flyway_schema_history` (`installed_rank` INT NOT NULL, `version` VARCHAR(50), `description` \
             VARCHAR(200) NOT NULL, `type` VARCHAR(20) NOT NULL, `script` VARCHAR(1000) NOT NULL, `checksum` INT, `installed_by` \
             VARCHAR(100) NOT NULL, `installed_on` TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, `execution_time` INT NOT NULL, \
             `success` BOOL NOT NULL, CONSTRAINT `flyway_schema_history_pk` PRIMARY KEY (`installed_rank`))",
        ],
        steps: &[
            (
                "INSERT INTO flyway_schema_history VALUES (1, '1.1', 'a', 'SQL', 'V1.1__a.sql', 7, 'me', now(), 1, true)",
                "migration 1.2 has not run",
            ),
            (
                "INSERT INTO flyway_schema_history VALUES (2, '1.2', 'b', 'SQL', 'V1.2__b.sql', 7, 'me', now(), 1, false)",
                "migration 1.2 has failed",
            ),
            ("UPDATE flyway_schema_history SET success = true", OK),
            (
                "INSERT INTO flyway_schema_history VALUES \
                 (3, '1.2', 'b', 'UNDO_SQL', 'U1.2__b.sql', 7, 'me', now(), 1, true)",
                "migration 1.2 was undone",
            ),
            (
                "INSERT INTO flyway_schema_history VALUES (4, '1.2', 'b', 'SQL', 'V1.2__b.sql', 7, 'me', now(), 1, true)",
                OK,
            ),
        ],
    },
    Tale {
        tool: Tool::Liquibase,
        version: "add total",
        table: "databasechangelog",
        // <https://github.com/liquibase/liquibase/blob/master/liquibase-standard/src/main/java/liquibase/sqlgenerator/core/CreateDatabaseChangeLogTableGenerator.java>
        create: [
            "CREATE TABLE databasechangelog (ID VARCHAR(255) NOT NULL, AUTHOR VARCHAR(255) NOT NULL, FILENAME VARCHAR(255) NOT \
             NULL, DATEEXECUTED TIMESTAMP WITHOUT TIME ZONE NOT NULL, ORDEREXECUTED INTEGER NOT NULL, EXECTYPE VARCHAR(10) NOT \
             NULL, MD5SUM VARCHAR(35), DESCRIPTION VARCHAR(255), COMMENTS VARCHAR(255), TAG VARCHAR(255), LIQUIBASE VARCHAR(20), \
             CONTEXTS VARCHAR(255), LABELS VARCHAR(255), DEPLOYMENT_ID VARCHAR(10))",
            "CREATE TABLE databasechangelog (ID VARCHAR(255) NOT NULL, AUTHOR VARCHAR(255) NOT NULL, FILENAME VARCHAR(255) NOT \
             NULL, DATEEXECUTED datetime NOT NULL, ORDEREXECUTED INT NOT NULL, EXECTYPE VARCHAR(10) NOT NULL, MD5SUM VARCHAR(35) \
             NULL, `DESCRIPTION` VARCHAR(255) NULL, COMMENTS VARCHAR(255) NULL, TAG VARCHAR(255) NULL, LIQUIBASE VARCHAR(20) NULL, \
             CONTEXTS VARCHAR(255) NULL, LABELS VARCHAR(255) NULL, DEPLOYMENT_ID VARCHAR(10) NULL)",
        ],
        steps: &[
            (
                "INSERT INTO databasechangelog (id, author, filename, dateexecuted, orderexecuted, exectype) \
                 VALUES ('first', 'me', 'f', now(), 1, 'EXECUTED')",
                "migration add total has not run",
            ),
            (
                "INSERT INTO databasechangelog (id, author, filename, dateexecuted, orderexecuted, exectype) \
                 VALUES ('add total', 'me', 'f', now(), 2, 'EXECUTED')",
                OK,
            ),
            ("UPDATE databasechangelog SET exectype = 'FAILED' WHERE id = 'first'", "migration first has failed"),
            ("UPDATE databasechangelog SET exectype = 'MARK_RAN'", OK),
        ],
    },
    Tale {
        tool: Tool::GolangMigrate,
        version: "7",
        table: "schema_migrations",
        // `ensureVersionTable` in <https://github.com/golang-migrate/migrate/blob/master/database/postgres/postgres.go>, and in
        // <https://github.com/golang-migrate/migrate/blob/master/database/mysql/mysql.go>
        create: ["CREATE TABLE schema_migrations (version bigint not null primary key, dirty boolean not null)"; 2],
        steps: &[
            ("SELECT 1", "migration 7 has not run"),
            (
                "INSERT INTO schema_migrations (version, dirty) VALUES (6, false)",
                "the schema is at version 6, expected 7",
            ),
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
        // `create_table` in <https://github.com/rails/rails/blob/main/activerecord/lib/active_record/schema_migration.rb>
        create: [
            "CREATE TABLE schema_migrations (version character varying NOT NULL PRIMARY KEY)",
            "CREATE TABLE schema_migrations (version varchar(255) NOT NULL PRIMARY KEY)",
        ],
        steps: &[
            ("INSERT INTO schema_migrations (version) VALUES ('20240101')", "migration 20240102 has not run"),
            ("INSERT INTO schema_migrations (version) VALUES ('20240102')", OK),
        ],
    },
    Tale {
        tool: Tool::Rails,
        // A file `001_total.rb`: Rails keeps the number.
        version: "001",
        table: "schema_migrations",
        create: ["CREATE TABLE schema_migrations (version varchar(255) NOT NULL PRIMARY KEY)"; 2],
        steps: &[
            ("INSERT INTO schema_migrations (version) VALUES ('10')", "migration 001 has not run"),
            ("INSERT INTO schema_migrations (version) VALUES ('1')", OK),
        ],
    },
    Tale {
        tool: Tool::Django,
        version: "orders.0002_total",
        table: "django_migrations",
        // The model `Migration` in <https://github.com/django/django/blob/main/django/db/migrations/recorder.py>, as
        // `sqlmigrate` writes a model of these fields.
        create: [
            "CREATE TABLE \"django_migrations\" (\"id\" bigint NOT NULL PRIMARY KEY GENERATED BY DEFAULT AS IDENTITY, \"app\" \
             varchar(255) NOT NULL, \"name\" varchar(255) NOT NULL, \"applied\" timestamp with time zone NOT NULL)",
            "CREATE TABLE `django_migrations` (`id` bigint AUTO_INCREMENT NOT NULL PRIMARY KEY, `app` varchar(255) NOT NULL, \
             `name` varchar(255) NOT NULL, `applied` datetime(6) NOT NULL)",
        ],
        steps: &[
            (
                "INSERT INTO django_migrations (app, name, applied) VALUES ('other', '0002_total', now())",
                "migration orders.0002_total has not run",
            ),
            ("INSERT INTO django_migrations (app, name, applied) VALUES ('orders', '0002_total', now())", OK),
        ],
    },
    Tale {
        tool: Tool::Knex,
        version: "20240102_total",
        table: "knex_migrations",
        // <https://github.com/knex/knex/blob/master/lib/migrations/migrate/table-creator.js>
        create: [
            "CREATE TABLE \"knex_migrations\" (\"id\" serial primary key, \"name\" varchar(255), \"batch\" integer, \
             \"migration_time\" timestamptz)",
            "CREATE TABLE `knex_migrations` (`id` int unsigned not null auto_increment primary key, `name` varchar(255), \
             `batch` int, `migration_time` timestamp)",
        ],
        steps: &[
            (
                "INSERT INTO knex_migrations (name, batch, migration_time) VALUES ('20240101_first.js', 1, now())",
                "migration 20240102_total has not run",
            ),
            ("INSERT INTO knex_migrations (name, batch, migration_time) VALUES ('20240102_total.ts', 1, now())", OK),
        ],
    },
    Tale {
        tool: Tool::Prisma,
        version: "20240102_total",
        table: "_prisma_migrations",
        // `create_migrations_table` in
        // <https://github.com/prisma/prisma-engines/tree/main/schema-engine/connectors/sql-schema-connector/src/flavour>
        create: [
            "CREATE TABLE _prisma_migrations (id VARCHAR(36) PRIMARY KEY NOT NULL, checksum VARCHAR(64) NOT NULL, finished_at \
             TIMESTAMPTZ, migration_name VARCHAR(255) NOT NULL, logs TEXT, rolled_back_at TIMESTAMPTZ, started_at TIMESTAMPTZ NOT \
             NULL DEFAULT now(), applied_steps_count INTEGER NOT NULL DEFAULT 0)",
            "CREATE TABLE _prisma_migrations (id VARCHAR(36) PRIMARY KEY NOT NULL, checksum VARCHAR(64) NOT NULL, finished_at \
             DATETIME(3), migration_name VARCHAR(255) NOT NULL, logs TEXT, rolled_back_at DATETIME(3), started_at DATETIME(3) NOT \
             NULL DEFAULT CURRENT_TIMESTAMP(3), applied_steps_count INTEGER UNSIGNED NOT NULL DEFAULT 0)",
        ],
        steps: &[
            ("SELECT 1", "migration 20240102_total has not run"),
            (
                "INSERT INTO _prisma_migrations (id, checksum, migration_name, logs) VALUES ('a', 'x', '20240102_total', 'no')",
                "migration 20240102_total has failed, or is under way",
            ),
            ("UPDATE _prisma_migrations SET rolled_back_at = now()", "migration 20240102_total was undone"),
            (
                "INSERT INTO _prisma_migrations (id, checksum, migration_name, finished_at) \
                 VALUES ('b', 'x', '20240102_total', now())",
                OK,
            ),
        ],
    },
    Tale {
        tool: Tool::Alembic,
        version: "1975ea83b712",
        table: "alembic_version",
        // `version_table_impl` in <https://github.com/sqlalchemy/alembic/blob/main/alembic/ddl/impl.py>
        create: ["CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY \
                  (version_num))"; 2],
        steps: &[
            (
                "INSERT INTO alembic_version (version_num) VALUES ('ae1027a6acf')",
                "the schema is at revision ae1027a6acf, expected 1975ea83b712",
            ),
            ("UPDATE alembic_version SET version_num = '1975ea83b712'", OK),
        ],
    },
];

/// Tells every tale to a database, `run` by its own client; `at` is its place in [`Tale::create`].
async fn tell(at: usize, store: impl Fn() -> Store, run: impl AsyncFn(&str)) {
    for tale in &TALES {
        let migration =
            Migration { tool: tale.tool, version: tale.version.to_owned(), table: Some(tale.table.to_owned()) };
        let no_table = format!("table {} of {} is missing", tale.table, tale.tool.as_str());
        let watched = watch([of(Settings { migration: Some(migration.clone()), ..Settings::new(store()) })]);
        fails(&watched, "schema", &no_table).await;
        let both = Settings { tables: vec!["nosuch".to_owned()], migration: Some(migration), ..Settings::new(store()) };
        fails(&watch([of(both.clone())]), "schema", &format!("{no_table}; table nosuch is missing")).await;
        run(tale.create[at]).await;
        for (statement, reason) in tale.steps {
            run(statement).await;
            match *reason {
                OK => passes(&watched, "schema").await,
                reason => fails(&watched, "schema", reason).await,
            }
        }
        passes(&watched, "schema").await;
        fails(&watch([of(both)]), "schema", "table nosuch is missing").await;
        run(&format!("DROP TABLE {}", tale.table)).await;
        fails(&watched, "schema", &no_table).await;
    }
}

#[tokio::test]
async fn migrations_of_every_tool_are_found_in_postgres() {
    let postgres = Postgres::start();
    let (client, _tasks) = postgres.client().await;
    let run = async |sql: &str| client.batch_execute(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    tell(0, || Store::Postgres(Secret::new(postgres.url())), run).await;
}

#[tokio::test]
async fn migrations_of_every_tool_are_found_in_mysql() {
    let server = Mariadb::start(&[]);
    let run = async |sql: &str| {
        server.sql(&format!("USE test; {sql}"));
    };
    tell(1, || Store::Mysql(Secret::new(server.url())), run).await;
}
