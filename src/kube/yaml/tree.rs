//! From text to values that know where they stand: one node for each scalar, list and map, with the bytes it takes.

use std::collections::{BTreeSet, HashMap};

use granit_parser::StrInput;
use granit_parser::{Event, Parser, ScalarStyle, Span, StructureStyle, Tag};
use serde_json::{Map as Object, Value};

use super::{Error, scalar};

/// Lists and maps within one another.
const DEPTH: usize = 100;
/// Nodes of a text, aliases written out.
const NODES: usize = 500_000;
/// Documents of a text.
const DOCUMENTS: usize = 10_000;

/// Where a value stands, its properties (`&anchor`, `!tag`) included.
#[derive(Debug)]
pub(super) struct Node {
    /// Its first byte, or that of its properties.
    pub(super) start: usize,
    /// Its first byte without them.
    pub(super) content: usize,
    /// The byte after its last one; comments and white space that follow are not its own.
    pub(super) end: usize,
    /// The number of its anchor; 0 for none.
    pub(super) anchor: usize,
    pub(super) tagged: bool,
    pub(super) kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    Scalar,
    /// Refers to the anchor of this number.
    Alias(usize),
    Map(Layout, Vec<Entry>),
    List(Layout, Vec<Item>),
}

/// How a list or map is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// By indentation: the column of keys or dashes.
    Block(usize),
    /// In brackets.
    Flow,
    /// In a way that is not edited but written anew: `? key`, `[a: b]`, `{a}`, keys that are aliases.
    Odd,
}

#[derive(Debug)]
pub(super) struct Entry {
    /// `None` for `<<`.
    pub(super) key: Option<String>,
    /// The key's first byte.
    pub(super) at: usize,
    /// The byte after the colon.
    pub(super) colon: usize,
    pub(super) value: Node,
}

#[derive(Debug)]
pub(super) struct Item {
    /// The dash, or in brackets the value's first byte.
    pub(super) at: usize,
    pub(super) value: Node,
}

/// One document of a stream.
#[derive(Debug)]
pub(super) struct Parsed {
    /// The line it begins on, from 1 on.
    pub(super) line: usize,
    pub(super) root: Node,
    pub(super) value: Value,
    /// Columns that a map's keys are deeper than their parent's.
    pub(super) step: Option<usize>,
    /// Columns that a list's dashes are deeper than its key.
    pub(super) dash: Option<usize>,
}

/// Reads all documents.
pub(super) fn read(text: &str) -> Result<Vec<Parsed>, Error> {
    let options = granit_parser::options! {
        emit_anchor_events: true,
        emit_comments: false,
        // As libyaml and Kubernetes have it.
        block_scalar_eof_without_line_feed: true,
        flow_nesting_limit: DEPTH,
        block_nesting_limit: DEPTH,
    };
    let parser = Parser::new_from_str_with_options(text, options);
    let mut reader = Reader { text, parser, cursor: 0, anchors: HashMap::new(), nodes: 0, step: None, dash: None };
    let mut documents = Vec::new();
    loop {
        match reader.next()? {
            (Event::StreamEnd, _) => return Ok(documents),
            (Event::DocumentStart(explicit, _), span) => {
                if documents.len() == DOCUMENTS {
                    return Err(reader.error(&span, format!("more than {DOCUMENTS} documents: split the file")));
                }
                reader.anchors.clear();
                (reader.step, reader.dash) = (None, None);
                reader.cursor = if explicit { byte(span.end) } else { byte(span.start) };
                let (event, at) = reader.next()?;
                let (root, value) = reader.node(event, &at, None)?;
                let (step, dash) = (reader.step, reader.dash);
                documents.push(Parsed { line: at.start.line(), root, value, step, dash });
            }
            _ => {}
        }
    }
}

/// The comments of a text that is YAML.
pub(super) fn comments(text: &str) -> Vec<String> {
    let options = granit_parser::options! {
        emit_comments: true,
        block_scalar_eof_without_line_feed: true,
        flow_nesting_limit: DEPTH,
        block_nesting_limit: DEPTH,
    };
    let mut parser = Parser::new_from_str_with_options(text, options);
    let mut found = Vec::new();
    while let Some(Ok((event, _))) = parser.next_event() {
        if let Event::Comment(comment, _) = event {
            found.push(comment.trim().to_owned());
        }
    }
    found
}

struct Reader<'t> {
    text: &'t str,
    parser: Parser<'t, StrInput<'t>>,
    /// The byte after the last token.
    cursor: usize,
    /// Values by the number of their anchor, with how many nodes they are. Those that are not complete are not there.
    anchors: HashMap<usize, (Value, usize)>,
    nodes: usize,
    step: Option<usize>,
    dash: Option<usize>,
}

