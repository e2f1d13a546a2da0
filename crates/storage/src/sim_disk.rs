//! A disk in memory for the simulator: it forgets unsynced bytes and fails on demand.
//!
//! It keeps two states. The *volatile* one is what a running process reads: versions by sequence
//! number, so that snapshots are free. The *durable* one is what a crash leaves: batches move there
//! at a sync. Unsynced batches stand between them as the journal's tail, in order, with their size
//! in bytes. [`SimDisk::crash`] cuts that tail at a random byte: batches wholly before the cut
//! survive, the one that the cut tears and all after it are gone, as after a power cut on a disk
//! whose journal checks each record.
//!
//! Deterministic: no clock, no thread, no randomness but what the caller gives.

use crate::engine::{
    Damage, Engine, Error, KeyRange, Keyspace, Pairs, Result, Snapshot, TableRef, WriteBatch,
};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

const KEYSPACES: usize = 4;
/// Bytes of the journal's own around each operation and each batch, roughly as on the real disk.
const OP_OVERHEAD_BYTES: u64 = 21;
const BATCH_OVERHEAD_BYTES: u64 = 26;
/// Rows that a scan takes out of the shared map at once: bounds the work under the lock.
const SCAN_CHUNK_ROWS: usize = 64;

type Versions = Vec<(u64, Option<Bytes>)>;
type Volatile = [BTreeMap<Bytes, Versions>; KEYSPACES];
type Durable = [BTreeMap<Bytes, Bytes>; KEYSPACES];

/// A disk that is handed from one life of a node to the next: clones share it.
#[derive(Clone, Default)]
pub struct SimDisk {
    shared: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    durable: Durable,
    unsynced: Vec<WriteBatch>,
    volatile: Volatile,
    /// Sequence number of the newest batch.
    sequence: u64,
    /// Sequence numbers at which live snapshots read, with their count.
    snapshots: BTreeMap<u64, usize>,
    /// Counts crashes: a snapshot of an earlier life reads no more.
    life: u64,
    bytes_written: u64,
    faults: Faults,
}

/// What shall go wrong. All off by default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Faults {
    /// The next sync fails with `Io`; every later write and sync does too, until a crash: after a
    /// failed sync nobody knows what is on disk.
    pub fail_next_sync: bool,
    /// Writes fail with `DiskFull` once this many bytes were written in all.
    pub full_after_bytes: Option<u64>,
    /// The disk answers no sync. The host asks [`SimDisk::is_stalled`] and withholds the sync; one
    /// that is called all the same fails with `Io`, since a call in virtual time cannot hang.
    pub stalled: bool,
    /// The block that holds this key cannot be read: its checksum is wrong.
    pub bad: Option<(Keyspace, Bytes)>,
    failed: bool,
}

/// What a crash left and took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CrashReport {
    pub batches_survived: usize,
    pub batches_lost: usize,
    /// The cut fell inside a batch.
    pub torn: bool,
}

impl SimDisk {
    pub fn new() -> Self {
        Self::default()
    }

    /// Loses a random suffix of the unsynced bytes, ends all snapshots, and clears a failed sync.
    /// Armed faults stay armed. The same handle then reads what a restarted node finds.
    pub fn crash(&self, mut rng_u64: impl FnMut() -> u64) -> CrashReport {
        let mut state = self.shared.lock();
        let unsynced = std::mem::take(&mut state.unsynced);
        let total: u64 = unsynced.iter().map(journal_bytes).sum();
        let cut = rng_u64() % (total + 1);
        let mut report = CrashReport {
            batches_survived: 0,
            batches_lost: 0,
            torn: false,
        };
        let mut end = 0;
        for batch in unsynced {
            let start = end;
            end += journal_bytes(&batch);
            if end <= cut {
                report.batches_survived += 1;
                state.make_durable(batch);
            } else {
                report.batches_lost += 1;
                report.torn |= start < cut;
            }
        }
        state.life += 1;
        state.sequence += 1;
        state.snapshots.clear();
        state.faults.failed = false;
        state.restore_volatile();
        report
    }

    /// Arms or disarms faults.
    pub fn set_faults(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.shared.lock().faults);
    }

    pub fn is_stalled(&self) -> bool {
        self.shared.lock().faults.stalled
    }

    /// Batches that a crash may lose now.
    pub fn unsynced_batches(&self) -> usize {
        self.shared.lock().unsynced.len()
    }
}

