//! The text form of values: what a client types and sees.
//!
//! Reading reports PostgreSQL's own errors; writing appends to a buffer and allocates nothing for
//! the common types.

use crate::datetime_parse::{DateOrder, ParseContext};
use crate::numeric::is_sql_space;
use crate::timezone::TimeZone;
use crate::{Datum, Error, Numeric, Result, SqlState, SqlType};
use crate::{array_text, datetime, datetime_parse, interval_parse, json};
use bytes::Bytes;
use std::sync::Arc;

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

/// 22P02 `invalid input syntax for type integer: "x"`.
pub(crate) fn invalid_syntax(type_name: &str, text: &str) -> Error {
    Error::new(
        SqlState::INVALID_TEXT_REPRESENTATION,
        format!("invalid input syntax for type {type_name}: \"{text}\""),
    )
}

fn out_of_range(type_name: &str, text: &str) -> Error {
    Error::new(
        SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
        format!("value \"{text}\" is out of range for type {type_name}"),
    )
}

/// Why an integer's text was refused.
enum IntegerRefusal {
    Syntax,
    Range,
}

fn parse_integer(text: &str) -> Result<i64, IntegerRefusal> {
    let trimmed = text.trim_matches(is_sql_space).as_bytes();
    let (negative, digits) = match trimmed {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(IntegerRefusal::Syntax);
    }
    // Negative numbers reach one further: build them downwards.
    let mut value = 0i64;
    for digit in digits {
        let d = i64::from(digit - b'0');
        value = value
            .checked_mul(10)
            .and_then(|v| v.checked_sub(d))
            .ok_or(IntegerRefusal::Range)?;
    }
    if negative {
        Ok(value)
    } else {
        value.checked_neg().ok_or(IntegerRefusal::Range)
    }
}

fn read_integer<T: TryFrom<i64>>(text: &str, type_name: &str) -> Result<T> {
    match parse_integer(text) {
        Ok(wide) => T::try_from(wide).map_err(|_| out_of_range(type_name, text)),
        Err(IntegerRefusal::Range) => Err(out_of_range(type_name, text)),
        Err(IntegerRefusal::Syntax) => Err(invalid_syntax(type_name, text)),
    }
}

fn read_oid(text: &str) -> Result<u32> {
    match parse_integer(text) {
        // Negative numbers wrap, as C's `strtoul` has them.
        Ok(wide) if wide >= i64::from(i32::MIN) && wide <= i64::from(u32::MAX) => Ok(wide as u32),
        Ok(_) | Err(IntegerRefusal::Range) => Err(out_of_range("oid", text)),
        Err(IntegerRefusal::Syntax) => Err(invalid_syntax("oid", text)),
    }
}

fn read_bool(text: &str) -> Result<bool> {
    let lower = text.trim_matches(is_sql_space).to_ascii_lowercase();
    // Any unambiguous prefix of the words will do.
    let starts = |word: &str| !lower.is_empty() && word.starts_with(&lower);
    if starts("true") || starts("yes") || lower == "on" || lower == "1" {
        Ok(true)
    } else if starts("false") || starts("no") || lower == "off" || lower == "of" || lower == "0" {
        Ok(false)
    } else {
        Err(invalid_syntax("boolean", text))
    }
}

/// A float's special words, in any case; `None` leaves it to the number parser.
fn float_word(trimmed: &str) -> Option<f64> {
    let (negative, body) = match trimmed.as_bytes().first()? {
        b'-' => (true, &trimmed[1..]),
        b'+' => (false, &trimmed[1..]),
        _ => (false, trimmed),
    };
    if body.eq_ignore_ascii_case("infinity") || body.eq_ignore_ascii_case("inf") {
        return Some(if negative {
            f64::NEG_INFINITY
        } else {
            f64::INFINITY
        });
    }
    trimmed.eq_ignore_ascii_case("nan").then_some(f64::NAN)
}

/// The syntax that `strtod` takes, less hexadecimals.
fn is_float_syntax(trimmed: &str) -> bool {
    trimmed
        .bytes()
        .all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E'))
        && trimmed.bytes().any(|b| b.is_ascii_digit())
}

fn float_overflow(type_name: &str, text: &str) -> Error {
    Error::new(
        SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
        format!("\"{text}\" is out of range for type {type_name}"),
    )
}

fn has_nonzero_digit(trimmed: &str) -> bool {
    trimmed
        .split(['e', 'E'])
        .next()
        .is_some_and(|mantissa| mantissa.bytes().any(|b| (b'1'..=b'9').contains(&b)))
}

fn read_f64(text: &str) -> Result<f64> {
    const NAME: &str = "double precision";
    let trimmed = text.trim_matches(is_sql_space);
    if let Some(word) = float_word(trimmed) {
        return Ok(word);
    }
    if !is_float_syntax(trimmed) {
        return Err(invalid_syntax(NAME, text));
    }
    let value: f64 = trimmed.parse().map_err(|_| invalid_syntax(NAME, text))?;
    if value.is_infinite() || (value == 0.0 && has_nonzero_digit(trimmed)) {
        return Err(float_overflow(NAME, trimmed));
    }
    Ok(value)
}

