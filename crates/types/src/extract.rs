//! Parts of dates, times and intervals: `extract`, `date_trunc`, and the week's views of the calendar.

use crate::datetime::*;
use crate::interval::MICROS_PER_DAY;
use crate::timezone::TimeZone;
use crate::{Error, Interval, Numeric, Result, SqlState};

/// A part of a date or time, as `extract` and `date_trunc` name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    Microseconds,
    Milliseconds,
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Quarter,
    Year,
    Decade,
    Century,
    Millennium,
    IsoYear,
    Dow,
    IsoDow,
    Doy,
    Julian,
    Epoch,
    Timezone,
    TimezoneHour,
    TimezoneMinute,
}

impl Field {
    /// The field of this name, in any case and with PostgreSQL's abbreviations.
    pub fn parse(name: &str) -> Option<Field> {
        Some(match name.trim().to_ascii_lowercase().as_str() {
            "microseconds" | "microsecond" | "us" | "usec" | "usecs" => Field::Microseconds,
            "milliseconds" | "millisecond" | "ms" | "msec" | "msecs" => Field::Milliseconds,
            "second" | "seconds" | "s" | "sec" | "secs" => Field::Second,
            "minute" | "minutes" | "m" | "min" | "mins" => Field::Minute,
            "hour" | "hours" | "h" | "hr" | "hrs" => Field::Hour,
            "day" | "days" | "d" => Field::Day,
            "week" | "weeks" | "w" => Field::Week,
            "month" | "months" | "mon" | "mons" => Field::Month,
            "quarter" | "qtr" => Field::Quarter,
            "year" | "years" | "y" | "yr" | "yrs" => Field::Year,
            "decade" | "decades" | "dec" | "decs" => Field::Decade,
            "century" | "centuries" | "c" | "cent" => Field::Century,
            "millennium" | "millennia" | "mil" | "mils" => Field::Millennium,
            "isoyear" => Field::IsoYear,
            "dow" => Field::Dow,
            "isodow" => Field::IsoDow,
            "doy" => Field::Doy,
            "julian" => Field::Julian,
            "epoch" => Field::Epoch,
            "timezone" => Field::Timezone,
            "timezone_hour" => Field::TimezoneHour,
            "timezone_minute" => Field::TimezoneMinute,
            _ => return None,
        })
    }

    /// Parts that grow with time: of an infinity they are infinite, others are NULL.
    fn is_monotone(self) -> bool {
        matches!(
            self,
            Field::Year
                | Field::Decade
                | Field::Century
                | Field::Millennium
                | Field::IsoYear
                | Field::Julian
                | Field::Epoch
        )
    }
}

fn unknown_unit(name: &str, type_name: &str) -> Error {
    Error::new(
        SqlState::INVALID_PARAMETER_VALUE,
        format!("unit \"{name}\" not recognized for type {type_name}"),
    )
}

fn unsupported_unit(name: &str, type_name: &str) -> Error {
    Error::new(
        SqlState::FEATURE_NOT_SUPPORTED,
        format!("unit \"{name}\" not supported for type {type_name}"),
    )
}

const TIMESTAMP: &str = "timestamp without time zone";
const TIMESTAMPTZ: &str = "timestamp with time zone";

// ---- the calendar's other views ---------------------------------------------------------------

/// 0 is Sunday.
pub fn day_of_week(days: i64) -> i64 {
    (days + 4).rem_euclid(7)
}

/// 1 is Monday, 7 Sunday.
pub fn iso_day_of_week(days: i64) -> i64 {
    (days + 3).rem_euclid(7) + 1
}

/// 1 is January the first.
pub fn day_of_year(year: i64, days: i64) -> i64 {
    days - days_from_civil(year, 1, 1) + 1
}

/// The ISO 8601 year and week: weeks start on Monday, week 1 has the year's first Thursday.
pub fn iso_week(days: i64) -> (i64, i64) {
    let thursday = days - iso_day_of_week(days) + 4;
    let (year, _, _) = civil_from_days(thursday);
    (year, (thursday - days_from_civil(year, 1, 1)) / 7 + 1)
}

/// The Monday of an ISO week.
pub fn iso_week_start(year: i64, week: i64) -> i64 {
    let january_4 = days_from_civil(year, 1, 4);
    january_4 - iso_day_of_week(january_4) + 1 + (week - 1) * 7
}

