//! Versions of user keys: the present in `data`, the past in `history`.
//!
//! # What it is
//!
//! A committed write of a user key makes a *version*: the commit timestamp and a value, or a
//! *tombstone* when the key was deleted. A version is *visible* at a timestamp `at` from its own
//! timestamp until the instant before its successor's. Two keyspaces hold the versions:
//!
//! | Keyspace  | Key                                        | Value                                          |
//! | --------- | ------------------------------------------ | ---------------------------------------------- |
//! | `data`    | user key                                   | commit timestamp (8) · tag (1) · value         |
//! | `history` | escaped user key · inverted timestamp (8)  | superseded at (8) · superseded by (1) · value  |
//!
//! All numbers are big-endian. The tag is 1 for a value, 0 for a tombstone. In a history key each
//! zero byte of the user key becomes `00 ff` and the end of the user key is `00 01`, so entries
//! sort by user key even where one key is a prefix of another; the timestamp is inverted, so the
//! newest of a key's old versions comes first. For example, after `put k=a @10`, `put k=b @20`,
//! `delete k @30`:
//!
//! ```text
//! data     k       → 30 · tombstone
//! history  k · !20 → superseded at 30, by a tombstone · b
//! history  k · !10 → superseded at 20, by a value     · a
//! ```
//!
//! A history entry says itself until when it was visible. So a read in the past needs no look at
//! its successor, collecting garbage needs none either, and tombstones never go to `history`.
//!
//! # Why it is so
//!
//! A range scan that opens an iterator costs several times a point get in an LSM tree, and old
//! versions beside the new one make each scan pay for the past. Here the present costs one `get`
//! behind a bloom filter, and a scan at "now" touches live rows only.
//!
//! # What it guarantees
//!
//! - [`apply`] moves the old version and puts the new one in one atomic batch, history first.
//! - Applying the same write again changes nothing: a key whose present version is as new as the
//!   write, or newer, is left alone. Each key is written at most once per commit timestamp. (After
//!   a sweep removed a tombstone, a write from before it would bring the key back. So replay starts
//!   at the applied index, which stands in the same batch as the data.)
//! - [`get`] without a snapshot is right beside a concurrent writer. A batch becomes visible entry
//!   by entry (an LSM memtable is filled in the order of the batch), so a reader may see the new
//!   version in `data` before the batch is published to snapshots. If that version is not newer than
//!   the read, it is the answer. If it is newer, `data` and `history` are both read again from one
//!   snapshot, which holds the batch whole or not at all: either `data` still has the old version
//!   there, or `history` has it already.
//! - A read at or above the garbage threshold sees the same before, during and after a sweep.
//!
//! # What it does not do
//!
//! It does not decide timestamps, take locks or detect conflicts: commit timestamps of one key
//! must rise, which the lock table and the timestamp cache see to. Reads below the garbage
//! threshold find too little; refusing them is the caller's work.

mod apply;
mod codec;
mod scan;
mod span;
#[cfg(test)]
mod tests;

pub use apply::{Applier, apply, apply_sorted};
pub use codec::MAX_KEY_BYTES;
pub use scan::{Page, Row, Rows, scan, visit};
pub use span::{is_damaged, span_ranges};

pub(crate) use codec::{
    Present, Version, decode_history_key, decode_history_value, decode_version, encode_tombstone,
    encode_value, history_bounds, history_key, history_value, present_value, put_value,
    version_len, version_timestamp,
};

use crate::engine::{Engine, Keyspace, Result, Snapshot};
use bytes::Bytes;
use std::ops::Bound;
use types::Timestamp;

/// The value of `key` visible at `at`, and its commit timestamp. `None` also for a deleted key.
///
/// One point read when the newest version is not newer than `at`, else a second one and a seek.
pub fn get<E: Engine + ?Sized>(
    engine: &E,
    key: &[u8],
    at: Timestamp,
) -> Result<Option<(Bytes, Timestamp)>> {
    match engine.get(Keyspace::Data, key)? {
        None => Ok(None),
        Some(raw) => match decode_version(key, raw)? {
            version if version.timestamp <= at => Ok(version.into_pair()),
            _ => get_at(&*engine.snapshot(), key, at),
        },
    }
}

/// Like [`get`], from a snapshot.
pub fn get_at<S: Snapshot + ?Sized>(
    snapshot: &S,
    key: &[u8],
    at: Timestamp,
) -> Result<Option<(Bytes, Timestamp)>> {
    match snapshot.get(Keyspace::Data, key)? {
        None => Ok(None),
        Some(raw) => match decode_version(key, raw)? {
            version if version.timestamp <= at => Ok(version.into_pair()),
            _ => get_from_history(snapshot, key, at),
        },
    }
}

/// Commit timestamp of the newest version of `key`; a tombstone counts.
pub fn newest_version<E: Engine + ?Sized>(engine: &E, key: &[u8]) -> Result<Option<Timestamp>> {
    match engine.get(Keyspace::Data, key)? {
        None => Ok(None),
        Some(raw) => Ok(Some(version_timestamp(key, &raw)?)),
    }
}

/// Whether any key in `[start, end)` has a version or tombstone with a timestamp above `after`.
///
/// `after` must not be below the garbage threshold: older tombstones are gone. Reads the whole
/// span until it finds one.
pub fn span_changed_since(
    snapshot: &dyn Snapshot,
    start: &[u8],
    end: &[u8],
    after: Timestamp,
) -> Result<bool> {
    let range = (
        Bound::Included(Bytes::copy_from_slice(start)),
        Bound::Excluded(Bytes::copy_from_slice(end)),
    );
    for pair in snapshot.scan(Keyspace::Data, range, false) {
        let (key, raw) = pair?;
        if version_timestamp(&key, &raw)? > after {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether none of `keys` (ascending) has a version or tombstone.
///
/// One seek where the keys' whole span is empty, as it is for rows loaded behind all others.
pub fn none_written(snapshot: &dyn Snapshot, keys: &[Bytes]) -> Result<bool> {
    let (Some(first), Some(last)) = (keys.first(), keys.last()) else {
        return Ok(true);
    };
    let range = (
        Bound::Included(first.clone()),
        Bound::Included(last.clone()),
    );
    let mut left = keys;
    for (count, pair) in snapshot.scan(Keyspace::Data, range, false).enumerate() {
        if count == keys.len() {
            // Much stands between the keys: the rest is looked up.
            for key in left {
                if snapshot.get(Keyspace::Data, key)?.is_some() {
                    return Ok(false);
                }
            }
            break;
        }
        let (present, _) = pair?;
        left = &left[left.partition_point(|key| *key < present)..];
        if left.first() == Some(&present) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The old version of `key` visible at `at`.
pub(crate) fn get_from_history<S: Snapshot + ?Sized>(
    snapshot: &S,
    key: &[u8],
    at: Timestamp,
) -> Result<Option<(Bytes, Timestamp)>> {
    let Some(pair) = snapshot
        .scan(Keyspace::History, history_bounds(key, at), false)
        .next()
    else {
        return Ok(None);
    };
    let (history_key, raw) = pair?;
    let (_, timestamp) = decode_history_key(&history_key)?;
    let entry = decode_history_value(&history_key, raw)?;
    // Superseded by then: the successor was a tombstone, which history does not keep.
    Ok((entry.superseded_at > at).then_some((entry.value, timestamp)))
}
