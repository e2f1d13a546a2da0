//! What happens to rows after they are read: filters, projections, sorts, limits, aggregates.

use super::scalar::Scalar;
use crate::context::StatementContext;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use types::compare::DatumKey;
use types::{Datum, Error, Numeric, Result, Row, SqlState, SqlType};

/// One step over the rows of a direct query.
#[derive(Clone)]
pub enum Step {
    Filter(Scalar),
    Project(Vec<Scalar>),
    Sort(Vec<SortKey>),
    Limit {
        skip: Option<Scalar>,
        fetch: Option<Scalar>,
    },
    /// Types of the columns, for what counts as equal.
    Distinct(Vec<SqlType>),
    /// Without GROUP BY: one row out.
    Aggregate(Vec<Aggregate>),
}

#[derive(Clone)]
pub struct SortKey {
    pub value: Scalar,
    pub sql_type: SqlType,
    pub ascending: bool,
    pub nulls_first: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AggregateKind {
    Count,
    Sum,
    Min,
    Max,
}

#[derive(Clone)]
pub struct Aggregate {
    pub kind: AggregateKind,
    /// None: `count(*)`.
    pub argument: Option<Scalar>,
    pub filter: Option<Scalar>,
    pub argument_type: SqlType,
}

impl Step {
    /// Works row by row: the rows need not all be there.
    pub fn is_streaming(&self) -> bool {
        matches!(self, Step::Filter(_) | Step::Project(_))
    }

    pub fn is_volatile(&self) -> bool {
        match self {
            Step::Filter(condition) => condition.is_volatile(),
            Step::Project(columns) => columns.iter().any(Scalar::is_volatile),
            Step::Sort(keys) => keys.iter().any(|key| key.value.is_volatile()),
            Step::Limit { skip, fetch } => skip.iter().chain(fetch).any(Scalar::is_volatile),
            Step::Distinct(_) => false,
            Step::Aggregate(list) => list.iter().any(|one| {
                one.argument
                    .iter()
                    .chain(&one.filter)
                    .any(Scalar::is_volatile)
            }),
        }
    }

