//! The text form of values: what a client types and sees.
//!
//! Reading reports PostgreSQL's own errors; writing appends to a buffer and allocates nothing for
//! the common types.

use crate::datetime_parse::{DateOrder, ParseContext};
use crate::timezone::TimeZone;
use crate::{Datum, Error, Numeric, Result, SqlState, SqlType};
use crate::{array_text, datetime, datetime_parse, interval_parse, json};
use bytes::Bytes;
use read::*;
use std::sync::Arc;
use write::*;

mod fit;
mod read;
mod write;

pub(crate) use fit::fit_internal_char;
pub use fit::{fit_char, fit_name, fit_varchar};
pub(crate) use read::invalid_syntax;
pub use read::read_bytea;
pub(crate) use write::write_uuid;
pub use write::{write_f32, write_f64};

/// Bytes of an identifier, PostgreSQL's `NAMEDATALEN` less the terminator.
pub const MAX_NAME_BYTES: usize = 63;

/// What the text form depends on besides the value: a session's settings and its transaction's start.
#[derive(Clone, Debug, Default)]
pub struct FormatContext {
    pub time_zone: TimeZone,
    /// Microseconds since 1970: what `now` and `today` mean in input.
    pub now: i64,
    pub date_order: DateOrder,
    /// `bytea_output = escape`; hex otherwise.
    pub bytea_escape: bool,
    /// Names for `regclass` and its kin; without it they are written as numbers.
    pub object_names: Option<Arc<dyn ObjectNames>>,
}

/// Tells what an object id stands for.
pub trait ObjectNames: std::fmt::Debug + Send + Sync {
    /// The text of a value of `regclass`, `regtype` or another of these types.
    fn show(&self, oid: u32, sql_type: &SqlType) -> String;
}

impl FormatContext {
    fn parsing(&self) -> ParseContext<'_> {
        ParseContext {
            zone: &self.time_zone,
            now: self.now,
            order: self.date_order,
        }
    }
}

fn names_object(sql_type: &SqlType) -> bool {
    sql_type.is_oid() && *sql_type != SqlType::Oid
}

impl Datum {
    /// Reads a value's text form, its type modifier applied as in an assignment.
    pub fn parse_text(text: &str, sql_type: &SqlType, ctx: &FormatContext) -> Result<Datum> {
        Ok(match sql_type {
            SqlType::Bool => Datum::Bool(read_bool(text)?),
            SqlType::Int2 => Datum::Int2(read_integer(text, "smallint")?),
            SqlType::Int4 => Datum::Int4(read_integer(text, "integer")?),
            SqlType::Int8 => Datum::Int8(read_integer(text, "bigint")?),
            SqlType::Float4 => Datum::Float4(read_f32(text)?),
            SqlType::Float8 => Datum::Float8(read_f64(text)?),
            SqlType::Numeric(typmod) => {
                let value = Numeric::parse_sql(text)?;
                Datum::Numeric(match typmod {
                    Some((precision, scale)) => value.apply_typmod(*precision, *scale)?,
                    None => value,
                })
            }
            SqlType::Text | SqlType::Unknown => Datum::Text(text.into()),
            SqlType::Varchar(limit) => Datum::Text(fit_varchar(text, *limit, false)?.into()),
            SqlType::Char(limit) => Datum::Text(fit_char(text, *limit, false)?),
            SqlType::Name => Datum::Text(fit_name(text).into()),
            SqlType::InternalChar => Datum::Text(fit_internal_char(text).into()),
            SqlType::Bytea => Datum::Bytea(Bytes::from(read_bytea(text)?)),
            SqlType::Date => Datum::Date(datetime_parse::parse_date(text, ctx.parsing())?),
            SqlType::Time => Datum::Time(datetime_parse::parse_time(text, ctx.parsing())?),
            SqlType::Timestamp => {
                Datum::Timestamp(datetime_parse::parse_timestamp(text, ctx.parsing())?)
            }
            SqlType::TimestampTz => {
                Datum::TimestampTz(datetime_parse::parse_timestamptz(text, ctx.parsing())?)
            }
            SqlType::Interval => Datum::Interval(interval_parse::parse_interval(text)?),
            SqlType::Uuid => Datum::Uuid(read_uuid(text)?),
            SqlType::Json => {
                json::validate(text)?;
                Datum::Json(text.into())
            }
            SqlType::Jsonb => Datum::Jsonb(json::parse(text)?),
            t if t.is_oid() => Datum::Oid(read_oid(text)?),
            SqlType::Int2Vector | SqlType::OidVector => {
                Datum::Array(Arc::new(array_text::parse_vector(text, sql_type, ctx)?))
            }
            SqlType::Array(element) => {
                Datum::Array(Arc::new(array_text::parse_array(text, element, ctx)?))
            }
            _ => {
                return Err(Error::new(
                    SqlState::FEATURE_NOT_SUPPORTED,
                    format!("cannot accept a value of type {sql_type}"),
                ));
            }
        })
    }

