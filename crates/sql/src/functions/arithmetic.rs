//! Arithmetic with PostgreSQL's overflow and division errors.

use super::{ArgType, Registry, ReturnType, ScalarFunction, Volatility};
use crate::context::StatementContext;
use types::datetime;
use types::datetime_fn::{
    date_minus_date, date_plus_days, time_plus_interval, timestamp_minus_timestamp,
    timestamp_plus_interval, timestamptz_plus_interval,
};
use types::timezone::TimeZone;
use types::{Datum, Error, Interval, Numeric, Result, SqlState, SqlType};

pub fn integer_out_of_range() -> Error {
    out_of_range("integer out of range")
}

pub fn smallint_out_of_range() -> Error {
    out_of_range("smallint out of range")
}

pub fn bigint_out_of_range() -> Error {
    out_of_range("bigint out of range")
}

pub fn division_by_zero() -> Error {
    Error::new(SqlState::DIVISION_BY_ZERO, "division by zero")
}

fn out_of_range(message: &str) -> Error {
    Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, message)
}

fn overflow() -> Error {
    out_of_range("value out of range: overflow")
}

fn underflow() -> Error {
    out_of_range("value out of range: underflow")
}

/// The analyser gives a function only arguments of its own types.
pub(super) fn wrong_arguments(function: &str) -> Error {
    Error::internal(format!("{function} called with arguments of other types"))
}

pub(super) fn strict(
    name: &'static str,
    arguments: &[SqlType],
    returns: ReturnType,
    volatility: Volatility,
    evaluate: super::Evaluate,
) -> ScalarFunction {
    ScalarFunction {
        name,
        arguments: arguments.iter().cloned().map(ArgType::Exact).collect(),
        variadic: false,
        returns,
        volatility,
        strict: true,
        evaluate,
        kernel: None,
    }
}

/// An immutable binary or unary operator over exact types.
pub(super) fn add(
    registry: &mut Registry,
    name: &'static str,
    arguments: &[SqlType],
    returns: SqlType,
    evaluate: super::Evaluate,
) {
    let returns = ReturnType::Exact(returns);
    let function = strict(name, arguments, returns, Volatility::Immutable, evaluate);
    registry.add(function);
}

/// Operations of one integer type: `None` is an overflow. Divisors are not zero.
macro_rules! integer_operators {
    ($registry:ident, $type:ident, $range:ident) => {{
        integer_operators!(@binary $registry, "op +", $type, $range, |a, b| a.checked_add(b));
        integer_operators!(@binary $registry, "op -", $type, $range, |a, b| a.checked_sub(b));
        integer_operators!(@binary $registry, "op *", $type, $range, |a, b| a.checked_mul(b));
        integer_operators!(@divide $registry, "op /", $type, $range, |a, b| a.checked_div(b));
        integer_operators!(@divide $registry, "op %", $type, $range, |a, b| Some(a.wrapping_rem(b)));
        integer_operators!(@binary $registry, "op &", $type, $range, |a, b| Some(a & b));
        integer_operators!(@binary $registry, "op |", $type, $range, |a, b| Some(a | b));
        integer_operators!(@binary $registry, "op #", $type, $range, |a, b| Some(a ^ b));
        integer_operators!(@unary $registry, "op -u", $type, $range, |a| a.checked_neg());
        integer_operators!(@unary $registry, "op +u", $type, $range, |a| Some(a));
        integer_operators!(@unary $registry, "op ~u", $type, $range, |a| Some(!a));
        integer_operators!(@unary $registry, "op @u", $type, $range, |a| a.checked_abs());
        integer_operators!(@shift $registry, "op <<", $type, wrapping_shl);
        integer_operators!(@shift $registry, "op >>", $type, wrapping_shr);
    }};
    (@binary $registry:ident, $name:literal, $type:ident, $range:ident, |$a:ident, $b:ident| $result:expr) => {
        add($registry, $name, &[SqlType::$type, SqlType::$type], SqlType::$type, |_, args| {
            let [Datum::$type(a), Datum::$type(b)] = args else {
                return Err(wrong_arguments($name));
            };
            let ($a, $b) = (*a, *b);
            $result.map(Datum::$type).ok_or_else($range)
        })
    };
    (@divide $registry:ident, $name:literal, $type:ident, $range:ident, |$a:ident, $b:ident| $result:expr) => {
        add($registry, $name, &[SqlType::$type, SqlType::$type], SqlType::$type, |_, args| {
            let [Datum::$type(a), Datum::$type(b)] = args else {
                return Err(wrong_arguments($name));
            };
            let ($a, $b) = (*a, *b);
            if $b == 0 {
                return Err(division_by_zero());
            }
            $result.map(Datum::$type).ok_or_else($range)
        })
    };
    (@unary $registry:ident, $name:literal, $type:ident, $range:ident, |$a:ident| $result:expr) => {
        add($registry, $name, &[SqlType::$type], SqlType::$type, |_, args| {
            let [Datum::$type(a)] = args else {
                return Err(wrong_arguments($name));
            };
            let $a = *a;
            $result.map(Datum::$type).ok_or_else($range)
        })
    };
    (@shift $registry:ident, $name:literal, $type:ident, $shift:ident) => {
        add($registry, $name, &[SqlType::$type, SqlType::Int4], SqlType::$type, |_, args| {
            let [Datum::$type(a), Datum::Int4(by)] = args else {
                return Err(wrong_arguments($name));
            };
            Ok(Datum::$type(a.$shift(*by as u32)))
        })
    };
}

