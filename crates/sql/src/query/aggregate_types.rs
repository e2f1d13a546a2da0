//! Which implementation answers an aggregate's name, and with which types.
//!
//! Our own aggregates come first, then DataFusion's where the two agree. `sum` and `avg` take their
//! exact types here: integers sum into wider integers and decimals, and an average of exact numbers is
//! a quotient of sum and count, divided with PostgreSQL's precision.

use super::coerce::{numeric_of, numeric_shape};
use super::overload::undefined_function;
use datafusion::functions_aggregate as df;
use datafusion::logical_expr::AggregateUDF;
use std::sync::Arc;
use types::{Error, Result, SqlType};

/// Digits that a sum may have more than its summands: sums of 10^18 rows.
const SUM_DIGITS: i32 = 18;
/// Digits that DataFusion itself adds for a sum.
const DATAFUSION_SUM_DIGITS: i32 = 10;

/// An aggregate bound to its argument types.
pub(crate) struct Resolved {
    pub udaf: Arc<AggregateUDF>,
    /// What each argument is converted to.
    pub arguments: Vec<SqlType>,
    /// What DataFusion's function returns for them.
    pub produces: SqlType,
    /// What the call returns in SQL.
    pub returns: SqlType,
    /// The function sees to DISTINCT itself.
    pub distinct_within: bool,
}

pub(crate) const AGGREGATES: [&str; 39] = [
    "grouping",
    "count",
    "sum",
    "avg",
    "min",
    "max",
    "bool_and",
    "bool_or",
    "every",
    "string_agg",
    "array_agg",
    "json_agg",
    "jsonb_agg",
    "json_object_agg",
    "jsonb_object_agg",
    "stddev",
    "stddev_samp",
    "stddev_pop",
    "variance",
    "var_samp",
    "var_pop",
    "corr",
    "covar_pop",
    "covar_samp",
    "regr_avgx",
    "regr_avgy",
    "regr_count",
    "regr_intercept",
    "regr_r2",
    "regr_slope",
    "regr_sxx",
    "regr_sxy",
    "regr_syy",
    "bit_and",
    "bit_or",
    "bit_xor",
    "percentile_cont",
    "percentile_disc",
    "mode",
];

