//! `tidegate flags …`, without the process around it.

use clap::Parser;
use redis::AsyncCommands as _;
use serde_json::{Value, json};
use tidegate::cli::flags::{Args, Failure, run};
use tidegate::flags::settings::Redis as Settings;
use tidegate::secret::Secret;

use crate::support::redis::Redis;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

struct Shell {
    settings: Settings,
}

impl Shell {
    fn to(redis: &Redis) -> Self {
        let scopes = vec!["orders".to_owned(), "shared".to_owned()];
        Self { settings: Settings { url: redis.url(), prefix: "tidegate".to_owned(), scopes } }
    }

    async fn run(&self, line: &[&str]) -> Result<String, Failure> {
        let cli = Cli::try_parse_from([&["flags"], line].concat()).unwrap_or_else(|e| panic!("{line:?}: {e}"));
        run(&cli.args, Some(&self.settings)).await
    }

    async fn ok(&self, line: &[&str]) -> String {
        self.run(line).await.unwrap_or_else(|e| panic!("{line:?}: {e:?}"))
    }

    async fn json(&self, line: &[&str]) -> Value {
        serde_json::from_str(&self.ok(&[line, &["--output", "json"]].concat()).await).unwrap()
    }

    async fn fails(&self, line: &[&str]) -> (u8, String) {
        match self.run(line).await {
            Ok(said) => panic!("{line:?} said {said:?}"),
            Err(failure) => (failure.code, failure.text),
        }
    }
}

const SEARCH: &str = r#"{ "state": "ENABLED", "variants": {"yes": true, "no": false}, "defaultVariant": "no" }"#;

#[tokio::test]
async fn a_scope_that_redis_lost_is_not_replaced_by_one_flag_unasked() {
    let redis = Redis::start();
    let shell = Shell::to(&redis);
    let (code, text) = shell.fails(&["set", "search", SEARCH]).await;
    assert_eq!(code, 1);
    assert!(text.contains("--create makes it") && text.contains("restore it first"), "{text}");
    shell.ok(&["set", "--create", "search", SEARCH]).await;
    shell.ok(&["set", "search", SEARCH]).await;
}

#[tokio::test]
async fn a_flag_is_set_switched_disabled_and_removed() {
    let redis = Redis::start();
    let shell = Shell::to(&redis);
    assert_eq!(shell.ok(&["ls"]).await, "scope orders has no flags\n");
    let said = shell.ok(&["set", "--create", "search", SEARCH, "--actor", "ann@ci", "--note", "first"]).await;
    assert_eq!(said, "search written in scope orders, revision 1\nscope orders did not exist and was created\n");
    assert_eq!(
        shell.ok(&["get", "search"]).await,
        "{\"state\":\"ENABLED\",\"variants\":{\"yes\":true,\"no\":false},\"defaultVariant\":\"no\"}\n"
    );
    assert_eq!(shell.ok(&["on", "search", "--actor", "bob@ci"]).await, "search written in scope orders, revision 2\n");
    assert_eq!(shell.json(&["get", "search"]).await["defaultVariant"], "yes");
    assert_eq!(shell.ok(&["on", "search"]).await, "search is so already, at revision 2\n");
    shell.ok(&["off", "search"]).await;
    shell.ok(&["disable", "search"]).await;
    let on = shell.ok(&["on", "search"]).await;
    assert!(on.contains("search is DISABLED"), "{on}");
    assert_eq!(shell.json(&["get", "search"]).await["state"], "DISABLED");
    assert_eq!(
        shell.json(&["enable", "search"]).await,
        json!({"scope":"orders","key":"search","rev":6,"prev":5,"changed":true})
    );
    shell.ok(&["rm", "search"]).await;
    let (code, text) = shell.fails(&["rm", "search"]).await;
    assert_eq!((code, text.contains("there is no flag \"search\" in scope orders")), (1, true), "{text}");
    for command in ["get", "on", "off", "enable", "disable"] {
        assert_eq!(shell.fails(&[command, "search"]).await.0, 1, "{command}");
    }

    let log = shell.json(&["log", "search", "-n", "100"]).await;
    let told: Vec<(u64, &str)> =
        log.as_array().unwrap().iter().map(|e| (e["rev"].as_u64().unwrap(), e["op"].as_str().unwrap())).collect();
    assert_eq!(told, [(7, "del"), (6, "set"), (5, "set"), (4, "set"), (3, "set"), (2, "set"), (1, "set")]);
    assert_eq!(
        (&log[6]["actor"], &log[6]["note"], &log[6]["before"]),
        (&json!("ann@ci"), &json!("first"), &Value::Null)
    );
    assert_eq!(log[5]["after"]["defaultVariant"], "yes");
    assert!(log[4]["actor"].as_str().unwrap().contains('@'), "{}", log[4]);
    let table = shell.ok(&["log", "-n", "1"]).await;
    assert_eq!(table.lines().count(), 2, "{table}");
}

