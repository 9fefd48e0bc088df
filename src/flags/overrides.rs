//! Overrides: flags forced in this process alone, for a bounded time, above every source. They are never written
//! down, so a restart ends them. Pure but for [`Handle`]: time comes as an argument.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::compile;
use super::model::{Evaluators, Flag, FlagSet, Metadata, json_string};
use super::store::{Layer, base_metadata};

/// The layer's name, which the metadata of its flags tells as their `source`.
pub const SOURCE: &str = "override";
/// The longest that an override may last: it is for an incident or an experiment, not a configuration.
pub const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// Overrides at one time.
pub const MOST: usize = 100;
/// Bytes of a value or a definition.
pub const LARGEST: usize = 64 * 1024;

/// What a flag is forced to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Force {
    /// To one of its variants, for everybody, as that variant is defined at any time.
    Variant(Arc<str>),
    /// To this value, as JSON.
    #[serde(serialize_with = "raw")]
    Value(Arc<str>),
    /// To this definition, as JSON; it stands alone, without the rules that sets share by `$ref`.
    #[serde(serialize_with = "raw")]
    Definition(Arc<str>),
}

impl std::fmt::Display for Force {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Variant(name) => write!(f, "variant {name}"),
            Self::Value(_) => f.write_str("a value"),
            Self::Definition(_) => f.write_str("a definition"),
        }
    }
}

/// An override, as it is asked for.
#[derive(Debug, Clone)]
pub struct Order {
    /// The flag.
    pub key: Arc<str>,
    /// What it is forced to.
    pub force: Force,
    /// For how long, more than nothing and at most [`LONGEST`].
    pub ttl: Duration,
    /// Who wants it.
    pub by: String,
    /// Why.
    pub note: Option<String>,
}

/// An override that is held, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Overridden {
    /// The flag.
    pub key: Arc<str>,
    /// What it is forced to.
    #[serde(flatten)]
    pub force: Force,
    /// Who wanted it.
    pub by: String,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// When it was made; in milliseconds since the epoch when serialised.
    #[serde(serialize_with = "super::status::millis")]
    pub set_at: Option<SystemTime>,
    /// When it ends, by the clock at the time it was made. What ends it is the time that passes, whatever becomes of
    /// the clock.
    #[serde(serialize_with = "super::status::millis")]
    pub expires_at: Option<SystemTime>,
    /// Why it has no effect, if so: the flag beneath has changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// Why an override is not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no such flag to choose a variant of.
    #[error("flag {0:?} does not exist")]
    NoFlag(Arc<str>),
    /// The flag beneath has no such variant.
    #[error("the flag has no variant {name:?}; it has {known}")]
    NoVariant {
        /// The variant asked for.
        name: Arc<str>,
        /// Those there are.
        known: String,
    },
    /// The flag beneath is of another type, and the app asks for that one.
    #[error("the flag is of type {beneath}, not {given}")]
    Type {
        /// The flag's type.
        beneath: &'static str,
        /// The override's.
        given: &'static str,
    },
    /// It does not validate.
    #[error("{0}")]
    Invalid(String),
    /// There are [`MOST`].
    #[error("there are {MOST} overrides already")]
    TooMany,
    /// Larger than [`LARGEST`].
    #[error("the override is larger than 64 KiB")]
    TooLarge,
    /// The process is ending.
    #[error("the sidecar is ending")]
    Ending,
}

/// The overrides held.
#[derive(Debug, Default)]
pub(super) struct Overrides {
    held: BTreeMap<Arc<str>, (Overridden, Instant)>,
}

impl Overrides {
    /// Takes one, in place of an earlier one for the same flag.
    pub(super) fn set(
        &mut self,
        order: Order,
        beneath: &[Arc<Layer>],
        now: Instant,
        clock: SystemTime,
    ) -> Result<Overridden, Refused> {
        let Order { key, force, ttl, by, note } = order;
        if self.held.len() >= MOST && !self.held.contains_key(&key) {
            return Err(Refused::TooMany);
        }
        if matches!(&force, Force::Value(text) | Force::Definition(text) if text.len() > LARGEST) {
            return Err(Refused::TooLarge);
        }
        flag(&key, &force, beneath)?;
        let ttl = ttl.min(LONGEST);
        let over = Overridden {
            key: key.clone(),
            force,
            by,
            note,
            set_at: Some(clock),
            expires_at: clock.checked_add(ttl),
            why: None,
        };
        self.held.insert(key, (over.clone(), now + ttl));
        Ok(over)
    }

