//! `fleet`: who this instance is among its fleet, and when the brake holds.

use std::time::Duration;

use super::super::machine::Machine;
use super::super::reader::Section;
use super::super::values::{Type, Wrong, choice, duration, integer, name, share, wrong};
use super::Redis;
use crate::fleet::settings::{self, Brake, Register, Settings};

pub(super) fn settings(section: &mut Section<'_>, redis: &Redis, workload: &str, machine: &Machine) -> Settings {
    let register = section.or(
        "register",
        &choice(&[("auto", Register::Auto), ("off", Register::Off)]),
        Register::default(),
        "Tells the other instances of this one, in Redis: `auto`, where `redis.url` is set and its user may write.",
    );
    let host = machine.hostname.as_deref().filter(|host| label(host).is_ok()).unwrap_or("unknown").to_owned();
    let pod = section.or_computed(
        "pod",
        &Type::text("name", "orders-6b7c9d5f4-x2x9z", label),
        (host, "the host name"),
        "What people call this instance; in Kubernetes `metadata.name`.",
    );
    let pod_uid = section.optional(
        "pod_uid",
        &name("identifier", "2f9d7ef2-6f0c-4b58-a1c5-0d7b1a6a4a77", 64, "._-"),
        "the pod's name and something random, so that a restart after a crash is another instance",
        "What tells this instance from all others, over restarts; in Kubernetes `metadata.uid`.",
    );
    let version = section.optional(
        "version",
        &Type::text("text of at most 128 characters", "1.4.2", label),
        "none",
        "The version of the app, for `tidegate fleet`.",
    );
    let brake = section.section("brake", "What most instances fail together takes none of them out.", brake);
    let redis = redis.url.clone().map(|url| settings::Redis { url, prefix: redis.prefix.clone() });
    Settings { redis, workload: workload.to_owned(), register, pod, pod_uid, version, brake }
}

fn brake(section: &mut Section<'_>) -> Brake {
    let default = Brake::default();
    let panic_threshold = section.or(
        "panic_threshold",
        &share().or_off(),
        default.panic_threshold,
        "A failing shared check counts as degraded while it fails on a larger share of the live instances, above 0; `off` \
         never brakes.",
    );
    if panic_threshold == Some(0.0) {
        section.problem(
            "panic_threshold",
            Some("0".to_owned()),
            "would brake whatever fails, also on one instance alone",
            "write off to never brake, or a share above 0: 0.5 for more than half",
        );
    }
    let release = panic_threshold.map_or(default.release_threshold, |share| share * 0.6);
    let release_threshold = section.or_computed(
        "release_threshold",
        &share(),
        (release, "0.6 × `panic_threshold`"),
        "The brake is let go once no larger share fails. Not above `panic_threshold`.",
    );
    let hold = section.or(
        "hold",
        &duration(Duration::from_secs(1)..=Duration::from_secs(3600)),
        default.hold,
        "The brake is let go when it has been no larger for so long, or for a third of that; each instance waits for a time \
         between, at random, so that those on which the check still fails do not all leave at once.",
    );
    let min_instances = section.or(
        "min_instances",
        &integer(2..=1000),
        default.min_instances,
        "The brake never holds in a smaller fleet: one instance alone cannot tell its own fault from everybody's.",
    );
    if section.sound(&["panic_threshold", "release_threshold"])
        && panic_threshold.is_some_and(|panic_threshold| release_threshold > panic_threshold)
    {
        let most = panic_threshold.unwrap_or_default();
        section.problem(
            "release_threshold",
            Some(release_threshold.to_string()),
            format!("above panic_threshold ({most})"),
            format!("write at most {most}"),
        );
    }
    Brake { panic_threshold, release_threshold, hold, min_instances }
}

/// What is shown to people: one line of bounded length.
fn label(text: &str) -> Result<String, Wrong> {
    let sound = !text.is_empty() && text.chars().count() <= 128 && !text.chars().any(char::is_control);
    if sound { Ok(text.to_owned()) } else { wrong("not a name of 1 to 128 characters", "write a short name") }
}
