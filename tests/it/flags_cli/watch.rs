//! `watch` and `log`.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::Duration;

use redis::AsyncCommands as _;
use serde_json::{Value, json};

use super::{Desk, switch};

const PATIENCE: Duration = Duration::from_secs(60);

/// A running watch, killed on drop.
struct Watch {
    child: Child,
    out: Receiver<String>,
    err: Receiver<String>,
}

impl Watch {
    /// Starts it, and waits until it watches.
    fn start(desk: &Desk, line: &[&str]) -> Self {
        let mut child = desk.start(line);
        let (out, err) = (lines(child.stdout.take().unwrap()), lines_of(child.stderr.take().unwrap()));
        let watch = Self { child, out, err };
        let begun = watch.notice();
        assert!(begun.contains("is at revision"), "{begun}");
        watch
    }

    fn line(&self) -> String {
        self.out.recv_timeout(PATIENCE).unwrap()
    }

    fn notice(&self) -> String {
        self.err.recv_timeout(PATIENCE).unwrap()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(out: ChildStdout) -> Receiver<String> {
    lines_of(out)
}

fn lines_of(out: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (tell, told) = sync_channel(1000);
    thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            if tell.send(line).is_err() {
                return;
            }
        }
    });
    told
}

#[test]
fn each_change_is_a_line_with_who_and_what_in_short() {
    let desk = Desk::new();
    desk.ok(&["set", "--create", "search", &switch("off")]);
    let watch = Watch::start(&desk, &["watch"]);
    desk.ok(&["on", "search", "--actor", "bob@ci", "--note", "ticket 7"]);
    let line = watch.line();
    assert!(line.contains("    2  bob@ci  search: default off → on  (ticket 7)"), "{line}");
    desk.ok(&["disable", "search"]);
    assert!(watch.line().contains("search: state ENABLED → DISABLED"));
    desk.ok(&["rm", "search", "--note", "two\nlines"]);
    assert!(watch.line().ends_with("search: removed  (two lines)"));
    desk.ok(&["set", "search", &switch("off")]);
    assert!(watch.line().contains("search: added"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_loses_no_change_and_what_is_missing_is_said() {
    let desk = Desk::new();
    desk.ok(&["set", "--create", "search", &switch("off")]);
    let watch = Watch::start(&desk, &["watch", "--output", "json"]);
    let mut client = desk.redis.client().await;
    let told = |line: String| serde_json::from_str::<Value>(&line).unwrap();
    for rev in 2..6 {
        let _: () = redis::cmd("CLIENT")
            .arg("KILL")
            .arg("SKIPME")
            .arg("yes")
            .arg("TYPE")
            .arg("normal")
            .query_async(&mut client)
            .await
            .unwrap();
        desk.ok(&["set", "search", &switch(if rev % 2 == 0 { "on" } else { "off" })]);
        let line = told(watch.line());
        assert_eq!((&line["rev"], &line["key"]), (&json!(rev), &json!("search")));
    }
    // Somebody who keeps no log.
    let _: () = client.hincr("tidegate:{orders}:meta", "rev", 2).await.unwrap();
    assert_eq!(told(watch.line()), json!({"missed": {"from": 6, "to": 7}}));
    desk.ok(&["on", "search"]);
    assert_eq!(told(watch.line())["rev"], 8);
    // A log that was cut while nobody watched: what is gone is not passed over in silence.
    let _: () = client.del("tidegate:{orders}:log").await.unwrap();
    let _: () = client.hset("tidegate:{orders}:meta", "rev", 20).await.unwrap();
    desk.ok(&["off", "search"]);
    assert_eq!(told(watch.line()), json!({"missed": {"from": 9, "to": 20}}));
    assert_eq!(told(watch.line())["rev"], 21);
}

#[test]
fn a_redis_that_comes_back_empty_is_said_to_and_followed() {
    let mut desk = Desk::new();
    desk.ok(&["set", "--create", "search", &switch("off")]);
    desk.ok(&["on", "search"]);
    let watch = Watch::start(&desk, &["watch"]);
    desk.redis.kill();
    assert!(watch.notice().contains("redis is not available"));
    desk.redis.resume();
    // A server that is just starting may be lost and found once more.
    let noticed = |text: &str| (0..10).any(|_| watch.notice().contains(text));
    assert!(noticed("redis is back"));
    assert!(noticed("is not in redis any more"));
    desk.ok(&["set", "--create", "search", &switch("off")]);
    assert!(watch.line().contains("    1  "), "revision 1 of the new history");
}

#[test]
fn the_log_is_asked_by_flag_and_time_and_followed() {
    let desk = Desk::new();
    desk.ok(&["set", "--create", "a", &switch("off")]);
    desk.ok(&["set", "b", &switch("off")]);
    desk.ok(&["on", "a"]);
    let revs = |line: &[&str]| -> Vec<u64> {
        desk.json(line).as_array().unwrap().iter().map(|entry| entry["rev"].as_u64().unwrap()).collect()
    };
    assert_eq!(revs(&["log"]), [3, 2, 1]);
    assert_eq!(revs(&["log", "a"]), [3, 1]);
    assert_eq!(revs(&["log", "--key", "b"]), [2]);
    assert_eq!(revs(&["log", "--since", "1h"]), [3, 2, 1]);
    assert_eq!(revs(&["log", "--since", "1h", "-n", "1"]), [3]);
    assert_eq!(revs(&["log", "--since", "2999-01-01T00:00:00Z"]), [0u64; 0]);
    desk.fails(&["log", "--since", "yesterday"], 64);
    desk.fails(&["log", "a", "--key", "b"], 64);
    let watch = Watch::start(&desk, &["log", "a", "--follow"]);
    assert!(watch.line().contains("a: added"));
    assert!(watch.line().contains("a: default off → on"));
    desk.ok(&["on", "b"]);
    desk.ok(&["off", "a"]);
    assert!(watch.line().contains("a: default on → off"));
}
