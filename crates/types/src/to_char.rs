//! `to_char`, `to_date` and `to_timestamp` for dates and times: templates of patterns.
//!
//! A template is cut into patterns (`YYYY`, `Mon`, `HH24`…), quoted text and single characters. The
//! same pieces drive both directions.

use crate::datetime::*;
use crate::datetime_fn::*;
use crate::interval::MICROS_PER_DAY;
use crate::timezone::{TimeZone, write_offset};
use crate::{Error, Interval, Result, SqlState};

/// A template pattern, without its letters' case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pattern {
    Year(u8),
    YearComma,
    IsoYear(u8),
    Era { dots: bool },
    Meridiem { dots: bool },
    MonthName,
    MonthShort,
    Month,
    MonthRoman,
    DayName,
    DayShort,
    DayOfYear,
    IsoDayOfYear,
    Day,
    DayOfWeek,
    IsoDayOfWeek,
    WeekOfMonth,
    Week,
    IsoWeek,
    Century,
    Julian,
    Quarter,
    Hour12,
    Hour24,
    Minute,
    Second,
    SecondsOfDay,
    Millis,
    Micros,
    Fraction(u8),
    ZoneName,
    ZoneHour,
    ZoneMinute,
    ZoneOffset,
}

/// How a name's letters are written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Case {
    Upper,
    Title,
    Lower,
}

enum Piece {
    Pattern {
        pattern: Pattern,
        case: Case,
        /// `FM`: no padding.
        fill: bool,
        /// `TH` or `th` after it.
        ordinal: Option<Case>,
    },
    Literal(char),
}

/// All patterns, longer ones before their prefixes.
const PATTERNS: &[(&str, Pattern)] = &[
    ("Y,YYY", Pattern::YearComma),
    ("YYYY", Pattern::Year(4)),
    ("YYY", Pattern::Year(3)),
    ("YY", Pattern::Year(2)),
    ("Y", Pattern::Year(1)),
    ("IYYY", Pattern::IsoYear(4)),
    ("IYY", Pattern::IsoYear(3)),
    ("IY", Pattern::IsoYear(2)),
    ("IDDD", Pattern::IsoDayOfYear),
    ("ID", Pattern::IsoDayOfWeek),
    ("IW", Pattern::IsoWeek),
    ("I", Pattern::IsoYear(1)),
    ("B.C.", Pattern::Era { dots: true }),
    ("A.D.", Pattern::Era { dots: true }),
    ("BC", Pattern::Era { dots: false }),
    ("AD", Pattern::Era { dots: false }),
    ("A.M.", Pattern::Meridiem { dots: true }),
    ("P.M.", Pattern::Meridiem { dots: true }),
    ("AM", Pattern::Meridiem { dots: false }),
    ("PM", Pattern::Meridiem { dots: false }),
    ("MONTH", Pattern::MonthName),
    ("MON", Pattern::MonthShort),
    ("MM", Pattern::Month),
    ("MI", Pattern::Minute),
    ("MS", Pattern::Millis),
    ("RM", Pattern::MonthRoman),
    ("DAY", Pattern::DayName),
    ("DY", Pattern::DayShort),
    ("DDD", Pattern::DayOfYear),
    ("DD", Pattern::Day),
    ("D", Pattern::DayOfWeek),
    ("WW", Pattern::Week),
    ("W", Pattern::WeekOfMonth),
    ("CC", Pattern::Century),
    ("J", Pattern::Julian),
    ("Q", Pattern::Quarter),
    ("HH24", Pattern::Hour24),
    ("HH12", Pattern::Hour12),
    ("HH", Pattern::Hour12),
    ("SSSSS", Pattern::SecondsOfDay),
    ("SSSS", Pattern::SecondsOfDay),
    ("SS", Pattern::Second),
    ("US", Pattern::Micros),
    ("FF1", Pattern::Fraction(1)),
    ("FF2", Pattern::Fraction(2)),
    ("FF3", Pattern::Fraction(3)),
    ("FF4", Pattern::Fraction(4)),
    ("FF5", Pattern::Fraction(5)),
    ("FF6", Pattern::Fraction(6)),
    ("TZH", Pattern::ZoneHour),
    ("TZM", Pattern::ZoneMinute),
    ("TZ", Pattern::ZoneName),
    ("OF", Pattern::ZoneOffset),
];

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];
const ROMAN: [&str; 12] = [
    "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII",
];
/// Width to which full names of months and days are padded.
const NAME_WIDTH: usize = 9;