/// The four operations on floats, with the checks PostgreSQL makes on their results.
#[derive(Clone, Copy)]
enum FloatOperation {
    Add,
    Subtract,
    Multiply,
    Divide,
}

macro_rules! float_operation {
    ($function:ident, $native:ty) => {
        fn $function(operation: FloatOperation, a: $native, b: $native) -> Result<$native> {
            let result = match operation {
                FloatOperation::Add => a + b,
                FloatOperation::Subtract => a - b,
                FloatOperation::Multiply => a * b,
                FloatOperation::Divide => {
                    if b == 0.0 && !a.is_nan() {
                        return Err(division_by_zero());
                    }
                    a / b
                }
            };
            if result.is_infinite() && !a.is_infinite() && !b.is_infinite() {
                return Err(overflow());
            }
            if result == 0.0 {
                let vanished = match operation {
                    FloatOperation::Multiply => a != 0.0 && b != 0.0,
                    FloatOperation::Divide => a != 0.0 && !b.is_infinite(),
                    _ => false,
                };
                if vanished {
                    return Err(underflow());
                }
            }
            Ok(result)
        }
    };
}

float_operation!(float4_operation, f32);
float_operation!(float8_operation, f64);

macro_rules! float_operators {
    ($registry:ident, $type:ident, $function:ident) => {{
        float_operators!(@one $registry, "op +", Add, $type, $function);
        float_operators!(@one $registry, "op -", Subtract, $type, $function);
        float_operators!(@one $registry, "op *", Multiply, $type, $function);
        float_operators!(@one $registry, "op /", Divide, $type, $function);
        integer_operators!(@unary $registry, "op -u", $type, overflow, |a| Some(-a));
        integer_operators!(@unary $registry, "op +u", $type, overflow, |a| Some(a));
        integer_operators!(@unary $registry, "op @u", $type, overflow, |a| Some(a.abs()));
    }};
    (@one $registry:ident, $name:literal, $operation:ident, $type:ident, $function:ident) => {
        add($registry, $name, &[SqlType::$type, SqlType::$type], SqlType::$type, |_, args| {
            let [Datum::$type(a), Datum::$type(b)] = args else {
                return Err(wrong_arguments($name));
            };
            $function(FloatOperation::$operation, *a, *b).map(Datum::$type)
        })
    };
}

/// A `float4` and a `float8` meet as `float8`; so does a `float4` with an exact number.
fn mixed_float_operators(registry: &mut Registry) {
    macro_rules! mixed {
        ($name:literal, $operation:ident) => {
            for types in [
                [SqlType::Float4, SqlType::Float8],
                [SqlType::Float8, SqlType::Float4],
            ] {
                add(registry, $name, &types, SqlType::Float8, |_, args| {
                    let (a, b) = match args {
                        [Datum::Float4(a), Datum::Float8(b)] => (f64::from(*a), *b),
                        [Datum::Float8(a), Datum::Float4(b)] => (*a, f64::from(*b)),
                        _ => return Err(wrong_arguments($name)),
                    };
                    float8_operation(FloatOperation::$operation, a, b).map(Datum::Float8)
                });
            }
        };
    }
    mixed!("op +", Add);
    mixed!("op -", Subtract);
    mixed!("op *", Multiply);
    mixed!("op /", Divide);
}

// ---- numeric --------------------------------------------------------------------------------

fn numeric_operators(registry: &mut Registry) {
    let numeric = SqlType::Numeric(None);
    macro_rules! binary {
        ($name:literal, $method:ident) => {
            add(
                registry,
                $name,
                &[numeric.clone(), numeric.clone()],
                numeric.clone(),
                |_, args| {
                    let [Datum::Numeric(a), Datum::Numeric(b)] = args else {
                        return Err(wrong_arguments($name));
                    };
                    a.$method(b).map(Datum::Numeric)
                },
            )
        };
    }
    macro_rules! unary {
        ($name:literal, $method:ident) => {
            add(
                registry,
                $name,
                std::slice::from_ref(&numeric),
                numeric.clone(),
                |_, args| {
                    let [Datum::Numeric(a)] = args else {
                        return Err(wrong_arguments($name));
                    };
                    Ok(Datum::Numeric(Numeric::$method(a)))
                },
            )
        };
    }
    binary!("op +", add);
    binary!("op -", sub);
    binary!("op *", mul);
    binary!("op /", div);
    binary!("op %", rem);
    binary!("op ^", power);
    unary!("op -u", negate);
    unary!("op +u", clone);
    unary!("op @u", abs);
}

