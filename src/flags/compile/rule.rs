//! Targeting rules: from the document's tree to what is evaluated, paths split and constants typed.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::context::{Object, Value};
use super::super::model::Evaluators;
use super::super::targeting::{
    Affix, Arithmetic, Buckets, Each, Equality, Evaluator, Extreme, Key, MAX_TOTAL, Order, Path, Rule, SCANNED, Shares,
    Val, share,
};
use super::node::Node;
use super::trail::Trail;
use super::{MAX_DEPTH, Problems};

/// The operators, for suggestions.
const OPERATORS: [&str; 40] = [
    "var",
    "missing",
    "missing_some",
    "if",
    "?:",
    "and",
    "or",
    "!",
    "!!",
    "==",
    "===",
    "!=",
    "!==",
    "<",
    "<=",
    ">",
    ">=",
    "in",
    "+",
    "*",
    "-",
    "/",
    "%",
    "min",
    "max",
    "cat",
    "substr",
    "merge",
    "map",
    "filter",
    "all",
    "some",
    "none",
    "reduce",
    "log",
    "fractional",
    "sem_ver",
    "starts_with",
    "ends_with",
    "$ref",
];

/// Compiles `targeting`; none when it is `{}` or null, or has a problem.
pub(super) fn targeting(
    node: &Node,
    evaluators: &Evaluators,
    path: &Trail<'_>,
    problems: &mut Problems,
) -> Option<Rule> {
    match node {
        Node::Null => None,
        Node::Object(fields) if fields.is_empty() => None,
        Node::Object(_) => {
            let mut refs = |name: &str, _: usize, _: &mut Problems| match evaluators.rules.get(name) {
                Some(evaluator) => Ok(Some(evaluator.clone())),
                None => Err(format!("refers to evaluator {name:?}, which does not exist")),
            };
            Compiler::new(&mut refs, 0, problems).whole("", node, path).map(|evaluator| evaluator.rule)
        }
        other => {
            problems.add(path, format_args!("must be an object with one operator, and is {}", other.what()));
            None
        }
    }
}

/// Compiles any rule, for vectors.
#[cfg(test)]
pub(super) fn alone(node: &Node, problems: &mut Problems) -> Option<Evaluator> {
    let mut refs = |_: &str, _: usize, _: &mut Problems| Err("refers to nothing".to_owned());
    Compiler::new(&mut refs, 0, problems).whole("", node, &Trail::root(""))
}

/// Compiles `$evaluators`, each after those it refers to.
pub(super) fn evaluators(node: &Node, path: &Trail<'_>, problems: &mut Problems) -> Evaluators {
    let Node::Object(fields) = node else {
        problems.add(path, format_args!("must be an object of rules by name, and is {}", node.what()));
        return Evaluators::default();
    };
    let nodes = fields.iter().map(|(name, node)| (name.as_str(), node)).collect();
    let mut named = Named { nodes, done: BTreeMap::new(), under_way: Vec::new(), path };
    for (name, _) in fields {
        if name.is_empty() {
            problems.add(path, "an evaluator must have a name");
        }
        // Its problem, if any, is listed already, at the place itself.
        named.compile(name, 0, problems).ok();
    }
    let rules = named.done.into_iter().filter_map(|(name, rule)| Some((name.into(), rule?))).collect();
    Evaluators { rules, json: Some(node.to_string().into()) }
}

/// Evaluators while they are compiled.
struct Named<'n> {
    nodes: BTreeMap<&'n str, &'n Node>,
    /// Those compiled; `None` for one with problems.
    done: BTreeMap<&'n str, Option<Arc<Evaluator>>>,
    under_way: Vec<&'n str>,
    path: &'n Trail<'n>,
}

