//! The messages of `ResolveBoolean` in flagd.evaluation.v1 and v2, which are the same on the wire, and gRPC's frame around one.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use prost::Message;
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};

/// Which of flagd's services.
pub(crate) const V2: &str = "/flagd.evaluation.v2.Service/ResolveBoolean";
pub(crate) const V1: &str = "/flagd.evaluation.v1.Service/ResolveBoolean";

/// `ResolveBooleanRequest`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Question {
    #[prost(string, tag = "1")]
    pub(crate) flag_key: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) context: Option<Struct>,
}

/// `ResolveBooleanResponse`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Resolution {
    #[prost(bool, optional, tag = "1")]
    pub(crate) value: Option<bool>,
    #[prost(string, tag = "2")]
    pub(crate) reason: String,
    #[prost(string, optional, tag = "3")]
    pub(crate) variant: Option<String>,
    #[prost(message, optional, tag = "4")]
    pub(crate) metadata: Option<Struct>,
}

/// The frame of a question about `key` in the context of an OFREP request.
///
/// # Errors
/// When `ofrep` is none.
pub(crate) fn question(key: &str, ofrep: &str) -> anyhow::Result<Vec<u8>> {
    let mut request: serde_json::Value = serde_json::from_str(ofrep)?;
    let Value { kind: Some(Kind::StructValue(context)) } = value(request["context"].take()) else {
        anyhow::bail!("the context is no object");
    };
    let question = Question { flag_key: key.to_owned(), context: Some(context) };
    Ok(frame(&question))
}

/// A resolution as sidecars give it, made `bytes` long by its metadata if that is longer.
pub(crate) fn resolution(bytes: usize) -> Resolution {
    let mut resolution = Resolution {
        value: Some(true),
        reason: "TARGETING_MATCH".to_owned(),
        variant: Some("on".to_owned()),
        metadata: None,
    };
    while resolution.encoded_len() < bytes {
        let text = "x".repeat(resolution.metadata.as_ref().map_or(0, |metadata| text(metadata).len() + 1));
        let fields = BTreeMap::from([("source".to_owned(), Value { kind: Some(Kind::StringValue(text)) })]);
        resolution.metadata = Some(Struct { fields });
    }
    resolution
}

/// The frame of [`resolution`].
pub(crate) fn answer(bytes: usize) -> Vec<u8> {
    frame(&resolution(bytes))
}

/// The message of an answer that consists of one.
///
/// # Errors
/// When it is not what a service of a flag that is on answers.
pub(crate) fn read(frame: &[u8]) -> anyhow::Result<Resolution> {
    let message = frame.get(5..).context("no message")?;
    let resolution = Resolution::decode(message)?;
    ensure!(resolution.value == Some(true), "the flag is answered with {resolution:?}");
    Ok(resolution)
}

fn frame(message: &impl Message) -> Vec<u8> {
    let mut frame = vec![0];
    frame.extend_from_slice(&u32::try_from(message.encoded_len()).unwrap_or(u32::MAX).to_be_bytes());
    message.encode_raw(&mut frame);
    frame
}

fn text(metadata: &Struct) -> &str {
    match metadata.fields.get("source") {
        Some(Value { kind: Some(Kind::StringValue(text)) }) => text,
        _ => "",
    }
}

fn value(json: serde_json::Value) -> Value {
    let kind = match json {
        serde_json::Value::Null => Kind::NullValue(0),
        serde_json::Value::Bool(bool) => Kind::BoolValue(bool),
        serde_json::Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(f64::NAN)),
        serde_json::Value::String(text) => Kind::StringValue(text),
        serde_json::Value::Array(values) => {
            Kind::ListValue(ListValue { values: values.into_iter().map(value).collect() })
        }
        serde_json::Value::Object(fields) => {
            Kind::StructValue(Struct { fields: fields.into_iter().map(|(name, json)| (name, value(json))).collect() })
        }
    };
    Value { kind: Some(kind) }
}