/// The year as people count: 1 BC is -1.
fn shown_year(year: i64) -> i64 {
    if year > 0 { year } else { year - 1 }
}

fn century(year: i64) -> i64 {
    if year > 0 {
        (year + 99) / 100
    } else {
        -((99 - (year - 1)) / 100)
    }
}

fn millennium(year: i64) -> i64 {
    if year > 0 {
        (year + 999) / 1000
    } else {
        -((999 - (year - 1)) / 1000)
    }
}

// ---- extract ----------------------------------------------------------------------------------

fn whole(value: i64) -> Option<Numeric> {
    Some(Numeric::from(value))
}

fn infinite(positive: bool, field: Field) -> Option<Numeric> {
    let value = if positive {
        Numeric::INFINITY
    } else {
        Numeric::NEG_INFINITY
    };
    field.is_monotone().then_some(value)
}

fn date_part(field: Field, days: i64) -> Option<i64> {
    let (year, month, day) = civil_from_days(days);
    Some(match field {
        Field::Day => i64::from(day),
        Field::Week => iso_week(days).1,
        Field::Month => i64::from(month),
        Field::Quarter => i64::from(month - 1) / 3 + 1,
        Field::Year => shown_year(year),
        Field::Decade => year.div_euclid(10),
        Field::Century => century(year),
        Field::Millennium => millennium(year),
        Field::IsoYear => shown_year(iso_week(days).0),
        Field::Dow => day_of_week(days),
        Field::IsoDow => iso_day_of_week(days),
        Field::Doy => day_of_year(year, days),
        Field::Julian => days + i64::from(JULIAN_UNIX_EPOCH),
        _ => return None,
    })
}

fn time_part(field: Field, micros: i64) -> Option<Numeric> {
    let in_minute = micros % MICROS_PER_MINUTE;
    match field {
        Field::Microseconds => whole(in_minute),
        Field::Milliseconds => Some(Numeric::from_i128(in_minute.into(), 3)),
        Field::Second => Some(Numeric::from_i128(in_minute.into(), 6)),
        Field::Minute => whole(micros / MICROS_PER_MINUTE % 60),
        Field::Hour => whole(micros / MICROS_PER_HOUR),
        _ => None,
    }
}

/// `extract(field from date)`. `None` is NULL, which infinities give.
pub fn extract_date(name: &str, days: i32) -> Result<Option<Numeric>> {
    let field = Field::parse(name).ok_or_else(|| unknown_unit(name, "date"))?;
    if !date_is_finite(days) {
        return Ok(infinite(days > 0, field));
    }
    let days = i64::from(days);
    match (date_part(field, days), field) {
        (Some(v), _) => Ok(whole(v)),
        (None, Field::Epoch) => Ok(whole(days * 86_400)),
        _ => Err(unsupported_unit(name, "date")),
    }
}

/// `extract(field from timestamp)`.
pub fn extract_timestamp(name: &str, micros: i64) -> Result<Option<Numeric>> {
    let field = Field::parse(name).ok_or_else(|| unknown_unit(name, TIMESTAMP))?;
    extract_local(field, micros, micros).ok_or_else(|| unsupported_unit(name, TIMESTAMP))
}

/// `extract(field from timestamptz)`, by the wall clock of `zone`.
pub fn extract_timestamptz(name: &str, micros: i64, zone: &TimeZone) -> Result<Option<Numeric>> {
    let field = Field::parse(name).ok_or_else(|| unknown_unit(name, TIMESTAMPTZ))?;
    if timestamp_is_finite(micros) {
        let offset = i64::from(zone.offset_at(micros));
        match field {
            Field::Timezone => return Ok(whole(offset)),
            Field::TimezoneHour => return Ok(whole(offset / 3600)),
            Field::TimezoneMinute => return Ok(whole(offset / 60 % 60)),
            _ => {}
        }
    }
    extract_local(field, zone.to_local(micros), micros)
        .ok_or_else(|| unsupported_unit(name, TIMESTAMPTZ))
}

