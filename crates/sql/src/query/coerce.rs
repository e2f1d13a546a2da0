//! Which type may become which, and the type that several expressions share.

use types::{Error, Result, SqlState, SqlType};

pub use types::cast::CastContext;

/// Whether `context` allows the conversion.
pub fn can_cast(from: &SqlType, to: &SqlType, context: CastContext) -> bool {
    types::cast::can_cast(from, to).is_some_and(|need| need <= context)
}

/// The numeric type in which values of both can be compared. Their own scales are lost.
pub fn wider_numeric(a: &SqlType, b: &SqlType) -> SqlType {
    match (numeric_shape(a), numeric_shape(b)) {
        (Some((ap, asc)), Some((bp, bsc))) => {
            let scale = asc.max(bsc);
            let whole = (ap - asc).max(bp - bsc);
            numeric_of(whole + scale, scale)
        }
        _ => SqlType::Numeric(None),
    }
}

/// The numeric type that shows the values of both as they are: bounded if they have one scale.
fn numeric_of_both(a: &SqlType, b: &SqlType) -> SqlType {
    match (numeric_shape(a), numeric_shape(b)) {
        (Some((ap, asc)), Some((bp, bsc))) if asc == bsc => numeric_of(ap.max(bp), asc),
        _ => SqlType::Numeric(None),
    }
}

/// Digits and scale of a type's values when both are bounded.
pub fn numeric_shape(sql_type: &SqlType) -> Option<(i32, i32)> {
    match sql_type {
        SqlType::Int2 => Some((5, 0)),
        SqlType::Int4 => Some((10, 0)),
        SqlType::Int8 => Some((19, 0)),
        SqlType::Numeric(Some((p, s))) => {
            let (p, s) = (i32::from(*p), i32::from(*s));
            let (p, s) = if s < 0 { (p - s, 0) } else { (p.max(s), s) };
            (p <= widest_decimal()).then_some((p, s))
        }
        _ => None,
    }
}

fn widest_decimal() -> i32 {
    i32::from(crate::arrow_bridge::DECIMAL256_PRECISION)
}

/// A numeric with these bounds, or one without if no Arrow decimal has as many digits.
pub fn numeric_of(precision: i32, scale: i32) -> SqlType {
    if precision > widest_decimal() || scale > widest_decimal() {
        return SqlType::Numeric(None);
    }
    SqlType::Numeric(Some((precision.max(1) as u16, scale as i16)))
}

/// The type in which two types are compared, if they can be.
pub(crate) fn comparison_type(left: &SqlType, right: &SqlType) -> Option<SqlType> {
    use SqlType as T;
    let comparable = |t: &SqlType| t.is_orderable();
    let common = match (left, right) {
        (T::Unknown, T::Unknown) => T::Text,
        (T::Unknown, known) | (known, T::Unknown) => match known {
            T::Varchar(_) => T::Text,
            T::Numeric(_) => T::Numeric(None),
            other => other.without_typmod(),
        },
        (T::Numeric(_), T::Numeric(_)) => wider_numeric(left, right),
        _ if left.same_base(right) => match left {
            T::Varchar(_) => T::Text,
            other => other.without_typmod(),
        },
        // Mixed floats and exact numbers compare as float8.
        _ if left.is_numeric() && right.is_numeric() => {
            if left.is_float() || right.is_float() {
                T::Float8
            } else if left.is_integer() && right.is_integer() {
                if can_cast(left, right, CastContext::Implicit) {
                    right.clone()
                } else {
                    left.clone()
                }
            } else {
                wider_numeric(left, right)
            }
        }
        (T::Char(_), T::Varchar(_) | T::Text) | (T::Varchar(_) | T::Text, T::Char(_)) => T::Text,
        _ if left.is_string() && right.is_string() => T::Text,
        _ if left.is_oid() && (right.is_oid() || right.is_integer()) => {
            if matches!(right, T::Int8) {
                T::Int8
            } else {
                T::Oid
            }
        }
        _ if right.is_oid() && left.is_integer() => {
            if matches!(left, T::Int8) {
                T::Int8
            } else {
                T::Oid
            }
        }
        _ if can_cast(left, right, CastContext::Implicit)
            && left.category() == right.category() =>
        {
            right.without_typmod()
        }
        _ if can_cast(right, left, CastContext::Implicit)
            && left.category() == right.category() =>
        {
            left.without_typmod()
        }
        _ => return None,
    };
    comparable(&common).then_some(common)
}