fn starts_with_ignore_case(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len())
        .is_some_and(|head| head.eq_ignore_ascii_case(prefix))
}

fn cut(template: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = template;
    let mut fill = false;
    while !rest.is_empty() {
        if starts_with_ignore_case(rest, "FM") {
            fill = true;
            rest = &rest[2..];
            continue;
        }
        if starts_with_ignore_case(rest, "FX") || starts_with_ignore_case(rest, "TM") {
            rest = &rest[2..];
            continue;
        }
        if let Some((name, pattern)) = PATTERNS
            .iter()
            .find(|(name, _)| starts_with_ignore_case(rest, name))
        {
            let written = &rest.as_bytes()[..name.len()];
            let case = if written[0].is_ascii_lowercase() {
                Case::Lower
            } else if written.get(1).is_some_and(u8::is_ascii_lowercase) {
                Case::Title
            } else {
                Case::Upper
            };
            rest = &rest[name.len()..];
            let ordinal = match rest.get(..2) {
                Some("TH") => Some(Case::Upper),
                Some("th") => Some(Case::Lower),
                _ => None,
            };
            if ordinal.is_some() {
                rest = &rest[2..];
            }
            pieces.push(Piece::Pattern {
                pattern: *pattern,
                case,
                fill,
                ordinal,
            });
            fill = false;
            continue;
        }
        fill = false;
        if let Some(inner) = rest.strip_prefix('"') {
            let mut chars = inner.char_indices();
            rest = "";
            while let Some((i, c)) = chars.next() {
                match c {
                    '"' => {
                        rest = &inner[i + 1..];
                        break;
                    }
                    '\\' => {
                        if let Some((_, escaped)) = chars.next() {
                            pieces.push(Piece::Literal(escaped));
                        }
                    }
                    _ => pieces.push(Piece::Literal(c)),
                }
            }
            continue;
        }
        let mut chars = rest.chars();
        match chars.next() {
            // A backslash only protects a quote.
            Some('\\') if chars.as_str().starts_with('"') => {
                chars.next();
                pieces.push(Piece::Literal('"'));
            }
            Some(c) => pieces.push(Piece::Literal(c)),
            None => {}
        }
        rest = chars.as_str();
    }
    pieces
}

// ---- output -----------------------------------------------------------------------------------

/// What is shown: a wall clock, its date, and the zone if there is one.
struct Shown<'a> {
    civil: Civil,
    days: i64,
    zone: Option<(&'a TimeZone, i64)>,
}

/// `to_char(timestamp, template)`; `None` (NULL) for infinities.
pub fn timestamp_to_char(micros: i64, template: &str) -> Option<String> {
    timestamp_is_finite(micros).then(|| {
        show(
            template,
            &Shown {
                civil: Civil::from_timestamp(micros),
                days: micros.div_euclid(MICROS_PER_DAY),
                zone: None,
            },
        )
    })
}

/// `to_char(timestamptz, template)` on the wall clock of `zone`.
pub fn timestamptz_to_char(micros: i64, template: &str, zone: &TimeZone) -> Option<String> {
    timestamp_is_finite(micros).then(|| {
        let local = zone.to_local(micros);
        show(
            template,
            &Shown {
                civil: Civil::from_timestamp(local),
                days: local.div_euclid(MICROS_PER_DAY),
                zone: Some((zone, micros)),
            },
        )
    })
}

