//! A head that goes on as it came: its fields become lines of the next head as soon as they are read, without a map
//! between, which costs more than all the rest of the path. Only where a look at each field by itself is enough; what
//! names others, comes twice, or is to be replaced takes the way through the map, which alone decides what is refused.
//! Pure.

mod answer;
mod request;

pub use answer::{Answer, Status};
pub use request::Request;

/// What heads are read into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A map of fields: somebody looks into it.
    Map,
    /// Lines, where they can be.
    Lines,
}

/// What `Connection` says that names no field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Persistence {
    closes: bool,
    keeps: bool,
}

impl Persistence {
    /// Takes note of one field; `None` when it says anything else.
    fn note(&mut self, value: &[u8]) -> Option<()> {
        match () {
            () if value.eq_ignore_ascii_case(b"close") => self.closes = true,
            () if value.eq_ignore_ascii_case(b"keep-alive") => self.keeps = true,
            () => return None,
        }
        Some(())
    }
}

/// The longest name that is looked at; what is longer is for the map to judge.
const LONGEST: usize = 256;

/// Begins a line with a name in lower case, as the map has it. Tells where it begins.
fn begin(name: &str, text: &mut Vec<u8>) -> usize {
    let from = text.len();
    text.extend_from_slice(name.as_bytes());
    text[from..].make_ascii_lowercase();
    from
}

/// Ends a line.
fn end(value: &[u8], text: &mut Vec<u8>) {
    text.extend_from_slice(b": ");
    text.extend_from_slice(value);
    text.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests;
