//! One change of a definition that is made at a time: a whole definition, or one member of the one in place. Pure.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::super::compile;
use super::super::contract::with_member;
use super::super::model::Evaluators;
use super::share::Unfit;

/// What is done to a flag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It gets this definition.
    Set(String),
    /// The variant whose value is `true` becomes the default one.
    On,
    /// The variant whose value is `false` becomes the default one.
    Off,
    /// `state` becomes `ENABLED`.
    Enable,
    /// `state` becomes `DISABLED`.
    Disable,
}

/// Why a change cannot be made of the definition in place.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Impossible {
    /// There is no such flag.
    #[error("there is no flag {0:?}")]
    Absent(String),
    /// What is there, or what would be, does not validate.
    #[error("the definition of {key:?} does not validate: {why}")]
    Invalid {
        /// The flag.
        key: String,
        /// Its problems, in one line.
        why: String,
    },
    /// No variant has the value.
    #[error("no variant of {key:?} is {value}, they are {names}")]
    NoVariant {
        /// The flag.
        key: String,
        /// `true` or `false`.
        value: &'static str,
        /// What there is.
        names: String,
    },
    /// The weights cannot be changed.
    #[error("{0}")]
    Unfit(#[from] Unfit),
}

impl Action {
    /// What it does, in a word.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Set(_) => "set",
            Self::On => "on",
            Self::Off => "off",
            Self::Enable => "enable",
            Self::Disable => "disable",
        }
    }

    /// The definition after it, which validates.
    ///
    /// # Errors
    /// It cannot be made of `definition`, the one in place.
    pub fn apply(&self, key: &str, definition: Option<&str>, evaluators: &Evaluators) -> Result<String, Impossible> {
        let value = match self {
            Self::Set(text) => {
                let flag = compile::flag(key, text, evaluators).map_err(|invalid| refused(key, &invalid))?;
                return Ok(flag.definition().to_owned());
            }
            Self::Enable => return with(key, definition, "state", "\"ENABLED\"", evaluators),
            Self::Disable => return with(key, definition, "state", "\"DISABLED\"", evaluators),
            Self::On => "true",
            Self::Off => "false",
        };
        let there = definition.ok_or_else(|| Impossible::Absent(key.to_owned()))?;
        let flag = compile::flag(key, there, evaluators).map_err(|invalid| refused(key, &invalid))?;
        let Some(variant) = flag.variants().iter().find(|variant| variant.value_json() == value) else {
            let names = flag.variants().iter().map(|variant| variant.name()).collect::<Vec<_>>().join(", ");
            return Err(Impossible::NoVariant { key: key.to_owned(), value, names });
        };
        let name = serde_json::Value::from(variant.name()).to_string();
        with(key, definition, "defaultVariant", &name, evaluators)
    }
}

fn with(
    key: &str,
    definition: Option<&str>,
    member: &str,
    value: &str,
    evaluators: &Evaluators,
) -> Result<String, Impossible> {
    let there = definition.ok_or_else(|| Impossible::Absent(key.to_owned()))?;
    let edited = with_member(there, member, value)
        .map_err(|e| Impossible::Invalid { key: key.to_owned(), why: e.to_string() })?;
    valid(key, edited, evaluators)
}

/// The definition, which validates.
pub(super) fn valid(key: &str, definition: String, evaluators: &Evaluators) -> Result<String, Impossible> {
    match compile::flag(key, &definition, evaluators) {
        Ok(_) => Ok(definition),
        Err(invalid) => Err(refused(key, &invalid)),
    }
}

fn refused(key: &str, invalid: &compile::Invalid) -> Impossible {
    Impossible::Invalid { key: key.to_owned(), why: invalid.to_string().replace('\n', "; ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_made_of_the_definition_in_place() {
        let there = r#"{"state":"ENABLED","variants":{"yes":true,"no":false},"defaultVariant":"no"}"#.to_owned();
        let none = Evaluators::default();
        let apply = |action: Action, there: Option<&str>| action.apply("f", there, &none).map_err(|e| e.to_string());
        for (action, expected) in [
            (Action::On, there.replace(r#":"no""#, r#":"yes""#)),
            (Action::Off, there.clone()),
            (Action::Enable, there.clone()),
            (Action::Disable, there.replace("ENABLED", "DISABLED")),
            (Action::Set(format!(" {there}")), there.clone()),
        ] {
            let outcome = apply(action.clone(), Some(&there)).expect("possible");
            assert_eq!(outcome, expected, "{action:?}");
            let alone = apply(action.clone(), None);
            assert_eq!(alone.is_ok(), matches!(action, Action::Set(_)), "{alone:?}");
        }
        let size = r#"{"state":"ENABLED","variants":{"s":1},"defaultVariant":"s"}"#;
        assert!(apply(Action::On, Some(size)).expect_err("no such variant").contains("they are s"));
        assert!(apply(Action::On, Some("{")).expect_err("no definition").contains("does not validate"));
        assert!(apply(Action::Set("{}".to_owned()), None).expect_err("no definition").contains("does not validate"));
    }
}
