//! `numeric`: exact decimal numbers with PostgreSQL's rules.
//!
//! A finite value is an integer mantissa and a display scale: `1.50` is (150, 2). The scale is part
//! of the value's text, not of its worth: `1.50 = 1.5`. Mantissas of up to 127 bits live inline and
//! are computed in `i128`; larger ones fall over to a shared big integer.
//!
//! Result scales follow PostgreSQL: sums take the larger scale, products the sum of both, quotients
//! at least [`MIN_SIGNIFICANT_DIGITS`] significant digits (`select_div_scale`).
//!
//! Arithmetic is in [`crate::numeric_arith`], order in [`crate::numeric_order`], roots and logarithms in
//! [`crate::numeric_math`].

mod rounding;
mod text;

use crate::{Error, Result, SqlState};
use num_bigint::BigInt;
use num_traits::{Signed, ToPrimitive, Zero};
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// Significant digits that a quotient or root carries at least.
pub const MIN_SIGNIFICANT_DIGITS: i32 = 16;
/// Digits after the point that a computed (not typed in) result shows at most.
pub const MAX_DISPLAY_SCALE: i32 = 1000;
/// Digits after the point that any value may have (PostgreSQL manual, section 8.1.2).
pub const MAX_SCALE: i32 = 16383;
/// Digits before the point that any value may have (PostgreSQL manual, section 8.1.2).
pub const MAX_INTEGER_DIGITS: i64 = 131_072;
/// The largest precision a `numeric(p, s)` declaration may name.
pub const MAX_PRECISION: u16 = 1000;

/// Powers of ten that fit an `i128`: 10^0 to 10^38.
const MAX_POW10: u32 = 38;

/// An exact decimal number, or NaN, or an infinity.
#[derive(Clone)]
pub struct Numeric(Repr);

#[derive(Clone)]
enum Repr {
    NegInfinity,
    /// The mantissa's halves: two words instead of an `i128` keep the alignment at 8 bytes.
    Small {
        high: i64,
        low: u64,
        scale: u16,
    },
    /// Invariant: the mantissa does not fit an `i128`.
    Big(Arc<(BigInt, u16)>),
    Infinity,
    NaN,
}

/// A finite value taken apart, so that arithmetic is written once per width.
pub(crate) enum Parts {
    Small(i128),
    Big(BigInt),
}

pub(crate) fn pow10(exponent: u32) -> Option<i128> {
    (exponent <= MAX_POW10).then(|| 10i128.pow(exponent))
}

pub(crate) fn big_pow10(exponent: u32) -> BigInt {
    match pow10(exponent) {
        Some(p) => BigInt::from(p),
        None => BigInt::from(10u32).pow(exponent),
    }
}

fn overflow() -> Error {
    Error::new(
        SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
        "value overflows numeric format",
    )
}

/// Divides, rounding half away from zero.
pub(crate) fn div_round_i128(n: i128, d: i128) -> i128 {
    let q = n / d;
    let r = n % d;
    if r.unsigned_abs() >= d.unsigned_abs() - r.unsigned_abs() {
        if (n < 0) == (d < 0) { q + 1 } else { q - 1 }
    } else {
        q
    }
}

pub(crate) fn div_round_big(n: &BigInt, d: &BigInt) -> BigInt {
    let q = n / d;
    let r = n % d;
    if r.abs() * 2u32 >= d.abs() {
        if n.is_negative() == d.is_negative() {
            q + 1
        } else {
            q - 1
        }
    } else {
        q
    }
}

impl Numeric {
    pub const NAN: Numeric = Numeric(Repr::NaN);
    pub const INFINITY: Numeric = Numeric(Repr::Infinity);
    pub const NEG_INFINITY: Numeric = Numeric(Repr::NegInfinity);
    pub const ZERO: Numeric = Numeric::from_i128(0, 0);
    pub const ONE: Numeric = Numeric::from_i128(1, 0);

    /// `mantissa` × 10^-`scale`, showing `scale` digits after the point.
    pub const fn from_i128(mantissa: i128, scale: u16) -> Self {
        Numeric(Repr::Small {
            high: (mantissa >> 64) as i64,
            low: mantissa as u64,
            scale,
        })
    }

