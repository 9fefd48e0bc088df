//! Runs a query on PostgreSQL over one connection.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::driver::Driver;
use super::{Cause, Failure};
use crate::net::resolve::{self, Purpose};
use crate::net::tls;
use crate::secret::Secret;

/// A PostgreSQL server.
pub struct Postgres {
    config: Config,
    query: String,
    url: Secret,
    password: Secret,
    tls: MakeRustlsConnect,
    session: Option<Session>,
}

struct Session {
    client: Client,
    driver: Driver<tokio_postgres::Error>,
}

impl Postgres {
    pub(super) fn new(url: &Secret, query: &str) -> Result<Self, Failure> {
        let (text, verify) = split_verification(url.expose());
        let unusable = |reason: &str| Failure::new(Cause::Configuration, &url.scrub(reason));
        let mut config: Config = text.parse().map_err(|e: tokio_postgres::Error| {
            let source = std::error::Error::source(&e).map_or_else(|| e.to_string(), ToString::to_string);
            unusable(&format!("connection string: {source}"))
        })?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(unusable("connection string: no host"));
        }
        if config.get_application_name().is_none() {
            config.application_name("tidegate");
        }
        let password = config.get_password().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        let tls = match (verify, config.get_ssl_mode()) {
            (false, _) | (_, SslMode::Disable) => tls::unverified_client_config(),
            (true, _) => tls::client_config(),
        };
        Ok(Self {
            config,
            query: query.to_owned(),
            url: url.clone(),
            password: Secret::new(password.unwrap_or_default()),
            tls: MakeRustlsConnect::new(Arc::unwrap_or_clone(tls)),
            session: None,
        })
    }

    pub(super) async fn attempt(&mut self) -> Result<(), Failure> {
        if let Some(session) = &mut self.session {
            match session.run(&self.query).await {
                Err(error) if session.lost(&error) => self.session = None,
                result => return result.map_err(|error| self.failure(&error)),
            }
        }
        look_up(&self.config).await?;
        let connected = self.config.connect(self.tls.clone()).await;
        let (client, connection) = connected.map_err(|error| self.failure(&error))?;
        let session = self.session.insert(Session { client, driver: Driver::new(connection) });
        let Err(error) = session.run(&self.query).await else { return Ok(()) };
        let lost = session.lost(&error);
        // A server that ends the connection says why to the connection, not to the query.
        let last_words = session.driver.take_error().filter(|last| last.as_db_error().is_some());
        if lost {
            self.session = None;
        }
        Err(self.failure(last_words.as_ref().unwrap_or(&error)))
    }

    /// The server notices a closed connection only when it next writes to it, which a sleeping or waiting statement
    /// does not: each attempt would leave one more running. So the statement is cancelled as well.
    pub(super) async fn abandon(&mut self, limit: Duration) {
        let Some(session) = self.session.take() else { return };
        let cancelled = timeout(limit, session.client.cancel_token().cancel_query(self.tls.clone())).await;
        if !matches!(cancelled, Ok(Ok(()))) {
            tracing::debug!("a statement that took too long could not be cancelled: the server does not answer");
        }
    }

    fn failure(&self, error: &tokio_postgres::Error) -> Failure {
        let failure = describe(error);
        Failure::new(failure.cause, &self.password.scrub(&self.url.scrub(&failure.to_string())))
    }
}

impl Session {
    /// The simple protocol: a pooler in transaction mode need not keep a prepared statement for us.
    async fn run(&mut self, query: &str) -> Result<(), tokio_postgres::Error> {
        self.driver.during(self.client.batch_execute(query)).await
    }

    /// Whether the error means that the connection is over, rather than that the query failed on it.
    fn lost(&self, error: &tokio_postgres::Error) -> bool {
        // Class 57P: the server is ending the connection (shutdown, crash of another backend, dropped database).
        let ending = error.code().is_some_and(|code| code.code().starts_with("57P"));
        self.driver.ended() || self.client.is_closed() || error.is_closed() || ending
    }
}

/// The driver looks names up by itself and without a bound. While DNS does not answer, it is not asked to.
async fn look_up(config: &Config) -> Result<(), Failure> {
    if !config.get_hostaddrs().is_empty() {
        return Ok(());
    }
    let mut last = Ok(());
    for host in config.get_hosts() {
        let Host::Tcp(name) = host else { return Ok(()) };
        match resolve::addresses(Purpose::Background, name, 0).await {
            Ok(_) => return Ok(()),
            Err(error) => last = Err(Failure::io(&error)),
        }
    }
    last
}

