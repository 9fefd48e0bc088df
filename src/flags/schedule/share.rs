//! A variant's share of the keys: reading and changing it in a definition's `fractional`, so that a growing share only
//! ever takes keys in and a shrinking one only ever lets keys go. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use thiserror::Error;

use super::super::contract::with_member;
use super::bands::{Band, Bands};

/// A share of all keys, to a thousandth of a percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Share(u32);

/// A share that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is not a share; write 0% to 100% with up to three decimals, as 12.5%")]
pub struct NotAShare(String);

impl Share {
    /// Everybody.
    pub const WHOLE: Share = Share(100_000);
    /// Nobody.
    pub const NONE: Share = Share(0);

    /// In thousandths of a percent.
    pub fn thousandths(self) -> u32 {
        self.0
    }

    /// The share at step `step` of `steps` (1 is the first) on a straight way from `from` to `to`.
    pub fn between(from: Share, to: Share, step: u32, steps: u32) -> Share {
        let last = i64::from(steps.saturating_sub(1).max(1));
        let at = i64::from(step.saturating_sub(1)).min(last);
        let (from, to) = (i64::from(from.0), i64::from(to.0));
        // A single step goes all the way.
        let at = if steps <= 1 { last } else { at };
        let share = from + (to - from) * at / last;
        Share(u32::try_from(share).unwrap_or_default())
    }
}

impl FromStr for Share {
    type Err = NotAShare;

    fn from_str(text: &str) -> Result<Self, NotAShare> {
        let wrong = || NotAShare(text.to_owned());
        let number = text.trim().strip_suffix('%').ok_or_else(wrong)?;
        let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(decimals) || decimals.len() > 3 || whole.len() > 3 {
            return Err(wrong());
        }
        let whole: u32 = whole.parse().map_err(|_| wrong())?;
        let decimals: u32 = format!("{decimals:0<3}").parse().map_err(|_| wrong())?;
        let share = Share(whole * 1000 + decimals);
        if share > Share::WHOLE { Err(wrong()) } else { Ok(share) }
    }
}

impl TryFrom<String> for Share {
    type Error = NotAShare;

    fn try_from(text: String) -> Result<Self, NotAShare> {
        text.parse()
    }
}

impl From<Share> for String {
    fn from(share: Share) -> String {
        share.to_string()
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, decimals) = (self.0 / 1000, format!("{:03}", self.0 % 1000));
        match decimals.trim_end_matches('0') {
            "" => write!(f, "{whole}%"),
            decimals => write!(f, "{whole}.{decimals}%"),
        }
    }
}

/// Why a definition's share of a variant cannot be changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Unfit {
    /// Not a flag's definition.
    #[error("the definition cannot be read: {0}")]
    Definition(String),
    /// There is no such variant.
    #[error("there is no variant {variant:?}, they are {names}")]
    NoVariant {
        /// What was asked for.
        variant: String,
        /// What there is.
        names: String,
    },
    /// No targeting, and nobody to leave the rest to.
    #[error("the flag has no targeting and no defaultVariant that could have the rest; set one")]
    NoDefault,
    /// No targeting, and the variant has everything.
    #[error("{0:?} is the default variant and has all keys already; roll out the other variant")]
    Default(String),
    /// Targeting without `fractional`.
    #[error(
        "its targeting has no `fractional` of its own whose weights could be changed; write one where the share belongs"
    )]
    NoFractional,
    /// Targeting with more than one.
    #[error("its targeting has {0} `fractional`s, and which one is meant cannot be known; leave one")]
    Several(usize),
    /// Weights that are computed.
    #[error("its `fractional` has buckets that are not a plain variant with a plain whole weight")]
    Computed,
    /// Weights that give nothing to anybody, or overflow.
    #[error("the weights of its `fractional` add up to {0}; at least 1 and at most 2147483647 works")]
    Total(u64),
    /// Only this variant is left, and the default is the same.
    #[error("nobody is there to have the rest: {0:?} is the only variant of its `fractional` and the default one")]
    Alone(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Parts<'a> {
    #[serde(borrow)]
    variants: BTreeMap<String, &'a RawValue>,
    #[serde(default)]
    default_variant: Option<String>,
    #[serde(default, borrow)]
    targeting: Option<&'a RawValue>,
}

/// Where the weights of a definition stand.
enum Place<'a> {
    /// Nowhere yet.
    None,
    /// The arguments of the one `fractional`, a slice of the definition's text.
    Arguments(&'a str),
}

/// The share that `variant` has of the keys that reach the `fractional` of `definition`, rounded down; without
/// targeting all or nothing.
///
/// # Errors
/// The definition is of no shape that shares can be read from.
pub fn share(definition: &str, variant: &str) -> Result<Share, Unfit> {
    let (parts, place) = read(definition, variant)?;
    match place {
        Place::None if parts.default_variant.as_deref() == Some(variant) => Ok(Share::WHOLE),
        Place::None => Ok(Share::NONE),
        Place::Arguments(text) => {
            let bands = Bands::parse(text)?;
            let share = bands.width(variant) * u64::from(Share::WHOLE.0) / bands.total();
            Ok(Share(u32::try_from(share).unwrap_or_default()))
        }
    }
}

