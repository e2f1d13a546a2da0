//! Functions of `double precision`: rounding, powers, trigonometry, random numbers.

use super::define::*;
use super::{Registry, Volatility};
use crate::context::StatementContext;
use types::{Datum, Error, Numeric, Result, SqlState};

/// Bits of a double's fraction: random numbers are multiples of 2^-53.
const FRACTION_BITS: u32 = 53;

pub(super) fn register(registry: &mut Registry) {
    let mut d = Definitions::new(registry, Volatility::Immutable);
    rounding(&mut d);
    powers(&mut d);
    trigonometry(&mut d);
    degrees(&mut d);
    hyperbolic(&mut d);
    let mut d = Definitions::new(registry, Volatility::Volatile);
    random(&mut d);
}

fn number(value: f64) -> Result<Datum> {
    Ok(Datum::Float8(value))
}

fn overflow() -> Error {
    out_of_range("value out of range: overflow")
}

fn underflow() -> Error {
    out_of_range("value out of range: underflow")
}

fn input_out_of_range() -> Error {
    out_of_range("input is out of range")
}

fn rounding(d: &mut Definitions<'_>) {
    d.strict("abs(float4) float4", |_, args| match args {
        [Datum::Float4(v)] => Ok(Datum::Float4(v.abs())),
        _ => Ok(Datum::Null),
    });
    d.strict("abs(float8) float8", |_, args| {
        number(float8(args, 0)?.abs())
    });
    for name in ["ceil(float8) float8", "ceiling(float8) float8"] {
        d.strict(name, |_, args| number(float8(args, 0)?.ceil()));
    }
    d.strict("floor(float8) float8", |_, args| {
        number(float8(args, 0)?.floor())
    });
    d.strict("round(float8) float8", |_, args| {
        number(float8(args, 0)?.round_ties_even())
    });
    d.strict("trunc(float8) float8", |_, args| {
        number(float8(args, 0)?.trunc())
    });
    d.strict("sign(float8) float8", |_, args| {
        let value = float8(args, 0)?;
        number(if value > 0.0 {
            1.0
        } else if value < 0.0 {
            -1.0
        } else {
            0.0
        })
    });
}

fn powers(d: &mut Definitions<'_>) {
    d.strict("sqrt(float8) float8", |_, args| {
        let value = float8(args, 0)?;
        if value < 0.0 {
            return Err(Error::new(
                SqlState::INVALID_ARGUMENT_FOR_POWER,
                "cannot take square root of a negative number",
            ));
        }
        number(value.sqrt())
    });
    d.strict("cbrt(float8) float8", |_, args| {
        number(float8(args, 0)?.cbrt())
    });
    d.strict("exp(float8) float8", |_, args| {
        let value = float8(args, 0)?;
        let result = value.exp();
        if result.is_infinite() && value.is_finite() {
            return Err(overflow());
        }
        if result == 0.0 && value.is_finite() {
            return Err(underflow());
        }
        number(result)
    });
    d.strict("ln(float8) float8", |_, args| {
        number(logarithm(float8(args, 0)?)?.ln())
    });
    for name in ["log(float8) float8", "log10(float8) float8"] {
        d.strict(name, |_, args| number(logarithm(float8(args, 0)?)?.log10()));
    }
    for name in ["power(float8, float8) float8", "pow(float8, float8) float8"] {
        d.strict(name, |_, args| {
            number(power(float8(args, 0)?, float8(args, 1)?)?)
        });
    }
    d.strict("pi() float8", |_, _| number(std::f64::consts::PI));
    d.strict("degrees(float8) float8", |_, args| {
        let value = float8(args, 0)?;
        let result = value / (std::f64::consts::PI / 180.0);
        if result.is_infinite() && value.is_finite() {
            return Err(overflow());
        }
        number(result)
    });
    d.strict("radians(float8) float8", |_, args| {
        number(float8(args, 0)? * (std::f64::consts::PI / 180.0))
    });
}

fn logarithm(value: f64) -> Result<f64> {
    let refuse = |message: &str| Error::new(SqlState::INVALID_ARGUMENT_FOR_LOG, message);
    if value == 0.0 {
        return Err(refuse("cannot take logarithm of zero"));
    }
    if value < 0.0 {
        return Err(refuse("cannot take logarithm of a negative number"));
    }
    Ok(value)
}