/// `to_char(interval, template)`: years, months, days and time as they are kept; hours may pass 24.
pub fn interval_to_char(value: &Interval, template: &str) -> Result<String> {
    let t = value.micros;
    let number = |v: i64, width: usize, fill: bool| pad(v, width, fill);
    let mut out = String::new();
    for piece in cut(template) {
        let Piece::Pattern { pattern, fill, .. } = piece else {
            if let Piece::Literal(c) = piece {
                out.push(c);
            }
            continue;
        };
        let hours = t / MICROS_PER_HOUR;
        let shown = match pattern {
            Pattern::Year(w) => number(i64::from(value.months / 12), usize::from(w), fill),
            Pattern::Month => number(i64::from(value.months % 12), 2, fill),
            Pattern::Day => number(i64::from(value.days), 2, fill),
            Pattern::Hour24 => number(hours, 2, fill),
            Pattern::Hour12 => number(if hours % 12 == 0 { 12 } else { hours % 12 }, 2, fill),
            Pattern::Minute => number(t / MICROS_PER_MINUTE % 60, 2, fill),
            Pattern::Second => number(t / MICROS_PER_SECOND % 60, 2, fill),
            Pattern::Millis => number(t % MICROS_PER_SECOND / 1000, 3, fill),
            Pattern::Micros => number(t % MICROS_PER_SECOND, 6, fill),
            Pattern::Meridiem { .. } => if hours % 24 >= 12 { "PM" } else { "AM" }.to_string(),
            _ => {
                return Err(Error::new(
                    SqlState::INVALID_DATETIME_FORMAT,
                    "invalid format specification for an interval value",
                )
                .hint("Intervals are not tied to specific calendar dates."));
            }
        };
        out.push_str(&shown);
    }
    Ok(out)
}

fn pad(value: i64, width: usize, fill: bool) -> String {
    if fill {
        value.to_string()
    } else if value < 0 {
        format!("-{:0width$}", value.unsigned_abs())
    } else {
        format!("{value:0width$}")
    }
}

fn cased(name: &str, case: Case) -> String {
    match case {
        Case::Upper => name.to_ascii_uppercase(),
        Case::Title => name.to_string(),
        Case::Lower => name.to_ascii_lowercase(),
    }
}

fn ordinal_suffix(value: i64) -> &'static str {
    match (value % 100, value % 10) {
        (11..=13, _) => "th",
        (_, 1) => "st",
        (_, 2) => "nd",
        (_, 3) => "rd",
        _ => "th",
    }
}

fn show(template: &str, shown: &Shown<'_>) -> String {
    let mut out = String::new();
    for piece in cut(template) {
        match piece {
            Piece::Literal(c) => out.push(c),
            Piece::Pattern {
                pattern,
                case,
                fill,
                ordinal,
            } => {
                let start = out.len();
                show_pattern(pattern, case, fill, shown, &mut out);
                if let Some(case) = ordinal
                    && let Ok(value) = out[start..].trim().replace(',', "").parse::<i64>()
                {
                    out.push_str(&cased(ordinal_suffix(value), case));
                }
            }
        }
    }
    out
}

