//! Which keys a statement has to look at, and reading them.
//!
//! [`AccessPath::choose`] turns the conditions of a WHERE clause into bounds on one key order of the
//! table. The bounds are expressions still: [`AccessPath::open`] evaluates them for one execution and
//! gives a [`Cursor`] over the rows. Every condition that is not wholly expressed by the bounds stays
//! in [`AccessPath::residual`].

use super::bounds::{Converted, evaluate_bound, evaluate_equal, least_value, tighter, to_key_type};
use super::choice::{matching, order_of};
use super::cursor::{Cursor, Target};
use super::scalar::Scalar;
use crate::context::StatementContext;
use crate::table_codec::{Access, TableCodec};
use std::ops::Bound;
use std::sync::Arc;
use types::{Datum, Result};

/// A value to compare a key column with.
#[derive(Clone)]
pub struct KeyBound {
    pub value: Scalar,
    pub inclusive: bool,
}

/// The values of an IN list, or the array of `= ANY (array)`.
#[derive(Clone)]
pub enum List {
    Values(Vec<Scalar>),
    Array(Scalar),
}

impl List {
    fn eval(&self, params: &[Datum], ctx: &StatementContext) -> Result<Vec<Datum>> {
        match self {
            List::Values(values) => values
                .iter()
                .map(|value| value.eval(&[], params, ctx))
                .collect(),
            List::Array(array) => Ok(match array.eval(&[], params, ctx)? {
                Datum::Array(array) => array.elements.clone(),
                _ => Vec::new(),
            }),
        }
    }
}

/// Which part of a key order is read.
#[derive(Clone)]
pub enum Locator {
    /// Equal first columns, then any one of a list for the next column.
    Points { equal: Vec<Scalar>, list: List },
    /// Equal first columns, then bounds on the next one.
    Range {
        equal: Vec<Scalar>,
        lower: Vec<KeyBound>,
        upper: Vec<KeyBound>,
    },
}

#[derive(Clone)]
pub struct AccessPath {
    pub codec: Arc<TableCodec>,
    pub access: Access,
    pub locator: Locator,
    pub reverse: bool,
    /// Rows come in the path's order also where they lie in several buckets.
    pub merged: bool,
    /// What a row must meet besides being within the bounds.
    pub residual: Option<Scalar>,
    /// The whole condition, for a row whose newest version must be judged again.
    pub condition: Option<Scalar>,
}

/// A wish for an order of rows: column position, ascending, NULLs first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderColumn {
    pub column: usize,
    pub ascending: bool,
    pub nulls_first: bool,
}

pub fn conjuncts(condition: &Scalar) -> &[Scalar] {
    match condition {
        Scalar::And(list) => list,
        other => std::slice::from_ref(other),
    }
}

impl AccessPath {
    /// The whole table in key order.
    pub fn whole(codec: Arc<TableCodec>, condition: Option<Scalar>) -> AccessPath {
        AccessPath {
            codec,
            access: Access::Primary,
            locator: Locator::Range {
                equal: Vec::new(),
                lower: Vec::new(),
                upper: Vec::new(),
            },
            reverse: false,
            merged: false,
            residual: condition.clone(),
            condition,
        }
    }

    /// The best path for a condition whose columns are positions of the table.
    pub fn choose(
        codec: Arc<TableCodec>,
        condition: Option<Scalar>,
        order: &[OrderColumn],
    ) -> AccessPath {
        let terms = condition.as_ref().map_or(&[][..], conjuncts);
        let primary = codec.has_primary_key().then_some(Access::Primary);
        let secondary = codec
            .table()
            .indexes
            .iter()
            .enumerate()
            .filter(|(_, index)| index.predicate.is_none())
            .map(|(number, _)| Access::Secondary(number));
        let best = primary
            .into_iter()
            .chain(secondary)
            .filter_map(|access| Some((access, matching(&codec, access, terms, order)?)))
            .max_by_key(|(_, found)| found.merit);
        let Some((access, found)) = best else {
            return AccessPath::whole(codec, condition);
        };
        let left: Vec<Scalar> = terms
            .iter()
            .enumerate()
            .filter(|(number, _)| !found.used.contains(number))
            .map(|(_, term)| term.clone())
            .collect();
        AccessPath {
            codec,
            access,
            locator: found.locator,
            reverse: found.reverse,
            merged: found.merged,
            residual: match left.len() {
                0 => None,
                1 => left.into_iter().next(),
                _ => Some(Scalar::And(left)),
            },
            condition,
        }
    }

    /// At most one row for each key looked up.
    pub fn is_point(&self) -> bool {
        let columns = self.codec.key_columns(self.access).len();
        let unique = match self.access {
            Access::Primary => true,
            Access::Secondary(index) => self.codec.index_descriptor(index).unique,
        };
        let named = match &self.locator {
            Locator::Points { equal, .. } => equal.len() + 1,
            Locator::Range { equal, .. } => equal.len(),
        };
        unique && columns > 0 && named == columns
    }

    /// The bounds keep the number of rows down: a key, or both ends of a range.
    pub fn is_narrow(&self) -> bool {
        match &self.locator {
            Locator::Points { .. } => true,
            Locator::Range {
                equal,
                lower,
                upper,
            } => !equal.is_empty() || (!lower.is_empty() && !upper.is_empty()),
        }
    }

