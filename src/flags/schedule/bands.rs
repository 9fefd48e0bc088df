//! The bands of a `fractional`: which stretch of the line of all keys belongs to which variant, and how one variant's
//! stretches grow or shrink without a key moving between the others. Pure.

use std::fmt;

use serde_json::value::RawValue;

use super::share::{Share, Unfit};

/// The largest sum of weights that evaluates (docs of flagd: `i32::MAX`).
const MAX_TOTAL: u64 = i32::MAX as u64;
/// What weights are brought to: a thousandth of a percent is one.
const FINE: u64 = Share::WHOLE_WEIGHT;

/// One stretch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Band {
    /// The variant as it is written in the rule: `"on"`, `true`.
    text: String,
    width: u64,
}

/// All stretches, in order, and what is hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bands {
    /// The text of the first argument, when it is no band.
    key: Option<String>,
    bands: Vec<Band>,
}

impl Share {
    /// The whole, in thousandths of a percent.
    const WHOLE_WEIGHT: u64 = 100_000;
}

impl Band {
    pub(super) fn named(variant: &str, width: u64) -> Self {
        Self { text: serde_json::Value::from(variant).to_string(), width }
    }

    /// Whether it leads to `variant`: booleans name the variants "true" and "false".
    fn is(&self, variant: &str) -> bool {
        match self.text.as_str() {
            "true" | "false" => self.text == variant,
            text => serde_json::from_str::<String>(text).is_ok_and(|name| name == variant),
        }
    }
}

impl Bands {
    pub(super) fn of(bands: Vec<Band>) -> Self {
        Self { key: None, bands }
    }

    /// Reads the arguments of a `fractional`.
    pub(super) fn parse(arguments: &str) -> Result<Self, Unfit> {
        let items: Vec<&RawValue> = serde_json::from_str(arguments).map_err(|_| Unfit::Computed)?;
        let mut texts: Vec<&str> = items.into_iter().map(RawValue::get).collect();
        let mut key = None;
        if texts.first().is_some_and(|first| !first.starts_with('[')) {
            key = Some(texts.remove(0).to_owned());
        }
        let bands = texts.into_iter().map(band).collect::<Result<Vec<_>, _>>()?;
        let total = bands.iter().fold(0_u64, |total, band| total.saturating_add(band.width));
        if total == 0 || total > MAX_TOTAL { Err(Unfit::Total(total)) } else { Ok(Self { key, bands }) }
    }

    pub(super) fn total(&self) -> u64 {
        self.bands.iter().map(|band| band.width).sum()
    }

    /// How much of the total belongs to `variant`.
    pub(super) fn width(&self, variant: &str) -> u64 {
        self.bands.iter().filter(|band| band.is(variant)).map(|band| band.width).sum()
    }

    /// The same with `variant` at `share`. `default` has what nobody else is there to have.
    pub(super) fn with(mut self, variant: &str, share: Share, default: Option<&str>) -> Result<Self, Unfit> {
        // Multiplying every weight by one number moves no boundary: (h·kT)>>32 < kc exactly when (h·T)>>32 < c.
        let total = self.total();
        let fine = total / gcd(total, FINE) * FINE;
        let factor = if fine <= MAX_TOTAL { fine / total } else { 1 };
        self.bands.iter_mut().for_each(|band| band.width *= factor);
        let total = total * factor;
        let target = (u64::from(share.thousandths()) * total + FINE / 2) / FINE;
        let have = self.width(variant);
        self.bands = if target >= have {
            grown(self.bands, variant, target - have, total - have)
        } else {
            shrunk(self.bands, variant, have - target, have, default)?
        };
        Ok(self.merged().plain())
    }

    /// Neighbours of one variant as one, and none without width.
    fn merged(self) -> Self {
        let mut merged: Vec<Band> = Vec::with_capacity(self.bands.len());
        for band in self.bands.into_iter().filter(|band| band.width > 0) {
            match merged.last_mut().filter(|last| last.text == band.text) {
                Some(last) => last.width += band.width,
                None => merged.push(band),
            }
        }
        Self { bands: merged, ..self }
    }

