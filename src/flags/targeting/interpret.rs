//! Walks a rule over its data. What a rule may cost is bounded: nesting when it is compiled, work here.

use std::cell::Cell;
use std::rc::Rc;

use super::super::context::{Base, Context};
use super::super::settings::Bucketing;
use super::coerce;
use super::observe::{Data, Observer, Unobserved};
use super::path::{self, Path};
use super::val::{Items, Val};
use super::{Arithmetic, Equality, Extreme, Order, Rule, SCANNED, fractional, lists, operators};

/// Steps one evaluation may take: a few milliseconds of work. A step is a node of the rule, an item of a list or 64
/// bytes of text.
const BUDGET: usize = 100_000;

/// How deep values that a rule makes may nest.
const DEPTH: usize = 64;

/// Why a rule could not be evaluated to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(in crate::flags) enum Halt {
    /// It would cost more than an evaluation may.
    #[error("the targeting rule does too much work on this context")]
    Budget,
    /// An operator has operands with which json-logic-js throws.
    #[error("the targeting rule's {0} cannot work on its operands")]
    Operands(&'static str),
}

/// What an evaluation reads, and what is left of its budget.
#[derive(Debug)]
pub(in crate::flags) struct Root<'v, O = Unobserved> {
    context: &'v Context<'v>,
    base: &'v Base,
    flag_key: &'v str,
    timestamp: u64,
    bucketing: Bucketing,
    left: Cell<usize>,
    observer: O,
}

impl<'v, O: Observer> Root<'v, O> {
    /// `timestamp` in seconds since the epoch, for `$flagd.timestamp`.
    pub(in crate::flags) fn new(
        context: &'v Context<'v>,
        base: &'v Base,
        flag_key: &'v str,
        timestamp: u64,
        bucketing: Bucketing,
        observer: O,
    ) -> Self {
        Self { context, base, flag_key, timestamp, bucketing, left: Cell::new(BUDGET), observer }
    }

    /// How `fractional` spreads keys.
    pub(super) fn bucketing(&self) -> Bucketing {
        self.bucketing
    }

    /// The flag's key.
    pub(super) fn flag_key(&self) -> &'v str {
        self.flag_key
    }

    /// An attribute: the request's own, else the configured one, or `$flagd`, which nobody can set.
    pub(super) fn attribute(&self, name: &str) -> Val<'v> {
        if name == "$flagd" {
            return Val::Flagd;
        }
        self.context.get(name).or_else(|| self.base.get(name)).map_or(Val::Undefined, Val::from)
    }
}

/// The data that `var` sees: all of it, or one item within `map` and its like.
#[derive(Debug)]
pub(in crate::flags) struct Scope<'e, 'v, O = Unobserved> {
    pub(super) root: &'e Root<'v, O>,
    item: Option<&'e Val<'v>>,
}

impl<'e, 'v, O: Observer> Scope<'e, 'v, O> {
    /// All of the data.
    pub(in crate::flags) fn new(root: &'e Root<'v, O>) -> Self {
        Self { root, item: None }
    }

    /// One item of it.
    pub(super) fn of<'i>(&self, item: &'i Val<'v>) -> Scope<'i, 'v, O>
    where
        'e: 'i,
    {
        Scope { root: self.root, item: Some(item) }
    }

    /// Who looks on.
    pub(super) fn observer(&self) -> &O {
        &self.root.observer
    }

    /// What paths are looked up in.
    fn data(&self) -> Data {
        if self.item.is_some() { Data::Item } else { Data::All }
    }

    /// Takes steps from the budget.
    pub(super) fn charge(&self, steps: usize) -> Result<(), Halt> {
        let left = self.root.left.get().checked_sub(steps).ok_or(Halt::Budget)?;
        self.root.left.set(left);
        Ok(())
    }

