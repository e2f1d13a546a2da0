//! Functions of numbers: integers and `numeric`. Those of floats alone are in [`super::float_math`].

use super::arithmetic::{bigint_out_of_range, division_by_zero, integer_out_of_range};
use super::define::*;
use super::{Registry, Volatility};
use types::{Datum, Error, Numeric, Result, SqlState};

/// Digits of a scale argument that mean anything: beyond them lies only zero or the value itself.
const SCALE_RANGE: std::ops::RangeInclusive<i32> = -131_072..=16_383;

pub(super) fn register(registry: &mut Registry) {
    let mut d = Definitions::new(registry, Volatility::Immutable);
    integers(&mut d);
    numerics(&mut d);
    powers(&mut d);
    scales(&mut d);
    buckets(&mut d);
}

fn integers(d: &mut Definitions<'_>) {
    d.strict("abs(int2) int2", |_, args| match args {
        [Datum::Int2(v)] => v
            .checked_abs()
            .map(Datum::Int2)
            .ok_or_else(super::arithmetic::smallint_out_of_range),
        _ => Ok(Datum::Null),
    });
    d.strict("abs(int4) int4", |_, args| {
        let value = int4(args, 0)?.checked_abs();
        value.map(Datum::Int4).ok_or_else(integer_out_of_range)
    });
    d.strict("abs(int8) int8", |_, args| {
        let value = int8(args, 0)?.checked_abs();
        value.map(Datum::Int8).ok_or_else(bigint_out_of_range)
    });
    d.strict("mod(int2, int2) int2", |_, args| match args {
        [Datum::Int2(_), Datum::Int2(0)] => Err(division_by_zero()),
        [Datum::Int2(a), Datum::Int2(b)] => Ok(Datum::Int2(a.wrapping_rem(*b))),
        _ => Ok(Datum::Null),
    });
    d.strict("mod(int4, int4) int4", |_, args| {
        match (int4(args, 0)?, int4(args, 1)?) {
            (_, 0) => Err(division_by_zero()),
            (a, b) => Ok(Datum::Int4(a.wrapping_rem(b))),
        }
    });
    d.strict("mod(int8, int8) int8", |_, args| {
        match (int8(args, 0)?, int8(args, 1)?) {
            (_, 0) => Err(division_by_zero()),
            (a, b) => Ok(Datum::Int8(a.wrapping_rem(b))),
        }
    });
    d.strict("gcd(int4, int4) int4", |_, args| {
        let found = gcd(int4(args, 0)?.into(), int4(args, 1)?.into());
        i32::try_from(found)
            .map(Datum::Int4)
            .map_err(|_| integer_out_of_range())
    });
    d.strict("gcd(int8, int8) int8", |_, args| {
        i64::try_from(gcd(int8(args, 0)?, int8(args, 1)?))
            .map(Datum::Int8)
            .map_err(|_| bigint_out_of_range())
    });
    d.strict("lcm(int4, int4) int4", |_, args| {
        let found = lcm(int4(args, 0)?.into(), int4(args, 1)?.into());
        i32::try_from(found)
            .map(Datum::Int4)
            .map_err(|_| integer_out_of_range())
    });
    d.strict("lcm(int8, int8) int8", |_, args| {
        i64::try_from(lcm(int8(args, 0)?, int8(args, 1)?))
            .map(Datum::Int8)
            .map_err(|_| bigint_out_of_range())
    });
    d.strict("factorial(int8) numeric", |_, args| {
        Numeric::factorial(int8(args, 0)?).map(Datum::Numeric)
    });
}

