//! Flags to measure with: of the kinds that are in use, as many and as large as asked for, for a file and for Redis.

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

/// [`COUNT`] flags.
pub(crate) fn all() -> Map<String, Value> {
    some(COUNT)
}

/// Key and definition of each flag: a third static, a third with a rule, a third split by percentage.
pub(crate) fn some(count: usize) -> Map<String, Value> {
    (0..count).map(|number| (format!("flag-{number}"), definition(number))).collect()
}

/// As [`some`], each definition grown to `bytes` by what makes definitions long: descriptions, lists of users in a
/// rule, many variants. No definition is that of another `edition`, and the default of the first flag is on in odd ones.
pub(crate) fn large(count: usize, bytes: usize, edition: usize) -> Map<String, Value> {
    let grown = |number| {
        let mut flag = definition(number);
        flag["metadata"] = json!({ "edition": edition });
        if number == 0 && !edition.is_multiple_of(2) {
            flag["defaultVariant"] = json!("on");
        }
        let mut length = flag.to_string().len();
        let mut step = 0;
        while length < bytes {
            step += 1;
            length += grow(&mut flag, number, step);
        }
        (format!("flag-{number}"), flag)
    };
    (0..count).map(grown).collect()
}

/// Adds to a flag's definition; about how many bytes.
fn grow(flag: &mut Value, number: usize, step: usize) -> usize {
    match number % 3 {
        0 => {
            flag["metadata"][format!("note-{step}")] = json!("who owns it, and when it may be removed");
            52
        }
        1 => {
            let rules = flag["targeting"]["if"].as_array_mut().expect("a rule of this kind is a list");
            if step == 1 {
                // After the rule and its variant, before what is left over: asked only of those whom the rule misses.
                rules.splice(2..2, [json!({ "in": [{ "var": "email" }, []] }), json!("on")]);
            }
            let users = rules[2]["in"][1].as_array_mut().expect("just made");
            users.push(json!(format!("user-{number}-{step}@example.org")));
            28
        }
        _ => {
            let name = format!("treatment-{step}");
            flag["variants"][&name] = json!(false);
            let bands = flag["targeting"]["fractional"].as_array_mut().expect("a split is a list");
            bands.push(json!([name, 1]));
            40
        }
    }
}

/// A flag file in `dir`.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn file(dir: &Path, flags: &Map<String, Value>) -> anyhow::Result<PathBuf> {
    let path = dir.join("flags.json");
    fs::write(&path, serde_json::to_vec(&json!({ "flags": flags }))?)?;
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
