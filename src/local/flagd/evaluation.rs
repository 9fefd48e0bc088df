//! `flagd.evaluation.v1`, `.v2` and the legacy `schema.v1`: one flag, or all of them, for a context. The messages are
//! those of the files in `proto/`; of the three versions they differ in what may be missing.

use std::borrow::Cow;
use std::fmt;
use std::time::SystemTime;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::structs;
use crate::flags::context::{Context, Name, Object, Value};
use crate::flags::evaluate::{ErrorCode, Failure, Reason, evaluate_entry};
use crate::flags::model::{self, Variant};
use crate::flags::store::{Entry, Snapshot};
use crate::flags::usage::{self, Fetch};
use crate::net::rpc::wire::{Fields, Malformed, put_bytes, put_double, put_message, put_number};
use crate::net::rpc::{Code, Codec, Status};

/// Which service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// `schema.v1`
    Schema,
    /// `flagd.evaluation.v1`
    V1,
    /// `flagd.evaluation.v2`
    V2,
}

/// The type asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Boolean,
    String,
    Integer,
    Float,
    Object,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Boolean => "boolean",
            Kind::String => "string",
            Kind::Integer => "integer",
            Kind::Float => "float",
            Kind::Object => "object",
        }
    }

    /// Numbers are numbers, as in flagd: an integer is asked for as a float and a float as an integer.
    fn fits(self, kind: model::Kind) -> bool {
        match kind {
            model::Kind::Boolean => self == Kind::Boolean,
            model::Kind::String => self == Kind::String,
            model::Kind::Integer | model::Kind::Float => matches!(self, Kind::Integer | Kind::Float),
            model::Kind::Object => self == Kind::Object,
        }
    }
}

/// `Resolve…`: evaluates one flag and appends the answer.
///
/// # Errors
/// By the evaluation's error: `FLAG_NOT_FOUND` → `NOT_FOUND`, `TYPE_MISMATCH` and `INVALID_CONTEXT` →
/// `INVALID_ARGUMENT`, `PARSE_ERROR` → `DATA_LOSS`, else `UNKNOWN`. Before version 2 a flag without a default variant,
/// when nothing else was chosen, is `NOT_FOUND`: that has no way to say that the app's own default counts.
pub(super) fn resolve(
    (version, kind): (Version, Kind),
    codec: Codec,
    snapshot: &Snapshot,
    message: &[u8],
    now: SystemTime,
    answer: &mut Vec<u8>,
) -> Result<(), Status> {
    let asked = Asked::read(codec, message, Place::Second)?;
    let resolution = usage::evaluate(snapshot, &asked.key, &Context::new(asked.context), now)?;
    let entry = resolution.entry;
    let (variant, reason) = match (resolution.reason, resolution.variant) {
        (Reason::Disabled, _) => (None, Reason::Disabled),
        (reason, Some(variant)) => (Some(variant), reason),
        // Stale or not: clients take their own default for these two reasons alone.
        (_, None) if version == Version::V2 => (None, Reason::Default),
        (_, None) => return Err(no_default(entry)),
    };
    if let Some(variant) = variant
        && !kind.fits(variant.kind())
    {
        let (key, is, asked) = (entry.flag().key(), variant.kind().name(), kind.name());
        let details = format!("flag {key:?} is of type {is}, not {asked}");
        return Err(Failure { code: ErrorCode::TypeMismatch, details }.into());
    }
    match codec {
        Codec::Proto => {
            if let Some(variant) = variant {
                put_value(answer, kind, variant);
            }
            put_bytes(answer, 2, reason.name());
            if let Some(variant) = variant {
                put_bytes(answer, 3, variant.name());
            }
            structs::put_metadata(answer, 4, entry.metadata());
        }
        Codec::Json => {
            answer.push(b'{');
            match variant {
                Some(variant) => {
                    answer.extend_from_slice(b"\"value\":");
                    put_value_json(answer, kind, variant);
                    answer.push(b',');
                }
                // What is not set is sent all the same, as flagd does.
                None if version != Version::V2 => {
                    answer.extend_from_slice(b"\"value\":");
                    answer.extend_from_slice(zero(kind).as_bytes());
                    answer.push(b',');
                }
                None => {}
            }
            answer.extend_from_slice(b"\"reason\":\"");
            answer.extend_from_slice(reason.name().as_bytes());
            answer.push(b'"');
            if variant.is_some() || version != Version::V2 {
                answer.extend_from_slice(b",\"variant\":");
                put_text_json(answer, variant.map_or("", Variant::name));
            }
            answer.extend_from_slice(b",\"metadata\":");
            answer.extend_from_slice(entry.metadata_json().as_bytes());
            answer.push(b'}');
        }
    }
    Ok(())
}

