//! The forms in which commands answer: a table for people, JSON and YAML for programs.

use serde::Serialize;
use serde_json::Value;
use thiserror::Error;

/// How to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Output {
    /// For people
    #[default]
    Table,
    /// For programs
    Json,
    /// For both
    Yaml,
}

/// An answer that the form asked for cannot hold.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the answer cannot be written as {form}: {why}")]
pub struct Unprintable {
    form: &'static str,
    why: String,
}

impl Output {
    /// `value` in this form, as text that ends with a line feed; `table` makes the form for people.
    ///
    /// # Errors
    /// The value cannot be written so.
    pub fn render(self, value: &impl Serialize, table: impl FnOnce() -> String) -> Result<String, Unprintable> {
        match self {
            Self::Table => Ok(table()),
            Self::Json => match serde_json::to_string_pretty(value) {
                Ok(text) => Ok(text + "\n"),
                Err(error) => Err(Unprintable { form: "JSON", why: error.to_string() }),
            },
            Self::Yaml => {
                serde_saphyr::to_string(value).map_err(|error| Unprintable { form: "YAML", why: error.to_string() })
            }
        }
    }
}

/// A number of things, `noun` being one of them.
pub(super) fn counted(count: &Value, noun: &str) -> String {
    if *count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn one_value_is_told_in_each_form_and_ends_with_a_line_feed() {
        let value = json!([{"check": "db", "ok": false, "took_ms": 1.5, "error": "yes: \"no\"\nnull", "remedy": null}]);
        let told = |output: Output| output.render(&value, || "CHECK\n".to_owned()).expect("plain data");
        assert_eq!(told(Output::Table), "CHECK\n");
        assert_eq!(told(Output::Json), format!("{value:#}\n"));
        let yaml = told(Output::Yaml);
        assert!(yaml.ends_with('\n') && !yaml.ends_with("\n\n"), "{yaml:?}");
        assert_eq!(serde_saphyr::from_str::<Value>(&yaml).expect("it is YAML"), value);
    }

    #[test]
    fn one_thing_is_no_plural() {
        let told: Vec<String> = [0, 1, 2].into_iter().map(|count| counted(&json!(count), "work lease")).collect();
        assert_eq!(told, ["0 work leases", "1 work lease", "2 work leases"]);
    }
}
