//! Lays environment variables and command-line arguments over the file's tree. Which names there are it learns from the
//! declared keys.

use std::collections::{BTreeMap, BTreeSet};

use super::key::{Field, Kind, Step, walk, way};
use super::node::{Node, Origin, Value};
use super::problem::{Problem, closest};

/// What the names of all our variables begin with.
const PREFIX: &str = "TIDEGATE_";

/// Variables with our prefix that are read elsewhere or say where the configuration is.
pub(super) const RESERVED: [&str; 1] = ["TIDEGATE_CONFIG"];

/// Arguments of `tidegate run` and the keys they set.
pub const ARGUMENTS: [(&str, &str); 7] = [
    ("--workload", "workload"),
    ("--listen", "proxy.0.listen"),
    ("--upstream", "proxy.0.upstream"),
    ("--ops", "ops.listen"),
    ("--local", "local.listen"),
    ("--redis", "redis.url"),
    ("--flags", "flags.files"),
];

/// Sets what `TIDEGATE_…` variables say. One that means nothing is a problem, unless the file refers to it (`asked`).
pub(super) fn environment(
    root: &mut Node,
    fields: &[Field],
    environment: &BTreeMap<String, String>,
    asked: &BTreeSet<String>,
    problems: &mut Vec<Problem>,
) {
    let mut found = Vec::new();
    for (variable, value) in environment {
        let Some(name) = variable.strip_prefix(PREFIX) else { continue };
        let parts: Vec<&str> = name.split("__").collect();
        match way(fields, &parts, |key, written| key.to_uppercase() == written) {
            Some((steps, kind)) => found.push((steps, kind, variable, value)),
            None if asked.contains(variable) || RESERVED.contains(&variable.as_str()) || is_service_link(name) => {}
            None => problems.push(unknown(variable, fields)),
        }
    }
    // Elements are appended in the order of their numbers, which is not that of the names: 10 sorts before 2.
    found.sort_by_key(|(steps, ..)| index(steps));
    for (steps, kind, variable, text) in found {
        let origin = Origin::Environment(variable.clone());
        if let Err(problem) = set(root, &steps, values(kind, text, &origin), &origin) {
            problems.push(problem);
        }
    }
}

/// Sets what arguments say: pairs of a key's path, as `proxy.0.listen`, and its value. A list's key may come several
/// times.
pub(super) fn arguments(
    root: &mut Node,
    fields: &[Field],
    overrides: &[(String, String)],
    problems: &mut Vec<Problem>,
) {
    let mut lists: BTreeMap<&str, Vec<Node>> = BTreeMap::new();
    for (path, text) in overrides {
        let argument = ARGUMENTS.iter().find(|(_, known)| known == path).map_or(path.as_str(), |(flag, _)| *flag);
        let origin = Origin::Argument(argument.to_owned());
        let parts: Vec<&str> = path.split('.').collect();
        let Some((steps, kind)) = way(fields, &parts, |key, written| key == written) else {
            problems.push(Problem::new(path, "unknown key").from(&origin));
            continue;
        };
        let mut value = values(kind, text, &origin);
        if let Value::List(items) = value {
            let all = lists.entry(path).or_default();
            all.extend(items);
            value = Value::List(all.clone());
        }
        if let Err(problem) = set(root, &steps, value, &origin) {
            problems.push(problem);
        }
    }
}

/// A text as the value of a key: a list's elements stand between commas.
fn values(kind: Option<&Kind>, text: &str, origin: &Origin) -> Value {
    match kind {
        Some(Kind::List(_)) => Value::List(
            text.split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty())
                .map(|item| Node::new(Value::Text(item.to_owned()), origin.clone()))
                .collect(),
        ),
        _ => Value::Text(text.to_owned()),
    }
}

/// The number of the first element on the way.
fn index(steps: &[Step]) -> usize {
    steps.iter().find_map(|step| if let Step::Index(index) = step { Some(*index) } else { None }).unwrap_or(0)
}

