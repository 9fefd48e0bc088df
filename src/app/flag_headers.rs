//! The flags that the proxy tells the app, evaluated in the store.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::SystemTime;

use crate::flags::context::{Context, Object, Value};
use crate::flags::evaluate::Failure;
use crate::flags::store::Store;
use crate::flags::usage;
use crate::proxy::flag_headers::Flags;
use crate::proxy::settings::Route;

/// See the module's text.
pub(super) struct FromStore {
    store: Arc<Store>,
    /// The flags in use, and what has been told of each.
    told: HashMap<String, Told>,
}

/// Each once: every request would say the same.
#[derive(Default)]
struct Told {
    failure: AtomicBool,
    length: AtomicBool,
}

impl FromStore {
    /// For the flags that `routes` tell; `None` when there are none.
    pub(super) fn of(store: &Arc<Store>, routes: &[Route]) -> Option<Arc<dyn Flags>> {
        let keys = routes.iter().flat_map(|route| &route.flags.headers);
        let told: HashMap<_, _> = keys.map(|(_, key)| (key.clone(), Told::default())).collect();
        if told.is_empty() {
            return None;
        }
        Some(Arc::new(Self { store: store.clone(), told }))
    }

    fn tell(&self, key: &str, failure: &Failure) {
        if self.told.get(key).is_some_and(|told| !told.failure.swap(true, Relaxed)) {
            tracing::warn!(flag = key, code = failure.code.name(), error = %failure, "a flag that the app is told in a header has no value");
        }
    }
}

impl Flags for FromStore {
    fn evaluate(&self, flags: &[String], attributes: &[(&str, &str)], give: &mut dyn FnMut(usize, &str)) {
        let attributes =
            attributes.iter().map(|(name, value)| (Cow::Borrowed(*name), Value::String(Cow::Borrowed(*value))));
        let context = Context::new(Object::new(attributes.collect()));
        let (snapshot, now) = (self.store.load(), SystemTime::now());
        for (place, key) in flags.iter().enumerate() {
            match usage::evaluate(&snapshot, key, &context, now) {
                Ok(resolution) => {
                    if let Some(variant) = resolution.variant {
                        give(place, variant.value_json());
                    }
                }
                // Before the first flags are in force nothing is known of any.
                Err(failure) if snapshot.generation() > 0 => self.tell(key, &failure),
                Err(_) => {}
            }
        }
    }

    fn too_long(&self, flag: &str, most: usize) {
        if self.told.get(flag).is_some_and(|told| !told.length.swap(true, Relaxed)) {
            tracing::warn!(flag, most, "a flag that the app is told in a header is too long for one");
        }
    }
}
