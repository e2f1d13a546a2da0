//! `numeric` and `interval` in their binary forms, which tokio-postgres has no Rust types for.

use std::error::Error;

use bytes::{BufMut, BytesMut};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};

type Failure = Box<dyn Error + Sync + Send>;

/// A numeric as PostgreSQL writes it in text; on the wire it is binary.
#[derive(Clone, Debug, PartialEq)]
pub struct Numeric(pub String);

/// The sign field of the wire form: see the manual's `numeric_send`.
const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xC000;
const POSITIVE_INFINITY: u16 = 0xD000;
const NEGATIVE_INFINITY: u16 = 0xF000;
/// Decimal digits in one wire digit.
const GROUP: usize = 4;

impl ToSql for Numeric {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Failure> {
        let special = match self.0.as_str() {
            "NaN" => Some(NAN),
            "Infinity" => Some(POSITIVE_INFINITY),
            "-Infinity" => Some(NEGATIVE_INFINITY),
            _ => None,
        };
        if let Some(sign) = special {
            out.put_slice(&[0; 4]);
            out.put_u16(sign);
            out.put_u16(0);
            return Ok(IsNull::No);
        }
        let (negative, digits) = match self.0.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, self.0.as_str()),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let whole = format!(
            "{}{whole}",
            "0".repeat((GROUP - whole.len() % GROUP) % GROUP)
        );
        let padded = format!(
            "{fraction}{}",
            "0".repeat((GROUP - fraction.len() % GROUP) % GROUP)
        );
        let mut groups = Vec::new();
        for at in (0..whole.len() + padded.len()).step_by(GROUP) {
            let part = if at < whole.len() {
                &whole[at..at + GROUP]
            } else {
                &padded[at - whole.len()..][..GROUP]
            };
            groups.push(part.parse::<i16>()?);
        }
        let mut weight = (whole.len() / GROUP) as i16 - 1;
        let leading = groups.iter().take_while(|group| **group == 0).count();
        groups.drain(..leading);
        weight -= leading as i16;
        while groups.last() == Some(&0) {
            groups.pop();
        }
        if groups.is_empty() {
            weight = 0;
        }
        out.put_i16(groups.len() as i16);
        out.put_i16(weight);
        out.put_u16(if negative && !groups.is_empty() {
            NEGATIVE
        } else {
            0
        });
        out.put_i16(fraction.len() as i16);
        groups.iter().for_each(|group| out.put_i16(*group));
        Ok(IsNull::No)
    }

    accepts!(NUMERIC);
    to_sql_checked!();
}

impl<'a> FromSql<'a> for Numeric {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Numeric, Failure> {
        let fields: Vec<i16> = raw
            .chunks_exact(2)
            .map(|pair| i16::from_be_bytes([pair[0], pair[1]]))
            .collect();
        let [count, weight, sign, scale, groups @ ..] = fields.as_slice() else {
            return Err("a numeric shorter than its header".into());
        };
        if groups.len() != usize::try_from(*count)? {
            return Err(format!(
                "a numeric of {count} digits with {} on the wire",
                groups.len()
            )
            .into());
        }
        let sign = match *sign as u16 {
            NAN => return Ok(Numeric("NaN".to_owned())),
            POSITIVE_INFINITY => return Ok(Numeric("Infinity".to_owned())),
            NEGATIVE_INFINITY => return Ok(Numeric("-Infinity".to_owned())),
            NEGATIVE => "-",
            0 => "",
            other => return Err(format!("a numeric of sign {other:#x}").into()),
        };
        let group = |index: i32| -> i16 {
            usize::try_from(index)
                .ok()
                .and_then(|index| groups.get(index))
                .copied()
                .unwrap_or(0)
        };
        let weight = i32::from(*weight);
        let whole: String = (0..=weight.max(0))
            .map(|at| format!("{:04}", group(at + weight.min(0))))
            .collect();
        let whole = if weight < 0 {
            "0"
        } else {
            whole.trim_start_matches('0')
        };
        let scale = usize::try_from(*scale)?;
        let groups_of_fraction = scale.div_ceil(GROUP) as i32;
        let fraction: String = (1..=groups_of_fraction)
            .map(|at| format!("{:04}", group(weight + at)))
            .collect();
        let point = if scale > 0 { "." } else { "" };
        let whole = if whole.is_empty() { "0" } else { whole };
        Ok(Numeric(format!(
            "{sign}{whole}{point}{}",
            &fraction[..scale]
        )))
    }

    accepts!(NUMERIC);
}

/// An interval as it is on the wire.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    pub months: i32,
    pub days: i32,
    pub microseconds: i64,
}

impl ToSql for Interval {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Failure> {
        out.put_i64(self.microseconds);
        out.put_i32(self.days);
        out.put_i32(self.months);
        Ok(IsNull::No)
    }

    accepts!(INTERVAL);
    to_sql_checked!();
}

impl<'a> FromSql<'a> for Interval {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Interval, Failure> {
        let raw: [u8; 16] = raw.try_into()?;
        let number = i128::from_be_bytes(raw);
        Ok(Interval {
            microseconds: (number >> 64) as i64,
            days: (number >> 32) as i32,
            months: number as i32,
        })
    }

    accepts!(INTERVAL);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_numeric_comes_back_as_it_went() {
        for text in [
            "0",
            "0.00",
            "-1.50",
            "12345.6789",
            "10000",
            "0.0001",
            "0.00001234",
            "99999999999999999999.5",
            "NaN",
        ] {
            let mut wire = BytesMut::new();
            Numeric(text.to_owned())
                .to_sql(&Type::NUMERIC, &mut wire)
                .expect("it is written");
            let back = Numeric::from_sql(&Type::NUMERIC, &wire).expect("it is read");
            assert_eq!(back.0, text);
        }
    }
}
