//! What checks of the sidecar's own surroundings are told: the app, the flags, the disk.

use std::time::Duration;

use super::super::super::reader::Section;
use super::super::super::values::{self, Type, choice, duration, integer, wrong};
use super::DAY;
use super::service::status;
use crate::proxy::settings::{Address, Protocol, Upstream};
use crate::readiness::settings::{Access, App, AppAddress, Disk, Flags, Kind};

pub(super) fn app(section: &mut Section<'_>, apps: &[Upstream]) -> Option<Option<Kind>> {
    section.section_if_there("app", "Asks the app itself, where the proxy sends its requests.", |s| {
        let route = s.or("route", &integer(0..=63), 0, "Which element of `proxy` leads to it.");
        let path = Type::text("path, and query", "/healthz", |text| match text.parse::<http::Uri>() {
            Ok(uri) if text.starts_with('/') && uri.authority().is_none() && !text.contains('#') => Ok(text.to_owned()),
            _ => wrong("not the path of a request", "write /healthz"),
        });
        let doc = "Asked with `GET`. It is shown: no secrets in it.";
        let path = s.optional("path", &path, "none: only a connection is opened", doc);
        let doc = "The statuses that pass: single ones, or ranges.";
        let status = s.or("status", &status().list(), vec![(200, 399)], doc);
        let app = usize::try_from(route).ok().and_then(|route| apps.get(route));
        if app.is_none() && s.sound(&["route"]) && !apps.is_empty() {
            let remedy = format!("write 0 to {}", apps.len() - 1);
            s.problem("route", Some(route.to_string()), "no such element of proxy", remedy);
        }
        if path.is_some() && app.is_some_and(|app| app.protocol == Protocol::Http2) {
            let remedy = "remove the key, or use a check of kind grpc";
            s.problem("path", None, "asked in HTTP/1.1, where the app speaks HTTP/2", remedy);
        }
        let address = match &app?.address {
            Address::Tcp { host, port } => AppAddress::Tcp(host.clone(), *port),
            Address::Unix(path) => AppAddress::Unix(path.clone()),
        };
        Some(Kind::App(App { address, path, status }))
    })
}

pub(super) fn flags(section: &mut Section<'_>) -> Option<Option<Kind>> {
    section.section_if_there("flags", "Looks how long ago the sources of flags confirmed what is served.", |s| {
        let range = Duration::from_secs(1)..=DAY * 30;
        let doc = "For how long a source may not have confirmed. Sources confirm every 30 s or so.";
        let max_age = s.or("max_age", &duration(range), Duration::from_secs(300), doc);
        let name = Type::text("`redis:SCOPE` or `file:PATH`", "redis:orders", |text| match text.split_once(':') {
            Some(("redis" | "file", rest)) if !rest.is_empty() => Ok(text.to_owned()),
            _ => wrong("not the name of a source", "write redis:SCOPE or file:PATH, as in `tidegate status`"),
        });
        let sources = s.or("sources", &name.list(), Vec::new(), "Sources that are looked at; none for all.");
        // What is wrong with a name is said; what it would lead to is not.
        s.sound(&["sources"]).then_some(Kind::Flags(Flags { max_age, sources }))
    })
}

pub(super) fn disk(section: &mut Section<'_>) -> Option<Option<Kind>> {
    section.section_if_there("disk", "Looks how much of a file system is free, and whether it takes writes.", |s| {
        let path = s.required("path", &values::path("/var/lib/app"), "A directory on the file system.");
        let min_free = s.or("min_free", &values::size(0..=u64::MAX), 0, "What must be free for whoever is not root.");
        let doc = "The part of the file system that must be, in percent.";
        let min_free_percent = s.or("min_free_percent", &integer(0..=100), 5, doc);
        let words: &[_] = &[("space", Access::Space), ("write", Access::Write)];
        let doc =
            "Whether it is only asked what is free, or a small file is written there, too, made durable and removed.";
        let access = s.or("access", &choice(words), Access::Space, doc);
        path.map(|path| Kind::Disk(Disk { path, min_free, min_free_percent, access }))
    })
}
