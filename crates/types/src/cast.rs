//! Casts between types: which are allowed where, and what they do.
//!
//! The table follows `pg_cast`: an *implicit* cast happens anywhere, an *assignment* cast when a value
//! is stored, an *explicit* cast only when it is written. Besides the table any type can be assigned
//! to a text type, and text can be cast explicitly to any type, both through the text form.

use crate::datetime::*;
use crate::interval::MICROS_PER_DAY;
use crate::text::{FormatContext, fit_char, fit_internal_char, fit_name, fit_varchar};
use crate::{Array, Datum, Error, Jsonb, Numeric, Result, SqlState, SqlType, json};
use std::sync::Arc;

/// Where a cast may happen. Ordered: what is allowed implicitly is allowed everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CastContext {
    Implicit,
    Assignment,
    Explicit,
}

/// Significant decimal digits that every double, or float, keeps.
const FLOAT8_DIGITS: usize = 15;
const FLOAT4_DIGITS: usize = 6;

/// The least explicit context in which `from` can be cast to `to`; `None` if there is no cast.
pub fn can_cast(from: &SqlType, to: &SqlType) -> Option<CastContext> {
    use CastContext::*;
    use SqlType as T;
    if from.same_base(to) || matches!(from, T::Unknown) {
        return Some(Implicit);
    }
    if matches!(to, T::Void | T::Record | T::Unknown) || matches!(from, T::Void) {
        return None;
    }
    if let Some(context) = number_cast(from, to) {
        return Some(context);
    }
    let text_like = |t: &T| matches!(t, T::Text | T::Varchar(_) | T::Char(_));
    let context = match (from, to) {
        (T::Bool, T::Int4) | (T::Int4, T::Bool) => Explicit,
        (T::Int4, T::InternalChar) | (T::InternalChar, T::Int4) => Explicit,
        (T::InternalChar, T::Text) | (T::Name, T::Text) => Implicit,
        (a, b) if text_like(a) && text_like(b) => Implicit,
        (a, T::Name) if text_like(a) => Implicit,
        (a, T::InternalChar) if text_like(a) => Assignment,
        (T::Text | T::Varchar(_), T::Regclass) => Implicit,
        (T::Date, T::Timestamp | T::TimestampTz) | (T::Timestamp, T::TimestampTz) => Implicit,
        (T::TimestampTz, T::Timestamp) => Assignment,
        (T::Timestamp | T::TimestampTz, T::Date | T::Time) => Assignment,
        (T::Time, T::Interval) => Implicit,
        (T::Interval, T::Time) => Assignment,
        (T::Json, T::Jsonb) | (T::Jsonb, T::Json) => Assignment,
        (T::Jsonb, T::Bool) => Explicit,
        (T::Jsonb, t) if t.is_numeric() => Explicit,
        (T::Int2Vector, T::Array(e)) if **e == T::Int2 => Implicit,
        (T::OidVector, T::Array(e)) if **e == T::Oid => Implicit,
        (T::Array(a), T::Array(b)) => return can_cast(a, b),
        (_, b) if b.is_string() => Assignment,
        (a, _) if a.is_string() => Explicit,
        _ => return None,
    };
    Some(context)
}

/// The casts among numbers and object ids.
fn number_cast(from: &SqlType, to: &SqlType) -> Option<CastContext> {
    use CastContext::*;
    let rank = |t: &SqlType| match t {
        SqlType::Int2 => Some(0),
        SqlType::Int4 => Some(1),
        SqlType::Int8 => Some(2),
        SqlType::Numeric(_) => Some(3),
        SqlType::Float4 => Some(4),
        SqlType::Float8 => Some(5),
        _ => None,
    };
    match (rank(from), rank(to)) {
        (Some(a), Some(b)) => Some(if a < b { Implicit } else { Assignment }),
        (Some(_), None) if from.is_integer() && to.is_oid() => Some(Implicit),
        (None, Some(_)) if from.is_oid() && matches!(to, SqlType::Int4 | SqlType::Int8) => {
            Some(Assignment)
        }
        _ if from.is_oid() && to.is_oid() => {
            let plain = matches!(from, SqlType::Oid) || matches!(to, SqlType::Oid);
            plain.then_some(Implicit)
        }
        _ => None,
    }
}

