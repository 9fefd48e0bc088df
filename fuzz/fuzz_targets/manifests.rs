//! A stream of manifests: read or refused, injected, written back and read again. What was not changed keeps its bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use tidegate::kube::inject::{self, Options, Outcome};
use tidegate::kube::yaml::Stream;

fuzz_target!(|text: &str| {
    let Ok(stream) = Stream::parse(text) else { return };
    assert_eq!(stream.render(&[]).text, text, "what nobody changes stays");
    let documents: Vec<Value> = stream.documents().iter().map(|document| document.value().clone()).collect();
    let wanted: Vec<Option<Value>> = inject::stream(&documents, &Options::default())
        .into_iter()
        .map(|outcome| match outcome {
            Outcome::Injected { object, .. } => Some(object),
            Outcome::Untouched(_) | Outcome::Refused(_) => None,
        })
        .collect();
    // What has no pods is changed all the same, so that the writer has something to do.
    let changed: Vec<Option<Value>> = (documents.iter().zip(wanted))
        .map(|(document, wanted)| {
            Some(wanted.unwrap_or_else(|| match document {
                Value::Object(entries) => {
                    let mut entries = entries.clone();
                    entries.insert("spec".to_owned(), serde_json::json!({"yes": ["on", {"a": "\n"}]}));
                    Value::Object(entries)
                }
                other => Value::Array(vec![other.clone()]),
            }))
        })
        .collect();
    let rendered = stream.render(&changed).text;
    let again = Stream::parse(&rendered).expect("what was written can be read");
    assert_eq!(again.documents().len(), changed.len(), "{rendered}");
    for (document, wanted) in again.documents().iter().zip(&changed) {
        // 3.0 is read as 3, and both are the same number.
        let text = |value: &Value| value.to_string().replace(".0", "");
        assert_eq!(wanted.as_ref().map(text), Some(text(document.value())), "{rendered}");
    }
});