/// Outer `None`: the type has no such field. Inner `None`: NULL.
fn extract_local(field: Field, local: i64, instant: i64) -> Option<Option<Numeric>> {
    if !timestamp_is_finite(instant) {
        return Some(infinite(instant > 0, field));
    }
    let days = local.div_euclid(MICROS_PER_DAY);
    let time = local.rem_euclid(MICROS_PER_DAY);
    match field {
        Field::Epoch => Some(Some(Numeric::from_i128(instant.into(), 6))),
        Field::Julian => {
            let day = Numeric::from(days + i64::from(JULIAN_UNIX_EPOCH));
            let fraction = Numeric::from(time)
                .div(&Numeric::from(MICROS_PER_DAY))
                .ok()?;
            Some(day.add(&fraction).ok())
        }
        _ => match date_part(field, days) {
            Some(v) => Some(whole(v)),
            None => time_part(field, time).map(Some),
        },
    }
}

/// `extract(field from time)`.
pub fn extract_time(name: &str, micros: i64) -> Result<Option<Numeric>> {
    const NAME: &str = "time without time zone";
    let field = Field::parse(name).ok_or_else(|| unknown_unit(name, NAME))?;
    match field {
        Field::Epoch => Ok(Some(Numeric::from_i128(micros.into(), 6))),
        _ => time_part(field, micros)
            .map(Some)
            .ok_or_else(|| unsupported_unit(name, NAME)),
    }
}

/// `extract(field from interval)`.
pub fn extract_interval(name: &str, value: &Interval) -> Result<Option<Numeric>> {
    const NAME: &str = "interval";
    /// An interval's year is 365.25 days when turned into seconds.
    const MICROS_PER_YEAR: i128 = 31_557_600_000_000;
    let field = Field::parse(name).ok_or_else(|| unknown_unit(name, NAME))?;
    let months = i64::from(value.months);
    Ok(match field {
        Field::Day => whole(i64::from(value.days)),
        Field::Month => whole(months % 12),
        Field::Quarter => whole(months % 12 / 3 + 1),
        Field::Year => whole(months / 12),
        Field::Decade => whole(months / 120),
        Field::Century => whole(months / 1200),
        Field::Millennium => whole(months / 12_000),
        Field::Epoch => {
            let micros = i128::from(months / 12) * MICROS_PER_YEAR
                + (i128::from(months % 12) * 30 + i128::from(value.days))
                    * i128::from(MICROS_PER_DAY)
                + i128::from(value.micros);
            Some(Numeric::from_i128(micros, 6))
        }
        _ => Some(time_part(field, value.micros).ok_or_else(|| unsupported_unit(name, NAME))?),
    })
}

// ---- date_trunc -------------------------------------------------------------------------------

fn trunc_local(field: Field, local: i64) -> Option<Result<i64>> {
    let day = local.div_euclid(MICROS_PER_DAY);
    let (year, month, _) = civil_from_days(day);
    let start_of = |year: i64, month: u32| days_from_civil(year, month, 1) * MICROS_PER_DAY;
    let result = match field {
        Field::Microseconds => local,
        Field::Milliseconds => local - local.rem_euclid(1000),
        Field::Second => local - local.rem_euclid(MICROS_PER_SECOND),
        Field::Minute => local - local.rem_euclid(MICROS_PER_MINUTE),
        Field::Hour => local - local.rem_euclid(MICROS_PER_HOUR),
        Field::Day => day * MICROS_PER_DAY,
        Field::Week => (day - iso_day_of_week(day) + 1) * MICROS_PER_DAY,
        Field::Month => start_of(year, month),
        Field::Quarter => start_of(year, (month - 1) / 3 * 3 + 1),
        Field::Year => start_of(year, 1),
        Field::Decade => start_of(year.div_euclid(10) * 10, 1),
        // Centuries and millennia start with year 1, not 0.
        Field::Century => start_of((year - 1).div_euclid(100) * 100 + 1, 1),
        Field::Millennium => start_of((year - 1).div_euclid(1000) * 1000 + 1, 1),
        _ => return None,
    };
    Some(check_timestamp(result))
}

pub fn trunc_timestamp(name: &str, micros: i64) -> Result<i64> {
    let field = Field::parse(name).ok_or_else(|| unknown_unit(name, TIMESTAMP))?;
    if !timestamp_is_finite(micros) {
        return Ok(micros);
    }
    trunc_local(field, micros).unwrap_or_else(|| Err(unsupported_unit(name, TIMESTAMP)))
}

