//! `flags`: where feature flags come from and how they are evaluated.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use super::super::reader::Section;
use super::super::values::{choice, duration, name, path};
use super::Redis;
use crate::flags::Settings;
use crate::flags::settings::{self, Bucketing, Duty, OnMissing, Overrides};

/// A month.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// How many scopes or files there may be: each is a subscription or a watch.
const MOST: usize = 32;

pub(super) fn settings(
    section: &mut Section<'_>,
    redis: &Redis,
    workload: &str,
    state_dir: Option<PathBuf>,
) -> Settings {
    let given = section.given("scopes");
    let kind = name("name", "orders", 253, "._-").list();
    let said = "the workload's name";
    let doc = "Scopes in Redis, highest priority first. Needs `redis.url`.";
    let scopes = match &redis.url {
        Some(_) => section.or_computed("scopes", &kind, (vec![workload.to_owned()], said), doc),
        None => section.optional("scopes", &kind, said, doc).unwrap_or_default(),
    };
    if given && section.sound(&["scopes"]) {
        let value = Some(scopes.join(", "));
        if redis.url.is_none() && redis.sound {
            section.problem("scopes", value, "scopes are in Redis, and redis.url is not set", "set redis.url");
        } else if scopes.is_empty() {
            section.problem("scopes", None, "no scope", "name one, or remove the key for the workload's");
        } else if let Some(twice) = twice(&scopes) {
            section.problem("scopes", value, format!("{twice} comes twice"), "name each scope once");
        } else if scopes.len() > MOST {
            section.problem("scopes", None, format!("{} scopes", scopes.len()), format!("name at most {MOST}"));
        }
    }
    let files = section.or(
        "files",
        &path("/etc/tidegate/flags.json").list(),
        Vec::new(),
        "Definitions in JSON or YAML, beneath Redis; the first has the highest priority.",
    );
    if let Some(twice) = twice(&files) {
        let shown = twice.display().to_string();
        section.problem("files", Some(shown), "comes twice", "name each file once");
    } else if files.len() > MOST {
        section.problem("files", None, format!("{} files", files.len()), format!("name at most {MOST}"));
    }
    let bucketing = section.or(
        "bucketing",
        &choice(&[("v1", Bucketing::V1), ("v2", Bucketing::V2), ("v3", Bucketing::V3)]),
        Bucketing::default(),
        "How `fractional` spreads keys over variants, everywhere the same: `v1` as flagd before 0.15, `v2` as flagd \
         since, `v3` by the CBOR of any value. `tidegate flags rebucket` tells who would move.",
    );
    let context = section.free("context", "Values that join every evaluation; the request's own win.");
    let max_stale = section.or(
        "max_stale",
        &duration(Duration::from_secs(1)..=LONGEST).or_none(),
        None,
        "Flags not confirmed by their source for longer make the instance not ready.",
    );
    let on_missing = section.or(
        "on_missing",
        &choice(&[("wait", OnMissing::Wait), ("empty", OnMissing::Empty)]),
        OnMissing::default(),
        "A start without any flags: `wait` for a source, or start with none.",
    );
    let duty = || choice(&[("auto", Duty::Auto), ("off", Duty::Off)]);
    let schedules = section.or(
        "schedules",
        &duty(),
        Duty::default(),
        "Executes scheduled changes of flags, where the user of Redis may write.",
    );
    let report = section.or(
        "report",
        &duty(),
        Duty::default(),
        "Reports once an hour which flags were evaluated, where the user of Redis may write.",
    );
    let overrides = section.or(
        "overrides",
        &choice(&[("off", Overrides::Off), ("socket", Overrides::Socket), ("local", Overrides::Local)]),
        Overrides::default(),
        "Who may force flags in this sidecar alone, for a time: nobody, whoever can open `local.socket`, or whoever \
         asks from loopback too, with the header `Tidegate-Override: allow`.",
    );
    let redis = redis.url.clone().map(|url| settings::Redis { url, prefix: redis.prefix.clone(), scopes });
    Settings { redis, files, context, bucketing, max_stale, on_missing, overrides, schedules, report, state_dir }
}

/// The first element that is there twice.
fn twice<T: Ord>(all: &[T]) -> Option<&T> {
    let mut seen = BTreeSet::new();
    all.iter().find(|one| !seen.insert(*one))
}