fn show_pattern(pattern: Pattern, case: Case, fill: bool, s: &Shown<'_>, out: &mut String) {
    let c = &s.civil;
    // The year as people count it, without its era.
    let year = if c.year > 0 { c.year } else { 1 - c.year };
    let name = |name: &str, width: usize| {
        let text = cased(name, case);
        if fill {
            text
        } else {
            format!("{text:<width$}")
        }
    };
    let hour12 = if c.hour.is_multiple_of(12) {
        12
    } else {
        c.hour % 12
    };
    let dotted = |text: &str, dots: bool| {
        let cased = match case {
            Case::Lower => text.to_ascii_lowercase(),
            _ => text.to_string(),
        };
        if dots {
            cased.chars().flat_map(|c| [c, '.']).collect()
        } else {
            cased
        }
    };
    let number = |v: i64, width: usize| pad(v, width, fill);
    let cut_year = |year: i64, width: u8| {
        let modulus = 10i64.pow(u32::from(width));
        let shown = if width == 4 { year } else { year % modulus };
        pad(shown, usize::from(width), fill)
    };
    let text: String = match pattern {
        Pattern::Year(width) => cut_year(year, width),
        Pattern::YearComma => format!("{},{:03}", year / 1000, year % 1000),
        Pattern::IsoYear(width) => cut_year(iso_week(s.days).0, width),
        Pattern::Era { dots } => dotted(if c.year > 0 { "AD" } else { "BC" }, dots),
        Pattern::Meridiem { dots } => dotted(if c.hour >= 12 { "PM" } else { "AM" }, dots),
        Pattern::MonthName => name(MONTHS[c.month as usize - 1], NAME_WIDTH),
        Pattern::MonthShort => name(&MONTHS[c.month as usize - 1][..3], 3),
        Pattern::Month => number(c.month.into(), 2),
        Pattern::MonthRoman => {
            let roman = cased(ROMAN[c.month as usize - 1], case);
            if fill { roman } else { format!("{roman:<4}") }
        }
        Pattern::DayName => name(DAYS[day_of_week(s.days) as usize], NAME_WIDTH),
        Pattern::DayShort => name(&DAYS[day_of_week(s.days) as usize][..3], 3),
        Pattern::DayOfYear => number(day_of_year(c.year, s.days), 3),
        Pattern::IsoDayOfYear => {
            let (iso_year, _) = iso_week(s.days);
            number(s.days - iso_week_start(iso_year, 1) + 1, 3)
        }
        Pattern::Day => number(c.day.into(), 2),
        Pattern::DayOfWeek => number(day_of_week(s.days) + 1, 1),
        Pattern::IsoDayOfWeek => number(iso_day_of_week(s.days), 1),
        Pattern::WeekOfMonth => number(i64::from(c.day - 1) / 7 + 1, 1),
        Pattern::Week => number((day_of_year(c.year, s.days) - 1) / 7 + 1, 2),
        Pattern::IsoWeek => number(iso_week(s.days).1, 2),
        Pattern::Century => number((year - 1) / 100 + 1, 2),
        Pattern::Julian => number(s.days + i64::from(JULIAN_UNIX_EPOCH), 1),
        Pattern::Quarter => number(i64::from(c.month - 1) / 3 + 1, 1),
        Pattern::Hour12 => number(hour12.into(), 2),
        Pattern::Hour24 => number(c.hour.into(), 2),
        Pattern::Minute => number(c.minute.into(), 2),
        Pattern::Second => number(c.second.into(), 2),
        Pattern::SecondsOfDay => number(c.time_micros() / MICROS_PER_SECOND, 1),
        Pattern::Millis => format!("{:03}", c.micros / 1000),
        Pattern::Micros => format!("{:06}", c.micros),
        Pattern::Fraction(digits) => format!("{:06}", c.micros)[..usize::from(digits)].to_string(),
        Pattern::ZoneName => match s.zone {
            Some((zone, at)) => match case {
                Case::Lower => zone.abbreviation(at).to_ascii_lowercase(),
                _ => zone.abbreviation(at),
            },
            None => String::new(),
        },
        Pattern::ZoneHour => match s.zone {
            Some((zone, at)) => {
                let offset = zone.offset_at(at);
                let sign = if offset < 0 { '-' } else { '+' };
                format!("{sign}{:02}", offset.abs() / 3600)
            }
            None => "+00".into(),
        },
        Pattern::ZoneMinute => match s.zone {
            Some((zone, at)) => format!("{:02}", zone.offset_at(at).abs() / 60 % 60),
            None => "00".into(),
        },
        Pattern::ZoneOffset => {
            let mut bytes = Vec::new();
            write_offset(
                s.zone.map_or(0, |(zone, at)| zone.offset_at(at)),
                &mut bytes,
            );
            String::from_utf8(bytes).unwrap_or_default()
        }
    };
    out.push_str(&text);
}

// ---- input ------------------------------------------------------------------------------------

#[derive(Default)]
struct Read {
    year: Option<i64>,
    bc: bool,
    month: Option<i64>,
    day: Option<i64>,
    day_of_year: Option<i64>,
    julian: Option<i64>,
    iso_year: Option<i64>,
    iso_week: Option<i64>,
    iso_day: Option<i64>,
    hour: i64,
    pm: Option<bool>,
    twelve_hour: bool,
    minute: i64,
    second: i64,
    micros: i64,
    offset_hour: Option<i64>,
    offset_minute: i64,
}

