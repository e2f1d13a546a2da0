//! How many bytes a shard's keys and values take, and where its middle is.
//!
//! A replica counts what is written to it; that is cheap, and too much when rows are overwritten or deleted. So what
//! it counts is only a reason to look: [`measure`] goes through the rows, a little at a time, and says how many bytes
//! there are and which key has half of them below it. Splits are decided by that alone.

use bytes::Bytes;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use storage::mvcc::span_ranges;
use storage::{Engine, Keyspace};
use types::env::Clock;

/// Rows looked at in one step: some milliseconds of work.
const STEP_ROWS: usize = 4000;
/// Keys that are remembered on the way; a split is at one of them, so this close to the middle.
const SAMPLES: usize = 256;

/// In place of bytes: not measured yet.
const UNKNOWN: u64 = u64::MAX;

/// What a replica knows of its size, in bytes.
#[derive(Debug)]
pub(crate) struct Size {
    /// When it was measured last, or half of what was split.
    known: AtomicU64,
    /// Written since.
    written: AtomicU64,
}

impl Default for Size {
    fn default() -> Self {
        Size {
            known: AtomicU64::new(UNKNOWN),
            written: AtomicU64::new(0),
        }
    }
}

impl Size {
    pub(crate) fn wrote(&self, bytes: u64) {
        self.written.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, bytes: u64) {
        self.known.store(bytes, Ordering::Relaxed);
        self.written.store(0, Ordering::Relaxed);
    }

    /// `None`: it was not measured in this life of the store.
    pub(crate) fn estimate(&self) -> Option<u64> {
        let known = Some(self.known.load(Ordering::Relaxed)).filter(|known| *known != UNKNOWN)?;
        Some(known.saturating_add(self.written.load(Ordering::Relaxed)))
    }
}

/// See [`measure`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Measured {
    pub(crate) bytes: u64,
    /// A key that is there, with about half of the bytes below it. `None`: there are not two keys.
    pub(crate) middle: Option<Bytes>,
}

/// Keys with what lies below each, evenly spread over what was seen.
#[derive(Default)]
struct Samples {
    bytes: u64,
    /// Bytes between two of them, at least.
    apart: u64,
    kept: Vec<(u64, Bytes)>,
}

impl Samples {
    fn add(&mut self, key: Bytes, bytes: u64) {
        let last = self.kept.last().map_or(0, |(below, _)| *below);
        // The first key has nothing below it, and is no place to split at.
        if self.bytes > 0 && self.bytes >= last + self.apart {
            self.kept.push((self.bytes, key));
            if self.kept.len() > SAMPLES {
                let mut odd = false;
                self.kept.retain(|_| {
                    odd = !odd;
                    !odd
                });
                self.apart = self.bytes / (SAMPLES as u64 / 2);
            }
        }
        self.bytes += bytes;
    }

    fn end(self) -> Measured {
        let half = self.bytes / 2;
        let after = self.kept.partition_point(|(below, _)| *below < half);
        let near = [after.checked_sub(1), Some(after)].into_iter().flatten();
        let near = near.filter_map(|place| self.kept.get(place));
        Measured {
            bytes: self.bytes,
            middle: near
                .min_by_key(|(below, _)| below.abs_diff(half))
                .map(|(_, key)| key.clone()),
        }
    }
}

/// Goes through the newest versions of all keys from `start` to below `end`, with a pause between two steps.
pub(crate) async fn measure(
    engine: &dyn Engine,
    clock: &dyn Clock,
    start: &[u8],
    end: Option<&[u8]>,
    pause: Duration,
) -> storage::Result<Measured> {
    let mut samples = Samples::default();
    let [(_, mut range), _] = span_ranges(start, end);
    loop {
        let mut last = None;
        {
            let snapshot = engine.snapshot();
            let rows = snapshot.scan(Keyspace::Data, range.clone(), false);
            for row in rows.take(STEP_ROWS) {
                let (key, value) = row?;
                samples.add(key.clone(), (key.len() + value.len()) as u64);
                last = Some(key);
            }
        }
        match last {
            Some(last) => range.0 = Bound::Excluded(last),
            None => return Ok(samples.end()),
        }
        clock.sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_middle_has_about_half_below_it(lengths in proptest::collection::vec(1..100u64, 0..3000)) {
            let mut samples = Samples::default();
            let keys = || (0u32..).map(|n| Bytes::copy_from_slice(&n.to_be_bytes()));
            for (key, length) in keys().zip(&lengths) {
                samples.add(key, *length);
            }
            let measured = samples.end();
            let whole: u64 = lengths.iter().sum();
            prop_assert_eq!(measured.bytes, whole);
            prop_assert_eq!(measured.middle.is_some(), lengths.len() > 1);
            if let Some(middle) = measured.middle {
                let rows = keys().zip(&lengths);
                let below: u64 = rows.filter(|(key, _)| *key < middle).map(|(_, n)| *n).sum();
                prop_assert!(below > 0 && below < whole);
                prop_assert!(below.abs_diff(whole / 2) <= 100 + whole / 64, "{} of {}", below, whole);
            }
        }
    }

    #[test]
    fn what_is_written_counts_until_it_is_measured() {
        let size = Size::default();
        size.wrote(5);
        assert_eq!(size.estimate(), None);
        size.set(4);
        size.wrote(1);
        assert_eq!(size.estimate(), Some(5));
    }
}