fn cannot(from: &SqlType, to: &SqlType) -> Error {
    Error::new(
        SqlState::CANNOT_COERCE,
        format!(
            "cannot cast type {} to {}",
            from.bare_name(),
            to.bare_name()
        ),
    )
}

fn out_of_range(type_name: &str) -> Error {
    Error::new(
        SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
        format!("{type_name} out of range"),
    )
}

/// Casts a value of type `from` to `to`. NULL stays NULL. 42846 if there is no such cast in
/// `context`; 22003 and its kin if the value does not fit.
pub fn cast(
    datum: Datum,
    from: &SqlType,
    to: &SqlType,
    context: CastContext,
    ctx: &FormatContext,
) -> Result<Datum> {
    if can_cast(from, to).is_none_or(|needed| needed > context) {
        return Err(cannot(from, to));
    }
    cast_value(datum, from, to, context, ctx)
}

fn cast_value(
    datum: Datum,
    from: &SqlType,
    to: &SqlType,
    context: CastContext,
    ctx: &FormatContext,
) -> Result<Datum> {
    if datum.is_null() {
        return Ok(Datum::Null);
    }
    if from == to {
        return Ok(datum);
    }
    if to.is_string() {
        return to_string_type(datum, from, to, context, ctx);
    }
    match (&datum, to) {
        (Datum::Text(text), SqlType::Int4) if *from == SqlType::InternalChar => Ok(Datum::Int4(
            i32::from(text.as_bytes().first().copied().unwrap_or(0) as i8),
        )),
        (Datum::Text(text), _) => {
            // Blank padding is no part of a char(n)'s value.
            let text = match from {
                SqlType::Char(_) => text.trim_end_matches(' '),
                _ => text,
            };
            Datum::parse_text(text, to, ctx)
        }
        (Datum::Jsonb(value), _) => from_jsonb(value, datum_target(to), to, ctx),
        (Datum::Json(text), SqlType::Jsonb) => Ok(Datum::Jsonb(json::parse(text)?)),
        (Datum::Array(array), _) => cast_array(array, to, context, ctx),
        (Datum::Bool(v), SqlType::Int4) => Ok(Datum::Int4(i32::from(*v))),
        (Datum::Int4(v), SqlType::Bool) => Ok(Datum::Bool(*v != 0)),
        (Datum::Oid(v), SqlType::Int8) => Ok(Datum::Int8(i64::from(*v))),
        (Datum::Oid(v), SqlType::Int4) => Ok(Datum::Int4(*v as i32)),
        (Datum::Oid(_), t) if t.is_oid() => Ok(datum),
        (Datum::Int2(_) | Datum::Int4(_) | Datum::Int8(_), t) if t.is_oid() => to_oid(&datum),
        (
            Datum::Int2(_)
            | Datum::Int4(_)
            | Datum::Int8(_)
            | Datum::Float4(_)
            | Datum::Float8(_)
            | Datum::Numeric(_),
            _,
        ) => cast_number(&datum, to).ok_or_else(|| cannot(from, to))?,
        (
            Datum::Date(_)
            | Datum::Time(_)
            | Datum::Timestamp(_)
            | Datum::TimestampTz(_)
            | Datum::Interval(_),
            _,
        ) => cast_time(&datum, to, ctx).ok_or_else(|| cannot(from, to))?,
        _ if from.same_base(to) => Ok(datum),
        _ => Err(cannot(from, to)),
    }
}