/// The modes of libpq that check the server's certificate are not known to the client library, which always does
/// what its TLS settings say. So they are told apart here: `require` and `prefer` encrypt and check nothing,
/// `verify-ca` and `verify-full` check authority and name (PostgreSQL documentation, "SSL Mode Descriptions").
pub(crate) fn split_verification(url: &str) -> (String, bool) {
    let options_at = if url.contains("://") { url.find('?').unwrap_or(url.len()) } else { 0 };
    let (before, options) = url.split_at(options_at);
    let mut options = options.to_owned();
    let mut verify = false;
    for mode in ["verify-full", "verify-ca"] {
        for (quoted, plain) in
            [(format!("sslmode='{mode}'"), "sslmode=require"), (format!("sslmode={mode}"), "sslmode=require")]
        {
            verify |= options.contains(&quoted);
            options = options.replace(&quoted, plain);
        }
    }
    options = options.replace("sslmode=allow", "sslmode=prefer");
    (format!("{before}{options}"), verify)
}

fn describe(error: &tokio_postgres::Error) -> Failure {
    if let Some(error) = error.as_db_error() {
        let message = error.message();
        return match *error.code() {
            SqlState::INVALID_PASSWORD => Failure::new(Cause::Credentials, message),
            SqlState::INVALID_AUTHORIZATION_SPECIFICATION => Failure::new(Cause::Credentials, message),
            SqlState::INVALID_CATALOG_NAME => Failure::new(Cause::Configuration, message),
            SqlState::TOO_MANY_CONNECTIONS => Failure::new(Cause::Busy, &format!("too many connections: {message}")),
            SqlState::CANNOT_CONNECT_NOW | SqlState::ADMIN_SHUTDOWN | SqlState::CRASH_SHUTDOWN => {
                Failure::new(Cause::Busy, message)
            }
            _ => Failure::new(Cause::Answer, &format!("{message} (SQLSTATE {})", error.code().code())),
        };
    }
    if error.is_closed() {
        return Failure::new(Cause::Lost, "connection closed by the server");
    }
    // The client library tells its kinds of error by their texts alone.
    let (text, source) = (error.to_string(), std::error::Error::source(error));
    let detail = source.map(|source| format!(": {source}")).unwrap_or_default();
    match text.as_str() {
        "error performing TLS handshake" => Failure::new(Cause::Tls, &format!("TLS{detail}")),
        "authentication error" => Failure::new(Cause::Credentials, &format!("{text}{detail}")),
        _ => Failure::from_sources(error).unwrap_or_else(|| Failure::new(Cause::Lost, &format!("{text}{detail}"))),
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres").field("query", &self.query).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libpqs_verifying_modes_are_told_apart() {
        for (url, text, verify) in [
            ("postgres://h/d", "postgres://h/d", false),
            ("postgres://h/d?sslmode=verify-full&x=1", "postgres://h/d?sslmode=require&x=1", true),
            ("postgres://h/d?sslmode=require", "postgres://h/d?sslmode=require", false),
            ("host=h sslmode='verify-ca'", "host=h sslmode=require", true),
            ("host=h sslmode=allow", "host=h sslmode=prefer", false),
            ("postgres://u:sslmode=allow@h/d", "postgres://u:sslmode=allow@h/d", false),
        ] {
            assert_eq!(split_verification(url), (text.to_owned(), verify));
        }
    }

    #[test]
    fn an_unusable_connection_string_is_refused_without_its_password() {
        for url in [
            "postgres://u:s3cret@h:port/d",
            "postgres://u:s3cret@h/d?nonsense=1",
            "password=s3cret user=u",
            "host=h sslmode=s3cret-no",
        ] {
            let failure = Postgres::new(&Secret::new(url), "SELECT 1").expect_err(url);
            assert_eq!(failure.cause, Cause::Configuration);
            assert!(url.contains("sslmode") || !failure.to_string().contains("s3cret"), "{failure}");
        }
    }

    #[test]
    fn the_server_sees_who_asks_unless_the_url_says_otherwise() {
        for (url, name) in [("host=h", "tidegate"), ("host=h application_name=mine", "mine")] {
            let postgres = Postgres::new(&Secret::new(url), "SELECT 1").expect("legal");
            assert_eq!(postgres.config.get_application_name(), Some(name));
        }
    }
}
