//! `tidegate flags …` of a scope with one flag, without the process around it.

use clap::Parser;
use redis::AsyncCommands as _;
use redis::aio::MultiplexedConnection;
use serde_json::Value;
use tidegate::cli::flags::{Args, Failure, run};
use tidegate::flags::contract::{Keys, entries};
use tidegate::flags::settings::Redis as Settings;
use tidegate::net::redis::{Connection, Endpoint};
use tidegate::secret::Secret;

use crate::support::flags::PATIENCE;
use crate::support::redis::Redis;

/// A flag that is off for everybody.
pub(super) const SEARCH: &str = r#"{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"off"}"#;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

pub(super) struct Shell {
    settings: Settings,
    pub(super) raw: MultiplexedConnection,
}

impl Shell {
    /// With the flag `search` in scope `orders`.
    pub(super) async fn to(redis: &Redis) -> Self {
        Self::with(redis, redis.url().expose()).await
    }

    /// The same as the user of `url`.
    pub(super) async fn with(redis: &Redis, url: &str) -> Self {
        let scopes = vec!["orders".to_owned()];
        let settings = Settings { url: Secret::new(url.to_owned()), prefix: "tidegate".to_owned(), scopes };
        let shell = Self { settings, raw: redis.client().await };
        shell.ok(&["set", "--create", "search", SEARCH, "--actor", "ann@ci"]).await;
        shell
    }

    pub(super) async fn run(&self, line: &[&str]) -> Result<String, Failure> {
        let cli = Cli::try_parse_from([&["flags"], line].concat()).unwrap_or_else(|e| panic!("{line:?}: {e}"));
        run(&cli.args, Some(&self.settings)).await
    }

    pub(super) async fn ok(&self, line: &[&str]) -> String {
        self.run(line).await.unwrap_or_else(|e| panic!("{line:?}: {e:?}"))
    }

    pub(super) async fn json(&self, line: &[&str]) -> Value {
        serde_json::from_str(&self.ok(&[line, &["--output", "json"]].concat()).await).unwrap()
    }

    pub(super) async fn fails(&self, line: &[&str]) -> (u8, String) {
        match self.run(line).await {
            Ok(said) => panic!("{line:?} said {said:?}"),
            Err(failure) => (failure.code, failure.text),
        }
    }

    /// The one schedule there is.
    pub(super) async fn only(&self) -> Value {
        let all = self.json(&["schedule", "ls"]).await;
        assert_eq!(all.as_array().unwrap().len(), 1, "{all}");
        all[0].clone()
    }

    /// The flag's definition.
    pub(super) async fn flag(&self) -> Value {
        self.json(&["get", "search"]).await
    }

    /// Moves everything a schedule has planned by `millis`, as if so much time had passed.
    pub(super) async fn passes(&mut self, id: &str, millis: u64) {
        let (hash, set) = ("tidegate:{orders}:schedule", "tidegate:{orders}:schedule:due");
        let text: String = self.raw.hget(hash, id).await.unwrap();
        let mut entry: Value = serde_json::from_str(&text).unwrap();
        for field in ["start", "changed_at", "created_at"] {
            entry[field] = (entry[field].as_u64().unwrap() - millis).into();
        }
        let _: () = self.raw.hset(hash, id, entry.to_string()).await.unwrap();
        let due: f64 = self.raw.zscore(set, id).await.unwrap();
        let _: () = self.raw.zadd(set, id, due - millis as f64).await.unwrap();
    }
}

/// A connection as executors use it.
pub(super) async fn connect(redis: &Redis) -> Connection {
    Endpoint::new(&redis.url()).unwrap().connect(PATIENCE).await.unwrap()
}

pub(super) fn keys() -> Keys {
    Keys::new("tidegate", "orders").unwrap()
}

/// Revision, actor and note of every change of the flag, oldest first.
pub(super) async fn history(redis: &Redis) -> Vec<(u64, String, String)> {
    let mut log = entries(&mut connect(redis).await, &keys(), Some("search"), 10_000).await.unwrap();
    log.reverse();
    log.into_iter().map(|entry| (entry.rev, entry.actor, entry.note)).collect()
}