    /// Applies a step to all rows.
    pub fn apply(
        &self,
        rows: &mut Vec<Row>,
        params: &[Datum],
        ctx: &StatementContext,
    ) -> Result<()> {
        match self {
            Step::Filter(condition) => {
                let mut kept = Vec::with_capacity(rows.len());
                for row in rows.drain(..) {
                    if condition.holds(&row, params, ctx)? {
                        kept.push(row);
                    }
                }
                *rows = kept;
            }
            Step::Project(columns) => {
                for row in rows.iter_mut() {
                    *row = project(columns, row, params, ctx)?;
                }
            }
            Step::Sort(keys) => sort(rows, keys, params, ctx)?,
            Step::Limit { skip, fetch } => {
                let (skip, fetch) = limits(skip.as_ref(), fetch.as_ref(), params, ctx)?;
                rows.drain(..skip.min(rows.len()));
                if let Some(fetch) = fetch {
                    rows.truncate(fetch);
                }
            }
            Step::Distinct(sql_types) => {
                let mut seen: BTreeSet<Vec<DatumKey>> = BTreeSet::new();
                rows.retain(|row| {
                    let key = row.iter().zip(sql_types).map(|(datum, sql_type)| {
                        DatumKey(match (sql_type, datum) {
                            (SqlType::Char(_), Datum::Text(text)) => {
                                Datum::Text(text.trim_end_matches(' ').into())
                            }
                            _ => datum.clone(),
                        })
                    });
                    seen.insert(key.collect())
                });
            }
            Step::Aggregate(aggregates) => {
                let mut result = Vec::with_capacity(aggregates.len());
                for aggregate in aggregates {
                    result.push(aggregate.over(rows, params, ctx)?);
                }
                *rows = vec![result];
            }
        }
        Ok(())
    }
}

pub fn project(
    columns: &[Scalar],
    row: &[Datum],
    params: &[Datum],
    ctx: &StatementContext,
) -> Result<Row> {
    let mut out = Vec::with_capacity(columns.len());
    for column in columns {
        out.push(column.eval(row, params, ctx)?);
    }
    Ok(out)
}

fn sort(
    rows: &mut Vec<Row>,
    keys: &[SortKey],
    params: &[Datum],
    ctx: &StatementContext,
) -> Result<()> {
    let tagged = rows.drain(..).map(|row| ((), row)).collect();
    let sorted = sort_tagged(tagged, keys, params, ctx)?;
    rows.extend(sorted.into_iter().map(|(_, row)| row));
    Ok(())
}

/// Sorts rows that carry something along.
pub fn sort_tagged<T>(
    rows: Vec<(T, Row)>,
    keys: &[SortKey],
    params: &[Datum],
    ctx: &StatementContext,
) -> Result<Vec<(T, Row)>> {
    let mut keyed = Vec::with_capacity(rows.len());
    for (tag, row) in rows {
        let mut values = Vec::with_capacity(keys.len());
        for key in keys {
            values.push(key.value.eval(&row, params, ctx)?);
        }
        keyed.push((values, tag, row));
    }
    keyed.sort_by(|(a, _, _), (b, _, _)| {
        for ((a, b), key) in a.iter().zip(b).zip(keys) {
            match compare_key(a, b, key) {
                Ordering::Equal => {}
                decided => return decided,
            }
        }
        Ordering::Equal
    });
    Ok(keyed.into_iter().map(|(_, tag, row)| (tag, row)).collect())
}

fn compare_key(a: &Datum, b: &Datum, key: &SortKey) -> Ordering {
    match (a.is_null(), b.is_null()) {
        (true, true) => Ordering::Equal,
        (true, false) if key.nulls_first => Ordering::Less,
        (true, false) => Ordering::Greater,
        (false, true) if key.nulls_first => Ordering::Greater,
        (false, true) => Ordering::Less,
        (false, false) => {
            let ordering = a.compare_typed(b, &key.sql_type);
            if key.ascending {
                ordering
            } else {
                ordering.reverse()
            }
        }
    }
}

/// OFFSET and LIMIT of one execution.
pub fn limits(
    skip: Option<&Scalar>,
    fetch: Option<&Scalar>,
    params: &[Datum],
    ctx: &StatementContext,
) -> Result<(usize, Option<usize>)> {
    let count = |scalar: Option<&Scalar>, state: SqlState, name: &str| -> Result<Option<usize>> {
        let Some(scalar) = scalar else {
            return Ok(None);
        };
        let wide = match scalar.eval(&[], params, ctx)? {
            Datum::Null => return Ok(None),
            Datum::Int2(v) => i64::from(v),
            Datum::Int4(v) => i64::from(v),
            Datum::Int8(v) => v,
            Datum::Numeric(v) => v.round(0).to_i64().unwrap_or(i64::MAX),
            _ => return Err(Error::internal("LIMIT is not a number")),
        };
        match usize::try_from(wide) {
            Ok(rows) => Ok(Some(rows)),
            Err(_) => Err(Error::new(state, format!("{name} must not be negative"))),
        }
    };
    let fetch = count(fetch, SqlState::INVALID_ROW_COUNT_IN_LIMIT, "LIMIT")?;
    let skip = count(skip, SqlState::INVALID_ROW_COUNT_IN_OFFSET, "OFFSET")?;
    Ok((skip.unwrap_or(0), fetch))
}

impl Aggregate {
    fn over(&self, rows: &[Row], params: &[Datum], ctx: &StatementContext) -> Result<Datum> {
        let mut count = 0i64;
        let mut best = Datum::Null;
        let mut sum = Sum::start(&self.argument_type);
        for row in rows {
            if let Some(filter) = &self.filter
                && !filter.holds(row, params, ctx)?
            {
                continue;
            }
            let Some(argument) = &self.argument else {
                count += 1;
                continue;
            };
            let value = argument.eval(row, params, ctx)?;
            if value.is_null() {
                continue;
            }
            count += 1;
            match self.kind {
                AggregateKind::Count => {}
                AggregateKind::Sum => sum.add(&value)?,
                AggregateKind::Min | AggregateKind::Max => {
                    let wanted = if self.kind == AggregateKind::Min {
                        Ordering::Less
                    } else {
                        Ordering::Greater
                    };
                    if best.is_null() || value.compare_typed(&best, &self.argument_type) == wanted {
                        best = value;
                    }
                }
            }
        }
        match self.kind {
            AggregateKind::Count => Ok(Datum::Int8(count)),
            AggregateKind::Sum if count == 0 => Ok(Datum::Null),
            AggregateKind::Sum => sum.finish(),
            AggregateKind::Min | AggregateKind::Max => Ok(best),
        }
    }
}

/// Sums as the binder prepared them: it gives int2 and int4 as int8, and int8 as numeric.
enum Sum {
    Int8(i64),
    Numeric(Numeric),
    Float4(f32),
    Float8(f64),
}

impl Sum {
    fn start(sql_type: &SqlType) -> Sum {
        match sql_type {
            SqlType::Int8 => Sum::Int8(0),
            SqlType::Float4 => Sum::Float4(0.0),
            SqlType::Float8 => Sum::Float8(0.0),
            _ => Sum::Numeric(Numeric::ZERO),
        }
    }

    fn add(&mut self, value: &Datum) -> Result<()> {
        match (self, value) {
            (Sum::Int8(sum), Datum::Int8(v)) => {
                *sum = sum
                    .checked_add(*v)
                    .ok_or_else(crate::functions::arithmetic::bigint_out_of_range)?;
            }
            (Sum::Numeric(sum), Datum::Numeric(v)) => *sum = sum.add(v)?,
            (Sum::Float4(sum), Datum::Float4(v)) => *sum += *v,
            (Sum::Float8(sum), Datum::Float8(v)) => *sum += *v,
            _ => return Err(Error::internal("sum over another type")),
        }
        Ok(())
    }

    fn finish(self) -> Result<Datum> {
        Ok(match self {
            Sum::Int8(sum) => Datum::Int8(sum),
            Sum::Numeric(sum) => Datum::Numeric(sum),
            Sum::Float4(sum) => Datum::Float4(sum),
            Sum::Float8(sum) => Datum::Float8(sum),
        })
    }
}

/// Whether [`Aggregate`] can sum values of this type.
pub fn can_sum(sql_type: &SqlType) -> bool {
    sql_type.is_numeric()
}
