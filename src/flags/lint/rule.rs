//! One rule: what it can come to, and which of its parts cannot matter.

use std::cell::Cell;
use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::super::targeting::{MAX_TOTAL, sound_version};
use super::attributes::Attributes;
use super::{Findings, Level};

/// References followed into one another; compilation refuses cycles, and this is asked before it.
const MAX_DEPTH: usize = 64;

/// Parts of one rule that are looked at, those of evaluators as often as they are referred to; the rest counts as computed.
const MAX_STEPS: usize = 10_000;

/// What a rule can come to.
#[derive(Debug, Default)]
pub(super) struct Outcomes {
    /// Literal names, and where each stands first.
    pub(super) names: BTreeMap<String, String>,
    /// Nothing, so that the default counts.
    pub(super) null: bool,
    /// Something that only an evaluation can tell.
    pub(super) computed: bool,
}

impl Outcomes {
    fn name(name: impl Into<String>, path: &str) -> Self {
        Self { names: BTreeMap::from([(name.into(), path.to_owned())]), ..Self::default() }
    }

    fn null() -> Self {
        Self { null: true, ..Self::default() }
    }

    fn computed() -> Self {
        Self { computed: true, ..Self::default() }
    }

    fn truth(path: &str) -> Self {
        Self::name("true", path).or(Self::name("false", path))
    }

    fn or(mut self, other: Self) -> Self {
        for (name, path) in other.names {
            self.names.entry(name).or_insert(path);
        }
        Self { names: self.names, null: self.null || other.null, computed: self.computed || other.computed }
    }
}

/// Looks at rules and notes what it finds.
pub(super) struct Linter<'l> {
    evaluators: &'l Map<String, Value>,
    findings: &'l mut Findings,
    attributes: &'l mut Attributes,
    used: &'l mut BTreeMap<String, ()>,
    depth: usize,
    steps: Cell<usize>,
}

impl<'l> Linter<'l> {
    pub(super) fn new(
        evaluators: &'l Map<String, Value>,
        findings: &'l mut Findings,
        attributes: &'l mut Attributes,
        used: &'l mut BTreeMap<String, ()>,
    ) -> Self {
        Self { evaluators, findings, attributes, used, depth: 0, steps: Cell::new(0) }
    }

    /// What `rule` can come to.
    pub(super) fn look(&mut self, rule: &Value, path: &str) -> Outcomes {
        self.outcomes(rule, path, &mut Vec::new())
    }

