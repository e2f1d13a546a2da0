//! Removing versions that no read can see any more.
//!
//! A read at or above a *threshold* (now minus `gc_ttl`) is always served. So an old version may go
//! once its successor's timestamp is not above the threshold, and a tombstone may go from `data`
//! once its own is not. [`Sweep`] walks `history` only, never live data: every tombstone in `data`
//! has a predecessor in `history` that is marked "superseded by a tombstone", and both go together.
//!
//! Who serialises: an entry of `history` is written once and never changes, so its removal may run
//! beside anything. A tombstone in `data` may be replaced by a new value at any moment, and a late
//! delete would take that value with it. So a step hands such pairs back as [`Step::tombstones`],
//! and [`remove_tombstones`] must run on the one thread that applies writes: it looks again.

use crate::engine::{Engine, Keyspace, Result, WriteBatch};
use crate::mvcc::{decode_history_key, decode_history_value, decode_version, history_key};
use bytes::Bytes;
use std::ops::Bound;
use types::Timestamp;

/// One pass over `history`, in steps of bounded work. Forgotten at a restart: then it starts anew.
#[derive(Clone, Debug, Default)]
pub struct Sweep {
    /// The history entry after which to go on.
    after: Option<Bytes>,
}

/// What one step found.
#[derive(Debug, Default)]
pub struct Step {
    /// Removes old versions. May be written at any time from any thread, or be dropped.
    pub batch: WriteBatch,
    /// Candidates for [`remove_tombstones`].
    pub tombstones: Vec<Tombstone>,
    pub progress: Progress,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Progress {
    /// The pass reached the end of `history`; the next step starts a new one.
    pub done: bool,
    /// Versions that `batch` removes.
    pub versions_removed: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
}

/// A tombstone in `data` and its predecessor in `history`, seen at some moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Tombstone {
    pub key: Bytes,
    /// The predecessor's commit timestamp.
    pub predecessor: Timestamp,
    /// The tombstone's own.
    pub timestamp: Timestamp,
}

impl Sweep {
    /// Looks at up to `budget` entries of `history` and removes those that no read at or above
    /// `threshold` can see.
    pub fn step<E: Engine + ?Sized>(
        &mut self,
        engine: &E,
        threshold: Timestamp,
        budget: usize,
    ) -> Result<Step> {
        let mut step = Step::default();
        let start = match self.after.take() {
            Some(key) => Bound::Excluded(key),
            None => Bound::Unbounded,
        };
        let snapshot = engine.snapshot();
        let mut entries = snapshot.scan(Keyspace::History, (start, Bound::Unbounded), false);
        for _ in 0..budget {
            let Some(pair) = entries.next() else {
                step.progress.done = true;
                return Ok(step);
            };
            let (raw_key, raw_value) = pair?;
            let bytes = (raw_key.len() + raw_value.len()) as u64;
            let entry = decode_history_value(&raw_key, raw_value)?;
            if entry.superseded_at <= threshold {
                if entry.superseded_by_tombstone {
                    let (key, predecessor) = decode_history_key(&raw_key)?;
                    step.tombstones.push(Tombstone {
                        key,
                        predecessor,
                        timestamp: entry.superseded_at,
                    });
                } else {
                    step.batch.delete(Keyspace::History, raw_key.clone());
                    step.progress.versions_removed += 1;
                    step.progress.bytes += bytes;
                }
            }
            self.after = Some(raw_key);
        }
        Ok(step)
    }
}

/// Appends to `batch` the removal of tombstones that still stand, and of their predecessors.
///
/// Must run on the thread that applies writes, and `batch` must be written before any later write
/// of the same keys is applied. Returns how many entries it removes.
pub fn remove_tombstones<E: Engine + ?Sized>(
    engine: &E,
    batch: &mut WriteBatch,
    tombstones: &[Tombstone],
) -> Result<u64> {
    let mut removed = 0;
    for tombstone in tombstones {
        if let Some(raw) = engine.get(Keyspace::Data, &tombstone.key)? {
            let version = decode_version(&tombstone.key, raw)?;
            if version.value.is_none() && version.timestamp == tombstone.timestamp {
                batch.delete(Keyspace::Data, tombstone.key.clone());
                removed += 1;
            }
        }
        batch.delete(
            Keyspace::History,
            history_key(&tombstone.key, tombstone.predecessor),
        );
        removed += 1;
    }
    Ok(removed)
}
