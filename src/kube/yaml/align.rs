//! Which items of a new list are which of the old one, so that those stay as they are written.

use serde_json::Value;

/// Steps of the comparison beyond which lists are compared by their ends alone.
const CELLS: usize = 1_000_000;

/// One step from the old list to the new one, both read from their beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The old item and the new one that it has become.
    Keep(usize, usize),
    Remove(usize),
    Add(usize),
}

/// The steps from `old` to `new`.
pub(super) fn steps(old: &[Value], new: &[Value]) -> Vec<Step> {
    let same = |a: &Value, b: &Value| a == b || identity(a).is_some_and(|name| identity(b) == Some(name));
    let head = old.iter().zip(new).take_while(|(a, b)| same(a, b)).count();
    let (rest, goal) = (&old[head..], &new[head..]);
    let tail = rest.iter().rev().zip(goal.iter().rev()).take_while(|(a, b)| same(a, b)).count();
    let (rest, goal) = (&rest[..rest.len() - tail], &goal[..goal.len() - tail]);

    let mut steps: Vec<Step> = (0..head).map(|index| Step::Keep(index, index)).collect();
    let pairs = if rest.len().saturating_mul(goal.len()) > CELLS { Vec::new() } else { common(rest, goal, same) };
    let (mut from, mut to) = (0, 0);
    for (a, b) in pairs.into_iter().chain([(rest.len(), goal.len())]) {
        // What is between two that stayed has changed, pair by pair, and then come or gone.
        while from < a && to < b && alike(&rest[from], &goal[to]) {
            steps.push(Step::Keep(head + from, head + to));
            (from, to) = (from + 1, to + 1);
        }
        steps.extend((from..a).map(|index| Step::Remove(head + index)));
        steps.extend((to..b).map(|index| Step::Add(head + index)));
        if a < rest.len() {
            steps.push(Step::Keep(head + a, head + b));
        }
        (from, to) = (a + 1, b + 1);
    }
    steps.extend((0..tail).map(|index| Step::Keep(old.len() - tail + index, new.len() - tail + index)));
    steps
}

/// The longest common subsequence, as pairs of indices.
fn common(old: &[Value], new: &[Value], same: impl Fn(&Value, &Value) -> bool) -> Vec<(usize, usize)> {
    let width = new.len() + 1;
    let mut lengths = vec![0u32; (old.len() + 1) * width];
    for a in (0..old.len()).rev() {
        for b in (0..new.len()).rev() {
            lengths[a * width + b] = if same(&old[a], &new[b]) {
                lengths[(a + 1) * width + b + 1] + 1
            } else {
                lengths[(a + 1) * width + b].max(lengths[a * width + b + 1])
            };
        }
    }
    let (mut a, mut b, mut pairs) = (0, 0, Vec::new());
    while a < old.len() && b < new.len() {
        if same(&old[a], &new[b]) {
            pairs.push((a, b));
            (a, b) = (a + 1, b + 1);
        } else if lengths[(a + 1) * width + b] >= lengths[a * width + b + 1] {
            a += 1;
        } else {
            b += 1;
        }
    }
    pairs
}

/// What tells an item of a list of Kubernetes from its neighbours.
fn identity(value: &Value) -> Option<(&'static str, &Value)> {
    ["name", "mountPath", "containerPort", "port", "key"].into_iter().find_map(|key| Some((key, value.get(key)?)))
}

/// Whether one may be the other after a change.
fn alike(old: &Value, new: &Value) -> bool {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => old.iter().any(|(key, value)| new.get(key) == Some(value)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn items_are_found_again_by_their_names_or_by_what_they_keep() {
        let check = |old: Value, new: Value, expected: &[Step]| {
            let (Value::Array(old), Value::Array(new)) = (old, new) else { panic!("two lists") };
            assert_eq!(steps(&old, &new), expected);
        };
        use Step::{Add, Keep, Remove};
        check(json!([1, 2, 3]), json!([1, 3]), &[Keep(0, 0), Remove(1), Keep(2, 1)]);
        check(json!([{"name": "a"}]), json!([{"name": "s"}, {"name": "a", "x": 1}]), &[Add(0), Keep(0, 1)]);
        check(json!([{"name": "http", "containerPort": 1}]), json!([{"containerPort": 1}]), &[Keep(0, 0)]);
        check(json!([{"name": "a"}]), json!([{"name": "b"}]), &[Remove(0), Add(0)]);
        check(json!(["a"]), json!(["b", "a"]), &[Add(0), Keep(0, 1)]);
        check(json!([]), json!([1]), &[Add(0)]);
        check(json!([1]), json!([]), &[Remove(0)]);
        check(json!([1, 2]), json!([2, 1]), &[Remove(0), Keep(1, 0), Add(1)]);
    }
}
