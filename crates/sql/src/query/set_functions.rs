//! Set-returning functions: computed as arrays, then unnested.
//!
//! `generate_series(1, 3)` is the array `{1,2,3}` made by a registry-like function and taken apart by
//! DataFusion's Unnest. In the select list all sets of a row advance together, padded with NULLs.

use super::binder::Binder;
use super::coerce::{CastContext, can_cast};
use super::expressions::Site;
use super::functions::FunctionUdf;
use super::overload::undefined_function;
use super::scope::Typed;
use crate::context::StatementContext;
use crate::functions::{ArgType, Evaluate, ReturnType, ScalarFunction, Volatility};
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::expr::Unnest;
use std::cmp::Ordering;
use std::sync::Arc;
use types::{Datum, Error, Numeric, Result, SqlState, SqlType};

/// Elements a series may have: its array is in memory as a whole.
const MAX_SERIES: usize = 20_000_000;

/// Whether a call of this name yields a set.
pub(crate) fn is_set_returning(name: &str) -> bool {
    matches!(
        name,
        "generate_series" | "unnest" | "generate_subscripts" | "pg_partition_ancestors"
    ) || matches!(
        name,
        "jsonb_array_elements"
            | "json_array_elements"
            | "jsonb_array_elements_text"
            | "json_array_elements_text"
            | "jsonb_object_keys"
            | "json_object_keys"
            | "regexp_split_to_table"
            | "string_to_table"
            | "regexp_matches"
            | "jsonb_each"
            | "jsonb_each_text"
            | "json_each"
            | "json_each_text"
            | "jsonb_path_query"
    )
}

/// A set's columns as arrays, with the names that they have of their own.
pub(super) type SetColumns = Vec<(Option<String>, Typed)>;

/// Whether a function's columns are what its alias says.
pub(crate) fn is_record_function(name: &str) -> bool {
    matches!(
        name,
        "json_to_record" | "jsonb_to_record" | "json_to_recordset" | "jsonb_to_recordset"
    )
}

impl Binder<'_> {
    /// A set-returning call in an expression: its array under an Unnest mark.
    pub fn set_returning(
        &mut self,
        name: &str,
        arguments: Vec<Typed>,
        site: &Site<'_>,
    ) -> Result<Typed> {
        if !site.sets {
            return Err(Error::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                format!("set-returning functions are not allowed in {}", site.clause),
            ));
        }
        let array = self.set_array(name, arguments)?;
        let element = array
            .ty
            .element_type()
            .ok_or_else(|| Error::internal("a set that is no array"))?;
        Ok(Typed::new(
            Expr::Unnest(Unnest {
                expr: Box::new(array.expr),
                outer: false,
            }),
            element,
        ))
    }

    /// The columns of a set-returning function in FROM, each as an array, with the names that they have
    /// of their own.
    pub(super) fn set_columns(&mut self, name: &str, arguments: Vec<Typed>) -> Result<SetColumns> {
        match name {
            "unnest" if arguments.len() > 1 => {
                let mut columns = Vec::with_capacity(arguments.len());
                for argument in arguments {
                    columns.push((
                        Some(name.to_string()),
                        self.set_array(name, vec![argument])?,
                    ));
                }
                Ok(columns)
            }
            "jsonb_each" | "jsonb_each_text" | "json_each" | "json_each_text" => {
                let mut columns = Vec::with_capacity(2);
                for column in ["key", "value"] {
                    let function = format!("{name} {column}");
                    let array = self
                        .set_array(&function, arguments.clone())
                        .map_err(|error| {
                            let types: Vec<SqlType> =
                                arguments.iter().map(|a| a.ty.clone()).collect();
                            match error.state {
                                SqlState::UNDEFINED_FUNCTION => undefined_function(name, &types),
                                _ => error,
                            }
                        })?;
                    columns.push((Some(column.to_string()), array));
                }
                Ok(columns)
            }
            "jsonb_array_elements"
            | "json_array_elements"
            | "jsonb_array_elements_text"
            | "json_array_elements_text" => {
                let array = self.set_array(name, arguments)?;
                Ok(vec![(Some("value".to_string()), array)])
            }
            _ => Ok(vec![(None, self.set_array(name, arguments)?)]),
        }
    }

    /// The array whose elements a set-returning function yields.
    pub fn set_array(&mut self, name: &str, mut arguments: Vec<Typed>) -> Result<Typed> {
        let types: Vec<SqlType> = arguments.iter().map(|a| a.ty.clone()).collect();
        match (name, types.len()) {
            ("unnest", 1) => {
                let array = arguments.remove(0);
                if array.ty.is_array() {
                    Ok(array)
                } else if array.is_unknown() {
                    Err(Error::new(
                        SqlState::AMBIGUOUS_FUNCTION,
                        "function unnest(unknown) is not unique",
                    ))
                } else {
                    Err(undefined_function(name, &types))
                }
            }
            ("generate_series", 2 | 3) => {
                let element =
                    series_type(&types).ok_or_else(|| undefined_function(name, &types))?;
                let step = if element.is_numeric() {
                    element.clone()
                } else {
                    SqlType::Interval
                };
                let mut bound = Vec::new();
                let mut bound_types = Vec::new();
                for (index, argument) in arguments.into_iter().enumerate() {
                    let to = if index < 2 { &element } else { &step };
                    let typed = self.coerce(argument, to, false)?;
                    bound_types.push(typed.ty);
                    bound.push(typed.expr);
                }
                let returned = if matches!(element, SqlType::Numeric(_)) {
                    let mut shape = bound_types[0].clone();
                    for ty in &bound_types[1..] {
                        shape = super::coerce::wider_numeric(&shape, ty);
                    }
                    shape
                } else {
                    element
                };
                let ty = SqlType::Array(Box::new(returned));
                let call = FunctionUdf::new(Arc::new(series_function()), bound_types, ty.clone());
                Ok(Typed::new(call.call(bound), ty))
            }
            ("generate_subscripts", 2) if types[0].is_array() => {
                let dimension = self.coerce(arguments.remove(1), &SqlType::Int4, false)?;
                let array = arguments.remove(0);
                let ty = SqlType::Array(Box::new(SqlType::Int4));
                let call = FunctionUdf::new(
                    Arc::new(subscripts_function()),
                    vec![array.ty, SqlType::Int4],
                    ty.clone(),
                );
                Ok(Typed::new(call.call(vec![array.expr, dimension.expr]), ty))
            }
            // There are no partitioned tables, so nothing has ancestors.
            ("pg_partition_ancestors", 1) => {
                let relation = self.coerce(arguments.remove(0), &SqlType::Regclass, false)?;
                let ty = SqlType::Array(Box::new(SqlType::Regclass));
                let call = FunctionUdf::new(
                    Arc::new(function("pg_partition_ancestors", 1, |_, _| {
                        Ok(no_elements(SqlType::Regclass))
                    })),
                    vec![relation.ty],
                    ty.clone(),
                );
                Ok(Typed::new(call.call(vec![relation.expr]), ty))
            }
            // The others are functions of the registry that return an array.
            _ => self
                .call(&crate::functions::sets::set_function(name), arguments)
                .map_err(|error| match error.state {
                    SqlState::UNDEFINED_FUNCTION => undefined_function(name, &types),
                    _ => error,
                }),
        }
    }
}