impl State {
    fn make_durable(&mut self, batch: WriteBatch) {
        for (keyspace, key, value) in batch.ops {
            let map = &mut self.durable[index(keyspace)];
            match value {
                Some(value) => map.insert(key, value),
                None => map.remove(&key),
            };
        }
    }

    fn restore_volatile(&mut self) {
        let sequence = self.sequence;
        for (volatile, durable) in self.volatile.iter_mut().zip(&self.durable) {
            *volatile = durable
                .iter()
                .map(|(key, value)| (key.clone(), vec![(sequence, Some(value.clone()))]))
                .collect();
        }
    }

    fn check_usable(&self) -> Result<()> {
        if self.faults.failed {
            return Err(Error::Io("an earlier sync failed".to_owned()));
        }
        Ok(())
    }

    fn read(&self, keyspace: Keyspace, key: &[u8], sequence: u64) -> Result<Option<Bytes>> {
        self.check_block(keyspace, key)?;
        let versions = self.volatile[index(keyspace)].get(key);
        Ok(versions.and_then(|versions| visible(versions, sequence)))
    }

    fn check_block(&self, keyspace: Keyspace, key: &[u8]) -> Result<()> {
        match &self.faults.bad {
            Some((of, bad)) if *of == keyspace && bad == key => {
                Err(Error::Corrupt("simulated: a checksum is wrong".to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// Forgets a row, also after a crash.
    fn forget(&mut self, keyspace: Keyspace, key: &[u8]) {
        self.volatile[index(keyspace)].remove(key);
        self.durable[index(keyspace)].remove(key);
        for batch in &mut self.unsynced {
            batch
                .ops
                .retain(|(of, other, _)| *of != keyspace || other != key);
        }
    }

    /// Drops versions that neither the present nor a snapshot can see, and keys that ended.
    fn prune(&mut self, keyspace: Keyspace, key: &Bytes) {
        let oldest = self.snapshots.keys().next().copied().unwrap_or(u64::MAX);
        let map = &mut self.volatile[index(keyspace)];
        let Some(versions) = map.get_mut(key) else {
            return;
        };
        if let Some(needed) = versions
            .iter()
            .rposition(|(sequence, _)| *sequence <= oldest)
        {
            versions.drain(..needed);
        }
        if let [(sequence, None)] = versions[..]
            && sequence <= oldest
        {
            map.remove(key);
        }
    }
}

impl Engine for SimDisk {
    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Bytes>> {
        self.shared.lock().read(keyspace, key, u64::MAX)
    }

    fn snapshot(&self) -> Box<dyn Snapshot> {
        let mut state = self.shared.lock();
        let sequence = state.sequence;
        *state.snapshots.entry(sequence).or_insert(0) += 1;
        Box::new(SimSnapshot {
            shared: Arc::clone(&self.shared),
            sequence,
            life: state.life,
        })
    }

    fn write(&self, batch: WriteBatch) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let mut state = self.shared.lock();
        state.check_usable()?;
        let bytes = journal_bytes(&batch);
        if state
            .faults
            .full_after_bytes
            .is_some_and(|limit| state.bytes_written + bytes > limit)
        {
            return Err(Error::DiskFull(format!(
                "simulated disk, {} bytes written",
                state.bytes_written
            )));
        }
        state.bytes_written += bytes;
        state.sequence += 1;
        let sequence = state.sequence;
        for (keyspace, key, value) in &batch.ops {
            let versions = state.volatile[index(*keyspace)]
                .entry(key.clone())
                .or_default();
            match versions.last_mut() {
                // Twice in one batch: the later one holds.
                Some(last) if last.0 == sequence => last.1 = value.clone(),
                _ => versions.push((sequence, value.clone())),
            }
            state.prune(*keyspace, key);
        }
        state.unsynced.push(batch);
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        let mut state = self.shared.lock();
        state.check_usable()?;
        if state.faults.stalled {
            return Err(Error::Io("the simulated disk is stalled".to_owned()));
        }
        if std::mem::take(&mut state.faults.fail_next_sync) {
            state.faults.failed = true;
            return Err(Error::Io("simulated sync failure".to_owned()));
        }
        for batch in std::mem::take(&mut state.unsynced) {
            state.make_durable(batch);
        }
        Ok(())
    }

    fn disk_bytes(&self) -> u64 {
        let state = self.shared.lock();
        let durable = state
            .durable
            .iter()
            .flatten()
            .map(|(key, value)| (key.len() + value.len()) as u64);
        durable.sum::<u64>() + state.unsynced.iter().map(journal_bytes).sum::<u64>()
    }

    /// One for each keyspace that has rows.
    fn tables(&self) -> Vec<TableRef> {
        let state = self.shared.lock();
        let keyspaces = [Keyspace::Data, Keyspace::History, Keyspace::Raft].into_iter();
        let tables = keyspaces.map(|keyspace| TableRef {
            keyspace,
            number: index(keyspace) as u64,
            bytes: state.durable[index(keyspace)]
                .iter()
                .map(|(key, value)| (key.len() + value.len()) as u64)
                .sum(),
        });
        tables.filter(|table| table.bytes > 0).collect()
    }

    fn check_table(&self, table: TableRef) -> Result<Option<Damage>> {
        let state = self.shared.lock();
        let bad = state.faults.bad.clone();
        let bad = bad.filter(|(keyspace, _)| *keyspace == table.keyspace);
        Ok(bad.map(|(_, key)| Damage {
            table,
            first: key.clone(),
            last: key,
            what: "simulated: a checksum is wrong".to_owned(),
        }))
    }

    fn discard(&self, damage: &Damage) -> Result<bool> {
        let mut state = self.shared.lock();
        if let Some((keyspace, key)) = state.faults.bad.take() {
            if keyspace == damage.table.keyspace && key == damage.first {
                state.forget(keyspace, &key);
            } else {
                state.faults.bad = Some((keyspace, key));
            }
        }
        Ok(true)
    }
}

struct SimSnapshot {
    shared: Arc<Mutex<State>>,
    sequence: u64,
    life: u64,
}

impl SimSnapshot {
    fn check_alive(&self, state: &State) -> Result<()> {
        if state.life != self.life {
            return Err(Error::Io(
                "snapshot of a process that has crashed".to_owned(),
            ));
        }
        Ok(())
    }

    /// The next rows of `range`, and whether there may be more.
    fn chunk(
        &self,
        keyspace: Keyspace,
        range: &KeyRange,
        reverse: bool,
    ) -> Result<(Vec<(Bytes, Bytes)>, bool)> {
        let state = self.shared.lock();
        self.check_alive(&state)?;
        let rows =
            state.volatile[index(keyspace)].range::<Bytes, _>((range.0.as_ref(), range.1.as_ref()));
        let pair = |(key, versions): (&Bytes, &Versions)| {
            Some((key.clone(), visible(versions, self.sequence)?))
        };
        let rows: Vec<_> = if reverse {
            rows.rev().filter_map(pair).take(SCAN_CHUNK_ROWS).collect()
        } else {
            rows.filter_map(pair).take(SCAN_CHUNK_ROWS).collect()
        };
        let more = rows.len() == SCAN_CHUNK_ROWS;
        Ok((rows, more))
    }
}

impl Snapshot for SimSnapshot {
    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Bytes>> {
        let state = self.shared.lock();
        self.check_alive(&state)?;
        state.read(keyspace, key, self.sequence)
    }

    fn scan(&self, keyspace: Keyspace, range: KeyRange, reverse: bool) -> Pairs<'_> {
        let mut range = range;
        let mut buffered = Vec::<(Bytes, Bytes)>::new().into_iter();
        let mut more = !is_empty_range(&range);
        Box::new(std::iter::from_fn(move || {
            loop {
                if let Some(pair) = buffered.next() {
                    let sound = self.shared.lock().check_block(keyspace, &pair.0);
                    return Some(sound.map(|()| pair));
                }
                if !more {
                    return None;
                }
                match self.chunk(keyspace, &range, reverse) {
                    Ok((rows, has_more)) => {
                        more = has_more;
                        if let Some((last, _)) = rows.last() {
                            let edge = Bound::Excluded(last.clone());
                            if reverse {
                                range.1 = edge
                            } else {
                                range.0 = edge
                            }
                            more &= !is_empty_range(&range);
                        }
                        buffered = rows.into_iter();
                    }
                    Err(error) => {
                        more = false;
                        return Some(Err(error));
                    }
                }
            }
        }))
    }
}

impl Drop for SimSnapshot {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if state.life == self.life
            && let Some(count) = state.snapshots.get_mut(&self.sequence)
        {
            *count -= 1;
            if *count == 0 {
                state.snapshots.remove(&self.sequence);
            }
        }
    }
}

/// Whether no key can lie between the bounds; a `BTreeMap` panics on some of these.
pub(crate) fn is_empty_range(range: &KeyRange) -> bool {
    match (&range.0, &range.1) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(start), Bound::Included(end)) => start > end,
        (
            Bound::Included(start) | Bound::Excluded(start),
            Bound::Included(end) | Bound::Excluded(end),
        ) => start >= end,
    }
}

