//! Compiled rules back as JSONLogic text. What the compiler leaves away, because nothing ever looks at it, is not
//! there: surplus operands, and whether `?:` was written for `if`.

use std::fmt::{self, Write};

use super::super::context::Value;
use super::super::model::json_string;
use super::super::targeting::{
    Affix, Arithmetic, Buckets, Each, Equality, Extreme, Key, Order, Path, Rule, Shares, Val,
};

/// How many bytes of a rule are shown.
const SHOWN: usize = 1000;

/// The text of `rule`, cut off with `…` where it is very long.
pub(super) fn text(rule: &Rule) -> String {
    let mut out = Bounded(String::new());
    if write(rule, &mut out).is_err() {
        out.0.push('…');
    }
    out.0
}

/// The operator's name; that of what is none is empty.
pub(super) fn operator(rule: &Rule) -> &'static str {
    match rule {
        Rule::Undefined | Rule::Constant(_) | Rule::Array(_) => "",
        Rule::Var(..) | Rule::ComputedVar(..) => "var",
        Rule::Missing(_) => "missing",
        Rule::MissingSome(_) => "missing_some",
        Rule::If(_) => "if",
        Rule::And(_) => "and",
        Rule::Or(_) => "or",
        Rule::Not(_) => "!",
        Rule::Truthy(_) => "!!",
        Rule::Equality(Equality::Loose, _) => "==",
        Rule::Equality(Equality::NotLoose, _) => "!=",
        Rule::Equality(Equality::Strict, _) => "===",
        Rule::Equality(Equality::NotStrict, _) => "!==",
        Rule::Order(order, _) | Rule::Between(order, _) => match order {
            Order::Less => "<",
            Order::LessOrEqual => "<=",
            Order::Greater => ">",
            Order::GreaterOrEqual => ">=",
        },
        Rule::In(_) | Rule::InStrings(..) => "in",
        Rule::Add(_) => "+",
        Rule::Multiply(_) => "*",
        Rule::Negate(_) | Rule::Arithmetic(Arithmetic::Subtract, _) => "-",
        Rule::Arithmetic(Arithmetic::Divide, _) => "/",
        Rule::Arithmetic(Arithmetic::Remainder, _) => "%",
        Rule::Extreme(Extreme::Min, _) => "min",
        Rule::Extreme(Extreme::Max, _) => "max",
        Rule::Cat(_) => "cat",
        Rule::Substr(_) => "substr",
        Rule::Merge(_) => "merge",
        Rule::Each(each, _) => match each {
            Each::Map => "map",
            Each::Filter => "filter",
            Each::All => "all",
            Each::Some => "some",
            Each::None => "none",
        },
        Rule::Reduce(_) => "reduce",
        Rule::Log(_) => "log",
        Rule::Fractional(_) => "fractional",
        Rule::SemVer(_) => "sem_ver",
        Rule::Affix(Affix::Start, _) => "starts_with",
        Rule::Affix(Affix::End, _) => "ends_with",
        Rule::Shared(_) => "$ref",
    }
}