fn to_string_type(
    datum: Datum,
    from: &SqlType,
    to: &SqlType,
    context: CastContext,
    ctx: &FormatContext,
) -> Result<Datum> {
    let text: Arc<str> = match datum {
        Datum::Text(text)
            if matches!(from, SqlType::Char(_)) && !matches!(to, SqlType::Char(_)) =>
        {
            let trimmed = text.trim_end_matches(' ');
            if trimmed.len() == text.len() {
                text
            } else {
                trimmed.into()
            }
        }
        Datum::Text(text) => text,
        Datum::Bool(v) if *to != SqlType::InternalChar => if v { "true" } else { "false" }.into(),
        Datum::Int4(v) if *to == SqlType::InternalChar => {
            let byte = i8::try_from(v).map_err(|_| out_of_range("\"char\""))? as u8;
            let text = char::from(byte & 0x7f).to_string();
            if byte == 0 { "".into() } else { text.into() }
        }
        other => other.to_text(from, ctx).into(),
    };
    let cut = context == CastContext::Explicit;
    Ok(Datum::Text(match to {
        SqlType::Varchar(limit) => {
            let kept = fit_varchar(&text, *limit, cut)?;
            if kept.len() == text.len() {
                text
            } else {
                kept.into()
            }
        }
        SqlType::Char(limit) => fit_char(&text, *limit, cut)?,
        SqlType::Name => fit_name(&text).into(),
        SqlType::InternalChar => fit_internal_char(&text).into(),
        _ => text,
    }))
}

fn to_oid(datum: &Datum) -> Result<Datum> {
    match datum {
        Datum::Int2(v) => Ok(Datum::Oid(i32::from(*v) as u32)),
        Datum::Int4(v) => Ok(Datum::Oid(*v as u32)),
        Datum::Int8(v) => u32::try_from(*v)
            .map(Datum::Oid)
            .map_err(|_| Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "OID out of range")),
        _ => Err(Error::internal("not an integer")),
    }
}

/// Casts among numbers; `None` if `to` is no number.
fn cast_number(datum: &Datum, to: &SqlType) -> Option<Result<Datum>> {
    Some(match to {
        SqlType::Int2 => to_int(datum, "smallint").and_then(|v| {
            i16::try_from(v)
                .map(Datum::Int2)
                .map_err(|_| out_of_range("smallint"))
        }),
        SqlType::Int4 => to_int(datum, "integer").and_then(|v| {
            i32::try_from(v)
                .map(Datum::Int4)
                .map_err(|_| out_of_range("integer"))
        }),
        SqlType::Int8 => to_int(datum, "bigint").map(Datum::Int8),
        SqlType::Float4 => to_f32(datum).map(Datum::Float4),
        SqlType::Float8 => Ok(Datum::Float8(match datum {
            Datum::Int2(v) => f64::from(*v),
            Datum::Int4(v) => f64::from(*v),
            Datum::Int8(v) => *v as f64,
            Datum::Float4(v) => f64::from(*v),
            Datum::Float8(v) => *v,
            Datum::Numeric(v) => {
                let float = v.to_f64();
                if float.is_infinite() && v.is_finite() {
                    return Some(Err(Error::new(
                        SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
                        format!("\"{v}\" is out of range for type double precision"),
                    )));
                }
                float
            }
            _ => return None,
        })),
        SqlType::Numeric(typmod) => {
            let value = match datum {
                Datum::Int2(v) => Numeric::from(i64::from(*v)),
                Datum::Int4(v) => Numeric::from(*v),
                Datum::Int8(v) => Numeric::from(*v),
                Datum::Float4(v) => Numeric::from_f64(f64::from(*v), FLOAT4_DIGITS),
                Datum::Float8(v) => Numeric::from_f64(*v, FLOAT8_DIGITS),
                Datum::Numeric(v) => v.clone(),
                _ => return None,
            };
            match typmod {
                Some((precision, scale)) => {
                    value.apply_typmod(*precision, *scale).map(Datum::Numeric)
                }
                None => Ok(Datum::Numeric(value)),
            }
        }
        _ => return None,
    })
}