pub fn trunc_timestamptz(name: &str, micros: i64, zone: &TimeZone) -> Result<i64> {
    let field = Field::parse(name).ok_or_else(|| unknown_unit(name, TIMESTAMPTZ))?;
    if !timestamp_is_finite(micros) {
        return Ok(micros);
    }
    let local = zone.to_local(micros);
    let cut =
        trunc_local(field, local).unwrap_or_else(|| Err(unsupported_unit(name, TIMESTAMPTZ)))?;
    // Below a day the offset stays what it is, so that the repeated hour of autumn is not folded.
    Ok(match field {
        Field::Microseconds | Field::Milliseconds | Field::Second | Field::Minute | Field::Hour => {
            micros - (local - cut)
        }
        _ => zone.to_utc(cut),
    })
}

pub fn trunc_interval(name: &str, value: &Interval) -> Result<Interval> {
    const NAME: &str = "interval";
    let field = Field::parse(name).ok_or_else(|| unknown_unit(name, NAME))?;
    let months = |unit: i32| Interval::new(value.months / unit * unit, 0, 0);
    let micros = |unit: i64| Interval::new(value.months, value.days, value.micros / unit * unit);
    Ok(match field {
        Field::Millennium => months(12_000),
        Field::Century => months(1200),
        Field::Decade => months(120),
        Field::Year => months(12),
        Field::Quarter => months(3),
        Field::Month => months(1),
        Field::Day => Interval::new(value.months, value.days, 0),
        Field::Hour => micros(MICROS_PER_HOUR),
        Field::Minute => micros(MICROS_PER_MINUTE),
        Field::Second => micros(MICROS_PER_SECOND),
        Field::Milliseconds => micros(1000),
        Field::Microseconds => *value,
        _ => return Err(unsupported_unit(name, NAME)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datetime_fn::{date_bin, make_date};
    use crate::datetime_parse::{DateOrder, ParseContext, parse_timestamp};
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
    fn extracts() {
        let t = ts("2001-02-16 20:38:40.12");
        for (field, expected) in [
            ("century", "21"),
            ("day", "16"),
            ("decade", "200"),
            ("dow", "5"),
            ("doy", "47"),
            ("epoch", "982355920.120000"),
            ("hour", "20"),
            ("isodow", "5"),
            ("isoyear", "2001"),
            ("microseconds", "40120000"),
            ("millennium", "3"),
            ("milliseconds", "40120.000"),
            ("minute", "38"),
            ("month", "2"),
            ("quarter", "1"),
            ("second", "40.120000"),
            ("week", "7"),
            ("year", "2001"),
        ] {
            let value = extract_timestamp(field, t).unwrap().map(|n| n.to_string());
            assert_eq!(value.as_deref(), Some(expected), "{field}");
        }
        assert_eq!(
            extract_date("week", make_date(2006, 1, 1).unwrap()),
            Ok(Some(Numeric::from(52)))
        );
        assert_eq!(
            extract_date("isoyear", make_date(2006, 1, 1).unwrap()),
            Ok(Some(Numeric::from(2005)))
        );
        assert_eq!(extract_timestamp("day", TIMESTAMP_INFINITY), Ok(None));
        assert_eq!(
            extract_timestamp("epoch", TIMESTAMP_INFINITY),
            Ok(Some(Numeric::INFINITY))
        );
        assert_eq!(
            extract_date("hour", 0).map_err(|e| (e.state, e.message)),
            Err((
                SqlState::FEATURE_NOT_SUPPORTED,
                "unit \"hour\" not supported for type date".into()
            ))
        );
        let i = parse_interval("5 days 3 hours").unwrap();
        assert_eq!(
            extract_interval("epoch", &i).unwrap().unwrap().to_string(),
            "442800.000000"
        );
    }

    #[test]
    fn truncation() {
        let t = ts("2001-02-16 20:38:40");
        for (field, expected) in [
            ("hour", "2001-02-16 20:00:00"),
            ("day", "2001-02-16 00:00:00"),
            ("week", "2001-02-12 00:00:00"),
            ("month", "2001-02-01 00:00:00"),
            ("quarter", "2001-01-01 00:00:00"),
            ("year", "2001-01-01 00:00:00"),
            ("decade", "2000-01-01 00:00:00"),
            ("century", "2001-01-01 00:00:00"),
            ("millennium", "2001-01-01 00:00:00"),
        ] {
            assert_eq!(
                shown(trunc_timestamp(field, t).unwrap()),
                expected,
                "{field}"
            );
        }
        let bin = date_bin(&parse_interval("15 minutes").unwrap(), t, ts("2001-01-01")).unwrap();
        assert_eq!(shown(bin), "2001-02-16 20:30:00");
    }
}