/// A text that takes no more than [`SHOWN`] bytes.
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > SHOWN {
            let left = text.char_indices().map(|(at, _)| at).take_while(|at| self.0.len() + at <= SHOWN).last();
            self.0.push_str(&text[..left.unwrap_or(0)]);
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

fn write(rule: &Rule, out: &mut Bounded) -> fmt::Result {
    match rule {
        Rule::Undefined => out.write_str("null"),
        Rule::Constant(value) => write_value(value, out),
        Rule::Array(rules) => list(rules.iter(), out),
        Rule::Var(path, default) => call(rule, out, |out| match default {
            None => write_path(path, out),
            Some(default) => {
                out.write_char('[')?;
                write_path(path, out)?;
                out.write_char(',')?;
                write(default, out)?;
                out.write_char(']')
            }
        }),
        Rule::ComputedVar(path, default) => {
            let operands = std::iter::once(&**path).chain(default.as_deref());
            call(rule, out, |out| list(operands, out))
        }
        Rule::Not(operand) | Rule::Truthy(operand) | Rule::Negate(operand) | Rule::Log(operand) => {
            call(rule, out, |out| list([&**operand], out))
        }
        Rule::Missing(rules)
        | Rule::If(rules)
        | Rule::And(rules)
        | Rule::Or(rules)
        | Rule::Add(rules)
        | Rule::Multiply(rules)
        | Rule::Extreme(_, rules)
        | Rule::Cat(rules)
        | Rule::Merge(rules)
        | Rule::SemVer(rules)
        | Rule::Affix(_, rules) => call(rule, out, |out| list(rules.iter(), out)),
        Rule::MissingSome(pair)
        | Rule::Equality(_, pair)
        | Rule::Order(_, pair)
        | Rule::In(pair)
        | Rule::Arithmetic(_, pair)
        | Rule::Each(_, pair) => call(rule, out, |out| list(given(&pair[..]), out)),
        Rule::Between(_, three) | Rule::Substr(three) | Rule::Reduce(three) => {
            call(rule, out, |out| list(given(&three[..]), out))
        }
        Rule::InStrings(needle, texts) => call(rule, out, |out| {
            out.write_char('[')?;
            write(needle, out)?;
            out.write_str(",[")?;
            for (at, text) in texts.iter().enumerate() {
                separate(at, out)?;
                out.write_str(&json_string(text))?;
            }
            out.write_str("]]")
        }),
        Rule::Fractional(buckets) => call(rule, out, |out| write_buckets(buckets, out)),
        Rule::Shared(evaluator) => call(rule, out, |out| out.write_str(&json_string(&evaluator.name))),
    }
}

/// `{"operator":` operands `}`
fn call(rule: &Rule, out: &mut Bounded, operands: impl FnOnce(&mut Bounded) -> fmt::Result) -> fmt::Result {
    write!(out, "{{\"{}\":", operator(rule))?;
    operands(out)?;
    out.write_char('}')
}

fn list<'r>(rules: impl IntoIterator<Item = &'r Rule>, out: &mut Bounded) -> fmt::Result {
    out.write_char('[')?;
    for (at, rule) in rules.into_iter().enumerate() {
        separate(at, out)?;
        write(rule, out)?;
    }
    out.write_char(']')
}

/// The operands up to the last that was given.
fn given(rules: &[Rule]) -> impl Iterator<Item = &Rule> {
    let count = rules.iter().rposition(|rule| !matches!(rule, Rule::Undefined)).map_or(0, |last| last + 1);
    rules.iter().take(count)
}

fn separate(at: usize, out: &mut Bounded) -> fmt::Result {
    if at > 0 { out.write_char(',') } else { Ok(()) }
}

fn write_path(path: &Path, out: &mut Bounded) -> fmt::Result {
    out.write_str(&json_string(&path.to_string()))
}

fn write_buckets(buckets: &Buckets, out: &mut Bounded) -> fmt::Result {
    out.write_char('[')?;
    let mut at = 0;
    if let Key::Computed(key) = &buckets.key {
        write(key, out)?;
        at = 1;
    }
    match &buckets.shares {
        Shares::Fixed { ends, .. } => {
            let mut before = 0;
            for (end, variant) in ends {
                separate(at, out)?;
                out.write_char('[')?;
                write_value(variant, out)?;
                write!(out, ",{}]", end - before)?;
                (before, at) = (*end, at + 1);
            }
        }
        Shares::Computed(rules) => {
            for rule in rules {
                separate(at, out)?;
                write(rule, out)?;
                at += 1;
            }
        }
    }
    out.write_char(']')
}

fn write_value(value: &Value<'_>, out: &mut Bounded) -> fmt::Result {
    match value {
        Value::Array(items) => {
            out.write_char('[')?;
            for (at, item) in items.iter().enumerate() {
                separate(at, out)?;
                write_value(item, out)?;
            }
            out.write_char(']')
        }
        Value::Object(fields) => {
            out.write_char('{')?;
            for (at, (name, value)) in fields.iter().enumerate() {
                separate(at, out)?;
                write!(out, "{}:", json_string(name))?;
                write_value(value, out)?;
            }
            out.write_char('}')
        }
        Value::String(text) => out.write_str(&json_string(text)),
        scalar => write!(out, "{}", Val::from(scalar).to_json()),
    }
}