    /// Removes one; `None` when there was none.
    pub(super) fn remove(&mut self, key: &str) -> Option<Overridden> {
        self.held.remove(key).map(|(over, _)| over)
    }

    /// Removes those whose time is over.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Overridden> {
        self.held.extract_if(.., |_, (_, expires)| *expires <= now).map(|(_, (over, _))| over).collect()
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// When the next one ends.
    pub(super) fn next_end(&self) -> Option<Instant> {
        self.held.values().map(|(_, expires)| *expires).min()
    }

    /// The layer they make above `beneath`, and how each of them fares there.
    pub(super) fn layer(&self, revision: u64, beneath: &[Arc<Layer>]) -> (Option<Arc<Layer>>, Vec<Overridden>) {
        let mut set = FlagSet::default();
        let told = self.held.values().map(|(over, _)| {
            let mut over = over.clone();
            match flag(&over.key, &over.force, beneath) {
                Ok(flag) => drop(set.flags.insert(over.key.clone(), Arc::new(flag))),
                Err(refused) => over.why = Some(refused.to_string()),
            }
            over
        });
        let told = told.collect();
        let layer = Layer { name: SOURCE.into(), flag_set_id: None, revision, set: Arc::new(set) };
        (Some(Arc::new(layer)).filter(|layer| !layer.set.flags.is_empty()), told)
    }
}

/// The flag `key`, forced; its metadata is that of the flag beneath, but for the source.
fn flag(key: &Arc<str>, force: &Force, beneath: &[Arc<Layer>]) -> Result<Flag, Refused> {
    let covered = beneath.iter().find_map(|layer| layer.set.flags.get(key).map(|flag| (flag, layer)));
    let mut metadata = covered.map_or_else(Metadata::default, |(flag, layer)| {
        let mut metadata = base_metadata(layer);
        metadata.values.extend(flag.metadata().values.clone());
        metadata
    });
    let mut fields = match force {
        Force::Variant(name) => {
            let (flag, _) = covered.ok_or_else(|| Refused::NoFlag(key.clone()))?;
            if flag.variant(name).is_none() {
                let known: Vec<&str> = flag.variants().iter().map(|variant| variant.name()).collect();
                return Err(Refused::NoVariant { name: name.clone(), known: known.join(", ") });
            }
            forced(fields(flag.definition())?, name)?
        }
        Force::Value(value) => {
            let same = |(flag, _): &(&Arc<Flag>, _)| flag.variants().iter().any(|known| known.value_json() == &**value);
            match covered.filter(same) {
                // Known by its own name, so that reports of exposures do not show a variant nobody defined.
                Some((flag, _)) => {
                    let known = flag.variants().iter().find(|known| known.value_json() == &**value);
                    forced(fields(flag.definition())?, known.map_or(SOURCE, |known| known.name()))?
                }
                None => forced(fields(&format!("{{\"variants\":{{\"{SOURCE}\":{value}}}}}"))?, SOURCE)?,
            }
        }
        Force::Definition(text) => {
            let fields = fields(text)?;
            if let Some(own) = fields.get("metadata") {
                metadata.values.extend(compile::metadata(own.get()).map_err(invalid)?.values);
            }
            fields
        }
    };
    metadata.set_string("source", SOURCE);
    fields.insert("metadata".to_owned(), raw_value(metadata.json())?);
    let text = serde_json::to_string(&fields).map_err(|error| Refused::Invalid(error.to_string()))?;
    let flag = compile::flag(key, &text, &Evaluators::default()).map_err(invalid)?;
    match covered {
        Some((beneath, _)) if beneath.kind() != flag.kind() => {
            Err(Refused::Type { beneath: beneath.kind().name(), given: flag.kind().name() })
        }
        _ => Ok(flag),
    }
}

type Fields = BTreeMap<String, Box<RawValue>>;

fn fields(definition: &str) -> Result<Fields, Refused> {
    serde_json::from_str(definition).map_err(|error| Refused::Invalid(format!("not a flag definition: {error}")))
}

