//! Layers merged, and what is kept of the snapshot before.

use super::super::compile::{Format, document};
use super::*;

fn layer(name: &str, scope: Option<&str>, text: &str) -> Arc<Layer> {
    let set = document(text, Format::Json).unwrap_or_else(|invalid| panic!("{invalid}"));
    Arc::new(Layer { name: name.into(), flag_set_id: scope.map(Into::into), revision: 1, set: Arc::new(set) })
}

const ABOVE: &str = r#"{"metadata":{"team":"x","source":"mine"},"flags":{
    "both":{"state":"ENABLED","variants":{"v":1},"metadata":{"team":"own","n":1.0}}}}"#;
const BENEATH: &str = r#"{"metadata":{"team":"y","area":"z"},"flags":{
    "both":{"state":"ENABLED","variants":{"v":2}},"alone":{"state":"ENABLED","variants":{"v":3}}}}"#;

#[test]
fn the_first_layer_wins_and_the_one_beneath_shows_again_without_it() {
    let layers = vec![layer("redis:a", Some("a"), ABOVE), layer("file:b", None, BENEATH)];
    let values = |snapshot: &Snapshot| {
        let value = |entry: &Entry| {
            (entry.flag().key().to_owned(), entry.layer(), entry.flag().variants()[0].value_json().to_owned())
        };
        snapshot.iter().map(value).collect::<Vec<_>>()
    };
    let all = Snapshot::merge(layers.clone(), Arc::default(), 1, false);
    assert_eq!(values(&all), [("alone".into(), 1, "3".into()), ("both".into(), 0, "1".into())]);
    let rest = Snapshot::merge(layers[1..].to_vec(), Arc::default(), 2, false);
    assert_eq!(values(&rest), [("alone".into(), 0, "3".into()), ("both".into(), 0, "2".into())]);
    assert!(rest.get("both").is_some() && rest.get("none").is_none());
}

