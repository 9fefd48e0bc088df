//! Reading and changing objects whose shape nobody has checked: what is not there or of another type reads as absent.

use serde_json::{Map, Value};

/// The text of a key.
pub(super) fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key)?.as_str()
}

/// The elements of a key's list.
pub(super) fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// What a chain of keys leads to.
pub(super) fn at<'a, K: AsRef<str>>(value: &'a Value, keys: &[K]) -> Option<&'a Value> {
    keys.iter().try_fold(value, |value, key| value.get(key.as_ref()))
}

/// The same, to change it.
pub(super) fn at_mut<'a, K: AsRef<str>>(value: &'a mut Value, keys: &[K]) -> Option<&'a mut Value> {
    keys.iter().try_fold(value, |value, key| value.get_mut(key.as_ref()))
}

/// Texts by name, as labels and annotations are.
pub(super) fn texts(value: Option<&Value>) -> impl Iterator<Item = (&str, &str)> {
    value.and_then(Value::as_object).into_iter().flatten().filter_map(|(key, value)| Some((&**key, value.as_str()?)))
}

/// An element of a list by its `name`.
pub(super) fn named<'a>(value: &'a Value, key: &str, name: &str) -> Option<&'a Value> {
    list(value, key).iter().find(|item| text(item, "name") == Some(name))
}

/// A TCP port's number.
pub(super) fn port(value: &Value) -> Option<u16> {
    value.as_u64().and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0)
}

/// Puts an entry in, making an object of what was absent or null; what stands in its place otherwise is left.
pub(super) fn insert(object: &mut Value, key: &str, value: Value) {
    if object.is_null() {
        *object = Value::Object(Map::new());
    }
    if let Some(map) = object.as_object_mut() {
        map.insert(key.to_owned(), value);
    }
}

/// Takes an entry out.
pub(super) fn remove(object: &mut Value, key: &str) -> Option<Value> {
    object.as_object_mut()?.remove(key)
}

/// The list of a key, made where it is absent or null. `None` where something else stands there.
pub(super) fn list_mut<'a>(object: &'a mut Value, key: &str) -> Option<&'a mut Vec<Value>> {
    let slot = object.as_object_mut()?.entry(key).or_insert(Value::Null);
    if slot.is_null() {
        *slot = Value::Array(Vec::new());
    }
    slot.as_array_mut()
}

/// Whether nothing is in it.
pub(super) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
        _ => false,
    }
}