/// Numerics round half away from zero, floats half to even.
fn to_int(datum: &Datum, type_name: &str) -> Result<i64> {
    match datum {
        Datum::Int2(v) => Ok(i64::from(*v)),
        Datum::Int4(v) => Ok(i64::from(*v)),
        Datum::Int8(v) => Ok(*v),
        Datum::Float4(v) => float_to_int(f64::from(*v), type_name),
        Datum::Float8(v) => float_to_int(*v, type_name),
        Datum::Numeric(v) if v.is_finite() => v.to_i64().ok_or_else(|| out_of_range(type_name)),
        Datum::Numeric(v) => Err(Error::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            format!(
                "cannot convert {} to {type_name}",
                if v.is_nan() { "NaN" } else { "infinity" }
            ),
        )),
        _ => Err(Error::internal("not a number")),
    }
}

fn float_to_int(value: f64, type_name: &str) -> Result<i64> {
    const TWO_TO_63: f64 = 9_223_372_036_854_775_808.0;
    let rounded = value.round_ties_even();
    // NaN is in no range.
    if (-TWO_TO_63..TWO_TO_63).contains(&rounded) {
        Ok(rounded as i64)
    } else {
        Err(out_of_range(type_name))
    }
}

fn to_f32(datum: &Datum) -> Result<f32> {
    let wide = match datum {
        Datum::Float4(v) => return Ok(*v),
        Datum::Int2(v) => return Ok(f32::from(*v)),
        Datum::Int4(v) => return Ok(*v as f32),
        Datum::Int8(v) => return Ok(*v as f32),
        Datum::Float8(v) => *v,
        Datum::Numeric(v) => v.to_f64(),
        _ => return Err(Error::internal("not a number")),
    };
    let narrow = wide as f32;
    let complaint = if narrow.is_infinite() && wide.is_finite() {
        "value out of range: overflow"
    } else if narrow == 0.0 && wide != 0.0 {
        "value out of range: underflow"
    } else {
        return Ok(narrow);
    };
    Err(Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, complaint))
}

/// Casts among dates and times; `None` if there is no such cast.
fn cast_time(datum: &Datum, to: &SqlType, ctx: &FormatContext) -> Option<Result<Datum>> {
    let zone = &ctx.time_zone;
    Some(match (datum, to) {
        (Datum::Date(v), SqlType::Timestamp) => date_to_timestamp(*v).map(Datum::Timestamp),
        (Datum::Date(v), SqlType::TimestampTz) => {
            date_to_timestamp(*v).map(|local| Datum::TimestampTz(zone.to_utc(local)))
        }
        (Datum::Timestamp(v), SqlType::TimestampTz) => Ok(Datum::TimestampTz(zone.to_utc(*v))),
        (Datum::TimestampTz(v), SqlType::Timestamp) => Ok(Datum::Timestamp(zone.to_local(*v))),
        (Datum::Timestamp(v), SqlType::Date) => Ok(Datum::Date(timestamp_to_date(*v))),
        (Datum::TimestampTz(v), SqlType::Date) => {
            Ok(Datum::Date(timestamp_to_date(zone.to_local(*v))))
        }
        (Datum::Timestamp(v), SqlType::Time) => Ok(time_of(*v)),
        (Datum::TimestampTz(v), SqlType::Time) => Ok(time_of(zone.to_local(*v))),
        (Datum::Time(v), SqlType::Interval) => Ok(Datum::Interval(crate::Interval::new(0, 0, *v))),
        (Datum::Interval(v), SqlType::Time) => Ok(Datum::Time(v.micros.rem_euclid(MICROS_PER_DAY))),
        (Datum::Date(_), SqlType::Date)
        | (Datum::Time(_), SqlType::Time)
        | (Datum::Timestamp(_), SqlType::Timestamp)
        | (Datum::TimestampTz(_), SqlType::TimestampTz)
        | (Datum::Interval(_), SqlType::Interval) => Ok(datum.clone()),
        _ => return None,
    })
}

