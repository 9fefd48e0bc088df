//! One connection to a PostgreSQL server, made when first needed and again when lost, for whichever check asks it.

use std::fmt;
use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::super::driver::Driver;
use super::super::{Cause, Failure};
use super::options::{self, Options};
use crate::net::resolve::{self, Purpose};
use crate::net::tls::client::Trust;
use crate::secret::Secret;

/// One row as the server wrote it, without NULLs told from empty texts.
pub(in super::super) type Row = Vec<Option<String>>;

/// A PostgreSQL server.
pub(in super::super) struct Server {
    config: Config,
    trust: Trust,
    url: Secret,
    password: Secret,
    session: Option<Session>,
}

struct Session {
    client: Client,
    driver: Driver<tokio_postgres::Error>,
    tls: MakeRustlsConnect,
}

/// The names of hosts in a connection string; none of one that cannot be read.
pub(crate) fn hosts(url: &Secret) -> Vec<String> {
    let name = |host: &Host| match host {
        Host::Tcp(name) => Some(name.clone()),
        Host::Unix(_) => None,
    };
    let config = options::split(url.expose()).ok().and_then(|Options { rest, .. }| rest.parse::<Config>().ok());
    config.map(|config| config.get_hosts().iter().filter_map(name).collect()).unwrap_or_default()
}

impl Server {
    /// Parses a connection string; nothing is connected.
    pub(in super::super) fn new(url: &Secret) -> Result<Self, Failure> {
        let unusable =
            |reason: &str| Failure::new(Cause::Configuration, &format!("connection string: {}", url.scrub(reason)));
        let Options { rest, trust } = options::split(url.expose()).map_err(unusable)?;
        let mut config: Config = rest.parse().map_err(|e: tokio_postgres::Error| {
            unusable(&std::error::Error::source(&e).map_or_else(|| e.to_string(), ToString::to_string))
        })?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(unusable("no host"));
        }
        if config.get_application_name().is_none() {
            config.application_name("tidegate");
        }
        let password = config.get_password().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        let password = Secret::new(password.unwrap_or_default());
        Ok(Self { config, trust, url: url.clone(), password, session: None })
    }

    /// Runs statements and throws away what they answer.
    pub(in super::super) async fn execute(&mut self, sql: &str) -> Result<(), Failure> {
        self.run(sql, Want::Nothing).await.map(drop)
    }

    /// Runs statements whose answer is short, and returns the rows.
    pub(in super::super) async fn rows(&mut self, sql: &str) -> Result<Vec<Row>, Failure> {
        self.run(sql, Want::Rows).await
    }

    async fn run(&mut self, sql: &str, want: Want) -> Result<Vec<Row>, Failure> {
        if let Some(session) = &mut self.session {
            match session.run(sql, want).await {
                Err(error) if session.lost(&error) => self.session = None,
                result => return result.map_err(|error| self.failure(&error)),
            }
        }
        let session = self.connect().await?;
        let session = self.session.insert(session);
        let error = match session.run(sql, want).await {
            Ok(rows) => return Ok(rows),
            Err(error) => error,
        };
        let lost = session.lost(&error);
        // A server that ends the connection says why to the connection, not to the query.
        let last_words = session.driver.take_error().filter(|last| last.as_db_error().is_some());
        if lost {
            self.session = None;
        }
        Err(self.failure(last_words.as_ref().unwrap_or(&error)))
    }

    async fn connect(&mut self) -> Result<Session, Failure> {
        look_up(&self.config).await?;
        // Files that are not used need not be there.
        let trust = if self.config.get_ssl_mode() == SslMode::Disable { &Trust::default() } else { &self.trust };
        let tls = trust.config().await.map_err(|why| Failure::new(Cause::Configuration, &format!("TLS: {why}")))?;
        let tls = MakeRustlsConnect::new(tls);
        let connected = self.config.connect(tls.clone()).await;
        let (client, connection) = connected.map_err(|error| self.failure(&error))?;
        Ok(Session { client, driver: Driver::new(connection), tls })
    }

    /// Closes the connection, in order.
    pub(in super::super) fn disconnect(&mut self) {
        self.session = None;
    }

    /// The server notices a closed connection only when it next writes to it, which a sleeping or waiting statement
    /// does not: each attempt would leave one more running. So the statement is cancelled as well.
    pub(in super::super) async fn abandon(&mut self, limit: Duration) {
        let Some(session) = self.session.take() else { return };
        let cancelled = timeout(limit, session.client.cancel_token().cancel_query(session.tls)).await;
        if !matches!(cancelled, Ok(Ok(()))) {
            tracing::debug!("a statement that took too long could not be cancelled: the server does not answer");
        }
    }

    fn failure(&self, error: &tokio_postgres::Error) -> Failure {
        let failure = describe(error);
        Failure::new(failure.cause, &self.password.scrub(&self.url.scrub(&failure.to_string())))
    }
}

/// What is kept of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Want {
    /// Whatever an operator's query answers may be long.
    Nothing,
    Rows,
}

impl Session {
    /// The simple protocol: a pooler in transaction mode need not keep a prepared statement for us.
    async fn run(&mut self, sql: &str, want: Want) -> Result<Vec<Row>, tokio_postgres::Error> {
        let Self { client, driver, .. } = self;
        if want == Want::Nothing {
            return driver.during(client.batch_execute(sql)).await.map(|()| Vec::new());
        }
        let messages = driver.during(client.simple_query(sql)).await?;
        let rows = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect()),
            _ => None,
        });
        Ok(rows.collect())
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
    if let Some(failure) = Failure::tls(error) {
        return failure;
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

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("connected", &self.session.is_some()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unusable_connection_string_is_refused_without_its_password() {
        for url in [
            "postgres://u:s3cret@h:port/d",
            "postgres://u:s3cret@h/d?nonsense=1",
            "password=s3cret user=u",
            "host=h sslmode=s3cret-no",
        ] {
            let failure = Server::new(&Secret::new(url)).expect_err(url);
            assert_eq!(failure.cause, Cause::Configuration);
            assert!(!failure.to_string().contains("s3cret"), "{failure}");
        }
    }

    #[test]
    fn the_server_sees_who_asks_unless_the_url_says_otherwise() {
        for (url, name) in [("host=h", "tidegate"), ("host=h application_name=mine", "mine")] {
            let server = Server::new(&Secret::new(url)).expect("legal");
            assert_eq!(server.config.get_application_name(), Some(name));
        }
    }
}
