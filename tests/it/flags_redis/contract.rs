//! The scripts and the writer, on a real server.

use std::time::Duration;

use redis::AsyncCommands as _;
use tidegate::flags::contract::{
    Change, Event, Keys, MAX_FLAGS, Op, Place, Remote, Unreadable, What, WriteError, entries, head, last_writes, read,
    write,
};
use tidegate::net::redis::{Connection, Endpoint};

use crate::support::redis::Redis;

const LIMIT: Duration = Duration::from_secs(30);

fn keys() -> Keys {
    Keys::new("tidegate", "orders").unwrap()
}

async fn connect(redis: &Redis) -> Connection {
    Endpoint::new(&redis.url()).unwrap().connect(LIMIT).await.unwrap()
}

fn set(key: &str, definition: &str, expect: Option<u64>) -> Change {
    let op = Op { place: Place::Flags, key: key.to_owned(), set: Some(definition.to_owned()), expect };
    Change { expect: None, create: true, actor: "ann@laptop".to_owned(), note: "why not".to_owned(), ops: vec![op] }
}

fn remove(key: &str, expect: Option<u64>) -> Change {
    let op = Op { place: Place::Flags, key: key.to_owned(), set: None, expect };
    Change { expect: None, create: true, actor: "bob@ci".to_owned(), note: String::new(), ops: vec![op] }
}

#[tokio::test]
async fn what_is_written_is_read_back_at_its_revision() {
    let redis = Redis::start();
    let mut connection = connect(&redis).await;
    assert!(matches!(read(&mut connection, &keys()).await, Err(Unreadable::Absent)));

    // Spaces, 1.0 and the empty list are what a JSON library in between would change.
    let definition = r#"{ "variants": {"a": 1.0, "b": []}, "n": 12345678901234567890 }"#;
    let first = write(&mut connection, &keys(), &set("a \"key\" / é", definition, Some(0))).await.unwrap();
    assert_eq!((first.rev, first.prev), (1, 0));
    let second = write(&mut connection, &keys(), &set("b", "{}", None)).await.unwrap();
    assert_eq!((second.rev, second.prev), (2, 1));

    let mut remote = read(&mut connection, &keys()).await.unwrap();
    remote.flags.sort();
    assert_eq!(remote.incarnation.len(), 32);
    let expected = Remote {
        rev: 2,
        incarnation: remote.incarnation.clone(),
        flags: vec![("a \"key\" / é".to_owned(), definition.to_owned()), ("b".to_owned(), "{}".to_owned())],
        ..Remote::default()
    };
    assert_eq!(remote, expected);

    write(&mut connection, &keys(), &remove("b", Some(2))).await.unwrap();
    let after = read(&mut connection, &keys()).await.unwrap();
    assert_eq!((after.rev, after.flags.len(), after.incarnation), (3, 1, remote.incarnation));
    let unknown = write(&mut connection, &keys(), &remove("b", None)).await;
    assert!(matches!(unknown, Err(WriteError::Absent(key)) if key == "b"));
    assert_eq!(head(&mut connection, &keys()).await.unwrap().rev.as_deref(), Some("3"));
}

