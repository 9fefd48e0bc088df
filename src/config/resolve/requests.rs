//! `access_log`: what is told of requests.

use super::super::reader::Section;
use super::super::values::{choice, share};
use crate::proxy::observe::access::{Errors, Query, Settings};

pub(super) fn access_log(section: &mut Section<'_>) -> Settings {
    let sample = section.or(
        "sample",
        &share().or_off(),
        None,
        "The share of requests that get a line, one JSON object each. With `0`, failures alone do.",
    );
    let errors = section.or(
        "errors",
        &choice(&[("always", Errors::Always), ("sampled", Errors::Sampled)]),
        Errors::default(),
        "Requests answered by a 5xx, broken off or left by their client: each gets a line, or they are sampled as others \
         are.",
    );
    let query = section.or(
        "query",
        &choice(&[("drop", Query::Drop), ("keep", Query::Keep)]),
        Query::default(),
        "The query of targets and of `Referer`, where tokens and personal data tend to stand.",
    );
    Settings { sample, errors, query }
}