pub(super) fn set(node: &mut Node, steps: &[Step], value: Value, origin: &Origin) -> Result<(), Problem> {
    let Some((first, rest)) = steps.split_first() else {
        *node = Node::new(value, origin.clone());
        return Ok(());
    };
    let beyond = |index: usize, length: usize| {
        let name = origin.said().unwrap_or_default();
        let problem = Problem::new(name, format!("sets element {index} of a list of {length}"));
        Err(problem.remedy(format!("number it {length}")))
    };
    if node.value == Value::Null {
        if let Step::Index(index @ 1..) = first {
            return beyond(*index, 0);
        }
        let empty = if matches!(first, Step::Index(_)) { Value::List(Vec::new()) } else { Value::Map(Vec::new()) };
        *node = Node::new(empty, origin.clone());
    }
    let child = match (&mut node.value, first) {
        (Value::List(items), Step::Index(index)) => {
            if *index > items.len() {
                return beyond(*index, items.len());
            }
            if *index == items.len() {
                items.push(Node::new(Value::Null, origin.clone()));
            }
            &mut items[*index]
        }
        (Value::Map(entries), Step::Key(name)) => entry(entries, |key| key == *name, name, origin),
        (Value::Map(entries), Step::Name(written)) => {
            // Variables know no lower case and no hyphen.
            let plain = |text: &str| text.to_lowercase().replace('-', "_");
            entry(entries, |key| plain(key) == plain(written), &written.to_lowercase(), origin)
        }
        // Something else stands in the file: that is reported when the section is read.
        _ => return Ok(()),
    };
    set(child, rest, value, origin)
}

fn entry<'a>(
    entries: &'a mut Vec<(String, Node)>,
    fits: impl Fn(&str) -> bool,
    name: &str,
    origin: &Origin,
) -> &'a mut Node {
    let at = entries.iter().position(|(key, _)| fits(key)).unwrap_or_else(|| {
        entries.push((name.to_owned(), Node::new(Value::Null, origin.clone())));
        entries.len() - 1
    });
    &mut entries[at].1
}

/// Whether the kubelet made the variable for a Service named `tidegate` or `tidegate-…` in the pod's namespace
/// (Kubernetes, "Accessing the Service": `…_SERVICE_HOST`, `…_SERVICE_PORT`, `…_PORT` and `…_PORT_80_TCP…`). Without
/// this rule a Service of that name would keep every sidecar beside it from starting.
fn is_service_link(name: &str) -> bool {
    let parts: Vec<&str> = name.split('_').collect();
    let number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    (0..parts.len()).any(|at| match &parts[at..] {
        ["SERVICE", "HOST"] | ["PORT"] => true,
        ["SERVICE", "PORT", ..] => true,
        ["PORT", port, "TCP" | "UDP" | "SCTP"] => number(port),
        ["PORT", port, "TCP" | "UDP" | "SCTP", "PROTO" | "PORT" | "ADDR"] => number(port),
        _ => false,
    })
}

fn unknown(variable: &str, fields: &[Field]) -> Problem {
    let mut names = Vec::new();
    // Numbers and chosen names stand in the pattern as in what was written.
    let written: Vec<&str> = variable.split("__").collect();
    walk(fields, &mut |_, pattern, _| {
        let name: Vec<&str> = pattern
            .split("__")
            .enumerate()
            .map(|(at, part)| match part {
                "NAME" | "0" => written.get(at).copied().unwrap_or(part),
                part => part,
            })
            .collect();
        names.push(name.join("__"));
    });
    let problem = Problem::new(variable, "unknown variable");
    match closest(variable, names.iter().map(String::as_str)) {
        Some(name) => problem.remedy(format!("did you mean {name}?")),
        None => {
            problem.remedy("remove it, or refer to it in the file as ${…}; docs/CONFIGURATION.md names all of them")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_the_kubelet_makes_for_a_service_are_left_alone() {
        for (name, expected) in [
            ("SERVICE_HOST", true),
            ("SERVICE_PORT", true),
            ("SERVICE_PORT_HTTP_METRICS", true),
            ("WEBHOOK_SERVICE_HOST", true),
            ("PORT", true),
            ("WEBHOOK_PORT", true),
            ("PORT_443_TCP", true),
            ("PORT_443_TCP_ADDR", true),
            ("WEBHOOK_PORT_53_UDP_PROTO", true),
            ("PORT_X_TCP", false),
            ("DRAIN__DELYA", false),
            ("REPORT", false),
        ] {
            assert_eq!(is_service_link(name), expected, "{name}");
        }
    }

    #[test]
    fn every_key_is_reached_by_its_variable_and_none_is_taken_for_the_kubelets() {
        let (fields, mut count) = (super::super::fields(), 0);
        walk(&fields, &mut |path, variable, _| {
            let name = variable.strip_prefix(PREFIX).expect("our prefix");
            let parts: Vec<&str> = name.split("__").collect();
            assert!(way(&fields, &parts, |key, written| key.to_uppercase() == written).is_some(), "{path}: {variable}");
            assert!(!is_service_link(name) && !RESERVED.contains(&variable), "{variable}");
            count += 1;
        });
        assert!(count > 40, "{count} keys");
    }
}
