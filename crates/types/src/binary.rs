//! The binary form of values on the wire, as PostgreSQL's `send` and `recv` functions have it.
//!
//! Everything is big-endian; dates and times count from 2000-01-01. Malformed input is 22P03 (or
//! 08P01 where the length itself is wrong), never a panic.

use crate::array::{Array, ArrayDim, ArrayDims, MAX_DIMENSIONS};
use crate::datetime::*;
use crate::numeric::{MAX_SCALE, big_pow10};
use crate::text::{fit_char, fit_internal_char, fit_name, fit_varchar};
use crate::{Datum, Error, Interval, Numeric, Result, SqlState, SqlType, json};
use bytes::Bytes;
use num_bigint::{BigInt, BigUint};
use std::sync::Arc;

/// The version byte before a `jsonb`'s text.
const JSONB_VERSION: u8 = 1;
const NUMERIC_POSITIVE: u16 = 0x0000;
const NUMERIC_NEGATIVE: u16 = 0x4000;
const NUMERIC_NAN: u16 = 0xC000;
const NUMERIC_INFINITY: u16 = 0xD000;
const NUMERIC_NEG_INFINITY: u16 = 0xF000;
/// Decimal digits of one digit of the wire's numerics.
const DIGIT_WIDTH: i64 = 4;

fn malformed(message: impl Into<String>) -> Error {
    Error::new(SqlState::INVALID_BINARY_REPRESENTATION, message)
}

fn insufficient() -> Error {
    Error::new(
        SqlState::PROTOCOL_VIOLATION,
        "insufficient data left in message",
    )
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn fixed<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk::<N>().ok_or_else(insufficient)?;
        self.0 = tail;
        Ok(*head)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(len).ok_or_else(insufficient)?;
        self.0 = tail;
        Ok(head)
    }

    fn i16(&mut self) -> Result<i16> {
        Ok(i16::from_be_bytes(self.fixed()?))
    }

    fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_be_bytes(self.fixed()?))
    }

    fn i32(&mut self) -> Result<i32> {
        Ok(i32::from_be_bytes(self.fixed()?))
    }

    fn i64(&mut self) -> Result<i64> {
        Ok(i64::from_be_bytes(self.fixed()?))
    }

    fn finish(self, sql_type: &SqlType) -> Result<()> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(malformed(format!(
                "incorrect binary data format for type {sql_type}"
            )))
        }
    }
}

fn utf8(bytes: &[u8]) -> Result<&str> {
    let text = std::str::from_utf8(bytes).map_err(|e| {
        let bad: Vec<String> = bytes[e.valid_up_to()..]
            .iter()
            .take(e.error_len().unwrap_or(1))
            .map(|b| format!("0x{b:02x}"))
            .collect();
        Error::new(
            SqlState::CHARACTER_NOT_IN_REPERTOIRE,
            format!(
                "invalid byte sequence for encoding \"UTF8\": {}",
                bad.join(" ")
            ),
        )
    })?;
    if text.contains('\0') {
        return Err(Error::new(
            SqlState::CHARACTER_NOT_IN_REPERTOIRE,
            "invalid byte sequence for encoding \"UTF8\": 0x00",
        ));
    }
    Ok(text)
}

