//! Functions over dates, times and intervals: arithmetic, `age`, `make_*`.
//!
//! `extract` and `date_trunc` are in [`crate::extract`].

use crate::datetime::*;
use crate::interval::MICROS_PER_DAY;
use crate::timezone::TimeZone;
use crate::{Error, Interval, Result, SqlState};

/// Moves a date by months; a day that the month lacks becomes its last.
fn add_months(days: i64, months: i32) -> i64 {
    let (year, month, day) = civil_from_days(days);
    let total = year * 12 + i64::from(month) - 1 + i64::from(months);
    let (year, month) = (total.div_euclid(12), total.rem_euclid(12) as u32 + 1);
    days_from_civil(year, month, day.min(days_in_month(year, month)))
}

/// Adds months and days to a wall-clock time.
fn add_calendar(local: i64, interval: &Interval) -> Result<i64> {
    let time = local.rem_euclid(MICROS_PER_DAY);
    let mut days = local.div_euclid(MICROS_PER_DAY);
    if interval.months != 0 {
        days = add_months(days, interval.months);
    }
    days += i64::from(interval.days);
    days.checked_mul(MICROS_PER_DAY)
        .and_then(|d| d.checked_add(time))
        .ok_or_else(timestamp_out_of_range)
        .and_then(check_timestamp)
}

pub fn timestamp_plus_interval(micros: i64, interval: &Interval) -> Result<i64> {
    if !timestamp_is_finite(micros) {
        return Ok(micros);
    }
    add_calendar(micros, interval)?
        .checked_add(interval.micros)
        .ok_or_else(timestamp_out_of_range)
        .and_then(check_timestamp)
}

/// Months and days are added on the wall clock of `zone`, time to the instant.
pub fn timestamptz_plus_interval(micros: i64, interval: &Interval, zone: &TimeZone) -> Result<i64> {
    if !timestamp_is_finite(micros) {
        return Ok(micros);
    }
    let moved = if interval.months == 0 && interval.days == 0 {
        micros
    } else {
        zone.to_utc(add_calendar(zone.to_local(micros), interval)?)
    };
    moved
        .checked_add(interval.micros)
        .ok_or_else(timestamp_out_of_range)
        .and_then(check_timestamp)
}

pub fn timestamp_minus_interval(micros: i64, interval: &Interval) -> Result<i64> {
    timestamp_plus_interval(micros, &interval.checked_neg()?)
}

pub fn timestamptz_minus_interval(
    micros: i64,
    interval: &Interval,
    zone: &TimeZone,
) -> Result<i64> {
    timestamptz_plus_interval(micros, &interval.checked_neg()?, zone)
}

/// `date + integer`.
pub fn date_plus_days(date: i32, days: i64) -> Result<i32> {
    if !date_is_finite(date) {
        return Ok(date);
    }
    check_date(
        i64::from(date)
            .checked_add(days)
            .ok_or_else(date_out_of_range)?,
    )
}

/// `date - date`, in days.
pub fn date_minus_date(a: i32, b: i32) -> Result<i32> {
    if !date_is_finite(a) || !date_is_finite(b) {
        return Err(Error::new(
            SqlState::DATETIME_FIELD_OVERFLOW,
            "cannot subtract infinite dates",
        ));
    }
    a.checked_sub(b).ok_or_else(date_out_of_range)
}

/// `time + interval`: around the clock.
pub fn time_plus_interval(time: i64, interval: &Interval) -> i64 {
    (time + interval.micros % MICROS_PER_DAY).rem_euclid(MICROS_PER_DAY)
}

/// `timestamp - timestamp`: days and time, no months.
pub fn timestamp_minus_timestamp(a: i64, b: i64) -> Result<Interval> {
    if !timestamp_is_finite(a) || !timestamp_is_finite(b) {
        return Err(Error::new(
            SqlState::DATETIME_FIELD_OVERFLOW,
            "cannot subtract infinite timestamps",
        ));
    }
    let span = a
        .checked_sub(b)
        .ok_or_else(|| Error::new(SqlState::DATETIME_FIELD_OVERFLOW, "interval out of range"))?;
    Interval::new(0, 0, span).justify_hours()
}