/// A definition with no rule but `variant` for everybody.
fn forced(mut fields: Fields, variant: &str) -> Result<Fields, Refused> {
    fields.remove("targeting");
    fields.insert("state".to_owned(), raw_value("\"ENABLED\"".to_owned())?);
    fields.insert("defaultVariant".to_owned(), raw_value(json_string(variant))?);
    Ok(fields)
}

fn raw_value(json: String) -> Result<Box<RawValue>, Refused> {
    RawValue::from_string(json).map_err(|error| Refused::Invalid(error.to_string()))
}

fn invalid(invalid: compile::Invalid) -> Refused {
    Refused::Invalid(invalid.to_string().trim_end().replace('\n', "; "))
}

fn raw<S: Serializer>(json: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    let value: Box<RawValue> = RawValue::from_string(json.to_string()).map_err(serde::ser::Error::custom)?;
    value.serialize(serializer)
}

/// What is asked of whoever holds the overrides; each is answered once it is in force, with the generation.
#[derive(Debug)]
pub(super) enum Command {
    Set(Order, Reply<Result<(Overridden, u64), Refused>>),
    Remove(Arc<str>, Reply<Option<(Overridden, u64)>>),
}

type Reply<T> = oneshot::Sender<T>;

/// The way to change overrides. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle(mpsc::Sender<Command>);

impl Handle {
    /// A handle, and what it leads to.
    pub(super) fn new() -> (Self, mpsc::Receiver<Command>) {
        let (commands, received) = mpsc::channel(16);
        (Self(commands), received)
    }

    /// Forces a flag; returns when that is in force, with the generation of the snapshot that has it.
    ///
    /// # Errors
    /// [`Refused`]; nothing changed.
    pub async fn set(&self, order: Order) -> Result<(Overridden, u64), Refused> {
        let (reply, replied) = oneshot::channel();
        self.0.send(Command::Set(order, reply)).await.map_err(|_| Refused::Ending)?;
        replied.await.map_err(|_| Refused::Ending)?
    }

