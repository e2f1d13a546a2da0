//! Time zones: fixed offsets and the IANA zones.

use crate::numeric::is_sql_space;
use crate::{Error, Result, SqlState};
use chrono::{DateTime, NaiveDateTime, Offset, TimeZone as _};
use std::fmt;

const MICROS_PER_SECOND: i64 = 1_000_000;
/// The widest offset from UTC that may be written, in seconds.
pub const MAX_OFFSET_SECONDS: i32 = 15 * 3600 + 59 * 60 + 59;

/// The zone in which `timestamptz` values are read and shown.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum TimeZone {
    #[default]
    Utc,
    /// Seconds east of Greenwich.
    Fixed(i32),
    Named(chrono_tz::Tz),
}

/// Abbreviations that PostgreSQL's default set knows, in seconds east. Sorted by name.
const ABBREVIATIONS: &[(&str, i32)] = &[
    ("acst", 34_200),
    ("adt", -10_800),
    ("aest", 36_000),
    ("akdt", -28_800),
    ("akst", -32_400),
    ("ast", -14_400),
    ("awst", 28_800),
    ("bst", 3_600),
    ("cdt", -18_000),
    ("cest", 7_200),
    ("cet", 3_600),
    ("cst", -21_600),
    ("edt", -14_400),
    ("eest", 10_800),
    ("eet", 7_200),
    ("est", -18_000),
    ("gmt", 0),
    ("hst", -36_000),
    ("ist", 7_200),
    ("jst", 32_400),
    ("kst", 32_400),
    ("mdt", -21_600),
    ("msk", 10_800),
    ("mst", -25_200),
    ("nzdt", 46_800),
    ("nzst", 43_200),
    ("pdt", -25_200),
    ("pst", -28_800),
    ("ut", 0),
    ("utc", 0),
    ("uct", 0),
    ("wet", 0),
    ("west", 3_600),
    ("z", 0),
    ("zulu", 0),
];

impl TimeZone {
    /// An abbreviation or IANA name, in any case; `None` if unknown.
    pub fn lookup(name: &str) -> Option<TimeZone> {
        let lower = name.to_ascii_lowercase();
        if let Some((_, seconds)) = ABBREVIATIONS.iter().find(|(n, _)| *n == lower) {
            return Some(match seconds {
                0 => TimeZone::Utc,
                s => TimeZone::Fixed(*s),
            });
        }
        // The exact name first: the search through all six hundred is for odd spellings only.
        name.parse::<chrono_tz::Tz>()
            .ok()
            .or_else(|| {
                let same = |z: &&chrono_tz::Tz| z.name().eq_ignore_ascii_case(name);
                chrono_tz::TZ_VARIANTS.iter().find(same).copied()
            })
            .map(TimeZone::Named)
    }

    /// Reads a zone as `SET TIME ZONE` and `AT TIME ZONE` take it: a name, or an offset such as
    /// `+05:30` (POSIX: positive is west) or a bare number of hours east. 22023 if unknown.
    pub fn parse(text: &str) -> Result<TimeZone> {
        let trimmed = text.trim_matches(is_sql_space);
        if let Some(zone) = TimeZone::lookup(trimmed) {
            return Ok(zone);
        }
        if let Ok(hours) = trimmed.parse::<f64>()
            && !trimmed.contains(':')
            && hours.abs() < 16.0
        {
            return Ok(TimeZone::Fixed((hours * 3600.0) as i32));
        }
        if let Some(east) = parse_offset(trimmed) {
            // A POSIX zone string counts westwards.
            return Ok(TimeZone::Fixed(-east));
        }
        Err(Error::new(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("time zone \"{text}\" not recognized"),
        ))
    }

    /// Seconds east of Greenwich at an instant (microseconds since 1970 UTC).
    pub fn offset_at(&self, utc_micros: i64) -> i32 {
        match self {
            TimeZone::Utc => 0,
            TimeZone::Fixed(seconds) => *seconds,
            TimeZone::Named(zone) => zone
                .offset_from_utc_datetime(&naive(utc_micros))
                .fix()
                .local_minus_utc(),
        }
    }

    /// Seconds east for a wall-clock time. In a gap the offset before it holds, in an overlap the
    /// one after it, as in PostgreSQL.
    pub fn offset_of_local(&self, local_micros: i64) -> i32 {
        match self {
            TimeZone::Utc => 0,
            TimeZone::Fixed(seconds) => *seconds,
            TimeZone::Named(zone) => {
                let east =
                    |o: &<chrono_tz::Tz as chrono::TimeZone>::Offset| o.fix().local_minus_utc();
                match zone.offset_from_local_datetime(&naive(local_micros)) {
                    chrono::LocalResult::Single(o) => east(&o),
                    chrono::LocalResult::Ambiguous(_, after) => east(&after),
                    chrono::LocalResult::None => {
                        const DAY: i64 = 86_400 * MICROS_PER_SECOND;
                        self.offset_at(local_micros.saturating_sub(DAY))
                    }
                }
            }
        }
    }