/// `age(a, b)`: years, months and days as people count them. Takes wall-clock times.
pub fn age(a: i64, b: i64) -> Result<Interval> {
    if !timestamp_is_finite(a) || !timestamp_is_finite(b) {
        return Err(Error::new(
            SqlState::DATETIME_FIELD_OVERFLOW,
            "timestamp out of range",
        ));
    }
    let (late, early, sign) = if a >= b { (a, b, 1) } else { (b, a, -1) };
    let (x, y) = (Civil::from_timestamp(late), Civil::from_timestamp(early));
    let mut months = (x.year - y.year) * 12 + i64::from(x.month) - i64::from(y.month);
    let mut days = i64::from(x.day) - i64::from(y.day);
    let mut micros = x.time_micros() - y.time_micros();
    if micros < 0 {
        micros += MICROS_PER_DAY;
        days -= 1;
    }
    if days < 0 {
        // Borrowed is the length of the month in which the earlier date lies.
        days += i64::from(days_in_month(y.year, y.month));
        months -= 1;
    }
    Ok(Interval::new(
        (months * sign) as i32,
        (days * sign) as i32,
        micros * sign,
    ))
}

/// The wall clock of an instant in a zone, and back: `AT TIME ZONE` in both directions.
pub fn timestamptz_at_zone(micros: i64, zone: &TimeZone) -> i64 {
    zone.to_local(micros)
}

pub fn timestamp_at_zone(micros: i64, zone: &TimeZone) -> i64 {
    zone.to_utc(micros)
}

/// `date_bin(stride, source, origin)`.
pub fn date_bin(stride: &Interval, source: i64, origin: i64) -> Result<i64> {
    if stride.months != 0 {
        return Err(Error::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            "timestamps cannot be binned into intervals containing months or years",
        ));
    }
    let width = i64::from(stride.days)
        .checked_mul(MICROS_PER_DAY)
        .and_then(|d| d.checked_add(stride.micros))
        .ok_or_else(|| Error::new(SqlState::DATETIME_FIELD_OVERFLOW, "interval out of range"))?;
    if width <= 0 {
        return Err(Error::new(
            SqlState::DATETIME_FIELD_OVERFLOW,
            "stride must be greater than zero",
        ));
    }
    if !timestamp_is_finite(source) {
        return Ok(source);
    }
    let distance = source
        .checked_sub(origin)
        .ok_or_else(timestamp_out_of_range)?;
    source
        .checked_sub(distance.rem_euclid(width))
        .ok_or_else(timestamp_out_of_range)
        .and_then(check_timestamp)
}

// ---- make_* -----------------------------------------------------------------------------------

/// `make_date(year, month, day)`; negative years are BC.
pub fn make_date(year: i32, month: i32, day: i32) -> Result<i32> {
    let refuse = || {
        Error::new(
            SqlState::DATETIME_FIELD_OVERFLOW,
            format!("date field value out of range: {year}-{month:02}-{day:02}"),
        )
    };
    if year == 0 || !(1..=12).contains(&month) {
        return Err(refuse());
    }
    let astronomical = i64::from(if year < 0 { year + 1 } else { year });
    let month = month as u32;
    if day < 1 || day > days_in_month(astronomical, month) as i32 {
        return Err(refuse());
    }
    check_date(days_from_civil(astronomical, month, day as u32))
}

/// `make_time(hour, minute, second)`.
pub fn make_time(hour: i32, minute: i32, second: f64) -> Result<i64> {
    let in_range = (0..=24).contains(&hour)
        && (0..60).contains(&minute)
        && (0.0..=60.0).contains(&second)
        && (hour < 24 || (minute == 0 && second == 0.0));
    if !in_range {
        return Err(Error::new(
            SqlState::DATETIME_FIELD_OVERFLOW,
            format!("time field value out of range: {hour}:{minute:02}:{second:02}"),
        ));
    }
    Ok(i64::from(hour) * MICROS_PER_HOUR
        + i64::from(minute) * MICROS_PER_MINUTE
        + (second * 1e6).round_ties_even() as i64)
}

/// `make_timestamp(…)`.
pub fn make_timestamp(
    (year, month, day): (i32, i32, i32),
    (hour, minute, second): (i32, i32, f64),
) -> Result<i64> {
    let days = i64::from(make_date(year, month, day)?);
    let time = make_time(hour, minute, second)?;
    days.checked_mul(MICROS_PER_DAY)
        .and_then(|d| d.checked_add(time))
        .ok_or_else(timestamp_out_of_range)
        .and_then(check_timestamp)
}