    /// Ends an override; what lay beneath is in force when this returns. `None` when there was none.
    ///
    /// # Errors
    /// [`Refused::Ending`].
    pub async fn remove(&self, key: &str) -> Result<Option<(Overridden, u64)>, Refused> {
        let (reply, replied) = oneshot::channel();
        self.0.send(Command::Remove(key.into(), reply)).await.map_err(|_| Refused::Ending)?;
        replied.await.map_err(|_| Refused::Ending)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers() -> Vec<Arc<Layer>> {
        let text = r#"{"metadata":{"team":"x"},"flags":{
            "search":{"state":"DISABLED","variants":{"on":true,"off":false},"defaultVariant":"off",
                "targeting":{"if":[{"var":"a"},"off"]},"metadata":{"owner":"ann","source":"mine"}},
            "ratio":{"state":"ENABLED","variants":{"low":1.0,"big":12345678901234567890},"defaultVariant":"low"}}}"#;
        let set = compile::document(text, compile::Format::Json).unwrap_or_else(|invalid| panic!("{invalid}"));
        let id = Some("orders".into());
        vec![Arc::new(Layer { name: "redis:orders".into(), flag_set_id: id, revision: 1, set: Arc::new(set) })]
    }

    fn order(key: &str, force: Force, seconds: u64) -> Order {
        let ttl = Duration::from_secs(seconds);
        Order { key: key.into(), force, ttl, by: "ann".to_owned(), note: None }
    }

    /// The forced flag's definition and type, or why there is none.
    fn forced_flag(key: &str, force: Force) -> Result<(String, &'static str), String> {
        let mut overrides = Overrides::default();
        let layers = layers();
        overrides
            .set(order(key, force, 60), &layers, Instant::now(), SystemTime::now())
            .map_err(|refused| refused.to_string())?;
        let (layer, told) = overrides.layer(1, &layers);
        assert_eq!(told[0].why, None);
        let layer = layer.expect("it is in force");
        let flag = &layer.set.flags[key];
        assert!(flag.enabled());
        Ok((flag.definition().to_owned(), flag.kind().name()))
    }

    #[test]
    fn a_flag_is_forced_and_keeps_what_is_known_of_it() {
        let meta = r#"{"flagSetId":"orders","owner":"ann","source":"override","team":"x"}"#;
        let on = format!(
            r#"{{"defaultVariant":"on","metadata":{meta},"state":"ENABLED","variants":{{"on":true,"off":false}}}}"#
        );
        assert_eq!(forced_flag("search", Force::Variant("on".into())), Ok((on.clone(), "boolean")));
        assert_eq!(forced_flag("search", Force::Value("true".into())), Ok((on, "boolean")), "a known value's variant");
        let (ratio, kind) = forced_flag("ratio", Force::Value("2.0".into())).expect("sound");
        assert!(ratio.contains(r#""variants":{"override":2.0}"#) && kind == "float", "{ratio}");
        let (ratio, _) = forced_flag("ratio", Force::Variant("big".into())).expect("sound");
        assert!(ratio.contains("12345678901234567890"), "numbers stay as they are written: {ratio}");
        let (fresh, _) = forced_flag("new", Force::Value(r#""x""#.into())).expect("a flag nobody defined");
        assert!(fresh.contains(r#""metadata":{"source":"override"}"#), "{fresh}");
        let whole = r#"{"state":"ENABLED","variants":{"a":true},"metadata":{"owner":"bob","source":"me"},"targeting":{"if":[true,"a"]}}"#;
        let (whole, _) = forced_flag("search", Force::Definition(whole.into())).expect("sound");
        assert!(whole.contains(r#""owner":"bob","source":"override""#) && whole.contains("targeting"), "{whole}");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let large: Arc<str> = format!("\"{}\"", "x".repeat(LARGEST)).into();
        for (key, force, said) in [
            ("none", Force::Variant("on".into()), "flag \"none\" does not exist"),
            ("search", Force::Variant("x".into()), "the flag has no variant \"x\"; it has on, off"),
            ("search", Force::Value("1".into()), "the flag is of type boolean, not integer"),
            ("search", Force::Definition("[]".into()), "not a flag definition"),
            ("search", Force::Definition(r#"{"state":"ON","variants":{"a":true}}"#.into()), "state"),
            ("search", Force::Value(large), "larger than 64 KiB"),
        ] {
            let refused = forced_flag(key, force).expect_err(said);
            assert!(refused.contains(said), "{refused}");
        }
        let mut overrides = Overrides::default();
        let mut set = |key: &str| {
            let order = order(key, Force::Value("1".into()), 60);
            overrides.set(order, &[], Instant::now(), SystemTime::now()).map(drop)
        };
        for number in 0..MOST {
            set(&format!("flag-{number}")).expect("room");
        }
        assert_eq!(set("one more"), Err(Refused::TooMany));
        assert_eq!(set("flag-0"), Ok(()), "in place of an earlier one");
    }

    #[test]
    fn one_whose_flag_has_changed_beneath_has_no_effect_and_says_so() {
        let mut overrides = Overrides::default();
        let order = order("search", Force::Variant("on".into()), 60);
        overrides.set(order, &layers(), Instant::now(), SystemTime::now()).expect("sound");
        let (layer, told) = overrides.layer(1, &[]);
        assert!(layer.is_none());
        assert_eq!(told[0].why.as_deref(), Some("flag \"search\" does not exist"));
    }

    #[test]
    fn time_that_passes_ends_them_whatever_the_clock_says() {
        let mut overrides = Overrides::default();
        let (now, clock) = (Instant::now(), SystemTime::now());
        for (key, seconds) in [("a", 60), ("b", 30), ("c", 10_000_000)] {
            overrides.set(order(key, Force::Value("1".into()), seconds), &[], now, clock).expect("sound");
        }
        assert_eq!(overrides.next_end(), Some(now + Duration::from_secs(30)));
        let ended = |overrides: &mut Overrides, seconds| {
            let ended = overrides.expire(now + Duration::from_secs(seconds));
            ended.iter().map(|over| over.key.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(ended(&mut overrides, 29), [""; 0]);
        assert_eq!(ended(&mut overrides, 60), ["a", "b"]);
        assert_eq!(ended(&mut overrides, LONGEST.as_secs()), ["c"], "none lasts longer than the maximum");
        assert!(overrides.is_empty());
    }
}
