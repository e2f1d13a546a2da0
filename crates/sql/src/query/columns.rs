//! Decoded columns of whole tables, kept in memory for the next scan.
//!
//! A scan of a whole table costs most of an analytic query: every row is fetched from the store and
//! taken apart. The rows of most tables do not change between two such queries. So a scan that has
//! read a table to its end leaves the columns that it decoded here, as Arrow arrays in key order.
//!
//! **When they may be used.** A column was read at a timestamp C. A statement reads at R. If the
//! table's last commit ([`txn::kv::Shards::last_commit`]) is at or below both, no commit lies between
//! them, and the table at R is the table at C. Otherwise the column is not used. A transaction's own
//! writes are not in the store: if it has some in the table, it reads past this cache. What the
//! columns *mean* (type, value for rows older than the column) is compared too, because a definition
//! can change without a row being rewritten. A table that is rewritten gets new keys, and so a new
//! name here.
//!
//! **How columns fit together.** They are added one scan at a time and may have been read in different
//! portions; all columns of a table are cut at the same rows, those of the first.
//!
//! **Bound.** Bytes of all arrays; above it the columns that were used longest ago go.

use crate::catalog::descriptor::Table;
use crate::context::ReadView;
use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::compute::{concat, max, min};
use datafusion::arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType,
};
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, ScalarValue};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use types::{SqlType, Timestamp};

/// Bookkeeping of an array beside its buffers, in bytes.
const ARRAY_BYTES: usize = 128;

/// See the module. One per instance.
#[derive(Debug)]
pub struct ColumnCache {
    limit_bytes: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    tables: BTreeMap<u32, CachedTable>,
    bytes: usize,
    /// Counts uses, to know which is the oldest.
    uses: u64,
}

#[derive(Debug)]
struct CachedTable {
    /// Rows of each portion.
    lengths: Arc<[usize]>,
    /// The rows were counted at this time.
    at: Timestamp,
    columns: BTreeMap<usize, CachedColumn>,
}

#[derive(Debug)]
struct CachedColumn {
    meaning: Meaning,
    at: Timestamp,
    portions: Arc<[ArrayRef]>,
    statistics: ColumnStatistics,
    bytes: usize,
    used: u64,
}

/// What of a column's definition decides how stored rows are decoded.
#[derive(Clone, Debug, PartialEq)]
struct Meaning {
    sql_type: SqlType,
    missing: Option<String>,
}

impl Meaning {
    fn of(table: &Table, position: usize) -> Option<Meaning> {
        let column = table.columns.get(position)?;
        Some(Meaning {
            sql_type: column.sql_type.clone(),
            missing: column.missing.clone(),
        })
    }
}

/// The wanted columns of a whole table, in the order in which they were asked for.
pub(crate) struct WholeColumns {
    pub lengths: Arc<[usize]>,
    pub columns: Vec<Arc<[ArrayRef]>>,
    pub statistics: Vec<ColumnStatistics>,
}

impl ColumnCache {
    pub fn new(limit_bytes: usize) -> Self {
        ColumnCache {
            limit_bytes,
            state: Mutex::default(),
        }
    }

    pub fn limit_bytes(&self) -> usize {
        self.limit_bytes
    }

    pub fn bytes(&self) -> usize {
        self.state.lock().bytes
    }

    /// The columns at these positions as `view` sees them, if all of them are here.
    pub(crate) fn find(
        &self,
        table: &Table,
        positions: &[usize],
        view: &ReadView,
    ) -> Option<WholeColumns> {
        let last = view.shards.last_commit(table.data_id)?;
        if last > view.at {
            return None;
        }
        let mut state = self.state.lock();
        state.uses += 1;
        let uses = state.uses;
        let cached = state.tables.get_mut(&table.data_id)?;
        if last > cached.at {
            // No column is newer than the table's rows.
            state.forget(table.data_id);
            return None;
        }
        let mut found = WholeColumns {
            lengths: Arc::clone(&cached.lengths),
            columns: Vec::with_capacity(positions.len()),
            statistics: Vec::with_capacity(positions.len()),
        };
        for position in positions {
            let column = cached.columns.get_mut(position)?;
            column.used = uses;
            if last > column.at || Meaning::of(table, *position).as_ref() != Some(&column.meaning) {
                return None;
            }
            found.columns.push(Arc::clone(&column.portions));
            found.statistics.push(column.statistics.clone());
        }
        Some(found)
    }

