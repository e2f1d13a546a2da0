//! Functions of dates, times and intervals. Their rules are in [`types::datetime_fn`] and
//! [`types::extract`]; here they get PostgreSQL's names and signatures.
//!
//! A statement's clock readings come from its settings, so that `now()` is one instant throughout;
//! only `clock_timestamp()` and `timeofday()` look at the clock.

use super::define::*;
use super::{Registry, Volatility};
use crate::context::StatementContext;
use types::datetime::{
    self, date_is_finite, date_to_timestamp, timestamp_is_finite, timestamp_to_date,
};
use types::interval::MICROS_PER_DAY;
use types::{Datum, Error, Interval, Numeric, Result, SqlState, TimeZone};
use types::{datetime_fn as rules, extract};

pub(super) fn register(registry: &mut Registry) {
    clocks(registry);
    parts(registry);
    truncation(registry);
    construction(registry);
    ages(registry);
    intervals(registry);
    zones(registry);
}

fn immutable(registry: &mut Registry) -> Definitions<'_> {
    Definitions::new(registry, Volatility::Immutable)
}

fn stable(registry: &mut Registry) -> Definitions<'_> {
    Definitions::new(registry, Volatility::Stable)
}

fn instant(micros: i64) -> Result<Datum> {
    Ok(Datum::TimestampTz(micros))
}

// ---- clocks -----------------------------------------------------------------------------------

/// The wall clock of the transaction's start in the session's zone.
fn local_now(context: &StatementContext) -> i64 {
    zone(context).to_local(context.settings.transaction_micros)
}

fn clocks(registry: &mut Registry) {
    let mut d = stable(registry);
    for name in [
        "now() timestamptz",
        "current_timestamp() timestamptz",
        "transaction_timestamp() timestamptz",
    ] {
        d.strict(name, |context, _| {
            instant(context.settings.transaction_micros)
        });
    }
    d.strict("current_timestamp(int4) timestamptz", |context, args| {
        instant(to_precision(
            context.settings.transaction_micros,
            int4(args, 0)?,
        )?)
    });
    d.strict("statement_timestamp() timestamptz", |context, _| {
        instant(context.settings.statement_micros)
    });
    d.strict("current_date() date", |context, _| {
        Ok(Datum::Date(timestamp_to_date(local_now(context))))
    });
    d.strict("localtimestamp() timestamp", |context, _| {
        Ok(Datum::Timestamp(local_now(context)))
    });
    d.strict("localtimestamp(int4) timestamp", |context, args| {
        Ok(Datum::Timestamp(to_precision(
            local_now(context),
            int4(args, 0)?,
        )?))
    });
    d.strict("localtime() time", |context, _| {
        Ok(Datum::Time(local_now(context).rem_euclid(MICROS_PER_DAY)))
    });
    d.strict("localtime(int4) time", |context, args| {
        let local = to_precision(local_now(context), int4(args, 0)?)?;
        Ok(Datum::Time(local.rem_euclid(MICROS_PER_DAY)))
    });
    d.strict("current_time() time", |_, _| {
        Err(Error::unsupported("type time with time zone"))
    });
    let mut d = Definitions::new(registry, Volatility::Volatile);
    d.strict("clock_timestamp() timestamptz", |context, _| {
        instant(context.env.clock.wall_micros())
    });
    d.strict("timeofday() text", |context, _| {
        let zone = zone(context);
        let micros = context.env.clock.wall_micros();
        let template = "Dy Mon DD HH24:MI:SS.US YYYY TZ";
        text_datum(types::to_char::timestamptz_to_char(micros, template, &zone).unwrap_or_default())
    });
    // The binder makes calls of it that wait (`query::sleep`); this is its entry in pg_proc.
    d.strict("pg_sleep(float8) void", |_, _| {
        Err(Error::unsupported("pg_sleep in this place"))
    });
}

/// Rounds to so many digits of a second.
fn to_precision(micros: i64, digits: i32) -> Result<i64> {
    const MAX_DIGITS: u32 = 6;
    let digits = u32::try_from(digits).map_err(|_| {
        invalid(format!(
            "TIMESTAMP({digits}) precision must not be negative"
        ))
    })?;
    let unit = 10i64.pow(MAX_DIGITS - digits.min(MAX_DIGITS));
    Ok((micros + unit / 2).div_euclid(unit) * unit)
}