fn bad_value(text: &str, template_part: &str) -> Error {
    Error::new(
        SqlState::INVALID_DATETIME_FORMAT,
        format!("invalid value \"{text}\" for \"{template_part}\""),
    )
}

/// Takes up to `max` digits, with a sign if `signed`.
fn take_number(rest: &mut &str, max: usize, signed: bool, name: &str) -> Result<(i64, usize)> {
    let trimmed = rest.trim_start();
    let sign_len = usize::from(signed && trimmed.starts_with(['-', '+']));
    let digits = trimmed[sign_len..]
        .bytes()
        .take(max)
        .take_while(u8::is_ascii_digit)
        .count();
    if digits == 0 {
        let word: String = trimmed.chars().take(max.min(12)).collect();
        return Err(bad_value(&word, name).detail("Value must be an integer."));
    }
    let (number, tail) = trimmed.split_at(sign_len + digits);
    let value = number
        .parse()
        .map_err(|_| bad_value(number, name).detail("Value must be an integer."))?;
    *rest = tail;
    Ok((value, digits))
}

fn take_name(rest: &mut &str, names: &[&str], short: bool, name: &str) -> Result<i64> {
    let trimmed = rest.trim_start();
    for (i, full) in names.iter().enumerate() {
        // A full name is also read where only its beginning was asked for.
        let candidates = if short {
            [&full[..3], full]
        } else {
            [full, &full[..3]]
        };
        for candidate in candidates {
            if starts_with_ignore_case(trimmed, candidate) {
                *rest = &trimmed[candidate.len()..];
                return Ok(i as i64);
            }
        }
    }
    let word: String = trimmed.chars().take_while(|c| !c.is_whitespace()).collect();
    Err(bad_value(&word, name)
        .detail("The given value did not match any of the allowed values for this field."))
}

/// Two-digit years are in 1970–2069.
fn full_year(value: i64, digits: usize) -> i64 {
    match digits {
        1 | 2 if value < 70 => value + 2000,
        1 | 2 => value + 1900,
        3 if value < 520 => value + 2000,
        3 => value + 1000,
        _ => value,
    }
}

fn read(text: &str, template: &str) -> Result<Read> {
    let mut read = Read::default();
    let mut rest = text.trim_start();
    let pieces = cut(template);
    for (i, piece) in pieces.iter().enumerate() {
        if rest.is_empty() {
            break;
        }
        match piece {
            Piece::Literal(c) if c.is_alphanumeric() => {
                // A letter of the template stands for any character.
                let mut chars = rest.chars();
                chars.next();
                rest = chars.as_str();
            }
            Piece::Literal(_) => {
                rest = rest.trim_start();
                // A separator matches any separator or none.
                let mut chars = rest.chars();
                if let Some(c) = chars.next()
                    && !c.is_alphanumeric()
                    && !(matches!(c, '-' | '+') && next_takes_sign(&pieces[i + 1..]))
                {
                    rest = chars.as_str();
                }
            }
            Piece::Pattern {
                pattern, ordinal, ..
            } => {
                // Digits glued together are told apart by width only if another number follows.
                let glued = matches!(pieces.get(i + 1), Some(Piece::Pattern { .. }));
                read_pattern(*pattern, glued, &mut rest, &mut read)?;
                if ordinal.is_some() {
                    rest = rest.get(2..).unwrap_or("");
                }
            }
        }
    }
    Ok(read)
}

fn next_takes_sign(pieces: &[Piece]) -> bool {
    matches!(
        pieces.first(),
        Some(Piece::Pattern {
            pattern: Pattern::ZoneHour | Pattern::ZoneOffset,
            ..
        })
    )
}