/// The byte of a marker. The parser reads a text and not a stream, so that every marker has one.
fn byte(marker: granit_parser::Marker) -> usize {
    marker.byte_offset().unwrap_or(0)
}

impl<'t> Reader<'t> {
    fn next(&mut self) -> Result<(Event<'t>, Span), Error> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => {
                let at = error.marker();
                let said = error.info();
                let said = said.split(" at byte ").next().unwrap_or_default();
                Err(Error { line: at.line(), column: at.col() + 1, text: hinted(self.text, at.line(), said) })
            }
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn error(&self, span: &Span, text: impl Into<String>) -> Error {
        Error { line: span.start.line(), column: span.start.col() + 1, text: text.into() }
    }

    /// The first byte from `at` on that is neither white space nor within a comment.
    fn skip(&self, at: usize) -> usize {
        super::lines::skip(self.text, at)
    }

    /// A node and its value. `above` is the column of the keys around it.
    fn node(&mut self, event: Event<'t>, span: &Span, above: Option<usize>) -> Result<(Node, Value), Error> {
        self.spend(1, span)?;
        let before = self.nodes;
        let (anchor, tag) = (event.anchor_id().unwrap_or(0), event.tag().cloned());
        let mut node = Node {
            start: byte(span.start),
            content: byte(span.start),
            end: byte(span.end),
            anchor,
            tagged: tag.is_some(),
            kind: Kind::Alias(0),
        };
        let mut properties = Vec::new();
        if let Some(tag) = span.tag_span() {
            properties.push((byte(tag.start), byte(tag.end)));
        }
        if anchor != 0 {
            let (_, at) = self.next()?;
            properties.push((byte(at.start), byte(at.end)));
        }
        for (start, end) in &properties {
            node.start = node.start.min(*start);
            self.cursor = self.cursor.max(*end);
        }
        let value = match event {
            Event::Alias(id) => {
                let Some((value, size)) = self.anchors.get(&id).cloned() else {
                    return Err(self.error(span, "an alias within what it refers to: write it out"));
                };
                self.spend(size, span)?;
                node.kind = Kind::Alias(id);
                value
            }
            Event::Scalar(text, style, _, _) => {
                node.kind = Kind::Scalar;
                if node.content >= node.end && style == ScalarStyle::Plain {
                    // Nothing is written: null stands right behind what came before.
                    node.content = self.cursor;
                    node.start = if properties.is_empty() { self.cursor } else { node.start };
                    node.end = self.cursor;
                } else if matches!(style, ScalarStyle::Literal | ScalarStyle::Folded) {
                    // The parser's span begins behind the header.
                    node.content = self.skip(self.cursor);
                    node.start = node.start.min(node.content);
                    node.end = super::lines::block_scalar_end(self.text, node.content, node.end);
                }
                let plain = style == ScalarStyle::Plain;
                self.scalar(&text, plain, tag.as_ref(), span)?
            }
            Event::SequenceStart(style, ..) => self.list(&mut node, style, above)?,
            Event::MappingStart(style, ..) => self.map(&mut node, style, above)?,
            _ => return Err(self.error(span, "the parser lost its way")),
        };
        if properties.is_empty() {
            node.start = node.content;
        }
        self.cursor = self.cursor.max(node.end);
        if anchor != 0 {
            self.anchors.insert(anchor, (value.clone(), self.nodes - before + 1));
        }
        Ok((node, value))
    }