fn read_f32(text: &str) -> Result<f32> {
    const NAME: &str = "real";
    let trimmed = text.trim_matches(is_sql_space);
    if let Some(word) = float_word(trimmed) {
        return Ok(word as f32);
    }
    if !is_float_syntax(trimmed) {
        return Err(invalid_syntax(NAME, text));
    }
    let value: f32 = trimmed.parse().map_err(|_| invalid_syntax(NAME, text))?;
    if value.is_infinite() || (value == 0.0 && has_nonzero_digit(trimmed)) {
        return Err(float_overflow(NAME, trimmed));
    }
    Ok(value)
}

fn read_uuid(text: &str) -> Result<[u8; 16]> {
    let refuse = || invalid_syntax("uuid", text);
    let body = match text.strip_prefix('{') {
        Some(rest) => rest.strip_suffix('}').ok_or_else(refuse)?,
        None => text,
    };
    let mut out = [0u8; 16];
    let mut nibbles = 0;
    let bytes = body.as_bytes();
    for (i, &byte) in bytes.iter().enumerate() {
        if byte == b'-' {
            // A hyphen may follow any group of four digits, but not end the text.
            let misplaced = nibbles == 0 || nibbles % 4 != 0 || i + 1 == bytes.len();
            if misplaced || bytes[i - 1] == b'-' {
                return Err(refuse());
            }
            continue;
        }
        let nibble = char::from(byte).to_digit(16).ok_or_else(refuse)? as u8;
        if nibbles == 32 {
            return Err(refuse());
        }
        out[nibbles / 2] = (out[nibbles / 2] << 4) | nibble;
        nibbles += 1;
    }
    if nibbles != 32 {
        return Err(refuse());
    }
    Ok(out)
}

