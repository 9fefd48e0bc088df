//! `fractional`: a stable share of keys per variant.

use super::super::context::Value;
use super::super::hash::murmur3_32;
use super::interpret::{Halt, Scope, operand};
use super::val::Val;
use super::{Rule, coerce};

/// How keys are put into buckets. Versions differ in what they hash and how they scale, so a fleet must agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::flags) enum Bucketing {
    /// flagd since high-precision fractional: `(hash × total weight) >> 32` over the key's UTF-8.
    V2,
}

/// The arguments of `fractional`.
#[derive(Debug)]
pub(in crate::flags) struct Buckets {
    pub(in crate::flags) bucketing: Bucketing,
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
    /// All literal and sound: each variant and where its share ends.
    Fixed { total: u64, ends: Box<[(u64, Value<'static>)]> },
    /// Some computed, or unsound.
    Computed(Box<[Rule]>),
}

/// The variant whose share `scope`'s key falls into; `null` when there is no key or the buckets are unsound.
pub(super) fn choose<'v>(buckets: &'v Buckets, scope: &Scope<'_, 'v>) -> Result<Val<'v>, Halt> {
    let mut leading = None;
    let hash = match &buckets.key {
        Key::Shorthand => shorthand(scope),
        Key::Computed(rule) => match operand(rule, scope)? {
            Val::Str(key) => Some(murmur3_32(key.as_bytes(), 0)),
            Val::Text(key) => Some(murmur3_32(key.as_bytes(), 0)),
            Val::Null | Val::Undefined => shorthand(scope),
            list if list.is_list() => {
                leading = Some(list);
                shorthand(scope)
            }
            _ => None,
        },
    };
    let Some(hash) = hash else { return Ok(Val::Null) };
    let Bucketing::V2 = buckets.bucketing;
    let at = |total: u64| (u64::from(hash) * total) >> 32;
    match &buckets.shares {
        Shares::Fixed { total, ends } => {
            let (first, weight) = match &leading {
                None => (Val::Null, 0),
                Some(list) => match share(list) {
                    Some(leading) => leading,
                    None => return Ok(Val::Null),
                },
            };
            if total + weight > MAX_TOTAL {
                return Ok(Val::Null);
            }
            let bucket = at(total + weight);
            if bucket < weight {
                return Ok(first);
            }
            let found = ends.iter().find(|(end, _)| bucket < weight + *end);
            Ok(found.map_or(Val::Null, |(_, variant)| Val::from(variant)))
        }
        Shares::Computed(rules) => {
            let mut shares: Vec<Val<'v>> = leading.into_iter().collect();
            for rule in rules {
                shares.push(operand(rule, scope)?);
            }
            Ok(computed(&shares, at))
        }
    }
}

/// The hash of flag key and targeting key in one, if there is a targeting key.
fn shorthand(scope: &Scope<'_, '_>) -> Option<u32> {
    let targeting_key = scope.root.attribute("targetingKey");
    let targeting_key = targeting_key.as_str().filter(|key| !key.is_empty())?;
    let key = [scope.root.flag_key(), targeting_key].concat();
    Some(murmur3_32(key.as_bytes(), 0))
}

fn computed<'v>(shares: &[Val<'v>], at: impl Fn(u64) -> u64) -> Val<'v> {
    let mut ends = Vec::with_capacity(shares.len());
    let mut total = 0;
    for share in shares {
        let Some((variant, weight)) = self::share(share) else { return Val::Null };
        total += weight;
        ends.push((total, variant));
    }
    if total == 0 || total > MAX_TOTAL {
        return Val::Null;
    }
    let bucket = at(total);
    ends.into_iter().find(|(end, _)| bucket < *end).map_or(Val::Null, |(_, variant)| variant)
}

/// The largest sum of weights, `i32::MAX`.
pub(in crate::flags) const MAX_TOTAL: u64 = i32::MAX as u64;

/// Variant and weight of one bucket: a list of a scalar and, unless it is 1, an integral weight; a negative one
/// counts as 0.
pub(in crate::flags) fn share<'v>(share: &Val<'v>) -> Option<(Val<'v>, u64)> {
    if share.list_len()? == 0 {
        return None;
    }
    let variant = match share.item(0) {
        Val::Undefined => Val::Null,
        variant @ (Val::Null | Val::Bool(_) | Val::Number(_) | Val::Str(_) | Val::Text(_)) => variant,
        _ => return None,
    };
    let weight = match share.item(1) {
        Val::Undefined | Val::Null => 1,
        Val::Number(weight) if weight == coerce::integer(&Val::Number(weight)) && weight <= MAX_TOTAL as f64 => {
            weight.max(0.0) as u64
        }
        _ => return None,
    };
    Some((variant, weight))
}
