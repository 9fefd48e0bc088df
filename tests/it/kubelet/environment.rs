//! The environment of a container: values, the Downward API, and `$(NAME)` in them.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::{Map, Value};

use super::spec::Variable;

/// What a pod knows of itself.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) ip: Ipv4Addr,
    pub(super) node: String,
    pub(super) node_ip: IpAddr,
    pub(super) labels: Map<String, Value>,
    pub(super) annotations: Map<String, Value>,
}

impl Identity {
    /// The value of a `fieldRef`.
    fn field(&self, path: &str) -> String {
        let keyed = |of: &str, map: &Map<String, Value>| {
            let key = path.strip_prefix(of)?.strip_prefix("['")?.strip_suffix("']")?;
            Some(map.get(key).and_then(Value::as_str).unwrap_or_default().to_owned())
        };
        match path {
            "metadata.name" => self.name.clone(),
            "metadata.namespace" | "spec.serviceAccountName" => "default".to_owned(),
            "metadata.uid" => self.uid.clone(),
            "spec.nodeName" => self.node.clone(),
            "status.podIP" | "status.podIPs" => self.ip.to_string(),
            "status.hostIP" | "status.hostIPs" => self.node_ip.to_string(),
            _ => keyed("metadata.labels", &self.labels)
                .or_else(|| keyed("metadata.annotations", &self.annotations))
                .unwrap_or_else(|| panic!("fieldRef `{path}`: not played")),
        }
    }
}

/// The variables in their order, `given` by the image first.
pub(super) fn resolve(given: &[(&str, String)], own: &[Variable], identity: &Identity) -> Vec<(String, String)> {
    let mut variables: Vec<(String, String)> =
        given.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    for variable in own {
        let value = match (&variable.value, &variable.value_from) {
            (value, None) => expand(value.as_deref().unwrap_or_default(), &variables),
            (None, Some(source)) => {
                let path = source.pointer("/fieldRef/fieldPath").and_then(Value::as_str);
                identity.field(path.unwrap_or_else(|| panic!("variable `{}`: not played: {source}", variable.name)))
            }
            (Some(_), Some(_)) => panic!("variable `{}`: `value` and `valueFrom`", variable.name),
        };
        variables.retain(|(name, _)| *name != variable.name);
        variables.push((variable.name.clone(), value));
    }
    variables
}

/// Puts in variables that are known by now; `$$` is a dollar, and what is not known stays as it is.
/// <https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/>
pub(super) fn expand(text: &str, variables: &[(String, String)]) -> String {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, from) = rest.split_at(at);
        expanded.push_str(before);
        let reference = from.strip_prefix("$(").and_then(|inner| inner.split_once(')'));
        let known = reference.and_then(|(name, after)| {
            let (_, value) = variables.iter().find(|(known, _)| known == name)?;
            Some((value, after))
        });
        rest = if let Some(after) = from.strip_prefix("$$") {
            expanded.push('$');
            after
        } else if let Some((value, after)) = known {
            expanded.push_str(value);
            after
        } else {
            expanded.push('$');
            &from[1..]
        };
    }
    expanded + rest
}

#[test]
fn variables_refer_to_those_before_them() {
    let variables = [("A".to_owned(), "1".to_owned())];
    for (text, expected) in [("$(A)-$(B)", "1-$(B)"), ("$$(A)", "$(A)"), ("$", "$"), ("a$(A", "a$(A")] {
        assert_eq!(expand(text, &variables), expected);
    }
}
