//! `eval` and `explain` of a running sidecar say what they say by themselves.

use serde_json::Value;

use super::{Desk, Said};
use crate::support::eventually;
use crate::support::flags::PATIENCE;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;

const DOCUMENT: &str = r#"
$evaluators:
  staff: { ends_with: [ { var: email }, "@example.com" ] }
metadata: { team: checkout }
flags:
  plan:
    state: ENABLED
    variants: { basic: 1.0, full: 2.5 }
    defaultVariant: basic
    targeting: { if: [ { $ref: staff }, full, { fractional: [ [ basic, 50 ], [ full, 50 ] ] } ] }
    metadata: { owner: ann }
  wrong:
    state: ENABLED
    variants: { on: true, off: false }
    defaultVariant: off
    targeting: { var: variant }
  gone: { state: DISABLED, variants: { on: { a: [ 1 ] } }, defaultVariant: on }
"#;

/// A sidecar over the scope `orders`, and a desk that the sidecar's own configuration is on.
async fn sidecar_and_desk() -> (Sidecar, Desk) {
    let redis = Redis::start();
    let sidecar = Sidecar::start_with(&format!(
        "proxy: [{{ listen: '127.0.0.1:0', upstream: 'http://127.0.0.1:9' }}]\n\
         redis: {{ url: '{}' }}\nflags: {{ scopes: [orders], context: {{ region: eu }} }}",
        redis.url().expose()
    ));
    let desk = Desk::with(redis);
    desk.write("tidegate.yaml", std::fs::read(sidecar.config()).unwrap());
    desk.ok(&["apply", "--create", "-f", &desk.write("flags.yaml", DOCUMENT)]);
    sidecar.ready().await;
    eventually(PATIENCE, "the sidecar has the flags", async || desk.run(&["eval", "plan", "--sidecar"]).code == 0)
        .await;
    (sidecar, desk)
}

/// What is to be the same wherever a flag is evaluated: how often a sidecar applied something is its own.
fn same(said: Said) -> (i32, String, String) {
    let out = match said.out.find("(generation ") {
        Some(at) => {
            let end = at + said.out[at..].find(')').unwrap();
            format!("{}{}", &said.out[..at], &said.out[end..])
        }
        None => {
            let other = |line: &&str| !line.trim_start().trim_start_matches('"').starts_with("generation");
            said.out.lines().filter(other).map(|line| format!("{line}\n")).collect()
        }
    };
    (said.code, out, said.err)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_says_what_the_command_says_by_itself() {
    let (sidecar, desk) = sidecar_and_desk().await;
    let url = format!("http://{}", sidecar.local);
    for (key, context, code) in [
        ("plan", &["--set", "email=bob@example.com"][..], 0),
        ("plan", &["--targeting-key", "ann"], 0),
        ("plan", &["--context", r#"{"email":["x",null,{"é":1e3}],"targetingKey":7}"#], 0),
        ("plan", &[], 0),
        ("gone", &[], 0),
        ("none", &[], 1),
        ("a/b ü?", &[], 1),
    ] {
        for (verb, output) in ["eval", "explain"].into_iter().flat_map(|v| ["table", "json", "yaml"].map(|o| (v, o))) {
            let line = [&[verb, key, "--output", output], context].concat();
            let alone = same(desk.run(&line));
            assert_eq!(alone.0, code, "{line:?}: {alone:?}");
            assert!((code == 0) != alone.1.is_empty() && (code == 0) == alone.2.is_empty(), "{line:?}: {alone:?}");
            assert_eq!(same(desk.run(&[&line[..], &["--sidecar"]].concat())), alone, "{line:?} --sidecar");
            assert_eq!(same(desk.run(&[&line[..], &["--url", &url]].concat())), alone, "{line:?} --url");
        }
    }
    let told = desk.ok(&["explain", "plan", "--sidecar", "--set", "email=bob@example.com"]);
    assert!(told.contains("comes from redis:orders, revision 1 ("), "{told}");
    assert!(told.contains("`email` is \"bob@example.com\", which ends with \"@example.com\": yes"), "{told}");
    let value: Value = desk.json(&["explain", "plan", "--url", &url, "--set", "email=bob@example.com"]);
    assert_eq!((&value["value"], &value["source"]), (&2.5.into(), &"redis:orders".into()), "{value}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flag_that_cannot_be_evaluated_fails_in_the_same_words() {
    let (sidecar, desk) = sidecar_and_desk().await;
    let url = format!("http://{}", sidecar.local);
    let line = ["eval", "wrong", "--set", "variant=none"];
    let alone = desk.fails(&line, 1);
    assert!(alone.err.starts_with("tidegate: GENERAL: "), "{}", alone.err);
    for asked in [&["--sidecar"][..], &["--url", &url]] {
        let said = desk.fails(&[&line[..], asked].concat(), 1);
        assert_eq!((said.out, &said.err), (String::new(), &alone.err));
        let said = desk.fails(&[&["explain", "none"], asked].concat(), 1);
        assert_eq!(said.err, "tidegate: FLAG_NOT_FOUND: flag \"none\" does not exist\n");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_that_is_away_is_told_from_one_that_is_stuck() {
    let (mut sidecar, desk) = sidecar_and_desk().await;
    let url = format!("http://{}", sidecar.local);
    sidecar.signal("STOP");
    let said = desk.fails(&["eval", "plan", "--sidecar"], 75);
    assert!(said.err.ends_with("tidegate.sock gives no answer in 5 s; try again\n"), "{}", said.err);
    sidecar.signal("CONT");
    sidecar.signal("TERM");
    assert!(sidecar.ended(PATIENCE).await.success());
    for verb in ["eval", "explain"] {
        let by_socket = desk.fails(&[verb, "plan", "--sidecar"], 69);
        assert!(
            by_socket.err.starts_with("tidegate: no sidecar answers on ")
                && by_socket.err.contains("tidegate.sock: No such file")
                && by_socket.err.ends_with("; is one running there?\n"),
            "{}",
            by_socket.err
        );
        let by_address = desk.fails(&[verb, "plan", "--url", &url], 69);
        let begin = format!("tidegate: no sidecar answers on {}: Connection refused", sidecar.local);
        assert!(
            by_address.err.starts_with(&begin) && by_address.err.ends_with("; is one running there?\n"),
            "{}",
            by_address.err
        );
    }
    // By itself the command still knows.
    desk.ok(&["eval", "plan"]);
    desk.write("tidegate.yaml", "local: { socket: '' }\n");
    let said = desk.fails(&["explain", "plan", "--sidecar"], 64);
    assert!(said.err.contains("no local.socket; use --url"), "{}", said.err);
}