    pub fn is_bounded(&self) -> bool {
        match &self.locator {
            Locator::Points { .. } => true,
            Locator::Range {
                equal,
                lower,
                upper,
            } => !(equal.is_empty() && lower.is_empty() && upper.is_empty()),
        }
    }

    /// Whether rows come in this order, `reverse` being as it is.
    pub fn gives_order(&self, order: &[OrderColumn]) -> bool {
        let Locator::Range { equal, .. } = &self.locator else {
            return order.is_empty();
        };
        let ordered = self.merged || self.codec.buckets_read(self.access, equal.len()) < 2;
        (ordered && order_of(&self.codec, self.access, equal.len(), order) == Some(self.reverse))
            || order.is_empty()
    }

    /// How many of the table's buckets are read, and how many there are; `None`: it has none.
    pub fn buckets(&self) -> Option<(u16, u16)> {
        let all = self.codec.buckets();
        let known = match &self.locator {
            Locator::Points { equal, .. } => equal.len() + 1,
            Locator::Range { equal, .. } => equal.len(),
        };
        (all > 0).then(|| (self.codec.buckets_read(self.access, known), all))
    }

    /// The one key to read for this execution, if the path names a row of the primary key by equality.
    /// `Ok(None)`: no row can match.
    pub fn primary_point(
        &self,
        params: &[Datum],
        ctx: &StatementContext,
    ) -> Option<Result<Option<Vec<u8>>>> {
        let Locator::Range { equal, .. } = &self.locator else {
            return None;
        };
        if self.access != Access::Primary || !self.is_point() {
            return None;
        }
        let values = match evaluate_equal(self.codec.key_columns(self.access), equal, params, ctx) {
            Ok(Some(values)) => values,
            Ok(None) => return Some(Ok(None)),
            Err(error) => return Some(Err(error)),
        };
        Some(Ok(Some(self.codec.row_key_of(&values))))
    }

    /// The same before the statement begins. `None` also on errors, which come again when it runs, and where looking
    /// twice would do something twice.
    pub fn point_ahead(&self, params: &[Datum], ctx: &StatementContext) -> Option<Vec<u8>> {
        let Locator::Range { equal, .. } = &self.locator else {
            return None;
        };
        if equal.iter().any(Scalar::is_volatile) {
            return None;
        }
        self.primary_point(params, ctx)?.ok()?
    }

    /// Evaluates the bounds for one execution. `rows` is how many rows will be asked for, if known.
    pub fn open(
        &self,
        params: &[Datum],
        ctx: &StatementContext,
        rows: Option<usize>,
    ) -> Result<Cursor> {
        let mut cursor = Cursor::new(self.codec.clone(), self.access, self.reverse, rows);
        let columns = self.codec.key_columns(self.access);
        match &self.locator {
            Locator::Points { equal, list } => {
                let Some(mut values) = evaluate_equal(columns, equal, params, ctx)? else {
                    return Ok(cursor);
                };
                let column = &columns[equal.len()];
                let list = list.eval(params, ctx)?;
                let mut wanted = Vec::with_capacity(list.len());
                for value in list {
                    if let Converted::Exact(value) = to_key_type(value, &column.sql_type) {
                        wanted.push(value);
                    }
                }
                wanted.sort_by(|a, b| a.compare_typed(b, &column.sql_type));
                wanted.dedup_by(|a, b| {
                    a.compare_typed(b, &column.sql_type) == std::cmp::Ordering::Equal
                });
                if self.reverse {
                    wanted.reverse();
                }
                for value in wanted {
                    values.push(value);
                    match self.codec.point(self.access, &values) {
                        Some(key) => cursor.push(Target::Key(key)),
                        None => {
                            let all = Bound::Unbounded;
                            cursor.push_spans(self.codec.ranges(self.access, &values, all, all));
                        }
                    }
                    values.pop();
                }
            }
            Locator::Range {
                equal,
                lower,
                upper,
            } => {
                let Some(values) = evaluate_equal(columns, equal, params, ctx)? else {
                    return Ok(cursor);
                };
                if lower.is_empty()
                    && upper.is_empty()
                    && let Some(key) = self.codec.point(self.access, &values)
                {
                    cursor.push(Target::Key(key));
                    return Ok(cursor);
                }
                let mut low = Bound::Unbounded;
                let mut high = Bound::Unbounded;
                if let Some(column) = columns.get(equal.len()) {
                    for bound in lower {
                        match evaluate_bound(bound, column, true, params, ctx)? {
                            Some(next) => low = tighter(low, next, column, true),
                            None => return Ok(cursor),
                        }
                    }
                    for bound in upper {
                        match evaluate_bound(bound, column, false, params, ctx)? {
                            Some(next) => high = tighter(high, next, column, false),
                            None => return Ok(cursor),
                        }
                    }
                    // A bound that every value meets still keeps NULLs out.
                    if let (Bound::Unbounded, Bound::Unbounded) = (&low, &high)
                        && !(lower.is_empty() && upper.is_empty())
                        && let Some(least) = least_value(&column.sql_type)
                    {
                        low = Bound::Included(least);
                    }
                }
                let (low, high) = (low.as_ref(), high.as_ref());
                let spans = self.codec.ranges(self.access, &values, low, high);
                if self.merged && spans.len() > 1 {
                    cursor.push(Target::Merged(spans));
                } else {
                    cursor.push_spans(spans);
                }
            }
        }
        Ok(cursor)
    }
}