/// `ResolveAll`: evaluates every flag and appends the answer. As in flagd, flags without a default variant are not in
/// it, and disabled ones are with an empty value. Unlike there, a flag whose evaluation fails is left out: clients look
/// at the value alone, and would take an empty one for the flag's.
///
/// # Errors
/// `INVALID_ARGUMENT` for what is no request.
pub(super) fn resolve_all(
    version: Version,
    codec: Codec,
    snapshot: &Snapshot,
    message: &[u8],
    now: SystemTime,
    answer: &mut Vec<u8>,
) -> Result<(), Status> {
    let context = Context::new(Asked::read(codec, message, Place::First)?.context);
    usage::fetched(snapshot, Fetch::Bulk, now);
    let resolved = snapshot.iter().filter_map(|entry| {
        entry.flag().default_variant()?;
        let resolution = evaluate_entry(snapshot, entry, &context, now).ok()?;
        Some((entry, resolution.variant, resolution.reason))
    });
    match codec {
        Codec::Proto => {
            for (entry, variant, reason) in resolved {
                put_message(answer, 1, |answer| {
                    put_bytes(answer, 1, entry.flag().key());
                    put_message(answer, 2, |answer| put_any(answer, version, entry, variant, reason));
                });
            }
            if version == Version::V1 {
                structs::put_json(answer, 2, snapshot.metadata_json());
            }
        }
        Codec::Json => {
            answer.extend_from_slice(b"{\"flags\":{");
            for (at, (entry, variant, reason)) in resolved.enumerate() {
                if at > 0 {
                    answer.push(b',');
                }
                answer.extend_from_slice(entry.flag().key_json().as_bytes());
                answer.push(b':');
                put_any_json(answer, version, entry, variant, reason);
            }
            answer.push(b'}');
            if version == Version::V1 {
                answer.extend_from_slice(b",\"metadata\":");
                answer.extend_from_slice(snapshot.metadata_json().as_bytes());
            }
            answer.push(b'}');
        }
    }
    Ok(())
}

/// The fields of an `AnyFlag`.
fn put_any(answer: &mut Vec<u8>, version: Version, entry: &Entry, variant: Option<&Variant>, reason: Reason) {
    put_bytes(answer, 1, reason.name());
    if let Some(variant) = variant {
        put_bytes(answer, 2, variant.name());
    }
    let json = variant.map(Variant::value_json);
    match entry.flag().kind() {
        model::Kind::Boolean => put_number(answer, 3, u64::from(json == Some("true"))),
        model::Kind::String => put_bytes(answer, 4, structs::text(json.unwrap_or_default()).as_bytes()),
        model::Kind::Integer | model::Kind::Float => put_double(answer, 5, json.map_or(0.0, float)),
        model::Kind::Object => structs::put_json(answer, 6, json.unwrap_or("{}")),
    }
    if version == Version::V1 {
        structs::put_metadata(answer, 7, entry.metadata());
    }
}

fn put_any_json(answer: &mut Vec<u8>, version: Version, entry: &Entry, variant: Option<&Variant>, reason: Reason) {
    answer.extend_from_slice(b"{\"reason\":\"");
    answer.extend_from_slice(reason.name().as_bytes());
    answer.extend_from_slice(b"\",\"variant\":");
    put_text_json(answer, variant.map_or("", Variant::name));
    let (name, zero) = match entry.flag().kind() {
        model::Kind::Boolean => ("boolValue", "false"),
        model::Kind::String => ("stringValue", "\"\""),
        model::Kind::Integer | model::Kind::Float => ("doubleValue", "0"),
        model::Kind::Object => ("objectValue", "{}"),
    };
    answer.extend_from_slice(b",\"");
    answer.extend_from_slice(name.as_bytes());
    answer.extend_from_slice(b"\":");
    answer.extend_from_slice(variant.map_or(zero, Variant::value_json).as_bytes());
    if version == Version::V1 {
        answer.extend_from_slice(b",\"metadata\":");
        answer.extend_from_slice(entry.metadata_json().as_bytes());
    }
    answer.push(b'}');
}

