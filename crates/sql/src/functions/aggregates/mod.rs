//! Our own aggregates: those that DataFusion lacks or gives another meaning.
//!
//! They collect the rows of a group as datums (`collected`) and compute the result at the end
//! (`kind`), so ORDER BY and DISTINCT inside a call are the same for all.

mod collected;
mod kind;

use collected::Collected;
use datafusion::logical_expr::AggregateUDF;
use kind::Kind;
use std::sync::Arc;
use types::{Error, Result, SqlType};

/// An aggregate chosen for the types of a call.
pub struct OwnAggregate {
    pub udaf: Arc<AggregateUDF>,
    /// What each argument is to be converted to.
    pub arguments: Vec<SqlType>,
    pub returns: SqlType,
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
pub fn resolve(name: &str, arguments: &[SqlType]) -> Result<Option<OwnAggregate>> {
    use SqlType as T;
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
        ("min" | "max", [T::Interval]) => {
            let kind = if name == "min" {
                Kind::Least
            } else {
                Kind::Greatest
            };
            (kind, vec![T::Interval], T::Interval)
        }
        _ => return Ok(None),
    };
    if arguments.iter().any(SqlType::is_array) {
        return Err(Error::unsupported(format!("{name} over arrays")));
    }
    let collected = Collected::new(name, kind, arguments.clone(), returns.clone());
    Ok(Some(OwnAggregate {
        udaf: Arc::new(AggregateUDF::new_from_impl(collected)),
        arguments,
        returns,
    }))
}
