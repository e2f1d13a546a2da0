//! Sums, products, quotients and remainders of numerics.
//!
//! Each operation tries `i128` first and falls over to big integers on overflow.

use crate::numeric::{
    MAX_DISPLAY_SCALE, MAX_SCALE, MIN_SIGNIFICANT_DIGITS, Parts, big_pow10, div_round_big,
    div_round_i128, pow10,
};
use crate::{Error, Numeric, Result, SqlState};
use num_bigint::BigInt;
use std::cmp::Ordering;

impl Numeric {
    pub fn negate(&self) -> Numeric {
        match self.parts() {
            Some(Parts::Small(m)) => match m.checked_neg() {
                Some(m) => Numeric::from_i128(m, self.scale()),
                None => Numeric::from_bigint(-BigInt::from(m), self.scale()),
            },
            Some(Parts::Big(m)) => Numeric::from_bigint(-m, self.scale()),
            None if self.is_nan() => Numeric::NAN,
            None if self.signum() < 0 => Numeric::INFINITY,
            None => Numeric::NEG_INFINITY,
        }
    }

    pub fn abs(&self) -> Numeric {
        if self.signum() < 0 {
            self.negate()
        } else {
            self.clone()
        }
    }

    pub fn add(&self, other: &Numeric) -> Result<Numeric> {
        if let (Some((a, sa)), Some((b, sb))) = (self.to_i128_parts(), other.to_i128_parts())
            && let Some((a, b, scale)) = align(a, sa, b, sb)
            && let Some(sum) = a.checked_add(b)
        {
            return Ok(Numeric::from_i128(sum, scale));
        }
        match (self.to_bigint_parts(), other.to_bigint_parts()) {
            (Some((a, sa)), Some((b, sb))) => {
                let (a, b, scale) = align_big(a, sa, b, sb);
                Numeric::from_bigint(a + b, scale).check_width()
            }
            (Some(_), None) => Ok(other.clone()),
            (None, Some(_)) => Ok(self.clone()),
            (None, None) if self.is_nan() || other.is_nan() => Ok(Numeric::NAN),
            (None, None) if self.signum() == other.signum() => Ok(self.clone()),
            (None, None) => Ok(Numeric::NAN),
        }
    }

    pub fn sub(&self, other: &Numeric) -> Result<Numeric> {
        self.add(&other.negate())
    }

    pub fn mul(&self, other: &Numeric) -> Result<Numeric> {
        if let (Some((a, sa)), Some((b, sb))) = (self.to_i128_parts(), other.to_i128_parts())
            && let Some(product) = a.checked_mul(b)
        {
            let scale = u32::from(sa) + u32::from(sb);
            if scale <= MAX_SCALE as u32 {
                return Ok(Numeric::from_i128(product, scale as u16));
            }
        }
        match (self.to_bigint_parts(), other.to_bigint_parts()) {
            (Some((a, sa)), Some((b, sb))) => {
                Numeric::from_bigint_scaled(a * b, i64::from(sa) + i64::from(sb))
            }
            _ if self.is_nan() || other.is_nan() => Ok(Numeric::NAN),
            // Zero times infinity is not a number; otherwise the signs decide.
            _ => Ok(match self.signum() * other.signum() {
                0 => Numeric::NAN,
                1 => Numeric::INFINITY,
                _ => Numeric::NEG_INFINITY,
            }),
        }
    }

    /// Handles what is the same for `/`, `%` and `div()` when an operand is not finite or zero.
    fn special_quotient(&self, other: &Numeric) -> Result<Option<Numeric>> {
        if self.is_nan() || other.is_nan() {
            return Ok(Some(Numeric::NAN));
        }
        if other.is_zero() {
            return Err(Error::new(SqlState::DIVISION_BY_ZERO, "division by zero"));
        }
        if self.is_infinite() {
            return Ok(Some(if other.is_infinite() {
                Numeric::NAN
            } else if self.signum() == other.signum() {
                Numeric::INFINITY
            } else {
                Numeric::NEG_INFINITY
            }));
        }
        Ok(other.is_infinite().then_some(Numeric::ZERO))
    }

    pub fn div(&self, other: &Numeric) -> Result<Numeric> {
        if let Some(special) = self.special_quotient(other)? {
            return Ok(special);
        }
        let scale = self.quotient_scale(other);
        self.div_to_scale(other, scale)
    }

    /// The quotient at `scale` digits after the point, rounded half away from zero. Both finite.
    pub(crate) fn div_to_scale(&self, other: &Numeric, scale: u16) -> Result<Numeric> {
        let shift = i32::from(scale) + i32::from(other.scale()) - i32::from(self.scale());
        if let (Some((a, _)), Some((b, _))) = (self.to_i128_parts(), other.to_i128_parts())
            && let Some(p) = pow10(shift.unsigned_abs())
        {
            let scaled = if shift >= 0 {
                a.checked_mul(p).map(|a| (a, b))
            } else {
                b.checked_mul(p).map(|b| (a, b))
            };
            if let Some((a, b)) = scaled
                && !(a == i128::MIN && b == -1)
            {
                return Ok(Numeric::from_i128(div_round_i128(a, b), scale));
            }
        }
        let (Some((a, _)), Some((b, _))) = (self.to_bigint_parts(), other.to_bigint_parts()) else {
            return Ok(Numeric::NAN);
        };
        let p = big_pow10(shift.unsigned_abs());
        let q = if shift >= 0 {
            div_round_big(&(a * p), &b)
        } else {
            div_round_big(&a, &(b * p))
        };
        Numeric::from_bigint(q, scale).check_width()
    }