    /// A list made by a rule.
    pub(super) fn list(&self, items: Vec<Val<'v>>) -> Result<Val<'v>, Halt> {
        self.charge(items.len())?;
        let depth = self.nested(&items)?;
        Ok(Val::Items(Rc::new(Items { items, depth })))
    }

    /// The depth of a value that holds `parts`, if it may be so deep.
    pub(super) fn nested<'p>(&self, parts: impl IntoIterator<Item = &'p Val<'v>>) -> Result<usize, Halt>
    where
        'v: 'p,
    {
        let depth = 1 + parts.into_iter().map(Val::depth).max().unwrap_or(0);
        if depth > DEPTH { Err(Halt::Budget) } else { Ok(depth) }
    }

    /// The value at a path known beforehand, or `Undefined`.
    pub(super) fn lookup(&self, path: &Path) -> Val<'v> {
        let found = match path {
            Path::Whole => self.item.cloned().unwrap_or(Val::Root),
            Path::Names(names) => self.descend(names.iter().map(|name| &**name)),
        };
        self.observer().read(self.data(), || path.to_string(), &found);
        found
    }

    fn descend<'n>(&self, mut names: impl Iterator<Item = &'n str>) -> Val<'v> {
        let mut data = match self.item {
            Some(item) => item.clone(),
            None => names.next().map_or(Val::Root, |name| self.root.attribute(name)),
        };
        for name in names {
            data = self.member(&data, name);
            if matches!(data, Val::Undefined) {
                break;
            }
        }
        data
    }

    fn member(&self, data: &Val<'v>, name: &str) -> Val<'v> {
        match data {
            Val::Undefined | Val::Null | Val::Bool(_) | Val::Number(_) => Val::Undefined,
            Val::Str(text) => path::character(text, name),
            Val::Text(text) => path::character(text, name),
            Val::List(_) | Val::Items(_) => match name {
                "length" => Val::Number(data.list_len().unwrap_or(0) as f64),
                _ => path::index(name).map_or(Val::Undefined, |at| data.item(at)),
            },
            Val::Object(object) => object.get(name).map_or(Val::Undefined, Val::from),
            Val::Root => self.root.attribute(name),
            Val::Flagd => match name {
                "flagKey" => Val::Str(self.root.flag_key),
                "timestamp" => Val::Number(self.root.timestamp as f64),
                _ => Val::Undefined,
            },
            Val::Step(step) => match name {
                "current" => step.current.clone(),
                "accumulator" => step.accumulator.clone(),
                _ => Val::Undefined,
            },
        }
    }

    /// `var` with a computed path.
    pub(super) fn var(&self, at: &Val<'v>) -> Result<Val<'v>, Halt> {
        self.weigh(at)?;
        if matches!(at, Val::Undefined | Val::Null) {
            return Ok(self.lookup(&Path::Whole));
        }
        // Only of texts the empty one means all the data: an empty list asks for the attribute of the empty name.
        if at.as_str() == Some("") {
            return Ok(self.lookup(&Path::Whole));
        }
        let path = coerce::text(at);
        let found = self.descend(path.split('.'));
        self.observer().read(self.data(), || path.into_owned(), &found);
        Ok(found)
    }

    /// Pays for reading all of an operand.
    pub(super) fn weigh(&self, val: &Val<'v>) -> Result<(), Halt> {
        match val {
            Val::Str(text) if text.len() >= 64 => self.charge(text.len() / 64),
            Val::Text(text) if text.len() >= 64 => self.charge(text.len() / 64),
            Val::List(_) | Val::Items(_) => {
                self.charge(val.list_len().unwrap_or(0))?;
                val.items().try_for_each(|item| self.weigh(&item))
            }
            _ => Ok(()),
        }
    }
}

impl Rule {
    /// The rule's value over `scope`. `null` and `undefined` mean that it decides nothing.
    pub(in crate::flags) fn evaluate<'v, O: Observer>(&'v self, scope: &Scope<'_, 'v, O>) -> Result<Val<'v>, Halt> {
        scope.charge(1)?;
        scope.observer().enter(self);
        let result = self.apply(scope);
        scope.observer().leave(self, &result);
        result
    }

    #[inline(always)]
    fn apply<'v, O: Observer>(&'v self, scope: &Scope<'_, 'v, O>) -> Result<Val<'v>, Halt> {
        match self {
            Rule::Undefined => Ok(Val::Undefined),
            Rule::Constant(value) => Ok(Val::from(value)),
            Rule::Array(rules) => scope.list(all(rules, scope)?),
            Rule::Var(path, default) => or_default(scope.lookup(path), default, scope),
            Rule::ComputedVar(path, default) => {
                let path = path.evaluate(scope)?;
                or_default(scope.var(&path)?, default, scope)
            }
            Rule::Missing(rules) => operators::missing(rules, scope),
            Rule::MissingSome(pair) => operators::missing_some(pair, scope),
            Rule::If(rules) => choose(rules, scope),
            Rule::And(rules) => first(rules, scope, |val| !val.truthy()),
            Rule::Or(rules) => first(rules, scope, Val::truthy),
            Rule::Not(rule) => Ok(Val::Bool(!rule.evaluate(scope)?.truthy())),
            Rule::Truthy(rule) => Ok(Val::Bool(rule.evaluate(scope)?.truthy())),
            Rule::Equality(equality, pair) => {
                let [a, b] = operands(pair, scope)?;
                Ok(Val::Bool(match equality {
                    Equality::Loose => coerce::loose_equal(&a, &b),
                    Equality::NotLoose => !coerce::loose_equal(&a, &b),
                    Equality::Strict => coerce::strict_equal(&a, &b),
                    Equality::NotStrict => !coerce::strict_equal(&a, &b),
                }))
            }
            Rule::Order(order, pair) => {
                let [a, b] = operands(pair, scope)?;
                Ok(Val::Bool(order.holds(&a, &b)))
            }
            Rule::Between(order, three) => {
                let [a, b, c] = operands(three, scope)?;
                // json-logic-js takes the form of two when the third is `undefined`.
                let upper = matches!(c, Val::Undefined) || order.holds(&b, &c);
                Ok(Val::Bool(order.holds(&a, &b) && upper))
            }
            Rule::In(pair) => {
                let [needle, hay] = operands(pair, scope)?;
                Ok(Val::Bool(lists::contains(&needle, &hay)))
            }
            Rule::InStrings(rule, texts) => {
                let needle = operand(rule, scope)?;
                let found = |text: &str| match texts.len() {
                    0..=SCANNED => texts.iter().any(|item| **item == *text),
                    _ => texts.binary_search_by(|item| (**item).cmp(text)).is_ok(),
                };
                Ok(Val::Bool(needle.as_str().is_some_and(found)))
            }
            Rule::Add(rules) => {
                let mut sum = 0.0;
                for rule in rules {
                    sum += coerce::parse_float(&operand(rule, scope)?);
                }
                Ok(Val::Number(sum))
            }
            Rule::Multiply(rules) => operators::multiply(rules, scope),
            Rule::Negate(rule) => Ok(Val::Number(-coerce::number(&operand(rule, scope)?))),
            Rule::Arithmetic(arithmetic, pair) => operators::arithmetic(*arithmetic, pair, scope),
            Rule::Extreme(extreme, rules) => {
                let mut result = match extreme {
                    Extreme::Min => f64::INFINITY,
                    Extreme::Max => f64::NEG_INFINITY,
                };
                for rule in rules {
                    let number = coerce::number(&operand(rule, scope)?);
                    result = extreme.of(result, number);
                }
                Ok(Val::Number(result))
            }
            Rule::Cat(rules) => operators::cat(rules, scope),
            Rule::Substr(three) => {
                let [source, start, end] = operands(three, scope)?;
                Ok(operators::substr(&source, &start, &end))
            }
            Rule::Merge(rules) => lists::merge(rules, scope),
            Rule::Each(each, pair) => lists::each(*each, pair, scope),
            Rule::Reduce(three) => lists::reduce(three, scope),
            Rule::Log(rule) => rule.evaluate(scope),
            Rule::Fractional(buckets) => fractional::choose(buckets, scope),
            Rule::SemVer(rules) => operators::sem_ver(rules, scope),
            Rule::Affix(affix, rules) => operators::affix(*affix, rules, scope),
            Rule::Shared(evaluator) => evaluator.rule.evaluate(scope),
        }
    }
}

