//! A moment as people write it: in a while, at a time of the day, or in full. Pure.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use thiserror::Error;

/// How far ahead a moment may lie.
pub const LONGEST: Duration = Duration::from_secs(366 * DAY as u64);
const DAY: i64 = 24 * 60 * 60;
/// A moment typed now may be over by the time it is read.
const JUST_NOW: Duration = Duration::from_secs(60);

/// A moment that cannot be read or kept.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NoTime {
    /// Of no known form.
    #[error("{0:?} is not a time; write +2h, 18:30Z, 18:30+01:00 or 2026-11-23T18:30:00Z")]
    Form(String),
    /// A clock time of nowhere.
    #[error("{0:?} does not say in which time zone; add Z for UTC, or an offset as +01:00")]
    Zone(String),
    /// It is over.
    #[error("{0:?} has passed")]
    Past(String),
    /// It is too far away.
    #[error("{0:?} lies more than a year ahead")]
    Far(String),
}

/// The moment that `text` means at `now`: `+2h` from now; `18:30Z`, `18:30+01:00`, the next time it is that late there;
/// `2026-11-23T18:30:00+01:00`, of RFC 3339.
///
/// # Errors
/// It is of another form, past, or more than a year away.
pub fn moment(text: &str, now: SystemTime) -> Result<SystemTime, NoTime> {
    let own = || text.to_owned();
    let at = if let Some(wait) = text.strip_prefix('+') {
        let wait = humantime::parse_duration(wait).map_err(|_| NoTime::Form(own()))?;
        now.checked_add(wait).ok_or_else(|| NoTime::Far(own()))?
    } else {
        let (local, offset) = zone(text)?;
        match local.split_once(['T', 't', ' ']) {
            Some(_) => {
                let local = if local.len() == 16 { format!("{local}:00") } else { local.to_owned() };
                let local = local.to_uppercase();
                let at = humantime::parse_rfc3339_weak(&local).map_err(|_| NoTime::Form(own()))?;
                shifted(at, -offset).ok_or_else(|| NoTime::Form(own()))?
            }
            None => {
                let second = clock(local).ok_or_else(|| NoTime::Form(own()))?;
                let since = now.duration_since(UNIX_EPOCH).map_err(|_| NoTime::Form(own()))?.as_secs();
                let there = i64::try_from(since).map_err(|_| NoTime::Form(own()))? + offset;
                let today = there - there.rem_euclid(DAY) + second;
                let next = if today < there { today + DAY } else { today };
                shifted(UNIX_EPOCH, next - offset).ok_or_else(|| NoTime::Form(own()))?
            }
        }
    };
    if now.duration_since(at).is_ok_and(|late| late > JUST_NOW) {
        return Err(NoTime::Past(own()));
    }
    if at.duration_since(now).is_ok_and(|ahead| ahead > LONGEST) { Err(NoTime::Far(own())) } else { Ok(at) }
}

/// What stands before the zone, and the zone's offset in seconds.
fn zone(text: &str) -> Result<(&str, i64), NoTime> {
    if let Some(local) = text.strip_suffix(['Z', 'z']) {
        return Ok((local, 0));
    }
    if let Some(local) = text.strip_suffix("UTC") {
        return Ok((local.trim_end(), 0));
    }
    // After the clock, so that the date's own hyphens are not taken for it.
    let clock = text.find(':').ok_or_else(|| NoTime::Form(text.to_owned()))?;
    let Some(sign) = text[clock..].find(['+', '-']).map(|at| clock + at) else {
        let sound = text.bytes().all(|byte| byte.is_ascii_digit() || b":-T. ".contains(&byte));
        return Err(if sound { NoTime::Zone(text.to_owned()) } else { NoTime::Form(text.to_owned()) });
    };
    let seconds = self::clock(&text[sign + 1..]).ok_or_else(|| NoTime::Form(text.to_owned()))?;
    Ok((&text[..sign], if text[sign..].starts_with('-') { -seconds } else { seconds }))
}

/// Seconds of `18:30` or `18:30:15` since midnight.
fn clock(text: &str) -> Option<i64> {
    let mut parts = text.split(':');
    let mut part = |most: i64| {
        let text = parts.next()?;
        let number: i64 = text.parse().ok()?;
        (text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit()) && number <= most).then_some(number)
    };
    let (hour, minute) = (part(23)?, part(59)?);
    let second = if text.len() > 5 { part(59)? } else { 0 };
    parts.next().is_none().then_some(hour * 3600 + minute * 60 + second)
}

fn shifted(at: SystemTime, seconds: i64) -> Option<SystemTime> {
    let by = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 { at.checked_sub(by) } else { at.checked_add(by) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-22, 20:00 UTC.
    const NOW: &str = "2026-11-22T20:00:00Z";

    fn check(text: &str, expected: Result<&str, &str>) {
        let now = humantime::parse_rfc3339(NOW).expect("a time");
        match (moment(text, now), expected) {
            (Ok(at), Ok(expected)) => assert_eq!(humantime::format_rfc3339_seconds(at).to_string(), expected, "{text}"),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{text}: {error}"),
            (outcome, _) => panic!("{text}: {outcome:?}, not {expected:?}"),
        }
    }

    #[test]
    fn moments_are_read_as_people_write_them() {
        check("+2h", Ok("2026-11-22T22:00:00Z"));
        check("+1m 30s", Ok("2026-11-22T20:01:30Z"));
        check("+0s", Ok(NOW));
        check("21:30Z", Ok("2026-11-22T21:30:00Z"));
        check("20:00 UTC", Ok(NOW));
        check("19:59Z", Ok("2026-11-23T19:59:00Z"));
        check("08:00+09:00", Ok("2026-11-22T23:00:00Z"));
        check("04:00+09:00", Ok("2026-11-23T19:00:00Z"));
        check("18:30:15-05:00", Ok("2026-11-22T23:30:15Z"));
        check("00:30+00:30", Ok("2026-11-23T00:00:00Z"));
        check("2026-11-23T08:00:00Z", Ok("2026-11-23T08:00:00Z"));
        check("2026-11-23T08:00:00.5+01:00", Ok("2026-11-23T07:00:00Z"));
        check("2026-11-23t08:00-03:30", Ok("2026-11-23T11:30:00Z"));
        check("2026-11-22T19:59:30Z", Ok("2026-11-22T19:59:30Z"));
    }

    #[test]
    fn what_is_no_moment_is_refused_with_what_to_write() {
        for text in [
            "",
            "+",
            "tomorrow",
            "18Z",
            "24:00Z",
            "1:2Z",
            "18:60Z",
            "18:30:00:00Z",
            "+2",
            "2026-13-01T00:00:00Z",
            "18:30+25:00",
            "é:+",
        ] {
            check(text, Err("is not a time; write"));
        }
        check("18:30", Err("which time zone"));
        check("2026-11-23T08:00:00", Err("which time zone"));
        check("2026-11-22T19:58:00Z", Err("has passed"));
        check("+400d", Err("more than a year"));
        check("2030-01-01T00:00:00Z", Err("more than a year"));
    }
}
