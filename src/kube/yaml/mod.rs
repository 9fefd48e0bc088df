//! Streams of YAML documents that are read, changed in places, and written back with every comment, quote and line that
//! did not change. Knows nothing of what the documents say.

mod align;
mod edit;
mod flow;
#[cfg(test)]
mod laws;
mod lines;
mod order;
mod scalar;
#[cfg(test)]
mod tests;
mod tree;
mod write;

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

use serde_json::Value;

use self::edit::Edit;
use self::tree::Parsed;
use self::write::Style;

/// Bytes of a stream.
pub const MAX_BYTES: usize = 16 << 20;

/// Documents whose edits are looked at one by one when they do not make what they should.
const ONE_BY_ONE: usize = 32;

/// What keeps a text from being read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Error {
    /// From 1 on.
    pub line: usize,
    /// From 1 on, in characters.
    pub column: usize,
    /// What is wrong there.
    pub text: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.text)
    }
}

/// A text of documents, divided by `---`.
#[derive(Debug)]
pub struct Stream {
    text: String,
    documents: Vec<Document>,
}

/// One document.
#[derive(Debug)]
pub struct Document(Parsed);

impl Document {
    /// What it says, as Kubernetes reads it; null when it is empty.
    pub fn value(&self) -> &Value {
        &self.0.value
    }

    /// The line its first value stands on, from 1 on.
    pub fn line(&self) -> usize {
        self.0.line
    }
}

/// A stream with its changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// All of it.
    pub text: String,
    /// The documents, by their index, that had to be written anew, so that their comments are gone.
    pub anew: Vec<usize>,
    /// Comments of the other documents that are gone with what they stood beside.
    pub lost: Vec<String>,
}

impl Stream {
    /// Reads all documents of a text.
    ///
    /// # Errors
    /// It is not YAML, names a key twice, or is larger or deeper than any manifest.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.len() > MAX_BYTES {
            let text = format!("more than {} MiB: split the file", MAX_BYTES >> 20);
            return Err(Error { line: 1, column: 1, text });
        }
        let documents = tree::read(text)?.into_iter().map(Document).collect();
        Ok(Self { text: text.to_owned(), documents })
    }

    /// In the order of the text.
    pub fn documents(&self) -> &[Document] {
        &self.documents
    }

    /// The text with `wanted` in place of the documents that it names, one for each; `None` and what a document says
    /// already leave its bytes as they are.
    pub fn render(&self, wanted: &[Option<Value>]) -> Rendered {
        let changes: Vec<(usize, &Value)> = (wanted.iter().enumerate())
            .filter_map(|(index, value)| Some((index, value.as_ref()?)))
            .filter(|(index, value)| self.documents.get(*index).is_some_and(|document| document.value() != *value))
            .collect();
        if changes.is_empty() {
            return Rendered { text: self.text.clone(), anew: Vec::new(), lost: Vec::new() };
        }
        let edits: Vec<Vec<Edit>> = changes.iter().map(|(index, value)| self.edits(*index, value)).collect();
        if let Some(text) = self.made(edits.iter().flatten(), &changes) {
            let lost = self.lost(&text);
            return Rendered { text, anew: Vec::new(), lost };
        }
        let bad = |(change, edits): &(&(usize, &Value), &Vec<Edit>)| {
            changes.len() > ONE_BY_ONE || self.made(edits.iter(), &[**change]).is_none()
        };
        let anew: Vec<usize> = changes.iter().zip(&edits).filter(bad).map(|((index, _), _)| *index).collect();
        let mended = changes.iter().zip(edits).flat_map(|((index, value), edits)| {
            let document = &self.documents[*index].0;
            if anew.contains(index) {
                vec![edit::anew(&self.text, document, value, self.style(document))]
            } else {
                edits
            }
        });
        let mended: Vec<Edit> = mended.collect();
        if let Some(text) = self.made(mended.iter(), &changes) {
            // Which are of documents that were written anew is not told apart.
            return Rendered { text, anew, lost: Vec::new() };
        }
        self.all_anew(&changes)
    }

    fn edits(&self, index: usize, value: &Value) -> Vec<Edit> {
        let document = &self.documents[index].0;
        edit::edits(&self.text, document, value, self.style(document))
    }

    /// How a document is indented, or where it does not show, the others of its stream.
    fn style(&self, document: &Parsed) -> Style {
        let first =
            |of: fn(&Parsed) -> Option<usize>| of(document).or_else(|| self.documents.iter().find_map(|d| of(&d.0)));
        Style { step: first(|document| document.step).unwrap_or(2), dash: first(|document| document.dash).unwrap_or(2) }
    }

    /// The text after `edits`, if it then says what it should.
    fn made<'e>(&self, edits: impl Iterator<Item = &'e Edit>, changes: &[(usize, &Value)]) -> Option<String> {
        let text = applied(&self.text, edits)?;
        let read = tree::read(&text).ok()?;
        if read.len() != self.documents.len() {
            return None;
        }
        let right = |(index, (now, before)): (usize, (&Parsed, &Document))| {
            let wanted = changes.iter().find(|(at, _)| *at == index).map_or(before.value(), |(_, value)| *value);
            same(&now.value, wanted)
        };
        read.iter().zip(&self.documents).enumerate().all(right).then_some(text)
    }

    /// The comments that a text made of this one has no more.
    fn lost(&self, text: &str) -> Vec<String> {
        let mut now = HashMap::new();
        for comment in tree::comments(text) {
            *now.entry(comment).or_insert(0usize) += 1;
        }
        let gone = |comment: &String| match now.get_mut(comment) {
            Some(left) if *left > 0 => {
                *left -= 1;
                false
            }
            _ => true,
        };
        tree::comments(&self.text).into_iter().filter(gone).collect()
    }

    /// Every document from what it says, the last resort.
    fn all_anew(&self, changes: &[(usize, &Value)]) -> Rendered {
        let mut text = String::new();
        for (index, document) in self.documents.iter().enumerate() {
            let value = changes.iter().find(|(at, _)| *at == index).map_or(document.value(), |(_, value)| *value);
            text.push_str("---\n");
            text.push_str(&edit::at_root(value, self.style(&document.0)));
            text.push('\n');
        }
        Rendered { text, anew: (0..self.documents.len()).collect(), lost: Vec::new() }
    }
}

/// `text` after edits that do not overlap.
fn applied<'e>(text: &str, edits: impl Iterator<Item = &'e Edit>) -> Option<String> {
    let mut edits: Vec<(Range<usize>, &str)> = edits.map(|edit| (edit.at.clone(), edit.text.as_str())).collect();
    // What is put in where something else is taken out comes first.
    edits.sort_by_key(|(at, _)| (at.start, at.end));
    let crlf = text.find('\n').is_some_and(|feed| text[..feed].ends_with('\r'));
    let mut out = String::with_capacity(text.len() + 4096);
    let mut done = 0;
    for (at, new) in edits {
        out.push_str(text.get(done..at.start)?);
        if crlf {
            out.push_str(&new.replace('\n', "\r\n"))
        } else {
            out.push_str(new)
        }
        done = at.end;
    }
    out.push_str(text.get(done..)?);
    Some(out)
}

/// Whether two values are the same to a reader, for whom 3.0 is 3.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || (a.is_f64() || b.is_f64()) && a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        (a, b) => a == b,
    }
}
