//! What holds for any text and any change.

use proptest::prelude::*;
use serde_json::{Map as Object, Value};

use super::{Stream, same};

/// Texts that trip readers up, and others.
fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-z]{1,6}",
        2 => proptest::sample::select(vec![
            "", " ", "yes", "on", "~", "null", "012", "1e3", "0x1f", "-", "- a", "a: b", "a #b", "#", "*a", "&a", "!t", "[", "{}",
            "a,b", "|", "> x", "%", "'", "\"", "a\nb", "a\n", "\n", "a\n\n", " a\nb", "a \nb", "\t", "1:30", "2001-12-14", "---",
            "---\na", "...", "\u{feff}", "\u{85}", "\u{2028}", "\0", "é", "\u{1f600}", "<<", "=", "?", "? a", ":", "a:", "\r\n", "{{ x }}",
        ]).prop_map(str::to_owned),
        1 => any::<String>(),
    ]
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-1000i64..1000).prop_map(Value::from),
        any::<f64>().prop_filter("finite", |number| number.is_finite()).prop_map(Value::from),
        texts().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
            prop::collection::vec((keys(), inner), 0..5)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

fn keys() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => proptest::sample::select(vec!["name", "image", "env", "spec", "containers", "a", "b", "c"]).prop_map(str::to_owned),
        1 => texts(),
    ]
}

/// A value with something put in, taken out or replaced somewhere.
fn changed(value: &Value, path: &[usize], new: &Value) -> Value {
    let mut value = value.clone();
    let Some((step, rest)) = path.split_first() else { return new.clone() };
    match &mut value {
        Value::Object(entries) if !entries.is_empty() => {
            let key = entries.keys().nth(step % entries.len()).cloned().unwrap_or_default();
            match step % 7 {
                0 => _ = entries.remove(&key),
                1 => _ = entries.insert("added".to_owned(), new.clone()),
                _ => _ = entries.insert(key.clone(), changed(&entries[&key], rest, new)),
            }
        }
        Value::Array(items) if !items.is_empty() => {
            let index = step % items.len();
            match step % 7 {
                0 => _ = items.remove(index),
                1 => items.insert(index, new.clone()),
                _ => items[index] = changed(&items[index], rest, new),
            }
        }
        _ => return new.clone(),
    }
    value
}

/// A text as people write it: comments between the lines, lists under their keys or not, brackets here and there.
fn written(value: &Value, column: usize, manner: &mut u64) -> String {
    let mut turn = |of: u64| {
        *manner = manner.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*manner >> 33) % of
    };
    let indent = " ".repeat(column);
    match value {
        Value::Object(entries) if !entries.is_empty() && turn(6) > 0 => {
            let step = [2, 4, 1][usize::try_from(turn(3)).expect("small")];
            let lines = entries.iter().map(|(key, value)| {
                let comment =
                    ["", "# about the next\n", "\n", "\n# far\n\n"][usize::try_from(*manner >> 40 & 3).expect("small")];
                let comment = if comment.starts_with('#') { format!("{indent}{comment}") } else { comment.to_owned() };
                let key = Value::from(key.as_str()).to_string();
                let deeper = match value {
                    Value::Array(items) if !items.is_empty() => *manner >> 45 & 1 == 1,
                    _ => true,
                };
                let inner = written(value, if deeper { column + step } else { column }, manner);
                format!(
                    "{comment}{indent}{key}:{}",
                    if inner.contains('\n') { format!("\n{inner}") } else { format!(" {inner}  # c\n") }
                )
            });
            lines.collect()
        }
        Value::Array(items) if !items.is_empty() && turn(6) > 0 => items
            .iter()
            .map(|item| {
                let inner = written(item, column + 2, manner);
                if inner.contains('\n') {
                    format!("{indent}- {}", &inner[inner.len().min(first_text(&inner))..])
                } else {
                    format!("{indent}- {inner} # i\n")
                }
            })
            .collect(),
        other => other.to_string(),
    }
}

/// Where a block's first key or dash stands: only white space comes before it, or else a comment that must stay above.
fn first_text(block: &str) -> usize {
    block.find(|c: char| c != ' ').unwrap_or(0)
}