impl Datum {
    /// Reads a value's binary form, its type modifier applied as in an assignment.
    pub fn parse_binary(bytes: &[u8], sql_type: &SqlType) -> Result<Datum> {
        let mut r = Reader(bytes);
        let datum = match sql_type {
            SqlType::Bool => Datum::Bool(r.fixed::<1>()?[0] != 0),
            SqlType::Int2 => Datum::Int2(r.i16()?),
            SqlType::Int4 => Datum::Int4(r.i32()?),
            SqlType::Int8 => Datum::Int8(r.i64()?),
            SqlType::Float4 => Datum::Float4(f32::from_be_bytes(r.fixed()?)),
            SqlType::Float8 => Datum::Float8(f64::from_be_bytes(r.fixed()?)),
            SqlType::Numeric(typmod) => {
                let value = read_numeric(&mut r)?;
                Datum::Numeric(match typmod {
                    Some((precision, scale)) => value.apply_typmod(*precision, *scale)?,
                    None => value,
                })
            }
            SqlType::Text | SqlType::Unknown => return Ok(Datum::Text(utf8(bytes)?.into())),
            SqlType::Varchar(limit) => {
                return Ok(Datum::Text(
                    fit_varchar(utf8(bytes)?, *limit, false)?.into(),
                ));
            }
            SqlType::Char(limit) => {
                return Ok(Datum::Text(fit_char(utf8(bytes)?, *limit, false)?));
            }
            SqlType::Name => return Ok(Datum::Text(fit_name(utf8(bytes)?).into())),
            SqlType::InternalChar => {
                let byte = r.fixed::<1>()?;
                let text = if byte == [0] { "" } else { utf8(&byte)? };
                let datum = Datum::Text(fit_internal_char(text).into());
                r.finish(sql_type)?;
                return Ok(datum);
            }
            SqlType::Bytea => return Ok(Datum::Bytea(Bytes::copy_from_slice(bytes))),
            SqlType::Date => Datum::Date(match r.i32()? {
                i32::MAX => DATE_INFINITY,
                i32::MIN => DATE_NEG_INFINITY,
                days => check_date(i64::from(days) + i64::from(POSTGRES_EPOCH_DAYS))?,
            }),
            SqlType::Time => {
                let micros = r.i64()?;
                if !(0..=crate::interval::MICROS_PER_DAY).contains(&micros) {
                    return Err(Error::new(
                        SqlState::DATETIME_FIELD_OVERFLOW,
                        "time out of range",
                    ));
                }
                Datum::Time(micros)
            }
            SqlType::Timestamp => Datum::Timestamp(from_wire_timestamp(r.i64()?)?),
            SqlType::TimestampTz => Datum::TimestampTz(from_wire_timestamp(r.i64()?)?),
            SqlType::Interval => {
                let micros = r.i64()?;
                let days = r.i32()?;
                Datum::Interval(Interval::new(r.i32()?, days, micros))
            }
            SqlType::Uuid => Datum::Uuid(r.fixed()?),
            SqlType::Json => {
                let text = utf8(bytes)?;
                json::validate(text)?;
                return Ok(Datum::Json(text.into()));
            }
            SqlType::Jsonb => {
                let version = r.fixed::<1>()?[0];
                if version != JSONB_VERSION {
                    return Err(malformed(format!(
                        "unsupported jsonb version number {version}"
                    )));
                }
                return Ok(Datum::Jsonb(json::parse(utf8(r.0)?)?));
            }
            t if t.is_oid() => Datum::Oid(u32::from_be_bytes(r.fixed()?)),
            t if t.is_array() => {
                let element = t.element_type().unwrap_or(SqlType::Unknown);
                Datum::Array(Arc::new(read_array(&mut r, element)?))
            }
            _ => {
                return Err(Error::new(
                    SqlState::FEATURE_NOT_SUPPORTED,
                    format!("cannot accept a value of type {sql_type}"),
                ));
            }
        };
        r.finish(sql_type)?;
        Ok(datum)
    }