/// The one type that the branches of a CASE, UNION, ARRAY, VALUES … take, as PostgreSQL chooses it
/// (manual, section 10.5). `construct` is the word its error uses.
pub fn common_type<'a>(
    types: impl IntoIterator<Item = &'a SqlType>,
    construct: &str,
) -> Result<SqlType> {
    let mut chosen: Option<SqlType> = None;
    for next in types {
        if matches!(next, SqlType::Unknown) {
            continue;
        }
        let Some(current) = &chosen else {
            chosen = Some(next.clone());
            continue;
        };
        if current == next {
            continue;
        }
        if current.same_base(next) {
            chosen = Some(match (current, next) {
                (SqlType::Numeric(_), _) => numeric_of_both(current, next),
                (SqlType::Array(_), _) => current.clone(),
                _ => current.without_typmod(),
            });
            continue;
        }
        if current.category() != next.category() {
            return Err(Error::new(
                SqlState::DATATYPE_MISMATCH,
                format!(
                    "{construct} types {} and {} cannot be matched",
                    current.bare_name(),
                    next.bare_name()
                ),
            ));
        }
        // Different types have no modifier in common; a numeric's bounds are widened instead.
        let current = &match current {
            SqlType::Numeric(_) => current.clone(),
            other => other.without_typmod(),
        };
        let forward = can_cast(current, next, CastContext::Implicit);
        let backward = can_cast(next, current, CastContext::Implicit);
        if !current.is_preferred() && forward && !backward {
            chosen = Some(if matches!(next, SqlType::Numeric(_)) {
                numeric_of_both(current, next)
            } else {
                next.without_typmod()
            });
        } else if !backward {
            return Err(Error::new(
                SqlState::CANNOT_COERCE,
                format!(
                    "{construct} could not convert type {} to {}",
                    next.bare_name(),
                    current.bare_name()
                ),
            ));
        } else if matches!(current, SqlType::Numeric(_)) {
            chosen = Some(numeric_of_both(current, next));
        } else {
            chosen = Some(current.clone());
        }
    }
    Ok(chosen.unwrap_or(SqlType::Text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use SqlType as T;

    #[test]
    fn branches_share_a_type() {
        let common = |types: &[SqlType]| common_type(types, "CASE");
        assert_eq!(common(&[T::Int4, T::Int8]), Ok(T::Int8));
        assert_eq!(common(&[T::Int8, T::Int4]), Ok(T::Int8));
        assert_eq!(common(&[T::Unknown, T::Unknown]), Ok(T::Text));
        assert_eq!(common(&[T::Unknown, T::Date]), Ok(T::Date));
        assert_eq!(
            common(&[T::Varchar(Some(3)), T::Text]),
            Ok(T::Varchar(None))
        );
        assert_eq!(
            common(&[T::Int4, T::Numeric(Some((4, 2)))]),
            Ok(T::Numeric(None))
        );
        let error = common(&[T::Int4, T::Text]).expect_err("no common type");
        assert_eq!(
            error.message,
            "CASE types integer and text cannot be matched"
        );
    }

    #[test]
    fn contexts() {
        assert!(can_cast(&T::Int4, &T::Int8, CastContext::Implicit));
        assert!(!can_cast(&T::Int8, &T::Int4, CastContext::Implicit));
        assert!(can_cast(&T::Int8, &T::Int4, CastContext::Assignment));
        assert!(can_cast(&T::Int4, &T::Text, CastContext::Assignment));
        assert!(!can_cast(&T::Text, &T::Int4, CastContext::Assignment));
        assert!(can_cast(&T::Text, &T::Int4, CastContext::Explicit));
        assert!(!can_cast(&T::Bool, &T::Date, CastContext::Explicit));
    }
}
