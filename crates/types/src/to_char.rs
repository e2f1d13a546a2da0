//! `to_char` for dates, times and intervals: templates of patterns.
//!
//! A template is cut into patterns (`YYYY`, `Mon`, `HH24`…), quoted text and single characters. The
//! same pieces drive the other direction, in [`crate::from_char`].

use crate::datetime::*;
use crate::extract::*;
use crate::interval::MICROS_PER_DAY;
use crate::timezone::{TimeZone, write_offset};
use crate::{Error, Interval, Result, SqlState};

/// A template pattern, without its letters' case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pattern {
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
pub(crate) enum Case {
    Upper,
    Title,
    Lower,
}

pub(crate) enum Piece {
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

pub(crate) const MONTHS: [&str; 12] = [
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
pub(crate) const DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];
pub(crate) const ROMAN: [&str; 12] = [
    "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII",
];
/// Width to which full names of months and days are padded.
const NAME_WIDTH: usize = 9;

pub(crate) fn starts_with_ignore_case(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len())
        .is_some_and(|head| head.eq_ignore_ascii_case(prefix))
}

pub(crate) fn cut(template: &str) -> Vec<Piece> {
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
}
