//! `grpc.reflection.v1` and `.v1alpha` (the same messages under two names): what is served, described by the files of
//! `proto/`, for clients such as grpcurl that have none of them.

use bytes::Bytes;
use futures_util::stream;
use http_body::Body;

use super::SERVICES;
use super::subscription::Sources;
use crate::local::streams::Place;
use crate::net::rpc::wire::{Fields, Malformed, put_bytes, put_message, put_number};
use crate::net::rpc::{Code, Interrupted, Messages, Status, Stream};

/// The files of `proto/` and what they import, as a `google.protobuf.FileDescriptorSet`; made by `build.rs`.
pub(super) const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// A file's descriptor.
#[derive(Debug, Default)]
struct File {
    bytes: &'static [u8],
    name: &'static str,
    imports: Vec<&'static str>,
    /// Full names of its services, methods, messages and enums, and those of fields and values.
    symbols: Vec<String>,
}

impl File {
    /// Reads a `google.protobuf.FileDescriptorProto`.
    fn read(bytes: &'static [u8]) -> Result<Self, Malformed> {
        let mut file = Self { bytes, ..Self::default() };
        let mut package = "";
        let mut declared = Vec::new();
        for field in Fields::of(bytes) {
            match field? {
                (1, name) => file.name = name.text()?,
                (2, name) => package = name.text()?,
                (3, name) => file.imports.push(name.text()?),
                (number @ 4..=6, inner) => declared.push((number, inner.bytes()?)),
                _ => {}
            }
        }
        for (number, inner) in declared {
            // Of a service, an enum, a message: the fields that hold further named things.
            let inside: &[u32] = if number == 4 { &[2, 3, 4] } else { &[2] };
            names(inner, package, inside, &mut file.symbols)?;
        }
        Ok(file)
    }
}

/// Collects the full name of a declaration and of those in its fields `inside`.
fn names(declaration: &[u8], parent: &str, inside: &[u32], symbols: &mut Vec<String>) -> Result<(), Malformed> {
    let mut name = "";
    for field in Fields::of(declaration) {
        if let (1, text) = field? {
            name = text.text()?;
        }
    }
    let name = if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") };
    for field in Fields::of(declaration) {
        if let (number, inner) = field?
            && inside.contains(&number)
        {
            let nested: &[u32] = if number == 3 { &[2, 3, 4] } else { &[] };
            names(inner.bytes()?, &name, nested, symbols)?;
        }
    }
    symbols.push(name);
    Ok(())
}

fn files() -> Vec<File> {
    let fields = Fields::of(DESCRIPTORS).filter_map(Result::ok);
    fields.filter_map(|(_, file)| File::read(file.bytes().ok()?).ok()).collect()
}

/// `ServerReflectionInfo`: an answer to each question, for as long as the client asks.
pub(super) fn stream<B>(questions: Messages<B>, sources: Sources, place: Place) -> Stream
where
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Into<Interrupted>,
{
    let first = Some((questions, sources, place));
    Box::pin(stream::unfold(first, |state| async move {
        let (mut questions, mut sources, mut place) = state?;
        place.asked();
        let question = tokio::select! {
            question = questions.next() => question,
            _ = sources.phase.wait_for(|phase| phase.is_closing()) => {
                return None;
            }
        };
        let answered = match question {
            Ok(Some(question)) => answer(&question),
            Ok(None) => return None,
            Err(status) => Err(status),
        };
        place.gave();
        Some(match answered {
            Ok(answer) => (Ok(answer.into()), Some((questions, sources, place))),
            Err(status) => (Err(status), None),
        })
    }))
}

/// A `ServerReflectionResponse` to a `ServerReflectionRequest`.
fn answer(question: &[u8]) -> Result<Vec<u8>, Status> {
    let mut host = "";
    let mut asked = None;
    let read = |text: Result<&'_ str, Malformed>| {
        text.map(str::to_owned).map_err(|error| Status::new(Code::InvalidArgument, error.to_string()))
    };
    for field in Fields::of(question) {
        match field.map_err(|error| Status::new(Code::InvalidArgument, error.to_string()))? {
            (1, text) => host = text.text().unwrap_or_default(),
            (5, _) => asked = Some((5, String::new())),
            (number @ (3 | 4 | 6 | 7), text) => asked = Some((number, read(text.text())?)),
            _ => {}
        }
    }
    let mut answer = Vec::new();
    put_bytes(&mut answer, 1, host);
    put_bytes(&mut answer, 2, question);
    let files = files();
    let found = match &asked {
        Some((3, name)) => files.iter().find(|file| file.name == name),
        Some((4, symbol)) => files.iter().find(|file| file.symbols.iter().any(|known| known == symbol)),
        _ => None,
    };
    match (&asked, found) {
        (_, Some(file)) => put_message(&mut answer, 4, |answer| {
            for file in with_imports(file, &files) {
                put_bytes(answer, 1, file.bytes);
            }
        }),
        (Some((7, _)), _) => put_message(&mut answer, 6, |answer| {
            for service in SERVICES {
                put_message(answer, 1, |answer| put_bytes(answer, 1, service));
            }
        }),
        (Some((_, what)), None) => put_message(&mut answer, 7, |answer| {
            put_number(answer, 1, u64::from(Code::NotFound.number()));
            put_bytes(answer, 2, format!("{what:?} is not described here"));
        }),
        (None, None) => put_message(&mut answer, 7, |answer| {
            put_number(answer, 1, u64::from(Code::InvalidArgument.number()));
            put_bytes(answer, 2, "nothing is asked");
        }),
    }
    Ok(answer)
}

/// A file and all that it imports, itself first.
fn with_imports<'f>(file: &'f File, files: &'f [File]) -> Vec<&'f File> {
    let mut all = vec![file];
    let mut at = 0;
    while at < all.len() {
        for import in &all[at].imports {
            if let Some(file) = files.iter().find(|file| file.name == *import)
                && !all.iter().any(|known| known.name == file.name)
            {
                all.push(file);
            }
        }
        at += 1;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_service_is_described_with_its_methods() {
        let files = files();
        for service in SERVICES {
            let described = files.iter().any(|file| file.symbols.iter().any(|symbol| symbol == service));
            assert!(described, "{service} is in no file of proto/");
        }
        let all: Vec<&str> = files.iter().flat_map(|file| &file.symbols).map(String::as_str).collect();
        for symbol in [
            "flagd.evaluation.v2.Service.ResolveBoolean",
            "flagd.evaluation.v1.AnyFlag.object_value",
            "flagd.evaluation.v1.ResolveAllResponse.FlagsEntry",
            "google.protobuf.Struct",
            "grpc.health.v1.HealthCheckResponse.ServingStatus",
        ] {
            assert!(all.contains(&symbol), "{symbol}");
        }
    }

    #[test]
    fn what_a_file_imports_comes_with_it() {
        let files = files();
        let sync = files.iter().find(|file| file.symbols.iter().any(|name| name == "flagd.sync.v1.FlagSyncService"));
        let names: Vec<&str> = with_imports(sync.expect("there"), &files).iter().map(|file| file.name).collect();
        assert_eq!(names, ["flagd/sync/v1/sync.proto", "google/protobuf/struct.proto"]);
    }
}
