//! Roots, powers, logarithms and exponentials of numerics.
//!
//! They are computed in fixed point: integers scaled by a power of ten, with a few digits more than
//! the result shows. Result scales follow PostgreSQL: at least 16 significant digits.

use crate::numeric::{MAX_DISPLAY_SCALE, MIN_SIGNIFICANT_DIGITS, big_pow10};
use crate::{Error, Numeric, Result, SqlState};
use num_bigint::BigInt;
use num_traits::{One, Signed, Zero};
use std::cmp::Ordering;

/// Digits computed beyond those that are shown.
const GUARD_DIGITS: u32 = 12;
/// The largest argument of `exp` whose result could be written (131072 digits × ln 10).
const MAX_EXP_ARGUMENT: f64 = 301_809.0;
/// log10(e)
const LOG10_E: f64 = std::f64::consts::LOG10_E;

fn overflow() -> Error {
    Error::new(
        SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
        "value overflows numeric format",
    )
}

fn result_scale(significant_exponent: i64, least: u16) -> u16 {
    (i64::from(MIN_SIGNIFICANT_DIGITS) - significant_exponent)
        .max(i64::from(least))
        .clamp(0, i64::from(MAX_DISPLAY_SCALE)) as u16
}

/// The value as an integer of 10^-`digits`; the value must be finite.
fn to_fixed(value: &Numeric, digits: u32) -> BigInt {
    let (m, scale) = value.to_bigint_parts().unwrap_or_default();
    let scale = u32::from(scale);
    if scale <= digits {
        m * big_pow10(digits - scale)
    } else {
        m / big_pow10(scale - digits)
    }
}

fn from_fixed(value: BigInt, digits: u32, scale: u16) -> Result<Numeric> {
    let exact = Numeric::from_bigint_scaled(value, i64::from(digits))?;
    Ok(exact.round(i32::from(scale)))
}

/// exp(x) for fixed-point x, by halving the argument and squaring back.
fn exp_fixed(x: &BigInt, digits: u32) -> BigInt {
    // Halve until the series is about as long as the row of squarings: both cost one product a step.
    let small_bits = 8 + f64::from(digits).sqrt() as u64;
    let whole_bits = x
        .magnitude()
        .bits()
        .saturating_sub(big_pow10(digits).bits());
    let halvings = whole_bits + small_bits;
    // Each squaring doubles the error: about a third of a digit.
    let extra = (halvings / 3) as u32 + 4;
    let one = big_pow10(digits + extra);
    let reduced: BigInt = (x * big_pow10(extra)) >> halvings;
    let mut sum = one.clone();
    let mut term = one.clone();
    let mut n = 1u32;
    loop {
        term = &term * &reduced / &one / n;
        if term.is_zero() {
            break;
        }
        sum += &term;
        n += 1;
    }
    for _ in 0..halvings {
        sum = &sum * &sum / &one;
    }
    sum / big_pow10(extra)
}

/// ln(x) for fixed-point x > 0, by Newton's method on exp from the double's estimate.
fn ln_fixed(x: &BigInt, estimate: f64, digits: u32) -> BigInt {
    let one = big_pow10(digits);
    let mut y = to_fixed(&Numeric::from_f64(estimate, 17), digits);
    // Each round triples the digits (Halley's method); the estimate has about 15.
    let mut have = 12u32;
    loop {
        let e = exp_fixed(&y, digits);
        let correction: BigInt = (x - &e) * 2u32 * &one / (x + &e);
        y += &correction;
        if have > digits || correction.is_zero() {
            return y;
        }
        have *= 3;
    }
}

/// ln of a positive numeric as a double, also beyond the doubles' range.
fn ln_estimate(value: &Numeric) -> f64 {
    let (m, scale) = value.to_bigint_parts().unwrap_or_default();
    let digits = m.magnitude().to_str_radix(10);
    let head = &digits[..digits.len().min(17)];
    let exponent = digits.len() as f64 - head.len() as f64 - f64::from(scale);
    head.parse::<f64>().unwrap_or(1.0).ln() + exponent * std::f64::consts::LN_10
}

/// Digits up to which exponentials and logarithms are computed: more would take seconds.
const MAX_WORKING_DIGITS: u32 = 10_000;

fn check_effort(digits: u32) -> Result<u32> {
    if digits > MAX_WORKING_DIGITS {
        return Err(Error::unsupported(format!(
            "a numeric exponential or logarithm of more than {MAX_WORKING_DIGITS} digits"
        )));
    }
    Ok(digits)
}

/// Digits of fixed point that give `scale` shown digits of a result of magnitude 10^`exponent`.
fn working_digits(scale: u16, exponent: i64) -> u32 {
    u32::from(scale) + exponent.max(0) as u32 + GUARD_DIGITS
}