    /// As [`Numeric::from_i128`], of any width.
    pub fn from_bigint(mantissa: BigInt, scale: u16) -> Self {
        match mantissa.to_i128() {
            Some(small) => Numeric::from_i128(small, scale),
            None => Numeric(Repr::Big(Arc::new((mantissa, scale)))),
        }
    }

    /// As [`Numeric::from_bigint`] for a scale that may be below zero (trailing integer zeros) or
    /// beyond the format's limits.
    pub fn from_bigint_scaled(mantissa: BigInt, scale: i64) -> Result<Self> {
        if scale < 0 {
            if mantissa.is_zero() {
                return Ok(Numeric::ZERO);
            }
            if -scale > MAX_INTEGER_DIGITS {
                return Err(overflow());
            }
            Numeric::from_bigint(mantissa * big_pow10((-scale) as u32), 0).check_width()
        } else if scale > i64::from(MAX_SCALE) {
            let drop = scale - i64::from(MAX_SCALE);
            if drop > MAX_INTEGER_DIGITS * 2 {
                return Ok(Numeric::from_i128(0, MAX_SCALE as u16));
            }
            let m = div_round_big(&mantissa, &big_pow10(drop as u32));
            Numeric::from_bigint(m, MAX_SCALE as u16).check_width()
        } else {
            Numeric::from_bigint(mantissa, scale as u16).check_width()
        }
    }

    /// The nearest decimal with `digits` significant digits (15 for `float8`, 6 for `float4`).
    pub fn from_f64(value: f64, digits: usize) -> Self {
        if value.is_nan() {
            return Numeric::NAN;
        }
        if value.is_infinite() {
            return if value > 0.0 {
                Numeric::INFINITY
            } else {
                Numeric::NEG_INFINITY
            };
        }
        let text = format!("{:.*e}", digits.saturating_sub(1), value);
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        // `%g` drops trailing zeros, and PostgreSQL goes through `%g`.
        let mantissa = if mantissa.contains('.') {
            mantissa.trim_end_matches('0').trim_end_matches('.')
        } else {
            mantissa
        };
        Numeric::parse(&format!("{mantissa}e{exponent}")).unwrap_or(Numeric::NAN)
    }

    pub fn is_nan(&self) -> bool {
        matches!(self.0, Repr::NaN)
    }

    pub fn is_infinite(&self) -> bool {
        matches!(self.0, Repr::Infinity | Repr::NegInfinity)
    }

    pub fn is_finite(&self) -> bool {
        matches!(self.0, Repr::Small { .. } | Repr::Big(_))
    }

    pub fn is_zero(&self) -> bool {
        matches!(
            self.0,
            Repr::Small {
                high: 0,
                low: 0,
                ..
            }
        )
    }

    /// -1, 0 or 1; NaN counts as 1.
    pub fn signum(&self) -> i32 {
        match &self.0 {
            Repr::NegInfinity => -1,
            Repr::Small { high, low, .. } => match high.cmp(&0) {
                Ordering::Less => -1,
                Ordering::Greater => 1,
                Ordering::Equal => i32::from(*low != 0),
            },
            Repr::Big(b) => {
                if b.0.is_negative() {
                    -1
                } else {
                    1
                }
            }
            Repr::Infinity | Repr::NaN => 1,
        }
    }

    /// Digits shown after the point; 0 for NaN and infinities.
    pub fn scale(&self) -> u16 {
        match &self.0 {
            Repr::Small { scale, .. } => *scale,
            Repr::Big(b) => b.1,
            _ => 0,
        }
    }

    /// (mantissa, scale) if finite and the mantissa fits.
    pub fn to_i128_parts(&self) -> Option<(i128, u16)> {
        match self.0 {
            Repr::Small { high, low, scale } => {
                Some(((i128::from(high) << 64) | i128::from(low), scale))
            }
            _ => None,
        }
    }

