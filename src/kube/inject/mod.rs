//! The sidecar into an object of Kubernetes and out of it again: JSON in, JSON out. Pure: knows no file, clock or chance.

mod advice;
mod annotations;
mod container;
mod environment;
mod json;
mod kinds;
mod options;
mod original;
mod outcome;
mod ports;
mod prestop;
mod probes;
mod protocol;
mod refusals;
mod report;
mod service;
mod sidecar;
mod template;
#[cfg(test)]
mod tests;
mod token;

use serde_json::Value;

pub use self::annotations::{ANNOTATIONS, check};
use self::json::{at, at_mut};
pub use self::options::{DrainToken, Mode, Options, PodTemplate, PreStop, Resources, Selection, Version};
pub use self::outcome::{Note, Outcome, Reason, Refusal};
use self::report::Report;
use self::template::Place;

/// Puts the sidecar into every pod template of `object`, which may be a `List`. An object that has it already gets it
/// anew, by the present options. Services are left to [`service()`].
///
/// `stream` is what else is there: Services tell which ports are served, policies are looked at for advice.
pub fn inject(object: &Value, stream: &[Value], options: &Options) -> Outcome {
    each(object, &|object| inject_one(object, stream, options))
}

fn inject_one(object: &Value, stream: &[Value], options: &Options) -> Outcome {
    let Some(found) = kinds::find(object, options) else { return Outcome::Untouched(Reason::NoPods) };
    let mut report = Report::new(kinds::called(object), found.path.join("."));
    let Some(present) = at(object, &found.path).filter(|template| template.get("spec").is_some_and(Value::is_object))
    else {
        report.refuse("", "no pod template with a spec", "write one, or name its path by --pod-template");
        return Outcome::Refused(report.refusals);
    };
    if let Some(reason) = annotations::stays(object, present, options) {
        return Outcome::Untouched(reason);
    }
    let plain = match plain(present, &mut report) {
        Ok(Some(plain)) => plain,
        Ok(None) => present.clone(),
        Err(refused) => return refused,
    };
    if template::is_by_hand(&plain, object, &mut report) {
        return Outcome::Untouched(Reason::ByHand);
    }
    let from = Place { object, kind: &found.kind, stream, present };
    let injected = template::inject(&plain, &from, options, &mut report);
    match injected {
        Some(template) if !report.refused() => {
            advice::give(&template, &from, &mut report);
            advice::quality(&template, &mut report);
            let mut changed = object.clone();
            if let Some(slot) = at_mut(&mut changed, &found.path) {
                *slot = template;
            }
            Outcome::Injected { object: changed, notes: report.notes }
        }
        _ => {
            if !report.refused() {
                report.refuse("spec", "not what a pod has", "correct the manifest");
            }
            Outcome::Refused(report.refusals)
        }
    }
}

/// A template without what injection put in; `None` where nothing was.
fn plain(template: &Value, report: &mut Report) -> Result<Option<Value>, Outcome> {
    if !original::is_injected(template) {
        return Ok(None);
    }
    match original::read(template) {
        Ok(original) => {
            let mut plain = template.clone();
            if let Err((wrong, remedy)) = original::restore(&mut plain, &original) {
                report.refuse("spec.containers", wrong, remedy);
                return Err(Outcome::Refused(std::mem::take(&mut report.refusals)));
            }
            Ok(Some(plain))
        }
        Err((wrong, remedy)) => {
            report.refuse(annotations::place(annotations::ORIGINAL), wrong, remedy);
            Err(Outcome::Refused(std::mem::take(&mut report.refusals)))
        }
    }
}

/// Takes out what [`inject`] or [`service()`] put in, wherever the pod template is.
pub fn uninject(object: &Value) -> Outcome {
    each(object, &uninject_one)
}

fn uninject_one(object: &Value) -> Outcome {
    if kinds::is_core(object, "Service") {
        return match service::restore(object) {
            Some(Ok(object)) => Outcome::Injected { object, notes: Vec::new() },
            Some(Err(refused)) => refused,
            None => Outcome::Untouched(Reason::NotInjected),
        };
    }
    let Some(path) = original::find(object) else { return Outcome::Untouched(Reason::NotInjected) };
    let mut report = Report::new(kinds::called(object), path.join("."));
    let mut changed = object.clone();
    let Some(slot) = at_mut(&mut changed, &path) else { return Outcome::Untouched(Reason::NotInjected) };
    match plain(slot, &mut report) {
        Ok(Some(plain)) => *slot = plain,
        Ok(None) => return Outcome::Untouched(Reason::NotInjected),
        Err(refused) => return refused,
    }
    Outcome::Injected { object: changed, notes: Vec::new() }
}

