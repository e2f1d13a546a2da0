//! `to_char` and its inverses, over the templates of [`types::to_char`] and its neighbours.

use super::define::*;
use super::{Registry, Volatility};
use types::{Datum, Numeric, Result, SqlType, from_char, to_char, to_char_number};

/// Significant digits of a float in `to_char`.
const FLOAT8_DIGITS: usize = 15;
const FLOAT4_DIGITS: usize = 6;

pub(super) fn register(registry: &mut Registry) {
    let mut d = Definitions::new(registry, Volatility::Stable);
    d.strict("to_char(timestamptz, text) text", |context, args| {
        let (micros, template) = (timestamptz(args, 0)?, text(args, 1)?);
        optional(to_char::timestamptz_to_char(
            micros,
            template,
            &zone(context),
        ))
    });
    d.strict("to_char(timestamp, text) text", |_, args| {
        optional(to_char::timestamp_to_char(
            timestamp(args, 0)?,
            text(args, 1)?,
        ))
    });
    d.strict("to_char(interval, text) text", |_, args| {
        text_datum(to_char::interval_to_char(
            &interval(args, 0)?,
            text(args, 1)?,
        )?)
    });
    for signature in [
        "to_char(int4, text) text",
        "to_char(int8, text) text",
        "to_char(numeric, text) text",
        "to_char(float4, text) text",
        "to_char(float8, text) text",
    ] {
        d.strict(signature, |_, args| number_to_char(args));
    }
    d.strict("to_date(text, text) date", |_, args| {
        from_char::to_date(text(args, 0)?, text(args, 1)?).map(Datum::Date)
    });
    d.strict("to_timestamp(text, text) timestamptz", |context, args| {
        from_char::to_timestamp(text(args, 0)?, text(args, 1)?, &zone(context))
            .map(Datum::TimestampTz)
    });
    d.strict("to_number(text, text) numeric", |_, args| {
        to_char_number::to_number(text(args, 0)?, text(args, 1)?).map(Datum::Numeric)
    });
}

fn optional(shown: Option<String>) -> Result<Datum> {
    Ok(shown.map_or(Datum::Null, |shown| Datum::Text(shown.into())))
}

fn number_to_char(args: &[Datum]) -> Result<Datum> {
    let value = match args.first() {
        Some(Datum::Numeric(value)) => value.clone(),
        Some(Datum::Float8(value)) => Numeric::from_f64(*value, FLOAT8_DIGITS),
        Some(Datum::Float4(value)) => Numeric::from_f64(f64::from(*value), FLOAT4_DIGITS),
        Some(other) => match other.as_i64() {
            Some(value) => Numeric::from(value),
            None => return Err(super::arithmetic::wrong_arguments(&SqlType::Text.name())),
        },
        None => return Ok(Datum::Null),
    };
    text_datum(to_char_number::number_to_char(&value, text(args, 1)?)?)
}