impl Numeric {
    /// `sqrt(numeric)`; 2201F of a negative number.
    pub fn sqrt(&self) -> Result<Numeric> {
        if self.is_nan() {
            return Ok(Numeric::NAN);
        }
        if self.signum() < 0 {
            return Err(Error::new(
                SqlState::INVALID_ARGUMENT_FOR_POWER,
                "cannot take square root of a negative number",
            ));
        }
        if self.is_infinite() {
            return Ok(Numeric::INFINITY);
        }
        let (weight, _) = self.base_10000_lead();
        let scale = result_scale((weight + 1) * 2 - 1, self.scale());
        self.sqrt_to_scale(scale)
    }

    /// The square root of a finite number that is not negative, at `scale` digits after the point.
    pub fn sqrt_to_scale(&self, scale: u16) -> Result<Numeric> {
        // One digit more, then round.
        let digits = u32::from(scale) + 1;
        let scaled = to_fixed(self, digits * 2);
        from_fixed(scaled.sqrt(), digits, scale)
    }

    /// `exp(numeric)`.
    pub fn exp(&self) -> Result<Numeric> {
        if !self.is_finite() {
            return Ok(if self.signum() < 0 {
                Numeric::ZERO
            } else {
                self.clone()
            });
        }
        let x = self.to_f64();
        let scale = result_scale((x * LOG10_E).clamp(-1000.0, 1000.0) as i64, self.scale());
        self.exp_to_scale(scale)
    }

    fn exp_to_scale(&self, scale: u16) -> Result<Numeric> {
        let x = self.to_f64();
        if x > MAX_EXP_ARGUMENT {
            return Err(overflow());
        }
        let exponent = (x * LOG10_E).ceil() as i64;
        if exponent < -i64::from(scale) - 1 {
            return Ok(Numeric::from_i128(0, scale));
        }
        let digits =
            check_effort(working_digits(scale, exponent) + exponent.unsigned_abs() as u32)?;
        from_fixed(exp_fixed(&to_fixed(self, digits), digits), digits, scale)
    }

    fn check_log_argument(&self) -> Result<()> {
        let message = match self.signum() {
            0 => "cannot take logarithm of zero",
            -1 => "cannot take logarithm of a negative number",
            _ => return Ok(()),
        };
        Err(Error::new(SqlState::INVALID_ARGUMENT_FOR_LOG, message))
    }

    /// `ln(numeric)`; 2201E of zero or a negative number.
    pub fn ln(&self) -> Result<Numeric> {
        if self.is_nan() {
            return Ok(Numeric::NAN);
        }
        self.check_log_argument()?;
        if self.is_infinite() {
            return Ok(Numeric::INFINITY);
        }
        let scale = result_scale(self.ln_weight(), self.scale());
        self.ln_to_scale(scale)
    }

    /// The decimal exponent of the logarithm's leading digit.
    fn ln_weight(&self) -> i64 {
        let estimate = ln_estimate(self).abs();
        if estimate == 0.0 {
            0
        } else {
            estimate.log10() as i64
        }
    }

    fn ln_to_scale(&self, scale: u16) -> Result<Numeric> {
        if *self == Numeric::ONE {
            return Ok(Numeric::from_i128(0, scale));
        }
        let estimate = ln_estimate(self);
        // Small arguments need their own digits to be seen at all.
        let extra = (-estimate * LOG10_E).max(0.0) as u32;
        let digits = check_effort(working_digits(scale, 8) + extra + u32::from(self.scale()))?;
        from_fixed(
            ln_fixed(&to_fixed(self, digits), estimate, digits),
            digits,
            scale,
        )
    }

    /// `log(base, numeric)`; `log(numeric)` has base 10.
    pub fn log(&self, base: &Numeric) -> Result<Numeric> {
        if self.is_nan() || base.is_nan() {
            return Ok(Numeric::NAN);
        }
        base.check_log_argument()?;
        self.check_log_argument()?;
        if self.is_infinite() || base.is_infinite() {
            return Ok(match (self.is_infinite(), base.is_infinite()) {
                (true, true) => Numeric::NAN,
                (true, false) => Numeric::INFINITY,
                _ => Numeric::ZERO,
            });
        }
        let (ln_base, ln_value) = (ln_estimate(base), ln_estimate(self));
        let ratio = (ln_value / ln_base).abs();
        let exponent = if ratio > 0.0 { ratio.log10() as i64 } else { 0 };
        let scale = result_scale(exponent, self.scale().max(base.scale()));
        let inner = scale.saturating_add(GUARD_DIGITS as u16 * 2);
        let numerator = self.ln_to_scale(inner)?;
        let denominator = base.ln_to_scale(inner)?;
        if denominator.is_zero() {
            return Err(Error::new(SqlState::DIVISION_BY_ZERO, "division by zero"));
        }
        numerator.div_to_scale(&denominator, scale)
    }

