//! Looks on while a rule is evaluated and keeps what it saw, as a tree of steps. How much it keeps is bounded.

use std::cell::RefCell;

use serde::Serialize;
use serde_json::Value as Json;

use super::super::targeting::{Bucketed, Data, Halt, Observer, Rule, Val};
use super::bands::Bucketing;
use super::{logic, words};

/// Steps that are kept; a rule over a long list takes as many as the list has items.
const MOST: usize = 500;

/// One operator of a rule, as it was evaluated.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    /// Its name: `if`, `in`, `fractional`, `$ref`.
    pub operator: &'static str,
    /// The step in plain words.
    pub says: String,
    /// The operator with its operands as JSONLogic text, cut off with `…` where it is very long.
    pub logic: String,
    /// What it gave; absent when the evaluation halted within it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<Json>,
    /// Why the evaluation halted here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The attributes it looked at itself.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reads: Vec<Read>,
    /// How `fractional` chose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bucketing: Option<Bucketing>,
    /// The operators among its operands, in the order in which they were evaluated.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
}

/// An attribute that was looked up.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Read {
    /// Its path: `user.plan`. Empty for all of the data.
    pub attribute: String,
    /// Whether the path is one into the item of a list, within `map` and its like, and not into all attributes.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub of_item: bool,
    /// Whether there is no such attribute.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub missing: bool,
    /// Its value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Json>,
}

/// An operand of a step, evaluated.
pub(super) struct Operand {
    pub(super) what: What,
    pub(super) value: Json,
    pub(super) truthy: bool,
}

/// Where an operand came from.
pub(super) enum What {
    /// It is a literal.
    Literal,
    /// It is an attribute, or the default that stands in for a missing one.
    Attribute(Read),
    /// An operator gave it.
    Step(Box<Step>),
    /// It was not kept.
    Unkept,
}

/// A rule that is being evaluated.
#[derive(Default)]
struct Frame {
    operands: Vec<Operand>,
    reads: Vec<Read>,
    bucketing: Option<Bucketing>,
}

/// What was seen so far.
#[derive(Default)]
struct Seen {
    frames: Vec<Frame>,
    kept: usize,
    unkept: usize,
    /// How many rules within one that is not kept are being evaluated, it included.
    skipping: usize,
    root: Option<Operand>,
}

/// Keeps what it sees.
#[derive(Default)]
pub(super) struct Recorder(RefCell<Seen>);

impl Recorder {
    /// The tree of steps, and how many were not kept.
    pub(super) fn finish(self) -> (Option<Step>, usize) {
        let seen = self.0.into_inner();
        let root = match seen.root {
            Some(Operand { what: What::Step(step), .. }) => Some(*step),
            Some(Operand { what: What::Attribute(read), value, .. }) => Some(words::attribute(read, value)),
            _ => None,
        };
        (root, seen.unkept)
    }
}

impl Observer for &Recorder {
    fn enter(&self, _: &Rule) {
        let mut seen = self.0.borrow_mut();
        if seen.skipping > 0 || seen.kept == MOST {
            seen.skipping += 1;
            seen.unkept += 1;
            return;
        }
        seen.kept += 1;
        seen.frames.push(Frame::default());
    }

    fn leave(&self, rule: &Rule, result: &Result<Val<'_>, Halt>) {
        let mut seen = self.0.borrow_mut();
        let value = result.as_ref().map_or(Json::Null, Val::to_json);
        let truthy = result.as_ref().is_ok_and(Val::truthy);
        let what = if seen.skipping > 0 {
            seen.skipping -= 1;
            What::Unkept
        } else {
            let frame = seen.frames.pop().unwrap_or_default();
            frame.done(rule, result, &value)
        };
        let operand = Operand { what, value, truthy };
        if seen.skipping > 0 {
            // The rule around it is not kept either.
            return;
        }
        match seen.frames.last_mut() {
            Some(parent) => parent.operands.push(operand),
            None => seen.root = Some(operand),
        }
    }

    fn read(&self, data: Data, path: impl FnOnce() -> String, found: &Val<'_>) {
        let mut seen = self.0.borrow_mut();
        if seen.skipping > 0 {
            return;
        }
        let Some(frame) = seen.frames.last_mut().filter(|frame| frame.reads.len() < MOST) else { return };
        let missing = matches!(found, Val::Undefined);
        let value = (!missing).then(|| found.to_json());
        frame.reads.push(Read { attribute: path(), of_item: data == Data::Item, missing, value });
    }

    fn bucketed(&self, told: impl FnOnce() -> Bucketed) {
        let mut seen = self.0.borrow_mut();
        if seen.skipping > 0 {
            return;
        }
        if let Some(frame) = seen.frames.last_mut() {
            frame.bucketing = Some(Bucketing::new(told()));
        }
    }
}

impl Frame {
    fn done(mut self, rule: &Rule, result: &Result<Val<'_>, Halt>, value: &Json) -> What {
        match rule {
            Rule::Undefined | Rule::Constant(_) => return What::Literal,
            // A default that is an operator is worth a step of its own.
            Rule::Var(..) if self.operands.iter().all(|operand| matches!(operand.what, What::Literal)) => {
                if let Some(read) = self.reads.pop() {
                    return What::Attribute(read);
                }
            }
            _ => {}
        }
        let says = words::sentence(rule, &self.operands, result.as_ref().ok().map(|_| value), self.bucketing.as_ref());
        let mut reads = self.reads;
        let mut steps = Vec::new();
        let conditions = words::conditions(rule, &self.operands);
        for (at, operand) in self.operands.into_iter().enumerate() {
            match operand.what {
                What::Step(step) => steps.push(*step),
                // What stands alone as a condition has no sentence that tells of it.
                What::Attribute(_) if at < conditions => steps.push(words::condition(operand)),
                What::Attribute(read) => reads.push(read),
                What::Literal | What::Unkept => {}
            }
        }
        What::Step(Box::new(Step {
            operator: logic::operator(rule),
            says,
            logic: logic::text(rule),
            result: result.is_ok().then(|| value.clone()),
            error: result.as_ref().err().map(Halt::to_string),
            reads,
            bucketing: self.bucketing,
            steps,
        }))
    }
}
