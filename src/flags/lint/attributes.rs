//! The attributes that rules read, and those whose spelling differs in case or separators alone.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Findings, Level};

/// Attributes that are remembered; a document with more has other troubles.
const MAX_ATTRIBUTES: usize = 10_000;

/// Spellings by what they have in common.
#[derive(Debug, Default)]
pub(super) struct Attributes {
    alike: BTreeMap<String, BTreeMap<String, Spelling>>,
}

#[derive(Debug)]
struct Spelling {
    times: usize,
    /// Where it is read first.
    path: String,
}

impl Attributes {
    /// Notes what a `var` reads.
    pub(super) fn read(&mut self, argument: Option<&Value>, path: &str, findings: &mut Findings) {
        let Some(Value::String(name)) = argument else { return };
        if let Some(property) = name.strip_prefix("$flagd.") {
            if !["flagKey", "timestamp"].contains(&property) {
                let text = format!("{name:?} does not exist; there are $flagd.flagKey and $flagd.timestamp");
                findings.add(Level::Warning, path, text);
            }
            return;
        }
        if name.is_empty() || self.alike.len() == MAX_ATTRIBUTES {
            return;
        }
        let common: String = name.chars().filter(|c| !"_-".contains(*c)).flat_map(char::to_lowercase).collect();
        let spellings = self.alike.entry(common).or_default();
        spellings.entry(name.clone()).or_insert_with(|| Spelling { times: 0, path: path.to_owned() }).times += 1;
    }

    /// The rarer spelling is likely the slip; `targetingKey` is OpenFeature's own.
    pub(super) fn report(&self, findings: &mut Findings) {
        for (common, spellings) in &self.alike {
            let usual = if common == "targetingkey" {
                "targetingKey"
            } else {
                let most = spellings.iter().max_by_key(|(_, spelling)| spelling.times);
                most.map(|(name, _)| name.as_str()).unwrap_or_default()
            };
            for (name, spelling) in spellings.iter().filter(|(name, _)| *name != usual) {
                let text =
                    format!("reads {name:?}, and `{usual}` is read elsewhere: attributes are told apart by case");
                let text = if usual == "targetingKey" {
                    format!("reads {name:?}; OpenFeature's name for who is asked about is `targetingKey`")
                } else {
                    text
                };
                findings.add(Level::Hint, &spelling.path, text);
            }
        }
    }
}
