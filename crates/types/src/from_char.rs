//! `to_date` and `to_timestamp`: reading text by a template. Templates are those of [`crate::to_char`].

use crate::datetime::*;
use crate::extract::iso_week_start;
use crate::interval::MICROS_PER_DAY;
use crate::timezone::TimeZone;
use crate::to_char::{DAYS, MONTHS, Pattern, Piece, ROMAN, cut, starts_with_ignore_case};
use crate::{Error, Result, SqlState};

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
