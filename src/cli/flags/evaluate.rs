//! `flags eval` and `flags explain`: what a flag is for a context, by the definitions in Redis or in files, or by a running
//! sidecar.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use clap::Args as ClapArgs;
use http::{Method, StatusCode};
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use super::answer::say;
use super::scope::Scope;
use super::{Failure, Output, change, files};
use crate::cli::sidecar::{Question, Target, send};
use crate::cli::{EXIT_FAILED, EXIT_TRY_AGAIN, EXIT_UNAVAILABLE};
use crate::config::Settings;
use crate::flags::compile;
use crate::flags::context::{self, Base, Context};
use crate::flags::evaluate::evaluate;
use crate::flags::store::{Layer, Snapshot};
use crate::flags::{evaluate, explain};
use crate::local::settings::Socket;

/// How long a sidecar may take to answer.
const LIMIT: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, ClapArgs)]
pub(super) struct Args {
    /// The flag's key
    key: String,
    /// The context: a JSON object, @FILE to read it from a file, - from standard input
    #[arg(long, value_name = "JSON|@FILE")]
    context: Option<String>,
    /// Who is asked about: `targetingKey` of the context
    #[arg(short = 'k', long, value_name = "KEY")]
    targeting_key: Option<String>,
    /// An attribute of the context; numbers, true, false, null and JSON are that, anything else is text
    #[arg(long, value_name = "NAME=VALUE", value_parser = attribute)]
    set: Vec<(String, Value)>,
    /// Definitions in files, instead of what redis holds; the first has the highest priority
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["sidecar", "url"])]
    file: Vec<PathBuf>,
    /// Asks the running sidecar over its local socket
    #[arg(long, conflicts_with = "url")]
    sidecar: bool,
    /// Asks the sidecar that listens there: http://127.0.0.1:8016
    #[arg(long, value_name = "URL", value_parser = Target::of_url)]
    url: Option<Target>,
}

fn attribute(text: &str) -> Result<(String, Value), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => {
            Ok((name.to_owned(), serde_json::from_str(value).unwrap_or_else(|_| value.into())))
        }
        _ => Err("write NAME=VALUE".to_owned()),
    }
}

impl Args {
    /// The context as given by all of the arguments; later ones win.
    fn attributes(&self) -> Result<Map<String, Value>, Failure> {
        let mut attributes = match &self.context {
            None => Map::new(),
            Some(context) => serde_json::from_str(&change::read(context)?)
                .map_err(|e| Failure::usage(format!("the context is no JSON object: {e}")))?,
        };
        if let Some(key) = &self.targeting_key {
            attributes.insert("targetingKey".to_owned(), key.clone().into());
        }
        attributes.extend(self.set.iter().cloned());
        Ok(attributes)
    }

    /// The sidecar to ask, if one is.
    fn target(&self, settings: &Settings) -> Result<Option<Target>, Failure> {
        match (&self.url, self.sidecar, &settings.local.socket) {
            (Some(url), _, _) => Ok(Some(url.clone())),
            (None, false, _) => Ok(None),
            (None, true, Socket::Required(path) | Socket::IfPossible(path)) => Ok(Some(Target::Socket(path.clone()))),
            (None, true, Socket::None) => Err(Failure::usage("the configuration has no local.socket; use --url")),
        }
    }
}

pub(super) async fn eval(
    args: &Args,
    scope: Option<&str>,
    settings: &Settings,
    output: Output,
) -> Result<String, Failure> {
    let attributes = args.attributes()?;
    let answer = match args.target(settings)? {
        Some(target) => {
            let body = asked(&target, args, "", &attributes, "application/json").await?;
            let mut answer = parsed(&body)?;
            // OFREP clients want a variant always; beside no value an empty one stands for none.
            if let Some(answer) = answer.as_object_mut()
                && !answer.contains_key("value")
            {
                answer.remove("variant");
            }
            answer
        }
        None => {
            let snapshot = snapshot(&args.file, scope, settings).await?;
            with_context(&attributes, |context| {
                let resolution = evaluate(&snapshot, &args.key, context, SystemTime::now()).map_err(|e| failed(&e))?;
                let value = |json: &str| serde_json::from_str::<Value>(json).unwrap_or_default();
                let mut answer = json!({ "key": args.key, "reason": resolution.reason.name() });
                if let Some(variant) = resolution.variant {
                    answer["variant"] = variant.name().into();
                    answer["value"] = value(variant.value_json());
                }
                answer["metadata"] = value(resolution.entry.metadata_json());
                Ok(answer)
            })?
        }
    };
    say(&answer, output, || {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let value = answer
            .get("value")
            .map_or_else(|| "none: the application's own default holds".to_owned(), Value::to_string);
        let variant = answer.get("variant").map_or_else(|| "-".to_owned(), text);
        let (reason, source) = (text(&answer["reason"]), text(&answer["metadata"]["source"]));
        format!("value    {value}\nvariant  {variant}\nreason   {reason}\nsource   {source}\n")
    })
}