impl Order {
    fn holds(self, a: &Val<'_>, b: &Val<'_>) -> bool {
        let Some(order) = coerce::order(a, b) else { return false };
        match self {
            Order::Less => order.is_lt(),
            Order::LessOrEqual => order.is_le(),
            Order::Greater => order.is_gt(),
            Order::GreaterOrEqual => order.is_ge(),
        }
    }
}

impl Extreme {
    /// `Math.min` and `Math.max`: one NaN makes the result NaN.
    fn of(self, a: f64, b: f64) -> f64 {
        match self {
            _ if a.is_nan() || b.is_nan() => f64::NAN,
            Extreme::Min => a.min(b),
            Extreme::Max => a.max(b),
        }
    }
}

impl Arithmetic {
    /// Of two numbers; the remainder has the dividend's sign, as in JavaScript.
    pub(super) fn of(self, a: f64, b: f64) -> f64 {
        match self {
            Arithmetic::Subtract => a - b,
            Arithmetic::Divide => a / b,
            Arithmetic::Remainder => a % b,
        }
    }
}

/// The value of an operand, paid for: its operator may read all of it.
pub(super) fn operand<'v>(rule: &'v Rule, scope: &Scope<'_, 'v, impl Observer>) -> Result<Val<'v>, Halt> {
    let val = rule.evaluate(scope)?;
    scope.weigh(&val)?;
    Ok(val)
}

