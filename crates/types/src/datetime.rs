//! Dates and times: the calendar, the ranges, and the ISO text output.
//!
//! A date is days, a timestamp microseconds since 1970-01-01; the extreme values of their integers
//! are the infinities. Years run on the proleptic Gregorian calendar with year 0 = 1 BC. Input is in
//! [`crate::datetime_parse`], `extract` in [`crate::extract`], arithmetic in
//! [`crate::datetime_fn`].
//!
//! Limit: timestamps end with the year 294246 AD, thirty years before PostgreSQL's, because they count
//! from 1970 and not from 2000.

use crate::interval::MICROS_PER_DAY;
use crate::timezone::{TimeZone, write_offset};
use crate::{Error, Result, SqlState};
use std::cmp::Ordering;

pub const MICROS_PER_SECOND: i64 = 1_000_000;
pub const MICROS_PER_MINUTE: i64 = 60 * MICROS_PER_SECOND;
pub const MICROS_PER_HOUR: i64 = 60 * MICROS_PER_MINUTE;

/// Days from 1970-01-01 to 2000-01-01, the epoch of PostgreSQL's binary formats.
pub const POSTGRES_EPOCH_DAYS: i32 = 10_957;
/// Microseconds from 1970-01-01 to 2000-01-01.
pub const POSTGRES_EPOCH_MICROS: i64 = POSTGRES_EPOCH_DAYS as i64 * MICROS_PER_DAY;
/// The Julian day number of 1970-01-01.
pub const JULIAN_UNIX_EPOCH: i32 = 2_440_588;

/// The first date: 4714-11-24 BC, Julian day 0.
pub const MIN_DATE: i32 = -JULIAN_UNIX_EPOCH;
/// The last date: 5874897-12-31.
pub const MAX_DATE: i32 = 2_145_042_905;
pub const DATE_INFINITY: i32 = i32::MAX;
pub const DATE_NEG_INFINITY: i32 = i32::MIN;

/// The first timestamp: midnight of the first date.
pub const MIN_TIMESTAMP: i64 = MIN_DATE as i64 * MICROS_PER_DAY;
/// The last timestamp: the end of year 294246.
pub const MAX_TIMESTAMP: i64 = days_from_civil(294_247, 1, 1) * MICROS_PER_DAY - 1;
pub const TIMESTAMP_INFINITY: i64 = i64::MAX;
pub const TIMESTAMP_NEG_INFINITY: i64 = i64::MIN;

/// A point on the calendar and the clock, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Civil {
    /// Astronomical: 0 is 1 BC.
    pub year: i64,
    pub month: u32,
    pub day: u32,
    pub hour: u32,
    pub minute: u32,
    pub second: u32,
    pub micros: u32,
}

/// Days since 1970-01-01 of a date of the proleptic Gregorian calendar.
pub const fn days_from_civil(year: i64, month: u32, day: u32) -> i64 {
    // Years start in March, so that the leap day is a year's last.
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let year_of_era = y.rem_euclid(400);
    let shifted_month = (month as i64 + 9) % 12;
    let day_of_year = (153 * shifted_month + 2) / 5 + day as i64 - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The inverse of [`days_from_civil`].
pub const fn civil_from_days(days: i64) -> (i64, u32, u32) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * shifted_month + 2) / 5 + 1) as u32;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    } as u32;
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

