//! Where something stands in a document: put into words only when something is wrong there, for most of a document is
//! sound, and thousands of flags are compiled at once.

use std::fmt;

/// A place, by the way to it.
#[derive(Clone, Copy)]
pub(super) struct Trail<'t> {
    before: Option<&'t Trail<'t>>,
    step: Step<'t>,
}

#[derive(Clone, Copy)]
enum Step<'t> {
    Name(&'t str),
    Item(usize),
}

impl<'t> Trail<'t> {
    /// Where a way begins; the name may be empty.
    pub(super) fn root(name: &'t str) -> Self {
        Self { before: None, step: Step::Name(name) }
    }

    /// The member of this name.
    pub(super) fn name(&'t self, name: &'t str) -> Self {
        Self { before: Some(self), step: Step::Name(name) }
    }

    /// The item at this place, from 0.
    pub(super) fn item(&'t self, at: usize) -> Self {
        Self { before: Some(self), step: Step::Item(at) }
    }
}

impl fmt::Display for Trail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As long as a document is deep, which the compiler bounds.
        if let Some(before) = self.before {
            write!(f, "{before}.")?;
        }
        match self.step {
            Step::Name(name) => f.write_str(name),
            Step::Item(at) => write!(f, "{at}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trail_reads_as_the_path() {
        let root = Trail::root("flags");
        let flag = root.name("search");
        let rules = flag.name("targeting");
        assert_eq!(rules.name("if").item(2).name("var").to_string(), "flags.search.targeting.if.2.var");
        assert_eq!(root.to_string(), "flags");
    }
}