// ---- extract ----------------------------------------------------------------------------------

fn part(value: Option<Numeric>) -> Result<Datum> {
    Ok(value.map_or(Datum::Null, Datum::Numeric))
}

fn float_part(value: Option<Numeric>) -> Result<Datum> {
    Ok(value.map_or(Datum::Null, |value| Datum::Float8(value.to_f64())))
}

fn parts(registry: &mut Registry) {
    let mut d = immutable(registry);
    d.vectorised(
        "extract(text, date) numeric",
        |_, args| part(extract::extract_date(text(args, 0)?, date(args, 1)?)?),
        super::kernels::extract_from_date,
    );
    d.strict("extract(text, time) numeric", |_, args| {
        part(extract::extract_time(text(args, 0)?, time(args, 1)?)?)
    });
    d.strict("extract(text, timestamp) numeric", |_, args| {
        part(extract::extract_timestamp(
            text(args, 0)?,
            timestamp(args, 1)?,
        )?)
    });
    d.strict("extract(text, interval) numeric", |_, args| {
        part(extract::extract_interval(
            text(args, 0)?,
            &interval(args, 1)?,
        )?)
    });
    // `date_part` knows dates as timestamps.
    d.strict("date_part(text, date) float8", |_, args| {
        let micros = date_to_timestamp(date(args, 1)?)?;
        float_part(extract::extract_timestamp(text(args, 0)?, micros)?)
    });
    d.strict("date_part(text, time) float8", |_, args| {
        float_part(extract::extract_time(text(args, 0)?, time(args, 1)?)?)
    });
    d.strict("date_part(text, timestamp) float8", |_, args| {
        float_part(extract::extract_timestamp(
            text(args, 0)?,
            timestamp(args, 1)?,
        )?)
    });
    d.strict("date_part(text, interval) float8", |_, args| {
        float_part(extract::extract_interval(
            text(args, 0)?,
            &interval(args, 1)?,
        )?)
    });
    let mut d = stable(registry);
    d.strict("extract(text, timestamptz) numeric", |context, args| {
        let micros = timestamptz(args, 1)?;
        part(extract::extract_timestamptz(
            text(args, 0)?,
            micros,
            &zone(context),
        )?)
    });
    d.strict("date_part(text, timestamptz) float8", |context, args| {
        let micros = timestamptz(args, 1)?;
        float_part(extract::extract_timestamptz(
            text(args, 0)?,
            micros,
            &zone(context),
        )?)
    });
}

// ---- date_trunc, date_bin ---------------------------------------------------------------------

fn truncation(registry: &mut Registry) {
    let mut d = immutable(registry);
    d.strict("date_trunc(text, timestamp) timestamp", |_, args| {
        extract::trunc_timestamp(text(args, 0)?, timestamp(args, 1)?).map(Datum::Timestamp)
    });
    d.strict("date_trunc(text, interval) interval", |_, args| {
        extract::trunc_interval(text(args, 0)?, &interval(args, 1)?).map(Datum::Interval)
    });
    d.strict(
        "date_bin(interval, timestamp, timestamp) timestamp",
        |_, args| {
            rules::date_bin(
                &interval(args, 0)?,
                timestamp(args, 1)?,
                timestamp(args, 2)?,
            )
            .map(Datum::Timestamp)
        },
    );
    d.strict(
        "date_bin(interval, timestamptz, timestamptz) timestamptz",
        |_, args| {
            rules::date_bin(
                &interval(args, 0)?,
                timestamptz(args, 1)?,
                timestamptz(args, 2)?,
            )
            .map(Datum::TimestampTz)
        },
    );
    let mut d = stable(registry);
    d.strict(
        "date_trunc(text, timestamptz) timestamptz",
        |context, args| {
            let micros = timestamptz(args, 1)?;
            extract::trunc_timestamptz(text(args, 0)?, micros, &zone(context))
                .map(Datum::TimestampTz)
        },
    );
    d.strict(
        "date_trunc(text, timestamptz, text) timestamptz",
        |_, args| {
            let zone = TimeZone::parse(text(args, 2)?)?;
            extract::trunc_timestamptz(text(args, 0)?, timestamptz(args, 1)?, &zone)
                .map(Datum::TimestampTz)
        },
    );
}

