//! Which conditions of a WHERE clause a key order answers, and how well ([`Merit`]).

use super::access::{KeyBound, List, Locator, OrderColumn};
use super::scalar::{Scalar, Truth};
use crate::functions::comparison::Comparison;
use crate::table_codec::{Access, TableCodec};
use types::SqlType;

/// Longest IN list that is looked up key by key.
const MAX_POINTS: usize = 1000;

/// How well a path suits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Merit {
    /// At most one row for each key.
    unique: bool,
    equal: usize,
    both_bounds: bool,
    some_bound: bool,
    ordered: bool,
    primary: bool,
}

/// The conditions that a path uses.
pub(super) struct Match {
    pub(super) locator: Locator,
    pub(super) used: Vec<usize>,
    pub(super) merit: Merit,
    pub(super) reverse: bool,
    /// The order is wanted, and needs several buckets to be merged.
    pub(super) merged: bool,
}

pub(super) fn matching(
    codec: &TableCodec,
    access: Access,
    terms: &[Scalar],
    order: &[OrderColumn],
) -> Option<Match> {
    let columns = codec.key_columns(access);
    let unique_key = match access {
        Access::Primary => true,
        Access::Secondary(index) => codec.index_descriptor(index).unique,
    };
    let mut used = Vec::new();
    let mut equal = Vec::new();
    let mut merit = Merit {
        unique: false,
        equal: 0,
        both_bounds: false,
        some_bound: false,
        ordered: false,
        primary: access == Access::Primary,
    };
    for key in columns {
        let Some(column) = key.column else { break };
        let found = terms
            .iter()
            .enumerate()
            .find_map(|(number, term)| Some((number, equality_on(term, column)?)));
        if let Some((number, value)) = found {
            used.push(number);
            equal.push(value.clone());
            continue;
        }
        let found = terms
            .iter()
            .enumerate()
            .find_map(|(number, term)| Some((number, list_on(term, column)?)));
        if let Some((number, list)) = found {
            used.push(number);
            merit.equal = equal.len() + 1;
            merit.unique = unique_key && merit.equal == columns.len();
            merit.ordered = order.is_empty();
            return Some(Match {
                locator: Locator::Points { equal, list },
                used,
                merit,
                reverse: false,
                merged: false,
            });
        }
        break;
    }
    let (mut lower, mut upper) = (Vec::new(), Vec::new());
    if let Some(column) = columns.get(equal.len()).and_then(|key| key.column) {
        for (number, term) in terms.iter().enumerate() {
            if let Scalar::Between {
                negated: false,
                operand,
                low,
                high,
                ..
            } = term
                && plain_column(operand) == Some(column)
                && is_bound_value(low)
                && is_bound_value(high)
            {
                used.push(number);
                lower.push(KeyBound {
                    value: (**low).clone(),
                    inclusive: true,
                });
                upper.push(KeyBound {
                    value: (**high).clone(),
                    inclusive: true,
                });
                continue;
            }
            let Some((on, comparison, value)) = comparison_on(term) else {
                continue;
            };
            if on != column {
                continue;
            }
            let (side, inclusive) = match comparison {
                Comparison::Gt => (&mut lower, false),
                Comparison::GtEq => (&mut lower, true),
                Comparison::Lt => (&mut upper, false),
                Comparison::LtEq => (&mut upper, true),
                Comparison::Eq | Comparison::NotEq => continue,
            };
            used.push(number);
            side.push(KeyBound {
                value: value.clone(),
                inclusive,
            });
        }
    }
    merit.equal = equal.len();
    merit.unique = unique_key && !columns.is_empty() && equal.len() == columns.len();
    merit.both_bounds = !lower.is_empty() && !upper.is_empty();
    merit.some_bound = !lower.is_empty() || !upper.is_empty();
    let direction = order_of(codec, access, equal.len(), order);
    merit.ordered = direction.is_some();
    if used.is_empty() && (order.is_empty() || direction.is_none()) {
        return None;
    }
    let merged =
        !order.is_empty() && direction.is_some() && codec.buckets_read(access, equal.len()) > 1;
    Some(Match {
        locator: Locator::Range {
            equal,
            lower,
            upper,
        },
        used,
        merit,
        reverse: direction.unwrap_or(false),
        merged,
    })
}