/// `^` on floats, with PostgreSQL's errors (it is also `power`).
pub fn float_power(base: f64, exponent: f64) -> Result<f64> {
    let bad = |message: &str| Error::new(SqlState::INVALID_ARGUMENT_FOR_POWER, message);
    if base == 0.0 && exponent < 0.0 {
        return Err(bad("zero raised to a negative power is undefined"));
    }
    if base < 0.0 && exponent.is_finite() && exponent.fract() != 0.0 {
        return Err(bad(
            "a negative number raised to a non-integer power yields a complex result",
        ));
    }
    let result = base.powf(exponent);
    if result.is_infinite() && base.is_finite() && exponent.is_finite() {
        return Err(overflow());
    }
    if result == 0.0 && base != 0.0 && base.is_finite() && exponent.is_finite() {
        return Err(underflow());
    }
    Ok(result)
}

// ---- dates and times --------------------------------------------------------------------------

fn zone(context: &StatementContext) -> Result<TimeZone> {
    TimeZone::parse(&context.settings.time_zone)
}

fn moved(context: &StatementContext, when: &Datum, by: &Interval) -> Result<Datum> {
    match when {
        Datum::Date(days) => {
            let start = datetime::date_to_timestamp(*days)?;
            timestamp_plus_interval(start, by).map(Datum::Timestamp)
        }
        Datum::Timestamp(micros) => timestamp_plus_interval(*micros, by).map(Datum::Timestamp),
        Datum::TimestampTz(micros) => {
            timestamptz_plus_interval(*micros, by, &zone(context)?).map(Datum::TimestampTz)
        }
        Datum::Time(micros) => Ok(Datum::Time(time_plus_interval(*micros, by))),
        _ => Err(wrong_arguments("interval arithmetic")),
    }
}

fn plus_interval(context: &StatementContext, args: &[Datum]) -> Result<Datum> {
    match args {
        [Datum::Interval(by), when] | [when, Datum::Interval(by)] => moved(context, when, by),
        _ => Err(wrong_arguments("op +")),
    }
}

fn minus_interval(context: &StatementContext, args: &[Datum]) -> Result<Datum> {
    match args {
        [when, Datum::Interval(by)] => moved(context, when, &by.checked_neg()?),
        _ => Err(wrong_arguments("op -")),
    }
}