// ---- make_* -----------------------------------------------------------------------------------

fn made_timestamp(args: &[Datum]) -> Result<i64> {
    let day = (int4(args, 0)?, int4(args, 1)?, int4(args, 2)?);
    let time = (int4(args, 3)?, int4(args, 4)?, float8(args, 5)?);
    rules::make_timestamp(day, time)
}

/// The interval of the arguments given; those left out are zero.
fn made_interval(args: &[Datum]) -> Result<Datum> {
    let at = |i: usize| {
        if i < args.len() { int4(args, i) } else { Ok(0) }
    };
    let seconds = if args.len() > 6 {
        float8(args, 6)?
    } else {
        0.0
    };
    rules::make_interval(
        (at(0)?, at(1)?),
        (at(2)?, at(3)?),
        (at(4)?, at(5)?, seconds),
    )
    .map(Datum::Interval)
}

fn construction(registry: &mut Registry) {
    let mut d = immutable(registry);
    d.strict("make_date(int4, int4, int4) date", |_, args| {
        rules::make_date(int4(args, 0)?, int4(args, 1)?, int4(args, 2)?).map(Datum::Date)
    });
    d.strict("make_time(int4, int4, float8) time", |_, args| {
        rules::make_time(int4(args, 0)?, int4(args, 1)?, float8(args, 2)?).map(Datum::Time)
    });
    d.strict(
        "make_timestamp(int4, int4, int4, int4, int4, float8) timestamp",
        |_, args| made_timestamp(args).map(Datum::Timestamp),
    );
    for signature in [
        "make_interval() interval",
        "make_interval(int4) interval",
        "make_interval(int4, int4) interval",
        "make_interval(int4, int4, int4) interval",
        "make_interval(int4, int4, int4, int4) interval",
        "make_interval(int4, int4, int4, int4, int4) interval",
        "make_interval(int4, int4, int4, int4, int4, int4) interval",
        "make_interval(int4, int4, int4, int4, int4, int4, float8) interval",
    ] {
        d.strict(signature, |_, args| made_interval(args));
    }
    d.strict("to_timestamp(float8) timestamptz", |_, args| {
        rules::timestamp_from_epoch(float8(args, 0)?).map(Datum::TimestampTz)
    });
    for (signature, evaluate) in FINITE {
        d.strict(signature, *evaluate);
    }
    let mut d = stable(registry);
    d.strict(
        "make_timestamptz(int4, int4, int4, int4, int4, float8) timestamptz",
        |context, args| instant(zone(context).to_utc(made_timestamp(args)?)),
    );
    d.strict(
        "make_timestamptz(int4, int4, int4, int4, int4, float8, text) timestamptz",
        |_, args| {
            let zone = TimeZone::parse(text(args, 6)?)?;
            instant(zone.to_utc(made_timestamp(args)?))
        },
    );
}

const FINITE: &[(&str, super::Evaluate)] = &[
    ("isfinite(date) bool", |_, args| {
        Ok(Datum::Bool(date_is_finite(date(args, 0)?)))
    }),
    ("isfinite(timestamp) bool", |_, args| {
        Ok(Datum::Bool(timestamp_is_finite(timestamp(args, 0)?)))
    }),
    ("isfinite(timestamptz) bool", |_, args| {
        Ok(Datum::Bool(timestamp_is_finite(timestamptz(args, 0)?)))
    }),
    ("isfinite(interval) bool", |_, _| Ok(Datum::Bool(true))),
];

// ---- age --------------------------------------------------------------------------------------

fn ages(registry: &mut Registry) {
    let mut d = immutable(registry);
    d.strict("age(timestamp, timestamp) interval", |_, args| {
        rules::age(timestamp(args, 0)?, timestamp(args, 1)?).map(Datum::Interval)
    });
    let mut d = stable(registry);
    d.strict("age(timestamp) interval", |context, args| {
        let today = local_now(context).div_euclid(MICROS_PER_DAY) * MICROS_PER_DAY;
        rules::age(today, timestamp(args, 0)?).map(Datum::Interval)
    });
    d.strict("age(timestamptz, timestamptz) interval", |context, args| {
        let zone = zone(context);
        let local = |micros: i64| {
            if timestamp_is_finite(micros) {
                zone.to_local(micros)
            } else {
                micros
            }
        };
        rules::age(local(timestamptz(args, 0)?), local(timestamptz(args, 1)?)).map(Datum::Interval)
    });
    d.strict("age(timestamptz) interval", |context, args| {
        let today = local_now(context).div_euclid(MICROS_PER_DAY) * MICROS_PER_DAY;
        let micros = timestamptz(args, 0)?;
        let local = if timestamp_is_finite(micros) {
            zone(context).to_local(micros)
        } else {
            micros
        };
        rules::age(today, local).map(Datum::Interval)
    });
}

