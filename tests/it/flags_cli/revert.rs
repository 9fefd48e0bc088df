//! `revert`: the way back, and when there is none.

use redis::AsyncCommands as _;

use super::{Desk, switch};

/// Revision 1 makes a, 2 makes b, 3 switches a on, 4 removes b.
fn history() -> Desk {
    let desk = Desk::new();
    desk.ok(&["set", "--create", "a", &switch("off"), "--note", "begin"]);
    desk.ok(&["set", "b", &switch("off"), "--actor", "bob@ci"]);
    desk.ok(&["on", "a", "--note", "ticket 7"]);
    desk.ok(&["rm", "b", "--actor", "bob@ci"]);
    desk
}

#[test]
fn a_whole_scope_goes_back_and_forth_again() {
    let desk = history();
    let before = desk.ok(&["export"]);
    let said = desk.fails(&["revert", "2"], 64);
    assert!(said.err.contains("write --yes"), "{}", said.err);
    let said = desk.ok(&["revert", "2", "--dry-run"]);
    assert!(said.starts_with("undoes revision 4 of bob@ci, "), "{said}");
    assert!(
        said.contains(": a (ticket 7)\n") && said.contains("-defaultVariant: \"on\"\n+defaultVariant: \"off\"\n"),
        "{said}"
    );
    assert!(said.ends_with("1 to add, 1 to change, 0 to remove in scope orders; nothing was written\n"), "{said}");
    assert_eq!(desk.ok(&["export"]), before);
    let said = desk.ok(&["revert", "2", "--yes"]);
    assert!(
        said.ends_with("scope orders is as it was at revision 2: 1 added, 1 changed, 0 removed in revision 5\n"),
        "{said}"
    );
    assert_eq!(desk.ok(&["diff", "2", "5"]), "");
    assert_eq!(desk.json(&["log", "-n", "1"])[0]["note"], "revert to 2");
    desk.ok(&["revert", "4", "--yes", "--note", "back again"]);
    assert_eq!(desk.ok(&["export"]), before);
    assert_eq!(desk.ok(&["revert", "6"]), "scope orders is as it was at revision 6 already\n");
}

#[test]
fn one_flag_goes_back_by_itself() {
    let desk = history();
    let said = desk.ok(&["revert", "b@2"]);
    assert!(said.ends_with("b is as it was at revision 2: 1 added, 0 changed, 0 removed in revision 5\n"), "{said}");
    assert_eq!(desk.json(&["get", "a"])["defaultVariant"], "on", "the other stays");
    desk.ok(&["revert", "a@2"]);
    assert_eq!(desk.json(&["get", "a"])["defaultVariant"], "off");
    desk.ok(&["revert", "b@1"]);
    assert_eq!(desk.json(&["ls"]).as_array().unwrap().len(), 1, "it was not there then");
    let said = desk.fails(&["revert", "c@2"], 1);
    assert!(said.err.contains("there is no flag \"c\", and there was none at revision 2"), "{}", said.err);
    for target in ["x", "a@", "@2", "-1", "a@b"] {
        desk.fails(&["revert", target], 64);
    }
    assert!(desk.fails(&["revert", "0"], 1).err.contains("revision 1 is the first"));
    assert!(desk.fails(&["revert", "99"], 1).err.contains("has not been made; the scope is at revision 7"));
}

#[tokio::test]
async fn what_the_log_does_not_tell_is_not_guessed() {
    let desk = history();
    let mut client = desk.redis.client().await;
    let _: () =
        redis::cmd("XTRIM").arg("tidegate:{orders}:log").arg("MAXLEN").arg(2).query_async(&mut client).await.unwrap();
    desk.ok(&["revert", "2", "--dry-run"]);
    let said = desk.fails(&["revert", "1", "--dry-run"], 1);
    assert!(said.err.contains("the log reaches back to revision 2 only, which is after 1"), "{}", said.err);

    // By hand: a revision without an entry, then a flag without either.
    let _: () = client.hset("tidegate:{orders}:flags", "c", switch("on")).await.unwrap();
    let _: () = client.hincr("tidegate:{orders}:meta", "rev", 1).await.unwrap();
    let said = desk.fails(&["revert", "4", "--yes"], 1);
    assert!(said.err.contains("revision 5 is not in the log"), "{}", said.err);
    desk.ok(&["on", "a"]);
    desk.ok(&["off", "a"]);
    let _: () = client.hset("tidegate:{orders}:flags", "a", switch("on")).await.unwrap();
    let said = desk.fails(&["revert", "5", "--yes"], 1);
    assert!(said.err.contains("a is not as revision 6 of the log left it"), "{}", said.err);
}

#[test]
fn a_state_that_would_not_validate_any_more_is_not_restored() {
    let desk = Desk::new();
    let refers = r#"{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"off","targeting":{"if":[{"$ref":"staff"},"on"]}}"#;
    let with =
        format!(r#"{{"$evaluators":{{"staff":{{"var":"staff"}}}},"flags":{{"a":{refers},"b":{}}}}}"#, switch("off"));
    desk.ok(&["apply", "--create", "-f", &desk.write("with.json", with)]);
    let without = format!(r#"{{"flags":{{"a":{},"b":{}}}}}"#, switch("off"), switch("off"));
    desk.ok(&["apply", "--prune", "--yes", "-f", &desk.write("without.json", without)]);
    let said = desk.fails(&["revert", "a@1"], 1);
    assert!(
        said.err
            .contains("a does not validate together with the rest:\ntidegate: flags.a.targeting.if.0.$ref: refers to"),
        "{}",
        said.err
    );
    desk.ok(&["revert", "1", "--yes"]);
    assert_eq!(desk.ok(&["diff", "1", "3"]), "");
}
