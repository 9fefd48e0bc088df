//! Where in a text each member of a document stands, so that what is wrong with its meaning has a line and a column too.

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

use super::super::compile::{Format, Place, YAML_NODES};

/// Deeper than anything that compiles.
const MAX_DEPTH: usize = 256;

/// The places of a document's members.
#[derive(Debug, Clone)]
pub struct Places {
    root: Spot,
}

/// A value: where it stands (a member of an object where its name does), and what it holds by name or number.
#[derive(Debug, Clone)]
struct Spot {
    at: Place,
    inner: Vec<(String, Spot)>,
}

impl Places {
    /// Reads a text that is sound; of one that is not, what comes before the fault.
    pub fn of(text: &str, format: Format) -> Self {
        let root = match format {
            Format::Json => Scanner::new(text).value(0),
            Format::Yaml => {
                let options = serde_saphyr::options! {
                    strict_booleans: true,
                    leading_zero_numbers_as_strings: true,
                    with_snippet: false,
                    budget: serde_saphyr::budget! { max_depth: MAX_DEPTH / 4, max_nodes: YAML_NODES, max_events: 2 * YAML_NODES },
                };
                serde_saphyr::from_str_with_options::<Spanned<Yaml>>(text, options).map_or_else(
                    |_| Spot { at: START, inner: Vec::new() },
                    |root| spot(place(&root.referenced), root.value),
                )
            }
        };
        Self { root }
    }

    /// The place of `flags.search.variants`, or of what it would stand in. Names may hold dots; the longest way counts.
    pub fn find(&self, path: &str) -> Place {
        self.root.find(path).1
    }
}

const START: Place = Place { line: 1, column: 1 };

impl Spot {
    /// How much of `path` leads somewhere, and where.
    fn find(&self, path: &str) -> (usize, Place) {
        let mut best = (0, self.at);
        for (name, spot) in &self.inner {
            let Some(rest) = path.strip_prefix(name.as_str()) else { continue };
            let (rest, taken) = match rest.strip_prefix('.') {
                Some(rest) => (rest, name.len() + 1),
                None if rest.is_empty() => (rest, name.len()),
                None => continue,
            };
            let (further, at) = spot.find(rest);
            // An empty name leads nowhere that its parent does not.
            if taken + further > best.0 {
                best = (taken + further, at);
            }
        }
        best
    }
}

/// A JSON text, read for its places alone. Columns are characters.
struct Scanner<'t> {
    text: &'t str,
    at: usize,
    line: u64,
    /// Where the line begins, and how many bytes up to `counted` are not the first of a character.
    line_start: usize,
    counted: usize,
    inside: u64,
}

impl<'t> Scanner<'t> {
    fn new(text: &'t str) -> Self {
        Self { text, at: 0, line: 1, line_start: 0, counted: 0, inside: 0 }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn step(&mut self) {
        if self.peek() == Some(b'\n') {
            self.line += 1;
            self.line_start = self.at + 1;
            (self.counted, self.inside) = (self.at + 1, 0);
        }
        self.at += 1;
    }

    fn blank(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.step();
        }
    }

    fn place(&mut self) -> Place {
        let bytes = &self.text.as_bytes()[self.counted..self.at];
        self.inside += bytes.iter().filter(|byte| **byte & 0xC0 == 0x80).count() as u64;
        self.counted = self.at;
        Place { line: self.line, column: (self.at - self.line_start) as u64 - self.inside + 1 }
    }

    fn value(&mut self, depth: usize) -> Spot {
        self.blank();
        let mut spot = Spot { at: self.place(), inner: Vec::new() };
        match self.peek() {
            Some(b'{') if depth < MAX_DEPTH => {
                self.step();
                loop {
                    self.blank();
                    let at = self.place();
                    let Some(name) = self.string() else { break };
                    self.blank();
                    if self.peek() != Some(b':') {
                        break;
                    }
                    self.step();
                    let value = self.value(depth + 1);
                    spot.inner.push((name, Spot { at, inner: value.inner }));
                    self.blank();
                    if self.peek() != Some(b',') {
                        break;
                    }
                    self.step();
                }
                self.close(b'}');
            }
            Some(b'[') if depth < MAX_DEPTH => {
                self.step();
                self.blank();
                while !matches!(self.peek(), None | Some(b']')) {
                    let value = self.value(depth + 1);
                    spot.inner.push((spot.inner.len().to_string(), value));
                    self.blank();
                    if self.peek() != Some(b',') {
                        break;
                    }
                    self.step();
                }
                self.close(b']');
            }
            Some(b'"') => drop(self.string()),
            _ => {
                while !matches!(self.peek(), None | Some(b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n')) {
                    self.step();
                }
            }
        }
        spot
    }

    fn close(&mut self, sign: u8) {
        self.blank();
        if self.peek() == Some(sign) {
            self.step();
        }
    }

    /// A string, its escapes undone.
    fn string(&mut self) -> Option<String> {
        if self.peek() != Some(b'"') {
            return None;
        }
        let start = self.at;
        self.step();
        loop {
            match self.peek()? {
                b'\\' => {
                    self.step();
                    self.peek()?;
                    self.step();
                }
                b'"' => {
                    self.step();
                    return serde_json::from_str(self.text.get(start..self.at)?).ok();
                }
                _ => self.step(),
            }
        }
    }
}

/// A YAML value with the places of what it holds.
enum Yaml {
    Scalar,
    List(Vec<Spanned<Yaml>>),
    Map(Vec<(Spanned<String>, Spanned<Yaml>)>),
}

fn place(location: &Location) -> Place {
    Place { line: location.line().max(1), column: location.column().max(1) }
}

fn spot(at: Place, value: Yaml) -> Spot {
    let inner = match value {
        Yaml::Scalar => Vec::new(),
        Yaml::List(items) => {
            let items = items.into_iter().enumerate();
            items.map(|(n, item)| (n.to_string(), spot(place(&item.referenced), item.value))).collect()
        }
        Yaml::Map(members) => {
            members.into_iter().map(|(name, value)| (name.value, spot(place(&name.referenced), value.value))).collect()
        }
    };
    Spot { at, inner }
}

impl<'de> Deserialize<'de> for Yaml {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Yaml;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a value")
            }

            fn visit_unit<E: de::Error>(self) -> Result<Yaml, E> {
                Ok(Yaml::Scalar)
            }

            fn visit_none<E: de::Error>(self) -> Result<Yaml, E> {
                Ok(Yaml::Scalar)
            }

            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Yaml, D::Error> {
                Deserialize::deserialize(deserializer)
            }

            fn visit_bool<E: de::Error>(self, _: bool) -> Result<Yaml, E> {
                Ok(Yaml::Scalar)
            }

            fn visit_i64<E: de::Error>(self, _: i64) -> Result<Yaml, E> {
                Ok(Yaml::Scalar)
            }

            fn visit_u64<E: de::Error>(self, _: u64) -> Result<Yaml, E> {
                Ok(Yaml::Scalar)
            }

            fn visit_f64<E: de::Error>(self, _: f64) -> Result<Yaml, E> {
                Ok(Yaml::Scalar)
            }

            fn visit_str<E: de::Error>(self, _: &str) -> Result<Yaml, E> {
                Ok(Yaml::Scalar)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Yaml, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Yaml::List(items))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Yaml, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Yaml::Map(members))
            }
        }

        deserializer.deserialize_any(Any)
    }
}