fn no_elements(ty: SqlType) -> Datum {
    Datum::Array(Arc::new(types::Array::from_elements(ty, Vec::new())))
}

fn series_type(types: &[SqlType]) -> Option<SqlType> {
    use SqlType as T;
    let ends = &types[..2];
    let fits = |to: &SqlType| ends.iter().all(|t| can_cast(t, to, CastContext::Implicit));
    let step_fits = |to: &SqlType| {
        types
            .get(2)
            .is_none_or(|t| can_cast(t, to, CastContext::Implicit))
    };
    if types.len() == 3 && ends.iter().any(T::is_datetime) || ends.iter().any(|t| t.is_datetime()) {
        let with_zone = ends.iter().any(|t| matches!(t, T::TimestampTz));
        // Dates alone resolve to timestamp with time zone, the preferred type.
        let without_zone = ends.iter().any(|t| matches!(t, T::Timestamp));
        let to = if with_zone || !without_zone {
            T::TimestampTz
        } else {
            T::Timestamp
        };
        return (types.len() == 3 && fits(&to) && step_fits(&T::Interval)).then_some(to);
    }
    [T::Int4, T::Int8, T::Numeric(None)]
        .into_iter()
        .find(|to| fits(to) && step_fits(to))
}

fn function(name: &'static str, count: usize, evaluate: Evaluate) -> ScalarFunction {
    ScalarFunction {
        name,
        arguments: vec![ArgType::Any; count],
        variadic: false,
        returns: ReturnType::Exact(SqlType::Void),
        volatility: Volatility::Stable,
        strict: true,
        evaluate,
        kernel: None,
    }
}

fn series_function() -> ScalarFunction {
    function("generate_series", 3, series)
}

fn subscripts_function() -> ScalarFunction {
    function("generate_subscripts", 2, |_, arguments| match arguments {
        [Datum::Array(array), Datum::Int4(dimension)] => {
            let bounds = array.lower(*dimension).zip(array.upper(*dimension));
            let elements = match bounds {
                Some((lower, upper)) => (lower..=upper).map(Datum::Int4).collect(),
                None => Vec::new(),
            };
            Ok(Datum::Array(Arc::new(types::Array::from_elements(
                SqlType::Int4,
                elements,
            ))))
        }
        _ => Ok(Datum::Null),
    })
}

fn zero_step() -> Error {
    Error::new(
        SqlState::INVALID_PARAMETER_VALUE,
        "step size cannot equal zero",
    )
}

fn too_long() -> Error {
    Error::new(
        SqlState::PROGRAM_LIMIT_EXCEEDED,
        format!("a series may have at most {MAX_SERIES} elements"),
    )
}

