//! Targeting rules: JSONLogic as json-logic-js 2.0.5 defines it, with flagd's operators, compiled to a tree and
//! interpreted over a borrowed context. Pure: no IO, no clock.

mod cbor;
mod coerce;
mod fractional;
mod interpret;
#[cfg(test)]
mod laws;
mod lists;
mod observe;
mod operators;
mod path;
mod semver;
#[cfg(test)]
mod spreading;
#[cfg(test)]
mod tests;
mod val;
mod walk;

use std::sync::Arc;

use super::context::Value;
pub(super) use fractional::{Buckets, Key, MAX_TOTAL, Shares, share};
pub(super) use interpret::{Halt, Root, Scope};
pub(super) use observe::{Bucketed, Data, Observer, Unobserved};
pub(super) use operators::variant_name;
pub(super) use path::Path;
pub(super) use semver::sound as sound_version;
pub(super) use val::Val;

/// Up to so many texts a scan is as fast as a search, and leaves them as their author wrote them.
pub(super) const SCANNED: usize = 8;

/// A compiled rule. Paths are split and constants typed when it is compiled, not when it is evaluated.
#[derive(Debug)]
pub(super) enum Rule {
    /// An argument that is not there: JavaScript's `undefined`.
    Undefined,
    /// A literal.
    Constant(Value<'static>),
    /// An array of which some items are rules.
    Array(Box<[Rule]>),
    /// `var` with a path known beforehand, and its default.
    Var(Path, Option<Box<Rule>>),
    /// `var` with a computed path, and its default.
    ComputedVar(Box<Rule>, Option<Box<Rule>>),
    /// `missing`
    Missing(Box<[Rule]>),
    /// `missing_some`
    MissingSome(Box<[Rule; 2]>),
    /// `if` and `?:`: conditions and results in turn, an `else` last when their number is odd.
    If(Box<[Rule]>),
    /// `and`
    And(Box<[Rule]>),
    /// `or`
    Or(Box<[Rule]>),
    /// `!`
    Not(Box<Rule>),
    /// `!!`
    Truthy(Box<Rule>),
    /// `==` and `!=`, `===` and `!==`.
    Equality(Equality, Box<[Rule; 2]>),
    /// `<`, `<=`, `>`, `>=` of two arguments.
    Order(Order, Box<[Rule; 2]>),
    /// `<` and `<=` of three.
    Between(Order, Box<[Rule; 3]>),
    /// `in`
    In(Box<[Rule; 2]>),
    /// `in` a literal list of strings; beyond [`SCANNED`] they are sorted.
    InStrings(Box<Rule>, Box<[Box<str>]>),
    /// `+`
    Add(Box<[Rule]>),
    /// `*`
    Multiply(Box<[Rule]>),
    /// `-` of one argument.
    Negate(Box<Rule>),
    /// `-`, `/` and `%` of two.
    Arithmetic(Arithmetic, Box<[Rule; 2]>),
    /// `min` and `max`
    Extreme(Extreme, Box<[Rule]>),
    /// `cat`
    Cat(Box<[Rule]>),
    /// `substr`
    Substr(Box<[Rule; 3]>),
    /// `merge`
    Merge(Box<[Rule]>),
    /// `map`, `filter`, `all`, `some`, `none`: the list, and the rule for each item.
    Each(Each, Box<[Rule; 2]>),
    /// `reduce`: the list, the rule, the initial value.
    Reduce(Box<[Rule; 3]>),
    /// `log`, which gives its argument and prints nothing: a context may hold personal data.
    Log(Box<Rule>),
    /// `fractional`
    Fractional(Box<Buckets>),
    /// `sem_ver`: value, operator, value.
    SemVer(Box<[Rule]>),
    /// `starts_with` and `ends_with`
    Affix(Affix, Box<[Rule]>),
    /// `$ref`: an evaluator that many flags share.
    Shared(Arc<Evaluator>),
}

/// A named rule that flags share.
#[derive(Debug)]
pub(super) struct Evaluator {
    /// What `$ref` calls it.
    pub(super) name: Box<str>,
    pub(super) rule: Rule,
    /// How many levels it has, those of the evaluators it refers to included.
    pub(super) depth: usize,
}

/// Which equality.
#[derive(Debug, Clone, Copy)]
pub(super) enum Equality {
    Loose,
    NotLoose,
    Strict,
    NotStrict,
}

/// Which order.
#[derive(Debug, Clone, Copy)]
pub(super) enum Order {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Which arithmetic of two numbers.
#[derive(Debug, Clone, Copy)]
pub(super) enum Arithmetic {
    Subtract,
    Divide,
    Remainder,
}

/// Which end of the numbers.
#[derive(Debug, Clone, Copy)]
pub(super) enum Extreme {
    Min,
    Max,
}

/// What is done with each item of a list.
#[derive(Debug, Clone, Copy)]
pub(super) enum Each {
    Map,
    Filter,
    All,
    Some,
    None,
}

/// Which end of the text.
#[derive(Debug, Clone, Copy)]
pub(super) enum Affix {
    Start,
    End,
}