    /// `power(numeric, numeric)`.
    pub fn power(&self, exponent: &Numeric) -> Result<Numeric> {
        let refuse = |message: &str| {
            Err(Error::new(
                SqlState::INVALID_ARGUMENT_FOR_POWER,
                message.to_string(),
            ))
        };
        if self.is_nan() || exponent.is_nan() {
            // 1 to any power, and anything to the power 0, is 1.
            let one = (*self == Numeric::ONE && !self.is_nan()) || exponent.is_zero();
            return Ok(if one { Numeric::ONE } else { Numeric::NAN });
        }
        if self.is_zero() && exponent.signum() < 0 {
            return refuse("zero raised to a negative power is undefined");
        }
        let integer = exponent.is_finite() && exponent.min_scale() == 0;
        if self.signum() < 0 && !integer && exponent.is_finite() {
            return refuse(
                "a negative number raised to a non-integer power yields a complex result",
            );
        }
        if self.is_infinite() || exponent.is_infinite() {
            return Ok(self.infinite_power(exponent));
        }
        if integer && let Some(n) = exponent.to_i64().and_then(|n| i32::try_from(n).ok()) {
            return self.integer_power(n, exponent.scale());
        }
        let least = self.scale().max(exponent.scale());
        if self.is_zero() {
            return Ok(Numeric::from_i128(
                0,
                least.max(MIN_SIGNIFICANT_DIGITS as u16),
            ));
        }
        if self.signum() < 0 {
            return Err(overflow());
        }
        let magnitude = ln_estimate(self) * exponent.to_f64() * LOG10_E;
        if magnitude > 131_072.0 {
            return Err(overflow());
        }
        let scale = result_scale(magnitude.clamp(-1000.0, 1000.0) as i64, least);
        // The logarithm's error grows with the result: compute that many digits more.
        let inner = i64::from(scale) + magnitude.max(0.0) as i64 + i64::from(GUARD_DIGITS) * 2;
        let inner = inner.min(i64::from(u16::MAX)) as u16;
        self.ln_to_scale(inner)?.mul(exponent)?.exp_to_scale(scale)
    }

    fn infinite_power(&self, exponent: &Numeric) -> Numeric {
        if exponent.is_zero() || *self == Numeric::ONE {
            return Numeric::ONE;
        }
        if exponent.is_infinite() {
            let grows = match self.abs().cmp(&Numeric::ONE) {
                Ordering::Equal => return Numeric::ONE,
                Ordering::Greater => exponent.signum() > 0,
                Ordering::Less => exponent.signum() < 0,
            };
            return if grows {
                Numeric::INFINITY
            } else {
                Numeric::ZERO
            };
        }
        if exponent.signum() < 0 {
            return Numeric::ZERO;
        }
        let odd = exponent.rem(&Numeric::from(2)).is_ok_and(|r| !r.is_zero());
        if self.signum() < 0 && odd {
            Numeric::NEG_INFINITY
        } else {
            Numeric::INFINITY
        }
    }

    fn integer_power(&self, n: i32, exponent_scale: u16) -> Result<Numeric> {
        let least = self.scale().max(exponent_scale);
        if self.is_zero() {
            let scale = least.max(MIN_SIGNIFICANT_DIGITS as u16);
            return Ok(if n == 0 {
                Numeric::ONE.round(i32::from(scale))
            } else {
                Numeric::from_i128(0, scale)
            });
        }
        let magnitude = ln_estimate(&self.abs()) * LOG10_E * f64::from(n);
        if magnitude > 131_073.0 {
            return Err(overflow());
        }
        if magnitude + 1.0 < -f64::from(MAX_DISPLAY_SCALE) {
            return Ok(Numeric::from_i128(0, MAX_DISPLAY_SCALE as u16));
        }
        let scale = result_scale(magnitude as i64, least);
        let (m, s) = self.to_bigint_parts().unwrap_or_default();
        let count = n.unsigned_abs();
        // Exact while the digits stay within bounds, else in fixed point with guard digits.
        let exact_digits = (m.magnitude().bits() as f64 * 0.302).ceil() * f64::from(count);
        const EXACT_DIGITS: f64 = 20_000.0;
        if exact_digits < EXACT_DIGITS {
            let power = m.pow(count);
            let power_scale = i64::from(s) * i64::from(count);
            if n >= 0 {
                let digits = u32::try_from(power_scale).map_err(|_| overflow())?;
                return from_exact(power, digits, scale);
            }
            // 1 / (power × 10^-power_scale), to one digit more than shown.
            let digits = u32::from(scale) + 1;
            let top = big_pow10(digits + power_scale as u32);
            let (q, r) = (&top * 2u32 / &power, BigInt::one());
            let rounded: BigInt = if q.is_negative() {
                (q - r) / 2
            } else {
                (q + r) / 2
            };
            return from_exact(rounded, digits, scale);
        }
        let inner = i64::from(scale) + magnitude.max(0.0) as i64 + i64::from(GUARD_DIGITS) * 2;
        let inner = inner.min(i64::from(u16::MAX)) as u16;
        let positive = self
            .abs()
            .ln_to_scale(inner)?
            .mul(&Numeric::from(n))?
            .exp_to_scale(scale)?;
        Ok(if self.signum() < 0 && n % 2 != 0 {
            positive.negate()
        } else {
            positive
        })
    }

