//! Reading dates and times in the forms PostgreSQL accepts.

use crate::datetime::*;
use crate::interval::MICROS_PER_DAY;
use crate::timezone::{TimeZone, parse_offset};
use crate::{Error, Result, SqlState};
use scan::{Parsed, Refusal, Special, scan};

mod scan;

pub(crate) use scan::fraction_micros;

/// Which of an ambiguous date's numbers is which: the second half of `DateStyle`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DateOrder {
    #[default]
    Mdy,
    Dmy,
    Ymd,
}

/// What reading a time depends on besides the text.
#[derive(Clone, Copy)]
pub struct ParseContext<'a> {
    pub zone: &'a TimeZone,
    /// The transaction's start, for `now` and `today`.
    pub now: i64,
    pub order: DateOrder,
}

fn refuse(refusal: Refusal, text: &str, type_name: &str) -> Error {
    match refusal {
        Refusal::Syntax => Error::new(
            SqlState::INVALID_DATETIME_FORMAT,
            format!("invalid input syntax for type {type_name}: \"{text}\""),
        ),
        Refusal::Range => Error::new(
            SqlState::DATETIME_FIELD_OVERFLOW,
            format!("date/time field value out of range: \"{text}\""),
        ),
        Refusal::DateRange => Error::new(
            SqlState::DATETIME_FIELD_OVERFLOW,
            format!("date/time field value out of range: \"{text}\""),
        )
        .hint("Perhaps you need a different \"datestyle\" setting."),
        Refusal::Zone(name) => Error::new(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("time zone \"{name}\" not recognized"),
        ),
    }
}

pub fn parse_date(text: &str, ctx: ParseContext<'_>) -> Result<i32> {
    if let Some(days) = fast_date(text.as_bytes()) {
        return Ok(days as i32);
    }
    let parsed = scan(text, ctx.order).map_err(|r| refuse(r, text, "date"))?;
    let today = ctx.zone.to_local(ctx.now).div_euclid(MICROS_PER_DAY);
    let days = match (parsed.special, parsed.date) {
        (Some(Special::Infinity), None) => return Ok(DATE_INFINITY),
        (Some(Special::NegInfinity), None) => return Ok(DATE_NEG_INFINITY),
        (Some(Special::Epoch), None) => 0,
        (Some(Special::Now), None) => today,
        (Some(Special::Day(shift)), None) => today + shift,
        (None, Some(days)) => days,
        _ => return Err(refuse(Refusal::Syntax, text, "date")),
    };
    check_date(days).map_err(|_| {
        Error::new(
            SqlState::DATETIME_FIELD_OVERFLOW,
            format!("date out of range: \"{text}\""),
        )
    })
}

pub fn parse_time(text: &str, ctx: ParseContext<'_>) -> Result<i64> {
    const NAME: &str = "time";
    let parsed = scan(text, ctx.order).map_err(|r| refuse(r, text, NAME))?;
    match (parsed.special, parsed.time) {
        (Some(Special::Now), None) => Ok(ctx.zone.to_local(ctx.now).rem_euclid(MICROS_PER_DAY)),
        (None, Some(time)) => Ok(time),
        _ => Err(refuse(Refusal::Syntax, text, NAME)),
    }
}

/// Reads a timestamp without a zone; a zone in the text is ignored, as in PostgreSQL.
pub fn parse_timestamp(text: &str, ctx: ParseContext<'_>) -> Result<i64> {
    if let Some((micros, None)) = fast_timestamp(text.as_bytes()) {
        return Ok(micros);
    }
    let parsed = scan(text, ctx.order).map_err(|r| refuse(r, text, "timestamp"))?;
    let local_now = ctx.zone.to_local(ctx.now);
    combine(&parsed, local_now, text, "timestamp", |local| local)
}

/// Reads an instant: in the text's zone, or else in the context's.
pub fn parse_timestamptz(text: &str, ctx: ParseContext<'_>) -> Result<i64> {
    const NAME: &str = "timestamp with time zone";
    if let Some((local, zone)) = fast_timestamp(text.as_bytes()) {
        return Ok(match zone {
            Some(east) => local - i64::from(east) * MICROS_PER_SECOND,
            None => ctx.zone.to_utc(local),
        });
    }
    let parsed = scan(text, ctx.order).map_err(|r| refuse(r, text, NAME))?;
    let zone = parsed.zone.clone().unwrap_or_else(|| ctx.zone.clone());
    if parsed.special == Some(Special::Now) {
        return Ok(ctx.now);
    }
    if parsed.special == Some(Special::Epoch) {
        return Ok(0);
    }
    let local_now = zone.to_local(ctx.now);
    combine(&parsed, local_now, text, NAME, |local| zone.to_utc(local))
}