#[tokio::test]
async fn a_lost_race_says_who_won() {
    let redis = Redis::start();
    let mut connection = connect(&redis).await;
    write(&mut connection, &keys(), &set("a", "{}", None)).await.unwrap();
    write(&mut connection, &keys(), &set("other", "{}", None)).await.unwrap();
    // Writes of other flags do not make a race of this one.
    let edited = write(&mut connection, &keys(), &set("a", r#"{"x":1}"#, Some(1))).await.unwrap();
    assert_eq!(edited.rev, 3);

    let lost = write(&mut connection, &keys(), &set("a", r#"{"x":2}"#, Some(1))).await.unwrap_err();
    let WriteError::Lost(winner) = &lost else { panic!("{lost}") };
    assert_eq!((winner.key.as_str(), winner.rev, winner.actor.as_str()), ("a", 3, "ann@laptop"));
    assert_eq!(winner.at, Some(edited.at));
    assert_eq!(lost.to_string(), "lost a race: a is at revision 3, written by ann@laptop");

    let exists = write(&mut connection, &keys(), &set("a", "{}", Some(0))).await;
    assert!(matches!(exists, Err(WriteError::Lost(lost)) if lost.rev == 3));

    write(&mut connection, &keys(), &remove("a", None)).await.unwrap();
    let gone = write(&mut connection, &keys(), &set("a", "{}", Some(3))).await;
    assert!(matches!(gone, Err(WriteError::Lost(lost)) if lost.rev == 0 && lost.actor == "bob@ci"));

    let mut whole = set("b", "{}", None);
    whole.expect = Some(3);
    let moved = write(&mut connection, &keys(), &whole).await;
    assert!(
        matches!(moved, Err(WriteError::Lost(lost)) if lost.rev == 4 && lost.key.is_empty() && lost.actor == "bob@ci")
    );
    assert_eq!(read(&mut connection, &keys()).await.unwrap().rev, 4, "a lost race changes nothing");
}

#[tokio::test]
async fn of_two_writers_that_race_exactly_one_wins() {
    let redis = Redis::start();
    let (mut one, mut two) = (connect(&redis).await, connect(&redis).await);
    for round in 0..100 {
        let (mine, theirs) = (format!(r#"{{"one":{round}}}"#), format!(r#"{{"two":{round}}}"#));
        let (mine, theirs) = (set("a", &mine, Some(round)), set("a", &theirs, Some(round)));
        let keys = keys();
        let (first, second) = tokio::join!(write(&mut one, &keys, &mine), write(&mut two, &keys, &theirs));
        assert!(first.is_ok() != second.is_ok(), "round {round}: {first:?} {second:?}");
        let won = if first.is_ok() { &mine } else { &theirs };
        let there = read(&mut one, &keys).await.unwrap();
        assert_eq!((there.rev, &there.flags[0].1), (round + 1, won.ops[0].set.as_ref().unwrap()));
    }
}

#[tokio::test]
async fn a_change_of_several_flags_is_made_whole_or_not_at_all() {
    let redis = Redis::start();
    let mut connection = connect(&redis).await;
    write(&mut connection, &keys(), &set("a", "{}", None)).await.unwrap();
    let mut change = set("b", "{}", None);
    change.ops.extend(remove("a", Some(1)).ops);
    change.ops.extend(set("c", "not json", None).ops);
    let refused = write(&mut connection, &keys(), &change).await;
    assert!(matches!(refused, Err(WriteError::Refused(text)) if text == "c is not a JSON object"));
    assert_eq!(read(&mut connection, &keys()).await.unwrap().flags, [("a".to_owned(), "{}".to_owned())]);

    for text in ["[]", "1", "null", "", "{", "{} {}", "\"{}\""] {
        let refused = write(&mut connection, &keys(), &set("c", text, None)).await;
        assert!(matches!(refused, Err(WriteError::Refused(_))), "{text}: {refused:?}");
    }
    change.ops.pop();
    let written = write(&mut connection, &keys(), &change).await.unwrap();
    assert_eq!(written.rev, 2, "one change is one revision");
    assert_eq!(read(&mut connection, &keys()).await.unwrap().flags, [("b".to_owned(), "{}".to_owned())]);
}

#[tokio::test]
async fn an_event_tells_the_change_unless_it_is_too_large() {
    let redis = Redis::start();
    let (tell, mut told) = tokio::sync::mpsc::channel(16);
    let endpoint = Endpoint::new(&redis.url()).unwrap();
    let mut subscriber = endpoint
        .connect_with_push(&keys().meta, LIMIT, move |info| {
            if let Some(message) = redis::Msg::from_push_info(info) {
                tell.try_send(message.get_payload_bytes().to_vec()).unwrap();
            }
        })
        .await
        .unwrap();
    subscriber.subscribe(&keys().events).await.unwrap();
    let mut connection = connect(&redis).await;
    let mut change = set("a/\u{1}", r#"{"x":1.0}"#, None);
    let created = write(&mut connection, &keys(), &change).await.unwrap();
    let incarnation = read(&mut connection, &keys()).await.unwrap().incarnation;

    let event = Event::parse(&told.recv().await.unwrap()).unwrap();
    let set_of = |key: &str, text: &str| [(key.to_owned(), text.to_owned())].into();
    let flags = What::Flags { set: set_of("a/\u{1}", r#"{"x":1.0}"#), del: vec![] };
    let expected = Event { rev: 1, prev: 0, incarnation: Some(incarnation), at: Some(created.at), what: flags };
    assert_eq!(event, expected);

    change.ops = [remove("a/\u{1}", None).ops, set("b", "{}", None).ops].concat();
    write(&mut connection, &keys(), &change).await.unwrap();
    let event = Event::parse(&told.recv().await.unwrap()).unwrap();
    assert_eq!((event.rev, event.prev), (2, 1));
    assert_eq!(event.what, What::Flags { set: set_of("b", "{}"), del: vec!["a/\u{1}".to_owned()] });

    let large = format!(r#"{{"x":"{}"}}"#, "x".repeat(65_536));
    write(&mut connection, &keys(), &set("c", &large, None)).await.unwrap();
    let text = told.recv().await.unwrap();
    assert!(text.len() < 200, "{} bytes", text.len());
    assert_eq!(Event::parse(&text).unwrap().what, What::Untold);

    let shared = Op { place: Place::Meta, key: "evaluators".to_owned(), set: Some("{}".to_owned()), expect: Some(0) };
    change.ops = vec![shared];
    write(&mut connection, &keys(), &change).await.unwrap();
    assert_eq!(Event::parse(&told.recv().await.unwrap()).unwrap().what, What::Untold);
    assert_eq!(read(&mut connection, &keys()).await.unwrap().evaluators.as_deref(), Some("{}"));
    let stray = Op { place: Place::Meta, key: "rev".to_owned(), set: Some("{}".to_owned()), expect: None };
    change.ops = vec![stray];
    assert!(matches!(write(&mut connection, &keys(), &change).await, Err(WriteError::Refused(_))));
}

#[tokio::test]
async fn every_change_is_in_the_log_with_its_author_and_reason() {
    let redis = Redis::start();
    let mut connection = connect(&redis).await;
    write(&mut connection, &keys(), &set("a", r#"{"x":1}"#, None)).await.unwrap();
    write(&mut connection, &keys(), &set("b", "{}", None)).await.unwrap();
    let removed = write(&mut connection, &keys(), &remove("a", None)).await.unwrap();

    let log = entries(&mut connection, &keys(), Some("a"), 10).await.unwrap();
    let (newest, oldest) = (&log[0], &log[1]);
    assert_eq!(log.len(), 2);
    assert_eq!((newest.rev, newest.op.as_str(), newest.actor.as_str()), (3, "del", "bob@ci"));
    assert_eq!((newest.before.as_str(), newest.after.as_str(), newest.at), (r#"{"x":1}"#, "", Some(removed.at)));
    assert_eq!((oldest.rev, oldest.op.as_str(), oldest.note.as_str()), (1, "set", "why not"));
    assert_eq!((oldest.before.as_str(), oldest.after.as_str()), ("", r#"{"x":1}"#));
    let all: Vec<u64> = entries(&mut connection, &keys(), None, 2).await.unwrap().iter().map(|e| e.rev).collect();
    assert_eq!(all, [3, 2]);

    let last = last_writes(&mut connection, &keys()).await.unwrap();
    assert_eq!(last.len(), 1, "a flag that is gone leaves no record");
    assert_eq!((last[0].0.as_str(), last[0].1.rev), ("b", 2));
}

#[tokio::test]
async fn what_others_wrote_by_hand_is_read_or_refused_whole() {
    let redis = Redis::start();
    let mut connection = connect(&redis).await;
    let mut raw = redis.client().await;
    let _: () = raw.hset(&keys().flags, "a", "{}").await.unwrap();
    assert!(matches!(read(&mut connection, &keys()).await, Err(Unreadable::Absent)), "flags without meta");
    for rev in ["x", "-1", "1.5", ""] {
        let _: () = raw.hset(&keys().meta, "rev", rev).await.unwrap();
        assert!(matches!(read(&mut connection, &keys()).await, Err(Unreadable::Malformed(_))), "{rev:?}");
    }
    let refused = write(&mut connection, &keys(), &set("a", "{}", None)).await;
    assert!(matches!(refused, Err(WriteError::Redis(_) | WriteError::Refused(_))), "{refused:?}");

    let _: () = raw.hset(&keys().meta, "rev", 7).await.unwrap();
    let remote = read(&mut connection, &keys()).await.unwrap();
    assert_eq!((remote.rev, remote.incarnation.as_str()), (7, ""));
    // No record of its last write: it counts as written at the scope's revision.
    let lost = write(&mut connection, &keys(), &set("a", "{}", Some(6))).await;
    assert!(matches!(lost, Err(WriteError::Lost(lost)) if lost.rev == 7));
    assert_eq!(write(&mut connection, &keys(), &set("a", "{}", Some(7))).await.unwrap().rev, 8);
    assert_eq!(read(&mut connection, &keys()).await.unwrap().incarnation.len(), 32);

    let _: () = raw.hset(&keys().flags, "b", &b"\xff"[..]).await.unwrap();
    assert!(matches!(read(&mut connection, &keys()).await, Err(Unreadable::Malformed(_))), "not UTF-8");
    let _: () = raw.del(&keys().flags).await.unwrap();
    assert_eq!(read(&mut connection, &keys()).await.unwrap().flags, [], "a meta with no flags is an empty scope");
    let _: () = raw.set(&keys().flags, "x").await.unwrap();
    assert!(matches!(read(&mut connection, &keys()).await, Err(Unreadable::Redis(_))), "not a hash");
}

#[tokio::test]
async fn a_scope_beyond_the_bounds_is_refused_not_read_in_part() {
    let redis = Redis::start();
    let mut raw = redis.client().await;
    let _: () = raw.hset(&keys().meta, "rev", 1).await.unwrap();
    let fill = "for i = 1, tonumber(ARGV[1]) do redis.call('HSET', KEYS[1], i, ARGV[2]) end";
    let mut connection = connect(&redis).await;
    for (count, text) in [(MAX_FLAGS + 1, "{}".to_owned()), (34, "x".repeat(1024 * 1024))] {
        let _: () =
            redis::Script::new(fill).key(&keys().flags).arg(count).arg(text).invoke_async(&mut raw).await.unwrap();
        let Err(Unreadable::Malformed(why)) = read(&mut connection, &keys()).await else { panic!("it was read") };
        assert!(why.contains("at most"), "{why}");
        let _: () = raw.del(&keys().flags).await.unwrap();
    }
}
