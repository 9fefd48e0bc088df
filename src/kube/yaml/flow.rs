//! Edits of lists and maps in brackets, of which JSON is made.

use serde_json::{Map as Object, Value};

use super::align::{self, Step};
use super::edit::Editor;
use super::order::{self, Place};
use super::tree::{Entry, Item};
use super::{lines, write};

/// A map in braces, of which some entries stay.
pub(super) fn map(
    editor: &mut Editor<'_>,
    entries: &[Entry],
    old: &Object<String, Value>,
    new: &Object<String, Value>,
) {
    let name = |entry: &Entry| entry.key.clone().unwrap_or_default();
    let spans: Vec<_> = entries.iter().map(|entry| (entry.at, entry.end())).collect();
    let kept: Vec<usize> = (0..entries.len()).filter(|index| new.contains_key(&name(&entries[*index]))).collect();
    let names: Vec<String> = kept.iter().map(|index| name(&entries[*index])).collect();
    let manner = Manner::of(editor, &spans);
    let mut added: Vec<&String> = new.keys().filter(|key| !old.contains_key(*key)).collect();
    added.sort_by_key(|key| order::rank(key));
    if kept.is_empty() {
        let written: Vec<String> = added.iter().map(|key| manner.entry(key, &new[*key])).collect();
        return editor.put(spans[0].0..spans[spans.len() - 1].1, written.join(&manner.between));
    }
    for index in kept.iter().copied() {
        let (entry, key) = (&entries[index], name(&entries[index]));
        if let (Some(old), Some(new)) = (old.get(&key), new.get(&key)) {
            editor.within(&entry.value, old, new);
        }
    }
    for key in added {
        let written = manner.entry(key, &new[key]);
        match order::place(key, names.iter().map(String::as_str)) {
            Some(Place::Before(at)) => {
                let at = spans[kept[at]].0;
                editor.put(at..at, format!("{written}{}", manner.between));
            }
            Some(Place::Behind(at)) => {
                let at = spans[kept[at]].1;
                editor.put(at..at, format!("{}{written}", manner.between));
            }
            None => {}
        }
    }
    remove(editor, &spans, &kept);
}

/// A list in brackets.
pub(super) fn list(editor: &mut Editor<'_>, items: &[Item], old: &[Value], new: &[Value]) {
    let spans: Vec<_> = items.iter().map(|item| (item.value.start, item.value.end)).collect();
    let manner = Manner::of(editor, &spans);
    let steps = align::steps(old, new);
    let kept: Vec<usize> =
        steps.iter().filter_map(|step| if let Step::Keep(from, _) = step { Some(*from) } else { None }).collect();
    let Some(first) = kept.first() else {
        let written: Vec<String> = new.iter().map(|item| manner.item(item)).collect();
        return editor.put(spans[0].0..spans[spans.len() - 1].1, written.join(&manner.between));
    };
    let first = spans[*first].0;
    let mut last = None;
    for step in steps {
        match step {
            Step::Add(to) => {
                let written = manner.item(&new[to]);
                match last {
                    Some(index) => {
                        let (_, at): (_, usize) = spans[index];
                        editor.put(at..at, format!("{}{written}", manner.between));
                    }
                    None => editor.put(first..first, format!("{written}{}", manner.between)),
                }
            }
            Step::Keep(from, to) => {
                last = Some(from);
                editor.within(&items[from].value, &old[from], &new[to]);
            }
            Step::Remove(_) => {}
        }
    }
    remove(editor, &spans, &kept);
}

/// Takes out what is not among `kept`, each with the comma that it no longer needs.
fn remove(editor: &mut Editor<'_>, spans: &[(usize, usize)], kept: &[usize]) {
    let first = kept[0];
    if first > 0 {
        editor.put(spans[0].0..spans[first].0, "");
    }
    let mut before = first;
    for index in first + 1..spans.len() {
        let stays = kept.contains(&index);
        let next = kept.contains(&(index + 1)) || index + 1 == spans.len();
        if !stays && next {
            editor.put(spans[before].1..spans[index].1, "");
        }
        if stays {
            before = index;
        }
    }
}

/// How the members of one pair of brackets are written.
struct Manner {
    /// Between two members.
    between: String,
    /// JSON, each member on a line of its own that begins in this column, `usize` columns deeper than its parent.
    json: Option<(usize, usize)>,
}

impl Manner {
    fn of(editor: &Editor<'_>, spans: &[(usize, usize)]) -> Self {
        let text = editor.text;
        let at = spans[0].0;
        let own_lines = spans.iter().all(|(at, _)| lines::first_in_line(text, *at));
        let column = lines::column(text, at);
        let json = editor.json || text[at..].trim_start_matches(['{', '[', ' ']).starts_with('"');
        if !own_lines {
            return Self { between: ", ".to_owned(), json: json.then_some((0, 0)) };
        }
        let between = format!(",\n{}", " ".repeat(column));
        Self { between, json: Some((column, editor.style.step)) }
    }

    fn entry(&self, key: &str, value: &Value) -> String {
        match self.json {
            Some((_, 0)) => format!("{}:{}", write::double_quoted(key), write::compact(value)),
            Some((column, step)) => write::json_entry(key, value, column, step),
            None => write::flow_entry(key, value),
        }
    }

    fn item(&self, value: &Value) -> String {
        match self.json {
            Some((_, 0)) => write::compact(value),
            Some((column, step)) => write::json(value, column, step),
            None => write::flow(value),
        }
    }
}