#[tokio::test]
async fn what_does_not_validate_never_reaches_redis() {
    let redis = Redis::start();
    let shell = Shell::to(&redis);
    for definition in ["{", "[]", "{}", r#"{"state":"ON","variants":{"a":1}}"#, r#"{"state":"ENABLED","variants":{}}"#]
    {
        let (code, text) = shell.fails(&["set", "search", definition]).await;
        assert_eq!((code, text.contains("search")), (64, true), "{definition}: {text}");
    }
    let (code, text) = shell.fails(&["set", "search", "@/nonexistent/flag.json"]).await;
    assert_eq!((code, text.starts_with("/nonexistent/flag.json: ")), (64, true), "{text}");
    let keys: Vec<String> = redis.client().await.keys("*").await.unwrap();
    assert!(keys.is_empty(), "{keys:?}");

    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), SEARCH).unwrap();
    shell.ok(&["set", "--create", "search", &format!("@{}", file.path().display()), "--scope", "shared"]).await;
    assert_eq!(shell.json(&["get", "search", "--scope", "shared"]).await["defaultVariant"], "no");
    assert_eq!(shell.fails(&["get", "search"]).await.0, 1, "another scope");
    shell.ok(&["set", "--create", "size", r#"{"state":"ENABLED","variants":{"s":1.0},"defaultVariant":"s"}"#]).await;
    let (code, text) = shell.fails(&["on", "size"]).await;
    assert_eq!((code, text.contains("no variant of \"size\" is true, they are s")), (1, true), "{text}");
    shell.ok(&["disable", "size"]).await;
    assert!(shell.ok(&["get", "size"]).await.contains("1.0"), "an edit leaves the rest of the text alone");
}

#[tokio::test]
async fn a_lost_race_names_the_winner() {
    let redis = Redis::start();
    let shell = Shell::to(&redis);
    shell.ok(&["set", "--create", "search", SEARCH, "--actor", "ann@ci", "--if-rev", "0"]).await;
    let (code, text) = shell.fails(&["set", "--create", "search", SEARCH, "--if-rev", "0"]).await;
    assert_eq!(code, 1);
    assert!(text.starts_with("lost a race: \"search\" is at revision 1, written by ann@ci "), "{text}");
    shell.ok(&["set", "--create", "search", SEARCH, "--if-rev", "1"]).await;
    assert_eq!(shell.fails(&["rm", "search", "--if-rev", "1"]).await.0, 1);
    assert_eq!(shell.fails(&["off", "search", "--if-rev", "1"]).await.0, 1, "so already, but not at that revision");
    shell.ok(&["rm", "search", "--if-rev", "2", "--actor", "bob@ci"]).await;
    let (_, text) = shell.fails(&["set", "--create", "search", SEARCH, "--if-rev", "2"]).await;
    assert!(text.contains("\"search\" was removed by bob@ci"), "{text}");
}

#[tokio::test]
async fn flags_are_listed_with_their_state_and_author_and_what_is_wrong_with_them() {
    let redis = Redis::start();
    let shell = Shell::to(&redis);
    shell.ok(&["set", "--create", "search", SEARCH, "--actor", "ann@ci"]).await;
    let targeted = r#"{"state":"DISABLED","variants":{"a":"x"},"targeting":{"if":[true,"a"]}}"#;
    shell.ok(&["set", "--create", "banner", targeted]).await;
    let _: () = redis.client().await.hset("tidegate:{orders}:flags", "broken", r#"{"state":1}"#).await.unwrap();

    let list = shell.json(&["ls"]).await;
    assert_eq!((list[0]["key"].as_str(), list[0]["targeting"].as_bool()), (Some("banner"), Some(true)));
    assert_eq!((list[0]["state"].as_str(), &list[0]["default"]), (Some("DISABLED"), &Value::Null));
    assert_eq!((list[1]["state"].as_str(), list[1]["rev"].as_u64()), (Some("INVALID"), None));
    assert!(list[1]["error"].as_str().unwrap().contains("flags.broken.state"), "{}", list[1]);
    assert_eq!((list[2]["rev"].as_u64(), list[2]["actor"].as_str()), (Some(1), Some("ann@ci")));
    assert_eq!(list[2]["variants"], json!({"yes": true, "no": false}));
    let table = shell.ok(&["ls"]).await;
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("KEY") && lines[3].starts_with("search"), "{table}");
    for part in ["ENABLED", "no", "yes=true no=false", "ann@ci"] {
        assert!(lines[3].contains(part), "{part} in {table}");
    }
    let yaml = shell.ok(&["ls", "--output", "yaml"]).await;
    assert_eq!(serde_saphyr::from_str::<Value>(&yaml).unwrap(), list, "{yaml}");

    // Somebody has to be able to get out of it.
    shell.ok(&["rm", "broken"]).await;
    assert_eq!(shell.json(&["ls"]).await.as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn what_is_no_scope_is_said_to_be_that_and_not_that_redis_is_away() {
    let redis = Redis::start();
    let shell = Shell::to(&redis);
    let mut client = redis.client().await;
    shell.ok(&["set", "--create", "search", SEARCH]).await;
    let _: () = client.hset("tidegate:{orders}:meta", "rev", "seven").await.unwrap();
    for (line, expected) in [
        (
            &["get", "search"][..],
            "scope orders in redis (tidegate:{orders}:meta and beside it) is not what writers of flags make: Incompatible type",
        ),
        (&["ls"], "the scope cannot be read: rev \"seven\" is not a whole number"),
        (&["on", "search"], "scope orders in redis (tidegate:{orders}:meta and beside it) is not"),
        (&["set", "search", SEARCH], "scope orders in redis (tidegate:{orders}:meta and beside it) is not"),
        (&["rm", "search"], "the scope cannot be read: rev \"seven\" is not a whole number"),
    ] {
        let (code, text) = shell.fails(line).await;
        assert!(code == 1 && text.starts_with(expected), "{line:?}: {code} {text}");
    }

    let wrong_type = "make: WRONGTYPE Operation against a key holding the wrong kind of value";
    for (key, lines) in [
        ("flags", &[&["get", "search"][..], &["ls"], &["on", "search"]][..]),
        ("meta", &[&["get", "search"], &["ls"], &["on", "search"]]),
        ("revs", &[&["get", "search"], &["ls"], &["on", "search"]]),
        ("log", &[&["on", "search"], &["log"]]),
    ] {
        let _: () = redis::cmd("FLUSHALL").query_async(&mut client).await.unwrap();
        shell.ok(&["set", "--create", "search", SEARCH]).await;
        let _: () = client.set(format!("tidegate:{{orders}}:{key}"), "a text").await.unwrap();
        for line in lines {
            let (code, text) = shell.fails(line).await;
            assert!(code == 1 && text.contains(wrong_type), "{key} {line:?}: {code} {text}");
        }
    }
}

#[tokio::test]
async fn nothing_is_switched_in_a_scope_that_sidecars_refuse_but_what_is_broken_can_be_mended() {
    let redis = Redis::start();
    let shell = Shell::to(&redis);
    let mut client = redis.client().await;
    shell.ok(&["set", "--create", "search", SEARCH]).await;
    for broken in ["one", "two"] {
        let _: () = client.hset("tidegate:{orders}:flags", broken, r#"{"state":"X"}"#).await.unwrap();
    }
    for line in [&["on", "search"][..], &["disable", "search"], &["rollout", "set", "search", "5%"]] {
        let (code, text) = shell.fails(line).await;
        assert!(
            code == 1 && text.contains("scope orders does not validate") && text.contains("flags.one.state"),
            "{text}"
        );
    }
    shell.ok(&["set", "one", SEARCH]).await;
    assert_eq!(shell.fails(&["on", "search"]).await.0, 1, "one is left");
    shell.ok(&["rm", "two"]).await;
    shell.ok(&["disable", "search"]).await;
    let (code, text) = shell.fails(&["set", "$evaluators", SEARCH]).await;
    assert!(code == 64 && text.contains("choose another"), "{text}");
}

#[tokio::test]
async fn exit_codes_tell_a_wrong_command_from_a_redis_that_is_away() {
    let mut redis = Redis::start_with(&["--requirepass", "s3cret"]);
    let mut shell = Shell::to(&redis);
    let (code, text) = shell.fails(&["ls"]).await;
    assert_eq!((code, text.contains("NOAUTH")), (69, true), "{text}");
    shell.settings.url = Secret::new(format!("{}?pass=s3cret", redis.url().expose()));
    shell.ok(&["ls"]).await;
    assert_eq!(shell.fails(&["ls", "--scope", "a{b"]).await.0, 64);
    shell.settings.scopes.clear();
    assert_eq!(shell.fails(&["ls"]).await.0, 64);
    redis.kill();
    let (code, text) = shell.fails(&["get", "search", "--scope", "orders"]).await;
    assert_eq!((code, text.contains("s3cret")), (69, false), "{text}");
    let cli = Cli::try_parse_from(["flags", "ls"]).unwrap();
    assert_eq!(run(&cli.args, None).await.unwrap_err().code, 64);
}
