//! Looks how long ago each source of flags confirmed what is served. Where flags come from it does not know: whoever does says
//! how to ask.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{Cause, Failure};
use crate::readiness::settings;

/// A source's name, and how long ago it confirmed what it gave; `None` when it has given nothing yet.
pub type Age = (Arc<str>, Option<Duration>);

/// Tells the ages of all sources.
#[derive(Clone)]
pub struct Ages(Arc<dyn Fn() -> Vec<Age> + Send + Sync>);

impl Ages {
    /// Asks through `ask`, which must not wait.
    pub fn new(ask: impl Fn() -> Vec<Age> + Send + Sync + 'static) -> Self {
        Self(Arc::new(ask))
    }
}

impl fmt::Debug for Ages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ages").finish_non_exhaustive()
    }
}

/// The sources of flags.
#[derive(Debug)]
pub struct Flags {
    settings: settings::Flags,
    ages: Option<Ages>,
}

impl Flags {
    pub(super) fn new(settings: &settings::Flags) -> Self {
        Self { settings: settings.clone(), ages: None }
    }

    pub(super) fn tell(&mut self, ages: &Ages) {
        self.ages = Some(ages.clone());
    }

    pub(super) fn attempt(&self) -> Result<(), Failure> {
        let Some(Ages(ask)) = &self.ages else {
            let reason = "only the running sidecar knows the age of its flags: ask its /readyz";
            return Err(Failure::new(Cause::Configuration, reason));
        };
        judge(&ask(), &self.settings)
    }
}

fn judge(ages: &[Age], settings: &settings::Flags) -> Result<(), Failure> {
    let wanted = |name: &str| settings.sources.is_empty() || settings.sources.iter().any(|source| source == name);
    if let Some(missing) = settings.sources.iter().find(|source| !ages.iter().any(|(name, _)| **name == ***source)) {
        return Err(Failure::new(Cause::Configuration, &format!("no source of flags is called {missing}")));
    }
    let failed = |reason: String| Err(Failure::new(Cause::Answer, &reason));
    for (name, age) in ages.iter().filter(|(name, _)| wanted(name)) {
        match age {
            None => return failed(format!("{name} has given no flags yet")),
            Some(age) if *age > settings.max_age => {
                let (age, most) = (Duration::from_secs(age.as_secs()), settings.max_age);
                let (age, most) = (humantime::format_duration(age), humantime::format_duration(most));
                return failed(format!("{name} has confirmed its flags {age} ago, more than {most}"));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sources: &[&str], expected: &str) {
        let age = |name: &str, seconds: Option<u64>| (Arc::from(name), seconds.map(Duration::from_secs));
        let ages = [age("redis:orders", Some(61)), age("redis:shared", None), age("file:/f", Some(60))];
        let sources = sources.iter().map(|name| (*name).to_owned()).collect();
        let settings = settings::Flags { max_age: Duration::from_secs(60), sources };
        let said = judge(&ages, &settings).err().map(|failure| failure.to_string());
        assert_eq!(said.unwrap_or_default(), expected);
    }

    #[test]
    fn a_source_that_is_too_old_or_silent_fails_where_it_counts() {
        check(&[], "redis:orders has confirmed its flags 1m 1s ago, more than 1m");
        check(&["file:/f"], "");
        check(&["file:/f", "redis:shared"], "redis:shared has given no flags yet");
        check(&["file:/g"], "no source of flags is called file:/g");
        let settings = settings::Flags { max_age: Duration::ZERO, sources: Vec::new() };
        assert!(Flags::new(&settings).attempt().is_err(), "nobody tells");
    }
}
