//! The parts of a rule, for whoever looks at rules without evaluating them.

use std::collections::HashSet;
use std::sync::Arc;

use super::{Key, Rule, Shares};

impl Rule {
    /// Calls `see` with this rule and every one within it, each before its operands. A shared rule is seen
    /// once, however often it is referred to.
    pub(in crate::flags) fn walk<'r>(&'r self, see: &mut impl FnMut(&'r Rule)) {
        visit(self, &mut HashSet::new(), see);
    }

    /// The operands, in the order of the rule.
    fn operands(&self) -> Vec<&Rule> {
        match self {
            Rule::Undefined | Rule::Constant(_) | Rule::Shared(_) | Rule::Var(_, None) => Vec::new(),
            Rule::Var(_, Some(rule))
            | Rule::Not(rule)
            | Rule::Truthy(rule)
            | Rule::Negate(rule)
            | Rule::Log(rule)
            | Rule::InStrings(rule, _) => vec![rule],
            Rule::ComputedVar(path, default) => std::iter::once(&**path).chain(default.as_deref()).collect(),
            Rule::Array(rules)
            | Rule::Missing(rules)
            | Rule::If(rules)
            | Rule::And(rules)
            | Rule::Or(rules)
            | Rule::Add(rules)
            | Rule::Multiply(rules)
            | Rule::Extreme(_, rules)
            | Rule::Cat(rules)
            | Rule::Merge(rules)
            | Rule::SemVer(rules)
            | Rule::Affix(_, rules) => rules.iter().collect(),
            Rule::MissingSome(pair)
            | Rule::Equality(_, pair)
            | Rule::Order(_, pair)
            | Rule::In(pair)
            | Rule::Arithmetic(_, pair)
            | Rule::Each(_, pair) => pair.iter().collect(),
            Rule::Between(_, three) | Rule::Substr(three) | Rule::Reduce(three) => three.iter().collect(),
            Rule::Fractional(buckets) => {
                let key = if let Key::Computed(key) = &buckets.key { Some(key) } else { None };
                let shares = if let Shares::Computed(shares) = &buckets.shares { &shares[..] } else { &[] };
                key.into_iter().chain(shares).collect()
            }
        }
    }
}

/// Nesting is bounded when a rule is compiled, references included.
fn visit<'r>(rule: &'r Rule, seen: &mut HashSet<*const Rule>, see: &mut impl FnMut(&'r Rule)) {
    see(rule);
    if let Rule::Shared(evaluator) = rule
        && seen.insert(&raw const Arc::as_ref(evaluator).rule)
    {
        visit(&evaluator.rule, seen, see);
    }
    for operand in rule.operands() {
        visit(operand, seen, see);
    }
}
