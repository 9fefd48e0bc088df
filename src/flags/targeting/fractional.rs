//! `fractional`: a stable share of keys per variant, by one of three bucketing versions.

use super::super::context::Value;
use super::super::hash::murmur3_32;
use super::super::settings::Bucketing;
use super::interpret::{Halt, Scope, operand};
use super::observe::{Bucketed, Data, Observer};
use super::val::Val;
use super::{Rule, cbor};

/// The arguments of `fractional`.
#[derive(Debug)]
pub(in crate::flags) struct Buckets {
    pub(in crate::flags) key: Key,
    pub(in crate::flags) shares: Shares,
}

/// What is hashed.
#[derive(Debug)]
pub(in crate::flags) enum Key {
    /// Flag key and targeting key, when the first argument is a bucket.
    Shorthand,
    /// The first argument; when it turns out to be a list it is a bucket after all.
    Computed(Rule),
}

/// The variants and their weights.
#[derive(Debug)]
pub(in crate::flags) enum Shares {
    /// All literal and sound, no weight negative: each variant and where its share ends.
    Fixed { total: u64, ends: Box<[(u64, Value<'static>)]> },
    /// Some computed, or unsound.
    Computed(Box<[Rule]>),
}

/// What decides the bucket.
enum Hashed<'v> {
    /// The flag's key and this targeting key.
    Shorthand(Val<'v>),
    /// A value of the rule's own choice.
    Value(Val<'v>),
}

/// The variant whose share `scope`'s key falls into; `null` when there is no key or the buckets are unsound.
pub(super) fn choose<'v>(buckets: &'v Buckets, scope: &Scope<'_, 'v, impl Observer>) -> Result<Val<'v>, Halt> {
    let version = scope.root.bucketing();
    let mut leading = None;
    let hashed = match &buckets.key {
        Key::Shorthand => shorthand(scope),
        Key::Computed(rule) => match operand(rule, scope)? {
            list if list.is_list() => {
                leading = Some(list);
                shorthand(scope)
            }
            // Null is what a missing attribute and a failed operator give: version 3 takes it for a mistake.
            Val::Null | Val::Undefined if version == Bucketing::V3 => None,
            Val::Null | Val::Undefined => shorthand(scope),
            text @ (Val::Str(_) | Val::Text(_)) => Some(Hashed::Value(text)),
            value if version == Bucketing::V3 => Some(Hashed::Value(value)),
            _ => None,
        },
    };
    let Some(hashed) = hashed else { return Ok(Val::Null) };
    let Some(hash) = hashed.hash(version, scope)? else { return Ok(Val::Null) };
    if let (Shares::Fixed { total, ends }, None, Bucketing::V2 | Bucketing::V3) = (&buckets.shares, &leading, version) {
        let bucket = (u64::from(hash) * total) >> 32;
        let found = ends.iter().position(|(end, _)| bucket < *end);
        scope.observer().bucketed(|| hashed.told(version, scope.root.flag_key(), hash, &fixed(ends), found));
        return Ok(found.and_then(|at| ends.get(at)).map_or(Val::Null, |(_, variant)| Val::from(variant)));
    }
    let read = if version == Bucketing::V1 { v1_sound } else { sound };
    let Some(mut shares) = all_shares(leading, &buckets.shares, scope, read)? else { return Ok(Val::Null) };
    let total: i64 = shares.iter().map(|(_, weight)| weight).sum();
    let (found, beyond) = if version == Bucketing::V1 {
        if shares.len() + usize::from(keyed(&buckets.key, &hashed)) < 2 {
            return Ok(Val::Null);
        }
        // The empty text is no variant, and so an error, as in flagd.
        (v1_share(hash, total, &shares), Val::Str(""))
    } else {
        if total == 0 || total > MAX_TOTAL {
            return Ok(Val::Null);
        }
        // Both are below 2^32, so their product does not overflow.
        let bucket = (u64::from(hash) * total.unsigned_abs()) >> 32;
        let mut end = 0;
        let falls = |(_, weight): &(Val<'v>, i64)| {
            end += weight.unsigned_abs();
            bucket < end
        };
        (shares.iter().position(falls), Val::Null)
    };
    scope.observer().bucketed(|| hashed.told(version, scope.root.flag_key(), hash, &shares, found));
    Ok(found.map_or(beyond, |at| shares.swap_remove(at).0))
}

/// Whether the first argument is a key, and not a bucket.
fn keyed(key: &Key, hashed: &Hashed<'_>) -> bool {
    matches!((key, hashed), (Key::Computed(_), Hashed::Value(_)))
}

/// Version 1: where the hash without its sign stands between 0 and 100, against the sum of percentages. In floating
/// point that sum may end just below 100, and who falls beyond it has no share.
fn v1_share(hash: u32, total: i64, shares: &[(Val<'_>, i64)]) -> Option<usize> {
    let bucket = v1_position(hash) * 100.0;
    let mut end = 0.0;
    shares.iter().position(|(_, weight)| {
        if total != 0 {
            end += 100.0 * *weight as f64 / total as f64;
        }
        bucket < end
    })
}

fn v1_position(hash: u32) -> f64 {
    f64::from(hash.cast_signed()).abs() / f64::from(i32::MAX)
}

/// Flag key and targeting key, if there is a targeting key.
fn shorthand<'v>(scope: &Scope<'_, 'v, impl Observer>) -> Option<Hashed<'v>> {
    let targeting_key = scope.root.attribute("targetingKey");
    scope.observer().read(Data::All, || "targetingKey".to_owned(), &targeting_key);
    let text = targeting_key.as_str()?;
    // Version 1 takes an empty one as it is.
    let sound = !text.is_empty() || scope.root.bucketing() == Bucketing::V1;
    sound.then_some(Hashed::Shorthand(targeting_key))
}

impl<'v> Hashed<'v> {
    fn hash(&self, version: Bucketing, scope: &Scope<'_, 'v, impl Observer>) -> Result<Option<u32>, Halt> {
        let text = |val: &Val<'v>| val.as_str().map(str::to_owned).unwrap_or_default();
        Ok(Some(match (self, version) {
            (Hashed::Value(value), Bucketing::V1 | Bucketing::V2) => {
                murmur3_32(value.as_str().unwrap_or_default().as_bytes(), 0)
            }
            (Hashed::Shorthand(key), Bucketing::V1 | Bucketing::V2) => {
                murmur3_32([scope.root.flag_key(), &text(key)].concat().as_bytes(), 0)
            }
            (Hashed::Value(value), Bucketing::V3) => match cbor::value(value, scope)? {
                Some(encoded) => murmur3_32(&encoded, 0),
                None => return Ok(None),
            },
            (Hashed::Shorthand(key), Bucketing::V3) => {
                murmur3_32(&cbor::pair(scope.root.flag_key(), key.as_str().unwrap_or_default()), 0)
            }
        }))
    }

    fn told(
        &self,
        version: Bucketing,
        flag_key: &str,
        hash: u32,
        shares: &[(Val<'v>, i64)],
        chosen: Option<usize>,
    ) -> Bucketed {
        let total: i64 = shares.iter().map(|(_, weight)| weight).sum();
        let input = match self {
            Hashed::Value(value) => value.to_json(),
            Hashed::Shorthand(key) if version == Bucketing::V3 => serde_json::json!([flag_key, key.as_str()]),
            Hashed::Shorthand(key) => format!("{flag_key}{}", key.as_str().unwrap_or_default()).into(),
        };
        let targeting_key = match self {
            Hashed::Value(_) => None,
            Hashed::Shorthand(key) => key.as_str().map(str::to_owned),
        };
        let (position, bucket) = match version {
            Bucketing::V1 => (v1_position(hash), v1_position(hash) * 100.0),
            Bucketing::V2 | Bucketing::V3 => {
                (f64::from(hash) / 4_294_967_296.0, ((u64::from(hash) * total.unsigned_abs()) >> 32) as f64)
            }
        };
        let shares = shares.iter().map(|(variant, weight)| (variant.to_json(), *weight)).collect();
        Bucketed { version, input, targeting_key, hash, bucket, position, chosen, total, shares }
    }
}

/// The literal shares as they would be computed.
fn fixed<'v>(ends: &'v [(u64, Value<'static>)]) -> Vec<(Val<'v>, i64)> {
    let mut before = 0;
    let weighted = |(end, variant): &'v (u64, Value<'static>)| {
        let weight = end - before;
        before = *end;
        (Val::from(variant), weight.cast_signed())
    };
    ends.iter().map(weighted).collect()
}

/// Reads variant and weight of one bucket.
type Reader<'v> = fn(Val<'v>, Val<'v>) -> Option<(Val<'v>, i64)>;

/// All shares with their weights; `None` when one is unsound.
fn all_shares<'v>(
    leading: Option<Val<'v>>,
    shares: &'v Shares,
    scope: &Scope<'_, 'v, impl Observer>,
    read: Reader<'v>,
) -> Result<Option<Vec<(Val<'v>, i64)>>, Halt> {
    let mut all = Vec::new();
    if let Some(list) = leading {
        all.push(bucket(&list, read));
    }
    match shares {
        Shares::Fixed { ends, .. } => {
            all.extend(fixed(ends).into_iter().map(|(variant, weight)| read(variant, Val::Number(weight as f64))));
        }
        Shares::Computed(rules) => {
            for rule in rules {
                all.push(bucket(&operand(rule, scope)?, read));
            }
        }
    }
    Ok(all.into_iter().collect())
}

/// The largest sum of weights, `i32::MAX`.
pub(in crate::flags) const MAX_TOTAL: i64 = i32::MAX as i64;

/// Variant and weight of one bucket, a list with at least a variant.
fn bucket<'v>(list: &Val<'v>, read: Reader<'v>) -> Option<(Val<'v>, i64)> {
    if list.list_len()? == 0 { None } else { read(list.item(0), list.item(1)) }
}

/// Variant and weight of one bucket in versions 2 and 3.
pub(in crate::flags) fn share<'v>(list: &Val<'v>) -> Option<(Val<'v>, i64)> {
    bucket(list, sound)
}

/// A scalar and, unless it is 1, an integral weight; a negative one counts as 0.
fn sound<'v>(variant: Val<'v>, weight: Val<'v>) -> Option<(Val<'v>, i64)> {
    let variant = match variant {
        Val::Undefined => Val::Null,
        variant @ (Val::Null | Val::Bool(_) | Val::Number(_) | Val::Str(_) | Val::Text(_)) => variant,
        _ => return None,
    };
    let weight = match weight {
        Val::Undefined | Val::Null => 1,
        Val::Number(weight) if weight.fract() == 0.0 && weight <= MAX_TOTAL as f64 => weight.max(0.0) as i64,
        _ => return None,
    };
    Some((variant, weight))
}

/// In version 1: a text and a weight, cut to an integer; one that is no number is 1.
fn v1_sound<'v>(variant: Val<'v>, weight: Val<'v>) -> Option<(Val<'v>, i64)> {
    variant.as_str()?;
    let weight = match weight {
        // So far that no sum overflows.
        Val::Number(weight) => weight.clamp(-1e15, 1e15) as i64,
        _ => 1,
    };
    Some((variant, weight))
}