pub(super) fn power(base: f64, exponent: f64) -> Result<f64> {
    let refuse = |message: &str| Error::new(SqlState::INVALID_ARGUMENT_FOR_POWER, message);
    if base == 0.0 && exponent < 0.0 {
        return Err(refuse("zero raised to a negative power is undefined"));
    }
    if base < 0.0 && exponent.is_finite() && exponent.fract() != 0.0 {
        return Err(refuse(
            "a negative number raised to a non-integer power yields a complex result",
        ));
    }
    let result = base.powf(exponent);
    if base.is_finite() && exponent.is_finite() {
        if result.is_infinite() {
            return Err(overflow());
        }
        if result == 0.0 && base != 0.0 {
            return Err(underflow());
        }
    }
    Ok(result)
}

fn finite(value: f64) -> Result<f64> {
    if value.is_infinite() {
        return Err(input_out_of_range());
    }
    Ok(value)
}

/// An argument of an inverse sine or cosine.
fn unit(value: f64) -> Result<f64> {
    if (-1.0..=1.0).contains(&value) || value.is_nan() {
        Ok(value)
    } else {
        Err(input_out_of_range())
    }
}

fn trigonometry(d: &mut Definitions<'_>) {
    d.strict("sin(float8) float8", |_, args| {
        number(finite(float8(args, 0)?)?.sin())
    });
    d.strict("cos(float8) float8", |_, args| {
        number(finite(float8(args, 0)?)?.cos())
    });
    d.strict("tan(float8) float8", |_, args| {
        number(finite(float8(args, 0)?)?.tan())
    });
    d.strict("cot(float8) float8", |_, args| {
        number(1.0 / finite(float8(args, 0)?)?.tan())
    });
    d.strict("asin(float8) float8", |_, args| {
        number(unit(float8(args, 0)?)?.asin())
    });
    d.strict("acos(float8) float8", |_, args| {
        number(unit(float8(args, 0)?)?.acos())
    });
    d.strict("atan(float8) float8", |_, args| {
        number(float8(args, 0)?.atan())
    });
    d.strict("atan2(float8, float8) float8", |_, args| {
        number(float8(args, 0)?.atan2(float8(args, 1)?))
    });
}

/// Sine and cosine of degrees, exact at multiples of 30 and 45.
fn sin_cos_degrees(value: f64) -> (f64, f64) {
    let turned = value.rem_euclid(360.0);
    let quadrant = (turned / 90.0).floor();
    let (sin, cos) = first_quadrant(turned - quadrant * 90.0);
    match quadrant as i32 {
        0 | 4 => (sin, cos),
        1 => (cos, 0.0 - sin),
        2 => (0.0 - sin, 0.0 - cos),
        _ => (0.0 - cos, sin),
    }
}

fn first_quadrant(degrees: f64) -> (f64, f64) {
    let half = std::f64::consts::FRAC_1_SQRT_2;
    if degrees == 0.0 {
        (0.0, 1.0)
    } else if degrees == 30.0 {
        (0.5, 30f64.to_radians().cos())
    } else if degrees == 45.0 {
        (half, half)
    } else if degrees == 60.0 {
        (60f64.to_radians().sin(), 0.5)
    } else {
        let radians = degrees.to_radians();
        (radians.sin(), radians.cos())
    }
}

fn tan_degrees(value: f64) -> f64 {
    let turned = value.rem_euclid(180.0);
    if turned == 0.0 {
        0.0
    } else if turned == 45.0 {
        1.0
    } else if turned == 90.0 {
        f64::INFINITY.copysign(if value.rem_euclid(360.0) < 180.0 {
            1.0
        } else {
            -1.0
        })
    } else if turned == 135.0 {
        -1.0
    } else {
        let (sin, cos) = sin_cos_degrees(value);
        sin / cos
    }
}

/// An angle in degrees, exact where its sine or cosine is a half or one.
fn asin_degrees(value: f64) -> f64 {
    if value.abs() == 0.5 {
        30f64.copysign(value)
    } else if value.abs() == 1.0 {
        90f64.copysign(value)
    } else {
        value.asin() / 1f64.asin() * 90.0
    }
}

fn atan_degrees(value: f64) -> f64 {
    value.atan() / 1f64.atan() * 45.0
}

