//! Flags as header fields: evaluated for each request by what its own fields and cookies say, and told to the app. What a
//! client sends under these names never reaches the app. Which flags there are, it does not know: somebody else evaluates.

mod cookie;
mod text;

use std::fmt;
use std::sync::Arc;

use http::header::{HeaderMap, HeaderName};

pub use self::cookie::is_name as is_cookie_name;
use super::spelling;

/// The most bytes of a value that joins an evaluation's context. A longer one is left out.
const LONGEST: usize = 1024;

/// `proxy[].flag_headers` and `proxy[].flag_context`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// Fields of the request to the app, and the flags whose values they have.
    pub headers: Vec<(HeaderName, String)>,
    /// Attributes of the evaluation's context, and where they are taken from.
    pub context: Vec<(String, Source)>,
}

/// Where in a request an attribute is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `header:NAME`: a field that is there once.
    Header(HeaderName),
    /// `cookie:NAME`.
    Cookie(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
        }
    }
}

/// Evaluates flags.
pub trait Flags: Send + Sync {
    /// Evaluates `flags`, all of one revision, in a context of `attributes`, and gives the place and the value, as JSON,
    /// of each that has one.
    fn evaluate(&self, flags: &[String], attributes: &[(&str, &str)], give: &mut dyn FnMut(usize, &str));

    /// The value that a flag has is longer than `most` bytes, and so has no field.
    fn too_long(&self, flag: &str, most: usize);
}

/// One listener's flags.
pub(super) struct FlagHeaders {
    names: Arc<Names>,
    flags: Vec<String>,
    context: Vec<(String, Source)>,
    evaluator: Arc<dyn Flags>,
}

/// The names that a client may not send.
pub(super) struct Names {
    names: Vec<HeaderName>,
    /// Whether one of them has anything but letters, digits and hyphens.
    odd: bool,
}

impl FlagHeaders {
    /// `None` when the listener has no such flags.
    pub(super) fn new(settings: &Settings, evaluator: Option<&Arc<dyn Flags>>) -> Option<Self> {
        let evaluator = evaluator?.clone();
        let (names, flags): (Vec<_>, Vec<_>) = settings.headers.iter().cloned().unzip();
        let names = Arc::new(Names::new(names));
        (!flags.is_empty()).then(|| Self { names, flags, context: settings.context.clone(), evaluator })
    }

    /// The names that are taken out of a request, head and trailers.
    pub(super) fn names(&self) -> Arc<Names> {
        self.names.clone()
    }

    /// Makes the fields of a request the ones that these flags say.
    pub(super) fn set(&self, headers: &mut HeaderMap) {
        self.names.strip(headers);
        let mut values = Vec::new();
        {
            let attributes = self.context.iter();
            let attributes: Vec<(&str, &str)> =
                attributes.filter_map(|(name, source)| Some((name.as_str(), source.read(headers)?))).collect();
            self.evaluator.evaluate(&self.flags, &attributes, &mut |place, json| {
                let (Some(name), Some(flag)) = (self.names.names.get(place), self.flags.get(place)) else { return };
                match text::field(json) {
                    Some(value) => values.push((name.clone(), value)),
                    None => self.evaluator.too_long(flag, text::LONGEST),
                }
            });
        }
        for (name, value) in values {
            headers.insert(name, value);
        }
    }
}

impl Source {
    fn read<'h>(&self, headers: &'h HeaderMap) -> Option<&'h str> {
        let value = match self {
            Self::Header(name) => {
                let mut fields = headers.get_all(name).iter();
                match (fields.next(), fields.next()) {
                    // Of several nobody can tell which one was meant; of what is no text, what.
                    (Some(only), None) => std::str::from_utf8(only.as_bytes()).ok(),
                    _ => None,
                }
            }
            Self::Cookie(name) => cookie::get(headers, name),
        };
        value.filter(|value| value.len() <= LONGEST)
    }
}

impl Names {
    fn new(names: Vec<HeaderName>) -> Self {
        Self { odd: names.iter().any(is_odd), names }
    }

    /// Takes the names out, and every other spelling that an app may take for them.
    pub(super) fn strip(&self, headers: &mut HeaderMap) {
        for name in &self.names {
            headers.remove(name);
        }
        let spelt = |name: &&HeaderName| (self.odd || is_odd(name)) && self.names.iter().any(|known| same(name, known));
        let spelt: Vec<HeaderName> = headers.keys().filter(spelt).cloned().collect();
        for name in spelt {
            headers.remove(name);
        }
    }
}

fn is_odd(name: &HeaderName) -> bool {
    spelling::is_odd(name.as_str().as_bytes())
}

/// Whether an app may take one name for the other.
pub fn same(one: &HeaderName, other: &HeaderName) -> bool {
    spelling::is_same(one.as_str().as_bytes(), other.as_str().as_bytes())
}

#[cfg(test)]
mod tests;
