//! Saying who we are to a server, before the client library has the connection: the library keeps what a server answers to
//! itself, and takes the first thing that it says for the answer to the password.

use std::io;

use redis::RedisConnectionInfo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// The most that is read of an answer.
const LONGEST: usize = 1024;

/// Sends `AUTH` and `SELECT` where `login` says so.
///
/// # Errors
/// The server's own words (without `-`), or those of the system.
pub(super) async fn log_in(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    login: &RedisConnectionInfo,
) -> Result<(), String> {
    if let Some(password) = login.password() {
        let alone = redis::cmd("AUTH").arg(password).get_packed_command();
        match login.username() {
            None => ask(stream, &alone).await?,
            Some(user) => {
                let both = redis::cmd("AUTH").arg(user).arg(password).get_packed_command();
                match ask(stream, &both).await {
                    // Before Redis 6 there are no users.
                    Err(text) if text.contains("wrong number of arguments for 'auth' command") => {
                        ask(stream, &alone).await?;
                    }
                    answer => answer?,
                }
            }
        }
    }
    if login.db() != 0 {
        ask(stream, &redis::cmd("SELECT").arg(login.db()).get_packed_command()).await?;
    }
    Ok(())
}

/// Sends a command that is answered by a line.
async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), command: &[u8]) -> Result<(), String> {
    let sent = async {
        stream.write_all(command).await?;
        stream.flush().await
    };
    let sent: io::Result<()> = sent.await;
    // A server that is full says so and closes, before it has read anything.
    let line = line(stream).await.map_err(|error| sent.err().unwrap_or(error).to_string())?;
    match line.split_at_checked(1) {
        Some(("+", _)) => Ok(()),
        Some(("-", error)) => Err(error.to_owned()),
        _ => Err("parse error: the answer to AUTH is not in Redis's protocol".to_owned()),
    }
}

/// A line without its end. Nothing behind it is read: what comes next is the library's.
async fn line(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<String> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") && line.len() < LONGEST {
        match stream.read_u8().await {
            Ok(byte) => line.push(byte),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(io::Error::new(io::ErrorKind::BrokenPipe, "broken pipe: closed in place of an answer"));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    /// What is sent to a server that says `answers`, and what comes of it; the line behind them must be left.
    async fn check(login: &RedisConnectionInfo, answers: &str, sent: &str, expected: Result<(), &str>) {
        let (mut ours, mut theirs) = duplex(4096);
        theirs.write_all(answers.as_bytes()).await.expect("there is room");
        theirs.write_all(b"$5\r\n").await.expect("there is room");
        let result = log_in(&mut ours, login).await;
        assert_eq!(result.as_ref().map_err(String::as_str).copied(), expected, "{answers:?}");
        drop(ours);
        let mut heard = String::new();
        theirs.read_to_string(&mut heard).await.expect("text");
        assert_eq!(heard, sent);
    }

    #[tokio::test]
    async fn the_servers_own_words_are_told() {
        let login = || RedisConnectionInfo::default().set_password("p w");
        let auth = "*2\r\n$4\r\nAUTH\r\n$3\r\np w\r\n";
        check(&RedisConnectionInfo::default(), "", "", Ok(())).await;
        check(&login(), "+OK\r\n", auth, Ok(())).await;
        let wrong = "WRONGPASS invalid username-password pair or user is disabled.";
        check(&login(), &format!("-{wrong}\r\n"), auth, Err(wrong)).await;
        let full = "ERR max number of clients reached";
        check(&login(), &format!("-{full}\r\n"), auth, Err(full)).await;
        let both = "*3\r\n$4\r\nAUTH\r\n$1\r\nu\r\n$3\r\np w\r\n";
        let old = "-ERR wrong number of arguments for 'auth' command\r\n+OK\r\n";
        check(&login().set_username("u"), old, &format!("{both}{auth}"), Ok(())).await;
        let select = "*2\r\n$6\r\nSELECT\r\n$2\r\n12\r\n";
        let outside = "ERR DB index is out of range";
        check(&login().set_db(12), &format!("+OK\r\n-{outside}\r\n"), &format!("{auth}{select}"), Err(outside)).await;
        let other = "parse error: the answer to AUTH is not in Redis's protocol";
        check(&login(), "HTTP/1.1 400 Bad Request\r\n", auth, Err(other)).await;
        check(&login(), &"+".repeat(LONGEST * 2), auth, Ok(())).await;
    }

    #[tokio::test]
    async fn a_server_that_closes_is_told_from_one_that_answers() {
        let (mut ours, theirs) = duplex(64);
        drop(theirs);
        let login = RedisConnectionInfo::default().set_password("p");
        assert!(log_in(&mut ours, &login).await.expect_err("nobody answers").contains("broken pipe"));
    }
}