/// `definition` with `variant` at `share`; the rest of the text stays as it was written. Keys move from other variants
/// to `variant` when its share grows and from it to others when it shrinks, and not otherwise: exactly so with the
/// bucketing v2 and v3, to within rounding of percentages with v1.
///
/// Without targeting the flag gets a `fractional` over the targeting key, in which the default variant has the rest.
/// With targeting that has one `fractional`, anywhere in it, its weights change: the share is then one of the keys that
/// reach it.
///
/// # Errors
/// The definition is of another shape.
pub fn with_share(definition: &str, variant: &str, share: Share) -> Result<String, Unfit> {
    let (parts, place) = read(definition, variant)?;
    let default = parts.default_variant;
    match place {
        Place::None => {
            let default = default.ok_or(Unfit::NoDefault)?;
            if default == variant {
                return Err(Unfit::Default(default));
            }
            let bands = Bands::of(vec![Band::named(&default, 1)]).with(variant, share, Some(&default))?;
            let targeting = format!("{{\"fractional\":{bands}}}");
            with_member(definition, "targeting", &targeting).map_err(|e| Unfit::Definition(e.to_string()))
        }
        Place::Arguments(text) => {
            let bands = Bands::parse(text)?.with(variant, share, default.as_deref())?;
            let from = text.as_ptr() as usize - definition.as_ptr() as usize;
            Ok(format!("{}{bands}{}", &definition[..from], &definition[from + text.len()..]))
        }
    }
}

fn read<'a>(definition: &'a str, variant: &str) -> Result<(Parts<'a>, Place<'a>), Unfit> {
    let parts: Parts<'a> = serde_json::from_str(definition).map_err(|e| Unfit::Definition(e.to_string()))?;
    if !parts.variants.contains_key(variant) {
        let names = parts.variants.keys().cloned().collect::<Vec<_>>().join(", ");
        return Err(Unfit::NoVariant { variant: variant.to_owned(), names });
    }
    let targeting =
        parts.targeting.map(RawValue::get).filter(|text| !text.trim_matches(['{', '}', ' ', '\n']).is_empty());
    let Some(targeting) = targeting else { return Ok((parts, Place::None)) };
    let mut found = Vec::new();
    fractionals(targeting, &mut found).map_err(|e| Unfit::Definition(e.to_string()))?;
    match found.as_slice() {
        [] => Err(Unfit::NoFractional),
        [one] => Ok((parts, Place::Arguments(one))),
        several => Err(Unfit::Several(several.len())),
    }
}