fn combine(
    parsed: &Parsed,
    local_now: i64,
    text: &str,
    type_name: &str,
    convert: impl Fn(i64) -> i64,
) -> Result<i64> {
    let days = match (parsed.special, parsed.date) {
        (Some(Special::Infinity), None) => return Ok(TIMESTAMP_INFINITY),
        (Some(Special::NegInfinity), None) => return Ok(TIMESTAMP_NEG_INFINITY),
        (Some(Special::Epoch), None) => return Ok(0),
        (Some(Special::Now), None) => return Ok(local_now),
        (Some(Special::Day(shift)), None) => local_now.div_euclid(MICROS_PER_DAY) + shift,
        (None, Some(days)) => days,
        _ => return Err(refuse(Refusal::Syntax, text, type_name)),
    };
    let out_of_range = || {
        Error::new(
            SqlState::DATETIME_FIELD_OVERFLOW,
            format!("timestamp out of range: \"{text}\""),
        )
    };
    let local = days
        .checked_mul(MICROS_PER_DAY)
        .and_then(|d| d.checked_add(parsed.time.unwrap_or(0)))
        .ok_or_else(out_of_range)?;
    check_timestamp(convert(local)).map_err(|_| out_of_range())
}

// ---- the common forms, without the scanner --------------------------------------------------

fn two(b: &[u8]) -> Option<i64> {
    match b {
        [x @ b'0'..=b'9', y @ b'0'..=b'9'] => Some(i64::from(x - b'0') * 10 + i64::from(y - b'0')),
        _ => None,
    }
}

/// `YYYY-MM-DD` and nothing else. Anything odd is left to the scanner, which knows the errors.
fn fast_date(b: &[u8]) -> Option<i64> {
    if b.len() != 10 || b[4] != b'-' || b[7] != b'-' {
        return None;
    }
    let year = two(&b[..2])? * 100 + two(&b[2..4])?;
    let (month, day) = (two(&b[5..7])?, two(&b[8..])?);
    let valid = year > 0
        && (1..=12).contains(&month)
        && day >= 1
        && day <= i64::from(days_in_month(year, month as u32));
    valid.then(|| days_from_civil(year, month as u32, day as u32))
}

