//! The flags as one client sees them: all that are in force, or those of a set or a source
//! (<https://flagd.dev/reference/selector-syntax/>). What is derived from a view is made once for all of its clients.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use http::{HeaderMap, HeaderName};

use super::definitions::Definitions;
use super::events::Changes;
use crate::flags::model::Flag;
use crate::flags::store::{Layer, Snapshot, Store};
use crate::net::rpc::{Code, Status};

/// Which flags a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Selector {
    /// Those in force, all layers merged.
    All,
    /// Those of a set; of none, if it is empty.
    Set(Box<str>),
    /// Those of a source.
    Source(Box<str>),
}

impl Selector {
    /// The selector of a request: the header `flagd-selector`, else the request's own field.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a key other than `flagSetId` and `source`.
    pub(super) fn of(headers: &HeaderMap, field: &str) -> Result<Self, Status> {
        static NAME: HeaderName = HeaderName::from_static("flagd-selector");
        match headers.get(&NAME) {
            None => Self::parse(field),
            Some(value) => match value.to_str() {
                Ok(text) => Self::parse(text),
                Err(_) => Err(Status::new(Code::InvalidArgument, "the selector is not plain text")),
            },
        }
    }

    fn parse(text: &str) -> Result<Self, Status> {
        match text.split_once('=') {
            None if text.is_empty() => Ok(Self::All),
            None => Ok(Self::Source(text.into())),
            Some(("source", source)) => Ok(Self::Source(source.into())),
            Some(("flagSetId", id)) => Ok(Self::Set(id.into())),
            Some((key, _)) => {
                let text = format!("invalid selector key {key:?}, valid keys: \"flagSetId\", \"source\"");
                Err(Status::new(Code::InvalidArgument, text))
            }
        }
    }

    fn matches(&self, layer: &Layer, flag: &Flag) -> bool {
        match self {
            Self::All => true,
            // `redis:orders`, or `orders` alone: who configures a client names a path or a scope.
            Self::Source(source) => {
                let bare = layer.name.split_once(':').map(|(_, bare)| bare);
                *layer.name == **source || bare == Some(source)
            }
            Self::Set(id) => {
                let own = flag.metadata().get("flagSetId").or_else(|| layer.set.metadata.get("flagSetId"));
                let given = own.map(super::structs::text);
                given.as_deref().or(layer.flag_set_id.as_deref()).unwrap_or_default() == &**id
            }
        }
    }
}

/// A snapshot as a selector shows it, with what is derived from it.
#[derive(Debug)]
pub(super) struct View {
    selector: Selector,
    snapshot: Arc<Snapshot>,
    definitions: OnceLock<Definitions>,
    /// The changes from earlier generations, the last asked for at the end.
    changes: Mutex<Vec<(u64, Arc<Changes>)>>,
}

/// How many ways to here are kept: nearly all clients come from the generation before.
const CHANGES: usize = 4;

impl View {
    fn new(selector: Selector, snapshot: Arc<Snapshot>) -> Self {
        Self { selector, snapshot, definitions: OnceLock::new(), changes: Mutex::default() }
    }

    /// The flags.
    pub(super) fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// The flags as definitions.
    pub(super) fn definitions(&self) -> &Definitions {
        self.definitions.get_or_init(|| Definitions::of(&self.snapshot))
    }

    /// What is different from `earlier`.
    pub(super) fn since(&self, earlier: &View) -> Arc<Changes> {
        let from = earlier.snapshot.generation();
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, change)) = changes.iter().find(|(generation, _)| *generation == from) {
            return change.clone();
        }
        let change = Arc::new(Changes::between(&earlier.snapshot, &self.snapshot));
        if changes.len() == CHANGES {
            changes.remove(0);
        }
        changes.push((from, change.clone()));
        change
    }
}

/// Views of the generation in force, by selector.
#[derive(Debug)]
pub(super) struct Views {
    store: Arc<Store>,
    /// The last asked for at the end.
    kept: Mutex<Vec<Arc<View>>>,
}

/// How many selectors are kept: an app has one.
const SELECTORS: usize = 16;

impl Views {
    pub(super) fn new(store: Arc<Store>) -> Self {
        Self { store, kept: Mutex::default() }
    }

    /// What is in force.
    pub(super) fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Reads what is in force, as `selector` shows it. What nobody selects from is read without a lock.
    pub(super) fn with<R>(&self, selector: &Selector, read: impl FnOnce(&Snapshot) -> R) -> R {
        if *selector == Selector::All { read(&self.store.load()) } else { read(self.get(selector).snapshot()) }
    }

    /// What is in force, as `selector` shows it.
    pub(super) fn get(&self, selector: &Selector) -> Arc<View> {
        let snapshot = self.store.load();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.iter().position(|view| view.selector == *selector);
        let known = found.map(|at| kept.remove(at));
        let view = match known {
            Some(view) if view.snapshot.generation() == snapshot.generation() => view,
            _ => {
                let shown = match selector {
                    Selector::All => Arc::clone(&snapshot),
                    _ => Arc::new(snapshot.select(|layer, flag| selector.matches(layer, flag))),
                };
                Arc::new(View::new(selector.clone(), shown))
            }
        };
        if kept.len() == SELECTORS {
            kept.remove(0);
        }
        kept.push(view.clone());
        view
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_read_as_flagd_reads_them() {
        for (text, expected) in [
            ("", Ok(Selector::All)),
            ("./flags.json", Ok(Selector::Source("./flags.json".into()))),
            ("source=a=b", Ok(Selector::Source("a=b".into()))),
            ("flagSetId=orders", Ok(Selector::Set("orders".into()))),
            ("flagSetId=", Ok(Selector::Set("".into()))),
            ("team=x", Err(Code::InvalidArgument)),
        ] {
            assert_eq!(Selector::parse(text).map_err(|status| status.code), expected, "{text}");
        }
    }

    #[test]
    fn the_header_goes_before_the_field() {
        let mut headers = HeaderMap::new();
        assert_eq!(Selector::of(&headers, "flagSetId=a"), Ok(Selector::Set("a".into())));
        headers.insert("flagd-selector", http::HeaderValue::from_static("flagSetId=b"));
        assert_eq!(Selector::of(&headers, "flagSetId=a"), Ok(Selector::Set("b".into())));
    }
}
