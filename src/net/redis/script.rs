//! Calling a script: by its digest, and by its text where the server does not have it yet.

use redis::aio::ConnectionLike;
use redis::{ErrorKind, RedisResult, Script, ServerErrorKind, ToRedisArgs, Value};

/// A script of ours.
pub struct Lua {
    text: &'static str,
    digest: String,
}

impl Lua {
    /// The script of this text.
    pub fn new(text: &'static str) -> Self {
        Self { text, digest: Script::new(text).get_hash().to_owned() }
    }

    /// Runs it. Its text goes along in the second attempt, not by a `SCRIPT LOAD` before it: in a cluster that is
    /// moving the keys, the two would reach different servers.
    pub async fn call(
        &self,
        connection: &mut impl ConnectionLike,
        keys: &[&str],
        arguments: &[impl ToRedisArgs],
    ) -> RedisResult<Vec<Value>> {
        let command = |name: &str, script: &str| {
            let mut command = redis::cmd(name);
            command.arg(script).arg(keys.len()).arg(keys).arg(arguments);
            command
        };
        match command("EVALSHA", &self.digest).query_async(connection).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                command("EVAL", self.text).query_async(connection).await
            }
            answered => answered,
        }
    }
}

/// The error of a command that the user lacks, as Redis itself would say it: of a script it says only that there is one.
pub fn denied(command: &str) -> redis::RedisError {
    let detail =
        format!("this user has no permissions to run the '{command}' command, or not for these keys or channels");
    redis::make_extension_error("NOPERM".to_owned(), Some(detail))
}

/// Whether an error says that the key is kept by another node of a cluster, which was taken for a single server.
pub fn is_elsewhere(error: &redis::RedisError) -> bool {
    matches!(error.code(), Some("MOVED" | "ASK"))
}

/// Whether an error says that the server is a replica, which takes no writes.
pub fn is_read_only(error: &redis::RedisError) -> bool {
    // Before Redis 7, what fails within a script is an ERR that quotes it.
    error.code() == Some("READONLY") || error.to_string().contains("-READONLY ")
}

/// Whether an error says that the user of Redis lacks a permission.
pub fn is_denial(error: &redis::RedisError) -> bool {
    let text = error.to_string();
    error.code() == Some("NOPERM")
        || ["NOPERM", "ACL failure in script", "can't run this command"].iter().any(|part| text.contains(part))
}