    /// `factorial(bigint)`.
    pub fn factorial(n: i64) -> Result<Numeric> {
        /// The largest argument whose factorial fits the format.
        const MAX_ARGUMENT: i64 = 32_177;
        if n < 0 {
            return Err(Error::new(
                SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
                "factorial of a negative number is undefined",
            ));
        }
        if n > MAX_ARGUMENT {
            return Err(overflow());
        }
        let product = (2..=n).fold(BigInt::one(), |p, k| p * k);
        Ok(Numeric::from_bigint(product, 0))
    }

    /// Greatest common divisor; NaN if an argument is not finite.
    pub fn gcd(&self, other: &Numeric) -> Result<Numeric> {
        let (mut a, mut b) = (self.abs(), other.abs());
        if !a.is_finite() || !b.is_finite() {
            return Ok(Numeric::NAN);
        }
        let scale = i32::from(a.scale().max(b.scale()));
        while !b.is_zero() {
            let r = a.rem(&b)?;
            a = b;
            b = r;
        }
        Ok(a.round(scale))
    }
}

/// An exact fixed-point number rounded to `scale`, without the format's limit in between.
fn from_exact(value: BigInt, digits: u32, scale: u16) -> Result<Numeric> {
    let scale_digits = u32::from(scale);
    if digits <= scale_digits {
        return Numeric::from_bigint_scaled(value * big_pow10(scale_digits - digits), scale.into());
    }
    let divisor = big_pow10(digits - scale_digits);
    let half = &divisor / 2u32;
    let shifted = if value.is_negative() {
        value - half
    } else {
        value + half
    };
    Numeric::from_bigint_scaled(shifted / divisor, scale.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn n(text: &str) -> Numeric {
        Numeric::parse(text).unwrap()
    }

    fn is(result: Result<Numeric>, expected: &str) {
        assert_eq!(result.map(|v| v.to_string()).as_deref(), Ok(expected));
    }

    #[test]
    fn roots_and_powers() {
        is(n("2").sqrt(), "1.414213562373095");
        is(n("4").sqrt(), "2.000000000000000");
        is(n("144.00").sqrt(), "12.000000000000000");
        is(n("2").power(&n("3")), "8.0000000000000000");
        is(n("2").power(&n("-2")), "0.2500000000000000");
        is(n("2").power(&n("0.5")), "1.4142135623730950");
        is(n("1.5").power(&n("2")), "2.2500000000000000");
        is(n("-2").power(&n("3")), "-8.0000000000000000");
        assert_eq!(
            n("0").power(&n("-1")).map_err(|e| e.state),
            Err(SqlState::INVALID_ARGUMENT_FOR_POWER)
        );
        assert_eq!(
            n("-1").sqrt().map_err(|e| e.state),
            Err(SqlState::INVALID_ARGUMENT_FOR_POWER)
        );
    }

    #[test]
    fn exponentials_and_logarithms() {
        is(n("1").exp(), "2.7182818284590452");
        is(n("1.0").exp(), "2.7182818284590452");
        is(n("0").exp(), "1.0000000000000000");
        is(n("10").exp(), "22026.465794806717");
        is(n("-1").exp(), "0.3678794411714423");
        is(n("2").ln(), "0.6931471805599453");
        is(n("2.0").ln(), "0.6931471805599453");
        is(n("10").ln(), "2.3025850929940457");
        is(n("100").log(&n("10")), "2.0000000000000000");
        is(n("64").log(&n("2")), "6.0000000000000000");
        assert_eq!(
            n("0").ln().map_err(|e| e.state),
            Err(SqlState::INVALID_ARGUMENT_FOR_LOG)
        );
        is(Numeric::factorial(20), "2432902008176640000");
    }
}
