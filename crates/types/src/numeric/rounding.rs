//! Fewer digits: rounding, cutting, type modifiers.

use super::*;

impl Numeric {
    /// Rounds half away from zero to `scale` digits after the point (negative: before it).
    pub fn round(&self, scale: i32) -> Numeric {
        self.rescale(scale, div_round_i128, div_round_big)
    }

    /// Cuts off after `scale` digits.
    pub fn trunc(&self, scale: i32) -> Numeric {
        self.rescale(scale, |n, d| n / d, |n, d| n / d)
    }

    pub fn floor(&self) -> Numeric {
        self.rescale(
            0,
            |n, d| n.div_euclid(d),
            |n, d| {
                let q = n / d;
                if n.is_negative() && !(n % d).is_zero() {
                    q - 1
                } else {
                    q
                }
            },
        )
    }

    pub fn ceil(&self) -> Numeric {
        self.negate().floor().negate()
    }

    fn rescale(
        &self,
        scale: i32,
        small: impl Fn(i128, i128) -> i128,
        big: impl Fn(&BigInt, &BigInt) -> BigInt,
    ) -> Numeric {
        let scale = scale.clamp(-(MAX_INTEGER_DIGITS as i32), MAX_SCALE);
        let current = i32::from(self.scale());
        let Some(parts) = self.parts() else {
            return self.clone();
        };
        if scale >= current {
            let up = (scale - current) as u32;
            return match parts {
                Parts::Small(m) => match pow10(up).and_then(|p| m.checked_mul(p)) {
                    Some(m) => Numeric::from_i128(m, scale as u16),
                    None => Numeric::from_bigint(BigInt::from(m) * big_pow10(up), scale as u16),
                },
                Parts::Big(m) => Numeric::from_bigint(m * big_pow10(up), scale as u16),
            };
        }
        let down = (current - scale) as u32;
        let m = match parts {
            Parts::Small(m) => {
                if let Some(p) = pow10(down) {
                    let q = small(m, p);
                    if scale >= 0 {
                        return Numeric::from_i128(q, scale as u16);
                    }
                    BigInt::from(q)
                } else {
                    big(&BigInt::from(m), &big_pow10(down))
                }
            }
            Parts::Big(m) => big(&m, &big_pow10(down)),
        };
        if scale >= 0 {
            Numeric::from_bigint(m, scale as u16)
        } else {
            Numeric::from_bigint(m * big_pow10((-scale) as u32), 0)
        }
    }

    /// The same number with as few digits after the point as it needs.
    pub fn trim_scale(&self) -> Numeric {
        let (mut scale, parts) = match self.parts() {
            Some(p) => (self.scale(), p),
            None => return self.clone(),
        };
        match parts {
            Parts::Small(mut m) => {
                while scale > 0 && m % 10 == 0 {
                    m /= 10;
                    scale -= 1;
                }
                Numeric::from_i128(m, scale)
            }
            Parts::Big(m) => {
                let digits = m.magnitude().to_str_radix(10);
                let zeros = digits.len() - digits.trim_end_matches('0').len();
                let drop = zeros.min(usize::from(scale)) as u16;
                Numeric::from_bigint(m / big_pow10(u32::from(drop)), scale - drop)
            }
        }
    }

    /// The scale the value needs to be exact (`min_scale()`).
    pub fn min_scale(&self) -> u16 {
        self.trim_scale().scale()
    }

    /// Fits the value into `numeric(precision, scale)`; 22003 if it cannot be.
    pub fn apply_typmod(&self, precision: u16, scale: i16) -> Result<Numeric> {
        let field_overflow = |detail: String| {
            Error::new(
                SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
                "numeric field overflow",
            )
            .detail(detail)
        };
        if self.is_nan() {
            return Ok(self.clone());
        }
        if self.is_infinite() {
            return Err(field_overflow(format!(
                "A field with precision {precision}, scale {scale} cannot hold an infinite value."
            )));
        }
        let rounded = if i32::from(self.scale()) == i32::from(scale) {
            self.clone()
        } else {
            self.round(i32::from(scale))
        };
        let max_digits = i64::from(precision) - i64::from(scale);
        if !rounded.is_zero() && rounded.integer_digits() > max_digits {
            let bound = if max_digits == 0 {
                "1".to_string()
            } else {
                format!("10^{max_digits}")
            };
            return Err(field_overflow(format!(
                "A field with precision {precision}, scale {scale} must round to an absolute value less than {bound}."
            )));
        }
        Ok(rounded)
    }
}