fn streams() -> impl Strategy<Value = String> {
    (prop::collection::vec(values(), 1..4), any::<u64>(), any::<bool>()).prop_map(|(values, mut manner, crlf)| {
        let mut text = String::from("# head\n");
        for value in values {
            let body = written(&value, 0, &mut manner);
            text.push_str(&format!("---\n{body}{}", if body.ends_with('\n') { "# tail\n" } else { "\n" }));
        }
        if crlf { text.replace('\n', "\r\n") } else { text }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        if let Ok(stream) = Stream::parse(&text) {
            prop_assert_eq!(&stream.render(&[]).text, &text);
        }
    }

    #[test]
    fn any_marks_are_read_or_refused_and_edited(text in "[-a-c:?,#&*!|>'\"%@ \\[\\]{}~\n\t<.]{0,40}", new in values()) {
        if let Ok(stream) = Stream::parse(&text) {
            let wanted = vec![Some(new.clone()); stream.documents().len()];
            let rendered = stream.render(&wanted);
            let again = Stream::parse(&rendered.text).expect("what was written can be read");
            prop_assert!(again.documents().iter().all(|document| same(document.value(), &new)), "{}", rendered.text);
        }
    }

    #[test]
    fn what_is_written_is_what_is_read(text in streams(), path in prop::collection::vec(any::<usize>(), 0..4), new in values()) {
        let Ok(stream) = Stream::parse(&text) else { return Ok(()) };
        prop_assert_eq!(&stream.render(&[]).text, &text);
        let wanted: Vec<Option<Value>> =
            stream.documents().iter().map(|document| Some(changed(document.value(), &path, &new))).collect();
        let rendered = stream.render(&wanted);
        let again = Stream::parse(&rendered.text).expect("what was written can be read");
        prop_assert_eq!(again.documents().len(), wanted.len());
        for (document, wanted) in again.documents().iter().zip(&wanted) {
            prop_assert!(same(document.value(), wanted.as_ref().expect("each has one")), "{text}\n->\n{}", rendered.text);
        }
        prop_assert_eq!(rendered.anew.len(), 0, "{}\n->\n{}\nwanted {:?}", text, rendered.text, wanted);
    }

    #[test]
    fn json_stays_json(value in values(), pretty in any::<bool>(), path in prop::collection::vec(any::<usize>(), 0..4), new in values()) {
        if !value.is_object() && !value.is_array() { return Ok(()) }
        let text = if pretty { serde_json::to_string_pretty(&value).expect("a value") } else { value.to_string() };
        let Ok(stream) = Stream::parse(&text) else { return Ok(()) };
        let wanted = changed(stream.documents()[0].value(), &path, &new);
        if !wanted.is_object() && !wanted.is_array() { return Ok(()) }
        let rendered = stream.render(&[Some(wanted.clone())]);
        let again = serde_json::from_str::<Value>(&rendered.text);
        prop_assert!(again.is_ok_and(|again| same(&again, &wanted)), "{text}\n->\n{}", rendered.text);
    }

    #[test]
    fn lines_that_have_nothing_to_do_with_a_change_stay(
        keys in prop::collection::btree_map("[a-z]{2,5}", "[b-m]{1,5}", 2..6), at in any::<prop::sample::Index>()
    ) {
        let text: String = keys.iter().map(|(key, value)| format!("# of {key}\n{key}:   {value}   # {value}!\n")).collect();
        let stream = Stream::parse(&text).expect("it is YAML");
        let Value::Object(mut value) = stream.documents()[0].value().clone() else { return Ok(()) };
        if !value.keys().eq(keys.keys()) || value.values().any(|value| !value.is_string()) { return Ok(()) }
        let key = keys.keys().nth(at.index(keys.len())).expect("within").clone();
        value.insert(key.clone(), Value::from("changed"));
        let rendered = stream.render(&[Some(Value::Object(value))]).text;
        let differing = text.lines().zip(rendered.lines()).filter(|(a, b)| a != b).count();
        prop_assert_eq!(differing, 1);
        prop_assert_eq!(rendered.lines().count(), text.lines().count());
        let line = format!("{key}:   changed   # ");
        prop_assert!(rendered.contains(&line), "{}", rendered);
    }

    #[test]
    fn an_object_survives_being_written(entries in prop::collection::vec((keys(), values()), 0..5)) {
        let value = Value::Object(entries.into_iter().collect::<Object<_, _>>());
        let stream = Stream::parse("a: 1\n").expect("it is YAML");
        let rendered = stream.render(&[Some(value.clone())]);
        let again = Stream::parse(&rendered.text).expect("what was written can be read");
        prop_assert!(same(again.documents()[0].value(), &value), "{}", rendered.text);
        prop_assert!(rendered.anew.is_empty(), "{}", rendered.text);
    }
}
