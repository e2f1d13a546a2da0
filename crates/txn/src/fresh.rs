//! Rows that are inserted many at a time.
//!
//! [`FreshRows`] is a batch of new keys with their values, sorted, all in one piece of memory. A bulk
//! load makes one of some hundred rows, locks its keys at once (`Transaction::lock_fresh`) and
//! buffers it at once (`Transaction::put_fresh`), where single rows would take a lock, a note of the
//! lock, and a tree node each.

use crate::kv::{Key, Value};
use crate::runs::Batch;
use bytes::Bytes;
use std::sync::Arc;

/// Writes that are all new keys. See the module.
#[derive(Clone, Debug)]
pub struct FreshRows {
    keys: Arc<[Key]>,
    values: Arc<[Value]>,
    bytes: usize,
}

impl FreshRows {
    /// In ascending order, all different.
    pub fn keys(&self) -> &Arc<[Key]> {
        &self.keys
    }

    pub(crate) fn value(&self, place: usize) -> &Value {
        &self.values[place]
    }

    pub(crate) fn rows(&self) -> impl DoubleEndedIterator<Item = (&Key, &Value)> {
        self.keys.iter().zip(self.values.iter())
    }

    /// The rows with keys in `[start, end)`.
    pub(crate) fn range(
        &self,
        start: &[u8],
        end: &[u8],
    ) -> impl DoubleEndedIterator<Item = (&Key, &Value)> {
        let from = self.keys.partition_point(|key| &key[..] < start);
        let to = self.keys.partition_point(|key| &key[..] < end).max(from);
        self.keys[from..to].iter().zip(&self.values[from..to])
    }

    /// Bytes of all keys and values.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Batch for FreshRows {
    fn keys(&self) -> &[Key] {
        &self.keys
    }
}

/// Makes [`FreshRows`]: for each row its key is appended to [`FreshBuilder::bytes`], then its value.
#[derive(Clone, Default)]
pub struct FreshBuilder {
    bytes: Vec<u8>,
    /// Where each row's key and value end; its key starts where the row before it ends.
    ends: Vec<(usize, usize)>,
    key_end: usize,
}

impl FreshBuilder {
    pub fn with_capacity(rows: usize, bytes: usize) -> Self {
        FreshBuilder {
            bytes: Vec::with_capacity(bytes),
            ends: Vec::with_capacity(rows),
            key_end: 0,
        }
    }

    /// What is to be appended to.
    pub fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// The row's key is complete; its value follows.
    pub fn end_key(&mut self) {
        self.key_end = self.bytes.len();
    }

    /// The row is complete.
    pub fn end_value(&mut self) {
        self.ends.push((self.key_end, self.bytes.len()));
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The key of the nth row, as it came.
    pub fn key(&self, row: usize) -> &[u8] {
        &self.bytes[self.start(row)..self.ends[row].0]
    }

    /// The value of the nth row, as it came.
    pub fn value(&self, row: usize) -> &[u8] {
        let (key_end, end) = self.ends[row];
        &self.bytes[key_end..end]
    }

    /// `None` if two rows have the same key.
    pub fn finish(mut self) -> Option<FreshRows> {
        let mut order: Vec<usize> = (0..self.ends.len()).collect();
        let ascends = |order: &[usize]| {
            order
                .windows(2)
                .all(|pair| self.key(pair[0]) < self.key(pair[1]))
        };
        if !ascends(&order) {
            order.sort_unstable_by(|a, b| self.key(*a).cmp(self.key(*b)));
            if !ascends(&order) {
                return None;
            }
        }
        let mut all = std::mem::take(&mut self.bytes);
        if all.capacity() - all.len() > all.len() / 4 {
            all.shrink_to_fit();
        }
        let all = Bytes::from(all);
        let key = |row: &usize| all.slice(self.start(*row)..self.ends[*row].0);
        let value = |row: &usize| all.slice(self.ends[*row].0..self.ends[*row].1);
        Some(FreshRows {
            keys: order.iter().map(key).collect(),
            values: order.iter().map(value).collect(),
            bytes: all.len(),
        })
    }

    fn start(&self, row: usize) -> usize {
        row.checked_sub(1).map_or(0, |before| self.ends[before].1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(rows: &[(&str, &str)]) -> Option<FreshRows> {
        let mut builder = FreshBuilder::default();
        for (key, value) in rows {
            builder.bytes().extend_from_slice(key.as_bytes());
            builder.end_key();
            builder.bytes().extend_from_slice(value.as_bytes());
            builder.end_value();
        }
        builder.finish()
    }

    #[test]
    fn rows_are_sorted_by_their_keys() {
        let rows = built(&[("b", "2"), ("a", ""), ("c", "3")]).expect("all differ");
        let found: Vec<_> = rows.rows().map(|(k, v)| (&k[..], &v[..])).collect();
        assert_eq!(
            found,
            [
                (&b"a"[..], &b""[..]),
                (&b"b"[..], &b"2"[..]),
                (&b"c"[..], &b"3"[..])
            ]
        );
        assert_eq!(rows.range(b"b", b"c").count(), 1);
        assert_eq!(rows.range(b"c", b"b").count(), 0);
        assert_eq!(rows.bytes(), 5);
    }

    #[test]
    fn two_rows_with_one_key_are_refused() {
        assert!(built(&[("b", "2"), ("a", ""), ("b", "3")]).is_none());
    }
}
