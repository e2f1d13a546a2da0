//! The write buffer of a transaction, with an undo log for savepoints.

use crate::kv::{Key, Span, Value};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// Names a savepoint of one transaction. Never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SavepointId(u64);

/// Memory of a buffered write beside its key and value: tree node share and two headers.
const WRITE_OVERHEAD_BYTES: usize = 96;

#[derive(Debug)]
struct Savepoint {
    id: SavepointId,
    /// Length of the undo log, and of the caller's lock log, when it was set.
    undo: usize,
    locks: usize,
}

/// What was buffered for a key before: nothing, or a value, or a deletion.
type Before = Option<Option<Value>>;

/// Buffered writes, in key order. Knows sizes, not limits.
#[derive(Debug, Default)]
pub(crate) struct WriteBuffer {
    /// Shared with the views of running statements: a write after such a view was let go copies
    /// nothing.
    writes: Arc<BTreeMap<Key, Option<Value>>>,
    /// Kept only while a savepoint is set.
    undo: Vec<(Key, Before)>,
    savepoints: Vec<Savepoint>,
    next_savepoint: u64,
}

impl WriteBuffer {
    pub(crate) fn get(&self, key: &[u8]) -> Option<&Option<Value>> {
        if self.writes.is_empty() {
            return None;
        }
        self.writes.get(key)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.writes.len()
    }

    /// Buffers a write, whose memory is [`cost`]. Returns how much of what was charged before is
    /// free again.
    pub(crate) fn put(&mut self, key: Key, value: Option<Value>) -> usize {
        if self.savepoints.is_empty() {
            let bytes = key.len();
            let before = Arc::make_mut(&mut self.writes).insert(key, value);
            before.map_or(0, |value| bytes + value_cost(&value))
        } else {
            let before = Arc::make_mut(&mut self.writes).insert(key.clone(), value);
            self.undo.push((key, before));
            0
        }
    }

    pub(crate) fn savepoint(&mut self, locks: usize) -> SavepointId {
        let id = SavepointId(self.next_savepoint);
        self.next_savepoint += 1;
        self.savepoints.push(Savepoint {
            id,
            undo: self.undo.len(),
            locks,
        });
        id
    }

    /// Forgets the savepoint and those after it; what was done since stays. Returns the memory
    /// that is free again, or `None` if it is unknown.
    pub(crate) fn release(&mut self, id: SavepointId) -> Option<usize> {
        let at = self.savepoints.binary_search_by_key(&id, |s| s.id).ok()?;
        self.savepoints.truncate(at);
        if !self.savepoints.is_empty() {
            return Some(0);
        }
        let replaced = std::mem::take(&mut self.undo).into_iter();
        Some(
            replaced
                .filter_map(|(key, before)| Some(key.len() + value_cost(&before?)))
                .sum(),
        )
    }

    /// Undoes all writes since the savepoint, which stays set; those after it are forgotten.
    /// Returns the length of the lock log at that time and the memory that is free again, or
    /// `None` if it is unknown.
    pub(crate) fn rollback_to(&mut self, id: SavepointId) -> Option<(usize, usize)> {
        let at = self.savepoints.binary_search_by_key(&id, |s| s.id).ok()?;
        self.savepoints.truncate(at + 1);
        let savepoint = &self.savepoints[at];
        let mut freed = 0;
        let writes = Arc::make_mut(&mut self.writes);
        for (key, before) in self.undo.drain(savepoint.undo..).rev() {
            let bytes = key.len();
            let undone = match before {
                Some(value) => writes.insert(key, value),
                None => writes.remove(&key),
            };
            freed += undone.map_or(0, |value| bytes + value_cost(&value));
        }
        Some((savepoint.locks, freed))
    }

    /// The first writes of the span in scan order, as many as one page can need, and the key of the
    /// last of them if there are more.
    pub(crate) fn page(
        &self,
        span: &Span,
        reverse: bool,
        limit: usize,
        limit_bytes: usize,
    ) -> (Vec<(Key, Option<Value>)>, Option<Key>) {
        if self.writes.is_empty() || span.start >= span.end {
            return (Vec::new(), None);
        }
        let range = (Bound::Included(&span.start), Bound::Excluded(&span.end));
        let range = self.writes.range::<Key, _>(range);
        if reverse {
            take_page(range.rev(), limit, limit_bytes)
        } else {
            take_page(range, limit, limit_bytes)
        }
    }

    /// All writes, sorted by key.
    pub(crate) fn take(&mut self) -> Vec<(Key, Option<Value>)> {
        let writes = std::mem::take(&mut self.writes);
        Arc::unwrap_or_clone(writes).into_iter().collect()
    }

    /// The writes as they are now; later ones do not show.
    pub(crate) fn share(&self) -> Arc<BTreeMap<Key, Option<Value>>> {
        Arc::clone(&self.writes)
    }

    pub(crate) fn clear(&mut self) {
        *self = WriteBuffer {
            next_savepoint: self.next_savepoint,
            ..WriteBuffer::default()
        };
    }
}

/// Memory of a buffered write.
pub(crate) fn cost(key: &[u8], value: Option<&[u8]>) -> usize {
    key.len() + value.map_or(0, <[u8]>::len) + WRITE_OVERHEAD_BYTES
}

fn value_cost(value: &Option<Value>) -> usize {
    cost(&[], value.as_deref())
}

fn take_page<'a>(
    mut writes: impl Iterator<Item = (&'a Key, &'a Option<Value>)>,
    limit: usize,
    limit_bytes: usize,
) -> (Vec<(Key, Option<Value>)>, Option<Key>) {
    let mut page = Vec::new();
    let mut bytes = 0;
    for (key, value) in writes.by_ref() {
        bytes += key.len() + value.as_ref().map_or(0, |value| value.len());
        page.push((key.clone(), value.clone()));
        if page.len() >= limit.max(1) || bytes >= limit_bytes {
            break;
        }
    }
    let more = writes.next().is_some();
    let last = page.last().map(|(key, _)| key.clone());
    (page, last.filter(|_| more))
}
