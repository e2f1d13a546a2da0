//! Values to compare key columns with, evaluated for one execution and brought to the column's type.

use super::access::KeyBound;
use super::scalar::Scalar;
use crate::context::StatementContext;
use crate::table_codec::KeyColumn;
use std::ops::Bound;
use types::{Datum, Result, SqlType};

/// A bound value brought to the key column's type.
pub(super) enum Converted {
    Exact(Datum),
    /// Below or above all values of the column's type.
    Below,
    Above,
    Null,
}

pub(super) fn to_key_type(value: Datum, sql_type: &SqlType) -> Converted {
    let wide = match (&value, sql_type) {
        (Datum::Null, _) => return Converted::Null,
        (Datum::Int2(v), SqlType::Int4 | SqlType::Int8) => i64::from(*v),
        (Datum::Int4(v), SqlType::Int2 | SqlType::Int8) => i64::from(*v),
        (Datum::Int8(v), SqlType::Int2 | SqlType::Int4) => *v,
        _ => return Converted::Exact(value),
    };
    match sql_type {
        SqlType::Int8 => Converted::Exact(Datum::Int8(wide)),
        SqlType::Int4 => match i32::try_from(wide) {
            Ok(v) => Converted::Exact(Datum::Int4(v)),
            Err(_) if wide < 0 => Converted::Below,
            Err(_) => Converted::Above,
        },
        _ => match i16::try_from(wide) {
            Ok(v) => Converted::Exact(Datum::Int2(v)),
            Err(_) if wide < 0 => Converted::Below,
            Err(_) => Converted::Above,
        },
    }
}

/// The least value of the types whose bounds can be out of range.
pub(super) fn least_value(sql_type: &SqlType) -> Option<Datum> {
    match sql_type {
        SqlType::Int2 => Some(Datum::Int2(i16::MIN)),
        SqlType::Int4 => Some(Datum::Int4(i32::MIN)),
        SqlType::Int8 => Some(Datum::Int8(i64::MIN)),
        _ => None,
    }
}

/// `None`: no row can match.
pub(super) fn evaluate_equal(
    columns: &[KeyColumn],
    equal: &[Scalar],
    params: &[Datum],
    ctx: &StatementContext,
) -> Result<Option<Vec<Datum>>> {
    let mut values = Vec::with_capacity(equal.len() + 1);
    for (column, scalar) in columns.iter().zip(equal) {
        // IS NULL stands here as the constant NULL inside `Is`.
        if let Scalar::Is { .. } = scalar {
            values.push(Datum::Null);
            continue;
        }
        let value = scalar.eval(&[], params, ctx)?;
        match to_key_type(value, &column.sql_type) {
            Converted::Exact(value) => values.push(value),
            _ => return Ok(None),
        }
    }
    Ok(Some(values))
}

/// `None`: no row can match. `Unbounded`: every value does.
pub(super) fn evaluate_bound(
    bound: &KeyBound,
    column: &KeyColumn,
    is_lower: bool,
    params: &[Datum],
    ctx: &StatementContext,
) -> Result<Option<Bound<Datum>>> {
    let value = bound.value.eval(&[], params, ctx)?;
    Ok(match to_key_type(value, &column.sql_type) {
        Converted::Exact(value) if bound.inclusive => Some(Bound::Included(value)),
        Converted::Exact(value) => Some(Bound::Excluded(value)),
        Converted::Below if is_lower => Some(Bound::Unbounded),
        Converted::Above if !is_lower => Some(Bound::Unbounded),
        _ => None,
    })
}

/// The narrower of two bounds on the same side.
pub(super) fn tighter(
    a: Bound<Datum>,
    b: Bound<Datum>,
    column: &KeyColumn,
    is_lower: bool,
) -> Bound<Datum> {
    let value = |bound: &Bound<Datum>| match bound {
        Bound::Included(value) => Some((value.clone(), true)),
        Bound::Excluded(value) => Some((value.clone(), false)),
        Bound::Unbounded => None,
    };
    let (Some((left, left_included)), Some((right, right_included))) = (value(&a), value(&b))
    else {
        return if matches!(a, Bound::Unbounded) { b } else { a };
    };
    let ordering = left.compare_typed(&right, &column.sql_type);
    let ordering = if is_lower {
        ordering
    } else {
        ordering.reverse()
    };
    match ordering {
        std::cmp::Ordering::Greater => a,
        std::cmp::Ordering::Less => b,
        std::cmp::Ordering::Equal if left_included && !right_included => b,
        std::cmp::Ordering::Equal => a,
    }
}
