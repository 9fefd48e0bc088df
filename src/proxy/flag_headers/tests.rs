//! What a request's fields become.

use std::sync::Mutex;

use http::header::HeaderValue;

use super::*;

/// Says what it was asked and told, and gives each flag's key as its value, but for `none`.
#[derive(Default)]
struct Asked(Mutex<Vec<String>>);

impl Flags for Asked {
    fn evaluate(&self, flags: &[String], attributes: &[(&str, &str)], give: &mut dyn FnMut(usize, &str)) {
        let attributes = attributes.iter().map(|(name, value)| format!("{name}={value}"));
        *self.0.lock().expect("unpoisoned") = attributes.collect();
        for (place, flag) in flags.iter().enumerate().filter(|(_, flag)| *flag != "none") {
            give(place, &format!("\"{flag}\""));
        }
    }

    fn too_long(&self, flag: &str, most: usize) {
        self.0.lock().expect("unpoisoned").push(format!("{} bytes for {most}", flag.len()));
    }
}

fn name(text: &str) -> HeaderName {
    HeaderName::try_from(text).expect("a name")
}

fn settings() -> Settings {
    Settings {
        headers: vec![(name("X-Flag-Search"), "search".into()), (name("X-Flag-None"), "none".into())],
        context: vec![
            ("targetingKey".into(), Source::Header(name("X-User-Id"))),
            ("plan".into(), Source::Cookie("plan".into())),
        ],
    }
}

/// The fields after, and the attributes that were asked with.
fn set(fields: &[(&str, &[u8])]) -> (Vec<(String, String)>, Vec<String>) {
    let asked = Arc::new(Asked::default());
    let evaluator: Arc<dyn Flags> = asked.clone();
    let flags = FlagHeaders::new(&settings(), Some(&evaluator)).expect("there are flags");
    let mut headers = HeaderMap::new();
    for (field, value) in fields {
        headers.append(name(field), HeaderValue::from_bytes(value).expect("a value"));
    }
    flags.set(&mut headers);
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let after = headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    let asked = asked.0.lock().expect("unpoisoned").clone();
    (after, asked)
}

#[test]
fn what_a_client_sends_under_these_names_is_gone_however_it_is_spelt() {
    for forged in ["X-Flag-Search", "x_flag_search", "X_Flag-Search", "x.flag.search", "x-flag-none", "X~FLAG~NONE"] {
        let (after, _) = set(&[(forged, b"forged"), (forged, b"again"), ("x-flag-searches", b"mine")]);
        let expected = [("x-flag-searches", "mine"), ("x-flag-search", "search")];
        assert_eq!(after.len(), 2, "{forged}: {after:?}");
        for (name, value) in expected {
            assert!(after.contains(&(name.into(), value.into())), "{forged}: {after:?}");
        }
    }
}

#[test]
fn a_name_with_an_underscore_is_guarded_from_the_one_with_a_hyphen() {
    let names = Names::new(vec![name("x_flag")]);
    let mut headers = HeaderMap::new();
    headers.insert(name("x-flag"), HeaderValue::from_static("forged"));
    headers.insert(name("x-flags"), HeaderValue::from_static("mine"));
    names.strip(&mut headers);
    assert_eq!(headers.keys().collect::<Vec<_>>(), ["x-flags"]);
}

#[test]
fn attributes_are_taken_from_fields_and_cookies_that_say_one_thing() {
    let long = vec![b'a'; 1025];
    for (fields, expected) in [
        (&[("x-user-id", &b"ann"[..]), ("cookie", b"a=1; plan=pro")][..], &["targetingKey=ann", "plan=pro"][..]),
        (&[("x-user-id", b"ann")], &["targetingKey=ann"]),
        (&[("x-user-id", "\u{fc}".as_bytes())], &["targetingKey=\u{fc}"]),
        (&[("x-user-id", b"\xff")], &[]),
        (&[("x-user-id", b"ann"), ("x-user-id", b"eve")], &[]),
        (&[("x-user-id", &long)], &[]),
        (&[("cookie", b"plan=a b")], &[]),
        (&[], &[]),
    ] {
        assert_eq!(set(fields).1, expected, "{fields:?}");
    }
}

#[test]
fn a_value_too_long_for_a_field_has_none_and_is_told() {
    let asked = Arc::new(Asked::default());
    let evaluator: Arc<dyn Flags> = asked.clone();
    let headers = vec![(name("x-fits"), "a".repeat(4096)), (name("x-long"), "a".repeat(4097))];
    let flags =
        FlagHeaders::new(&Settings { headers, context: Vec::new() }, Some(&evaluator)).expect("there are flags");
    let mut headers = HeaderMap::new();
    headers.insert(name("x-long"), HeaderValue::from_static("forged"));
    flags.set(&mut headers);
    assert_eq!(headers.keys().collect::<Vec<_>>(), ["x-fits"]);
    assert_eq!(*asked.0.lock().expect("unpoisoned"), ["4097 bytes for 4096"]);
}

#[test]
fn without_flags_there_is_nothing_to_do() {
    let evaluator: Arc<dyn Flags> = Arc::new(Asked::default());
    assert!(FlagHeaders::new(&Settings::default(), Some(&evaluator)).is_none());
    assert!(FlagHeaders::new(&settings(), None).is_none());
}