fn read_pattern(pattern: Pattern, glued: bool, rest: &mut &str, read: &mut Read) -> Result<()> {
    let mut number = |max: usize, name: &str| take_number(rest, max, false, name).map(|(v, _)| v);
    match pattern {
        Pattern::Year(width) => {
            let max = if width == 4 && !glued {
                7
            } else {
                usize::from(width)
            };
            let (value, digits) = take_number(rest, max, true, "YYYY")?;
            let digits = if width == 4 { 4 } else { digits };
            read.year = Some(full_year(value, digits));
        }
        Pattern::YearComma => {
            let thousands = number(3, "Y,YYY")?;
            *rest = rest.strip_prefix(',').unwrap_or(rest);
            let (units, _) = take_number(rest, 3, false, "Y,YYY")?;
            read.year = Some(thousands * 1000 + units);
        }
        Pattern::IsoYear(width) => {
            let max = if width == 4 && !glued {
                7
            } else {
                usize::from(width)
            };
            let (value, digits) = take_number(rest, max, false, "IYYY")?;
            read.iso_year = Some(full_year(value, if width == 4 { 4 } else { digits }));
        }
        Pattern::Era { dots } | Pattern::Meridiem { dots } => {
            let trimmed = rest.trim_start();
            let len = if dots { 4 } else { 2 };
            let word = trimmed.get(..len).unwrap_or(trimmed);
            let letters: String = word
                .chars()
                .filter(char::is_ascii_alphabetic)
                .collect::<String>()
                .to_ascii_lowercase();
            match (pattern, letters.as_str()) {
                (Pattern::Era { .. }, "bc") => read.bc = true,
                (Pattern::Era { .. }, "ad") => {}
                (Pattern::Meridiem { .. }, "am") => read.pm = Some(false),
                (Pattern::Meridiem { .. }, "pm") => read.pm = Some(true),
                (Pattern::Era { .. }, _) => return Err(bad_value(word, "BC")),
                _ => return Err(bad_value(word, "AM")),
            }
            *rest = &trimmed[word.len()..];
        }
        Pattern::MonthName => read.month = Some(take_name(rest, &MONTHS, false, "MONTH")? + 1),
        Pattern::MonthShort => read.month = Some(take_name(rest, &MONTHS, true, "MON")? + 1),
        Pattern::Month => read.month = Some(number(2, "MM")?),
        Pattern::MonthRoman => {
            let trimmed = rest.trim_start();
            let found = ROMAN
                .iter()
                .enumerate()
                .rev()
                .filter(|(_, r)| starts_with_ignore_case(trimmed, r))
                .max_by_key(|(_, r)| r.len())
                .ok_or_else(|| bad_value(trimmed, "RM"))?;
            read.month = Some(found.0 as i64 + 1);
            *rest = &trimmed[found.1.len()..];
        }
        Pattern::DayName => drop(take_name(rest, &DAYS, false, "DAY")?),
        Pattern::DayShort => drop(take_name(rest, &DAYS, true, "DY")?),
        Pattern::DayOfYear => read.day_of_year = Some(number(3, "DDD")?),
        Pattern::Day => read.day = Some(number(2, "DD")?),
        Pattern::IsoDayOfWeek => read.iso_day = Some(number(1, "ID")?),
        Pattern::IsoWeek => read.iso_week = Some(number(2, "IW")?),
        Pattern::Julian => read.julian = Some(number(9, "J")?),
        Pattern::Hour12 => {
            read.hour = number(2, "HH12")?;
            read.twelve_hour = true;
        }
        Pattern::Hour24 => read.hour = number(2, "HH24")?,
        Pattern::Minute => read.minute = number(2, "MI")?,
        Pattern::Second => read.second = number(2, "SS")?,
        Pattern::SecondsOfDay => {
            let total = number(5, "SSSSS")?;
            (read.hour, read.minute, read.second) = (total / 3600, total / 60 % 60, total % 60);
        }
        Pattern::Millis => {
            let (value, digits) = take_number(rest, 3, false, "MS")?;
            read.micros = value * 10i64.pow(6 - digits as u32);
        }
        Pattern::Micros | Pattern::Fraction(_) => {
            let max = match pattern {
                Pattern::Fraction(n) => usize::from(n),
                _ => 6,
            };
            let (value, digits) = take_number(rest, max, false, "US")?;
            read.micros = value * 10i64.pow(6 - digits as u32);
        }
        Pattern::ZoneHour => read.offset_hour = Some(take_number(rest, 2, true, "TZH")?.0),
        Pattern::ZoneMinute => read.offset_minute = number(2, "TZM")?,
        Pattern::ZoneOffset => {
            read.offset_hour = Some(take_number(rest, 2, true, "OF")?.0);
            if let Some(minutes) = rest.strip_prefix(':') {
                *rest = minutes;
                read.offset_minute = take_number(rest, 2, false, "OF")?.0;
            }
        }
        Pattern::DayOfWeek | Pattern::WeekOfMonth | Pattern::Quarter => {
            // Read and ignored, as in PostgreSQL.
            number(1, "D")?;
        }
        Pattern::Week | Pattern::Century | Pattern::IsoDayOfYear | Pattern::ZoneName => {
            return Err(Error::unsupported(
                "this template pattern in to_date and to_timestamp",
            ));
        }
    }
    Ok(())
}