    /// The wall-clock time at an instant. Infinities stay.
    pub fn to_local(&self, utc_micros: i64) -> i64 {
        if utc_micros == i64::MAX || utc_micros == i64::MIN {
            return utc_micros;
        }
        utc_micros.saturating_add(i64::from(self.offset_at(utc_micros)) * MICROS_PER_SECOND)
    }

    /// The instant of a wall-clock time. Infinities stay.
    pub fn to_utc(&self, local_micros: i64) -> i64 {
        if local_micros == i64::MAX || local_micros == i64::MIN {
            return local_micros;
        }
        local_micros
            .saturating_sub(i64::from(self.offset_of_local(local_micros)) * MICROS_PER_SECOND)
    }

    /// What `TZ` prints in `to_char`: the zone's abbreviation at an instant.
    pub fn abbreviation(&self, utc_micros: i64) -> String {
        match self {
            TimeZone::Utc => "UTC".into(),
            TimeZone::Fixed(seconds) => {
                let mut out = Vec::new();
                write_offset(*seconds, &mut out);
                String::from_utf8(out).unwrap_or_default()
            }
            TimeZone::Named(zone) => {
                use chrono_tz::OffsetName;
                zone.offset_from_utc_datetime(&naive(utc_micros))
                    .abbreviation()
                    .unwrap_or("")
                    .to_string()
            }
        }
    }
}

/// What `SHOW timezone` prints.
impl fmt::Display for TimeZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TimeZone::Utc => f.write_str("UTC"),
            TimeZone::Named(zone) => f.write_str(zone.name()),
            TimeZone::Fixed(seconds) => {
                let mut east = Vec::new();
                write_offset(*seconds, &mut east);
                let mut west = Vec::new();
                write_offset(-*seconds, &mut west);
                write!(
                    f,
                    "<{}>{}",
                    String::from_utf8_lossy(&east),
                    String::from_utf8_lossy(&west)
                )
            }
        }
    }
}

/// The calendar library's range is narrower than SQL's; outside it zones no longer change anyway.
fn naive(micros: i64) -> NaiveDateTime {
    DateTime::from_timestamp_micros(micros.clamp(-NAIVE_LIMIT, NAIVE_LIMIT))
        .map(|d| d.naive_utc())
        .unwrap_or_default()
}

/// About 200,000 years.
const NAIVE_LIMIT: i64 = 200_000 * 365 * 86_400 * MICROS_PER_SECOND;

/// Reads `+hh`, `+hhmm`, `+hh:mm`, `+hh:mm:ss` as seconds east.
pub(crate) fn parse_offset(text: &str) -> Option<i32> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'+' => (1, &text[1..]),
        b'-' => (-1, &text[1..]),
        _ => return None,
    };
    let number = |s: &str| {
        (!s.is_empty() && s.len() <= 2 && s.bytes().all(|b| b.is_ascii_digit()))
            .then(|| s.parse::<i32>().ok())
            .flatten()
    };
    let mut parts = digits.split(':');
    let first = parts.next()?;
    let (hours, mut minutes) = match first.len() {
        1 | 2 => (number(first)?, 0),
        3 | 4 if first.is_ascii() => {
            let (h, m) = first.split_at(first.len() - 2);
            (number(h)?, number(m)?)
        }
        _ => return None,
    };
    if let Some(m) = parts.next() {
        minutes = number(m)?;
    }
    let seconds = match parts.next() {
        Some(s) => number(s)?,
        None => 0,
    };
    if parts.next().is_some() || minutes > 59 || seconds > 59 {
        return None;
    }
    let total = hours * 3600 + minutes * 60 + seconds;
    (total <= MAX_OFFSET_SECONDS).then_some(sign * total)
}

/// Appends `+hh`, `+hh:mm` or `+hh:mm:ss`.
pub(crate) fn write_offset(seconds: i32, out: &mut Vec<u8>) {
    out.push(if seconds < 0 { b'-' } else { b'+' });
    let s = seconds.unsigned_abs();
    crate::datetime::push2(s / 3600, out);
    if !s.is_multiple_of(3600) {
        out.push(b':');
        crate::datetime::push2(s / 60 % 60, out);
        if !s.is_multiple_of(60) {
            out.push(b':');
            crate::datetime::push2(s % 60, out);
        }
    }
}
