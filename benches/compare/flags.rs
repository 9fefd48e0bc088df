//! Flags to measure with: a thousand of the kinds that are in use, as a file and in Redis.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

/// How many a large team has.
pub(crate) const COUNT: usize = 1000;

/// The one that is asked for: a typical rule over two attributes of the context.
pub(crate) const ASKED: &str = "flag-1";

/// An evaluation's context of about 250 bytes that [`ASKED`] matches.
pub(crate) const CONTEXT: &str = "{\"context\":{\"targetingKey\":\"user-4711\",\"email\":\"ada@example.com\",\
    \"plan\":\"enterprise\",\"country\":\"DE\",\"version\":\"2.14.3\",\"beta\":true,\"age\":37,\
    \"groups\":[\"staff\",\"search-team\"],\"tenant\":\"7c9e6679-7425-40de-944b-e07fc1f90ae7\"}}";

/// Key and definition of each flag: a third static, a third with a rule, a third split by percentage.
pub(crate) fn all() -> Map<String, Value> {
    (0..COUNT).map(|number| (format!("flag-{number}"), definition(number))).collect()
}

/// A flag file in `dir`.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn file(dir: &Path) -> anyhow::Result<PathBuf> {
    let path = dir.join("flags.json");
    fs::write(&path, serde_json::to_vec(&json!({ "flags": all() }))?)?;
    Ok(path)
}

fn definition(number: usize) -> Value {
    let mut flag = json!({
        "state": "ENABLED",
        "variants": { "on": true, "off": false },
        "defaultVariant": "off",
    });
    match number % 3 {
        0 => {}
        1 => {
            flag["targeting"] = json!({ "if": [
                { "and": [{ "==": [{ "var": "plan" }, "enterprise"] }, { "ends_with": [{ "var": "email" }, "@example.com"] }] },
                "on",
                "off",
            ]});
        }
        _ => flag["targeting"] = json!({ "fractional": [["on", number % 100], ["off", 100 - number % 100]] }),
    }
    flag
}
