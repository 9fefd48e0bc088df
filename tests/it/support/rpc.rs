//! Clients of the gRPC family, their messages made from the descriptors of `proto/` by another implementation than the
//! product's: JSON in, JSON out, whatever travels between.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf as _, BufMut as _};
use http::uri::PathAndQuery;
use prost_reflect::prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor, SerializeOptions};
use serde_json::Value;
use tokio::time::timeout;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder, Streaming};
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use super::raw::{Answer, Client};

/// No message of a test takes longer.
const LIMIT: Duration = Duration::from_secs(30);

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(&include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"))[..]).unwrap()
});

/// `flagd.evaluation.v2.Service/ResolveBoolean` in the descriptors.
fn method(path: &str) -> MethodDescriptor {
    let (service, name) = path.split_once('/').unwrap();
    let service = POOL.get_service_by_name(service).unwrap_or_else(|| panic!("no service {service}"));
    service.methods().find(|method| method.name() == name).unwrap_or_else(|| panic!("no method {path}"))
}

/// The bytes of a method's request.
pub(crate) fn encoded(path: &str, request: &Value) -> Vec<u8> {
    DynamicMessage::deserialize(method(path).input(), request.clone()).unwrap().encode_to_vec()
}

/// What the bytes of a method's answer hold, by proto3's JSON mapping; what is not set is left out.
pub(crate) fn decoded(path: &str, answer: &[u8]) -> Value {
    json(&DynamicMessage::decode(method(path).output(), answer).unwrap())
}

/// The same of an answer that came as JSON.
pub(crate) fn normal(path: &str, answer: &[u8]) -> Value {
    let mut reader = serde_json::Deserializer::from_slice(answer);
    json(&DynamicMessage::deserialize(method(path).output(), &mut reader).unwrap())
}

fn json(message: &DynamicMessage) -> Value {
    let options = SerializeOptions::new().skip_default_fields(true);
    message.serialize_with_options(serde_json::value::Serializer, &options).unwrap()
}

/// An envelope of gRPC or Connect.
pub(crate) fn enveloped(flags: u8, message: &[u8]) -> Vec<u8> {
    let mut bytes = vec![flags];
    bytes.put_u32(u32::try_from(message.len()).unwrap());
    bytes.extend_from_slice(message);
    bytes
}

/// The envelopes that these bytes are.
pub(crate) fn envelopes(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let (flags, len) = (bytes.get_u8(), bytes.get_u32() as usize);
        all.push((flags, bytes[..len].to_vec()));
        bytes.advance(len);
    }
    all
}

/// A gRPC client over HTTP/2.
#[derive(Clone)]
pub(crate) struct Rpc(Channel);

/// A stream of answers.
pub(crate) struct Answers(Streaming<DynamicMessage>);

impl Rpc {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self(Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap())
    }

    pub(crate) async fn connect_unix(path: &Path) -> Self {
        Self(Endpoint::from_shared(format!("unix://{}", path.display())).unwrap().connect().await.unwrap())
    }

    /// With settings of one's own.
    pub(crate) async fn connect_with(address: SocketAddr, set: impl FnOnce(Endpoint) -> Endpoint) -> Self {
        Self(set(Endpoint::from_shared(format!("http://{address}")).unwrap()).connect().await.unwrap())
    }

    pub(crate) async fn call(&self, path: &str, request: Value) -> Result<Value, Status> {
        self.call_with(path, request, MetadataMap::new()).await.map(|(answer, _)| answer)
    }

    /// The answer with its metadata.
    pub(crate) async fn call_with(
        &self,
        path: &str,
        request: Value,
        metadata: MetadataMap,
    ) -> Result<(Value, MetadataMap), Status> {
        let (mut grpc, codec, at) = self.prepare(path).await;
        let mut request = Request::new(DynamicMessage::deserialize(method(path).input(), request).unwrap());
        *request.metadata_mut() = metadata;
        let answer = timeout(LIMIT, grpc.unary(request, at, codec)).await.expect("an answer within the limit")?;
        let (metadata, message, _) = answer.into_parts();
        Ok((json(&message), metadata))
    }

    pub(crate) async fn stream(&self, path: &str, request: Value) -> Result<Answers, Status> {
        self.stream_with(path, request, MetadataMap::new()).await
    }

    pub(crate) async fn stream_with(
        &self,
        path: &str,
        request: Value,
        metadata: MetadataMap,
    ) -> Result<Answers, Status> {
        let (mut grpc, codec, at) = self.prepare(path).await;
        let mut request = Request::new(DynamicMessage::deserialize(method(path).input(), request).unwrap());
        *request.metadata_mut() = metadata;
        let answers = timeout(LIMIT, grpc.server_streaming(request, at, codec)).await.expect("within the limit")?;
        Ok(Answers(answers.into_inner()))
    }

    /// Asks all these questions over one stream.
    pub(crate) async fn converse(&self, path: &str, questions: &[Value]) -> Result<Answers, Status> {
        let (mut grpc, codec, at) = self.prepare(path).await;
        let questions: Vec<_> = questions
            .iter()
            .map(|question| DynamicMessage::deserialize(method(path).input(), question.clone()).unwrap())
            .collect();
        let request = Request::new(futures_util::stream::iter(questions));
        let answers = timeout(LIMIT, grpc.streaming(request, at, codec)).await.expect("within the limit")?;
        Ok(Answers(answers.into_inner()))
    }

    async fn prepare(&self, path: &str) -> (Grpc<Channel>, Dynamic, PathAndQuery) {
        let mut grpc = Grpc::new(self.0.clone()).max_decoding_message_size(64 * 1024 * 1024);
        timeout(LIMIT, grpc.ready()).await.expect("ready within the limit").unwrap();
        (grpc, Dynamic(method(path).output()), format!("/{path}").parse().unwrap())
    }
}

