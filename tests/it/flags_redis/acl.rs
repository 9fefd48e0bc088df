//! The users that `deploy/redis-acl.conf` ships are enough, and not more than enough.

use std::path::Path;
use std::process::Command;

use redis::AsyncCommands as _;
use tidegate::flags::contract::{Change, Keys, Op, Place, WriteError, entries, last_writes, one, read, write};
use tidegate::net::redis::Endpoint;
use tidegate::secret::Secret;

use crate::support::flags::{Flags, PATIENCE, Writer, number, quick, settings};
use crate::support::redis::Redis;
use crate::support::sidecar::TIDEGATE;

const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/redis-acl.conf");

/// A server with the shipped users, as they are but for their passwords.
fn guarded(directory: &Path) -> Redis {
    let text = std::fs::read_to_string(SHIPPED).unwrap().replace("replace-me-", "s3cret-");
    let file = directory.join("acl.conf");
    std::fs::write(&file, text).unwrap();
    Redis::start_with(&["--include", file.to_str().unwrap()])
}

fn url(redis: &Redis, user: &str) -> Secret {
    Secret::new(format!("{}?user=tidegate-{user}&pass=s3cret-{user}", redis.url().expose()))
}

fn change(key: &str) -> Change {
    let op = Op { place: Place::Flags, key: key.to_owned(), set: Some(number(9)), expect: None };
    Change { expect: None, create: true, actor: "test".to_owned(), note: String::new(), ops: vec![op] }
}

#[tokio::test]
async fn a_sidecar_follows_as_its_shipped_user_and_cannot_write() {
    let directory = tempfile::tempdir().unwrap();
    let redis = guarded(directory.path());
    let mut writer = Writer::to(&url(&redis, "operator"), "orders").await;
    writer.set("a", 1).await;
    let flags = Flags::start(settings(&url(&redis, "sidecar"), &["orders"]), quick());
    flags.until("the snapshot is applied", |flags| flags.value("a") == Some(1)).await;
    writer.set("a", 2).await;
    flags.until("the event is applied", |flags| flags.value("a") == Some(2)).await;
    // Large enough to be read in pieces.
    let many: Vec<(String, String)> = (0..600).map(|n| (format!("f{n}"), number(n))).collect();
    let many: Vec<(&str, Option<&str>)> = many.iter().map(|(key, text)| (key.as_str(), Some(text.as_str()))).collect();
    writer.write(&many).await;
    flags.until("the large change is applied", |flags| flags.value("f599") == Some(599)).await;
    assert_eq!((flags.state(0), flags.source(0).revision), ("fresh", Some(3)));

    let mut reader = Endpoint::new(&url(&redis, "sidecar")).unwrap().connect(PATIENCE).await.unwrap();
    let denied = write(&mut reader, &writer.keys, &change("a")).await.unwrap_err();
    assert!(denied.to_string().contains("can't run this command") || denied.to_string().contains("hset"), "{denied}");
    for command in [
        vec!["HSET", "tidegate:{orders}:flags", "a", "{}"],
        vec!["DEL", "tidegate:{orders}:flags"],
        vec!["PUBLISH", "tidegate:{orders}:events", "{}"],
        vec!["HMGET", "other", "a"],
        vec!["FLUSHALL"],
        vec!["CONFIG", "GET", "*"],
        vec!["EVAL", "return redis.call('HSET', KEYS[1], 'a', 'b')", "1", "tidegate:{orders}:flags"],
    ] {
        let answer = redis::cmd(command[0]).arg(&command[1..]).query_async::<redis::Value>(&mut reader).await;
        assert!(answer.is_err(), "{command:?} was allowed: {answer:?}");
    }
    assert_eq!(read(&mut reader, &writer.keys).await.unwrap().rev, 3, "nothing was written");
}