    /// (mantissa, scale) of any finite value.
    pub fn to_bigint_parts(&self) -> Option<(BigInt, u16)> {
        match &self.0 {
            Repr::Small { .. } => self.to_i128_parts().map(|(m, s)| (BigInt::from(m), s)),
            Repr::Big(b) => Some((b.0.clone(), b.1)),
            _ => None,
        }
    }

    /// The mantissa at exactly `scale` digits after the point, rounded half away from zero: what
    /// Arrow's Decimal128 stores. `None` if not finite or too wide.
    pub fn to_i128_at_scale(&self, scale: u16) -> Option<i128> {
        let (m, s) = self.to_i128_parts()?;
        if s <= scale {
            m.checked_mul(pow10(u32::from(scale - s))?)
        } else {
            match pow10(u32::from(s - scale)) {
                Some(p) => Some(div_round_i128(m, p)),
                None => Some(0),
            }
        }
    }

    pub(crate) fn parts(&self) -> Option<Parts> {
        match &self.0 {
            Repr::Small { .. } => self.to_i128_parts().map(|(m, _)| Parts::Small(m)),
            Repr::Big(b) => Some(Parts::Big(b.0.clone())),
            _ => None,
        }
    }

    pub(crate) fn check_width(self) -> Result<Self> {
        if let Repr::Big(b) = &self.0 {
            // 10 bits are a little more than 3 digits: a cheap bound before the exact count.
            if b.0.bits() as i64 * 3 / 10 > MAX_INTEGER_DIGITS
                && self.integer_digits() > MAX_INTEGER_DIGITS
            {
                return Err(overflow());
            }
        }
        Ok(self)
    }

    /// Decimal digits of the mantissa; 0 for zero.
    fn mantissa_digits(&self) -> i64 {
        match &self.0 {
            Repr::Small { .. } => {
                let (m, _) = self.to_i128_parts().unwrap_or((0, 0));
                match m.unsigned_abs() {
                    0 => 0,
                    a => i64::from(a.ilog10()) + 1,
                }
            }
            Repr::Big(b) => big_digits(&b.0),
            _ => 0,
        }
    }

    /// Digits before the point (zero or negative for values below one).
    pub(crate) fn integer_digits(&self) -> i64 {
        self.mantissa_digits() - i64::from(self.scale())
    }

    // ---- bytes ------------------------------------------------------------------------------

    /// Appends the stored form: it keeps the display scale, NaN and the infinities.
    pub fn encode(&self, out: &mut Vec<u8>) {
        crate::stored::encode_numeric(self, out);
    }

    /// Reads what [`Numeric::encode`] wrote; XX001 if it is something else.
    pub fn decode(bytes: &[u8]) -> Result<Numeric> {
        crate::stored::decode_numeric(bytes)
    }

    // ---- conversions ------------------------------------------------------------------------

    pub fn to_f64(&self) -> f64 {
        match &self.0 {
            Repr::NaN => f64::NAN,
            Repr::Infinity => f64::INFINITY,
            Repr::NegInfinity => f64::NEG_INFINITY,
            Repr::Small { .. } => {
                let (m, scale) = self.to_i128_parts().unwrap_or((0, 0));
                // Both exact in a double: one rounding, so the quotient is the nearest double.
                const EXACT: u128 = 1 << 53;
                const EXACT_POWER: u16 = 22;
                if m.unsigned_abs() <= EXACT && scale <= EXACT_POWER {
                    return m as f64 / 10f64.powi(i32::from(scale));
                }
                self.to_string().parse().unwrap_or(f64::NAN)
            }
            Repr::Big(_) => self.to_string().parse().unwrap_or(f64::NAN),
        }
    }

    /// Rounded half away from zero; `None` if not finite or out of range.
    pub fn to_i64(&self) -> Option<i64> {
        if !self.is_finite() {
            return None;
        }
        match self.to_i128_at_scale(0) {
            Some(m) => i64::try_from(m).ok(),
            None => {
                let (m, s) = self.to_bigint_parts()?;
                div_round_big(&m, &big_pow10(u32::from(s))).to_i64()
            }
        }
    }
}

