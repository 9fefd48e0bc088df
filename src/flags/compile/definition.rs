//! One flag's definition: state, variants of one type, default, targeting, metadata.

use super::super::model::{Evaluators, Flag, Kind, Metadata, Variant, json_string};
use super::node::Node;
use super::trail::Trail;
use super::{MAX_DEPTH, MAX_KEY, Problems, rule};

/// The most variants a flag may have.
const MAX_VARIANTS: usize = 1024;

/// What a scope holds beside flags goes by these names in its log.
const RESERVED: [&str; 2] = ["$evaluators", "$metadata"];

const FIELDS: [&str; 6] = ["state", "variants", "defaultVariant", "targeting", "metadata", "$schema"];

/// Compiles a flag; `None` when it has a problem, which is listed.
pub(super) fn flag(
    key: &str,
    node: &Node,
    evaluators: &Evaluators,
    path: &Trail<'_>,
    problems: &mut Problems,
) -> Option<Flag> {
    let before = problems.count();
    if key.is_empty() || key.len() > MAX_KEY || key.chars().any(char::is_control) {
        problems.add(path, format_args!("its key must have 1 to {MAX_KEY} bytes and no control characters"));
    }
    if RESERVED.contains(&key) {
        problems.add(path, "its key is the name of something else in the log; choose another");
    }
    let Node::Object(fields) = node else {
        problems.add(path, format_args!("must be an object, and is {}", node.what()));
        return None;
    };
    let mut flag = Flag {
        key: key.into(),
        key_json: json_string(key).into(),
        enabled: false,
        variants: Vec::new(),
        default: None,
        targeting: None,
        metadata: Metadata::default(),
        definition: node.to_string().into(),
    };
    let field = |name: &str| fields.iter().find(|(field, _)| field == name).map(|(_, value)| value);
    for (name, _) in fields {
        if !FIELDS.contains(&name.as_str()) {
            problems.unknown(path, name, &FIELDS);
        }
    }
    match field("state") {
        Some(Node::String(state)) if state == "ENABLED" => flag.enabled = true,
        Some(Node::String(state)) if state == "DISABLED" => {}
        Some(other) => {
            problems.add(path.name("state"), format_args!("must be \"ENABLED\" or \"DISABLED\", and is {other}"))
        }
        None => problems.add(path.name("state"), "is missing; it is \"ENABLED\" or \"DISABLED\""),
    }
    match field("variants") {
        Some(node) => flag.variants = variants(node, &path.name("variants"), problems),
        None => problems.add(path.name("variants"), "is missing"),
    }
    match field("defaultVariant") {
        // The application's own default holds (flagd: "code default").
        None | Some(Node::Null) => {}
        Some(Node::String(name)) if name.is_empty() => {}
        Some(Node::String(name)) => {
            flag.default = flag.variants.iter().position(|variant| &*variant.name == name);
            if flag.default.is_none() && !flag.variants.is_empty() {
                let names: Vec<&str> = flag.variants.iter().map(Variant::name).collect();
                let text = format!("{name:?} is none of the variants {}", listed(&names));
                problems.add(path.name("defaultVariant"), text);
            }
        }
        Some(other) => {
            problems.add(path.name("defaultVariant"), format_args!("must be a variant's name or null, and is {other}"));
        }
    }
    if let Some(node) = field("metadata") {
        flag.metadata = metadata(node, &path.name("metadata"), problems);
    }
    if let Some(node) = field("targeting") {
        flag.targeting = rule::targeting(node, evaluators, &path.name("targeting"), problems);
    }
    (problems.count() == before).then_some(flag)
}

/// The first of many names, for a message.
fn listed(names: &[&str]) -> String {
    let shown: Vec<String> = names.iter().take(8).map(|name| format!("{name:?}")).collect();
    let more = if names.len() > shown.len() { ", …" } else { "" };
    format!("{}{more}", shown.join(", "))
}

fn variants(node: &Node, path: &Trail<'_>, problems: &mut Problems) -> Vec<Variant> {
    let Node::Object(fields) = node else {
        problems.add(path, format_args!("must be an object of values by variant name, and is {}", node.what()));
        return Vec::new();
    };
    if fields.is_empty() {
        problems.add(path, "must hold at least one variant");
    }
    if fields.len() > MAX_VARIANTS {
        problems.add(path, format_args!("must hold at most {MAX_VARIANTS} variants, and holds {}", fields.len()));
        return Vec::new();
    }
    let mut variants: Vec<Variant> = Vec::with_capacity(fields.len());
    for (name, value) in fields {
        let at = path.name(name);
        if name.is_empty() {
            problems.add(path, "a variant must have a name");
        }
        let kind = match value {
            Node::Bool(_) => Kind::Boolean,
            Node::String(_) => Kind::String,
            Node::Integer(_) | Node::Natural(_) => Kind::Integer,
            Node::Float(_) => Kind::Float,
            Node::Object(_) => Kind::Object,
            Node::Null | Node::Array(_) => {
                problems.add(at, format_args!("must be a boolean, string, number or object, and is {}", value.what()));
                continue;
            }
        };
        if value.depth() > MAX_DEPTH {
            problems.add(at, format_args!("nests deeper than {MAX_DEPTH} levels"));
        }
        if let Some(first) = variants.first()
            && class(first.kind) != class(kind)
        {
            let text = format!("is {}, but variant {:?} is of type {}", value.what(), first.name, first.kind.name());
            problems.add(at, text);
        }
        let value_json: Box<str> = value.to_string().into();
        let answer_json = format!("\"variant\":{},\"value\":{value_json}", json_string(name)).into();
        variants.push(Variant { name: name.as_str().into(), kind, value_json, answer_json });
    }
    variants
}

/// Integers and floats are of one class: number.
fn class(kind: Kind) -> Kind {
    if kind == Kind::Integer { Kind::Float } else { kind }
}

/// Reads metadata.
pub(super) fn metadata(node: &Node, path: &Trail<'_>, problems: &mut Problems) -> Metadata {
    let mut metadata = Metadata::default();
    let Node::Object(fields) = node else {
        problems.add(path, format_args!("must be an object, and is {}", node.what()));
        return metadata;
    };
    for (name, value) in fields {
        match value {
            Node::Bool(_) | Node::String(_) | Node::Integer(_) | Node::Natural(_) | Node::Float(_) => {
                metadata.values.insert(name.as_str().into(), value.to_string().into());
            }
            other => problems
                .add(path.name(name), format_args!("must be a boolean, a string or a number, and is {}", other.what())),
        }
    }
    metadata
}
