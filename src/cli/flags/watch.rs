//! `flags watch` and `flags log --follow`: changes as they are made. They come from the log, by their place in it, so that
//! none is told twice and none is missing after a connection was lost, and what the log lacks is said to be missing.

use std::io::Write as _;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use super::answer::moment;
use super::scope::Scope;
use super::show::{self, Filter, entry_json};
use super::{Failure, Output, complain};
use crate::cli::{EXIT_TRY_AGAIN, EXIT_UNAVAILABLE, plain};
use crate::flags::contract::{Entry, Head, following, head, walk};
use crate::flags::plan::brief;

/// How long one question waits for a change; less than a connection's limit for an answer.
const WAIT: Duration = Duration::from_secs(2);
/// Between two attempts to reach a Redis that went away.
const RETRY: Duration = Duration::from_millis(500);

/// From now on.
pub(super) async fn run(scope: &mut Scope, output: Output) -> Result<String, Failure> {
    let mut watch = Watch::start(scope, None, output).await?;
    watch.go(scope).await
}

/// The log first, oldest entry first, then from now on.
pub(super) async fn log(scope: &mut Scope, filter: &Filter<'_>, output: Output) -> Result<String, Failure> {
    let mut entries = show::entries(scope, filter).await?;
    entries.reverse();
    let mut watch = Watch::start(scope, filter.key.cloned(), output).await?;
    // What was written between the two questions is told by the first that it came to.
    let seen = entries.last().map(|entry| entry.id.clone());
    for entry in &entries {
        watch.tell(entry)?;
    }
    if let Some(seen) = seen {
        watch.id = seen;
    }
    watch.go(scope).await
}

struct Watch {
    key: Option<String>,
    output: Output,
    /// The place in the log up to which everything has been told.
    id: String,
    /// The scope's revision and incarnation, as far as they are known.
    rev: u64,
    incarnation: Option<String>,
}

impl Watch {
    async fn start(scope: &mut Scope, key: Option<String>, output: Output) -> Result<Self, Failure> {
        let mut newest: Option<Entry> = None;
        let Scope { connection, keys, .. } = scope;
        let walked = walk(connection, keys, |entry| {
            newest = Some(entry);
            std::ops::ControlFlow::Break(())
        });
        walked.await.map_err(|e| scope.failed(&e))?;
        let Head { rev, incarnation } = head(&mut scope.connection, &scope.keys).await.map_err(|e| scope.failed(&e))?;
        let (id, told) = newest.map_or_else(|| ("0".to_owned(), 0), |entry| (entry.id, entry.rev));
        // Of what was written between the two questions the log tells.
        let rev = if told > 0 { told } else { number(rev.as_deref()) };
        let watch = Self { key, output, id, rev, incarnation };
        watch.notice(&format!("scope {} is at revision {}", scope.keys.scope, watch.rev))?;
        Ok(watch)
    }

    /// Until it is interrupted.
    async fn go(&mut self, scope: &mut Scope) -> Result<String, Failure> {
        loop {
            let Err(failure) = self.follow(scope).await;
            if failure.code != EXIT_UNAVAILABLE && failure.code != EXIT_TRY_AGAIN {
                return Err(failure);
            }
            complain(&format!("{}; what happens meanwhile is told when it is back", failure.text));
            while scope.reconnect().await.is_err() {
                sleep(RETRY).await;
            }
            self.notice("redis is back")?;
        }
    }

    async fn follow(&mut self, scope: &mut Scope) -> Result<std::convert::Infallible, Failure> {
        loop {
            let entries = following(&mut scope.connection, &scope.keys, &self.id, WAIT).await;
            let entries = entries.map_err(|e| scope.failed(&e))?;
            for entry in &entries {
                self.gap(entry.rev)?;
                self.tell(entry)?;
                self.id.clone_from(&entry.id);
                self.rev = entry.rev;
            }
            if entries.is_empty() {
                self.compare(scope).await?;
            }
        }
    }

    /// Nothing is in the log: whether nothing happened.
    async fn compare(&mut self, scope: &mut Scope) -> Result<(), Failure> {
        let found = head(&mut scope.connection, &scope.keys).await.map_err(|e| scope.failed(&e))?;
        let soon = following(&mut scope.connection, &scope.keys, &self.id, Duration::from_millis(1)).await;
        if !soon.map_err(|e| scope.failed(&e))?.is_empty() {
            return Ok(());
        }
        let rev = number(found.rev.as_deref());
        if found.incarnation != self.incarnation && self.incarnation.is_some() {
            let what = if found.rev.is_some() { "was made anew" } else { "is not in redis any more" };
            self.notice(&format!("scope {} {what}: revision {rev}", scope.keys.scope))?;
        } else if rev < self.rev {
            self.notice(&format!("scope {} fell back from revision {} to {rev}", scope.keys.scope, self.rev))?;
        } else {
            self.gap(rev + 1)?;
        }
        (self.rev, self.incarnation) = (rev, found.incarnation);
        Ok(())
    }

    /// Says which revisions before `next` nobody will tell of.
    fn gap(&self, next: u64) -> Result<(), Failure> {
        let (from, to) = (self.rev + 1, next.saturating_sub(1));
        if next <= from || self.rev == 0 {
            return Ok(());
        }
        let which = if from == to { format!("revision {from} is") } else { format!("revisions {from} to {to} are") };
        if self.output == Output::Json {
            line(&json!({ "missed": { "from": from, "to": to } }).to_string())?;
        }
        complain(&format!(
            "{which} not in the log: its writer keeps none, or the log was cut; `tidegate flags ls` shows what is"
        ));
        Ok(())
    }

    fn tell(&self, entry: &Entry) -> Result<(), Failure> {
        if self.key.as_ref().is_some_and(|key| *key != entry.key) {
            return Ok(());
        }
        match self.output {
            Output::Json => line(&Value::to_string(&entry_json(entry))),
            Output::Yaml => match serde_saphyr::to_string(&entry_json(entry)) {
                Ok(text) => line(&format!("---\n{}", text.trim_end())),
                Err(e) => Err(Failure::failed(format!("the entry cannot be written as YAML: {e}"))),
            },
            Output::Table => {
                let note = if entry.note.is_empty() { String::new() } else { format!("  ({})", entry.note) };
                let what = brief(&entry.before, &entry.after);
                line(&format!("{}  {:>5}  {}  {}: {what}{note}", moment(entry.at), entry.rev, entry.actor, entry.key))
            }
        }
    }

    /// For people, and beside what programs read.
    fn notice(&self, text: &str) -> Result<(), Failure> {
        complain(text);
        Ok(())
    }
}

fn number(rev: Option<&str>) -> u64 {
    rev.and_then(|rev| rev.parse().ok()).unwrap_or(0)
}

/// A line at once, also when it goes into a pipe. A reader that left wants no more.
fn line(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    // A note or key with a line feed must not look like two changes; YAML alone has lines of its own.
    let text = if text.starts_with("---\n") { text.to_owned() } else { text.replace('\n', " ") };
    writeln!(out, "{}", plain(&text)).and_then(|()| out.flush()).map_err(|_| Failure::new(0, ""))
}