fn gcd(a: i64, b: i64) -> u64 {
    let (mut a, mut b) = (a.unsigned_abs(), b.unsigned_abs());
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

fn lcm(a: i64, b: i64) -> u128 {
    match gcd(a, b) {
        0 => 0,
        divisor => u128::from(a.unsigned_abs() / divisor) * u128::from(b.unsigned_abs()),
    }
}

fn numerics(d: &mut Definitions<'_>) {
    d.strict("abs(numeric) numeric", |_, args| {
        Ok(Datum::Numeric(numeric(args, 0)?.abs()))
    });
    for name in ["ceil(numeric) numeric", "ceiling(numeric) numeric"] {
        d.strict(name, |_, args| Ok(Datum::Numeric(numeric(args, 0)?.ceil())));
    }
    d.strict("floor(numeric) numeric", |_, args| {
        Ok(Datum::Numeric(numeric(args, 0)?.floor()))
    });
    d.strict("round(numeric) numeric", |_, args| {
        Ok(Datum::Numeric(numeric(args, 0)?.round(0)))
    });
    d.strict("round(numeric, int4) numeric", |_, args| {
        Ok(Datum::Numeric(numeric(args, 0)?.round(scale(args)?)))
    });
    d.strict("trunc(numeric) numeric", |_, args| {
        Ok(Datum::Numeric(numeric(args, 0)?.trunc(0)))
    });
    d.strict("trunc(numeric, int4) numeric", |_, args| {
        Ok(Datum::Numeric(numeric(args, 0)?.trunc(scale(args)?)))
    });
    d.strict("sign(numeric) numeric", |_, args| {
        let value = numeric(args, 0)?;
        Ok(Datum::Numeric(if value.is_nan() {
            value
        } else {
            Numeric::from(value.signum())
        }))
    });
    d.strict("mod(numeric, numeric) numeric", |_, args| {
        numeric(args, 0)?
            .rem(&numeric(args, 1)?)
            .map(Datum::Numeric)
    });
    d.strict("div(numeric, numeric) numeric", |_, args| {
        numeric(args, 0)?
            .div_trunc(&numeric(args, 1)?)
            .map(Datum::Numeric)
    });
    d.strict("gcd(numeric, numeric) numeric", |_, args| {
        numeric(args, 0)?
            .gcd(&numeric(args, 1)?)
            .map(Datum::Numeric)
    });
    d.strict("lcm(numeric, numeric) numeric", |_, args| {
        let (a, b) = (numeric(args, 0)?, numeric(args, 1)?);
        let divisor = a.gcd(&b)?;
        if divisor.is_zero() {
            return Ok(Datum::Numeric(divisor));
        }
        let scale = i32::from(a.scale().max(b.scale()));
        let product = a.div_trunc(&divisor)?.mul(&b)?.abs();
        Ok(Datum::Numeric(product.round(scale)))
    });
}

fn scale(args: &[Datum]) -> Result<i32> {
    Ok(int4(args, 1)?.clamp(*SCALE_RANGE.start(), *SCALE_RANGE.end()))
}

fn powers(d: &mut Definitions<'_>) {
    d.strict("sqrt(numeric) numeric", |_, args| {
        numeric(args, 0)?.sqrt().map(Datum::Numeric)
    });
    d.strict("exp(numeric) numeric", |_, args| {
        numeric(args, 0)?.exp().map(Datum::Numeric)
    });
    d.strict("ln(numeric) numeric", |_, args| {
        numeric(args, 0)?.ln().map(Datum::Numeric)
    });
    for name in ["log(numeric) numeric", "log10(numeric) numeric"] {
        d.strict(name, |_, args| {
            numeric(args, 0)?
                .log(&Numeric::from(10))
                .map(Datum::Numeric)
        });
    }
    d.strict("log(numeric, numeric) numeric", |_, args| {
        numeric(args, 1)?
            .log(&numeric(args, 0)?)
            .map(Datum::Numeric)
    });
    for name in [
        "power(numeric, numeric) numeric",
        "pow(numeric, numeric) numeric",
    ] {
        d.strict(name, |_, args| {
            numeric(args, 0)?
                .power(&numeric(args, 1)?)
                .map(Datum::Numeric)
        });
    }
}

fn scales(d: &mut Definitions<'_>) {
    d.strict("scale(numeric) int4", |_, args| {
        let value = numeric(args, 0)?;
        Ok(if value.is_finite() {
            Datum::Int4(value.scale().into())
        } else {
            Datum::Null
        })
    });
    d.strict("min_scale(numeric) int4", |_, args| {
        let value = numeric(args, 0)?;
        Ok(if value.is_finite() {
            Datum::Int4(value.min_scale().into())
        } else {
            Datum::Null
        })
    });
    d.strict("trim_scale(numeric) numeric", |_, args| {
        Ok(Datum::Numeric(numeric(args, 0)?.trim_scale()))
    });
}

fn bucket_error(message: &str) -> Error {
    Error::new(SqlState::INVALID_ARGUMENT_FOR_WIDTH_BUCKET, message)
}

fn buckets(d: &mut Definitions<'_>) {
    d.strict(
        "width_bucket(float8, float8, float8, int4) int4",
        |_, args| {
            let (value, low, high) = (float8(args, 0)?, float8(args, 1)?, float8(args, 2)?);
            let count = bucket_count(args)?;
            if value.is_nan() || low.is_nan() || high.is_nan() {
                return Err(bucket_error(
                    "operand, lower bound, and upper bound cannot be NaN",
                ));
            }
            if low.is_infinite() || high.is_infinite() {
                return Err(bucket_error("lower and upper bounds must be finite"));
            }
            let (value, low, high) = if low <= high {
                (value, low, high)
            } else {
                (-value, -low, -high)
            };
            if low == high {
                return Err(bucket_error("lower bound cannot equal upper bound"));
            }
            let bucket = if value < low {
                0
            } else if value >= high {
                i64::from(count) + 1
            } else {
                // Halved, so that the width of the whole range stays finite.
                let part = (value / 2.0 - low / 2.0) / (high / 2.0 - low / 2.0);
                ((part * f64::from(count)) as i64).min(i64::from(count) - 1) + 1
            };
            i32::try_from(bucket)
                .map(Datum::Int4)
                .map_err(|_| integer_out_of_range())
        },
    );
    d.strict(
        "width_bucket(numeric, numeric, numeric, int4) int4",
        |_, args| {
            let (value, low, high) = (numeric(args, 0)?, numeric(args, 1)?, numeric(args, 2)?);
            let count = bucket_count(args)?;
            if value.is_nan() || low.is_nan() || high.is_nan() {
                return Err(bucket_error(
                    "operand, lower bound, and upper bound cannot be NaN",
                ));
            }
            if low.is_infinite() || high.is_infinite() {
                return Err(bucket_error("lower and upper bounds must be finite"));
            }
            let (value, low, high) = if low <= high {
                (value, low, high)
            } else {
                (value.negate(), low.negate(), high.negate())
            };
            if low == high {
                return Err(bucket_error("lower bound cannot equal upper bound"));
            }
            let bucket = if value < low {
                0
            } else if value >= high {
                i64::from(count) + 1
            } else {
                let part = value.sub(&low)?.mul(&Numeric::from(count))?;
                let at = part.div_trunc(&high.sub(&low)?)?;
                at.to_i64().unwrap_or(0) + 1
            };
            i32::try_from(bucket)
                .map(Datum::Int4)
                .map_err(|_| integer_out_of_range())
        },
    );
    d.nullable(
        "width_bucket(anyelement, anyarray) int4",
        |_, args| match args {
            [Datum::Null, _] | [_, Datum::Null] => Ok(Datum::Null),
            [value, Datum::Array(bounds)] => {
                if bounds.dims.len() > 1 {
                    return Err(Error::new(
                        SqlState::ARRAY_SUBSCRIPT_ERROR,
                        "thresholds must be one-dimensional array",
                    ));
                }
                if bounds.elements.iter().any(Datum::is_null) {
                    return Err(Error::new(
                        SqlState::NULL_VALUE_NOT_ALLOWED,
                        "thresholds array must not contain NULLs",
                    ));
                }
                let below = |bound: &Datum| bound.compare(value) != std::cmp::Ordering::Greater;
                Ok(Datum::Int4(bounds.elements.partition_point(below) as i32))
            }
            _ => Ok(Datum::Null),
        },
    );
}

fn bucket_count(args: &[Datum]) -> Result<i32> {
    match int4(args, 3)? {
        n if n > 0 => Ok(n),
        _ => Err(bucket_error("count must be greater than zero")),
    }
}