fn operands<'v, const N: usize>(
    rules: &'v [Rule; N],
    scope: &Scope<'_, 'v, impl Observer>,
) -> Result<[Val<'v>; N], Halt> {
    let mut values = [const { Val::Undefined }; N];
    for (value, rule) in values.iter_mut().zip(rules) {
        *value = operand(rule, scope)?;
    }
    Ok(values)
}

/// The values of all rules.
pub(super) fn all<'v>(rules: &'v [Rule], scope: &Scope<'_, 'v, impl Observer>) -> Result<Vec<Val<'v>>, Halt> {
    rules.iter().map(|rule| rule.evaluate(scope)).collect()
}

fn or_default<'v>(
    val: Val<'v>,
    default: &'v Option<Box<Rule>>,
    scope: &Scope<'_, 'v, impl Observer>,
) -> Result<Val<'v>, Halt> {
    match (val, default) {
        (Val::Undefined, Some(default)) => match default.evaluate(scope)? {
            Val::Undefined => Ok(Val::Null),
            default => Ok(default),
        },
        (Val::Undefined, None) => Ok(Val::Null),
        (val, _) => Ok(val),
    }
}

fn choose<'v>(rules: &'v [Rule], scope: &Scope<'_, 'v, impl Observer>) -> Result<Val<'v>, Halt> {
    let (pairs, rest) = rules.as_chunks::<2>();
    for [condition, result] in pairs {
        if condition.evaluate(scope)?.truthy() {
            return result.evaluate(scope);
        }
    }
    rest.first().map_or(Ok(Val::Null), |otherwise| otherwise.evaluate(scope))
}

/// The first value that `ends` the search, else the last.
fn first<'v>(
    rules: &'v [Rule],
    scope: &Scope<'_, 'v, impl Observer>,
    ends: fn(&Val<'v>) -> bool,
) -> Result<Val<'v>, Halt> {
    let mut last = Val::Undefined;
    for rule in rules {
        last = rule.evaluate(scope)?;
        if ends(&last) {
            break;
        }
    }
    Ok(last)
}
