//! Writing versions: the old one to `history` first, then the new one to `data`.

use super::{
    Version, decode_version, encode_tombstone, encode_value, history_key, history_value, put_value,
    version_len,
};
use crate::engine::{Engine, Keyspace, Result, WriteBatch};
use bytes::Bytes;
use rustc_hash::FxHashMap;
use std::ops::Bound;
use types::Timestamp;

/// Appends to `batch` what makes `writes` the newest versions, all at `commit_ts`.
///
/// `None` deletes. Writes already in `batch` are taken into account; for many small commits in one
/// batch keep an [`Applier`] instead, which does not look through the batch again each time.
pub fn apply<E: Engine + ?Sized>(
    engine: &E,
    batch: &mut WriteBatch,
    writes: &[(Bytes, Option<Bytes>)],
    commit_ts: Timestamp,
) -> Result<()> {
    let mut applier = Applier::new(engine, batch);
    for (key, value) in writes {
        applier.write(key, value.as_ref(), commit_ts)?;
    }
    Ok(())
}

/// Like [`apply`], for many writes in ascending order of their keys, none of which is in `batch` yet.
///
/// Where nothing stands between the first and the last key, as when rows are loaded behind all others,
/// no key is looked up, and the new versions are laid out in one piece of memory.
pub fn apply_sorted<E: Engine + ?Sized>(
    engine: &E,
    batch: &mut WriteBatch,
    writes: &[(Bytes, Option<Bytes>)],
    commit_ts: Timestamp,
) -> Result<()> {
    let (Some((first, _)), Some((last, _))) = (writes.first(), writes.last()) else {
        return Ok(());
    };
    let span = (
        Bound::Included(first.clone()),
        Bound::Included(last.clone()),
    );
    let snapshot = engine.snapshot();
    if snapshot.scan(Keyspace::Data, span, false).next().is_none() {
        put_versions(batch, writes, commit_ts);
        return Ok(());
    }
    let mut part = WriteBatch::default();
    apply(engine, &mut part, writes, commit_ts)?;
    batch.ops.append(&mut part.ops);
    Ok(())
}

/// First versions of keys. Deleting what does not exist changes nothing.
fn put_versions(batch: &mut WriteBatch, writes: &[(Bytes, Option<Bytes>)], commit_ts: Timestamp) {
    let puts = || {
        writes
            .iter()
            .filter_map(|(key, value)| Some((key, value.as_ref()?)))
    };
    let bytes = puts().map(|(key, value)| key.len() + version_len(value));
    let mut all = Vec::with_capacity(bytes.sum());
    for (key, value) in puts() {
        all.extend_from_slice(key);
        put_value(&mut all, commit_ts, value);
    }
    let mut all = Bytes::from(all);
    batch.ops.extend(puts().map(|(key, value)| {
        let key = all.split_to(key.len());
        (Keyspace::Data, key, Some(all.split_to(version_len(value))))
    }));
}

/// Applies any number of commits into one batch.
pub struct Applier<'a, E: Engine + ?Sized> {
    engine: &'a E,
    batch: &'a mut WriteBatch,
    /// Where in the batch the newest version of a user key stands. Lookups only.
    pending: FxHashMap<Bytes, usize>,
}

impl<'a, E: Engine + ?Sized> Applier<'a, E> {
    pub fn new(engine: &'a E, batch: &'a mut WriteBatch) -> Self {
        let mut pending = FxHashMap::default();
        for (index, (keyspace, key, _)) in batch.ops.iter().enumerate() {
            if *keyspace == Keyspace::Data {
                pending.insert(key.clone(), index);
            }
        }
        Applier {
            engine,
            batch,
            pending,
        }
    }

    /// The batch, to add other things of the same commit such as the applied index.
    pub fn batch(&mut self) -> &mut WriteBatch {
        self.batch
    }

    /// Makes `value` (or a tombstone) the newest version of `key`.
    ///
    /// Changes nothing when the present version is as new as `commit_ts` or newer: then this is a
    /// replay. Deleting what does not exist changes nothing either.
    pub fn write(
        &mut self,
        key: &Bytes,
        value: Option<&Bytes>,
        commit_ts: Timestamp,
    ) -> Result<()> {
        let pending = self.pending.get(key).copied();
        let raw = match pending {
            Some(index) => self.batch.ops[index].2.clone(),
            None => self.engine.get(Keyspace::Data, key)?,
        };
        let present = raw.map(|raw| decode_version(key, raw)).transpose()?;
        self.put_over(key, value, commit_ts, pending, present);
        Ok(())
    }

    /// Like [`Self::write`], told what is there (`None`: no value) instead of looking it up.
    pub fn write_over(
        &mut self,
        key: &Bytes,
        value: Option<&Bytes>,
        commit_ts: Timestamp,
        replaced: Option<(Timestamp, &Bytes)>,
    ) -> Result<()> {
        if self.pending.contains_key(key) {
            return self.write(key, value, commit_ts);
        }
        let present = replaced.map(|(timestamp, value)| Version {
            timestamp,
            value: Some(value.clone()),
        });
        self.put_over(key, value, commit_ts, None, present);
        Ok(())
    }

    fn put_over(
        &mut self,
        key: &Bytes,
        value: Option<&Bytes>,
        commit_ts: Timestamp,
        pending: Option<usize>,
        present: Option<Version>,
    ) {
        let Some(present) = present else {
            if let Some(value) = value {
                self.put(key, encode_value(commit_ts, value));
            }
            return;
        };
        if present.timestamp >= commit_ts {
            return;
        }
        let Some(old_value) = present.value else {
            // A tombstone stays where it is until a value takes its place. Its predecessor in
            // history says when it ended, so the tombstone need not be kept.
            if let Some(value) = value {
                if let Some(index) = pending {
                    self.batch.ops[index].2 = Some(encode_value(commit_ts, value));
                } else {
                    self.put(key, encode_value(commit_ts, value));
                }
            }
            return;
        };
        let history = (
            Keyspace::History,
            history_key(key, present.timestamp),
            Some(history_value(commit_ts, value.is_none(), &old_value)),
        );
        match pending {
            // One key must not stand twice in a batch. The older pending version becomes history
            // in its own place, which also keeps history before data.
            Some(index) => self.batch.ops[index] = history,
            None => self.batch.ops.push(history),
        }
        let new = match value {
            Some(value) => encode_value(commit_ts, value),
            None => encode_tombstone(commit_ts),
        };
        self.put(key, new);
    }

    fn put(&mut self, key: &Bytes, raw: Bytes) {
        self.pending.insert(key.clone(), self.batch.ops.len());
        self.batch
            .ops
            .push((Keyspace::Data, key.clone(), Some(raw)));
    }
}
