//! Writers that race, each a process of its own, and a Redis that dies in the middle.

use std::collections::BTreeSet;
use std::process::Child;

use redis::AsyncCommands as _;

use super::{Desk, Said, switch};

fn ended(children: Vec<Child>) -> Vec<Said> {
    children.into_iter().map(|child| child.wait_with_output().unwrap().into()).collect()
}

#[test]
fn of_many_writers_none_is_lost_and_the_log_has_every_revision_once() {
    let desk = Desk::new();
    desk.ok(&["set", "--create", "seed", &switch("off")]);
    let two = |n: usize| format!(r#"{{"flags":{{"f{n}":{},"g{n}":{}}}}}"#, switch("off"), switch("on"));
    let files: Vec<String> = (0..12).map(|n| desk.write(&format!("{n}.json"), two(n))).collect();
    let mut children: Vec<Child> = files.iter().map(|file| desk.start(&["apply", "-f", file])).collect();
    children.extend((0..4).map(|n| desk.start(&["set", &format!("s{n}"), &switch("on")])));
    for said in ended(children) {
        assert_eq!(said.code, 0, "{} {}", said.out, said.err);
    }
    let flags = desk.json(&["ls"]);
    assert_eq!(flags.as_array().unwrap().len(), 1 + 24 + 4, "{flags}");
    let log = desk.json(&["log", "-n", "1000"]);
    let entries: Vec<(u64, &str)> =
        log.as_array().unwrap().iter().map(|e| (e["rev"].as_u64().unwrap(), e["key"].as_str().unwrap())).collect();
    assert_eq!(entries.len(), 29);
    let revs: BTreeSet<u64> = entries.iter().map(|(rev, _)| *rev).collect();
    assert_eq!(revs, (1..=17).collect(), "each revision is there");
    for n in 0..12 {
        let of = |key: String| entries.iter().find(|(_, known)| *known == key).unwrap().0;
        assert_eq!(of(format!("f{n}")), of(format!("g{n}")), "both flags of a file in one revision");
    }
}

#[test]
fn of_writers_of_the_same_flag_one_wins_and_the_others_see_what_it_did() {
    let desk = Desk::new();
    desk.ok(&["set", "--create", "a", &switch("off")]);
    for round in 1..4 {
        let number =
            |n: usize| format!(r#"{{"flags":{{"a":{{"state":"ENABLED","variants":{{"v":"{round}-{n}"}}}}}}}}"#);
        let files: Vec<String> = (0..6).map(|n| desk.write(&format!("{n}.json"), number(n))).collect();
        let rev = round.to_string();
        let children = files.iter().map(|file| desk.start(&["apply", "--if-rev", &rev, "-f", file])).collect();
        let said = ended(children);
        assert_eq!(said.iter().filter(|said| said.code == 0).count(), 1, "round {round}");
        for said in said.iter().filter(|said| said.code != 0) {
            assert_eq!(said.code, 1, "{}", said.err);
            assert!(said.err.contains("lost a race") || said.err.contains("is at revision"), "{}", said.err);
        }
        assert_eq!(desk.json(&["log", "-n", "1"])[0]["rev"], round + 1);
    }
}

#[tokio::test]
async fn a_redis_that_dies_in_the_middle_has_the_whole_change_or_nothing() {
    let desk = Desk::new();
    desk.ok(&["set", "--create", "a", &switch("off")]);
    let both = format!(r#"{{"flags":{{"a":{},"b":{}}}}}"#, switch("on"), switch("on"));
    let file = desk.write("both.json", both);
    desk.redis.freeze();
    let child = desk.start(&["apply", "-f", &file]);
    let said = ended(vec![child]).remove(0);
    desk.redis.thaw();
    assert_eq!(said.code, 75, "{}", said.err);
    assert!(said.err.contains("no answer from redis within") && said.err.contains("try again"), "{}", said.err);
    let mut client = desk.redis.client().await;
    let flags: u64 = client.hlen("tidegate:{orders}:flags").await.unwrap();
    let entries: u64 = client.xlen("tidegate:{orders}:log").await.unwrap();
    assert!((flags, entries) == (1, 1) || (flags, entries) == (2, 3), "{flags} {entries}");
    desk.ok(&["apply", "-f", &file]);
    assert_eq!(desk.json(&["ls"]).as_array().unwrap().len(), 2);
}
