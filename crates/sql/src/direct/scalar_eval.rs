//! The value of a compiled expression for one row.

use super::scalar::{LikeKind, Scalar, Truth};
use crate::context::StatementContext;
use crate::functions::comparison;
use crate::query::casts::CastUdf;
use smallvec::SmallVec;
use std::borrow::Cow;
use std::cmp::Ordering;
use types::{Datum, Error, Result, SqlType};

impl Scalar {
    /// The value for one row.
    pub fn eval(&self, row: &[Datum], params: &[Datum], ctx: &StatementContext) -> Result<Datum> {
        self.eval_ref(row, params, ctx).map(Cow::into_owned)
    }

    /// A condition: only TRUE is true.
    pub fn holds(&self, row: &[Datum], params: &[Datum], ctx: &StatementContext) -> Result<bool> {
        Ok(self.truth(row, params, ctx)? == Some(true))
    }

    fn truth(
        &self,
        row: &[Datum],
        params: &[Datum],
        ctx: &StatementContext,
    ) -> Result<Option<bool>> {
        match self {
            Scalar::Compare {
                comparison,
                blank_padded,
                left,
                right,
            } => {
                let left = left.eval_ref(row, params, ctx)?;
                let right = right.eval_ref(row, params, ctx)?;
                Ok(comparison::compare(&left, &right, *blank_padded)
                    .map(|ordering| comparison.holds(ordering)))
            }
            Scalar::Distinct {
                distinct,
                blank_padded,
                left,
                right,
            } => {
                let left = left.eval_ref(row, params, ctx)?;
                let right = right.eval_ref(row, params, ctx)?;
                Ok(Some(
                    comparison::same(&left, &right, *blank_padded) != *distinct,
                ))
            }
            Scalar::And(list) => {
                let mut result = Some(true);
                for item in list {
                    match item.truth(row, params, ctx)? {
                        Some(false) => return Ok(Some(false)),
                        None => result = None,
                        Some(true) => {}
                    }
                }
                Ok(result)
            }
            Scalar::Or(list) => {
                let mut result = Some(false);
                for item in list {
                    match item.truth(row, params, ctx)? {
                        Some(true) => return Ok(Some(true)),
                        None => result = None,
                        Some(false) => {}
                    }
                }
                Ok(result)
            }
            Scalar::Not(operand) => Ok(operand.truth(row, params, ctx)?.map(|truth| !truth)),
            Scalar::Is {
                truth,
                negated,
                operand,
            } => {
                let value = operand.eval_ref(row, params, ctx)?;
                let is = match truth {
                    Truth::Null => value.is_null(),
                    Truth::True => *value == Datum::Bool(true),
                    Truth::False => *value == Datum::Bool(false),
                };
                Ok(Some(is != *negated))
            }
            Scalar::InList {
                negated,
                blank_padded,
                operand,
                list,
            } => {
                let value = operand.eval_ref(row, params, ctx)?;
                let mut result = Some(false);
                for item in list {
                    let item = item.eval_ref(row, params, ctx)?;
                    match comparison::compare(&value, &item, *blank_padded) {
                        Some(Ordering::Equal) => {
                            result = Some(true);
                            break;
                        }
                        None => result = None,
                        Some(_) => {}
                    }
                }
                Ok(result.map(|found| found != *negated))
            }
            Scalar::Between {
                negated,
                blank_padded,
                operand,
                low,
                high,
            } => {
                let value = operand.eval_ref(row, params, ctx)?;
                let low = low.eval_ref(row, params, ctx)?;
                let high = high.eval_ref(row, params, ctx)?;
                let above = comparison::compare(&value, &low, *blank_padded).map(Ordering::is_ge);
                let below = comparison::compare(&value, &high, *blank_padded).map(Ordering::is_le);
                let within = match (above, below) {
                    (Some(false), _) | (_, Some(false)) => Some(false),
                    (Some(true), Some(true)) => Some(true),
                    _ => None,
                };
                Ok(within.map(|within| within != *negated))
            }
            Scalar::Like {
                kind,
                negated,
                escape,
                text,
                pattern,
            } => {
                let text = text.eval_ref(row, params, ctx)?;
                let pattern = pattern.eval_ref(row, params, ctx)?;
                match (text.as_ref(), pattern.as_ref()) {
                    (Datum::Null, _) | (_, Datum::Null) => Ok(None),
                    (Datum::Text(text), Datum::Text(pattern)) => {
                        let matched = match kind {
                            LikeKind::Sensitive => comparison::like(text, pattern, *escape)?,
                            LikeKind::Insensitive => comparison::ilike(text, pattern, *escape)?,
                        };
                        Ok(Some(matched != *negated))
                    }
                    _ => Err(Error::internal("LIKE on values that are not text")),
                }
            }
            _ => match self.eval_ref(row, params, ctx)?.as_ref() {
                Datum::Bool(value) => Ok(Some(*value)),
                Datum::Null => Ok(None),
                _ => Err(Error::internal("condition is not boolean")),
            },
        }
    }