fn put_value(answer: &mut Vec<u8>, kind: Kind, variant: &Variant) {
    let json = variant.value_json();
    match kind {
        Kind::Boolean => put_number(answer, 1, u64::from(json == "true")),
        Kind::String => put_bytes(answer, 1, structs::text(json).as_bytes()),
        Kind::Integer => put_number(answer, 1, integer(json).cast_unsigned()),
        Kind::Float => put_double(answer, 1, float(json)),
        Kind::Object => structs::put_json(answer, 1, json),
    }
}

fn put_value_json(answer: &mut Vec<u8>, kind: Kind, variant: &Variant) {
    let json = variant.value_json();
    if kind == Kind::Integer {
        // proto3's JSON mapping: an int64 is a string, because JavaScript's numbers are not as long.
        answer.push(b'"');
        answer.extend_from_slice(itoa::Buffer::new().format(integer(json)).as_bytes());
        answer.push(b'"');
    } else {
        answer.extend_from_slice(json.as_bytes());
    }
}

fn put_text_json(answer: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(answer, text).expect("a string serialises, and a Vec takes it");
}

/// A number of ours as an integer: cut at the point as flagd does, and held within 64 bits.
fn integer(json: &str) -> i64 {
    json.parse().unwrap_or_else(|_| float(json) as i64)
}

fn float(json: &str) -> f64 {
    json.parse().unwrap_or_default()
}

fn zero(kind: Kind) -> &'static str {
    match kind {
        Kind::Boolean => "false",
        Kind::String => "\"\"",
        Kind::Integer => "\"0\"",
        Kind::Float => "0",
        Kind::Object => "{}",
    }
}

fn no_default(entry: &Entry) -> Status {
    let text = format!("flag {:?} has no default variant, which only flagd.evaluation.v2 can say", entry.flag().key());
    Status::new(Code::NotFound, text)
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        let code = match failure.code {
            ErrorCode::FlagNotFound => Code::NotFound,
            ErrorCode::TypeMismatch | ErrorCode::InvalidContext => Code::InvalidArgument,
            ErrorCode::ParseError => Code::DataLoss,
            ErrorCode::General => Code::Unknown,
        };
        Status::new(code, failure.details)
    }
}

/// Where a request has its context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In field 1: it names no flag.
    First,
    /// In field 2, after the flag's key.
    Second,
}

/// A request of any kind, read in place.
#[derive(Debug)]
struct Asked<'b> {
    key: Cow<'b, str>,
    context: Object<'b>,
}

impl<'b> Asked<'b> {
    fn read(codec: Codec, message: &'b [u8], context: Place) -> Result<Self, Status> {
        let refused = |why: String| Status::new(Code::InvalidArgument, format!("the request is not sound: {why}"));
        match codec {
            Codec::Proto => Self::proto(message, context).map_err(|error| refused(error.to_string())),
            Codec::Json => {
                let text = std::str::from_utf8(message).map_err(|error| refused(error.to_string()))?;
                serde_json::from_str(text).map_err(|error| refused(error.to_string()))
            }
        }
    }

    fn proto(message: &'b [u8], place: Place) -> Result<Self, Malformed> {
        let mut key = "";
        let mut context = Vec::with_capacity(8);
        for field in Fields::of(message) {
            match (field?, place) {
                ((1, wire), Place::Second) => key = wire.text()?,
                ((1, wire), Place::First) | ((2, wire), Place::Second) => structs::read(wire.bytes()?, &mut context)?,
                _ => {}
            }
        }
        Ok(Self { key: Cow::Borrowed(key), context: Object::new(context) })
    }
}

impl<'de> Deserialize<'de> for Asked<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Asked<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with a flagKey and a context")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Asked<'de>, A::Error> {
                let mut asked = Asked { key: Cow::Borrowed(""), context: Object::default() };
                while let Some(Name(name)) = map.next_key()? {
                    match &*name {
                        // The name in the proto file is taken too (proto3's JSON mapping).
                        "flagKey" | "flag_key" => match map.next_value()? {
                            Value::String(key) => asked.key = key,
                            Value::Null => {}
                            _ => return Err(serde::de::Error::custom("flagKey must be a string")),
                        },
                        "context" => match map.next_value()? {
                            Value::Object(context) => asked.context = context,
                            Value::Null => {}
                            _ => return Err(serde::de::Error::custom("context must be an object")),
                        },
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(asked)
            }
        }

        deserializer.deserialize_map(Members)
    }
}
