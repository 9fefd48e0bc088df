//! The environment variable of a key that is written as a path, for those who configure a sidecar that runs elsewhere.

use std::sync::OnceLock;

use super::Problems;
use super::key::{Field, Shape, Step, walk, way};
use super::problem::{Problem, closest};

/// Where a key's value goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// The variable, `TIDEGATE_DRAIN__DELAY`.
    pub name: String,
    /// Whether the value never prints.
    pub secret: bool,
}

/// The variable of a key: `drain.delay`, `proxy.0.upstream`, `checks.orders-db.tcp.address`. Names that the operator
/// chose keep their hyphens, which Kubernetes lets variables have.
///
/// # Errors
/// There is no such key.
pub fn variable(path: &str) -> Result<Variable, Problems> {
    // The same for ever, and asked for once a key.
    static FIELDS: OnceLock<Vec<Field>> = OnceLock::new();
    let fields = FIELDS.get_or_init(super::fields);
    let parts: Vec<&str> = path.split('.').collect();
    let Some((steps, _)) = way(fields, &parts, |key, written| key == written) else {
        return Err(Problems(vec![unknown(path, &parts, fields)]));
    };
    let mut name = "TIDEGATE".to_owned();
    for (at, step) in steps.iter().enumerate() {
        name.push_str(if at == 0 { "_" } else { "__" });
        match step {
            Step::Key(key) => name.push_str(&key.to_uppercase()),
            Step::Index(index) => name.push_str(&index.to_string()),
            Step::Name(chosen) => name.push_str(&chosen.to_uppercase()),
        }
    }
    let secret = is_secret(fields, &steps);
    Ok(Variable { name, secret })
}

fn is_secret(fields: &[Field], steps: &[Step]) -> bool {
    let Some((Step::Key(key), rest)) = steps.split_first() else { return false };
    let Some(field) = fields.iter().find(|field| field.name == *key) else { return false };
    match &field.shape {
        Shape::Leaf(..) | Shape::Free => field.secret,
        Shape::Section(below) => is_secret(below, rest),
        // The number or the name stands between.
        Shape::List(below) | Shape::Named(below) => is_secret(below, rest.get(1..).unwrap_or_default()),
    }
}

fn unknown(path: &str, parts: &[&str], fields: &[Field]) -> Problem {
    let mut names = Vec::new();
    // Numbers and chosen names stand in the pattern as in what was written.
    walk(fields, &mut |pattern, _, _| {
        let pattern = pattern.replace("[]", ".0");
        let name: Vec<&str> = pattern
            .split('.')
            .enumerate()
            .map(|(at, part)| match part {
                "NAME" => parts.get(at).copied().unwrap_or(part),
                // A number of an element, where one was written.
                "0" => parts.get(at).filter(|part| part.parse::<usize>().is_ok()).copied().unwrap_or(part),
                part => part,
            })
            .collect();
        names.push(name.join("."));
    });
    let problem = Problem::new(path, "unknown key");
    match closest(path, names.iter().map(String::as_str)) {
        Some(name) => problem.remedy(format!("did you mean {name}?")),
        None => problem.remedy("docs/CONFIGURATION.md names all keys"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_leads_to_its_variable() {
        for (path, name, secret) in [
            ("drain.delay", "TIDEGATE_DRAIN__DELAY", false),
            ("workload", "TIDEGATE_WORKLOAD", false),
            ("proxy.0.upstream", "TIDEGATE_PROXY__0__UPSTREAM", false),
            ("checks.orders-db.tcp.address", "TIDEGATE_CHECKS__ORDERS-DB__TCP__ADDRESS", false),
            ("proxy.1.flag_headers.x-flag", "TIDEGATE_PROXY__1__FLAG_HEADERS__X-FLAG", false),
            ("redis.url", "TIDEGATE_REDIS__URL", true),
            ("ops.drain_token", "TIDEGATE_OPS__DRAIN_TOKEN", true),
            ("checks.db.postgres.url", "TIDEGATE_CHECKS__DB__POSTGRES__URL", true),
            ("tracing.otlp.headers", "TIDEGATE_TRACING__OTLP__HEADERS", true),
        ] {
            assert_eq!(variable(path).unwrap(), Variable { name: name.to_owned(), secret }, "{path}");
        }
    }

    #[test]
    fn an_unknown_key_is_told_with_the_nearest_one() {
        for (path, said) in [
            ("drain.dealy", "drain.dealy: unknown key; did you mean drain.delay?"),
            ("checks.db.tcp.adress", "checks.db.tcp.adress: unknown key; did you mean checks.db.tcp.address?"),
        ] {
            assert_eq!(variable(path).unwrap_err().to_string(), said);
        }
        assert!(variable("").is_err() && variable("drain").is_err() && variable("proxy.x.upstream").is_err());
    }
}
