//! Which keys a scan has to read, how many rows there may be, and where to split them.
//!
//! Conditions on a prefix of the primary key become one key span, or one for each bucket; they stay in the plan as filters
//! too, so a span that is too wide costs time only. Row counts are guessed from how far the first
//! rows reach between the first and the last key: good enough to order joins by.

use super::key_function::{is_keyed, keyed_argument, value_of_key};
use crate::arrow_bridge::{arrow_type, datum_from_scalar};
use crate::context::ReadView;
use crate::table_codec::{Access, Spans, TableCodec};
use bytes::Bytes;
use datafusion::arrow::datatypes::DataType;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use std::ops::Bound;
use txn::kv::{Key, Span};
use types::{Datum, Result};

/// Rows read from the front of a span to guess its density.
const PROBE_ROWS: usize = 128;
/// Most bytes of them.
const PROBE_BYTES: usize = 256 << 10;
/// Spans with fewer rows are not worth a second partition.
const MIN_PARTITION_ROWS: u64 = 16_384;
/// Bytes of a key's varying part that take part in interpolation.
const INTERPOLATED_BYTES: usize = 8;

/// `column op constant`, with the column on the left.
pub(crate) struct KeyCondition {
    pub position: usize,
    op: Operator,
    value: Datum,
}

/// The condition in a filter, if it is a comparison of a primary key column with a constant.
pub(crate) fn key_condition(codec: &TableCodec, filter: &Expr) -> Option<KeyCondition> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = filter else {
        return None;
    };
    let column_of = |expr| keyed_argument(expr).unwrap_or(expr);
    let (column, op, scalar) = match (column_of(left), column_of(right)) {
        (Expr::Column(column), Expr::Literal(scalar, _)) => (column, *op, scalar),
        (Expr::Literal(scalar, _), Expr::Column(column)) => (column, op.swap()?, scalar),
        _ => return None,
    };
    if !matches!(
        op,
        Operator::Eq | Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq
    ) {
        return None;
    }
    let position = codec.table().column_position(&column.name)?;
    let is_key = codec
        .key_columns(Access::Primary)
        .iter()
        .any(|k| k.column == Some(position));
    let sql_type = &codec.table().columns.get(position)?.sql_type;
    if !is_key || scalar.is_null() {
        return None;
    }
    let value = if is_keyed(&arrow_type(sql_type)) && scalar.data_type() == DataType::Binary {
        value_of_key(scalar, sql_type)?
    } else if scalar.data_type() == arrow_type(sql_type) {
        datum_from_scalar(scalar, sql_type).ok()?
    } else {
        return None;
    };
    Some(KeyCondition {
        position,
        op,
        value,
    })
}

/// The spans of keys that can satisfy all filters, in order: one, or one for each bucket.
pub(crate) fn spans_of(codec: &TableCodec, filters: &[Expr]) -> Spans {
    let conditions: Vec<KeyCondition> = filters
        .iter()
        .filter_map(|f| key_condition(codec, f))
        .collect();
    let mut equal = Vec::new();
    for key in codec.key_columns(Access::Primary) {
        let own = |c: &&KeyCondition| Some(c.position) == key.column;
        if let Some(found) = conditions.iter().filter(own).find(|c| c.op == Operator::Eq) {
            equal.push(found.value.clone());
            continue;
        }
        let (mut lower, mut upper) = (Bound::Unbounded, Bound::Unbounded);
        for condition in conditions.iter().filter(own) {
            match condition.op {
                Operator::Gt => tighten(&mut lower, Bound::Excluded(&condition.value), true),
                Operator::GtEq => tighten(&mut lower, Bound::Included(&condition.value), true),
                Operator::Lt => tighten(&mut upper, Bound::Excluded(&condition.value), false),
                Operator::LtEq => tighten(&mut upper, Bound::Included(&condition.value), false),
                _ => {}
            }
        }
        return codec.ranges(Access::Primary, &equal, lower, upper);
    }
    codec.ranges(Access::Primary, &equal, Bound::Unbounded, Bound::Unbounded)
}

/// Keeps the narrower of two bounds.
fn tighten<'d>(current: &mut Bound<&'d Datum>, new: Bound<&'d Datum>, is_lower: bool) {
    let value = |b: &Bound<&'d Datum>| match *b {
        Bound::Included(v) => Some((v, true)),
        Bound::Excluded(v) => Some((v, false)),
        Bound::Unbounded => None,
    };
    let narrower = match (value(current), value(&new)) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some((old, _)), Some((fresh, included))) => match fresh.compare(old) {
            std::cmp::Ordering::Equal => !included,
            std::cmp::Ordering::Greater => is_lower,
            std::cmp::Ordering::Less => !is_lower,
        },
    };
    if narrower {
        *current = new;
    }
}

/// What is known of a span before it is read.
pub(crate) struct SpanFacts {
    pub rows: u64,
    pub parts: Vec<Span>,
}

/// Probes a span at the snapshot, guesses its rows and splits it in at most `partitions`.
pub(crate) async fn probe(view: &ReadView, span: Span, partitions: usize) -> Result<SpanFacts> {
    let first = view
        .scan(span.clone(), false, PROBE_ROWS, PROBE_BYTES)
        .await?;
    let seen = first.rows.len() as u64;
    let (Some(resume), Some((front, _, _))) = (first.resume, first.rows.first()) else {
        return Ok(SpanFacts {
            rows: seen,
            parts: vec![span],
        });
    };
    let last = view.scan(span.clone(), true, 1, PROBE_BYTES).await?;
    let Some((back, _, _)) = last.rows.first() else {
        return Ok(SpanFacts {
            rows: seen,
            parts: vec![span],
        });
    };
    // Keys as numbers: the bytes from where the first and the last key part.
    let shared = front
        .iter()
        .zip(back.iter())
        .take_while(|(a, b)| a == b)
        .count();
    let (low, high) = (number_at(front, shared), number_at(back, shared));
    let reached = number_at(&resume, shared).clamp(low, high);
    let width = high.saturating_sub(low).max(1);
    let fraction = (reached - low) as f64 / width as f64;
    let rows = if fraction > 0.0 {
        (seen as f64 / fraction).max(seen as f64) as u64
    } else {
        seen * PROBE_ROWS as u64
    };
    let parts = (rows / MIN_PARTITION_ROWS).clamp(1, partitions as u64);
    let mut bounds: Vec<Key> = vec![span.start.clone()];
    for part in 1..parts {
        let at = low + ((u128::from(width) * u128::from(part)) / u128::from(parts)) as u64;
        let mut key = front[..shared].to_vec();
        key.extend_from_slice(&at.to_be_bytes());
        let key = Bytes::from(key);
        if bounds.last().is_some_and(|b| *b < key) && key < span.end {
            bounds.push(key);
        }
    }
    bounds.push(span.end);
    let parts = bounds
        .windows(2)
        .map(|w| Span {
            start: w[0].clone(),
            end: w[1].clone(),
        })
        .collect();
    Ok(SpanFacts { rows, parts })
}

fn number_at(key: &[u8], from: usize) -> u64 {
    let mut bytes = [0; INTERPOLATED_BYTES];
    for (to, byte) in bytes.iter_mut().zip(key.iter().skip(from)) {
        *to = *byte;
    }
    u64::from_be_bytes(bytes)
}