/// The arguments of every outermost `fractional` in a rule. Depth is bounded: the definition has been compiled.
fn fractionals<'a>(rule: &'a str, found: &mut Vec<&'a str>) -> serde_json::Result<()> {
    match rule.trim_start().as_bytes().first() {
        Some(b'{') => {
            let fields: BTreeMap<String, &'a RawValue> = serde_json::from_str(rule)?;
            for (name, value) in fields {
                match name.as_str() {
                    "fractional" => found.push(value.get()),
                    _ => fractionals(value.get(), found)?,
                }
            }
        }
        Some(b'[') => {
            let items: Vec<&'a RawValue> = serde_json::from_str(rule)?;
            for item in items {
                fractionals(item.get(), found)?;
            }
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read_and_written() {
        for (text, thousandths, shown) in [
            ("0%", 0, "0%"),
            ("1%", 1000, "1%"),
            ("12.5%", 12_500, "12.5%"),
            ("0.001%", 1, "0.001%"),
            ("07.50%", 7500, "7.5%"),
            ("100%", 100_000, "100%"),
        ] {
            let share: Share = text.parse().expect(text);
            assert_eq!((share.0, share.to_string().as_str()), (thousandths, shown), "{text}");
        }
        for text in ["", "%", "1", "101%", "100.001%", "-1%", "+1%", "1.0001%", "1e1%", ".5%", "1,5%", "9999%"] {
            assert!(text.parse::<Share>().is_err(), "{text}");
        }
    }

    #[test]
    fn steps_go_straight_from_the_first_to_the_last_share() {
        let share = |text: &str| text.parse::<Share>().expect(text);
        let steps: Vec<String> =
            (1..=5).map(|step| Share::between(share("1%"), share("50%"), step, 5).to_string()).collect();
        assert_eq!(steps, ["1%", "13.25%", "25.5%", "37.75%", "50%"]);
        assert_eq!(Share::between(share("50%"), share("1%"), 2, 3), share("25.5%"));
        assert_eq!(Share::between(share("50%"), share("1%"), 9, 3), share("1%"));
        assert_eq!(Share::between(share("1%"), share("50%"), 1, 1), share("50%"));
    }

    const HEAD: &str = r#"{"state":"ENABLED","variants":{"on":true,"off":false,"x":1.0},"defaultVariant":"off""#;

    fn check(targeting: &str, share: &str, expected: Result<&str, &str>) {
        let with = |targeting: &str| match targeting {
            "" => format!("{HEAD}}}"),
            targeting => format!("{HEAD},\"targeting\":{targeting}}}"),
        };
        let outcome = with_share(&with(targeting), "on", share.parse().expect(share)).map_err(|e| e.to_string());
        match (outcome, expected) {
            (Ok(text), Ok(targeting)) => assert_eq!(text, with(targeting)),
            (Err(text), Err(part)) => assert!(text.contains(part), "{text}"),
            (outcome, expected) => panic!("{targeting} at {share}: {outcome:?}, not {expected:?}"),
        }
    }

    #[test]
    fn weights_change_and_the_rest_of_the_text_stays() {
        check("", "1%", Ok(r#"{"fractional":[["on",1],["off",99]]}"#));
        check("{}", "12.5%", Ok(r#"{"fractional":[["on",125],["off",875]]}"#));
        check("null", "0%", Ok(r#"{"fractional":[["off",100]]}"#));
        check("", "100%", Ok(r#"{"fractional":[["on",100]]}"#));
        check(r#"{"fractional":[["on",1],["off",99]]}"#, "50%", Ok(r#"{"fractional":[["on",50],["off",50]]}"#));
        // A growing variant takes from each other band its part, from where nobody else has to move.
        check(
            r#"{"fractional":[ {"var":"email"}, ["off", 50], ["on",10], ["x",40]]}"#,
            "55%",
            Ok(r#"{"fractional":[{"var":"email"},["on",25],["off",25],["on",30],["x",20]]}"#),
        );
        check(r#"{"fractional":[["off",1],["on"]]}"#, "25%", Ok(r#"{"fractional":[["off",50],["on",25],["off",25]]}"#));
        check(r#"{"fractional":[["on",3],["off",0],["x",-4]]}"#, "50%", Ok(r#"{"fractional":[["on",50],["off",50]]}"#));
        check(
            r#"{"if":[{"==":[{"var":"plan"},"free"]},"off" , {"fractional":[["on",1],["off",1]]}]}"#,
            "75%",
            Ok(r#"{"if":[{"==":[{"var":"plan"},"free"]},"off" , {"fractional":[["on",75],["off",25]]}]}"#),
        );
    }

    #[test]
    fn booleans_in_a_rule_are_the_variants_of_that_name() {
        let flag = r#"{"variants":{"true":true,"false":false},"targeting":{"fractional":[[true,1],["false",1]]}}"#;
        let grown = with_share(flag, "true", "75%".parse().expect("a share"));
        assert_eq!(grown, Ok(flag.replace(r#"[true,1],["false",1]"#, r#"[true,75],["false",25]"#)));
    }

    #[test]
    fn what_cannot_be_changed_safely_is_refused_with_the_reason() {
        check(r#"{"if":[true,"on","off"]}"#, "1%", Err("no `fractional`"));
        check(r#"{"$ref":"shared"}"#, "1%", Err("no `fractional`"));
        let one = r#"{"fractional":[["on",1]]}"#;
        check(&format!(r#"{{"if":[true,{one},{one}]}}"#), "1%", Err("2 `fractional`s"));
        check(r#"{"fractional":[["on",{"var":"w"}],["off",1]]}"#, "1%", Err("plain"));
        check(r#"{"fractional":[[{"var":"v"},1],["off",1]]}"#, "1%", Err("plain"));
        check(r#"{"fractional":[["on",1.5],["off",1]]}"#, "1%", Err("plain"));
        check(r#"{"fractional":[["on",0],["off",0]]}"#, "1%", Err("add up to 0"));
        check(r#"{"fractional":[["on",2147483647],["off",1]]}"#, "1%", Err("add up to 2147483648"));
        let refused = |definition: &str, variant: &str| {
            with_share(definition, variant, Share(1)).expect_err("refused").to_string()
        };
        assert!(refused(&format!("{HEAD}}}"), "nope").contains("they are off, on, x"));
        assert!(refused(&format!("{HEAD}}}"), "off").contains("the default variant"));
        assert!(refused(r#"{"variants":{"on":true}}"#, "on").contains("no defaultVariant"));
        let alone = r#"{"variants":{"on":true},"defaultVariant":"on","targeting":{"fractional":[["on",1]]}}"#;
        assert!(refused(alone, "on").contains("only variant"));
        assert!(refused("{", "on").contains("cannot be read"));
    }

    #[test]
    fn the_share_in_place_is_read() {
        let of = |targeting: &str| share(&format!("{HEAD}{targeting}}}"), "on").map(|share| share.to_string());
        assert_eq!(of("").as_deref(), Ok("0%"));
        assert_eq!(of(r#","targeting":{"fractional":[["on",1],["off",2],["on",1]]}"#).as_deref(), Ok("50%"));
        assert_eq!(of(r#","targeting":{"fractional":[["on",1],["off",2]]}"#).as_deref(), Ok("33.333%"));
        assert_eq!(share(&format!("{HEAD}}}"), "off"), Ok(Share::WHOLE));
    }
}