    /// The value, borrowed where it stands already.
    pub fn eval_ref<'a>(
        &'a self,
        row: &'a [Datum],
        params: &'a [Datum],
        ctx: &StatementContext,
    ) -> Result<Cow<'a, Datum>> {
        let value = match self {
            Scalar::Column(place) => {
                return row
                    .get(*place)
                    .map(Cow::Borrowed)
                    .ok_or_else(|| Error::internal(format!("row has no column {place}")));
            }
            Scalar::Constant(datum) => return Ok(Cow::Borrowed(datum)),
            Scalar::Parameter(number) => {
                return params.get(*number).map(Cow::Borrowed).ok_or_else(|| {
                    Error::new(
                        types::SqlState::UNDEFINED_PARAMETER,
                        format!("there is no parameter ${}", number + 1),
                    )
                });
            }
            Scalar::Case {
                operand,
                blank_padded,
                branches,
                otherwise,
            } => {
                let subject = match operand {
                    Some(operand) => Some(operand.eval_ref(row, params, ctx)?),
                    None => None,
                };
                for (when, then) in branches {
                    let taken = match &subject {
                        Some(subject) => {
                            let candidate = when.eval_ref(row, params, ctx)?;
                            comparison::compare(subject, &candidate, *blank_padded)
                                == Some(Ordering::Equal)
                        }
                        None => when.holds(row, params, ctx)?,
                    };
                    if taken {
                        return then.eval_ref(row, params, ctx);
                    }
                }
                return match otherwise {
                    Some(otherwise) => otherwise.eval_ref(row, params, ctx),
                    None => Ok(Cow::Owned(Datum::Null)),
                };
            }
            Scalar::Coalesce(list) => {
                for item in list {
                    let value = item.eval_ref(row, params, ctx)?;
                    if !value.is_null() {
                        return Ok(value);
                    }
                }
                Datum::Null
            }
            Scalar::NullIf(left, right) => {
                let left = left.eval_ref(row, params, ctx)?;
                let right = right.eval_ref(row, params, ctx)?;
                if comparison::compare(&left, &right, false) == Some(Ordering::Equal) {
                    Datum::Null
                } else {
                    return Ok(left);
                }
            }
            Scalar::Cast { operand, cast } => {
                let value = operand.eval(row, params, ctx)?;
                convert(value, cast, ctx)?
            }
            Scalar::Call {
                function,
                arguments,
            } => {
                let mut values: SmallVec<[Datum; 4]> = SmallVec::new();
                for argument in arguments {
                    let value = argument.eval(row, params, ctx)?;
                    if function.strict && value.is_null() {
                        return Ok(Cow::Owned(Datum::Null));
                    }
                    values.push(value);
                }
                (function.evaluate)(ctx, &values)?
            }
            Scalar::Physical(physical) => physical.eval(row, params, ctx)?,
            _ => match self.truth(row, params, ctx)? {
                Some(value) => Datum::Bool(value),
                None => Datum::Null,
            },
        };
        Ok(Cow::Owned(value))
    }
}

/// A cast; NULL stays NULL. The ones that point statements make often go without the settings.
pub fn convert(value: Datum, cast: &CastUdf, ctx: &StatementContext) -> Result<Datum> {
    match (&value, &cast.to) {
        (Datum::Null, _) => Ok(value),
        (Datum::Int4(v), SqlType::Int8) => Ok(Datum::Int8(i64::from(*v))),
        (Datum::Int4(_), SqlType::Int4) | (Datum::Int8(_), SqlType::Int8) => Ok(value),
        (Datum::Text(_), SqlType::Text) if !matches!(cast.from, SqlType::Char(_)) => Ok(value),
        _ => cast.convert(&value, ctx),
    }
}