    /// Appends the value's binary form; nothing for NULL.
    pub fn write_binary(&self, sql_type: &SqlType, out: &mut Vec<u8>) {
        match self {
            Datum::Null => {}
            Datum::Bool(v) => out.push(u8::from(*v)),
            Datum::Int2(v) => out.extend_from_slice(&v.to_be_bytes()),
            Datum::Int4(v) => out.extend_from_slice(&v.to_be_bytes()),
            Datum::Int8(v) => out.extend_from_slice(&v.to_be_bytes()),
            Datum::Oid(v) => out.extend_from_slice(&v.to_be_bytes()),
            Datum::Float4(v) => out.extend_from_slice(&v.to_be_bytes()),
            Datum::Float8(v) => out.extend_from_slice(&v.to_be_bytes()),
            Datum::Numeric(v) => write_numeric(v, out),
            Datum::Text(v) if *sql_type == SqlType::InternalChar => {
                out.push(v.as_bytes().first().copied().unwrap_or(0));
            }
            Datum::Text(v) | Datum::Json(v) => out.extend_from_slice(v.as_bytes()),
            Datum::Bytea(v) => out.extend_from_slice(v),
            Datum::Date(v) => {
                let days = if date_is_finite(*v) {
                    v.saturating_sub(POSTGRES_EPOCH_DAYS)
                } else {
                    *v
                };
                out.extend_from_slice(&days.to_be_bytes());
            }
            Datum::Time(v) => out.extend_from_slice(&v.to_be_bytes()),
            Datum::Timestamp(v) | Datum::TimestampTz(v) => {
                let micros = if timestamp_is_finite(*v) {
                    v.saturating_sub(POSTGRES_EPOCH_MICROS)
                } else {
                    *v
                };
                out.extend_from_slice(&micros.to_be_bytes());
            }
            Datum::Interval(v) => {
                out.extend_from_slice(&v.micros.to_be_bytes());
                out.extend_from_slice(&v.days.to_be_bytes());
                out.extend_from_slice(&v.months.to_be_bytes());
            }
            Datum::Uuid(v) => out.extend_from_slice(v),
            Datum::Jsonb(v) => {
                out.push(JSONB_VERSION);
                v.write_to(out);
            }
            Datum::Array(v) => write_array(v, out),
        }
    }
}

fn from_wire_timestamp(wire: i64) -> Result<i64> {
    match wire {
        i64::MAX => Ok(TIMESTAMP_INFINITY),
        i64::MIN => Ok(TIMESTAMP_NEG_INFINITY),
        _ => wire
            .checked_add(POSTGRES_EPOCH_MICROS)
            .ok_or_else(timestamp_out_of_range)
            .and_then(check_timestamp),
    }
}

fn read_numeric(r: &mut Reader<'_>) -> Result<Numeric> {
    let count = i64::from(r.u16()?);
    let weight = i64::from(r.i16()?);
    let sign = r.u16()?;
    let scale = r.u16()?;
    match sign {
        NUMERIC_POSITIVE | NUMERIC_NEGATIVE => {}
        NUMERIC_NAN => return Ok(Numeric::NAN),
        NUMERIC_INFINITY => return Ok(Numeric::INFINITY),
        NUMERIC_NEG_INFINITY => return Ok(Numeric::NEG_INFINITY),
        _ => return Err(malformed("invalid sign in external \"numeric\" value")),
    }
    if i32::from(scale) > MAX_SCALE {
        return Err(malformed("invalid scale in external \"numeric\" value"));
    }
    // Small values stay in machine words; long ones collect all decimal digits and parse once.
    let mut small: Option<i128> = Some(0);
    let mut digits = Vec::with_capacity(count.min(64) as usize);
    for _ in 0..count {
        let digit = r.u16()?;
        if digit > 9999 {
            return Err(malformed("invalid digit in external \"numeric\" value"));
        }
        small = small
            .and_then(|m| m.checked_mul(10_000))
            .and_then(|m| m.checked_add(i128::from(digit)));
        digits.push(digit);
    }
    let mut mantissa = match small {
        Some(m) => BigInt::from(m),
        None => {
            let text: String = digits.iter().map(|d| format!("{d:04}")).collect();
            BigUint::parse_bytes(text.as_bytes(), 10)
                .map(BigInt::from)
                .ok_or_else(|| malformed("invalid digit in external \"numeric\" value"))?
        }
    };
    if sign == NUMERIC_NEGATIVE {
        mantissa = -mantissa;
    }
    // The last digit stands for 10^(4 × (weight - count + 1)); what goes beyond the scale is cut.
    let shift = DIGIT_WIDTH * (weight - count + 1) + i64::from(scale);
    if shift >= 0 {
        mantissa *= big_pow10(shift as u32);
    } else {
        mantissa /= big_pow10((-shift) as u32);
    }
    Numeric::from_bigint_scaled(mantissa, i64::from(scale))
}