/// `make_interval(years, months, weeks, days, hours, mins, secs)`.
pub fn make_interval(
    years_months: (i32, i32),
    weeks_days: (i32, i32),
    (hours, minutes, seconds): (i32, i32, f64),
) -> Result<Interval> {
    let refuse = || Error::new(SqlState::DATETIME_FIELD_OVERFLOW, "interval out of range");
    if !seconds.is_finite() || seconds.abs() > 9e12 {
        return Err(refuse());
    }
    let months = years_months
        .0
        .checked_mul(12)
        .and_then(|m| m.checked_add(years_months.1))
        .ok_or_else(refuse)?;
    let days = weeks_days
        .0
        .checked_mul(7)
        .and_then(|d| d.checked_add(weeks_days.1))
        .ok_or_else(refuse)?;
    let micros = (i64::from(hours) * MICROS_PER_HOUR + i64::from(minutes) * MICROS_PER_MINUTE)
        .checked_add((seconds * 1e6).round_ties_even() as i64)
        .ok_or_else(refuse)?;
    Ok(Interval::new(months, days, micros))
}

/// `to_timestamp(double precision)`.
pub fn timestamp_from_epoch(seconds: f64) -> Result<i64> {
    if seconds.is_infinite() {
        return Ok(if seconds > 0.0 {
            TIMESTAMP_INFINITY
        } else {
            TIMESTAMP_NEG_INFINITY
        });
    }
    if seconds.is_nan() {
        return Err(Error::new(
            SqlState::DATETIME_FIELD_OVERFLOW,
            "timestamp cannot be NaN",
        ));
    }
    let micros = (seconds * 1e6).round_ties_even();
    if micros.abs() >= 9.2e18 {
        return Err(Error::new(
            SqlState::DATETIME_FIELD_OVERFLOW,
            format!("timestamp out of range: \"{seconds}\""),
        ));
    }
    check_timestamp(micros as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datetime_parse::{DateOrder, ParseContext, parse_timestamp, parse_timestamptz};
    use crate::interval_parse::parse_interval;

    fn ts(text: &str) -> i64 {
        let zone = TimeZone::Utc;
        let ctx = ParseContext {
            zone: &zone,
            now: 0,
            order: DateOrder::Mdy,
        };
        parse_timestamp(text, ctx).unwrap()
    }

    fn shown(micros: i64) -> String {
        let mut out = Vec::new();
        write_timestamp(micros, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn arithmetic() {
        let month = parse_interval("1 month").unwrap();
        assert_eq!(
            shown(timestamp_plus_interval(ts("2024-01-31"), &month).unwrap()),
            "2024-02-29 00:00:00"
        );
        assert_eq!(
            shown(timestamp_minus_interval(ts("2024-03-31"), &month).unwrap()),
            "2024-02-29 00:00:00"
        );
        // A day across the switch to summer time has 23 hours.
        let berlin = TimeZone::parse("Europe/Berlin").unwrap();
        let ctx = ParseContext {
            zone: &berlin,
            now: 0,
            order: DateOrder::Mdy,
        };
        let before = parse_timestamptz("2024-03-30 12:00:00", ctx).unwrap();
        let day = parse_interval("1 day").unwrap();
        let after = timestamptz_plus_interval(before, &day, &berlin).unwrap();
        assert_eq!(after - before, 23 * MICROS_PER_HOUR);
        assert_eq!(
            timestamp_minus_timestamp(ts("2024-01-03 01:00"), ts("2024-01-01"))
                .unwrap()
                .to_string(),
            "2 days 01:00:00"
        );
    }

    #[test]
    fn ages() {
        for (a, b, expected) in [
            ("2001-04-10", "1957-06-13", "43 years 9 mons 27 days"),
            ("2024-03-01", "2024-02-29", "1 day"),
            ("2024-01-01", "2024-01-01", "00:00:00"),
            ("1957-06-13", "2001-04-10", "-43 years -9 mons -27 days"),
        ] {
            assert_eq!(age(ts(a), ts(b)).unwrap().to_string(), expected, "{a} {b}");
        }
    }
}
