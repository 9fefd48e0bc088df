//! Documents and definitions as text: YAML where it reads back the same, JSON always.

use thiserror::Error;

use super::super::compile::node::Node;
use super::super::compile::{self, Format};
use super::Document;

/// What YAML cannot hold so that it reads back the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("it does not read back the same from YAML; use JSON")]
pub struct NotYaml;

/// A JSON text as YAML.
///
/// # Errors
/// [`NotYaml`]: it would not read back the same, or is no sound JSON.
pub fn yaml(json: &str) -> Result<String, NotYaml> {
    node_yaml(&compile::tree(json, Format::Json).map_err(|_| NotYaml)?)
}

/// A JSON text, indented; as it is when it is no sound JSON.
pub fn pretty(json: &str) -> String {
    match compile::tree(json, Format::Json) {
        Ok(node) => node_json(&node),
        Err(_) => format!("{json}\n"),
    }
}

impl Document {
    /// As YAML, ending with a line feed.
    ///
    /// # Errors
    /// [`NotYaml`].
    pub fn yaml(&self) -> Result<String, NotYaml> {
        node_yaml(&self.node()?)
    }

    /// As indented JSON, ending with a line feed.
    ///
    /// # Errors
    /// [`NotYaml`]: a definition is no JSON at all.
    pub fn json(&self) -> Result<String, NotYaml> {
        Ok(node_json(&self.node()?))
    }

    fn node(&self) -> Result<Node, NotYaml> {
        let tree = |json: &str| compile::tree(json, Format::Json).map_err(|_| NotYaml);
        let mut members = Vec::new();
        if let Some(metadata) = &self.metadata {
            members.push(("metadata".to_owned(), tree(metadata)?));
        }
        if let Some(evaluators) = &self.evaluators {
            members.push(("$evaluators".to_owned(), tree(evaluators)?));
        }
        let flags = self.flags.iter().map(|(key, json)| Ok((key.clone(), tree(json)?)));
        members.push(("flags".to_owned(), Node::Object(flags.collect::<Result<_, _>>()?)));
        Ok(Node::Object(members))
    }
}

fn node_yaml(node: &Node) -> Result<String, NotYaml> {
    let text = serde_saphyr::to_string(node).map_err(|_| NotYaml)?;
    match compile::tree(&text, Format::Yaml) {
        Ok(read) if read == *node => Ok(text),
        _ => Err(NotYaml),
    }
}

fn node_json(node: &Node) -> String {
    let mut text = serde_json::to_string_pretty(node).expect("a tree read from a text always serialises");
    text.push('\n');
    text
}