impl Read {
    fn days(&self, text: &str) -> Result<i64> {
        let out_of_range = || {
            Error::new(
                SqlState::DATETIME_FIELD_OVERFLOW,
                format!("date/time field value out of range: \"{text}\""),
            )
        };
        if let Some(julian) = self.julian {
            return Ok(julian - i64::from(JULIAN_UNIX_EPOCH));
        }
        if let Some(year) = self.iso_year {
            let week = self.iso_week.unwrap_or(1);
            let day = self.iso_day.unwrap_or(1);
            if !(1..=53).contains(&week) || !(1..=7).contains(&day) {
                return Err(out_of_range());
            }
            return Ok(iso_week_start(year, week) + day - 1);
        }
        // Without a year PostgreSQL takes 1 BC.
        let mut year = self.year.unwrap_or(0);
        if self.bc {
            year = 1 - year;
        } else if year < 0 {
            year += 1;
        }
        if let Some(day) = self.day_of_year {
            if !(1..=365 + i64::from(is_leap_year(year))).contains(&day) {
                return Err(out_of_range());
            }
            return Ok(days_from_civil(year, 1, 1) + day - 1);
        }
        let month = self.month.unwrap_or(1);
        let day = self.day.unwrap_or(1);
        if !(1..=12).contains(&month)
            || day < 1
            || day > i64::from(days_in_month(year, month as u32))
        {
            return Err(out_of_range());
        }
        Ok(days_from_civil(year, month as u32, day as u32))
    }

    fn time(&self, text: &str) -> Result<i64> {
        let mut hour = self.hour;
        if self.twelve_hour || self.pm.is_some() {
            if !(1..=12).contains(&hour) && self.twelve_hour && hour != 0 {
                return Err(Error::new(
                    SqlState::INVALID_DATETIME_FORMAT,
                    format!("hour \"{hour}\" is invalid for the 12-hour clock"),
                )
                .hint("Use the 24-hour clock, or give an hour between 1 and 12."));
            }
            hour = match self.pm {
                Some(true) if hour < 12 => hour + 12,
                Some(false) | None if hour == 12 && self.twelve_hour => 0,
                _ => hour,
            };
        }
        if hour > 24 || self.minute > 59 || self.second > 60 {
            return Err(Error::new(
                SqlState::DATETIME_FIELD_OVERFLOW,
                format!("date/time field value out of range: \"{text}\""),
            ));
        }
        Ok(hour * MICROS_PER_HOUR
            + self.minute * MICROS_PER_MINUTE
            + self.second * MICROS_PER_SECOND
            + self.micros)
    }
}

/// `to_date(text, template)`.
pub fn to_date(text: &str, template: &str) -> Result<i32> {
    check_date(read(text, template)?.days(text)?)
}