    /// The remainder with the dividend's sign.
    pub fn rem(&self, other: &Numeric) -> Result<Numeric> {
        if self.is_infinite() && !other.is_nan() && !other.is_zero() {
            return Ok(Numeric::NAN);
        }
        if self.is_finite() && other.is_infinite() {
            return Ok(self.clone());
        }
        if let Some(special) = self.special_quotient(other)? {
            return Ok(special);
        }
        if let (Some((a, sa)), Some((b, sb))) = (self.to_i128_parts(), other.to_i128_parts())
            && let Some((a, b, scale)) = align(a, sa, b, sb)
            && let Some(r) = a.checked_rem(b)
        {
            return Ok(Numeric::from_i128(r, scale));
        }
        let (Some((a, sa)), Some((b, sb))) = (self.to_bigint_parts(), other.to_bigint_parts())
        else {
            return Ok(Numeric::NAN);
        };
        let (a, b, scale) = align_big(a, sa, b, sb);
        Ok(Numeric::from_bigint(a % b, scale))
    }

    /// The quotient cut to an integer (`div()`).
    pub fn div_trunc(&self, other: &Numeric) -> Result<Numeric> {
        if let Some(special) = self.special_quotient(other)? {
            return Ok(special);
        }
        let (Some((a, sa)), Some((b, sb))) = (self.to_bigint_parts(), other.to_bigint_parts())
        else {
            return Ok(Numeric::NAN);
        };
        let (a, b, _) = align_big(a, sa, b, sb);
        Ok(Numeric::from_bigint(a / b, 0))
    }

    /// PostgreSQL's `select_div_scale`: from the base-10000 weights and leading digits.
    fn quotient_scale(&self, other: &Numeric) -> u16 {
        let (weight1, first1) = self.base_10000_lead();
        let (weight2, first2) = other.base_10000_lead();
        let mut weight = weight1 - weight2;
        if first1 <= first2 {
            weight -= 1;
        }
        (i64::from(MIN_SIGNIFICANT_DIGITS) - weight * 4)
            .max(i64::from(self.scale()))
            .max(i64::from(other.scale()))
            .clamp(0, i64::from(MAX_DISPLAY_SCALE)) as u16
    }

    /// The power of 10000 of the leading base-10000 digit, and that digit. (0, 0) for zero.
    pub(crate) fn base_10000_lead(&self) -> (i64, u32) {
        if self.is_zero() || !self.is_finite() {
            return (0, 0);
        }
        let weight = (self.integer_digits() - 1).div_euclid(4);
        let shift = i64::from(self.scale()) + weight * 4;
        let lead = match self.parts() {
            Some(Parts::Small(m)) => {
                let a = m.unsigned_abs();
                if shift >= 0 {
                    match 10u128.checked_pow(shift as u32) {
                        Some(p) => a / p,
                        None => 0,
                    }
                } else {
                    a * 10u128.pow((-shift) as u32)
                }
            }
            Some(Parts::Big(m)) => {
                let digits = m.magnitude().to_str_radix(10);
                let take = (digits.len() as i64 - shift).clamp(0, digits.len() as i64) as usize;
                digits[..take].parse().unwrap_or(0)
            }
            None => 0,
        };
        (weight, lead as u32)
    }
}

pub(crate) fn align(a: i128, sa: u16, b: i128, sb: u16) -> Option<(i128, i128, u16)> {
    match sa.cmp(&sb) {
        Ordering::Equal => Some((a, b, sa)),
        Ordering::Less => Some((a.checked_mul(pow10(u32::from(sb - sa))?)?, b, sb)),
        Ordering::Greater => Some((a, b.checked_mul(pow10(u32::from(sa - sb))?)?, sa)),
    }
}

pub(crate) fn align_big(a: BigInt, sa: u16, b: BigInt, sb: u16) -> (BigInt, BigInt, u16) {
    match sa.cmp(&sb) {
        Ordering::Equal => (a, b, sa),
        Ordering::Less => (a * big_pow10(u32::from(sb - sa)), b, sb),
        Ordering::Greater => (a, b * big_pow10(u32::from(sa - sb)), sa),
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
    fn result_scales() {
        is(n("1.5").add(&n("2.25")), "3.75");
        is(n("1.5").mul(&n("2.25")), "3.375");
        is(n("1").div(&n("3")), "0.33333333333333333333");
        is(n("10").div(&n("3")), "3.3333333333333333");
        is(n("2").div(&n("3")), "0.66666666666666666667");
        is(n("100").div(&n("7")), "14.2857142857142857");
        is(n("1").div(&n("1000")), "0.00100000000000000000");
        is(n("6.0").div(&n("3.00")), "2.0000000000000000");
        is(n("-7.5").rem(&n("2")), "-1.5");
        is(n("7").div_trunc(&n("-2")), "-3");
        is(n("1e30").mul(&n("1e30")), &format!("1{}", "0".repeat(60)));
        assert_eq!(
            n("1").div(&n("0")).map_err(|e| e.state),
            Err(SqlState::DIVISION_BY_ZERO)
        );
    }

    #[test]
    fn specials() {
        is(n("inf").add(&n("-inf")), "NaN");
        is(n("inf").mul(&n("0")), "NaN");
        is(n("1").div(&n("inf")), "0");
        is(n("5").rem(&n("inf")), "5");
        assert!(n("NaN") > n("inf") && n("inf") > n("1e100") && n("-inf") < n("-1e100"));
        assert_eq!(n("NaN"), n("NaN"));
        assert_eq!(n("1.0"), n("1.00"));
        assert!(n("-2") < n("-1.5") && n("1e50") > n("9.9e49"));
    }
}