/// The time of day; infinities have none.
fn time_of(local: i64) -> Datum {
    if timestamp_is_finite(local) {
        Datum::Time(local.rem_euclid(MICROS_PER_DAY))
    } else {
        Datum::Null
    }
}

/// How errors name the target of a cast from `jsonb`.
fn datum_target(to: &SqlType) -> String {
    to.bare_name()
}

fn from_jsonb(value: &Jsonb, target: String, to: &SqlType, ctx: &FormatContext) -> Result<Datum> {
    match (value, to) {
        (_, SqlType::Json) => {
            let text = Datum::Jsonb(value.clone()).to_text(&SqlType::Jsonb, ctx);
            Ok(Datum::Json(text.into()))
        }
        (_, SqlType::Jsonb) => Ok(Datum::Jsonb(value.clone())),
        (Jsonb::Bool(v), SqlType::Bool) => Ok(Datum::Bool(*v)),
        (Jsonb::Number(n), t) if t.is_numeric() => cast_number(&Datum::Numeric(n.clone()), t)
            .unwrap_or_else(|| Err(Error::internal("not a number"))),
        _ => {
            let kind = match value {
                Jsonb::Null => "null",
                Jsonb::Bool(_) => "boolean",
                Jsonb::Number(_) => "numeric",
                Jsonb::String(_) => "string",
                Jsonb::Array(_) => "array",
                Jsonb::Object(_) => "object",
            };
            Err(Error::new(
                SqlState::INVALID_PARAMETER_VALUE,
                format!("cannot cast jsonb {kind} to type {target}"),
            ))
        }
    }
}