fn degrees(d: &mut Definitions<'_>) {
    d.strict("sind(float8) float8", |_, args| {
        number(sin_cos_degrees(finite(float8(args, 0)?)?).0)
    });
    d.strict("cosd(float8) float8", |_, args| {
        number(sin_cos_degrees(finite(float8(args, 0)?)?).1)
    });
    d.strict("tand(float8) float8", |_, args| {
        number(tan_degrees(finite(float8(args, 0)?)?))
    });
    d.strict("cotd(float8) float8", |_, args| {
        let value = finite(float8(args, 0)?)?;
        let tangent = tan_degrees(value);
        number(if tangent.is_infinite() {
            0.0
        } else {
            1.0 / tangent
        })
    });
    d.strict("asind(float8) float8", |_, args| {
        number(asin_degrees(unit(float8(args, 0)?)?))
    });
    d.strict("acosd(float8) float8", |_, args| {
        let value = unit(float8(args, 0)?)?;
        number(if value == 0.5 {
            60.0
        } else if value == -0.5 {
            120.0
        } else {
            value.acos() / 0f64.acos() * 90.0
        })
    });
    d.strict("atand(float8) float8", |_, args| {
        number(atan_degrees(float8(args, 0)?))
    });
    d.strict("atan2d(float8, float8) float8", |_, args| {
        number(float8(args, 0)?.atan2(float8(args, 1)?) / 1f64.atan() * 45.0)
    });
}

fn hyperbolic(d: &mut Definitions<'_>) {
    d.strict("sinh(float8) float8", |_, args| {
        number(float8(args, 0)?.sinh())
    });
    d.strict("cosh(float8) float8", |_, args| {
        number(float8(args, 0)?.cosh())
    });
    d.strict("tanh(float8) float8", |_, args| {
        number(float8(args, 0)?.tanh())
    });
    d.strict("asinh(float8) float8", |_, args| {
        number(float8(args, 0)?.asinh())
    });
    d.strict("acosh(float8) float8", |_, args| {
        let value = float8(args, 0)?;
        if value < 1.0 {
            return Err(input_out_of_range());
        }
        number(value.acosh())
    });
    d.strict("atanh(float8) float8", |_, args| {
        number(unit(float8(args, 0)?)?.atanh())
    });
}

/// A random number in [0, 1).
fn fraction(context: &StatementContext) -> f64 {
    let bits = context.env.rng.next_u64() >> (u64::BITS - FRACTION_BITS);
    bits as f64 / (1u64 << FRACTION_BITS) as f64
}

/// A random integer in `low..=high`.
fn between(context: &StatementContext, low: i64, high: i64) -> Result<i64> {
    if low > high {
        return Err(invalid(
            "lower bound must be less than or equal to upper bound",
        ));
    }
    let span = u128::from(high.abs_diff(low)) + 1;
    let step = (u128::from(context.env.rng.next_u64()) * span) >> u64::BITS;
    Ok(low.wrapping_add(step as u64 as i64))
}

fn random(d: &mut Definitions<'_>) {
    d.strict("random() float8", |context, _| number(fraction(context)));
    d.strict("random(int4, int4) int4", |context, args| {
        let value = between(context, int4(args, 0)?.into(), int4(args, 1)?.into())?;
        Ok(Datum::Int4(value as i32))
    });
    d.strict("random(int8, int8) int8", |context, args| {
        between(context, int8(args, 0)?, int8(args, 1)?).map(Datum::Int8)
    });
    d.strict("random(numeric, numeric) numeric", |context, args| {
        let (low, high) = (numeric(args, 0)?, numeric(args, 1)?);
        let scale = low.scale().max(high.scale());
        let parts = low
            .to_i128_at_scale(scale)
            .zip(high.to_i128_at_scale(scale));
        let narrow = parts.and_then(|(a, b)| i64::try_from(a).ok().zip(i64::try_from(b).ok()));
        let Some((low, high)) = narrow else {
            return Err(Error::unsupported("random over such wide bounds"));
        };
        let value = between(context, low, high)?;
        Ok(Datum::Numeric(Numeric::from_i128(value.into(), scale)))
    });
    d.strict("random_normal() float8", |context, _| {
        number(normal(context))
    });
    d.strict("random_normal(float8, float8) float8", |context, args| {
        number(normal(context) * float8(args, 1)? + float8(args, 0)?)
    });
    d.strict("setseed(float8) void", |_, _| {
        Err(Error::unsupported("setseed"))
    });
}

/// A normally distributed number, by Box and Muller's method.
fn normal(context: &StatementContext) -> f64 {
    let radius = (-2.0 * (1.0 - fraction(context)).ln()).sqrt();
    radius * (2.0 * std::f64::consts::PI * fraction(context)).cos()
}