fn intervals(registry: &mut Registry) {
    let mut d = immutable(registry);
    d.strict("justify_hours(interval) interval", |_, args| {
        interval(args, 0)?.justify_hours().map(Datum::Interval)
    });
    d.strict("justify_days(interval) interval", |_, args| {
        interval(args, 0)?.justify_days().map(Datum::Interval)
    });
    d.strict("justify_interval(interval) interval", |_, args| {
        interval(args, 0)?.justify_interval().map(Datum::Interval)
    });
}

// ---- AT TIME ZONE -----------------------------------------------------------------------------

/// A zone given as an interval: its offset east.
fn interval_zone(offset: &Interval) -> Result<TimeZone> {
    if offset.months != 0 || offset.days != 0 {
        return Err(invalid(format!(
            "interval time zone \"{offset}\" must not include months or days"
        )));
    }
    let seconds = offset.micros / datetime::MICROS_PER_SECOND;
    i32::try_from(seconds)
        .ok()
        .filter(|s| s.abs() <= types::timezone::MAX_OFFSET_SECONDS)
        .map(TimeZone::Fixed)
        .ok_or_else(|| {
            Error::new(
                SqlState::INVALID_PARAMETER_VALUE,
                format!("time zone \"{offset}\" not recognized"),
            )
        })
}

fn in_zone(micros: i64, zone: &TimeZone) -> Datum {
    if timestamp_is_finite(micros) {
        Datum::Timestamp(zone.to_local(micros))
    } else {
        Datum::Timestamp(micros)
    }
}

fn from_zone(micros: i64, zone: &TimeZone) -> Datum {
    if timestamp_is_finite(micros) {
        Datum::TimestampTz(zone.to_utc(micros))
    } else {
        Datum::TimestampTz(micros)
    }
}

fn zones(registry: &mut Registry) {
    let mut d = immutable(registry);
    d.strict("timezone(text, timestamptz) timestamp", |_, args| {
        Ok(in_zone(
            timestamptz(args, 1)?,
            &TimeZone::parse(text(args, 0)?)?,
        ))
    });
    d.strict("timezone(text, timestamp) timestamptz", |_, args| {
        Ok(from_zone(
            timestamp(args, 1)?,
            &TimeZone::parse(text(args, 0)?)?,
        ))
    });
    d.strict("timezone(interval, timestamptz) timestamp", |_, args| {
        Ok(in_zone(
            timestamptz(args, 1)?,
            &interval_zone(&interval(args, 0)?)?,
        ))
    });
    d.strict("timezone(interval, timestamp) timestamptz", |_, args| {
        Ok(from_zone(
            timestamp(args, 1)?,
            &interval_zone(&interval(args, 0)?)?,
        ))
    });
    let mut d = stable(registry);
    d.strict("timezone(timestamptz) timestamp", |context, args| {
        Ok(in_zone(timestamptz(args, 0)?, &zone(context)))
    });
    d.strict("timezone(timestamp) timestamptz", |context, args| {
        Ok(from_zone(timestamp(args, 0)?, &zone(context)))
    });
    d.strict(
        "date_add(timestamptz, interval) timestamptz",
        |context, args| {
            rules::timestamptz_plus_interval(
                timestamptz(args, 0)?,
                &interval(args, 1)?,
                &zone(context),
            )
            .map(Datum::TimestampTz)
        },
    );
    d.strict(
        "date_subtract(timestamptz, interval) timestamptz",
        |context, args| {
            rules::timestamptz_minus_interval(
                timestamptz(args, 0)?,
                &interval(args, 1)?,
                &zone(context),
            )
            .map(Datum::TimestampTz)
        },
    );
}
