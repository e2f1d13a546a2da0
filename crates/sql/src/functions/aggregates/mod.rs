//! Our own aggregates: those that DataFusion lacks or gives another meaning.
//!
//! There are two kinds. Some collect the rows of a group as datums (`collected`) and compute the
//! result at the end (`kind`), so ORDER BY and DISTINCT inside a call are the same for all. Others
//! keep a sum or a value (`folded`, `fold`): they are for types that DataFusion's own aggregates do
//! not know, and work in moving frames too.

mod collected;
mod fold;
mod folded;
mod kind;

use crate::query::coerce::numeric_shape;
use collected::Collected;
use datafusion::logical_expr::AggregateUDF;
use folded::{FoldKind, Folded};
use kind::Kind;
use std::sync::Arc;
use types::{Error, Result, SqlType};

/// An aggregate chosen for the types of a call.
pub struct OwnAggregate {
    pub udaf: Arc<AggregateUDF>,
    /// What each argument is to be converted to.
    pub arguments: Vec<SqlType>,
    pub returns: SqlType,
    /// DISTINCT is done within.
    pub distinct: bool,
}

/// Registry name of the function that makes a JSON member's name of any value.
pub(super) const JSON_KEY: &str = "op json key";

/// Whether `name` is one of ours.
pub fn is_own(name: &str) -> bool {
    matches!(
        name,
        "json_agg"
            | "jsonb_agg"
            | "json_object_agg"
            | "jsonb_object_agg"
            | "any_value"
            | "regr_count"
            | "percentile_cont"
            | "percentile_disc"
            | "mode"
    )
}

/// Whether a call of this name needs WITHIN GROUP, whose expression becomes its last argument.
pub fn is_ordered_set(name: &str) -> bool {
    matches!(name, "percentile_cont" | "percentile_disc" | "mode")
}

/// The registry function that each argument goes through first, which may need the statement's
/// context, such as its time zone.
pub fn preparation(name: &str) -> &'static [Option<&'static str>] {
    match name {
        "json_agg" => &[Some("to_json")],
        "jsonb_agg" => &[Some("to_jsonb")],
        "json_object_agg" => &[Some(JSON_KEY), Some("to_json")],
        "jsonb_object_agg" => &[Some(JSON_KEY), Some("to_jsonb")],
        _ => &[],
    }
}

/// Our aggregate for a call; `None` leaves the name to DataFusion's.
pub fn resolve(name: &str, arguments: &[SqlType], distinct: bool) -> Result<Option<OwnAggregate>> {
    use SqlType as T;
    if let [argument] = arguments
        && !distinct
        && let Some((kind, returns)) = fold_of(name, argument)
    {
        // Exact numbers come as they are: the fold reads them all.
        let argument = match kind {
            FoldKind::NumericSum => T::Numeric(None),
            _ => argument.clone(),
        };
        let folded = Folded::new(name, kind, argument.clone(), returns.clone());
        return Ok(Some(OwnAggregate {
            udaf: Arc::new(AggregateUDF::new_from_impl(folded)),
            arguments: vec![argument],
            returns,
            distinct: false,
        }));
    }
    let plain = |ty: &SqlType| match ty {
        T::Unknown | T::Varchar(_) | T::Char(_) => T::Text,
        other => other.clone(),
    };
    let (kind, arguments, returns) = match (name, arguments) {
        ("json_agg", [_]) => (Kind::JsonArray, vec![T::Json], T::Json),
        ("jsonb_agg", [_]) => (Kind::JsonbArray, vec![T::Jsonb], T::Jsonb),
        ("json_object_agg", [_, _]) => (Kind::JsonObject, vec![T::Text, T::Json], T::Json),
        ("jsonb_object_agg", [_, _]) => (Kind::JsonbObject, vec![T::Text, T::Jsonb], T::Jsonb),
        ("any_value", [ty]) => (Kind::Any, vec![plain(ty)], plain(ty)),
        ("regr_count", [_, _]) => (Kind::CountPairs, vec![T::Float8; 2], T::Int8),
        ("mode", [ty]) => (Kind::Mode, vec![plain(ty)], plain(ty)),
        ("percentile_disc", [_, ty]) => (Kind::Discrete, vec![T::Float8, plain(ty)], plain(ty)),
        ("percentile_cont", [_, T::Interval]) => {
            (Kind::Continuous, vec![T::Float8, T::Interval], T::Interval)
        }
        ("percentile_cont", [_, _]) => (Kind::Continuous, vec![T::Float8; 2], T::Float8),
        ("array_agg", [ty]) if distinct && has_own_equality(ty) => (
            Kind::Array,
            vec![ty.clone()],
            T::Array(Box::new(ty.clone())),
        ),
        ("sum", [ty]) if distinct => match fold_of(name, ty) {
            Some((kind, returns)) => (Kind::Sum(kind), vec![returns.clone()], returns),
            None => return Ok(None),
        },
        _ => return Ok(None),
    };
    if arguments.iter().any(SqlType::is_array) {
        return Err(Error::unsupported(format!("{name} over arrays")));
    }
    let collected = Collected::new(name, kind, arguments.clone(), returns.clone(), distinct);
    Ok(Some(OwnAggregate {
        udaf: Arc::new(AggregateUDF::new_from_impl(collected)),
        arguments,
        returns,
        distinct: true,
    }))
}

/// Types whose equal values may differ in their Arrow form.
fn has_own_equality(ty: &SqlType) -> bool {
    crate::query::key_function::is_keyed(&crate::arrow_bridge::arrow_type(ty))
}

/// The fold that answers an aggregate of one argument, with the result's type.
fn fold_of(name: &str, ty: &SqlType) -> Option<(FoldKind, SqlType)> {
    use SqlType as T;
    let exact = ty.is_integer() || matches!(ty, T::Numeric(_));
    let spread = |root, sample| {
        let kind = FoldKind::Spread { root, sample };
        exact.then_some((kind, T::Numeric(None)))
    };
    match name {
        "sum" => match ty {
            T::Numeric(_) if numeric_shape(ty).is_none() => {
                Some((FoldKind::NumericSum, T::Numeric(None)))
            }
            T::Interval => Some((FoldKind::IntervalSum, T::Interval)),
            _ => None,
        },
        // DataFusion orders floats well.
        "min" | "max" if has_own_equality(ty) && !ty.is_float() && *ty != T::Jsonb => {
            let kind = if name == "min" {
                FoldKind::Least
            } else {
                FoldKind::Greatest
            };
            Some((kind, ty.clone()))
        }
        "stddev" | "stddev_samp" => spread(true, true),
        "stddev_pop" => spread(true, false),
        "variance" | "var_samp" => spread(false, true),
        "var_pop" => spread(false, false),
        _ => None,
    }
}
