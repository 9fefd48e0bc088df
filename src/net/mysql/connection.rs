//! A connection: the socket, TLS, who we are, and queries.

use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::Error;
use super::handshake::{Challenge, Greeting, Privacy, Proof, in_the_clear};
use super::packet::{Packets, Stream};
use super::rows::{self, Keep, Rows};
use super::url::{Address, Target, Tls};
use crate::net::resolve::{self, Purpose};
use crate::net::tls::client;

/// A connection. Dropping it closes the socket.
pub struct Connection {
    packets: Packets,
    mariadb: bool,
}

const QUERY: u8 = 3;

/// Full authentication of `caching_sha2_password`, and that the server knew the password already.
const FULL: u8 = 4;
const FAST: u8 = 3;

impl Connection {
    pub(super) async fn open(target: &Target) -> Result<Self, Error> {
        match &target.address {
            Address::Unix(path) => Self::over(Box::new(UnixStream::connect(path).await?), target).await,
            Address::Tcp(host, port) => {
                let addresses = resolve::addresses(Purpose::Background, host, *port).await?;
                let stream = TcpStream::connect(addresses.as_slice()).await?;
                stream.set_nodelay(true)?;
                Self::over(Box::new(stream), target).await
            }
        }
    }

    /// Shakes hands over a stream to the target's address.
    pub(super) async fn over(stream: Box<dyn Stream>, target: &Target) -> Result<Self, Error> {
        let mut packets = Packets::over(stream);
        let host = match &target.address {
            Address::Unix(_) => None,
            Address::Tcp(host, _) => Some(host),
        };
        let first = packets.read().await?;
        if first.first() == Some(&0xff) {
            return Err(rows::refusal(&first));
        }
        let greeting = Greeting::read(&first)?;
        let mut tls = false;
        if let Some(host) = host.filter(|_| target.tls == Tls::Required || target.tls == Tls::Preferred && greeting.tls)
        {
            if !greeting.tls {
                return Err(Error::Tls("server does not support TLS".to_owned()));
            }
            packets = encrypted(packets, &greeting, target, host).await?;
            tls = true;
        }
        let privacy = if tls || host.is_none() { Privacy::Private } else { Privacy::Open };
        packets.write(&greeting.respond(target, privacy, tls)).await?;
        let mut connection = Self { packets, mariadb: greeting.mariadb };
        connection.authenticate(target, privacy).await?;
        Ok(connection)
    }

    /// Answers what the server asks until it is content.
    async fn authenticate(&mut self, target: &Target, privacy: Privacy) -> Result<(), Error> {
        let password = target.password.expose();
        // A server asks once for another plugin, and once for more; one that goes on asking is none.
        for _ in 0..8 {
            let packet = self.packets.read().await?;
            let proof = match packet.split_first() {
                Some((0, _)) => return Ok(()),
                Some((0xff, _)) => return Err(rows::refusal(&packet)),
                Some((0xfe, demand)) => Challenge::switched(demand).prove(password, privacy),
                Some((1, [FAST])) => continue,
                Some((1, [FULL])) => in_the_clear(password.as_bytes(), privacy),
                _ => return Err(Error::Protocol("not a server of MySQL: an unknown step of its handshake")),
            };
            match proof {
                Proof::Bytes(bytes) => self.packets.write(&bytes).await?,
                Proof::Refused(why) => return Err(Error::Authentication(why)),
            }
        }
        Err(Error::Protocol("the server's handshake does not end"))
    }

    /// Has the server end statements that take longer than `limit`. Servers that cannot are left as they are.
    pub(super) async fn bound(&mut self, limit: Duration) -> Result<(), Error> {
        let set = if self.mariadb {
            format!("SET SESSION max_statement_time = {}", limit.as_secs_f64())
        } else {
            format!("SET SESSION max_execution_time = {}", limit.as_millis().max(1))
        };
        match self.query(&set, Keep::Nothing).await {
            Ok(_) | Err(Error::Server { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Runs a query. After an error that is none of the server's, the connection is of no use any more.
    ///
    /// # Cancellation
    /// Drop the connection as well: the answer is still to come.
    ///
    /// # Errors
    /// The server's, and those of the connection.
    pub async fn query(&mut self, sql: &str, keep: Keep) -> Result<Rows, Error> {
        self.packets.command(QUERY, sql).await?;
        rows::read(&mut self.packets, keep).await
    }
}

async fn encrypted(mut packets: Packets, greeting: &Greeting, target: &Target, host: &str) -> Result<Packets, Error> {
    let config = target.trust.config().await.map_err(Error::Tls)?;
    let name = target.trust.name(host).map_err(Error::Tls)?;
    packets.write(&greeting.ask_for_tls(target)).await?;
    let (stream, sequence) = packets.into_parts();
    let stream = TlsConnector::from(std::sync::Arc::new(config)).connect(name, stream).await;
    let stream = stream.map_err(|error| match client::reason(&error) {
        Some(reason) => Error::Tls(reason),
        None => Error::Io(error),
    })?;
    Ok(Packets::go_on(Box::new(stream), sequence))
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("mariadb", &self.mariadb).finish_non_exhaustive()
    }
}