/// Reads both input forms of `bytea`: `\x` and hex digits, or octal escapes.
pub fn read_bytea(text: &str) -> Result<Vec<u8>> {
    if let Some(hex) = text.strip_prefix("\\x") {
        return read_hex(hex);
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        if bytes[i] != b'\\' {
            out.push(bytes[i]);
            i += 1;
            continue;
        }
        match &bytes[i + 1..] {
            [b'\\', ..] => {
                out.push(b'\\');
                i += 2;
            }
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] => {
                out.push(((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'));
                i += 4;
            }
            _ => {
                return Err(Error::new(
                    SqlState::INVALID_TEXT_REPRESENTATION,
                    "invalid input syntax for type bytea",
                ));
            }
        }
    }
    Ok(out)
}

fn read_hex(hex: &str) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(hex.len() / 2);
    let mut chars = hex.chars().filter(|c| !is_sql_space(*c));
    let digit = |c: char| {
        c.to_digit(16).ok_or_else(|| {
            Error::new(
                SqlState::INVALID_PARAMETER_VALUE,
                format!("invalid hexadecimal digit: \"{c}\""),
            )
        })
    };
    while let Some(high) = chars.next() {
        let high = digit(high)?;
        let low = chars.next().ok_or_else(|| {
            Error::new(
                SqlState::INVALID_PARAMETER_VALUE,
                "invalid hexadecimal data: odd number of digits",
            )
        })?;
        out.push((high * 16 + digit(low)?) as u8);
    }
    Ok(out)
}

/// Fits text into `varchar(n)`: blanks beyond the length are cut, other characters are 22001. With
/// `cut`, as an explicit cast has it, anything beyond is cut.
pub fn fit_varchar(text: &str, limit: Option<u32>, cut: bool) -> Result<&str> {
    let Some(limit) = limit else { return Ok(text) };
    let limit = limit as usize;
    if text.len() <= limit {
        return Ok(text);
    }
    let Some((end, _)) = text.char_indices().nth(limit) else {
        return Ok(text);
    };
    if !cut && text[end..].bytes().any(|b| b != b' ') {
        return Err(Error::new(
            SqlState::STRING_DATA_RIGHT_TRUNCATION,
            format!("value too long for type character varying({limit})"),
        ));
    }
    Ok(&text[..end])
}

/// Fits text into `char(n)`: as [`fit_varchar`], then padded with blanks to n characters.
pub fn fit_char(text: &str, limit: u32, cut: bool) -> Result<Arc<str>> {
    if limit == 0 {
        return Ok(text.into());
    }
    let kept = fit_varchar(text, Some(limit), cut).map_err(|e| {
        Error::new(
            e.state,
            format!("value too long for type character({limit})"),
        )
    })?;
    let chars = kept.chars().count();
    let missing = (limit as usize).saturating_sub(chars);
    if missing == 0 {
        return Ok(kept.into());
    }
    let mut padded = String::with_capacity(kept.len() + missing);
    padded.push_str(kept);
    padded.extend(std::iter::repeat_n(' ', missing));
    Ok(padded.into())
}

/// Cuts an identifier to its limit at a character's boundary.
pub fn fit_name(text: &str) -> &str {
    if text.len() <= MAX_NAME_BYTES {
        return text;
    }
    let mut end = MAX_NAME_BYTES;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// The first byte, as `"char"` keeps it; a multi-byte character is kept whole.
pub(crate) fn fit_internal_char(text: &str) -> &str {
    let end = text.chars().next().map_or(0, char::len_utf8);
    &text[..end]
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

const HEX: &[u8; 16] = b"0123456789abcdef";

fn write_bytea_hex(bytes: &[u8], out: &mut Vec<u8>) {
    out.reserve(2 + bytes.len() * 2);
    out.extend_from_slice(b"\\x");
    for byte in bytes {
        out.push(HEX[usize::from(byte >> 4)]);
        out.push(HEX[usize::from(byte & 15)]);
    }
}

fn write_bytea_escape(bytes: &[u8], out: &mut Vec<u8>) {
    for &byte in bytes {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            0x20..=0x7e => out.push(byte),
            _ => out.extend_from_slice(&[
                b'\\',
                b'0' + (byte >> 6),
                b'0' + (byte >> 3 & 7),
                b'0' + (byte & 7),
            ]),
        }
    }
}

pub(crate) fn write_uuid(bytes: &[u8; 16], out: &mut Vec<u8>) {
    for (i, byte) in bytes.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        out.push(HEX[usize::from(byte >> 4)]);
        out.push(HEX[usize::from(byte & 15)]);
    }
}

/// Decimal exponents from which on PostgreSQL writes `1e+15` and below which `1e-05`.
const PLAIN_EXPONENTS: std::ops::Range<i32> = -4..15;
const PLAIN_EXPONENTS_F32: std::ops::Range<i32> = -4..6;

/// Appends a float as PostgreSQL prints it: the shortest digits that read back the same.
pub fn write_f64(value: f64, out: &mut Vec<u8>) {
    if !value.is_finite() {
        return write_non_finite(value, out);
    }
    write_shortest(
        ryu::Buffer::new().format_finite(value),
        PLAIN_EXPONENTS,
        out,
    );
}

pub fn write_f32(value: f32, out: &mut Vec<u8>) {
    if !value.is_finite() {
        return write_non_finite(f64::from(value), out);
    }
    write_shortest(
        ryu::Buffer::new().format_finite(value),
        PLAIN_EXPONENTS_F32,
        out,
    );
}

fn write_non_finite(value: f64, out: &mut Vec<u8>) {
    out.extend_from_slice(if value.is_nan() {
        b"NaN"
    } else if value > 0.0 {
        b"Infinity"
    } else {
        b"-Infinity"
    });
}

/// Turns the shortest digits in any layout (`1.5`, `1e20`, `1.5e-7`) into PostgreSQL's layout.
fn write_shortest(shortest: &str, plain: std::ops::Range<i32>, out: &mut Vec<u8>) {
    let unsigned = match shortest.strip_prefix('-') {
        Some(rest) => {
            out.push(b'-');
            rest
        }
        None => shortest,
    };
    let (mantissa, exponent) = unsigned.split_once('e').unwrap_or((unsigned, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    // Shortest doubles have 17 digits; the plain layouts add zeros that are not digits.
    let mut digits = [0u8; 40];
    let mut len = 0;
    for byte in whole.bytes().chain(fraction.bytes()) {
        if len < digits.len() {
            digits[len] = byte;
            len += 1;
        }
    }
    let leading = digits[..len].iter().take_while(|d| **d == b'0').count();
    if leading == len {
        return out.push(b'0');
    }
    let end = len
        - digits[..len]
            .iter()
            .rev()
            .take_while(|d| **d == b'0')
            .count();
    let significant = &digits[leading..end];
    let exponent = exponent.parse::<i32>().unwrap_or(0) + whole.len() as i32 - 1 - leading as i32;
    if !plain.contains(&exponent) {
        out.push(significant[0]);
        if significant.len() > 1 {
            out.push(b'.');
            out.extend_from_slice(&significant[1..]);
        }
        out.push(b'e');
        out.push(if exponent < 0 { b'-' } else { b'+' });
        let magnitude = exponent.unsigned_abs();
        if magnitude < 10 {
            out.push(b'0');
        }
        out.extend_from_slice(itoa::Buffer::new().format(magnitude).as_bytes());
    } else if exponent < 0 {
        out.extend_from_slice(b"0.");
        out.resize(out.len() + (-exponent - 1) as usize, b'0');
        out.extend_from_slice(significant);
    } else {
        let point = exponent as usize + 1;
        if significant.len() <= point {
            out.extend_from_slice(significant);
            out.resize(out.len() + point - significant.len(), b'0');
        } else {
            out.extend_from_slice(&significant[..point]);
            out.push(b'.');
            out.extend_from_slice(&significant[point..]);
        }
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