#[tokio::test]
async fn the_shipped_operator_can_do_what_the_command_line_does() {
    let directory = tempfile::tempdir().unwrap();
    let redis = guarded(directory.path());
    let mut writer = Writer::to(&url(&redis, "operator"), "orders").await;
    writer.write(&[("a", Some(&number(1))), ("b", Some(&number(2)))]).await;
    writer.write(&[("b", None)]).await;
    assert_eq!(one(&mut writer.connection, &writer.keys, "a").await.unwrap().rev, 1);
    let lost = Change { expect: Some(7), ..change("a") };
    let lost = write(&mut writer.connection, &writer.keys, &lost).await;
    assert!(matches!(lost, Err(WriteError::Lost(_))), "{lost:?}");
    assert_eq!(entries(&mut writer.connection, &writer.keys, None, 5).await.unwrap().len(), 3);
    assert_eq!(last_writes(&mut writer.connection, &writer.keys).await.unwrap().len(), 1);
    for line in [&["ls"][..], &["get", "a"], &["disable", "a"], &["log"], &["rm", "a"]] {
        let output = Command::new(TIDEGATE)
            .arg("flags")
            .args(line)
            .args(["--scope", "orders"])
            .env_clear()
            .env("TIDEGATE_REDIS__URL", url(&redis, "operator").expose())
            .output()
            .unwrap();
        assert!(output.status.success(), "{line:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let mut raw = redis.client().await;
    let log: Vec<redis::Value> = redis::cmd("ACL").arg("LOG").query_async(&mut raw).await.unwrap();
    assert!(log.is_empty(), "nothing that is tried is denied: {log:?}");
}

#[tokio::test]
async fn every_word_that_the_shipped_users_have_is_needed() {
    let redis = Redis::start();
    let mut raw = redis.client().await;
    let text = std::fs::read_to_string(SHIPPED).unwrap();
    let line = text.lines().find(|line| line.starts_with("user tidegate-operator ")).unwrap();
    let words: Vec<&str> = line.split(' ').filter(|word| word.starts_with('+')).collect();
    // What serves a cluster, other versions, or the rest of the command line is tested there.
    let elsewhere = [
        "+scan",
        "+ping",
        "+asking",
        "+cluster|slots",
        "+cluster|keyslot",
        "+subscribe",
        "+ssubscribe",
        "+spublish",
        "+xread",
        "+role",
        "+wait",
        "+hlen",
        "+hgetall",
        "+hscan",
        "+evalsha",
        "+zrange",
        "+zrem",
        "+set",
        "+get",
        "+pttl",
    ];
    let keys = Keys::new("tidegate", "orders").unwrap();
    for word in words.iter().filter(|word| !elsewhere.contains(word)) {
        let _: () = raw.del("tidegate:{orders}:meta").await.unwrap();
        let others: Vec<&str> = words.iter().copied().filter(|other| other != word).collect();
        let _: () = redis::cmd("ACL").arg("DELUSER").arg("some").query_async(&mut raw).await.unwrap_or_default();
        let rules = ["on", ">x", "-@all", "~tidegate:*", "&tidegate:*"];
        let _: () =
            redis::cmd("ACL").arg("SETUSER").arg("some").arg(&rules).arg(&others).query_async(&mut raw).await.unwrap();
        let url = Secret::new(format!("{}?user=some&pass=x", redis.url().expose()));
        let mut connection = Endpoint::new(&url).unwrap().connect(PATIENCE).await.unwrap();
        let outcome = async {
            write(&mut connection, &keys, &Change { expect: Some(0), ..change("a") })
                .await
                .map_err(|e| e.to_string())?;
            one(&mut connection, &keys, "a").await.map_err(|e| e.to_string())?;
            let expecting = |expect| Change { ops: vec![Op { expect, ..change("a").ops[0].clone() }], ..change("a") };
            write(&mut connection, &keys, &expecting(Some(1))).await.map_err(|e| e.to_string())?;
            let lost = write(&mut connection, &keys, &expecting(Some(1))).await;
            if let Err(WriteError::Redis(error)) = lost {
                return Err(error.to_string());
            }
            read(&mut connection, &keys).await.map_err(|e| e.to_string())?;
            entries(&mut connection, &keys, None, 1).await.map_err(|e| e.to_string())?;
            Ok(())
        };
        let outcome: Result<(), String> = outcome.await;
        let why = outcome.expect_err(word);
        assert!(why.contains("permission") || why.contains("can't run"), "{word}: {why}");
    }
}

#[tokio::test]
async fn a_permission_that_is_missing_is_named_and_healed_when_granted() {
    let redis = Redis::start();
    let mut raw = redis.client().await;
    Writer::to(&redis.url(), "orders").await.set("a", 1).await;
    let text = std::fs::read_to_string(SHIPPED).unwrap();
    let line = text.lines().find(|line| line.starts_with("user tidegate-sidecar ")).unwrap();
    let granted: Vec<&str> = line.split(' ').skip(4).collect();
    let grant = async |raw: &mut redis::aio::MultiplexedConnection, rules: &[&str]| {
        let setuser = redis::cmd("ACL").arg("SETUSER").arg("some").arg(&["reset", "on", ">x"]).arg(rules).to_owned();
        setuser.query_async::<()>(raw).await.unwrap();
    };
    let url = Secret::new(format!("{}?user=some&pass=x", redis.url().expose()));
    for (without, said) in [
        ("+subscribe", "grant +subscribe"),
        ("&tidegate:*", "grant the channels"),
        ("~tidegate:*", "grant the keys"),
        ("+hgetall", "grant +hgetall"),
        ("+hmget", "grant +hmget"),
        ("+evalsha", "grant +evalsha"),
    ] {
        let rules: Vec<&str> = granted.iter().copied().filter(|rule| *rule != without).collect();
        grant(&mut raw, &rules).await;
        let flags = Flags::start(settings(&url, &["orders"]), quick());
        flags.until(&format!("{said} is said without {without}"), |flags| flags.why(0).contains(said)).await;
        assert_eq!(flags.state(0), "stale", "{without}: {}", flags.why(0));
        grant(&mut raw, &granted).await;
        flags.until("it heals", |flags| flags.value("a") == Some(1) && flags.state(0) == "fresh").await;
    }
    // A password that was rotated under a running sidecar.
    let flags = Flags::start(settings(&url, &["orders"]), quick());
    flags.until("the flag is in force", |flags| flags.value("a") == Some(1)).await;
    let _: () =
        redis::cmd("ACL").arg("SETUSER").arg("some").arg(&["resetpass", ">y"]).query_async(&mut raw).await.unwrap();
    let _: () = redis::cmd("CLIENT").arg("KILL").arg("USER").arg("some").query_async(&mut raw).await.unwrap();
    flags.until("it is refused", |flags| flags.state(0) == "stale" && flags.why(0).contains("WRONGPASS")).await;
    assert_eq!(flags.value("a"), Some(1), "what it had stays");
}