/// Digits of a big integer; 0 for zero.
fn big_digits(m: &BigInt) -> i64 {
    if m.is_zero() {
        0
    } else {
        m.magnitude().to_str_radix(10).len() as i64
    }
}

/// Whitespace as C's `isspace` sees it in the C locale.
pub(crate) fn is_sql_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

impl From<i64> for Numeric {
    fn from(value: i64) -> Self {
        Numeric::from_i128(i128::from(value), 0)
    }
}

impl From<i32> for Numeric {
    fn from(value: i32) -> Self {
        Numeric::from_i128(i128::from(value), 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn n(text: &str) -> Numeric {
        Numeric::parse_sql(text).unwrap()
    }

    fn is(result: Result<Numeric>, expected: &str) {
        assert_eq!(result.map(|v| v.to_string()).as_deref(), Ok(expected));
    }

    #[test]
    fn text_keeps_the_scale() {
        for (text, shown) in [
            ("1.50", "1.50"),
            (" -0.00 ", "0.00"),
            ("1e3", "1000"),
            ("1.5e2", "150"),
            ("1e-3", "0.001"),
            (".5", "0.5"),
            ("5.", "5"),
            ("nan", "NaN"),
            ("-inf", "-Infinity"),
            (
                "123456789012345678901234567890123456789012345.678",
                "123456789012345678901234567890123456789012345.678",
            ),
        ] {
            assert_eq!(n(text).to_string(), shown, "{text}");
        }
        for text in ["", "x", "1x", "1e", "--1", "1.2.3", "+nan", "1 2"] {
            assert_eq!(
                Numeric::parse_sql(text).map_err(|e| e.state),
                Err(SqlState::INVALID_TEXT_REPRESENTATION),
                "{text}"
            );
        }
        assert_eq!(
            Numeric::parse_sql("1e200000").map_err(|e| e.state),
            Err(SqlState::NUMERIC_VALUE_OUT_OF_RANGE)
        );
    }

    #[test]
    fn rounding() {
        assert_eq!(n("2.5").round(0).to_string(), "3");
        assert_eq!(n("-2.5").round(0).to_string(), "-3");
        assert_eq!(n("1.245").round(2).to_string(), "1.25");
        assert_eq!(n("1250").round(-2).to_string(), "1300");
        assert_eq!(n("1.5").round(3).to_string(), "1.500");
        assert_eq!(n("-1.59").trunc(1).to_string(), "-1.5");
        assert_eq!(n("-1.5").floor().to_string(), "-2");
        assert_eq!(n("-1.5").ceil().to_string(), "-1");
        assert_eq!(n("1.5").ceil().to_string(), "2");
        assert_eq!(n("1.500").trim_scale().to_string(), "1.5");
        assert_eq!((n("2.5").to_i64(), n("1e30").to_i64()), (Some(3), None));
    }

    #[test]
    fn typmods() {
        is(n("1.005").apply_typmod(5, 2), "1.01");
        is(n("1234").apply_typmod(2, -2), "1200");
        is(n("0.001").apply_typmod(3, 5), "0.00100");
        let error = n("999.995").apply_typmod(5, 2).unwrap_err();
        assert_eq!(error.message, "numeric field overflow");
        assert_eq!(
            error.fields.detail.as_deref(),
            Some(
                "A field with precision 5, scale 2 must round to an absolute value less than 10^3."
            )
        );
    }

    #[test]
    fn floats() {
        assert_eq!(Numeric::from_f64(0.1, 15).to_string(), "0.1");
        assert_eq!(
            Numeric::from_f64(1e21, 15).to_string(),
            "1000000000000000000000"
        );
        assert_eq!(Numeric::from_f64(123.456, 15).to_string(), "123.456");
        assert_eq!(Numeric::from_f64(-1.5e-7, 15).to_string(), "-0.00000015");
        assert_eq!(n("0.1").to_f64(), 0.1);
        assert_eq!(
            n("123456789012345678901234567890.5").to_f64(),
            1.2345678901234568e29
        );
    }
}