fn write_numeric(value: &Numeric, out: &mut Vec<u8>) {
    let Some((mantissa, scale)) = value.to_bigint_parts() else {
        let sign = if value.is_nan() {
            NUMERIC_NAN
        } else if value.signum() > 0 {
            NUMERIC_INFINITY
        } else {
            NUMERIC_NEG_INFINITY
        };
        for word in [0, 0, sign, 0] {
            out.extend_from_slice(&word.to_be_bytes());
        }
        return;
    };
    // Groups of four digits are counted from the point: pad the fraction to whole groups.
    let fraction_groups = (i64::from(scale) + DIGIT_WIDTH - 1) / DIGIT_WIDTH;
    let padding = fraction_groups * DIGIT_WIDTH - i64::from(scale);
    let mut groups: Vec<u16> = Vec::new();
    let small = value
        .to_i128_parts()
        .and_then(|(m, _)| m.unsigned_abs().checked_mul(10u128.pow(padding as u32)));
    match small {
        Some(mut m) => {
            while m > 0 {
                groups.push((m % 10_000) as u16);
                m /= 10_000;
            }
        }
        None => {
            let text =
                (mantissa.magnitude() * BigUint::from(10u32).pow(padding as u32)).to_str_radix(10);
            for chunk in text.as_bytes().rchunks(DIGIT_WIDTH as usize) {
                groups.push(chunk.iter().fold(0, |v, d| v * 10 + u16::from(d - b'0')));
            }
        }
    }
    let weight = groups.len() as i64 - 1 - fraction_groups;
    let trailing = groups.iter().take_while(|g| **g == 0).count();
    let groups = &groups[trailing..];
    let sign = if value.signum() < 0 {
        NUMERIC_NEGATIVE
    } else {
        NUMERIC_POSITIVE
    };
    out.extend_from_slice(&(groups.len() as u16).to_be_bytes());
    let weight = if groups.is_empty() { 0 } else { weight };
    out.extend_from_slice(&(weight as i16).to_be_bytes());
    out.extend_from_slice(&sign.to_be_bytes());
    out.extend_from_slice(&scale.to_be_bytes());
    for group in groups.iter().rev() {
        out.extend_from_slice(&group.to_be_bytes());
    }
}

fn read_array(r: &mut Reader<'_>, element_type: SqlType) -> Result<Array> {
    let count = r.i32()?;
    if !(0..=MAX_DIMENSIONS as i32).contains(&count) {
        return Err(malformed(format!("invalid number of dimensions: {count}")));
    }
    let flags = r.i32()?;
    if flags != 0 && flags != 1 {
        return Err(malformed(format!("invalid array flags: {flags}")));
    }
    let oid = u32::from_be_bytes(r.fixed()?);
    // Any string type may come in for another, as clients do not tell them apart.
    let sent = SqlType::from_oid(oid);
    let alike = oid == element_type.oid()
        || sent.is_some_and(|t| t.is_string() && element_type.is_string());
    if !alike {
        return Err(Error::new(
            SqlState::DATATYPE_MISMATCH,
            format!(
                "binary data has array element type {oid} instead of expected {}",
                element_type.oid()
            ),
        ));
    }
    let mut dims = ArrayDims::new();
    let mut product = i64::from(count > 0);
    for _ in 0..count {
        let len = r.i32()?;
        let lower_bound = r.i32()?;
        if len < 0 || lower_bound.checked_add(len).is_none() {
            return Err(malformed("array dimensions are out of range"));
        }
        product = product
            .checked_mul(i64::from(len))
            .ok_or_else(|| malformed("array size is out of range"))?;
        dims.push(ArrayDim { len, lower_bound });
    }
    // Every element takes four bytes at least: a lying count cannot ask for more memory.
    if product > (r.0.len() / 4) as i64 {
        return Err(insufficient());
    }
    let mut elements = Vec::with_capacity(product as usize);
    for _ in 0..product {
        let len = r.i32()?;
        if len == -1 {
            elements.push(Datum::Null);
            continue;
        }
        let len = usize::try_from(len).map_err(|_| insufficient())?;
        elements.push(Datum::parse_binary(r.take(len)?, &element_type)?);
    }
    Array::with_dims(element_type, dims, elements)
}

