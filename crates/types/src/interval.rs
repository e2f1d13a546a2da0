//! SQL intervals: months, days and microseconds kept apart, as PostgreSQL keeps them.
//!
//! Reading text is in [`crate::interval_parse`].

use crate::datetime::{push_fraction, push2};
use crate::{Error, Result, SqlState};
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

/// A span of time. The three parts are independent: a month has no fixed number of days, a day no
/// fixed number of hours. Comparison uses 30-day months and 24-hour days, so `1 mon` = `30 days`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Interval {
    pub months: i32,
    pub days: i32,
    pub micros: i64,
}

/// Microseconds of a 24-hour day.
pub const MICROS_PER_DAY: i64 = 86_400_000_000;
/// Days of a month wherever a month must be compared or turned into days.
pub const DAYS_PER_MONTH: i64 = 30;

impl Interval {
    pub const fn new(months: i32, days: i32, micros: i64) -> Self {
        Interval {
            months,
            days,
            micros,
        }
    }

    /// The length in microseconds by which intervals are ordered.
    pub fn comparable_micros(&self) -> i128 {
        let days = i128::from(self.months) * i128::from(DAYS_PER_MONTH) + i128::from(self.days);
        days * i128::from(MICROS_PER_DAY) + i128::from(self.micros)
    }
}

impl PartialEq for Interval {
    fn eq(&self, other: &Self) -> bool {
        self.comparable_micros() == other.comparable_micros()
    }
}

impl Eq for Interval {}

impl Ord for Interval {
    fn cmp(&self, other: &Self) -> Ordering {
        self.comparable_micros().cmp(&other.comparable_micros())
    }
}

impl PartialOrd for Interval {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Hash for Interval {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.comparable_micros().hash(state);
    }
}

fn out_of_range() -> Error {
    Error::new(SqlState::DATETIME_FIELD_OVERFLOW, "interval out of range")
}

impl Interval {
    pub const ZERO: Interval = Interval::new(0, 0, 0);

    /// An interval of this length by 30-day months, largest units first. `None` if too long.
    pub fn from_comparable_micros(micros: i128) -> Option<Interval> {
        let day = i128::from(MICROS_PER_DAY);
        let days = micros / day;
        let rest = (micros % day) as i64;
        let months = days / i128::from(DAYS_PER_MONTH);
        let days = (days % i128::from(DAYS_PER_MONTH)) as i32;
        if let Ok(months) = i32::try_from(months) {
            return Some(Interval::new(months, days, rest));
        }
        // The longest intervals fill all three parts.
        let months_kept = months.clamp(i128::from(i32::MIN), i128::from(i32::MAX));
        let left = (months - months_kept) * i128::from(DAYS_PER_MONTH) + i128::from(days);
        let days_kept = left.clamp(i128::from(i32::MIN), i128::from(i32::MAX));
        let micros = i64::try_from((left - days_kept) * day + i128::from(rest)).ok()?;
        Some(Interval::new(months_kept as i32, days_kept as i32, micros))
    }

    pub fn checked_add(&self, other: &Interval) -> Result<Interval> {
        Ok(Interval {
            months: self
                .months
                .checked_add(other.months)
                .ok_or_else(out_of_range)?,
            days: self.days.checked_add(other.days).ok_or_else(out_of_range)?,
            micros: self
                .micros
                .checked_add(other.micros)
                .ok_or_else(out_of_range)?,
        })
    }

    pub fn checked_neg(&self) -> Result<Interval> {
        Ok(Interval {
            months: self.months.checked_neg().ok_or_else(out_of_range)?,
            days: self.days.checked_neg().ok_or_else(out_of_range)?,
            micros: self.micros.checked_neg().ok_or_else(out_of_range)?,
        })
    }

    pub fn checked_sub(&self, other: &Interval) -> Result<Interval> {
        self.checked_add(&other.checked_neg()?)
    }

    /// Multiplies each part; fractions of months go to days, of days to time.
    pub fn checked_mul(&self, factor: f64) -> Result<Interval> {
        let months = f64::from(self.months) * factor;
        let days = f64::from(self.days) * factor;
        let fits = |v: f64| v.is_finite() && v.abs() < 2_147_483_648.0;
        if !fits(months) || !fits(days) {
            return Err(out_of_range());
        }
        // Rounded to microseconds at each step, so that 0.1 × 10 days is one day.
        let tidy = |v: f64| (v * 1e6).round() / 1e6;
        let month_days = tidy((months - months.trunc()) * DAYS_PER_MONTH as f64);
        let mut whole_days = days.trunc() + month_days.trunc();
        let mut day_seconds =
            tidy((days - days.trunc() + month_days - month_days.trunc()) * 86_400.0);
        if day_seconds.abs() >= 86_400.0 {
            whole_days += (day_seconds / 86_400.0).trunc();
            day_seconds %= 86_400.0;
        }
        let micros = (self.micros as f64 * factor + day_seconds * 1e6).round_ties_even();
        if !fits(whole_days) || micros.is_nan() || micros.abs() >= 9_223_372_036_854_775_807.0 {
            return Err(out_of_range());
        }
        Ok(Interval::new(
            months.trunc() as i32,
            whole_days as i32,
            micros as i64,
        ))
    }