/// `YYYY-MM-DD hh:mm:ss[.ffffff][Z|+hh|+hh:mm]`: local microseconds and seconds east.
fn fast_timestamp(b: &[u8]) -> Option<(i64, Option<i32>)> {
    if b.len() < 19 || !matches!(b[10], b' ' | b'T') || b[13] != b':' || b[16] != b':' {
        return None;
    }
    let days = fast_date(&b[..10])?;
    let (hour, minute, second) = (two(&b[11..13])?, two(&b[14..16])?, two(&b[17..19])?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let mut rest = &b[19..];
    let mut micros = 0;
    if let Some(after) = rest.strip_prefix(b".") {
        let end = after
            .iter()
            .position(|c| !c.is_ascii_digit())
            .unwrap_or(after.len());
        if end == 0 || end > 6 {
            return None;
        }
        micros = fraction_micros(std::str::from_utf8(&after[..end]).ok()?);
        rest = &after[end..];
    }
    let zone = match rest {
        [] => None,
        b"Z" => Some(0),
        _ => Some(parse_offset(std::str::from_utf8(rest).ok()?)?),
    };
    let time =
        hour * MICROS_PER_HOUR + minute * MICROS_PER_MINUTE + second * MICROS_PER_SECOND + micros;
    Some((days * MICROS_PER_DAY + time, zone))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ctx(zone: &TimeZone) -> ParseContext<'_> {
        ParseContext {
            zone,
            now: 1_700_000_000_000_000,
            order: DateOrder::Mdy,
        }
    }

    fn date(text: &str) -> Result<String> {
        let mut out = Vec::new();
        write_date(parse_date(text, ctx(&TimeZone::Utc))?, &mut out);
        Ok(String::from_utf8(out).unwrap())
    }

    fn instant(text: &str, zone: &str) -> Result<String> {
        let zone = TimeZone::parse(zone)?;
        let mut out = Vec::new();
        write_timestamptz(parse_timestamptz(text, ctx(&zone))?, &zone, &mut out);
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn dates() {
        for (text, shown) in [
            ("1999-01-08", "1999-01-08"),
            ("January 8, 1999", "1999-01-08"),
            ("Jan 8, 1999", "1999-01-08"),
            ("1/8/1999", "1999-01-08"),
            ("1/18/1999", "1999-01-18"),
            ("01/02/03", "2003-01-02"),
            ("1999-Jan-08", "1999-01-08"),
            ("Jan-08-1999", "1999-01-08"),
            ("08-Jan-1999", "1999-01-08"),
            ("8 January 1999", "1999-01-08"),
            ("19990108", "1999-01-08"),
            ("990108", "1999-01-08"),
            ("1999.008", "1999-01-08"),
            ("J2451187", "1999-01-08"),
            ("January 8, 99 BC", "0099-01-08 BC"),
            ("0044-03-15 BC", "0044-03-15 BC"),
            ("infinity", "infinity"),
            ("-infinity", "-infinity"),
            ("epoch", "1970-01-01"),
            ("today", "2023-11-14"),
            ("tomorrow", "2023-11-15"),
            (" 2024-02-29 ", "2024-02-29"),
            ("2024-02-29 23:59", "2024-02-29"),
        ] {
            assert_eq!(date(text).as_deref(), Ok(shown), "{text}");
        }
    }

    #[test]
    fn refused_dates() {
        let state = |text: &str| date(text).map_err(|e| (e.state, e.message));
        assert_eq!(
            state("2023-02-29"),
            Err((
                SqlState::DATETIME_FIELD_OVERFLOW,
                "date/time field value out of range: \"2023-02-29\"".into()
            ))
        );
        assert_eq!(
            state("x"),
            Err((
                SqlState::INVALID_DATETIME_FORMAT,
                "invalid input syntax for type date: \"x\"".into()
            ))
        );
        for text in [
            "",
            "2023-",
            "12:00",
            "2023-13-01",
            "é",
            "1-2-3-4",
            "2023-01-01 25:00",
        ] {
            assert!(date(text).is_err(), "{text}");
        }
    }

    #[test]
    fn instants() {
        for (text, zone, shown) in [
            (
                "2024-07-03 12:00:00",
                "Europe/Berlin",
                "2024-07-03 12:00:00+02",
            ),
            (
                "2024-07-03T10:00:00Z",
                "Europe/Berlin",
                "2024-07-03 12:00:00+02",
            ),
            ("2024-07-03 10:00:00+00", "UTC", "2024-07-03 10:00:00+00"),
            (
                "2024-07-03 10:00:00.123456-07:30",
                "UTC",
                "2024-07-03 17:30:00.123456+00",
            ),
            (
                "2024-07-03 10:00:00 America/New_York",
                "UTC",
                "2024-07-03 14:00:00+00",
            ),
            ("2024-07-03 10:00 PST", "UTC", "2024-07-03 18:00:00+00"),
            ("20240703T101112", "UTC", "2024-07-03 10:11:12+00"),
            ("Wed Jul 03 10:00:00 2024", "UTC", "2024-07-03 10:00:00+00"),
            ("2024-07-03 04:05 PM", "UTC", "2024-07-03 16:05:00+00"),
            ("2024-07-03 24:00:00", "UTC", "2024-07-04 00:00:00+00"),
            ("2024-07-03", "UTC", "2024-07-03 00:00:00+00"),
            ("now", "UTC", "2023-11-14 22:13:20+00"),
            // In the gap the offset before it holds; in the overlap the one after.
            (
                "2024-03-31 02:30:00",
                "Europe/Berlin",
                "2024-03-31 03:30:00+02",
            ),
            (
                "2024-10-27 02:30:00",
                "Europe/Berlin",
                "2024-10-27 02:30:00+01",
            ),
            (
                "2024-07-03 10:00:00.1234567",
                "UTC",
                "2024-07-03 10:00:00.123457+00",
            ),
        ] {
            assert_eq!(instant(text, zone).as_deref(), Ok(shown), "{text}");
        }
    }
}