pub const fn is_leap_year(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

pub const fn days_in_month(year: i64, month: u32) -> u32 {
    match month {
        2 if is_leap_year(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

impl Civil {
    /// Takes a (finite) timestamp apart.
    pub fn from_timestamp(micros: i64) -> Civil {
        let (year, month, day) = civil_from_days(micros.div_euclid(MICROS_PER_DAY));
        let t = micros.rem_euclid(MICROS_PER_DAY);
        Civil {
            year,
            month,
            day,
            hour: (t / MICROS_PER_HOUR) as u32,
            minute: (t / MICROS_PER_MINUTE % 60) as u32,
            second: (t / MICROS_PER_SECOND % 60) as u32,
            micros: (t % MICROS_PER_SECOND) as u32,
        }
    }

    pub fn from_date(days: i32) -> Civil {
        let (year, month, day) = civil_from_days(i64::from(days));
        Civil {
            year,
            month,
            day,
            hour: 0,
            minute: 0,
            second: 0,
            micros: 0,
        }
    }

    /// Microseconds since midnight.
    pub fn time_micros(&self) -> i64 {
        i64::from(self.hour) * MICROS_PER_HOUR
            + i64::from(self.minute) * MICROS_PER_MINUTE
            + i64::from(self.second) * MICROS_PER_SECOND
            + i64::from(self.micros)
    }

    pub fn days(&self) -> i64 {
        days_from_civil(self.year, self.month, self.day)
    }

    /// The timestamp; 22008 if out of range.
    pub fn to_timestamp(&self) -> Result<i64> {
        self.days()
            .checked_mul(MICROS_PER_DAY)
            .and_then(|d| d.checked_add(self.time_micros()))
            .filter(|t| (MIN_TIMESTAMP..=MAX_TIMESTAMP).contains(t))
            .ok_or_else(timestamp_out_of_range)
    }
}

pub(crate) fn timestamp_out_of_range() -> Error {
    Error::new(SqlState::DATETIME_FIELD_OVERFLOW, "timestamp out of range")
}

pub(crate) fn date_out_of_range() -> Error {
    Error::new(SqlState::DATETIME_FIELD_OVERFLOW, "date out of range")
}

/// Passes a computed timestamp if it is finite and in range.
pub fn check_timestamp(micros: i64) -> Result<i64> {
    if (MIN_TIMESTAMP..=MAX_TIMESTAMP).contains(&micros) {
        Ok(micros)
    } else {
        Err(timestamp_out_of_range())
    }
}

/// Passes a computed date if it is finite and in range.
pub fn check_date(days: i64) -> Result<i32> {
    i32::try_from(days)
        .ok()
        .filter(|d| (MIN_DATE..=MAX_DATE).contains(d))
        .ok_or_else(date_out_of_range)
}

pub fn date_is_finite(days: i32) -> bool {
    days != DATE_INFINITY && days != DATE_NEG_INFINITY
}

pub fn timestamp_is_finite(micros: i64) -> bool {
    micros != TIMESTAMP_INFINITY && micros != TIMESTAMP_NEG_INFINITY
}

/// Midnight of a date; 22008 if timestamps do not reach it.
pub fn date_to_timestamp(days: i32) -> Result<i64> {
    match days {
        DATE_INFINITY => Ok(TIMESTAMP_INFINITY),
        DATE_NEG_INFINITY => Ok(TIMESTAMP_NEG_INFINITY),
        _ => i64::from(days)
            .checked_mul(MICROS_PER_DAY)
            .filter(|t| (MIN_TIMESTAMP..=MAX_TIMESTAMP).contains(t))
            .ok_or_else(|| {
                Error::new(
                    SqlState::DATETIME_FIELD_OVERFLOW,
                    "date out of range for timestamp",
                )
            }),
    }
}

pub fn timestamp_to_date(micros: i64) -> i32 {
    match micros {
        TIMESTAMP_INFINITY => DATE_INFINITY,
        TIMESTAMP_NEG_INFINITY => DATE_NEG_INFINITY,
        _ => micros.div_euclid(MICROS_PER_DAY) as i32,
    }
}

/// Compares a date's midnight with a timestamp; the infinities meet.
pub fn compare_date_timestamp(days: i32, micros: i64) -> Ordering {
    match days {
        DATE_INFINITY => TIMESTAMP_INFINITY.cmp(&micros),
        DATE_NEG_INFINITY => TIMESTAMP_NEG_INFINITY.cmp(&micros),
        _ if micros == TIMESTAMP_INFINITY => Ordering::Less,
        _ if micros == TIMESTAMP_NEG_INFINITY => Ordering::Greater,
        _ => (i128::from(days) * i128::from(MICROS_PER_DAY)).cmp(&i128::from(micros)),
    }
}

// ---- text output ----------------------------------------------------------------------------

/// Appends two digits.
#[inline]
pub(crate) fn push2(value: u32, out: &mut Vec<u8>) {
    if value < 100 {
        out.extend_from_slice(&[b'0' + (value / 10) as u8, b'0' + (value % 10) as u8]);
    } else {
        out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }
}

/// Appends `YYYY-MM-DD` with the year counted from 1, and whether ` BC` must follow.
fn push_ymd(year: i64, month: u32, day: u32, out: &mut Vec<u8>) -> bool {
    let bc = year <= 0;
    let shown = if bc { 1 - year } else { year };
    if shown < 10_000 {
        push2((shown / 100) as u32, out);
        push2((shown % 100) as u32, out);
    } else {
        out.extend_from_slice(itoa::Buffer::new().format(shown).as_bytes());
    }
    out.push(b'-');
    push2(month, out);
    out.push(b'-');
    push2(day, out);
    bc
}

fn push_time(micros: i64, out: &mut Vec<u8>) {
    push2((micros / MICROS_PER_HOUR) as u32, out);
    out.push(b':');
    push2((micros / MICROS_PER_MINUTE % 60) as u32, out);
    out.push(b':');
    push2((micros / MICROS_PER_SECOND % 60) as u32, out);
    push_fraction((micros % MICROS_PER_SECOND) as u32, out);
}

/// Appends `.ffffff` without trailing zeros; nothing for zero.
pub(crate) fn push_fraction(mut micros: u32, out: &mut Vec<u8>) {
    if micros == 0 {
        return;
    }
    let mut digits = [b'0'; 6];
    for digit in digits.iter_mut().rev() {
        *digit += (micros % 10) as u8;
        micros /= 10;
    }
    let end = digits.iter().rposition(|d| *d != b'0').map_or(0, |p| p + 1);
    out.push(b'.');
    out.extend_from_slice(&digits[..end]);
}

pub fn write_date(days: i32, out: &mut Vec<u8>) {
    match days {
        DATE_INFINITY => out.extend_from_slice(b"infinity"),
        DATE_NEG_INFINITY => out.extend_from_slice(b"-infinity"),
        _ => {
            let (year, month, day) = civil_from_days(i64::from(days));
            if push_ymd(year, month, day, out) {
                out.extend_from_slice(b" BC");
            }
        }
    }
}

pub fn write_time(micros: i64, out: &mut Vec<u8>) {
    push_time(micros, out);
}

pub fn write_timestamp(micros: i64, out: &mut Vec<u8>) {
    write_instant(micros, None, out);
}

pub fn write_timestamptz(micros: i64, zone: &TimeZone, out: &mut Vec<u8>) {
    write_instant(micros, Some(zone), out);
}

fn write_instant(micros: i64, zone: Option<&TimeZone>, out: &mut Vec<u8>) {
    match micros {
        TIMESTAMP_INFINITY => return out.extend_from_slice(b"infinity"),
        TIMESTAMP_NEG_INFINITY => return out.extend_from_slice(b"-infinity"),
        _ => {}
    }
    let offset = zone.map(|z| z.offset_at(micros));
    let local = micros.saturating_add(i64::from(offset.unwrap_or(0)) * MICROS_PER_SECOND);
    let (year, month, day) = civil_from_days(local.div_euclid(MICROS_PER_DAY));
    let bc = push_ymd(year, month, day, out);
    out.push(b' ');
    push_time(local.rem_euclid(MICROS_PER_DAY), out);
    if let Some(seconds) = offset {
        write_offset(seconds, out);
    }
    if bc {
        out.extend_from_slice(b" BC");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(write: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn calendar_returns() {
        for days in [MIN_DATE, -719_468, -1, 0, 1, 11_016, 59, MAX_DATE] {
            let (y, m, d) = civil_from_days(i64::from(days));
            assert_eq!(days_from_civil(y, m, d), i64::from(days));
        }
        assert_eq!(civil_from_days(i64::from(MIN_DATE)), (-4713, 11, 24));
        assert_eq!(civil_from_days(i64::from(MAX_DATE)), (5_874_897, 12, 31));
        assert_eq!(days_from_civil(2000, 1, 1), i64::from(POSTGRES_EPOCH_DAYS));
    }

    #[test]
    fn iso_output() {
        assert_eq!(shown(|o| write_date(0, o)), "1970-01-01");
        assert_eq!(shown(|o| write_date(MIN_DATE, o)), "4714-11-24 BC");
        assert_eq!(shown(|o| write_date(DATE_INFINITY, o)), "infinity");
        assert_eq!(
            shown(|o| write_timestamp(1_500_000, o)),
            "1970-01-01 00:00:01.5"
        );
        assert_eq!(
            shown(|o| write_timestamp(-1, o)),
            "1969-12-31 23:59:59.999999"
        );
        let berlin = TimeZone::parse("Europe/Berlin").unwrap();
        assert_eq!(
            shown(|o| write_timestamptz(1_720_000_000_000_000, &berlin, o)),
            "2024-07-03 11:46:40+02"
        );
        assert_eq!(
            shown(|o| write_timestamptz(0, &TimeZone::Fixed(19_800), o)),
            "1970-01-01 05:30:00+05:30"
        );
    }
}
