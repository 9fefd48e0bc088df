//! The sidecar's configuration as variables of its container, judged by the configuration's own rules before anything is
//! written, and the grace period that it asks for.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use super::annotations::place_of_setting;
use super::ports::Route;
use super::protocol::Protocol;
use super::report::Report;
use crate::config::{self, Machine, Problem, Problems, Settings, Surroundings};

/// What the kubelet waits where a pod says nothing.
pub(super) const DEFAULT_GRACE: u64 = 30;
/// What the sum is that `config::budget` leaves between the drain and the pod's end.
const RESERVE: Duration = Duration::from_secs(2);

/// Pairs of a variable and its value, each variable once.
#[derive(Debug, Clone, Default)]
pub(super) struct Environment(pub(super) Vec<(String, String)>);

impl Environment {
    fn set(&mut self, name: String, value: String) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
        }
    }

    /// Sets a key of ours, which exists.
    pub(super) fn key(&mut self, path: &str, value: impl Into<String>) {
        if let Ok(variable) = config::variable(path) {
            self.set(variable.name, value.into());
        }
    }

    /// Listeners and apps.
    pub(super) fn routes(&mut self, routes: &[Route]) {
        for (index, route) in routes.iter().enumerate() {
            let scheme = if route.protocol == Protocol::H2c { "h2c" } else { "http" };
            self.key(&format!("proxy.{index}.listen"), format!("0.0.0.0:{}", route.listen));
            self.key(&format!("proxy.{index}.upstream"), format!("{scheme}://127.0.0.1:{}", route.app));
        }
    }

    /// Sets what the owner of the pods of `template`, or of the run, chose; what cannot be chosen is refused.
    pub(super) fn chosen(&mut self, settings: &[(String, String)], template: &Value, report: &mut Report) {
        let mut sorted: Vec<_> = settings.iter().collect();
        sorted.sort();
        for (path, value) in sorted {
            let place = place_of_setting(path, template);
            let listens = path.starts_with("proxy.") && path.ends_with(".listen");
            match config::variable(path) {
                Err(Problems(problems)) => refuse(&problems, |_| place.clone(), report),
                Ok(variable) if variable.secret => report.refuse(
                    place,
                    "a secret, which everybody could read here",
                    "put it into the file of tidegate.dev/config-map as ${file:…}, or into a Secret",
                ),
                Ok(_) if path == "drain.grace" => {
                    report.refuse(place, "taken from the pod", "set terminationGracePeriodSeconds")
                }
                // Another address is what a pod of IPv6 alone needs.
                Ok(variable) if listens && !self.is_port_of(&variable.name, value) => {
                    report.refuse(place, "chosen with the ports of the pod", "set tidegate.dev/listen-port");
                }
                Ok(variable) => self.set(variable.name, value.clone()),
            }
        }
    }

    /// Whether an address has the port of the one that is set already.
    fn is_port_of(&self, variable: &str, address: &str) -> bool {
        let port = |text: &str| text.parse::<SocketAddr>().map(|address| address.port()).ok();
        let set = self.0.iter().find(|(name, _)| name == variable).and_then(|(_, set)| port(set));
        set.is_some() && set == port(address)
    }

    /// What a sidecar makes of it, as far as that can be told from outside.
    pub(super) fn settings(&self) -> Result<Settings, Problems> {
        let environment: BTreeMap<String, String> = self.0.iter().cloned().collect();
        let machine = Machine { state_dir: Some("/var/lib/tidegate".into()), ..Machine::unknown() };
        let surroundings = Surroundings {
            name: "",
            environment: &environment,
            overrides: &[],
            machine: &machine,
            read: |_| Err("not here".to_owned()),
        };
        config::load_str("", &surroundings).map(|loaded| loaded.settings)
    }

    /// Settles `drain.grace`: what the pod has, raised to what its settings ask for. The seconds, and the settings.
    ///
    /// # Errors
    /// What is wrong with the configuration.
    pub(super) fn grace(&mut self, pod: Option<u64>) -> Result<(u64, Settings), Problems> {
        let mut grace = pod.unwrap_or(DEFAULT_GRACE).max(1);
        // The sums grow with one another at most twice; what does not fit then never will.
        for _ in 0..4 {
            self.key("drain.grace", format!("{grace}s"));
            // A grace that leaves no time to drain is a problem of the settings themselves: with more they tell what they need.
            let known = self.settings();
            let settings = match &known {
                Ok(settings) => settings.clone(),
                Err(_) => self.with_room()?,
            };
            if let Ok(settings) = known
                && config::budget(&settings).is_ok()
            {
                return Ok((grace, settings));
            }
            let drain = &settings.drain;
            let sum: Duration = parts(&settings).into_iter().map(|(_, part)| part).sum();
            grace = grace.max((sum + RESERVE).as_secs() + 1);
            if self.0.iter().any(|(name, _)| name == "TIDEGATE_DRAIN__DEADLINE") {
                let sum = drain.deadline + drain.app_stop + RESERVE;
                grace = grace.max(sum.as_secs() + u64::from(sum.subsec_nanos() > 0));
            }
        }
        let settings = self.settings()?;
        config::budget(&settings).map(|()| (grace, settings))
    }

    /// The settings as they are in a pod that has all the time there is.
    fn with_room(&self) -> Result<Settings, Problems> {
        let mut all = self.clone();
        all.key("drain.grace", "24h");
        all.settings()
    }
}

/// What `config::budget` adds up.
fn parts(settings: &Settings) -> [(&'static str, Duration); 4] {
    let drain = &settings.drain;
    let longest = settings.proxy.limits.request_timeout.unwrap_or_default();
    [
        ("drain.delay", drain.delay),
        ("drain.quiet", drain.quiet),
        ("limits.request_timeout", longest),
        ("drain.app_stop", drain.app_stop),
    ]
}

/// Why a pod needs the time it needs.
pub(super) fn needs(settings: &Settings) -> String {
    let parts = parts(settings).into_iter().filter(|(_, part)| !part.is_zero());
    let terms: Vec<_> = parts.map(|(name, part)| format!("{name} {}", humantime::format_duration(part))).collect();
    format!("more than {} + {}", terms.join(" + "), humantime::format_duration(RESERVE))
}

/// Turns problems of the configuration into refusals; `place` tells the field by the variable.
pub(super) fn refuse<'p>(
    problems: impl IntoIterator<Item = &'p Problem>,
    place: impl Fn(&str) -> String,
    report: &mut Report,
) {
    for problem in problems {
        let place = place(problem.source.as_deref().unwrap_or_default());
        let value = problem.value.as_ref().map(|value| format!("{value:?}: ")).unwrap_or_default();
        let wrong = format!("{}: {value}{}", problem.path.escape_debug(), problem.wrong);
        report.refuse(place, wrong, problem.remedy.clone().unwrap_or_else(|| "correct it".to_owned()));
    }
}