    /// Appends the value's text form; nothing for NULL. The type matters for vectors and for object ids
    /// that are shown by name.
    pub fn write_text(&self, sql_type: &SqlType, ctx: &FormatContext, out: &mut Vec<u8>) {
        match self {
            Datum::Null => {}
            Datum::Text(v) | Datum::Json(v) => out.extend_from_slice(v.as_bytes()),
            Datum::Int4(v) => out.extend_from_slice(itoa::Buffer::new().format(*v).as_bytes()),
            Datum::Int8(v) => out.extend_from_slice(itoa::Buffer::new().format(*v).as_bytes()),
            Datum::Bool(v) => out.push(if *v { b't' } else { b'f' }),
            Datum::Int2(v) => out.extend_from_slice(itoa::Buffer::new().format(*v).as_bytes()),
            Datum::Oid(v) if names_object(sql_type) && ctx.object_names.is_some() => {
                if let Some(names) = &ctx.object_names {
                    out.extend_from_slice(names.show(*v, sql_type).as_bytes());
                }
            }
            Datum::Oid(v) => out.extend_from_slice(itoa::Buffer::new().format(*v).as_bytes()),
            Datum::Float4(v) => write_f32(*v, out),
            Datum::Float8(v) => write_f64(*v, out),
            Datum::Numeric(v) => v.write_to(out),
            Datum::Bytea(v) if ctx.bytea_escape => write_bytea_escape(v, out),
            Datum::Bytea(v) => write_bytea_hex(v, out),
            Datum::Date(v) => datetime::write_date(*v, out),
            Datum::Time(v) => datetime::write_time(*v, out),
            Datum::Timestamp(v) => datetime::write_timestamp(*v, out),
            Datum::TimestampTz(v) => datetime::write_timestamptz(*v, &ctx.time_zone, out),
            Datum::Interval(v) => v.write_to(out),
            Datum::Uuid(v) => write_uuid(v, out),
            Datum::Jsonb(v) => v.write_to(out),
            Datum::Array(v) => match sql_type {
                SqlType::Int2Vector | SqlType::OidVector => array_text::write_vector(v, ctx, out),
                _ => array_text::write_array(v, ctx, out),
            },
        }
    }

    /// The text form as a string; empty for NULL.
    pub fn to_text(&self, sql_type: &SqlType, ctx: &FormatContext) -> String {
        let mut out = Vec::new();
        self.write_text(sql_type, ctx, &mut out);
        String::from_utf8(out).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back(text: &str, sql_type: &SqlType) -> Result<String> {
        let ctx = FormatContext::default();
        Ok(Datum::parse_text(text, sql_type, &ctx)?.to_text(sql_type, &ctx))
    }

    #[test]
    fn values() {
        for (sql_type, text, shown) in [
            (SqlType::Bool, "yes", "t"),
            (SqlType::Bool, " F ", "f"),
            (SqlType::Int2, " -32768 ", "-32768"),
            (SqlType::Int4, "+42", "42"),
            (
                SqlType::Int8,
                "-9223372036854775808",
                "-9223372036854775808",
            ),
            (SqlType::Float8, "1e20", "1e+20"),
            (SqlType::Float8, "0.1", "0.1"),
            (SqlType::Float8, "100000000000000", "100000000000000"),
            (SqlType::Float8, "1000000000000000", "1e+15"),
            (SqlType::Float8, "0.0001", "0.0001"),
            (SqlType::Float8, "0.00001", "1e-05"),
            (SqlType::Float8, "1.5e300", "1.5e+300"),
            (SqlType::Float8, "-0", "-0"),
            (SqlType::Float8, "inf", "Infinity"),
            (SqlType::Float8, "123456.789", "123456.789"),
            (SqlType::Float4, "1000000", "1e+06"),
            (SqlType::Float4, "123456", "123456"),
            (SqlType::Float4, "3.14", "3.14"),
            (SqlType::Numeric(Some((5, 2))), "1.005", "1.01"),
            (SqlType::Numeric(None), "1.50", "1.50"),
            (SqlType::Varchar(Some(3)), "abc  ", "abc"),
            (SqlType::Char(4), "ab", "ab  "),
            (SqlType::Bytea, "\\xDEadbe", "\\xdeadbe"),
            (SqlType::Bytea, "a\\\\b\\001", "\\x615c6201"),
            (
                SqlType::Uuid,
                "{A0EEBC99-9C0B4EF8BB6D6BB9BD380A11}",
                "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            ),
            (SqlType::Time, "4:05 PM", "16:05:00"),
            (SqlType::Jsonb, "{\"b\":1,\"a\":2}", "{\"a\": 2, \"b\": 1}"),
            (SqlType::Json, "{\"b\":1,\"a\":2}", "{\"b\":1,\"a\":2}"),
            (SqlType::OidVector, "1 2", "1 2"),
        ] {
            assert_eq!(
                there_and_back(text, &sql_type).as_deref(),
                Ok(shown),
                "{sql_type} {text}"
            );
        }
    }

    #[test]
    fn errors() {
        for (sql_type, text, state, message) in [
            (
                SqlType::Int4,
                "x",
                SqlState::INVALID_TEXT_REPRESENTATION,
                "invalid input syntax for type integer: \"x\"",
            ),
            (
                SqlType::Int4,
                "2147483648",
                SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
                "value \"2147483648\" is out of range for type integer",
            ),
            (
                SqlType::Varchar(Some(3)),
                "abcd",
                SqlState::STRING_DATA_RIGHT_TRUNCATION,
                "value too long for type character varying(3)",
            ),
            (
                SqlType::Char(3),
                "abcd",
                SqlState::STRING_DATA_RIGHT_TRUNCATION,
                "value too long for type character(3)",
            ),
            (
                SqlType::Float8,
                "1e400",
                SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
                "\"1e400\" is out of range for type double precision",
            ),
            (
                SqlType::Numeric(Some((3, 1))),
                "123",
                SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
                "numeric field overflow",
            ),
            (
                SqlType::Bool,
                "maybe",
                SqlState::INVALID_TEXT_REPRESENTATION,
                "invalid input syntax for type boolean: \"maybe\"",
            ),
            (
                SqlType::Uuid,
                "1234",
                SqlState::INVALID_TEXT_REPRESENTATION,
                "invalid input syntax for type uuid: \"1234\"",
            ),
        ] {
            let error = there_and_back(text, &sql_type).unwrap_err();
            assert_eq!((error.state, error.message.as_str()), (state, message));
        }
    }
}