    /// Adds whole columns, decoded from what `view` sees: `portions` of the rows in key order, each
    /// with one array per position.
    pub(crate) fn add(
        &self,
        table: &Table,
        positions: &[usize],
        view: &ReadView,
        portions: Vec<(usize, Vec<ArrayRef>)>,
    ) {
        let unchanged = |last: Timestamp| last <= view.at;
        let Some(last) = view.shards.last_commit(table.data_id) else {
            return;
        };
        if !unchanged(last) {
            return;
        }
        let lengths: Arc<[usize]> = portions.iter().map(|(rows, _)| *rows).collect();
        let mut columns = Vec::with_capacity(positions.len());
        for (place, position) in positions.iter().enumerate() {
            let arrays = portions.iter().filter_map(|(_, a)| a.get(place).cloned());
            let arrays: Arc<[ArrayRef]> = arrays.collect();
            let Some(meaning) = Meaning::of(table, *position) else {
                return;
            };
            let statistics = statistics_of(&arrays);
            columns.push((*position, meaning, arrays, statistics));
        }
        let mut state = self.state.lock();
        state.uses += 1;
        let uses = state.uses;
        let rows: usize = lengths.iter().sum();
        let fits = state.tables.get(&table.data_id).is_some_and(|cached| {
            last <= cached.at && cached.lengths.iter().sum::<usize>() == rows
        });
        if !fits {
            state.forget(table.data_id);
        }
        let cached = state
            .tables
            .entry(table.data_id)
            .or_insert_with(|| CachedTable {
                lengths: Arc::clone(&lengths),
                at: view.at,
                columns: BTreeMap::new(),
            });
        cached.at = cached.at.max(view.at);
        let mut change = (0, 0);
        for (position, meaning, arrays, statistics) in columns {
            let arrays = match cached.lengths == lengths {
                true => arrays,
                false => match cut(&arrays, &cached.lengths) {
                    Some(arrays) => arrays,
                    None => continue,
                },
            };
            let bytes = bytes_of(&arrays);
            change.0 += bytes;
            let column = CachedColumn {
                meaning,
                at: view.at,
                portions: arrays,
                statistics,
                bytes,
                used: uses,
            };
            if let Some(old) = cached.columns.insert(position, column) {
                change.1 += old.bytes;
            }
        }
        state.bytes = state.bytes + change.0 - change.1;
        state.shrink(self.limit_bytes);
    }
}

impl State {
    fn forget(&mut self, table: u32) {
        if let Some(cached) = self.tables.remove(&table) {
            let freed: usize = cached.columns.values().map(|column| column.bytes).sum();
            self.bytes -= freed;
        }
    }

    fn shrink(&mut self, limit: usize) {
        while self.bytes > limit {
            let columns = self.tables.iter().flat_map(|(table, cached)| {
                let columns = cached.columns.iter();
                columns.map(|(position, column)| (column.used, *table, *position))
            });
            let Some((_, table, position)) = columns.min() else {
                return;
            };
            let Some(cached) = self.tables.get_mut(&table) else {
                return;
            };
            if let Some(column) = cached.columns.remove(&position) {
                self.bytes -= column.bytes;
            }
            if cached.columns.is_empty() {
                self.tables.remove(&table);
            }
        }
    }
}

/// Memory of arrays, in bytes.
pub(crate) fn bytes_of(arrays: &[ArrayRef]) -> usize {
    let sizes = arrays.iter().map(|array| {
        let data = array.to_data();
        // Portions of one large array share its buffers: each counts what it shows of them.
        data.get_slice_memory_size().unwrap_or(0) + ARRAY_BYTES
    });
    sizes.sum()
}

/// The same column in portions of other lengths, of the same sum.
fn cut(portions: &[ArrayRef], lengths: &[usize]) -> Option<Arc<[ArrayRef]>> {
    let arrays: Vec<&dyn Array> = portions.iter().map(|array| array.as_ref()).collect();
    let whole = concat(&arrays).ok()?;
    let mut from = 0;
    let slices = lengths.iter().map(|length| {
        let slice = whole.slice(from, *length);
        from += length;
        slice
    });
    Some(slices.collect())
}

/// Facts that join orders are chosen by. Nothing may answer a query from them, so none says that it
/// is exact.
fn statistics_of(portions: &[ArrayRef]) -> ColumnStatistics {
    let nulls = portions.iter().map(|array| array.null_count()).sum();
    let mut statistics = ColumnStatistics::new_unknown();
    statistics.null_count = Precision::Inexact(nulls);
    let scalar = |of: fn(&dyn Array) -> Option<ScalarValue>, least: bool| {
        let values = portions.iter().filter_map(|array| of(array.as_ref()));
        let best = values.reduce(|a, b| match (a < b) == least {
            true => a,
            false => b,
        });
        best.map_or(Precision::Absent, Precision::Inexact)
    };
    statistics.min_value = scalar(|array| extreme(array, true), true);
    statistics.max_value = scalar(|array| extreme(array, false), false);
    statistics
}

/// The least or the greatest value of an array whose type makes that cheap.
fn extreme(array: &dyn Array, least: bool) -> Option<ScalarValue> {
    fn of<T: ArrowPrimitiveType>(array: &dyn Array, least: bool) -> Option<T::Native> {
        let array = array.as_primitive_opt::<T>()?;
        if least { min(array) } else { max(array) }
    }
    Some(match array.data_type() {
        DataType::Int16 => ScalarValue::Int16(Some(of::<Int16Type>(array, least)?)),
        DataType::Int32 => ScalarValue::Int32(Some(of::<Int32Type>(array, least)?)),
        DataType::Int64 => ScalarValue::Int64(Some(of::<Int64Type>(array, least)?)),
        DataType::Date32 => ScalarValue::Date32(Some(of::<Date32Type>(array, least)?)),
        DataType::Decimal128(precision, scale) => {
            let value = of::<Decimal128Type>(array, least)?;
            ScalarValue::Decimal128(Some(value), *precision, *scale)
        }
        DataType::Timestamp(_, zone) => {
            let value = of::<TimestampMicrosecondType>(array, least)?;
            ScalarValue::TimestampMicrosecond(Some(value), zone.clone())
        }
        _ => return None,
    })
}