    fn spend(&mut self, nodes: usize, span: &Span) -> Result<(), Error> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > NODES {
            return Err(self.error(span, format!("more than {NODES} values, aliases written out: split the file")));
        }
        Ok(())
    }

    fn scalar(&self, text: &str, plain: bool, tag: Option<&Tag>, span: &Span) -> Result<Value, Error> {
        let resolved = match tag.map(Tag::core_suffix) {
            None if plain => scalar::resolve(text),
            Some(Some("null" | "bool" | "int" | "float")) => scalar::resolve(text),
            None | Some(_) => Ok(Value::from(text)),
        };
        resolved.map_err(|_| self.error(span, "not a finite number: put quotes around a text"))
    }

    fn list(&mut self, node: &mut Node, style: StructureStyle, above: Option<usize>) -> Result<Value, Error> {
        let mut items = Vec::new();
        let mut values = Vec::new();
        let mut layout = if style == StructureStyle::Flow { Layout::Flow } else { Layout::Odd };
        if layout == Layout::Flow {
            self.cursor = self.cursor.max(node.content + 1);
        }
        loop {
            let (event, at) = self.next()?;
            if event == Event::SequenceEnd {
                if layout == Layout::Flow {
                    node.end = byte(at.end);
                }
                break;
            }
            let mut dash = None;
            if layout != Layout::Flow {
                let from = self.skip(self.cursor);
                if self.text[from..].starts_with('-') {
                    self.cursor = from + 1;
                    let column = super::lines::column(self.text, from);
                    if items.is_empty() {
                        layout = Layout::Block(column);
                        node.content = from;
                        if let Some(above) = above {
                            self.dash = self.dash.or(column.checked_sub(above));
                        }
                    }
                    dash = Some(from);
                }
            }
            let (value, read) = self.node(event, &at, None)?;
            items.push(Item { at: dash.unwrap_or(value.start), value });
            values.push(read);
        }
        if layout != Layout::Flow {
            node.end = items.last().map_or(node.end, |item| item.value.end);
        }
        node.kind = Kind::List(layout, items);
        Ok(Value::Array(values))
    }

    fn map(&mut self, node: &mut Node, style: StructureStyle, above: Option<usize>) -> Result<Value, Error> {
        let flow = style == StructureStyle::Flow;
        let mut layout = if flow { Layout::Flow } else { Layout::Odd };
        if flow {
            if self.text[node.content..].starts_with('{') {
                self.cursor = self.cursor.max(node.content + 1);
            } else {
                layout = Layout::Odd;
            }
        }
        let mut entries: Vec<Entry> = Vec::new();
        let mut object = Object::new();
        let mut written = BTreeSet::new();
        let mut merged: Vec<Object<String, Value>> = Vec::new();
        let mut odd = layout == Layout::Odd && flow;
        loop {
            let (event, at) = self.next()?;
            if event == Event::MappingEnd {
                if flow {
                    node.end = byte(at.end);
                }
                break;
            }
            let before = self.skip(self.cursor);
            odd |= self.text[before..].starts_with('?') && before < byte(at.start) || event.is_alias();
            let merge = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, _, None) if text == "<<");
            let (key_node, key) = self.node(event, &at, None)?;
            let name = self.key(key, &at)?;
            if entries.is_empty() && !flow {
                let column = super::lines::column(self.text, key_node.start);
                layout = Layout::Block(column);
                // What an anchor before the first key names is the key, where both stand on one line.
                node.content = key_node.start;
                if let Some(above) = above {
                    self.step = self.step.or(column.checked_sub(above).filter(|step| *step > 0));
                }
            }
            let colon = super::lines::colon(self.text, key_node.end);
            odd |= colon.is_none();
            self.cursor = self.cursor.max(colon.unwrap_or(key_node.end));
            let colon = self.cursor;
            let (event, value_at) = self.next()?;
            let inner = match layout {
                Layout::Block(column) => Some(column),
                Layout::Flow | Layout::Odd => None,
            };
            let (value, read) = self.node(event, &value_at, inner)?;
            if merge {
                merged.extend(self.merges(read, &value_at)?);
            } else {
                if !written.insert(name.clone()) {
                    return Err(self.error(&at, format!("the key {name} comes twice: keep one")));
                }
                object.insert(name.clone(), read);
            }
            entries.push(Entry { key: (!merge).then_some(name), at: key_node.start, colon, value });
        }
        for base in merged {
            for (key, value) in base {
                object.entry(key).or_insert(value);
            }
        }
        if !flow {
            node.end = entries.last().map_or(node.end, |entry| entry.value.end.max(entry.colon));
        }
        node.kind = Kind::Map(if odd { Layout::Odd } else { layout }, entries);
        Ok(Value::Object(object))
    }

    /// What `<<` brings: a map, or a list of them, the first the strongest.
    fn merges(&self, value: Value, span: &Span) -> Result<Vec<Object<String, Value>>, Error> {
        let bases = match value {
            Value::Array(items) => items,
            one => vec![one],
        };
        let object = |base| match base {
            Value::Object(object) => Ok(object),
            _ => Err(self.error(span, "<< takes a map or a list of maps")),
        };
        bases.into_iter().map(object).collect()
    }

    fn key(&self, value: Value, span: &Span) -> Result<String, Error> {
        match value {
            Value::String(text) => Ok(text),
            Value::Bool(_) | Value::Number(_) => Ok(value.to_string()),
            Value::Null | Value::Array(_) | Value::Object(_) => {
                Err(self.error(span, hinted(self.text, span.start.line(), "a key must be a text")))
            }
        }
    }
}

/// The parser's words, and what is probably meant where a template was given.
fn hinted(text: &str, line: usize, said: &str) -> String {
    let near = text.lines().skip(line.saturating_sub(2)).take(3);
    if near.into_iter().any(|line| line.contains("{{")) {
        return format!("{said} (a template: render it first, and inject what it makes)");
    }
    said.to_owned()
}