impl Answers {
    /// The next answer; none at a clean end.
    pub(crate) async fn next(&mut self) -> Result<Option<Value>, Status> {
        let answer = timeout(LIMIT, self.0.message()).await.expect("an answer or the end within the limit")?;
        Ok(answer.map(|message| json(&message)))
    }

    /// The next answer, which must come.
    pub(crate) async fn one(&mut self) -> Value {
        self.next().await.unwrap().expect("one more answer")
    }
}

struct Dynamic(MessageDescriptor);

impl Codec for Dynamic {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self(self.0.clone())
    }

    fn decoder(&mut self) -> Self {
        Self(self.0.clone())
    }
}

impl Encoder for Dynamic {
    type Item = DynamicMessage;
    type Error = Status;

    fn encode(&mut self, item: DynamicMessage, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(buffer).map_err(|error| Status::internal(error.to_string()))
    }
}

impl Decoder for Dynamic {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        DynamicMessage::decode(self.0.clone(), buffer).map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}

/// One POST over HTTP/1.1 with these headers, each line ended.
pub(crate) async fn post(address: SocketAddr, path: &str, headers: &str, body: &[u8]) -> Answer {
    let mut client = Client::connect(address).await.unwrap();
    send(&mut client, path, headers, body).await;
    client.answer().await.unwrap()
}

/// Sends a POST with these headers.
pub(crate) async fn send(client: &mut Client, path: &str, headers: &str, body: &[u8]) {
    let head = format!("POST /{path} HTTP/1.1\r\nHost: t\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    client.send([head.as_bytes(), body].concat()).await.unwrap();
}

/// The forms in which a unary call travels over HTTP/1.1, by their content types.
pub(crate) const FORMS: [&str; 8] = [
    "application/json",
    "application/proto",
    "application/grpc-web+proto",
    "application/grpc-web",
    "application/grpc-web+json",
    "application/grpc-web-text",
    "application/grpc-web-text+proto",
    "application/grpc-web-text+json",
];

/// A unary call in one of the [`FORMS`]: its answer, or the code of its failure as gRPC numbers it.
pub(crate) async fn call_as(address: SocketAddr, form: &str, path: &str, request: &Value) -> Result<Value, u32> {
    let in_json = form.ends_with("json");
    let message = if in_json { request.to_string().into_bytes() } else { encoded(path, request) };
    let read = |bytes: &[u8]| if in_json { normal(path, bytes) } else { decoded(path, bytes) };
    let (web, text) = (form.contains("grpc-web"), form.contains("text"));
    let body = match (web, text) {
        (false, _) => message,
        (true, false) => enveloped(0, &message),
        (true, true) => STANDARD.encode(enveloped(0, &message)).into_bytes(),
    };
    let answer = post(address, path, &format!("Content-Type: {form}\r\n"), &body).await;
    let of_flags = !path.starts_with("grpc.health.");
    assert!(!of_flags || answer.header("tidegate-revision").is_some(), "{:?}", answer.headers);
    if !web {
        if answer.status == 200 {
            assert_eq!(answer.header("content-type"), Some(form));
            return Ok(read(&answer.body));
        }
        assert_eq!(answer.header("content-type"), Some("application/json"));
        return Err(number(answer.json()["code"].as_str().unwrap(), answer.status));
    }
    assert_eq!((answer.status, answer.header("content-type")), (200, Some(form)));
    let body = if text { STANDARD.decode(&answer.body).unwrap() } else { answer.body };
    let mut envelopes = envelopes(&body);
    let (flags, trailers) = envelopes.pop().unwrap();
    assert_eq!(flags, 0x80, "the last envelope is of trailers");
    let trailers = String::from_utf8(trailers).unwrap();
    let status = trailers.lines().find_map(|line| line.strip_prefix("grpc-status:")).unwrap();
    match status.parse().unwrap() {
        0 => Ok(read(&envelopes.pop().unwrap().1)),
        code => Err(code),
    }
}

/// The number of a code that Connect names; it must have come with its HTTP status.
fn number(name: &str, http: u16) -> u32 {
    let (number, expected) = match name {
        "unknown" => (2, 500),
        "invalid_argument" => (3, 400),
        "deadline_exceeded" => (4, 504),
        "not_found" => (5, 404),
        "resource_exhausted" => (8, 429),
        "unimplemented" => (12, 501),
        "unavailable" => (14, 503),
        "data_loss" => (15, 500),
        other => panic!("no code {other}"),
    };
    assert_eq!(http, expected, "{name}");
    number
}
