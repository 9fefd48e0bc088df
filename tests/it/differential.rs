//! The same rules over the same contexts, here and by the official in-process evaluator for Node.js,
//! `@openfeature/flagd-core`: no difference that is not named in [`known`].

mod generate;
mod known;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::{Value, json};
use tidegate::flags::compile::{Format, document};
use tidegate::flags::context::{self, Context};
use tidegate::flags::evaluate::evaluate;
use tidegate::flags::explain::explain;
use tidegate::flags::store::{Layer, Snapshot};

use crate::support::sdk::node_scripts;
use generate::Generator;

/// Documents, each of so many flags, each evaluated over so many contexts.
const DOCUMENTS: u64 = 105;
const FLAGS: usize = 40;
const CONTEXTS: usize = 25;

/// Differences of one kind that are shown.
const SHOWN: usize = 5;

/// What an evaluation comes to: reason, variant, error code.
type Outcome = (String, Option<String>, Option<String>);

/// A document of flags, and the contexts that each of them is evaluated over.
struct Batch {
    document: Value,
    cases: Vec<(String, Value)>,
}

impl Batch {
    fn generated(seed: u64) -> Self {
        let mut generator = Generator::new(seed);
        let flags: serde_json::Map<String, Value> =
            (0..FLAGS).map(|n| (format!("flag-{seed}-{n}"), generator.flag())).collect();
        let contexts: Vec<Value> = (0..CONTEXTS).map(|_| generator.context()).collect();
        let cases = flags.keys().flat_map(|key| contexts.iter().map(move |context| (key.clone(), context.clone())));
        let cases = cases.collect();
        Self { document: json!({ "$evaluators": generator.evaluators(), "flags": flags }), cases }
    }

    fn snapshot(&self) -> Snapshot {
        let text = self.document.to_string();
        let set = document(&text, Format::Json).unwrap_or_else(|invalid| panic!("{invalid}\n{text}"));
        let layer = Layer { name: "test".into(), flag_set_id: None, revision: 1, set: Arc::new(set) };
        Snapshot::merge(vec![Arc::new(layer)], Arc::default(), 1, false)
    }
}

/// Calls `with` for a context that is read from text, as those of requests are.
fn over<T>(context: &Value, with: impl FnOnce(&Context<'_>) -> T) -> T {
    let text = context.to_string();
    let Ok(context::Value::Object(attributes)) = serde_json::from_str(&text) else { panic!("{text}") };
    with(&Context::new(attributes))
}

/// The outcome here.
fn ours(snapshot: &Snapshot, key: &str, context: &Value) -> Outcome {
    over(context, |context| match evaluate(snapshot, key, context, SystemTime::now()) {
        Ok(found) => (found.reason.name().to_owned(), found.variant.map(|variant| variant.name().to_owned()), None),
        Err(failure) => ("ERROR".to_owned(), None, Some(failure.code.name().to_owned())),
    })
}

/// The outcomes of the official evaluator, batch by batch.
fn official(batches: &[Batch]) -> Vec<Vec<Outcome>> {
    let scripts = node_scripts();
    let mut node = Command::new("node")
        .arg(scripts.path().join("differential.mjs"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("node starts; install it with: scripts/setup.sh sdk");
    let (mut stdin, stdout) = (node.stdin.take().unwrap(), node.stdout.take().unwrap());
    let outcomes = std::thread::scope(|scope| {
        scope.spawn(move || {
            for batch in batches {
                let line = json!({ "document": batch.document, "cases": batch.cases });
                // A process that is gone is seen from its output.
                if writeln!(stdin, "{line}").is_err() {
                    break;
                }
            }
        });
        let lines = BufReader::new(stdout).lines();
        lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect::<Vec<Vec<Outcome>>>()
    });
    assert!(node.wait().unwrap().success(), "the official evaluator failed; what it said is above");
    outcomes
}

#[test]
fn rules_come_to_the_same_as_in_the_official_evaluator() {
    let batches: Vec<Batch> = (0..DOCUMENTS).map(Batch::generated).collect();
    let theirs = official(&batches);
    assert_eq!(theirs.len(), batches.len());
    let (mut count, mut reasons, mut excused) = (0, BTreeMap::<String, usize>::new(), BTreeMap::<&str, usize>::new());
    let mut unexplained = Vec::new();
    for (batch, theirs) in batches.iter().zip(&theirs) {
        let snapshot = batch.snapshot();
        assert_eq!(batch.cases.len(), theirs.len());
        for ((key, context), theirs) in batch.cases.iter().zip(theirs) {
            let ours = ours(&snapshot, key, context);
            count += 1;
            *reasons.entry(ours.0.clone()).or_default() += 1;
            if ours == *theirs {
                continue;
            }
            let flag = &batch.document["flags"][key];
            let explanation = over(context, |context| explain(&snapshot, key, context, SystemTime::now()));
            let explanation = explanation.expect("the flag exists");
            match known::deviation(&explanation, &flag["targeting"], context, theirs.2.as_deref().unwrap_or_default()) {
                Some(name) => *excused.entry(name).or_default() += 1,
                None => unexplained.push(format!("{flag}\n  over {context}\n  here {ours:?}, there {theirs:?}")),
            }
        }
    }
    let known: usize = excused.values().sum();
    let told = format!("{count} cases, outcomes {reasons:?}, {known} known deviations: {excused:?}");
    assert!(count >= 100_000 && reasons.values().all(|n| n * 50 > count), "the cases are too few or too alike: {told}");
    // What is known to differ are rules that ask nonsense of odd contexts; were it more, the rest would prove little.
    assert!(known * 10 < count, "{told}");
    eprintln!("{told}");
    let all = unexplained.len();
    unexplained.sort_by_key(String::len);
    unexplained.truncate(SHOWN);
    assert!(all == 0, "{all} differ of {told}; the shortest:\n{}", unexplained.join("\n"));
}
