//! Who would get another variant if `fractional` spread keys by another bucketing version. Pure: flags and sample users
//! in, figures out.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::context::{Context, Object, Value};
use super::evaluate::decide;
use super::settings::Bucketing;
use super::store::{Entry, Snapshot};
use super::targeting::{Key, Path, Root, Rule, Scope, Unobserved};

/// Moves from one variant to another that a flag's line lists.
const LISTED: usize = 8;

/// A user to try.
#[derive(Debug, Clone, PartialEq)]
pub enum Sample<'s> {
    /// A key alone: it stands for the targeting key and for every attribute that a `fractional` of the flag spreads by.
    /// Each `fractional` is tried by itself, as if all conditions around it held.
    Key(Cow<'s, str>),
    /// A whole context: the flag is evaluated as it would be for a request.
    Context(Object<'s>),
}

/// Why a line is no sample.
#[derive(Debug, thiserror::Error)]
#[error("a line that begins with a brace must be a JSON object: {0}")]
pub struct Unreadable(#[from] serde_json::Error);

impl<'s> Sample<'s> {
    /// A line of a file: a context if it begins with `{`, else a key. Of an empty line nothing.
    ///
    /// # Errors
    /// [`Unreadable`] for what begins like a context and is none.
    pub fn read(line: &'s str) -> Result<Option<Self>, Unreadable> {
        let line = line.trim();
        if !line.starts_with('{') {
            return Ok((!line.is_empty()).then_some(Sample::Key(line.into())));
        }
        match serde_json::from_str(line)? {
            Value::Object(attributes) => Ok(Some(Sample::Context(attributes))),
            _ => Ok(None),
        }
    }

    /// `user-0`, `user-1` and so on.
    pub fn generated(count: usize) -> impl Iterator<Item = Self> {
        (0..count).map(|n| Sample::Key(format!("user-{n}").into()))
    }
}

/// What another bucketing version would change.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The version in use.
    pub from: &'static str,
    /// The version to try.
    pub to: &'static str,
    /// How many users were tried.
    pub samples: usize,
    /// The flags that spread keys at all, by key.
    pub flags: Vec<Change>,
    /// How many flags do not, and so stay as they are.
    pub unaffected: usize,
}

/// What would change of one flag.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// The flag's key.
    pub flag: String,
    /// The layer it is from.
    pub source: String,
    /// How many users would get something else.
    pub moved: usize,
    /// The same in percent of all that were tried.
    pub percent: f64,
    /// From what to what, the most frequent first; of very many the first ones.
    pub moves: Vec<Move>,
}

/// Users that move from one variant to another.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Move {
    /// What they have; null when the rule chooses nothing.
    pub from: Option<String>,
    /// What they would get.
    pub to: Option<String>,
    /// How many they are.
    pub count: usize,
}