    pub fn checked_div(&self, divisor: f64) -> Result<Interval> {
        if divisor == 0.0 {
            return Err(Error::new(SqlState::DIVISION_BY_ZERO, "division by zero"));
        }
        // Parts are divided, not multiplied by a reciprocal: 1/3 is not exact.
        let months = f64::from(self.months) / divisor;
        let days = f64::from(self.days) / divisor;
        let micros = self.micros as f64 / divisor;
        let whole = Interval::new(months.trunc() as i32, days.trunc() as i32, 0);
        let tidy = |v: f64| (v * 1e6).round() / 1e6;
        let month_days = tidy((months - months.trunc()) * DAYS_PER_MONTH as f64);
        let day_seconds = tidy((days - days.trunc() + month_days - month_days.trunc()) * 86_400.0);
        let rest = (micros + day_seconds * 1e6).round_ties_even();
        if rest.is_nan() || rest.abs() >= 9_223_372_036_854_775_807.0 {
            return Err(out_of_range());
        }
        whole.checked_add(&Interval::new(0, month_days.trunc() as i32, rest as i64))
    }

    /// Moves whole 24-hour spans of time into days.
    pub fn justify_hours(&self) -> Result<Interval> {
        let shift = (self.micros / MICROS_PER_DAY) as i32;
        let mut micros = self.micros % MICROS_PER_DAY;
        let mut days = self.days.checked_add(shift).ok_or_else(out_of_range)?;
        if days > 0 && micros < 0 {
            micros += MICROS_PER_DAY;
            days -= 1;
        } else if days < 0 && micros > 0 {
            micros -= MICROS_PER_DAY;
            days += 1;
        }
        Ok(Interval::new(self.months, days, micros))
    }

    /// Moves whole 30-day spans of days into months.
    pub fn justify_days(&self) -> Result<Interval> {
        let month = DAYS_PER_MONTH as i32;
        let mut months = self
            .months
            .checked_add(self.days / month)
            .ok_or_else(out_of_range)?;
        let mut days = self.days % month;
        if months > 0 && days < 0 {
            days += month;
            months -= 1;
        } else if months < 0 && days > 0 {
            days -= month;
            months += 1;
        }
        Ok(Interval::new(months, days, self.micros))
    }

    /// Both, with one sign for all parts.
    pub fn justify_interval(&self) -> Result<Interval> {
        Interval::from_comparable_micros(self.comparable_micros()).ok_or_else(out_of_range)
    }

    /// Appends the text of `intervalstyle = postgres`.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        let start = out.len();
        let mut after_negative = false;
        let mut part = |value: i32, unit: &str, out: &mut Vec<u8>| {
            if value == 0 {
                return;
            }
            if out.len() > start {
                out.push(b' ');
            }
            if after_negative && value > 0 {
                out.push(b'+');
            }
            out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
            out.push(b' ');
            out.extend_from_slice(unit.as_bytes());
            if value != 1 {
                out.push(b's');
            }
            after_negative = value < 0;
        };
        part(self.months / 12, "year", out);
        part(self.months % 12, "mon", out);
        part(self.days, "day", out);
        if out.len() > start && self.micros == 0 {
            return;
        }
        if out.len() > start {
            out.push(b' ');
        }
        if self.micros < 0 {
            out.push(b'-');
        } else if after_negative {
            out.push(b'+');
        }
        let t = self.micros.unsigned_abs();
        let hours = t / 3_600_000_000;
        if hours < 100 {
            push2(hours as u32, out);
        } else {
            out.extend_from_slice(itoa::Buffer::new().format(hours).as_bytes());
        }
        out.push(b':');
        push2((t / 60_000_000 % 60) as u32, out);
        out.push(b':');
        push2((t / 1_000_000 % 60) as u32, out);
        push_fraction((t % 1_000_000) as u32, out);
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = Vec::new();
        self.write_to(&mut out);
        f.write_str(std::str::from_utf8(&out).map_err(|_| fmt::Error)?)
    }
}
