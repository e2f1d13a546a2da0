//! The write buffer of a transaction, with an undo log for savepoints.

use crate::fresh::FreshRows;
use crate::kv::{Key, Span, Value};
use crate::writes::{Overlay, Writes};
use std::sync::Arc;

/// Names a savepoint of one transaction. Never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SavepointId(u64);

/// Memory of a buffered write beside its key and value: tree node share and two headers.
const WRITE_OVERHEAD_BYTES: usize = 96;
/// The same of one in a batch of new rows: two headers here, one in the lock table.
const FRESH_OVERHEAD_BYTES: usize = 72;

#[derive(Debug)]
struct Savepoint {
    id: SavepointId,
    /// Length of the undo log, and of the caller's lock log, when it was set.
    undo: usize,
    locks: usize,
}

/// What was buffered for a key before: nothing, or a value, or a deletion.
type Before = Option<Option<Value>>;

/// How something buffered is undone.
#[derive(Debug)]
enum Undo {
    Write(Key, Before),
    Fresh(FreshRows),
}

/// Buffered writes, in key order. Knows sizes, not limits.
#[derive(Debug, Default)]
pub(crate) struct WriteBuffer {
    /// Shared with the views of running statements: a write after such a view was let go copies
    /// nothing.
    writes: Arc<Writes>,
    /// Kept only while a savepoint is set.
    undo: Vec<Undo>,
    savepoints: Vec<Savepoint>,
    next_savepoint: u64,
}

impl WriteBuffer {
    pub(crate) fn get(&self, key: &[u8]) -> Option<Option<&Value>> {
        self.writes.get(key)
    }

    pub(crate) fn holds_any(&self, keys: &[Key]) -> bool {
        self.writes.holds_any(keys)
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
            self.undo.push(Undo::Write(key, before));
            0
        }
    }

    /// Buffers new rows whose keys are not here yet. Their memory is [`fresh_cost`].
    pub(crate) fn put_fresh(&mut self, rows: FreshRows) {
        if self.has_savepoints() {
            self.undo.push(Undo::Fresh(rows.clone()));
        }
        Arc::make_mut(&mut self.writes).add(rows);
    }

    pub(crate) fn has_savepoints(&self) -> bool {
        !self.savepoints.is_empty()
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
                .filter_map(|undo| match undo {
                    Undo::Write(key, before) => Some(key.len() + value_cost(&before?)),
                    Undo::Fresh(_) => None,
                })
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
        for undo in self.undo.drain(savepoint.undo..).rev() {
            let (key, before) = match undo {
                Undo::Write(key, before) => (key, before),
                Undo::Fresh(rows) => {
                    writes.take_back(&rows);
                    freed += fresh_cost(&rows);
                    continue;
                }
            };
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
        self.writes.page(span, reverse, limit, limit_bytes)
    }

    /// All writes, sorted by key.
    pub(crate) fn take(&mut self) -> Vec<(Key, Option<Value>)> {
        Arc::unwrap_or_clone(std::mem::take(&mut self.writes)).into_sorted()
    }

    /// The writes as they are now; later ones do not show.
    pub(crate) fn share(&self) -> Overlay {
        Overlay(Arc::clone(&self.writes))
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

/// Memory of a batch of new rows, the locks of its keys included.
pub(crate) fn fresh_cost(rows: &FreshRows) -> usize {
    rows.bytes() + rows.keys().len() * FRESH_OVERHEAD_BYTES
}

fn value_cost(value: &Option<Value>) -> usize {
    cost(&[], value.as_deref())
}