fn visible(versions: &Versions, sequence: u64) -> Option<Bytes> {
    versions
        .iter()
        .rev()
        .find(|(written, _)| *written <= sequence)?
        .1
        .clone()
}

fn journal_bytes(batch: &WriteBatch) -> u64 {
    let ops = batch.ops.iter().map(|(_, key, value)| {
        OP_OVERHEAD_BYTES + key.len() as u64 + value.as_ref().map_or(0, |value| value.len() as u64)
    });
    BATCH_OVERHEAD_BYTES + ops.sum::<u64>()
}

fn index(keyspace: Keyspace) -> usize {
    match keyspace {
        Keyspace::Data => 0,
        Keyspace::History => 1,
        Keyspace::Intents => 2,
        Keyspace::Raft => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &str, value: &str) -> WriteBatch {
        let mut batch = WriteBatch::default();
        batch.put(Keyspace::Data, key.to_owned(), value.to_owned());
        batch
    }

    #[test]
    fn a_crash_keeps_synced_batches_and_a_prefix_of_the_rest() {
        for random in 0..400 {
            let disk = SimDisk::new();
            disk.write(put("a", "1")).unwrap();
            disk.sync().unwrap();
            for key in ["b", "c", "d"] {
                disk.write(put(key, "1")).unwrap();
            }
            let report = disk.crash(|| random);
            let found = ["a", "b", "c", "d"]
                .map(|key| disk.get(Keyspace::Data, key.as_bytes()).unwrap().is_some());
            let survived = found.iter().take_while(|found| **found).count();
            assert!(
                survived >= 1 && found[survived..].iter().all(|found| !found),
                "{found:?}"
            );
            assert_eq!(report.batches_survived + 1, survived);
            assert_eq!(report.batches_survived + report.batches_lost, 3);
        }
    }

    #[test]
    fn snapshots_stand_still_and_end_with_a_crash() {
        let disk = SimDisk::new();
        disk.write(put("a", "1")).unwrap();
        let snapshot = disk.snapshot();
        disk.write(put("a", "2")).unwrap();
        disk.write(put("b", "2")).unwrap();
        assert_eq!(snapshot.get(Keyspace::Data, b"a").unwrap().unwrap(), "1");
        let all = (Bound::Unbounded, Bound::Unbounded);
        assert_eq!(snapshot.scan(Keyspace::Data, all.clone(), false).count(), 1);
        assert_eq!(disk.snapshot().scan(Keyspace::Data, all, true).count(), 2);
        disk.crash(|| 0);
        assert!(snapshot.get(Keyspace::Data, b"a").is_err());
    }

    #[test]
    fn faults_strike() {
        let disk = SimDisk::new();
        disk.set_faults(|faults| faults.full_after_bytes = Some(100));
        disk.write(put("a", "1")).unwrap();
        disk.write(put("b", "1")).unwrap();
        assert!(matches!(disk.write(put("c", "1")), Err(Error::DiskFull(_))));
        assert!(disk.get(Keyspace::Data, b"a").unwrap().is_some());
        disk.set_faults(|faults| {
            *faults = Faults {
                fail_next_sync: true,
                ..Faults::default()
            }
        });
        assert!(matches!(disk.sync(), Err(Error::Io(_))));
        assert!(matches!(disk.write(put("d", "1")), Err(Error::Io(_))));
        disk.crash(|| 0);
        disk.write(put("d", "1")).unwrap();
        disk.sync().unwrap();
    }
}