impl Report {
    /// The heads of the columns of [`Change::row`].
    pub const HEADER: [&'static str; 5] = ["FLAG", "SOURCE", "MOVE", "OF", "FROM → TO"];

    /// A row for each flag.
    pub fn rows(&self) -> impl Iterator<Item = [String; 5]> {
        self.flags.iter().map(|change| change.row(self.samples))
    }
}

impl Change {
    fn row(&self, samples: usize) -> [String; 5] {
        let name = |variant: &Option<String>| variant.clone().unwrap_or_else(|| "(none)".to_owned());
        let share = |count: usize| format!("{:.1} %", percent(count, samples));
        let told = self.moves.iter().map(|m| format!("{} → {} {}", name(&m.from), name(&m.to), share(m.count)));
        let moves: Vec<String> = told.collect();
        [self.flag.clone(), self.source.clone(), share(self.moved), samples.to_string(), moves.join(", ")]
    }
}

/// Tries every flag of `snapshot` that spreads keys by both versions over all `samples`. `now` is the time that rules
/// see. It takes a few hundred nanoseconds for each sample and flag.
pub fn rebucket(
    snapshot: &Snapshot,
    from: Bucketing,
    to: Bucketing,
    samples: &[Sample<'_>],
    now: SystemTime,
) -> Report {
    let mut flags = Vec::new();
    for entry in snapshot.iter() {
        let spreads = Spreads::of(entry);
        if spreads.rules.is_empty() {
            continue;
        }
        let mut moves: BTreeMap<(Option<String>, Option<String>), usize> = BTreeMap::new();
        let mut moved = 0;
        for sample in samples {
            let before = spreads.results(snapshot, entry, sample, from, now);
            let after = spreads.results(snapshot, entry, sample, to, now);
            // Of several `fractional`s the first that differs counts: a user moves once.
            if let Some(pair) = before.into_iter().zip(after).find(|(before, after)| before != after) {
                moved += 1;
                *moves.entry(pair).or_default() += 1;
            }
        }
        let mut moves: Vec<Move> = moves.into_iter().map(|((from, to), count)| Move { from, to, count }).collect();
        moves.sort_by_key(|one| std::cmp::Reverse(one.count));
        moves.truncate(LISTED);
        let source = snapshot.layers()[entry.layer()].name.to_string();
        let percent = percent(moved, samples.len());
        flags.push(Change { flag: entry.flag().key().to_owned(), source, moved, percent, moves });
    }
    let unaffected = snapshot.len() - flags.len();
    Report { from: from.name(), to: to.name(), samples: samples.len(), flags, unaffected }
}

fn percent(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

/// Where a flag spreads keys.
struct Spreads<'e> {
    /// Its `fractional`s.
    rules: Vec<&'e Rule>,
    /// The attributes that they spread by, beside the targeting key.
    attributes: BTreeSet<Vec<&'e str>>,
}

impl<'e> Spreads<'e> {
    fn of(entry: &'e Entry) -> Self {
        let mut spreads = Self { rules: Vec::new(), attributes: BTreeSet::new() };
        if let Some(targeting) = entry.flag().targeting() {
            targeting.walk(&mut |rule| {
                if let Rule::Fractional(buckets) = rule {
                    spreads.rules.push(rule);
                    if let Key::Computed(key) = &buckets.key {
                        key.walk(&mut |rule| spreads.read(rule));
                    }
                }
            });
        }
        spreads
    }

    fn read(&mut self, rule: &'e Rule) {
        if let Rule::Var(Path::Names(names), _) = rule
            && names.first().is_some_and(|name| &**name != "$flagd")
        {
            self.attributes.insert(names.iter().map(|name| &**name).collect());
        }
    }

    /// What the flag, or each of its `fractional`s, gives for one user.
    fn results(
        &self,
        snapshot: &Snapshot,
        entry: &Entry,
        sample: &Sample<'_>,
        bucketing: Bucketing,
        now: SystemTime,
    ) -> Vec<Option<String>> {
        match sample {
            Sample::Context(attributes) => {
                let context = Context::new(attributes.clone());
                let answer = decide(snapshot, entry, &context, now, bucketing, Unobserved);
                let name = answer.ok().and_then(|answer| answer.variant).map(|variant| variant.name().to_owned());
                vec![name]
            }
            Sample::Key(key) => {
                let context = Context::new(self.context(key));
                let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
                let root = Root::new(&context, snapshot.context(), entry.flag().key(), seconds, bucketing, Unobserved);
                let result = |rule: &&Rule| {
                    let val = rule.evaluate(&Scope::new(&root)).ok()?;
                    match val.to_json() {
                        serde_json::Value::Null => None,
                        serde_json::Value::String(name) => Some(name),
                        other => Some(other.to_string()),
                    }
                };
                self.rules.iter().map(result).collect()
            }
        }
    }

    /// `key` wherever this flag looks for one.
    fn context<'k>(&'k self, key: &'k str) -> Object<'k> {
        let mut tree = Tree::default();
        for path in self.attributes.iter().map(Vec::as_slice).chain([&["targetingKey"][..]]) {
            tree.add(path);
        }
        tree.object(key)
    }
}

/// Paths by their first names.
#[derive(Default)]
struct Tree<'n>(BTreeMap<&'n str, Tree<'n>>);

impl<'n> Tree<'n> {
    fn add(&mut self, path: &[&'n str]) {
        if let Some((first, rest)) = path.split_first() {
            self.0.entry(first).or_default().add(rest);
        }
    }

    fn object<'k>(&self, key: &'k str) -> Object<'k>
    where
        'n: 'k,
    {
        let value = |tree: &Tree<'n>| match tree.0.is_empty() {
            true => Value::String(key.into()),
            false => Value::Object(tree.object(key)),
        };
        Object::new(self.0.iter().map(|(name, tree)| (Cow::Borrowed(*name), value(tree))).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::compile::{Format, document};
    use super::super::store::Layer;
    use super::*;

    const FLAGS: &str = r#"{"$evaluators":{"half":{"fractional":[["on",1],["off",1]]}},"flags":{
        "guarded":{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"off",
            "targeting":{"if":[{"==":[{"var":"plan"},"pro"]},{"$ref":"half"}]}},
        "mail":{"state":"ENABLED","variants":{"on":true,"off":false},"targeting":{"fractional":[{"var":"user.mail"},["on",1],["off",1]]}},
        "all":{"state":"ENABLED","variants":{"on":true},"targeting":{"fractional":[["on",1]]}},
        "plain":{"state":"ENABLED","variants":{"on":true},"targeting":{"var":"x"}},
        "static":{"state":"ENABLED","variants":{"on":true}}}}"#;

    fn snapshot() -> Snapshot {
        let set = document(FLAGS, Format::Json).unwrap_or_else(|invalid| panic!("{invalid}"));
        let layer = Layer { name: "file:f".into(), flag_set_id: None, revision: 1, set: Arc::new(set) };
        Snapshot::merge(vec![Arc::new(layer)], Arc::default(), 1, false)
    }

    fn report(from: Bucketing, to: Bucketing, samples: &[Sample<'_>]) -> Report {
        rebucket(&snapshot(), from, to, samples, UNIX_EPOCH)
    }

    #[test]
    fn half_of_the_users_of_an_even_split_move_and_all_others_stay() {
        let samples: Vec<Sample<'_>> = Sample::generated(4000).collect();
        let report = report(Bucketing::V2, Bucketing::V3, &samples);
        assert_eq!((report.from, report.to, report.samples, report.unaffected), ("v2", "v3", 4000, 2));
        let of = |flag: &str| report.flags.iter().find(|change| change.flag == flag).expect("it is listed");
        assert_eq!(report.flags.len(), 3);
        assert_eq!(of("all").moved, 0);
        for flag in ["guarded", "mail"] {
            let change = of(flag);
            assert!((change.percent - 50.0).abs() < 4.0, "{change:?}");
            assert_eq!(change.moves.iter().map(|one| one.count).sum::<usize>(), change.moved);
            assert_eq!(change.moves.len(), 2);
        }
        let same = self::report(Bucketing::V3, Bucketing::V3, &samples);
        assert!(same.flags.iter().all(|change| change.moved == 0));
    }

    #[test]
    fn contexts_are_evaluated_whole() {
        let lines = (0..200).map(|n| format!(r#"{{"targetingKey":"user-{n}","plan":"{}"}}"#, ["free", "pro"][n % 2]));
        let lines: Vec<String> = lines.collect();
        let samples = lines.iter().map(|line| Sample::read(line).expect("sound").expect("a sample"));
        let report = report(Bucketing::V1, Bucketing::V2, &samples.collect::<Vec<_>>());
        let guarded = report.flags.iter().find(|change| change.flag == "guarded").expect("it is listed");
        // Half of them are on the plan, and half of those move.
        assert!((20..80).contains(&guarded.moved), "{guarded:?}");
        let mail = report.flags.iter().find(|change| change.flag == "mail").expect("it is listed");
        assert!(mail.moved > 0, "without its attribute a rule falls back to the targeting key: {mail:?}");
    }

    #[test]
    fn a_report_makes_rows_and_serialises() {
        let moves = vec![Move { from: Some("on".into()), to: None, count: 1 }];
        let change = Change { flag: "f".into(), source: "redis:s".into(), moved: 1, percent: 12.5, moves };
        let report = Report { from: "v2", to: "v3", samples: 8, flags: vec![change], unaffected: 4 };
        assert_eq!(report.rows().next().expect("a row"), ["f", "redis:s", "12.5 %", "8", "on → (none) 12.5 %"]);
        assert_eq!(
            serde_json::to_string(&report).expect("plain data"),
            r#"{"from":"v2","to":"v3","samples":8,"flags":[{"flag":"f","source":"redis:s","moved":1,"percent":12.5,"moves":[{"from":"on","to":null,"count":1}]}],"unaffected":4}"#
        );
    }

    #[test]
    fn a_line_is_a_key_or_a_context() {
        assert_eq!(Sample::read(" u 1\n").expect("sound"), Some(Sample::Key("u 1".into())));
        assert_eq!(Sample::read("  ").expect("sound"), None);
        assert!(matches!(Sample::read(r#"{"a":1}"#), Ok(Some(Sample::Context(_)))));
        assert!(Sample::read("{").is_err());
    }
}