impl<'n> Named<'n> {
    /// Compiles an evaluator that is referred to from `level` levels down.
    fn compile(&mut self, name: &str, level: usize, problems: &mut Problems) -> Referred {
        if let Some(evaluator) = self.done.get(name) {
            return Ok(evaluator.clone());
        }
        let Some((&name, &node)) = self.nodes.get_key_value(name) else {
            return Err(format!("refers to evaluator {name:?}, which does not exist"));
        };
        if let Some(from) = self.under_way.iter().position(|other| *other == name) {
            return Err(format!("refers to itself: {} → {name}", self.under_way[from..].join(" → ")));
        }
        self.under_way.push(name);
        let path = self.path.name(name);
        let mut refs = |name: &str, level, problems: &mut Problems| self.compile(name, level, problems);
        let evaluator = Compiler::new(&mut refs, level, problems).whole(name, node, &path).map(Arc::new);
        self.under_way.pop();
        self.done.insert(name, evaluator.clone());
        Ok(evaluator)
    }
}

/// What `$ref` means: the evaluator, `None` if its problems are listed already, or what is wrong with the reference.
type Referred = Result<Option<Arc<Evaluator>>, String>;
type Refs<'r> = dyn FnMut(&str, usize, &mut Problems) -> Referred + 'r;

struct Compiler<'c, 'r> {
    refs: &'c mut Refs<'r>,
    problems: &'c mut Problems,
    start: usize,
    level: usize,
    deepest: usize,
}

impl<'c, 'r> Compiler<'c, 'r> {
    fn new(refs: &'c mut Refs<'r>, level: usize, problems: &'c mut Problems) -> Self {
        Self { refs, problems, start: level, level, deepest: level }
    }

    /// A whole rule, unless it has problems.
    fn whole(&mut self, name: &str, node: &Node, path: &Trail<'_>) -> Option<Evaluator> {
        let before = self.problems.count();
        let rule = self.rule(node, path);
        (self.problems.count() == before).then_some(Evaluator {
            name: name.into(),
            rule,
            depth: self.deepest - self.start,
        })
    }

    /// Goes `levels` down, unless that is too deep. Compilation and evaluation recurse this far and no farther,
    /// references included.
    fn down(&mut self, levels: usize, path: &Trail<'_>) -> bool {
        self.deepest = self.deepest.max(self.level + levels);
        let fits = self.level + levels <= MAX_DEPTH;
        if !fits {
            self.problems.add(path, format_args!("nests deeper than {MAX_DEPTH} levels, evaluators included"));
        }
        fits
    }

    fn rule(&mut self, node: &Node, path: &Trail<'_>) -> Rule {
        if !self.down(1, path) {
            return Rule::Undefined;
        }
        self.level += 1;
        let rule = self.node(node, path);
        self.level -= 1;
        rule
    }

    fn node(&mut self, node: &Node, path: &Trail<'_>) -> Rule {
        match node {
            Node::Array(items) => {
                let rules = self.rules(items, path);
                match constants(rules) {
                    Ok(values) => Rule::Constant(Value::Array(values)),
                    Err(rules) => Rule::Array(rules.into()),
                }
            }
            Node::Object(fields) => match fields.as_slice() {
                [] => Rule::Constant(Value::Object(Object::default())),
                [(operator, arguments)] => self.operator(operator, arguments, &path.name(operator)),
                // json-logic-js takes it for a literal, which no variant can be: a slip of the author's.
                _ => {
                    self.problems.add(path, format_args!("must hold one operator, and holds {}", fields.len()));
                    Rule::Undefined
                }
            },
            scalar => Rule::Constant(scalar_value(scalar)),
        }
    }

    fn rules(&mut self, nodes: &[Node], path: &Trail<'_>) -> Vec<Rule> {
        nodes.iter().enumerate().map(|(at, node)| self.rule(node, &path.item(at))).collect()
    }