#[test]
fn metadata_tells_the_layer_beneath_what_authors_say() {
    let layers = vec![layer("redis:a", Some("a"), ABOVE), layer("file:b", None, BENEATH)];
    let snapshot = Snapshot::merge(layers, Arc::default(), 1, false);
    let metadata = |key: &str| snapshot.get(key).map(Entry::metadata_json);
    assert_eq!(metadata("both"), Some(r#"{"flagSetId":"a","n":1.0,"source":"mine","team":"own"}"#));
    assert_eq!(metadata("alone"), Some(r#"{"area":"z","source":"file:b","team":"y"}"#));
    assert_eq!(snapshot.metadata_json(), r#"{"area":"z","source":"mine","team":"x"}"#);
}

#[test]
fn a_selection_shows_what_is_covered_and_is_otherwise_the_same() {
    let layers = vec![layer("redis:a", Some("a"), ABOVE), layer("file:b", None, BENEATH)];
    let all = Snapshot::merge(layers, Arc::default(), 7, false)
        .with_bucketing(Bucketing::V3)
        .stale_from(1, Some(SystemTime::UNIX_EPOCH));
    let beneath = all.select(|layer, _| &*layer.name == "file:b");
    let both = beneath.get("both").expect("it is in both layers");
    assert_eq!(both.flag().variants()[0].value_json(), "2");
    assert_eq!((beneath.len(), beneath.generation(), beneath.bucketing()), (2, 7, Bucketing::V3));
    assert!(beneath.is_stale(both) && beneath.stale());
}

#[test]
fn rules_that_read_the_time_are_known() {
    let timed = |targeting: &str, evaluators: &str| {
        let text = format!(
            r#"{{"$evaluators":{evaluators},"flags":{{
                "f":{{"state":"ENABLED","variants":{{"v":1}},"targeting":{targeting}}}}}}}"#
        );
        Snapshot::merge(vec![layer("f", None, &text)], Arc::default(), 1, false).timed()
    };
    let late = r#"{"<":[{"var":"$flagd.timestamp"},9]}"#;
    assert!(timed(&format!(r#"{{"if":[{late},"v"]}}"#), "{}"));
    assert!(timed(r#"{"if":[{"$ref":"late"},"v"]}"#, &format!(r#"{{"late":{late}}}"#)));
    assert!(!timed(r#"{"if":[{"var":"a"},"v"]}"#, &format!(r#"{{"late":{late}}}"#)), "nobody asks for it");
}

#[test]
fn a_flag_is_stale_when_its_source_or_one_above_it_is_not_heard_of() {
    let layers = vec![layer("redis:a", Some("a"), ABOVE), layer("file:b", None, BENEATH)];
    let stale = |from| {
        let since = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        let snapshot = Snapshot::merge(layers.clone(), Arc::default(), 1, false).stale_from(from, Some(since));
        let of = |key: &str| snapshot.get(key).map(|entry| snapshot.is_stale(entry));
        let age = snapshot.stale_age(SystemTime::UNIX_EPOCH + Duration::from_secs(160));
        (of("both"), of("alone"), snapshot.stale(), age.map(|age| age.as_secs()))
    };
    assert_eq!(stale(0), (Some(true), Some(true), true, Some(60)));
    assert_eq!(stale(1), (Some(false), Some(true), true, Some(60)), "the one beneath does not touch the one above");
    assert_eq!(stale(2), (Some(false), Some(false), true, Some(60)), "beneath all that is in force");
    assert_eq!(stale(usize::MAX), (Some(false), Some(false), false, None));
}

#[test]
fn what_did_not_change_is_taken_from_the_snapshot_before() {
    let above = layer("redis:a", Some("a"), ABOVE);
    let (beneath, other) = (layer("file:b", None, BENEATH), layer("file:c", None, BENEATH));
    let before = Snapshot::merge(vec![above, beneath.clone()], Arc::default(), 1, false);
    let json = |snapshot: &Snapshot, key: &str| snapshot.get(key).map(|entry| entry.metadata_json().to_owned());
    let shared = |a: &Snapshot, b: &Snapshot| {
        let (a, b) = (a.get("alone").expect("there"), b.get("alone").expect("there"));
        (Arc::ptr_eq(&a.metadata, &b.metadata), Arc::ptr_eq(&a.tally, &b.tally))
    };

    // The flag's layer moves up, and what it covered shows again.
    let after = Snapshot::succeed(&before, vec![beneath.clone()], Arc::default(), 2);
    assert_eq!(json(&after, "both").as_deref(), Some(r#"{"area":"z","source":"file:b","team":"y"}"#));
    assert_eq!(after.get("alone").map(Entry::layer), Some(0));
    assert_eq!((shared(&before, &after), Arc::ptr_eq(&before.index, &after.index)), ((true, true), true));

    // The same flags from elsewhere say so.
    let moved = Layer { name: other.name.clone(), ..Layer::clone(&beneath) };
    let after = Snapshot::succeed(&before, vec![Arc::new(moved)], Arc::default(), 2);
    assert_eq!(json(&after, "alone").as_deref(), Some(r#"{"area":"z","source":"file:c","team":"y"}"#));
    assert_eq!(shared(&before, &after), (false, true));

    let fewer = layer("file:b", None, r#"{"flags":{"alone":{"state":"ENABLED","variants":{"v":3}}}}"#);
    let after = Snapshot::succeed(&before, vec![fewer], Arc::default(), 2);
    assert_eq!((after.len(), after.get("both").is_none()), (1, true));
    assert_eq!(json(&after, "alone").as_deref(), Some(r#"{"source":"file:b"}"#));
}

#[test]
fn who_is_told_of_a_generation_finds_it_in_force() {
    let store = Store::new();
    let mut generations = store.subscribe();
    assert!(store.load().is_empty());
    store.publish(Snapshot::merge(vec![layer("file:b", None, BENEATH)], Arc::default(), 5, true));
    assert_eq!(generations.has_changed().ok(), Some(true));
    assert_eq!(*generations.borrow_and_update(), 5);
    let snapshot = store.load();
    assert_eq!((snapshot.generation(), snapshot.len(), snapshot.stale()), (5, 2, true));
}