/// Whether the keys behind `equal` fixed columns give this order: forwards `Some(false)`, backwards
/// `Some(true)`.
pub(super) fn order_of(
    codec: &TableCodec,
    access: Access,
    equal: usize,
    order: &[OrderColumn],
) -> Option<bool> {
    let keys = codec.key_columns(access);
    let fixed = &keys[..equal.min(keys.len())];
    let mut rest = keys[fixed.len()..].iter();
    let mut direction = None;
    for wanted in order {
        if fixed.iter().any(|key| key.column == Some(wanted.column)) {
            continue;
        }
        let Some(key) = rest.next() else {
            // The whole primary key is one row: what follows decides nothing.
            return match access {
                Access::Primary => Some(direction.unwrap_or(false)),
                Access::Secondary(_) => None,
            };
        };
        if key.column != Some(wanted.column) {
            return None;
        }
        let backwards = wanted.ascending == key.descending;
        let not_null = codec
            .table()
            .columns
            .get(wanted.column)
            .is_some_and(|column| column.not_null);
        if !not_null && (wanted.nulls_first == key.nulls_first) == backwards {
            return None;
        }
        if *direction.get_or_insert(backwards) != backwards {
            return None;
        }
    }
    Some(direction.unwrap_or(false))
}

/// The key column inside casts that keep its values' identity and order.
fn plain_column(scalar: &Scalar) -> Option<usize> {
    match scalar {
        Scalar::Column(column) => Some(*column),
        Scalar::Cast { operand, cast } => {
            let widens = match (&cast.from, &cast.to) {
                (SqlType::Int2, SqlType::Int4 | SqlType::Int8) => true,
                (SqlType::Int4, SqlType::Int8) => true,
                (SqlType::Char(short), SqlType::Char(long)) => long >= short,
                (SqlType::Numeric(_), SqlType::Numeric(None)) => true,
                (SqlType::Numeric(Some((p, s))), SqlType::Numeric(Some((wide_p, wide_s)))) => {
                    wide_s >= s
                        && i32::from(*wide_p) - i32::from(*wide_s) >= i32::from(*p) - i32::from(*s)
                }
                (from, SqlType::Text | SqlType::Varchar(None)) => {
                    matches!(from, SqlType::Varchar(_) | SqlType::Text)
                }
                _ => false,
            };
            if widens { plain_column(operand) } else { None }
        }
        _ => None,
    }
}

/// A value that can be known before any row is read.
fn is_bound_value(scalar: &Scalar) -> bool {
    scalar.is_row_independent() && !scalar.is_volatile()
}

/// `column comparison value`, whichever way round it was written.
fn comparison_on(term: &Scalar) -> Option<(usize, Comparison, &Scalar)> {
    let Scalar::Compare {
        comparison,
        left,
        right,
        ..
    } = term
    else {
        return None;
    };
    if let Some(column) = plain_column(left)
        && is_bound_value(right)
    {
        return Some((column, *comparison, right));
    }
    if let Some(column) = plain_column(right)
        && is_bound_value(left)
    {
        return Some((column, comparison.flipped(), left));
    }
    None
}

fn equality_on(term: &Scalar, column: usize) -> Option<&Scalar> {
    match term {
        Scalar::Is {
            truth: Truth::Null,
            negated: false,
            operand,
        } if plain_column(operand) == Some(column) => Some(term),
        _ => match comparison_on(term)? {
            (on, Comparison::Eq, value) if on == column => Some(value),
            _ => None,
        },
    }
}

fn list_on(term: &Scalar, column: usize) -> Option<List> {
    match term {
        Scalar::InList {
            negated: false,
            operand,
            list,
            ..
        } if plain_column(operand) == Some(column)
            && list.len() <= MAX_POINTS
            && list.iter().all(is_bound_value) =>
        {
            Some(List::Values(list.clone()))
        }
        Scalar::Call {
            function,
            arguments,
        } if function.name == "op = any" => match arguments.as_slice() {
            [value, array] if plain_column(value) == Some(column) && is_bound_value(array) => {
                Some(List::Array(array.clone()))
            }
            _ => None,
        },
        _ => None,
    }
}
