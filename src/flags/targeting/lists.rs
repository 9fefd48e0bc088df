//! Operators on lists. Within them `var` sees one item, not the whole of the data.

use std::rc::Rc;

use super::interpret::{Halt, Scope, operand};
use super::observe::Observer;
use super::val::{Step, Val};
use super::{Each, Rule, coerce};

/// `in`: a text within a text, or an item of a list by strict equality.
pub(super) fn contains(needle: &Val<'_>, hay: &Val<'_>) -> bool {
    if let Some(hay) = hay.as_str() {
        // json-logic-js asks for a truthy right side first, and the empty text is not.
        return !hay.is_empty() && hay.contains(&*coerce::text(needle));
    }
    hay.items().any(|item| coerce::strict_equal(&item, needle))
}

/// `merge`: lists joined, what is no list taken as an item.
pub(super) fn merge<'v>(rules: &'v [Rule], scope: &Scope<'_, 'v, impl Observer>) -> Result<Val<'v>, Halt> {
    let mut merged = Vec::new();
    for rule in rules {
        let val = operand(rule, scope)?;
        if val.is_list() {
            merged.extend(val.items());
        } else {
            merged.push(val);
        }
    }
    scope.list(merged)
}

/// `map`, `filter`, `all`, `some`, `none`.
pub(super) fn each<'v>(each: Each, pair: &'v [Rule; 2], scope: &Scope<'_, 'v, impl Observer>) -> Result<Val<'v>, Halt> {
    let [list, rule] = pair;
    let list = list.evaluate(scope)?;
    let mut kept = Vec::new();
    // Of no items, and of what is no list, `all` is false and `none` is true.
    let mut verdict = match each {
        Each::All => list.list_len().is_some_and(|len| len > 0),
        Each::None => true,
        Each::Some | Each::Map | Each::Filter => false,
    };
    for item in list.items() {
        let val = rule.evaluate(&scope.of(&item))?;
        match each {
            Each::Map => kept.push(val),
            Each::Filter if val.truthy() => kept.push(item),
            Each::Filter => {}
            Each::All | Each::Some | Each::None => {
                let decided = val.truthy() == matches!(each, Each::Some | Each::None);
                if decided {
                    verdict = matches!(each, Each::Some);
                    break;
                }
            }
        }
    }
    match each {
        Each::Map | Each::Filter => scope.list(kept),
        Each::All | Each::Some | Each::None => Ok(Val::Bool(verdict)),
    }
}

/// `reduce`
pub(super) fn reduce<'v>(three: &'v [Rule; 3], scope: &Scope<'_, 'v, impl Observer>) -> Result<Val<'v>, Halt> {
    let [list, rule, initial] = three;
    let list = list.evaluate(scope)?;
    let mut accumulator = match initial {
        Rule::Undefined => Val::Null,
        initial => initial.evaluate(scope)?,
    };
    for current in list.items() {
        // A rule may keep the step itself (`{"var": ""}`), and so nest one in the other without end.
        let depth = scope.nested([&current, &accumulator])?;
        let step = Val::Step(Rc::new(Step { current, accumulator, depth }));
        accumulator = rule.evaluate(&scope.of(&step))?;
    }
    Ok(accumulator)
}