    fn operator(&mut self, operator: &str, arguments: &Node, path: &Trail<'_>) -> Rule {
        if operator == "$ref" {
            return self.reference(arguments, path);
        }
        // `{"var": "x"}` is short for `{"var": ["x"]}`.
        let nodes = match arguments {
            Node::Array(items) => items.as_slice(),
            single => std::slice::from_ref(single),
        };
        let rules = self.rules(nodes, path);
        match operator {
            "var" => var(rules),
            "missing" => Rule::Missing(rules.into()),
            "missing_some" => Rule::MissingSome(fixed(rules)),
            "if" | "?:" => Rule::If(rules.into()),
            "and" => Rule::And(rules.into()),
            "or" => Rule::Or(rules.into()),
            "!" => Rule::Not(single(rules)),
            "!!" => Rule::Truthy(single(rules)),
            "==" => Rule::Equality(Equality::Loose, fixed(rules)),
            "!=" => Rule::Equality(Equality::NotLoose, fixed(rules)),
            "===" => Rule::Equality(Equality::Strict, fixed(rules)),
            "!==" => Rule::Equality(Equality::NotStrict, fixed(rules)),
            "<" if rules.len() > 2 => Rule::Between(Order::Less, fixed(rules)),
            "<=" if rules.len() > 2 => Rule::Between(Order::LessOrEqual, fixed(rules)),
            "<" => Rule::Order(Order::Less, fixed(rules)),
            "<=" => Rule::Order(Order::LessOrEqual, fixed(rules)),
            ">" => Rule::Order(Order::Greater, fixed(rules)),
            ">=" => Rule::Order(Order::GreaterOrEqual, fixed(rules)),
            "in" => within(rules),
            "+" => Rule::Add(rules.into()),
            "*" => {
                if rules.is_empty() {
                    self.problems.add(path, "needs at least one operand");
                }
                Rule::Multiply(rules.into())
            }
            "-" if rules.len() < 2 => Rule::Negate(single(rules)),
            "-" => Rule::Arithmetic(Arithmetic::Subtract, fixed(rules)),
            "/" => Rule::Arithmetic(Arithmetic::Divide, fixed(rules)),
            "%" => Rule::Arithmetic(Arithmetic::Remainder, fixed(rules)),
            "min" => Rule::Extreme(Extreme::Min, rules.into()),
            "max" => Rule::Extreme(Extreme::Max, rules.into()),
            "cat" => Rule::Cat(rules.into()),
            "substr" => Rule::Substr(fixed(rules)),
            "merge" => Rule::Merge(rules.into()),
            "map" => Rule::Each(Each::Map, fixed(rules)),
            "filter" => Rule::Each(Each::Filter, fixed(rules)),
            "all" => Rule::Each(Each::All, fixed(rules)),
            "some" => Rule::Each(Each::Some, fixed(rules)),
            "none" => Rule::Each(Each::None, fixed(rules)),
            "reduce" => Rule::Reduce(fixed(rules)),
            "log" => Rule::Log(single(rules)),
            "fractional" => Rule::Fractional(Box::new(fractional(rules))),
            "sem_ver" => Rule::SemVer(rules.into()),
            "starts_with" => Rule::Affix(Affix::Start, rules.into()),
            "ends_with" => Rule::Affix(Affix::End, rules.into()),
            unknown => {
                self.problems.no_operator(path, unknown, &OPERATORS);
                Rule::Undefined
            }
        }
    }

    fn reference(&mut self, name: &Node, path: &Trail<'_>) -> Rule {
        let Node::String(name) = name else {
            self.problems.add(path, format_args!("must be an evaluator's name, and is {}", name.what()));
            return Rule::Undefined;
        };
        match (self.refs)(name, self.level, self.problems) {
            Ok(Some(evaluator)) if self.down(evaluator.depth, path) => Rule::Shared(evaluator),
            Ok(Some(_)) => Rule::Undefined,
            Ok(None) => Rule::Undefined,
            Err(wrong) => {
                self.problems.add(path, wrong);
                Rule::Undefined
            }
        }
    }
}

