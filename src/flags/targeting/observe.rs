//! Who may look on while a rule is evaluated. The evaluation of requests has nobody look on, and costs what it would
//! cost without this file: calls to [`Unobserved`] are compiled to nothing.

use super::super::settings::Bucketing;
use super::val::Val;
use super::{Halt, Rule};

/// Told of what an evaluation does, in order.
pub(in crate::flags) trait Observer {
    /// A rule is about to be evaluated.
    fn enter(&self, rule: &Rule);

    /// The rule entered last that has not been left is done.
    fn leave(&self, rule: &Rule, result: &Result<Val<'_>, Halt>);

    /// The rule entered last looked an attribute up; `Undefined` when there is none.
    fn read(&self, data: Data, path: impl FnOnce() -> String, found: &Val<'_>);

    /// A `fractional` put its key into a bucket.
    fn bucketed(&self, told: impl FnOnce() -> Bucketed);
}

/// What a path is looked up in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::flags) enum Data {
    /// All attributes.
    All,
    /// One item of a list, within `map` and its like.
    Item,
}

/// How a key came to its variant.
#[derive(Debug, Clone)]
pub(in crate::flags) struct Bucketed {
    /// How.
    pub(in crate::flags) version: Bucketing,
    /// What was hashed.
    pub(in crate::flags) input: serde_json::Value,
    /// The targeting key, if it was hashed together with the flag's key.
    pub(in crate::flags) targeting_key: Option<String>,
    /// The hash.
    pub(in crate::flags) hash: u32,
    /// The bucket: of v2 and v3 a whole number below the total weight, of v1 a percentage.
    pub(in crate::flags) bucket: f64,
    /// Where on the line from 0 to 1 the key falls.
    pub(in crate::flags) position: f64,
    /// Which of the shares it fell into.
    pub(in crate::flags) chosen: Option<usize>,
    /// The sum of the weights.
    pub(in crate::flags) total: i64,
    /// Each variant with its weight.
    pub(in crate::flags) shares: Vec<(serde_json::Value, i64)>,
}

/// Nobody looks on.
#[derive(Debug, Clone, Copy)]
pub(in crate::flags) struct Unobserved;

impl Observer for Unobserved {
    #[inline(always)]
    fn enter(&self, _: &Rule) {}

    #[inline(always)]
    fn leave(&self, _: &Rule, _: &Result<Val<'_>, Halt>) {}

    #[inline(always)]
    fn read(&self, _: Data, _: impl FnOnce() -> String, _: &Val<'_>) {}

    #[inline(always)]
    fn bucketed(&self, _: impl FnOnce() -> Bucketed) {}
}