fn time_operators(registry: &mut Registry) {
    use SqlType::{Date, Float8, Int4, Interval as Span, Time, Timestamp, TimestampTz};
    let moved = [
        (Date, Timestamp),
        (Timestamp, Timestamp),
        (TimestampTz, TimestampTz),
        (Time, Time),
    ];
    for (when, result) in moved {
        // Days and months of timestamptz depend on the session's zone.
        let volatility = if when == TimestampTz {
            Volatility::Stable
        } else {
            Volatility::Immutable
        };
        let mut one = |name, arguments: &[SqlType], evaluate| {
            let returns = ReturnType::Exact(result.clone());
            registry.add(strict(name, arguments, returns, volatility, evaluate));
        };
        one("op +", &[when.clone(), Span], plus_interval);
        one("op +", &[Span, when.clone()], plus_interval);
        one("op -", &[when.clone(), Span], minus_interval);
    }
    add(
        registry,
        "op +",
        &[Date, Int4],
        Date,
        |_, args| match args {
            [Datum::Date(date), Datum::Int4(days)] => {
                date_plus_days(*date, i64::from(*days)).map(Datum::Date)
            }
            _ => Err(wrong_arguments("op +")),
        },
    );
    add(
        registry,
        "op +",
        &[Int4, Date],
        Date,
        |_, args| match args {
            [Datum::Int4(days), Datum::Date(date)] => {
                date_plus_days(*date, i64::from(*days)).map(Datum::Date)
            }
            _ => Err(wrong_arguments("op +")),
        },
    );
    add(
        registry,
        "op -",
        &[Date, Int4],
        Date,
        |_, args| match args {
            [Datum::Date(date), Datum::Int4(days)] => {
                date_plus_days(*date, -i64::from(*days)).map(Datum::Date)
            }
            _ => Err(wrong_arguments("op -")),
        },
    );
    add(
        registry,
        "op -",
        &[Date, Date],
        Int4,
        |_, args| match args {
            [Datum::Date(a), Datum::Date(b)] => date_minus_date(*a, *b).map(Datum::Int4),
            _ => Err(wrong_arguments("op -")),
        },
    );
    fn date_time(date: i32, time: i64) -> Result<Datum> {
        let start = datetime::date_to_timestamp(date)?;
        if !datetime::timestamp_is_finite(start) {
            return Ok(Datum::Timestamp(start));
        }
        datetime::check_timestamp(start + time).map(Datum::Timestamp)
    }
    add(
        registry,
        "op +",
        &[Date, Time],
        Timestamp,
        |_, args| match args {
            [Datum::Date(date), Datum::Time(time)] => date_time(*date, *time),
            _ => Err(wrong_arguments("op +")),
        },
    );
    add(
        registry,
        "op +",
        &[Time, Date],
        Timestamp,
        |_, args| match args {
            [Datum::Time(time), Datum::Date(date)] => date_time(*date, *time),
            _ => Err(wrong_arguments("op +")),
        },
    );
    for when in [Timestamp, TimestampTz] {
        add(
            registry,
            "op -",
            &[when.clone(), when],
            Span,
            |_, args| match args {
                [Datum::Timestamp(a), Datum::Timestamp(b)]
                | [Datum::TimestampTz(a), Datum::TimestampTz(b)] => {
                    timestamp_minus_timestamp(*a, *b).map(Datum::Interval)
                }
                _ => Err(wrong_arguments("op -")),
            },
        );
    }
    add(
        registry,
        "op -",
        &[Time, Time],
        Span,
        |_, args| match args {
            [Datum::Time(a), Datum::Time(b)] => Ok(Datum::Interval(Interval::new(0, 0, a - b))),
            _ => Err(wrong_arguments("op -")),
        },
    );
    add(
        registry,
        "op +",
        &[Span, Span],
        Span,
        |_, args| match args {
            [Datum::Interval(a), Datum::Interval(b)] => a.checked_add(b).map(Datum::Interval),
            _ => Err(wrong_arguments("op +")),
        },
    );
    add(
        registry,
        "op -",
        &[Span, Span],
        Span,
        |_, args| match args {
            [Datum::Interval(a), Datum::Interval(b)] => a.checked_sub(b).map(Datum::Interval),
            _ => Err(wrong_arguments("op -")),
        },
    );
    add(
        registry,
        "op *",
        &[Span, Float8],
        Span,
        |_, args| match args {
            [Datum::Interval(a), Datum::Float8(b)] => a.checked_mul(*b).map(Datum::Interval),
            _ => Err(wrong_arguments("op *")),
        },
    );
    add(
        registry,
        "op *",
        &[Float8, Span],
        Span,
        |_, args| match args {
            [Datum::Float8(b), Datum::Interval(a)] => a.checked_mul(*b).map(Datum::Interval),
            _ => Err(wrong_arguments("op *")),
        },
    );
    add(
        registry,
        "op /",
        &[Span, Float8],
        Span,
        |_, args| match args {
            [Datum::Interval(a), Datum::Float8(b)] => a.checked_div(*b).map(Datum::Interval),
            _ => Err(wrong_arguments("op /")),
        },
    );
    add(registry, "op -u", &[Span], Span, |_, args| match args {
        [Datum::Interval(a)] => a.checked_neg().map(Datum::Interval),
        _ => Err(wrong_arguments("op -u")),
    });
}

pub(super) fn register(registry: &mut Registry) {
    integer_operators!(registry, Int2, smallint_out_of_range);
    integer_operators!(registry, Int4, integer_out_of_range);
    integer_operators!(registry, Int8, bigint_out_of_range);
    float_operators!(registry, Float4, float4_operation);
    float_operators!(registry, Float8, float8_operation);
    mixed_float_operators(registry);
    numeric_operators(registry);
    time_operators(registry);
    add(
        registry,
        "op ^",
        &[SqlType::Float8, SqlType::Float8],
        SqlType::Float8,
        |_, args| match args {
            [Datum::Float8(a), Datum::Float8(b)] => float_power(*a, *b).map(Datum::Float8),
            _ => Err(wrong_arguments("op ^")),
        },
    );
    add(
        registry,
        "op |/u",
        &[SqlType::Float8],
        SqlType::Float8,
        |_, args| match args {
            [Datum::Float8(a)] if *a < 0.0 => Err(Error::new(
                SqlState::INVALID_ARGUMENT_FOR_POWER,
                "cannot take square root of a negative number",
            )),
            [Datum::Float8(a)] => Ok(Datum::Float8(a.sqrt())),
            _ => Err(wrong_arguments("op |/u")),
        },
    );
    add(
        registry,
        "op ||/u",
        &[SqlType::Float8],
        SqlType::Float8,
        |_, args| match args {
            [Datum::Float8(a)] => Ok(Datum::Float8(a.cbrt())),
            _ => Err(wrong_arguments("op ||/u")),
        },
    );
}