fn var(rules: Vec<Rule>) -> Rule {
    let mut rules = rules.into_iter();
    let path = rules.next().unwrap_or(Rule::Undefined);
    let default = rules.next().map(Box::new);
    match path {
        Rule::Undefined | Rule::Constant(Value::Null) => Rule::Var(Path::Whole, default),
        Rule::Constant(Value::String(path)) => Rule::Var(Path::new(&path), default),
        Rule::Constant(number @ Value::Number(_)) => Rule::Var(Path::new(&Val::from(&number).to_text()), default),
        path => Rule::ComputedVar(Box::new(path), default),
    }
}

/// The first arguments; what JavaScript finds missing is `undefined`, and it ignores the rest.
fn fixed<const N: usize>(rules: Vec<Rule>) -> Box<[Rule; N]> {
    let mut rules = rules.into_iter();
    Box::new(std::array::from_fn(|_| rules.next().unwrap_or(Rule::Undefined)))
}

fn single(rules: Vec<Rule>) -> Box<Rule> {
    Box::new(rules.into_iter().next().unwrap_or(Rule::Undefined))
}

fn within(rules: Vec<Rule>) -> Rule {
    let [needle, list] = *fixed(rules);
    let items = match list {
        Rule::Constant(Value::Array(items)) if items.iter().all(|item| matches!(item, Value::String(_))) => items,
        list => return Rule::In(Box::new([needle, list])),
    };
    let texts = items.into_iter().filter_map(|item| match item {
        Value::String(text) => Some(text.into_owned().into_boxed_str()),
        _ => None,
    });
    let mut texts: Vec<Box<str>> = texts.collect();
    if texts.len() > SCANNED {
        texts.sort_unstable();
        texts.dedup();
    }
    Rule::InStrings(Box::new(needle), texts.into())
}

fn fractional(mut rules: Vec<Rule>) -> Buckets {
    let literal_bucket = matches!(rules.first(), Some(Rule::Constant(Value::Array(_)) | Rule::Array(_)) | None);
    let key = if literal_bucket { Key::Shorthand } else { Key::Computed(rules.remove(0)) };
    let shares = match shares(&rules) {
        Some(shares) => shares,
        None => Shares::Computed(rules.into()),
    };
    Buckets { key, shares }
}

/// The shares, if all is literal and sound; what is not gives null when it is evaluated, as in flagd.
fn shares(rules: &[Rule]) -> Option<Shares> {
    let mut total = 0;
    let mut ends = Vec::with_capacity(rules.len());
    for rule in rules {
        let Rule::Constant(value @ Value::Array(items)) = rule else { return None };
        let (_, weight) = share(&Val::from(value))?;
        // Version 1 counts a negative weight as what it is.
        if matches!(items.get(1), Some(Value::Number(weight)) if *weight < 0.0) {
            return None;
        }
        total += weight;
        ends.push((total.unsigned_abs(), items.first()?.clone()));
    }
    (1..=MAX_TOTAL).contains(&total).then(|| Shares::Fixed { total: total.unsigned_abs(), ends: ends.into() })
}

/// The values, if all are constant; else the rules as they were.
fn constants(rules: Vec<Rule>) -> Result<Vec<Value<'static>>, Vec<Rule>> {
    if !rules.iter().all(|rule| matches!(rule, Rule::Constant(_))) {
        return Err(rules);
    }
    Ok(rules.into_iter().filter_map(|rule| if let Rule::Constant(value) = rule { Some(value) } else { None }).collect())
}

fn scalar_value(node: &Node) -> Value<'static> {
    match node {
        Node::Bool(bool) => Value::Bool(*bool),
        Node::Integer(number) => Value::Number(*number as f64),
        Node::Natural(number) => Value::Number(*number as f64),
        Node::Float(number) => Value::Number(*number),
        Node::String(text) => Value::String(Cow::Owned(text.clone())),
        Node::Null | Node::Array(_) | Node::Object(_) => Value::Null,
    }
}