fn cast_array(
    array: &Arc<Array>,
    to: &SqlType,
    context: CastContext,
    ctx: &FormatContext,
) -> Result<Datum> {
    let from = SqlType::array_of(array.element_type.clone());
    let element_type = to.element_type().ok_or_else(|| cannot(&from, to))?;
    if element_type == array.element_type {
        return Ok(Datum::Array(array.clone()));
    }
    let elements = array
        .elements
        .iter()
        .map(|e| cast_value(e.clone(), &array.element_type, &element_type, context, ctx))
        .collect::<Result<Vec<_>>>()?;
    Ok(Datum::Array(Arc::new(Array {
        element_type,
        dims: array.dims.clone(),
        elements,
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &str, from: &SqlType, to: &SqlType, context: CastContext) -> Result<String> {
        let ctx = FormatContext {
            time_zone: crate::TimeZone::parse("Europe/Berlin")?,
            ..FormatContext::default()
        };
        let datum = Datum::parse_text(text, from, &ctx)?;
        Ok(cast(datum, from, to, context, &ctx)?.to_text(to, &ctx))
    }

    #[test]
    fn explicit_casts() {
        use SqlType as T;
        for (text, from, to, shown) in [
            ("2.5", T::Numeric(None), T::Int4, "3"),
            ("-2.5", T::Numeric(None), T::Int4, "-3"),
            ("2.5", T::Float8, T::Int4, "2"),
            ("3.5", T::Float8, T::Int8, "4"),
            ("0.1", T::Float8, T::Numeric(None), "0.1"),
            ("1e20", T::Float8, T::Numeric(None), "100000000000000000000"),
            ("3.14159274", T::Float4, T::Numeric(None), "3.14159"),
            ("42", T::Int4, T::Text, "42"),
            ("t", T::Bool, T::Text, "true"),
            ("t", T::Bool, T::Int4, "1"),
            ("7", T::Int4, T::Bool, "t"),
            ("abcdef", T::Text, T::Varchar(Some(3)), "abc"),
            ("ab", T::Text, T::Char(4), "ab  "),
            ("ab", T::Char(4), T::Text, "ab"),
            (" 12 ", T::Text, T::Int4, "12"),
            (
                "2024-07-03 12:00:00",
                T::Timestamp,
                T::TimestampTz,
                "2024-07-03 12:00:00+02",
            ),
            (
                "2024-07-03 12:00:00+00",
                T::TimestampTz,
                T::Timestamp,
                "2024-07-03 14:00:00",
            ),
            (
                "2024-07-03 23:00:00+00",
                T::TimestampTz,
                T::Date,
                "2024-07-04",
            ),
            ("2024-07-03", T::Date, T::Timestamp, "2024-07-03 00:00:00"),
            ("2024-07-03 12:34:56", T::Timestamp, T::Time, "12:34:56"),
            ("25:00:00", T::Interval, T::Time, "01:00:00"),
            ("1.5", T::Jsonb, T::Numeric(None), "1.5"),
            ("1.5", T::Jsonb, T::Int4, "2"),
            ("true", T::Jsonb, T::Bool, "t"),
            ("{\"b\":1}", T::Json, T::Jsonb, "{\"b\": 1}"),
            (
                "{1.5,2}",
                T::array_of(T::Numeric(None)),
                T::array_of(T::Int4),
                "{2,2}",
            ),
            ("{1,2}", T::array_of(T::Int4), T::Text, "{1,2}"),
            ("{1,2}", T::Text, T::array_of(T::Int4), "{1,2}"),
            ("1.005", T::Numeric(None), T::Numeric(Some((5, 2))), "1.01"),
        ] {
            assert_eq!(
                run(text, &from, &to, CastContext::Explicit).as_deref(),
                Ok(shown),
                "{text}: {from} to {to}"
            );
        }
    }

    #[test]
    fn refusals() {
        use CastContext::*;
        use SqlType as T;
        for (text, from, to, context, state, message) in [
            (
                "40000",
                T::Int4,
                T::Int2,
                Explicit,
                SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
                "smallint out of range",
            ),
            (
                "1e10",
                T::Float8,
                T::Int4,
                Assignment,
                SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
                "integer out of range",
            ),
            (
                "NaN",
                T::Numeric(None),
                T::Int4,
                Explicit,
                SqlState::FEATURE_NOT_SUPPORTED,
                "cannot convert NaN to integer",
            ),
            (
                "abcd",
                T::Text,
                T::Varchar(Some(3)),
                Assignment,
                SqlState::STRING_DATA_RIGHT_TRUNCATION,
                "value too long for type character varying(3)",
            ),
            (
                "1",
                T::Text,
                T::Int4,
                Assignment,
                SqlState::CANNOT_COERCE,
                "cannot cast type text to integer",
            ),
            (
                "t",
                T::Bool,
                T::Date,
                Explicit,
                SqlState::CANNOT_COERCE,
                "cannot cast type boolean to date",
            ),
            (
                "\"a\"",
                T::Jsonb,
                T::Int4,
                Explicit,
                SqlState::INVALID_PARAMETER_VALUE,
                "cannot cast jsonb string to type integer",
            ),
        ] {
            let error = run(text, &from, &to, context).unwrap_err();
            assert_eq!((error.state, error.message.as_str()), (state, message));
        }
    }

    #[test]
    fn contexts() {
        use CastContext::*;
        use SqlType as T;
        for (from, to, expected) in [
            (T::Int4, T::Int8, Some(Implicit)),
            (T::Int8, T::Int4, Some(Assignment)),
            (T::Numeric(None), T::Float8, Some(Implicit)),
            (T::Float8, T::Numeric(None), Some(Assignment)),
            (T::Int4, T::Text, Some(Assignment)),
            (T::Text, T::Int4, Some(Explicit)),
            (T::Varchar(None), T::Text, Some(Implicit)),
            (T::Unknown, T::Date, Some(Implicit)),
            (T::Date, T::Int4, None),
            (T::Timestamp, T::Date, Some(Assignment)),
            (T::array_of(T::Int4), T::array_of(T::Int8), Some(Implicit)),
            (T::Int4, T::Regclass, Some(Implicit)),
            (T::Uuid, T::Int4, None),
        ] {
            assert_eq!(can_cast(&from, &to), expected, "{from} to {to}");
        }
    }
}