fn series(context: &StatementContext, arguments: &[Datum]) -> Result<Datum> {
    let (from, to, step) = match arguments {
        [from, to] => (from, to, None),
        [from, to, step] => (from, to, Some(step)),
        _ => return Err(Error::internal("a series without bounds")),
    };
    let (element_type, elements) = match (from, to) {
        (Datum::Int4(from), Datum::Int4(to)) => {
            let step = match step {
                Some(Datum::Int4(step)) => i64::from(*step),
                _ => 1,
            };
            let values = integers(i64::from(*from), i64::from(*to), step)?;
            let values = values.into_iter().map(|v| Datum::Int4(v as i32)).collect();
            (SqlType::Int4, values)
        }
        (Datum::Int8(from), Datum::Int8(to)) => {
            let step = match step {
                Some(Datum::Int8(step)) => *step,
                _ => 1,
            };
            let values = integers(*from, *to, step)?;
            (SqlType::Int8, values.into_iter().map(Datum::Int8).collect())
        }
        (Datum::Numeric(from), Datum::Numeric(to)) => {
            let step = match step {
                Some(Datum::Numeric(step)) => step.clone(),
                _ => Numeric::from(1i64),
            };
            (SqlType::Numeric(None), numerics(from, to, &step)?)
        }
        (Datum::Timestamp(from), Datum::Timestamp(to)) => {
            let values = instants(context, *from, *to, step, false)?;
            (
                SqlType::Timestamp,
                values.into_iter().map(Datum::Timestamp).collect(),
            )
        }
        (Datum::TimestampTz(from), Datum::TimestampTz(to)) => {
            let values = instants(context, *from, *to, step, true)?;
            (
                SqlType::TimestampTz,
                values.into_iter().map(Datum::TimestampTz).collect(),
            )
        }
        _ => return Err(Error::internal("a series of mixed types")),
    };
    Ok(Datum::Array(Arc::new(types::Array::from_elements(
        element_type,
        elements,
    ))))
}

fn integers(from: i64, to: i64, step: i64) -> Result<Vec<i64>> {
    if step == 0 {
        return Err(zero_step());
    }
    let mut values = Vec::new();
    let mut next = Some(from);
    while let Some(value) = next {
        if (step > 0 && value > to) || (step < 0 && value < to) {
            break;
        }
        if values.len() >= MAX_SERIES {
            return Err(too_long());
        }
        values.push(value);
        next = value.checked_add(step);
    }
    Ok(values)
}

fn numerics(from: &Numeric, to: &Numeric, step: &Numeric) -> Result<Vec<Datum>> {
    let sign = step.signum();
    if sign == 0 || !step.is_finite() || !from.is_finite() || !to.is_finite() {
        return Err(zero_step());
    }
    let mut values = Vec::new();
    let mut value = from.clone();
    loop {
        let order = value.cmp(to);
        if (sign > 0 && order == Ordering::Greater) || (sign < 0 && order == Ordering::Less) {
            return Ok(values);
        }
        if values.len() >= MAX_SERIES {
            return Err(too_long());
        }
        let next = value.add(step)?;
        values.push(Datum::Numeric(std::mem::replace(&mut value, next)));
    }
}

fn instants(
    context: &StatementContext,
    from: i64,
    to: i64,
    step: Option<&Datum>,
    zoned: bool,
) -> Result<Vec<i64>> {
    let Some(Datum::Interval(step)) = step else {
        return Err(Error::internal("a series of times without a step"));
    };
    let sign = step.comparable_micros().signum();
    if sign == 0 {
        return Err(zero_step());
    }
    let format = super::casts::format_context(&context.settings);
    let mut values = Vec::new();
    let mut value = from;
    while (sign > 0 && value <= to) || (sign < 0 && value >= to) {
        if values.len() >= MAX_SERIES {
            return Err(too_long());
        }
        values.push(value);
        let local = if zoned {
            format.time_zone.to_local(value)
        } else {
            value
        };
        let moved = add_interval(local, step)?;
        value = if zoned {
            format.time_zone.to_utc(moved)
        } else {
            moved
        };
    }
    Ok(values)
}

/// A timestamp moved by months (clamped to the month's end), days and microseconds.
fn add_interval(timestamp: i64, step: &types::Interval) -> Result<i64> {
    use types::datetime::{Civil, check_timestamp, days_in_month};
    let mut civil = Civil::from_timestamp(timestamp);
    let months = civil.year * 12 + i64::from(civil.month) - 1 + i64::from(step.months);
    civil.year = months.div_euclid(12);
    civil.month = months.rem_euclid(12) as u32 + 1;
    civil.day = civil.day.min(days_in_month(civil.year, civil.month));
    let moved = civil.to_timestamp()?;
    let days = i64::from(step.days) * types::interval::MICROS_PER_DAY;
    moved
        .checked_add(days)
        .and_then(|m| m.checked_add(step.micros))
        .ok_or_else(|| Error::new(SqlState::DATETIME_FIELD_OVERFLOW, "timestamp out of range"))
        .and_then(check_timestamp)
}