/// Finds the aggregate of this name for these argument types.
pub(crate) fn resolve(name: &str, types: &[SqlType], distinct: bool) -> Result<Resolved> {
    use SqlType as T;
    let missing = || undefined_function(name, types);
    let same = |udaf, ty: &SqlType| Resolved {
        udaf,
        arguments: vec![ty.clone()],
        produces: ty.clone(),
        returns: ty.clone(),
        distinct_within: false,
    };
    let float = |udaf, count: usize| Resolved {
        udaf,
        arguments: vec![T::Float8; count],
        produces: T::Float8,
        returns: T::Float8,
        distinct_within: false,
    };
    if let Some(own) = crate::functions::aggregates::resolve(name, types, distinct)? {
        return Ok(Resolved {
            udaf: own.udaf,
            arguments: own.arguments,
            produces: own.returns.clone(),
            returns: own.returns,
            distinct_within: own.distinct,
        });
    }
    Ok(match (name, types) {
        ("count", _) => Resolved {
            udaf: df::count::count_udaf(),
            arguments: types
                .iter()
                .map(|t| {
                    if matches!(t, T::Unknown) {
                        T::Text
                    } else {
                        t.clone()
                    }
                })
                .collect(),
            produces: T::Int8,
            returns: T::Int8,
            distinct_within: false,
        },
        ("grouping", [_, ..]) => Resolved {
            udaf: df::grouping::grouping_udaf(),
            arguments: types.to_vec(),
            produces: T::Int4,
            returns: T::Int4,
            distinct_within: false,
        },
        ("sum", [ty]) => match ty {
            T::Int2 | T::Int4 => Resolved {
                udaf: df::sum::sum_udaf(),
                arguments: vec![T::Int8],
                produces: T::Int8,
                returns: T::Int8,
                distinct_within: false,
            },
            T::Float4 | T::Float8 => Resolved {
                udaf: df::sum::sum_udaf(),
                arguments: vec![T::Float8],
                produces: T::Float8,
                returns: ty.clone(),
                distinct_within: false,
            },
            T::Int8 | T::Numeric(_) => match decimal_sum(ty) {
                Some(sum) => sum,
                None => return resolve(name, &[T::Numeric(None)], distinct),
            },
            _ => return Err(missing()),
        },
        ("avg", [T::Float4 | T::Float8]) => float(df::average::avg_udaf(), 1),
        ("min", [ty]) if has_extremes(ty) => same(df::min_max::min_udaf(), &text_if_unknown(ty)),
        ("max", [ty]) if has_extremes(ty) => same(df::min_max::max_udaf(), &text_if_unknown(ty)),
        ("bool_and" | "every", [T::Bool]) => same(df::bool_and_or::bool_and_udaf(), &T::Bool),
        ("bool_or", [T::Bool]) => same(df::bool_and_or::bool_or_udaf(), &T::Bool),
        ("string_agg", [value, _]) if value.is_string() => Resolved {
            udaf: df::string_agg::string_agg_udaf(),
            arguments: vec![T::Text, T::Text],
            produces: T::Json,
            returns: T::Text,
            distinct_within: false,
        },
        ("array_agg", [ty]) if !ty.is_array() => {
            let ty = text_if_unknown(ty);
            Resolved {
                udaf: df::array_agg::array_agg_udaf(),
                arguments: vec![ty.clone()],
                produces: T::Array(Box::new(ty.clone())),
                returns: T::Array(Box::new(ty)),
                distinct_within: false,
            }
        }
        ("bit_and", [ty]) if ty.is_integer() => same(df::bit_and_or_xor::bit_and_udaf(), ty),
        ("bit_or", [ty]) if ty.is_integer() => same(df::bit_and_or_xor::bit_or_udaf(), ty),
        ("bit_xor", [ty]) if ty.is_integer() => same(df::bit_and_or_xor::bit_xor_udaf(), ty),
        (_, [ty]) if ty.is_numeric() => match name {
            "stddev" | "stddev_samp" => float(df::stddev::stddev_udaf(), 1),
            "stddev_pop" => float(df::stddev::stddev_pop_udaf(), 1),
            "variance" | "var_samp" => float(df::variance::var_samp_udaf(), 1),
            "var_pop" => float(df::variance::var_pop_udaf(), 1),
            _ => return Err(missing()),
        },
        (_, [a, b]) if a.is_numeric() && b.is_numeric() => match name {
            "corr" => float(df::correlation::corr_udaf(), 2),
            "covar_pop" => float(df::covariance::covar_pop_udaf(), 2),
            "covar_samp" => float(df::covariance::covar_samp_udaf(), 2),
            "regr_avgx" => float(df::regr::regr_avgx_udaf(), 2),
            "regr_avgy" => float(df::regr::regr_avgy_udaf(), 2),
            "regr_intercept" => float(df::regr::regr_intercept_udaf(), 2),
            "regr_r2" => float(df::regr::regr_r2_udaf(), 2),
            "regr_slope" => float(df::regr::regr_slope_udaf(), 2),
            "regr_sxx" => float(df::regr::regr_sxx_udaf(), 2),
            "regr_sxy" => float(df::regr::regr_sxy_udaf(), 2),
            "regr_syy" => float(df::regr::regr_syy_udaf(), 2),
            _ => return Err(missing()),
        },
        _ if matches!(
            name,
            "json_agg"
                | "jsonb_agg"
                | "json_object_agg"
                | "jsonb_object_agg"
                | "percentile_cont"
                | "percentile_disc"
                | "mode"
                | "array_agg"
                | "min"
                | "max"
        ) =>
        {
            return Err(Error::unsupported(format!(
                "aggregate {}",
                super::overload::call_text(name, types)
            )));
        }
        _ => return Err(missing()),
    })
}

fn text_if_unknown(ty: &SqlType) -> SqlType {
    match ty {
        SqlType::Unknown | SqlType::Varchar(_) => SqlType::Text,
        other => other.clone(),
    }
}

/// Types with `min` and `max` that DataFusion's order suits.
fn has_extremes(ty: &SqlType) -> bool {
    ty.is_orderable() && !ty.is_array() && !matches!(ty, SqlType::Bool | SqlType::Jsonb)
}

/// The sum of decimals that have their scale in their type, in one that cannot overflow; `None` if
/// there is none.
fn decimal_sum(ty: &SqlType) -> Option<Resolved> {
    let (precision, scale) = numeric_shape(ty)?;
    let narrow = i32::from(crate::arrow_bridge::DECIMAL128_PRECISION);
    let (argument, produces) = if precision + DATAFUSION_SUM_DIGITS <= narrow {
        (precision, precision + DATAFUSION_SUM_DIGITS)
    } else {
        // DataFusion adds digits to a Decimal256 as far as it has them.
        let wide = i32::from(crate::arrow_bridge::DECIMAL256_PRECISION);
        let digits = (precision + SUM_DIGITS).max(narrow + 1);
        if digits > wide {
            return None;
        }
        (digits, (digits + DATAFUSION_SUM_DIGITS).min(wide))
    };
    let returns = numeric_of(produces, scale);
    Some(Resolved {
        udaf: df::sum::sum_udaf(),
        arguments: vec![numeric_of(argument, scale)],
        produces: returns.clone(),
        returns,
        distinct_within: false,
    })
}
