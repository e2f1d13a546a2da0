//! The bucket in a key: which one a row has, and which ones a condition leaves.

use super::KeyColumn;
use crate::catalog::descriptor::Table;
use sharding::ShardingStrategy;
use smallvec::SmallVec;
use std::ops::Range;
use types::{Datum, Result, key};

/// Room for the columns that decide, in bytes.
const COLUMNS_CAPACITY: usize = 32;

/// How a table's rows are put in buckets.
#[derive(Debug)]
pub(super) struct Buckets {
    strategy: Box<dyn ShardingStrategy>,
    /// The columns that decide, and their positions.
    columns: Vec<(usize, KeyColumn)>,
}

impl Buckets {
    /// `None`: keys have no bucket in them.
    pub(super) fn of(table: &Table) -> Result<Option<Self>> {
        let Some(strategy) = table.bucket_strategy()? else {
            return Ok(None);
        };
        let column = |position: &usize| {
            let found = super::key_column(table, *position);
            found.map(|column| (*position, column))
        };
        let columns = table.sharding.columns().iter().map(column);
        Ok(Some(Buckets {
            strategy,
            columns: columns.collect::<Result<_>>()?,
        }))
    }

    pub(super) fn count(&self) -> u16 {
        self.strategy.buckets()
    }

    /// Whether these columns' values decide the bucket.
    pub(super) fn decided_by(&self, mut known: impl FnMut(usize) -> bool) -> bool {
        self.columns.iter().all(|(position, _)| known(*position))
    }

    /// The buckets that may have rows with these values; `None` for a column that is not known.
    pub(super) fn route<'d>(&self, value: impl Fn(usize) -> Option<&'d Datum>) -> Range<u16> {
        let mut encoded = Vec::with_capacity(COLUMNS_CAPACITY);
        for (position, column) in &self.columns {
            match value(*position) {
                Some(value) => column.encode(&mut encoded, value),
                None => return self.strategy.route(None),
            }
        }
        self.strategy.route(Some(&encoded))
    }
}

/// What keys of an access path start with: an index's prefix, in one bucket or without.
pub(super) type Prefix = SmallVec<[u8; key::BUCKET_INDEX_PREFIX_LEN]>;
