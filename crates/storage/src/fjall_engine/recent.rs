//! The newest versions of rows that were written lately, so that who writes or reads them again need not search
//! memtables and tables for them: a search costs some microseconds, and rows that many transactions change in turn
//! are searched for by each of them, on every replica.
//!
//! Only the writer puts rows here, after the engine has taken them. So a row here is as new as the newest batch that
//! has it, and whoever finds it reads as if just before or after that batch. What readers find in tables is not put
//! here: it may be old by the time it is.

use crate::engine::{Keyspace, WriteBatch};
use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

/// Rows kept, with their keys, about.
const BYTES: u64 = 8 << 20;
/// What a row takes beside its bytes.
const ROW_BYTES: u64 = 128;
/// A batch of more rows is a load: they are not written again soon, and would drive out those that are.
const BATCH_ROWS: usize = 256;
/// A row that takes more is not worth its place.
const ROW_MOST: usize = 4 << 10;

#[derive(Clone)]
struct Bulk;

impl Weighter<Bytes, Bytes> for Bulk {
    fn weight(&self, key: &Bytes, value: &Bytes) -> u64 {
        (key.len() + value.len()) as u64 + ROW_BYTES
    }
}

/// See the module.
pub struct Recent(Cache<Bytes, Bytes, Bulk>);

/// What a batch does to the rows here, once the engine has taken it.
pub struct Change(Vec<(Bytes, Option<Bytes>)>);

impl Recent {
    pub fn new() -> Self {
        let rows = BYTES / (2 * ROW_BYTES);
        Recent(Cache::with_weighter(rows as usize, BYTES, Bulk))
    }

    pub fn get(&self, key: &[u8]) -> Option<Bytes> {
        self.0.get(key)
    }

    pub fn clear(&self) {
        self.0.clear();
    }

    pub fn apply(&self, change: Change) {
        for (key, value) in change.0 {
            match value {
                Some(value) => self.0.insert(key, value),
                None => {
                    self.0.remove(&key);
                }
            }
        }
    }
}

impl Change {
    pub fn of(batch: &WriteBatch) -> Self {
        let rows = || {
            let ops = batch.ops.iter();
            ops.filter(|(keyspace, _, _)| *keyspace == Keyspace::Data)
        };
        let is_load = rows().count() > BATCH_ROWS;
        let rows = rows().map(|(_, key, value)| {
            let value = value.as_ref();
            match value.filter(|value| !is_load && key.len() + value.len() <= ROW_MOST) {
                // Copies: the originals may be parts of something large.
                Some(value) => (
                    Bytes::copy_from_slice(key),
                    Some(Bytes::copy_from_slice(value)),
                ),
                None => (key.clone(), None),
            }
        });
        Change(rows.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(n: usize) -> Bytes {
        Bytes::from(format!("row {n}"))
    }

    fn batch(rows: impl Iterator<Item = usize>, value: Option<&'static str>) -> WriteBatch {
        let value = value.map(|value| Bytes::from_static(value.as_bytes()));
        WriteBatch {
            ops: rows
                .map(|n| (Keyspace::Data, row(n), value.clone()))
                .collect(),
            ..WriteBatch::default()
        }
    }

    #[test]
    fn what_is_here_is_what_was_written_last() {
        let recent = Recent::new();
        let get = |n: usize| recent.get(&row(n));
        recent.apply(Change::of(&batch(0..3, Some("first"))));
        recent.apply(Change::of(&batch(1..2, Some("second"))));
        recent.apply(Change::of(&batch(2..3, None)));
        assert_eq!(get(0), Some(Bytes::from_static(b"first")));
        assert_eq!(get(1), Some(Bytes::from_static(b"second")));
        assert_eq!(get(2), None);
        // A load puts nothing here, and nothing that it overwrites stays.
        recent.apply(Change::of(&batch(1..1 + 2 * BATCH_ROWS, Some("third"))));
        assert_eq!(get(0), Some(Bytes::from_static(b"first")));
        assert_eq!(get(1), None);
    }

    #[test]
    fn large_rows_and_other_keyspaces_are_not_kept() {
        let recent = Recent::new();
        let mut batch = batch(0..1, Some("small"));
        batch.put(Keyspace::Raft, row(1), "an entry");
        recent.apply(Change::of(&batch));
        assert_eq!(recent.get(&row(1)), None);
        let mut batch = WriteBatch::default();
        batch.put(Keyspace::Data, row(0), vec![0; ROW_MOST]);
        recent.apply(Change::of(&batch));
        assert_eq!(recent.get(&row(0)), None);
    }
}
