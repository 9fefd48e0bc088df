//! The token that the app's `preStop` hook shows to the sidecar: made of the object, given, or kept.

use ring::digest::{SHA256, digest};
use serde_json::Value;

use super::json::{list, named, text};
use super::kinds;
use super::options::{DrainToken, Options};
use super::sidecar::CONTAINER;
use super::template::Place;

/// The token for a pod template, which has no sidecar.
pub(super) fn of(template: &Value, from: &Place<'_>, options: &Options) -> String {
    match &options.drain_token {
        DrainToken::Given(token) => token.expose().to_owned(),
        DrainToken::Fresh(token) => present(from.present).unwrap_or_else(|| token.expose()).to_owned(),
        DrainToken::Derived => derived(from.object, template),
    }
}

/// The one that an injected template has.
fn present(template: &Value) -> Option<&str> {
    let spec = template.get("spec")?;
    let sidecar = ["initContainers", "containers"].into_iter().find_map(|key| named(spec, key, CONTAINER))?;
    let ours = list(sidecar, "env").iter().find(|entry| text(entry, "name") == Some("TIDEGATE_OPS__DRAIN_TOKEN"))?;
    text(ours, "value")
}

/// The same for the same object, so that a pipeline that injects again causes no rollout; another as soon as the template
/// changes, which is a rollout anyway.
fn derived(object: &Value, template: &Value) -> String {
    let text = format!("tidegate drain token\n{}\n{template}", kinds::called(object));
    let hash = digest(&SHA256, text.as_bytes());
    hash.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}