    /// The same boundaries in the smallest weights that read as percent, or tenths, hundredths, thousandths of it.
    fn plain(mut self) -> Self {
        let divisor = self.bands.iter().fold(0, |divisor, band| gcd(divisor, band.width)).max(1);
        let least = (self.total() / divisor).max(1);
        let total = [100, 1000, 10_000, 100_000].into_iter().find(|total| total % least == 0).unwrap_or(least);
        self.bands.iter_mut().for_each(|band| band.width = band.width / divisor * (total / least));
        self
    }
}

/// `variant` takes `more` of the `others` that do not belong to it, from the beginning of each band in proportion.
fn grown(bands: Vec<Band>, variant: &str, more: u64, others: u64) -> Vec<Band> {
    let (mut seen, mut taken, mut grown) = (0, 0, Vec::with_capacity(2 * bands.len()));
    // As it is written already, `true` or "true", so that neighbours merge.
    let own = bands.iter().find(|band| band.is(variant)).cloned().unwrap_or_else(|| Band::named(variant, 0));
    for band in bands {
        if band.is(variant) {
            grown.push(band);
            continue;
        }
        seen += band.width;
        let take = seen * more / others.max(1) - taken;
        taken += take;
        grown.push(Band { width: take, ..own.clone() });
        grown.push(Band { width: band.width - take, ..band });
    }
    grown
}

/// `variant` gives `less` of the `have` that belongs to it to its neighbours, from the end of each band in proportion.
fn shrunk(bands: Vec<Band>, variant: &str, less: u64, have: u64, default: Option<&str>) -> Result<Vec<Band>, Unfit> {
    let other = bands.iter().rev().find(|band| !band.is(variant)).cloned();
    let other = other.or_else(|| default.filter(|name| *name != variant).map(|name| Band::named(name, 0)));
    let other = other.ok_or_else(|| Unfit::Alone(variant.to_owned()))?;
    let (mut seen, mut given, mut shrunk) = (0, 0, Vec::with_capacity(2 * bands.len()));
    for (at, band) in bands.iter().enumerate() {
        if !band.is(variant) {
            shrunk.push(band.clone());
            continue;
        }
        seen += band.width;
        let give = seen * less / have.max(1) - given;
        given += give;
        let heir = bands[at + 1..].iter().find(|band| !band.is(variant)).unwrap_or(&other);
        shrunk.push(Band { width: band.width - give, ..band.clone() });
        shrunk.push(Band { width: give, ..heir.clone() });
    }
    Ok(shrunk)
}

/// Reads `["on", 25]`, `["on"]`.
fn band(text: &str) -> Result<Band, Unfit> {
    let items: Vec<&RawValue> = serde_json::from_str(text).map_err(|_| Unfit::Computed)?;
    let variant = items.first().ok_or(Unfit::Computed)?.get();
    if variant.starts_with(['[', '{']) {
        return Err(Unfit::Computed);
    }
    let width = match items.get(1).map(|weight| weight.get()) {
        None | Some("null") => 1.0,
        Some(weight) => weight.parse::<f64>().map_err(|_| Unfit::Computed)?,
    };
    // As the evaluation takes them: whole, and below nothing is nothing.
    if width.fract() != 0.0 || width > MAX_TOTAL as f64 {
        return Err(Unfit::Computed);
    }
    Ok(Band { text: variant.to_owned(), width: width.max(0.0) as u64 })
}

impl fmt::Display for Bands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        let mut comma = "";
        if let Some(key) = &self.key {
            f.write_str(key)?;
            comma = ",";
        }
        for Band { text, width } in &self.bands {
            write!(f, "{comma}[{text},{width}]")?;
            comma = ",";
        }
        f.write_str("]")
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