fn write_array(array: &Array, out: &mut Vec<u8>) {
    out.extend_from_slice(&(array.dims.len() as i32).to_be_bytes());
    let has_null = array.elements.iter().any(Datum::is_null);
    out.extend_from_slice(&i32::from(has_null).to_be_bytes());
    out.extend_from_slice(&array.element_type.oid().to_be_bytes());
    for dim in &array.dims {
        out.extend_from_slice(&dim.len.to_be_bytes());
        out.extend_from_slice(&dim.lower_bound.to_be_bytes());
    }
    for element in &array.elements {
        if element.is_null() {
            out.extend_from_slice(&(-1i32).to_be_bytes());
            continue;
        }
        let place = out.len();
        out.extend_from_slice(&[0; 4]);
        element.write_binary(&array.element_type, out);
        let len = (out.len() - place - 4) as i32;
        out[place..place + 4].copy_from_slice(&len.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::FormatContext;

    #[test]
    fn numerics_on_the_wire() {
        for text in [
            "0",
            "0.00",
            "1",
            "-1.50",
            "12345.6789",
            "0.0001",
            "0.00012345",
            "10000",
            "123456789012",
            "99999999999999999999999999999999999999999999.5",
            "1e-30",
            "NaN",
            "Infinity",
            "-Infinity",
        ] {
            let n = Numeric::parse(text).unwrap();
            let mut out = Vec::new();
            write_numeric(&n, &mut out);
            let back = Datum::parse_binary(&out, &SqlType::Numeric(None)).unwrap();
            let Datum::Numeric(back) = back else { panic!() };
            assert_eq!(back.to_string(), n.to_string());
        }
        let mut out = Vec::new();
        write_numeric(&Numeric::parse("12345.67").unwrap(), &mut out);
        assert_eq!(out, [0, 3, 0, 1, 0, 0, 0, 2, 0, 1, 9, 41, 26, 44]);
    }

    #[test]
    fn values_return() {
        let ctx = FormatContext::default();
        for (sql_type, text) in [
            (SqlType::Bool, "t"),
            (SqlType::Int2, "-5"),
            (SqlType::Int4, "7"),
            (SqlType::Int8, "-9"),
            (SqlType::Float4, "1.5"),
            (SqlType::Float8, "-2.25"),
            (SqlType::Text, "héllo"),
            (SqlType::Bytea, "\\x0001"),
            (SqlType::Date, "1999-01-08"),
            (SqlType::Date, "infinity"),
            (SqlType::Time, "04:05:06.7"),
            (SqlType::Timestamp, "2024-01-02 03:04:05.678"),
            (SqlType::TimestampTz, "-infinity"),
            (SqlType::Interval, "1 mon 2 days 00:00:03"),
            (SqlType::Uuid, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
            (SqlType::Jsonb, "{\"a\": [1, null]}"),
            (SqlType::array_of(SqlType::Int4), "[0:1]={1,NULL}"),
            (SqlType::array_of(SqlType::Text), "{{a,b},{c,d}}"),
            (SqlType::InternalChar, "r"),
        ] {
            let datum = Datum::parse_text(text, &sql_type, &ctx).unwrap();
            let mut out = Vec::new();
            datum.write_binary(&sql_type, &mut out);
            assert_eq!(Datum::parse_binary(&out, &sql_type), Ok(datum), "{text}");
            for cut in 0..out.len() {
                let _ = Datum::parse_binary(&out[..cut], &sql_type);
            }
        }
        let mut out = Vec::new();
        Datum::Date(POSTGRES_EPOCH_DAYS).write_binary(&SqlType::Date, &mut out);
        assert_eq!(out, [0, 0, 0, 0]);
    }
}