    /// As [`Self::look`], where the conditions in `false_here` are known not to hold.
    fn outcomes<'v>(&mut self, rule: &'v Value, path: &str, false_here: &mut Vec<&'v Value>) -> Outcomes {
        let members = match rule {
            Value::Null => return Outcomes::null(),
            Value::Bool(value) => return Outcomes::name(value.to_string(), path),
            Value::String(text) => return Outcomes::name(text, path),
            Value::Number(number) => {
                // JavaScript writes 1.0 as 1, and large numbers in its own way.
                let whole = number.as_f64().filter(|value| value.fract() == 0.0 && value.abs() < 1e15);
                let name = whole.map_or_else(|| number.to_string(), |value| format!("{value:.0}"));
                return Outcomes::name(name, path);
            }
            Value::Array(items) => {
                for (at, item) in items.iter().enumerate() {
                    self.inside(item, &format!("{path}.{at}"));
                }
                return Outcomes::computed();
            }
            Value::Object(members) => members,
        };
        let Some((operator, arguments)) = members.iter().next().filter(|_| members.len() == 1) else {
            return Outcomes::computed();
        };
        let path = format!("{path}.{operator}");
        let arguments = match arguments {
            Value::Array(items) => items.as_slice(),
            single => std::slice::from_ref(single),
        };
        if self.depth == MAX_DEPTH || self.tired() {
            return Outcomes::computed();
        }
        self.depth += 1;
        let outcomes = self.operator(operator, arguments, &path, false_here);
        self.depth -= 1;
        outcomes
    }

    fn operator<'v>(
        &mut self,
        operator: &str,
        arguments: &'v [Value],
        path: &str,
        false_here: &mut Vec<&'v Value>,
    ) -> Outcomes {
        match operator {
            "if" | "?:" => return self.branches(arguments, path, false_here),
            "fractional" => return self.fractional(arguments, path),
            "$ref" => return self.reference(arguments, path),
            _ => {}
        }
        if operator == "var" {
            self.attributes.read(arguments.first(), path, self.findings);
        }
        for (at, argument) in arguments.iter().enumerate() {
            self.inside(argument, &format!("{path}.{at}"));
        }
        match operator {
            "==" | "===" | "!=" | "!==" | "<" | "<=" | ">" | ">=" | "!" | "!!" | "in" | "all" | "some" | "none" => {
                Outcomes::truth(path)
            }
            "sem_ver" => self.sem_ver(arguments, path).or(Outcomes::truth(path)),
            "starts_with" | "ends_with" => self.affix(operator, arguments, path).or(Outcomes::truth(path)),
            _ => Outcomes::computed(),
        }
    }

    /// Whether it has looked at enough.
    fn tired(&self) -> bool {
        self.steps.set(self.steps.get() + 1);
        self.steps.get() > MAX_STEPS
    }

    /// A part whose own outcome is no variant.
    fn inside(&mut self, rule: &Value, path: &str) {
        if rule.is_object() || rule.is_array() {
            self.look(rule, path);
        }
    }

    fn branches<'v>(&mut self, arguments: &'v [Value], path: &str, false_here: &mut Vec<&'v Value>) -> Outcomes {
        let known = false_here.len();
        let mut outcomes = Outcomes::default();
        let mut decided = false;
        for (n, pair) in arguments.chunks(2).enumerate() {
            let at = format!("{path}.{}", 2 * n);
            if decided {
                self.findings.add(Level::Warning, &at, "is never reached: the condition before it always holds");
                break;
            }
            let [condition, result] = pair else {
                outcomes = outcomes.or(self.outcomes(&pair[0], &at, false_here));
                decided = true;
                continue;
            };
            self.inside(condition, &at);
            let result_at = format!("{path}.{}", 2 * n + 1);
            if false_here.contains(&condition) {
                let text = "is never reached: the same condition stands before it";
                self.findings.add(Level::Warning, &at, text);
                continue;
            }
            match self.holds(condition, 0) {
                Some(false) => {
                    self.findings.add(Level::Warning, &result_at, "is never reached: its condition never holds");
                    continue;
                }
                Some(true) => decided = true,
                None => {}
            }
            // Inside the branch it is the condition's opposite that is not known to fail.
            outcomes = outcomes.or(self.outcomes(result, &result_at, &mut false_here.clone()));
            false_here.push(condition);
        }
        if !decided {
            outcomes = outcomes.or(Outcomes::null());
        }
        false_here.truncate(known);
        outcomes
    }

    fn reference(&mut self, arguments: &[Value], path: &str) -> Outcomes {
        let Some(Value::String(name)) = arguments.first() else { return Outcomes::computed() };
        self.used.insert(name.clone(), ());
        let evaluators = self.evaluators;
        match evaluators.get(name) {
            Some(rule) => {
                let mut outcomes = self.outcomes(rule, &format!("$evaluators.{name}"), &mut Vec::new());
                // What is wrong with a name is wrong for the flag that refers to it.
                outcomes.names.values_mut().for_each(|place| path.clone_into(place));
                outcomes
            }
            None => Outcomes::computed(),
        }
    }

    fn fractional(&mut self, arguments: &[Value], path: &str) -> Outcomes {
        // Without a targeting key, or with null for a key, it gives nothing.
        let mut outcomes = Outcomes::null();
        let first_is_key = arguments.first().is_some_and(|first| !first.is_array());
        if first_is_key {
            self.inside(&arguments[0], &format!("{path}.0"));
        }
        let (mut total, mut literal, mut shares) = (0u64, true, Vec::new());
        for (at, bucket) in arguments.iter().enumerate().skip(usize::from(first_is_key)) {
            let at = format!("{path}.{at}");
            let Value::Array(bucket) = bucket else {
                self.inside(bucket, &at);
                outcomes.computed = true;
                literal = false;
                continue;
            };
            let variant = bucket.first().unwrap_or(&Value::Null);
            outcomes = outcomes.or(self.look(variant, &format!("{at}.0")));
            match bucket.get(1) {
                None | Some(Value::Null) => {
                    total += 1;
                    shares.push((variant, 1));
                }
                Some(Value::Number(weight)) => {
                    let value = weight.as_f64().unwrap_or(0.0);
                    let weight_at = format!("{at}.1");
                    if value < 0.0 {
                        self.findings.add(Level::Warning, &weight_at, format!("the weight {weight} counts as 0"));
                    } else if value.fract() != 0.0 {
                        let text = format!("the weight {weight} is not whole: the whole `fractional` gives nothing");
                        self.findings.add(Level::Warning, &weight_at, text);
                        literal = false;
                    }
                    let value = value.clamp(0.0, 1e15) as u64;
                    total = total.saturating_add(value);
                    shares.push((variant, value));
                }
                Some(computed) => {
                    self.inside(computed, &format!("{at}.1"));
                    literal = false;
                }
            }
        }
        if literal {
            self.weights(total, &shares, path);
        }
        outcomes
    }

    fn weights(&mut self, total: u64, shares: &[(&Value, u64)], path: &str) {
        if total == 0 {
            self.findings.add(Level::Warning, path, "its weights add up to 0: it gives nothing");
            return;
        }
        if total > MAX_TOTAL as u64 {
            let text = format!("its weights add up to {total}, more than {MAX_TOTAL}: it gives nothing");
            self.findings.add(Level::Warning, path, text);
            return;
        }
        if let Some((only, _)) = shares.iter().find(|(_, weight)| *weight == total) {
            let name = only.as_str().map_or_else(|| only.to_string(), |name| format!("{name:?}"));
            self.findings.add(
                Level::Hint,
                path,
                format!("{name} has 100 %; who has no targeting key still gets the default"),
            );
        }
        for (n, (variant, _)) in shares.iter().enumerate() {
            if shares[..n].iter().any(|(other, _)| other == variant) {
                self.findings.add(Level::Hint, path, format!("{variant} has more than one share"));
            }
        }
    }

    fn sem_ver(&mut self, arguments: &[Value], path: &str) -> Outcomes {
        let mut unsound = |at: usize, what: String| {
            self.findings.add(Level::Warning, &format!("{path}.{at}"), format!("{what}: `sem_ver` gives nothing"));
        };
        if arguments.len() != 3 {
            unsound(0, format!("{} arguments and not 3", arguments.len()));
        } else {
            for at in [0, 2] {
                if let Value::String(version) = &arguments[at]
                    && !sound_version(version)
                {
                    unsound(at, format!("{version:?} is no version"));
                }
            }
            if let Value::String(operator) = &arguments[1]
                && !["=", "!=", "<", "<=", ">", ">=", "^", "~"].contains(&operator.as_str())
            {
                unsound(1, format!("{operator:?} is no operator of versions"));
            }
        }
        Outcomes::null()
    }

    fn affix(&mut self, operator: &str, arguments: &[Value], path: &str) -> Outcomes {
        if arguments.len() != 2 {
            let text = format!("{} arguments and not 2: `{operator}` gives nothing", arguments.len());
            self.findings.add(Level::Warning, path, text);
        }
        for (at, argument) in arguments.iter().enumerate() {
            if !matches!(argument, Value::String(_) | Value::Object(_)) {
                let text = format!("{argument} is no text: `{operator}` gives nothing");
                self.findings.add(Level::Warning, &format!("{path}.{at}"), text);
            }
        }
        Outcomes::null()
    }

    /// Whether a condition holds for everybody, as far as that can be told without a context.
    fn holds(&self, condition: &Value, depth: usize) -> Option<bool> {
        let members = match condition {
            Value::Null => return Some(false),
            Value::Bool(value) => return Some(*value),
            Value::Number(number) => return Some(number.as_f64() != Some(0.0)),
            Value::String(text) => return Some(!text.is_empty()),
            Value::Array(items) => return Some(!items.is_empty()),
            Value::Object(members) => members,
        };
        if self.tired() {
            return None;
        }
        let (operator, arguments) = members.iter().next().filter(|_| members.len() == 1 && depth < MAX_DEPTH)?;
        let arguments = match arguments {
            Value::Array(items) => items.as_slice(),
            single => std::slice::from_ref(single),
        };
        let mut inner = arguments.iter().map(|argument| self.holds(argument, depth + 1));
        match operator.as_str() {
            "!" => self.holds(arguments.first()?, depth + 1).map(|holds| !holds),
            "!!" => self.holds(arguments.first()?, depth + 1),
            "and" if inner.clone().any(|holds| holds == Some(false)) => Some(false),
            "and" => inner.all(|holds| holds == Some(true)).then_some(true),
            "or" if inner.clone().any(|holds| holds == Some(true)) => Some(true),
            "or" => inner.all(|holds| holds == Some(false)).then_some(false),
            "==" | "===" | "!=" | "!==" => {
                let [Value::String(one), Value::String(other)] = arguments else { return None };
                Some((one == other) == operator.starts_with('='))
            }
            "$ref" => self.holds(self.evaluators.get(arguments.first()?.as_str()?)?, depth + 1),
            _ => None,
        }
    }
}