/// Leads a Service, or those of a `List`, to the sidecars of `workloads`.
pub fn service(service: &Value, workloads: &[Value], options: &Options) -> Outcome {
    each(service, &|service| self::service::route(service, workloads, options))
}

/// All documents of a stream, each beside all others: [`inject`] for what has pods, then [`service()`] for Services. Outcomes
/// come in the order of the documents.
pub fn stream(documents: &[Value], options: &Options) -> Vec<Outcome> {
    // What a workload is looked at beside, picked out once: streams may be long.
    let kinds = ["Service", "PodDisruptionBudget", "NetworkPolicy"];
    let beside = |object: &&Value| json::text(object, "kind").is_some_and(|kind| kinds.contains(&kind));
    let beside: Vec<Value> = kinds::leaves(documents).into_iter().filter(beside).cloned().collect();
    let outcomes: Vec<Outcome> = documents.iter().map(|document| inject(document, &beside, options)).collect();
    let workloads: Vec<Value> = outcomes
        .iter()
        .zip(documents)
        .map(|(outcome, document)| match outcome {
            Outcome::Injected { object, .. } => object.clone(),
            _ => document.clone(),
        })
        .collect();
    let led = |(document, outcome): (&Value, Outcome)| match outcome {
        Outcome::Refused(_) => outcome,
        Outcome::Injected { object, mut notes } => match service(&object, &workloads, options) {
            Outcome::Injected { object, notes: more } => {
                notes.extend(more);
                Outcome::Injected { object, notes }
            }
            Outcome::Untouched(_) => Outcome::Injected { object, notes },
            refused @ Outcome::Refused(_) => refused,
        },
        Outcome::Untouched(reason) => match service(document, &workloads, options) {
            Outcome::Untouched(Reason::NoPods) => Outcome::Untouched(reason),
            outcome => outcome,
        },
    };
    documents.iter().zip(outcomes).map(led).collect()
}

/// Does `work` to an object, or to each item of a list of objects, which may be lists.
fn each(object: &Value, work: &dyn Fn(&Value) -> Outcome) -> Outcome {
    let Some(items) = kinds::items(object) else { return work(object) };
    let (mut changed, mut notes, mut refusals) = (Vec::new(), Vec::new(), Vec::new());
    let mut injected = false;
    let mut reason = None;
    for item in items {
        match each(&with_kind(item, object), work) {
            Outcome::Injected { object: new, notes: more } => {
                injected = true;
                notes.extend(more);
                changed.push(like(new, item));
            }
            Outcome::Untouched(why) => {
                if why != Reason::NoPods {
                    reason.get_or_insert(why);
                }
                changed.push(item.clone());
            }
            Outcome::Refused(more) => refusals.extend(more),
        }
    }
    if !refusals.is_empty() {
        return Outcome::Refused(refusals);
    }
    if !injected {
        return Outcome::Untouched(reason.unwrap_or(Reason::NoPods));
    }
    let mut list = object.clone();
    json::insert(&mut list, "items", changed.into());
    Outcome::Injected { object: list, notes }
}

/// An item of a `DeploymentList` may leave its kind to the list.
fn with_kind(item: &Value, list: &Value) -> Value {
    let mut item = item.clone();
    let kind = json::text(list, "kind").and_then(|kind| kind.strip_suffix("List")).filter(|kind| !kind.is_empty());
    if let Some(kind) = kind.filter(|_| item.get("kind").is_none()) {
        json::insert(&mut item, "kind", kind.into());
        if let Some(version) = list.get("apiVersion").filter(|_| item.get("apiVersion").is_none()) {
            json::insert(&mut item, "apiVersion", version.clone());
        }
    }
    item
}

/// A changed item without the kind that it did not have.
fn like(mut changed: Value, item: &Value) -> Value {
    for key in ["kind", "apiVersion"] {
        if item.get(key).is_none() {
            json::remove(&mut changed, key);
        }
    }
    changed
}