/// `to_timestamp(text, template)`: an instant, on the wall clock of `zone` unless the text has an offset.
pub fn to_timestamp(text: &str, template: &str, zone: &TimeZone) -> Result<i64> {
    let fields = read(text, template)?;
    let local = fields
        .days(text)?
        .checked_mul(MICROS_PER_DAY)
        .and_then(|d| d.checked_add(fields.time(text).ok()?))
        .ok_or_else(|| {
            fields
                .time(text)
                .err()
                .unwrap_or_else(timestamp_out_of_range)
        })?;
    let instant = match fields.offset_hour {
        Some(hours) => {
            let minutes = fields.offset_minute * if hours < 0 { -1 } else { 1 };
            local - hours * MICROS_PER_HOUR - minutes * MICROS_PER_MINUTE
        }
        None => zone.to_utc(local),
    };
    check_timestamp(instant)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output() {
        let t = days_from_civil(2024, 7, 3) * MICROS_PER_DAY
            + 15 * MICROS_PER_HOUR
            + 4 * MICROS_PER_MINUTE
            + 5_678_900;
        for (template, expected) in [
            ("YYYY-MM-DD HH24:MI:SS", "2024-07-03 15:04:05"),
            ("YYYY-MM-DD HH12:MI:SS.MS AM", "2024-07-03 03:04:05.678 PM"),
            ("Day, DD Month YYYY", "Wednesday, 03 July      2024"),
            ("FMDay, FMDD FMMonth YYYY", "Wednesday, 3 July 2024"),
            ("Dy DY dy Mon MON mon", "Wed WED wed Jul JUL jul"),
            (
                "DDth Q IW WW W D ID DDD J",
                "03rd 3 27 27 1 4 3 185 2460495",
            ),
            ("YY Y,YYY CC BC a.m.", "24 2,024 21 AD p.m."),
            ("\"Day\" US SSSS RM", "Day 678900 54245 VII "),
            ("HH24\"h\"MI", "15h04"),
        ] {
            assert_eq!(
                timestamp_to_char(t, template).as_deref(),
                Some(expected),
                "{template}"
            );
        }
        let berlin = TimeZone::parse("Europe/Berlin").unwrap();
        assert_eq!(
            timestamptz_to_char(t, "HH24:MI TZ OF TZH:TZM", &berlin).as_deref(),
            Some("17:04 CEST +02 +02:00")
        );
        assert_eq!(timestamp_to_char(TIMESTAMP_INFINITY, "YYYY"), None);
        assert_eq!(
            interval_to_char(
                &Interval::new(0, 0, 15 * MICROS_PER_HOUR + 2 * MICROS_PER_MINUTE),
                "HH24:MI:SS"
            )
            .as_deref(),
            Ok("15:02:00")
        );
    }

    #[test]
    fn input() {
        let date = |text: &str, template: &str| {
            let mut out = Vec::new();
            write_date(to_date(text, template)?, &mut out);
            Ok::<_, Error>(String::from_utf8(out).unwrap())
        };
        for (text, template, expected) in [
            ("05 Dec 2000", "DD Mon YYYY", "2000-12-05"),
            ("20000512", "YYYYMMDD", "2000-05-12"),
            ("2024-185", "YYYY-DDD", "2024-07-03"),
            ("2024 27 3", "IYYY IW ID", "2024-07-03"),
            ("3 july 24", "DD month YY", "2024-07-03"),
        ] {
            assert_eq!(date(text, template).as_deref(), Ok(expected), "{text}");
        }
        assert!(date("2024-02-30", "YYYY-MM-DD").is_err());
        assert!(date("x", "YYYY").is_err());
        let stamp = |text: &str, template: &str| {
            let mut out = Vec::new();
            write_timestamptz(
                to_timestamp(text, template, &TimeZone::Utc)?,
                &TimeZone::Utc,
                &mut out,
            );
            Ok::<_, Error>(String::from_utf8(out).unwrap())
        };
        assert_eq!(
            stamp("2024-07-03 03:04:05.5 PM", "YYYY-MM-DD HH12:MI:SS.MS AM").as_deref(),
            Ok("2024-07-03 15:04:05.5+00")
        );
        assert_eq!(
            stamp("2024-07-03 15:04 +02:00", "YYYY-MM-DD HH24:MI TZH:TZM").as_deref(),
            Ok("2024-07-03 13:04:00+00")
        );
    }
}