pub(super) async fn explain(
    args: &Args,
    scope: Option<&str>,
    settings: &Settings,
    output: Output,
) -> Result<String, Failure> {
    let attributes = args.attributes()?;
    if let Some(target) = args.target(settings)? {
        let accept = if output == Output::Table { "text/plain" } else { "application/json" };
        let body = asked(&target, args, "/explain", &attributes, accept).await?;
        return match output {
            Output::Table => Ok(String::from_utf8_lossy(&body).into_owned()),
            _ => say(&parsed(&body)?, output, String::new),
        };
    }
    let snapshot = snapshot(&args.file, scope, settings).await?;
    let explanation = with_context(&attributes, |context| {
        explain::explain(&snapshot, &args.key, context, SystemTime::now()).map_err(|e| failed(&e))
    })?;
    let value = serde_json::to_value(&explanation).map_err(|e| Failure::failed(e.to_string()))?;
    say(&value, output, || explanation.to_string())
}

/// Hands the context over as an evaluation reads it.
fn with_context<T>(
    attributes: &Map<String, Value>,
    evaluated: impl FnOnce(&Context<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let text = Value::Object(attributes.clone()).to_string();
    match serde_json::from_str(&text) {
        Ok(context::Value::Object(attributes)) => evaluated(&Context::new(attributes)),
        Ok(_) => Err(Failure::usage("the context is no object")),
        Err(e) => Err(Failure::usage(format!("the context: {e}"))),
    }
}

fn failed(failure: &evaluate::Failure) -> Failure {
    Failure::failed(format!("{}: {failure}", failure.code.name()))
}

/// What a sidecar of this configuration would evaluate; with `--scope` that scope alone, with `--file` those files.
pub(super) async fn snapshot(given: &[PathBuf], scope: Option<&str>, settings: &Settings) -> Result<Snapshot, Failure> {
    let mut layers = Vec::new();
    let of_files = if given.is_empty() { &settings.flags.files } else { given };
    if given.is_empty() {
        let redis = settings.flags.redis.as_ref();
        let scopes: Vec<&str> = match (scope, redis) {
            (Some(scope), _) => vec![scope],
            (None, Some(redis)) => redis.scopes.iter().map(String::as_str).collect(),
            (None, None) => Vec::new(),
        };
        for name in scopes {
            let mut scope = Scope::open(redis, Some(name)).await?;
            let loaded = scope.load().await?;
            if loaded.rev == 0 {
                continue;
            }
            let set = loaded.document.compile().map_err(|e| {
                Failure::failed(format!(
                    "scope {name} does not validate, and sidecars serve what they had before:\n{e}"
                ))
            })?;
            layers.push(Arc::new(Layer {
                name: format!("redis:{name}").into(),
                flag_set_id: Some(name.into()),
                revision: loaded.rev,
                set: Arc::new(set),
            }));
        }
    }
    if scope.is_none() || !given.is_empty() {
        for source in files::sources(of_files)? {
            let set = compile::document(&source.text, source.format);
            let set = set.map_err(|e| Failure::usage(files::told(source.lines(&e.0))))?;
            let name = format!("file:{}", source.name).into();
            layers.push(Arc::new(Layer { name, flag_set_id: None, revision: 1, set: Arc::new(set) }));
        }
    }
    if layers.is_empty() {
        return Err(Failure::failed("there are no definitions: no scope in redis, no file; name --scope or --file"));
    }
    let base = Arc::new(Base::new(&settings.flags.context));
    Ok(Snapshot::merge(layers, base, 1, false).with_bucketing(settings.flags.bucketing))
}

/// Asks a sidecar about the flag.
async fn asked(
    target: &Target,
    args: &Args,
    what: &str,
    attributes: &Map<String, Value>,
    accept: &str,
) -> Result<Bytes, Failure> {
    let path = format!("/v1/flags/{}{what}", encoded(&args.key));
    let body = json!({ "context": attributes }).to_string().into();
    let question = Question { method: Method::POST, path: &path, accept, body };
    let Ok(answered) = timeout(LIMIT, send(target, question)).await else {
        let text = format!("the sidecar on {target} gives no answer in {} s; try again", LIMIT.as_secs());
        return Err(Failure::try_again(text));
    };
    let (status, body) = answered.map_err(|why| {
        Failure::new(EXIT_UNAVAILABLE, format!("no sidecar answers on {target}: {why}; is one running there?"))
    })?;
    if status.is_success() {
        return Ok(body);
    }
    let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
    let code = if status == StatusCode::SERVICE_UNAVAILABLE { EXIT_TRY_AGAIN } else { EXIT_FAILED };
    let details = answer["errorDetails"].as_str().map_or_else(|| status.to_string(), str::to_owned);
    let kind = answer["errorCode"].as_str().map(|code| format!("{code}: ")).unwrap_or_default();
    Err(Failure::new(code, format!("{kind}{details}")))
}

fn parsed(body: &[u8]) -> Result<Value, Failure> {
    serde_json::from_slice(body).map_err(|e| Failure::failed(format!("the sidecar's answer is no JSON: {e}")))
}

/// A path segment (RFC 3986 section 2.3): everything but unreserved characters by its bytes.
fn encoded(key: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    key.bytes().map(|byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
