//! The sidecar into an object of Kubernetes and out of it again: JSON in, JSON out. Pure: knows no file, clock or chance.

mod options;
mod outcome;

use serde_json::Value;

pub use self::options::{DrainToken, Mode, Options, PodTemplate, PreStop, Resources, Selection, Version};
pub use self::outcome::{Note, Outcome, Reason, Refusal};

/// Puts the sidecar into every pod template of `object`, which may be a `List`. An object that has it already gets it
/// anew, by the present options. Services are left to [`service`].
///
/// `stream` is what else is in the stream: Services tell which ports are served; others are looked at for advice.
pub fn inject(object: &Value, stream: &[Value], options: &Options) -> Outcome {
    let _unused = (object, stream, options);
    Outcome::Untouched(Reason::NoPods)
}

/// Takes out what [`inject`] or [`service`] put in.
pub fn uninject(object: &Value) -> Outcome {
    let _unused = object;
    Outcome::Untouched(Reason::NotInjected)
}

/// Leads a Service, or those of a `List`, to the sidecars of `workloads`, which are injected.
pub fn service(service: &Value, workloads: &[Value], options: &Options) -> Outcome {
    let _unused = (service, workloads, options);
    Outcome::Untouched(Reason::NoPods)
}

/// All documents of a stream, each beside all others: [`inject`] for what has pods, [`service`] for Services. Outcomes come
/// in the order of the documents.
pub fn stream(documents: &[Value], options: &Options) -> Vec<Outcome> {
    documents.iter().map(|document| inject(document, documents, options)).collect()
}
