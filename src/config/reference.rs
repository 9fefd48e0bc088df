//! The declared keys as `docs/CONFIGURATION.md`.

use super::key::{Field, Shape, Stated, walk};
use super::overlay::{ARGUMENTS, RESERVED};

const HEAD: &str = "\
# Configuration

<!-- Made from the declarations in src/config/resolve. Do not edit: change them, then run
     REGENERATE=1 cargo test --test it the_reference_is_current -->

Tidegate reads one YAML or JSON file, environment variables and arguments. Every key has a default: without any
configuration the sidecar listens on `0.0.0.0:8080` and expects the app at `127.0.0.1:3000`.

- **The file** is named by `--config FILE` or `TIDEGATE_CONFIG`; without either, `@FILE@` is read if it
  is there. A key without a value takes its default.
- **Precedence**: argument, then environment, then file, then default.
- **Environment**: each key has a variable, named below. Two underscores stand between two levels, elements of `proxy`
  are counted from 0, and `NAME` stands for a name of your own in upper case, with `_` for `-`. Values of a list are
  separated by commas. A variable that begins with `TIDEGATE_` and means nothing stops the start, so that a misspelt one
  is noticed; left alone are @RESERVED@, those that the file refers to, and those that the kubelet makes for a
  Service named `tidegate` or `tidegate-…`.
- **Substitution**, in every text of the file: `${VAR}` (a problem when it is not set), `${VAR:-default}` (also when it
  is empty), `${file:/path}` (without its final line break; at most 64 KiB). `$$` is a dollar. What is put in is not
  looked at again. In variables and arguments nothing is substituted.
- **Problems** are reported all at once, one a line, each with the key, the value, what is wrong and what to write; the
  exit code is 64. `tidegate config check` only checks, `tidegate config show` prints every key as it was resolved,
  without secrets, and `tidegate config schema` prints a JSON Schema for editors.
- **Secrets** belong in `redis.url`, the `url` of checks of kind `postgres`, `mysql`, `redis` and `schema`, `tracing.otlp.headers`
  and `ops.drain_token`, which are never printed. Other values are; one that was taken from a file is printed as its `${file:…}`.
- **Units**: durations are written `500ms`, `10s`, `1m30s`; sizes `32KiB`, `1MiB`, `2GiB`, `1TiB`, or a number of bytes.
- **Paths** that are not absolute start at the working directory.
";

/// The text of `docs/CONFIGURATION.md`.
pub fn reference() -> String {
    let reserved = RESERVED.map(|name| format!("`{name}`")).join(", ");
    let mut text = HEAD.replace("@FILE@", super::DEFAULT_FILE).replace("@RESERVED@", &reserved);
    let fields = super::fields();
    text.push_str("\n## Arguments of `tidegate run`\n\n| argument | key |\n|---|---|\n");
    for (argument, path) in ARGUMENTS {
        text.push_str(&format!("| `{argument}` | `{}` |\n", path.replace(".0.", "[0].")));
    }
    let (alone, sections): (Vec<&Field>, Vec<&Field>) =
        fields.iter().partition(|field| matches!(field.shape, Shape::Leaf(..)));
    text.push_str("\n## Top level\n\n");
    for field in alone {
        values(&mut text, std::slice::from_ref(field));
    }
    for field in sections {
        text.push_str(&format!("\n## `{}`\n\n{}\n\n", field.name, field.doc));
        values(&mut text, std::slice::from_ref(field));
    }
    text
}

/// One entry for each value below.
fn values(text: &mut String, fields: &[Field]) {
    walk(fields, &mut |path, variable, field| {
        let (kind, default) = match &field.shape {
            Shape::Leaf(kind, stated) => (kind.said(), default(stated)),
            _ => ("anything; from a variable, a text".to_owned(), "none".to_owned()),
        };
        text.push_str(&format!("- **`{path}`**: {}\n  - Value: {kind}\n  - Default: {default}\n", field.doc));
        text.push_str(&format!("  - Set by: `{variable}`"));
        if let Some((argument, _)) = ARGUMENTS.iter().find(|(_, known)| known.replace(".0.", "[].") == path) {
            text.push_str(&format!(", `{argument}`"));
        }
        text.push('\n');
    });
}

fn default(stated: &Stated) -> String {
    match stated {
        Stated::Value(serde_json::Value::String(text)) if text.is_empty() => "empty".into(),
        Stated::Value(serde_json::Value::String(text)) => format!("`{text}`"),
        Stated::Value(serde_json::Value::Array(all)) if all.is_empty() => "none".into(),
        Stated::Value(serde_json::Value::Array(all)) => {
            all.iter().map(|one| format!("`{}`", one.as_str().unwrap_or_default())).collect::<Vec<_>>().join(", ")
        }
        Stated::Value(value) => format!("`{value}`"),
        Stated::Words(words) => (*words).to_owned(),
        Stated::Required => "none; it must be given where its section is".into(),
    }
}
